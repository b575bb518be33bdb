// Package store is the floor of the house: one SQL core over SQLite and
// PostgreSQL, with doors of durability. Each door is one operation and one
// transaction, and takes whatever callers gathered while the last commit ran
// (group commit without timers), so a busy server shares its fsyncs and a
// quiet one answers after one.
//
// The doors are AcceptEvents (1), CommitPlans (2), RecordAttempts (3), SealBundles (4) with
// Regather (what gathers goes elsewhere), Apply (people's and programs' edits), CommitSource (a connector's batch) with
// StepConditions (looks at conditions, and the events they found), MarkInbox,
// and that of the life of deliveries: retries, cancels, replays, what was held,
// what waits behind others to its destination,
// the steps of jobs and of timers, asks about joining, quotas of people and
// permits of providers. A call that returned without error is durable. The
// reads beside them are plain queries, bounded by a limit.
//
// It promises: the event ids of one process rise in the order of commit; an event's AsOf is its
// tenant's version in the transaction that stored it; every edit takes the
// next version and leaves rows in the change log; a page of a plan is applied
// once, by compare-and-set of the plan's cursor; an inbox row exists once; an
// item stands in one bundle at a time, none is in one that was given up, and one
// that is sealed takes no more and gives none away; a timer and
// a condition's group move on only from where they were read; an
// attempt counts only after the one before it. Nothing one caller writes can
// make another's call fail. When the database is away or full the error's kind
// is belfry.Unavailable, the outcome of the call is unknown, and repeating it
// is safe; all works again when the database does.
//
// On PostgreSQL several processes may work with one database. Then what a node
// that was declared dead still tries at doors 2 and 3 fails with ErrFenced.
//
// What grows with every event ages: Clear and its kin remove in chunks what is
// older than the caller says and not needed by anything open. On PostgreSQL
// the same rows live in partitions of time, which MakePartitions makes ahead
// and DropPartitions drops; a row finds a partition also when nobody did.
//
// It refuses an SQLite database another process works with, a schema newer than
// the program, and a PostgreSQL too old. It knows nothing of what it stores:
// whether an edit makes sense is decided in package manage, whom an event
// concerns in match, resolve and route.
//
// Test against it with real databases: storetest.SQLite(t) and
// storetest.Postgres(t) open an empty one.
package store

// Package upkeep keeps the house: it makes partitions ahead, drops those that
// are too old, and removes, piece by piece, what has been kept long enough.
//
// It promises that nothing open goes, whatever its age (the store sees to it),
// that a piece of work takes a few milliseconds of the database's writer and
// then rests for longer than it took, and that any number of nodes may do it at
// once. Removing waits for a day when the clock has jumped ahead, or nobody
// kept house for a week: a wrong clock must not empty a database. Making
// partitions never waits.
//
// It refuses to decide what an event is worth: how long things are kept is an
// operator's setting and a field of the event type.
//
// Test it with a store of its own kind in memory and testing/synctest; with
// real databases it is tested in package app.
package upkeep

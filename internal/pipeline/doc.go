// Package pipeline is the only package that knows the order in which an event
// walks the house: match, resolve, route, commit the plan, render, send,
// record. The Planner takes accepted events to committed plans; the Dispatcher
// takes open deliveries to recorded attempts; Explainer and Backtester run the
// same stages without committing anything. Beside them walk those who wait for
// a time or an answer, each over the shards this process has: the Sealer makes
// digests that are due messages (door 4), and decides anew about those that
// gather when what people choose has changed, Conditions turns observations into
// events, Timers takes the steps of escalations and reminds of mutes, the Gate
// lets go what the platform was asked about first.
//
// It promises: an event or delivery is dropped from memory at any time without
// being lost, because the tables are the truth and the hand-over from one room
// to the next only saves a read; events of one object are planned in the order
// they were accepted; work in flight is a bounded window; a destination that
// hangs, fails or throttles delays nobody else; a send is repeated only when
// the process died before its outcome was recorded. Whoever waits for a time
// knows the next one, or asks for all tenants at once: a quiet server works
// little. What two processes do at the same moment for one shard counts once,
// by compare-and-set.
//
// It refuses to decide who is told (resolve), how (route), in what words
// (render), or whether a condition is met (condition): it moves values between
// those stages and the store's doors. What needs the store's word, a quota or
// what was acknowledged, it asks for and hands to the stages as facts.
//
// Tests run it on the real SQLite store with senders that are plain values;
// retry policy and breaker are pure and tested with literal times.
package pipeline

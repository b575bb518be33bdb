// Package pipeline is the only package that knows the order in which an event
// walks the house: match, resolve, route, commit the plan, render, send,
// record. The Planner takes accepted events to committed plans; the Dispatcher
// takes open deliveries to recorded attempts; the Gate lets go what the platform
// was asked about first; Explainer and Backtester run the same stages without
// committing anything.
//
// It promises: an event or delivery is dropped from memory at any time without
// being lost, because the tables are the truth and the hand-over from one room
// to the next only saves a read; events of one object are planned in the order
// they were accepted; work in flight is a bounded window; a destination that
// hangs, fails or throttles delays nobody else; a send is repeated only when
// the process died before its outcome was recorded.
//
// It refuses to decide who is told (resolve), how (route), or in what words
// (render): it moves values between those stages and the store's doors.
//
// Tests run it on the real SQLite store with senders that are plain values;
// retry policy and breaker are pure and tested with literal times.
package pipeline

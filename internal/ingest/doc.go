// Package ingest admits events: it reads them from the wire (our own form and
// the four forms of CloudEvents over HTTP), checks them, fills in what may be
// left out, hands them to door 1 of the store and, once they are durable, to
// the planner.
//
// It promises that an event it answered for is committed; that a refusal names
// every fault by JSON pointer; that a batch is admitted whole or not at all
// unless partial admission is asked for; that the bytes stored are built once
// and are the event's JSON form (docs/api.md); and that no key of an event can
// hold what a database or a log cannot (NUL, control characters, bad UTF-8).
//
// It refuses, with a wait to try again after, when more events wait to be
// planned than the bound allows; what was accepted stays accepted. It does no
// I/O of its own but through the three small interfaces of Options, loads no
// schema from network or disk, and reads no clock but Options.Now.
//
// Decode is pure: test it with bytes. Ingester is tested against any Store,
// Catalogue and Planner; cloudevents/sdk-go is the oracle for the CloudEvents
// forms and encoding/json for the scanner.
package ingest

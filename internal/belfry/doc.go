// Package belfry is the vocabulary: the nouns every room of the house uses and
// nothing else. It holds plain values (Event, Object, User, Subscription, Plan,
// Delivery, Message, Outcome, Reason ...), the few pure functions that belong
// to a noun (does a pattern match a type, which shard owns a key, what is the
// id of this delivery), and the kinds of error that cross rooms.
//
// It promises that its JSON forms are the documented ones (docs/api.md): what
// is stored, what the API shows and what a person writes is one shape.
//
// It refuses to import anything but the standard library, to do I/O, to read
// the clock, and to decide: decisions live in match, resolve and route.
//
// Testing against it needs nothing: values are built with literals.
package belfry

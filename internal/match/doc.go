// Package match finds the subscriptions that want an event. Index is what
// edits go into; Snapshot, its immutable state, is what events are matched
// against: a snapshot is had with one atomic load, is never locked and never
// changes, so that planning sees one version from its first page to its last.
//
// It promises: a Snapshot matches exactly what a naive walk over all active
// subscriptions would (scope x type x object type x filter, and of those what
// the objects on the way up let through: merge, nearest, stop), in a
// deterministic order, with a reason for each part; the time depends on the
// number of matches and of the event's ancestors, not on the number of
// subscriptions; an edit costs microseconds and shares all it does not change
// with the snapshot before; a common subscription takes some 300 bytes, its own
// text included, since it is kept packed and unpacked when it is asked for. What
// is no equality in a filter is decided without CEL where it compares with
// literals (expr.Test). A filter that fails on an event does not match it, and
// Explain says why.
//
// It refuses to do I/O, to read the clock, to know members and recipients
// (resolve does), and to hold subscriptions that are not active.
//
// Testing against it: New, Put literal subscriptions, Snapshot().Match. The
// property test compares with the naive walk.
package match

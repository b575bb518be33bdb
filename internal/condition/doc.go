// Package condition decides when conditions of subscriptions are met: so many
// events within a window, none for a span of time, or a value that is not what
// it was, in each group of events.
//
// It is pure. A look at a group takes where the group stood, the observations
// since then and the time it is, and gives where it stands now and how often
// the condition was met. All is decided by when events happened, so what is
// found depends neither on when somebody looks nor, for events that come within
// the wait of the condition, on the order in which they come.
//
// It refuses to find groups (expr), to keep anything (store) or to tell anybody
// (pipeline). Tests hold it against naive evaluators that know all events
// beforehand.
package condition

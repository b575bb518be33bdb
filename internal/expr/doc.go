// Package expr is Belfry's one expression language: CEL over an event and what
// is known about where it happened. It holds the environment (Vars), the
// compiler with errors people can act on (Compile), the limits, the lifting of
// equalities into an index (Lift), what small filters say without CEL (TestOf),
// the filter in words (Readable) and a bounded cache of programs (Cache), in which
// filters that differ only in literals are one.
//
// It promises: a filter that Compile accepts never panics, never runs past its
// cost limit, and sees nothing an anonymous event hides; a missing key is
// "false", every other failure is a fault, and neither is a match; what Lift
// lifts, together with its residual, is true for exactly the events the whole
// filter is true for; fields of event.data and the like are decoded once per
// event and only when somebody looks at them.
//
// It refuses to do I/O, to read the clock (now is part of Facts) and to know
// subscriptions: match does.
//
// Testing against it: Compile a filter, make NewVars from a literal event and
// Facts, and look at the Verdict. Numbers in JSON are CEL doubles, so
// event.data.n == 5 holds and event.data.n + 1 is a fault (write 1.0).
package expr

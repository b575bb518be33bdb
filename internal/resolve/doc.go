// Package resolve turns the matches of an event into the people to be told.
// Every rule of every matching subscription is a source of names in one order;
// the sources are merged, so that all the reasons for one person meet, and
// then the order of resolution of the model is followed: union of rules,
// groups expanded, opt-outs, exclusions, the actor, people who are not active,
// visibility, one entry per person or address with all reasons.
//
// It promises that everybody a rule named appears exactly once: as a Recipient
// or as a Dropped with the reasons that named them and, last, the one that
// decided; that any page size yields the same people with the same reasons;
// that a rule which cannot be worked out for an event, or gives more than is
// taken, is recorded on the first page and never stops the others; and that memory is bounded by the page and by the largest single group or
// list of grants, never by the number of members of a subscription.
//
// It refuses to read a clock, to do I/O other than through Directory, to
// decide channels (package route does) and to run rules it does not know.
//
// Testing against it needs a Directory: package directory gives one over a
// real store, and a few maps do as well.
package resolve

import "github.com/belfryhq/belfry/internal/belfry"

// Root is the last ancestor of every object.
const Root = belfry.RootObject

// MaxPage is the largest number of principals, addresses and endpoints
// together that one page holds.
const MaxPage = 10_000

// MaxDepth is how deeply groups may nest; what is deeper is not expanded and
// is dropped with the reason GroupTooDeep.
const MaxDepth = 32

// Package directory gives the tree, grants, groups, people and members of a
// tenant as read-only views, served from bounded caches over the store. A view
// is at a version of the tenant or later: At(tenant, asOf) returns only when
// everything the change log says up to asOf is out of the caches, so an edit
// that was answered before an event was sent applies to it.
//
// It promises: a batch reads what it misses in one query a kind; a value read
// before an invalidation is never cached after it; memory is bounded by
// entries, and by their members and grants where entries are of very
// different sizes. Views satisfy resolve.Directory.
//
// It refuses to write, and to decide anything: what a grant or a group means
// is package resolve's business.
//
// Testing against it needs a store; a real one on SQLite is cheap. Values that
// views return are shared with the caches: read only.
package directory

package match

import (
	"sync/atomic"

	"github.com/belfryhq/belfry/internal/belfry"
)

// unpacked keeps subscriptions that were asked for lately in their usual form.
// Each has one place, by the hash of its id, and the last one takes it: there
// is nothing to lock and nothing to order.
type unpacked struct {
	places []keptPlace
}

// keptPlace is where one is kept. The hash is of who took the place last: of
// another one it says so without a look at what is kept, which is far away. It
// is a hint: what is kept says itself whose it is.
type keptPlace struct {
	hash atomic.Uint64
	kept atomic.Pointer[kept]
}

type kept struct {
	e    entry
	sub  belfry.Subscription
	room common
}

// common is room for what most subscriptions hold, so that one piece of memory
// does for all of it: a rule that names one user or group.
type common struct {
	rules    [1]belfry.Rule
	explicit belfry.ExplicitRule
	names    [1]string
}

// maxUnpacked bounds them: some 5 MB of common subscriptions.
const maxUnpacked = 8192

// unpackedFor is a cache for an index of n subscriptions: old if that is big
// enough, so that many small tenants take little.
func unpackedFor(n int, old *unpacked) *unpacked {
	if old != nil && (4*n <= len(old.places) || len(old.places) >= maxUnpacked) {
		return old
	}
	size := 8
	for size < 8*n && size < maxUnpacked { // few share a place with another one
		size *= 2
	}
	return &unpacked{places: make([]keptPlace, size)}
}

// subscription is that of an entry; callers must not change it.
func (s *Snapshot) subscription(e entry, idHash uint64) *belfry.Subscription {
	place := &s.unpacked.places[idHash&uint64(len(s.unpacked.places)-1)]
	if place.hash.Load() == idHash {
		if k := place.kept.Load(); k != nil && k.e == e {
			return &k.sub
		}
	}
	k := &kept{e: e}
	s.unpack(e, &k.sub, &k.room)
	place.kept.Store(k)
	place.hash.Store(idHash)
	return &k.sub
}

package match

import (
	"sync/atomic"

	"github.com/belfryhq/belfry/internal/belfry"
)

// unpacked keeps subscriptions that were asked for lately in their usual form.
// Each has one place, by the hash of its id, and the last one takes it: there
// is nothing to lock and nothing to order.
type unpacked struct {
	places []atomic.Pointer[kept]
}

type kept struct {
	e   *entry
	sub belfry.Subscription
}

// maxUnpacked bounds them: some 5 MB of common subscriptions.
const maxUnpacked = 8192

// unpackedFor is a cache for an index of n subscriptions: old if that is big
// enough, so that many small tenants take little.
func unpackedFor(n int, old *unpacked) *unpacked {
	if old != nil && (n <= len(old.places) || len(old.places) >= maxUnpacked) {
		return old
	}
	size := 8
	for size < 2*n && size < maxUnpacked {
		size *= 2
	}
	return &unpacked{places: make([]atomic.Pointer[kept], size)}
}

// subscription is that of an entry; callers must not change it.
func (s *Snapshot) subscription(e *entry, idHash uint64) *belfry.Subscription {
	place := &s.unpacked.places[idHash&uint64(len(s.unpacked.places)-1)]
	if k := place.Load(); k != nil && k.e == e {
		return &k.sub
	}
	k := &kept{e: e}
	s.unpack(e, &k.sub)
	place.Store(k)
	return &k.sub
}

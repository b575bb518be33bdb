package match

import (
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// Facts are what Match must know of an event besides itself.
type Facts = expr.Facts

// programs is how many compiled residuals an index keeps, those that differ
// only in literals counted once: some 10 to 40 MB when all are in use.
const programs = 2048

// Index takes edits and publishes a Snapshot after each. Its methods are safe
// for concurrent use; edits wait for each other, readers for nothing.
type Index struct {
	mu    sync.Mutex // serialises edits
	edits uint64
	words words
	buf   []byte
	snap  atomic.Pointer[Snapshot]
}

// New is an empty index.
func New() *Index {
	x := &Index{words: words{seed: maphash.MakeSeed()}}
	x.snap.Store(&Snapshot{hash: hasher{seed: maphash.MakeSeed()}, cache: expr.NewCache(programs), unpacked: unpackedFor(0, nil)})
	return x
}

// Snapshot is the state after the last finished edit.
func (x *Index) Snapshot() *Snapshot { return x.snap.Load() }

// Put files a subscription in place of the one with its id. One that is not
// active is dropped. The subscription is copied. An error says that its filter
// is not valid: it is filed all the same, matches nothing, and Explain says
// why.
func (x *Index) Put(sub *belfry.Subscription) error {
	return x.Edit([]*belfry.Subscription{sub}, nil)
}

// Drop takes a subscription out; an unknown id is fine.
func (x *Index) Drop(id string) { _ = x.Edit(nil, []string{id}) }

// Edit drops and then puts, and publishes once: readers see all of it or
// nothing. The error joins those of Put.
func (x *Index) Edit(put []*belfry.Subscription, drop []string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	next := *x.snap.Load()
	x.edits++
	next.edit = x.edits
	for _, id := range drop {
		next.remove(id)
	}
	var errs []error
	for _, sub := range put {
		next.remove(sub.ID)
		if sub.State != belfry.SubscriptionActive {
			continue
		}
		h, err := headOf(sub)
		if err != nil {
			errs = append(errs, &belfry.Error{Kind: belfry.KindOf(err), Msg: "subscription " + sub.ID + ": filter: " + err.Error(), Cause: err})
		}
		next.choose(&h)
		var e entry
		e, x.buf = pack(&h, sub, x.buf, &x.words)
		next.words = x.words.list // the same edit may take it out again
		next.add(e, &h)
	}
	next.unpacked = unpackedFor(next.Len(), next.unpacked)
	if cap(x.buf) > keepBuf {
		x.buf = nil
	}
	x.snap.Store(&next)
	return errors.Join(errs...)
}

// keepBuf is the biggest buffer an idle index keeps.
const keepBuf = 16 << 10

// hasher makes the keys. The seed is drawn for each index, so that nobody can
// choose names that collide.
type hasher struct{ seed maphash.Seed }

func (h hasher) text(s string) uint64 { return maphash.String(h.seed, s) }

// bucket is the key of a bucket, of the hashes of its scope and its pattern.
func (h hasher) bucket(scope, pattern uint64) uint64 { return mix(scope, pattern) }

// step folds a segment into the hash of a path that starts at 0.
func (h hasher) step(path uint64, segment string) uint64 { return mix(path, h.text(segment)) }

func (h hasher) path(p expr.Path) uint64 {
	var sum uint64
	for s := range p.Segments() {
		sum = h.step(sum, s)
	}
	return sum
}

func (h hasher) slot(bucket, path uint64, v expr.Value) uint64 {
	return mix(mix(bucket, path), mix(h.text(v.Str()), v.Bits()))
}

// mix combines two hashes; the order counts.
func mix(a, b uint64) uint64 {
	a = (a ^ b>>32 ^ b<<32) * 0x9e3779b97f4a7c15
	a ^= a >> 29
	a = (a ^ b) * 0xbf58476d1ce4e5b9
	return a ^ a>>32
}

package match

import (
	"encoding/json"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// Facts are what Match must know of an event besides itself.
type Facts = expr.Facts

// programs is how many compiled residuals an index keeps: some 10 to 40 MB
// when all are in use.
const programs = 2048

// maxPlaces bounds under how many keys one subscription is filed; beyond it
// (types x values of an in list) it is looked at for each event of its types.
const maxPlaces = 4096

// Index takes edits and publishes a Snapshot after each. Its methods are safe
// for concurrent use; edits wait for each other, readers for nothing.
type Index struct {
	mu     sync.Mutex // serialises edits
	hash   hasher
	shared interned
	snap   atomic.Pointer[Snapshot]
}

// New is an empty index.
func New() *Index {
	x := &Index{hash: hasher{seed: maphash.MakeSeed()}}
	x.snap.Store(&Snapshot{hash: x.hash, cache: expr.NewCache(programs)})
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
	for _, id := range drop {
		next.remove(id)
	}
	var errs []error
	for _, sub := range put {
		next.remove(sub.ID)
		if sub.State != belfry.SubscriptionActive {
			continue
		}
		e, err := x.entry(sub)
		if err != nil {
			errs = append(errs, &belfry.Error{Kind: belfry.KindOf(err), Msg: "subscription " + sub.ID + ": filter: " + err.Error(), Cause: err})
		}
		next.add(e)
	}
	x.snap.Store(&next)
	return errors.Join(errs...)
}

// entry is a subscription as the index keeps it. A million of them are in
// memory: a field more here is a step to the allocator's next size.
type entry struct {
	sub      belfry.Subscription
	eqs      []expr.Equality // the one it is filed under first, see filed
	residual string
}

// filed is the equality the entry is filed under, nil when it is in the plain
// bag.
func (e *entry) filed() *expr.Equality {
	if len(e.eqs) > 0 && e.fits(&e.eqs[0]) {
		return &e.eqs[0]
	}
	return nil
}

// fits reports whether filing under an equality takes few enough places.
func (e *entry) fits(q *expr.Equality) bool { return len(q.Values)*len(e.patterns()) <= maxPlaces }

// patterns are the type patterns an entry is filed under, each once; "" stands
// for every type.
func (e *entry) patterns() []string {
	if len(e.sub.Types) == 0 {
		return everyType
	}
	return e.sub.Types
}

var everyType = []string{""}

// wants reports whether a type is what a pattern of the entry means. An empty
// pattern that was written down is an empty type, not every type.
func (e *entry) wants(pattern, typ string) bool {
	return len(e.sub.Types) == 0 || belfry.TypeMatches(pattern, typ)
}

// entry copies sub, sharing with others what is equal, and lifts its filter.
func (x *Index) entry(sub *belfry.Subscription) (*entry, error) {
	e := &entry{sub: *sub}
	s := &e.sub
	s.Scope.Object = x.shared.text(s.Scope.Object)
	s.Scope.Applies = x.shared.text(s.Scope.Applies)
	s.State = belfry.SubscriptionActive
	s.Origin = x.shared.text(s.Origin)
	s.Owner = x.shared.text(s.Owner)
	s.Title = x.shared.text(s.Title)
	s.Types = x.shared.texts(unique(s.Types))
	s.ObjectTypes = x.shared.texts(s.ObjectTypes)
	s.Recipients = share(&x.shared.rules, s.Recipients)
	s.Notify = share(&x.shared.notifies, s.Notify)
	if strings.TrimSpace(s.Filter) == "" {
		return e, nil
	}
	lifted, err := expr.Lift(s.Filter)
	if err != nil {
		e.residual = s.Filter // fails again when it is evaluated, with the same words
		return e, err
	}
	for i := range lifted.Equalities {
		lifted.Equalities[i].Path = expr.Path(x.shared.text(string(lifted.Equalities[i].Path)))
	}
	e.eqs, e.residual = slices.Clone(lifted.Equalities), lifted.Residual // without spare room
	return e, nil
}

// unique is list without repetitions, list itself when it has none.
func unique(list []string) []string {
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			var out []string
			for _, s := range list {
				if !slices.Contains(out, s) {
					out = append(out, s)
				}
			}
			return out
		}
	}
	return list
}

// interned lets equal parts of subscriptions share memory. A table that grows
// too big is thrown away: that costs memory, never truth.
type interned struct {
	strings  map[string]string
	lists    map[string][]string
	rules    map[string][]belfry.Rule
	notifies map[string][]belfry.Notify
}

const maxInterned = 4096

func (t *interned) text(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := t.strings[s]; ok {
		return known
	}
	if t.strings == nil || len(t.strings) >= maxInterned {
		t.strings = make(map[string]string)
	}
	s = strings.Clone(s) // not a part of something bigger
	t.strings[s] = s
	return s
}

func (t *interned) texts(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	key := strings.Join(list, "\x00")
	if known, ok := t.lists[key]; ok && slices.Equal(known, list) {
		return known
	}
	if t.lists == nil || len(t.lists) >= maxInterned {
		t.lists = make(map[string][]string)
	}
	own := make([]string, len(list))
	for i, s := range list {
		own[i] = t.text(s)
	}
	t.lists[key] = own
	return own
}

// share finds an equal list in the table; equal lists have equal JSON.
func share[E any](table *map[string][]E, list []E) []E {
	if len(list) == 0 {
		return nil
	}
	key, err := json.Marshal(list)
	if err != nil || len(key) > 512 {
		return list
	}
	if known, ok := (*table)[string(key)]; ok {
		return known
	}
	if *table == nil || len(*table) >= maxInterned {
		*table = make(map[string][]E)
	}
	(*table)[string(key)] = list
	return list
}

// hasher makes the keys. The seed is drawn for each index, so that nobody can
// choose names that collide.
type hasher struct{ seed maphash.Seed }

func (h hasher) text(s string) uint64 { return maphash.String(h.seed, s) }

func (h hasher) bucket(scope, pattern string) uint64 {
	return mix(h.text(scope), h.text(pattern))
}

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

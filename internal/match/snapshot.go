package match

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// Snapshot is the subscriptions of one version. It never changes.
//
// An entry is filed once per type pattern in the bucket of (scope, pattern):
// under the value of one of its equalities if its filter has any, else in the
// bucket's plain bag. The slots of all buckets are in one map, whose key folds
// bucket, path and value.
type Snapshot struct {
	hash      hasher
	cache     *expr.Cache
	unpacked  *unpacked
	words     []string // of packed entries
	edit      uint64   // that made it
	evaluated int
	ids       trie[entry]
	buckets   trie[*bucket]
	slots     trie[entry]
	prefixes  trie[*use] // patterns that end in *, by the hash of what comes before it
}

// bucket is what is filed for one scope and pattern.
type bucket struct {
	scope, pattern string
	plain          bag[entry]
	paths          trie[*use] // of equalities that entries are filed under
	admins         admins
}

// use counts how many times something is used.
type use struct {
	text string
	hash uint64
	n    int
}

func useHash(u *use) uint64 { return u.hash }

// count adds delta to the uses of text.
func count(t trie[*use], edit, hash uint64, text string, delta int) trie[*use] {
	var old *use
	for u := range t.get(hash).items() {
		if u.text == text {
			old = u
		}
	}
	if old == nil {
		if delta <= 0 {
			return t
		}
		return t.with(edit, hash, &use{text: strings.Clone(text), hash: hash, n: delta}, useHash)
	}
	now := &use{text: old.text, hash: hash, n: old.n + delta}
	if now.n > 0 && t.get(hash).one == old {
		return t.swap(edit, hash, now)
	}
	t = t.without(edit, hash, old, useHash)
	if now.n > 0 {
		t = t.with(edit, hash, now, useHash)
	}
	return t
}

// Len is the number of subscriptions.
func (s *Snapshot) Len() int { return s.ids.n }

// Evaluated is the number of subscriptions whose filter is evaluated for each
// event of their types where they sit, because it has no equality that they
// could be looked up by.
func (s *Snapshot) Evaluated() int { return s.evaluated }

// Crowd is how many others are looked at together with sub for each event of
// one of its types where it sits. It is 0 for one that is looked up by a value,
// and for one without a filter: looking at that is never in vain.
func (s *Snapshot) Crowd(sub *belfry.Subscription) int {
	h, _ := headOf(sub) // a filter that is not valid is evaluated all the same
	if !h.evaluated() {
		return 0
	}
	scope := h.scopeObject()
	most := 0
	for _, p := range h.patterns() {
		if b := s.findBucket(s.hash.bucket(s.hash.text(scope), s.hash.text(p)), scope, p); b != nil {
			most = max(most, b.plain.size())
		}
	}
	if _, filed := s.find(s.hash.text(sub.ID), sub.ID); filed && most > 0 {
		most-- // itself
	}
	return most
}

// Get is the active subscription with an id; callers must not change it.
func (s *Snapshot) Get(id string) (*belfry.Subscription, bool) {
	h := s.hash.text(id)
	if e, ok := s.find(h, id); ok {
		return s.subscription(e, h), true
	}
	return nil, false
}

func (s *Snapshot) find(idHash uint64, id string) (entry, bool) {
	for e := range s.ids.get(idHash).items() {
		if e.id() == id {
			return e, true
		}
	}
	return entry{}, false
}

func (s *Snapshot) findBucket(h uint64, scope, pattern string) *bucket {
	bag := s.buckets.get(h)
	if bag.one != nil { // nearly always
		if bag.one.scope == scope && bag.one.pattern == pattern {
			return bag.one
		}
		return nil
	}
	for b := range bag.items() {
		if b.scope == scope && b.pattern == pattern {
			return b
		}
	}
	return nil
}

// entryHash is the second hash of entries in big bags.
func (s *Snapshot) entryHash(e entry) uint64 { return mix(s.hash.text(e.id()), 1) }

func bucketHash(*bucket) uint64 { return 0 }

// add files e, whose head is h, in this snapshot, which nobody else has seen
// yet.
func (s *Snapshot) add(e entry, h *head) {
	s.ids = s.ids.with(s.edit, s.hash.text(h.id), e, s.entryHash)
	if h.evaluated() {
		s.evaluated++
	}
	s.file(e, h, 1)
}

// remove takes the subscription with this id out again.
func (s *Snapshot) remove(id string) {
	idHash := s.hash.text(id)
	e, ok := s.find(idHash, id)
	if !ok {
		return
	}
	s.ids = s.ids.without(s.edit, idHash, e, s.entryHash)
	r := s.read(e)
	h := r.head()
	var sub belfry.Subscription
	s.unpack(e, &sub, nil)
	h.admins = sub.OfAdministrators()
	if h.evaluated() {
		s.evaluated--
	}
	s.file(e, &h, -1)
}

// choose puts the most selective equality first: the one whose slots are the
// emptiest now, so that what many share is passed over for what few have.
func (s *Snapshot) choose(h *head) {
	if len(h.eqs) < 2 {
		return
	}
	best, least := -1, 0
	scope := s.hash.text(h.scopeObject())
	for i := range h.eqs {
		if !h.fits(&h.eqs[i]) {
			continue
		}
		values := h.eqs[i].Values
		path := s.hash.path(h.eqs[i].Path)
		crowd := len(values) - 1 // being filed often costs a little too
		for _, p := range h.patterns() {
			b := s.hash.bucket(scope, s.hash.text(p))
			for _, v := range values {
				crowd += 2 * s.slots.get(s.hash.slot(b, path, v)).size()
			}
		}
		if best < 0 || crowd < least {
			best, least = i, crowd
		}
	}
	if best > 0 {
		h.eqs[0], h.eqs[best] = h.eqs[best], h.eqs[0]
	}
}

// file files e, whose head is hd (delta 1), or takes it out (-1).
func (s *Snapshot) file(e entry, hd *head, delta int) {
	scope := hd.scopeObject()
	scopeHash := s.hash.text(scope)
	for _, pattern := range hd.patterns() {
		h := s.hash.bucket(scopeHash, s.hash.text(pattern))
		old := s.findBucket(h, scope, pattern)
		b := bucket{}
		if old != nil {
			b = *old
		} else {
			// Not a part of the entry, which the bucket may outlive.
			b.scope, b.pattern = strings.Clone(scope), strings.Clone(pattern)
		}
		if eq := hd.filed(); eq == nil {
			if delta > 0 {
				b.plain = b.plain.with(s.edit, e, s.entryHash)
			} else {
				b.plain = b.plain.without(s.edit, e, s.entryHash)
			}
		} else {
			path := s.hash.path(eq.Path)
			for _, v := range eq.Values {
				key := s.hash.slot(h, path, v)
				if delta > 0 {
					s.slots = s.slots.with(s.edit, key, e, s.entryHash)
				} else {
					s.slots = s.slots.without(s.edit, key, e, s.entryHash)
				}
			}
			b.paths = count(b.paths, s.edit, path, string(eq.Path), delta)
		}
		if hd.admins && (pattern != "" || len(hd.types) == 0) { // an empty pattern that was written down is no event's
			b.admins.count(hd.applies, delta)
		}
		s.setBucket(h, old, &b)
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			s.prefixes = count(s.prefixes, s.edit, s.hash.text(prefix), pattern, delta)
		}
	}
}

// setBucket puts b in the place of old, unless b is empty.
func (s *Snapshot) setBucket(h uint64, old, b *bucket) {
	full := b.plain.size() > 0 || b.paths.n > 0
	switch {
	case old == nil:
		s.buckets = s.buckets.with(s.edit, h, b, bucketHash)
	case full && s.buckets.get(h).one == old:
		s.buckets = s.buckets.swap(s.edit, h, b)
	default:
		s.buckets = s.buckets.without(s.edit, h, old, bucketHash)
		if full {
			s.buckets = s.buckets.with(s.edit, h, b, bucketHash)
		}
	}
}

// place is where an event happened, seen from one ancestor.
type place struct {
	scope    string
	distance int
	hash     uint64 // of scope
}

// places appends to out the scopes that can reach an event: its object and
// ancestors, and the root in any case.
func (s *Snapshot) places(e *belfry.Event, facts Facts, out []place) []place {
	add := func(scope string, distance int) { out = append(out, place{scope, distance, s.hash.text(scope)}) }
	var seen map[string]struct{} // of long chains
	if len(facts.Ancestors) > 32 {
		seen = make(map[string]struct{}, len(facts.Ancestors))
	}
	for i := range facts.Ancestors {
		id := facts.Ancestors[i].ID
		if seen != nil {
			if _, ok := seen[id]; ok {
				continue
			}
			seen[id] = struct{}{}
		} else if slices.ContainsFunc(out, func(p place) bool { return p.scope == id }) {
			continue
		}
		add(id, i)
	}
	if len(out) == 0 && e.ObjectOrRoot() != belfry.RootObject {
		add(e.ObjectOrRoot(), 0)
	}
	if len(out) == 0 || out[len(out)-1].scope != belfry.RootObject {
		add(belfry.RootObject, len(out))
	}
	return out
}

func reaches(applies string, distance int) bool {
	switch applies {
	case belfry.AppliesSelf:
		return distance == 0
	case belfry.AppliesChildren:
		return distance == 1
	}
	return true
}

// specificity ranks patterns: exact, then longer prefixes, then every type.
func specificity(pattern string) int {
	switch prefix, isPrefix := strings.CutSuffix(pattern, "*"); {
	case pattern == "":
		return 0
	case isPrefix:
		return 1 + len(prefix)
	}
	return 1 << 30
}

// pattern is one that matches an event's type.
type pattern struct {
	text string
	hash uint64
}

// patternsFor appends to out the patterns in use that match a type, most
// specific first.
func (s *Snapshot) patternsFor(typ string, out []pattern) []pattern {
	out = append(out, pattern{typ, s.hash.text(typ)})
	if s.prefixes.n > 0 {
		for n := len(typ); n >= 0; n-- {
			for u := range s.prefixes.get(s.hash.text(typ[:n])).items() {
				if u.text[:len(u.text)-1] == typ[:n] && u.text != typ {
					out = append(out, pattern{u.text, s.hash.text(u.text)})
				}
			}
		}
	}
	if typ != "" {
		out = append(out, pattern{"", s.hash.text("")})
	}
	return out
}

// search is the state of one Match.
type search struct {
	snap    *Snapshot
	event   *belfry.Event
	facts   Facts
	vars    *expr.Vars // own, once a filter needs them
	own     expr.Vars
	scalars []scalar        // of vars, when a bucket has many paths
	seen    map[string]bool // ids of those with several types that were looked at
	found   []hit

	// Of the event, once asked for.
	placed   []place
	patterns []pattern

	fetched int // keeps each's first pass from being nothing
}

// places are the scopes that can reach the event.
func (q *search) places() []place {
	if len(q.placed) == 0 {
		q.placed = q.snap.places(q.event, q.facts, q.placed)
	}
	return q.placed
}

type scalar struct {
	path  uint64
	value expr.Value
}

type hit struct {
	e       entry
	id      string
	place   place
	pattern string
	filter  bool // it has one
}

// manyPaths is from how many different paths on a bucket is searched by the
// event's values instead of by its paths.
const manyPaths = 24

// Match finds the subscriptions that want the event: the closest scope first,
// then the most specific type, then the oldest id.
func (s *Snapshot) Match(e *belfry.Event, facts Facts) []belfry.Match {
	q := searches.Get().(*search)
	q.snap, q.event, q.facts = s, e, facts
	matched, _ := q.lookUp(q.all())
	q.again()
	return matched
}

// searches are those that ended: each of them has room for what it finds.
var searches = sync.Pool{New: func() any {
	return &search{found: make([]hit, 0, 16), placed: make([]place, 0, 8), patterns: make([]pattern, 0, 4)}
}}

// maxKeptHits bounds the room that is kept, in what was found.
const maxKeptHits = 1024

// again leaves a search for the next, with nothing of this one.
func (q *search) again() {
	if cap(q.found)+cap(q.placed)+cap(q.patterns) > maxKeptHits {
		return
	}
	clear(q.found)
	clear(q.placed)
	clear(q.patterns)
	*q = search{found: q.found[:0], placed: q.placed[:0], patterns: q.patterns[:0]}
	searches.Put(q)
}

// all are the subscriptions that want the event, as if those of every object
// on the way up counted.
func (q *search) all() []belfry.Match {
	s := q.snap
	q.patterns = s.patternsFor(q.event.Type, q.patterns[:0])
	for _, pl := range q.places() {
		for _, p := range q.patterns {
			h := s.hash.bucket(pl.hash, p.hash)
			if b := s.findBucket(h, pl.scope, p.text); b != nil {
				q.bucket(h, b, pl)
			}
		}
	}
	return q.matches()
}

func (q *search) bucket(h uint64, b *bucket, pl place) {
	take := func(e entry) bool { q.consider(e, b.pattern, pl); return true }
	b.plain.each(take)
	switch {
	case b.paths.n == 0:
	case b.paths.n < manyPaths:
		vars := q.variables()
		for u := range b.paths.all() {
			if v, ok := vars.Lookup(expr.Path(u.text)); ok {
				q.each(q.snap.slots.get(q.snap.hash.slot(h, u.hash, v)), take)
			}
		}
	default:
		if q.scalars == nil {
			q.scalars = []scalar{}
			for path, v := range q.variables().Scalars(q.snap.hash.step) {
				q.scalars = append(q.scalars, scalar{path, v})
			}
		}
		for _, x := range q.scalars {
			q.each(q.snap.slots.get(q.snap.hash.slot(h, x.path, x.value)), take)
		}
	}
}

// each takes the entries of a slot. A million of them lie all over the memory:
// a first pass asks for what the others read, so that it comes for all at once
// instead of for one after another.
func (q *search) each(b bag[entry], take func(entry) bool) {
	if b.more != nil {
		for _, e := range b.more.few {
			for at := 0; at < min(len(e.packed), 4*cacheLine); at += cacheLine {
				q.fetched += int(e.packed[at])
			}
		}
	}
	b.each(take)
}

// cacheLine is the bytes that memory is fetched by on common processors.
const cacheLine = 64

func (q *search) variables() *expr.Vars {
	if q.vars == nil {
		q.own.Set(q.event, q.facts)
		q.vars = &q.own
	}
	return q.vars
}

// consider decides about one candidate. Patterns come most specific first, so
// that the first hit of an entry with several is the one to keep.
func (q *search) consider(e entry, pattern string, pl place) {
	r := q.snap.read(e)
	id := r.text()
	// The keys are hashes: make sure that this is what they stand for.
	if r.scopeObject() != pl.scope {
		return
	}
	types := r.uint()
	if types > 1 {
		if q.seen[id] {
			return
		}
		if q.seen == nil {
			q.seen = make(map[string]bool)
		}
	}
	filed := types == 0 && pattern == ""
	for range types {
		filed = r.text() == pattern || filed
	}
	// An empty pattern that was written down is an empty type, not every type.
	if !filed || types > 0 && !belfry.TypeMatches(pattern, q.event.Type) {
		return
	}
	if types > 1 {
		q.seen[id] = true
	}
	if !reaches(r.text(), pl.distance) || !q.objectType(&r) {
		return
	}
	r.filter = r.text()
	if r.filter == "" || q.filter(&r, false).True() {
		q.found = append(q.found, hit{e, id, pl, pattern, r.filter != ""})
	}
}

// objectType reads the object types of an entry.
func (q *search) objectType(r *reader) bool {
	typ := ""
	if len(q.facts.Ancestors) > 0 {
		typ = q.facts.Ancestors[0].Type
	}
	every, found := r.has(typ)
	return every || found && len(q.facts.Ancestors) > 0
}

// filter evaluates an entry's filter, whose equalities and residual r reads
// next; why asks for the words to a false.
func (q *search) filter(r *reader, why bool) expr.Verdict {
	for n := r.uint(); n > 0; n-- {
		from := r.pos
		if r.holds(q.variables()) {
			continue
		}
		v := expr.Verdict{Code: belfry.FilterFalse}
		if why {
			r.pos = from
			eq := r.equality()
			v.Detail = unequal(&eq, q.variables())
		}
		return v
	}
	residual := r.residual()
	if residual == "" {
		return expr.Verdict{Code: belfry.FilterTrue}
	}
	switch truth := r.truth(q.variables()); {
	case truth == expr.True:
		return expr.Verdict{Code: belfry.FilterTrue}
	case truth == expr.False:
		return expr.Verdict{Code: belfry.FilterFalse}
	case truth == expr.Fails && !why: // no match; CEL has the words
		return expr.Verdict{Code: belfry.FilterFault}
	}
	v, err := q.snap.cache.Eval(residual, q.variables())
	if err != nil {
		return expr.Verdict{Code: belfry.FilterFault, Detail: err.Error()}
	}
	return v
}

func (q *search) matches() []belfry.Match {
	if len(q.found) == 0 {
		return nil
	}
	slices.SortFunc(q.found, compareHits)
	out := make([]belfry.Match, len(q.found))
	reasons := make([]belfry.Reason, 0, 3*len(q.found))
	for i := range q.found {
		from := len(reasons)
		reasons = q.found[i].because(reasons)
		if q.found[i].filter {
			reasons = append(reasons, belfry.Reason{Code: belfry.FilterTrue, Subscription: q.found[i].id})
		}
		out[i] = q.match(&q.found[i], reasons[from:len(reasons):len(reasons)])
	}
	return out
}

// compareHits compares what tells two hits apart soonest first: most differ in
// their ids alone.
func compareHits(a, b hit) int {
	if c := cmp.Compare(a.place.distance, b.place.distance); c != 0 {
		return c
	}
	if a.pattern != b.pattern {
		if c := cmp.Compare(specificity(b.pattern), specificity(a.pattern)); c != 0 {
			return c
		}
	}
	return strings.Compare(a.id, b.id)
}

func (h *hit) because(to []belfry.Reason) []belfry.Reason {
	detail := h.pattern
	if detail == "" {
		detail = "every type"
	}
	return append(to,
		belfry.Reason{Code: belfry.ScopeMatched, Subscription: h.id, Object: h.place.scope},
		belfry.Reason{Code: belfry.TypeMatched, Subscription: h.id, Detail: detail},
	)
}

func (q *search) match(h *hit, because []belfry.Reason) belfry.Match {
	return belfry.Match{
		Subscription: q.snap.subscription(h.e, q.snap.hash.text(h.id)),
		Scope:        h.place.scope,
		Distance:     h.place.distance,
		Pattern:      h.pattern,
		Because:      because,
	}
}

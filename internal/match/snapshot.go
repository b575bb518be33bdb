package match

import (
	"cmp"
	"slices"
	"strings"

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
	hash     hasher
	cache    *expr.Cache
	ids      trie[entry]
	buckets  trie[bucket]
	slots    trie[entry]
	prefixes trie[use] // patterns that end in *
}

// bucket is what is filed for one scope and pattern.
type bucket struct {
	scope, pattern string
	plain          bag[entry]
	paths          trie[use] // of equalities that entries are filed under
}

// use counts how many times something is used.
type use struct {
	text string
	hash uint64
	n    int
}

func useHash(u *use) uint64 { return u.hash }

// count adds delta to the uses of text.
func count(t trie[use], hash uint64, text string, delta int) trie[use] {
	var old *use
	for u := range t.get(hash).items() {
		if u.text == text {
			old = u
		}
	}
	n := delta
	if old != nil {
		t = t.without(hash, old, useHash)
		n += old.n
	}
	if n <= 0 {
		return t
	}
	return t.with(hash, &use{text: text, hash: hash, n: n}, useHash)
}

// Len is the number of subscriptions.
func (s *Snapshot) Len() int { return s.ids.n }

// Get is the active subscription with an id; callers must not change it.
func (s *Snapshot) Get(id string) (*belfry.Subscription, bool) {
	if e := s.find(id); e != nil {
		return &e.sub, true
	}
	return nil, false
}

func (s *Snapshot) find(id string) *entry {
	for e := range s.ids.get(s.hash.text(id)).items() {
		if e.sub.ID == id {
			return e
		}
	}
	return nil
}

func (s *Snapshot) findBucket(h uint64, scope, pattern string) *bucket {
	for b := range s.buckets.get(h).items() {
		if b.scope == scope && b.pattern == pattern {
			return b
		}
	}
	return nil
}

// entryHash is the second hash of entries in big bags.
func (s *Snapshot) entryHash(e *entry) uint64 { return mix(s.hash.text(e.sub.ID), 1) }

func bucketHash(*bucket) uint64 { return 0 }

// add files e in this snapshot, which nobody else has seen yet.
func (s *Snapshot) add(e *entry) {
	s.choose(e)
	s.ids = s.ids.with(s.hash.text(e.sub.ID), e, s.entryHash)
	s.file(e, 1)
}

// remove takes the subscription with this id out again.
func (s *Snapshot) remove(id string) {
	e := s.find(id)
	if e == nil {
		return
	}
	s.ids = s.ids.without(s.hash.text(id), e, s.entryHash)
	s.file(e, -1)
}

// choose puts the most selective equality first: the one whose slots are the
// emptiest now, so that what many share is passed over for what few have.
func (s *Snapshot) choose(e *entry) {
	best, least := -1, 0
	for i := range e.eqs {
		if !e.fits(&e.eqs[i]) {
			continue
		}
		values := e.eqs[i].Values
		path := s.hash.path(e.eqs[i].Path)
		crowd := len(values) - 1 // being filed often costs a little too
		for _, p := range e.patterns() {
			b := s.hash.bucket(e.sub.ScopeObject(), p)
			for _, v := range values {
				crowd += 2 * s.slots.get(s.hash.slot(b, path, v)).size()
			}
		}
		if best < 0 || crowd < least {
			best, least = i, crowd
		}
	}
	if best > 0 {
		e.eqs[0], e.eqs[best] = e.eqs[best], e.eqs[0]
	}
}

// file files e (delta 1) or takes it out (-1).
func (s *Snapshot) file(e *entry, delta int) {
	scope := e.sub.ScopeObject()
	for _, pattern := range e.patterns() {
		h := s.hash.bucket(scope, pattern)
		old := s.findBucket(h, scope, pattern)
		b := bucket{scope: scope, pattern: pattern}
		if old != nil {
			b = *old
			s.buckets = s.buckets.without(h, old, bucketHash)
		}
		if eq := e.filed(); eq == nil {
			if delta > 0 {
				b.plain = b.plain.with(e, s.entryHash)
			} else {
				b.plain = b.plain.without(e, s.entryHash)
			}
		} else {
			path := s.hash.path(eq.Path)
			for _, v := range eq.Values {
				key := s.hash.slot(h, path, v)
				if delta > 0 {
					s.slots = s.slots.with(key, e, s.entryHash)
				} else {
					s.slots = s.slots.without(key, e, s.entryHash)
				}
			}
			b.paths = count(b.paths, path, string(eq.Path), delta)
		}
		if b.plain.size() > 0 || b.paths.n > 0 {
			s.buckets = s.buckets.with(h, &b, bucketHash)
		}
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			s.prefixes = count(s.prefixes, s.hash.text(prefix), prefix, delta)
		}
	}
}

// place is where an event happened, seen from one ancestor.
type place struct {
	scope    string
	distance int
}

// places are the scopes that can reach an event: its object and ancestors, and
// the root in any case.
func places(e *belfry.Event, facts Facts) []place {
	out := make([]place, 0, len(facts.Ancestors)+2)
	for i := range facts.Ancestors {
		id := facts.Ancestors[i].ID
		if !slices.ContainsFunc(out, func(p place) bool { return p.scope == id }) {
			out = append(out, place{id, i})
		}
	}
	if len(out) == 0 && e.ObjectOrRoot() != belfry.RootObject {
		out = append(out, place{e.ObjectOrRoot(), 0})
	}
	if len(out) == 0 || out[len(out)-1].scope != belfry.RootObject {
		out = append(out, place{belfry.RootObject, len(out)})
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

// patternsFor are the patterns in use that match a type, most specific first.
func (s *Snapshot) patternsFor(typ string) []string {
	out := make([]string, 1, 4)
	out[0] = typ
	if s.prefixes.n > 0 {
		for n := len(typ); n >= 0; n-- {
			for u := range s.prefixes.get(s.hash.text(typ[:n])).items() {
				if pattern := u.text + "*"; u.text == typ[:n] && pattern != typ {
					out = append(out, pattern)
				}
			}
		}
	}
	if typ != "" {
		out = append(out, "")
	}
	return out
}

// search is the state of one Match.
type search struct {
	snap    *Snapshot
	event   *belfry.Event
	facts   Facts
	vars    *expr.Vars // made when the first filter needs it
	scalars []scalar   // of vars, when a bucket has many paths
	seen    map[*entry]bool
	found   []hit
}

type scalar struct {
	path  uint64
	value expr.Value
}

type hit struct {
	e       *entry
	place   place
	pattern string
}

// manyPaths is from how many different paths on a bucket is searched by the
// event's values instead of by its paths.
const manyPaths = 24

// Match finds the subscriptions that want the event: the closest scope first,
// then the most specific type, then the oldest id.
func (s *Snapshot) Match(e *belfry.Event, facts Facts) []belfry.Match {
	q := search{snap: s, event: e, facts: facts}
	patterns := s.patternsFor(e.Type)
	for _, pl := range places(e, facts) {
		for _, p := range patterns {
			h := s.hash.bucket(pl.scope, p)
			if b := s.findBucket(h, pl.scope, p); b != nil {
				q.bucket(h, b, pl)
			}
		}
	}
	return q.matches()
}

func (q *search) bucket(h uint64, b *bucket, pl place) {
	take := func(e *entry) bool { q.consider(e, b.pattern, pl); return true }
	b.plain.each(take)
	switch {
	case b.paths.n == 0:
	case b.paths.n < manyPaths:
		vars := q.variables()
		for u := range b.paths.all() {
			if v, ok := vars.Lookup(expr.Path(u.text)); ok {
				q.snap.slots.get(q.snap.hash.slot(h, u.hash, v)).each(take)
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
			q.snap.slots.get(q.snap.hash.slot(h, x.path, x.value)).each(take)
		}
	}
}

func (q *search) variables() *expr.Vars {
	if q.vars == nil {
		q.vars = expr.NewVars(q.event, q.facts)
	}
	return q.vars
}

// consider decides about one candidate. Patterns come most specific first, so
// that the first hit of an entry with several is the one to keep.
func (q *search) consider(e *entry, pattern string, pl place) {
	if len(e.sub.Types) > 1 {
		if q.seen[e] {
			return
		}
		if q.seen == nil {
			q.seen = make(map[*entry]bool)
		}
	}
	// The keys are hashes: make sure that this is what they stand for.
	if e.sub.ScopeObject() != pl.scope || !slices.Contains(e.patterns(), pattern) || !e.wants(pattern, q.event.Type) {
		return
	}
	if len(e.sub.Types) > 1 {
		q.seen[e] = true
	}
	if !reaches(e.sub.Scope.Applies, pl.distance) || !q.objectType(e) {
		return
	}
	if q.filter(e, false).True() {
		q.found = append(q.found, hit{e, pl, pattern})
	}
}

func (q *search) objectType(e *entry) bool {
	if len(e.sub.ObjectTypes) == 0 {
		return true
	}
	return len(q.facts.Ancestors) > 0 && slices.Contains(e.sub.ObjectTypes, q.facts.Ancestors[0].Type)
}

// filter evaluates an entry's filter; why asks for the words to a false.
func (q *search) filter(e *entry, why bool) expr.Verdict {
	for i := range e.eqs {
		if !e.eqs[i].Holds(q.variables()) {
			v := expr.Verdict{Code: belfry.FilterFalse}
			if why {
				v.Detail = unequal(&e.eqs[i], q.variables())
			}
			return v
		}
	}
	if e.residual == "" {
		return expr.Verdict{Code: belfry.FilterTrue}
	}
	prog, err := q.snap.cache.Get(e.residual)
	if err != nil {
		return expr.Verdict{Code: belfry.FilterFault, Detail: err.Error()}
	}
	return prog.Eval(q.variables())
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
		if q.found[i].e.sub.Filter != "" {
			reasons = append(reasons, belfry.Reason{Code: belfry.FilterTrue, Subscription: q.found[i].e.sub.ID})
		}
		out[i] = q.found[i].match(reasons[from:len(reasons):len(reasons)])
	}
	return out
}

func compareHits(a, b hit) int {
	return cmp.Or(
		cmp.Compare(a.place.distance, b.place.distance),
		cmp.Compare(specificity(b.pattern), specificity(a.pattern)),
		cmp.Compare(a.e.sub.ID, b.e.sub.ID),
	)
}

func (h *hit) because(to []belfry.Reason) []belfry.Reason {
	detail := h.pattern
	if detail == "" {
		detail = "every type"
	}
	return append(to,
		belfry.Reason{Code: belfry.ScopeMatched, Subscription: h.e.sub.ID, Object: h.place.scope},
		belfry.Reason{Code: belfry.TypeMatched, Subscription: h.e.sub.ID, Detail: detail},
	)
}

func (h *hit) match(because []belfry.Reason) belfry.Match {
	return belfry.Match{
		Subscription: &h.e.sub,
		Scope:        h.place.scope,
		Distance:     h.place.distance,
		Pattern:      h.pattern,
		Because:      because,
	}
}

package match

import (
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// Explain is Match, and in the same order the near misses: first those that are
// not looked up there, then subscriptions in whose scope, types and object types
// the event is, but whose filter is false or fails on it; their last reason says
// which. At most limit near misses are
// given, the first in order. It walks all subscriptions (some 0.1 µs each) and
// is for people who ask, not for planning.
func (s *Snapshot) Explain(e *belfry.Event, facts Facts, limit int) (matched, missed []belfry.Match) {
	q := search{snap: s, event: e, facts: facts}
	found := q.all()
	hits := make(map[string]bool, len(found))
	for i := range found {
		hits[found[i].Subscription.ID] = true
	}
	matched, missed = q.lookUp(found)
	missed = missed[:min(limit, len(missed))]
	where := make(map[string]place)
	for _, pl := range q.places() {
		where[pl.scope] = pl
	}
	var near []hit
	for en := range s.ids.all() {
		if h, ok := q.near(en, where); ok && !hits[h.id] {
			near = append(near, h)
			if len(near) >= 2*limit+64 { // a million near misses are not kept to be sorted
				near = first(near, limit)
			}
		}
	}
	for _, h := range first(near, limit-len(missed)) {
		r := s.read(h.e)
		r.toFilter()
		v := q.filter(&r, true)
		because := append(h.because(nil), belfry.Reason{Code: v.Code, Subscription: h.id, Detail: v.Detail})
		missed = append(missed, q.match(&h, because))
	}
	return matched, missed
}

// first sorts hits and cuts them to limit.
func first(hits []hit, limit int) []hit {
	slices.SortFunc(hits, compareHits)
	return hits[:min(limit, len(hits))]
}

// near looks whether only its filter decides about an entry.
func (q *search) near(e entry, where map[string]place) (hit, bool) {
	r := q.snap.read(e)
	id := r.text()
	pl, ok := where[r.scopeObject()]
	if !ok {
		return hit{}, false
	}
	types := r.uint()
	best, wanted := "", types == 0
	for range types {
		p := r.text()
		if belfry.TypeMatches(p, q.event.Type) && (!wanted || specificity(p) > specificity(best)) {
			best, wanted = p, true
		}
	}
	if !wanted || !reaches(r.text(), pl.distance) || !q.objectType(&r) || r.text() == "" {
		return hit{}, false
	}
	return hit{e, id, pl, best, true}, true
}

// unequal says which equality does not hold. It names what was wanted, not
// what the event holds: not everybody who may ask why may see that.
func unequal(q *expr.Equality, vars *expr.Vars) string {
	if _, ok := vars.Lookup(q.Path); !ok {
		return "the event has no " + q.Path.String()
	}
	words := make([]string, 0, len(q.Values))
	for i, v := range q.Values {
		if i == 3 {
			words = append(words, "…")
			break
		}
		words = append(words, v.Source())
	}
	return q.Path.String() + " is not " + strings.Join(words, " or ")
}

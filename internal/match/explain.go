package match

import (
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// Explain is Match, and in the same order the near misses: subscriptions in
// whose scope, types and object types the event is, but whose filter is false
// or fails on it; their last reason says which. At most limit near misses are
// given, the first in order. It walks all subscriptions (some 0.1 µs each) and
// is for people who ask, not for planning.
func (s *Snapshot) Explain(e *belfry.Event, facts Facts, limit int) (matched, missed []belfry.Match) {
	matched = s.Match(e, facts)
	hits := make(map[string]bool, len(matched))
	for i := range matched {
		hits[matched[i].Subscription.ID] = true
	}
	q := search{snap: s, event: e, facts: facts}
	where := make(map[string]place)
	for _, pl := range places(e, facts) {
		if _, ok := where[pl.scope]; !ok {
			where[pl.scope] = pl
		}
	}
	var near []hit
	for en := range s.ids.all() {
		pl, ok := where[en.sub.ScopeObject()]
		if !ok || en.sub.Filter == "" || hits[en.sub.ID] || !reaches(en.sub.Scope.Applies, pl.distance) || !q.objectType(en) {
			continue
		}
		if pattern, ok := en.bestPattern(e.Type); ok {
			near = append(near, hit{en, pl, pattern})
		}
	}
	slices.SortFunc(near, compareHits)
	if len(near) > limit {
		near = near[:limit]
	}
	for i := range near {
		v := q.filter(near[i].e, true)
		because := append(near[i].because(nil), belfry.Reason{Code: v.Code, Subscription: near[i].e.sub.ID, Detail: v.Detail})
		missed = append(missed, near[i].match(because))
	}
	return matched, missed
}

// bestPattern is the most specific of the patterns that match a type.
func (e *entry) bestPattern(typ string) (best string, ok bool) {
	for _, p := range e.patterns() {
		if e.wants(p, typ) && (!ok || specificity(p) > specificity(best)) {
			best, ok = p, true
		}
	}
	return best, ok
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

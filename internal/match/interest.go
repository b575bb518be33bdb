package match

import (
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Interest says whether one active subscription wants an event, and the reasons
// of the answer, the deciding one last; known is false for an id that is not
// among the active ones.
func (s *Snapshot) Interest(id string, e *belfry.Event, facts Facts) (m belfry.Match, wants, known bool) {
	en, ok := s.find(s.hash.text(id), id)
	if !ok {
		return m, false, false
	}
	q := search{snap: s, event: e, facts: facts}
	h, why := q.judge(en, q.where(), e.Type, true)
	m = q.match(&h, why)
	if last := why[len(why)-1]; last.Code == belfry.FilterTrue || last.Code == belfry.TypeMatched {
		kept, passed := q.lookUp([]belfry.Match{m})
		if len(kept) == 1 {
			return m, true, true
		}
		m = passed[0]
	}
	return m, false, true
}

// Here gives, for each of the event types, the subscriptions that are looked up
// for it at the first of the ancestors, whatever their filters say: at most
// limit for a type, in the order of Match. Like Explain it walks all
// subscriptions, once for all types, and is for people who ask.
func (s *Snapshot) Here(types []string, facts Facts, limit int) map[string][]belfry.Match {
	q := search{snap: s, event: &belfry.Event{}, facts: facts}
	if len(facts.Ancestors) > 0 {
		q.event.Object = facts.Ancestors[0].ID
	}
	where := q.where()
	hits := make(map[string][]hit, len(types))
	for en := range s.ids.all() {
		r := s.read(en)
		r.text()
		if _, ok := where[r.scopeObject()]; !ok { // nearly all end here
			continue
		}
		for _, typ := range types {
			h, why := q.judge(en, where, typ, false)
			if code := why[len(why)-1].Code; code == belfry.FilterPending || code == belfry.TypeMatched {
				hits[typ] = append(hits[typ], h)
				if len(hits[typ]) >= 2*limit+64 {
					hits[typ] = first(hits[typ], limit)
				}
			}
		}
	}
	out := make(map[string][]belfry.Match, len(hits))
	for typ, list := range hits {
		matches := make([]belfry.Match, 0, len(list))
		for _, h := range first(list, limit) {
			because := h.because(nil)
			if h.filter {
				because = append(because, belfry.Reason{Code: belfry.FilterPending, Subscription: h.id})
			}
			matches = append(matches, q.match(&h, because))
		}
		q.event.Type = typ
		if out[typ], _ = q.lookUp(matches); len(out[typ]) == 0 {
			delete(out, typ)
		}
	}
	return out
}

func (q *search) where() map[string]place {
	where := make(map[string]place)
	for _, pl := range q.places() {
		where[pl.scope] = pl
	}
	return where
}

// judge goes through what an entry asks for and stops at the first thing that
// does not hold; the reasons are never none. Without filters, one that would
// decide is named instead.
func (q *search) judge(e entry, where map[string]place, typ string, filters bool) (hit, []belfry.Reason) {
	r := q.snap.read(e)
	h := hit{e: e, id: r.text()}
	reason := func(code, object, detail string) belfry.Reason {
		return belfry.Reason{Code: code, Subscription: h.id, Object: object, Detail: detail}
	}
	scope := r.scopeObject()
	pl, inside := where[scope]
	types := r.uint()
	wanted := types == 0
	for range types {
		p := r.text()
		if belfry.TypeMatches(p, typ) && (!wanted || specificity(p) > specificity(h.pattern)) {
			h.pattern, wanted = p, true
		}
	}
	if applies := r.text(); !inside || !reaches(applies, pl.distance) {
		h.place.scope = scope
		return h, []belfry.Reason{reason(belfry.ScopeMissed, scope, applies)}
	}
	h.place = pl
	if !wanted {
		return h, []belfry.Reason{reason(belfry.ScopeMatched, scope, ""), reason(belfry.TypeMissed, "", typ)}
	}
	because := h.because(nil)
	if !q.objectType(&r) {
		return h, append(because, reason(belfry.ObjectMissed, q.event.ObjectOrRoot(), ""))
	}
	r.filter = r.text()
	h.filter = r.filter != ""
	switch {
	case !h.filter:
		return h, because
	case !filters:
		return h, append(because, reason(belfry.FilterPending, "", ""))
	}
	v := q.filter(&r, true)
	return h, append(slices.Clip(because), belfry.Reason{Code: v.Code, Subscription: h.id, Detail: v.Detail})
}

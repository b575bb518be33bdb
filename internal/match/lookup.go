package match

import "github.com/belfryhq/belfry/internal/belfry"

// admins counts the subscriptions of administrators in a bucket by how far
// they apply. Together with the scope and the type it says whether an object
// carries any for an event, before filters.
type admins [3]int32

func appliesIndex(applies string) int {
	switch applies {
	case belfry.AppliesSelf:
		return 1
	case belfry.AppliesChildren:
		return 2
	}
	return 0
}

func (a *admins) count(applies string, delta int) { a[appliesIndex(applies)] += int32(delta) }

// reach reports whether any of them applies at a distance below the scope.
func (a *admins) reach(distance int) bool {
	return a[0] > 0 || distance == 0 && a[1] > 0 || distance == 1 && a[2] > 0
}

// lookUp is the last part of matching: of what the objects on the way up hold,
// what counts where the event happened. Subscriptions of people, and those that
// are built in, always do. passed are the others, each with the reason.
//
// An object that says stop hides those above it. The closest object that says
// how to look up decides for all below it: merge takes all, nearest takes those
// of one object alone, the closest that carries any for the event's type, or
// is marked to have its own. Carrying is decided before filters and object
// types: an object that has a subscription for the type has spoken.
func (q *search) lookUp(found []belfry.Match) (kept, passed []belfry.Match) {
	way := q.facts.Ancestors
	policy, stop := "", len(way)
	for i := range way {
		s := way[i].Settings
		if s == nil {
			continue
		}
		if policy == "" {
			policy = s.Lookup
		}
		if s.Stop && i < stop {
			stop = i
		}
	}
	if len(found) == 0 || policy != belfry.LookupNearest && stop == len(way) {
		return found, nil
	}
	nearest := -1 // all of them
	if policy == belfry.LookupNearest {
		nearest = q.nearest(min(stop, len(way)-1))
	}
	for i := range found {
		m := &found[i]
		var because belfry.Reason
		switch {
		case !m.Subscription.OfAdministrators():
		case m.Distance > stop:
			because = belfry.Reason{Code: belfry.LookupStopped, Subscription: m.Subscription.ID, Object: way[stop].ID}
		case nearest >= 0 && m.Distance != nearest:
			because = belfry.Reason{Code: belfry.LookupNearer, Subscription: m.Subscription.ID, Object: way[nearest].ID}
		}
		if because.Code == "" {
			kept = append(kept, *m)
			continue
		}
		m.Because = append(m.Because, because)
		passed = append(passed, *m)
	}
	return kept, passed
}

// nearest is the distance of the closest object, the last one included, that
// has its own subscriptions or carries any for the type; -1 when there is none,
// and then there is nothing to choose from.
func (q *search) nearest(last int) int {
	patterns := q.snap.patternsFor(q.event.Type, nil) // Here asks for one type after another
	for _, pl := range q.places() {
		if pl.distance > last {
			break
		}
		if s := q.facts.Ancestors[pl.distance].Settings; s != nil && s.OwnSubscriptions {
			return pl.distance
		}
		for _, p := range patterns {
			if b := q.snap.findBucket(q.snap.hash.bucket(pl.hash, p.hash), pl.scope, p.text); b != nil && b.admins.reach(pl.distance) {
				return pl.distance
			}
		}
	}
	return -1
}

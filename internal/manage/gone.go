package manage

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// EndGone ends the subscriptions whose object was deleted before a time, with
// the reason, and gives how many. tell is told of each before it is ended, so
// that a crash in between tells again and never not at all. An edit that comes
// in between leaves a subscription to the next time.
func (m *Manager) EndGone(ctx context.Context, by By, before time.Time, tell func(s *belfry.Subscription, o *belfry.Object) error) (n int, err error) {
	const page = 1000
	for after := ""; ; {
		subs, err := m.store.Subscriptions(ctx, by.Tenant, after, page)
		if err != nil || len(subs) == 0 {
			return n, err
		}
		after = subs[len(subs)-1].ID
		var places []string
		for i := range subs {
			if s := &subs[i]; s.State != belfry.SubscriptionEnded && s.ScopeObject() != belfry.RootObject {
				places = append(places, s.ScopeObject())
			}
		}
		if len(places) == 0 {
			continue
		}
		objects, err := m.store.Objects(ctx, by.Tenant, places)
		if err != nil {
			return n, err
		}
		for i := range subs {
			s := &subs[i]
			o, ok := objects[s.ScopeObject()]
			if s.State == belfry.SubscriptionEnded || !ok || o.Deleted == nil || !o.Deleted.Before(before) {
				continue
			}
			if err := tell(s, &o); err != nil {
				return n, err
			}
			switch _, err := m.setState(ctx, by, s.ID, belfry.SubscriptionEnded, o.ID+" was deleted", &s.Version); belfry.KindOf(err) {
			case belfry.Stale, belfry.NotFound:
			default:
				if err != nil {
					return n, err
				}
				n++
			}
		}
	}
}

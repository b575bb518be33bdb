package pipeline

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: PEER-10 at most so many messages a person and key, and the rest in the
// inbox alone
func TestThrottle(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.apply(belfry.Changes{
		Users: []belfry.User{{ID: "ada", Email: "ada@x.org", State: belfry.UserActive}, {ID: "ben", Email: "ben@x.org", State: belfry.UserActive}},
		Subscriptions: []belfry.Subscription{{
			ID: "sub_1", Types: []string{"chat.*"}, State: belfry.SubscriptionActive, Created: clock(), Throttle: &belfry.Throttle{Limit: 1, Window: "1h", Key: "event.type"},
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada", "ben"}}}},
		}, {
			ID: "sub_2", Types: []string{"chat.said"}, State: belfry.SubscriptionActive, Created: clock().Add(time.Hour),
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ben"}}}},
		}},
	})
	h.run()
	events := h.accept(3, "chat.said")
	other := h.accept(1, "chat.left")[0]
	h.drained()
	mails, inboxes := map[string]int{}, 0
	for _, e := range append(slices.Clone(events), other) {
		a := h.trace(e)
		for _, p := range a.People {
			if p.Outcome == belfry.Told {
				inboxes++
			}
			if last := p.Because[len(p.Because)-1]; p.Outcome == belfry.NotTold && (last.Code != belfry.IsThrottled || last.Detail != "1 within 1h" || p.Channel != "email") {
				t.Errorf("%+v", p)
			}
		}
	}
	for to, ids := range h.r.order {
		mails[to] = len(ids)
	}
	// Ada: the first of each key. Ben is told of all that was said by the other.
	if mails["ada@x.org"] != 2 || mails["ben@x.org"] != 4 || inboxes != 8 {
		t.Errorf("mails %v, %d told", mails, inboxes)
	}
	// What is planned again takes no more.
	h.replay(belfry.Replay{}, events...)
	h.everythingPlanned()
	h.drained()
	h.r.once(t)
	// An explanation takes nothing.
	before, _ := h.ex.Explain(context.Background(), belfry.DefaultTenant, &belfry.Event{Type: "chat.new", Object: "course/1"})
	last := h.accept(1, "chat.new")[0]
	h.drained()
	if len(before.People) != 2 || h.r.times(belfry.DeliveryID(last, 0, "email", "ada@x.org")) != 1 {
		t.Errorf("%+v", before.People)
	}
}

// feature: S3-20 what is over a daily limit waits for the first day that has
// room, and no try is burnt
func TestDailyLimit(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.apply(belfry.Changes{
		Users:    []belfry.User{{ID: "ada", Email: "ada@x.org", State: belfry.UserActive, TimeZone: "America/Sao_Paulo"}, {ID: "ben", Email: "ben@x.org", State: belfry.UserActive}},
		Settings: []belfry.UserSettings{{User: "ada", Settings: belfry.Settings{MaxPerDay: map[string]int{"email": 2}}}},
		Subscriptions: []belfry.Subscription{{
			ID: "sub_1", Types: []string{"course.*"}, State: belfry.SubscriptionActive, Created: clock(),
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada", "ben"}}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}},
		}},
		Documents: []belfry.Document{{Kind: belfry.KindSetting, ID: belfry.TenantSettingsID, Body: []byte(`{"max_per_day":{"email":5}}`)},
			{Kind: belfry.KindEventType, ID: "course.burns", Body: []byte(`{"name":"course.burns","urgent":true}`)}},
	})
	h.run()
	events := h.accept(5, "course.updated")
	h.accept(1, "course.burns")
	h.r.wait(t, 9) // five and one for ben, two and one for ada
	h.everythingPlanned()
	h.settled() // what was sent is written down as sent
	zone, _ := belfry.Zone("America/Sao_Paulo")
	days := map[string]int{}
	for _, e := range events {
		d := h.delivery(belfry.DeliveryID(e, 0, "email", "ada@x.org"))
		if d.State != belfry.Scheduled {
			days["now"]++
			continue
		}
		at := d.Due.In(zone)
		if last := d.Because[len(d.Because)-1]; at.Hour() != 8 || d.Attempts != 0 || last.Code != belfry.OverDailyLimit {
			t.Errorf("%+v", d)
		}
		days[at.Format(time.DateOnly)]++
	}
	if len(days) != 3 || days["now"] != 2 {
		t.Errorf("by day %v", days)
	}
	h.r.once(t)
}

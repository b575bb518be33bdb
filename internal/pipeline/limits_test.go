package pipeline

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
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

// A digest is one message of a day: one that is over the limit waits for the
// first day that has room and goes on gathering; one with something mandatory
// does not wait.
//
// feature: S3-20
func TestDailyLimitCountsDigests(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1", TimeZone: "Europe/Lisbon"}, belfry.User{ID: "u2", TimeZone: "Europe/Lisbon"})
	limit := belfry.Settings{MaxPerDay: map[string]int{"email": 2}}
	h.apply(belfry.Changes{Settings: []belfry.UserSettings{{User: "u1", Settings: limit}, {User: "u2", Settings: limit}}})
	h.setting(belfry.KindEventType, "law.changed", belfry.EventType{Name: "law.changed", Mandatory: true, Frequency: &belfry.Frequency{Every: belfry.Hourly}})
	h.join("course.updated", &belfry.Frequency{Every: belfry.Hourly}, "u1", "u2")
	h.join("post.created", nil, "u1")
	h.join("law.changed", nil, "u2")
	h.run()
	h.accept(1, "post.created") // the first of the day
	h.until("the post is told", func() bool { return len(box.of("u1@example.org")) == 1 })
	hour := func(types ...string) {
		t.Helper()
		for _, typ := range types {
			h.accept(1, typ)
		}
		h.allPlanned()
		c.set(c.now().Add(time.Hour))
	}
	hour("course.updated")
	h.until("the first digests are told", func() bool { return len(box.of("u1@example.org")) == 2 && len(box.of("u2@example.org")) == 1 })
	hour("course.updated")
	h.until("u2's second", func() bool { return len(box.of("u2@example.org")) == 2 })
	waits := func(who string) (out belfry.Bundle) {
		t.Helper()
		open := belfry.BundleOpen
		h.until("it waits for another day", func() bool {
			list, _, err := h.db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{State: &open, Recipient: who})
			if err != nil || len(list) != 1 || list[0].Because == nil {
				return false
			}
			out = list[0]
			return true
		})
		return out
	}
	b := waits("u1")
	if want := time.Date(2026, 5, 10, 7, 0, 0, 0, time.UTC); b.Because.Code != belfry.OverDailyLimit || !b.Due.Equal(want) {
		t.Errorf("%+v, due %v", b.Because, b.Due)
	}
	hour("course.updated")
	hour("law.changed")
	h.until("what is mandatory does not wait", func() bool { return len(box.of("u2@example.org")) == 3 })
	if b = waits("u1"); b.Items != 2 {
		t.Errorf("%d things wait", b.Items)
	}
	c.set(time.Date(2026, 5, 10, 7, 0, 0, 0, time.UTC))
	h.until("the next day has room", func() bool { return len(box.of("u1@example.org")) == 3 })
	h.drained()
	if s := box.of("u1@example.org")[2].Subject; !strings.Contains(s, "2 updated") {
		t.Errorf("subject %q", s)
	}
	list, _, err := h.db.ListDeliveries(context.Background(), belfry.DefaultTenant, store.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.Attempts != 1 {
			t.Errorf("%s was tried %d times", d.ID, d.Attempts)
		}
	}
}

// A digest is one message of the subscriptions it tells of: one with nothing but
// what was told often enough waits for its turn and goes on gathering, and the
// trace says so; one that has anything else to tell does not wait.
//
// feature: PEER-10
func TestThrottleCountsDigests(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	var people []belfry.User
	for _, id := range []string{"u1", "u2", "u3"} {
		people = append(people, belfry.User{ID: id, TimeZone: "Europe/Lisbon"})
	}
	h.people(people...)
	h.setting(belfry.KindEventType, "law.changed", belfry.EventType{Name: "law.changed", Mandatory: true, Frequency: &belfry.Frequency{Every: belfry.Hourly}})
	hourly := &belfry.Frequency{Every: belfry.Hourly}
	sub := func(id, typ string, throttle *belfry.Throttle, users ...string) belfry.Subscription {
		return belfry.Subscription{ID: id, Types: []string{typ}, State: belfry.SubscriptionActive, Created: clock(), Throttle: throttle, Frequency: hourly,
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: users}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}
	}
	chatter := sub("sub_chat", "chat.*", &belfry.Throttle{Limit: 1, Window: "3h", Key: "event.type"}, "u1", "u2", "u3")
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{chatter, sub("sub_exam", "exam.*", nil, "u2"), sub("sub_law", "law.*", nil, "u3")}})
	h.run()
	mails := func(want ...int) {
		t.Helper()
		h.until("as many as are to be told", func() bool {
			for i, n := range want {
				if len(box.of(people[i].ID+"@example.org")) != n {
					return false
				}
			}
			return true
		})
	}
	hour := func(types ...string) (ids []string) {
		t.Helper()
		for _, typ := range types {
			ids = append(ids, h.accept(1, typ)...)
		}
		h.allPlanned()
		c.set(c.now().Add(time.Hour))
		return ids
	}
	hour("chat.said")
	first := c.now()
	mails(1, 1, 1)
	second := hour("chat.said")[0]
	open := belfry.BundleOpen
	waits := func(who string) (b belfry.Bundle) {
		t.Helper()
		h.until("it waits for its turn", func() bool {
			list, _, err := h.db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{State: &open, Recipient: who})
			if err != nil || len(list) != 1 || list[0].Because == nil {
				return false
			}
			b = list[0]
			return true
		})
		return b
	}
	for _, who := range []string{"u1", "u2", "u3"} {
		b := waits(who)
		if at := b.Due.Sub(first); b.Because.Code != belfry.ThrottleWaits || b.Because.Subscription != "sub_chat" || at != 3*time.Hour {
			t.Errorf("%+v, due %v after the first", b.Because, at)
		}
	}
	told := h.trace(second)
	for _, p := range told.People {
		if last := p.Because[len(p.Because)-1]; last.Code != belfry.ThrottleWaits || !strings.HasPrefix(last.Detail, "1 within 3h: waits until 2026-") {
			t.Errorf("the trace says %+v of %s", last, p.Principal)
		}
	}
	// What else there is to tell takes along what waits; the mandatory as well.
	hour("chat.said", "exam.set", "law.changed")
	mails(1, 2, 2)
	if b := waits("u1"); b.Items != 2 {
		t.Errorf("%d things wait", b.Items)
	}
	c.set(first.Add(3 * time.Hour))
	mails(2, 2, 2)
	if s := box.of("u1@example.org")[1].Subject; !strings.Contains(s, "2 updated") {
		t.Errorf("subject %q", s)
	}
	// Nothing of it was put off for good, and no try was burnt.
	h.drained()
	list, _, err := h.db.ListDeliveries(context.Background(), belfry.DefaultTenant, store.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.State != belfry.Delivered || d.Attempts != 1 {
			t.Errorf("%s is %s after %d tries", d.ID, d.State, d.Attempts)
		}
	}
	// Its turn has begun with it: the next waits three hours from then.
	hour("chat.said")
	if b := waits("u1"); b.Due.Sub(first) != 6*time.Hour {
		t.Errorf("the next is due %v after the first", b.Due.Sub(first))
	}
	// Another value of the key has a limit of its own.
	hour("chat.left")
	mails(3)
}

// Of one person's digests those that began together are one message, on however
// many channels.
//
// feature: PEER-10
func TestThrottleOfDigestsOfSeveralChannels(t *testing.T) {
	h, c, _ := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1"})
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{{ID: "sub_chat", Types: []string{"chat.*"}, State: belfry.SubscriptionActive, Created: clock(),
		Throttle: &belfry.Throttle{Limit: 1, Window: "24h"}, Frequency: &belfry.Frequency{Every: belfry.Hourly},
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}}})
	ctx := context.Background()
	h.run()
	h.accept(1, "chat.said")
	h.allPlanned()
	h.stop() // nothing is sealed but by hand
	c.set(c.now().Add(2 * time.Hour))
	list, err := h.db.DueBundles(ctx, belfry.DefaultTenant, c.now(), 10, nil)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d due, %v", len(list), err)
	}
	twin := list[0]
	twin.Channel, twin.Key = "push", twin.Key+" to=phone" // her phone, opened by the same event
	for _, b := range []belfry.Bundle{list[0], twin} {
		if over, err := h.seal.often(ctx, belfry.DefaultTenant, []belfry.Bundle{b}, c.now()); err != nil || len(over) != 0 {
			t.Errorf("%s waits: %v, %v", b.Key, over, err)
		}
	}
	later := list[0]
	later.Opened = later.Opened.Add(time.Hour)
	over, err := h.seal.often(ctx, belfry.DefaultTenant, []belfry.Bundle{later}, c.now())
	if err != nil || len(over) != 1 || !over[later.ID].until.Equal(c.now().Add(24*time.Hour)) {
		t.Errorf("%+v, %v", over, err)
	}
}

// A digest of very many things goes for the sake of any that comes under no
// throttle.
//
// feature: PEER-10
func TestThrottleLooksAtAllOfADigest(t *testing.T) {
	const part = 20
	h, clk, box := postHouse(t, sqlite(t))
	h.seal.part = part
	h.people(belfry.User{ID: "u1"}, belfry.User{ID: "u2"})
	hourly := &belfry.Frequency{Every: belfry.Hourly}
	chat := belfry.Subscription{ID: "sub_chat", Types: []string{"chat"}, State: belfry.SubscriptionActive, Created: clock(), Throttle: &belfry.Throttle{Limit: 1, Window: "5h"},
		Frequency: hourly, Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"u1", "u2"}}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}
	other := chat
	other.ID, other.Types, other.Throttle, other.Recipients = "sub_other", []string{"post"}, nil, []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}}
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{chat, other}})
	h.run()
	h.accept(1, "chat")
	h.allPlanned()
	clk.set(clk.now().Add(time.Hour))
	h.until("both are told once", func() bool { return len(box.of("u1@example.org")) == 1 && len(box.of("u2@example.org")) == 1 })
	h.accept(2*part+3, "chat") // which is told often enough
	h.allPlanned()
	h.accept(1, "post") // and this is not bounded
	h.allPlanned()
	clk.set(clk.now().Add(time.Hour))
	h.until("u1 is told of what is not bounded", func() bool { return len(box.of("u1@example.org")) == 2 })
	h.drained()
	if n := len(box.of("u2@example.org")); n != 1 {
		t.Errorf("u2 is told %d times", n)
	}
}

// A digest that somebody says is to go now goes past a daily limit and a
// throttle, says so, and takes its part of both; the place that was kept for it on
// another day is given back. Quiet hours hold it, and nothing else after them.
//
// feature: S3-20, PEER-10
func TestDigestSentNowGoesPastLimits(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1", TimeZone: "Europe/Lisbon"}, belfry.User{ID: "u2", TimeZone: "Europe/Lisbon"}, belfry.User{ID: "u3", TimeZone: "Europe/Lisbon"}, belfry.User{ID: "u4", TimeZone: "Europe/Lisbon"})
	quiet := &belfry.Window{From: "22:00", To: "07:00"}
	one := map[string]int{"email": 1}
	h.apply(belfry.Changes{Settings: []belfry.UserSettings{{User: "u1", Settings: belfry.Settings{MaxPerDay: one}}, {User: "u3", Settings: belfry.Settings{MaxPerDay: one, Quiet: quiet}}, {User: "u4", Settings: belfry.Settings{Quiet: quiet}}}})
	h.join("roll.called", &belfry.Frequency{Every: belfry.Weekly}, "u4")
	hourly := &belfry.Frequency{Every: belfry.Hourly}
	h.join("course.updated", hourly, "u1", "u3")
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{{ID: "sub_chat", Types: []string{"chat.*"}, State: belfry.SubscriptionActive, Created: clock(),
		Throttle: &belfry.Throttle{Limit: 1, Window: "3h"}, Frequency: hourly,
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"u2"}}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}}})
	h.run()
	hour := func() {
		t.Helper()
		h.accept(1, "course.updated")
		h.accept(1, "chat.said")
		h.allPlanned()
		c.set(c.now().Add(time.Hour))
	}
	mails := func(who string, n int) {
		t.Helper()
		h.until(who+" is told", func() bool { return len(box.of(who+"@example.org")) == n })
	}
	open := belfry.BundleOpen
	waits := func(who, code string) (b belfry.Bundle) {
		t.Helper()
		h.until(who+"'s digest waits for "+code, func() bool {
			list, _, err := h.db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{State: &open, Recipient: who})
			if err != nil || len(list) != 1 || list[0].Because == nil || list[0].Because.Code != code {
				return false
			}
			b = list[0]
			return true
		})
		return b
	}
	send := func(b belfry.Bundle) {
		t.Helper()
		h.apply(belfry.Changes{SendDigests: []belfry.DigestSend{{ID: b.ID, Due: c.now(), Because: belfry.Reason{Code: belfry.SentNow, Detail: "by ops"}}}})
		h.seal.Expect(belfry.DefaultTenant, c.now())
	}
	hour()
	for _, who := range []string{"u1", "u2", "u3"} {
		mails(who, 1)
	}
	hour()
	tomorrow := time.Date(2026, 5, 10, 7, 0, 0, 0, time.UTC)
	if b := waits("u1", belfry.OverDailyLimit); !b.Due.Equal(tomorrow) {
		t.Fatalf("due %v", b.Due)
	}
	send(waits("u1", belfry.OverDailyLimit))
	send(waits("u2", belfry.ThrottleWaits))
	sent := c.now()
	mails("u1", 2)
	mails("u2", 2)
	h.drained()
	list, _, err := h.db.ListDeliveries(context.Background(), belfry.DefaultTenant, store.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	for _, d := range list {
		if last := d.Because[len(d.Because)-1]; last.Code == belfry.SentNow && last.Detail == "by ops" && d.Because[0].Code == belfry.InDigest {
			said++
		}
	}
	if said != 2 {
		t.Errorf("%d of 2 messages say that they were sent now: %+v", said, list)
	}
	hour()
	if b := waits("u1", belfry.OverDailyLimit); !b.Due.Equal(tomorrow) {
		t.Errorf("the next is due %v: the place that was kept was not given back", b.Due)
	}
	if b := waits("u2", belfry.ThrottleWaits); !b.Due.Equal(sent.Add(3 * time.Hour)) {
		t.Errorf("the next is due %v after the one that was sent, want 3h", b.Due.Sub(sent))
	}
	b := waits("u3", belfry.OverDailyLimit)
	h.accept(1, "roll.called")
	h.allPlanned()
	weekly, _, err := h.db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{State: &open, Recipient: "u4"})
	if err != nil || len(weekly) != 1 {
		t.Fatal(weekly, err)
	}
	c.set(time.Date(2026, 5, 9, 22, 30, 0, 0, time.UTC)) // half past eleven there
	send(b)
	send(weekly[0])
	ends := tomorrow.Add(-time.Hour)
	held := func() {
		t.Helper()
		for _, who := range []string{"u3", "u4"} {
			h.until(who+"'s waits for the end of quiet hours", func() bool { return waits(who, belfry.SentNow).Due.Equal(ends) })
		}
	}
	held()
	h.apply(belfry.Changes{Settings: []belfry.UserSettings{{User: "u4", Settings: belfry.Settings{DigestAt: "11:00", Quiet: quiet}}}})
	h.seal.Look()
	h.until("it was looked at again", func() bool {
		looks, err := h.db.Looks(context.Background(), nil, 10)
		return err == nil && len(looks) == 0
	})
	held() // an edit of when digests are told does not take it back
	c.set(ends)
	mails("u3", 2)
	mails("u4", 1)
}

// Whatever goes out takes its part of the daily limit: also what is told to
// somebody who has stopped all messages, at once and in digests, and what is
// mandatory, which never waits for it.
//
// feature: S3-20
func TestDailyLimitCountsWhatInsists(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1", TimeZone: "Europe/Lisbon"}, belfry.User{ID: "u2", TimeZone: "Europe/Lisbon"})
	most := func(n int) map[string]int { return map[string]int{"email": n} }
	h.apply(belfry.Changes{Settings: []belfry.UserSettings{{User: "u1", Settings: belfry.Settings{Stop: true, MaxPerDay: most(3)}}, {User: "u2", Settings: belfry.Settings{MaxPerDay: most(1)}}}})
	h.setting(belfry.KindEventType, "fire.alarm", belfry.EventType{Name: "fire.alarm", Mandatory: true})
	h.setting(belfry.KindEventType, "law.changed", belfry.EventType{Name: "law.changed", Channels: belfry.TypeChannels{Forced: []string{"email"}}, Frequency: &belfry.Frequency{Every: belfry.Hourly}})
	h.setting(belfry.KindEventType, "bill.due", belfry.EventType{Name: "bill.due", Channels: belfry.TypeChannels{Forced: []string{"email"}}})
	sub := func(id, typ string, mandatory bool, users ...string) belfry.Subscription {
		return belfry.Subscription{ID: id, Types: []string{typ}, State: belfry.SubscriptionActive, Created: clock(), Mandatory: mandatory,
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: users}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}
	}
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{sub("sub_fire", "fire.*", false, "u1", "u2"), sub("sub_law", "law.*", false, "u1"), sub("sub_bill", "bill.*", false, "u1", "u2"),
		sub("sub_roll", "roll.*", true, "u2")}})
	h.run()
	mails := func(who string, n int) {
		t.Helper()
		h.until(who+" is told", func() bool { return len(box.of(who+"@example.org")) == n })
	}
	put := func(id string) *belfry.Delivery {
		t.Helper()
		d := h.delivery(id)
		if len(d.Because) > 0 && d.Because[len(d.Because)-1].Code == belfry.OverDailyLimit && d.Due.After(c.now()) {
			return &d
		}
		return nil
	}
	hour := func() {
		t.Helper()
		h.accept(1, "law.changed")
		h.allPlanned()
		c.set(c.now().Add(time.Hour))
	}
	h.accept(1, "fire.alarm") // one of three, and of one
	mails("u1", 1)
	mails("u2", 1)
	bill := h.accept(1, "bill.due")[0] // two of three; and over
	mails("u1", 2)
	h.allPlanned()
	if put(belfry.DeliveryID(bill, 0, "email", "u2@example.org")) == nil {
		t.Error("what is mandatory took nothing of the limit")
	}
	h.accept(1, "roll.called") // by a mandatory subscription
	mails("u2", 2)
	hour() // three of three
	mails("u1", 3)
	hour()
	open := belfry.BundleOpen
	h.until("the digest of one who stopped all waits for another day", func() bool {
		list, _, err := h.db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{State: &open, Recipient: "u1"})
		return err == nil && len(list) == 1 && list[0].Because != nil && list[0].Because.Code == belfry.OverDailyLimit
	})
	over := h.accept(1, "bill.due")[0]
	h.allPlanned()
	if put(belfry.DeliveryID(over, 0, "email", "u1@example.org")) == nil {
		t.Error("what is forced goes past the limit")
	}
	h.accept(1, "fire.alarm")
	mails("u1", 4)
	mails("u2", 3)
}

package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// open lists what waits: "channel key due items".
func (h *house) open() (out []string) {
	h.t.Helper()
	state := belfry.BundleOpen
	list, _, err := h.db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{State: &state})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, b := range list {
		out = append(out, fmt.Sprintf("%s %q %s %d", b.Channel, b.Key, b.Due.Format("Mon 15:04"), b.Items))
	}
	slices.Sort(out)
	return out
}

func (h *house) setting(kind, id string, v any) {
	h.t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	h.apply(belfry.Changes{Documents: []belfry.Document{{Kind: kind, ID: id, Body: body}}})
}

// decided waits until nothing is to be decided anew.
func (h *house) decided() {
	h.t.Helper()
	h.until("all is decided anew", func() bool {
		looks, err := h.db.Looks(context.Background(), nil, 1)
		return err == nil && len(looks) == 0
	})
}

// What waits follows what people, and those who decide for them, choose
// meanwhile.
//
// feature: CPS-23, NEW-5, NEW-11
func TestDigestsFollowChanges(t *testing.T) {
	tomorrow := time.Date(2026, 5, 10, 0, 0, 0, 0, time.UTC)
	daily, weekly := &belfry.Frequency{Every: belfry.Daily}, &belfry.Frequency{Every: belfry.Weekly}
	prefer := func(p belfry.Preference) belfry.Changes {
		return belfry.Changes{Preferences: []belfry.UserPreferences{{User: "u1", Preferences: []belfry.Preference{p}}}}
	}
	settings := func(s belfry.Settings) belfry.Changes {
		return belfry.Changes{Settings: []belfry.UserSettings{{User: "u1", Settings: s}}}
	}
	sub := func(f *belfry.Frequency, channels ...string) belfry.Changes {
		return belfry.Changes{Subscriptions: []belfry.Subscription{{ID: "sub_course_updated", Title: "News of course.updated", Types: []string{"course.updated"}, State: belfry.SubscriptionActive, Created: clock(),
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{}}}, Notify: []belfry.Notify{{Channels: channels}}, Frequency: f}}}
	}
	member := func(f *belfry.Frequency, channels ...string) belfry.Changes {
		return belfry.Changes{Members: []belfry.Member{{Subscription: "sub_course_updated", Principal: "u1", Frequency: f, Channels: channels, Since: clock()}}}
	}
	// It is Saturday, half past nine; two things wait for Monday at eight.
	before := []string{`email "weekly" Mon 08:00 2`}
	at := func(text string) []string { return []string{text} }
	for name, c := range map[string]struct {
		member  *belfry.Frequency // nil = she leaves it to the subscription
		change  belfry.Changes
		waits   []string // then
		mails   int      // at once
		items   []string // of the two things: "state reason", when they are not told by mail
		inboxes int
	}{
		"sooner":                    {change: prefer(belfry.Preference{Frequency: daily}), waits: at(`email "daily" Sun 08:00 2`)},
		"later":                     {change: prefer(belfry.Preference{Frequency: &belfry.Frequency{Every: belfry.Monthly}}), waits: at(`email "monthly" Mon 08:00 2`)},
		"at once":                   {change: prefer(belfry.Preference{Frequency: &belfry.Frequency{Every: belfry.Immediate}}), mails: 1},
		"never":                     {change: prefer(belfry.Preference{Frequency: &belfry.Frequency{Every: belfry.Never}}), items: []string{"suppressed frequency_never", "suppressed frequency_never"}},
		"of something else":         {change: prefer(belfry.Preference{Type: "post.created", Frequency: daily}), waits: before},
		"another time":              {change: settings(belfry.Settings{DigestAt: "07:15", DigestWeekday: "sunday"}), waits: at(`email "weekly" Sun 07:15 2`)},
		"another zone":              {change: belfry.Changes{Users: []belfry.User{{ID: "u1", Email: "u1@example.org", State: belfry.UserActive, TimeZone: "America/Sao_Paulo"}}}, waits: at(`email "weekly" Mon 11:00 2`)},
		"another name":              {change: belfry.Changes{Users: []belfry.User{{ID: "u1", Name: "Una", Email: "u1@example.org", State: belfry.UserActive}}}, waits: before},
		"quiet on Mondays":          {change: settings(belfry.Settings{Quiet: &belfry.Window{From: "06:00", To: "09:30", Days: []string{"mon"}}}), waits: at(`email "weekly" Mon 09:30 2`)},
		"joined otherwise":          {member: weekly, change: member(daily), waits: at(`email "daily" Sun 08:00 2`)},
		"joined for the inbox":      {change: member(weekly, "inbox"), inboxes: 2, items: []string{"suppressed channel_off", "suppressed channel_off"}},
		"by a channel there is not": {change: prefer(belfry.Preference{Channels: []string{"pigeon"}}), items: []string{"suppressed channel_off", "suppressed channel_off"}},
		"subscription":              {change: sub(daily, "email"), waits: at(`email "daily" Sun 08:00 2`)},
		"subscription, her word":    {member: weekly, change: sub(daily, "email"), waits: before},
		"subscription to inboxes":   {change: sub(weekly, "inbox"), inboxes: 2, items: []string{"suppressed channel_off", "suppressed channel_off"}},
		"opted out meanwhile":       {change: belfry.Changes{OptOuts: []belfry.OptOut{{Subscription: "sub_course_updated", Who: "u1", Since: clock()}}}, items: []string{"suppressed opted_out", "suppressed opted_out"}},
		"left meanwhile":            {change: belfry.Changes{DropMembers: []belfry.Member{{Subscription: "sub_course_updated", Principal: "u1"}}}, items: []string{"suppressed no_longer_named", "suppressed no_longer_named"}},
		"muted meanwhile":           {change: prefer(belfry.Preference{MuteUntil: &tomorrow}), waits: before},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, clk, box := postHouse(t, sqlite(t))
			h.people(belfry.User{ID: "u1"})
			h.join("course.updated", c.member, "u1")
			h.apply(sub(weekly, "email"))
			h.run()
			events := h.accept(2, "course.updated")
			h.allPlanned()
			if got := h.open(); !slices.Equal(got, before) {
				t.Fatalf("%q waits at first", got)
			}
			clk.set(clk.now().Add(30 * time.Minute))
			h.apply(c.change)
			h.decided()
			h.until("as many mails as there are", func() bool { return len(box.of("u1@example.org")) == c.mails })
			if got := h.open(); !slices.Equal(got, c.waits) {
				t.Errorf("%q waits, want %q", got, c.waits)
			}
			var items []string
			inboxes := 0
			for _, e := range events {
				rows, err := traceRows{h.db}.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: e, Limit: 10})
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range rows.Deliveries {
					switch {
					case d.Channel == belfry.ChannelInbox:
						inboxes++
					case d.State == belfry.Suppressed:
						items = append(items, "suppressed "+d.Because[len(d.Because)-1].Code)
					}
				}
			}
			if !slices.Equal(items, c.items) || inboxes != c.inboxes {
				t.Errorf("%q left out and %d in the inbox, want %q and %d", items, inboxes, c.items, c.inboxes)
			}
			clk.set(clk.now().Add(60 * 24 * time.Hour))
			mails := c.mails
			if mails == 0 && c.items == nil {
				mails = 1
			}
			h.until("what waited is told", func() bool { return len(h.open()) == 0 && len(box.of("u1@example.org")) >= mails })
			h.drained()
			if n := len(box.of("u1@example.org")); n != mails {
				t.Errorf("%d mails in all, want %d", n, mails)
			}
		})
	}
}

// The defaults of a type and of the tenant hold for what waits, too.
//
// feature: CPS-23
func TestDigestsFollowDefaults(t *testing.T) {
	for _, engine := range []struct {
		name string
		open func(testing.TB) *store.DB
	}{{"SQLite", storetest.SQLite}, {"PostgreSQL", storetest.Postgres}} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			h, _, _ := postHouse(t, engine.open(t))
			h.people(belfry.User{ID: "u1"}, belfry.User{ID: "u2"})
			h.join("course.updated", nil, "u1", "u2")
			h.join("post.created", nil, "u1")
			tenant := func(every string) {
				h.setting(belfry.KindSetting, belfry.TenantSettingsID, belfry.TenantSettings{Frequency: &belfry.Frequency{Every: every}})
			}
			tenant(belfry.Weekly)
			h.run()
			h.accept(2, "course.updated")
			h.accept(1, "post.created")
			h.allPlanned()
			want := func(texts ...string) {
				t.Helper()
				h.decided()
				if got := h.open(); !slices.Equal(got, texts) {
					t.Errorf("%q waits, want %q", got, texts)
				}
			}
			want(`email "weekly" Mon 08:00 2`, `email "weekly" Mon 08:00 3`)
			tenant(belfry.Daily)
			want(`email "daily" Sun 08:00 2`, `email "daily" Sun 08:00 3`)
			h.setting(belfry.KindEventType, "post.created", belfry.EventType{Name: "post.created", Frequency: &belfry.Frequency{Every: belfry.Monthly}})
			want(`email "daily" Sun 08:00 2`, `email "daily" Sun 08:00 2`, `email "monthly" Mon 08:00 1`)
			h.setting(belfry.KindEventType, "post.created", belfry.EventType{Name: "post.created", Frequency: &belfry.Frequency{Every: belfry.Daily}})
			want(`email "daily" Sun 08:00 2`, `email "daily" Sun 08:00 3`)
			h.setting(belfry.KindEventType, "course.updated", belfry.EventType{Name: "course.updated", Channels: belfry.TypeChannels{Forbidden: []string{"email"}}})
			want(`email "daily" Sun 08:00 3`)
		})
	}
}

// What was decided before an edit and comes into a digest after it is decided
// anew, too.
//
// feature: NEW-11
func TestLateDecisionsAreMadeAnew(t *testing.T) {
	for _, engine := range []struct {
		name string
		open func(testing.TB) *store.DB
	}{{"SQLite", storetest.SQLite}, {"PostgreSQL", storetest.Postgres}} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			h, c, _ := postHouse(t, engine.open(t))
			ctx := context.Background()
			h.people(belfry.User{ID: "u1"}, belfry.User{ID: "u2"})
			id := h.join("course.updated", &belfry.Frequency{Every: belfry.Weekly}, "u1", "u2")
			event := h.accept(1, "course.updated")[0] // nobody plans it yet
			acc, err := h.db.Events(ctx, belfry.DefaultTenant, []string{event})
			if err != nil {
				t.Fatal(err)
			}
			page, err := h.ex.Stages.page(ctx, acc[event], part{}, c.now())
			if err != nil || len(page.Deliveries) != 2 {
				t.Fatalf("%+v, %v", page.Deliveries, err)
			}
			h.apply(belfry.Changes{Members: []belfry.Member{{Subscription: id, Principal: "u1", Frequency: &belfry.Frequency{Every: belfry.Daily}, Since: clock()}}})
			h.apply(belfry.Changes{Users: []belfry.User{{ID: "u3", State: belfry.UserActive}}, Objects: []belfry.Object{{ID: "course/2", Type: "course"}}})
			errs, err := h.db.CommitPlans(ctx, []belfry.PlanPage{page})
			if err != nil || errs[0] != nil {
				t.Fatal(err, errs)
			}
			looks, err := h.db.Looks(ctx, nil, 10)
			if err != nil || len(looks) != 2 { // members are known by their subscription
				t.Fatalf("%+v, %v", looks, err)
			}
			h.run()
			h.decided()
			want := []string{`email "daily" Sun 08:00 1`, `email "weekly" Mon 08:00 1`}
			if got := h.open(); !slices.Equal(got, want) {
				t.Errorf("%q waits, want %q", got, want)
			}
			// What was decided by all there is, is not.
			h.accept(1, "course.updated")
			h.allPlanned()
			if looks, err = h.db.Looks(ctx, nil, 10); err != nil || len(looks) != 0 {
				t.Errorf("%+v, %v", looks, err)
			}
		})
	}
}

// A digest goes out before its time when somebody says so, once.
//
// feature: CPS-23
func TestDigestSentByHand(t *testing.T) {
	h, _, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1"})
	h.join("course.updated", &belfry.Frequency{Every: belfry.Weekly}, "u1")
	h.run()
	h.accept(2, "course.updated")
	h.allPlanned()
	b := h.digest(func(b *belfry.Bundle) bool { return b.State == belfry.BundleOpen })
	now := belfry.Changes{Tenant: belfry.DefaultTenant, SendDigests: []belfry.DigestSend{{ID: b.ID, Due: h.seal.o.Now()}}}
	h.apply(now)
	h.seal.Expect(belfry.DefaultTenant, h.seal.o.Now())
	h.until("it is told", func() bool { return len(box.of("u1@example.org")) == 1 })
	h.drained()
	if _, err := h.db.Apply(context.Background(), now); belfry.KindOf(err) != belfry.Conflict {
		t.Errorf("again: %v", err)
	}
	h.accept(1, "course.updated")
	h.allPlanned()
	if got := h.open(); !slices.Equal(got, []string{`email "weekly" Mon 08:00 1`}) {
		t.Errorf("%q waits", got)
	}
}

// A digest of very many things follows as one of few does.
//
// feature: CPS-23, NEW-11
func TestLongDigestsFollow(t *testing.T) {
	h, _, _ := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1"}, belfry.User{ID: "u2"})
	h.join("course.updated", nil, "u1", "u2")
	setting := func(every string) {
		h.setting(belfry.KindSetting, belfry.TenantSettingsID, belfry.TenantSettings{Frequency: &belfry.Frequency{Every: every}})
	}
	setting(belfry.Weekly)
	h.run()
	h.accept(2*lookItems+3, "course.updated")
	h.allPlanned()
	setting(belfry.Daily)
	h.decided()
	want := fmt.Sprintf(`email "daily" Sun 08:00 %d`, 2*lookItems+3)
	if got := h.open(); !slices.Equal(got, []string{want, want}) {
		t.Errorf("%q waits, want %q twice", got, want)
	}
}

// The rest of a digest of very many things is decided anew whatever becomes of
// the first of them, and also by whoever goes on after a crash.
//
// feature: CPS-23, NEW-11
func TestAllOfLongDigestsFollows(t *testing.T) {
	const part = 100
	const many, other = 2*part + 3, 2 // of one type, and then of another
	weekly := &belfry.Frequency{Every: belfry.Weekly}
	prefer := func(h *house, p belfry.Preference) {
		h.apply(belfry.Changes{Preferences: []belfry.UserPreferences{{User: "u1", Preferences: []belfry.Preference{p}}}})
	}
	for _, c := range []struct {
		name   string
		change func(h *house)
		waits  []string
		why    string // of what is left out, "" = nothing is
		inbox  int
		off    int
	}{
		{name: "never", change: func(h *house) { prefer(h, belfry.Preference{Frequency: &belfry.Frequency{Every: belfry.Never}}) },
			why: belfry.FrequencyIsNever, off: many + other},
		{name: "another channel", change: func(h *house) { prefer(h, belfry.Preference{Channels: []string{"inbox"}}) },
			why: belfry.ChannelOff, off: many + other, inbox: many + other},
		{name: "only the last ones", change: func(h *house) {
			prefer(h, belfry.Preference{Type: "post.created", Frequency: &belfry.Frequency{Every: belfry.Daily}})
		}, waits: []string{fmt.Sprintf(`email "daily" Sun 08:00 %d`, other), fmt.Sprintf(`email "weekly" Mon 08:00 %d`, many)}},
		{name: "only a type at the end", change: func(h *house) {
			h.setting(belfry.KindEventType, "post.created", belfry.EventType{Name: "post.created", Channels: belfry.TypeChannels{Forbidden: []string{"email"}}})
		}, why: belfry.ChannelForbidden, off: other, waits: []string{fmt.Sprintf(`email "weekly" Mon 08:00 %d`, many+other)}},
		{name: "later", change: func(h *house) {
			h.apply(belfry.Changes{Settings: []belfry.UserSettings{{User: "u1", Settings: belfry.Settings{DigestAt: "21:30"}}}})
		}, waits: []string{fmt.Sprintf(`email "weekly" Mon 21:30 %d`, many+other)}},
	} {
		for _, engine := range []struct {
			name string
			open func(testing.TB) *store.DB
		}{{"SQLite", storetest.SQLite}, {"PostgreSQL", storetest.Postgres}} {
			t.Run(c.name+"/"+engine.name, func(t *testing.T) {
				t.Parallel()
				ctx := context.Background()
				db := engine.open(t)
				clk := &settable{at: time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC)}
				start := func(at int) (*house, *dying) {
					h := newHouse(t, db, func(p *PlannerOptions, d *DispatcherOptions) {
						p.Now, d.Now = clk.now, clk.now
						d.Composer.(*Messages).now = clk.now
					})
					d := &dying{DB: db, at: at, dead: make(chan struct{})}
					h.seal.o.Store, h.seal.part = d, part
					if err := h.subs.Load(ctx, belfry.DefaultTenant); err != nil {
						t.Fatal(err)
					}
					h.run()
					return h, d
				}
				h, d := start(2) // the second part is not
				h.people(belfry.User{ID: "u1"})
				for _, typ := range []string{"course.updated", "post.created"} {
					id := h.join(typ, nil, "u1")
					h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{{ID: id, Title: "News of " + typ, Types: []string{typ}, State: belfry.SubscriptionActive, Created: clock(),
						Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}, Frequency: weekly}}})
				}
				events := h.accept(many, "course.updated")
				h.allPlanned()
				clk.set(clk.now().Add(time.Second))
				events = append(events, h.accept(other, "post.created")...)
				h.allPlanned()
				if got := h.open(); !slices.Equal(got, []string{fmt.Sprintf(`email "weekly" Mon 08:00 %d`, many+other)}) {
					t.Fatalf("%q waits at first", got)
				}
				c.change(h)
				h.until("it is dead, or had it all in one part", func() bool {
					looks, err := db.Looks(ctx, nil, 1)
					select {
					case <-d.dead:
						return true
					default:
						return err == nil && len(looks) == 0
					}
				})
				h.stop()
				h, _ = start(0)
				h.decided()
				if got := h.open(); !slices.Equal(got, c.waits) {
					t.Errorf("%q waits, want %q", got, c.waits)
				}
				off, told := 0, map[string]int{}
				list, _, err := db.ListBundles(ctx, belfry.DefaultTenant, store.BundleFilter{})
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range list {
					items, err := db.BundleItems(ctx, belfry.DefaultTenant, []string{b.ID}, 0)
					if err != nil {
						t.Fatal(err)
					}
					for _, it := range items[b.ID] {
						if why := it.Because[len(it.Because)-1]; it.State != belfry.Suppressed {
							told[it.EventID]++
						} else if off++; why.Code != c.why {
							t.Fatalf("left out since %+v, want %s", why, c.why)
						}
					}
				}
				ids := map[string]string{}
				for _, e := range events {
					ids[belfry.DeliveryID(e, 0, belfry.ChannelInbox, "u1")] = e
				}
				inbox, err := db.InboxEntries(ctx, belfry.DefaultTenant, slices.Collect(maps.Keys(ids)))
				if err != nil {
					t.Fatal(err)
				}
				for id := range inbox {
					told[ids[id]]++
				}
				for e, n := range told {
					if n > 1 {
						t.Errorf("%s is told %d times", e, n)
					}
				}
				if want := many + other - c.off + c.inbox; len(told) != want {
					t.Errorf("%d things are told, want %d", len(told), want)
				}
				if len(inbox) != c.inbox || off != c.off {
					t.Errorf("%d in the inbox and %d left out, want %d and %d", len(inbox), off, c.inbox, c.off)
				}
			})
		}
	}
}

// What is left of a digest is told though very many things before it are not told
// any more.
//
// feature: CPS-23, NEW-11
func TestTheRestOfALongDigestIsTold(t *testing.T) {
	h, clk, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1"})
	weekly := &belfry.Frequency{Every: belfry.Weekly}
	h.join("course.updated", weekly, "u1")
	h.join("post.created", weekly, "u1")
	h.run()
	h.accept(render.DigestMost+2, "course.updated")
	h.allPlanned()
	h.accept(1, "post.created")
	h.allPlanned()
	h.setting(belfry.KindEventType, "course.updated", belfry.EventType{Name: "course.updated", Channels: belfry.TypeChannels{Forbidden: []string{"email"}}})
	h.decided()
	clk.set(clk.now().Add(7 * 24 * time.Hour))
	h.until("the rest is told", func() bool { return len(box.of("u1@example.org")) == 1 })
	h.drained()
	if m := box.of("u1@example.org")[0]; m.Subject != "News of post.created · Weekly digest: Post created: course/1" {
		t.Errorf("%q", m.Subject)
	}
}

// Also when it is only as the digest is sent that what comes first is refused.
//
// feature: CPS-23, NEW-4
func TestTheRestOfALongDigestIsToldAsItIsSent(t *testing.T) {
	h, clk, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1"})
	weekly := &belfry.Frequency{Every: belfry.Weekly}
	h.join("course.updated", weekly, "u1")
	h.join("post.created", weekly, "u1")
	h.run()
	refused := h.accept(2*render.DigestMost+5, "course.updated")
	h.allPlanned()
	h.accept(1, "post.created")
	h.allPlanned()
	h.setting(belfry.KindEventType, "course.updated", belfry.EventType{Name: "course.updated", SeeRoles: []string{"teacher"}})
	h.decided()
	if got := h.open(); !slices.Equal(got, []string{fmt.Sprintf(`email "weekly" Mon 08:00 %d`, len(refused)+1)}) {
		t.Fatalf("%q waits", got)
	}
	clk.set(clk.now().Add(7 * 24 * time.Hour))
	h.until("the rest is told", func() bool { return len(box.of("u1@example.org")) == 1 })
	h.drained()
	if m := box.of("u1@example.org")[0]; m.Subject != "News of post.created · Weekly digest: Post created: course/1" {
		t.Errorf("%q", m.Subject)
	}
	for _, e := range []string{refused[0], refused[len(refused)-1]} {
		a, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: e, Principal: "u1"})
		if err != nil || len(a.People) != 1 || a.People[0].Outcome != belfry.NotTold || !slices.ContainsFunc(a.People[0].Because, func(r belfry.ReasonView) bool { return r.Code == belfry.MayNotSee }) {
			t.Errorf("%+v, %v", a.People, err)
		}
	}
}

// walked keeps what a walk through all digests reads and writes.
type walked struct {
	*dying
	mu    sync.Mutex
	after []string // where pages began
	read  int      // digests, of all of those
	looks []string // "what" that moved on, or "what!" that ended
	moved func()   // what happens once the first page has
}

func (w *walked) OpenBundles(ctx context.Context, tenant string, who []string, after, until string, now time.Time, limit int) ([]belfry.Bundle, error) {
	list, err := w.dying.OpenBundles(ctx, tenant, who, after, until, now, limit)
	if who == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.after, w.read = append(w.after, after), w.read+len(list)
	}
	return list, err
}

func (w *walked) Regather(ctx context.Context, list []belfry.Regather, looks []belfry.Look) error {
	err := w.dying.Regather(ctx, list, looks)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range looks {
		if l.After == "" {
			l.What += "!"
		}
		w.looks = append(w.looks, l.What)
	}
	if w.moved != nil {
		moved := w.moved
		w.moved = nil
		go moved()
	}
	return err
}

// A change of the tenant's default goes through all digests once, page by page:
// whoever begins anew goes on where the last one came to, what was moved is not
// gone through again, and who chooses something herself meanwhile does not wait
// for the end.
//
// feature: CPS-23, NEW-11
func TestDefaultsWalkOnce(t *testing.T) {
	for _, engine := range []struct {
		name string
		open func(testing.TB) *store.DB
	}{{"SQLite", storetest.SQLite}, {"PostgreSQL", storetest.Postgres}} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			const pages = 5
			const people = (pages-1)*lookPage + 10
			db := engine.open(t)
			ctx := context.Background()
			c := &settable{at: time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC)}
			start := func(at int) (*house, *walked) {
				h := newHouse(t, db, func(p *PlannerOptions, d *DispatcherOptions) {
					p.Now, d.Now = c.now, c.now
					d.Composer.(*Messages).now = c.now
				})
				w := &walked{dying: &dying{DB: db, at: at, dead: make(chan struct{})}}
				h.seal.o.Store = w
				if err := h.subs.Load(ctx, belfry.DefaultTenant); err != nil {
					t.Fatal(err)
				}
				return h, w
			}
			h, w := start(3) // of calls that move something
			var names []string
			var users []belfry.User
			for i := range people {
				names = append(names, fmt.Sprintf("u%d", i))
				users = append(users, belfry.User{ID: names[i]})
			}
			h.people(users...)
			h.join("course.updated", nil, names...)
			often := func(h *house, every string) {
				h.setting(belfry.KindSetting, belfry.TenantSettingsID, belfry.TenantSettings{Frequency: &belfry.Frequency{Every: every}})
			}
			often(h, belfry.Weekly)
			h.run()
			h.accept(1, "course.updated")
			h.allPlanned()
			bundles := func() (list []belfry.Bundle) {
				t.Helper()
				list, err := db.OpenBundles(ctx, belfry.DefaultTenant, nil, "", "", c.now(), 10*people)
				if err != nil || len(list) != people {
					t.Fatalf("%d digests wait: %v", len(list), err)
				}
				return list
			}
			bundles()
			often(h, belfry.Daily)
			<-w.dead
			h.stop()
			looks, err := db.Looks(ctx, nil, 10)
			if err != nil || len(looks) != 1 || looks[0].After == "" || looks[0].Until == "" {
				t.Fatalf("looks after two pages: %+v, %v", looks, err)
			}
			if n := len(slices.Compact(w.after)); n != 3 { // the dead one tried the third again
				t.Errorf("%d pages were read until death", n)
			}
			h, w = start(0)
			w.moved = func() {
				h.apply(belfry.Changes{Preferences: []belfry.UserPreferences{{User: "u7", Preferences: []belfry.Preference{{Frequency: &belfry.Frequency{Every: belfry.Monthly}}}}}})
			}
			h.run()
			h.decided()
			h.until("her own word is heard", func() bool {
				monthly := 0
				for _, b := range bundles() {
					if b.Key == "monthly" {
						monthly++
					}
				}
				return monthly == 1
			})
			h.stop()
			if len(w.after) != pages-2 || w.after[0] != looks[0].After || w.read != people-2*lookPage {
				t.Errorf("after death pages began at %q, of %d digests", w.after, w.read)
			}
			if len(w.looks) < 4 || w.looks[0] != "all" || !slices.Contains(w.looks, "all!") {
				t.Errorf("looks: %q", w.looks)
			}
			ids := map[string]bool{}
			for _, b := range bundles() {
				ids[b.ID] = true
				if b.Key != "daily" && (b.Key != "monthly" || b.Principal != "u7") {
					t.Errorf("%s of %s waits", b.Key, b.Principal)
				}
			}
			seen := map[string]bool{}
			items, err := db.BundleItems(ctx, belfry.DefaultTenant, slices.Collect(maps.Keys(ids)), 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, list := range items {
				for i := range list {
					if seen[list[i].ID] || list[i].State != belfry.Scheduled {
						t.Errorf("%+v", list[i])
					}
					seen[list[i].ID] = true
				}
			}
			if len(seen) != people {
				t.Errorf("%d things wait, want %d", len(seen), people)
			}
		})
	}
}

package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testdb"
)

// gather has an event wait in the digests of so many people, who have the
// tenant's frequency: daily.
func (h *house) gather(people int) {
	h.t.Helper()
	h.setting(belfry.KindSetting, belfry.TenantSettingsID, belfry.TenantSettings{Frequency: &belfry.Frequency{Every: belfry.Daily}})
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{{ID: "sub_1", Types: []string{"course.updated"}, State: belfry.SubscriptionActive, Created: clock(),
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}}})
	for from := 0; from < people; from += 5000 {
		var ch belfry.Changes
		for i := from; i < min(from+5000, people); i++ {
			id := fmt.Sprintf("u%d", i)
			ch.Users = append(ch.Users, belfry.User{ID: id, State: belfry.UserActive, Email: id + "@example.org"})
			ch.Members = append(ch.Members, belfry.Member{Subscription: "sub_1", Principal: id, Since: clock()})
		}
		h.apply(ch)
	}
}

// open are the digests that gather, and how many things wait in them.
func (h *house) openDigests() (list []belfry.Bundle, items int) {
	h.t.Helper()
	for after := ""; ; {
		page, err := h.db.OpenBundles(context.Background(), belfry.DefaultTenant, nil, after, "", time.Time{}, 500)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(page) == 0 {
			return list, items
		}
		list, after = append(list, page...), page[len(page)-1].ID
		ids := make([]string, len(page))
		for i := range page {
			ids[i] = page[i].ID
		}
		of, err := h.db.BundleItems(context.Background(), belfry.DefaultTenant, ids, 0)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, its := range of {
			items += len(its)
		}
	}
}

// A change of the tenant's default that concerns every open digest is gone
// through a page at a time; whichever page the process dies at, the next one
// ends it and each thing waits in one digest, of the new frequency.
//
// feature: NEW-11, CPS-23
func TestTenantDefaultSurvivesDeath(t *testing.T) {
	const people = 3 * lookPage
	for name, open := range map[string]func(testing.TB) *store.DB{
		"SQLite":     storetest.SQLite,
		"PostgreSQL": func(t testing.TB) *store.DB { return storetest.Open(t, testdb.Postgres(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			h := newHouse(t, db, nil)
			h.gather(people)
			h.run()
			h.accept(1, "course.updated")
			h.until("all planned", func() bool { list, _ := h.openDigests(); return len(list) == people })
			h.stop()
			for at, every := range []string{belfry.Weekly, belfry.Monthly, belfry.Hourly, belfry.Weekly} {
				dy := &dying{DB: db, at: at + 1, after: at%2 == 1, dead: make(chan struct{})}
				h = newHouse(t, db, nil)
				h.seal.o.Store = dy
				h.run()
				h.setting(belfry.KindSetting, belfry.TenantSettingsID, belfry.TenantSettings{Frequency: &belfry.Frequency{Every: every}})
				h.until("it dies", func() bool {
					select {
					case <-dy.dead:
						return true
					default:
						h.seal.Look()
						return false
					}
				})
				h.stop()
				h = newHouse(t, db, nil)
				h.run()
				h.decided()
				h.stop()
				list, items := h.openDigests()
				other := slices.ContainsFunc(list, func(b belfry.Bundle) bool { return b.Frequency.Every != every })
				if len(list) != people || items != people || other {
					t.Fatalf("after dying at call %d: %d digests with %d things, want one for each of %d people, %s all: %v", at+1, len(list), items, people, every, !other)
				}
			}
		})
	}
}

// BenchmarkTenantDefault changes the tenant's frequency while so many digests
// are open, one an iteration, and meanwhile accepts events of another tenant,
// one at a time: what it costs them is the ratio of the two p99.
func BenchmarkTenantDefault(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *store.DB{
		"SQLite":     storetest.SQLite,
		"PostgreSQL": func(t testing.TB) *store.DB { return storetest.Open(t, testdb.Postgres(t)) },
	} {
		b.Run(name, func(b *testing.B) {
			h := newHouse(b, open(b), nil)
			h.gather(b.N)
			h.run()
			h.accept(1, "course.updated")
			for planned := false; !planned; <-time.After(20 * time.Millisecond) {
				st, err := h.db.Stats(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				planned = st.Tenants[belfry.DefaultTenant].PendingPlans == 0
			}
			others := func(until func() bool) (p99, most time.Duration) {
				var took []time.Duration
				for n := 0; !until(); n++ {
					e := &belfry.Event{ID: belfry.NewID("", time.Now()), Source: "/other", Type: "other", Time: time.Now()}
					begun := time.Now()
					if _, err := h.db.AcceptEvents(context.Background(), []belfry.Draft{{Tenant: "other", Event: e, Body: []byte(`{}`)}}); err != nil {
						b.Error(err)
						return 0, 0
					}
					took = append(took, time.Since(begun))
					<-time.After(2 * time.Millisecond)
				}
				slices.Sort(took)
				return took[len(took)*99/100], took[len(took)-1]
			}
			end := time.Now().Add(3 * time.Second)
			idle, _ := others(func() bool { return time.Now().After(end) }) // what they are without it
			b.ResetTimer()
			h.setting(belfry.KindSetting, belfry.TenantSettingsID, belfry.TenantSettings{Frequency: &belfry.Frequency{Every: belfry.Weekly}})
			h.seal.Look()
			next := time.Now()
			p99, most := others(func() bool {
				if time.Now().Before(next) {
					return false
				}
				next = time.Now().Add(50 * time.Millisecond)
				looks, err := h.db.Looks(context.Background(), nil, 1)
				return err == nil && len(looks) == 0
			})
			b.StopTimer()
			b.ReportMetric(float64(idle.Microseconds())/1000, "idle-p99-ms")
			b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(most.Microseconds())/1000, "most-ms")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "digests/s")
			h.stop()
		})
	}
}

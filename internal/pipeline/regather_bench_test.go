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
)

// BenchmarkRegather changes the tenant's default while so many people's digests
// of one thing each are open: one change an iteration. Meanwhile another tenant's
// events are accepted, one after the other.
func BenchmarkRegather(b *testing.B) {
	for _, engine := range []struct {
		name string
		open func(testing.TB) *store.DB
	}{{"SQLite", storetest.SQLite}, {"PostgreSQL", storetest.Postgres}} {
		for _, people := range []int{2_000, 20_000, 100_000, 200_000} {
			b.Run(fmt.Sprintf("%s/open=%d", engine.name, people), func(b *testing.B) { benchmarkRegather(b, engine.open(b), people) })
		}
	}
}

func benchmarkRegather(b *testing.B, db *store.DB, people int) {
	c := &settable{at: time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC)}
	h := newHouse(b, db, func(p *PlannerOptions, d *DispatcherOptions) {
		p.Now, d.Now = c.now, c.now
		d.Composer.(*Messages).now = c.now
	})
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{{ID: "sub_1", Types: []string{"course.updated"}, State: belfry.SubscriptionActive, Created: clock(),
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}}})
	for at := 0; at < people; at += 5000 {
		var ch belfry.Changes
		for i := at; i < min(at+5000, people); i++ {
			id := fmt.Sprintf("u%d", i)
			ch.Users = append(ch.Users, belfry.User{ID: id, State: belfry.UserActive, Email: id + "@example.org"})
			ch.Members = append(ch.Members, belfry.Member{Subscription: "sub_1", Principal: id, Since: clock()})
		}
		h.apply(ch)
	}
	often := []string{belfry.Weekly, belfry.Daily}
	change := func(i int) {
		h.setting(belfry.KindSetting, belfry.TenantSettingsID, belfry.TenantSettings{Frequency: &belfry.Frequency{Every: often[i%2]}})
	}
	change(0)
	h.run()
	h.accept(1, "course.updated")
	wait := func(done func() bool) {
		for !done() {
			<-time.After(5 * time.Millisecond)
		}
	}
	wait(func() bool {
		st, err := db.Stats(context.Background())
		return err == nil && st.Tenants[belfry.DefaultTenant].PendingPlans == 0
	})
	i := 0
	took, over := make(chan []time.Duration), make(chan struct{})
	go func() { took <- acceptOthers(b, db, over) }()
	for b.Loop() {
		i++
		change(i)
		wait(func() bool {
			looks, err := db.Looks(context.Background(), nil, 1)
			return err == nil && len(looks) == 0
		})
	}
	b.StopTimer()
	close(over)
	slow := <-took
	slices.Sort(slow)
	b.ReportMetric(float64(slow[len(slow)*99/100].Milliseconds()), "others-p99-ms")
	b.ReportMetric(float64(people*i)/b.Elapsed().Seconds(), "digests/s")
}

// acceptOthers accepts events of another tenant until over and says how long each
// took.
func acceptOthers(b *testing.B, db *store.DB, over <-chan struct{}) (took []time.Duration) {
	for i := 0; ; i++ {
		e := &belfry.Event{ID: fmt.Sprint(i), Source: "/test", Type: "course.updated", Time: clock()}
		began := time.Now()
		if _, err := db.AcceptEvents(context.Background(), []belfry.Draft{{Tenant: "other", Event: e, Body: []byte("{}")}}); err != nil {
			b.Error(err)
		}
		took = append(took, time.Since(began))
		select {
		case <-over:
			return took
		case <-time.After(10 * time.Millisecond):
		}
	}
}

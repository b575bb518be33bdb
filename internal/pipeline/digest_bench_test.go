package pipeline

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// BenchmarkDigests seals, reads, renders, sends and records digests of some
// events each, that many people share: one digest an iteration.
func BenchmarkDigests(b *testing.B) {
	const items = 20 // of a digest
	c := &settable{at: time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC)}
	h := newHouse(b, sqlite(b), func(p *PlannerOptions, d *DispatcherOptions) {
		p.Now, d.Now = c.now, c.now
		d.Composer.(*Messages).now = c.now
	})
	people := make([]belfry.User, b.N)
	for i := range people {
		people[i] = belfry.User{ID: fmt.Sprintf("u%d", i), State: belfry.UserActive, Email: fmt.Sprintf("u%d@example.org", i)}
	}
	for len(people) > 0 {
		n := min(len(people), 5000)
		ch := belfry.Changes{Users: people[:n]}
		if len(people) == b.N {
			ch.Subscriptions = []belfry.Subscription{{ID: "sub_1", Types: []string{"course.updated"}, State: belfry.SubscriptionActive, Created: clock(),
				Notify: []belfry.Notify{{Channels: []string{"email"}}}, Frequency: &belfry.Frequency{Every: belfry.Daily}}}
		}
		for i := range n {
			ch.Members = append(ch.Members, belfry.Member{Subscription: "sub_1", Principal: people[i].ID, Since: clock()})
		}
		h.apply(ch)
		people = people[n:]
	}
	h.run()
	h.accept(items, "course.updated")
	for planned := false; !planned; {
		st, err := h.db.Stats(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		planned = st.Tenants[belfry.DefaultTenant].PendingPlans == 0
		<-time.After(5 * time.Millisecond)
	}
	b.ResetTimer()
	c.set(c.now().Add(24 * time.Hour))
	h.r.wait(b, b.N)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "digests/s")
	b.ReportMetric(float64(b.N*items)/b.Elapsed().Seconds(), "items/s")
}

package pipeline

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// members makes a subscription to typ with n people in it.
func (h *house) members(id, typ string, n int) {
	h.t.Helper()
	h.forum(id, typ)
	const page = 10_000
	for from := 0; from < n; from += page {
		var ch belfry.Changes
		for i := from; i < min(from+page, n); i++ {
			p := fmt.Sprintf("user/%07d", i)
			ch.Users = append(ch.Users, belfry.User{ID: p, Name: "Somebody " + p, Email: fmt.Sprintf("u%d@example.org", i), Locale: "en", State: belfry.UserActive})
			ch.Members = append(ch.Members, belfry.Member{Subscription: id, Principal: p, Since: clock()})
		}
		h.apply(ch)
	}
}

// small accepts an event every interval until done and gives how long each
// took to be planned.
func (h *house) small(g *gated, interval time.Duration, done func() bool) (took []time.Duration) {
	planned := make(chan string, 4096)
	g.after = func(p *belfry.PlanPage) error {
		if p.From == "" {
			planned <- p.EventID
		}
		return nil
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; !done(); n++ {
		start := time.Now()
		id := h.acceptAt(fmt.Sprintf("course/%d", n%100), "course.updated")
		for got := ""; got != id; got = <-planned {
		}
		took = append(took, time.Since(start))
		<-tick.C
	}
	slices.Sort(took)
	return took
}

func p99(took []time.Duration) float64 {
	return float64(took[len(took)*99/100].Microseconds()) / 1000
}

// BenchmarkLongPlan is one event to very many members of a subscription, by the
// size of its pages, while an event to one person is accepted every 5 ms. It
// reports inbox rows a second, and of the small events the time from before
// their acceptance until they were planned, 99 of 100, during the plan and
// without it.
func BenchmarkLongPlan(b *testing.B) {
	const people = 100_000
	for name, open := range map[string]func(testing.TB) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			g := &gated{DB: open(b)}
			h := newHouse(b, g.DB, nil)
			h.members("sub_forum", "forum.*", people)
			h.members("sub_small", "course.*", 1)
			for _, size := range []int{128, 256, 512, 1024, 4096} {
				b.Run(fmt.Sprintf("page=%d", size), func(b *testing.B) {
					h := newHouse(b, g.DB, func(p *PlannerOptions, _ *DispatcherOptions) {
						p.Store, p.LongPage = g, size
					})
					h.run()
					defer h.stop()
					var idle, busy []time.Duration
					for range b.N {
						until := time.Now().Add(time.Second)
						idle = append(idle, h.small(g, 5*time.Millisecond, func() bool { return time.Now().After(until) })...)
						g.pages = nil
						b.StartTimer()
						id := h.acceptAt("forum/1", "forum.post")
						var last atomic.Bool
						go func() { h.planned(id); last.Store(true) }()
						busy = append(busy, h.small(g, 5*time.Millisecond, last.Load)...)
						b.StopTimer()
					}
					slices.Sort(idle)
					slices.Sort(busy)
					b.ReportMetric(float64(b.N*people)/b.Elapsed().Seconds(), "rows/s")
					b.ReportMetric(p99(idle), "idle-p99-ms")
					b.ReportMetric(p99(busy), "p99-ms")
				})
			}
		})
	}
}

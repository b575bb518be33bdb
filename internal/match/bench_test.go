package match

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// distinct is the i-th of many subscriptions with a filter of its own, made as
// a store makes it: no memory shared with another. Each hits of them share the
// value of their equality. A residual is a condition beside it, true of the
// benchmark's events.
func distinct(i, hits int, residual func(i int) string) *belfry.Subscription {
	filter := fmt.Sprintf("event.data.shortname == 'course-%d'", i/hits)
	if residual != nil {
		filter += " && " + residual(i)
	} else {
		filter += " && event.data.kind == 'open'"
	}
	s := belfry.Subscription{
		ID: belfry.NewID(belfry.SubscriptionPrefix, time.UnixMilli(int64(i))), Title: fmt.Sprintf("Changes of course %d", i),
		Scope: belfry.Scope{Object: "category/2", Applies: belfry.AppliesSubtree}, Types: []string{"core.course_*"}, Filter: filter,
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{fmt.Sprintf("user/%d", i)}}}},
		Owner:      fmt.Sprintf("user/%d", i), Origin: "person", State: belfry.SubscriptionActive, Created: time.UnixMilli(int64(i)).UTC(), Version: int64(i),
	}
	return &s
}

// constants differ in a number, shapes in their text; both are decided without
// CEL. computed are not: they differ in a number too, and are one program.
func constants(i int) string { return fmt.Sprintf("event.data.id >= %d.5", i%7) }

func computed(i int) string { return fmt.Sprintf("event.data.id - 0.5 >= %d.5", i%7) }

func shapes(i int) string {
	return fmt.Sprintf("(event.data.id >= 0.5 || event.data.p%d == 'x')", i)
}

func filled(tb testing.TB, n, hits int, residual func(int) string) (*Index, float64) {
	var before, after runtime.MemStats
	x := New()
	runtime.GC()
	runtime.ReadMemStats(&before)
	const page = 5000
	for from := 0; from < n; from += page {
		subs := make([]*belfry.Subscription, 0, page)
		for i := from; i < min(n, from+page); i++ {
			subs = append(subs, distinct(i, hits, residual))
		}
		if err := x.Edit(subs, nil); err != nil {
			tb.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	return x, float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
}

func benchEvent(i int) *belfry.Event {
	return &belfry.Event{
		ID: "1", Source: "/moodle", Type: "core.course_updated", Object: "course/41", Actor: "user/8",
		Data: json.RawMessage(fmt.Sprintf(`{"shortname":"course-%d","fullname":"Cardiopulmonary Resuscitation","kind":"open","id":%d}`, i, i+8)),
	}
}

var benchFacts = chain("course/41:course", "category/7:category", "category/2:category", "site:site")

// BenchmarkMatch walks over 65,536 events spread over all subscriptions, so
// that what it asks for is mostly not in any cache.
func BenchmarkMatch(b *testing.B) {
	for _, set := range []struct {
		name     string
		residual func(int) string
	}{{"liftable", nil}, {"constants", constants}, {"computed", computed}, {"shapes", shapes}} {
		for _, n := range []int{1_000, 100_000, 1_000_000} {
			for _, hits := range []int{1, 10} {
				b.Run(fmt.Sprintf("%s/%d/hits=%d", set.name, n, hits), func(b *testing.B) {
					x, bytes := filled(b, n, hits, set.residual)
					events := make([]*belfry.Event, 1<<16)
					for i := range events {
						events[i] = benchEvent(i * (n / hits) / len(events))
					}
					snap := x.Snapshot()
					var took []time.Duration
					b.ReportAllocs()
					i := 0
					for b.Loop() {
						start := time.Now()
						if got := len(snap.Match(events[i*40503%len(events)], benchFacts)); got != hits {
							b.Fatalf("%d matches", got)
						}
						took = append(took, time.Since(start))
						i++
					}
					slices.Sort(took) // the median tells of the work, whatever else the machine does
					b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
					b.ReportMetric(float64(took[len(took)/20]), "p5-ns")
					b.ReportMetric(bytes, "bytes/subscription")
				})
			}
		}
	}
}

// BenchmarkPut is an edit of one subscription, published.
func BenchmarkPut(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, _ := filled(b, n, 1, nil)
			subs := make([]*belfry.Subscription, 1024)
			for i := range subs {
				subs[i] = distinct(2_000_000+i, 1, nil)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := x.Put(subs[i%len(subs)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkCollect is what the collector costs with a million subscriptions
// in memory.
func BenchmarkCollect(b *testing.B) {
	x, _ := filled(b, 1_000_000, 1, nil)
	for b.Loop() {
		runtime.GC()
	}
	runtime.KeepAlive(x)
}

func BenchmarkExplain100k(b *testing.B) {
	x, _ := filled(b, 100_000, 1, nil)
	for b.Loop() {
		x.Snapshot().Explain(benchEvent(1), benchFacts, 100)
	}
}

// feature: NEW-12 (any number of subscriptions on one binary)
func TestIndexMemory(t *testing.T) {
	const n = 50_000
	for name, residual := range map[string]func(int) string{"liftable": nil, "constants": constants, "computed": computed, "shapes": shapes} {
		x, bytes := filled(t, n, 1, residual)
		t.Logf("%s: %.0f bytes per subscription", name, bytes)
		if bytes > 600 {
			t.Errorf("%s: %.0f bytes per subscription, at most 600 are allowed", name, bytes)
		}
		runtime.KeepAlive(x)
	}
}

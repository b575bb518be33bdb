package match

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// distinct is the i-th of many subscriptions with a filter of its own, made as
// a store makes it: no memory shared with another.
func distinct(i int) *belfry.Subscription {
	var s belfry.Subscription
	doc := fmt.Sprintf(`{"id":"%s","title":"Changes of a course","scope":{"object":"category/2","applies":"subtree"},"types":["core.course_*"],
		"filter":"event.data.shortname == 'course-%d' && event.data.kind == 'open'","recipients":[{"explicit":{"users":["user/%d"]}}],
		"owner":"user/%d","origin":"person","state":"active"}`, belfry.NewID(belfry.SubscriptionPrefix, time.UnixMilli(int64(i))), i, i%1000, i%1000)
	if err := json.Unmarshal([]byte(doc), &s); err != nil {
		panic(err)
	}
	return &s
}

func filled(tb testing.TB, n int) (*Index, float64) {
	var before, after runtime.MemStats
	x := New()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		if err := x.Put(distinct(i)); err != nil {
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
		Data: json.RawMessage(fmt.Sprintf(`{"shortname":"course-%d","fullname":"Cardiopulmonary Resuscitation","kind":"open","id":%d}`, i, i)),
	}
}

func benchmarkMatch(b *testing.B, n int) {
	x, bytes := filled(b, n)
	f := chain("course/41:course", "category/7:category", "category/2:category", "site:site")
	events := make([]*belfry.Event, 64)
	for i := range events {
		events[i] = benchEvent(i * n / len(events))
	}
	snap := x.Snapshot()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if got := len(snap.Match(events[i%len(events)], f)); got != 1 {
			b.Fatalf("%d matches", got)
		}
		i++
	}
	b.ReportMetric(bytes, "bytes/subscription")
}

func BenchmarkMatch1k(b *testing.B)   { benchmarkMatch(b, 1_000) }
func BenchmarkMatch100k(b *testing.B) { benchmarkMatch(b, 100_000) }
func BenchmarkMatch1M(b *testing.B)   { benchmarkMatch(b, 1_000_000) }

func BenchmarkPut100k(b *testing.B) {
	x, _ := filled(b, 100_000)
	subs := make([]*belfry.Subscription, 1024)
	for i := range subs {
		subs[i] = distinct(200_000 + i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := x.Put(subs[i%len(subs)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkExplain100k(b *testing.B) {
	x, _ := filled(b, 100_000)
	f := chain("course/41:course", "category/7:category", "category/2:category", "site:site")
	for b.Loop() {
		x.Snapshot().Explain(benchEvent(1), f, 100)
	}
}

// feature: NEW-12 (any number of subscriptions on one binary)
func TestIndexMemory(t *testing.T) {
	const n = 50_000
	x, bytes := filled(t, n)
	t.Logf("%.0f bytes per subscription", bytes)
	if bytes > 1024 {
		t.Errorf("%.0f bytes per subscription, at most 1024 are allowed", bytes)
	}
	runtime.KeepAlive(x)
}

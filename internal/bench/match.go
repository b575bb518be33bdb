package bench

import (
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/match"
)

// matching fills an index with n subscriptions, each with a filter of its own,
// and gives the time one event takes to find its one match, and the bytes of
// memory a subscription takes, the subscription itself included.
func matching(n int, now time.Time) (took time.Duration, bytes float64, err error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	index := match.New()
	const chunk = 1000
	for from := 0; from < n; from += chunk {
		subs := make([]*belfry.Subscription, 0, chunk)
		for i := from; i < min(from+chunk, n); i++ {
			subs = append(subs, distinct(i))
		}
		if err = index.Edit(subs, nil); err != nil {
			return 0, 0, err
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	bytes = float64(after.HeapAlloc-before.HeapAlloc) / float64(n)

	facts := match.Facts{Now: now, Ancestors: []belfry.Object{
		{ID: "course/41", Type: "course", Parent: "category/7"}, {ID: "category/7", Type: "category", Parent: "category/2"},
		{ID: "category/2", Type: "category"}, {ID: belfry.RootObject, Type: "root"},
	}}
	events := make([]*belfry.Event, 512)
	for i := range events {
		k := i * n / len(events)
		events[i] = &belfry.Event{
			ID: "1", Source: "/bench", Type: "core.course_updated", Object: "course/41", Actor: "user/8",
			Data: json.RawMessage(fmt.Sprintf(`{"shortname":"course-%d","fullname":"Cardiopulmonary Resuscitation","kind":"open","id":%d}`, k, k)),
		}
	}
	snapshot := index.Snapshot()
	// The quickest round counts: what is measured is work without waiting, so
	// all that differs between rounds is what else the machine did.
	const rounds = 10
	took = time.Hour
	for range rounds {
		start := time.Now()
		const loops = 4
		for range loops {
			for _, e := range events {
				if found := len(snapshot.Match(e, facts)); found != 1 {
					return 0, 0, fmt.Errorf("an event matched %d of %d subscriptions, not 1", found, n)
				}
			}
		}
		took = min(took, time.Since(start)/time.Duration(loops*len(events)))
	}
	runtime.KeepAlive(index)
	return took, bytes, nil
}

// distinct is the i-th of many subscriptions, with strings of its own as they
// come from the database.
func distinct(i int) *belfry.Subscription {
	return &belfry.Subscription{
		ID: belfry.NewID(belfry.SubscriptionPrefix, time.UnixMilli(int64(i))), Title: fmt.Sprintf("Changes of course %d", i),
		Scope: belfry.Scope{Object: "category/2", Applies: belfry.AppliesSubtree}, Types: []string{"core.course_*"},
		Filter:     fmt.Sprintf("event.data.shortname == 'course-%d' && event.data.kind == 'open'", i),
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{fmt.Sprintf("user/%d", i)}}}},
		Owner:      fmt.Sprintf("user/%d", i), State: belfry.SubscriptionActive,
	}
}

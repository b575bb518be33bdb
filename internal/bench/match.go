package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/match"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/store"
)

// MatchReport is what an index of so many subscriptions costs, for a set whose
// filters are equalities alone and for one with a condition beside it in every
// filter.
type MatchReport struct {
	Liftable MatchSet `json:"liftable"`
	Residual MatchSet `json:"residual"`
}

// MatchSet is the figures of one set.
type MatchSet struct {
	Hits1     MatchTimes `json:"hits_1"`  // an event that one subscription wants
	Hits10    MatchTimes `json:"hits_10"` // an event that ten want
	Bytes     float64    `json:"bytes_per_subscription"`
	EditUS    EditTimes  `json:"edit_us"`              // one subscription changed and published
	CollectMS float64    `json:"collect_ms,omitempty"` // processor time of a garbage collection with the set in memory
	PauseUS   float64    `json:"pause_us"`             // the longest stop of the world of some collections
}

// MatchTimes are nanoseconds of one event.
type MatchTimes struct {
	Mean float64 `json:"mean"` // of the quickest round
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
}

// EditTimes are microseconds of one edit.
type EditTimes struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// LoadReport is what a start with so many subscriptions stored costs.
type LoadReport struct {
	Subscriptions int     `json:"subscriptions"`
	Seconds       float64 `json:"seconds"`
	CPUSeconds    float64 `json:"cpu_seconds,omitempty"` // of this process; left out where it cannot be told
	PeakBytes     int64   `json:"peak_bytes"`            // of resident memory above what was there before
	Bytes         int64   `json:"bytes"`                 // that stay
}

func (r *run) match(context.Context) error {
	r.report.Matching = map[string]*MatchReport{}
	for _, n := range r.Size.Match {
		var m MatchReport
		var err error
		if m.Liftable, err = matching(n, false, time.Now()); err != nil {
			return err
		}
		if m.Residual, err = matching(n, true, time.Now()); err != nil {
			return err
		}
		key := strconv.Itoa(n)
		r.report.Matching[key] = &m
		r.report.MatchNS[key] = m.Liftable.Hits1.Mean
		r.report.BytesPerSub = max(m.Liftable.Bytes, m.Residual.Bytes) // of the last, the biggest
	}
	runtime.GC() // what the index held must not weigh on what follows
	return nil
}

// matching fills an index with n subscriptions, each with a filter of its own,
// and measures it. Of the values they ask for, half are asked for by one
// subscription each, half by ten.
func matching(n int, residual bool, now time.Time) (set MatchSet, err error) {
	if n < 40 {
		return set, fmt.Errorf("an index of %d subscriptions is too small to be measured", n)
	}
	before := heap()
	index := match.New()
	const chunk = 1000
	for from := 0; from < n; from += chunk {
		subs := make([]*belfry.Subscription, 0, chunk)
		for i := from; i < min(from+chunk, n); i++ {
			subs = append(subs, distinct(i, valueOf(i, n), residual))
		}
		if err = index.Edit(subs, nil); err != nil {
			return set, err
		}
	}
	set.Bytes = rounded(float64(heap()-before) / float64(n))
	set.CollectMS, set.PauseUS = collecting()

	snapshot := index.Snapshot()
	if set.Hits1, err = timed(snapshot, 0, n/2, 1, now); err != nil {
		return set, err
	}
	if set.Hits10, err = timed(snapshot, n/2, n/2+(n-n/2)/10, 10, now); err != nil {
		return set, err
	}
	edits := make([]time.Duration, 2000)
	for i := range edits {
		k := i * (n / 2) / len(edits)
		changed := distinct(k, valueOf(k, n), residual)
		changed.ID = index.Snapshot().Match(event(k), facts(now))[0].Subscription.ID
		changed.Title = "Changed"
		start := time.Now()
		err = index.Put(changed)
		if edits[i] = time.Since(start); err != nil {
			return set, err
		}
	}
	slices.Sort(edits)
	set.EditUS = EditTimes{P50: rounded(micros(percentile(edits, 50))), P99: rounded(micros(percentile(edits, 99)))}
	if got := index.Snapshot().Len(); got != n {
		return set, fmt.Errorf("%d subscriptions after the edits, not %d", got, n)
	}
	return set, nil
}

// valueOf is the value that the i-th of n subscriptions asks for.
func valueOf(i, n int) int {
	if i < n/2 {
		return i
	}
	return n/2 + (i-n/2)/10
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// timed measures events that ask for values from one to another, spread so that
// what an event needs is mostly in no cache.
func timed(snapshot *match.Snapshot, from, to, hits int, now time.Time) (MatchTimes, error) {
	const rounds, most = 3, 16_384
	events := make([]*belfry.Event, min(to-from, most))
	for i := range events {
		events[i] = event(from + i*(to-from)/len(events))
	}
	where := facts(now)
	var took []time.Duration
	best := time.Duration(1 << 62)
	for range rounds {
		sum := time.Duration(0)
		for i := range events {
			e := events[(i*7919)%len(events)]
			start := time.Now()
			found := len(snapshot.Match(e, where))
			d := time.Since(start)
			if found != hits {
				return MatchTimes{}, fmt.Errorf("an event matched %d subscriptions, not %d", found, hits)
			}
			took = append(took, d)
			sum += d
		}
		// The quickest round counts: what is measured is work without waiting,
		// so all that differs between rounds is what else the machine did.
		best = min(best, sum/time.Duration(len(events)))
	}
	slices.Sort(took)
	return MatchTimes{Mean: rounded(float64(best)), P50: rounded(float64(percentile(took, 50))), P99: rounded(float64(percentile(took, 99)))}, nil
}

func event(value int) *belfry.Event {
	return &belfry.Event{
		ID: "1", Source: "/bench", Type: "core.course_updated", Object: "course/41", Actor: "user/8",
		Data: json.RawMessage(fmt.Sprintf(`{"shortname":"course-%d","fullname":"Cardiopulmonary Resuscitation","kind":"open","grade":1e9,"id":%d}`, value, value)),
	}
}

func facts(now time.Time) match.Facts {
	return match.Facts{Now: now, Ancestors: []belfry.Object{
		{ID: "course/41", Type: "course", Parent: "category/7"}, {ID: "category/7", Type: "category", Parent: "category/2"},
		{ID: "category/2", Type: "category"}, {ID: belfry.RootObject, Type: "root"},
	}}
}

// distinct is the i-th of many subscriptions, with strings of its own as they
// come from the database.
func distinct(i, value int, residual bool) *belfry.Subscription {
	filter := fmt.Sprintf("event.data.shortname == 'course-%d' && event.data.kind == 'open'", value)
	if residual {
		filter = fmt.Sprintf("event.data.shortname == 'course-%d' && event.data.grade > %d.5", value, i)
	}
	return &belfry.Subscription{
		ID: belfry.NewID(belfry.SubscriptionPrefix, time.UnixMilli(int64(i))), Title: fmt.Sprintf("Changes of course %d", i),
		Scope: belfry.Scope{Object: "category/2", Applies: belfry.AppliesSubtree}, Types: []string{"core.course_*"}, Filter: filter,
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{fmt.Sprintf("user/%d", i)}}}},
		Owner:      fmt.Sprintf("user/%d", i), Origin: "person", State: belfry.SubscriptionActive, Created: time.UnixMilli(int64(i)).UTC(),
	}
}

// heap is the memory in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// collecting is the processor time of a collection, and its longest stop.
func collecting() (ms, pauseUS float64) {
	runtime.GC()
	const times = 3
	before := processorTime()
	for range times {
		runtime.GC()
	}
	ms = micros(processorTime()-before) / times / 1000
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	for i := range uint32(times) {
		pauseUS = max(pauseUS, float64(m.PauseNs[(m.NumGC-1-i)%256])/1000)
	}
	return rounded(ms), rounded(pauseUS)
}

// loading measures what a start reads: subscriptions of the residual set from a
// real database into the index.
func (r *run) loading(ctx context.Context) error {
	place, err := r.places.next(ctx)
	if err != nil {
		return err
	}
	defer r.places.empty(place)
	url := place.url
	if url == "" {
		url = "sqlite:" + place.dir
	}
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(ctx, store.Options{URL: url, Log: log, Now: time.Now})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	const chunk = 2000
	n := r.Size.Load
	for from := 0; from < n; from += chunk {
		ch := belfry.Changes{Tenant: belfry.DefaultTenant}
		for i := from; i < min(from+chunk, n); i++ {
			ch.Subscriptions = append(ch.Subscriptions, *distinct(i, i, true))
		}
		if _, err := db.Apply(ctx, ch); err != nil {
			return err
		}
	}
	debug.FreeOSMemory()
	before, err := residentSize(os.Getpid())
	if err != nil {
		return err
	}
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		most := before
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if now, err := residentSize(os.Getpid()); err == nil {
				most = max(most, now)
			}
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	inUse := heap()
	subs := pipeline.NewSubscriptions(db, log)
	start, worked := time.Now(), processorTime()
	err = subs.Load(ctx, belfry.DefaultTenant)
	took := time.Since(start)
	worked = processorTime() - worked
	close(stop)
	most := <-peak
	if err != nil {
		return err
	}
	snapshot, err := subs.Snapshot(ctx, belfry.DefaultTenant)
	if err != nil {
		return err
	}
	if got, want := snapshot.Len(), n+pipeline.BuiltIns(); got != want {
		return fmt.Errorf("%d subscriptions were loaded, not %d", got, want)
	}
	r.report.Load = &LoadReport{Subscriptions: n, Seconds: rounded(took.Seconds()), CPUSeconds: rounded(worked.Seconds()), PeakBytes: most - before, Bytes: int64(heap() - inUse)}
	runtime.KeepAlive(snapshot)
	return nil
}

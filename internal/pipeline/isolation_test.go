package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testtime"
)

func percentile99(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)*99/100]
}

func to(prefix string) func(string) bool {
	return func(dest string) bool { return strings.HasPrefix(dest, prefix) }
}

// Fifty endpoints of which five hang, and then two hundred of which a hundred
// and fifty do: more than all places there are. Those that answer are told as
// fast as if they were alone. Time is virtual: all of what is measured is
// waiting for one another.
func TestHangingDestinationsDelayNobody(t *testing.T) {
	const rounds = 120
	for _, c := range []struct{ healthy, hanging, healthyFirst int }{{45, 5, 0}, {50, 150, 20}} {
		t.Run(fmt.Sprintf("%d of %d hang", c.hanging, c.healthy+c.hanging), func(t *testing.T) {
			run := func(hanging int) (p time.Duration) {
				testtime.Test(t, func(t *testing.T) {
					post := newPost(t, sqlite(t))
					post.answer = func(ctx context.Context, dest string, _ int) belfry.Outcome {
						if strings.HasPrefix(dest, "hang") {
							return takes(ctx, 10*time.Second)
						}
						return takes(ctx, 5*time.Millisecond)
					}
					post.start()
					for round := range rounds {
						var letters []letter
						for i := range c.healthy {
							letters = append(letters, letter{dest: fmt.Sprintf("good%03d", i)})
						}
						if round >= c.healthyFirst {
							for i := range hanging {
								letters = append(letters, letter{dest: fmt.Sprintf("hang%03d", i)})
							}
						}
						post.plan("t", false, letters...)
						<-time.After(20 * time.Millisecond)
					}
					<-time.After(time.Second)
					if n := post.count(to("good")); n != rounds*c.healthy {
						t.Errorf("%d of %d healthy deliveries arrived", n, rounds*c.healthy)
					}
					post.once()
					p = percentile99(post.latencies(to("good")))
				})
				return p
			}
			alone, beside := run(0), run(c.hanging)
			t.Logf("p99 alone %v, beside hanging ones %v", alone, beside)
			if beside > 2*alone {
				t.Errorf("p99 of the healthy is %v beside %d that hang, %v without", beside, c.hanging, alone)
			}
		})
	}
}

// A tenant whose destinations all hang and who has more waiting than memory
// holds does not keep another from being told at once.
func TestOneTenantsBacklogStallsNoOther(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		post := newPost(t, sqlite(t))
		post.tune = func(o *DispatcherOptions) { o.Window, o.Queue = 512, 64 }
		post.answer = func(ctx context.Context, dest string, _ int) belfry.Outcome {
			if strings.HasPrefix(dest, "hang") {
				return takes(ctx, 10*time.Second)
			}
			return takes(ctx, 5*time.Millisecond)
		}
		post.start()
		for range 30 {
			var letters []letter
			for i := range 100 {
				letters = append(letters, letter{dest: fmt.Sprintf("hang%03d", i)})
			}
			post.plan("big", false, letters...)
		}
		post.plan("small", false, letter{dest: "good"})
		<-time.After(5 * time.Second) // until it is known who hangs
		for range 99 {
			post.plan("small", false, letter{dest: "good"})
			post.plan("big", false, letter{dest: "also good"})
			<-time.After(20 * time.Millisecond)
		}
		<-time.After(time.Second)
		for dest, n := range map[string]int{"good": 100, "also good": 99} {
			list := post.latencies(to(dest))
			if len(list) != n || percentile99(list) > 100*time.Millisecond {
				t.Errorf("%s: %d of %d arrived, p99 %v", dest, len(list), n, percentile99(append(list, 0)))
			}
		}
		post.stop()
	})
}

// counted counts the rows that are read of one destination.
type counted struct {
	DeliveryStore
	mu   sync.Mutex
	rows int
}

func (c *counted) DueFor(ctx context.Context, tenant, destination string, urgent bool, after belfry.DueKey, until time.Time, limit int) ([]belfry.Delivery, error) {
	rows, err := c.DeliveryStore.DueFor(ctx, tenant, destination, urgent, after, until, limit)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows += len(rows)
	return rows, err
}

// A broken destination is probed with one delivery at a time, further and
// further apart, its backlog stays on disk and is not read meanwhile; when it
// comes back all of it arrives. One that flaps is not trusted as at first.
// feature: PEER-5
func TestBrokenDestinationIsProbedAndItsBacklogKept(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		post := newPost(t, sqlite(t))
		reads := &counted{DeliveryStore: post.db}
		post.tune = func(o *DispatcherOptions) { o.Store = reads }
		post.waits["broken"] = slices.Repeat([]time.Duration{time.Second}, 500)
		var mu sync.Mutex
		up := false
		var tries []time.Time
		post.answer = func(context.Context, string, int) belfry.Outcome {
			mu.Lock()
			defer mu.Unlock()
			tries = append(tries, time.Now())
			if up {
				return delivered()
			}
			return belfry.Outcome{Kind: belfry.OutcomeRetry, Status: 500}
		}
		post.start()
		for range 600 {
			post.plan("t", false, letter{dest: "broken"})
		}
		<-time.After(time.Hour)
		mu.Lock()
		n, probes := len(tries), tries[failuresToOpen:]
		// First those in flight as it broke, then 10 s, 20 s ... 5 min.
		if n < 15 || n > 25 {
			t.Errorf("%d tries within an hour", n)
		}
		for i, least := range []time.Duration{firstCooldown, 2 * firstCooldown, 4 * firstCooldown, 8 * firstCooldown, 16 * firstCooldown, maxCooldown, maxCooldown} {
			if gap := probes[i].Sub(tries[failuresToOpen-1+i]); gap < least || gap > least+time.Second {
				t.Errorf("probe %d came after %v, want %v", i+1, gap, least)
			}
		}
		mu.Unlock()
		reads.mu.Lock()
		if reads.rows > 2*n {
			t.Errorf("%d rows were read for %d tries", reads.rows, n)
		}
		reads.mu.Unlock()
		if f := post.d.Figures(); f.Broken != 1 || f.Destinations != 1 || f.Queued > 1 {
			t.Errorf("figures of one broken destination: %+v", f)
		}
		if st, known := post.d.Destination("t", belfry.ChannelWebhook, "broken"); !known || st.Breaker != "open" || st.Failures < failuresToOpen ||
			!st.OnDisk || !st.NextProbe.After(time.Now()) || time.Since(st.FailingSince) < 59*time.Minute {
			t.Errorf("status of a broken destination: %+v", st)
		}
		if held := post.d.InFlight(); held > 1 {
			t.Errorf("%d deliveries are in memory while nothing can be sent", held)
		}
		mu.Lock()
		up = true
		mu.Unlock()
		<-time.After(maxCooldown + time.Minute)
		if n, open := post.count(to("broken")), post.open("t"); n != 600 || open != 0 {
			t.Errorf("%d of 600 arrived when it was back, %d are open", n, open)
		}
		post.once()
		post.stop()
	})
}

// feature: PEER-5
func TestFlappingIsNotTrustedAsAtFirst(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	fail, good := belfry.Outcome{Kind: belfry.OutcomeRetry}, belfry.Outcome{Kind: belfry.OutcomeDelivered}
	h := newHealth()
	breaks := func() time.Duration {
		for !h.note(fail, now) {
			now = now.Add(time.Second)
		}
		return h.openUntil.Sub(now)
	}
	for i, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, maxCooldown, maxCooldown} {
		if got := breaks(); got != want {
			t.Fatalf("break %d lasts %v, want %v", i+1, got, want)
		}
		now = h.openUntil
		h.note(good, now)
		if h.probing() {
			t.Fatal("a success should close it")
		}
	}
	for range wellAfter {
		h.note(good, now)
	}
	if got := breaks(); got != firstCooldown {
		t.Errorf("after it did well a break lasts %v, want %v", got, firstCooldown)
	}
	if h.since.IsZero() || !h.since.Before(now) {
		t.Errorf("failing since %v", h.since)
	}
}

// feature: PEER-10
func TestRatesAndConcurrencyAreKept(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		post := newPost(t, sqlite(t))
		post.grant = map[string]terms{"ten": {rate: 10}, "tenth": {rate: 0.1}, "two": {concurrency: 2}}
		var mu sync.Mutex
		under, most := map[string]int{}, map[string]int{}
		post.answer = func(ctx context.Context, dest string, _ int) belfry.Outcome {
			mu.Lock()
			under[dest]++
			most[dest] = max(most[dest], under[dest])
			mu.Unlock()
			defer func() {
				mu.Lock()
				under[dest]--
				mu.Unlock()
			}()
			return takes(ctx, 100*time.Millisecond)
		}
		post.start()
		for range 200 {
			post.plan("t", false, letter{dest: "ten"}, letter{dest: "two"}, letter{dest: "free"})
		}
		for range 5 {
			post.plan("t", false, letter{dest: "tenth"})
		}
		<-time.After(65 * time.Second)
		post.stop()
		if n := post.count(to("two")); n != 200 || most["two"] != 2 {
			t.Errorf("%d of 200 arrived by at most %d at once, want 2", n, most["two"])
		}
		if n := post.count(to("free")); n != 200 || most["free"] < 16 {
			t.Errorf("%d of 200 arrived by at most %d at once, want many", n, most["free"])
		}
		for dest, c := range map[string]struct {
			n      int
			rate   float64
			atOnce int
		}{"ten": {200, 10, 10}, "tenth": {5, 0.1, 1}} {
			var at []time.Time
			for _, s := range post.sent {
				if s.dest == dest {
					at = append(at, s.began)
				}
			}
			slices.SortFunc(at, time.Time.Compare)
			if len(at) != c.n {
				t.Errorf("%s: %d of %d arrived", dest, len(at), c.n)
				continue
			}
			for i := range at {
				for k := i + c.atOnce; k < len(at); k++ {
					if limit := float64(c.atOnce) + c.rate*at[k].Sub(at[i]).Seconds() + 0.5; float64(k-i) > limit {
						t.Fatalf("%s: %d sends within %v", dest, k-i+1, at[k].Sub(at[i]))
					}
				}
			}
			// As fast as it may: nothing is lost by waiting too long.
			if took, least := at[len(at)-1].Sub(at[0]).Seconds(), float64(c.n-c.atOnce)/c.rate; took > 1.1*least+0.5 {
				t.Errorf("%s: took %.1fs, want about %.1fs", dest, took, least)
			}
		}
	})
}

// A destination that says "too much" is left alone for as long as it asks, and
// that burns the tries of those that were under way only.
func TestThrottledDestinationIsLeftAlone(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		post := newPost(t, sqlite(t))
		var mu sync.Mutex
		begun := time.Now()
		refused := 0
		post.answer = func(context.Context, string, int) belfry.Outcome {
			mu.Lock()
			defer mu.Unlock()
			if left := time.Minute - time.Since(begun); left > 0 {
				refused++
				return belfry.Outcome{Kind: belfry.OutcomeRetry, Status: 429, Throttled: true, After: left}
			}
			return delivered()
		}
		post.start()
		for range 300 {
			post.plan("t", false, letter{dest: "busy"})
		}
		<-time.After(2 * time.Minute)
		post.stop()
		if n := post.count(to("busy")); n != 300 || refused > firstConcurrency {
			t.Errorf("%d of 300 arrived, %d were refused", n, refused)
		}
	})
}

// What is urgent goes before what waits, also where more waits than memory
// holds, and does not keep the rest from going on.
func TestUrgentGoesFirstAndStarvesNobody(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		post := newPost(t, sqlite(t))
		post.cap = 4
		post.tune = func(o *DispatcherOptions) { o.Window, o.Queue = 512, 64 }
		post.answer = func(ctx context.Context, _ string, _ int) belfry.Outcome { return takes(ctx, 50*time.Millisecond) }
		post.start()
		for range 300 { // 80 a second at most: this is for 15 seconds
			post.plan("t", false, letter{dest: "a"}, letter{dest: "b"}, letter{dest: "c", priority: belfry.PriorityDigest}, letter{dest: "d"})
		}
		before := post.count(to(""))
		var urgent []string
		for range 40 { // more urgent ones than can be sent
			for range 6 {
				urgent = append(urgent, post.plan("t", false, letter{dest: "a", priority: belfry.PriorityUrgent})...)
			}
			<-time.After(50 * time.Millisecond)
		}
		<-time.After(3 * time.Second)
		post.mu.Lock()
		first, others := 0, 0
		for _, s := range post.sent[before:] {
			if slices.Contains(urgent, s.id) {
				first++
			} else if others++; first == len(urgent) {
				break
			}
		}
		post.mu.Unlock()
		if first != len(urgent) || others > first || others < first/16 {
			t.Errorf("with %d of %d urgent ones %d others were sent", first, len(urgent), others)
		}
		<-time.After(20 * time.Second)
		if n := post.count(to("")); n != 4*300+len(urgent) {
			t.Errorf("%d of %d arrived", n, 4*300+len(urgent))
		}
		post.once()
		post.stop()
	})
}

// A hundred thousand addresses with a message each leave nothing behind.
func TestManyDestinationsLeaveNothingBehind(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	post := newPost(t, sqlite(t))
	post.relay = true
	post.answer = func(context.Context, string, int) belfry.Outcome { return delivered() }
	post.start()
	for at := 0; at < n; at += 500 {
		letters := make([]letter, 500)
		for i := range letters {
			letters[i] = letter{dest: fmt.Sprintf("user%06d@example.org", at+i)}
		}
		post.plan("t", false, letters...)
	}
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for post.open("t") > 0 && time.Now().Before(deadline) {
		<-tick.C
	}
	post.stop()
	post.once()
	if got := post.count(to("")); got != n || len(post.d.dests) != 0 || post.d.InFlight() != 0 || post.d.bytes != 0 {
		t.Errorf("%d of %d arrived; %d destinations and %d deliveries are in memory", got, n, len(post.d.dests), post.d.InFlight())
	}
}

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// follows are failures on a real store whose writes and reads are counted.
type follows struct {
	*testing.T
	*Failures
	db            *store.DB
	now           time.Time
	reads, writes int
	broken        error
}

func (f *follows) Failing(ctx context.Context, tenant string, endpoints []string) (map[string]belfry.Failing, error) {
	f.reads++
	return f.db.Failing(ctx, tenant, endpoints)
}

func (f *follows) NoteFailing(ctx context.Context, tenant string, changes []belfry.Failing) error {
	f.writes++
	if f.broken != nil {
		return f.broken
	}
	return f.db.NoteFailing(ctx, tenant, changes)
}

func newFollows(t *testing.T) *follows {
	f := &follows{T: t, db: sqlite(t), now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	f.restart()
	return f
}

// restart is another process.
func (f *follows) restart() {
	f.Failures = &Failures{Store: f, Now: func() time.Time { return f.now }}
}

// calls are endpoints called one after the other: "1+ 2-" is a success of ep_1
// and a failure of ep_2.
func calls(text string) (cs []Call) {
	for c := range strings.FieldsSeq(text) {
		ep := "ep_" + c[:len(c)-1]
		call := Call{Delivery: &belfry.Delivery{Tenant: belfry.DefaultTenant, Channel: belfry.ChannelWebhook, Address: ep, Destination: ep, Shard: len(ep)}}
		if call.Outcome.Kind = belfry.OutcomeDelivered; strings.HasSuffix(c, "-") {
			call.Outcome = belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "it hangs"}
		}
		cs = append(cs, call)
	}
	return cs
}

// call notes calls, and expects which endpoints have failed since when.
func (f *follows) call(text string, want map[string]time.Time) {
	f.Helper()
	failed, err := f.Note(context.Background(), calls(text))
	if err != f.broken && !errors.Is(err, f.broken) {
		f.Errorf("%s: %v", text, err)
	}
	got := map[string]time.Time{}
	for _, x := range failed {
		got[strings.TrimPrefix(x.Delivery.Address, "ep_")] = x.Since
	}
	if len(got) != len(failed) || !maps.EqualFunc(got, want, time.Time.Equal) {
		f.Errorf("%s: failing are %v, want %v", text, got, want)
	}
}

// stored expects whom the table has.
func (f *follows) stored(want map[string]time.Time) {
	f.Helper()
	list, err := f.db.Failing(context.Background(), belfry.DefaultTenant, []string{"ep_1", "ep_2", "ep_3"})
	if err != nil {
		f.Fatal(err)
	}
	got := map[string]time.Time{}
	for ep, x := range list {
		got[strings.TrimPrefix(ep, "ep_")] = x.Since
	}
	if !maps.EqualFunc(got, want, time.Time.Equal) {
		f.Errorf("the table has %v, want %v", got, want)
	}
}

type since = map[string]time.Time

// feature: PEER-5
func TestFailuresAreRememberedOverRestarts(t *testing.T) {
	f := newFollows(t)
	start := f.now
	f.call("1+", nil)
	f.call("1-", since{"1": start})
	f.now = f.now.Add(time.Hour)
	f.call("1-", since{"1": start})
	f.restart()
	f.now = f.now.Add(time.Hour)
	f.call("1-", since{"1": start})
	f.call("1+", nil)
	f.stored(nil)
	f.now = f.now.Add(time.Hour)
	f.call("1-", since{"1": f.now})
}

// An endpoint that fails now and then costs the table nothing, one that goes on
// failing a row and a write a minute, and many at once as much as one.
// feature: PEER-5, NEW-10
func TestFailingNowAndThenCostsNoWrite(t *testing.T) {
	f := newFollows(t)
	for range 500 {
		f.call("1+ 2- 2- 1- 3+ 1+ 2+ 3-", since{"3": f.now})
		f.now = f.now.Add(20 * time.Millisecond)
		f.call("3+", nil)
		f.now = f.now.Add(20 * time.Millisecond)
	}
	if f.reads != 1 || f.writes != 0 {
		t.Errorf("%d reads and %d writes, want 1 and none", f.reads, f.writes)
	}
	start := f.now
	for range 3 * 60 * 4 {
		f.call("1- 2- 3+", since{"1": start, "2": start})
		f.now = f.now.Add(250 * time.Millisecond)
	}
	if f.stored(since{"1": start, "2": start}); f.writes != 3 {
		t.Errorf("%d writes in three minutes, want 3", f.writes)
	}
	f.call("1+ 2+ 3-", since{"3": f.now})
	if f.stored(nil); f.writes != 4 {
		t.Errorf("%d writes, want one more for both that work again", f.writes)
	}
	f.now = f.now.Add(time.Hour)
	f.call("1+ 2+", nil) // of others: it notes what has failed only once
	f.stored(since{"3": f.now.Add(-time.Hour)})
}

// A success ends what the table says at once, also when the endpoint fails again
// in the same moment: whoever comes after a crash would hold it against it.
// feature: PEER-5
func TestASuccessBetweenFailuresIsNoted(t *testing.T) {
	f := newFollows(t)
	start := f.now
	f.call("1-", since{"1": start})
	f.now = f.now.Add(4 * 24 * time.Hour)
	f.call("1-", since{"1": start})
	f.stored(since{"1": start})
	f.now = f.now.Add(time.Second)
	f.call("1- 1+ 1-", since{"1": f.now})
	f.stored(since{"1": f.now})
	f.restart()
	f.call("1-", since{"1": f.now})
}

// What has failed last is in the table when the process has ended in order.
// feature: PEER-5
func TestFailuresAreSettled(t *testing.T) {
	f := newFollows(t)
	start := f.now
	f.call("1- 2- 3- 2+", since{"1": start, "3": start})
	f.now = f.now.Add(time.Second)
	f.stored(nil)
	if err := f.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	f.stored(since{"1": start, "3": start})
	f.restart()
	f.now = f.now.Add(time.Second)
	f.call("3- 1+ 2-", since{"2": f.now, "3": start})
	f.stored(since{"3": start})
}

// A failure of days ago is not held against an endpoint that has worked for
// another node since.
// feature: PEER-5, NEW-12
func TestFailuresOfAShardThatWasElsewhere(t *testing.T) {
	f := newFollows(t)
	start := f.now
	f.call("1-", since{"1": start})
	f.now = f.now.Add(time.Minute)
	f.call("1-", since{"1": start})
	other := &follows{T: t, db: f.db, now: f.now.Add(time.Hour)}
	other.restart()
	other.call("1+", nil)
	f.now = f.now.Add(5 * 24 * time.Hour)
	f.Forget([]int{calls("1-")[0].Delivery.Shard})
	f.call("1-", since{"1": f.now})
}

// What could not be written is written with the next call.
// feature: PEER-5
func TestFailuresOutliveABrokenTable(t *testing.T) {
	f := newFollows(t)
	start := f.now
	f.call("1-", since{"1": start})
	f.now = f.now.Add(time.Minute)
	f.broken = errors.New("no database")
	f.call("1-", since{"1": start})
	f.broken = nil
	f.stored(nil)
	f.call("1-", since{"1": start})
	f.stored(since{"1": start})
	f.broken = errors.New("no database")
	f.call("1+", nil)
	f.stored(since{"1": start})
	f.broken = nil
	f.call("1+", nil)
	f.stored(nil)
}

// Whoever notes at once with others, the table says in the end what is so.
// feature: PEER-5
func TestFailuresAtOnce(t *testing.T) {
	db := sqlite(t)
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var passed atomic.Int64 // of time, in seconds
	f := &Failures{Store: db, Now: func() time.Time { return begin.Add(time.Duration(passed.Load()) * time.Second) }}
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			chance := rand.New(rand.NewPCG(uint64(n), 0))
			for range 200 {
				text := fmt.Sprintf("%d%c %d%c", 1+chance.IntN(3), "+-"[chance.IntN(2)], 1+chance.IntN(3), "+-"[chance.IntN(2)])
				if _, err := f.Note(t.Context(), calls(text)); err != nil {
					t.Error(err)
				}
				passed.Add(chance.Int64N(12))
			}
		})
	}
	all.Wait()
	passed.Add(10)
	failed, err := f.Note(t.Context(), calls("1- 3-")) // they grow old enough
	if err != nil || len(failed) != 2 {
		t.Fatalf("%v, %v", failed, err)
	}
	passed.Add(10)
	if _, err := f.Note(t.Context(), calls("1- 2+ 3-")); err != nil {
		t.Fatal(err)
	}
	got, err := db.Failing(t.Context(), belfry.DefaultTenant, []string{"ep_1", "ep_2", "ep_3"})
	if err != nil || len(got) != 2 {
		t.Fatalf("the table has %v, want both that fail (%v)", got, err)
	}
	for _, x := range failed {
		if s := got[x.Delivery.Address].Since; !s.Equal(x.Since) {
			t.Errorf("%s fails since %v, and the table has %v", x.Delivery.Address, x.Since, s)
		}
	}
}

// feature: PEER-5
func TestFailedTooLong(t *testing.T) {
	now := time.Date(2030, 1, 10, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, c := range []struct {
		name   string
		e      belfry.Endpoint
		since  time.Time
		period time.Duration
		want   bool
	}{
		{"long", belfry.Endpoint{State: belfry.EndpointActive}, now.Add(-5 * day), 5 * day, true},
		{"not long", belfry.Endpoint{State: belfry.EndpointActive}, now.Add(-4 * day), 5 * day, false},
		{"working", belfry.Endpoint{State: belfry.EndpointActive}, time.Time{}, 5 * day, false},
		{"never", belfry.Endpoint{State: belfry.EndpointActive}, now.Add(-50 * day), 0, false},
		{"its own", belfry.Endpoint{State: belfry.EndpointActive, DisableAfter: "24h"}, now.Add(-2 * day), 5 * day, true},
		{"never by its own", belfry.Endpoint{State: belfry.EndpointActive, DisableAfter: "0s"}, now.Add(-20 * day), 5 * day, false},
		{"resumed lately", belfry.Endpoint{State: belfry.EndpointActive, Resumed: now.Add(-day)}, now.Add(-20 * day), 5 * day, false},
		{"disabled already", belfry.Endpoint{State: belfry.EndpointDisabled}, now.Add(-20 * day), 5 * day, false},
	} {
		if got := FailedTooLong(&c.e, c.since, now, c.period); (got != "") != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

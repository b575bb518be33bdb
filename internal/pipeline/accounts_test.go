package pipeline

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/testtime"
)

func TestSliceSize(t *testing.T) {
	for _, c := range []struct {
		limit int
		span  time.Duration
		want  int
	}{
		{1, time.Second, 1}, {3, time.Second, 1}, {10, time.Second, 3}, {1000, time.Second, 250},
		{1, day, 1}, {100, day, 1}, {1000, day, 10}, {1_000_000, day, maxSlice},
	} {
		if got := sliceSize(c.limit, c.span); got != c.want {
			t.Errorf("of %d in %v: %d, want %d", c.limit, c.span, got, c.want)
		}
	}
}

// half are the shards of one of two processes.
type half struct {
	Alone
	odd int
}

func (h half) Has(_ string, shard int) bool { return shard%2 == h.odd }
func (h half) Shared() bool                 { return true }
func (h half) Mine(string) []int {
	var mine []int
	for s := h.odd; s < belfry.Shards; s += 2 {
		mine = append(mine, s)
	}
	return mine
}

// permitCalls counts the calls for permits.
type permitCalls struct {
	*store.DB
	mu sync.Mutex
	n  int
}

func (p *permitCalls) TakePermits(ctx context.Context, tenant, channel string, start time.Time, span time.Duration, limit, want int) (int, error) {
	p.mu.Lock()
	p.n++
	p.mu.Unlock()
	return p.DB.TakePermits(ctx, tenant, channel, start, span, limit, want)
}

func people(n int) (letters []letter) {
	for i := range n {
		letters = append(letters, letter{dest: fmt.Sprintf("user%04d", i)})
	}
	return letters
}

// Two processes and two tenants keep the limit a second of one account
// together, use it, and leave memory to others.
// feature: S3-20
func TestLimitASecondOverProcesses(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		db := sqlite(t)
		permits := &permitCalls{DB: db}
		posts := make([]*post, 2)
		for i := range posts {
			p := newPost(t, db)
			p.relay, p.limits = true, channel.Limits{PerSecond: 3}
			p.answer = func(context.Context, string, int) belfry.Outcome { return delivered() }
			p.tune = func(o *DispatcherOptions) { o.Shards, o.Permits, o.Poll = half{odd: i}, permits, time.Second }
			posts[i] = p
			p.start()
		}
		const each = 120
		begun := time.Now()
		posts[0].plan("a", false, people(each)...)
		posts[1].plan("b", false, people(each)...)
		<-time.After(2 * time.Second)
		for i, p := range posts {
			if n := p.d.InFlight(); n > 3*2*(4*3+16) {
				t.Errorf("process %d has %d deliveries in memory", i, n)
			}
		}
		for posts[0].open("a")+posts[0].open("b") > 0 {
			if time.Since(begun) > 10*time.Minute {
				t.Fatalf("%d and %d are still open", posts[0].open("a"), posts[0].open("b"))
			}
			<-time.After(time.Second)
		}
		took := time.Since(begun)
		perSecond := map[time.Time]int{}
		for _, p := range posts {
			p.stop()
			p.once()
			for _, s := range p.sent {
				perSecond[s.began.Truncate(time.Second)]++
			}
		}
		sent := 0
		for second, n := range perSecond {
			if sent += n; n > 3 {
				t.Errorf("%d sends within second %v", n, second)
			}
		}
		if sent != 2*each || took > 3*2*each/3*time.Second {
			t.Errorf("%d of %d were sent in %v", sent, 2*each, took)
		}
		if seconds := int(took/time.Second) + 1; permits.n > 8*seconds {
			t.Errorf("%d calls of the store in %d seconds", permits.n, seconds)
		}
	})
}

// What a day does not let through waits for the next: nothing is lost, no try
// is counted, nothing is tried meanwhile, others are not held up, and a clean
// stop gives back what it took.
// feature: S3-20
func TestLimitADayDelays(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		db := sqlite(t)
		permits := &permitCalls{DB: db}
		p := newPost(t, db)
		p.relay, p.limits = true, channel.Limits{PerDay: 1000}
		p.answer = func(context.Context, string, int) belfry.Outcome { return delivered() }
		p.tune = func(o *DispatcherOptions) { o.Permits = permits }
		p.start()
		midnight := time.Now().UTC().Truncate(day)
		all := func(string) bool { return true }

		p.plan("a", false, people(15)...)
		<-time.After(time.Minute)
		p.stop() // it had taken 20
		if got, err := db.TakePermits(context.Background(), belfry.AllTenants, belfry.ChannelWebhook, midnight, day, 1000, 1000); err != nil || got != 985 {
			t.Fatalf("after a clean stop %d are left (%v), want 985", got, err)
		}
		if err := db.ReturnPermits(context.Background(), belfry.AllTenants, belfry.ChannelWebhook, midnight, day, 985); err != nil {
			t.Fatal(err)
		}

		p.start()
		p.plan("a", false, people(1500)...)
		<-time.After(time.Minute)
		if n := p.count(all); n != 1000 {
			t.Fatalf("%d were sent on the first day, want 1000", n)
		}
		if n, f := p.d.InFlight(), p.d.Figures(); n != 0 || f.UsedUp != 1 || f.Queued != 0 {
			t.Errorf("%d deliveries are in memory while nothing may be sent: %+v", n, f)
		}
		calls := permits.n
		p.plan("b", false, letter{dest: "late", priority: belfry.PriorityNormal + 1}) // of another tenant with the same account
		<-time.After(20 * time.Hour)
		if permits.n > calls+1 {
			t.Errorf("%d calls of the store while it waits", permits.n-calls)
		}
		rows, err := db.DueDeliveries(context.Background(), "b", belfry.DueKey{}, midnight.Add(2*day), 10, nil)
		if err != nil || len(rows) != 1 || rows[0].Attempts != 0 || rows[0].State != belfry.Scheduled || !rows[0].Due.Equal(midnight.Add(day)) {
			t.Errorf("what waits is %+v (%v)", rows, err)
		}
		<-time.After(6 * time.Hour)
		if n := p.count(all); n != 1516 || p.open("a")+p.open("b") != 0 {
			t.Errorf("%d of 1516 were sent, %d are open", n, p.open("a")+p.open("b"))
		}
		p.once()

		// An edit of the limit counts at once.
		p.mu.Lock()
		p.limits = channel.Limits{}
		p.mu.Unlock()
		p.d.Relimit("a")
		calls = permits.n
		p.plan("a", false, people(2000)...)
		<-time.After(time.Minute)
		if n := p.count(all); n != 3516 || permits.n != calls {
			t.Errorf("%d of 3516 were sent without a limit, %d permits asked for", n, permits.n-calls)
		}
		p.stop()
	})
}

// What a tenant may send of what all share holds over all processes, takes
// nothing of the others' and says why something waits; when an account is used up
// for everybody the share is not touched.
// feature: S3-20
func TestShareOfATenant(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		db := sqlite(t)
		midnight := time.Now().UTC().Truncate(day)
		posts := make([]*post, 2)
		for i := range posts {
			p := newPost(t, db)
			p.relay, p.limits = true, channel.Limits{PerSecond: 1000, PerDay: 1000}
			p.shares = map[string]channel.Limits{"a": {PerDay: 100}, "c": {PerMinute: 30}}
			p.answer = func(context.Context, string, int) belfry.Outcome { return delivered() }
			p.tune = func(o *DispatcherOptions) { o.Shards, o.Poll = half{odd: i}, 5*time.Minute }
			posts[i] = p
			p.start()
		}
		of := func(tenant string) (n int) {
			for _, p := range posts {
				p.mu.Lock()
				for _, s := range p.sent {
					if strings.HasPrefix(s.dest, tenant) {
						n++
					}
				}
				p.mu.Unlock()
			}
			return n
		}
		letters := func(prefix string, n int) (list []letter) {
			for _, l := range people(n) {
				l.dest = prefix + l.dest
				list = append(list, l)
			}
			return list
		}
		posts[0].plan("a", false, letters("a", 250)...)
		posts[0].plan("b", false, letters("b", 300)...)
		<-time.After(10 * time.Minute)
		if a, b := of("a"), of("b"); a != 100 || b != 300 {
			t.Errorf("%d and %d were sent, want 100 and all 300", a, b)
		}
		if f := posts[0].d.Figures(); f.SharesUsedUp != 1 || f.UsedUp != 0 {
			t.Errorf("%+v", f)
		}
		waits, reason := 0, belfry.Reason{Code: belfry.OverShare, Detail: "100 a day: waits until " + midnight.Add(day).Format(time.RFC3339)}
		list, _, err := db.ListDeliveries(context.Background(), "a", store.DeliveryFilter{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			if d.State != belfry.Scheduled {
				continue
			}
			waits++
			if len(d.Because) == 0 || d.Because[len(d.Because)-1] != reason || d.Attempts != 0 || !d.Due.Equal(midnight.Add(day)) {
				t.Errorf("%+v", d)
			}
		}
		if waits != 150 {
			t.Errorf("%d wait for the next day, want 150", waits)
		}
		if got, err := db.TakePermits(context.Background(), belfry.AllTenants, belfry.ChannelWebhook, midnight, day, 1000, 1000); err != nil || got < 500 || got > 600 {
			t.Errorf("%d of 1000 are left to all (%v): what waits has taken of them", got, err)
		}

		// A limit a minute: as many in each, over both processes, and the rest in its
		// turn.
		<-time.After(time.Until(midnight.Add(day + 10*time.Minute)))
		begun := time.Now()
		posts[0].plan("c", false, letters("c", 300)...)
		for of("c") < 300 {
			if time.Since(begun) > 40*time.Minute {
				t.Fatalf("%d of 300 were sent in %v", of("c"), time.Since(begun))
			}
			<-time.After(10 * time.Second)
		}
		minutes := map[time.Time]int{}
		for _, p := range posts {
			p.stop()
			p.once()
			for _, s := range p.sent {
				if strings.HasPrefix(s.dest, "c") {
					minutes[s.began.Truncate(time.Minute)]++
				}
			}
		}
		for m, n := range minutes {
			if n > 30 {
				t.Errorf("%d sends in minute %v", n, m)
			}
		}
		t.Logf("300 at 30 a minute took %v", time.Since(begun))
		if n := of("a"); n != 200 {
			t.Errorf("%d of a were sent until the second day, want 200", n)
		}
	})
}

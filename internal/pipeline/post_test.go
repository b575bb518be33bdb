package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/store"
)

// post is a Dispatcher on a real store, with deliveries planned by hand and
// destinations that answer as a function says.
type post struct {
	t     testing.TB
	db    *store.DB
	d     *Dispatcher
	tune  func(*DispatcherOptions)
	grant map[string]terms           // by destination
	waits map[string][]time.Duration // by destination
	cap   int
	relay bool
	// limits are those of the account, shares those of tenants in it.
	limits channel.Limits
	shares map[string]channel.Limits
	// answer is called for each send, side by side; n counts those of the
	// delivery.
	answer func(ctx context.Context, dest string, n int) belfry.Outcome

	mu    sync.Mutex
	sent  []sent
	under []try
	tries map[string]int
	dest  map[string]string // of each delivery
	due   map[string]time.Time
	stop  func()
}

// sent is a send that ended well.
type sent struct {
	id, dest string
	began    time.Time
	at       time.Time
}

// try is a send, however it ended.
type try struct {
	id        string
	began, at time.Time
}

func newPost(t testing.TB, db *store.DB) *post {
	return &post{t: t, db: db, grant: map[string]terms{}, waits: map[string][]time.Duration{}, cap: 64, tries: map[string]int{},
		dest: map[string]string{}, due: map[string]time.Time{}}
}

func (p *post) Channel(tenant, _ string) (Channel, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Channel{Sender: p, Concurrency: p.cap, Relay: p.relay, Owner: belfry.AllTenants, Limits: p.limits, Share: p.shares[tenant]}, true
}

func (p *post) Expect(context.Context, string, []string) error { return nil }

func (p *post) Compose(_ context.Context, d *belfry.Delivery, _ *Payload) (Composed, error) {
	g := p.grant[d.Destination]
	return Composed{Target: channel.Target{Address: d.Destination}, Message: &belfry.Message{ID: d.ID}, Waits: p.waits[d.Destination],
		Rate: g.rate, Concurrency: g.concurrency}, nil
}

func (p *post) Send(ctx context.Context, target channel.Target, m *belfry.Message) belfry.Outcome {
	began := time.Now()
	p.mu.Lock()
	p.tries[m.ID]++
	n := p.tries[m.ID]
	p.mu.Unlock()
	out := p.answer(ctx, target.Address, n)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under = append(p.under, try{m.ID, began, time.Now()})
	if out.Kind == belfry.OutcomeDelivered {
		p.sent = append(p.sent, sent{m.ID, target.Address, began, time.Now()})
	}
	return out
}

func (p *post) Close() error { return nil }

// start makes the Dispatcher, with nothing in memory, and runs it.
func (p *post) start() {
	o := DispatcherOptions{
		Store: p.db, Channels: p, Composer: p, Aftermath: &goneList{}, Permits: p.db, Shards: Alone{}, Peers: Alone{}, In: &edits{}, Counters: NewCounters(),
		Log: slog.New(slog.DiscardHandler), Now: clock, Jitter: func() float64 { return 0.5 }, Grace: time.Millisecond,
	}
	if p.tune != nil {
		p.tune(&o)
	}
	p.d = NewDispatcher(o)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.d.Run(ctx) })
	p.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	p.t.Cleanup(p.stop)
}

// letter is a delivery to be planned.
type letter struct {
	dest     string
	line     int64
	priority int
}

// plan accepts an event of a tenant and commits deliveries of it, as the
// Planner does; kept: as if memory had had no room for them.
func (p *post) plan(tenant string, kept bool, letters ...letter) (ids []string) {
	p.t.Helper()
	ctx := context.Background()
	e := &belfry.Event{ID: belfry.NewID("", clock()), Source: "/test", Type: "x", Time: clock(), Object: "course/1"}
	receipts, err := p.db.AcceptEvents(ctx, []belfry.Draft{{Tenant: tenant, Event: e, Body: fmt.Appendf(nil, `{"id":%q,"source":"/test","type":"x"}`, e.ID)}})
	if err != nil {
		p.t.Fatal(err)
	}
	page := belfry.PlanPage{Tenant: tenant, EventID: receipts[0].EventID, Last: true}
	for _, l := range letters {
		d := belfry.Delivery{
			Tenant: tenant, EventID: page.EventID, ID: belfry.DeliveryID(page.EventID, 0, belfry.ChannelWebhook, l.dest), Channel: belfry.ChannelWebhook,
			Address: l.dest, Destination: l.dest, Shard: belfry.Shard(tenant, l.dest), Due: clock(), Line: l.line, Priority: l.priority,
		}
		page.Deliveries = append(page.Deliveries, d)
		ids = append(ids, d.ID)
	}
	payload := NewPayload(&belfry.Accepted{Tenant: tenant, EventID: page.EventID, At: receipts[0].At, Event: e})
	p.mu.Lock()
	for i, id := range ids {
		p.dest[id], p.due[id] = letters[i].dest, page.Deliveries[i].Due
	}
	p.mu.Unlock()
	places := make([]bool, len(page.Deliveries))
	if !kept {
		places = p.d.Reserve(page.Deliveries, payload)
	}
	errs, err := p.db.CommitPlans(ctx, []belfry.PlanPage{page})
	if err != nil || errs[0] != nil {
		p.t.Fatal(err, errs)
	}
	p.d.Handover(page.Deliveries, payload, places, false)
	return ids
}

// latencies are, for the destinations that are meant, the times from due to
// delivered.
func (p *post) latencies(meant func(dest string) bool) (list []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sent {
		if meant(s.dest) {
			list = append(list, s.at.Sub(p.due[s.id]))
		}
	}
	return list
}

func (p *post) count(meant func(dest string) bool) int { return len(p.latencies(meant)) }

// open is how many deliveries of a tenant still want a send.
func (p *post) open(tenant string) int64 {
	st, err := p.db.Stats(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	return st.Tenants[tenant].OpenDeliveries
}

// once checks that nothing was delivered twice.
func (p *post) once() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[string]bool{}
	for _, s := range p.sent {
		if seen[s.id] {
			p.t.Errorf("delivery %s to %s was delivered twice", s.id, s.dest)
		}
		seen[s.id] = true
	}
}

func delivered() belfry.Outcome { return belfry.Outcome{Kind: belfry.OutcomeDelivered} }

// takes waits like a receiver that takes so long.
func takes(ctx context.Context, d time.Duration) belfry.Outcome {
	if !sleep(ctx, d) {
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "timed out"}
	}
	return delivered()
}

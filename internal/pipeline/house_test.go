package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/render"
	"github.com/belfryhq/belfry/internal/route"
	"github.com/belfryhq/belfry/internal/secret"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testdb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

// receiver is a Sender that keeps what it is given. respond, when set, decides
// each outcome and may block.
type receiver struct {
	mu      sync.Mutex
	got     map[string]int // by delivery id
	order   map[string][]string
	total   int
	arrived *sync.Cond
	respond func(ctx context.Context, t channel.Target, m *belfry.Message) belfry.Outcome
}

func newReceiver() *receiver {
	r := &receiver{got: map[string]int{}, order: map[string][]string{}}
	r.arrived = sync.NewCond(&r.mu)
	return r
}

func (r *receiver) Send(ctx context.Context, t channel.Target, m *belfry.Message) belfry.Outcome {
	if r.respond != nil {
		if out := r.respond(ctx, t, m); out.Kind != belfry.OutcomeDelivered {
			return out
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got[m.ID]++
	r.total++
	to := t.Address
	if t.Endpoint != nil {
		to = t.Endpoint.ID
	}
	r.order[to] = append(r.order[to], m.ID)
	r.arrived.Broadcast()
	return belfry.Outcome{Kind: belfry.OutcomeDelivered, Status: 200}
}

func (r *receiver) Close() error { return nil }

// wait blocks until n different deliveries have arrived.
func (r *receiver) wait(t testing.TB, n int) {
	t.Helper()
	late := time.AfterFunc(60*time.Second, func() {
		r.mu.Lock()
		r.total = -1 << 40
		r.arrived.Broadcast()
		r.mu.Unlock()
	})
	defer late.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.got) < n {
		if r.total < 0 {
			t.Fatalf("%d of %d deliveries arrived within a minute", len(r.got), n)
		}
		r.arrived.Wait()
	}
}

func (r *receiver) once(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, n := range r.got {
		if n != 1 {
			t.Errorf("delivery %s was sent %d times", id, n)
		}
	}
}

type oneChannel struct{ r *receiver }

func (c oneChannel) Channel(string, string) (Channel, bool) {
	return Channel{Sender: c.r, Concurrency: 64}, true
}

func (c oneChannel) Routes(string) ([]route.ChannelInfo, []string) {
	return []route.ChannelInfo{{Name: "inbox", Kind: "inbox"}, {Name: "email", Kind: "email", Contact: "email"}}, []string{"inbox", "email"}
}

type noLinks struct{}

func (noLinks) Unsubscribe(_, subscription, principal, _ string) string {
	return "https://x.example/u/" + subscription + "-" + principal
}
func (noLinks) Why(d *belfry.Delivery) string { return "https://x.example/why/" + d.ID }
func (noLinks) Acknowledge(_, event, principal, address string) string {
	return "https://x.example/a/" + event + "-" + principal + address
}
func (noLinks) ListID(_, subscription string) string { return subscription + ".x.example" }

type builtin struct{}

func (builtin) Template(context.Context, string, []string, []belfry.Object) (*render.Set, error) {
	return &render.Set{}, nil
}

func (builtin) Own(words belfry.Words) (*render.Template, error) {
	return render.Compile(words.Subject, words.Body)
}

// goneList remembers which addresses were reported gone.
type goneList struct {
	mu   sync.Mutex
	list []string
}

func (g *goneList) Gone(_ context.Context, d *belfry.Delivery, _ belfry.Outcome) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, d.Address)
	return nil
}

func (g *goneList) Ended(context.Context, []Call) error { return nil }

func (g *goneList) Gained([]int) {}

func (g *goneList) Settle(context.Context) error { return nil }

// house is the pipeline on a real store.
type house struct {
	t     testing.TB
	db    *store.DB
	dir   *directory.Directory
	subs  *Subscriptions
	r     *receiver
	gone  goneList
	plan  *Planner
	send  *Dispatcher
	seal  *Sealer
	watch *Watch
	ex    *Explainer
	edits edits
	stop  func()
}

// edits are those of a house: what is made is found in the database before it is
// in force.
type edits struct{ sync.RWMutex }

// Reach waits for the edit that is being made.
func (e *edits) Reach(context.Context, string, int64) error {
	e.RLock()
	defer e.RUnlock()
	return nil
}

// Reached is beyond all versions: nothing is edited elsewhere.
func (e *edits) Reached(string) int64 { return math.MaxInt64 }

func clock() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func newHouse(t testing.TB, db *store.DB, tune func(*PlannerOptions, *DispatcherOptions)) *house {
	t.Helper()
	h := &house{t: t, db: db, r: newReceiver(), watch: NewWatch()}
	log := slog.New(slog.DiscardHandler)
	h.dir = directory.New(directory.Options{Store: db})
	h.subs = NewSubscriptions(db, log)
	box, err := secret.New([]string{secret.MakeKey()})
	if err != nil {
		t.Fatal(err)
	}
	facts := &Facts{Directory: h.dir, Acks: db}
	counters := NewCounters()
	do := DispatcherOptions{
		Store: db, Channels: oneChannel{h.r}, Composer: NewMessages(facts, h.subs, builtin{}, noLinks{}, box, clock),
		Aftermath: &h.gone, Counters: counters, Log: log, Now: clock, Jitter: func() float64 { return 0 },
		Permits: db, Shards: Alone{}, Peers: Alone{}, In: &h.edits, Poll: 50 * time.Millisecond,
	}
	stages := &Stages{Directory: h.dir, Subscriptions: h.subs, Channels: oneChannel{h.r}, Acts: db, Acks: db, Quotas: db, Groups: NewGroups(db), Problems: db, In: &h.edits}
	po := PlannerOptions{Store: db, Stages: stages, Watch: h.watch, Shards: Alone{}, Peers: Alone{}, Counters: counters, Log: log, Now: clock, Poll: 50 * time.Millisecond, Observed: func(string) {},
		Endings: &Endings{Store: db, Events: drafter{h}, Ended: h.ended}}
	if tune != nil {
		tune(&po, &do)
	}
	h.send = NewDispatcher(do)
	po.Dispatcher = h.send
	h.seal = NewSealer(SealerOptions{Store: db, Facts: facts, Stages: stages, Channels: oneChannel{h.r}, Dispatcher: h.send, Shards: do.Shards, Peers: do.Peers, Counters: counters,
		Log: log, Now: do.Now, Poll: 50 * time.Millisecond})
	po.Sealer = h.seal
	h.plan = NewPlanner(po)
	h.ex = &Explainer{Stages: stages, Store: traceRows{db}, Now: clock}
	return h
}

// drafter makes drafts of the house's own events.
type drafter struct{ h *house }

func (d drafter) Draft(_ context.Context, tenant string, events []belfry.Event) (drafts []belfry.Draft, err error) {
	for i := range events {
		body, err := json.Marshal(&events[i])
		if err != nil {
			return nil, err
		}
		drafts = append(drafts, belfry.Draft{Tenant: tenant, Event: &events[i], Body: body})
	}
	return drafts, nil
}

func (d drafter) Handover(accepted []belfry.Accepted) { d.h.plan.Handover(accepted) }

// ended is what the app does when events are ended.
func (h *house) ended(tenant string, cancelled, events []string) {
	h.send.Revoke(tenant, cancelled)
	for _, id := range events {
		h.plan.Wake(tenant, id)
	}
}

type traceRows struct{ *store.DB }

func (t traceRows) Trace(ctx context.Context, tenant string, q belfry.TraceQuery) (belfry.TraceRows, error) {
	got, err := t.DB.Trace(ctx, tenant, q.EventID, q.Principal, store.TracePage{After: q.After, Limit: q.Limit})
	rows := belfry.TraceRows{Deliveries: got.Deliveries, Suppressions: got.Suppressions, Planned: got.Planned, Next: got.Next}
	for _, r := range got.Matches {
		rows.Matches = append(rows.Matches, r.Matches...)
	}
	return rows, err
}

// run starts planning and sending; stop ends both, in order.
func (h *house) run() {
	ctxPlan, stopPlan := context.WithCancel(context.Background())
	ctxSend, stopSend := context.WithCancel(context.Background())
	var planning, sending sync.WaitGroup
	planning.Go(func() { _ = h.plan.Run(ctxPlan) })
	sending.Go(func() { _ = h.send.Run(ctxSend) })
	planning.Go(func() { _ = h.seal.Run(ctxPlan) })
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			stopPlan()
			planning.Wait()
			stopSend()
			sending.Wait()
		})
	}
	h.t.Cleanup(h.stop)
}

func (h *house) apply(ch belfry.Changes) {
	h.t.Helper()
	ch.Tenant = belfry.DefaultTenant
	h.edits.Lock()
	defer h.edits.Unlock()
	v, err := h.db.Apply(context.Background(), ch)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.subs.Publish(context.Background(), ch.Tenant, ch.Subscriptions); err != nil {
		h.t.Fatal(err)
	}
	h.dir.Published(ch.Tenant, v, &ch)
	h.seal.Look()
}

// endpoints makes n endpoints ep_000.. and a subscription of each to types.
func (h *house) endpoints(n int, types string) {
	var ch belfry.Changes
	for i := range n {
		id := fmt.Sprintf("ep_%03d", i)
		ch.Documents = append(ch.Documents, h.endpoint(id, belfry.EndpointActive, nil))
		ch.Subscriptions = append(ch.Subscriptions, belfry.Subscription{
			ID: fmt.Sprintf("sub_%03d", i), Types: []string{types}, State: belfry.SubscriptionActive,
			Notify: []belfry.Notify{{Endpoint: id}}, Created: clock(),
		})
	}
	h.apply(ch)
}

func (h *house) endpoint(id, state string, schedule []string) belfry.Document {
	body, err := belfry.EncodeEndpoint(belfry.Endpoint{ID: id, URL: "https://" + id + ".example", State: state, Schedule: schedule, Created: clock()})
	if err != nil {
		h.t.Fatal(err)
	}
	return belfry.Document{Kind: belfry.KindEndpoint, ID: id, Body: body}
}

// accept passes n events through door 1 and hands them over; it returns their ids.
func (h *house) accept(n int, typ string) []string {
	h.t.Helper()
	drafts := make([]belfry.Draft, n)
	for i := range drafts {
		e := &belfry.Event{ID: belfry.NewID("", clock()), Source: "/test", Type: typ, Time: clock(), Object: "course/1"}
		drafts[i] = belfry.Draft{Tenant: belfry.DefaultTenant, Event: e, Body: fmt.Appendf(nil, `{"id":%q,"source":"/test","type":%q,"time":%q,"object":"course/1"}`, e.ID, typ, e.Time.Format(time.RFC3339Nano))}
	}
	receipts, err := h.db.AcceptEvents(context.Background(), drafts)
	if err != nil {
		h.t.Fatal(err)
	}
	ids := make([]string, n)
	accs := make([]belfry.Accepted, n)
	for i, r := range receipts {
		ids[i] = r.EventID
		accs[i] = belfry.Accepted{Tenant: belfry.DefaultTenant, EventID: r.EventID, At: r.At, AsOf: r.AsOf, Event: drafts[i].Event}
	}
	h.plan.Handover(accs)
	return ids
}

// drained waits until nothing is pending and nothing open.
func (h *house) drained() {
	h.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := h.db.Stats(context.Background())
		if err != nil {
			h.t.Fatal(err)
		}
		s := st.Tenants[belfry.DefaultTenant]
		if s.PendingPlans == 0 && s.OpenDeliveries == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("after a minute %d plans are pending and %d deliveries open", s.PendingPlans, s.OpenDeliveries)
		}
		<-tick.C
	}
}

func sqlite(t testing.TB) *store.DB { return storetest.SQLite(t) }

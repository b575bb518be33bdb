package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// platform answers what it is asked by respond, and remembers it.
type platform struct {
	mu      sync.Mutex
	batches [][]askedOf
	respond func(q askedOf) string // the JSON of an answer
	fail    string
	block   chan struct{}
}

func (p *platform) Ask(ctx context.Context, _ string, target channel.Target, m *belfry.Message, _ int64) ([]byte, belfry.Outcome) {
	if p.block != nil {
		select {
		case <-p.block:
		case <-ctx.Done():
		}
	}
	var q asking
	if err := json.Unmarshal(m.Body, &q); err != nil || q.Type != authoriseAsk || target.Endpoint.ID != "ep_auth" {
		panic(fmt.Sprintf("%s, %v", m.Body, err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, q.Data.Questions)
	if p.fail != "" {
		return nil, belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: p.fail}
	}
	out := `{"answers":[`
	for i, q := range q.Data.Questions {
		if i > 0 {
			out += ","
		}
		out += p.respond(q)
	}
	return []byte(out + `]}`), belfry.Outcome{Kind: belfry.OutcomeDelivered, Status: 200}
}

func (p *platform) set(respond func(askedOf) string, fail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.respond, p.fail = respond, fail
}

func (p *platform) asked() (n int, all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.batches {
		for _, q := range b {
			all = append(all, q.Principal+q.Address+" "+q.Object+" "+q.Type)
		}
	}
	slices.Sort(all)
	return len(p.batches), all
}

const (
	yes = `{"allow":true}`
	no  = `{"allow":false,"because":"not\nenrolled"}`
)

// guardedHouse is a house whose tenant has an authoriser.
func guardedHouse(t *testing.T, db *store.DB, p *platform, settings belfry.Authoriser, tune func(*GateOptions)) *house {
	t.Helper()
	h := newHouse(t, db, nil)
	h.school()
	settings.Endpoint = "ep_auth"
	body, err := json.Marshal(belfry.TenantSettings{Authoriser: &settings})
	if err != nil {
		t.Fatal(err)
	}
	sub := teachers("sub_t")
	sub.Filter = ""
	sub.Recipients = append(sub.Recipients, belfry.Rule{Explicit: &belfry.ExplicitRule{Emails: []string{"x@example.org"}}})
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{sub}, Documents: []belfry.Document{h.endpoint("ep_auth", belfry.EndpointActive, nil), {Kind: belfry.KindSetting, ID: belfry.TenantSettingsID, Body: body}}})
	o := GateOptions{Store: db, Directory: h.dir, Messages: h.send.o.Composer.(*Messages), Asker: p, Shards: Alone{}, Wake: h.send.Wake, Watch: h.watch, Log: slog.New(slog.DiscardHandler), Now: clock, Poll: 20 * time.Millisecond, First: 20 * time.Millisecond}
	if tune != nil {
		tune(&o)
	}
	g := NewGate(o)
	h.ex.Stages.Gate = g
	h.send.o.Composer.(*Messages).SetGate(g)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return h
}

func (h *house) standing(event, channel, address string) (belfry.State, string) {
	h.t.Helper()
	d, ok, err := h.db.Message(context.Background(), belfry.DefaultTenant, belfry.DeliveryID(event, 0, channel, address))
	if err != nil {
		h.t.Fatal(err)
	}
	if !ok { // not planned yet
		return -1, ""
	}
	if n := len(d.Because); n > 0 {
		return d.State, d.Because[n-1].Code + " " + d.Because[n-1].Detail
	}
	return d.State, ""
}

func (h *house) wait(what string, ok func() bool) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			h.t.Fatalf("not within half a minute: %s", what)
		}
	}
}

func onEngines(t *testing.T, test func(*testing.T, *store.DB)) {
	t.Run("SQLite", func(t *testing.T) { test(t, storetest.SQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, storetest.Postgres(t)) })
}

// feature: NEW-4, S3-11 asked once for each person, object and type; yes lets
// go, no suppresses with what the platform says
func TestPlatformDecides(t *testing.T) {
	onEngines(t, func(t *testing.T, db *store.DB) {
		p := &platform{respond: func(q askedOf) string {
			if q.Principal == "user/1" {
				return yes
			}
			return no
		}}
		h := guardedHouse(t, db, p, belfry.Authoriser{}, nil)
		h.run()
		events := h.accept(3, "course.updated")
		h.r.wait(t, 3)
		h.drained()
		for _, e := range events {
			if s, _ := h.standing(e, "email", "ada@example.org"); s != belfry.Delivered {
				t.Errorf("her mail is %s", s)
			}
		}
		s, why := h.standing(events[0], "email", "x@example.org")
		if s != belfry.Suppressed || why != "not_authorised not enrolled" {
			t.Errorf("the other's mail is %s: %s", s, why)
		}
		for user, want := range map[string]int{"user/1": 3, "user/2": 0} {
			if _, unread, _, err := db.Inbox(t.Context(), belfry.DefaultTenant, user, store.InboxFilter{}); err != nil || unread != want {
				t.Errorf("%s has %d entries, %v", user, unread, err)
			}
		}
		_, all := p.asked()
		if want := []string{"user/1 course/1 course.updated", "user/2 course/1 course.updated", "x@example.org course/1 course.updated"}; !slices.Equal(slices.Compact(all), want) {
			t.Errorf("asked %q", all)
		}
		// What is remembered decides at once.
		n, _ := p.asked()
		more := h.accept(1, "course.updated")[0]
		h.r.wait(t, 4)
		h.drained()
		if now, _ := p.asked(); now != n {
			t.Errorf("asked again: %d batches, then %d", n, now)
		}
		trace, err := h.ex.Trace(t.Context(), belfry.DefaultTenant, belfry.TraceQuery{EventID: more, Principal: "user/2"})
		if err != nil || len(trace.People) != 2 || trace.People[0].Because[len(trace.People[0].Because)-1].Code != belfry.NotAuthorised && trace.People[1].Because[len(trace.People[1].Because)-1].Code != belfry.NotAuthorised {
			t.Errorf("%+v, %v", trace.People, err)
		}
		h.r.once(t)
	})
}

// feature: NEW-4 no answer: not told now, asked again; neither planning nor
// what is for endpoints waits; and not for ever
func TestSilentPlatform(t *testing.T) {
	p := &platform{fail: "away"}
	h := guardedHouse(t, sqlite(t), p, belfry.Authoriser{GiveUp: "1h"}, nil)
	h.endpoints(1, "course.*")
	h.run()
	event := h.accept(1, "course.updated")[0]
	h.wait("what the endpoint received is recorded", func() bool { s, _ := h.standing(event, "webhook", "ep_000"); return s == belfry.Delivered })
	h.wait("asked twice", func() bool { n, _ := p.asked(); return n >= 2 })
	if s, _ := h.standing(event, "email", "ada@example.org"); s != belfry.Held {
		t.Errorf("her mail is %s", s)
	}
	// Held is not due, not sent, not retried; its time is as it was planned.
	due, err := h.db.DueDeliveries(t.Context(), belfry.DefaultTenant, belfry.DueKey{}, clock().Add(time.Hour), 10, nil)
	if err != nil || len(due) != 0 {
		t.Errorf("%+v, %v", due, err)
	}
	for until, want := range map[time.Time]int{clock(): 1, clock().AddDate(-1, 0, 0): 0} {
		if tenants, err := h.db.HeldTenants(t.Context(), until); err != nil || len(tenants) != want {
			t.Errorf("tenants with held deliveries by %v: %q, %v", until, tenants, err)
		}
	}
	held, err := h.db.HeldDeliveries(t.Context(), belfry.DefaultTenant, belfry.DueKey{}, clock(), 10, nil)
	if err != nil || len(held) != 4 || time.Since(held[0].Due) > time.Minute || time.Since(held[0].Due) < 0 {
		t.Errorf("%+v, %v", held, err)
	}
	trace, err := h.ex.Trace(t.Context(), belfry.DefaultTenant, belfry.TraceQuery{EventID: event, Principal: "user/1"})
	if err != nil || len(trace.People) == 0 || trace.People[0].Outcome != belfry.NotTold || trace.People[0].Because[len(trace.People[0].Because)-1].Code != belfry.AwaitsAuthoriser {
		t.Errorf("%+v, %v", trace.People, err)
	}
	// Half an answer: the others wait on.
	p.set(func(q askedOf) string {
		if q.Principal == "user/1" {
			return yes
		}
		return "null"
	}, "")
	h.r.wait(t, 2)
	h.wait("the others wait", func() bool { s, _ := h.standing(event, "email", "x@example.org"); return s == belfry.Held })
	for _, bad := range []string{`{"allow":"yes"}`, `1`, ``} { // nonsense is no answer
		p.set(func(askedOf) string { return bad }, "")
		n, _ := p.asked()
		h.wait("asked again", func() bool { now, _ := p.asked(); return now > n })
		if s, _ := h.standing(event, "email", "x@example.org"); s != belfry.Held {
			t.Fatalf("%q let it go: %s", bad, s)
		}
		h.ex.Stages.Gate.forgive()
	}
}

// forgive ends the waits between questions.
func (g *Gate) forgive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.backoff)
}

// feature: NEW-4 what waited for too long is not told, and says so
func TestPlatformIsGivenUp(t *testing.T) {
	for name, p := range map[string]*platform{"away": {fail: "away"}, "open": {respond: func(askedOf) string { return "null" }}} {
		t.Run(name, func(t *testing.T) {
			h := guardedHouse(t, sqlite(t), p, belfry.Authoriser{GiveUp: "1s"}, nil)
			h.run()
			event := h.accept(1, "course.updated")[0]
			h.drained()
			if s, why := h.standing(event, "email", "ada@example.org"); s != belfry.Suppressed || why != "authoriser_silent for 1s" {
				t.Errorf("%s: %s", s, why)
			}
			if _, unread, _, err := h.db.Inbox(t.Context(), belfry.DefaultTenant, "user/1", store.InboxFilter{}); err != nil || unread != 0 {
				t.Errorf("%d, %v", unread, err)
			}
		})
	}
}

// feature: NEW-4 asked again right before a send that comes later than an
// answer holds: who lost access meanwhile is not told
func TestPlatformIsAskedAgainAtSend(t *testing.T) {
	p := &platform{respond: func(askedOf) string { return yes }}
	h := guardedHouse(t, sqlite(t), p, belfry.Authoriser{TTL: "1s"}, nil)
	tries := 0
	var mu sync.Mutex
	h.r.respond = func(_ context.Context, target channel.Target, _ *belfry.Message) belfry.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if tries++; target.Address == "ada@example.org" {
			p.set(func(askedOf) string { return no }, "") // while it waits for its retry
			return belfry.Outcome{Kind: belfry.OutcomeRetry, After: 1500 * time.Millisecond, Detail: "not now"}
		}
		return belfry.Outcome{Kind: belfry.OutcomeDelivered}
	}
	h.run()
	event := h.accept(1, "course.updated")[0]
	h.wait("suppressed", func() bool { s, _ := h.standing(event, "email", "ada@example.org"); return s == belfry.Suppressed })
	if _, why := h.standing(event, "email", "ada@example.org"); why != "not_authorised not enrolled" {
		t.Errorf("%s", why)
	}
	d := h.delivery(belfry.DeliveryID(event, 0, "email", "ada@example.org"))
	if d.Attempts != 1 {
		t.Errorf("%d sends", d.Attempts)
	}
	h.drained()
}

// oddNode has the delivery shards of one of two nodes.
type oddNode struct {
	Alone
	odd int
}

func (n oddNode) Mine(kind string) (out []int) {
	for s := range belfry.Shards {
		if s%2 == n.odd {
			out = append(out, s)
		}
	}
	return out
}

// Of several nodes each asks for whom it sends to.
func TestEachNodeAsksForItsOwn(t *testing.T) {
	p := &platform{respond: func(askedOf) string { return yes }}
	h := guardedHouse(t, sqlite(t), p, belfry.Authoriser{}, func(o *GateOptions) { o.Shards = oddNode{odd: 1} })
	h.run()
	event := h.accept(1, "course.updated")[0]
	h.wait("asked", func() bool { n, _ := p.asked(); return n > 0 })
	odd := map[bool]int{}
	for _, who := range []string{"user/1", "user/2", "x@example.org"} {
		odd[belfry.Shard(belfry.DefaultTenant, who)%2 == 1]++
	}
	if odd[true] == 0 || odd[false] == 0 {
		t.Fatalf("the shards of this test are all alike: %v", odd)
	}
	_, all := p.asked()
	if len(slices.Compact(all)) != odd[true] {
		t.Errorf("asked %q; %d are its own", all, odd[true])
	}
	held, err := h.db.HeldDeliveries(t.Context(), belfry.DefaultTenant, belfry.DueKey{}, clock(), 10, nil)
	if err != nil || len(held) == 0 {
		t.Errorf("nothing is left for the other node: %v, %v", held, err)
	}
	_ = event
}

// What is allowed and denied twice, or by a node that was late, happens once.
func TestSettlingHeldOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, db *store.DB) {
		p := &platform{block: make(chan struct{})}
		h := guardedHouse(t, db, p, belfry.Authoriser{}, nil)
		defer close(p.block)
		p.set(func(askedOf) string { return "null" }, "")
		h.run()
		event := h.accept(1, "course.updated")[0]
		h.everythingPlanned() // although nobody answers
		id := func(channel, address string) string { return belfry.DeliveryID(event, 0, channel, address) }
		hers, his, mail := id("inbox", "user/1"), id("inbox", "user/2"), id("email", "ada@example.org")
		ctx, now := t.Context(), clock()
		deny := []belfry.DeliveryCancel{{ID: his, Because: belfry.Reason{Code: belfry.NotAuthorised}}}
		for n, want := range []int{2, 0} {
			released, err := db.SettleHeld(ctx, belfry.DefaultTenant, []string{hers, mail}, deny, now)
			if err != nil || len(released) != want {
				t.Errorf("time %d: %v, %v", n, released, err)
			}
		}
		if released, err := db.SettleHeld(ctx, belfry.DefaultTenant, []string{his}, []belfry.DeliveryCancel{{ID: hers}}, now); err != nil || len(released) != 0 {
			t.Errorf("%v, %v", released, err)
		}
		if s, _ := h.standing(event, "inbox", "user/2"); s != belfry.Suppressed {
			t.Errorf("his is %s", s)
		}
		if _, unread, _, err := db.Inbox(ctx, belfry.DefaultTenant, "user/1", store.InboxFilter{}); err != nil || unread != 1 {
			t.Errorf("%d, %v", unread, err)
		}
		h.wait("her mail is sent, the address waits", func() bool {
			stats, err := db.Stats(ctx)
			return err == nil && stats.Tenants[belfry.DefaultTenant].OpenDeliveries == 1
		})
	})
}

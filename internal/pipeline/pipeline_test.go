package pipeline

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// feature: NEW-10
func TestEveryAcceptedEventIsDeliveredOnce(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.endpoints(20, "course.*")
	h.run()
	for range 10 {
		h.accept(50, "course.updated")
	}
	h.r.wait(t, 20*500)
	h.drained()
	h.r.once(t)
}

func TestEventsOfOneObjectKeepTheirOrder(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.endpoints(1, "course.*")
	h.run()
	var ids []string
	for range 20 {
		ids = append(ids, h.accept(10, "course.updated")...)
	}
	h.r.wait(t, len(ids))
	h.drained()
	for _, id := range ids {
		tr, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: id})
		if err != nil || !tr.Planned || len(tr.People) != 1 {
			t.Fatalf("trace of %s: %+v, %v", id, tr, err)
		}
	}
}

// What does not fit in memory is on disk, and everything arrives all the same,
// once.
func TestTinyWindowsLoseNothingAndRepeatNothing(t *testing.T) {
	h := newHouse(t, sqlite(t), func(p *PlannerOptions, d *DispatcherOptions) {
		p.Queue = 8
		d.Window, d.Queue = 40, 4
	})
	h.endpoints(15, "course.*")
	h.run()
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for range 10 {
				h.accept(10, "course.updated")
			}
		})
	}
	senders.Wait()
	h.r.wait(t, 15*400)
	h.drained()
	h.r.once(t)
}

// What an earlier process accepted or planned is found at the start.
func TestRestartContinuesWhereItStopped(t *testing.T) {
	db := sqlite(t)
	h := newHouse(t, db, func(_ *PlannerOptions, d *DispatcherOptions) { d.Grace = time.Millisecond })
	h.endpoints(10, "course.*")
	h.accept(300, "course.updated") // before anything runs: only in the table
	h.r.respond = func(ctx context.Context, _ channel.Target, _ *belfry.Message) belfry.Outcome {
		h.r.mu.Lock()
		enough := h.r.total >= 700
		h.r.mu.Unlock()
		if enough { // a receiver that has gone quiet: the stop comes in the middle
			<-ctx.Done()
			return belfry.Outcome{Kind: belfry.OutcomeRetry}
		}
		return belfry.Outcome{Kind: belfry.OutcomeDelivered}
	}
	h.run()
	h.r.wait(t, 500)
	h.stop()
	h.r.once(t)
	sent := len(h.r.got)
	if sent == 3000 {
		t.Fatal("all were sent before the stop: the test shows nothing")
	}

	again := newHouse(t, db, nil)
	again.run()
	again.r.wait(t, 3000-sent)
	again.drained()
	again.r.once(t)
	for id := range again.r.got {
		if h.r.got[id] > 0 {
			t.Errorf("delivery %s was sent before the clean stop and after it", id)
		}
	}
}

func TestHangingEndpointsDelayNobodyElse(t *testing.T) {
	h := newHouse(t, sqlite(t), func(_ *PlannerOptions, d *DispatcherOptions) { d.Grace = time.Millisecond })
	h.endpoints(20, "course.*")
	hanging := map[string]bool{"ep_000": true, "ep_001": true, "ep_002": true}
	h.r.respond = func(ctx context.Context, t channel.Target, _ *belfry.Message) belfry.Outcome {
		if hanging[t.Endpoint.ID] {
			<-ctx.Done()
			return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "timed out"}
		}
		return belfry.Outcome{Kind: belfry.OutcomeDelivered}
	}
	h.run()
	for range 20 {
		h.accept(20, "course.updated")
	}
	h.r.wait(t, 17*400)
	h.stop()
	h.r.once(t)
}

// feature: PEER-3
func TestFailuresAreRetriedAndRecorded(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.apply(belfry.Changes{
		Documents: []belfry.Document{h.endpoint("ep_a", belfry.EndpointActive, []string{"1ms", "1ms", "1ms"})},
		Subscriptions: []belfry.Subscription{{
			ID: "sub_a", Types: []string{"*"}, State: belfry.SubscriptionActive, Notify: []belfry.Notify{{Endpoint: "ep_a"}}, Created: clock(),
		}},
	})
	var mu sync.Mutex
	tries := 0
	h.r.respond = func(context.Context, channel.Target, *belfry.Message) belfry.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries < 3 {
			return belfry.Outcome{Kind: belfry.OutcomeRetry, Status: 500, Detail: "try " + strings.Repeat("!", tries)}
		}
		return belfry.Outcome{Kind: belfry.OutcomeDelivered, Status: 200}
	}
	h.run()
	id := h.accept(1, "x.y")[0]
	h.r.wait(t, 1)
	h.drained()
	tr, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: id})
	if err != nil || len(tr.People) != 1 || len(tr.People[0].Deliveries) != 1 {
		t.Fatalf("trace: %+v, %v", tr, err)
	}
	attempts, err := h.db.Attempts(context.Background(), belfry.DefaultTenant, tr.People[0].Deliveries[0])
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, a := range attempts {
		states = append(states, a.Outcome.Kind.String()+" "+a.Outcome.Detail)
	}
	if want := []string{"retry try !", "retry try !!", "delivered "}; !slices.Equal(states, want) {
		t.Errorf("attempts %q, want %q", states, want)
	}
}

func TestPausedEndpointKeepsItsDeliveriesUntilItIsResumed(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.endpoints(2, "course.*")
	h.apply(belfry.Changes{Documents: []belfry.Document{h.endpoint("ep_000", belfry.EndpointPaused, nil)}})
	h.run()
	h.accept(100, "course.updated")
	h.r.wait(t, 100) // those of the other endpoint
	if n := len(h.r.order["ep_000"]); n != 0 {
		t.Fatalf("%d were sent to a paused endpoint", n)
	}
	h.apply(belfry.Changes{Documents: []belfry.Document{h.endpoint("ep_000", belfry.EndpointActive, nil)}})
	h.send.Requeue(belfry.DefaultTenant, "ep_000")
	h.r.wait(t, 200)
	h.drained()
	h.r.once(t)
}

func TestGoneAddressesAreReported(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.endpoints(1, "course.*")
	h.r.respond = func(context.Context, channel.Target, *belfry.Message) belfry.Outcome {
		return belfry.Outcome{Kind: belfry.OutcomeGone, Status: 410}
	}
	h.run()
	h.accept(1, "course.deleted")
	h.drained()
	h.stop()
	if !slices.Equal(h.gone.list, []string{"ep_000"}) {
		t.Errorf("gone: %q", h.gone.list)
	}
}

// feature: NEW-1
// feature: NEW-3
func TestExplainIsTraceWithoutSending(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.apply(belfry.Changes{
		Objects: []belfry.Object{{ID: "course/1", Type: "course", Title: "Physics"}},
		Users: []belfry.User{
			{ID: "user/1", Name: "Ada", State: belfry.UserActive, Email: "ada@example.org", Contacts: []belfry.Contact{{Kind: "email", Address: "ada@example.org", Verified: true}}},
			{ID: "user/2", Name: "Bob", State: belfry.UserSuspended},
			{ID: "user/3", Name: "Cy", State: belfry.UserActive},
		},
		Grants: []belfry.GrantSet{{Object: "course/1", Grants: []belfry.Grant{
			{Principal: "user/1", Role: "teacher"}, {Principal: "user/2", Role: "teacher"}, {Principal: "user/3", Role: "student"},
		}}},
		Subscriptions: []belfry.Subscription{
			{ID: "sub_t", Title: "Teachers", Scope: belfry.Scope{Object: "course/1"}, Types: []string{"course.*"}, State: belfry.SubscriptionActive,
				Recipients: []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"teacher"}}}}, Created: clock()},
			{ID: "sub_f", Title: "Never", Types: []string{"*"}, Filter: "event.actor == 'nobody'", State: belfry.SubscriptionActive,
				Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"user/3"}}}}, Created: clock()},
		},
	})
	h.run()
	woken, cancel := h.watch.Watch(belfry.DefaultTenant, "user/1")
	defer cancel()
	id := h.accept(1, "course.updated")[0]
	<-woken
	h.r.wait(t, 1)
	h.drained()

	supposed, err := h.ex.Explain(context.Background(), belfry.DefaultTenant, &belfry.Event{Type: "course.updated", Object: "course/1", Time: clock()})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: id})
	if err != nil {
		t.Fatal(err)
	}
	lines := func(a belfry.Answer) (out []string) {
		for _, p := range a.People {
			out = append(out, p.Principal+" "+p.Outcome+" "+p.Because[len(p.Because)-1].Code)
		}
		return out
	}
	if got, want := lines(supposed), lines(stored); !slices.Equal(got, want) || len(got) != 2 {
		t.Errorf("explained %q, traced %q", got, want)
	}
	if len(supposed.Subscriptions) != 2 || supposed.Subscriptions[1].Matched || supposed.Subscriptions[1].Because[len(supposed.Subscriptions[1].Because)-1].Code != belfry.FilterFalse {
		t.Errorf("the explanation should show the near miss: %+v", supposed.Subscriptions)
	}
	other, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: id, Principal: "user/3"})
	if err != nil || !other.Computed || len(other.People) != 1 || other.People[0].Because[0].Code != belfry.NobodyNamed {
		t.Errorf("for somebody no rule named: %+v, %v", other, err)
	}
}

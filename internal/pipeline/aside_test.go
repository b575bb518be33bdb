package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// state gives a subscription another state and does what the app does after.
func (h *house) state(id, state, because string) {
	h.t.Helper()
	sub, found, err := h.db.Subscription(context.Background(), belfry.DefaultTenant, id)
	if err != nil || !found {
		h.t.Fatalf("%s: %v", id, err)
	}
	sub.State, sub.Because = state, because
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{sub}})
	h.send.Edited(belfry.DefaultTenant, id)
}

// two makes a person and an endpoint that two subscriptions to types of their
// own tell: sub_a of a.*, sub_b of b.*.
func (h *house) two(line string) {
	h.t.Helper()
	ep := h.endpoint("ep_000", belfry.EndpointActive, nil)
	if line != "" {
		body, err := belfry.EncodeEndpoint(belfry.Endpoint{ID: "ep_000", URL: "https://x.example", State: belfry.EndpointActive, Ordered: line, Created: clock()})
		if err != nil {
			h.t.Fatal(err)
		}
		ep.Body = body
	}
	ch := belfry.Changes{Documents: []belfry.Document{ep}, Users: []belfry.User{{ID: "user/1", State: belfry.UserActive, Email: "one@example.org"}}}
	for _, name := range []string{"a", "b"} {
		ch.Subscriptions = append(ch.Subscriptions, belfry.Subscription{
			ID: "sub_" + name, Types: []string{name + ".*"}, State: belfry.SubscriptionActive, Created: clock(),
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"user/1"}}}},
			Notify:     []belfry.Notify{{Endpoint: "ep_000"}, {Channels: []string{"email"}}},
		})
	}
	h.apply(ch)
}

// planOnly plans n events of a type and sends nothing.
func (h *house) planOnly(n int, typ string) (events []string) {
	h.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var planning sync.WaitGroup
	planning.Go(func() { _ = h.plan.Run(ctx) })
	events = h.accept(n, typ)
	h.everythingPlanned()
	stop()
	planning.Wait()
	return events
}

func (h *house) sending() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	sending.Go(func() { _ = h.send.Run(ctx) })
	var once sync.Once
	h.stop = func() { once.Do(func() { cancel(); sending.Wait() }) }
	h.t.Cleanup(h.stop)
	return h.stop
}

// resting waits until nothing is in memory although n deliveries are open.
func (h *house) resting(n int64) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		st, err := h.db.Stats(context.Background())
		if err != nil {
			h.t.Fatal(err)
		}
		if open := st.Tenants[belfry.DefaultTenant].OpenDeliveries; open == n && h.send.InFlight() == 0 {
			return
		} else if time.Now().After(deadline) {
			h.t.Fatalf("%d deliveries are open, %d in memory, want %d to wait", open, h.send.InFlight(), n)
		}
	}
}

func both(event string) []string {
	return []string{belfry.DeliveryID(event, 0, belfry.ChannelWebhook, "ep_000"), belfry.DeliveryID(event, 0, "email", "one@example.org")}
}

// Which paused subscription a delivery waits for is said of those that wait, and
// of none after it is resumed.
// feature: NEW-1, NEW-10
func TestWaitsAreSaid(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.two("")
	waits, goes := h.planOnly(1, "a.x")[0], h.planOnly(1, "b.x")[0]
	said := func() map[string]belfry.ReasonView {
		t.Helper()
		var ds []belfry.Delivery
		for _, id := range append(both(waits), both(goes)...) {
			d, found, err := h.db.Delivery(t.Context(), belfry.DefaultTenant, id)
			if err != nil || !found {
				t.Fatal(id, found, err)
			}
			ds = append(ds, d)
		}
		out, err := h.ex.Awaits(t.Context(), belfry.DefaultTenant, ds)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := said(); len(got) != 0 {
		t.Errorf("before the pause: %v", got)
	}
	h.state("sub_a", belfry.SubscriptionPaused, "holidays")
	got := said()
	for _, id := range both(waits) {
		if r := got[id]; r.Code != belfry.SubscriptionWaits || r.Subscription != "sub_a" || r.Text != "the subscription is paused: holidays" {
			t.Errorf("%s waits for %+v", id, r)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d deliveries wait: %v", len(got), got)
	}
	h.state("sub_a", belfry.SubscriptionActive, "")
	if got := said(); len(got) != 0 {
		t.Errorf("after the pause: %v", got)
	}
}

// What waits of a subscription that is paused goes out when it is resumed, and
// is suppressed with the reason when it ends instead; what other subscriptions
// have for the same destinations goes on meanwhile; and so it is over a restart.
// feature: NEW-10
func TestPausedSubscriptionsLoseNothing(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart bool
		end     bool
	}{{"resumed", false, false}, {"resumed after a restart", true, false}, {"ended", false, true}, {"ended after a restart", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			db := sqlite(t)
			h := newHouse(t, db, nil)
			h.two("")
			waits := h.planOnly(30, "a.x")
			goes := h.planOnly(10, "b.x")
			h.state("sub_a", belfry.SubscriptionPaused, "holidays")
			stop := h.sending()
			h.r.wait(t, 20)
			h.resting(60)
			for _, e := range goes {
				for _, id := range both(e) {
					if h.r.times(id) != 1 {
						t.Errorf("%s of another subscription was sent %d times", id, h.r.times(id))
					}
				}
			}
			if c.restart {
				stop()
				r := h.r
				h = newHouse(t, db, nil)
				h.r.got, h.r.order = r.got, r.order
				h.sending()
				h.resting(60)
			}
			if c.end {
				h.state("sub_a", belfry.SubscriptionEnded, "ended by user/2")
			} else {
				h.state("sub_a", belfry.SubscriptionActive, "")
			}
			h.drained()
			h.settled()
			h.r.once(t)
			for _, e := range waits {
				for _, id := range both(e) {
					d := h.delivery(id)
					last := d.Because[len(d.Because)-1]
					switch {
					case !c.end && (d.State != belfry.Delivered || h.r.times(id) != 1):
						t.Errorf("%s is %s, sent %d times", id, d.State, h.r.times(id))
					case c.end && (d.State != belfry.Suppressed || last.Code != belfry.SubscriptionGone || last.Detail != "ended by user/2" || h.r.times(id) != 0):
						t.Errorf("%s is %s, sent %d times: %+v", id, d.State, h.r.times(id), d.Because)
					}
				}
			}
			if len(h.send.aside) != 0 {
				t.Errorf("remembered for nothing: %v", h.send.aside)
			}
		})
	}
}

// What happens while a subscription is paused is not for it, also not later.
func TestPausedSubscriptionsMatchNothing(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.two("")
	h.state("sub_a", belfry.SubscriptionPaused, "")
	h.run()
	h.accept(5, "a.x")
	h.everythingPlanned()
	h.state("sub_a", belfry.SubscriptionActive, "")
	h.accept(1, "a.x")
	h.r.wait(t, 2)
	h.drained()
	if n := len(h.r.got); n != 2 {
		t.Errorf("%d were sent, want the two of the event after the pause", n)
	}
}

// An endpoint that wants its events in order gets them so, also over a pause:
// what comes after one that waits, waits with it.
func TestPausedSubscriptionsKeepTheOrder(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.two(belfry.OrderedEndpoint)
	var want []string
	for range 5 {
		for _, typ := range []string{"b.x", "a.x"} {
			want = append(want, both(h.planOnly(1, typ)[0])[0])
		}
	}
	h.state("sub_a", belfry.SubscriptionPaused, "")
	h.sending()
	h.r.wait(t, 1+5) // the first of the endpoint, and the mails of sub_b
	h.resting(9 + 5)
	if got := h.r.order["ep_000"]; !slices.Equal(got, want[:1]) {
		t.Errorf("sent %v, want only %s", got, want[0])
	}
	h.state("sub_a", belfry.SubscriptionActive, "")
	h.drained()
	if got := h.r.order["ep_000"]; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	h.r.once(t)
}

// Who is named by two subscriptions is told on behalf of the other when the
// leading one is paused or has ended.
func TestAnotherSubscriptionStandsIn(t *testing.T) {
	for _, state := range []string{belfry.SubscriptionPaused, belfry.SubscriptionEnded} {
		t.Run(state, func(t *testing.T) {
			h := newHouse(t, sqlite(t), nil)
			h.two("")
			for _, id := range []string{"sub_a", "sub_b"} {
				sub, _, err := h.db.Subscription(t.Context(), belfry.DefaultTenant, id)
				if err != nil {
					t.Fatal(err)
				}
				sub.Types = []string{"a.*"}
				h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{sub}})
			}
			event := h.planOnly(1, "a.x")[0]
			leads, other := h.delivery(both(event)[1]).Subscription, "sub_a"
			if leads == "sub_a" {
				other = "sub_b"
			}
			var mu sync.Mutex
			var said []string
			h.r.respond = func(_ context.Context, target channel.Target, m *belfry.Message) belfry.Outcome {
				mu.Lock()
				defer mu.Unlock()
				said = append(said, m.Unsubscribe+string(m.Body))
				return belfry.Outcome{Kind: belfry.OutcomeDelivered}
			}
			h.state(leads, state, "")
			h.sending()
			h.r.wait(t, 2)
			h.drained()
			for _, text := range said {
				if !strings.Contains(text, other) || strings.Contains(text, leads) {
					t.Errorf("told on behalf of %s, want %s: %s", leads, other, text)
				}
			}
		})
	}
}

// Whatever the order of pauses, resumes and sends, everything goes out once.
func TestPausesRacingSends(t *testing.T) {
	for _, line := range []string{"", belfry.OrderedObject} {
		h := newHouse(t, sqlite(t), func(_ *PlannerOptions, d *DispatcherOptions) { d.Queue, d.Poll = 8, 20*time.Millisecond })
		h.two(line)
		h.run()
		n := 0
		for range 30 {
			h.accept(10, "a.x")
			h.everythingPlanned() // what is not planned yet when it is paused is not for it
			n += 20
			h.state("sub_a", belfry.SubscriptionPaused, "")
			h.state("sub_a", belfry.SubscriptionActive, "")
		}
		h.r.wait(t, n)
		h.drained()
		h.settled()
		h.r.once(t)
	}
}

// The table is read again from the first delivery of an edited subscription at
// the latest, whatever else waits, and however many subscriptions do.
func TestAsideForgetsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &aside{first: map[string]belfry.DueKey{}}
		for i := range maxAside - 3 { // room for three
			a.first[fmt.Sprint("other", i)] = belfry.DueKey{Due: time.Unix(9, 0)}
		}
		want := map[string]belfry.DueKey{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			id := fmt.Sprintf("sub_%d", rapid.IntRange(0, 6).Draw(t, "subscription"))
			if rapid.Bool().Draw(t, "waits") {
				key := belfry.DueKey{Due: time.Unix(int64(rapid.IntRange(1, 5).Draw(t, "due")), 0)}
				a.note(id, key)
				if first, ok := want[id]; !ok || keyLess(key, first) {
					want[id] = key
				}
				continue
			}
			all := rapid.Bool().Draw(t, "all")
			from, any := a.take(id, all)
			for of, key := range want {
				if !all && of != id {
					continue
				}
				if !any || keyLess(key, from) {
					t.Fatalf("read from %v (%v), although one of %s waits at %v", from, any, of, key)
				}
			}
			// Everything from there on is read, and what is still paused is noted
			// again.
			for of, key := range want {
				if any && !keyLess(key, from) {
					a.note(of, key)
				}
			}
			delete(want, id)
		}
	})
}

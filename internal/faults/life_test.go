//go:build linux

package faults_test

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/belfryhq/belfry/internal/testdb"
)

// An endpoint that has only failed for its time is disabled and its owner told
// in her inbox; what waits for it goes out, once, when it is resumed.
// feature: PEER-5
func TestFailingEndpointIsDisabledAndItsOwnerTold(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	var got sync.Map
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if !works.Load() {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		n, _ := got.LoadOrStore(r.Header.Get("webhook-id"), new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
	})
	p := newHome(t).start()
	p.call(http.MethodPut, "/v1/users/anna", map[string]any{"name": "Anna"}, nil)
	var ep struct{ ID, State, Because string }
	schedule := make([]string, 20)
	for i := range schedule {
		schedule[i] = "250ms"
	}
	p.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": url, "owner": "anna", "disable_after": "1s", "schedule": schedule}, &ep)
	p.call(http.MethodPost, "/v1/subscriptions", map[string]any{"types": []string{"a"}, "notify": []any{map[string]any{"endpoint": ep.ID}}}, nil)
	publish := func(n int) {
		p.call(http.MethodPost, "/v1/events", map[string]any{"id": fmt.Sprint(n), "source": "test", "type": "a"}, nil)
	}
	publish(1)
	await(t, patience, "disabled", func() (bool, string) {
		p.call(http.MethodGet, "/v1/endpoints/"+ep.ID, nil, &ep)
		return ep.State == "disabled" && ep.Because != "", fmt.Sprintf("%+v", ep)
	})
	type entry struct{ Type, Text string }
	await(t, patience, "Anna told", func() (bool, string) {
		box := list[entry](p, "/v1/users/anna/inbox")
		return len(box) == 1 && box[0].Type == "belfry.endpoint_disabled", fmt.Sprintf("%+v", box)
	})
	if n := openDeliveries(p); n != 1 {
		t.Errorf("%d deliveries wait, want 1", n)
	}
	works.Store(true)
	p.call(http.MethodPost, "/v1/endpoints/"+ep.ID+"/resume", nil, nil)
	publish(2)
	await(t, patience, "both delivered", func() (bool, string) {
		done := list[struct{ ID string }](p, "/v1/deliveries?endpoint="+ep.ID+"&state=delivered")
		return len(done) == 2, fmt.Sprint(done)
	})
	got.Range(func(id, n any) bool {
		if n := n.(*atomic.Int32).Load(); n != 1 {
			t.Errorf("%v came %d times", id, n)
		}
		return true
	})
}

// A bulk cancel reaches what waits, in memory and on disk, on whichever node it
// is and whichever is asked; what is being sent at that moment is the only thing
// that may still arrive, once.
// feature: PEER-4
func TestBulkCancelReachesEveryNode(t *testing.T) {
	t.Parallel()
	for name, home := range map[string]func(*testing.T) *home{
		"sqlite": func(t *testing.T) *home { return newHome(t) },
		"two nodes": func(t *testing.T) *home {
			return newHome(t, append(onPostgres(testdb.Postgres(t)), "BELFRY_NODES_LEASE=2s")...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			const endpoints, events, atOnce = 4, 60, 2
			var arrived atomic.Int32
			open := make(chan struct{})
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				arrived.Add(1)
				select {
				case <-open:
				case <-r.Context().Done():
				}
			})
			h := home(t)
			a := h.start()
			b := a
			if name != "sqlite" {
				b = h.start()
				divided(t, a, 2)
			}
			for range endpoints {
				var ep struct{ ID string }
				a.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": url, "concurrency": atOnce, "timeout": "60s"}, &ep)
				a.call(http.MethodPost, "/v1/subscriptions", map[string]any{"types": []string{"a"}, "notify": []any{map[string]any{"endpoint": ep.ID}}}, nil)
			}
			batch := make([]map[string]any, events)
			for i := range batch {
				batch[i] = map[string]any{"id": fmt.Sprint(i), "source": "test", "type": "a", "object": fmt.Sprintf("o/%d", i)}
			}
			a.call(http.MethodPost, "/v1/events", batch, nil)
			const all = endpoints * events
			await(t, patience, "all planned and the first under way", func() (bool, string) {
				n := openDeliveries(a)
				return n == all && arrived.Load() >= endpoints, fmt.Sprintf("%d open, %d arrived", n, arrived.Load())
			})
			var job struct{ ID, State string }
			b.call(http.MethodPost, "/v1/deliveries:cancel", map[string]any{"since": "2020-01-01T00:00:00Z"}, &job)
			await(t, patience, "the job done", func() (bool, string) {
				a.call(http.MethodGet, "/v1/jobs/"+job.ID, nil, &job)
				return job.State == "done", job.State
			})
			// The other node is told, and lets go of what waits in its memory.
			await(t, patience, "nothing waits for a sender", func() (bool, string) {
				n := a.gauge("belfry_deliveries_queued") + b.gauge("belfry_deliveries_queued")
				return n == 0, fmt.Sprintf("%v wait", n)
			})
			close(open)
			await(t, patience, "nothing open", func() (bool, string) {
				n := openDeliveries(b)
				return n == 0, fmt.Sprintf("%d open", n)
			})
			for _, p := range []*process{a, b} { // whatever it still had in memory is sent or dropped
				p.call(http.MethodPost, "/v1/events", map[string]any{"source": "test", "type": "b"}, nil)
			}
			cancelled := len(list[struct{ ID string }](a, "/v1/deliveries?state=cancelled"))
			delivered := len(list[struct{ ID string }](a, "/v1/deliveries?state=delivered"))
			if n := int(arrived.Load()); cancelled+delivered != all || n > endpoints*atOnce || cancelled < all-n {
				t.Errorf("%d cancelled, %d delivered of %d; %d arrived, want %d at most", cancelled, delivered, all, n, endpoints*atOnce)
			}
		})
	}
}

// openDeliveries is how many there are that have not ended.
func openDeliveries(p *process) int {
	return len(list[struct{ ID string }](p, "/v1/deliveries?state=scheduled")) + len(list[struct{ ID string }](p, "/v1/deliveries?state=retrying"))
}

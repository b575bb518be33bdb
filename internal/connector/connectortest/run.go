package connectortest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
)

// Harness is a platform to test a source on.
type Harness struct {
	// Source makes a source of the platform, always with the same settings,
	// that begins with what happens from now on and looks often (every 50 ms
	// or less).
	Source func(t *testing.T) connector.Source
	// Origin is what the source puts on its rows and events.
	Origin string
	// Emit makes n things happen on the platform and gives the ids of their
	// events.
	Emit func(t *testing.T, n int) []string
	// Break makes the platform unreachable until the returned function is
	// called; nil when the platform cannot be broken in a test.
	Break func(t *testing.T) (mend func())
}

// Start runs a source into a sink until the returned function is called, which
// waits for its end and fails the test when Run gave an error or did not stop
// within a second.
func Start(t *testing.T, s connector.Source, sink connector.Sink) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, sink) }()
	var once sync.Once
	stop = func() {
		t.Helper()
		once.Do(func() {
			cancel()
			late := time.NewTimer(10 * time.Second)
			defer late.Stop()
			began := time.Now()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Run gave %v, want nil after its context ended", err)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("Run took %v to stop, want at most a second", took)
				}
			case <-late.C:
				t.Error("Run does not stop when its context ends")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func ready(r *Recorded) bool {
	return r.Status.State == connector.StateTailing && r.Cursor != nil
}

func has(ids []string) func(*Recorded) bool {
	return func(r *Recorded) bool {
		for _, id := range ids {
			if _, ok := r.ByID[id]; !ok {
				return false
			}
		}
		return true
	}
}

// Run tests the promises of the contract on the platform of the harness, each
// on a fresh one.
func Run(t *testing.T, harness func(t *testing.T) Harness) {
	t.Run("hands what happens and stops promptly", func(t *testing.T) {
		h, sink := harness(t), NewRecorder()
		stop := Start(t, h.Source(t), sink)
		sink.Await(t, "the first sync", ready)
		ids := h.Emit(t, 3)
		sink.Await(t, "3 events", has(ids))
		stop()
		check(t, h, sink)
	})
	t.Run("stops before it began", func(t *testing.T) {
		h, sink := harness(t), NewRecorder()
		Start(t, h.Source(t), sink)()
	})
	t.Run("resumes at the cursor, nothing lost, nothing twice", func(t *testing.T) {
		h, sink := harness(t), NewRecorder()
		stop := Start(t, h.Source(t), sink)
		sink.Await(t, "the first sync", ready)
		ids := h.Emit(t, 2)
		sink.Await(t, "2 events", has(ids))
		stop()
		ids = append(ids, h.Emit(t, 3)...) // while nobody watches
		stop = Start(t, h.Source(t), sink)
		sink.Await(t, "what happened meanwhile", has(ids))
		ids = append(ids, h.Emit(t, 1)...)
		sink.Await(t, "what happens now", has(ids))
		stop()
		check(t, h, sink)
		sink.Look(func(r *Recorded) {
			if len(r.Repeats) > 0 || len(r.Events) != len(ids) {
				t.Errorf("%d events for %d ids, repeats %v", len(r.Events), len(ids), r.Repeats)
			}
		})
	})
	t.Run("a batch that is not committed comes again", func(t *testing.T) {
		h, sink := harness(t), NewRecorder()
		away := errors.New("the store is away")
		sink.FailNext(away, away) // the sync's batches
		stop := Start(t, h.Source(t), sink)
		sink.Await(t, "a report of the failure", func(r *Recorded) bool { return r.Status.Error != "" || ready(r) })
		sink.Await(t, "the first sync", ready)
		sink.FailNext(away, away)
		ids := h.Emit(t, 3)
		sink.Await(t, "3 events", has(ids))
		sink.Await(t, "a report without error", func(r *Recorded) bool { return r.Status.Error == "" })
		stop()
		check(t, h, sink)
		sink.Look(func(r *Recorded) {
			if len(r.Repeats) > 0 {
				t.Errorf("repeats %v", r.Repeats)
			}
		})
	})
	t.Run("killed again and again, nothing lost, nothing twice", func(t *testing.T) {
		h, sink := harness(t), NewRecorder()
		stop := Start(t, h.Source(t), sink)
		sink.Await(t, "the first sync", ready)
		var ids []string
		for round := range 5 {
			ids = append(ids, h.Emit(t, 2)...)
			if round%2 == 0 {
				sink.Await(t, "the first of two", has(ids[:len(ids)-1]))
			}
			stop()
			stop = Start(t, h.Source(t), sink)
		}
		sink.Await(t, fmt.Sprintf("%d events", len(ids)), has(ids))
		stop()
		check(t, h, sink)
		sink.Look(func(r *Recorded) {
			if len(r.Repeats) > 0 || len(r.Events) != len(ids) {
				t.Errorf("%d events for %d ids, repeats %v", len(r.Events), len(ids), r.Repeats)
			}
		})
	})
	t.Run("survives an outage of the platform", func(t *testing.T) {
		h, sink := harness(t), NewRecorder()
		if h.Break == nil {
			t.Log("this platform cannot be broken in a test")
			return
		}
		stop := Start(t, h.Source(t), sink)
		sink.Await(t, "the first sync", ready)
		ids := h.Emit(t, 1)
		sink.Await(t, "an event", has(ids))
		mend := h.Break(t)
		sink.Await(t, "a report of the outage", func(r *Recorded) bool {
			return r.Status.State == connector.StateFailing && r.Status.Error != "" && !r.Status.ErrorAt.IsZero()
		})
		mend()
		ids = append(ids, h.Emit(t, 2)...)
		sink.Await(t, "events after the outage", has(ids))
		sink.Await(t, "a report without error", func(r *Recorded) bool { return r.Status.Error == "" })
		stop()
		check(t, h, sink)
	})
}

// check tests what holds of every batch.
func check(t *testing.T, h Harness, sink *Recorder) {
	t.Helper()
	sink.Look(func(r *Recorded) {
		for i, b := range r.Batches {
			c := &b.Changes
			if c.Tenant != "" {
				t.Errorf("batch %d: the tenant is the sink's to set, it is %q", i, c.Tenant)
			}
			if len(b.Events) > 0 && b.Cursor == nil {
				t.Errorf("batch %d: events without a cursor", i)
			}
			if n := len(c.Objects) + len(c.DeleteObjects) + len(c.Users) + len(c.Groups) + len(c.Documents); n > connector.MaxBatch || len(b.Events) > connector.MaxBatch {
				t.Errorf("batch %d: %d rows and %d events, want at most %d", i, n, len(b.Events), connector.MaxBatch)
			}
			for _, e := range b.Events {
				if e.Source != h.Origin || e.ID == "" || e.Type == "" || e.Time.IsZero() {
					t.Errorf("batch %d: event %+v lacks a source, id, type or time", i, e)
				}
			}
			for _, o := range c.Objects {
				if o.Origin != h.Origin || o.Type == "" {
					t.Errorf("batch %d: object %s has origin %q, type %q", i, o.ID, o.Origin, o.Type)
				}
			}
			for _, s := range c.Grants {
				bad := slices.ContainsFunc(s.Grants, func(g belfry.Grant) bool { return g.Origin != h.Origin || g.Object != s.Object })
				if s.Origin != h.Origin || bad {
					t.Errorf("batch %d: grants on %s have another origin or object", i, s.Object)
				}
			}
		}
		for id, o := range r.Objects {
			if _, ok := r.Objects[o.Parent]; !ok && o.Parent != "" {
				t.Errorf("object %s is below %s, which was never handed", id, o.Parent)
			}
		}
		for _, e := range r.Events {
			if _, ok := r.Objects[e.Object]; !ok && e.Object != "" {
				t.Errorf("event %s is on %s, which was never handed", e.ID, e.Object)
			}
		}
	})
}

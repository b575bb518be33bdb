package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/testtime"
)

// parking is a store that counts what is parked, and refuses to as often as it
// is told to.
type parking struct {
	*store.DB
	refuse func() bool
	then   func() // after the first time

	mu     sync.Mutex
	parked map[string]bool
}

func (p *parking) Park(ctx context.Context, tenant string, ids []string) error {
	p.mu.Lock()
	if then := p.then; then != nil {
		p.then = nil
		defer then()
	}
	defer p.mu.Unlock()
	if p.refuse != nil && p.refuse() {
		return belfry.Errorf(belfry.Unavailable, "the database is away")
	}
	for _, id := range ids {
		p.parked[id] = true
	}
	return p.DB.Park(ctx, tenant, ids)
}

func (p *parking) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.parked)
}

// What goes from memory is never looked for by its destination, and nothing is
// written for it to be found so; what is refused is, as soon as it is wanted.
func TestOnlyWhatWaitsOnDiskIsParked(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		p := newPost(t, sqlite(t))
		s := &parking{DB: p.db, parked: map[string]bool{}}
		p.tune = func(o *DispatcherOptions) { o.Store, o.Queue = s, 64 }
		p.grant["a"], p.grant["b"] = terms{concurrency: 1}, terms{concurrency: 1} // slower than anything is planned
		p.answer = func(ctx context.Context, dest string, _ int) belfry.Outcome { return takes(ctx, 50*time.Millisecond) }
		p.start()
		for range 50 {
			p.plan("t", false, letter{dest: "a"}, letter{dest: "b"}, letter{dest: "c"})
			<-time.After(20 * time.Millisecond)
		}
		<-time.After(time.Second)
		if n := s.count(); n != 0 {
			t.Errorf("%d of what was sent from memory were parked", n)
		}
		for range 300 { // at once: more than its queue
			p.plan("t", false, letter{dest: "a"}, letter{dest: "b", priority: belfry.PriorityNormal + 1})
		}
		<-time.After(time.Minute)
		if n := p.count(func(string) bool { return true }); n != 750 || p.open("t") != 0 {
			t.Errorf("%d of 750 were delivered, %d are open", n, p.open("t"))
		}
		if n := s.count(); n == 0 || n > 300 { // those that were planned behind a mark are parked already
			t.Errorf("%d were parked afterwards", n)
		}
		p.once()
	})
}

// What is dropped from memory after its destination's others were parked, and
// before they are read, is read as well.
func TestDroppedWhileOthersAreParked(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		p := newPost(t, sqlite(t))
		s := &parking{DB: p.db, parked: map[string]bool{}}
		dropped := 0
		s.then = func() {
			p.d.mu.Lock()
			defer p.d.mu.Unlock()
			for _, ds := range p.d.dests {
				dropped += ds.queued
				p.d.forget(ds)
			}
		}
		p.tune = func(o *DispatcherOptions) { o.Store, o.Queue, o.Poll = s, 64, time.Hour }
		p.grant["a"] = terms{concurrency: 1}
		p.answer = func(ctx context.Context, dest string, _ int) belfry.Outcome { return takes(ctx, 500*time.Millisecond) }
		p.start()
		for range 100 {
			p.plan("t", false, letter{dest: "a"})
		}
		<-time.After(2 * time.Minute)
		if n := p.count(func(string) bool { return true }); n != 100 || dropped == 0 {
			t.Errorf("%d of 100 were delivered; %d had been dropped", n, dropped)
		}
		p.once()
	})
}

// Whatever is refused, dropped from memory, planned behind others or left by a
// process that ends, and however often the database does not park it, is sent.
func TestNothingParkedIsForgotten(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testtime.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				p := newPost(t, sqlite(t))
				s := &parking{DB: p.db, parked: map[string]bool{}}
				refusals := rand.New(rand.NewPCG(seed, 2))
				s.refuse = func() bool { return refusals.IntN(3) == 0 }
				p.tune = func(o *DispatcherOptions) { o.Store, o.Window, o.Queue, o.Poll = s, 48, 8, time.Second }
				began := time.Now()
				p.answer = func(ctx context.Context, dest string, n int) belfry.Outcome {
					since := time.Since(began)
					switch {
					case dest == "d0" && since < 20*time.Second: // long enough for its breaker
						return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "down"}
					case dest == "d1":
						return takes(ctx, 300*time.Millisecond)
					case dest == "d2" && n == 1:
						return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "once"}
					}
					return takes(ctx, time.Duration(n)*time.Millisecond)
				}
				p.start()
				var ids []string
				for range 120 {
					var letters []letter
					for i := range 6 {
						if r.IntN(2) == 0 {
							letters = append(letters, letter{dest: fmt.Sprint("d", i), priority: r.IntN(2), line: int64(max(0, r.IntN(4)-2))})
						}
					}
					ids = append(ids, p.plan("t", r.IntN(4) == 0, letters...)...)
					if r.IntN(4) == 0 {
						<-time.After(time.Duration(r.IntN(400)) * time.Millisecond)
					}
					if r.IntN(25) == 0 {
						p.stop()
						p.start()
					}
				}
				for range 200 {
					if p.open("t") == 0 {
						break
					}
					<-time.After(time.Minute)
				}
				got := map[string]bool{}
				for _, s := range p.sent {
					got[s.id] = true
				}
				if len(got) != len(ids) || p.open("t") != 0 {
					t.Errorf("%d of %d were delivered, %d are open", len(got), len(ids), p.open("t"))
				}
			})
		})
	}
}

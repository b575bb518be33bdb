package pipeline

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/store"
)

// doubtful is a store behind a bad network: of the first calls to each door
// some are done and their answers lost, and some are not done.
type doubtful struct {
	*store.DB
	mu           sync.Mutex
	plans, tries int
	read         func() // between a read of due rows and its answer
}

func (d *doubtful) next(n *int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	*n++
	return *n
}

var errLost = belfry.Errorf(belfry.Unavailable, "the connection was lost")

func (d *doubtful) CommitPlans(ctx context.Context, pages []belfry.PlanPage) ([]error, error) {
	errs, err := d.DB.CommitPlans(ctx, pages)
	if n := d.next(&d.plans); n < 40 && n%2 == 1 {
		return nil, errLost
	}
	return errs, err
}

func (d *doubtful) RecordAttempts(ctx context.Context, as []belfry.Attempt) ([]bool, error) {
	switch n := d.next(&d.tries); {
	case n < 30 && n%3 == 1:
		return nil, errLost
	case n < 30 && n%3 == 2:
		_, _ = d.DB.RecordAttempts(ctx, as)
		return nil, errLost
	}
	return d.DB.RecordAttempts(ctx, as)
}

func (d *doubtful) DueDeliveries(ctx context.Context, tenant string, after belfry.DueKey, until time.Time, limit int, shards []int) ([]belfry.Delivery, error) {
	rows, err := d.DB.DueDeliveries(ctx, tenant, after, until, limit, shards)
	if d.read != nil {
		d.read()
	}
	return rows, err
}

// Commits whose answers are lost leave nothing behind the cursor, and retries
// that fell due before they were recorded are found.
// feature: NEW-10
func TestLostAnswersStrandNothing(t *testing.T) {
	db := &doubtful{DB: sqlite(t)}
	h := newHouse(t, db.DB, func(p *PlannerOptions, d *DispatcherOptions) {
		p.Store, d.Store = db, db
		p.Poll, d.Poll = 10*time.Millisecond, 10*time.Millisecond
		d.Jitter = rand.Float64
	})
	h.endpoints(3, "course.*")
	h.apply(belfry.Changes{Documents: []belfry.Document{h.endpoint("ep_001", belfry.EndpointActive, slices.Repeat([]string{"20ms"}, 10))}})
	var mu sync.Mutex
	failed := map[string]bool{}
	h.r.respond = func(_ context.Context, target channel.Target, m *belfry.Message) belfry.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if target.Endpoint.ID == "ep_001" && !failed[m.ID] && len(failed)%4 != 3 {
			failed[m.ID] = true
			return belfry.Outcome{Kind: belfry.OutcomeRetry, Throttled: true}
		}
		failed[m.ID] = true
		return belfry.Outcome{Kind: belfry.OutcomeDelivered}
	}
	h.run()
	for range 20 {
		h.accept(5, "course.updated")
		<-time.After(10 * time.Millisecond)
	}
	h.r.wait(t, 3*100)
	h.drained()
	h.r.once(t)
}

// A row that is committed while a page of the backlog is read, and lies within
// it, is not passed over by it.
// feature: NEW-10
func TestReadsPassNothingOver(t *testing.T) {
	db := &doubtful{DB: sqlite(t), plans: 100, tries: 100}
	h := newHouse(t, db.DB, func(p *PlannerOptions, d *DispatcherOptions) { p.Store, d.Store = db, db })
	h.endpoints(1, "course.*")
	ctx := context.Background()
	// plan commits an event's page as the Planner does, due at a given time.
	plan := func(due time.Time) (ds []belfry.Delivery, p *Payload) {
		pending, err := h.db.PendingPlans(ctx, belfry.DefaultTenant, "", 10, nil)
		if err != nil || len(pending) != 1 {
			t.Errorf("%d pending, %v", len(pending), err)
			return nil, nil
		}
		j := jobOf(&pending[0])
		page, _ := h.plan.pageOf(ctx, &j, part{})
		page.Deliveries[0].Due = due
		if _, err := h.db.CommitPlans(ctx, []belfry.PlanPage{page}); err != nil {
			t.Error(err)
		}
		return page.Deliveries, NewPayload(j.acc)
	}
	first := clock().Add(-time.Minute)
	h.accept(1, "course.updated")
	plan(first)
	h.accept(1, "course.updated")
	read := 0
	db.read = func() {
		if read++; read == 1 {
			ds, p := plan(first.Add(-time.Second))
			h.send.Handover(ds, p, []bool{false}, false)
		}
	}
	var sending sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	sending.Go(func() { _ = h.send.Run(ctx) })
	h.r.wait(t, 2)
	h.drained()
	stop()
	sending.Wait()
}

// Times in memory are those that are stored, to the microsecond: a row must
// not sort before the key it is looked for by.
func TestDueTimesAreAsStored(t *testing.T) {
	for _, jitter := range []float64{0, 0.123456789, 0.999999999} {
		a := settle(&belfry.Delivery{}, belfry.Outcome{Kind: belfry.OutcomeRetry}, clock(), 1234567, []time.Duration{300 * time.Millisecond}, jitter)
		if !a.Due.Equal(a.Due.Truncate(time.Microsecond)) {
			t.Errorf("jitter %v: due at %v", jitter, a.Due)
		}
	}
}

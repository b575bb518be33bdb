package pipeline

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// A page that was committed before, by another process or an earlier try, is
// made again, later: what is stored is due earlier than what was made now, and
// the backlog may have been read past it while places were held.
// feature: NEW-10, NEW-12
func TestPageMadeTwiceStrandsNothing(t *testing.T) {
	db := &doubtful{DB: sqlite(t), plans: 100, tries: 100}
	reads := make(chan struct{}, 1000)
	db.read = func() { reads <- struct{}{} }
	h := newHouse(t, db.DB, func(p *PlannerOptions, d *DispatcherOptions) {
		p.Store, d.Store = db, db
		d.Poll = 5 * time.Millisecond
	})
	h.endpoints(3, "course.*")
	h.accept(1, "course.updated")
	ctx, stop := context.WithCancel(context.Background())
	pending, err := h.db.PendingPlans(ctx, belfry.DefaultTenant, "", 10, nil)
	if err != nil || len(pending) != 1 {
		t.Fatalf("%d pending, %v", len(pending), err)
	}
	j := jobOf(&pending[0])
	page, _ := h.plan.pageOf(ctx, &j, part{})
	again := page
	again.Deliveries = slices.Clone(page.Deliveries)
	if _, err := h.db.CommitPlans(ctx, []belfry.PlanPage{page}); err != nil {
		t.Fatal(err)
	}
	for i := range again.Deliveries {
		again.Deliveries[i].Due = page.Deliveries[i].Due.Add(20 * time.Millisecond)
	}
	<-time.After(30 * time.Millisecond) // then it is due
	pl := planned{page: again, payload: NewPayload(j.acc), job: j}
	pl.places = h.send.Reserve(again.Deliveries, pl.payload)
	if slices.Contains(pl.places, false) {
		t.Fatalf("no place is held: %v", pl.places)
	}
	var sending sync.WaitGroup
	sending.Go(func() { _ = h.send.Run(ctx) })
	for range 3 { // the first is over, and the cursor past it
		<-reads
	}
	h.plan.moved(&pl)
	h.r.wait(t, 3)
	h.r.once(t)
	h.drained()
	stop()
	sending.Wait()
}

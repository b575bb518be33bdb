package pipeline

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// readings is a store that counts what is read of it for sending, and may fail
// to read what others planned.
type readings struct {
	*store.DB
	mu           sync.Mutex
	named, due   int // rows
	fails, reads int
	during       func() // something is read by its destination: once
	looked       bool   // the backlog was read to its end, and it was asked what comes after
}

func (c *readings) NextDue(ctx context.Context, tenant string, after time.Time, shards []int) (time.Time, bool, error) {
	due, ok, err := c.DB.NextDue(ctx, tenant, after, shards)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = c.looked || err == nil
	return due, ok, err
}

func (c *readings) hasLooked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looked
}

func (c *readings) DueFor(ctx context.Context, tenant, destination string, urgent bool, after belfry.DueKey, until time.Time, limit int) ([]belfry.Delivery, error) {
	rows, err := c.DB.DueFor(ctx, tenant, destination, urgent, after, until, limit)
	c.mu.Lock()
	during := c.during
	c.during = nil
	c.mu.Unlock()
	if during != nil {
		during()
	}
	return rows, err
}

func (c *readings) PlannedDeliveries(ctx context.Context, tenant string, events []string, until time.Time, shards []int) ([]belfry.Delivery, error) {
	rows, err := c.DB.PlannedDeliveries(ctx, tenant, events, until, shards)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if c.reads <= c.fails {
		return nil, errLost
	}
	c.named += len(rows)
	return rows, err
}

func (c *readings) DueDeliveries(ctx context.Context, tenant string, after belfry.DueKey, until time.Time, limit int, shards []int) ([]belfry.Delivery, error) {
	rows, err := c.DB.DueDeliveries(ctx, tenant, after, until, limit, shards)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due += len(rows)
	return rows, err
}

// wakes passes on what one process wakes another.
type wakes func(belfry.Wake)

func (t wakes) Tell(w belfry.Wake) { t(w) }

// What one process plans, another sends that has its shard: it reads what is its
// own, once, and nothing of what it has or what is not its own. Where there is no
// room, or that read fails, or too many events are told of, it is found with
// everything else that is due. Nothing is sent twice.
// feature: NEW-12
func TestPlannedElsewhere(t *testing.T) {
	const endpoints, events = 20, 12
	for name, c := range map[string]struct {
		window int // of the one that reads
		fails  int
		spread bool // only from when on something is due is told
		exact  bool
	}{
		"told of each":      {exact: true},
		"little room":       {window: 16},
		"reads that fail":   {fails: 2},
		"told of the first": {spread: true},
	} {
		for engine, open := range map[string]func(testing.TB) *store.DB{"SQLite": storetest.SQLite, "PostgreSQL": storetest.Postgres} {
			t.Run(fmt.Sprint(name, " on ", engine), func(t *testing.T) {
				t.Parallel()
				db := &readings{DB: open(t), fails: c.fails}
				reader := newHouse(t, db.DB, func(_ *PlannerOptions, d *DispatcherOptions) {
					d.Store, d.Shards, d.Poll, d.Window = db, half{odd: 1}, time.Hour, c.window
				})
				pass := wakes(func(w belfry.Wake) {
					if c.spread {
						w.Spread()
					}
					reader.send.Planned(w.Tenant, w.Planned)
					if !w.Due.IsZero() {
						reader.send.Wake(w.Tenant, w.Due)
					}
				})
				h := newHouse(t, db.DB, func(p *PlannerOptions, d *DispatcherOptions) {
					d.Shards, d.Peers, p.Peers = half{odd: 0}, pass, pass
				})
				h.endpoints(endpoints, "course.*")
				stop := reader.sending()
				defer stop()
				reader.until("the reader has looked", db.hasLooked)
				h.run()
				for range events / 4 {
					h.accept(4, "course.updated")
				}
				h.drained()
				others := 0
				for i := range endpoints {
					if belfry.Shard(belfry.DefaultTenant, fmt.Sprintf("ep_%03d", i))%2 == 1 {
						others += events
					}
				}
				if others == 0 || others == endpoints*events {
					t.Fatalf("%d deliveries are for the reader", others)
				}
				h.r.once(t)
				reader.r.once(t)
				if n, m := len(h.r.got), len(reader.r.got); n != endpoints*events-others || m != others {
					t.Errorf("one sent %d and the other %d, want %d and %d", n, m, endpoints*events-others, others)
				}
				db.mu.Lock()
				defer db.mu.Unlock()
				if c.exact && (db.named != others || db.due != 0) {
					t.Errorf("%d rows were read by the events' names and %d by when they are due, want %d and none", db.named, db.due, others)
				}
			})
		}
	}
}

// What is planned while the reader is at something else is no later than its
// turn: nothing is read a second time because it looks so.
// feature: NEW-12
func TestPlannedDuringAnotherRead(t *testing.T) {
	const endpoints = 20
	db := &readings{DB: storetest.SQLite(t)}
	reader := newHouse(t, db.DB, func(_ *PlannerOptions, d *DispatcherOptions) {
		d.Store, d.Shards, d.Poll = db, half{odd: 1}, time.Hour
	})
	told, over := make(chan struct{}, 1), make(chan struct{})
	h := newHouse(t, db.DB, func(p *PlannerOptions, d *DispatcherOptions) {
		pass := wakes(func(w belfry.Wake) {
			reader.send.Planned(w.Tenant, w.Planned)
			told <- struct{}{}
		})
		d.Shards, d.Peers, p.Peers = half{odd: 0}, pass, pass
	})
	h.endpoints(endpoints, "course.*")
	h.run()
	db.during = func() {
		defer close(over)
		h.accept(1, "course.updated")
		<-told
	}
	stop := reader.sending()
	defer stop()
	reader.until("the reader has looked", db.hasLooked)
	others, one := 0, ""
	for i := range endpoints {
		if name := fmt.Sprintf("ep_%03d", i); belfry.Shard(belfry.DefaultTenant, name)%2 == 1 {
			others, one = others+1, name
		}
	}
	reader.send.Requeue(belfry.DefaultTenant, one)
	<-over
	h.drained()
	reader.r.once(t)
	db.mu.Lock()
	defer db.mu.Unlock()
	if len(reader.r.got) != others || db.named != others || db.due != 0 {
		t.Errorf("%d sent, %d rows were read by the event's name and %d by when they are due, want %d, %d and none", len(reader.r.got), db.named, db.due, others, others)
	}
}

// lateRead is a store of which a read of what is to be planned shows an event
// that is planned before the answer is there.
type lateRead struct {
	*store.DB
	mu    sync.Mutex
	reads int
	pages int
	read  chan struct{}     // closed when the second read has seen the event
	gone  func(string) bool // the event is in memory no more
}

func (o *lateRead) PendingPlans(ctx context.Context, tenant, after string, limit int, shards []int) ([]belfry.PendingPlan, error) {
	rows, err := o.DB.PendingPlans(ctx, tenant, after, limit, shards)
	if err != nil || len(rows) == 0 {
		return rows, err
	}
	o.mu.Lock()
	o.reads++
	second := o.reads == 2
	o.mu.Unlock()
	if !second {
		return rows, nil
	}
	close(o.read)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !o.gone(rows[0].Accepted.EventID) {
		<-tick.C
	}
	return rows, nil
}

func (o *lateRead) CommitPlans(ctx context.Context, pages []belfry.PlanPage) ([]error, error) {
	<-o.read
	o.mu.Lock()
	o.pages += len(pages)
	o.mu.Unlock()
	return o.DB.CommitPlans(ctx, pages)
}

// An event whose plan was committed while the table was read is not planned
// anew because that read still has it.
// feature: NEW-12
func TestPlannedWhileTheTableIsRead(t *testing.T) {
	for name, shards := range map[string]Shards{"alone": Alone{}, "with others": half{odd: belfry.Shard(belfry.DefaultTenant, "course/1") % 2}} {
		t.Run(name, func(t *testing.T) {
			db := &lateRead{DB: storetest.SQLite(t), read: make(chan struct{})}
			h := newHouse(t, db.DB, func(p *PlannerOptions, d *DispatcherOptions) {
				p.Store, p.Shards, d.Shards = db, shards, shards
				p.Poll = time.Hour
			})
			db.gone = func(id string) bool {
				h.plan.mu.Lock()
				defer h.plan.mu.Unlock()
				_, held := h.plan.held[planKey{event: id}]
				return !held
			}
			h.endpoints(1, "course.*")
			h.accept(1, "course.updated")
			h.run()
			h.until("it is being planned", func() bool {
				h.plan.mu.Lock()
				defer h.plan.mu.Unlock()
				return len(h.plan.held) == 1
			})
			h.plan.Requeue()
			h.everythingPlanned()
			after := h.accept(1, "course.updated")[0]
			h.until("the next is planned", func() bool {
				st, err := db.Stats(context.Background())
				return err == nil && st.Tenants[belfry.DefaultTenant].PendingPlans == 0 && db.gone(after)
			})
			h.stop()
			if db.pages != 2 {
				t.Errorf("%d pages were made of two events", db.pages)
			}
		})
	}
}

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
				reader.until("the reader has looked", func() bool { return reader.looked() })
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

// looked reports whether the backlog was read to its end once.
func (h *house) looked() bool {
	h.send.mu.Lock()
	defer h.send.mu.Unlock()
	b := h.send.backlogs[belfry.DefaultTenant]
	return b != nil && !b.dirty && b.nextKnown
}

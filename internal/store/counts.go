package store

import (
	"context"
	"database/sql"
	"os"
	"sync"
	"time"
)

// TenantStats are a tenant's figures for operation and back-pressure.
type TenantStats struct {
	PendingPlans   int64 // events accepted and not yet planned
	OpenDeliveries int64 // deliveries that still want a send
	Version        int64
}

// Stats are the store's figures.
type Stats struct {
	Tenants map[string]TenantStats
	Size    int64 // bytes of the database, with its log
	Commits int64 // transactions since Open
	Jobs    int64 // calls those transactions served
}

// counts follows the numbers of pending plans and open deliveries, so that
// asking for them costs no scan. They are counted when the store is opened;
// after a commit whose outcome is unknown again, when next asked for. Where
// other processes work with the database, too, what they do is counted now and
// then: pending plans often, since ingest is held back by them and they are few,
// open deliveries seldom.
type counts struct {
	mu    sync.Mutex
	known bool
	epoch int // of forgets, to tell a count begun before one
	all   map[string]count
	// A commit whose outcome is unknown may still be finishing in the database
	// when it is counted again. Until doubt, counts are not kept for long.
	doubt   time.Time
	counted time.Time // when all was counted
	plans   time.Time // when pending plans were
}

// How long the outcome of a commit is in doubt, and how long a count taken
// meanwhile is kept; how long counts are kept that other processes change.
const (
	countsDoubt = time.Minute
	countsKept  = 5 * time.Second

	sharedPlansKept  = 2 * time.Second
	sharedCountsKept = time.Minute
)

// standing reports whether the counts can be used at a time. c.mu is held.
func (c *counts) standing(now time.Time, shared bool) bool {
	if !c.known || shared && now.Sub(c.counted) >= sharedCountsKept {
		return false
	}
	return !c.counted.Before(c.doubt) || now.Sub(c.counted) < countsKept
}

type count struct{ plans, open int64 }

type countDelta struct {
	tenant string
	count
}

// count notes a change that becomes true with the commit.
func (s *session) count(tenant string, plans, open int64) {
	if n := len(s.delta); n > 0 && s.delta[n-1].tenant == tenant {
		s.delta[n-1].plans += plans
		s.delta[n-1].open += open
		return
	}
	s.delta = append(s.delta, countDelta{tenant, count{plans, open}})
}

func (c *counts) add(delta []countDelta) {
	if len(delta) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++ // a count that runs now may or may not see this commit
	if !c.known {
		return
	}
	for _, d := range delta {
		n := c.all[d.tenant]
		n.plans += d.plans
		n.open += d.open
		c.all[d.tenant] = n
	}
}

func (c *counts) forget(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = false
	c.doubt = now.Add(countsDoubt)
	c.epoch++
}

// Stats gives the store's figures: it reads a few numbers, and on PostgreSQL
// asks for the size of every file of the database, some milliseconds of work.
func (db *DB) Stats(ctx context.Context) (Stats, error) {
	out := Stats{Tenants: map[string]TenantStats{}, Commits: db.commits.Load(), Jobs: db.jobs.Load()}
	err := db.query(ctx, func(rows *sql.Rows) error {
		var tenant string
		var t TenantStats
		if err := rows.Scan(&tenant, &t.Version); err != nil {
			return err
		}
		out.Tenants[tenant] = t
		return nil
	}, "SELECT tenant, version FROM versions")
	if err != nil {
		return Stats{}, err
	}
	all, err := db.figures(ctx)
	if err != nil {
		return Stats{}, err
	}
	for tenant, n := range all {
		t := out.Tenants[tenant]
		t.PendingPlans, t.OpenDeliveries = n.plans, n.open
		out.Tenants[tenant] = t
	}
	out.Size, err = db.size(ctx)
	return out, err
}

// Pending is how many accepted events wait to be planned. Unlike Stats it asks
// the database nothing but what is to be counted anew, and suits whoever asks
// several times a second.
func (db *DB) Pending(ctx context.Context) (n int64, err error) {
	all, err := db.figures(ctx)
	for _, c := range all {
		n += c.plans
	}
	return n, err
}

func (db *DB) figures(ctx context.Context) (map[string]count, error) {
	all, err := db.countAll(ctx)
	if err == nil && db.fenceID() != "" {
		err = db.countPlans(ctx, all)
	}
	return all, err
}

func (db *DB) countAll(ctx context.Context) (map[string]count, error) {
	c := &db.counts
	for tries := 0; ; tries++ {
		c.mu.Lock()
		if c.standing(db.now(), db.fenceID() != "") {
			out := make(map[string]count, len(c.all))
			for k, v := range c.all {
				out[k] = v
			}
			c.mu.Unlock()
			return out, nil
		}
		epoch := c.epoch
		c.mu.Unlock()
		all := map[string]count{}
		err := db.query(ctx, func(rows *sql.Rows) error {
			var tenant string
			var n count
			if err := rows.Scan(&tenant, &n.plans, &n.open); err != nil {
				return err
			}
			have := all[tenant]
			all[tenant] = count{have.plans + n.plans, have.open + n.open}
			return nil
		}, `SELECT tenant, count(*), 0 FROM plans GROUP BY tenant
			UNION ALL SELECT tenant, 0, count(*) FROM deliveries WHERE state < 3 GROUP BY tenant`)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		if c.epoch == epoch {
			c.known, c.all, c.counted = true, all, db.now()
		}
		known := c.known
		c.mu.Unlock()
		// Under steady load no count is ever exact: then it may stay off by
		// what was committed while it ran.
		if !known && tries == 2 {
			c.mu.Lock()
			c.known, c.all, c.counted = true, all, db.now()
			c.mu.Unlock()
		}
	}
}

// countPlans counts pending plans again unless that was done a moment ago.
func (db *DB) countPlans(ctx context.Context, all map[string]count) error {
	c := &db.counts
	now := db.now()
	c.mu.Lock()
	due := now.Sub(c.plans) >= sharedPlansKept
	c.mu.Unlock()
	if !due {
		return nil
	}
	plans := map[string]int64{}
	err := db.query(ctx, func(rows *sql.Rows) error {
		var tenant string
		var n int64
		err := rows.Scan(&tenant, &n)
		plans[tenant] = n
		return err
	}, "SELECT tenant, count(*) FROM plans GROUP BY tenant")
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plans = now
	for tenant := range plans {
		all[tenant] = count{plans[tenant], all[tenant].open}
	}
	for tenant, n := range all {
		n.plans = plans[tenant]
		all[tenant] = n
		if c.known {
			c.all[tenant] = n
		}
	}
	return nil
}

// firstCount counts before the writers start, when nothing changes. A backlog
// too large to be counted at once is left for when somebody asks.
func (db *DB) firstCount(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err := db.countAll(short)
	if short.Err() != nil {
		return ctx.Err()
	}
	return err
}

// size is the database's size on disk.
func (db *DB) size(ctx context.Context) (n int64, err error) {
	if db.pg {
		err := db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&n) }, "SELECT pg_database_size(current_database())")
		return n, err
	}
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(db.path + suffix); err == nil {
			n += info.Size()
		}
	}
	return n, nil
}

// Calls is the number of calls at the doors: those that wait, and those in a
// transaction at this moment.
func (db *DB) Calls() (waiting, committing int) {
	for _, w := range db.writers {
		w.mu.Lock()
		for _, d := range w.doors {
			waiting += len(d.queue)
		}
		committing += w.taken
		w.mu.Unlock()
	}
	return waiting, committing
}

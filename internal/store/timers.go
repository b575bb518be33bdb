package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

var (
	putTimer = insert("timers", "tenant:t kind:t id:t shard:n due:n body:b",
		"ON CONFLICT (tenant, kind, id) DO UPDATE SET shard = excluded.shard, due = excluded.due, body = excluded.body")
	firstTimer = insert("timers", "tenant:t kind:t id:t shard:n due:n body:b", "ON CONFLICT DO NOTHING")
)

func (s *session) putTimers(shape *shape, timers []belfry.Timer) error {
	rows := s.rows(shape)
	for _, t := range last(timers, func(t *belfry.Timer) string { return t.Kind + "\x00" + t.ID }) {
		rows.text(t.Tenant).text(t.Kind).text(t.ID).num(int64(t.Shard)).num(micros(t.Due)).blob(blobOf(t.Body))
	}
	_, err := rows.flush()
	return err
}

// timers puts timers of an edit, after those that it drops.
func (e *edit) timers() error {
	for _, k := range e.ch.DropTimers {
		if _, err := e.exec("DELETE FROM timers WHERE tenant = $1 AND kind = $2 AND id = $3", e.tenant, k.Kind, k.ID); err != nil {
			return err
		}
	}
	if len(e.ch.Timers) == 0 {
		return nil
	}
	return e.putTimers(putTimer, e.ch.Timers)
}

// TimersDue are the tenants that have a timer that is due: one probe of an index
// for each tenant, in one statement.
func (db *DB) TimersDue(ctx context.Context, now time.Time) (tenants []string, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var t string
		err := rows.Scan(&t)
		tenants = append(tenants, t)
		return err
	}, "SELECT v.tenant FROM versions v WHERE EXISTS (SELECT 1 FROM timers t WHERE t.tenant = v.tenant AND t.due <= $1) ORDER BY v.tenant", micros(now))
	return tenants, err
}

// DueTimers lists timers that are due, those that are due for longest first.
// shards are those of planning that are meant; nil = all.
func (db *DB) DueTimers(ctx context.Context, tenant string, now time.Time, shards []int, limit int) (list []belfry.Timer, err error) {
	err = db.queryShards(ctx, func(rows *sql.Rows) error {
		t, err := scanTimer(rows)
		list = append(list, t)
		return err
	}, "SELECT tenant, kind, id, shard, due, body FROM timers WHERE "+andShards(shards)+"tenant = $1 AND due <= $2 ORDER BY due LIMIT $3", shards, tenant, micros(now), limit)
	return list, err
}

func scanTimer(rows *sql.Rows) (t belfry.Timer, err error) {
	var due int64
	err = rows.Scan(&t.Tenant, &t.Kind, &t.ID, &t.Shard, &due, &t.Body)
	t.Due = fromMicros(due)
	return t, err
}

// TimersOf lists timers of a kind whose id begins with a prefix.
func (db *DB) TimersOf(ctx context.Context, tenant, kind, prefix string, limit int) (list []belfry.Timer, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		t, err := scanTimer(rows)
		list = append(list, t)
		return err
	}, "SELECT tenant, kind, id, shard, due, body FROM timers WHERE tenant = $1 AND kind = $2 AND id >= $3 AND id < $4 ORDER BY id LIMIT $5",
		tenant, kind, prefix, prefix+"\U0010ffff", limit)
	return list, err
}

// MoveTimer ends a timer, or, with next, sets it to what comes next, and orders
// runs of planning with it, in one transaction. ok is false when the timer is
// not as it was read: somebody else acted on it, or ended it, and nothing is
// done.
func (db *DB) MoveTimer(ctx context.Context, t belfry.Timer, next *belfry.Timer, runs []belfry.PlannedRun) (ok bool, err error) {
	err = db.doors.life.do(ctx, &job{weight: 1 + len(runs), data: func(s *session) error {
		ok = false
		version := int64(0)
		if len(runs) > 0 { // an edit takes its version first: see lifeStep
			if version, err = s.bump(t.Tenant); err != nil {
				return err
			}
		}
		const at = " WHERE tenant = $1 AND kind = $2 AND id = $3 AND due = $4"
		var n int64
		if next == nil {
			n, err = s.exec("DELETE FROM timers"+at, t.Tenant, t.Kind, t.ID, micros(t.Due))
		} else {
			n, err = s.exec("UPDATE timers SET due = $5, body = $6"+at, t.Tenant, t.Kind, t.ID, micros(t.Due), micros(next.Due), blobOf(next.Body))
		}
		if err != nil || n == 0 {
			return err
		}
		ok = true
		if len(runs) == 0 {
			return nil
		}
		rows := s.rows(insertRun)
		for i := range runs {
			terms, err := json.Marshal(runs[i].Terms)
			if err != nil {
				return err
			}
			object := runs[i].Object
			if object == "" {
				object = belfry.RootObject
			}
			rows.text(t.Tenant).text(runs[i].EventID).num(version).num(int64(belfry.Shard(t.Tenant, object))).text(string(terms))
		}
		added, err := rows.flush()
		s.count(t.Tenant, added, 0)
		return err
	}})
	return ok, err
}

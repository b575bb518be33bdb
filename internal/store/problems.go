package store

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

var insertProblem = insert("problems", "tenant:t problem:b event_id:t", "ON CONFLICT DO NOTHING")

// Problems that are never resolved are forgotten after so long, and that others
// were resolved somewhat sooner; some rows whenever others come.
const (
	problemsKept    = 400 * 24 * time.Hour
	resolutionsKept = 30 * 24 * time.Hour
	problemsForgot  = 1000
)

// noteProblems notes what events raise that say so. Problems are told apart by
// their source, as ids of events are.
func (s *session) noteProblems(list []*acceptance) error {
	var tenants []string
	var rows *rows
	for _, a := range list {
		for i := range a.drafts {
			d, r := &a.drafts[i], &a.receipts[i]
			if d.Event.Problem == "" || r.Duplicate {
				continue
			}
			if rows == nil {
				rows = s.rows(insertProblem)
			}
			key := keyOf(d.Event.Source, d.Event.Problem)
			rows.text(d.Tenant).blob(key[:]).text(r.EventID)
			if n := len(tenants); n == 0 || tenants[n-1] != d.Tenant {
				tenants = append(tenants, d.Tenant)
			}
		}
	}
	if rows == nil {
		return nil
	}
	if _, err := rows.flush(); err != nil {
		return err
	}
	for _, tenant := range tenants {
		if err := s.forgetOld("problems", tenant, problemsKept); err != nil {
			return err
		}
	}
	return nil
}

// forgetOld removes some rows of events accepted long ago.
func (s *session) forgetOld(table, tenant string, kept time.Duration) error {
	_, err := s.exec("DELETE FROM "+table+" WHERE tenant = $1 AND event_id IN (SELECT event_id FROM "+table+" WHERE tenant = $1 AND event_id < $2 ORDER BY event_id LIMIT $3)",
		tenant, belfry.MinID(belfry.EventPrefix, s.db.now().Add(-kept)), problemsForgot)
	return err
}

// Raised lists events of a source that raised a problem, or have that id, the
// oldest first.
func (db *DB) Raised(ctx context.Context, tenant, source, problem string, limit int) ([]string, error) {
	key := keyOf(source, problem)
	return db.strings(ctx, `SELECT event_id FROM (SELECT event_id FROM problems WHERE tenant = $1 AND problem = $2
		UNION SELECT event_id FROM dedupe WHERE tenant = $1 AND identity = $2) AS e ORDER BY event_id LIMIT $3`, tenant, key[:], limit)
}

// endedCursor begins the cursor of a plan that was ended; the event that did so
// and the cursor it had follow.
const endedCursor = belfry.EndedCursor

// End stops what ended events still have to say: open deliveries are cancelled,
// escalations end, and plans that are not complete say nothing more. It does
// about n deliveries at a time; more says that there are more, and it is to be
// asked again. The last time it notes that the problem is resolved and forgets
// who followed it. cancelled are deliveries of this time.
func (db *DB) End(ctx context.Context, end belfry.Ending, n int) (cancelled []string, more bool, err error) {
	if err := clean(append([]string{end.Tenant, end.By, end.Source, end.Problem}, end.Events...)...); err != nil {
		return nil, false, err
	}
	key := keyOf(end.Source, end.Problem)
	type answer struct {
		cancelled []string
		more      bool
	}
	out := &answer{} // whoever stops waiting does not read it
	err = db.doors.life.do(ctx, &job{weight: len(end.Events) + 1, data: func(s *session) error {
		out.cancelled, out.more = nil, false
		version := int64(0)
		var err error
		if len(end.Events) > 0 { // an edit takes its version first
			if version, err = s.bump(end.Tenant); err != nil {
				return err
			}
		}
		because := s.scribe.reason(&belfry.Reason{Code: belfry.Resolved, Detail: "by " + end.By})
		for _, id := range end.Events {
			if err := s.endPlan(end.Tenant, id, end.By); err != nil {
				return err
			}
			from, to, ok := belfry.DeliveryRange(id)
			if !ok {
				continue
			}
			before := len(out.cancelled)
			err := s.query(func(rows *sql.Rows) error {
				var d string
				err := rows.Scan(&d)
				out.cancelled = append(out.cancelled, d)
				return err
			}, `UPDATE deliveries SET state = 6, ended = $2 WHERE tenant = $1 AND id IN
				(SELECT id FROM deliveries WHERE tenant = $1 AND id >= $3 AND id < $4 AND event_id = $5 AND state < 3 ORDER BY id LIMIT $6) RETURNING id`,
				end.Tenant, because, from, to, id, n-before)
			if err != nil {
				return err
			}
			if len(out.cancelled) >= n {
				out.more = true
				break
			}
		}
		s.count(end.Tenant, 0, -int64(len(out.cancelled)))
		for _, d := range out.cancelled { // other nodes follow the log of changes
			s.change(end.Tenant, version, belfry.KindDelivery, d)
		}
		if out.more {
			return nil
		}
		for _, id := range end.Events {
			if _, err := s.exec("DELETE FROM problems WHERE tenant = $1 AND event_id = $2", end.Tenant, id); err != nil {
				return err
			}
		}
		if _, err := s.exec("DELETE FROM follows WHERE tenant = $1 AND problem = $2", end.Tenant, key[:]); err != nil {
			return err
		}
		_, err = s.exec(`INSERT INTO resolutions (tenant, problem, at, event_id) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant, problem) DO UPDATE SET
			at = CASE WHEN excluded.at > resolutions.at THEN excluded.at ELSE resolutions.at END,
			event_id = CASE WHEN excluded.at > resolutions.at THEN excluded.event_id ELSE resolutions.event_id END`, end.Tenant, key[:], micros(end.At), end.By)
		if err != nil {
			return err
		}
		return s.forgetOld("resolutions", end.Tenant, resolutionsKept)
	}})
	return out.cancelled, out.more, err
}

// endPlan makes whoever plans an event find its plan moved, and then ended; and
// nobody be called because of it.
func (s *session) endPlan(tenant, id, by string) error {
	if _, err := s.exec("UPDATE plans SET cursor = $3 || cursor WHERE tenant = $1 AND event_id = $2 AND run = 0 AND substr(cursor, 1, 6) <> '"+endedCursor+"'",
		tenant, id, endedCursor+by+"/"); err != nil {
		return err
	}
	_, err := s.exec("DELETE FROM timers WHERE tenant = $1 AND kind = $2 AND id >= $3 AND id < $4",
		tenant, belfry.TimerEscalation, belfry.EscalationTimer(id, ""), belfry.EscalationTimer(id, "~"))
	return err
}

// ResolvedBy is the event that resolved a problem last, at or after a time;
// empty = none did.
func (db *DB) ResolvedBy(ctx context.Context, tenant, source, problem string, since time.Time) (by string, err error) {
	key := keyOf(source, problem)
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&by) },
		"SELECT event_id FROM resolutions WHERE tenant = $1 AND problem = $2 AND at >= $3", tenant, key[:], micros(since))
	return by, err
}

// Followers are the users who follow a problem after one of them, in their
// order: those who mute it, or those who want to be told.
func (db *DB) Followers(ctx context.Context, tenant, source, problem, after string, mute bool, limit int) ([]string, error) {
	column := "told"
	if mute {
		column = "muted"
	}
	key := keyOf(source, problem)
	return db.strings(ctx, "SELECT DISTINCT who FROM follows WHERE tenant = $1 AND problem = $2 AND who > $3 AND "+column+" = 1 ORDER BY who LIMIT $4", tenant, key[:], after, limit)
}

// PutFollow notes that a user follows the problem of an event, and ends what is
// open for her of that event when she mutes it. cancelled are those deliveries.
func (db *DB) PutFollow(ctx context.Context, tenant string, f belfry.Follow, source, problem string, audit belfry.AuditEntry) (cancelled []string, err error) {
	if err := clean(tenant, f.User, f.Event, source, problem); err != nil {
		return nil, err
	}
	key := keyOf(source, problem)
	out := new([]string)
	err = db.doors.edit.do(ctx, &job{weight: 1, data: func(s *session) error {
		*out = nil
		version, err := s.bump(tenant)
		if err != nil {
			return err
		}
		_, err = s.exec(`INSERT INTO follows (tenant, who, event_id, problem, muted, told, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (tenant, who, event_id) DO UPDATE SET muted = excluded.muted, told = excluded.told, problem = excluded.problem`,
			tenant, f.User, f.Event, key[:], bit(f.Mute), bit(f.Tell), micros(f.Since))
		if err == nil {
			err = s.audit(tenant, version, []belfry.AuditEntry{audit})
		}
		from, to, ok := belfry.DeliveryRange(f.Event)
		if err != nil || !f.Mute || !ok {
			return err
		}
		because := s.scribe.reason(&belfry.Reason{Code: belfry.MutedUntilResolved})
		err = s.query(func(rows *sql.Rows) error {
			var d string
			err := rows.Scan(&d)
			*out = append(*out, d)
			return err
		}, "UPDATE deliveries SET state = 6, ended = $4 WHERE tenant = $1 AND principal <> '' AND principal = $2 AND event_id = $3 AND id >= $5 AND id < $6 AND state < 3 RETURNING id",
			tenant, f.User, f.Event, because, from, to)
		s.count(tenant, 0, -int64(len(*out)))
		for _, d := range *out {
			s.change(tenant, version, belfry.KindDelivery, d)
		}
		return err
	}})
	return *out, err
}

// DropFollow forgets that a user follows an event's problem; false when she did
// not.
func (db *DB) DropFollow(ctx context.Context, tenant, user, event string, audit belfry.AuditEntry) (was bool, err error) {
	out := new(bool)
	err = db.doors.edit.do(ctx, &job{weight: 1, data: func(s *session) error {
		n, err := s.exec("DELETE FROM follows WHERE tenant = $1 AND who = $2 AND event_id = $3", tenant, user, event)
		if *out = n > 0; err != nil || n == 0 {
			return err
		}
		version, err := s.bump(tenant)
		if err != nil {
			return err
		}
		return s.audit(tenant, version, []belfry.AuditEntry{audit})
	}})
	return *out, err
}

// Follows lists what a user follows after an event, in the order of events.
func (db *DB) Follows(ctx context.Context, tenant, user, after string, limit int) (list []belfry.Follow, err error) {
	if strings.IndexByte(user, 0) >= 0 {
		return nil, nil
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		f := belfry.Follow{User: user}
		var at int64
		err := rows.Scan(&f.Event, &f.Mute, &f.Tell, &at)
		f.Since = fromMicros(at)
		list = append(list, f)
		return err
	}, "SELECT event_id, muted <> 0, told <> 0, at FROM follows WHERE tenant = $1 AND who = $2 AND event_id > $3 ORDER BY event_id LIMIT $4", tenant, user, after, orDefault(limit, 100))
	return list, err
}

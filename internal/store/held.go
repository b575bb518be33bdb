package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// A held delivery waits for the platform to say whether its recipient may be
// told. In the table it is due thousands of years later than it is: so whoever
// reads what is due, or what is due to a destination, never comes across it, and
// the index that finds those finds held ones in their own order at its end.
const heldFar = 7000 * 365 * 24 * int64(time.Hour/time.Microsecond)

// dueOf is the column due of a delivery.
func dueOf(state belfry.State, due time.Time) int64 {
	if state == belfry.Held {
		return micros(due) + heldFar
	}
	return micros(due)
}

// dueFrom is the inverse of dueOf.
func dueFrom(state belfry.State, due int64) time.Time {
	if state == belfry.Held && due > heldFar {
		due -= heldFar
	}
	return fromMicros(due)
}

// HeldDeliveries lists held deliveries that are due by until, in the order of
// (due, id), after the key; those of the shards, nil = all.
func (db *DB) HeldDeliveries(ctx context.Context, tenant string, after DueKey, until time.Time, limit int, shards []int) ([]belfry.Delivery, error) {
	return db.deliveries(ctx, tenant, "deliveries_due", andShards(shards)+"state < 3 AND state = 2 AND due > $2 AND due <= $3 AND (due, id) > ($4, $5) ORDER BY due, id LIMIT $6", shards,
		heldFar, until.UnixMicro()+heldFar, micros(after.Due)+heldFar, after.ID, orDefault(limit, 100))
}

// SettleHeld ends the waiting of held deliveries: those that are allowed are
// due now, or, in the inbox, there; the others are suppressed with their
// reasons. Those that do not wait any more are left alone; the answer is what
// was let go.
func (db *DB) SettleHeld(ctx context.Context, tenant string, allowed []string, denied []belfry.DeliveryCancel, due time.Time) (released []string, err error) {
	err = db.doors.life.do(ctx, &job{weight: 1 + len(allowed) + len(denied), data: func(s *session) error {
		released = released[:0]
		gone, err := s.releaseHeld(tenant, allowed, due, &released)
		if err != nil {
			return err
		}
		for i := range denied {
			n, err := s.exec("UPDATE deliveries SET state = 5, ended = $3, due = due - $4 WHERE tenant = $1 AND id = $2 AND state + 0 = 2", tenant, denied[i].ID, s.scribe.reason(&denied[i].Because), heldFar)
			if err != nil {
				return err
			}
			gone += n
		}
		s.count(tenant, 0, -gone)
		return nil
	}})
	return released, err
}

// releaseHeld moves inbox entries to the inbox and makes the others due; gone
// are those that are open no more.
func (s *session) releaseHeld(tenant string, ids []string, due time.Time, released *[]string) (gone int64, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	into := func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		*released = append(*released, id)
		return err
	}
	if _, err := execIn(s, `INSERT INTO inbox (tenant, id, event_id, principal, subscription, locale, template, because, read_at, archived_at, snoozed_until)
		SELECT tenant, id, event_id, principal, subscription, locale, template, because, 0, 0, 0 FROM deliveries
		WHERE tenant = $1 AND channel = 'inbox' AND state + 0 = 2 AND id IN_LIST ON CONFLICT DO NOTHING`, ids, tenant); err != nil {
		return 0, err
	}
	if err := queryIn(s, into, "DELETE FROM deliveries WHERE tenant = $1 AND channel = 'inbox' AND state + 0 = 2 AND id IN_LIST RETURNING id", ids, tenant); err != nil {
		return 0, err
	}
	gone = int64(len(*released))
	return gone, queryIn(s, into, "UPDATE deliveries SET state = 0, due = $2 WHERE tenant = $1 AND state + 0 = 2 AND id IN_LIST RETURNING id", ids, tenant, micros(due))
}

// HeldTenants are the tenants that have held deliveries due by until: one probe
// of an index for each tenant, in one statement.
func (db *DB) HeldTenants(ctx context.Context, until time.Time) (tenants []string, err error) {
	index := ""
	if !db.pg {
		index = " INDEXED BY deliveries_due"
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		var t string
		err := rows.Scan(&t)
		tenants = append(tenants, t)
		return err
	}, "SELECT v.tenant FROM versions v WHERE EXISTS (SELECT 1 FROM deliveries"+index+
		" WHERE tenant = v.tenant AND state < 3 AND state = 2 AND due > $1 AND due <= $2) ORDER BY v.tenant", heldFar, until.UnixMicro()+heldFar)
	return tenants, err
}

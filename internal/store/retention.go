package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"path/filepath"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Rows that are too old are removed in chunks, each a small transaction at a
// door of its own: on SQLite it takes turns with the others in the one writer.
// A walk goes through a table in the order of its key, so of time; where it
// goes on is a place the caller keeps. What must go and what must stay is read
// beside the writer, and then said to it by key.

// Clear removes, of about n rows after a place, those that are too old and not
// needed. Needed are the rows of an event whose plan is not complete, open
// deliveries, and an event with either of them or with an inbox entry, which
// is rendered from it.
func (db *DB) Clear(ctx context.Context, w belfry.Walk, after string, n int) (belfry.Cleared, error) {
	switch w.Table {
	case "deliveries":
		return db.clearDeliveries(ctx, &w, after, n)
	case "suppressions":
		return db.clearSuppressions(ctx, &w, after, n)
	case "plan_matches":
		return db.clearMatches(ctx, &w, after, n)
	case "inbox":
		return db.clearInbox(ctx, &w, after, n)
	case "events":
		return db.clearEvents(ctx, &w, after, n)
	}
	return belfry.Cleared{}, belfry.Errorf(belfry.Internal, "rows of %s do not age", w.Table)
}

// tidy does a piece of housekeeping in a transaction.
func (db *DB) tidy(ctx context.Context, weight int, f func(*session) error) (took time.Duration, err error) {
	err = db.doors.tidy.do(ctx, &job{weight: weight, data: func(s *session) error {
		start := db.now()
		err := f(s)
		took = db.now().Sub(start)
		return err
	}})
	return took, err
}

// old is a row that may go, with the event it hangs on.
type old struct{ id, event string }

// rowsOf reads pairs of id and event.
func (db *DB) rowsOf(ctx context.Context, text string, args ...any) (list []old, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var o old
		err := rows.Scan(&o.id, &o.event)
		list = append(list, o)
		return err
	}, text, args...)
	return list, err
}

// next is where a walk goes on after a page of n rows.
func next(list []old, n int) string {
	if len(list) < n {
		return ""
	}
	return list[len(list)-1].id
}

func eventsOf(list []old) []string {
	seen := map[string]bool{}
	var out []string
	for _, o := range list {
		if !seen[o.event] {
			seen[o.event] = true
			out = append(out, o.event)
		}
	}
	return out
}

// idsBut gives the ids of those whose event is not to be kept.
func idsBut(list []old, kept map[string]bool) []string {
	var out []string
	for _, o := range list {
		if !kept[o.event] {
			out = append(out, o.id)
		}
	}
	return out
}

// keptByType finds events whose type keeps them longer.
func (db *DB) keptByType(ctx context.Context, w *belfry.Walk, events []string, kept map[string]bool) error {
	if len(w.Keep) == 0 {
		return nil
	}
	return queryRead(ctx, db, func(rows *sql.Rows) error {
		var id, typ string
		if err := rows.Scan(&id, &typ); err != nil {
			return err
		}
		if stays(w, id, typ) {
			kept[id] = true
		}
		return nil
	}, "SELECT id, type FROM events WHERE tenant = $1 AND id IN_LIST", events, w.Tenant)
}

// stays reports whether an event's type keeps what hangs on it.
func stays(w *belfry.Walk, id, typ string) bool {
	before, own := w.Keep[typ]
	return own && (before.IsZero() || id >= belfry.MinID(belfry.EventPrefix, before))
}

// keptByPlan finds events whose plan is not complete.
func (db *DB) keptByPlan(ctx context.Context, tenant string, events []string, kept map[string]bool) error {
	return queryRead(ctx, db, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		kept[id] = true
		return err
	}, "SELECT event_id FROM plans WHERE tenant = $1 AND event_id IN_LIST", events, tenant)
}

func (db *DB) clearDeliveries(ctx context.Context, w *belfry.Walk, after string, n int) (out belfry.Cleared, err error) {
	list, err := db.rowsOf(ctx, "SELECT id, CASE WHEN state < 3 THEN '' ELSE event_id END FROM deliveries WHERE tenant = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4",
		w.Tenant, after, belfry.MinID(belfry.DeliveryPrefix, w.Before), n)
	if err != nil {
		return out, err
	}
	out.Next = next(list, n)
	kept := map[string]bool{"": true} // open
	if err := db.keptByType(ctx, w, eventsOf(list), kept); err != nil {
		return out, err
	}
	ids := idsBut(list, kept)
	if len(ids) == 0 {
		return out, nil
	}
	out.Took, err = db.tidy(ctx, len(ids), func(s *session) error {
		out.Rows, err = s.dropDeliveries(w.Tenant, ids)
		return err
	})
	return out, err
}

// dropDeliveries removes closed deliveries and their attempts. One that was
// opened again meanwhile stays.
func (s *session) dropDeliveries(tenant string, ids []string) (rows int, err error) {
	gone := make([]string, 0, len(ids))
	err = queryIn(s, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		gone = append(gone, id)
		return err
	}, "DELETE FROM deliveries WHERE tenant = $1 AND state + 0 >= 3 AND id IN_LIST RETURNING id", ids, tenant)
	if err != nil {
		return 0, err
	}
	n, err := execIn(s, "DELETE FROM attempts WHERE tenant = $1 AND delivery_id IN_LIST", gone, tenant)
	return len(gone) + n, err
}

// execIn is session.exec for a text with IN_LIST.
func execIn(s *session, text string, ids []string, args ...any) (total int, err error) {
	err = in(s.db.pg, text, ids, args, func(text string, args []any) error {
		n, err := s.exec(text, args...)
		total += int(n)
		return err
	})
	return total, err
}

// suppressionKey is the key of a suppression but for the tenant.
type suppressionKey struct {
	event                       string
	run                         int64
	principal, address, channel string
}

var dropSuppressions = with("tenant:t event_id:t run:n principal:t address:t channel:t",
	`DELETE FROM suppressions WHERE (tenant, event_id, run, principal, address, channel) IN (SELECT tenant, event_id, run, principal, address, channel FROM a)`)

func (db *DB) suppressionKeys(ctx context.Context, text string, args ...any) (list []suppressionKey, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var k suppressionKey
		err := rows.Scan(&k.event, &k.run, &k.principal, &k.address, &k.channel)
		list = append(list, k)
		return err
	}, "SELECT event_id, run, principal, address, channel FROM suppressions WHERE tenant = $1 AND "+text, args...)
	return list, err
}

// clearSuppressions goes by events: the place is the first event to look at.
func (db *DB) clearSuppressions(ctx context.Context, w *belfry.Walk, after string, n int) (out belfry.Cleared, err error) {
	list, err := db.suppressionKeys(ctx, "event_id >= $2 AND event_id < $3 ORDER BY event_id, run, principal, address, channel LIMIT $4",
		w.Tenant, after, belfry.MinID(belfry.EventPrefix, w.Before), n)
	if err != nil || len(list) == 0 {
		return out, err
	}
	kept := map[string]bool{}
	var events []string
	for i, k := range list {
		if i == 0 || k.event != list[i-1].event {
			events = append(events, k.event)
		}
	}
	if err := db.keptByPlan(ctx, w.Tenant, events, kept); err != nil {
		return out, err
	}
	if err := db.keptByType(ctx, w, events, kept); err != nil {
		return out, err
	}
	if len(list) == n {
		// The rest of an event comes next, unless it stays.
		if out.Next = list[n-1].event; kept[out.Next] {
			out.Next += "~"
		}
	}
	var gone []suppressionKey
	for _, k := range list {
		if !kept[k.event] {
			gone = append(gone, k)
		}
	}
	if len(gone) == 0 {
		return out, nil
	}
	out.Took, err = db.tidy(ctx, len(gone), func(s *session) error {
		out.Rows, err = s.dropSuppressions(w.Tenant, gone)
		return err
	})
	return out, err
}

func (s *session) dropSuppressions(tenant string, keys []suppressionKey) (int, error) {
	rows := s.rows(dropSuppressions)
	for _, k := range keys {
		rows.text(tenant).text(k.event).num(k.run).text(k.principal).text(k.address).text(k.channel)
	}
	n, err := rows.flush()
	return int(n), err
}

func (db *DB) clearMatches(ctx context.Context, w *belfry.Walk, after string, n int) (out belfry.Cleared, err error) {
	list, err := db.rowsOf(ctx, "SELECT DISTINCT event_id, event_id FROM plan_matches WHERE tenant = $1 AND event_id > $2 AND event_id < $3 ORDER BY event_id LIMIT $4",
		w.Tenant, after, belfry.MinID(belfry.EventPrefix, w.Before), n)
	if err != nil {
		return out, err
	}
	out.Next = next(list, n)
	kept, events := map[string]bool{}, eventsOf(list)
	if err := db.keptByPlan(ctx, w.Tenant, events, kept); err != nil {
		return out, err
	}
	if err := db.keptByType(ctx, w, events, kept); err != nil {
		return out, err
	}
	ids := idsBut(list, kept)
	if len(ids) == 0 {
		return out, nil
	}
	out.Took, err = db.tidy(ctx, len(ids), func(s *session) error {
		out.Rows, err = execIn(s, "DELETE FROM plan_matches WHERE tenant = $1 AND event_id IN_LIST", ids, w.Tenant)
		return err
	})
	return out, err
}

func (db *DB) clearInbox(ctx context.Context, w *belfry.Walk, after string, n int) (out belfry.Cleared, err error) {
	list, err := db.rowsOf(ctx, "SELECT id, event_id FROM inbox WHERE tenant = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4",
		w.Tenant, after, belfry.MinID(belfry.DeliveryPrefix, w.Before), n)
	if err != nil {
		return out, err
	}
	out.Next = next(list, n)
	kept := map[string]bool{}
	if err := db.keptByType(ctx, w, eventsOf(list), kept); err != nil {
		return out, err
	}
	ids := idsBut(list, kept)
	if len(ids) == 0 {
		return out, nil
	}
	out.Took, err = db.tidy(ctx, len(ids), func(s *session) error {
		out.Rows, err = execIn(s, "DELETE FROM inbox WHERE tenant = $1 AND id IN_LIST", ids, w.Tenant)
		return err
	})
	return out, err
}

func (db *DB) clearEvents(ctx context.Context, w *belfry.Walk, after string, n int) (out belfry.Cleared, err error) {
	kept := map[string]bool{}
	var list []old
	before := belfry.MinID(belfry.EventPrefix, w.Before)
	err = db.query(ctx, func(rows *sql.Rows) error {
		var id, typ string
		err := rows.Scan(&id, &typ)
		list = append(list, old{id, id})
		kept[id] = stays(w, id, typ)
		return err
	}, "SELECT id, type FROM events WHERE tenant = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4", w.Tenant, after, before, n)
	if err != nil {
		return out, err
	}
	out.Next = next(list, n)
	if err := db.keptByRows(ctx, w.Tenant, idsBut(list, kept), kept); err != nil {
		return out, err
	}
	ids := idsBut(list, kept)
	if len(ids) == 0 && out.Next != "" {
		return out, nil
	}
	out.Took, err = db.tidy(ctx, len(ids)+1, func(s *session) error {
		if out.Rows, err = s.dropEvents(w.Tenant, ids); err != nil || out.Next != "" {
			return err
		}
		// Who asked for a run of an event in the moment in which it went: the
		// plan would wait for ever.
		n, err := s.exec("DELETE FROM plans WHERE tenant = $1 AND event_id < $2 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.tenant = plans.tenant AND e.id = plans.event_id)", w.Tenant, before)
		s.count(w.Tenant, -n, 0)
		return err
	})
	return out, err
}

func (s *session) dropEvents(tenant string, ids []string) (int, error) {
	return execIn(s, "DELETE FROM events WHERE tenant = $1 AND NOT EXISTS (SELECT 1 FROM plans p WHERE p.tenant = events.tenant AND p.event_id = events.id) AND id IN_LIST", ids, tenant)
}

// keptByRows finds events that have a plan to complete, an open delivery, an
// item in a digest that was not sent yet, or an inbox entry.
func (db *DB) keptByRows(ctx context.Context, tenant string, events []string, kept map[string]bool) error {
	if err := db.keptByPlan(ctx, tenant, events, kept); err != nil {
		return err
	}
	const has = ` WHERE EXISTS (SELECT 1 FROM inbox i WHERE i.tenant = $1 AND i.id >= a.lo AND i.id < a.hi AND i.event_id = a.id)
		OR EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = $1 AND d.id >= a.lo AND d.id < a.hi AND d.event_id = a.id AND d.state + 0 < 3)
		OR EXISTS (SELECT 1 FROM bundle_items t JOIN bundles b ON b.tenant = t.tenant AND b.id = t.bundle
			WHERE t.tenant = $1 AND t.id >= a.lo AND t.id < a.hi AND t.event_id = a.id AND b.state < 2)`
	return db.keptWhere(ctx, tenant, events, kept, has)
}

// keptWhere finds events for which a condition holds about a: the event's id
// and the range, lo to hi, of the ids of its deliveries.
func (db *DB) keptWhere(ctx context.Context, tenant string, events []string, kept map[string]bool, has string) error {
	found := func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		kept[id] = true
		return err
	}
	var ids, los, his []string
	for _, id := range events {
		lo, hi, ok := belfry.DeliveryRange(id)
		if !ok {
			kept[id] = true // not an id we made: not ours to judge
			continue
		}
		ids, los, his = append(ids, id), append(los, lo), append(his, hi)
	}
	if len(ids) == 0 {
		return nil
	}
	if db.pg {
		return db.query(ctx, found, "SELECT a.id FROM unnest($2::text[], $3::text[], $4::text[]) AS a (id, lo, hi)"+has, tenant, ids, los, his)
	}
	// One statement an event: its text is always the same, and what it finds
	// is found by the first row.
	for i, id := range ids {
		err := db.query(ctx, found, "SELECT a.id FROM (SELECT $2 AS id, $3 AS lo, $4 AS hi) AS a"+has, tenant, id, los[i], his[i])
		if err != nil {
			return err
		}
	}
	return nil
}

// ClearTypes removes, of events after a place, those of some types that were
// accepted before a time, and with an event all that hangs on it, inbox
// entries too. Needed are events with a plan to complete or an open delivery.
func (db *DB) ClearTypes(ctx context.Context, tenant string, types []string, before time.Time, after string, n int) (out belfry.Cleared, err error) {
	wanted := map[string]bool{}
	for _, t := range types {
		wanted[t] = true
	}
	var list []string
	var last string
	seen := 0
	err = db.query(ctx, func(rows *sql.Rows) error {
		var typ string
		err := rows.Scan(&last, &typ)
		if seen++; wanted[typ] {
			list = append(list, last)
		}
		return err
	}, "SELECT id, type FROM events WHERE tenant = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4", tenant, after, belfry.MinID(belfry.EventPrefix, before), n)
	if err != nil {
		return out, err
	}
	if seen == n {
		out.Next = last
	}
	kept := map[string]bool{}
	if err := db.keptByPlan(ctx, tenant, list, kept); err != nil {
		return out, err
	}
	if err := db.keptByDigest(ctx, tenant, list, kept); err != nil {
		return out, err
	}
	var gone struct {
		events, deliveries, inbox []string
		suppressions              []suppressionKey
	}
	room := n // rows a transaction removes
	for i, id := range list {
		lo, hi, ok := belfry.DeliveryRange(id)
		if kept[id] || !ok {
			continue
		}
		if room <= 0 {
			out.Next = list[i-1]
			break
		}
		deliveries, err := db.rowsOf(ctx, "SELECT id, CASE WHEN state < 3 THEN '' ELSE event_id END FROM deliveries WHERE tenant = $1 AND id >= $2 AND id < $3 AND event_id = $4 LIMIT $5", tenant, lo, hi, id, room)
		if err != nil {
			return out, err
		}
		closed := idsBut(deliveries, map[string]bool{"": true})
		if len(closed) < len(deliveries) {
			continue // some are open
		}
		gone.deliveries, room = append(gone.deliveries, closed...), room-len(closed)
		inbox, err := db.strings(ctx, "SELECT id FROM inbox WHERE tenant = $1 AND id >= $2 AND id < $3 AND event_id = $4 LIMIT $5", tenant, lo, hi, id, max(room, 0))
		if err != nil {
			return out, err
		}
		gone.inbox, room = append(gone.inbox, inbox...), room-len(inbox)
		suppressions, err := db.suppressionKeys(ctx, "event_id = $2 LIMIT $3", tenant, id, max(room, 0))
		if err != nil {
			return out, err
		}
		gone.suppressions, room = append(gone.suppressions, suppressions...), room-len(suppressions)
		if room <= 0 {
			// There may be more of it: it comes again.
			out.Next = max(after, belfry.EventPrefix)
			if i > 0 {
				out.Next = list[i-1]
			}
			break
		}
		gone.events, room = append(gone.events, id), room-1
	}
	if len(gone.events)+len(gone.deliveries)+len(gone.inbox)+len(gone.suppressions) == 0 {
		return out, nil
	}
	out.Took, err = db.tidy(ctx, n-room, func(s *session) error {
		out.Rows = 0
		for _, f := range []func() (int, error){
			func() (int, error) { return s.dropDeliveries(tenant, gone.deliveries) },
			func() (int, error) {
				return execIn(s, "DELETE FROM inbox WHERE tenant = $1 AND id IN_LIST", gone.inbox, tenant)
			},
			func() (int, error) { return s.dropSuppressions(tenant, gone.suppressions) },
			func() (int, error) {
				return execIn(s, "DELETE FROM plan_matches WHERE tenant = $1 AND event_id IN_LIST", gone.events, tenant)
			},
			func() (int, error) { return s.dropEvents(tenant, gone.events) },
		} {
			n, err := f()
			if err != nil {
				return err
			}
			out.Rows += n
		}
		return nil
	})
	return out, err
}

// ClearReasons removes, of events after a place that were accepted before a
// time, the lists of reasons that nothing names any more: the event is gone,
// and so is what was told of it. While an event is there it may be told anew.
func (db *DB) ClearReasons(ctx context.Context, tenant string, before time.Time, after string, n int) (out belfry.Cleared, err error) {
	events, err := db.strings(ctx, "SELECT DISTINCT event_id FROM reasons WHERE tenant = $1 AND event_id > $2 AND event_id < $3 ORDER BY event_id LIMIT $4",
		tenant, after, belfry.MinID(belfry.EventPrefix, before), n)
	if err != nil || len(events) == 0 {
		return out, err
	}
	if len(events) == n {
		out.Next = events[n-1]
	}
	kept := map[string]bool{}
	err = queryRead(ctx, db, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		kept[id] = true
		return err
	}, "SELECT id FROM events WHERE tenant = $1 AND id IN_LIST", events, tenant)
	if err != nil {
		return out, err
	}
	const has = ` WHERE EXISTS (SELECT 1 FROM inbox i WHERE i.tenant = $1 AND i.id >= a.lo AND i.id < a.hi AND i.event_id = a.id)
		OR EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = $1 AND d.id >= a.lo AND d.id < a.hi AND d.event_id = a.id)
		OR EXISTS (SELECT 1 FROM bundle_items t WHERE t.tenant = $1 AND t.id >= a.lo AND t.id < a.hi AND t.event_id = a.id)
		OR EXISTS (SELECT 1 FROM suppressions u WHERE u.tenant = $1 AND u.event_id = a.id)`
	gone := slices.DeleteFunc(events, func(id string) bool { return kept[id] })
	if err := db.keptWhere(ctx, tenant, gone, kept, has); err != nil {
		return out, err
	}
	if gone = slices.DeleteFunc(gone, func(id string) bool { return kept[id] }); len(gone) == 0 {
		return out, nil
	}
	out.Took, err = db.tidy(ctx, len(gone), func(s *session) error {
		out.Rows, err = execIn(s, "DELETE FROM reasons WHERE tenant = $1 AND event_id IN_LIST", gone, tenant)
		return err
	})
	return out, err
}

// ClearDedupe removes identities of events accepted before a time: an event
// that comes again afterwards is a new one. The walk is in the order of keys,
// which is not that of time, so it is through the whole table.
func (db *DB) ClearDedupe(ctx context.Context, tenant string, before time.Time, after string, n int) (out belfry.Cleared, err error) {
	place, err := base64.RawURLEncoding.DecodeString(after)
	if err != nil {
		return out, belfry.Errorf(belfry.Internal, "not a place among identities: %q", short(after))
	}
	if place == nil {
		place = []byte{}
	}
	limit := belfry.MinID(belfry.EventPrefix, before)
	var gone [][]byte
	var last []byte
	seen := 0
	err = db.query(ctx, func(rows *sql.Rows) error {
		var identity []byte
		var id string
		err := rows.Scan(&identity, &id)
		if seen++; id < limit {
			gone = append(gone, identity)
		}
		last = identity
		return err
	}, "SELECT identity, event_id FROM dedupe WHERE tenant = $1 AND identity > $2 ORDER BY identity LIMIT $3", tenant, place, n)
	if err != nil {
		return out, err
	}
	if seen == n {
		out.Next = base64.RawURLEncoding.EncodeToString(last)
	}
	if len(gone) == 0 {
		return out, nil
	}
	out.Took, err = db.tidy(ctx, len(gone), func(s *session) error {
		out.Rows = 0
		return in(s.db.pg, "DELETE FROM dedupe WHERE tenant = $1 AND event_id < $2 AND identity IN_LIST", gone, []any{tenant, limit}, func(text string, args []any) error {
			n, err := s.exec(text, args...)
			out.Rows += int(n)
			return err
		})
	})
	return out, err
}

// ClearAudit removes the oldest edits of the audit, up to the first that is not
// too old.
func (db *DB) ClearAudit(ctx context.Context, tenant string, before time.Time, n int) (out belfry.Cleared, err error) {
	var gone []string
	done := false
	err = db.query(ctx, func(rows *sql.Rows) error {
		var id string
		var at int64
		err := rows.Scan(&id, &at)
		if done = done || at >= micros(before); !done {
			gone = append(gone, id)
		}
		return err
	}, "SELECT id, at FROM audit WHERE tenant = $1 ORDER BY id LIMIT $2", tenant, n)
	if err != nil || len(gone) == 0 {
		return out, err
	}
	if len(gone) == n {
		out.Next = gone[n-1]
	}
	out.Took, err = db.tidy(ctx, len(gone), func(s *session) error {
		out.Rows, err = execIn(s, "DELETE FROM audit WHERE tenant = $1 AND id IN_LIST", gone, tenant)
		return err
	})
	return out, err
}

// ClearChanges removes the change log before a version, and leaves at that
// version a row that says so: whoever follows the log from before it learns
// that everything may have changed.
func (db *DB) ClearChanges(ctx context.Context, tenant string, version int64, n int) (out belfry.Cleared, err error) {
	out.Took, err = db.tidy(ctx, n, func(s *session) error {
		rows, err := s.exec(`DELETE FROM changes WHERE tenant = $1 AND (version, kind, item) IN
			(SELECT version, kind, item FROM changes WHERE tenant = $1 AND version < $2 ORDER BY version, kind, item LIMIT $3)`, tenant, version, n)
		out.Rows = int(rows)
		if err != nil || rows == 0 {
			return err
		}
		s.change(tenant, version, belfry.KindEverything, "")
		return nil
	})
	if out.Rows >= n {
		out.Next = "more"
	}
	return out, err
}

// Marks reads a tenant's marks by task.
func (db *DB) Marks(ctx context.Context, tenant string) (map[string]belfry.Mark, error) {
	out := map[string]belfry.Mark{}
	return out, db.query(ctx, func(rows *sql.Rows) error {
		var task string
		var m belfry.Mark
		var at int64
		err := rows.Scan(&task, &m.Place, &at)
		m.At = fromMicros(at)
		out[task] = m
		return err
	}, "SELECT task, place, at FROM upkeep WHERE tenant = $1", tenant)
}

// SetMark keeps a mark.
func (db *DB) SetMark(ctx context.Context, tenant, task string, m belfry.Mark) error {
	_, err := db.tidy(ctx, 1, func(s *session) error {
		_, err := s.exec(`INSERT INTO upkeep (tenant, task, place, at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, task) DO UPDATE SET place = excluded.place, at = excluded.at`, tenant, task, m.Place, micros(m.At))
		return err
	})
	return err
}

// Storage says where a database's bytes are.
type Storage struct {
	Size int64 // of all, with the log
	Free int64 // SQLite: within the file, and used before it grows
	// Partitions of each part, on PostgreSQL.
	Partitions map[belfry.Part]int
}

// Storage measures the database.
func (db *DB) Storage(ctx context.Context) (out Storage, err error) {
	if out.Size, err = db.size(ctx); err != nil {
		return out, err
	}
	if !db.pg {
		err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&out.Free) },
			"SELECT f.freelist_count * p.page_size FROM pragma_freelist_count() f, pragma_page_size() p")
		return out, err
	}
	out.Partitions = map[belfry.Part]int{}
	for part, tables := range partitioned {
		list, err := partitions(ctx, db.read, tables[0].name)
		if err != nil {
			return out, fault(err)
		}
		out.Partitions[part] = len(list)
	}
	return out, nil
}

// Room is how many bytes the disk of the database still takes, below 0 when
// that is not known here: on PostgreSQL, and on some systems.
func (db *DB) Room() int64 {
	if db.pg {
		return -1
	}
	return Room(filepath.Dir(db.path))
}

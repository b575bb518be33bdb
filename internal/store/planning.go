package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// PendingPlan is an event whose plan (of a run) is not complete, and where its
// next page begins.
type PendingPlan = belfry.PendingPlan

// Tenants lists the tenants that hold anything, in order.
func (db *DB) Tenants(ctx context.Context) (list []string, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var t string
		err := rows.Scan(&t)
		list = append(list, t)
		return err
	}, "SELECT tenant FROM versions ORDER BY tenant")
	return list, err
}

// PendingPlans lists up to about limit plans that are not complete, of events
// after the one named, in the order of acceptance. All runs of an event come
// together. shards are the plan shards that are meant, nil all of them.
func (db *DB) PendingPlans(ctx context.Context, tenant, after string, limit int, shards []int) (list []PendingPlan, err error) {
	scan := func(rows *sql.Rows) error {
		p := PendingPlan{Accepted: belfry.Accepted{Tenant: tenant}}
		var at int64
		var body []byte
		var terms string
		if err := rows.Scan(&p.Accepted.EventID, &p.Run, &p.Cursor, &terms, &at, &p.Accepted.AsOf, &body); err != nil {
			return err
		}
		p.Accepted.At = fromMicros(at)
		if terms != "" {
			if err := json.Unmarshal([]byte(terms), &p.Terms); err != nil {
				return belfry.Errorf(belfry.Internal, "run %d of event %s cannot be read back: %w", p.Run, p.Accepted.EventID, err)
			}
		}
		// The run is the version of the edit that ordered it: it is planned
		// with what was known then, or later.
		p.Accepted.AsOf = max(p.Accepted.AsOf, int64(p.Run))
		p.Accepted.Body = body
		if err := readEvent(&p.Accepted); err != nil {
			return err
		}
		list = append(list, p)
		return nil
	}
	// The plans are chosen first: by what PostgreSQL thinks of a plan table that is
	// mostly empty it would walk through the events and look for a plan of each.
	plans := "SELECT event_id, run, cursor, terms FROM plans WHERE tenant = $1 AND "
	if shards != nil {
		plans += "shard IN_LIST AND "
	}
	read := func(which string, args ...any) error {
		return db.queryShards(ctx, scan, "SELECT p.event_id, p.run, p.cursor, p.terms, e.at, e.as_of, e.body FROM ("+plans+which+") p JOIN events e ON e.tenant = $1 AND e.id = p.event_id", shards, args...)
	}
	limit = orDefault(limit, 100)
	if err := read("event_id > $2 ORDER BY event_id, run LIMIT $3", tenant, after, limit); err != nil {
		return list, err
	}
	inOrder := func(a, b PendingPlan) int {
		return cmp.Or(strings.Compare(a.Accepted.EventID, b.Accepted.EventID), cmp.Compare(a.Run, b.Run))
	}
	slices.SortFunc(list, inOrder) // a join promises none
	if len(list) < limit {
		return list, nil
	}
	end := list[len(list)-1]
	err = read("event_id = $2 AND run > $3", tenant, end.Accepted.EventID, end.Run)
	slices.SortFunc(list, inOrder)
	return list, err
}

// queryShards is query, or with shards queryRead. There are fewer shards than
// a list of parameters holds.
func (db *DB) queryShards(ctx context.Context, scan func(*sql.Rows) error, text string, shards []int, args ...any) error {
	if shards == nil {
		return db.query(ctx, scan, text, args...)
	}
	return queryRead(ctx, db, scan, text, shards, args...)
}

// DueKey is a place in the order of due deliveries; the zero key is before all.
type DueKey = belfry.DueKey

// deliveryCols are the columns scanDelivery reads; the tenant is known.
var deliveryCols = `id, event_id, run, subscription, channel, principal, address, destination, shard, state, due, attempts, bundle, priority,
	line, parked, locale, template, ` + becauseOf("deliveries") + `, ended, base`

func scanDelivery(rows *sql.Rows, tenant string) (d belfry.Delivery, err error) {
	return scanDeliveryBy(rows, tenant, readReasons)
}

func scanDeliveryBy(rows *sql.Rows, tenant string, reasons func(because, ended string) ([]belfry.Reason, error)) (d belfry.Delivery, err error) {
	var due, parked int64
	var because, ended string
	d.Tenant = tenant
	if err := rows.Scan(&d.ID, &d.EventID, &d.Run, &d.Subscription, &d.Channel, &d.Principal, &d.Address, &d.Destination, &d.Shard, &d.State, &due,
		&d.Attempts, &d.Bundle, &d.Priority, &d.Line, &parked, &d.Locale, &d.Template, &because, &ended, &d.Base); err != nil {
		return d, err
	}
	d.Due, d.Parked = dueFrom(d.State, due), parked == 1
	d.Because, err = reasons(because, ended)
	return d, err
}

// deliveries reads those of a tenant that meet a condition. index names the one
// to use on SQLite, which without statistics takes the narrower index for the
// better one; empty leaves it to the planner.
func (db *DB) deliveries(ctx context.Context, tenant, index, text string, shards []int, args ...any) (list []belfry.Delivery, err error) {
	if index != "" && !db.pg {
		index = " INDEXED BY " + index
	} else {
		index = ""
	}
	err = db.queryShards(ctx, db.deliveriesInto(tenant, &list), "SELECT "+deliveryCols+" FROM deliveries"+index+" WHERE tenant = $1 AND "+text, shards, append([]any{tenant}, args...)...)
	return list, err
}

func (db *DB) deliveriesInto(tenant string, list *[]belfry.Delivery) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		d, err := scanDeliveryBy(rows, tenant, db.known.read)
		*list = append(*list, d)
		return err
	}
}

// DueDeliveries lists open deliveries that are due by until, in the order of
// (due, id), after the key. shards are the delivery shards that are meant, nil
// all of them.
func (db *DB) DueDeliveries(ctx context.Context, tenant string, after DueKey, until time.Time, limit int, shards []int) ([]belfry.Delivery, error) {
	return db.deliveries(ctx, tenant, "deliveries_due", andShards(shards)+"state < 3 AND due <= $2 AND (due, id) > ($3, $4) ORDER BY due, id LIMIT $5", shards,
		until.UnixMicro(), micros(after.Due), after.ID, orDefault(limit, 100))
}

// PlannedDeliveries lists the open deliveries of events that are due by until, of
// the shards that are meant; nil is all of them.
func (db *DB) PlannedDeliveries(ctx context.Context, tenant string, events []string, until time.Time, shards []int) (list []belfry.Delivery, err error) {
	var ids, los, his []string
	for _, id := range events {
		if lo, hi, ok := belfry.DeliveryRange(id); ok {
			ids, los, his = append(ids, id), append(los, lo), append(his, hi)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	// PostgreSQL has the choice among the indexes of what is open, and takes for
	// few what its statistics do not know of yet, with all that ended lately: so
	// that it goes by the ids, these are no conditions of an index.
	const due = "state + 0 < 3 AND due + 0 <= $2 AND "
	if !db.pg {
		for i := range ids {
			some, err := db.deliveries(ctx, tenant, "", andShards(shards)+due+"event_id = $3 AND id >= $4 AND id < $5 ORDER BY id", shards, micros(until), ids[i], los[i], his[i])
			if err != nil {
				return nil, err
			}
			list = append(list, some...)
		}
		return list, nil
	}
	err = db.queryShards(ctx, db.deliveriesInto(tenant, &list), "SELECT "+deliveryCols+" FROM unnest($3::text[], $4::text[], $5::text[]) AS plan (event, lo, hi), LATERAL (SELECT * FROM deliveries WHERE tenant = $1 AND "+
		andShards(shards)+due+"event_id = plan.event AND id >= plan.lo AND id < plan.hi OFFSET 0) AS deliveries", shards, tenant, micros(until), ids, los, his)
	return list, err
}

// DueFor is DueDeliveries for one destination, of what is parked, as what is in
// a line always is; urgent leaves out what is not urgent or is in a line, and has
// also what is not parked.
func (db *DB) DueFor(ctx context.Context, tenant, destination string, urgent bool, after DueKey, until time.Time, limit int) ([]belfry.Delivery, error) {
	index, only := "deliveries_due_for", "parked = 1 AND "
	if urgent {
		index, only = "deliveries_urgent_for", "priority > 0 AND line = 0 AND "
	}
	return db.deliveries(ctx, tenant, index, only+"destination = $2 AND state < 3 AND due <= $3 AND (due, id) > ($4, $5) ORDER BY due, id LIMIT $6", nil,
		destination, until.UnixMicro(), micros(after.Due), after.ID, orDefault(limit, 100))
}

// Park makes DueFor find open deliveries. Repeating it changes nothing.
func (db *DB) Park(ctx context.Context, tenant string, ids []string) error {
	return db.doors.life.do(ctx, &job{weight: len(ids), data: func(s *session) error {
		_, err := execIn(s, "UPDATE deliveries SET parked = 1 WHERE tenant = $1 AND parked + 0 = 0 AND state + 0 < 3 AND id IN_LIST", ids, tenant)
		return err
	}})
}

// InLine lists open deliveries of one line of a destination, due or not, in the
// order of their ids.
func (db *DB) InLine(ctx context.Context, tenant, destination string, line int64, limit int) ([]belfry.Delivery, error) {
	return db.deliveries(ctx, tenant, "deliveries_in_line", "destination = $2 AND line = $3 AND line <> 0 AND state < 3 ORDER BY id LIMIT $4", nil,
		destination, line, orDefault(limit, 100))
}

func andShards(shards []int) string {
	if shards == nil {
		return ""
	}
	return "shard IN_LIST AND "
}

// nexts is when the next row of a table falls due for each tenant that has one;
// from says which table, and which of its rows, for an index over tenant and due:
// one probe for each tenant.
func (db *DB) nexts(ctx context.Context, shards []int, from string) (map[string]time.Time, error) {
	next := map[string]time.Time{}
	err := db.queryShards(ctx, func(rows *sql.Rows) error {
		var tenant string
		var due sql.NullInt64
		err := rows.Scan(&tenant, &due)
		if due.Valid {
			next[tenant] = fromMicros(due.Int64)
		}
		return err
	}, "SELECT v.tenant, (SELECT due FROM "+from+andShards(shards)+"tenant = v.tenant ORDER BY due LIMIT 1) FROM versions v", shards)
	return next, err
}

// NextDue is when the next open delivery of the shards (nil = all) after the
// time falls due, false when none does.
func (db *DB) NextDue(ctx context.Context, tenant string, after time.Time, shards []int) (at time.Time, ok bool, err error) {
	err = db.queryShards(ctx, func(rows *sql.Rows) error {
		var due int64
		err := rows.Scan(&due)
		at, ok = fromMicros(due), true
		return err
	}, "SELECT due FROM deliveries WHERE tenant = $1 AND "+andShards(shards)+"state < 3 AND due > $2 ORDER BY due LIMIT 1", shards, tenant, micros(after))
	return at, ok, err
}

// Events reads events by id; unknown ids are absent.
func (db *DB) Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error) {
	out := make(map[string]*belfry.Accepted, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		a, err := scanEvent(rows, tenant)
		if err == nil {
			out[a.EventID] = a
		}
		return err
	}, "SELECT "+eventCols+" FROM events WHERE tenant = $1 AND id IN_LIST", ids, tenant)
	return out, err
}

const eventCols = "id, at, as_of, body"

func scanEvent(rows *sql.Rows, tenant string) (*belfry.Accepted, error) {
	a := &belfry.Accepted{Tenant: tenant}
	var at int64
	var body []byte
	if err := rows.Scan(&a.EventID, &at, &a.AsOf, &body); err != nil {
		return nil, err
	}
	a.At, a.Body = fromMicros(at), body
	return a, readEvent(a)
}

// EventFilter chooses events of a list.
type EventFilter struct {
	Type   string    // exact, or a prefix with *
	Object string    // exact
	Since  time.Time // accepted then or later; zero = no bound
	Before string    // an event's id: only older ones; empty = from the newest
	Limit  int       // 0 = 50
}

// scanned is how many rows a list looks at before it answers with what it
// found and where to go on. A filter that matches little must not make one
// call read the whole table.
const scanned = 10_000

// ListEvents lists events, newest first. next is where to go on, empty at the
// end; a page may hold fewer than Limit, even none, and have a next.
func (db *DB) ListEvents(ctx context.Context, tenant string, f EventFilter) (list []belfry.Accepted, next string, err error) {
	w := window{table: "events", cols: eventCols, prefix: belfry.EventPrefix, since: f.Since, before: f.Before, limit: orDefault(f.Limit, 50)}
	if f.Type != "" {
		w.filters = append(w.filters, matches("type", f.Type))
	}
	if f.Object != "" {
		w.filters = append(w.filters, equals("object", f.Object))
	}
	next, err = w.run(ctx, db, tenant, func(rows *sql.Rows) (string, error) {
		a, err := scanEvent(rows, tenant)
		if err != nil {
			return "", err
		}
		list = append(list, *a)
		return a.EventID, nil
	})
	return list, next, err
}

// window lists a table from the newest id down, or from the oldest up, looking at
// a bounded number of rows.
type window struct {
	table, cols, prefix string
	since               time.Time
	before              string // where to go on: down,
	up                  bool
	after               string // or up
	limit               int
	within              []filter // conditions of the window itself, which an index serves
	filters             []filter // of what is in it
}

// filter is a condition with a question mark for its value.
type filter struct {
	condition string
	value     any
}

// equals keeps rows whose column has the value.
func equals(column, value string) filter { return filter{column + " = ?", value} }

// matches keeps rows whose column equals the pattern, or begins with what
// stands before its final star.
func matches(column, pattern string) filter {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return filter{"substr(" + column + ", 1, " + strconv.Itoa(utf8.RuneCountInString(prefix)) + ") = ?", prefix}
	}
	return equals(column, pattern)
}

// parameters are those of a statement that is being written.
type parameters []any

// bind adds a value and gives the parameter that stands for it.
func (p *parameters) bind(v any) string {
	*p = append(*p, v)
	return "$" + strconv.Itoa(len(*p))
}

// where is the text of conditions that go after another.
func (p *parameters) where(fs []filter) (text string) {
	for _, f := range fs {
		text += " AND " + strings.Replace(f.condition, "?", p.bind(f.value), 1)
	}
	return text
}

// run calls scan for each row, which gives the row's id, and returns where the
// next page begins.
func (w *window) run(ctx context.Context, db *DB, tenant string, scan func(*sql.Rows) (string, error)) (next string, err error) {
	args, bounds, order := parameters{tenant}, "", ""
	if w.up {
		after := w.after
		if !w.since.IsZero() {
			// A prefix of the least id sorts right before it.
			least := belfry.MinID(w.prefix, w.since)
			after = max(after, least[:len(least)-1])
		}
		bounds, order = "id > "+args.bind(after), "id"
	} else {
		since, before := w.prefix, w.before
		if !w.since.IsZero() {
			since = belfry.MinID(w.prefix, w.since)
		}
		if before == "" {
			before = "~" // after every id
		}
		bounds, order = "id >= "+args.bind(since)+" AND id < "+args.bind(before), "id DESC"
	}
	inner := "SELECT * FROM " + w.table + " WHERE tenant = $1 AND " + bounds + args.where(w.within) + " ORDER BY " + order + " LIMIT " + strconv.Itoa(scanned)
	innerArgs := args
	text := "SELECT " + w.cols + " FROM (" + inner + ") AS " + w.table + " WHERE 1 = 1" + args.where(w.filters) + " ORDER BY " + order + " LIMIT " + args.bind(w.limit)
	n, end := 0, ""
	err = db.query(ctx, func(rows *sql.Rows) error {
		id, err := scan(rows)
		n, end = n+1, id
		return err
	}, text, args...)
	if err != nil {
		return "", err
	}
	if n == w.limit {
		return end, nil
	}
	// Fewer than asked for: is there anything beyond the window?
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&next) },
		"SELECT id FROM ("+inner+") AS w ORDER BY "+order+" LIMIT 1 OFFSET "+strconv.Itoa(scanned-1), innerArgs...)
	return next, err
}

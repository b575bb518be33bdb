package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// RunMatches are the subscriptions that wanted an event in one run of planning.
type RunMatches struct {
	Run     int
	Matches []belfry.MatchNote
}

// TracePage chooses a part of a trace.
type TracePage struct {
	After string // Next of the page before; empty = from the start
	Limit int    // deliveries and suppressions; 0 = 1000
}

// EventTrace is what is stored about who was told of an event and why.
type EventTrace struct {
	Matches      []RunMatches
	Deliveries   []belfry.Delivery // inbox rows too, as deliveries on channel inbox
	Suppressions []belfry.Suppression
	Planned      bool   // every run is complete; false also for an unknown event
	Next         string // where the next page begins; empty at the end
}

// Trace reads what was decided about an event, for one principal (or address)
// when it is set. Deliveries come first, then what is told in digests, inbox rows, and suppressions.
func (db *DB) Trace(ctx context.Context, tenant, eventID, principal string, page TracePage) (EventTrace, error) {
	var t EventTrace
	stored, pending := 0, 0
	err := db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&stored, &pending) },
		"SELECT (SELECT count(*) FROM events WHERE tenant = $1 AND id = $2), (SELECT count(*) FROM plans WHERE tenant = $1 AND event_id = $2)", tenant, eventID)
	if err != nil || stored == 0 {
		return t, err
	}
	t.Planned = pending == 0
	err = db.query(ctx, func(rows *sql.Rows) error {
		var m RunMatches
		var body string
		if err := rows.Scan(&m.Run, &body); err != nil {
			return err
		}
		var err error
		m.Matches, err = readNotes(body)
		t.Matches = append(t.Matches, m)
		return err
	}, "SELECT run, matches FROM plan_matches WHERE tenant = $1 AND event_id = $2 ORDER BY run", tenant, eventID)
	if err != nil {
		return t, err
	}
	from, to, err := idsOf(eventID)
	if err != nil {
		return t, nil // not an id we made: nothing is stored under it
	}
	r := traceReader{db: db, tenant: tenant, event: eventID, principal: principal, left: orDefault(page.Limit, 1000), from: from, to: to, trace: &t}
	place, err := base64.RawURLEncoding.DecodeString(page.After)
	if err != nil {
		return t, belfry.Errorf(belfry.Invalid, "not a place in a trace: %q", short(page.After))
	}
	r.stage, r.after, _ = strings.Cut(string(place), ":")
	for _, part := range []struct {
		stage string
		read  func(context.Context) error
	}{{"deliveries", r.deliveries}, {"digests", r.digests}, {"inbox", r.inbox}, {"suppressions", r.suppressions}} {
		if r.stage != "" && r.stage != part.stage {
			continue
		}
		r.stage = ""
		if err := part.read(ctx); err != nil {
			return t, err
		}
		if r.next != "" {
			t.Next = base64.RawURLEncoding.EncodeToString([]byte(part.stage + ":" + r.next))
			return t, nil
		}
		r.after = ""
	}
	return t, nil
}

// idsOf is the range of ids of deliveries that an event can have: they begin
// with its accept time.
func idsOf(eventID string) (from, to string, err error) {
	at, err := belfry.IDTime(eventID)
	return belfry.MinID(belfry.DeliveryPrefix, at), belfry.MinID(belfry.DeliveryPrefix, at.Add(time.Millisecond)), err
}

// traceReader reads the parts of a trace one after the other.
type traceReader struct {
	db                       *DB
	tenant, event, principal string
	from, to                 string
	stage, after, next       string
	left                     int
	trace                    *EventTrace
}

// page counts a row in, or notes where the next page begins.
func (r *traceReader) page(place string) bool {
	if r.left == 0 {
		return false
	}
	r.left--
	r.after = place
	return true
}

// start is where a part begins: after the place, or at the first id.
func (r *traceReader) start() string {
	if r.after != "" {
		return r.after
	}
	return r.from
}

func (r *traceReader) deliveries(ctx context.Context) error {
	text := "SELECT " + deliveryCols + " FROM deliveries WHERE tenant = $1 AND id > $2 AND id < $3 AND event_id = $4"
	args := []any{r.tenant, r.start(), r.to, r.event, r.left + 1}
	if r.principal != "" {
		text += " AND (principal = $6 OR principal = '' AND address = $6)"
		args = append(args, r.principal)
	}
	return r.db.query(ctx, func(rows *sql.Rows) error {
		d, err := scanDelivery(rows, r.tenant)
		if err != nil {
			return err
		}
		if !r.page(d.ID) {
			r.next = r.after
			return nil
		}
		r.trace.Deliveries = append(r.trace.Deliveries, d)
		return nil
	}, text+" ORDER BY id LIMIT $5", args...)
}

// digests reads what is told in digests, each as the delivery it would be alone.
func (r *traceReader) digests(ctx context.Context) error {
	text := "i.id > $2 AND i.id < $3 AND i.event_id = $4"
	args := []any{r.start(), r.to, r.event, r.left + 1}
	if r.principal != "" {
		text += " AND (b.principal = $6 OR b.principal = '' AND b.address = $6)"
		args = append(args, r.principal)
	}
	list, err := r.db.items(ctx, r.tenant, text+" ORDER BY i.id LIMIT $5", args...)
	for i := range list {
		if !r.page(list[i].ID) {
			r.next = r.place()
			break
		}
		r.trace.Deliveries = append(r.trace.Deliveries, list[i])
	}
	return err
}

func (r *traceReader) inbox(ctx context.Context) error {
	text := "SELECT " + inboxCols + " FROM inbox WHERE tenant = $1 AND id > $2 AND id < $3 AND event_id = $4"
	args := []any{r.tenant, r.start(), r.to, r.event, r.left + 1}
	if r.principal != "" {
		text += " AND principal = $6"
		args = append(args, r.principal)
	}
	return r.db.query(ctx, func(rows *sql.Rows) error {
		i, err := scanInbox(rows)
		if err != nil {
			return err
		}
		if !r.page(i.ID) {
			r.next = r.place()
			return nil
		}
		r.trace.Deliveries = append(r.trace.Deliveries, inboxDelivery(r.tenant, &i))
		return nil
	}, text+" ORDER BY id LIMIT $5", args...)
}

// place is where this part goes on when the page was full before its first row.
func (r *traceReader) place() string {
	if r.after == "" {
		return r.from
	}
	return r.after
}

// inboxDelivery shows an inbox row as the delivery it is.
func inboxDelivery(tenant string, i *InboxRow) belfry.Delivery {
	at, _ := belfry.IDTime(i.ID) // we made the id
	return belfry.Delivery{
		Tenant: tenant, ID: i.ID, EventID: i.EventID, Subscription: i.Subscription, Channel: belfry.ChannelInbox, Principal: i.Principal,
		Address: i.Principal, Destination: i.Principal, Shard: belfry.Shard(tenant, i.Principal), State: belfry.Delivered, Due: at,
		Locale: i.Locale, Template: i.Template, Because: i.Because,
	}
}

func (r *traceReader) suppressions(ctx context.Context) error {
	run, rest, _ := strings.Cut(r.after, "\x00")
	parts := append(strings.SplitN(rest, "\x00", 3), "", "")
	n, err := strconv.Atoi(run)
	if err != nil {
		n = -1
	}
	text := "SELECT run, principal, address, channel, " + becauseOf("suppressions") + ` FROM suppressions
		WHERE tenant = $1 AND event_id = $2 AND (run, principal, address, channel) > ($3, $4, $5, $6)`
	args := []any{r.tenant, r.event, n, parts[0], parts[1], parts[2], r.left + 1}
	if r.principal != "" {
		text += " AND (principal = $8 OR principal = '' AND address = $8)"
		args = append(args, r.principal)
	}
	return r.db.query(ctx, func(rows *sql.Rows) error {
		var u belfry.Suppression
		var run int
		var because string
		if err := rows.Scan(&run, &u.Principal, &u.Address, &u.Channel, &because); err != nil {
			return err
		}
		if !r.page(strconv.Itoa(run) + "\x00" + u.Principal + "\x00" + u.Address + "\x00" + u.Channel) {
			if r.next = r.after; r.next == "" {
				r.next = "-1"
			}
			return nil
		}
		var err error
		u.Because, err = readReasons(because, "")
		r.trace.Suppressions = append(r.trace.Suppressions, u)
		return err
	}, text+" ORDER BY run, principal, address, channel LIMIT $7", args...)
}

// DeliveryFilter chooses deliveries of a list.
type DeliveryFilter struct {
	State        *belfry.State
	Recipient    string // a principal, or an address or endpoint
	Event        string
	Channel      string
	Endpoint     string
	Subscription string
	Since        time.Time // of events accepted then or later
	Until        time.Time // of events accepted before
	Before       string    // a delivery's id: only older ones; empty = from the newest
	Limit        int       // 0 = 50
}

// ListDeliveries lists deliveries (not inbox rows), newest first. next is where
// to go on, empty at the end; a page may hold fewer than Limit and have a next.
func (db *DB) ListDeliveries(ctx context.Context, tenant string, f DeliveryFilter) (list []belfry.Delivery, next string, err error) {
	w := window{table: "deliveries", cols: deliveryCols, prefix: belfry.DeliveryPrefix, since: f.Since, before: f.Before, limit: orDefault(f.Limit, 50)}
	var none bool
	w.within, w.filters, none, err = db.selection(ctx, tenant, &belfry.DeliverySelect{State: f.State, Recipient: f.Recipient, Event: f.Event,
		Channel: f.Channel, Endpoint: f.Endpoint, Subscription: f.Subscription, Until: f.Until})
	if err != nil || none {
		return nil, "", err
	}
	next, err = w.run(ctx, db, tenant, func(rows *sql.Rows) (string, error) {
		d, err := scanDelivery(rows, tenant)
		list = append(list, d)
		return d.ID, err
	})
	return list, next, err
}

// Delivery reads one delivery, inbox row or item of a digest, false when there is none.
func (db *DB) Delivery(ctx context.Context, tenant, id string) (d belfry.Delivery, ok bool, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		ok = true
		d, err = scanDelivery(rows, tenant)
		return err
	}, "SELECT "+deliveryCols+" FROM deliveries WHERE tenant = $1 AND id = $2", tenant, id)
	if err != nil || ok {
		return d, ok, err
	}
	items, err := db.items(ctx, tenant, "i.id = $2", id)
	if err != nil || len(items) > 0 {
		return append(items, d)[0], len(items) > 0, err
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		ok = true
		i, err := scanInbox(rows)
		d = inboxDelivery(tenant, &i)
		return err
	}, "SELECT "+inboxCols+" FROM inbox WHERE tenant = $1 AND id = $2", tenant, id)
	return d, ok, err
}

// Attempts reads the attempts of a delivery, in order.
func (db *DB) Attempts(ctx context.Context, tenant, deliveryID string) (list []belfry.Attempt, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var sent string
		if err := rows.Scan(&sent); err != nil || sent == "" {
			return err
		}
		first, err := readFirst(tenant, deliveryID, sent)
		list = append(list, first)
		return err
	}, "SELECT sent FROM deliveries WHERE tenant = $1 AND id = $2", tenant, deliveryID)
	if err != nil {
		return nil, err
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		a := belfry.Attempt{Tenant: tenant, DeliveryID: deliveryID}
		var at, took, wait, due int64
		var because string
		if err := rows.Scan(&a.N, &at, &took, &a.Outcome.Kind, &a.Outcome.Status, &wait, &a.Outcome.Throttled, &a.State, &due, &a.Outcome.Detail, &because); err != nil {
			return err
		}
		a.At, a.Due = fromMicros(at), fromMicros(due)
		a.Took, a.Outcome.After = time.Duration(took)*time.Microsecond, time.Duration(wait)*time.Microsecond
		if because != "" {
			a.Because = new(belfry.Reason)
			if err := json.Unmarshal([]byte(because), a.Because); err != nil {
				return err
			}
		}
		list = append(list, a)
		return nil
	}, "SELECT n, at, took, kind, status, wait, throttled, state, due, detail, because FROM attempts WHERE tenant = $1 AND delivery_id = $2 ORDER BY n", tenant, deliveryID)
	return list, err
}

// AuditRow is an audit entry with its place in the list.
type AuditRow struct {
	ID string
	belfry.AuditEntry
}

// Audit lists edits, newest first, before an id.
func (db *DB) Audit(ctx context.Context, tenant, before string, limit int) (list []AuditRow, err error) {
	if before == "" {
		before = "~"
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		var a AuditRow
		var at int64
		err := rows.Scan(&a.ID, &at, &a.Who, &a.Action, &a.Target, &a.Detail)
		a.At = fromMicros(at)
		list = append(list, a)
		return err
	}, "SELECT id, at, who, action, target, detail FROM audit WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3", tenant, before, orDefault(limit, 50))
	return list, err
}

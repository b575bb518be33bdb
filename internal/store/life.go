package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// cancels ends open deliveries. A send that is under way meanwhile is noted as
// an attempt when it ends, and changes nothing else.
func (e *edit) cancels() error {
	for i := range e.ch.Cancels {
		c := &e.ch.Cancels[i]
		n, err := e.exec("UPDATE deliveries SET state = 6, ended = $3 WHERE tenant = $1 AND id = $2 AND state + 0 < 3", e.tenant, c.ID, e.scribe.reason(&c.Because))
		if err != nil {
			return err
		}
		if n == 0 {
			if n, err = e.exec(cancelItem, e.tenant, c.ID, e.scribe.reason(&c.Because)); err != nil {
				return err
			}
			if n == 0 {
				return belfry.Errorf(belfry.Conflict, "the delivery %s is over: there is nothing left to cancel", c.ID)
			}
			continue // it is in nobody's memory and in no count
		}
		e.count(e.tenant, 0, -1)
		e.note(belfry.KindDelivery, c.ID)
	}
	return nil
}

// cancelItem takes an item out of a digest that is open.
const cancelItem = `UPDATE bundle_items SET state = 6, ended = $3 WHERE tenant = $1 AND id = $2 AND state = 0
	AND bundle IN (SELECT b.id FROM bundles b WHERE b.tenant = $1 AND b.id = bundle_items.bundle AND b.state = 0)`

// reopen makes deliveries due again; attempts count on, the schedule starts
// over.
const reopen = "UPDATE deliveries SET state = 0, due = $2, base = attempts, ended = '' WHERE tenant = $1 AND "

// retries makes deliveries due again. Held ones wait for a decision and stay.
func (e *edit) retries() error {
	for i := range e.ch.Retries {
		r := &e.ch.Retries[i]
		closed := "state + 0 > 3"
		if r.Resend {
			closed = "state + 0 > 2"
		}
		opened, err := e.exec(reopen+"id = $3 AND "+closed, e.tenant, micros(r.Due), r.ID)
		if err != nil {
			return err
		}
		n := opened
		if n == 0 {
			if n, err = e.exec(reopen+"id = $3 AND state + 0 < 2", e.tenant, micros(r.Due), r.ID); err != nil {
				return err
			}
		}
		if n == 0 {
			return belfry.Errorf(belfry.Conflict, "the delivery %s was delivered meanwhile", r.ID)
		}
		e.count(e.tenant, 0, opened)
		e.note(belfry.KindDelivery, r.ID)
	}
	return nil
}

// sendDigests makes digests due that gather.
func (e *edit) sendDigests() error {
	for i := range e.ch.SendDigests {
		d := &e.ch.SendDigests[i]
		n, err := e.exec("UPDATE bundles SET due = $3, because = $4 WHERE tenant = $1 AND id = $2 AND state + 0 = 0", e.tenant, d.ID, micros(d.Due), e.scribe.reason(&d.Because))
		if err == nil && n == 0 {
			err = belfry.Errorf(belfry.Conflict, "the digest %s does not gather any more: it was sealed or is over", d.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// selection are the conditions of a DeliverySelect: those of the range of ids,
// which an index serves, and those of what is in it.
func (db *DB) selection(ctx context.Context, tenant string, f *belfry.DeliverySelect) (within, filters []filter, none bool, err error) {
	if !f.Until.IsZero() {
		within = append(within, filter{"id < ?", belfry.MinID(belfry.DeliveryPrefix, f.Until)})
	}
	if f.Event != "" {
		from, to, err := idsOf(f.Event)
		if err != nil {
			return nil, nil, true, nil // no such event
		}
		within = append(within, filter{"id >= ?", from}, filter{"id < ?", to})
		filters = append(filters, equals("event_id", f.Event))
	}
	if f.State != nil && *f.State > belfry.Delivered {
		// The condition on > 3 lets the planner take the index of those.
		within = append(within, filter{"state > 3 AND state = ?", int64(*f.State)})
	} else if f.State != nil {
		filters = append(filters, filter{"state = ?", int64(*f.State)})
	}
	if f.Open {
		filters = append(filters, filter{"state < ?", int64(belfry.Delivered)})
	}
	if f.Recipient != "" {
		known, err := db.strings(ctx, "SELECT id FROM users WHERE tenant = $1 AND id = $2", tenant, f.Recipient)
		if err != nil {
			return nil, nil, false, err
		}
		if len(known) > 0 {
			// The condition on '' lets the planner take the index of persons.
			within = append(within, filter{"principal <> '' AND principal = ?", f.Recipient})
		} else {
			filters = append(filters, equals("address", f.Recipient))
		}
	}
	if f.Channel != "" {
		filters = append(filters, equals("channel", f.Channel))
	}
	if f.Endpoint != "" {
		filters = append(filters, equals("channel", belfry.ChannelWebhook), equals("address", f.Endpoint))
	}
	if f.Subscription != "" {
		filters = append(filters, equals("subscription", f.Subscription))
	}
	return within, filters, false, nil
}

// FindDeliveries looks through a bounded number of deliveries after an id, in
// the order of ids, for those that are wanted: up to limit of their ids, and
// where to go on, empty at the end.
func (db *DB) FindDeliveries(ctx context.Context, tenant string, f belfry.DeliverySelect, after string, limit int) (ids []string, next string, err error) {
	if err := clean(f.Recipient, f.Event, f.Channel, f.Endpoint, f.Subscription, after); err != nil {
		return nil, "", err
	}
	within, filters, none, err := db.selection(ctx, tenant, &f)
	if err != nil || none {
		return nil, "", err
	}
	w := window{table: "deliveries", cols: "id", prefix: belfry.DeliveryPrefix, since: f.Since, up: true, after: after, limit: limit, within: within, filters: filters}
	next, err = w.run(ctx, db, tenant, func(rows *sql.Rows) (string, error) {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return id, err
	})
	return ids, next, err
}

// CountDeliveries counts those that are wanted; it may take long.
func (db *DB) CountDeliveries(ctx context.Context, tenant string, f belfry.DeliverySelect) (n int64, err error) {
	within, filters, none, err := db.selection(ctx, tenant, &f)
	if err != nil || none {
		return 0, err
	}
	if !f.Since.IsZero() {
		within = append(within, filter{"id >= ?", belfry.MinID(belfry.DeliveryPrefix, f.Since)})
	}
	return db.countWhere(ctx, "deliveries", tenant, append(within, filters...))
}

func (db *DB) countWhere(ctx context.Context, table, tenant string, fs []filter) (n int64, err error) {
	args := parameters{tenant}
	text := "SELECT count(*) FROM " + table + " WHERE tenant = $1" + args.where(fs)
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&n) }, text, args...)
	return n, err
}

// RetryDeliveries makes those of ids that still stand in the state due again,
// and records the step of the job that asked, in one transaction. step makes
// the step of the number made due. ok is false when the job is not ours any
// more: then nothing was done.
func (db *DB) RetryDeliveries(ctx context.Context, j *belfry.Job, ids []string, state belfry.State, due time.Time, step func(n int64) belfry.JobStep) (ok bool, err error) {
	return db.lifeStep(ctx, j, len(ids), false, func(s *session, _ int64) (belfry.JobStep, error) {
		n := int64(0)
		err := in(db.pg, reopen+"state + 0 = $3 AND id IN_LIST", ids, []any{j.Tenant, micros(due), int64(state)}, func(text string, args []any) error {
			touched, err := s.exec(text, args...)
			n += touched
			return err
		})
		if !state.Open() {
			s.count(j.Tenant, 0, n)
		}
		return step(n), err
	})
}

// CancelDeliveries ends those of ids that are open, and records the step as
// RetryDeliveries does; step is given the ids that were cancelled.
func (db *DB) CancelDeliveries(ctx context.Context, j *belfry.Job, ids []string, because belfry.Reason, step func(cancelled []string) belfry.JobStep) (ok bool, err error) {
	return db.lifeStep(ctx, j, len(ids), len(ids) > 0, func(s *session, version int64) (belfry.JobStep, error) {
		var cancelled []string
		err := queryIn(s, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			cancelled = append(cancelled, id)
			return err
		}, "UPDATE deliveries SET state = 6, ended = $2 WHERE tenant = $1 AND state + 0 < 3 AND id IN_LIST RETURNING id", ids, j.Tenant, s.scribe.reason(&because))
		if err != nil {
			return belfry.JobStep{}, err
		}
		s.count(j.Tenant, 0, -int64(len(cancelled)))
		for _, id := range cancelled { // other nodes follow the log of changes
			s.change(j.Tenant, version, belfry.KindDelivery, id)
		}
		return step(cancelled), nil
	})
}

// lifeStep does a step's writes and records the step with them. The job's row
// is the fence: it is taken first, so that nobody else can take the job up
// before this is committed or given up.
// An edit takes its version before any job, so that it and others never wait
// for each other.
func (db *DB) lifeStep(ctx context.Context, j *belfry.Job, weight int, edits bool, do func(s *session, version int64) (belfry.JobStep, error)) (ok bool, err error) {
	err = db.doors.life.do(ctx, &job{weight: 1 + weight, data: func(s *session) (err error) {
		ok = false
		version := int64(0)
		if edits {
			if version, err = s.bump(j.Tenant); err != nil {
				return err
			}
		}
		n, err := s.exec("UPDATE jobs SET updated = $5 WHERE tenant = $1 AND id = $2 AND epoch = $3 AND cursor = $4 AND state = 1",
			j.Tenant, j.ID, j.Epoch, j.Cursor, micros(db.now()))
		if err != nil || n == 0 {
			return err
		}
		step, err := do(s, version)
		if err != nil {
			return err
		}
		ok, err = s.stepJob(j, &step)
		return err
	}})
	return ok, err
}

var insertRun = with("tenant:t event_id:t run:n shard:n terms:t", `INSERT INTO plans (tenant, event_id, run, shard, cursor, terms)
	SELECT a.tenant, a.event_id, a.run, a.shard, '', a.terms FROM a
	WHERE EXISTS (SELECT 1 FROM events e WHERE e.tenant = a.tenant AND e.id = a.event_id) ON CONFLICT DO NOTHING`)

// EventPlace is an event and the object that decides who plans it.
type EventPlace = belfry.EventPlace

// FindEvents looks through a bounded number of events after an id, in the order
// of acceptance, for those that are wanted, as FindDeliveries does.
func (db *DB) FindEvents(ctx context.Context, tenant string, f belfry.EventSelect, after string, limit int) (list []EventPlace, next string, err error) {
	if err := clean(f.Event, f.Type, f.Object, after); err != nil {
		return nil, "", err
	}
	w := window{table: "events", cols: "id, object", prefix: belfry.EventPrefix, since: f.Since, up: true, after: after, limit: limit}
	w.within, w.filters = eventSelection(&f)
	next, err = w.run(ctx, db, tenant, func(rows *sql.Rows) (string, error) {
		var e EventPlace
		err := rows.Scan(&e.EventID, &e.Object)
		list = append(list, e)
		return e.EventID, err
	})
	return list, next, err
}

func eventSelection(f *belfry.EventSelect) (within, filters []filter) {
	if f.Event != "" {
		within = append(within, equals("id", f.Event))
	}
	if !f.Until.IsZero() {
		within = append(within, filter{"id < ?", belfry.MinID(belfry.EventPrefix, f.Until)})
	}
	if f.Type != "" {
		filters = append(filters, matches("type", f.Type))
	}
	if f.Object != "" {
		filters = append(filters, equals("object", f.Object))
	}
	return within, filters
}

// CountEvents counts those that are wanted; it may take long.
func (db *DB) CountEvents(ctx context.Context, tenant string, f belfry.EventSelect) (int64, error) {
	within, filters := eventSelection(&f)
	if !f.Since.IsZero() {
		within = append(within, filter{"id >= ?", belfry.MinID(belfry.EventPrefix, f.Since)})
	}
	return db.countWhere(ctx, "events", tenant, append(within, filters...))
}

// AddRuns asks for events to be planned anew, as the run of a job and on its
// terms, and records the job's step, in one transaction. Events that are not
// stored any more are passed over.
func (db *DB) AddRuns(ctx context.Context, j *belfry.Job, terms belfry.Replay, events []EventPlace, step func(n int64) belfry.JobStep) (ok bool, err error) {
	text, err := json.Marshal(terms)
	if err != nil {
		return false, err
	}
	return db.lifeStep(ctx, j, len(events), false, func(s *session, _ int64) (belfry.JobStep, error) {
		rows := s.rows(insertRun)
		for _, e := range events {
			object := e.Object
			if object == "" {
				object = belfry.RootObject
			}
			rows.text(j.Tenant).text(e.EventID).num(j.Run).num(int64(belfry.Shard(j.Tenant, object))).text(string(text))
		}
		n, err := rows.flush()
		s.count(j.Tenant, n, 0)
		return step(n), err
	})
}

// PendingRuns reports whether plans of a run are not complete.
func (db *DB) PendingRuns(ctx context.Context, tenant string, run int64) (pending bool, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		pending = true
		var one int
		return rows.Scan(&one)
	}, "SELECT 1 FROM plans WHERE tenant = $1 AND run = $2 LIMIT 1", tenant, run)
	return pending, err
}

// PendingPlansOf is how many plans of a tenant are not complete, as Stats counts
// them.
func (db *DB) PendingPlansOf(ctx context.Context, tenant string) (int64, error) {
	all, err := db.countAll(ctx)
	return all[tenant].plans, err
}

// DeliveryStates reads in which states deliveries are; those that do not exist
// are absent.
func (db *DB) DeliveryStates(ctx context.Context, tenant string, ids []string) (map[string]belfry.State, error) {
	out := make(map[string]belfry.State, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		var id string
		var state belfry.State
		err := rows.Scan(&id, &state)
		out[id] = state
		return err
	}, "SELECT id, state FROM deliveries WHERE tenant = $1 AND id IN_LIST", ids, tenant)
	if err != nil || len(out) == len(ids) {
		return out, err
	}
	return out, db.itemStates(ctx, tenant, ids, out)
}

// LastAttempts reads the newest attempt of each delivery that has any and was
// not delivered by the first.
func (db *DB) LastAttempts(ctx context.Context, tenant string, ids []string) (map[string]belfry.Attempt, error) {
	out := make(map[string]belfry.Attempt, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		var a belfry.Attempt
		var at, took int64
		if err := rows.Scan(&a.DeliveryID, &a.N, &at, &took, &a.Outcome.Kind, &a.Outcome.Status, &a.State, &a.Outcome.Detail); err != nil {
			return err
		}
		a.Tenant, a.At, a.Took = tenant, fromMicros(at), time.Duration(took)*time.Microsecond
		out[a.DeliveryID] = a
		return nil
	}, `SELECT delivery_id, n, at, took, kind, status, state, detail FROM attempts a WHERE tenant = $1 AND delivery_id IN_LIST
		AND NOT EXISTS (SELECT 1 FROM attempts b WHERE b.tenant = a.tenant AND b.delivery_id = a.delivery_id AND b.n > a.n)`, ids, tenant)
	return out, err
}

// Failing reads since when endpoints have only failed; those that work are
// absent.
func (db *DB) Failing(ctx context.Context, tenant string, endpoints []string) (map[string]belfry.Failing, error) {
	fs := map[string]belfry.Failing{}
	err := db.queryEach(ctx, func(rows *sql.Rows) error {
		var f belfry.Failing
		var since, last int64
		err := rows.Scan(&f.Endpoint, &since, &last, &f.Detail)
		f.Since, f.Last = fromMicros(since), fromMicros(last)
		fs[f.Endpoint] = f
		return err
	}, "SELECT endpoint, since, last, detail FROM failing WHERE tenant = $1 AND endpoint IN_LIST", endpoints, tenant)
	return fs, err
}

var (
	clearFailing = with("tenant:t endpoint:t clean:n", `DELETE FROM failing WHERE (tenant, endpoint) IN
		(SELECT f.tenant, f.endpoint FROM a JOIN failing f ON f.tenant = a.tenant AND f.endpoint = a.endpoint WHERE f.since < a.clean)`)
	noteFailing = insert("failing", "tenant:t endpoint:t since:n last:n detail:t",
		"ON CONFLICT (tenant, endpoint) DO UPDATE SET last = excluded.last, detail = excluded.detail")
)

// NoteFailing notes which endpoints fail, each named once, and which work again,
// whose Since is zero. What is noted already keeps its Since, unless that is from
// before Clean.
func (db *DB) NoteFailing(ctx context.Context, tenant string, changes []belfry.Failing) error {
	changes = slices.Clone(changes)
	slices.SortFunc(changes, func(a, b belfry.Failing) int { return cmp.Compare(a.Endpoint, b.Endpoint) }) // so do all who write them
	for i := range changes {
		if err := clean(tenant, changes[i].Endpoint, changes[i].Detail); err != nil {
			return err
		}
	}
	return db.doors.life.do(ctx, &job{weight: len(changes), data: func(s *session) error {
		gone := s.rows(clearFailing)
		for i := range changes {
			before := micros(changes[i].Clean)
			if changes[i].Since.IsZero() {
				before = math.MaxInt64
			}
			gone.text(tenant).text(changes[i].Endpoint).num(before)
		}
		if _, err := gone.flush(); err != nil {
			return err
		}
		rows := s.rows(noteFailing)
		for i := range changes {
			if f := &changes[i]; !f.Since.IsZero() {
				rows.text(tenant).text(f.Endpoint).num(micros(f.Since)).num(micros(f.Last)).text(f.Detail)
			}
		}
		_, err := rows.flush()
		return err
	}})
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/belfryhq/belfry/internal/belfry"
)

// On PostgreSQL each table of a part (see belfry.Parts) is a row of partitions
// by ranges of its ids, which begin with the accept time of the event:
//
//	head            from the first id to where the oldest other begins
//	<date> …        a span of time each, made ahead
//	tail            from where the newest ends to the last id
//
// Together they leave no gap, so every insert has its place: the tail takes
// rows when nobody made partitions for a long time, or a clock is ahead, and
// the head those of old events that are planned again. A tail with rows is not
// emptied but becomes a partition, with a new tail behind it: nothing is
// copied. The tables of a part are always cut at the same times.
//
// What changes the row needs the parent's exclusive lock for a few
// milliseconds. It is asked for with a short time-out, again and again: a
// reader that stays for hours delays housekeeping, and no door for longer than
// the time-out.

// ptable is one table of a part.
type ptable struct {
	name, key, prefix string
	with              string // storage parameters
}

var partitioned = map[belfry.Part][]ptable{
	belfry.PartDeliveries: {
		{"deliveries", "id", belfry.DeliveryPrefix, " WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)"},
		{"attempts", "delivery_id", belfry.DeliveryPrefix, ""},
		{"suppressions", "event_id", belfry.EventPrefix, ""},
		{"plan_matches", "event_id", belfry.EventPrefix, ""},
	},
	belfry.PartInbox:  {{"inbox", "id", belfry.DeliveryPrefix, ""}},
	belfry.PartEvents: {{"events", "id", belfry.EventPrefix, ""}},
}

// partition is one range; a zero from or to has no end.
type partition struct {
	name     string
	from, to time.Time
	bytes    int64
}

func (p *partition) tail() bool { return p.to.IsZero() }

func (p *partition) head(t ptable) bool { return p.from.IsZero() && p.name == t.name+"_head" }

const (
	ddlLock     = 100 * time.Millisecond // how long a door may be kept waiting
	ddlTries    = 8
	ddlKey      = 0x62656c667270      // advisory lock of one at a time ("belfrp")
	smallTail   = 8 << 20             // bytes that are read in no time
	leastAhead  = 14 * 24 * time.Hour // partitions reach so far
	aheadSpans  = 3                   // and so many spans
	boundPrefix = "belfry_until_"     // of the passing constraint of a tail
	anchor      = 4 * 24 * time.Hour  // 1970-01-05 was a Monday
	dayFormat   = "20060102"
)

// ErrElsewhere says that another node changes partitions at this moment: there
// is nothing left to do, or it is tried again at the next turn.
var ErrElsewhere = belfry.Errorf(belfry.Conflict, "another node changes partitions at this moment")

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

var boundForm = regexp.MustCompile(`^FOR VALUES FROM \((?:MINVALUE|'([a-z0-9_]+)')\) TO \((?:MAXVALUE|'([a-z0-9_]+)')\)$`)

// partitions lists those of a table, in order.
func partitions(ctx context.Context, q querier, table string) (list []partition, err error) {
	rows, err := q.QueryContext(ctx, `SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), pg_relation_size(c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = to_regclass($1)`, table)
	err = each(rows, err, func(rows *sql.Rows) error {
		var p partition
		var found sql.NullString
		var bytes sql.NullInt64
		if err := rows.Scan(&p.name, &found, &bytes); err != nil {
			return err
		}
		bound := found.String
		if p.bytes = bytes.Int64; !found.Valid || !bytes.Valid {
			return ErrElsewhere // it was taken away while we read
		}
		m := boundForm.FindStringSubmatch(bound)
		if m == nil {
			return belfry.Errorf(belfry.Internal, "partition %s has bounds that Belfry did not make: %s", p.name, bound)
		}
		var errs [2]error
		for i, at := range []*time.Time{&p.from, &p.to} {
			if m[i+1] != "" {
				*at, errs[i] = belfry.IDTime(m[i+1])
			}
		}
		list = append(list, p)
		return errors.Join(errs[:]...)
	})
	slices.SortFunc(list, func(a, b partition) int { return a.from.Compare(b.from) })
	if err == nil && (len(list) == 0 || !list[len(list)-1].tail()) {
		err = belfry.Errorf(belfry.Internal, "table %s has no last partition: run belfry migrate", table)
	}
	return list, err
}

// bounds is the clause for a range of a table.
func (t ptable) bounds(from, to time.Time) string {
	lo, hi := "MINVALUE", "MAXVALUE"
	if !from.IsZero() {
		lo = "'" + belfry.MinID(t.prefix, from) + "'"
	}
	if !to.IsZero() {
		hi = "'" + belfry.MinID(t.prefix, to) + "'"
	}
	return "FOR VALUES FROM (" + lo + ") TO (" + hi + ")"
}

// create makes a partition. It is made apart and attached, so that it gets the
// parent's columns and indexes whatever they are by now.
func (t ptable) create(name string, from, to time.Time) []string {
	return []string{
		"CREATE TABLE " + name + " (LIKE " + t.name + " INCLUDING DEFAULTS INCLUDING CONSTRAINTS)" + t.with,
		"ALTER TABLE " + t.name + " ATTACH PARTITION " + name + " " + t.bounds(from, to),
	}
}

// nameFor is the name of the partition that begins at a time; two that begin
// within a day (spans were changed) differ by the hour and minute.
func (t ptable) nameFor(from time.Time, taken map[string]bool) string {
	name := t.name + "_" + from.UTC().Format(dayFormat)
	if taken[name] {
		name += from.UTC().Format("_1504")
	}
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s_%s_%d", t.name, from.UTC().Format(dayFormat), n)
	}
	taken[name] = true
	return name
}

// align is the beginning of the span a time falls in.
func align(at time.Time, span time.Duration) time.Time {
	since := at.Sub(time.Unix(0, 0).Add(anchor))
	n := since / span
	if since < 0 && since%span != 0 {
		n--
	}
	return time.Unix(0, 0).UTC().Add(anchor + n*span)
}

// MakePartitions makes a part's partitions of a span each, for some time
// ahead, and turns a tail that has rows into a partition. On SQLite there is
// nothing to do. Two nodes may do it at once: one of them does.
func (db *DB) MakePartitions(ctx context.Context, part belfry.Part, now time.Time, span time.Duration) (made int, err error) {
	tables := partitioned[part]
	if !db.pg || len(tables) == 0 {
		return 0, nil
	}
	for _, t := range tables { // what a run that was killed left behind
		if err := db.dropBound(ctx, t); err != nil {
			return 0, err
		}
	}
	list, err := partitions(ctx, db.write, tables[0].name)
	if err != nil {
		return 0, fault(err)
	}
	tail := list[len(list)-1]
	ahead := max(aheadSpans*span, leastAhead)
	if want := align(now, span).Add(ahead + span); !tail.from.IsZero() && !tail.from.Before(want) {
		return 0, nil
	}
	newest, err := db.newest(ctx, db.write, tables)
	if err != nil {
		return 0, err
	}
	if newest.IsZero() {
		err = db.ddl(ctx, tables, func(tx *sql.Tx) error {
			made, err = extend(ctx, tx, tables, now, span)
			return err
		})
		return made, err
	}
	// No row may come that the partition to be would not take. Ids beyond the
	// newest by more than weeks while this is under way are refused.
	from := now
	if newest.After(from) {
		from = newest
	}
	until := align(from, span).Add(span + ahead)
	defer func() {
		for _, t := range tables {
			// A run that was given up must not leave a bound behind.
			if dropErr := db.dropBound(context.WithoutCancel(ctx), t); dropErr != nil {
				err = errors.Join(err, dropErr)
			}
		}
	}()
	for _, t := range tables {
		if err := db.prove(ctx, t, until); err != nil {
			return 0, err
		}
	}
	err = db.ddl(ctx, tables, func(tx *sql.Tx) error { return split(ctx, tx, tables, until) })
	if err != nil {
		return 0, err
	}
	db.log.Info("store: a partition was cut behind what there is", "part", part, "until", until)
	return 1, nil
}

// newest is the time of the newest row of the tables' tails, zero without one.
// Ids are looked up by tenant, as the keys begin.
func (db *DB) newest(ctx context.Context, q querier, tables []ptable) (at time.Time, err error) {
	for _, t := range tables {
		list, err := partitions(ctx, q, t.name)
		if err != nil {
			return at, fault(err)
		}
		tail := list[len(list)-1].name
		rows, err := q.QueryContext(ctx, `SELECT max(m.id) FROM versions v CROSS JOIN LATERAL (SELECT t.`+t.key+` AS id FROM `+tail+` t WHERE t.tenant = v.tenant ORDER BY t.`+t.key+` DESC LIMIT 1) m`)
		err = each(rows, err, func(rows *sql.Rows) error {
			var id sql.NullString
			if err := rows.Scan(&id); err != nil || !id.Valid {
				return err
			}
			made, err := belfry.IDTime(id.String)
			if err == nil && made.After(at) {
				at = made
			}
			return err
		})
		if err != nil {
			return at, raced(err)
		}
	}
	return at, nil
}

// raced is fault for statements that name partitions without a lock.
func raced(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "42704") { // it is called otherwise by now, or gone
		return ErrElsewhere
	}
	return fault(err)
}

// extend cuts partitions from tails that are empty.
func extend(ctx context.Context, tx *sql.Tx, tables []ptable, now time.Time, span time.Duration) (made int, err error) {
	want := align(now, span).Add(max(aheadSpans*span, leastAhead) + span)
	for _, t := range tables {
		list, err := partitions(ctx, tx, t.name)
		if err != nil {
			return 0, err
		}
		tail, taken := list[len(list)-1], names(list)
		var rows bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+tail.name+")").Scan(&rows); err != nil {
			return 0, err
		}
		if rows || !tail.from.IsZero() && !tail.from.Before(want) {
			return 0, ErrElsewhere // it was done, or undone, meanwhile
		}
		text := []string{"ALTER TABLE " + t.name + " DETACH PARTITION " + tail.name}
		from, now := tail.from, align(now, span)
		if from.IsZero() {
			from = now
			text = append(text, t.create(t.name+"_head", time.Time{}, from)...)
		}
		made = 0
		for from.Before(want) {
			to := align(from, span).Add(span)
			if from.Before(now) {
				to = now // one for all the time nobody was here
			}
			text = append(text, t.create(t.nameFor(from, taken), from, to)...)
			from, made = to, made+1
		}
		if tail.name != t.name+"_tail" {
			text = append(text, "ALTER TABLE "+tail.name+" RENAME TO "+t.name+"_tail")
		}
		text = append(text, "ALTER TABLE "+t.name+" ATTACH PARTITION "+t.name+"_tail "+t.bounds(from, time.Time{}))
		if err := execAll(ctx, tx, text); err != nil {
			return 0, err
		}
	}
	return made, nil
}

func names(list []partition) map[string]bool {
	out := map[string]bool{}
	for _, p := range list {
		out[p.name] = true
	}
	return out
}

// prove makes it known that a tail has no row at or after a time, so that
// attaching it again need not read it under a lock. Small ones are read.
func (db *DB) prove(ctx context.Context, t ptable, until time.Time) error {
	list, err := partitions(ctx, db.write, t.name)
	if err != nil {
		return fault(err)
	}
	tail := list[len(list)-1]
	if tail.bytes <= smallTail {
		return nil
	}
	check := t.key + " < '" + belfry.MinID(t.prefix, until) + "'"
	if !tail.from.IsZero() {
		check += " AND " + t.key + " >= '" + belfry.MinID(t.prefix, tail.from) + "'"
	}
	err = db.ddl(ctx, []ptable{{name: tail.name}}, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "ALTER TABLE "+tail.name+" ADD CONSTRAINT "+boundPrefix+t.name+" CHECK ("+check+") NOT VALID")
		return err
	})
	if err != nil {
		return err
	}
	// This reads all of it, beside readers and writers.
	_, err = db.write.ExecContext(ctx, "ALTER TABLE "+tail.name+" VALIDATE CONSTRAINT "+boundPrefix+t.name)
	return raced(err)
}

// dropBound takes a passing constraint away wherever one is.
func (db *DB) dropBound(ctx context.Context, t ptable) error {
	var on []string
	rows, err := db.write.QueryContext(ctx, `SELECT c.conrelid::regclass::text FROM pg_constraint c JOIN pg_inherits i ON i.inhrelid = c.conrelid
		WHERE i.inhparent = to_regclass($1) AND c.conname = $2`, t.name, boundPrefix+t.name)
	err = each(rows, err, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		on = append(on, name)
		return err
	})
	if err != nil {
		return fault(err)
	}
	for _, name := range on {
		err := db.ddl(ctx, []ptable{{name: name}}, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "ALTER TABLE "+name+" DROP CONSTRAINT "+boundPrefix+t.name)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// split makes partitions of the tails up to a time and new tails behind them.
func split(ctx context.Context, tx *sql.Tx, tables []ptable, until time.Time) error {
	for _, t := range tables {
		list, err := partitions(ctx, tx, t.name)
		if err != nil {
			return err
		}
		tail, taken := list[len(list)-1], names(list)
		if !tail.from.Before(until) {
			return ErrElsewhere
		}
		text := []string{"ALTER TABLE " + t.name + " DETACH PARTITION " + tail.name}
		name := tail.name
		if name == t.name+"_tail" {
			name = t.nameFor(tail.from, taken)
			text = append(text, "ALTER TABLE "+tail.name+" RENAME TO "+name)
		}
		text = append(text, "ALTER TABLE "+t.name+" ATTACH PARTITION "+name+" "+t.bounds(tail.from, until))
		text = append(text, t.create(t.name+"_tail", until, time.Time{})...)
		if err := execAll(ctx, tx, text); err != nil {
			return err
		}
	}
	return nil
}

// DropPartitions drops a part's partitions that end by a time and hold nothing
// that is still needed: a plan that is not complete, an open delivery, an
// event an inbox entry is rendered from. empty asks for partitions without any
// row only, for tenants that keep some rows longer than others.
func (db *DB) DropPartitions(ctx context.Context, part belfry.Part, before time.Time, empty bool) (out belfry.Pruned, err error) {
	if !db.pg {
		return belfry.Pruned{Until: before}, nil
	}
	tables := partitioned[part]
	list, err := partitions(ctx, db.write, tables[0].name)
	if err != nil {
		return out, fault(err)
	}
	for i, p := range list {
		if p.tail() || p.to.After(before) {
			break
		}
		out.Until = p.to
		if p.head(tables[0]) {
			continue
		}
		first := p.from.IsZero() || i > 0 && list[i-1].head(tables[0])
		bytes, err := sizeOf(ctx, db.write, tables, p)
		if err != nil {
			return out, err
		}
		if bytes == 0 && !first {
			continue // it only keeps a gap closed
		}
		needed, err := db.needed(ctx, db.write, part, p, empty)
		if err != nil {
			return out, err
		}
		if !needed {
			err = db.ddl(ctx, tables, func(tx *sql.Tx) error {
				// Under the lock nothing changes any more.
				if needed, err = db.needed(ctx, tx, part, p, empty); err != nil || needed {
					return err
				}
				return remove(ctx, tx, tables, p, first)
			})
			if err != nil {
				return out, err
			}
		}
		if needed {
			out.Held++
			continue
		}
		out.Dropped++
		if first {
			list[i] = partition{name: tables[0].name + "_head", to: p.to}
		}
		db.log.Info("store: a partition was dropped", "part", part, "name", p.name, "until", p.to, "bytes", bytes)
	}
	return out, nil
}

// sizeOf is the size of a part's rows in a range.
func sizeOf(ctx context.Context, q querier, tables []ptable, p partition) (bytes int64, err error) {
	for _, t := range tables {
		list, err := partitions(ctx, q, t.name)
		if err != nil {
			return 0, fault(err)
		}
		if n := slices.IndexFunc(list, p.same); n >= 0 {
			bytes += list[n].bytes
		}
	}
	return bytes, nil
}

func (p *partition) same(q partition) bool { return p.from.Equal(q.from) && p.to.Equal(q.to) }

// remove drops a part's partitions of one range. The first leaves its range to
// the head; another, which would leave a gap, is replaced by an empty one.
func remove(ctx context.Context, tx *sql.Tx, tables []ptable, p partition, first bool) error {
	for _, t := range tables {
		list, err := partitions(ctx, tx, t.name)
		if err != nil {
			return err
		}
		n := slices.IndexFunc(list, func(q partition) bool { return p.same(q) && !q.head(t) })
		if n < 0 {
			return ErrElsewhere
		}
		text := []string{"DROP TABLE " + list[n].name}
		switch {
		case !first:
			text = append(text, t.create(list[n].name, p.from, p.to)...)
		case n > 0:
			text = append(text, "ALTER TABLE "+t.name+" DETACH PARTITION "+list[0].name, "ALTER TABLE "+t.name+" ATTACH PARTITION "+list[0].name+" "+t.bounds(time.Time{}, p.to))
		default:
			text = append(text, t.create(t.name+"_head", time.Time{}, p.to)...)
		}
		if err := execAll(ctx, tx, text); err != nil {
			return err
		}
	}
	return nil
}

// needed reports whether rows of a part's range must stay, by a few probes of
// indexes a tenant.
func (db *DB) needed(ctx context.Context, q querier, part belfry.Part, p partition, empty bool) (yes bool, err error) {
	var probes []string
	span := func(prefix, key string) string {
		text := ""
		if !p.from.IsZero() {
			text += " AND " + key + " >= '" + belfry.MinID(prefix, p.from) + "'"
		}
		return text + " AND " + key + " < '" + belfry.MinID(prefix, p.to) + "'"
	}
	probe := func(table, condition string) {
		probes = append(probes, "EXISTS (SELECT 1 FROM "+table+" x WHERE x.tenant = v.tenant"+condition+")")
	}
	if empty {
		for _, t := range partitioned[part] {
			probe(t.name, span(t.prefix, "x."+t.key))
		}
	}
	if part != belfry.PartInbox {
		probe("plans", span(belfry.EventPrefix, "x.event_id"))
		probe("deliveries", " AND x.state < 3"+span(belfry.DeliveryPrefix, "x.id"))
	}
	if part == belfry.PartEvents {
		probe("inbox", span(belfry.DeliveryPrefix, "x.id"))
		// Digests that were not sent may need any event from their oldest on.
		probe("bundles", " AND x.state < 2 AND x.oldest < '"+belfry.MinID(belfry.DeliveryPrefix, p.to)+"'")
	}
	if len(probes) == 0 {
		return false, nil
	}
	rows, err := q.QueryContext(ctx, "SELECT EXISTS (SELECT 1 FROM versions v WHERE "+strings.Join(probes, " OR ")+")")
	err = each(rows, err, func(rows *sql.Rows) error { return rows.Scan(&yes) })
	return yes, fault(err)
}

func execAll(ctx context.Context, tx *sql.Tx, texts []string) error {
	for _, text := range texts {
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// ddl changes tables in a transaction that has their exclusive locks. One node
// does so at a time. Who waits for the locks makes others wait, so it waits
// shortly, and tries again after a while.
func (db *DB) ddl(ctx context.Context, tables []ptable, change func(*sql.Tx) error) error {
	for try := 0; ; try++ {
		err := db.tryDDL(ctx, tables, change)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "55P03" && !transient(err) {
			return raced(err)
		}
		if try == ddlTries {
			return belfry.Errorf(belfry.Conflict, "something holds a lock on %s for long: partitions are changed when it is gone (%w)", tables[0].name, err)
		}
		wait := time.NewTimer(ddlLock*time.Duration(1+try) + rand.N(ddlLock))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		}
	}
}

func (db *DB) tryDDL(ctx context.Context, tables []ptable, change func(*sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", ddlLock.Milliseconds())); err != nil {
		return err
	}
	// A transaction's lock: it goes with it also behind a pooler.
	var mine bool
	if err := tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1)", int64(ddlKey)).Scan(&mine); err != nil {
		return err
	}
	if !mine {
		return ErrElsewhere
	}
	// ONLY: whoever uses a partition by way of its parent has a lock on that.
	for _, t := range tables {
		if _, err := tx.ExecContext(ctx, "LOCK TABLE ONLY "+t.name+" IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
	}
	if err := change(tx); err != nil {
		return err
	}
	return tx.Commit()
}

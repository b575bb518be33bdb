package store

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// noLow is the Low of a group of which everything was looked at.
const noLow = math.MaxInt64

func lowMicros(t time.Time) int64 {
	if t.IsZero() {
		return noLow
	}
	return t.UnixMicro()
}

func fromLow(n int64) time.Time {
	if n == noLow {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// conditionShard is the plan shard of who looks at a group.
func conditionShard(tenant, subscription, group string) int64 {
	return int64(belfry.Shard(tenant, subscription+"\x00"+group))
}

var (
	insertObservation = insert("observations", "tenant:t subscription:t grp:t at:n event_id:t value:t", "ON CONFLICT DO NOTHING")
	markGroup         = insert("condition_groups", "tenant:t subscription:t grp:t shard:n born:n low:n due:n as_of:n state:b mark=1 version=0",
		`ON CONFLICT (tenant, subscription, grp) DO UPDATE SET mark = condition_groups.mark + 1,
			low = CASE WHEN excluded.low < condition_groups.low THEN excluded.low ELSE condition_groups.low END,
			due = CASE WHEN condition_groups.due = 0 OR excluded.due < condition_groups.due THEN excluded.due ELSE condition_groups.due END,
			as_of = CASE WHEN excluded.as_of > condition_groups.as_of THEN excluded.as_of ELSE condition_groups.as_of END`)
)

var remarkGroup = with("tenant:t subscription:t due:n as_of:n", `UPDATE condition_groups SET mark = mark + 1, due = a.due, as_of = a.as_of FROM a
	WHERE condition_groups.tenant = a.tenant AND condition_groups.subscription = a.subscription AND condition_groups.grp = ''`)

type groupKey struct{ tenant, subscription, group string }

// marking is what a transaction has to say of a group.
type marking struct{ low, due, asOf int64 }

// observe stores what the pages of a transaction found for conditions. One
// statement may mark a group only once.
func (s *session) observe(jobs []*job) error {
	var marks map[groupKey]marking
	var rows *rows
	err := eachPage(jobs, func(p *belfry.PlanPage) error {
		for i := range p.Observations {
			o := &p.Observations[i]
			if marks == nil {
				marks, rows = map[groupKey]marking{}, s.rows(insertObservation)
			}
			at := o.At.UnixMicro()
			rows.text(p.Tenant).text(o.Subscription).text(o.Group).num(at).text(p.EventID).text(o.Value)
			key := groupKey{p.Tenant, o.Subscription, o.Group}
			m, known := marks[key]
			if !known {
				m = marking{low: at, due: o.Look.UnixMicro(), asOf: o.AsOf}
			}
			marks[key] = marking{min(m.low, at), min(m.due, o.Look.UnixMicro()), max(m.asOf, o.AsOf)}
		}
		return nil
	})
	if err != nil || marks == nil {
		return err
	}
	if _, err := rows.flush(); err != nil {
		return err
	}
	return s.markGroups(marks)
}

// markGroups makes groups be looked at, in one order: several nodes may do so
// at once.
func (s *session) markGroups(marks map[groupKey]marking) error {
	rows := s.rows(markGroup)
	born := micros(s.db.now())
	keys := slices.SortedFunc(maps.Keys(marks), func(a, b groupKey) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.subscription, b.subscription), cmp.Compare(a.group, b.group))
	})
	for _, k := range keys {
		m := marks[k]
		rows.text(k.tenant).text(k.subscription).text(k.group).num(conditionShard(k.tenant, k.subscription, k.group)).num(born).num(m.low).num(m.due).num(m.asOf).blob(nil)
	}
	_, err := rows.flush()
	return err
}

// conditions makes whoever looks at conditions learn of subscriptions that have
// one or had one, whatever was done to them.
func (e *edit) conditions() error {
	if len(e.ch.Subscriptions) == 0 {
		return nil
	}
	marks, now := map[groupKey]marking{}, micros(e.db.now())
	had := e.rows(remarkGroup)
	for _, sub := range last(e.ch.Subscriptions, func(s *belfry.Subscription) string { return s.ID }) {
		if sub.Condition != nil {
			marks[groupKey{e.tenant, sub.ID, ""}] = marking{low: noLow, due: now, asOf: e.version}
		} else {
			had.text(e.tenant).text(sub.ID).num(now).num(e.version)
		}
	}
	if _, err := had.flush(); err != nil || len(marks) == 0 {
		return err
	}
	return e.markGroups(marks)
}

const groupCols = "subscription, grp, born, low, due, as_of, mark, version, state"

func scanGroup(rows *sql.Rows, tenant string) (belfry.ConditionGroup, error) {
	g := belfry.ConditionGroup{Tenant: tenant}
	var born, low, due int64
	err := rows.Scan(&g.Subscription, &g.Group, &born, &low, &due, &g.AsOf, &g.Mark, &g.Version, &g.State)
	g.Born, g.Low, g.Due = fromMicros(born), fromLow(low), fromMicros(due)
	return g, err
}

// DueGroups are groups of conditions that are to be looked at, the longest due
// first. shards are the plan shards that are meant, nil all of them.
func (db *DB) DueGroups(ctx context.Context, tenant string, now time.Time, shards []int, limit int) (list []belfry.ConditionGroup, err error) {
	text := "SELECT " + groupCols + " FROM condition_groups WHERE tenant = $1 AND due > 0 AND due <= $2 AND "
	if shards != nil {
		text += "shard IN_LIST AND "
	}
	err = db.queryShards(ctx, func(rows *sql.Rows) error {
		g, err := scanGroup(rows, tenant)
		list = append(list, g)
		return err
	}, text+"1 = 1 ORDER BY due LIMIT $3", shards, tenant, micros(now), limit)
	return list, err
}

// NextLook is when the next group of a tenant is to be looked at; zero = none
// is.
func (db *DB) NextLook(ctx context.Context, tenant string, shards []int) (time.Time, error) {
	text := "SELECT due FROM condition_groups WHERE tenant = $1 AND due > 0 AND "
	if shards != nil {
		text += "shard IN_LIST AND "
	}
	var due int64
	err := db.queryShards(ctx, func(rows *sql.Rows) error { return rows.Scan(&due) }, text+"1 = 1 ORDER BY due LIMIT 1", shards, tenant)
	return fromMicros(due), err
}

// NextLooks is NextLook of every tenant that has one, in one statement.
func (db *DB) NextLooks(ctx context.Context, shards []int) (map[string]time.Time, error) {
	return db.nexts(ctx, shards, "condition_groups WHERE due > 0 AND ")
}

// ConditionGroups lists the groups of a subscription's condition after one, in
// their order. Only names one of them.
func (db *DB) ConditionGroups(ctx context.Context, tenant, subscription, after string, only *string, limit int) (list []belfry.ConditionGroup, err error) {
	text, args := "SELECT "+groupCols+" FROM condition_groups WHERE tenant = $1 AND subscription = $2 AND ", []any{tenant, subscription}
	switch {
	case only != nil:
		text, args = text+"grp = $3 LIMIT $4", append(args, *only)
	default:
		text, args = text+"grp > $3 ORDER BY grp LIMIT $4", append(args, after)
	}
	if err := clean(subscription, args[2].(string)); err != nil {
		return nil, err
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		g, err := scanGroup(rows, tenant)
		list = append(list, g)
		return err
	}, text, append(args, orDefault(limit, 100))...)
	return list, err
}

// CountGroups is how many groups a subscription's condition has, at most most.
func (db *DB) CountGroups(ctx context.Context, tenant, subscription string, most int) (n int, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&n) },
		"SELECT count(*) FROM (SELECT 1 FROM condition_groups WHERE tenant = $1 AND subscription = $2 LIMIT $3) AS g", tenant, subscription, most)
	return n, err
}

// Observations are those of a group from a time on, the earliest first.
func (db *DB) Observations(ctx context.Context, g *belfry.ConditionGroup, from time.Time, limit int) ([]belfry.Observed, error) {
	return db.observed(ctx, "at >= $4 ORDER BY at, event_id LIMIT $5", g.Tenant, g.Subscription, g.Group, from.UnixMicro(), limit)
}

// ObservationsBefore are the last ones of a group after a time and before
// another, the earliest first.
func (db *DB) ObservationsBefore(ctx context.Context, g *belfry.ConditionGroup, after, before time.Time, limit int) ([]belfry.Observed, error) {
	list, err := db.observed(ctx, "at >= $4 AND at < $5 ORDER BY at DESC, event_id DESC LIMIT $6", g.Tenant, g.Subscription, g.Group, after.UnixMicro(), before.UnixMicro(), limit)
	slices.Reverse(list)
	return list, err
}

func (db *DB) observed(ctx context.Context, where string, args ...any) (list []belfry.Observed, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var o belfry.Observed
		var at int64
		err := rows.Scan(&at, &o.EventID, &o.Value)
		o.At = time.UnixMicro(at).UTC()
		list = append(list, o)
		return err
	}, "SELECT at, event_id, value FROM observations WHERE tenant = $1 AND subscription = $2 AND grp = $3 AND "+where, args...)
	return list, err
}

// DropObservations removes up to about n observations of a group before a
// time, and says how many went.
func (db *DB) DropObservations(ctx context.Context, g *belfry.ConditionGroup, before time.Time, n int) (gone int, err error) {
	_, err = db.tidy(ctx, n, func(s *session) error {
		rows, err := s.exec(`DELETE FROM observations WHERE tenant = $1 AND subscription = $2 AND grp = $3 AND at < $4 AND (at, event_id) IN
			(SELECT at, event_id FROM observations WHERE tenant = $1 AND subscription = $2 AND grp = $3 AND at < $4 ORDER BY at, event_id LIMIT $5)`,
			g.Tenant, g.Subscription, g.Group, before.UnixMicro(), n)
		gone = int(rows)
		return err
	})
	return gone, err
}

// DropCondition removes up to about n rows of a subscription's condition: its
// observations, then its groups. The group ” goes last, and only if nobody has
// edited the subscription since it was read; more says that something is left.
func (db *DB) DropCondition(ctx context.Context, g *belfry.ConditionGroup, n int) (more bool, err error) {
	_, err = db.tidy(ctx, n, func(s *session) error {
		rows, err := s.exec(`DELETE FROM observations WHERE tenant = $1 AND subscription = $2 AND (grp, at, event_id) IN
			(SELECT grp, at, event_id FROM observations WHERE tenant = $1 AND subscription = $2 LIMIT $3)`, g.Tenant, g.Subscription, n)
		if more = rows >= int64(n); err != nil || more {
			return err
		}
		rows, err = s.exec(`DELETE FROM condition_groups WHERE tenant = $1 AND subscription = $2 AND grp IN
			(SELECT grp FROM condition_groups WHERE tenant = $1 AND subscription = $2 AND grp <> '' LIMIT $3)`, g.Tenant, g.Subscription, n)
		if more = rows >= int64(n); err != nil || more {
			return err
		}
		_, err = s.exec("DELETE FROM condition_groups WHERE tenant = $1 AND subscription = $2 AND grp = '' AND mark = $3", g.Tenant, g.Subscription, g.Mark)
		return err
	})
	return more, err
}

// LookAgain makes every group of a subscription's condition be looked at: the
// condition has changed.
func (db *DB) LookAgain(ctx context.Context, tenant, subscription string, asOf int64) error {
	_, err := db.tidy(ctx, 1000, func(s *session) error {
		_, err := s.exec(`UPDATE condition_groups SET due = $3, mark = mark + 1, as_of = CASE WHEN as_of < $4 THEN $4 ELSE as_of END
			WHERE tenant = $1 AND subscription = $2 AND grp <> ''`, tenant, subscription, micros(s.db.now()), asOf)
		return err
	})
	return err
}

// OldestPlan is when the oldest event was accepted whose first plan is not
// complete; zero = there is none.
func (db *DB) OldestPlan(ctx context.Context, tenant string) (at time.Time, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		at, err = belfry.IDTime(id)
		return err
	}, "SELECT event_id FROM plans WHERE tenant = $1 AND run = 0 ORDER BY event_id LIMIT 1", tenant)
	return at, err
}

// A look that found nobody else had looked meanwhile counts; when something
// came meanwhile, the group stays to be looked at.
const (
	stepSet = `UPDATE condition_groups SET version = version + 1, state = %state,
			low = CASE WHEN mark = %mark THEN %low ELSE low END, due = CASE WHEN mark = %mark THEN %due ELSE due END
		WHERE tenant = %tenant AND subscription = %subscription AND grp = %grp AND version = %version AND born = %born`
	stepDrop = `DELETE FROM condition_groups
		WHERE tenant = %tenant AND subscription = %subscription AND grp = %grp AND version = %version AND born = %born AND mark = %mark`
)

var stepCols = []string{"tenant", "subscription", "grp", "version", "born", "mark", "low", "due", "state"}

// numbered puts $n for the columns of a step.
func numbered(text string) string {
	for i, c := range stepCols {
		text = strings.ReplaceAll(text, "%"+c, "$"+string(rune('1'+i)))
	}
	return text
}

var setText, dropText = numbered(stepSet), numbered(stepDrop)

// stepping is the payload of the door of conditions.
type stepping struct {
	steps   []belfry.ConditionStep
	events  []*acceptance
	applied []bool
}

// StepConditions records looks at groups and accepts the events they found, in
// one transaction: the event that says a condition was met is there exactly if
// the group has moved on. The answer has one entry a step: the receipts of its
// drafts, and whether it counted; a step after whose look somebody else has
// looked does not, and nothing of it is stored.
func (db *DB) StepConditions(ctx context.Context, steps []belfry.ConditionStep) (receipts [][]belfry.Receipt, applied []bool, err error) {
	st := &stepping{steps: steps, events: make([]*acceptance, len(steps)), applied: make([]bool, len(steps))}
	weight := 0
	for i := range steps {
		if st.events[i], err = newAcceptance(steps[i].Drafts); err != nil {
			return nil, nil, err
		}
		weight += 1 + len(steps[i].Drafts)
	}
	if err := db.doors.source.do(ctx, &job{weight: weight, data: func(s *session) error { return s.stepConditions(st) }}); err != nil {
		return nil, nil, err
	}
	receipts = make([][]belfry.Receipt, len(steps))
	for i := range steps {
		receipts[i] = st.events[i].receipts
	}
	return receipts, st.applied, nil
}

func (s *session) stepConditions(st *stepping) error {
	var list []*acceptance
	for i := range st.steps {
		step := &st.steps[i]
		g := &step.Of
		clear(st.events[i].receipts)
		args := []any{g.Tenant, g.Subscription, g.Group, g.Version, micros(g.Born), g.Mark}
		text := dropText
		if !step.Drop {
			state := step.State
			if state == nil {
				state = []byte{}
			}
			text, args = setText, append(args, lowMicros(step.Low), micros(step.Due), state)
		}
		n, err := s.exec(text, args...)
		if err != nil {
			return err
		}
		if st.applied[i] = n == 1; n == 1 && len(step.Drafts) > 0 {
			list = append(list, st.events[i])
		}
	}
	if len(list) == 0 {
		return nil
	}
	return s.accept(list)
}

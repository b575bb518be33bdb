package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Store is what upkeep works on.
type Store interface {
	Tenants(ctx context.Context) ([]string, error)
	Version(ctx context.Context, tenant string) (int64, error)
	Documents(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, error)

	MakePartitions(ctx context.Context, part belfry.Part, now time.Time, span time.Duration) (int, error)
	DropPartitions(ctx context.Context, part belfry.Part, before time.Time, empty bool) (belfry.Pruned, error)

	Clear(ctx context.Context, w belfry.Walk, after string, n int) (belfry.Cleared, error)
	ClearTypes(ctx context.Context, tenant string, types []string, before time.Time, after string, n int) (belfry.Cleared, error)
	ClearReasons(ctx context.Context, tenant string, before time.Time, after string, n int) (belfry.Cleared, error)
	ClearDedupe(ctx context.Context, tenant string, before time.Time, after string, n int) (belfry.Cleared, error)
	ClearAudit(ctx context.Context, tenant string, before time.Time, n int) (belfry.Cleared, error)
	ClearChanges(ctx context.Context, tenant string, version int64, n int) (belfry.Cleared, error)

	Marks(ctx context.Context, tenant string) (map[string]belfry.Mark, error)
	SetMark(ctx context.Context, tenant, task string, m belfry.Mark) error
}

// Retention says how long things are kept; 0 = for ever.
type Retention struct {
	Events     time.Duration
	Deliveries time.Duration // with attempts and what was decided
	Inbox      time.Duration
	Audit      time.Duration
	Dedupe     time.Duration // 0 = as long as events
	Changes    time.Duration
}

// of is how long a part is kept.
func (r *Retention) of(p belfry.Part) time.Duration {
	switch p {
	case belfry.PartDeliveries:
		return r.Deliveries
	case belfry.PartInbox:
		return r.Inbox
	}
	return r.Events
}

// Chore is a piece of another room's housekeeping, done in each round.
type Chore struct {
	Name string // for figures and logs
	Do   func(ctx context.Context, tenant string, now time.Time) (rows int, err error)
}

// Options are what a Keeper is made of.
type Options struct {
	Store     Store
	Retention Retention
	Chores    []Chore
	Log       *slog.Logger
	Now       func() time.Time
}

const (
	day = 24 * time.Hour

	firstAfter = time.Minute // a start has other things to do
	every      = time.Hour
	again      = day // a walk goes through all that stayed, so often

	jump     = time.Hour              // more than this between two looks is no drift
	absence  = 7 * day                // after it, a clock is believed only when it stands a while
	patience = day                    // how long
	most     = 200 * time.Millisecond // a pause between chunks is never longer: it must keep up

	firstChunk, leastChunk, mostChunk = 256, 32, 2000
	aim                               = 4 * time.Millisecond // of the writer's time a chunk
	restFor                           = 3                    // times what the chunk took
	saveEach                          = 200                  // chunks between marks of a long walk
	typesPage                         = 500
)

// tables of each part.
var tables = map[belfry.Part][]string{
	belfry.PartDeliveries: {"deliveries", "suppressions", "plan_matches"},
	belfry.PartInbox:      {"inbox"},
	belfry.PartEvents:     {"events"},
}

// Keeper keeps house.
type Keeper struct {
	o     Options
	chunk int
	held  time.Time // nothing is removed before
	last  time.Time // the end of the last round

	mu    sync.Mutex
	stats Stats
}

// Stats are a keeper's figures.
type Stats struct {
	Rounds  int64
	Failed  int64     // rounds that met an error
	Last    time.Time // when the last round ended
	Took    time.Duration
	Waits   bool             // removing waits for the clock to prove itself
	Rows    map[string]int64 // removed, by table
	Dropped map[belfry.Part]int64
	Held    map[belfry.Part]int // partitions too old and still needed
	Longest time.Duration       // of the writer's time, of one chunk
}

// New makes a keeper.
func New(o Options) *Keeper {
	return &Keeper{o: o, chunk: firstChunk, stats: Stats{Rows: map[string]int64{}, Dropped: map[belfry.Part]int64{}, Held: map[belfry.Part]int{}}}
}

// Stats gives the figures.
func (k *Keeper) Stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats
	s.Rows, s.Dropped, s.Held = maps.Clone(s.Rows), maps.Clone(s.Dropped), maps.Clone(s.Held)
	return s
}

func (k *Keeper) note(f func(*Stats)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.stats)
}

// Span is how much time a partition of a part holds: about a twelfth of what
// is kept, so that few are looked into and little is kept too long.
func Span(retention time.Duration) time.Duration {
	switch {
	case retention == 0 || retention >= 12*28*day:
		return 28 * day
	case retention >= 6*7*day:
		return 7 * day
	}
	return day
}

// Prepare makes partitions ahead. That another node does so is no fault.
func (k *Keeper) Prepare(ctx context.Context) error {
	var errs []error
	for _, part := range belfry.Parts() {
		if _, err := k.o.Store.MakePartitions(ctx, part, k.o.Now(), Span(k.o.Retention.of(part))); err != nil && belfry.KindOf(err) != belfry.Conflict {
			errs = append(errs, fmt.Errorf("partitions of %s: %w", part, err))
		}
	}
	return errors.Join(errs...)
}

// Run keeps house until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	wait := firstAfter
	for {
		begun := k.o.Now()
		if !pause(ctx, wait) {
			return nil
		}
		// A timer counts by a clock nobody sets.
		if now := k.o.Now(); now.Sub(begun) > wait+jump {
			k.hold(now, "the clock is ahead of where it should be", "by", now.Sub(begun)-wait)
		}
		wait = every
		if k.elsewhere(ctx) {
			continue
		}
		if err := k.Keep(ctx); err != nil && ctx.Err() == nil {
			k.o.Log.Warn("upkeep: something was not done and is tried again in an hour", "error", err)
		}
	}
}

// elsewhere reports whether another node, or this one before it was started
// anew, did a round so lately that there is nothing to do.
func (k *Keeper) elsewhere(ctx context.Context) bool {
	marks, err := k.o.Store.Marks(ctx, server)
	if err != nil {
		return false // the round will say it
	}
	m := marks[lastTask]
	age := k.o.Now().Sub(m.At)
	return !m.At.IsZero() && !m.At.Equal(k.last) && age >= 0 && age < every/2
}

// pause waits, false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (k *Keeper) hold(now time.Time, why string, args ...any) {
	k.held = now.Add(patience)
	k.o.Log.Warn("upkeep: nothing is removed for a day: "+why+"; if the clock is wrong, set it", append(args, "now", now)...)
}

// Keep does one round. What fails does not keep the rest from being done.
func (k *Keeper) Keep(ctx context.Context) (err error) {
	begun := k.o.Now()
	before := k.Stats()
	defer func() {
		now := k.o.Now()
		k.note(func(s *Stats) {
			s.Rounds, s.Last, s.Took, s.Waits = s.Rounds+1, now, now.Sub(begun), now.Before(k.held)
			if err != nil {
				s.Failed++
			}
		})
		k.report(before)
	}()
	err = k.Prepare(ctx)
	held, markErr := k.believe(ctx, begun)
	if markErr != nil || held {
		return errors.Join(err, markErr)
	}
	r := &round{Keeper: k, now: begun, marks: map[string]map[string]belfry.Mark{}, types: map[string]*lives{}}
	return errors.Join(err, r.run(ctx))
}

const (
	server   = belfry.AllTenants // the tenant of marks of the whole server
	lastTask = "last round"
)

// believe reports whether removing must wait, and notes that we were here.
func (k *Keeper) believe(ctx context.Context, now time.Time) (held bool, err error) {
	if k.last.IsZero() {
		marks, err := k.o.Store.Marks(ctx, server)
		if err != nil {
			return true, err
		}
		if m, ok := marks[lastTask]; ok && now.Sub(m.At) > absence {
			k.hold(now, "nobody kept house for long", "for", now.Sub(m.At))
		}
	}
	if k.held.Sub(now) > patience { // it was set back since
		k.held = now.Add(patience)
	}
	k.last = now
	return now.Before(k.held), k.o.Store.SetMark(ctx, server, lastTask, belfry.Mark{At: now})
}

// report logs a round in which something went.
func (k *Keeper) report(before Stats) {
	s := k.Stats()
	var args []any
	for _, table := range slices.Sorted(maps.Keys(s.Rows)) {
		if n := s.Rows[table] - before.Rows[table]; n > 0 {
			args = append(args, table, n)
		}
	}
	for _, part := range belfry.Parts() {
		if n := s.Dropped[part] - before.Dropped[part]; n > 0 {
			args = append(args, "partitions of "+string(part), n)
		}
		if n := s.Held[part]; n > 0 {
			args = append(args, "still needed of "+string(part), n)
		}
	}
	if len(args) > 0 {
		k.o.Log.Info("upkeep: removed what is too old", append(args, "took", s.Took.Round(time.Millisecond))...)
	}
}

// round is one Keep.
type round struct {
	*Keeper
	now   time.Time
	marks map[string]map[string]belfry.Mark // by tenant and task
	types map[string]*lives                 // by tenant
}

// lives are a tenant's event types that have a life of their own.
type lives map[string]time.Duration // 0 = for ever

func (r *round) run(ctx context.Context) error {
	tenants, err := r.o.Store.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		if err := r.learn(ctx, t); err != nil {
			return err // without the types' word nothing may go
		}
	}
	var errs []error
	try := func(what string, err error) bool {
		if err != nil && belfry.KindOf(err) != belfry.Conflict { // a conflict: another node, or a long reader
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
		return ctx.Err() == nil
	}
	for _, t := range tenants {
		if !try("short lives of "+t, r.short(ctx, t)) {
			return ctx.Err()
		}
	}
	for _, part := range belfry.Parts() {
		if !try(string(part), r.part(ctx, part, tenants)) {
			return ctx.Err()
		}
	}
	for _, t := range tenants {
		for what, do := range map[string]func(context.Context, string) error{
			"reasons": r.reasons, "dedupe": r.dedupe, "audit": r.audit, "changes": r.changes, "chores": r.chores,
		} {
			if !try(what+" of "+t, do(ctx, t)) {
				return ctx.Err()
			}
		}
	}
	return errors.Join(errs...)
}

// learn reads a tenant's marks and the lives of its event types.
func (r *round) learn(ctx context.Context, tenant string) (err error) {
	if r.marks[tenant], err = r.o.Store.Marks(ctx, tenant); err != nil {
		return err
	}
	own := lives{}
	for after := ""; ; {
		docs, err := r.o.Store.Documents(ctx, tenant, belfry.KindEventType, after, typesPage)
		if err != nil {
			return err
		}
		for _, d := range docs {
			after = d.ID
			var t belfry.EventType
			if err := json.Unmarshal(d.Body, &t); err != nil {
				return fmt.Errorf("event type %s of %s cannot be read: %w", d.ID, tenant, err)
			}
			if life, ok := belfry.ParseSpan(t.Retention); ok && t.Retention != "" {
				own[t.Name] = life
			}
		}
		if len(docs) < typesPage {
			break
		}
	}
	r.types[tenant] = &own
	return nil
}

// keep are the types of a tenant that keep rows of a part longer than others,
// and until when each.
func (r *round) keep(tenant string, retention time.Duration) map[string]time.Time {
	out := map[string]time.Time{}
	for name, life := range *r.types[tenant] {
		switch {
		case life == 0:
			out[name] = time.Time{}
		case life > retention:
			out[name] = r.now.Add(-life)
		}
	}
	return out
}

// part clears a part of all tenants.
func (r *round) part(ctx context.Context, part belfry.Part, tenants []string) error {
	retention := r.o.Retention.of(part)
	if retention == 0 {
		return nil
	}
	some := false // types that live longer
	for _, t := range tenants {
		some = some || len(r.keep(t, retention)) > 0
	}
	d, err := r.o.Store.DropPartitions(ctx, part, r.now.Add(-retention), some)
	r.note(func(s *Stats) {
		s.Dropped[part] += int64(d.Dropped)
		s.Held[part] = d.Held
	})
	if err != nil {
		return err
	}
	if d.Until.IsZero() {
		return nil
	}
	for _, t := range tenants {
		keep := r.keep(t, retention)
		for _, table := range tables[part] {
			w := belfry.Walk{Tenant: t, Table: table, Before: d.Until, Keep: keep}
			end := belfry.MinID(prefixOf(table), d.Until)
			err := r.walk(ctx, t, "old "+table, table, again, end, func(place string, n int) (belfry.Cleared, error) { return r.o.Store.Clear(ctx, w, place, n) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func prefixOf(table string) string {
	if table == "deliveries" || table == "inbox" {
		return belfry.DeliveryPrefix
	}
	return belfry.EventPrefix
}

// short removes events of types that live shorter than anything else would.
func (r *round) short(ctx context.Context, tenant string) error {
	byLife := map[time.Duration][]string{}
	for name, life := range *r.types[tenant] {
		if life > 0 && r.shorter(life) {
			byLife[life] = append(byLife[life], name)
		}
	}
	for _, life := range slices.Sorted(maps.Keys(byLife)) {
		types := byLife[life]
		slices.Sort(types)
		h := fnv.New32a()
		for _, t := range types {
			_, _ = h.Write(append([]byte(t), 0))
		}
		// Other types, another walk: one that joins has a past of its own.
		task := "types " + belfry.FormatSpan(life) + " " + strconv.FormatUint(uint64(h.Sum32()), 36)
		before := r.now.Add(-life)
		err := r.walk(ctx, tenant, task, "events", again, belfry.MinID(belfry.EventPrefix, before), func(place string, n int) (belfry.Cleared, error) {
			return r.o.Store.ClearTypes(ctx, tenant, types, before, place, n)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shorter reports whether some part would be kept longer than a life.
func (r *round) shorter(life time.Duration) bool {
	for _, part := range belfry.Parts() {
		if keep := r.o.Retention.of(part); keep == 0 || life < keep {
			return true
		}
	}
	return false
}

// walk goes on with a walk from its mark to its end, and begins anew when that
// was long ago. end is where a finished walk goes on, empty for one that
// begins anew each time.
func (r *round) walk(ctx context.Context, tenant, task, table string, renew time.Duration, end string, clear func(place string, n int) (belfry.Cleared, error)) error {
	m := r.marks[tenant][task]
	old := m
	if age := r.now.Sub(m.At); m.At.IsZero() || age >= renew || age < -jump {
		m = belfry.Mark{At: r.now}
	} else if end == "" && m.Place == "" {
		return nil // done, and not yet due again
	}
	chunks, rows := 0, 0
	save := func() error {
		r.marks[tenant][task] = m
		if chunks <= 1 && rows == 0 && !old.At.IsZero() && end != "" {
			return nil // a walk of one chunk is as soon made as marked
		}
		return r.o.Store.SetMark(ctx, tenant, task, m)
	}
	for {
		begun := r.o.Now()
		c, err := clear(m.Place, r.chunk)
		if err != nil {
			return err
		}
		chunks, rows = chunks+1, rows+c.Rows
		r.note(func(s *Stats) {
			s.Rows[table] += int64(c.Rows)
			s.Longest = max(s.Longest, c.Took)
		})
		if c.Next == "" {
			m.Place = end
			return save()
		}
		m.Place = c.Next
		if chunks%saveEach == 0 {
			if err := save(); err != nil {
				return err
			}
		}
		if err := r.rest(ctx, c.Took, r.o.Now().Sub(begun)); err != nil {
			return errors.Join(err, r.o.Store.SetMark(context.WithoutCancel(ctx), tenant, task, m))
		}
	}
}

// rest waits for longer than a chunk took with its commit and its wait for the
// writer, so that a busy database is pressed less, and sizes the next one by
// the writer's time alone.
func (r *round) rest(ctx context.Context, took, whole time.Duration) error {
	switch {
	case took > aim:
		r.chunk = max(leastChunk, int(int64(r.chunk)*int64(aim)/int64(took)))
	case took > 0 && took < aim/2:
		r.chunk = min(mostChunk, r.chunk*5/4)
	}
	if !pause(ctx, min(most, max(time.Millisecond, restFor*max(took, whole)))) {
		return ctx.Err()
	}
	return nil
}

// dedupe walks a table whose order is not that of time, once a day.
func (r *round) dedupe(ctx context.Context, tenant string) error {
	window := r.o.Retention.Dedupe
	if window == 0 {
		window = r.o.Retention.Events
	}
	if window == 0 {
		return nil
	}
	return r.walk(ctx, tenant, "dedupe", "dedupe", min(day, max(every, window/30)), "", func(place string, n int) (belfry.Cleared, error) {
		return r.o.Store.ClearDedupe(ctx, tenant, r.now.Add(-window), place, n)
	})
}

// reasons removes those that nothing has any more: once a day, whatever the
// parts are kept for.
func (r *round) reasons(ctx context.Context, tenant string) error {
	return r.walk(ctx, tenant, "reasons", "reasons", day, "", func(place string, n int) (belfry.Cleared, error) {
		return r.o.Store.ClearReasons(ctx, tenant, r.now.Add(-day), place, n)
	})
}

// repeat calls clear until nothing is left to do.
func (r *round) repeat(ctx context.Context, table string, clear func(n int) (belfry.Cleared, error)) error {
	for {
		begun := r.o.Now()
		c, err := clear(r.chunk)
		if err != nil {
			return err
		}
		r.note(func(s *Stats) {
			s.Rows[table] += int64(c.Rows)
			s.Longest = max(s.Longest, c.Took)
		})
		if c.Next == "" {
			return nil
		}
		if err := r.rest(ctx, c.Took, r.o.Now().Sub(begun)); err != nil {
			return err
		}
	}
}

func (r *round) audit(ctx context.Context, tenant string) error {
	if r.o.Retention.Audit == 0 {
		return nil
	}
	return r.repeat(ctx, "audit", func(n int) (belfry.Cleared, error) {
		return r.o.Store.ClearAudit(ctx, tenant, r.now.Add(-r.o.Retention.Audit), n)
	})
}

// changes cuts the change log off where it was when it was last looked at, once
// that is long enough ago: a version has no time of its own.
func (r *round) changes(ctx context.Context, tenant string) error {
	keep := r.o.Retention.Changes
	if keep == 0 {
		return nil
	}
	m := r.marks[tenant]["changes"]
	age := r.now.Sub(m.At)
	if !m.At.IsZero() && age < keep && age > -jump {
		return nil
	}
	if age >= keep && !m.At.IsZero() {
		version, err := strconv.ParseInt(m.Place, 10, 64)
		if err != nil {
			return fmt.Errorf("the mark of the change log is %q", m.Place)
		}
		err = r.repeat(ctx, "changes", func(n int) (belfry.Cleared, error) { return r.o.Store.ClearChanges(ctx, tenant, version, n) })
		if err != nil {
			return err
		}
	}
	version, err := r.o.Store.Version(ctx, tenant)
	if err != nil {
		return err
	}
	return r.o.Store.SetMark(ctx, tenant, "changes", belfry.Mark{Place: strconv.FormatInt(version, 10), At: r.now})
}

func (r *round) chores(ctx context.Context, tenant string) error {
	var errs []error
	for _, c := range r.o.Chores {
		n, err := c.Do(ctx, tenant, r.now)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
		r.note(func(s *Stats) { s.Rows[c.Name] += int64(n) })
	}
	return errors.Join(errs...)
}

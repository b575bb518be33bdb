package moodle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// pollRows is the most rows of the log that are read at once.
const pollRows = 500

// liveIDs is how far below the highest id, at the start, ids that are missing
// may belong to requests that are not done yet.
const liveIDs = 1000

// wipedEvery is how often an idle log is asked for its highest id.
const wipedEvery = time.Minute

// source is a Moodle site that is being read.
type source struct {
	deps connector.Deps
	conf config
	db   *sqlread.DB
	site *site

	// What follows is of one Run.
	tables  [kinds]table
	stopped map[int64]bool // users with Moodle's own stop
	cur     cursor
	loaded  bool // cur is the stored cursor, or made for a first run
	stored  bool // a cursor is in the store
	synced  bool
	// first: the store knew nothing when this Run began, so what the log
	// speaks of and the tables do not have was never handed.
	first    bool
	ghosts   map[string]bool // objects that were gone before we came -> title known
	liveFrom int64           // ids above may be missing for the moment only
	upTo     int64           // the first sync is newer than rows up to here
	compare  time.Time       // when to compare in full again
	asked    time.Time       // when the log was last asked for its highest id
	company  bool            // the log has IOMAD's column

	catalogue map[string]class
	columns   map[string][]string // of record tables; none = not to be read
	records   *lru.Cache[string, []byte]
	modules   *lru.Cache[int64, string] // names of modules by course module

	counters map[string]int64
	errorAt  time.Time
	progress bool // the session got somewhere
}

// Names of counters.
const (
	countEvents   = "events"
	countRows     = "directory_rows"
	countRestored = "restored_rows_dropped"
	countUnread   = "unreadable_rows"
	countCompares = "full_compares"
)

// Run reads until ctx ends.
func (s *source) Run(ctx context.Context, sink connector.Sink) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer func() { _ = s.db.Close() }()
	s.report(sink, connector.StateStarting, 0, nil)
	wait := time.Duration(0)
	for {
		s.progress = false
		err := s.session(ctx, sink)
		if ctx.Err() != nil {
			return nil
		}
		if s.progress {
			wait = 0
		}
		wait = min(max(2*wait, s.conf.poll, 250*time.Millisecond), time.Minute)
		s.report(sink, connector.StateFailing, 0, err)
		s.deps.Log.Warn("moodle source failed; trying again", "in", wait, "error", said(err))
		// Sources of one platform must not come back in step.
		if !pause(ctx, wait*3/4+rand.N(wait/2)) {
			return nil
		}
	}
}

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

func (s *source) begin() error {
	db, err := sqlread.Open(sqlread.Options{DSN: s.conf.dsn, Prefix: s.conf.prefix, Statement: s.conf.statement, Dial: s.deps.Dial})
	if err != nil {
		return err
	}
	records, err := lru.New[string, []byte](2048)
	if err != nil {
		return err
	}
	modules, err := lru.New[int64, string](8192)
	if err != nil {
		return err
	}
	s.db = db
	s.site = &site{db: db, links: links{s.conf.wwwroot}, origin: s.deps.Origin(), now: s.deps.Now}
	s.tables, s.stopped, s.cur = [kinds]table{}, map[int64]bool{}, cursor{}
	s.loaded, s.stored, s.synced, s.first = false, false, false, false
	s.ghosts, s.columns, s.counters = map[string]bool{}, map[string][]string{}, map[string]int64{}
	s.catalogue = catalogue()
	s.records, s.modules = records, modules
	return nil
}

// session reads until something fails.
func (s *source) session(ctx context.Context, sink connector.Sink) error {
	if err := s.preflight(ctx); err != nil {
		return err
	}
	if err := s.site.load(ctx); err != nil {
		return err
	}
	if err := s.locate(ctx, sink); err != nil {
		return err
	}
	if err := s.checkWiped(ctx); err != nil {
		return err
	}
	if !s.synced {
		s.report(sink, connector.StateSyncing, 0, nil)
		if err := s.sync(ctx, sink); err != nil {
			return err
		}
		s.synced = true
	}
	for ctx.Err() == nil {
		more, err := s.step(ctx, sink)
		if err != nil {
			return err
		}
		s.progress = true
		now := s.deps.Now()
		if !more && !now.Before(s.compare) {
			if err := s.site.load(ctx); err != nil {
				return err
			}
			if err := s.sync(ctx, sink); err != nil {
				return err
			}
		}
		if !more && now.Sub(s.asked) >= wipedEvery {
			if err := s.checkWiped(ctx); err != nil {
				return err
			}
		}
		if !more && !pause(ctx, s.conf.poll) {
			break
		}
	}
	return ctx.Err()
}

// locate finds where to read on: at the stored cursor, else where the settings
// say.
func (s *source) locate(ctx context.Context, sink connector.Sink) error {
	top, _, err := s.top(ctx)
	if err != nil {
		return err
	}
	s.liveFrom = max(0, top-liveIDs)
	if s.loaded {
		return nil
	}
	raw, err := sink.Cursor(ctx)
	if err != nil {
		return fmt.Errorf("reading the stored cursor: %w", err)
	}
	now := s.deps.Now()
	s.upTo = top
	if raw != nil {
		if s.cur, err = decodeCursor(raw, now); err != nil {
			return err
		}
		// What changed while nobody watched is found by the sync, but what was
		// deleted is better told by the log: it says so before the sync's
		// comparison could only guess.
		s.stored, s.loaded, s.upTo = true, true, s.cur.High
		return nil
	}
	p := position{}
	switch s.conf.start {
	case startBeginning:
	case startNow:
		// Ids missing just below the top belong to requests that began before
		// now and are not done.
		ids, err := sqlread.Select(ctx, s.db, "SELECT id FROM {"+s.conf.log+"} WHERE id > ? AND id <= ? ORDER BY id", []any{s.liveFrom, top}, sqlread.Int64)
		if err != nil {
			return err
		}
		p.High = s.liveFrom
		for _, id := range ids {
			p.see(id, now, s.liveFrom)
		}
		p.High = max(p.High, top)
		times, err := sqlread.Select(ctx, s.db, "SELECT timecreated FROM {"+s.conf.log+"} WHERE id = ?", []any{top}, sqlread.Int64)
		if err != nil {
			return err
		}
		for _, t := range times {
			p.Newest = min(t, now.Unix())
		}
	default:
		id, err := strconv.ParseInt(s.conf.start, 10, 64)
		if err != nil {
			return belfry.Errorf(belfry.Invalid, "start is %q; write now, beginning or a log id", s.conf.start)
		}
		p.High = min(max(0, id-1), top)
	}
	s.cur = cursor{position: p}
	s.first, s.loaded = true, true
	return nil
}

// top is the highest id of the log; empty says that it has no row.
func (s *source) top(ctx context.Context) (id int64, empty bool, err error) {
	ids, err := sqlread.Select(ctx, s.db, "SELECT id FROM {"+s.conf.log+"} ORDER BY id DESC LIMIT 1", nil, sqlread.Int64)
	if err != nil || len(ids) == 0 {
		return 0, true, err
	}
	return ids[0], false, nil
}

// errWiped is a log whose highest id is below what was read.
type errWiped struct {
	top, high int64
	empty     bool
}

func (e errWiped) Error() string {
	what := fmt.Sprintf("its highest id is %d", e.top)
	if e.empty {
		what = "it has no rows"
	}
	return fmt.Sprintf("the log was emptied or rebuilt: %s, but it was read up to id %d before. Nothing is replayed. If ids go on above %d, reading goes on by itself; "+
		"if the log really begins anew, remove this source and add it again with start=beginning (or now)", what, e.high, e.high)
}

// checkWiped finds a log that lost what was read. It never replays.
func (s *source) checkWiped(ctx context.Context) error {
	top, empty, err := s.top(ctx)
	if err != nil {
		return err
	}
	if top < s.cur.High && s.stored {
		return errWiped{top: top, high: s.cur.High, empty: empty}
	}
	s.asked = s.deps.Now()
	return nil
}

// report tells the sink how it goes.
func (s *source) report(sink connector.Sink, state string, lag time.Duration, err error) {
	now := s.deps.Now()
	st := connector.Status{At: now, State: state, Lag: lag, Counters: map[string]int64{}}
	if s.loaded {
		st.Position = "log id " + strconv.FormatInt(s.cur.High, 10)
		if n := len(s.cur.Gaps); n > 0 {
			st.Position += fmt.Sprintf(", waiting for %d missing before it", n)
		}
	}
	for name, n := range s.counters {
		st.Counters[name] = n
	}
	if err == nil {
		s.errorAt = time.Time{}
	} else {
		if s.errorAt.IsZero() {
			s.errorAt = now
		}
		st.Error, st.ErrorAt = said(err), s.errorAt
	}
	sink.Report(st)
}

// said puts an error into words that say what to do. Errors that were made in
// this package or by the sink have them already.
func said(err error) string {
	var wiped errWiped
	var ours *belfry.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &wiped):
		return wiped.Error()
	case errors.As(err, &ours), errors.Is(err, errSink):
		return err.Error()
	}
	return sqlread.Explain(err)
}

// errSink marks errors of the side that takes the batches.
var errSink = errors.New("what was read could not be committed")

package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Options say which database to open.
type Options struct {
	// URL is sqlite:<folder or file> or postgres://…. A path that ends in
	// .db, .sqlite or .sqlite3 is a file; any other is a folder, made when
	// missing, that will hold belfry.db.
	URL string
	Log *slog.Logger
	Now func() time.Time
}

// DB is an open store. Its methods may be called from many goroutines.
type DB struct {
	log  *slog.Logger
	now  func() time.Time
	pg   bool // which dialect
	path string

	read        *sql.DB
	write       *sql.DB
	tell        *sql.DB                // what nodes tell each other, on PostgreSQL
	stmts       statements             // of read, on SQLite
	lock        *fileLock              // keeps other processes out, on SQLite
	checkpoints *checkpointer          // nil on PostgreSQL
	fence       atomic.Pointer[string] // the node that doors 2 and 3 work for, on PostgreSQL

	doors   doors
	writers []*writer
	ids     idMaker // of the writer that holds doors 1
	counts  counts
	known   knownReasons
	commits atomic.Int64
	jobs    atomic.Int64

	background sync.WaitGroup
	stop       chan struct{}
	closing    sync.Once
	closed     error
}

// Open opens the database, brings its schema up to date and starts the
// writers. Errors are sentences for the person who starts the program.
func Open(ctx context.Context, o Options) (*DB, error) {
	db := &DB{log: o.Log, now: o.Now, stop: make(chan struct{})}
	path, lite, err := sqliteFile(o.URL)
	switch {
	case err != nil:
	case lite:
		err = db.openSQLite(ctx, path)
	default:
		err = db.openPostgres(ctx, o.URL)
	}
	if err == nil {
		err = db.resumeIDs(ctx)
	}
	if err == nil {
		err = db.firstCount(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.release())
	}
	db.startWriters()
	return db, nil
}

// doors are the store's doors, each with its queue.
type doors struct {
	edit, source, accept, plan, attempt, seal, life, inbox, tidy *door
}

// Rows a transaction takes from a door: enough to share a sync among
// thousands, few enough to be answered within tens of milliseconds.
const doorLimit = 4096

// lifeLimit is what bulk work takes of a transaction: its pages are many rows,
// and others share the commit.
const lifeLimit = 1024

// startWriters opens the doors. On SQLite one writer serves all of them in
// turn, in one transaction. On PostgreSQL writers work side by side; events are
// accepted by one of them only, so that their ids rise in commit order.
func (db *DB) startWriters() {
	d := &db.doors
	d.edit = &door{limit: doorLimit, commit: commitEdits}
	d.source = &door{limit: doorLimit, commit: commitSources}
	d.accept = &door{limit: doorLimit, commit: commitAcceptances}
	d.plan = &door{limit: doorLimit, commit: commitPlans}
	d.attempt = &door{limit: doorLimit, commit: commitAttempts}
	d.seal = &door{limit: doorLimit, commit: commitSeals}
	d.life = &door{limit: lifeLimit, commit: commitEdits}
	d.inbox = &door{limit: doorLimit, commit: commitEdits}
	d.tidy = &door{limit: 1, commit: commitEdits} // a chunk a transaction
	if db.pg {
		plan, attempt := db.newWriter(d.plan), db.newWriter(d.attempt, d.seal)
		plan.fenced, attempt.fenced = true, true
		db.writers = []*writer{db.newWriter(d.edit, d.inbox), db.newWriter(d.source, d.accept), plan, attempt, db.newWriter(d.life), db.newWriter(d.tidy)}
	} else {
		db.writers = []*writer{db.newWriter(d.edit, d.source, d.accept, d.plan, d.attempt, d.seal, d.life, d.inbox, d.tidy)}
	}
	for _, w := range db.writers {
		db.background.Go(w.run)
	}
	if db.checkpoints != nil {
		db.background.Go(func() { db.checkpoints.run(db.stop) })
	}
}

// resumeIDs makes event ids continue after the newest stored one, even when
// the clock was set back while the program was down.
func (db *DB) resumeIDs(ctx context.Context) error {
	db.ids.salt = rand.Uint64()
	tenants, err := db.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		var id string
		var at int64
		err := db.read.QueryRowContext(ctx, "SELECT id, at FROM events WHERE tenant = $1 ORDER BY id DESC LIMIT 1", tenant).Scan(&id, &at)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return fault(err)
		}
		made, err := belfry.IDTime(id)
		if err != nil {
			return belfry.Errorf(belfry.Internal, "the newest stored event has a strange id: %w", err)
		}
		db.ids.resume(made, fromMicros(at))
	}
	return nil
}

// Run returns when ctx ends. The writers run from Open to Close.
func (db *DB) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-db.stop:
	}
	return nil
}

// Close lets the calls that wait at the doors finish, refuses new ones, and
// closes the database. It may be called more than once.
func (db *DB) Close() error {
	db.closing.Do(func() {
		close(db.stop)
		for _, w := range db.writers {
			w.close()
		}
		db.background.Wait()
		db.closed = db.release()
	})
	return db.closed
}

// release closes what Open opened, in the reverse order.
func (db *DB) release() error {
	var errs []error
	if db.checkpoints != nil {
		errs = append(errs, db.checkpoints.conn.Close())
	}
	if db.read != nil {
		errs = append(errs, db.read.Close())
	}
	if db.write != nil {
		errs = append(errs, db.write.Close())
	}
	if db.tell != nil {
		errs = append(errs, db.tell.Close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.release())
	}
	return errors.Join(errs...)
}

// Ping reports whether the database can be read.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return fault(db.read.QueryRowContext(ctx, "SELECT 1").Scan(&one))
}

// idMaker makes event ids that rise strictly, whatever the clock does. It
// belongs to one goroutine.
type idMaker struct {
	salt uint64
	last time.Time // accept time of the newest event, microseconds
	ms   time.Time // what the newest id begins with, never before last
	n    uint16    // ids made within ms
}

func (m *idMaker) resume(made, at time.Time) {
	if at.After(m.last) {
		m.last = at
	}
	if !made.Before(m.ms) {
		m.ms = made.Add(time.Millisecond) // n of that millisecond is unknown
		m.n = 0
	}
}

// next is the id and accept time of the next event.
func (m *idMaker) next(now time.Time) (string, time.Time) {
	if at := now.UTC().Truncate(time.Microsecond); at.After(m.last) {
		m.last = at
	}
	switch ms := m.last.Truncate(time.Millisecond); {
	case ms.After(m.ms):
		m.ms, m.n = ms, 0
	case m.n == 1<<16-1:
		m.ms, m.n = m.ms.Add(time.Millisecond), 0
	default:
		m.n++
	}
	return belfry.EventID(m.ms, m.n, m.salt), m.last
}

// micros is a time as the store keeps it; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func microsOf(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return micros(*t)
}

func timeOf(n int64) *time.Time {
	if n == 0 {
		return nil
	}
	t := fromMicros(n)
	return &t
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

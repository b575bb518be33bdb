package store

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // with the driver of that name

	"github.com/belfryhq/belfry/internal/belfry"
)

// openSQLite opens or makes the database file at path, alone in the world.
func (db *DB) openSQLite(ctx context.Context, path string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return belfry.Errorf(belfry.Unavailable, "the data folder cannot be made: %w", err)
	}
	db.path = path
	// A commit syncs the data of the log and whatever is needed to find it, not
	// also when the file was changed last: as durable, and one write of the file
	// system's journal less.
	if _, err := sqlite.Fdatasync(true); err != nil && !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return openFault(err, path)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return err
	}
	db.lock = lock
	// Nobody else reads what people are told, also in a folder that was there
	// before; SQLite gives its other files the mode of this one.
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err == nil {
		_ = f.Close() // what is wrong with it is said below
	}
	// The writer's connection: WAL with a sync at every commit. Only it ever
	// writes, so busy is met only while another program (a backup) holds a lock.
	if db.write, err = sql.Open("sqlite", dsn(path, "page_size(4096)", "journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)",
		"cache_size(-24000)", "temp_store(MEMORY)", "wal_autocheckpoint(8000)", "journal_size_limit(67108864)")); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if err := migrate(ctx, db.write, goose.DialectSQLite3); err != nil {
		return openFault(err, path)
	}
	if db.read, err = sql.Open("sqlite", dsn(path, "query_only(1)", "busy_timeout(10000)", "cache_size(-2000)", "temp_store(MEMORY)")); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(4)
	db.read.SetMaxIdleConns(4)
	db.read.SetConnMaxIdleTime(time.Minute)
	db.checkpoints, err = newCheckpointer(path)
	return err
}

func dsn(path string, pragmas ...string) string {
	q := url.Values{"_pragma": pragmas}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}
	return u.String()
}

func openFault(err error, what string) error {
	if err := fault(err); belfry.KindOf(err) != belfry.Internal {
		return err
	}
	return belfry.Errorf(belfry.Internal, "the database %s cannot be opened: %w", what, err)
}

// fileLock is held as long as the process lives, also when it is killed.
type fileLock struct{ f *os.File }

func (l *fileLock) release() error { return l.f.Close() }

// Whoever only looks shares the lock for an instant, and is waited for.
const (
	lookPause  = 10 * time.Millisecond
	lookPauses = 500
)

// lockFile takes the lock of a data folder or says who has it. The file stays:
// removing it would let two processes lock two files of one name.
func lockFile(path string) (*fileLock, error) {
	for try := 0; ; try++ {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, belfry.Errorf(belfry.Unavailable, "the data folder cannot be written to: %w", err)
		}
		ok, err := tryLock(f)
		if err == nil && ok {
			return &fileLock{f}, nil
		}
		shared := false
		if err == nil {
			shared, err = tryShare(f)
		}
		_ = f.Close()
		switch {
		case err != nil:
			return nil, belfry.Errorf(belfry.Unavailable, "the data folder cannot be locked: %w", err)
		case shared && try < lookPauses:
			<-time.After(lookPause)
			continue
		}
		break
	}
	return nil, belfry.Errorf(belfry.Conflict, "another Belfry process works with %s: stop it, give this one another folder, or use PostgreSQL", filepath.Dir(path))
}

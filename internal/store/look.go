package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store/migrations"
)

// Look is a database that is only looked at: nothing is made, brought up to
// date or written, and a server may work on it meanwhile. What it holds is read
// only when its schema is the one this program knows.
type Look struct {
	// Version is that of the schema, 0 for a database without one, and Newest is
	// the one this program makes.
	Version, Newest int64
	// InUse says that another process works with the file, on SQLite.
	InUse bool
	db    *DB
}

// OpenLook opens a database to look at it. The error for a file that is not
// there is fs.ErrNotExist; others say what to do.
func OpenLook(ctx context.Context, o Options) (*Look, error) {
	newest, err := NewestSchema()
	if err != nil {
		return nil, err
	}
	l := &Look{Newest: newest, db: &DB{log: o.Log, now: o.Now}}
	path, lite, err := sqliteFile(o.URL)
	switch {
	case err != nil:
		return nil, err
	case lite:
		err = l.openSQLite(path)
	default:
		err = l.openPostgres(ctx, o.URL)
	}
	if err == nil {
		l.Version, err = schemaVersion(ctx, l.db.read, l.db.pg)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Look) openSQLite(path string) (err error) {
	if _, err := os.Stat(path); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			err = belfry.Errorf(belfry.Unavailable, "the database file cannot be read: check the folder's rights (%w)", err)
		}
		return err
	}
	l.db.path = path
	if l.InUse, err = inUse(path); err != nil {
		return err
	}
	name := dsn(path, "busy_timeout(10000)", "temp_store(MEMORY)") + "&mode=ro"
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) && !l.InUse {
		name += "&immutable=1" // or the files that go with a log would be made
	}
	l.db.read, err = sql.Open("sqlite", name)
	return err
}

// inUse reports whether a process holds the lock of a database file. It asks by
// sharing the lock and letting it go at once: who starts meanwhile waits for that.
func inUse(path string) (bool, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR, 0)
	if err != nil { // never held, or not ours to ask
		return false, nil
	}
	defer f.Close() // and with it the lock
	free, err := tryShare(f)
	if err != nil {
		return false, belfry.Errorf(belfry.Unavailable, "the data folder cannot be locked: %w", err)
	}
	return !free, nil
}

func (l *Look) openPostgres(ctx context.Context, url string) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return belfry.Errorf(belfry.Invalid, "the database URL is not understood: %w", err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "belfry"
	}
	config.RuntimeParams["default_transaction_read_only"] = "on"
	l.db.pg, l.db.path = true, config.Database
	l.db.read = sql.OpenDB(stdlib.GetConnector(*config))
	return checkServer(ctx, l.db.read)
}

// NewestSchema is the version of the schema this program makes.
func NewestSchema() (int64, error) {
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, name := range names {
		n, err := goose.NumericComponent(name)
		if err != nil {
			return 0, err
		}
		newest = max(newest, n)
	}
	return newest, nil
}

// schemaVersion is the version of a database's schema, without making the table
// that says so.
func schemaVersion(ctx context.Context, db *sql.DB, pg bool) (version int64, err error) {
	there := "SELECT COUNT(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'goose_db_version'"
	if pg {
		there = "SELECT to_regclass('goose_db_version') IS NOT NULL"
	}
	var known bool
	if err := db.QueryRowContext(ctx, there).Scan(&known); err != nil {
		return 0, fault(err)
	}
	if known {
		err = db.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version").Scan(&version)
	}
	return version, fault(err)
}

// Current reports whether what the database holds can be read by this program.
func (l *Look) Current() bool { return l.Version == l.Newest }

// Tenants lists every tenant. The schema must be current, here and below.
func (l *Look) Tenants(ctx context.Context) ([]string, error) { return l.db.Tenants(ctx) }

// Documents reads a page of documents of a kind.
func (l *Look) Documents(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, error) {
	return l.db.Documents(ctx, tenant, kind, after, limit)
}

// Storage says what the database takes of the disk.
func (l *Look) Storage(ctx context.Context) (Storage, error) { return l.db.Storage(ctx) }

// Clock compares the machine's clock with the database's: see DB.Clock.
func (l *Look) Clock(ctx context.Context) (ahead, within time.Duration, err error) {
	return l.db.Clock(ctx)
}

// Copy writes the database as it is at one moment to a new file, on SQLite. A
// server works on meanwhile; its log does not shrink before the end.
func (l *Look) Copy(ctx context.Context, to string) error {
	if l.db.pg {
		return belfry.Errorf(belfry.Invalid, "a PostgreSQL database is copied by pg_dump")
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // for nobody else; an empty file is filled
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = l.db.read.ExecContext(ctx, "VACUUM INTO $1", to)
	var lite *sqlite.Error
	if errors.As(err, &lite) && lite.Code()&0xff == sqliteFull {
		return belfry.Errorf(belfry.Unavailable, "there is no room for it: free some space, or write it elsewhere (%w)", err)
	}
	return fault(err)
}

// LockFile keeps other processes away from the SQLite database that a URL names,
// whose folder is made when missing, until unlock is called.
func LockFile(url string) (file string, unlock func() error, err error) {
	path, lite, err := sqliteFile(url)
	if err == nil && !lite {
		err = belfry.Errorf(belfry.Invalid, "%s is no SQLite database", url)
	}
	if err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", nil, belfry.Errorf(belfry.Unavailable, "the data folder cannot be made: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return "", nil, err
	}
	return path, lock.release, nil
}

// Shared reports whether others may work with the database meanwhile, and have
// a clock in common.
func (l *Look) Shared() bool { return l.db.pg }

// Close closes it.
func (l *Look) Close() error { return l.db.release() }

// sqliteFile is the file a URL of SQLite names; false for another URL.
func sqliteFile(url string) (path string, lite bool, err error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "sqlite":
	case "postgres", "postgresql":
		return "", false, nil
	default:
		return "", false, belfry.Errorf(belfry.Invalid, "the database must be sqlite:<folder> or postgres://user@host/name, not %q", url)
	}
	if rest = strings.TrimPrefix(rest, "//"); rest == "" {
		return "", true, belfry.Errorf(belfry.Invalid, "sqlite: needs the path of a folder or file, such as sqlite:./belfry-data")
	}
	switch filepath.Ext(rest) {
	case ".db", ".sqlite", ".sqlite3":
	default:
		rest = filepath.Join(rest, "belfry.db")
	}
	path, err = filepath.Abs(rest)
	return path, true, err
}

// Package storetest is what a store must do, as tests that run on any engine,
// and the way for other packages' tests to open a store on a real, empty
// database: SQLite(t) and Postgres(t).
//
// It promises that a store it opened is closed, and its database gone, when
// the test ends. The store itself makes the first database of a test binary, all
// migrations one by one; the others are copies of that one while it was empty,
// which take a tenth of the time. A package that calls Postgres runs its tests through
// testdb.Main. It refuses to look at how a store keeps things: the suite knows
// the methods of store.DB, and uses SQL of its own only to break things.
//
// Run(t, place) is the suite.
package storetest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/testdb"
)

// SQLite opens a store on an empty SQLite database.
func SQLite(t testing.TB) *store.DB {
	t.Helper()
	return Open(t, SQLitePlace(t))
}

// Postgres opens a store on an empty PostgreSQL database.
func Postgres(t testing.TB) *store.DB {
	t.Helper()
	return Open(t, PostgresPlace(t))
}

// SQLitePlace is the URL of an SQLite database with the schema and nothing in it.
func SQLitePlace(t testing.TB) string {
	t.Helper()
	file, err := emptySQLite()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "belfry.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	return "sqlite:" + dir
}

// emptySQLite is the file of a database that was opened and closed.
var emptySQLite = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "belfry-empty-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := makeEmpty("sqlite:" + dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "belfry.db-wal")); err == nil {
		return nil, errors.New("the closed database is not in one file")
	}
	return os.ReadFile(filepath.Join(dir, "belfry.db"))
})

// PostgresPlace is the URL of a PostgreSQL database with the schema and nothing
// in it.
func PostgresPlace(t testing.TB) string {
	t.Helper()
	return testdb.PostgresCopy(t, "belfry", makeEmpty)
}

// makeEmpty has the store make its schema.
func makeEmpty(url string) error {
	db, err := store.Open(context.Background(), store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		return err
	}
	return db.Close()
}

// Open opens a store on a database that is there; it is closed when the test
// ends, if the test did not do so.
func Open(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return db
}

// Package storetest is what a store must do, as tests that run on any engine,
// and the way for other packages' tests to open a store on a real, empty
// database: SQLite(t) and Postgres(t).
//
// It promises that a store it opened is closed, and its database gone, when
// the test ends. A package that calls Postgres runs its tests through
// testdb.Main. It refuses to look at how a store keeps things: the suite knows
// the methods of store.DB, and uses SQL of its own only to break things.
//
// Run(t, place) is the suite.
package storetest

import (
	"context"
	"log/slog"
	"path/filepath"
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
	return Open(t, testdb.Postgres(t))
}

// SQLitePlace is the URL of an empty SQLite database.
func SQLitePlace(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "data") }

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

package store_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/testdb"
)

func options(url string) store.Options {
	return store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now}
}

// contents are the files of a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name()] = string(text)
	}
	return files
}

// Looking at a database changes no byte of its folder, whatever schema it has.
func TestLookChangesNothing(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	url := "sqlite:" + dir
	if _, err := store.OpenLook(ctx, options(url)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a database that is not there: %v", err)
	}
	if len(contents(t, dir)) != 0 {
		t.Error("looking made a file")
	}

	db, err := store.Open(ctx, options(url))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.AcceptEvents(ctx, []belfry.Draft{simple("1")}); err != nil {
		t.Fatal(err)
	}
	look := func(version int64, inUse bool) {
		t.Helper()
		l, err := store.OpenLook(ctx, options(url))
		if err != nil {
			t.Fatal(err)
		}
		if newest, err := store.NewestSchema(); err != nil || l.Newest != newest || l.InUse != inUse || l.Shared() || version >= 0 && l.Version != version || version < 0 && !l.Current() {
			t.Errorf("%+v, %v", l, err)
		}
		if l.Current() {
			tenants, err := l.Tenants(ctx)
			storage, err2 := l.Storage(ctx)
			if err != nil || err2 != nil || len(tenants) != 1 || storage.Size == 0 {
				t.Error(tenants, storage, err, err2)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	look(-1, true) // what the server committed a moment ago is in its log alone
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	look(-1, false)
	if d := cmp.Diff(before, contents(t, dir)); d != "" {
		t.Error("looking changed the folder")
	}

	lite, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "belfry.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		statement string
		version   int64
	}{
		{"UPDATE goose_db_version SET version_id = 999999 WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)", 999999},
		{"DELETE FROM goose_db_version WHERE version_id > 3", 3},
		{"DROP TABLE goose_db_version", 0},
	} {
		if _, err := lite.ExecContext(ctx, step.statement); err != nil {
			t.Fatal(err)
		}
		if _, err := lite.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			t.Fatal(err)
		}
		look(step.version, false)
	}
	if err := lite.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "belfry.db"), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenLook(ctx, options(url)); err == nil || !strings.Contains(err.Error(), "is damaged: restore a backup") {
		t.Errorf("no database: %v", err)
	}
}

func TestLookAtPostgres(t *testing.T) {
	ctx := context.Background()
	url := testdb.Postgres(t)
	l, err := store.OpenLook(ctx, options(url))
	if err != nil {
		t.Fatal(err)
	}
	if l.Version != 0 || l.Newest == 0 || !l.Shared() {
		t.Errorf("%+v", l)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	db, err := store.Open(ctx, options(url))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if l, err = store.OpenLook(ctx, options(url)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, within, err := l.Clock(ctx)
	if !l.Current() || err != nil || within <= 0 {
		t.Errorf("%+v, %v, %v", l, within, err)
	}
	if storage, err := l.Storage(ctx); err != nil || storage.Size == 0 || len(storage.Partitions) == 0 {
		t.Error(storage, err)
	}
}

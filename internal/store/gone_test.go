package store

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"database/sql"

	"github.com/pressly/goose/v3"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store/migrations"
	"github.com/belfryhq/belfry/internal/testdb"
)

// at17 makes a database of version 17 of the schema with a subscription at an
// object, as it was written then.
func at17(t *testing.T, url string) {
	t.Helper()
	path, lite := strings.CutPrefix(url, "sqlite:")
	driver, name, dialect, files := "pgx", url, goose.DialectPostgres, fs.FS(translated{migrations.Files})
	if lite {
		driver, name, dialect, files = "sqlite", "file:"+filepath.ToSlash(path), goose.DialectSQLite3, migrations.Files
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	p, err := goose.NewProvider(dialect, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 17); err != nil {
		t.Fatal(err)
	}
	for id, body := range map[string]string{"old": `{"id":"old","state":"active","scope":{"object":"hall é"}}`, "everywhere": `{"id":"everywhere","state":"active"}`} {
		if _, err := db.Exec("INSERT INTO subscriptions (tenant, id, state, version, body) VALUES ('t', $1, 'active', 1, $2)", id, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
}

// Subscriptions of what was deleted are found, those of before the upgrade too,
// page by page in the order of deletions; what ended, is elsewhere, or is at
// something that was put back is not.
func TestGone(t *testing.T) {
	for name, url := range map[string]string{"SQLite": "sqlite:" + filepath.Join(t.TempDir(), "belfry.db"), "PostgreSQL": testdb.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			at17(t, url)
			ctx := context.Background()
			now := time.Now().UTC().Truncate(time.Microsecond)
			db, err := Open(ctx, Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			apply := func(ch belfry.Changes) {
				t.Helper()
				ch.Tenant = "t"
				if _, err := db.Apply(ctx, ch); err != nil {
					t.Fatal(err)
				}
			}
			var ch belfry.Changes
			for _, id := range []string{"hall é", "room", "back", "here"} {
				ch.Objects = append(ch.Objects, belfry.Object{ID: id, Type: "room", Parent: belfry.RootObject})
				for n, state := range []string{belfry.SubscriptionActive, belfry.SubscriptionPaused, belfry.SubscriptionEnded} {
					ch.Subscriptions = append(ch.Subscriptions, belfry.Subscription{ID: fmt.Sprint(id, n), State: state, Scope: belfry.Scope{Object: id}})
				}
			}
			apply(ch)
			apply(belfry.Changes{DeleteObjects: []string{"room", "back"}})
			now = now.Add(time.Minute)
			apply(belfry.Changes{DeleteObjects: []string{"hall é"}, Objects: []belfry.Object{{ID: "back", Type: "room", Parent: belfry.RootObject}}})
			for limit := 1; limit < 7; limit++ {
				var got []string
				for after := (belfry.GonePlace{}); ; {
					page, err := db.Gone(ctx, "t", now.Add(time.Second), after, limit)
					if err != nil {
						t.Fatal(err)
					}
					if len(page) == 0 {
						break
					}
					for _, g := range page {
						got = append(got, g.Object.ID+"/"+g.Subscription.ID)
					}
					after = page[len(page)-1].Place()
				}
				if want := "room/room0 room/room1 hall é/hall é0 hall é/hall é1 hall é/old"; strings.Join(got, " ") != want {
					t.Errorf("by %d: %q, want %q", limit, got, want)
				}
			}
			if page, err := db.Gone(ctx, "t", now, belfry.GonePlace{}, 100); err != nil || len(page) != 2 {
				t.Errorf("of before: %d, %v", len(page), err)
			}
			for limit, want := range map[int]string{1: "hall é/old", 2: "hall é/old hall é/hall é1", 9: "hall é/old hall é/hall é1 hall é/hall é0"} {
				page, err := db.GoneLast(ctx, "t", now, limit)
				var got []string
				for _, g := range page {
					got = append(got, g.Object.ID+"/"+g.Subscription.ID)
				}
				if err != nil || strings.Join(got, " ") != want {
					t.Errorf("the last %d: %q, %v, want %q", limit, got, err, want)
				}
			}
			apply(belfry.Changes{Subscriptions: []belfry.Subscription{{ID: "room0", State: belfry.SubscriptionActive, Scope: belfry.Scope{Object: "here"}}}})
			if page, err := db.Gone(ctx, "t", now, belfry.GonePlace{}, 100); err != nil || len(page) != 1 {
				t.Errorf("after one moved: %d, %v", len(page), err)
			}
		})
	}
}

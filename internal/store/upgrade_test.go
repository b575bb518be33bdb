package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store/migrations"
	"github.com/belfryhq/belfry/internal/testdb"
)

// at2 makes an empty database as version 2 of the schema had it.
func at2(t *testing.T, url string) *sql.DB {
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
	t.Cleanup(func() { _ = db.Close() })
	p, err := goose.NewProvider(dialect, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	return db
}

// copyTables copies all rows into the tables of an older schema.
func copyTables(t *testing.T, from *sql.DB, to *sql.DB, tables ...string) {
	t.Helper()
	for _, table := range tables {
		probe, err := to.Query("SELECT * FROM " + table + " WHERE tenant = ''")
		if err != nil {
			t.Fatal(err)
		}
		columns, err := probe.Columns()
		if err != nil {
			t.Fatal(err)
		}
		_ = probe.Close()
		rows, err := from.Query("SELECT " + strings.Join(columns, ", ") + " FROM " + table)
		if err != nil {
			t.Fatal(err)
		}
		marks := make([]string, len(columns))
		for i := range marks {
			marks[i] = fmt.Sprint("$", i+1)
		}
		insert := "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES (" + strings.Join(marks, ", ") + ")"
		n := 0
		for rows.Next() {
			vals := make([]any, len(columns))
			ptrs := make([]any, len(columns))
			for i := range vals {
				ptrs[i] = &vals[i]
			}
			if err := rows.Scan(ptrs...); err != nil {
				t.Fatal(err)
			}
			if _, err := to.Exec(insert, vals...); err != nil {
				t.Fatalf("%s: %v", table, err)
			}
			n++
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			t.Fatalf("nothing to copy in %s", table)
		}
	}
}

// readBack is everything there is to read of the rows an upgrade moves.
func readBack(t *testing.T, db *DB, ids []string) []any {
	t.Helper()
	ctx := context.Background()
	var out []any
	note := func(v any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	events, err := db.Events(ctx, "t", ids)
	note(events, err)
	for _, id := range ids {
		trace, err := db.Trace(ctx, "t", id, "", TracePage{})
		unparked(trace.Deliveries)
		note(trace, err)
		attempts, err := db.Attempts(ctx, "t", belfry.DeliveryID(id, 0, "webhook", "ep_1"))
		note(attempts, err)
	}
	inbox, unread, next, err := db.Inbox(ctx, "t", "user/8", InboxFilter{})
	note([]any{inbox, unread, next}, err)
	deliveries, _, err := db.ListDeliveries(ctx, "t", DeliveryFilter{})
	unparked(deliveries)
	note(deliveries, err)
	stats, err := db.Stats(ctx)
	note(stats.Tenants, err)
	return out
}

// unparked forgets what is parked: where it was not asked, all is.
func unparked(ds []belfry.Delivery) {
	for i := range ds {
		ds[i].Parked = false
	}
}

// A database of version 2 with rows in it reads back the same, and goes on.
func TestUpgradeFrom2(t *testing.T) {
	for name, place := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "belfry.db") },
		"postgres": func(t *testing.T) string { return testdb.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			open := func(url string) *DB {
				db, err := Open(ctx, Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = db.Close() })
				return db
			}
			modern, url := open(place(t)), place(t)
			ids := write(t, modern, "e", 20)
			want := readBack(t, modern, ids)
			older := at2(t, url)
			copyTables(t, modern.read, older, "versions", "changes", "events", "dedupe", "plans", "plan_matches", "deliveries", "suppressions", "inbox", "attempts", "documents", "objects")
			_ = older.Close()

			db := open(url)
			if diff := cmp.Diff(want, readBack(t, db, ids)); diff != "" {
				t.Fatalf("after the upgrade (-want +got):\n%s", diff)
			}
			if due, err := db.DueFor(ctx, "t", "ep_1", false, DueKey{}, time.Now(), 100); err != nil || len(due) != 7 { // of 15, 8 are delivered
				t.Errorf("%d are found by their destination: %v", len(due), err)
			}
			more := write(t, db, "more", 5)
			for _, p := range belfry.Parts() {
				made, err := db.MakePartitions(ctx, p, time.Now(), 7*24*time.Hour)
				if err != nil || db.pg != (made > 0) {
					t.Errorf("%s: %d made: %v", p, made, err)
				}
			}
			if diff := cmp.Diff(want[0], readBack(t, db, ids)[0]); diff != "" {
				t.Errorf("after the cut (-want +got):\n%s", diff)
			}
			again := write(t, db, "again", 5)
			if got := len(readBack(t, db, append(more, again...))[0].(map[string]*belfry.Accepted)); got != 10 {
				t.Errorf("%d of 10 later events are there", got)
			}
			rs, err := db.AcceptEvents(ctx, []belfry.Draft{{Tenant: "t", Event: &belfry.Event{ID: "e3", Source: "/s", Type: "x"}, Body: []byte("{}")}})
			if err != nil || !rs[0].Duplicate || rs[0].EventID != ids[3] {
				t.Errorf("a repeat after the upgrade: %+v, %v", rs, err)
			}
		})
	}
}

// write accepts n events: half are told, half of those are delivered, the last
// are not planned.
func write(t *testing.T, db *DB, name string, n int) (ids []string) {
	t.Helper()
	ctx := context.Background()
	for i := range n {
		e := &belfry.Event{ID: fmt.Sprint(name, i), Source: "/s", Type: "x", Object: "o", Data: json.RawMessage(`{"n":1}`)}
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := db.AcceptEvents(ctx, []belfry.Draft{{Tenant: "t", Event: e, Body: body, Implied: []string{"o"}, Discovered: true}})
		if err != nil {
			t.Fatal(err)
		}
		id := rs[0].EventID
		ids = append(ids, id)
		if i >= n*3/4 {
			continue
		}
		d := belfry.Delivery{Tenant: "t", ID: belfry.DeliveryID(id, 0, "webhook", "ep_1"), EventID: id, Channel: "webhook", Address: "ep_1", Destination: "ep_1",
			Due: time.Now().UTC().Truncate(time.Microsecond), Because: []belfry.Reason{{Code: belfry.NamedEndpoint}}}
		inbox := d
		inbox.Channel, inbox.Principal, inbox.Address, inbox.ID = belfry.ChannelInbox, "user/8", "user/8", belfry.DeliveryID(id, 0, belfry.ChannelInbox, "user/8")
		errs, err := db.CommitPlans(ctx, []belfry.PlanPage{{Tenant: "t", EventID: id, Last: true, Matches: []belfry.MatchNote{{Subscription: "s"}}, Deliveries: []belfry.Delivery{d, inbox},
			Suppressions: []belfry.Suppression{{Principal: "user/9", Channel: "email", Because: []belfry.Reason{{Code: belfry.Muted}}}}}})
		if err != nil || errs[0] != nil {
			t.Fatal(err, errs)
		}
		if i%2 == 0 {
			// Not at once: version 2 keeps a row of each attempt.
			retry := belfry.Attempt{Tenant: "t", DeliveryID: d.ID, N: 1, At: d.Due, State: belfry.Retrying, Due: d.Due}
			done := belfry.Attempt{Tenant: "t", DeliveryID: d.ID, N: 2, At: d.Due, State: belfry.Delivered}
			if ok, err := db.RecordAttempts(ctx, []belfry.Attempt{retry, done}); err != nil || !ok[0] || !ok[1] {
				t.Fatal(ok, err)
			}
		}
	}
	return ids
}

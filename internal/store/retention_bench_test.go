package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testdb"
	"github.com/belfryhq/belfry/internal/upkeep"
)

// BenchmarkPrune removes b.N events that are too old, each with a delivery and
// its attempt, while events come in at 200 a second, one a call. Run it with
// -benchtime 1000000x. It reports the times of those calls in milliseconds,
// without (idle-) and with the removing, and how fast it is.
func BenchmarkPrune(b *testing.B) {
	for name, place := range map[string]func(testing.TB) string{"sqlite": storetest.SQLitePlace, "postgres": testdb.Postgres} {
		b.Run(name, func(b *testing.B) {
			ctx := context.Background()
			var shift atomic.Int64
			shift.Store(int64(100 * 24 * time.Hour))
			now := func() time.Time { return time.Now().Add(-time.Duration(shift.Load())).UTC() }
			log := slog.New(slog.DiscardHandler)
			db, err := store.Open(ctx, store.Options{URL: place(b), Log: log, Now: now})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = db.Close() })
			keeper := upkeep.New(upkeep.Options{Store: db, Log: log, Now: now,
				Retention: upkeep.Retention{Events: 90 * 24 * time.Hour, Deliveries: 90 * 24 * time.Hour, Inbox: 90 * 24 * time.Hour}})
			if err := keeper.Prepare(ctx); err != nil {
				b.Fatal(err)
			}
			fill(b, db, b.N, false)
			full, err := db.Storage(ctx)
			if err != nil {
				b.Fatal(err)
			}
			shift.Store(0)
			if err := keeper.Prepare(ctx); err != nil {
				b.Fatal(err)
			}
			idle := paced(b, db, "idle", time.After(10*time.Second))
			b.ResetTimer()
			done := make(chan time.Time)
			go func() {
				for keeper.Stats().Rows["dedupe"] < int64(b.N) && b.Context().Err() == nil {
					if err := keeper.Keep(ctx); err != nil {
						b.Error(err)
						break
					}
				}
				close(done)
			}()
			busy := paced(b, db, "busy", done)
			b.StopTimer()
			rows := int64(0)
			for _, n := range keeper.Stats().Rows {
				rows += n
			}
			after, err := db.Storage(ctx)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(at(idle, 0.5), "idle-p50-ms")
			b.ReportMetric(at(idle, 0.99), "idle-p99-ms")
			b.ReportMetric(at(busy, 0.5), "p50-ms")
			b.ReportMetric(at(busy, 0.99), "p99-ms")
			b.ReportMetric(at(busy, 1), "max-ms")
			b.ReportMetric(keeper.Stats().Longest.Seconds()*1e3, "longest-chunk-ms")
			b.ReportMetric(float64(full.Size)/1e6, "full-MB")
			b.ReportMetric(float64(after.Size)/1e6, "after-MB")
			b.ReportMetric(float64(after.Free)/1e6, "free-MB")
		})
	}
}

// fill accepts n events and tells an endpoint of each, and a person too.
func fill(b *testing.B, db *store.DB, n int, inbox bool) {
	ctx := context.Background()
	for from := 0; from < n; from += 1000 {
		size := min(1000, n-from)
		drafts := make([]belfry.Draft, size)
		for i := range drafts {
			drafts[i] = draft(b, fmt.Sprint("old", from+i))
		}
		rs, err := db.AcceptEvents(ctx, drafts)
		if err != nil {
			b.Fatal(err)
		}
		pages := make([]belfry.PlanPage, size)
		attempts := make([]belfry.Attempt, size)
		for i := range pages {
			pages[i] = page(rs[i].EventID, 1)
			d := pages[i].Deliveries[0]
			if inbox {
				row := d
				row.ID, row.Channel, row.Principal, row.Address = belfry.DeliveryID(d.EventID, 0, belfry.ChannelInbox, "user/8123"), belfry.ChannelInbox, "user/8123", "user/8123"
				pages[i].Deliveries = append(pages[i].Deliveries, row)
				pages[i].Suppressions = []belfry.Suppression{{Principal: "user/8124", Channel: "email", Because: []belfry.Reason{{Code: belfry.NamedRole, Role: "student", Object: "course/41"}, {Code: belfry.Muted}}}}
			}
			attempts[i] = belfry.Attempt{Tenant: d.Tenant, DeliveryID: d.ID, N: 1, At: d.Due, Took: time.Millisecond, Outcome: belfry.Outcome{Status: 204}, State: belfry.Delivered}
		}
		if err := commit(db, pages); err != nil {
			b.Fatal(err)
		}
		if inbox { // one in ten needs a second send
			for i := 0; i < size; i += 10 {
				first, second := attempts[i], attempts[i]
				first.State, first.Due, first.Outcome = belfry.Retrying, first.At, belfry.Outcome{Kind: belfry.OutcomeRetry, Status: 503, Detail: "503 Service Unavailable: try again later"}
				second.N = 2
				attempts[i] = first
				attempts = append(attempts, second)
			}
		}
		if ok, err := db.RecordAttempts(ctx, attempts); err != nil || slices.Contains(ok, false) {
			b.Fatal("not recorded", err)
		}
	}
}

// paced accepts an event every 5 ms, whatever the ones before it do, until
// done, and gives how long each took, sorted, in milliseconds.
func paced(b *testing.B, db *store.DB, name string, done <-chan time.Time) []float64 {
	took := make(chan float64, 1<<20)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	n := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-tick.C:
			d := []belfry.Draft{draft(b, fmt.Sprint(name, n))}
			n++
			go func() {
				start := time.Now()
				if _, err := db.AcceptEvents(context.Background(), d); err != nil {
					b.Error(err)
				}
				took <- time.Since(start).Seconds() * 1e3
			}()
		}
	}
	all := make([]float64, n)
	for i := range all {
		all[i] = <-took
	}
	slices.Sort(all)
	return all
}

func at(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// BenchmarkDisk stores b.N events, each with a delivery and its attempt, an
// inbox entry and a suppression, and reports the bytes a row takes with its
// indexes, by table. Run it with -benchtime 100000x.
func BenchmarkDisk(b *testing.B) {
	for name, place := range map[string]func(testing.TB) string{"sqlite": storetest.SQLitePlace, "postgres": testdb.Postgres} {
		b.Run(name, func(b *testing.B) {
			url := place(b)
			db := storetest.Open(b, url)
			makePartitions(b, db, time.Now())
			before := written(b, url)
			fill(b, db, b.N, true)
			if n := written(b, url) - before; n > 0 {
				b.ReportMetric(float64(n)/float64(b.N), "log-B")
			}
			for name, n := range bytesOf(b, url) {
				rows := float64(b.N)
				if name == "attempts" {
					rows /= 5 // of one in ten deliveries, two
				}
				b.ReportMetric(float64(n)/rows, name+"-B")
			}
			if s, err := db.Storage(context.Background()); err == nil {
				b.ReportMetric(float64(s.Size)/float64(b.N), "all-B")
			}
		})
	}
}

// bytesOf is the size of each table with its indexes.
func bytesOf(b *testing.B, url string) map[string]int64 {
	b.Helper()
	driver, name := "pgx", url
	text := `SELECT r.relname, coalesce((SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(r.oid) t), pg_total_relation_size(r.oid)) FROM pg_class r
		WHERE r.relkind IN ('r', 'p') AND NOT r.relispartition AND r.relnamespace = 'public'::regnamespace`
	if path, lite := strings.CutPrefix(url, "sqlite:"); lite {
		driver, name = "sqlite", "file:"+path+"/belfry.db"
		text = `SELECT m.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_schema m ON m.name = d.name WHERE d.aggregate = 1 GROUP BY m.tbl_name`
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.Query(text)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	wanted := []string{"events", "dedupe", "plan_matches", "deliveries", "attempts", "suppressions", "inbox"}
	out := map[string]int64{}
	for rows.Next() {
		var table string
		var n int64
		if err := rows.Scan(&table, &n); err != nil {
			b.Fatal(err)
		}
		if slices.Contains(wanted, table) {
			out[table] = n
		}
	}
	if len(out) != len(wanted) {
		b.Fatalf("only %v were measured", out)
	}
	return out
}

// written is how much PostgreSQL has written to its log.
func written(b *testing.B, url string) (n int64) {
	b.Helper()
	if strings.HasPrefix(url, "sqlite:") {
		return 0
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.QueryRow("SELECT (pg_current_wal_lsn() - '0/0')::bigint").Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

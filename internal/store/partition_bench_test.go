package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testdb"
)

// BenchmarkPartitions is what partitions cost the statements of the doors: each
// is carried out in turn on a table in seventeen partitions of a week and on a
// plain one, a thousand rows a transaction, and the ratio of the medians is
// reported.
func BenchmarkPartitions(b *testing.B) {
	ctx := context.Background()
	db, err := Open(ctx, Options{URL: testdb.Postgres(b), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	must := func(_ any, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	now := time.Now()
	for week := 12; week >= 0; week-- {
		for _, p := range belfry.Parts() {
			must(db.MakePartitions(ctx, p, now.Add(-time.Duration(week)*7*24*time.Hour), 7*24*time.Hour))
		}
	}
	for _, t := range []string{"events", "deliveries"} {
		must(db.write.ExecContext(ctx, "CREATE TABLE plain_"+t+" (LIKE "+t+" INCLUDING ALL)"))
	}
	conn, err := db.write.Conn(ctx)
	must(nil, err)
	b.Cleanup(func() { _ = conn.Close() })
	const size = 1000
	times := map[string][]time.Duration{}
	run := func(name string, sh *shape, table string, fill func(r *rows, i int)) {
		s := newSession(db, conn)
		r := s.rows(sh)
		for i := range size {
			fill(r, i)
		}
		first := len(times[name+" plain"])%2 == 0 // each is first in turn
		for _, plain := range []bool{first, !first} {
			text, kind := sh.arrays, " partitioned"
			if plain {
				text, kind = strings.ReplaceAll(text, table, "plain_"+table), " plain"
			}
			start := time.Now()
			must(conn.ExecContext(ctx, text, r.arrays()...))
			times[name+kind] = append(times[name+kind], time.Since(start))
		}
	}
	due := now.UnixMicro()
	for n := range b.N {
		ids := make([]string, size)
		for i := range ids {
			ids[i] = belfry.EventID(now, uint16(i), uint64(n))
		}
		run("accept", insertEvent, "events", func(r *rows, i int) {
			r.text("t").text(ids[i]).num(due).num(7).text("core.course_updated").text("course/41").blob([]byte(strings.Repeat("x", 300)))
		})
		delivery := func(i int) string { return belfry.DeliveryID(ids[i], 0, "webhook", "ep") }
		run("plan", insertDelivery, "deliveries", func(r *rows, i int) {
			for _, k := range insertDelivery.kinds {
				switch {
				case k == 'n':
					r.num(0)
				case r.col == 0:
					r.text("t")
				case r.col == 1:
					r.text(delivery(i))
				default:
					r.text(fmt.Sprint("some text of a column ", i))
				}
			}
		})
		run("record", applyAttempts, "deliveries", func(r *rows, i int) {
			for _, k := range applyAttempts.kinds {
				switch {
				case k == 'n' && r.col == 2:
					r.num(1)
				case k == 'n':
					r.num(3)
				case r.col == 0:
					r.text("t")
				case r.col == 1:
					r.text(delivery(i))
				default:
					r.text("")
				}
			}
		})
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)/2])
	}
	for _, name := range []string{"accept", "plan", "record"} {
		if len(times[name+" plain"]) > 0 {
			b.ReportMetric(median(times[name+" partitioned"])/median(times[name+" plain"]), name+"-ratio")
			b.ReportMetric(median(times[name+" partitioned"])/1e3/size, name+"-µs/row")
		}
	}
	var updated int
	err = conn.QueryRowContext(ctx, "SELECT count(*) FROM deliveries WHERE attempts = 1").Scan(&updated)
	if err != nil && err != sql.ErrNoRows || updated != b.N*size {
		b.Fatalf("%d of %d were recorded: %v", updated, b.N*size, err)
	}
}

package store

import (
	"context"
	"database/sql"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// The statements over many rows find each row by the primary key, also by the
// plan PostgreSQL makes for good while the tables are empty.
func TestBatchesFindRowsByKey(t *testing.T) {
	db, err := Open(t.Context(), Options{URL: testdb.Postgres(t), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := db.write.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exec := func(text string) {
		t.Helper()
		if _, err := conn.ExecContext(context.Background(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	exec("SET plan_cache_mode = force_generic_plan")
	for name, shape := range map[string]*shape{"planDone": planDone, "planMoved": planMoved, "applyAttempts": applyAttempts, "dropMember": dropMember,
		"dropEmail": dropEmail, "dropOptOut": dropOptOut, "sealMany": sealMany, "delayMany": delayMany, "endBundle": endBundle, "hastenBundle": hastenBundle, "leaveItem": leaveItem} {
		exec("PREPARE p AS " + shape.arrays)
		args := strings.TrimSuffix(strings.Repeat("NULL, ", len(shape.kinds)), ", ")
		var plan []string
		rows, err := conn.QueryContext(t.Context(), "EXPLAIN EXECUTE p("+args+")")
		if err := each(rows, err, func(rows *sql.Rows) error {
			var line string
			err := rows.Scan(&line)
			plan = append(plan, line)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(plan, "\n")
		byKey := strings.Contains(text, "_pkey") || strings.Contains(text, "members_by_principal") || strings.Contains(text, "opt_outs_by_who") || strings.Contains(text, "bundle_items_by_id") // whole keys too
		if !byKey || strings.Contains(text, "Seq Scan") || strings.Contains(text, "Materialize") {
			t.Errorf("%s:\n%s", name, text)
		}
		exec("DEALLOCATE p")
	}
}

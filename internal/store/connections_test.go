package store

import (
	"database/sql"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// What is read at once keeps its connections for the next time: to make one costs
// the server a process, and us every statement anew.
func TestConnectionsStay(t *testing.T) {
	db, err := Open(t.Context(), Options{URL: testdb.Postgres(t), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	// all are the server's processes of as many connections as there may be.
	all := func() (pids []int) {
		var conns []*sql.Conn
		for range db.read.Stats().MaxOpenConnections {
			c, err := db.read.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			var pid int
			if err := c.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		slices.Sort(pids)
		return pids
	}
	first := all()
	if then := all(); len(first) < 2 || !slices.Equal(then, first) {
		t.Errorf("processes %v, and then %v", first, then)
	}
}

//go:build linux

package faults_test

import (
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belfryhq/belfry/internal/testdb"
)

// One process works with an SQLite database: a second one says so and ends, and
// the first notices nothing.
// feature: NEW-12
func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.start()
	h.refused("belfry: another Belfry process works with", "stop it", "use PostgreSQL")
	p.call(http.MethodPost, "/v1/events", map[string]string{"source": "s", "type": "a.b"}, nil)
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	h.start().call(http.MethodGet, "/readyz", nil, nil) // the place is free again
}

// A database that a newer program wrote is left alone.
func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	for engine, where := range map[string]func(*testing.T) (*home, string, string){
		"SQLite": func(t *testing.T) (*home, string, string) {
			h := newHome(t)
			return h, "sqlite", filepath.Join(h.dir, "belfry.db")
		},
		"PostgreSQL": func(t *testing.T) (*home, string, string) {
			url := testdb.Postgres(t)
			return newHome(t, onPostgres(url)...), "pgx", url
		},
	} {
		t.Run(engine, func(t *testing.T) {
			h, driver, dsn := where(t)
			p := h.start()
			p.signal(syscall.SIGTERM)
			p.exit()
			db, err := sql.Open(driver, dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, " + map[string]string{"sqlite": "1", "pgx": "true"}[driver] + ")"); err != nil {
				t.Fatal(err)
			}
			h.refused("written by a newer Belfry", "99999", "run the newer program, or restore a backup")
			if _, err := db.Exec("DELETE FROM goose_db_version WHERE version_id = 99999"); err != nil {
				t.Fatal(err)
			}
			h.start()
		})
	}
}

// A file that is no database is not touched.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.start()
	p.signal(syscall.SIGTERM)
	p.exit()
	damage(t, filepath.Join(h.dir, "belfry.db"))
	h.refused("damaged", "restore a backup")
}

func damage(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(strings.Repeat("this is no database. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
}

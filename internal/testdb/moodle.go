package testdb

import (
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// MoodlePostgres gives the URL of a fresh database on this binary's PostgreSQL
// server that holds the tables of a real Moodle site (both dumps of
// shared/testdata/moodle; its README states the facts).
func MoodlePostgres(t testing.TB) string {
	t.Helper()
	return loadPostgres(t, Postgres(t))
}

// MoodleMariaDB is MoodlePostgres on this binary's MariaDB server.
func MoodleMariaDB(t testing.TB) string {
	t.Helper()
	return loadMariaDB(t, MariaDB(t))
}

// Moodle gives the URL of a fresh database on this server that holds the
// tables of a real Moodle site.
func (p *PostgresServer) Moodle(t testing.TB) string {
	t.Helper()
	return loadPostgres(t, p.Database(t))
}

// Moodle gives the URL of a fresh database on this server that holds the
// tables of a real Moodle site.
func (m *MariaDBServer) Moodle(t testing.TB) string {
	t.Helper()
	return loadMariaDB(t, m.Database(t))
}

// Open connects to a URL that a function of this package gave, with rights to
// change the data; it is closed when the test ends.
func Open(t testing.TB, rawURL string) *sql.DB {
	t.Helper()
	db, err := open(rawURL, nil)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func open(rawURL string, change func(*mysql.Config)) (*sql.DB, error) {
	if strings.HasPrefix(rawURL, "mysql:") {
		return openMariaDB(rawURL, change)
	}
	return sql.Open("pgx", rawURL)
}

func loadPostgres(t testing.TB, database string) string {
	t.Helper()
	load(t, database, "moodle-postgres.sql.gz", "moodle-postgres-more.sql.gz")
	// A dump's explicit ids do not move its sequences.
	db := Open(t, database)
	rows, err := db.Query(`SELECT s.oid::regclass::text, c.oid::regclass::text FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype = 'a'
		JOIN pg_class c ON c.oid = d.refobjid WHERE s.relkind = 'S'`)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	defer rows.Close()
	var moves []string
	for rows.Next() {
		var seq, table string
		if err := rows.Scan(&seq, &table); err != nil {
			t.Fatalf("testdb: %v", err)
		}
		moves = append(moves, fmt.Sprintf("SELECT setval('%s', (SELECT coalesce(max(id), 1) FROM %s))", seq, table))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	for _, move := range moves {
		if _, err := db.Exec(move); err != nil {
			t.Fatalf("testdb: %s: %v", move, err)
		}
	}
	return database
}

func loadMariaDB(t testing.TB, database string) string {
	t.Helper()
	load(t, database, "moodle-mariadb.sql.gz", "moodle-mariadb-more.sql.gz")
	return database
}

func load(t testing.TB, database string, names ...string) {
	t.Helper()
	db, err := open(database, func(c *mysql.Config) { c.MultiStatements, c.MaxAllowedPacket = true, 0 })
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// One connection: a dump's settings are of its session.
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	defer conn.Close()
	for _, name := range names {
		text, err := fixture(name)
		if err != nil {
			t.Fatalf("testdb: %v", err)
		}
		if _, err := conn.ExecContext(ctx, text); err != nil {
			t.Fatalf("testdb: loading %s: %v", name, err)
		}
	}
}

var fixtures struct {
	sync.Mutex
	text map[string]string
}

// fixture is the SQL text of a dump.
func fixture(name string) (string, error) {
	fixtures.Lock()
	defer fixtures.Unlock()
	if text, ok := fixtures.text[name]; ok {
		return text, nil
	}
	folder, err := moodleFolder()
	if err != nil {
		return "", err
	}
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if fixtures.text == nil {
		fixtures.text = map[string]string{}
	}
	fixtures.text[name] = string(text)
	return string(text), nil
}

// moodleFolder finds shared/testdata/moodle beside the repository, or beside a
// folder above it, or where BELFRY_TEST_SHARED says the shared folder is.
func moodleFolder() (string, error) {
	if shared := os.Getenv("BELFRY_TEST_SHARED"); shared != "" {
		return filepath.Join(shared, "testdata", "moodle"), nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		try := filepath.Join(dir, "shared", "testdata", "moodle")
		if info, err := os.Stat(try); err == nil && info.IsDir() {
			return try, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("these tests need the dumps of a Moodle site: no folder shared/testdata/moodle is beside this repository or above it; put it there, or name the shared folder in BELFRY_TEST_SHARED")
		}
		dir = parent
	}
}

// Login gives a URL of the same database for another account, which it makes
// with the password "secret" and the rights that the grants say, each as in
// `SELECT ON mdl_course`. The account is dropped when the test ends.
func Login(t testing.TB, rawURL, name string, grants ...string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	db := Open(t, rawURL)
	exec := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("testdb: %s: %v", statement, err)
		}
	}
	account := name
	if u.Scheme == "mysql" {
		account = "'" + name + "'@'%'"
		exec("CREATE USER " + account + " IDENTIFIED BY 'secret'")
		exec("GRANT USAGE ON *.* TO " + account)
		// Without any right in it, a database does not even open.
		exec("GRANT SHOW VIEW ON `" + strings.TrimPrefix(u.Path, "/") + "`.* TO " + account)
	} else {
		exec("CREATE ROLE " + account + " LOGIN PASSWORD 'secret'")
	}
	for _, g := range grants {
		exec("GRANT " + g + " TO " + account)
	}
	t.Cleanup(func() {
		db, err := open(rawURL, nil)
		if err != nil {
			return
		}
		defer db.Close()
		if u.Scheme == "mysql" {
			_, _ = db.Exec("DROP USER IF EXISTS " + account)
			return
		}
		_, _ = db.Exec("DROP OWNED BY " + account)
		_, _ = db.Exec("DROP ROLE IF EXISTS " + account)
	})
	u.User = url.UserPassword(name, "secret")
	return u.String()
}

package testdb_test

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestPostgresGivesEmptyDurableDatabases(t *testing.T) {
	a, b := testdb.Postgres(t), testdb.Postgres(t)
	if a == b {
		t.Fatalf("two calls gave one database: %s", a)
	}
	db := open(t, a)
	if _, err := db.Exec("CREATE TABLE t (n int)"); err != nil {
		t.Fatal(err)
	}
	var fsync, encoding string
	if err := db.QueryRow("SELECT current_setting('fsync'), current_setting('server_encoding')").Scan(&fsync, &encoding); err != nil {
		t.Fatal(err)
	}
	if fsync != "on" || encoding != "UTF8" {
		t.Errorf("fsync %s, encoding %s; want on, UTF8", fsync, encoding)
	}
	var n int
	if err := open(t, b).QueryRow("SELECT count(*) FROM pg_tables WHERE tablename = 't'").Scan(&n); err != nil || n != 0 {
		t.Errorf("the second database has %d tables named t (%v), want none", n, err)
	}
}

func TestOwnServerSurvivesACrash(t *testing.T) {
	p := testdb.NewPostgres(t)
	db := open(t, p.Database(t))
	if _, err := db.Exec("CREATE TABLE t (n int); INSERT INTO t VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	p.Crash()
	if err := db.Ping(); err == nil {
		t.Fatal("a crashed server answers")
	}
	p.Start(t)
	var n int
	if err := db.QueryRow("SELECT n FROM t").Scan(&n); err != nil || n != 7 {
		t.Fatalf("after the crash: %d, %v; want 7", n, err)
	}
}

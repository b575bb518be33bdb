package sqlread_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector/sqlread"
	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

// engines runs a test on both real servers.
func engines(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("PostgreSQL", func(t *testing.T) { test(t, testdb.Postgres(t)) })
	t.Run("MariaDB", func(t *testing.T) { test(t, testdb.MariaDB(t)) })
}

func read(t *testing.T, o sqlread.Options) *sqlread.DB {
	t.Helper()
	d, err := sqlread.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func exec(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	db := testdb.Open(t, dsn)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// feature: MDL-12
func TestTheServerRefusesWrites(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		exec(t, dsn, "CREATE TABLE m_t (id int)", "INSERT INTO m_t VALUES (1)")
		d := read(t, sqlread.Options{DSN: dsn, Prefix: "m_"})
		for _, write := range []string{"INSERT INTO {t} VALUES (2)", "DELETE FROM {t}", "UPDATE {t} SET id = 3", "CREATE TABLE {u} (id int)"} {
			_, err := sqlread.Select(t.Context(), d, write, nil, sqlread.Int64)
			if got := sqlread.Classify(err); got != sqlread.WriteRefused {
				t.Errorf("%s: %v (problem %d), want a refused write", write, err, got)
			}
		}
		got, err := sqlread.Select(t.Context(), d, "SELECT id FROM {t}", nil, sqlread.Int64)
		if err != nil || !cmp.Equal(got, []int64{1}) {
			t.Errorf("rows %v, %v; want [1]", got, err)
		}
	})
}

// feature: MDL-12
func TestASlowStatementIsGivenUp(t *testing.T) {
	for name, tc := range map[string]struct {
		dsn   func(testing.TB) string
		query string
	}{
		"PostgreSQL": {testdb.Postgres, "SELECT 1 FROM pg_sleep(30)"},
		"MariaDB":    {testdb.MariaDB, "SELECT count(*) FROM information_schema.columns a, information_schema.columns b, information_schema.columns c WHERE sleep(30) = 0"},
	} {
		t.Run(name, func(t *testing.T) {
			d := read(t, sqlread.Options{DSN: tc.dsn(t), Statement: 200 * time.Millisecond})
			began := time.Now()
			_, err := sqlread.Select(t.Context(), d, tc.query, nil, sqlread.Int64)
			if got := sqlread.Classify(err); got != sqlread.TooSlow {
				t.Errorf("error %v (problem %d), want too slow", err, got)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestNoTransactionStaysOpen(t *testing.T) {
	for name, tc := range map[string]struct {
		dsn   func(testing.TB) string
		query string
	}{
		"PostgreSQL": {testdb.Postgres, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'belfry' AND datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"},
		"MariaDB":    {testdb.MariaDB, "SELECT count(*) FROM information_schema.innodb_trx"},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := tc.dsn(t)
			exec(t, dsn, "CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)")
			d := read(t, sqlread.Options{DSN: dsn})
			if _, err := sqlread.Select(t.Context(), d, "SELECT id FROM {t}", nil, sqlread.Int64); err != nil {
				t.Fatal(err)
			}
			var n int
			if err := testdb.Open(t, dsn).QueryRow(tc.query).Scan(&n); err != nil || n != 0 {
				t.Errorf("%d open transactions, %v", n, err)
			}
		})
	}
}

func TestRecordsKeepColumnsDigitsAndText(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		bytes := "bytea"
		if strings.HasPrefix(dsn, "mysql") {
			bytes = "longblob"
		}
		exec(t, dsn, "CREATE TABLE m_r (id bigint, zz varchar(20), grade numeric(10,5), big bigint, small smallint, f double precision, t text, n int, b "+bytes+")",
			"INSERT INTO m_r VALUES (7, '007', 85.10000, 9007199254740993, -3, 0.5, 'a \"<i>\" & é 化 🧪', NULL, 'x')", "INSERT INTO m_r (id) VALUES (8)")
		d := read(t, sqlread.Options{DSN: dsn, Prefix: "m_"})
		columns, err := d.Columns(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"id", "zz", "grade", "big", "small", "f", "t", "n", "b"}, columns); diff != "" {
			t.Errorf("columns:\n%s", diff)
		}
		got, err := d.Records(t.Context(), "r", columns, []int64{7, 8, 9})
		if err != nil || len(got) != 2 {
			t.Fatalf("%d records, %v", len(got), err)
		}
		byID := map[int64]string{}
		for _, r := range got {
			byID[r.ID] = string(r.JSON)
		}
		want := `{"id":7,"zz":"007","grade":85.10000,"big":9007199254740993,"small":-3,"f":0.5,"t":"a \"<i>\" & é 化 🧪","n":null}`
		if byID[7] != want {
			t.Errorf("record 7\n got %s\nwant %s", byID[7], want)
		}
		if want := `{"id":8,"zz":null,"grade":null,"big":null,"small":null,"f":null,"t":null,"n":null}`; byID[8] != want {
			t.Errorf("record 8\n got %s\nwant %s", byID[8], want)
		}
		if none, err := d.Columns(t.Context(), "nothere"); err != nil || len(none) != 0 {
			t.Errorf("columns of a missing table: %v, %v", none, err)
		}
	})
}

func TestTablesBySuffix(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		exec(t, dsn, "CREATE TABLE m_log (id int)", "CREATE TABLE x_log (id int)", "CREATE TABLE xylog (id int)", "CREATE TABLE m_other (id int)")
		d := read(t, sqlread.Options{DSN: dsn})
		got, err := d.Tables(t.Context(), "_log")
		if err != nil || !cmp.Equal(got, []string{"m_log", "x_log"}) {
			t.Errorf("tables %v, %v", got, err)
		}
	})
}

func TestProblemsInWords(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	engines(t, func(t *testing.T, dsn string) {
		exec(t, dsn, "CREATE TABLE secret (id int)")
		change := func(f func(*url.URL)) string {
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			f(u)
			return u.String()
		}
		nobody := testdb.Login(t, dsn, "nobodyatall")
		for name, tc := range map[string]struct {
			dsn, query string
			want       sqlread.Problem
			words      string
		}{
			"no table":    {dsn, "SELECT id FROM {nothere}", sqlread.NoTable, "check the prefix"},
			"no column":   {dsn, "SELECT nothere FROM {secret}", sqlread.NoColumn, "older or newer"},
			"no right":    {nobody, "SELECT id FROM {secret}", sqlread.NoRight, "grant it SELECT"},
			"no database": {change(func(u *url.URL) { u.Path = "/nothere" }), "SELECT 1", sqlread.NoDatabase, "no such database"},
			"no server":   {change(func(u *url.URL) { u.Host = closed }), "SELECT 1", sqlread.Unreachable, "does not answer"},
			"bad syntax":  {dsn, "SELEC 1", sqlread.Other, "answered with an error"},
		} {
			t.Run(name, func(t *testing.T) {
				d := read(t, sqlread.Options{DSN: tc.dsn})
				_, err := sqlread.Select(t.Context(), d, tc.query, nil, sqlread.Int64)
				if got := sqlread.Classify(err); got != tc.want {
					t.Errorf("problem %d of %v, want %d", got, err, tc.want)
				}
				if got := sqlread.Explain(err); !strings.Contains(got, tc.words) || strings.Contains(got, "secret@") {
					t.Errorf("said %q, want %q in it", got, tc.words)
				}
			})
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		bad := strings.Replace(testdb.Login(t, testdb.MariaDB(t), "somebody"), ":secret@", ":hunter2@", 1)
		d := read(t, sqlread.Options{DSN: bad})
		_, err := sqlread.Select(t.Context(), d, "SELECT 1", nil, sqlread.Int64)
		if got := sqlread.Classify(err); got != sqlread.LoginRefused {
			t.Errorf("problem %d of %v", got, err)
		}
		if strings.Contains(sqlread.Explain(err), "hunter2") {
			t.Errorf("the password is told: %s", sqlread.Explain(err))
		}
	})
}

// A server that is killed closes connections in the middle of an answer.
func TestAServerThatGoesAwayDoesNotAnswer(t *testing.T) {
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF} {
		if got := sqlread.Classify(fmt.Errorf("receiving a row: %w", err)); got != sqlread.Unreachable {
			t.Errorf("problem %d of %v, want %d", got, err, sqlread.Unreachable)
		}
	}
}

func TestBadAddressesNeverTellThePassword(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:hunter2@[bad/db", "mysql://u:hunter2@h:x y/db", "oracle://u:hunter2@h/db", "postgres://u:hunter2@h:99999999/db", "mysql://u:hunter2@h/",
		"mysql://u:hunter2@h/db?timeout=soon", "u:hunter2@tcp(h)/db", "postgres://u:hunter2@h/db?sslmode=perhaps",
	} {
		d, err := sqlread.Open(sqlread.Options{DSN: dsn})
		if err == nil {
			_ = d.Close()
			t.Errorf("%s was taken", dsn)
			continue
		}
		if belfry.KindOf(err) != belfry.Invalid || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func TestCancelledQueriesStop(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		d := read(t, sqlread.Options{DSN: dsn})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := sqlread.Select(ctx, d, "SELECT 1", nil, sqlread.Int64)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestSQL(t *testing.T) {
	pg := read(t, sqlread.Options{DSN: "postgres://h/db", Prefix: "m_"})
	my := read(t, sqlread.Options{DSN: "mysql://h/db", Prefix: ""})
	query := "SELECT id FROM {user} WHERE id > ? AND deleted = ?"
	if got, want := pg.SQL(query), `SELECT id FROM "m_user" WHERE id > $1 AND deleted = $2`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := my.SQL(query), "SELECT id FROM `user` WHERE id > ? AND deleted = ?"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

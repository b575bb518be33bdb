package testdb_test

import (
	"testing"

	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMoodleFixtures(t *testing.T) {
	for name, tc := range map[string]struct {
		load func(testing.TB) string
		rows int
	}{
		"PostgreSQL": {testdb.MoodlePostgres, 872},
		"MariaDB":    {testdb.MoodleMariaDB, 873},
	} {
		t.Run(name, func(t *testing.T) {
			url := tc.load(t)
			db := testdb.Open(t, url)
			var n int
			if err := db.QueryRow("SELECT count(*) FROM mdl_logstore_standard_log").Scan(&n); err != nil || n != tc.rows {
				t.Errorf("%d log rows (%v), want %d", n, err, tc.rows)
			}
			var name string
			if err := db.QueryRow("SELECT fullname FROM mdl_course WHERE id = 4").Scan(&name); err != nil || name != "Chimie générale — 化学 🧪 (2e éd.)" {
				t.Errorf("course 4 is %q (%v)", name, err)
			}
			if _, err := db.Exec("INSERT INTO mdl_cohort_members (cohortid, userid, timeadded) VALUES (1, 40, 0)"); err != nil {
				t.Errorf("a fresh id: %v", err)
			}
			reader := testdb.Open(t, testdb.Login(t, url, "onlycourses", "SELECT ON mdl_course"))
			if err := reader.QueryRow("SELECT count(*) FROM mdl_course").Scan(&n); err != nil || n != 8 {
				t.Errorf("%d courses (%v), want 8", n, err)
			}
			if err := reader.QueryRow("SELECT count(*) FROM mdl_user").Scan(&n); err == nil {
				t.Error("an account without the right reads the users")
			}
		})
	}
}

func TestOwnMariaDBStopsAndStarts(t *testing.T) {
	m := testdb.NewMariaDB(t)
	db := testdb.Open(t, m.Database(t))
	if _, err := db.Exec("CREATE TABLE t (n int)"); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	if err := db.Ping(); err == nil {
		t.Fatal("a stopped server answers")
	}
	m.Start(t)
	if _, err := db.Exec("INSERT INTO t VALUES (7)"); err != nil {
		t.Fatal(err)
	}
}

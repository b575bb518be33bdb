package doctest_test

import (
	"os"
	"testing"

	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Wrap(m).Run()) }

// The examples of docs/moodle.md, as written, against the tables of a real site
// that the program may only read.
// feature: MDL-15, MDL-23, CPS-15, CPS-23
func TestMoodleExamples(t *testing.T) {
	site := testdb.MoodlePostgres(t)
	reader := testdb.Login(t, site, "belfry_docs_reader", "USAGE ON SCHEMA public", "SELECT ON ALL TABLES IN SCHEMA public")
	runDocument(t, "../../docs/moodle.md", map[string]string{"MOODLE": reader})
}

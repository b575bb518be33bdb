// Package testdb runs real database servers for tests: a private PostgreSQL
// cluster and a private MariaDB server, each in a temporary folder, on a random
// port of the loopback interface, started on first use, shared by the tests of
// one binary, with a fresh database for each test. Durability is left on
// (fsync), so what a test sees is what a user gets. MoodlePostgres and
// MoodleMariaDB fill a database with the tables of a real Moodle site.
//
// It promises that nothing outlives the test binary: the servers are stopped
// by Main (or Wrap), and killed by the kernel should the binary die. It refuses
// to skip: a machine without the server fails the test with a sentence that
// says what to install. The servers refuse to run as root, so under root they
// run as the user postgres, mysql or nobody.
//
// A test package that uses it has
//
//	func TestMain(m *testing.M) { testdb.Main(m) }
//
// and calls testdb.Postgres(t) or testdb.MariaDB(t) for a URL, testdb.PostgresCopy for one
// of a database that is filled once and copied, or testdb.NewPostgres(t) for a
// server of its own that it may stop, kill and start again.
package testdb

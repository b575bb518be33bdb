package testdb

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Pooler puts a PgBouncer that pools transactions before a database of
// PostgreSQL, and gives the URL of it; it is stopped when the test ends.
func Pooler(t testing.TB, database string) string {
	t.Helper()
	place, err := startPooler(t, database)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return place
}

func startPooler(t testing.TB, database string) (string, error) {
	bin, err := find("BELFRY_TEST_PGBOUNCER_BIN", "pgbouncer", "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
	if err != nil {
		return "", fmt.Errorf("these tests need PgBouncer: %w; install it (Debian: apt-get install pgbouncer)", err)
	}
	attr, err := process(syscall.SIGINT, "postgres")
	if err != nil {
		return "", err
	}
	dir, err := folder("belfry-pooler-", attr)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	to, err := url.Parse(database)
	if err != nil {
		return "", err
	}
	name := strings.TrimPrefix(to.Path, "/")
	port, err := freePort()
	if err != nil {
		return "", err
	}
	settings := fmt.Sprintf(`[databases]
%[1]s = host=%[2]s port=%[3]s dbname=%[1]s user=%[4]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[5]d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 200
`, name, to.Hostname(), to.Port(), to.User.Username(), port)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command(bin, file)
	cmd.SysProcAttr, cmd.Dir = attr, dir
	proc, err := spawn(cmd)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() {
		select {
		case <-proc.done:
			t.Errorf("PgBouncer ended before the test did (%v): %s", proc.err, proc.out)
		default:
			proc.end(syscall.SIGINT, 10*time.Second)
		}
	})
	place := fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable&default_query_exec_mode=exec", to.User.Username(), port, name)
	db, err := sql.Open("pgx", place)
	if err != nil {
		return "", err
	}
	defer db.Close()
	if err := proc.await(time.Minute, db.Ping); err != nil {
		return "", fmt.Errorf("starting PgBouncer: %w", err)
	}
	return place, nil
}

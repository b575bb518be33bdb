package testdb

import (
	"database/sql"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

const installMariaDB = "install it (Debian: apt-get install mariadb-server) or name the folder of its programs in BELFRY_TEST_MARIADB_BIN"

// MariaDB gives the URL (mysql://user@host:port/database) of a fresh, empty
// utf8mb4 database on the MariaDB server of this test binary, which it starts
// on first use. The database is dropped when the test ends.
func MariaDB(t testing.TB) string {
	t.Helper()
	return sharedMariaDB.get(t, startMariaDB).Database(t)
}

var sharedMariaDB only[*MariaDBServer]

// MariaDBServer is a MariaDB server in a temporary folder.
type MariaDBServer struct {
	instance
	bin string // path of mariadbd
}

// NewMariaDB starts a server of the test's own, which it may stop and start
// again; it is removed when the test ends.
func NewMariaDB(t testing.TB) *MariaDBServer {
	t.Helper()
	return own(t, startMariaDB)
}

func startMariaDB() (*MariaDBServer, error) {
	folders := []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec", "/opt/homebrew/bin"}
	bin, err := find("BELFRY_TEST_MARIADB_BIN", "mariadbd", folders...)
	if err != nil {
		return nil, fmt.Errorf("these tests need a MariaDB server: %w; %s", err, installMariaDB)
	}
	install, err := find("BELFRY_TEST_MARIADB_BIN", "mariadb-install-db", folders...)
	if err != nil {
		return nil, fmt.Errorf("these tests need a MariaDB server: %w; %s", err, installMariaDB)
	}
	m := &MariaDBServer{instance: instance{deadly: syscall.SIGKILL}, bin: bin}
	return m, m.install(m, "mysql", "belfry-mariadb-", func() *exec.Cmd {
		return exec.Command(install, "--no-defaults", "--datadir="+m.data(), "--auth-root-authentication-method=normal",
			"--skip-test-db", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0")
	})
}

func (m *MariaDBServer) named() string { return "MariaDB" }

func (m *MariaDBServer) data() string { return filepath.Join(m.dir, "data") }

func (m *MariaDBServer) command() *exec.Cmd {
	return exec.Command(m.bin, "--no-defaults", "--datadir="+m.data(), "--port="+strconv.Itoa(m.port), "--bind-address=127.0.0.1",
		"--socket="+filepath.Join(m.dir, "sock"), "--pid-file="+filepath.Join(m.dir, "pid"), "--skip-name-resolve",
		"--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci",
		"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--key-buffer-size=1M", "--performance-schema=OFF")
}

// Stop stops the server in good order, ending its connections.
func (m *MariaDBServer) Stop() { m.stop(syscall.SIGTERM) }

// URL is the connection URL of a database of the server, for its root.
func (m *MariaDBServer) URL(database string) string {
	return fmt.Sprintf("mysql://root@127.0.0.1:%d/%s", m.port, url.PathEscape(database))
}

func (m *MariaDBServer) created(name string) string {
	return "CREATE DATABASE " + name + " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
}

func (m *MariaDBServer) dropped(name string) string { return "DROP DATABASE IF EXISTS " + name }

func (m *MariaDBServer) open(database string) (*sql.DB, error) {
	return openMariaDB(m.URL(database), nil)
}

// openMariaDB connects to a URL that Database gave.
func openMariaDB(rawURL string, change func(*mysql.Config)) (*sql.DB, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	c := mysql.NewConfig()
	c.Net, c.Addr, c.DBName, c.User = "tcp", u.Host, strings.TrimPrefix(u.Path, "/"), u.User.Username()
	c.Passwd, _ = u.User.Password()
	c.Logger = &mysql.NopLogger{}
	if change != nil {
		change(c)
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

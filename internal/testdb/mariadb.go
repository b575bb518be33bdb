package testdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

const installMariaDB = "install it (Debian: apt-get install mariadb-server) or name the folder of its programs in BELFRY_TEST_MARIADB_BIN"

// MariaDB gives the URL (mysql://user@host:port/database) of a fresh, empty
// utf8mb4 database on the MariaDB server of this test binary, which it starts
// on first use. The database is dropped when the test ends.
func MariaDB(t testing.TB) string {
	t.Helper()
	sharedMariaDB.Lock()
	defer sharedMariaDB.Unlock()
	if sharedMariaDB.server == nil && sharedMariaDB.err == nil {
		sharedMariaDB.server, sharedMariaDB.err = startMariaDB()
		if sharedMariaDB.err == nil {
			atEnd(sharedMariaDB.server.remove)
		}
	}
	if sharedMariaDB.err != nil {
		t.Fatalf("testdb: %v", sharedMariaDB.err)
	}
	return sharedMariaDB.server.Database(t)
}

var sharedMariaDB struct {
	sync.Mutex
	server *MariaDBServer
	err    error
}

// MariaDBServer is a MariaDB server in a temporary folder.
type MariaDBServer struct {
	dir  string
	port int
	attr *syscall.SysProcAttr
	bin  string // path of mariadbd

	mu   sync.Mutex
	proc *server
	seq  int
}

// NewMariaDB starts a server of the test's own, which it may stop and start
// again; it is removed when the test ends.
func NewMariaDB(t testing.TB) *MariaDBServer {
	t.Helper()
	m, err := startMariaDB()
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(m.remove)
	return m
}

func startMariaDB() (_ *MariaDBServer, err error) {
	folders := []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec", "/opt/homebrew/bin"}
	bin, err := find("BELFRY_TEST_MARIADB_BIN", "mariadbd", folders...)
	if err != nil {
		return nil, fmt.Errorf("these tests need a MariaDB server: %w; %s", err, installMariaDB)
	}
	install, err := find("BELFRY_TEST_MARIADB_BIN", "mariadb-install-db", folders...)
	if err != nil {
		return nil, fmt.Errorf("these tests need a MariaDB server: %w; %s", err, installMariaDB)
	}
	m := &MariaDBServer{bin: bin}
	if m.attr, err = process(syscall.SIGKILL, "mysql"); err != nil {
		return nil, fmt.Errorf("MariaDB refuses to run as root, and there is no user to run it as: %w", err)
	}
	if m.dir, err = folder("belfry-mariadb-", m.attr); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(m.dir))
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, install, "--no-defaults", "--datadir="+m.data(), "--auth-root-authentication-method=normal",
		"--skip-test-db", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0")
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{}, m.dir
	copyCredential(cmd.SysProcAttr, m.attr)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mariadb-install-db: %w: %s", err, out)
	}
	for range 5 { // a port can be lost between asking for it and binding it
		if m.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = m.start(); err == nil {
			return m, nil
		}
	}
	return nil, err
}

func (m *MariaDBServer) data() string { return filepath.Join(m.dir, "data") }

// start runs the server and returns when it answers.
func (m *MariaDBServer) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc != nil {
		return errors.New("the server runs already")
	}
	cmd := exec.Command(m.bin, "--no-defaults", "--datadir="+m.data(), "--port="+strconv.Itoa(m.port), "--bind-address=127.0.0.1",
		"--socket="+filepath.Join(m.dir, "sock"), "--pid-file="+filepath.Join(m.dir, "pid"), "--skip-name-resolve",
		"--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci",
		"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--key-buffer-size=1M", "--performance-schema=OFF")
	attr := *m.attr
	cmd.SysProcAttr, cmd.Dir = &attr, m.dir
	proc, err := spawn(cmd)
	if err != nil {
		return err
	}
	db, err := m.open("", nil)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := proc.await(time.Minute, db.Ping); err != nil {
		proc.end(syscall.SIGKILL, 10*time.Second)
		return fmt.Errorf("starting MariaDB: %w", err)
	}
	m.proc = proc
	return nil
}

func (m *MariaDBServer) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc != nil {
		m.proc.end(syscall.SIGTERM, 30*time.Second)
		m.proc = nil
	}
}

func (m *MariaDBServer) remove() {
	m.mu.Lock()
	if m.proc != nil {
		m.proc.end(syscall.SIGKILL, 30*time.Second) // the data is thrown away
		m.proc = nil
	}
	m.mu.Unlock()
	_ = os.RemoveAll(m.dir)
}

// Start starts a stopped server again, on the same port and data.
func (m *MariaDBServer) Start(t testing.TB) {
	t.Helper()
	if err := m.start(); err != nil {
		t.Fatalf("testdb: %v", err)
	}
}

// Stop stops the server in good order, ending its connections.
func (m *MariaDBServer) Stop() { m.stop() }

// URL is the connection URL of a database of the server, for its root.
func (m *MariaDBServer) URL(database string) string {
	return fmt.Sprintf("mysql://root@127.0.0.1:%d/%s", m.port, url.PathEscape(database))
}

// Database makes a fresh utf8mb4 database and gives its URL; it is dropped
// when the test ends, if the server then runs.
func (m *MariaDBServer) Database(t testing.TB) string {
	t.Helper()
	m.mu.Lock()
	m.seq++
	name := fmt.Sprintf("test%d", m.seq)
	m.mu.Unlock()
	if err := m.admin("CREATE DATABASE " + name + " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() { _ = m.admin("DROP DATABASE IF EXISTS " + name) })
	return m.URL(name)
}

func (m *MariaDBServer) admin(statement string) error {
	db, err := m.open("", nil)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func (m *MariaDBServer) open(database string, change func(*mysql.Config)) (*sql.DB, error) {
	return openMariaDB(m.URL(database), change)
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

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
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver named pgx
)

const installPostgres = "install it (Debian: apt-get install postgresql) or name the folder of its programs in BELFRY_TEST_POSTGRES_BIN"

// Postgres gives the URL of a fresh, empty database on the PostgreSQL server
// of this test binary, which it starts on first use. The database is dropped
// when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.pg == nil && shared.err == nil {
		shared.pg, shared.err = startPostgres()
		if shared.err == nil {
			atEnd(shared.pg.remove)
		}
	}
	if shared.err != nil {
		t.Fatalf("testdb: %v", shared.err)
	}
	return shared.pg.Database(t)
}

var shared struct {
	sync.Mutex
	pg  *PostgresServer
	err error
}

// PostgresServer is a PostgreSQL cluster in a temporary folder.
type PostgresServer struct {
	dir  string
	port int
	attr *syscall.SysProcAttr
	bin  string // folder of the programs

	mu   sync.Mutex
	proc *server
	seq  int
}

// NewPostgres starts a server of the test's own, which it may stop, kill and
// start again; it is removed when the test ends.
func NewPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	p, err := startPostgres()
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(p.remove)
	return p
}

func startPostgres() (_ *PostgresServer, err error) {
	initdb, err := find("BELFRY_TEST_POSTGRES_BIN", "initdb", "/usr/local/bin", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
	if err != nil {
		return nil, fmt.Errorf("these tests need a PostgreSQL server: %w; %s", err, installPostgres)
	}
	initdb, err = filepath.EvalSymlinks(initdb)
	if err != nil {
		return nil, err
	}
	p := &PostgresServer{bin: filepath.Dir(initdb)}
	if p.attr, err = process(syscall.SIGQUIT, "postgres"); err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root, and there is no user to run it as: %w", err)
	}
	if p.dir, err = folder("belfry-pg-", p.attr); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(p.dir))
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, initdb, "-D", p.dir, "-U", "belfry", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	// The deadly signal is for servers: initdb is waited for here.
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{}, p.dir
	copyCredential(cmd.SysProcAttr, p.attr)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	for range 5 { // a port can be lost between asking for it and binding it
		if p.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = p.start(); err == nil {
			return p, nil
		}
	}
	return nil, err
}

// start runs the server and returns when it answers.
func (p *PostgresServer) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc != nil {
		return errors.New("the server runs already")
	}
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.dir, "-p", strconv.Itoa(p.port), "-k", p.dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100", "-c", "shared_buffers=64MB",
		"-c", "logging_collector=off", "-c", "log_min_messages=warning")
	attr := *p.attr
	cmd.SysProcAttr, cmd.Dir = &attr, p.dir
	proc, err := spawn(cmd)
	if err != nil {
		return err
	}
	db, err := sql.Open("pgx", p.URL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	if err := proc.await(time.Minute, db.Ping); err != nil {
		proc.end(syscall.SIGQUIT, 10*time.Second)
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	p.proc = proc
	return nil
}

func (p *PostgresServer) stop(signal os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc != nil {
		p.proc.end(signal, 30*time.Second)
		p.proc = nil
	}
}

func (p *PostgresServer) remove() {
	p.stop(syscall.SIGQUIT)
	_ = os.RemoveAll(p.dir)
}

// Start starts a stopped server again, on the same port and data.
func (p *PostgresServer) Start(t testing.TB) {
	t.Helper()
	if err := p.start(); err != nil {
		t.Fatalf("testdb: %v", err)
	}
}

// Stop stops the server in good order, ending its connections.
func (p *PostgresServer) Stop() { p.stop(syscall.SIGINT) }

// Crash ends the server at once, as a power cut would: the next start recovers
// from the write-ahead log.
func (p *PostgresServer) Crash() { p.stop(syscall.SIGQUIT) }

// URL is the connection URL of a database of the server.
func (p *PostgresServer) URL(database string) string {
	return fmt.Sprintf("postgres://belfry@127.0.0.1:%d/%s?sslmode=disable", p.port, url.PathEscape(database))
}

// Database makes a fresh database and gives its URL; it is dropped when the
// test ends, if the server then runs.
func (p *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	p.mu.Lock()
	p.seq++
	name := fmt.Sprintf("test%d", p.seq)
	p.mu.Unlock()
	if err := p.admin("CREATE DATABASE " + name); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() { _ = p.admin("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)") })
	return p.URL(name)
}

func (p *PostgresServer) admin(statement string) error {
	db, err := sql.Open("pgx", p.URL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	return err
}

package testdb

import (
	"database/sql"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver named pgx
)

const installPostgres = "install it (Debian: apt-get install postgresql) or name the folder of its programs in BELFRY_TEST_POSTGRES_BIN"

// Postgres gives the URL of a fresh, empty database on the PostgreSQL server
// of this test binary, which it starts on first use. The database is dropped
// when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	return sharedPostgres.get(t, startPostgres).Database(t)
}

// PostgresCopy is Postgres with what fill put into a database: it fills one, the
// first time it is asked for under that name, and each test gets a copy of it.
// fill leaves no connection behind.
func PostgresCopy(t testing.TB, name string, fill func(url string) error) string {
	t.Helper()
	return sharedPostgres.get(t, startPostgres).copied(t, name, fill)
}

var sharedPostgres only[*PostgresServer]

// PostgresServer is a PostgreSQL cluster in a temporary folder.
type PostgresServer struct {
	instance
	bin string // folder of the programs

	filling   sync.Mutex
	templates map[string]error // by name: how filling it ended
}

// NewPostgres starts a server of the test's own, which it may stop, kill and
// start again; it is removed when the test ends.
func NewPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	return own(t, startPostgres)
}

func startPostgres() (*PostgresServer, error) {
	initdb, err := find("BELFRY_TEST_POSTGRES_BIN", "initdb", "/usr/local/bin", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
	if err != nil {
		return nil, fmt.Errorf("these tests need a PostgreSQL server: %w; %s", err, installPostgres)
	}
	initdb, err = filepath.EvalSymlinks(initdb)
	if err != nil {
		return nil, err
	}
	p := &PostgresServer{instance: instance{deadly: syscall.SIGQUIT}, bin: filepath.Dir(initdb)}
	return p, p.install(p, "postgres", "belfry-pg-", func() *exec.Cmd {
		return exec.Command(initdb, "-D", p.dir, "-U", "belfry", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	})
}

// template is the database that copies of what has a name are made of.
func (p *PostgresServer) template(name string, fill func(url string) error) (string, error) {
	p.filling.Lock()
	defer p.filling.Unlock()
	database := "template_" + name
	err, known := p.templates[name]
	if known {
		return database, err
	}
	if err = p.admin(p.created(database)); err == nil {
		err = fill(p.URL(database))
	}
	if err == nil { // what is connected to, if only by the server itself, is not copied
		err = p.admin("ALTER DATABASE " + database + " ALLOW_CONNECTIONS false")
	}
	if p.templates == nil {
		p.templates = map[string]error{}
	}
	p.templates[name] = err
	return database, err
}

func (p *PostgresServer) copied(t testing.TB, name string, fill func(url string) error) string {
	t.Helper()
	template, err := p.template(name, fill)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return p.fresh(t, func(database string) string { return p.created(database) + " TEMPLATE " + template })
}

func (p *PostgresServer) named() string { return "PostgreSQL" }

func (p *PostgresServer) command() *exec.Cmd {
	return exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.dir, "-p", strconv.Itoa(p.port), "-k", p.dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300", "-c", "shared_buffers=64MB",
		"-c", "logging_collector=off", "-c", "log_min_messages=warning")
}

// Stop stops the server in good order, ending its connections.
func (p *PostgresServer) Stop() { p.stop(syscall.SIGINT) }

// Crash ends the server at once: the next start recovers from the write-ahead
// log.
func (p *PostgresServer) Crash() { p.stop(syscall.SIGQUIT) }

// URL is the connection URL of a database of the server.
func (p *PostgresServer) URL(database string) string {
	return fmt.Sprintf("postgres://belfry@127.0.0.1:%d/%s?sslmode=disable", p.port, url.PathEscape(database))
}

func (p *PostgresServer) open(database string) (*sql.DB, error) {
	if database == "" {
		database = "postgres"
	}
	return sql.Open("pgx", p.URL(database))
}

func (p *PostgresServer) created(name string) string { return "CREATE DATABASE " + name }

func (p *PostgresServer) dropped(name string) string {
	return "DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/belfryhq/belfry/internal/belfry"
)

// oldestPostgres is the oldest server version we test for and promise.
const oldestPostgres = 130000

// lockKey is the advisory lock of the process that brings the schema up to date
// ("belfry" in ASCII).
const lockKey = 0x62656c667279

// sessionSettings are made on every connection. A server that is set to
// acknowledge before it has written would lose what we acknowledge. And each of
// our statements finds its rows by key: a plan made while a table was small,
// which reads all of it, once or into memory for each row to be joined, would be
// kept while the table grows, until the server gathers statistics. (Forbidden
// plans have costs that invite compilation.) A process that is halted in
// mid-transaction must not hold its locks against the others.
const sessionSettings = `SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
		ELSE current_setting('synchronous_commit') END, false),
	set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),
	set_config('enable_material', 'off', false),
	set_config('jit', 'off', false), set_config('idle_in_transaction_session_timeout', '15s', false)`

// So many connections are kept of those that read and, beside the writers' own,
// of those that write.
const (
	readConns  = 8
	writeConns = 8
)

// silence is how long the other end of a connection may not answer, as a machine
// that was switched off or a firewall that forgot us does not, before the system
// takes the connection for dead: without it, for a quarter of an hour of those
// who asked something. A server that is slow to answer does not count, whose
// system answers.
const silence = 30 * time.Second

var dialer = net.Dialer{
	Control:         listenWell,
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence / 2, Interval: silence / 6, Count: 3},
}

func (db *DB) openPostgres(ctx context.Context, url string) error {
	db.pg = true
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return belfry.Errorf(belfry.Invalid, "the database URL is not understood: %w", err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "belfry"
	}
	db.path = config.Database
	config.DialFunc = dialer.DialContext
	prepare := stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, config.ConnectTimeout)
		defer cancel()
		_, err := c.Exec(ctx, sessionSettings)
		return err
	})
	db.write = sql.OpenDB(newConnector(stdlib.GetConnector(*config, prepare)))
	db.read = sql.OpenDB(newConnector(stdlib.GetConnector(*config, prepare)))
	// A connection costs its server a process with caches to fill, and statements
	// to prepare: those that were needed at once are soon needed again.
	db.read.SetMaxOpenConns(readConns)
	db.read.SetMaxIdleConns(readConns)
	db.read.SetConnMaxIdleTime(time.Minute)
	db.write.SetMaxIdleConns(writeConns)
	db.write.SetConnMaxIdleTime(time.Minute)
	db.tell = sql.OpenDB(newConnector(stdlib.GetConnector(*config, prepare)))
	db.tell.SetMaxIdleConns(1)
	if err := checkServer(ctx, db.write); err != nil {
		return err
	}
	if err := migrateAlone(ctx, db.write, config.Database); err != nil {
		return openFault(err, config.Database)
	}
	return nil
}

// migrateAlone brings the schema up to date, one process at a time: others that
// start meanwhile wait. The lock is a transaction's, so that it goes with it,
// whatever stands between us and the server.
func migrateAlone(ctx context.Context, db *sql.DB, database string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "SELECT set_config('idle_in_transaction_session_timeout', '0', true), pg_advisory_xact_lock($1)", int64(lockKey))
	if err == nil {
		err = ownDatabase(ctx, tx, database)
	}
	if err == nil {
		err = migrate(ctx, db, goose.DialectPostgres)
	}
	// It wrote nothing: how it ends is of no consequence.
	_ = tx.Rollback()
	return err
}

// checkServer refuses what would fail later and less clearly.
func checkServer(ctx context.Context, db *sql.DB) error {
	var version int
	var name, encoding string
	var replica bool
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('server_encoding'), pg_is_in_recovery()").
		Scan(&version, &name, &encoding, &replica)
	if err != nil {
		return startFault(err)
	}
	return judgeServer(version, name, encoding, replica)
}

// startFault says also what whoever starts the program can do.
func startFault(err error) error {
	err = openFault(err, "on PostgreSQL")
	do := "check host and port in the database URL, and that the server runs and lets this machine in"
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg):
		switch pg.Code[:2] {
		case "28":
			do = "check user and password in the database URL, and pg_hba.conf on the server"
		case "3D":
			do = "make it with CREATE DATABASE, or name another in the database URL"
		case "42": // of a parameter that is sent when a connection is made
			return belfry.Errorf(belfry.Invalid, "PostgreSQL refuses the connection: %s: what it names is an option of the database URL, behind its ?: correct it, or leave it out", pg.Message)
		default:
			return err
		}
	case onlyTLS(err):
		do = "the server speaks no TLS: switch it on there, or, where the network between is trusted, say sslmode=disable in the database URL"
	}
	if !unavailable(err) {
		return err
	}
	return belfry.Errorf(belfry.Unavailable, "%w: %s", err, do)
}

// onlyTLS reports whether a connection failed for want of TLS: the server was
// there and nothing else was tried.
func onlyTLS(err error) bool {
	text := err.Error()
	return strings.Contains(text, "server refused TLS connection") && strings.Count(text, "error: ") == 1
}

// ownDatabase refuses one that holds tables of something else, before it gets
// ours: the URL names the platform's own, or a copy of it. Tables of an extension
// are nobody's.
func ownDatabase(ctx context.Context, tx *sql.Tx, database string) error {
	var other sql.NullString
	err := tx.QueryRowContext(ctx, `SELECT min(c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')
		AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
		AND NOT EXISTS (SELECT 1 FROM pg_class g WHERE g.relnamespace = n.oid AND g.relname = 'goose_db_version')`).Scan(&other)
	if err != nil || !other.Valid {
		return err
	}
	return belfry.Errorf(belfry.Conflict, "the database %s holds tables that are not Belfry's, such as %s: give it one of its own with CREATE DATABASE, and name that in the database URL", database, other.String)
}

func judgeServer(version int, name, encoding string, replica bool) error {
	switch {
	case version < oldestPostgres:
		return belfry.Errorf(belfry.Invalid, "PostgreSQL %s is too old: Belfry needs version %d or newer; upgrade the server, or name another in the database URL", name, oldestPostgres/10000)
	case encoding != "UTF8":
		return belfry.Errorf(belfry.Invalid, "the database's encoding is %s: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	case replica:
		return belfry.Errorf(belfry.Invalid, "this PostgreSQL server is a read-only replica: connect to the primary")
	}
	return nil
}

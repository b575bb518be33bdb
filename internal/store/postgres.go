package store

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/belfryhq/belfry/internal/belfry"
)

// oldestPostgres is the oldest server version we test for and promise.
const oldestPostgres = 130000

// lockKey is the advisory lock of the one process that works with a database
// ("belfry" in ASCII).
const lockKey = 0x62656c667279

// sessionSettings are made on every connection. A server that is set to
// acknowledge before it has written would lose what we acknowledge. And each of
// our statements finds its rows by key: a plan made while a table was small,
// which reads all of it, would be kept while the table grows, until the server
// gathers statistics. (Forbidden plans have costs that invite compilation.)
const sessionSettings = `SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
		ELSE current_setting('synchronous_commit') END, false),
	set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),
	set_config('jit', 'off', false)`

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
	prepare := stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sessionSettings)
		return err
	})
	db.write = sql.OpenDB(stdlib.GetConnector(*config, prepare))
	db.read = sql.OpenDB(stdlib.GetConnector(*config, prepare))
	db.read.SetMaxOpenConns(8)
	db.read.SetMaxIdleConns(4)
	db.read.SetConnMaxIdleTime(time.Minute)
	if err := checkServer(ctx, db.write); err != nil {
		return err
	}
	lock := &advisoryLock{db: db.write}
	if err := lock.await(ctx, takeOver); err != nil {
		return err
	}
	db.own = lock
	if err := migrate(ctx, db.write, goose.DialectPostgres); err != nil {
		return openFault(err, config.Database)
	}
	db.background.Go(func() { db.keepLock(lock) })
	return nil
}

// checkServer refuses what would fail later and less clearly.
func checkServer(ctx context.Context, db *sql.DB) error {
	var version int
	var name, encoding string
	var replica bool
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('server_encoding'), pg_is_in_recovery()").
		Scan(&version, &name, &encoding, &replica)
	if err != nil {
		return openFault(err, "on PostgreSQL")
	}
	return judgeServer(version, name, encoding, replica)
}

func judgeServer(version int, name, encoding string, replica bool) error {
	switch {
	case version < oldestPostgres:
		return belfry.Errorf(belfry.Invalid, "PostgreSQL %s is too old: Belfry needs version %d or newer", name, oldestPostgres/10000)
	case encoding != "UTF8":
		return belfry.Errorf(belfry.Invalid, "the database's encoding is %s: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	case replica:
		return belfry.Errorf(belfry.Invalid, "this PostgreSQL server is a read-only replica: connect to the primary")
	}
	return nil
}

// advisoryLock is a session lock on a connection of its own. It is lost with
// the connection, so it is looked after.
type advisoryLock struct {
	db *sql.DB

	mu   sync.Mutex
	conn *sql.Conn
	err  error // why it is not held
}

// takeOver is how long a starting process waits for the lock of one that was
// just killed: the server lets go of it when it notices the lost connection.
const takeOver = 3 * time.Second

// await is take, repeated while another process has the lock.
func (l *advisoryLock) await(ctx context.Context, patience time.Duration) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := l.take(ctx)
		if belfry.KindOf(err) != belfry.Conflict {
			return err
		}
		select {
		case <-again.C:
		case <-limit.C:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take connects and takes the lock, or says why it cannot.
func (l *advisoryLock) take(ctx context.Context) error {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return belfry.Errorf(belfry.Unavailable, "the database cannot be reached (%w)", err)
	}
	var ok bool
	err = fault(conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(lockKey)).Scan(&ok))
	if err == nil && !ok {
		err = belfry.Errorf(belfry.Conflict, "another Belfry process works with this database: stop it first, or give this one another database")
	}
	if err != nil {
		drop(conn)
		return err
	}
	l.conn = conn
	return nil
}

// check makes sure that the lock is still held, taking it again when the
// connection was lost.
func (l *advisoryLock) check(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		if err := l.conn.PingContext(ctx); err == nil {
			return nil
		}
		drop(l.conn)
		l.conn = nil
	}
	l.err = l.take(ctx)
	if belfry.KindOf(l.err) == belfry.Conflict {
		// For those at the doors it is a matter of waiting, or of an operator.
		l.err = belfry.Errorf(belfry.Unavailable, "%w", l.err)
	}
	return l.err
}

// held is cheap while all is well.
func (l *advisoryLock) held(ctx context.Context) error {
	l.mu.Lock()
	ok := l.conn != nil
	l.mu.Unlock()
	if ok {
		return nil
	}
	return l.check(ctx)
}

func (l *advisoryLock) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// Best effort: the server lets go of it with the connection, a little later.
		_, _ = l.conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(lockKey))
		drop(l.conn)
		l.conn = nil
	}
	return nil
}

// keepLock notices within seconds that the lock's connection is gone.
func (db *DB) keepLock(l *advisoryLock) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-db.stop:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		if err := l.check(ctx); err != nil {
			db.log.Warn("store: not the owner of the database", "error", err)
		}
		cancel()
	}
}

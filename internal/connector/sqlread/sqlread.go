// Package sqlread is what sources that read a platform's SQL database share:
// opening PostgreSQL (pgx) and MySQL or MariaDB (go-sql-driver/mysql) for
// reading only, one text of a query for all of them, pages of rows, rows as
// JSON objects, and errors in words that say what to do.
//
// It promises that the server itself refuses writes on its sessions, that no
// statement runs longer than the statement time-out (on the server's clock, and
// a little later on ours), that no transaction stays open between statements,
// and that no error holds a password.
//
// It refuses to keep rows in hand: a caller asks for bounded pages and gets
// slices.
//
// Test against it with testdb.Postgres and testdb.MariaDB, as its own tests do.
package sqlread

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Dialect is the kind of a database.
type Dialect string

// Dialects.
const (
	Postgres Dialect = "PostgreSQL"
	MySQL    Dialect = "MySQL"
)

// Options say how to open a database.
type Options struct {
	// DSN is postgres://user:password@host:port/database?… (what pgx reads) or
	// mysql://user:password@host:port/database?… (mariadb:// is the same; the
	// parameters are those of go-sql-driver, and socket=/path for a local
	// socket instead of a host).
	DSN string
	// Prefix stands before the name of every table written in braces.
	Prefix string
	// Statement bounds one statement; 0 = 10 s.
	Statement time.Duration
	// Connections bounds the open connections; 0 = 2.
	Connections int
	// Dial makes the connections; nil = as the system does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// DB is a database opened for reading.
type DB struct {
	Dialect Dialect
	db      *sql.DB
	prefix  string
	timeout time.Duration
}

// ConnectTimeout bounds the making of a connection.
const ConnectTimeout = 5 * time.Second

// Open makes a DB; it connects at the first query. Faults of the DSN are
// belfry.Invalid errors.
func Open(o Options) (*DB, error) {
	if o.Statement <= 0 {
		o.Statement = 10 * time.Second
	}
	if o.Connections <= 0 {
		o.Connections = 2
	}
	u, err := url.Parse(o.DSN)
	if err != nil {
		// The parser's error repeats the address with its password.
		return nil, belfry.Errorf(belfry.Invalid, "the database address is not a URL; write postgres://user:password@host/database or mysql://user:password@host/database, with special characters of the password percent-encoded")
	}
	var c driver.Connector
	d := &DB{prefix: o.Prefix, timeout: o.Statement}
	switch u.Scheme {
	case "postgres", "postgresql":
		d.Dialect = Postgres
		c, err = openPostgres(u, o)
	case "mysql", "mariadb":
		d.Dialect = MySQL
		c, err = openMySQL(u, o)
	default:
		return nil, belfry.Errorf(belfry.Invalid, "the database address begins with %q; write postgres://… or mysql://…", u.Scheme+":")
	}
	if err != nil {
		return nil, err
	}
	d.db = sql.OpenDB(c)
	d.db.SetMaxOpenConns(o.Connections)
	d.db.SetMaxIdleConns(o.Connections)
	d.db.SetConnMaxLifetime(30 * time.Minute) // follows a fail-over of the platform's database
	d.db.SetConnMaxIdleTime(5 * time.Minute)
	return d, nil
}

func openPostgres(u *url.URL, o Options) (driver.Connector, error) {
	q := u.Query()
	for _, name := range []string{"passfile", "service", "servicefile"} {
		if q.Has(name) {
			return nil, belfry.Errorf(belfry.Invalid, "the PostgreSQL address names a %s: write out what it says in the address itself", name)
		}
	}
	c, err := pgx.ParseConfig(o.DSN)
	if err != nil {
		return nil, belfry.Errorf(belfry.Invalid, "the PostgreSQL address cannot be read; write postgres://user:password@host:5432/database?sslmode=require")
	}
	// Passwords of this machine (PGPASSWORD, ~/.pgpass) are not for whatever
	// host an address names.
	if _, ok := u.User.Password(); !ok && !q.Has("password") {
		c.Password = ""
	}
	if o.Dial != nil {
		c.DialFunc = o.Dial
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = ConnectTimeout
	}
	set := func(name, value string) {
		if _, ok := c.RuntimeParams[name]; !ok {
			c.RuntimeParams[name] = value
		}
	}
	c.RuntimeParams["default_transaction_read_only"] = "on"
	set("statement_timeout", strconv.FormatInt(o.Statement.Milliseconds(), 10))
	set("lock_timeout", strconv.FormatInt(o.Statement.Milliseconds(), 10))
	set("idle_in_transaction_session_timeout", strconv.FormatInt(o.Statement.Milliseconds(), 10))
	set("application_name", "belfry")
	return stdlib.GetConnector(*c), nil
}

func openMySQL(u *url.URL, o Options) (driver.Connector, error) {
	q := u.Query()
	network, addr := "tcp", u.Host
	if socket := q.Get("socket"); socket != "" {
		network, addr = "unix", socket
		q.Del("socket")
	} else if u.Port() == "" {
		addr = u.Host + ":3306"
	}
	// The driver's own reader understands its parameters; the parts that need
	// no quoting there are put in after it.
	c, err := mysql.ParseDSN("tcp(127.0.0.1:3306)/?" + q.Encode())
	if err != nil {
		return nil, belfry.Errorf(belfry.Invalid, "the MySQL address has a parameter that cannot be read: %v", err)
	}
	c.Net, c.Addr, c.DBName, c.User = network, addr, strings.TrimPrefix(u.Path, "/"), u.User.Username()
	c.Passwd, _ = u.User.Password()
	if c.DBName == "" {
		return nil, belfry.Errorf(belfry.Invalid, "the MySQL address names no database; write mysql://user:password@host:3306/database")
	}
	if c.Timeout == 0 {
		c.Timeout = ConnectTimeout
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = o.Statement + ConnectTimeout // a dead peer, not a slow statement
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = ConnectTimeout
	}
	c.MultiStatements = false
	c.AllowAllFiles = false // else a server may ask for any file of this machine
	c.DialFunc = o.Dial
	c.InterpolateParams = true // one round trip a query instead of three
	c.ParseTime = false
	c.Logger = &mysql.NopLogger{} // what it would say comes back as errors
	next, err := mysql.NewConnector(c)
	if err != nil {
		return nil, belfry.Errorf(belfry.Invalid, "the MySQL address cannot be used: %v", err)
	}
	return readOnly{Connector: next, statement: o.Statement}, nil
}

// readOnly makes every new MySQL session read-only and time-limited. MariaDB
// and MySQL name the limit differently and measure it in other units.
type readOnly struct {
	driver.Connector
	statement time.Duration
}

// Connect opens a session and sets it up.
func (r readOnly) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	run := func(statement string) error {
		_, err := conn.(driver.ExecerContext).ExecContext(ctx, statement, nil)
		return err
	}
	if err := run("SET SESSION TRANSACTION READ ONLY"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	err = run(fmt.Sprintf("SET SESSION max_statement_time = %g", r.statement.Seconds()))
	if e := (*mysql.MySQLError)(nil); errors.As(err, &e) && e.Number == 1193 { // unknown system variable: not MariaDB
		err = run(fmt.Sprintf("SET SESSION max_execution_time = %d", r.statement.Milliseconds()))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Close closes the connections.
func (d *DB) Close() error { return d.db.Close() }

// SQL rewrites a query to the dialect: {name} is the quoted table of that name
// with the prefix, ? an argument. Neither sign may stand in a literal.
func (d *DB) SQL(query string) string {
	var b strings.Builder
	b.Grow(len(query) + 32)
	arg := 0
	for i := 0; i < len(query); i++ {
		switch c := query[i]; c {
		case '?':
			if d.Dialect == Postgres {
				arg++
				b.WriteByte('$')
				b.WriteString(strconv.Itoa(arg))
			} else {
				b.WriteByte('?')
			}
		case '{':
			end := strings.IndexByte(query[i:], '}')
			if end < 0 {
				b.WriteString(query[i:])
				return b.String()
			}
			b.WriteString(d.Quote(d.prefix + query[i+1:i+end]))
			i += end
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Quote quotes an identifier.
func (d *DB) Quote(name string) string {
	if d.Dialect == MySQL {
		return "`" + strings.ReplaceAll(name, "`", "``") + "`"
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// In is a list of n arguments: "(?, ?, ?)". n must be at least 1.
func In(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }

// Args makes arguments of ids, after those given before.
func Args(ids []int64, before ...any) []any {
	out := slices.Clone(before)
	for _, id := range ids {
		out = append(out, id)
	}
	return out
}

// Select runs a query (see SQL) and makes a value of every row. The whole
// answer is held, so the query must be bounded.
func Select[T any](ctx context.Context, d *DB, query string, args []any, row func(*sql.Rows) (T, error)) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout+time.Second)
	defer cancel()
	rows, err := d.db.QueryContext(ctx, d.SQL(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := row(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return out, rows.Close()
}

// Int64 makes the value of a row of one whole number.
func Int64(r *sql.Rows) (int64, error) {
	var v int64
	return v, r.Scan(&v)
}

// Text makes the value of a row of one text.
func Text(r *sql.Rows) (string, error) {
	var v string
	return v, r.Scan(&v)
}

// Columns gives the names of the columns of a table (its name without prefix)
// in their order; none when it does not exist.
func (d *DB) Columns(ctx context.Context, table string) ([]string, error) {
	schema := "table_schema = database()"
	if d.Dialect == Postgres {
		schema = "table_schema = ANY (current_schemas(false))"
	}
	return Select(ctx, d, "SELECT column_name FROM information_schema.columns WHERE "+schema+" AND table_name = ? ORDER BY ordinal_position",
		[]any{d.prefix + table}, Text)
}

// Tables gives the full names of the tables that end in suffix, that the
// account may see. No wildcard is read in suffix.
func (d *DB) Tables(ctx context.Context, suffix string) ([]string, error) {
	// pg_catalog also shows tables the account may not read; that tells a
	// missing right from a wrong prefix.
	query := "SELECT table_name FROM information_schema.tables WHERE table_schema = database() AND right(table_name, ?) = ? ORDER BY 1"
	if d.Dialect == Postgres {
		query = `SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = ANY (current_schemas(false)) AND right(c.relname, ?::int) = ?::text ORDER BY 1`
	}
	return Select(ctx, d, query, []any{len(suffix), suffix}, Text)
}

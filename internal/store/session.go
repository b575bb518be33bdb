package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strconv"
	"strings"
	"time"
)

const (
	connectTimeout = 10 * time.Second
	// A transaction that takes longer than this on PostgreSQL is given up: a
	// network that swallows packets would hold its callers for many minutes.
	commitTimeout = 60 * time.Second
)

// session is a writer's connection with its prepared statements and what a
// transaction gathers. It belongs to one goroutine.
type session struct {
	db      *DB
	conn    *sql.Conn
	ctx     context.Context // of the transaction; without a deadline on SQLite
	cancel  context.CancelFunc
	careful bool
	jobs    []*job

	stmts   map[string]*sql.Stmt     // SQLite: statements of fixed text
	raw     map[batchKey]driver.Stmt // SQLite: batch statements, past database/sql
	batches map[*shape]*rows

	known   map[string]bool // tenants with a row in versions
	fresh   []string        // tenants that got one in this transaction
	changed []changeRow
	delta   []countDelta
	recount bool // delta is not all there is
	scribe  scribe
	shared  shared
	order   []int32
	row     []driver.NamedValue
	refs    []attemptRef
	ids     []string
	seen    map[string]bool
}

func newSession(db *DB, conn *sql.Conn) *session {
	return &session{db: db, conn: conn, ctx: context.Background(), cancel: func() {}, stmts: map[string]*sql.Stmt{}, raw: map[batchKey]driver.Stmt{},
		batches: map[*shape]*rows{}, known: map[string]bool{}, seen: map[string]bool{}}
}

func (s *session) close() {
	s.cancel()
	for _, st := range s.raw {
		_ = s.conn.Raw(func(any) error { return st.Close() })
	}
	for _, st := range s.stmts {
		_ = st.Close()
	}
	drop(s.conn) // it may be in any state
}

// begin begins a transaction, behind the fence of a node unless that is empty.
func (s *session) begin(fence string) error {
	begin := "BEGIN IMMEDIATE"
	if s.db.pg {
		begin = "BEGIN"
		if fence != "" {
			begin = "BEGIN; SELECT belfry_fence('" + strings.ReplaceAll(fence, "'", "''") + "')" // one trip
		}
		s.ctx, s.cancel = context.WithTimeout(context.Background(), commitTimeout)
	}
	_, err := s.exec(begin)
	return err
}

func (s *session) commit() error {
	_, err := s.exec("COMMIT")
	s.cancel()
	return err
}

func (s *session) rollback() error {
	_, err := s.exec("ROLLBACK")
	s.cancel()
	if err != nil && strings.Contains(err.Error(), "no transaction is active") {
		return nil // SQLite rolls back by itself after some errors
	}
	return err
}

// exec runs a statement of fixed text and gives the number of rows it touched.
func (s *session) exec(text string, args ...any) (int64, error) {
	var res sql.Result
	var err error
	if s.db.pg {
		res, err = s.conn.ExecContext(s.ctx, text, args...)
	} else {
		var st *sql.Stmt
		if st, err = s.stmt(text); err == nil {
			res, err = st.ExecContext(s.ctx, args...)
		}
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query runs a query of fixed text and calls scan for each row.
func (s *session) query(scan func(*sql.Rows) error, text string, args ...any) error {
	var rows *sql.Rows
	var err error
	if s.db.pg {
		rows, err = s.conn.QueryContext(s.ctx, text, args...)
	} else {
		var st *sql.Stmt
		if st, err = s.stmt(text); err == nil {
			rows, err = st.QueryContext(s.ctx, args...)
		}
	}
	return each(rows, err, scan)
}

// queryIn is session.query for a text with the word IN_LIST after a column:
// ids stand for it, as the last parameters.
func queryIn[T any](s *session, scan func(*sql.Rows) error, text string, ids []T, args ...any) error {
	return in(s.db.pg, text, ids, args, func(text string, args []any) error { return s.query(scan, text, args...) })
}

// queryEach is session.query for a text with nothing but a lock, which is for
// PostgreSQL, after IN_LIST, in which each of ids is few rows of many: see eachOf.
func (s *session) queryEach(scan func(*sql.Rows) error, text string, ids []string, args ...any) error {
	if !s.db.pg {
		text, _, _ = strings.Cut(text, " FOR ")
		return queryIn(s, scan, text, ids, args...)
	}
	if len(ids) == 0 {
		return nil
	}
	return s.query(scan, eachOf(text, len(args)), append(args, ids)...)
}

func (s *session) stmt(text string) (*sql.Stmt, error) {
	if st := s.stmts[text]; st != nil {
		return st, nil
	}
	st, err := s.conn.PrepareContext(s.ctx, text)
	if err == nil {
		s.stmts[text] = st
	}
	return st, err
}

// each scans all rows and closes them.
func each(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// in expands IN_LIST: = ANY($n) on PostgreSQL, a list of parameters on SQLite,
// where long lists are cut into chunks and the last is padded with its last
// id, so that few texts are made.
func in[T any](pg bool, text string, ids []T, args []any, run func(text string, args []any) error) error {
	n := len(args)
	if pg {
		if len(ids) == 0 {
			return nil
		}
		return run(strings.ReplaceAll(text, "IN_LIST", "= ANY($"+strconv.Itoa(n+1)+")"), append(args[:n:n], ids))
	}
	for len(ids) > 0 {
		size := 512
		for _, smaller := range [...]int{1, 8, 64, 256} {
			if len(ids) <= smaller {
				size = smaller
				break
			}
		}
		chunk := ids[:min(size, len(ids))]
		ids = ids[len(chunk):]
		list := make([]any, 0, n+size)
		list = append(list, args...)
		for i := range size {
			list = append(list, chunk[min(i, len(chunk)-1)])
		}
		if err := run(strings.ReplaceAll(text, "IN_LIST", placeholders(text, n, size)), list); err != nil {
			return err
		}
	}
	return nil
}

// placeholders is "IN (?, …)", or "IN ($n+1, …, $n+size)" where other
// parameters follow. SQLite and its driver look numbered ones up by name, each
// among all of them.
func placeholders(text string, n, size int) string {
	_, after, _ := strings.Cut(text, "IN_LIST")
	if !strings.Contains(after, "$") && !strings.Contains(after, "IN_LIST") {
		return "IN (" + strings.Repeat("?,", size-1) + "?)"
	}
	var b strings.Builder
	b.WriteString("IN (")
	for i := range size {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n + i + 1))
	}
	b.WriteByte(')')
	return b.String()
}

func (s *session) forget() {
	s.changed, s.delta, s.fresh, s.recount = s.changed[:0], s.delta[:0], s.fresh[:0], false
	s.scribe.last, s.scribe.text = nil, ""
	s.shared.forget()
	for _, r := range s.batches {
		r.reset()
	}
}

// committed keeps what was learnt in a transaction now that it is durable.
func (s *session) committed() {
	for _, t := range s.fresh {
		s.known[t] = true
	}
	s.db.counts.add(s.delta)
	if s.recount {
		s.db.counts.forget(s.db.now())
	}
	s.forget()
}

// drop closes a connection for good instead of giving it back to its pool.
func drop(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

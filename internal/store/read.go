package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
)

// statements keeps the read pool's prepared statements on SQLite, where pgx's
// own cache has no counterpart. There are as many as texts in this package.
type statements struct {
	mu  sync.RWMutex
	all map[string]*sql.Stmt
}

func (db *DB) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	db.stmts.mu.RLock()
	st := db.stmts.all[text]
	db.stmts.mu.RUnlock()
	if st != nil {
		return st, nil
	}
	db.stmts.mu.Lock()
	defer db.stmts.mu.Unlock()
	if st := db.stmts.all[text]; st != nil {
		return st, nil
	}
	st, err := db.read.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	if db.stmts.all == nil {
		db.stmts.all = map[string]*sql.Stmt{}
	}
	db.stmts.all[text] = st
	return st, nil
}

// query runs a query of fixed text on the read pool and calls scan for each row.
func (db *DB) query(ctx context.Context, scan func(*sql.Rows) error, text string, args ...any) error {
	if db.pg {
		return db.queryPostgres(ctx, scan, text, args)
	}
	var rows *sql.Rows
	st, err := db.prepared(ctx, text)
	if err == nil {
		rows, err = st.QueryContext(ctx, args...)
	}
	return fault(each(rows, err, scan))
}

// queryPostgres is query. A connection that was cut while nothing was asked of it
// shows that only when something is: before it gave a row, another one is asked,
// for as many as there may be of its kind.
func (db *DB) queryPostgres(ctx context.Context, scan func(*sql.Rows) error, text string, args []any) error {
	for kept := readConns; ; kept-- {
		seen := false
		rows, err := db.read.QueryContext(ctx, text, args...)
		err = fault(each(rows, err, func(r *sql.Rows) error {
			seen = true
			return scan(r)
		}))
		if err == nil || seen || kept == 0 || !wasCut(err) || ctx.Err() != nil {
			return err
		}
	}
}

// queryRead is query with the word IN_LIST: see queryIn.
func queryRead[T any](ctx context.Context, db *DB, scan func(*sql.Rows) error, text string, ids []T, args ...any) error {
	return in(db.pg, text, ids, args, func(text string, args []any) error { return db.query(ctx, scan, text, args...) })
}

// queryEach is queryRead for a text with nothing but a lock after IN_LIST, in
// which each of ids is few rows of many: see eachOf.
func (db *DB) queryEach(ctx context.Context, scan func(*sql.Rows) error, text string, ids []string, args ...any) error {
	if !db.pg {
		return queryRead(ctx, db, scan, text, ids, args...)
	}
	if len(ids) == 0 {
		return nil
	}
	return db.query(ctx, scan, eachOf(text, len(args)), append(args, ids)...)
}

// eachOf is a text for PostgreSQL that looks ids up one by one, in their order,
// whatever PostgreSQL thinks of how many rows there are: before it has analysed a
// table, it would sooner read all of a tenant's than look for a list. Neither
// OFFSET nor a lock lets it join them in another way.
func eachOf(text string, args int) string {
	text, lock, _ := strings.Cut(text, "IN_LIST")
	if lock == "" {
		lock = " OFFSET 0"
	}
	return fmt.Sprintf("SELECT each_row.* FROM unnest($%d::text[]) AS each_of (name), LATERAL (%s= each_of.name%s) AS each_row", args+1, text, lock)
}

func orDefault(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

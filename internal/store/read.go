package store

import (
	"context"
	"database/sql"
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
	var rows *sql.Rows
	var err error
	if db.pg {
		rows, err = db.read.QueryContext(ctx, text, args...)
	} else {
		var st *sql.Stmt
		if st, err = db.prepared(ctx, text); err == nil {
			rows, err = st.QueryContext(ctx, args...)
		}
	}
	return fault(each(rows, err, scan))
}

// queryRead is query with the word IN_LIST: see queryIn.
func queryRead[T any](ctx context.Context, db *DB, scan func(*sql.Rows) error, text string, ids []T, args ...any) error {
	return in(db.pg, text, ids, args, func(text string, args []any) error { return db.query(ctx, scan, text, args...) })
}

func orDefault(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

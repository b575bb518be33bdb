package store

import (
	"database/sql"
	"database/sql/driver"
	"strconv"
	"strings"
)

// kind of a column's values in a batch.
type kind byte

const (
	textKind kind = 't'
	numKind  kind = 'n'
	blobKind kind = 'b'
)

// shape is a statement over many rows: before + the rows + after. The rows are
// VALUES lists on SQLite and unnest() of arrays, one a column, on PostgreSQL.
type shape struct {
	before, after string
	kinds         string // a kind a column
	literals      string // of the last columns, each after a comma
	once          int    // columns before those of kinds, bound once a statement: SQLite only
	arrays        string // the text for PostgreSQL
}

// insert makes the shape that inserts into a table. cols are the columns'
// names with the kind after a colon, or with a literal that all rows have after
// an equals sign.
func insert(table, cols, after string) *shape {
	var names, kinds, fixed []string
	for c := range strings.FieldsSeq(cols) {
		if name, literal, ok := strings.Cut(c, "="); ok {
			names, fixed = append(names, name), append(fixed, literal)
			continue
		}
		name, k, _ := strings.Cut(c, ":")
		if len(fixed) > 0 {
			panic("store: columns with a literal come last in " + table)
		}
		names, kinds = append(names, name), append(kinds, k)
	}
	return newShape("INSERT INTO "+table+" ("+strings.Join(names, ", ")+") ", " "+after, kinds, fixed...)
}

// insertAlike is insert for SQLite where rows are alike in the first columns,
// which are named without a kind: rows.alike gives what they are.
func insertAlike(table, alike, cols, after string) *shape {
	sh := insert(table, cols, after)
	names := strings.Fields(alike)
	sh.before = strings.Replace(sh.before, "(", "("+strings.Join(names, ", ")+", ", 1)
	sh.once = len(names)
	return sh
}

// with makes the shape of a statement that reads its rows from a table
// expression named a.
func with(cols, statement string) *shape {
	var names, kinds []string
	for c := range strings.FieldsSeq(cols) {
		name, k, _ := strings.Cut(c, ":")
		names, kinds = append(names, name), append(kinds, k)
	}
	return newShape("WITH a ("+strings.Join(names, ", ")+") AS (", ") "+statement, kinds)
}

func newShape(before, after string, kinds []string, fixed ...string) *shape {
	arrays := make([]string, len(kinds))
	for i, k := range kinds {
		arrays[i] = "$" + strconv.Itoa(i+1) + "::" + arrayTypes[kind(k[0])] + "[]"
	}
	literals := strings.Join(append([]string{""}, fixed...), ", ")
	return &shape{
		before: before, after: after, kinds: strings.Join(kinds, ""), literals: literals,
		arrays: before + "SELECT a.*" + literals + " FROM unnest(" + strings.Join(arrays, ", ") + ") AS a" + after,
	}
}

var arrayTypes = map[kind]string{textKind: "text", numKind: "bigint", blobKind: "bytea"}

// rows gathers the values of a shape's rows, column after column.
type rows struct {
	s     *session
	shape *shape
	n     int
	col   int
	vals  []driver.NamedValue // SQLite: all values, row by row
	texts [][]string          // PostgreSQL: by column, of the column's kind
	nums  [][]int64
	blobs [][][]byte
	once  []driver.NamedValue // SQLite: what all rows have
}

// alike gives what all rows have in the first columns of a shape of insertAlike.
func (r *rows) alike(vals ...driver.Value) {
	r.once = r.once[:0]
	for _, v := range vals {
		r.once = append(r.once, driver.NamedValue{Value: v})
	}
}

// rows gives the empty batch of a shape. A shape is gathered and flushed
// before it is used again.
func (s *session) rows(sh *shape) *rows {
	r := s.batches[sh]
	if r == nil {
		r = &rows{s: s, shape: sh}
		if s.db.pg {
			n := len(sh.kinds)
			r.texts, r.nums, r.blobs = make([][]string, n), make([][]int64, n), make([][][]byte, n)
		}
		s.batches[sh] = r
	}
	r.reset()
	return r
}

func (r *rows) reset() {
	r.n, r.col = 0, 0
	if cap(r.vals) > 1<<18 {
		r.vals = nil
	}
	clear(r.vals)
	r.vals = r.vals[:0]
	for i := range r.texts {
		clear(r.texts[i])
		clear(r.blobs[i])
		r.texts[i], r.nums[i], r.blobs[i] = r.texts[i][:0], r.nums[i][:0], r.blobs[i][:0]
	}
}

// Values mostly equal those of the row above (tenant, event, channel, state
// …): its boxed value is used again, which saves an allocation.

func (r *rows) text(v string) *rows {
	if r.s.db.pg {
		r.texts[r.col] = append(r.texts[r.col], v)
		r.next()
		return r
	}
	if w := len(r.shape.kinds); len(r.vals) >= w {
		if above := r.vals[len(r.vals)-w].Value; above.(string) == v {
			return r.put(above)
		}
	}
	return r.put(v)
}

func (r *rows) num(v int64) *rows {
	if r.s.db.pg {
		r.nums[r.col] = append(r.nums[r.col], v)
		r.next()
		return r
	}
	if w := len(r.shape.kinds); len(r.vals) >= w {
		if above := r.vals[len(r.vals)-w].Value; above.(int64) == v {
			return r.put(above)
		}
	}
	return r.put(v)
}

func (r *rows) blob(v []byte) *rows {
	if v == nil {
		v = []byte{}
	}
	if r.s.db.pg {
		r.blobs[r.col] = append(r.blobs[r.col], v)
		r.next()
		return r
	}
	return r.put(v)
}

func (r *rows) put(v driver.Value) *rows {
	r.vals = append(r.vals, driver.NamedValue{Value: v})
	r.next()
	return r
}

func (r *rows) next() {
	if r.col++; r.col == len(r.shape.kinds) {
		r.col = 0
		r.n++
	}
}

// sizes of SQLite's prepared batch statements, in rows.
var sizes = [...]int{256, 64, 16, 4, 1}

// flush runs the statement for all gathered rows, empties the batch and gives
// the number of rows touched.
func (r *rows) flush() (affected int64, err error) {
	defer r.reset()
	if r.n == 0 {
		return 0, nil
	}
	if r.s.db.pg {
		return r.flushArrays()
	}
	width, at := len(r.shape.kinds), 0
	for at < r.n {
		size := 1
		for _, s := range sizes {
			if s <= r.n-at {
				size = s
				break
			}
		}
		vals := r.vals[at*width : (at+size)*width]
		if r.shape.once > 0 {
			r.s.row = append(append(r.s.row[:0], r.once...), vals...)
			vals = r.s.row
		}
		for i := range vals {
			vals[i].Ordinal = i + 1
		}
		n, err := r.s.execRaw(batchKey{shape: r.shape, size: size}, func() string { return r.shape.values(size) }, vals)
		affected += n
		if err != nil {
			return affected, err
		}
		at += size
	}
	return affected, nil
}

// batchKey names a prepared statement of a session: of a shape and size, or of
// a fixed text for single rows.
type batchKey struct {
	shape *shape
	size  int
	text  string
}

// execRow runs a SQLite statement with anonymous parameters for one row, past
// database/sql: three times as fast as through it, and where each row has to
// be looked up by its key faster than a statement over many.
func (s *session) execRow(text string, vals ...driver.Value) (int64, error) {
	s.row = s.row[:0]
	for i, v := range vals {
		s.row = append(s.row, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return s.execRaw(batchKey{text: text}, func() string { return text }, s.row)
}

// execRaw runs a prepared SQLite statement past database/sql, which would look
// at every value again.
func (s *session) execRaw(key batchKey, text func() string, vals []driver.NamedValue) (n int64, err error) {
	err = s.conn.Raw(func(c any) error {
		st := s.raw[key]
		if st == nil {
			if st, err = c.(driver.ConnPrepareContext).PrepareContext(s.ctx, text()); err != nil {
				return err
			}
			s.raw[key] = st
		}
		res, err := st.(driver.StmtExecContext).ExecContext(s.ctx, vals)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}

// values is the statement's text with size rows of anonymous parameters, which
// SQLite parses in linear time, unlike numbered ones.
func (sh *shape) values(size int) string {
	row := strings.Repeat("?,", len(sh.kinds)-1) + "?" + sh.literals + ")"
	for i := sh.once; i > 0; i-- { // numbered, and few
		row = "?" + strconv.Itoa(i) + "," + row
	}
	row = "(" + row
	// Without OR ROLLBACK SQLite copies every page aside before it changes it,
	// to undo a statement alone; here a failed statement undoes all.
	before := strings.Replace(sh.before, "INSERT INTO", "INSERT OR ROLLBACK INTO", 1)
	after := strings.Replace(sh.after, ") UPDATE ", ") UPDATE OR ROLLBACK ", 1)
	return before + "VALUES " + strings.Repeat(row+",", size-1) + row + after
}

func (r *rows) flushArrays() (int64, error) {
	return r.s.exec(r.shape.arrays, r.arrays()...)
}

// query runs the statement with an addition (RETURNING …) on PostgreSQL, where
// all rows go at once, and empties the batch.
func (r *rows) query(scan func(*sql.Rows) error, addition string) error {
	defer r.reset()
	if r.n == 0 {
		return nil
	}
	return r.s.query(scan, r.shape.arrays+addition, r.arrays()...)
}

func (r *rows) arrays() []any {
	args := make([]any, len(r.shape.kinds))
	for i := range r.shape.kinds {
		switch kind(r.shape.kinds[i]) {
		case textKind:
			args[i] = r.texts[i]
		case numKind:
			args[i] = r.nums[i]
		case blobKind:
			args[i] = r.blobs[i]
		}
	}
	return args
}

package storetest

import (
	"fmt"
	"testing"
)

// Dump is every row of every table of a store's database but those of the
// schema's own versions, as text: table and columns by name. It is for tests
// about what is left.
func Dump(t testing.TB, place string) (rows []string) {
	t.Helper()
	i := intrude(t, place)
	for _, table := range i.tables(t) {
		rs, err := i.QueryContext(t.Context(), "SELECT * FROM "+table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rs.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rs.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for k := range values {
				into[k] = &values[k]
			}
			if err := rs.Scan(into...); err != nil {
				t.Fatal(err)
			}
			row := table + ":"
			for k, v := range values {
				if b, ok := v.([]byte); ok {
					v = string(b)
				}
				row += fmt.Sprintf(" %s=%v", columns[k], v)
			}
			rows = append(rows, row)
		}
		if err := rs.Err(); err != nil {
			t.Fatal(err)
		}
		_ = rs.Close()
	}
	return rows
}

// Columns are the columns of the schema that hold text, as table.column.
func Columns(t testing.TB, place string) (out []string) {
	t.Helper()
	i := intrude(t, place)
	for _, table := range i.tables(t) {
		rs, err := i.QueryContext(t.Context(), "SELECT * FROM "+table+" LIMIT 0")
		if err != nil {
			t.Fatal(err)
		}
		types, err := rs.ColumnTypes()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range types {
			switch c.DatabaseTypeName() {
			case "TEXT", "BLOB", "BYTEA":
				out = append(out, table+"."+c.Name())
			}
		}
		_ = rs.Close()
	}
	return out
}

// tables are those of the schema, partitions under the name of the whole.
func (i intruder) tables(t testing.TB) (out []string) {
	t.Helper()
	text := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose%' ORDER BY name"
	if !i.sqlite {
		text = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = current_schema()::regnamespace AND relname NOT LIKE 'goose%' ORDER BY relname"
	}
	rs, err := i.QueryContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rs.Close() }()
	for rs.Next() {
		var name string
		if err := rs.Scan(&name); err != nil {
			t.Fatal(err)
		}
		out = append(out, name)
	}
	return out
}

package sqlread

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Record is a row as a JSON object.
type Record struct {
	ID   int64
	JSON json.RawMessage // the columns in the order of the table
}

// Records reads the rows of a table (its name without prefix) with the given
// ids, with only the columns that keep says yes to. Whole and decimal numbers
// are JSON numbers with their digits as they are, texts are strings, bytes are
// left out. The table must have a column id.
func (d *DB) Records(ctx context.Context, table string, columns []string, ids []int64) ([]Record, error) {
	if len(ids) == 0 || len(columns) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout+time.Second)
	defer cancel()
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = d.Quote(c)
	}
	rows, err := d.db.QueryContext(ctx, d.SQL("SELECT id, "+strings.Join(quoted, ", ")+" FROM {"+table+"} WHERE id IN "+In(len(ids))), Args(ids)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	var id int64
	cells := make([]sql.NullString, len(columns))
	into := []any{&id}
	for i := range cells {
		into = append(into, &cells[i])
	}
	var out []Record
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		var b bytes.Buffer
		b.WriteByte('{')
		for i, c := range columns {
			form := formOf(types[i+1].DatabaseTypeName())
			if form == formBytes {
				continue
			}
			if b.Len() > 1 {
				b.WriteByte(',')
			}
			b.Write(jsonString(c))
			b.WriteByte(':')
			b.Write(cellJSON(cells[i], form))
		}
		b.WriteByte('}')
		out = append(out, Record{ID: id, JSON: b.Bytes()})
	}
	return out, rows.Err()
}

type form int

const (
	formText form = iota
	formNumber
	formBytes
)

func formOf(typeName string) form {
	name := strings.TrimPrefix(typeName, "UNSIGNED ")
	switch name {
	case "INT2", "INT4", "INT8", "NUMERIC", "FLOAT4", "FLOAT8",
		"TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "DECIMAL", "FLOAT", "DOUBLE":
		return formNumber
	case "BYTEA", "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "BINARY", "VARBINARY", "GEOMETRY", "BIT", "VARBIT":
		return formBytes
	}
	return formText
}

func cellJSON(v sql.NullString, f form) []byte {
	if !v.Valid {
		return []byte("null")
	}
	// NaN and the infinities are numbers to a database and not to JSON.
	if f == formNumber && json.Valid([]byte(v.String)) {
		if _, err := strconv.ParseFloat(v.String, 64); err == nil || strings.TrimLeft(v.String, "-0123456789.") == "" {
			return []byte(v.String)
		}
	}
	return jsonString(v.String)
}

// jsonString is s as JSON, without HTML escapes; bytes that are not UTF-8
// become the replacement character.
func jsonString(s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string never fails
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

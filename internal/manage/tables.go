package manage

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

// Columns of tables of subscriptions and members. Lists hold a ; between their
// entries.
const (
	columnSubscription = "subscription"
	columnTypes        = "types"
	columnScope        = "object"
	columnApplies      = "applies"
	columnObjectTypes  = "object_types"
	columnFilter       = "filter"
	columnUser         = "user"
	columnEmail        = "email"
	columnJoinedAt     = "joined_at"
	columnChannels     = "channels"
	columnFrequency    = "frequency"
	columnTitle        = "title" // told only, as the rest
	columnBy           = "by"
	columnSince        = "since"
)

var (
	memberColumns       = []string{columnUser, columnEmail, columnJoinedAt, columnChannels, columnFrequency, columnBy, columnSince}
	subscriptionColumns = slices.Concat([]string{columnSubscription, columnTitle, columnTypes, columnScope, columnApplies, columnObjectTypes, columnFilter}, memberColumns)
	criteria            = []string{columnTypes, columnScope, columnApplies, columnObjectTypes, columnFilter}
)

// cellOf is a text as it stands in a table: what a spreadsheet would compute
// begins with an apostrophe, and so does what begins with one, so that textOf
// gives back every text as it was.
func cellOf(text string) string {
	if strings.HasPrefix(text, "'") || render.Formula(text) {
		return "'" + text
	}
	return text
}

// textOf is the text of a cell.
func textOf(cell string) string {
	if text, ok := strings.CutPrefix(cell, "'"); ok && (strings.HasPrefix(text, "'") || render.Formula(text)) {
		return text
	}
	return cell
}

// table reads a CSV file with a head, row by row.
type table struct {
	in      *csv.Reader
	columns []string
	pending []string // a row read with the head, of a file without one
	line    int
}

// byteOrderMark begins files of some spreadsheets.
const byteOrderMark = "\ufeff"

// openTable reads the head of a table, whose columns are some of known. A file
// of one column whose first cell is an address has none: it is a list of
// addresses.
func openTable(in io.Reader, known []string) (*table, error) {
	t := &table{in: csv.NewReader(in)}
	t.in.FieldsPerRecord = -1
	head, err := t.in.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, belfry.Errorf(belfry.Malformed, "the table is empty: its first row names the columns, which are some of %s", strings.Join(known, ", "))
	case err != nil:
		return nil, tableError(err)
	}
	line, _ := t.in.FieldPos(0)
	head[0] = strings.TrimPrefix(head[0], byteOrderMark)
	if len(head) == 1 && strings.Contains(head[0], "@") {
		t.columns, t.pending, t.line = []string{columnEmail}, head, line
		return t, nil
	}
	f := &faults{}
	for i, name := range head {
		if i == len(known)*2 {
			break
		}
		p := "/columns/" + strconv.Itoa(i)
		name = strings.ToLower(strings.TrimSpace(name))
		t.columns = append(t.columns, name)
		switch near := belfry.Nearest(name, known); {
		case !utf8.ValidString(head[i]):
			f.add(p, "is not valid UTF-8: save the table as UTF-8")
		case slices.Index(t.columns, name) < i:
			f.add(p, "column %q comes twice", name)
		case slices.Contains(known, name):
		case i == 0 && len(head) == 1 && strings.Contains(name, ";"):
			f.add(p, "the columns are not separated by commas: save the table with , between the cells")
		case near != "":
			f.add(p, "unknown column %q: did you mean %q?", clipped(name), near)
		default:
			f.add(p, "unknown column %q: known are %s", clipped(name), strings.Join(known, ", "))
		}
	}
	if len(f.list) == 0 && !slices.Contains(t.columns, columnUser) && !slices.Contains(t.columns, columnEmail) {
		f.add("/columns", "there is neither a column user nor a column email, so nobody is named")
	}
	return t, f.err()
}

func clipped(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}

func tableError(err error) error {
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return belfry.Errorf(belfry.Malformed, "line %d is no line of a CSV table: %s", parse.Line, parse.Err)
	}
	return err
}

// next is the next row by column, with the line it stands on; io.EOF at the end.
// A row that is none has a fault.
func (t *table) next() (cells map[string]string, line int, fault string, err error) {
	row := t.pending
	line = t.line
	if t.pending = nil; row == nil {
		row, err = t.in.Read()
		var parse *csv.ParseError
		switch {
		case errors.As(err, &parse):
			return nil, parse.StartLine, "is no row of a table: " + parse.Err.Error(), nil
		case err != nil:
			return nil, 0, "", err
		}
		line, _ = t.in.FieldPos(0)
	}
	if len(row) > len(t.columns) {
		return nil, line, "has " + strconv.Itoa(len(row)) + " cells, the head has " + strconv.Itoa(len(t.columns)) + ": put a text that holds a comma between quotes", nil
	}
	cells = make(map[string]string, len(row))
	for i, cell := range row {
		if !utf8.ValidString(cell) {
			return nil, line, "column " + t.columns[i] + " is not valid UTF-8: save the table as UTF-8", nil
		}
		cells[t.columns[i]] = textOf(strings.TrimSpace(cell))
	}
	return cells, line, "", nil
}

// entries of a list in a cell.
func entries(cell string) (list []string) {
	for e := range strings.SplitSeq(cell, ";") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

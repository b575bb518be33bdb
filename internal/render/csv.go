package render

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Bounds of a table of records.
const (
	maxColumns = 200
	maxRows    = 10_000
	maxTable   = 1 << 20 // bytes
	maxCell    = 32_000  // bytes; spreadsheets take no more
)

// RecordsCSV is a table of the records of events, a row each: when, what and
// where it happened, and then the fields of the record, or of the data where an
// event has no record. Fields that are no simple values are JSON. What does not
// fit is left out, and the last row says how many rows that were. The table is
// empty when no event has a field.
//
// A text that a spreadsheet would take for a formula begins with an apostrophe,
// so that nothing is computed or fetched when somebody opens the table.
func RecordsCSV(events []*belfry.Event) []byte {
	type row struct {
		event  *belfry.Event
		fields object
	}
	var rows []row
	var columns []string
	known := map[string]bool{}
	left := 0
	for _, e := range events {
		raw := e.Record
		fields, ok := plain(raw).(object)
		if !ok {
			raw = e.Data
			fields, _ = plain(raw).(object)
		}
		if len(fields) == 0 {
			continue
		}
		if len(rows) == maxRows {
			left++
			continue
		}
		for _, name := range keys(raw) {
			if !known[name] && len(columns) < maxColumns {
				known[name] = true
				columns = append(columns, name)
			}
		}
		rows = append(rows, row{e, fields})
	}
	if len(columns) == 0 {
		return nil
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	w.UseCRLF = true
	write := func(cells []string) { // a bytes.Buffer does not fail
		_ = w.Write(cells)
		w.Flush()
	}
	head := []string{"time", "type", "object"}
	for _, name := range columns {
		head = append(head, cell(name))
	}
	write(head)
	for i, r := range rows {
		cells := []string{r.event.Time.UTC().Format(time.RFC3339), cell(r.event.Type), cell(r.event.Object)}
		for _, name := range columns {
			cells = append(cells, cell(r.fields[name]))
		}
		before := out.Len()
		if write(cells); out.Len() > maxTable-100 { // room for the last row
			out.Truncate(before)
			left += len(rows) - i
			break
		}
	}
	if left > 0 {
		write([]string{"… " + strconv.Itoa(left) + " more"})
	}
	return out.Bytes()
}

// cell is a value as it stands in a table. Numbers are numbers, also negative
// ones; texts that begin as formulas do are made texts.
func cell(value any) string {
	text := ""
	switch v := value.(type) {
	case nil, null:
		return ""
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	case string:
		text = v
		if number(v) {
			return v // a number too long for an int64, or a fraction
		}
	case object, list:
		raw, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		text = string(raw)
	}
	text = clean(text)
	if len(text) > maxCell {
		text = strings.ToValidUTF8(text[:maxCell], "") + "…"
	}
	if Formula(text) {
		return "'" + text
	}
	return text
}

// Formula reports whether a spreadsheet would compute a text of a table, or
// fetch what it names.
func Formula(text string) bool {
	trimmed := strings.TrimLeft(text, " \t\n\u00a0")
	first, _ := utf8.DecodeRuneInString(trimmed)
	return trimmed != "" && strings.ContainsRune("=+-@|%\t\r＝＋－＠", first)
}

// number reports whether a text is a number as JSON writes it.
func number(text string) bool {
	if text == "" || len(text) > 40 {
		return false
	}
	var n json.Number
	return !slices.Contains([]byte("\"nt{["), text[0]) && json.Unmarshal([]byte(text), &n) == nil && n.String() == text
}

package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
)

// maxFaults bounds what one answer says of a body.
const maxFaults = 100

const timeText = "must be a time as in \"2026-05-09T09:31:16Z\" (RFC 3339)"

// decodeStrict reads raw, a JSON text, into v, a pointer. Errors: Malformed
// when it is not JSON or not UTF-8, with line and column; Invalid when members
// are unknown or values have the wrong type, with a pointer for each.
func decodeStrict(raw []byte, v any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return belfry.Errorf(belfry.Malformed, "the body is empty: send JSON")
	}
	if !utf8.Valid(raw) {
		return belfry.Errorf(belfry.Malformed, "malformed JSON: byte %d is not valid UTF-8: send UTF-8", invalidAt(raw))
	}
	var text json.RawMessage
	if err := json.Unmarshal(raw, &text); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line, column := position(raw, syntax.Offset)
			return belfry.Errorf(belfry.Malformed, "malformed JSON: line %d, column %d: %w", line, column, err)
		}
		return belfry.Errorf(belfry.Malformed, "malformed JSON: %w", err)
	}
	c := checker{members: map[reflect.Type]map[string]reflect.Type{}}
	// Members that are null are absent; a whole body that is would empty what it is put to.
	if t := reflect.TypeOf(v).Elem(); string(bytes.TrimSpace(raw)) == "null" && t != reflect.TypeFor[json.RawMessage]() {
		want := "an object"
		if t.Kind() == reflect.Slice {
			want = "an array"
		}
		return belfry.Faults([]belfry.Field{{Message: "must be " + want + ", not null"}})
	}
	if hasFilter[reflect.TypeOf(v).Elem()] {
		raw = c.filterAsCEL(raw)
		text = raw
	}
	c.check(text, reflect.TypeOf(v).Elem(), "")
	if err := belfry.Faults(c.faults); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return belfry.Errorf(belfry.Invalid, "the body does not fit: %w", err)
	}
	return nil
}

// hasFilter are the forms whose filter may be written in the dialects of
// CloudEvents.
var hasFilter = map[reflect.Type]bool{
	reflect.TypeFor[belfry.Subscription](): true,
	reflect.TypeFor[Stored]():              true,
	reflect.TypeFor[belfry.SavedFilter]():  true,
}

// shortForms are objects of which the first member alone may be given as text.
var shortForms = map[reflect.Type]bool{
	reflect.TypeFor[belfry.Frequency](): true,
}

// filterAsCEL writes the member filter as CEL when it is an object or array.
func (c *checker) filterAsCEL(raw []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return raw // no object: refused by check
	}
	filter := bytes.TrimSpace(members["filter"])
	if len(filter) == 0 || filter[0] != '{' && filter[0] != '[' {
		return raw
	}
	cel, err := manage.CloudEventsFilter(filter)
	if err != nil {
		var e *belfry.Error
		if errors.As(err, &e) {
			for _, f := range e.Fields {
				c.fault("/filter"+f.Pointer, "%s", f.Message)
			}
		}
		cel = "true" // what is wrong with it was said
	}
	members["filter"], _ = json.Marshal(cel)
	out, err := json.Marshal(members)
	if err != nil {
		return raw // every member is valid JSON, so this is out of reach
	}
	return out
}

func invalidAt(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// position turns the offset of a syntax error (just after the bad byte) into
// line and column, both from 1.
func position(raw []byte, offset int64) (line, column int) {
	before := raw[:max(0, min(offset-1, int64(len(raw))))]
	line = 1 + bytes.Count(before, []byte{'\n'})
	column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return line, column
}

// checker compares valid JSON with a Go type and keeps every fault.
type checker struct {
	faults  []belfry.Field
	members map[reflect.Type]map[string]reflect.Type
}

func (c *checker) fault(pointer, format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, belfry.Field{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) check(raw json.RawMessage, t reflect.Type, pointer string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	raw = bytes.TrimSpace(raw)
	if string(raw) == "null" || t == reflect.TypeFor[json.RawMessage]() || t.Kind() == reflect.Interface {
		return
	}
	if t == reflect.TypeFor[time.Time]() {
		var at time.Time
		if err := json.Unmarshal(raw, &at); err != nil {
			c.fault(pointer, timeText)
		}
		return
	}
	if shortForms[t] && raw[0] == '"' {
		c.scalar(raw, t, pointer, "text")
		return
	}
	p := reflect.New(t)
	_, custom := p.Interface().(json.Unmarshaler)
	// Decoders of the nouns only fill in defaults: their members are checked.
	noun := t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[belfry.Contact]().PkgPath()
	if _, text := p.Interface().(encoding.TextUnmarshaler); (custom || text) && !noun {
		if err := json.Unmarshal(raw, p.Interface()); err != nil {
			c.fault(pointer, "cannot be read: %v", err)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if raw[0] != '{' {
			c.fault(pointer, "must be an object, not %s", nameOf(raw))
			return
		}
		c.object(raw, pointer, func(name string, value json.RawMessage) {
			members := c.membersOf(t)
			mt, ok := members[name]
			if !ok {
				c.unknown(pointer+"/"+escapePointer(name), members, name)
				return
			}
			c.check(value, mt, pointer+"/"+escapePointer(name))
		})
	case reflect.Map:
		if raw[0] != '{' {
			c.fault(pointer, "must be an object, not %s", nameOf(raw))
			return
		}
		c.object(raw, pointer, func(name string, value json.RawMessage) {
			c.check(value, t.Elem(), pointer+"/"+escapePointer(name))
		})
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			c.scalar(raw, t, pointer, "base64 text")
			return
		}
		if raw[0] != '[' {
			c.fault(pointer, "must be an array, not %s", nameOf(raw))
			return
		}
		var items []json.RawMessage
		_ = json.Unmarshal(raw, &items) // raw is valid and an array
		for i, item := range items {
			c.check(item, t.Elem(), pointer+"/"+strconv.Itoa(i))
		}
	case reflect.String:
		c.scalar(raw, t, pointer, "text")
	case reflect.Bool:
		c.scalar(raw, t, pointer, "true or false")
	case reflect.Float32, reflect.Float64:
		c.scalar(raw, t, pointer, "a number")
	default:
		c.scalar(raw, t, pointer, "a whole number")
	}
}

func (c *checker) scalar(raw json.RawMessage, t reflect.Type, pointer, want string) {
	if json.Unmarshal(raw, reflect.New(t).Interface()) != nil {
		c.fault(pointer, "must be %s, not %s", want, nameOf(raw))
	}
}

// object calls member for each member in order. A name that comes twice is a
// fault: readers differ in which they believe.
func (c *checker) object(raw json.RawMessage, pointer string, member func(name string, value json.RawMessage)) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	_, _ = dec.Token() // the brace; raw is valid
	seen := map[string]bool{}
	for dec.More() {
		token, _ := dec.Token()
		name, _ := token.(string)
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return // raw is valid, so this is out of reach
		}
		if seen[name] {
			c.fault(pointer+"/"+escapePointer(name), "comes twice")
			continue
		}
		seen[name] = true
		member(name, value)
	}
}

func (c *checker) unknown(pointer string, members map[string]reflect.Type, name string) {
	if len(c.faults) >= maxFaults {
		return // looking for the near name is the dear part
	}
	known := make([]string, 0, len(members))
	for m := range members {
		known = append(known, m)
	}
	slices.Sort(known)
	if near := belfry.Nearest(name, known); near != "" {
		c.fault(pointer, "unknown field %q: did you mean %q?", clip(name, 64), near)
		return
	}
	c.fault(pointer, "unknown field %q: known here are %s", clip(name, 64), strings.Join(known, ", "))
}

// membersOf lists the JSON members of a struct and their types.
func (c *checker) membersOf(t reflect.Type) map[string]reflect.Type {
	if m, ok := c.members[t]; ok {
		return m
	}
	m := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		tag, tagged := f.Tag.Lookup("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case name == "-" || !f.IsExported() || f.Anonymous && !tagged:
			continue
		case name == "":
			name = f.Name
		}
		if _, shadowed := m[name]; !shadowed || len(f.Index) == 1 {
			m[name] = f.Type
		}
	}
	c.members[t] = m
	return m
}

func nameOf(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "text " + clip(string(raw), 40)
	case 't', 'f':
		return string(raw)
	}
	return "the number " + clip(string(raw), 40)
}

func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

package expr

import (
	"encoding/json"
	"iter"
	"math"
	"strconv"
	"strings"
)

// Value is a scalar of an equality, comparable with ==. Two Values are equal
// exactly when CEL's == says so of the values they were made of: all numbers
// are doubles, since those of JSON are, and no value equals one of another
// kind.
type Value struct {
	s string
	n float64
	k valueKind
}

type valueKind uint8

const (
	noValue valueKind = iota
	stringValue
	numberValue
	boolValue
)

// Text, Number and Bool make Values. Number(NaN) equals nothing.
func Text(s string) Value { return Value{k: stringValue, s: s} }

// Number makes a Value of a number.
func Number(n float64) Value {
	if n == 0 {
		n = 0 // -0 == 0
	}
	return Value{k: numberValue, n: n}
}

// Bool makes a Value of a truth.
func Bool(b bool) Value {
	if b {
		return Value{k: boolValue, n: 1}
	}
	return Value{k: boolValue}
}

// valueOf is the Value of a decoded JSON scalar; false for null, lists and
// maps, which no lifted equality can equal.
func valueOf(x any) (Value, bool) {
	switch x := x.(type) {
	case string:
		return Text(x), true
	case float64:
		return Number(x), !math.IsNaN(x)
	case bool:
		return Bool(x), true
	}
	return Value{}, false
}

// Str is the string of a string value, empty otherwise.
func (v Value) Str() string { return v.s }

// Any is the value as a string, a float64 or a bool.
func (v Value) Any() any {
	switch v.k {
	case stringValue:
		return v.s
	case numberValue:
		return v.n
	case boolValue:
		return v.n != 0
	}
	return nil
}

// Bits is the number or truth of a value of those kinds as bits, mixed with
// its kind: together with Str it makes a hash of the value.
func (v Value) Bits() uint64 {
	return math.Float64bits(v.n)<<2 ^ math.Float64bits(v.n)>>62 ^ uint64(v.k)
}

// Source writes the value as a CEL literal.
func (v Value) Source() string {
	switch v.k {
	case stringValue:
		return strconv.Quote(v.s)
	case numberValue:
		return strconv.FormatFloat(v.n, 'g', -1, 64)
	case boolValue:
		return strconv.FormatBool(v.n != 0)
	}
	return "null"
}

// MarshalJSON writes the scalar.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.k {
	case stringValue:
		return json.Marshal(v.s)
	case numberValue:
		return json.Marshal(v.n)
	case boolValue:
		return json.Marshal(v.n != 0)
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads the scalar.
func (v *Value) UnmarshalJSON(data []byte) error {
	var x any
	if err := json.Unmarshal(data, &x); err != nil {
		return err
	}
	*v, _ = valueOf(x)
	return nil
}

// Path names a scalar among the variables: its segments joined by NUL, which
// no lifted segment contains. The first is a variable; event.record.x is
// written record.x, so one value has one path.
type Path string

const pathSep = "\x00"

func makePath(segments []string) (Path, bool) {
	for _, s := range segments {
		if strings.Contains(s, pathSep) {
			return "", false
		}
	}
	if len(segments) >= 2 && segments[0] == varEvent && segments[1] == varRecord {
		segments = segments[1:]
	}
	return Path(strings.Join(segments, pathSep)), true
}

// Segments yields the path's parts in order.
func (p Path) Segments() iter.Seq[string] { return strings.SplitSeq(string(p), pathSep) }

// String is the path with dots, for people.
func (p Path) String() string { return strings.ReplaceAll(string(p), pathSep, ".") }

// Lookup is the scalar at a path of these variables; false when there is none.
func (v *Vars) Lookup(p Path) (Value, bool) {
	x, how := v.find(p)
	if how != there {
		return Value{}, false
	}
	return valueOf(x)
}

// found is how a path ends.
type found uint8

const (
	there   found = iota
	absent        // a map has no such key
	cut           // as absent, and the path goes on: has of it is an error to CEL
	strange       // there is no map to look into
)

// looked is what was found at a path.
type looked struct {
	path Path
	x    any
	how  found
}

// find is what is at a path. Many filters look at the same few paths of an
// event: those looked at last are remembered.
func (v *Vars) find(p Path) (any, found) {
	for i := range v.looks {
		if l := &v.looks[i]; l.path == p {
			return l.x, l.how
		}
	}
	x, how := v.seek(p)
	if len(v.looks) < cap(v.looks) {
		v.looks = append(v.looks, looked{p, x, how})
	}
	return x, how
}

func (v *Vars) seek(p Path) (any, found) {
	root, rest, _ := strings.Cut(string(p), pathSep)
	switch root {
	case varRecord:
		return walk(v.event.record.get(), rest)
	case varEvent:
		return seekField(eventFields, &v.event, rest)
	case varObject:
		return seekField(objectFields, &v.object, rest)
	case varContainer:
		return seekField(objectFields, &v.container, rest)
	case varActor:
		return seekField(userFields, &v.actor, rest)
	}
	return nil, strange
}

func seekField[T any](fields []field[T], target *T, path string) (any, found) {
	name, rest, _ := strings.Cut(path, pathSep)
	for i := range fields {
		if fields[i].name == name {
			return walk(fields[i].get(target), rest)
		}
	}
	return nil, strange
}

func walk(x any, path string) (any, found) {
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, pathSep)
		m, ok := x.(map[string]any)
		if !ok {
			return nil, strange
		}
		if x, ok = m[name]; !ok {
			if path != "" {
				return nil, cut
			}
			return nil, absent
		}
	}
	return x, there
}

// Scalars yields every scalar that a lifted path can name, each with its path
// folded by step from 0: step(step(0, "event"), "type") and so on. It is for
// indexes that hold more paths than an event has values.
func (v *Vars) Scalars(step func(uint64, string) uint64) iter.Seq2[uint64, Value] {
	return func(yield func(uint64, Value) bool) {
		s := scalars{step: step, yield: yield}
		_ = s.walk(step(0, varRecord), v.event.record.get()) &&
			scalarFields(&s, varEvent, eventFields, &v.event, varRecord) &&
			scalarFields(&s, varObject, objectFields, &v.object, "") &&
			scalarFields(&s, varContainer, objectFields, &v.container, "") &&
			scalarFields(&s, varActor, userFields, &v.actor, "")
	}
}

type scalars struct {
	step  func(uint64, string) uint64
	yield func(uint64, Value) bool
}

func (s *scalars) walk(h uint64, x any) bool {
	if m, ok := x.(map[string]any); ok {
		for k, x := range m {
			if !s.walk(s.step(h, k), x) {
				return false
			}
		}
		return true
	}
	if val, ok := valueOf(x); ok {
		return s.yield(h, val)
	}
	return true
}

func scalarFields[T any](s *scalars, root string, fields []field[T], target *T, but string) bool {
	h := s.step(0, root)
	for i := range fields {
		if fields[i].name == but {
			continue
		}
		if !s.walk(s.step(h, fields[i].name), fields[i].get(target)) {
			return false
		}
	}
	return true
}

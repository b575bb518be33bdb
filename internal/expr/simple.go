package expr

import (
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
)

// What stays of most filters when their equalities are lifted is small: a value
// of the event compared with literals, one such thing or another, not a third.
// A Test decides those without CEL, which takes a microsecond or more for each.
// It says what CEL says, or that it is not sure: values and errors, and how they
// go together under &&, || and !, are CEL's. TestTests and FuzzTest hold them
// together.

// Test is a filter, or a part of one, that is decided without CEL.
type Test struct {
	Op     Op
	Path   Path    // of what is compared
	Values []Value // that it is compared with: one, of In any number, of Has and Holds none
	Tests  []Test  // of All, Any and Not
}

// Op is what a Test does.
type Op uint8

// All, Any and Not join tests, the others look at a value of the event.
const (
	All Op = iota + 1
	Any
	Not
	Equal
	Unequal
	Less
	AtMost
	More
	AtLeast
	In
	StartsWith
	EndsWith
	Contains
	Has   // the value is there
	Holds // it is true
)

// Joins reports whether an operation joins tests.
func (o Op) Joins() bool { return o <= Not }

// Truth is what a test says of an event.
type Truth uint8

// False and True are CEL's. Fails is every error of CEL's, a missing key
// included. Unsure leaves the whole filter to CEL.
const (
	False Truth = iota
	True
	Fails
	Unsure
)

// Join is what All, Any and Not make of what two of their tests say, in any
// order; of Not the second is the only one.
func (o Op) Join(a, b Truth) Truth {
	decides := False
	switch o {
	case Not:
		if b <= True {
			return True - b
		}
		return b
	case Any:
		decides = True
	}
	switch {
	case a == Unsure || b == Unsure: // CEL may have ended there, at its limit
		return Unsure
	case a == decides || b == decides: // an error beside it is none
		return decides
	case a == Fails || b == Fails:
		return Fails
	}
	return True - decides
}

// Start is what an operation that joins begins with.
func (o Op) Start() Truth {
	if o == Any {
		return False
	}
	return True
}

// Eval is the test's truth of an event.
func (t *Test) Eval(v *Vars) Truth {
	if !t.Op.Joins() {
		if len(t.Values) == 0 {
			return v.Holds(t.Op, t.Path, Value{})
		}
		said := False
		for _, val := range t.Values {
			if said = v.Holds(t.Op, t.Path, val); said == True {
				break
			}
		}
		return said
	}
	said := t.Op.Start()
	for i := range t.Tests {
		said = t.Op.Join(said, t.Tests[i].Eval(v))
	}
	return said
}

// maxText is the longest text of an event that is compared here: CEL counts the
// work of a comparison by its length, and gives up at a limit.
const maxText = 1 << 10

// Holds is the truth of an operation on the value at a path, and of In of one
// member of the list.
func (v *Vars) Holds(op Op, p Path, want Value) Truth {
	x, how := v.find(p)
	switch {
	case how == strange:
		return Unsure
	case how == cut:
		return Fails
	case op == Has:
		return truth(how == there)
	case how == absent:
		return Fails
	case op == Holds:
		if b, ok := x.(bool); ok {
			return truth(b)
		}
		return Fails
	}
	val, scalar := valueOf(x)
	if len(val.s) > maxText {
		return Unsure
	}
	same := scalar && val.k == want.k
	switch op {
	case Equal, In:
		return truth(same && val == want)
	case Unequal:
		return truth(!same || val != want)
	}
	if !same {
		return Fails
	}
	switch op {
	case StartsWith:
		return truth(strings.HasPrefix(val.s, want.s))
	case EndsWith:
		return truth(strings.HasSuffix(val.s, want.s))
	case Contains:
		return truth(strings.Contains(val.s, want.s))
	case Less:
		return truth(val.less(want))
	case AtMost:
		return truth(!want.less(val))
	case More:
		return truth(want.less(val))
	case AtLeast:
		return truth(!val.less(want))
	}
	return Unsure
}

// less compares two values of one kind; numbers of JSON are never NaN.
func (v Value) less(w Value) bool {
	if v.k == stringValue {
		return v.s < w.s
	}
	return v.n < w.n
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Bounds of a filter that a Test is made of. All its work is far below the
// limit of CEL's.
const (
	maxTestSource = 1 << 10
	maxTests      = 16
	maxTestDepth  = 8
)

// exact is below which every integer is a double, and no other integer the same one.
const exact = 1 << 53

// TestOf reads a filter that is small. False = it is not, or may mean something
// else to CEL, or CEL may refuse it.
func TestOf(filter string) (Test, bool) {
	if len(filter) > maxTestSource || !utf8.ValidString(filter) {
		return Test{}, false
	}
	r := testReader{reader: reader{src: filter}}
	t, ok := r.joined(Any, 0)
	return t, ok && r.end()
}

type testReader struct {
	reader
	tests int
}

// joined reads tests joined by || (Any) or && (All), which binds more closely.
func (r *testReader) joined(op Op, depth int) (Test, bool) {
	sign, part := "||", func() (Test, bool) { return r.joined(All, depth) }
	if op == All {
		sign, part = "&&", func() (Test, bool) { return r.single(depth) }
	}
	first, ok := part()
	if !ok || !r.take(sign) {
		return first, ok
	}
	all := Test{Op: op, Tests: []Test{first}}
	for {
		next, ok := part()
		if !ok {
			return Test{}, false
		}
		if all.Tests = append(all.Tests, next); !r.take(sign) {
			return all, true
		}
	}
}

// single reads one test, or several in parentheses.
func (r *testReader) single(depth int) (Test, bool) {
	if r.tests++; r.tests > maxTests || depth > maxTestDepth {
		return Test{}, false
	}
	switch {
	case r.take("("):
		t, ok := r.joined(Any, depth+1)
		return t, ok && r.take(")")
	case r.take("!"):
		// It binds more closely than a comparison: what it stands before is none.
		bare := !r.next("(") && !r.next("!")
		t, ok := r.single(depth + 1)
		if !ok || bare && t.Op < StartsWith {
			return Test{}, false
		}
		return Test{Op: Not, Tests: []Test{t}}, true
	}
	return r.look()
}

func (r *testReader) next(token string) bool {
	r.space()
	return strings.HasPrefix(r.src[r.pos:], token)
}

// read is what was read, without space at its end.
func (r *testReader) read() string { return strings.TrimRight(r.src[:r.pos], " \t\r\n") }

// look reads a test of one value.
func (r *testReader) look() (Test, bool) {
	start := r.pos
	if val, ok := r.literal(); ok {
		op := r.comparison()
		segments, ok := r.path()
		if op == 0 || !ok {
			return Test{}, false
		}
		return tested(op.turned(), segments, val)
	}
	r.pos = start
	if r.word("has") && r.take("(") {
		segments, ok := r.path()
		if !ok || strings.HasSuffix(r.read(), "]") || !r.take(")") {
			return Test{}, false
		}
		if len(segments) < 3 && (len(segments) < 2 || segments[0] != varRecord) { // fields of variables may be there and not set
			return Test{}, false
		}
		return tested(Has, segments)
	}
	r.pos = start
	segments, ok := r.path()
	if !ok {
		return Test{}, false
	}
	if op := r.comparison(); op != 0 {
		val, ok := r.literal()
		if !ok {
			return Test{}, false
		}
		return tested(op, segments, val)
	}
	switch {
	case r.word("in"):
		vals, ok := r.list()
		if !ok || len(vals) > maxTests {
			return Test{}, false
		}
		return tested(In, segments, vals...)
	case !strings.HasSuffix(r.read(), "]") && r.take("("):
		last := len(segments) - 1
		op := methods[segments[last]]
		val, ok := r.text()
		if op == 0 || last == 0 || !ok || !r.take(")") {
			return Test{}, false
		}
		return tested(op, segments[:last], Text(val))
	}
	return tested(Holds, segments)
}

var methods = map[string]Op{"startsWith": StartsWith, "endsWith": EndsWith, "contains": Contains}

func (r *testReader) comparison() Op {
	switch {
	case r.take("=="):
		return Equal
	case r.take("!="):
		return Unequal
	case r.take("<="):
		return AtMost
	case r.take(">="):
		return AtLeast
	case r.take("<"):
		return Less
	case r.take(">"):
		return More
	}
	return 0
}

// turned is the comparison with its sides exchanged.
func (o Op) turned() Op {
	switch o {
	case Less:
		return More
	case AtMost:
		return AtLeast
	case More:
		return Less
	case AtLeast:
		return AtMost
	}
	return o
}

// tested makes a test if CEL's type checker would surely pass it.
func tested(op Op, segments []string, vals ...Value) (Test, bool) {
	t, ok := pathKind(segments)
	if !ok {
		return Test{}, false
	}
	kind := noValue // any: it is JSON's
	switch t {
	case types.StringType:
		kind = stringValue
		ok = op != Holds
	case types.BoolType:
		kind = boolValue
		ok = op == Equal || op == Unequal || op == In || op == Holds
	}
	ordered := op >= Less && op <= AtLeast
	for _, v := range vals {
		ok = ok && (kind == noValue || v.k == kind) && !(ordered && v.k == boolValue) && v.n < exact && v.n > -exact
	}
	path, plain := makePath(segments)
	return Test{Op: op, Path: path, Values: vals}, ok && plain
}

package expr

import (
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
)

// liftText lifts the common forms without parsing CEL: a conjunction is split
// at its && and each conjunct that reads as an equality is lifted; the others
// stay as they were written. It gives up (false) on everything it is not sure
// to read as CEL does, and on equalities it cannot read, so that what it lifts
// is what liftChecked lifts. FuzzLift compares the two.
func liftText(filter string) (Lifted, bool) {
	if len(filter) > MaxSource {
		return Lifted{}, false
	}
	l := Lifted{Version: LifterVersion}
	var rest []string
	if !splitText(filter, &l, &rest, 0) {
		return Lifted{}, false
	}
	if len(l.Equalities) == 0 {
		l.Residual = strings.TrimSpace(filter)
	} else {
		l.Residual = strings.Join(rest, " && ")
	}
	return l, true
}

// splitText takes one expression apart into l and rest, the conjuncts that
// stay. False = cannot tell.
func splitText(src string, l *Lifted, rest *[]string, depth int) bool {
	src = strings.TrimSpace(src)
	if src == "" || depth > maxDepth/2 {
		return false
	}
	parts, shape, ok := scan(src)
	if !ok {
		return false
	}
	if shape == shapeOther { // || or ?: at the top
		*rest = append(*rest, "("+src+")")
		return true
	}
	if len(parts) > 1 {
		for _, p := range parts {
			if !splitText(p, l, rest, depth+1) {
				return false
			}
		}
		return true
	}
	if shape == shapeParenthesised {
		return splitText(src[1:len(src)-1], l, rest, depth+1)
	}
	eq, res := readEquality(src)
	switch res {
	case readYes:
		l.Equalities = append(l.Equalities, eq)
	case readNo:
		*rest = append(*rest, src)
	case readUnsure:
		return false
	}
	return true
}

type shape int

const (
	shapeConjunction   shape = iota // parts joined by &&, or one part
	shapeOther                      // has || or ? at the top
	shapeParenthesised              // one pair of parentheses around all of it
)

// scan splits src at the && that stand outside of brackets and text. False =
// something it does not know: comments, prefixed or triple quotes, unbalanced
// brackets, characters beyond ASCII outside of text.
func scan(src string) (parts []string, s shape, ok bool) {
	var open [maxDepth]byte
	depth, start := 0, 0
	whole := src[0] == '(' // until the first parenthesis closes early
	for i := 0; i < len(src); i++ {
		switch c := src[i]; c {
		case '\'', '"':
			if i > 0 && isIdent(src[i-1]) { // r'' or b''
				return nil, 0, false
			}
			end := quoted(src, i)
			if end < 0 {
				return nil, 0, false
			}
			i = end - 1
		case '(', '[', '{':
			if depth == len(open) {
				return nil, 0, false
			}
			open[depth] = c
			depth++
		case ')', ']', '}':
			if depth == 0 || open[depth-1] != opener(c) {
				return nil, 0, false
			}
			depth--
			if depth == 0 && i < len(src)-1 {
				whole = false
			}
		case '&':
			if i+1 >= len(src) || src[i+1] != '&' {
				return nil, 0, false
			}
			if depth == 0 {
				parts = append(parts, src[start:i])
				start = i + 2
			}
			i++
		case '|':
			if i+1 >= len(src) || src[i+1] != '|' {
				return nil, 0, false
			}
			if depth == 0 {
				s = shapeOther
			}
			i++
		case '?':
			if depth == 0 {
				s = shapeOther
			}
		case '/':
			if i+1 < len(src) && src[i+1] == '/' {
				return nil, 0, false
			}
		default:
			if c >= 0x80 || c < ' ' && c != '\t' && c != '\n' && c != '\r' {
				return nil, 0, false
			}
		}
	}
	if depth != 0 {
		return nil, 0, false
	}
	if s == shapeConjunction && whole {
		s = shapeParenthesised
	}
	return append(parts, src[start:]), s, true
}

func opener(c byte) byte {
	switch c {
	case ')':
		return '('
	case ']':
		return '['
	}
	return '{'
}

func isIdent(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

type reading int

const (
	readNo     reading = iota // not an equality that could be lifted
	readYes                   // it is this equality
	readUnsure                // it may be one: let CEL read it
)

// readEquality reads one conjunct.
func readEquality(src string) (Equality, reading) {
	r := reader{src: src}
	start := r.pos
	if segments, ok := r.path(); ok {
		switch {
		case r.take("=="):
			if val, ok := r.literal(); ok && r.end() {
				return typed(segments, val)
			}
			if r.other() {
				return Equality{}, readNo
			}
		case r.word("in"):
			if vals, ok := r.list(); ok && r.end() {
				return typed(segments, vals...)
			}
			if r.other() {
				return Equality{}, readNo
			}
		}
	}
	r.pos = start
	if val, ok := r.literal(); ok {
		switch {
		case r.take("=="):
			if segments, ok := r.path(); ok && r.end() {
				return typed(segments, val)
			}
		case r.word("in"):
			if r.other() { // 'x' in event.data.tags
				return Equality{}, readNo
			}
		}
	}
	r.pos = start
	if r.word("null") && r.take("==") && r.other() {
		return Equality{}, readNo
	}
	if r.mayBeEquality() {
		return Equality{}, readUnsure
	}
	return Equality{}, readNo
}

// other reports whether all that is left is a path or null: no literal that an
// equality could be lifted for.
func (r *reader) other() bool {
	start := r.pos
	if r.word("null") && r.end() {
		return true
	}
	r.pos = start
	if _, ok := r.path(); ok && r.end() {
		return true
	}
	r.pos = start
	return false
}

// typed makes the equality if CEL's type checker would surely pass it.
func typed(segments []string, vals ...Value) (Equality, reading) {
	t, ok := pathKind(segments)
	if !ok {
		return Equality{}, readUnsure
	}
	for _, v := range vals {
		if t == types.StringType && v.k != stringValue || t == types.BoolType && v.k != boolValue {
			return Equality{}, readUnsure
		}
	}
	path, ok := makePath(segments)
	if !ok || len(vals) == 0 {
		return Equality{}, readUnsure
	}
	return Equality{Path: path, Values: unique(vals)}, readYes
}

// reader reads tokens of a conjunct that scan has passed: quotes are plain and
// balanced.
type reader struct {
	src string
	pos int
}

func (r *reader) space() {
	for r.pos < len(r.src) && strings.IndexByte(" \t\r\n", r.src[r.pos]) >= 0 {
		r.pos++
	}
}

func (r *reader) end() bool {
	r.space()
	return r.pos == len(r.src)
}

func (r *reader) take(token string) bool {
	r.space()
	if strings.HasPrefix(r.src[r.pos:], token) {
		r.pos += len(token)
		return true
	}
	return false
}

// ident reads an identifier that is not a reserved word.
func (r *reader) ident() (string, bool) {
	r.space()
	i := r.pos
	for i < len(r.src) && isIdent(r.src[i]) {
		i++
	}
	name := r.src[r.pos:i]
	if name == "" || name[0] >= '0' && name[0] <= '9' || slices.Contains(reserved, name) {
		return "", false
	}
	r.pos = i
	return name, true
}

// word reads exactly this keyword.
func (r *reader) word(w string) bool {
	r.space()
	rest := r.src[r.pos:]
	if strings.HasPrefix(rest, w) && (len(rest) == len(w) || !isIdent(rest[len(w)])) {
		r.pos += len(w)
		return true
	}
	return false
}

var reserved = []string{
	"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in",
	"let", "loop", "package", "namespace", "null", "return", "true", "var", "void", "while",
}

// path reads variable.field["field"]…; brackets only where JSON may be.
func (r *reader) path() ([]string, bool) {
	name, ok := r.ident()
	if !ok {
		return nil, false
	}
	segments := append(make([]string, 0, 4), name)
	for {
		switch {
		case r.take("."):
			name, ok := r.ident()
			if !ok {
				return nil, false
			}
			segments = append(segments, name)
		case r.take("["):
			key, ok := r.text()
			if !ok || !r.take("]") || segments[0] != varRecord && len(segments) < 2 {
				return nil, false
			}
			segments = append(segments, key)
		default:
			return segments, true
		}
	}
}

func (r *reader) text() (string, bool) {
	r.space()
	if r.pos >= len(r.src) || r.src[r.pos] != '\'' && r.src[r.pos] != '"' {
		return "", false
	}
	end := quoted(r.src, r.pos)
	if end < 0 {
		return "", false
	}
	s := r.src[r.pos+1 : end-1]
	if strings.IndexByte(s, '\\') >= 0 { // escapes are CEL's to read
		return "", false
	}
	r.pos = end
	return s, true
}

func (r *reader) literal() (Value, bool) {
	if s, ok := r.text(); ok {
		return Text(s), true
	}
	if r.word("true") {
		return Bool(true), true
	}
	if r.word("false") {
		return Bool(false), true
	}
	return r.number()
}

// number reads -? digits, or -? digits . digits; other forms are CEL's to read.
func (r *reader) number() (Value, bool) {
	r.space()
	i := r.pos
	if i < len(r.src) && r.src[i] == '-' {
		i++
	}
	digits := func() bool {
		from := i
		for i < len(r.src) && r.src[i] >= '0' && r.src[i] <= '9' {
			i++
		}
		return i > from
	}
	if !digits() {
		return Value{}, false
	}
	isInt := true
	if i < len(r.src) && r.src[i] == '.' {
		i++
		isInt = false
		if !digits() {
			return Value{}, false
		}
	}
	if i < len(r.src) && (isIdent(r.src[i]) || r.src[i] == '.') { // 5u, 0x5, 1e3
		return Value{}, false
	}
	text := r.src[r.pos:i]
	var n float64
	if isInt {
		x, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Value{}, false
		}
		n = float64(x)
	} else {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return Value{}, false
		}
		n = x
	}
	r.pos = i
	return Number(n), true
}

func (r *reader) list() ([]Value, bool) {
	if !r.take("[") {
		return nil, false
	}
	var vals []Value
	for {
		val, ok := r.literal()
		if !ok {
			return nil, false
		}
		vals = append(vals, val)
		if r.take("]") {
			return vals, true
		}
		if !r.take(",") {
			return nil, false
		}
		if r.take("]") { // a trailing comma
			return vals, true
		}
	}
}

// mayBeEquality reports whether an == or in stands outside of brackets and
// text, and no call does: one side of a comparison with a call is neither a
// path nor a literal.
func (r *reader) mayBeEquality() bool {
	depth, found := 0, false
	for i := 0; i < len(r.src); i++ {
		switch c := r.src[i]; {
		case c == '\'' || c == '"':
			i = quoted(r.src, i) - 1
		case strings.IndexByte("([{", c) >= 0:
			if depth == 0 && c == '(' && called(r.src[:i]) {
				return false
			}
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case depth == 0 && c == '=' && i+1 < len(r.src) && r.src[i+1] == '=':
			found = true
		case depth == 0 && c == 'i' && strings.HasPrefix(r.src[i:], "in") &&
			(i == 0 || !isIdent(r.src[i-1])) && (i+2 == len(r.src) || !isIdent(r.src[i+2])):
			found = true
		}
	}
	return found
}

// called reports whether the parenthesis after src makes a call.
func called(src string) bool {
	src = strings.TrimRight(src, " \t\r\n")
	from := len(src)
	for from > 0 && isIdent(src[from-1]) {
		from--
	}
	return from < len(src) && src[from:] != "in"
}

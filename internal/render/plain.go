package render

import (
	"slices"
	"strconv"
	"unicode/utf8"
)

// plainReader reads the JSON that most events hold straight into what plain
// makes of it: a digest reads the data of each of its items. It gives up on
// escapes, on uncommon numbers and on whatever it does not take for JSON, and
// leaves them to the library. TestPlain holds both together.
type plainReader struct {
	src  []byte
	pos  int
	only []string // the members of the outermost object that are read; nil = all
}

// maxPlainDepth is how deeply nested it reads.
const maxPlainDepth = 32

func (r *plainReader) next() byte {
	for ; r.pos < len(r.src); r.pos++ {
		if c := r.src[r.pos]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
	}
	return 0
}

func (r *plainReader) end() bool { return r.next() == 0 && r.pos == len(r.src) }

func (r *plainReader) take(c byte) bool {
	if r.next() != c {
		return false
	}
	r.pos++
	return true
}

func (r *plainReader) word(w string) bool {
	if len(r.src)-r.pos < len(w) || string(r.src[r.pos:r.pos+len(w)]) != w {
		return false
	}
	r.pos += len(w)
	return true
}

func (r *plainReader) value(depth int) (any, bool) {
	if depth > maxPlainDepth {
		return nil, false
	}
	switch c := r.next(); c {
	case '{':
		return r.object(depth)
	case '[':
		return r.list(depth)
	case '"':
		return r.text()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return null{}, r.word("null")
	}
	return r.number()
}

func (r *plainReader) object(depth int) (any, bool) {
	r.pos++
	o := object{}
	if r.take('}') {
		return o, true
	}
	for {
		if r.next() != '"' {
			return nil, false
		}
		key, ok := r.text()
		if !ok || !r.take(':') {
			return nil, false
		}
		if depth == 0 && r.only != nil && !slices.Contains(r.only, key) {
			ok = r.skip()
		} else {
			o[key], ok = r.value(depth + 1)
		}
		if !ok {
			return nil, false
		}
		if r.take('}') {
			return o, true
		}
		if !r.take(',') {
			return nil, false
		}
	}
}

// skip passes over a value of valid JSON.
func (r *plainReader) skip() bool {
	open := 0
	for r.next(); r.pos < len(r.src); r.pos++ {
		switch r.src[r.pos] {
		case '{', '[':
			open++
		case '}', ']':
			if open == 0 {
				return true
			}
			open--
		case ',':
			if open == 0 {
				return true
			}
		case '"':
			for r.pos++; r.pos < len(r.src) && r.src[r.pos] != '"'; r.pos++ {
				if r.src[r.pos] == '\\' {
					r.pos++
				}
			}
		}
	}
	return false
}

// names are those of the members of an object, in its order, each once and no
// more than maxTags.
func (r *plainReader) names() (names []string, ok bool) {
	if !r.take('{') {
		return nil, false
	}
	if r.take('}') {
		return nil, r.end()
	}
	for {
		if r.next() != '"' {
			return nil, false
		}
		name, ok := r.text()
		if !ok || !r.take(':') {
			return nil, false
		}
		if _, ok = r.value(1); !ok {
			return nil, false
		}
		if len(names) < maxTags && !slices.Contains(names, name) {
			names = append(names, name)
		}
		if r.take('}') {
			return names, r.end()
		}
		if !r.take(',') {
			return nil, false
		}
	}
}

func (r *plainReader) list(depth int) (any, bool) {
	r.pos++
	l := list{}
	if r.take(']') {
		return l, true
	}
	for {
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		l = append(l, v)
		if r.take(']') {
			return l, true
		}
		if !r.take(',') {
			return nil, false
		}
	}
}

// text reads a string without escapes.
func (r *plainReader) text() (string, bool) {
	r.pos++
	ascii := true
	for i := r.pos; i < len(r.src); i++ {
		switch c := r.src[i]; {
		case c == '"':
			s := string(r.src[r.pos:i])
			r.pos = i + 1
			return s, ascii || utf8.ValidString(s)
		case c == '\\' || c < ' ':
			return "", false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", false
}

// number reads an integer, or one with a fraction, which stays text.
func (r *plainReader) number() (any, bool) {
	from := r.pos
	if r.pos < len(r.src) && r.src[r.pos] == '-' {
		r.pos++
	}
	digits := func() int {
		n := 0
		for ; r.pos < len(r.src) && r.src[r.pos] >= '0' && r.src[r.pos] <= '9'; r.pos++ {
			n++
		}
		return n
	}
	first := r.pos
	n := digits()
	if n == 0 || n > 1 && r.src[first] == '0' {
		return nil, false
	}
	whole := true
	if r.pos < len(r.src) && r.src[r.pos] == '.' {
		r.pos++
		if whole = false; digits() == 0 {
			return nil, false
		}
	}
	if r.pos < len(r.src) && (r.src[r.pos] == 'e' || r.src[r.pos] == 'E') {
		return nil, false
	}
	text := string(r.src[from:r.pos])
	if whole {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i, true
		}
	}
	return text, true
}

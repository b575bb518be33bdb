package ingest

import (
	"bytes"
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// scanner walks JSON text (RFC 8259) once, checking it as it goes, without
// making values: an event is read at about the speed of a validity check. The
// text must be valid UTF-8 (the caller checks all of it at once).
type scanner struct {
	src    []byte
	at     int
	depth  int // still allowed below here
	spaces int // insignificant bytes seen, to know whether a value is compact already
}

// plain marks the bytes that stand for themselves within a string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return
}()

func (s *scanner) fault(want string) error {
	line := 1 + bytes.Count(s.src[:min(s.at, len(s.src))], []byte{'\n'})
	if s.at >= len(s.src) {
		return belfry.Errorf(belfry.Malformed, "malformed JSON: it ends (line %d, byte %d) where %s should be", line, s.at, want)
	}
	r, _ := utf8.DecodeRune(s.src[s.at:])
	return belfry.Errorf(belfry.Malformed, "malformed JSON: %q where %s should be, line %d, byte %d", r, want, line, s.at)
}

// peek skips spaces and is the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.at < len(s.src) {
		switch c := s.src[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
			s.spaces++
		default:
			return c
		}
	}
	return 0
}

// end checks that nothing follows.
func (s *scanner) end() error {
	if s.peek(); s.at < len(s.src) {
		return s.fault("the end")
	}
	return nil
}

// open enters an object or array.
func (s *scanner) open(bracket byte, what string) error {
	if s.peek() != bracket {
		return s.fault(what)
	}
	if s.depth--; s.depth < 0 {
		return belfry.Errorf(belfry.Invalid, "nested too deeply at byte %d: flatten the document", s.at)
	}
	s.at++
	return nil
}

// more reports whether another member or element follows, else leaves the
// object or array; first says that none was read yet.
func (s *scanner) more(bracket byte, first bool) (bool, error) {
	c := s.peek()
	if c == bracket {
		s.at++
		s.depth++
		return false, nil
	}
	if first {
		return true, nil
	}
	if c != ',' {
		if bracket == '}' {
			return false, s.fault("',' or '}'")
		}
		return false, s.fault("',' or ']'")
	}
	s.at++
	return true, nil
}

// name reads a member's name and the colon after it.
func (s *scanner) name() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.fault("a member's name in quotes")
	}
	raw, escaped, err := s.str()
	if err != nil {
		return nil, err
	}
	if escaped {
		raw, _ = unescape(raw)
	}
	if s.peek() != ':' {
		return nil, s.fault("':'")
	}
	s.at++
	return raw, nil
}

// str reads a string that begins here and gives what stands between its quotes.
func (s *scanner) str() (raw []byte, escaped bool, err error) {
	start := s.at + 1
	text := s.src
	i := start
	for {
		for i < len(text) && plain[text[i]] {
			i++
		}
		if i >= len(text) {
			s.at = i
			return nil, false, s.fault("the closing quote of a string")
		}
		switch text[i] {
		case '"':
			s.at = i + 1
			return text[start:i], escaped, nil
		case '\\':
			escaped = true
			n := 2
			if i+1 >= len(text) {
				s.at = i + 1
				return nil, false, s.fault("an escape")
			}
			switch text[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				n = 6
				for k := i + 2; k < i+6; k++ {
					if k >= len(text) || !isHex(text[k]) {
						s.at = k
						return nil, false, s.fault("a hexadecimal digit")
					}
				}
			default:
				s.at = i + 1
				return nil, false, s.fault("an escape JSON knows")
			}
			i += n
		default:
			s.at = i
			return nil, false, s.fault("no control character")
		}
	}
}

// value passes over any value and gives its text.
func (s *scanner) value() ([]byte, error) {
	c := s.peek()
	start := s.at
	var err error
	switch c {
	case '"':
		_, _, err = s.str()
	case '{':
		err = s.object()
	case '[':
		err = s.array()
	case 't':
		err = s.word("true")
	case 'f':
		err = s.word("false")
	case 'n':
		err = s.word("null")
	default:
		err = s.number()
	}
	return s.src[start:s.at], err
}

func (s *scanner) object() error {
	if err := s.open('{', "an object"); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.more('}', first)
		if !more || err != nil {
			return err
		}
		if s.peek() != '"' {
			return s.fault("a member's name in quotes")
		}
		if _, _, err = s.str(); err != nil {
			return err
		}
		if s.peek() != ':' {
			return s.fault("':'")
		}
		s.at++
		if _, err = s.value(); err != nil {
			return err
		}
	}
}

func (s *scanner) array() error {
	if err := s.open('[', "an array"); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.more(']', first)
		if !more || err != nil {
			return err
		}
		if _, err = s.value(); err != nil {
			return err
		}
	}
}

func (s *scanner) word(w string) error {
	if len(s.src)-s.at < len(w) || string(s.src[s.at:s.at+len(w)]) != w {
		return s.fault("a value")
	}
	s.at += len(w)
	return nil
}

func (s *scanner) number() error {
	start := s.at
	if s.byteIs('-') {
		s.at++
	}
	switch {
	case s.byteIs('0'):
		s.at++
	case s.digits() > 0:
	case s.at == start:
		return s.fault("a value")
	default:
		return s.fault("a digit")
	}
	if s.byteIs('.') {
		s.at++
		if s.digits() == 0 {
			return s.fault("a digit")
		}
	}
	if s.byteIs('e') || s.byteIs('E') {
		s.at++
		if s.byteIs('+') || s.byteIs('-') {
			s.at++
		}
		if s.digits() == 0 {
			return s.fault("a digit")
		}
	}
	return nil
}

func (s *scanner) byteIs(c byte) bool { return s.at < len(s.src) && s.src[s.at] == c }

func (s *scanner) digits() int {
	start := s.at
	for s.at < len(s.src) && '0' <= s.src[s.at] && s.src[s.at] <= '9' {
		s.at++
	}
	return s.at - start
}

// compact gives a value without insignificant spaces: its own text when there
// are none, else a copy.
func (s *scanner) compact() (json.RawMessage, error) {
	s.peek()
	before := s.spaces
	raw, err := s.value()
	if err != nil || s.spaces == before {
		return raw, err
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, belfry.Errorf(belfry.Malformed, "malformed JSON: %w", err)
	}
	return out.Bytes(), nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// unescape resolves the escapes of a string already checked by str. It is
// false when the string names half of a surrogate pair, which no UTF-8 can
// hold; that half becomes U+FFFD.
func unescape(raw []byte) ([]byte, bool) {
	out := make([]byte, 0, len(raw))
	whole := true
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			i++
			continue
		}
		switch c := raw[i+1]; c {
		case 'u':
			r := hex4(raw[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if i+6 <= len(raw) && raw[i] == '\\' && raw[i+1] == 'u' {
					pair = utf16.DecodeRune(r, hex4(raw[i+2:]))
				}
				if pair == utf8.RuneError {
					whole = false
				} else {
					i += 6
				}
				r = pair
			}
			out = utf8.AppendRune(out, r)
			continue
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		default:
			out = append(out, c)
		}
		i += 2
	}
	return out, whole
}

func hex4(b []byte) (r rune) {
	for _, c := range b[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		case c >= 'a':
			r |= rune(c-'a') + 10
		default:
			r |= rune(c-'A') + 10
		}
	}
	return r
}

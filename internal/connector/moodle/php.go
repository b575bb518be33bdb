package moodle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of what is read from the column other. Moodle writes a few hundred
// bytes; the longest are texts of posts.
const (
	maxOther      = 1 << 20
	maxOtherDepth = 32
	maxOtherItems = 20_000
)

var errPHP = errors.New("not PHP-serialized data")

// decodeOther reads the column other, whichever of Moodle's two encodings it
// has, and gives compact JSON. The rule is Moodle's own: exactly "N;", or a
// colon as the second byte, is PHP; all else is JSON; nothing is null.
func decodeOther(s string) (json.RawMessage, error) {
	if s == "" {
		return json.RawMessage("null"), nil
	}
	if len(s) > maxOther {
		return nil, fmt.Errorf("other is longer than %d bytes", maxOther)
	}
	if s == "N;" || len(s) > 1 && s[1] == ':' {
		return phpToJSON(s)
	}
	if err := shallow(s); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(s)); err != nil {
		return nil, fmt.Errorf("other is not JSON: %w", err)
	}
	return b.Bytes(), nil
}

// shallow refuses JSON that is nested deeper than maxOtherDepth.
func shallow(s string) error {
	depth, inString := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxOtherDepth {
				return fmt.Errorf("other is nested deeper than %d", maxOtherDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// phpToJSON makes compact JSON of what PHP's serialize wrote. Lengths of
// strings count bytes. An array whose keys are 0..n-1 in order is a list,
// anything else an object. Objects and references are refused: Moodle does not
// write them, and whoever does means harm. As in Moodle, a lone false is an
// empty array.
func phpToJSON(s string) (json.RawMessage, error) {
	if s == "b:0;" {
		return json.RawMessage("[]"), nil
	}
	p := phpReader{s: s}
	out, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.at != len(s) {
		return nil, fmt.Errorf("%w: %d bytes follow the value", errPHP, len(s)-p.at)
	}
	return out, nil
}

type phpReader struct {
	s     string
	at    int
	items int
}

func (p *phpReader) fail(what string) error {
	return fmt.Errorf("%w: %s at byte %d", errPHP, what, p.at)
}

// until gives what stands before the next end and moves behind it.
func (p *phpReader) until(end byte) (string, error) {
	i := strings.IndexByte(p.s[p.at:], end)
	if i < 0 {
		return "", p.fail("missing " + strconv.QuoteRune(rune(end)))
	}
	v := p.s[p.at : p.at+i]
	p.at += i + 1
	return v, nil
}

func (p *phpReader) expect(token string) error {
	if !strings.HasPrefix(p.s[p.at:], token) {
		return p.fail("missing " + strconv.Quote(token))
	}
	p.at += len(token)
	return nil
}

func (p *phpReader) value(depth int) (json.RawMessage, error) {
	if depth > maxOtherDepth {
		return nil, p.fail("nested too deeply")
	}
	if p.items++; p.items > maxOtherItems {
		return nil, p.fail("too many values")
	}
	if p.at >= len(p.s) {
		return nil, p.fail("the end")
	}
	kind := p.s[p.at]
	p.at++
	if kind == 'N' {
		return json.RawMessage("null"), p.expect(";")
	}
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	switch kind {
	case 'b':
		v, err := p.until(';')
		switch {
		case err != nil:
			return nil, err
		case v == "0":
			return json.RawMessage("false"), nil
		case v == "1":
			return json.RawMessage("true"), nil
		}
		return nil, p.fail("a bool that is neither 0 nor 1")
	case 'i':
		v, err := p.until(';')
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, p.fail("not a whole number")
		}
		return strconv.AppendInt(nil, n, 10), nil
	case 'd':
		v, err := p.until(';')
		if err != nil {
			return nil, err
		}
		return p.float(v)
	case 's':
		v, err := p.text()
		if err != nil {
			return nil, err
		}
		if err := p.expect(";"); err != nil {
			return nil, err
		}
		return jsonText(v), nil
	case 'a':
		return p.array(depth)
	case 'O', 'C', 'E', 'r', 'R':
		return nil, p.fail("an object or a reference, which is refused,")
	}
	return nil, p.fail("an unknown kind of value")
}

// float: JSON has no infinities and no NaN; PHP's json_encode refuses them,
// here they are null.
func (p *phpReader) float(v string) (json.RawMessage, error) {
	switch v {
	case "INF", "-INF", "NAN":
		return json.RawMessage("null"), nil
	}
	if strings.ContainsAny(v, "xXpP_nN") { // Go's own forms
		return nil, p.fail("not a number")
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, p.fail("not a number")
	}
	return json.Marshal(f)
}

// text reads LEN:"bytes".
func (p *phpReader) text() (string, error) {
	size, err := p.until(':')
	if err != nil {
		return "", err
	}
	n, err := strconv.ParseUint(size, 10, 31)
	if err != nil {
		return "", p.fail("not a length")
	}
	if err := p.expect(`"`); err != nil {
		return "", err
	}
	if int(n) > len(p.s)-p.at {
		return "", p.fail("a text longer than what is there")
	}
	v := p.s[p.at : p.at+int(n)]
	p.at += int(n)
	return v, p.expect(`"`)
}

func (p *phpReader) array(depth int) (json.RawMessage, error) {
	size, err := p.until(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(size, 10, 31)
	if err != nil || n > maxOtherItems {
		return nil, p.fail("not a size")
	}
	if err := p.expect("{"); err != nil {
		return nil, err
	}
	type entry struct {
		key   string
		value json.RawMessage
	}
	// Every entry takes bytes, so n cannot make this larger than the input.
	entries := make([]entry, 0, min(int(n), (len(p.s)-p.at)/4+1))
	at := make(map[string]int, cap(entries))
	list := true
	for i := range int(n) {
		key, whole, err := p.key()
		if err != nil {
			return nil, err
		}
		list = list && whole && key == strconv.Itoa(i)
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if j, seen := at[key]; seen { // as in PHP, the last one counts
			entries[j].value = v
			list = false
			continue
		}
		at[key] = len(entries)
		entries = append(entries, entry{key, v})
	}
	if err := p.expect("}"); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if list {
		b.WriteByte('[')
	} else {
		b.WriteByte('{')
	}
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		if !list {
			b.Write(jsonText(e.key))
			b.WriteByte(':')
		}
		b.Write(e.value)
	}
	if list {
		b.WriteByte(']')
	} else {
		b.WriteByte('}')
	}
	return b.Bytes(), nil
}

// key reads a key of an array; whole says that it is a number.
func (p *phpReader) key() (key string, whole bool, err error) {
	if p.at+2 > len(p.s) || p.s[p.at+1] != ':' {
		return "", false, p.fail("not a key")
	}
	kind := p.s[p.at]
	p.at += 2
	switch kind {
	case 'i':
		v, err := p.until(';')
		if err != nil {
			return "", false, err
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return "", false, p.fail("not a whole number")
		}
		return strconv.FormatInt(n, 10), true, nil
	case 's':
		v, err := p.text()
		if err != nil {
			return "", false, err
		}
		return v, false, p.expect(";")
	}
	return "", false, p.fail("not a key")
}

// jsonText is s as a JSON string without HTML escapes; bytes that are not
// UTF-8 become the replacement character.
func jsonText(s string) json.RawMessage {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string never fails
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

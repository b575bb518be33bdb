package expr

import (
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Filters of many subscriptions often differ only in what they compare with.
// Their literals are taken out as parameters, so that all of one shape are one
// program: event.data.grade > 4.5 is compiled as event.data.grade > _f0.
//
// A literal is taken out only where its value cannot matter to the compiler:
// beside a comparison, and as the argument of startsWith, endsWith and
// contains. Patterns, durations, times and the lists of in stay.

// maxParams is how many parameters of one type a program may have; further
// literals stay where they are.
const maxParams = 8

// Parameters are named by type and number. No filter can use the names: the
// environment of filters does not know them.
const (
	textParam   = "_s"
	intParam    = "_i"
	doubleParam = "_f"
)

// shaped is the environment with parameters.
var shaped = extended("shapes", environment, paramVars()...)

func paramVars() (vars []cel.EnvOption) {
	for i := range maxParams {
		n := strconv.Itoa(i)
		vars = append(vars, cel.Variable(textParam+n, types.StringType), cel.Variable(intParam+n, types.IntType), cel.Variable(doubleParam+n, types.DoubleType))
	}
	return vars
}

// params are the values of a program's parameters, by type and number.
type params struct {
	texts   []types.String
	ints    []types.Int
	doubles []types.Double
}

// resolve is the value of a parameter.
func (p *params) resolve(name string) (ref.Val, bool) {
	if len(name) != len(textParam)+1 || name[0] != '_' {
		return nil, false
	}
	i := int(name[2] - '0')
	switch {
	case i < 0:
	case name[1] == textParam[1] && i < len(p.texts):
		return p.texts[i], true
	case name[1] == intParam[1] && i < len(p.ints):
		return p.ints[i], true
	case name[1] == doubleParam[1] && i < len(p.doubles):
		return p.doubles[i], true
	}
	return nil, false
}

// shape appends a filter's text with parameters for its literals to buf, and
// puts their values into p. False = the text has something it does not read as
// CEL does, or nothing to take out.
func (p *params) shape(filter string, buf []byte) ([]byte, bool) {
	p.texts, p.ints, p.doubles = p.texts[:0], p.ints[:0], p.doubles[:0]
	from := 0 // what is not yet in buf
	take := false
	word := "" // the last token, if it is one
	for i := 0; i < len(filter); {
		c := filter[i]
		last := word
		word = ""
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			word = last
			i++
			continue
		case c == '\'' || c == '"':
			end := quoted(filter, i)
			if end < 0 || i > 0 && isIdent(filter[i-1]) { // r'' or b''
				return buf, false
			}
			if text := filter[i+1 : end-1]; (take || compared(filter[end:])) && len(p.texts) < maxParams && strings.IndexByte(text, '\\') < 0 {
				buf = append(buf, filter[from:i]...)
				buf = append(buf, textParam...)
				buf = append(buf, '0'+byte(len(p.texts)))
				p.texts = append(p.texts, types.String(text))
				from = end
			}
			i = end
		case c >= '0' && c <= '9':
			end, isInt := number(filter, i)
			if i > 0 && filter[i-1] == '.' { // .5
				isInt = -1
			}
			if isInt >= 0 && (take || compared(filter[end:])) {
				if name, n := p.number(filter[i:end], isInt == 1); name != "" {
					buf = append(buf, filter[from:i]...)
					buf = append(buf, name...)
					buf = append(buf, '0'+n)
					from = end
				}
			}
			i = end
		case isIdent(c):
			end := i
			for end < len(filter) && isIdent(filter[end]) {
				end++
			}
			word = filter[i:end]
			if c == '_' {
				return buf, false // it may be one of ours
			}
			i = end
		case strings.HasPrefix(filter[i:], "//") || c >= 0x80 || c == '`':
			return buf, false
		case c == '-' && take: // a sign: what follows is still compared
			i++
			continue
		case comparison(filter[i:]) > 0:
			i += comparison(filter[i:])
			take = true
			continue
		case c == '(' && slices.Contains(taking, last):
			i++
			take = true
			continue
		default:
			i++
		}
		take = false
	}
	return append(buf, filter[from:]...), len(p.texts)+len(p.ints)+len(p.doubles) > 0
}

// taking are the functions whose text is taken out.
var taking = []string{"startsWith", "endsWith", "contains"}

// number takes a number, unless it is beyond its type or there is no room.
func (p *params) number(text string, isInt bool) (name string, n byte) {
	if isInt {
		x, err := strconv.ParseInt(text, 10, 64)
		if err != nil || len(p.ints) == maxParams {
			return "", 0
		}
		p.ints = append(p.ints, types.Int(x))
		return intParam, byte(len(p.ints) - 1)
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || len(p.doubles) == maxParams {
		return "", 0
	}
	p.doubles = append(p.doubles, types.Double(x))
	return doubleParam, byte(len(p.doubles) - 1)
}

// quoted is where the text in quotes that begins at i ends, after its quote;
// negative for triple quotes and line breaks.
func quoted(s string, i int) int {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '\n', '\r':
			return -1
		case s[i]:
			if j == i+1 && j+1 < len(s) && s[j+1] == s[i] {
				return -1
			}
			return j + 1
		}
	}
	return -1
}

// number is where the number that begins at i ends, and whether it is an
// integer (1) or not (0); negative for forms other than digits and
// digits.digits.
func number(s string, i int) (end, isInt int) {
	end, isInt = i, 1
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	if end+1 < len(s) && s[end] == '.' && s[end+1] >= '0' && s[end+1] <= '9' {
		isInt = 0
		for end++; end < len(s) && s[end] >= '0' && s[end] <= '9'; end++ {
		}
	}
	if end < len(s) && (isIdent(s[end]) || s[end] == '.') { // 5u, 0x5, 1e3, 1.
		isInt = -1
		for end < len(s) && (isIdent(s[end]) || s[end] == '.' || (s[end] == '+' || s[end] == '-') && (s[end-1] == 'e' || s[end-1] == 'E')) {
			end++
		}
	}
	return end, isInt
}

// comparison is the length of the comparison that s begins with, or 0.
func comparison(s string) int {
	switch {
	case strings.HasPrefix(s, "=="), strings.HasPrefix(s, "!="), strings.HasPrefix(s, "<="), strings.HasPrefix(s, ">="):
		return 2
	case s != "" && (s[0] == '<' || s[0] == '>'):
		return 1
	}
	return 0
}

// compared reports whether a comparison follows.
func compared(s string) bool { return comparison(strings.TrimLeft(s, " \t\r\n")) > 0 }

// compileShape is Compile for a text of shape.
func compileShape(text string) (*Program, error) {
	ast, err := checkIn(shaped(), text)
	if err != nil {
		return nil, err
	}
	return plan(shaped(), ast)
}

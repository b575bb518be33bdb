package expr

import (
	"regexp"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

var (
	undeclared     = regexp.MustCompile(`undeclared reference to '([^']*)'`)
	undefinedField = regexp.MustCompile(`undefined field '([^']*)'`)
	libraryHint    = regexp.MustCompile(` \(did you mean [^)]*\)`) // ours knows more
	noOverload     = regexp.MustCompile(`found no matching overload for '([^']*)'`)
	expectations   = regexp.MustCompile(` expecting (\{.*\}|<EOF>)$`) // names of the grammar, which nobody writes
)

// message is an error of the compiler in words for who wrote the expression.
func message(msg string) string {
	msg = expectations.ReplaceAllString(oneLine(libraryHint.ReplaceAllString(msg, "")), "")
	return strings.Replace(msg, "mismatched input '<EOF>'", "the expression ends here and something is missing", 1)
}

// hint is what to do about an error of the compiler in an environment with
// these variables; empty when nothing is known.
func hint(msg string, variables []string) string {
	if m := undeclared.FindStringSubmatch(msg); m != nil {
		for _, f := range eventFields {
			if f.name == m[1] {
				return "did you mean event." + m[1] + "?"
			}
		}
		if near := belfry.Nearest(m[1], variables); near != "" {
			return "did you mean " + near + "?"
		}
		return "variables are " + strings.Join(variables, ", ") + "; text needs quotes; fields of the event's data are event.data.…"
	}
	if m := undefinedField.FindStringSubmatch(msg); m != nil {
		names := fieldNames(eventFields)
		names = append(names, fieldNames(objectFields)...)
		names = append(names, fieldNames(userFields)...)
		if near := belfry.Nearest(m[1], names); near != "" {
			return "did you mean " + near + "?"
		}
		return "the platform's own fields are in event.data, object.attributes and actor.attributes"
	}
	if m := noOverload.FindStringSubmatch(msg); m != nil {
		switch m[1] {
		case "_&&_", "_||_", "!_":
			return "both sides must be true or false"
		case "_==_", "_!=_":
			if strings.Contains(msg, "(type(type), ") {
				return "did you mean event.type?"
			}
			if !strings.Contains(msg, "timestamp") {
				return "the two sides are of different types: text needs quotes, numbers none"
			}
		case "@in":
			return "in takes a list, as in ['a', 'b']; a part of a text is found by event.type.contains('x')"
		}
		switch {
		case strings.Contains(msg, "timestamp"), strings.Contains(msg, "duration"):
			return "a time is written timestamp('2026-05-09T09:31:16Z'), a span duration('1h')"
		case m[1] == "_+_" && strings.Contains(msg, "string"):
			return "string(…) makes text of a number"
		}
		return "the operands are of types this does not accept"
	}
	if strings.Contains(msg, "mismatched input '='") || strings.Contains(msg, "token recognition error at: '= '") || strings.Contains(msg, "token recognition error at: '='") {
		return "equality is written =="
	}
	if strings.Contains(msg, "Syntax error") {
		return "write e.g. event.data.shortname == 'CPR' && event.actor != ''; operators are && || ! == != < <= > >= in"
	}
	return ""
}

func fieldNames[T any](fields []field[T]) []string {
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.name)
	}
	return names
}

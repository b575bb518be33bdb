package expr

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Readable says a filter in words: `shortname is "CPR" and the actor is not
// "user/8"`. Negations are carried down to the comparisons (De Morgan), so that
// "not (a or b)" reads "not a and not b". What has no words yet is shown as
// CEL between ‹ and ›. locale is a BCP 47 tag; this version speaks English
// whatever it is. An empty filter is empty; the error is Compile's.
func Readable(filter, locale string) (string, error) {
	_ = locale // other languages come with the catalogue of messages
	if strings.TrimSpace(filter) == "" {
		return "", nil
	}
	checked, err := check(filter)
	if err != nil {
		return "", err
	}
	s := sayer{info: checked.NativeRep().SourceInfo()}
	text, _ := s.say(checked.NativeRep().Expr(), false)
	return text, nil
}

type sayer struct{ info *ast.SourceInfo }

// binding is how tightly a phrase holds together.
type binding int

const (
	bindsOr binding = iota
	bindsAnd
	bindsAll
)

func (s sayer) say(e ast.Expr, not bool) (string, binding) {
	switch e.Kind() {
	case ast.CallKind:
		return s.sayCall(e, not)
	case ast.SelectKind:
		sel := e.AsSelect()
		if sel.IsTestOnly() {
			what := s.operand(sel.Operand(), sel.FieldName())
			return pick(not, what+" is not given", what+" is given"), bindsAll
		}
		if path := s.path(e); path == "object.hidden" || path == "container.hidden" {
			return pick(not, "the "+sel.Operand().AsIdent()+" is not hidden", "the "+sel.Operand().AsIdent()+" is hidden"), bindsAll
		}
		what := s.term(e)
		return pick(not, what+" is not true", what+" is true"), bindsAll
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			return pick(bool(b) == not, "never", "always"), bindsAll
		}
	}
	return s.raw(e, not), bindsAll
}

func (s sayer) sayCall(e ast.Expr, not bool) (string, binding) {
	call := e.AsCall()
	args := call.Args()
	fn := call.FunctionName()
	switch {
	case fn == operators.LogicalNot && len(args) == 1:
		return s.say(args[0], !not)
	case fn == operators.LogicalAnd || fn == operators.LogicalOr:
		and := (fn == operators.LogicalAnd) != not
		var parts []ast.Expr
		collect(e, fn, &parts)
		words := make([]string, 0, len(parts))
		for _, p := range parts {
			text, b := s.say(p, not)
			if and && b == bindsOr || !and && b == bindsAnd {
				text = "(" + text + ")"
			}
			words = append(words, text)
		}
		if and {
			return strings.Join(words, " and "), bindsAnd
		}
		return strings.Join(words, " or "), bindsOr
	case call.IsMemberFunction() && len(args) == 1:
		if w, ok := memberWords[fn]; ok {
			return s.term(call.Target()) + " " + pick(not, w[1], w[0]) + " " + s.term(args[0]), bindsAll
		}
	case len(args) == 2:
		left, right := args[0], args[1]
		if fn == operators.In {
			return s.sayIn(left, right, not), bindsAll
		}
		if w, ok := binaryWords[fn]; ok {
			if left.Kind() == ast.LiteralKind && right.Kind() != ast.LiteralKind {
				left, right, w = right, left, binaryWords[mirrored[fn]]
			}
			if fn == operators.Equals || fn == operators.NotEquals {
				if text, ok := s.sayTruth(left, right, not != (fn == operators.NotEquals)); ok {
					return text, bindsAll
				}
				if lit, ok := right.AsLiteral().(types.String); ok && right.Kind() == ast.LiteralKind && lit == "" {
					empty := not != (fn == operators.NotEquals)
					return s.term(left) + pick(empty, " is not empty", " is empty"), bindsAll
				}
			}
			return s.term(left) + " " + pick(not, w[1], w[0]) + " " + s.term(right), bindsAll
		}
	}
	return s.raw(e, not), bindsAll
}

// sayTruth says x == true and x == false.
func (s sayer) sayTruth(left, right ast.Expr, not bool) (string, bool) {
	if right.Kind() != ast.LiteralKind {
		return "", false
	}
	b, ok := right.AsLiteral().(types.Bool)
	if !ok {
		return "", false
	}
	if p := s.path(left); !bool(b) && (p == "record" || p == "event.record") {
		return pick(not, "the record is still there", "the record is gone"), true
	}
	if s.path(left) == "" {
		return "", false
	}
	text, _ := s.say(left, not == bool(b))
	return text, true
}

func (s sayer) sayIn(left, right ast.Expr, not bool) string {
	switch s.path(right) {
	case "ancestors":
		return pick(not, "it did not happen within ", "it happened within ") + s.term(left)
	case "related", "event.related":
		return pick(not, "it is not about ", "it is about ") + s.term(left)
	case "event.flags":
		return pick(not, "the event is not flagged ", "the event is flagged ") + s.term(left)
	}
	if right.Kind() == ast.ListKind {
		items := make([]string, 0, right.AsList().Size())
		for _, el := range right.AsList().Elements() {
			items = append(items, s.term(el))
		}
		if len(items) == 0 {
			return pick(not, "always", "never")
		}
		if len(items) == 1 {
			return s.term(left) + pick(not, " is not ", " is ") + items[0]
		}
		return s.term(left) + pick(not, " is none of ", " is one of ") + strings.Join(items, ", ")
	}
	return s.term(right) + pick(not, " does not contain ", " contains ") + s.term(left)
}

// Words of comparisons and, second, of their negations.
var (
	binaryWords = map[string][2]string{
		operators.Equals:        {"is", "is not"},
		operators.NotEquals:     {"is not", "is"},
		operators.Less:          {"is less than", "is at least"},
		operators.LessEquals:    {"is at most", "is more than"},
		operators.Greater:       {"is more than", "is at most"},
		operators.GreaterEquals: {"is at least", "is less than"},
	}
	mirrored = map[string]string{
		operators.Equals:        operators.Equals,
		operators.NotEquals:     operators.NotEquals,
		operators.Less:          operators.Greater,
		operators.LessEquals:    operators.GreaterEquals,
		operators.Greater:       operators.Less,
		operators.GreaterEquals: operators.LessEquals,
	}
	memberWords = map[string][2]string{
		"startsWith": {"begins with", "does not begin with"},
		"endsWith":   {"ends with", "does not end with"},
		"contains":   {"contains", "does not contain"},
		"matches":    {"matches the pattern", "does not match the pattern"},
	}
)

// pathWords are the names of common paths.
var pathWords = map[string]string{
	"event":                "the event",
	"event.type":           "the type",
	"event.actor":          "the actor",
	"event.object":         "the object",
	"event.time":           "the time",
	"event.record":         "the record",
	"event.data":           "the data",
	"record":               "the record",
	"object.id":            "the object",
	"container.id":         "the container",
	"actor.id":             "the actor",
	"now":                  "the time of sending",
	"related":              "those it is about",
	"ancestors":            "the places it happened within",
	"object.attributes":    "the object's attributes",
	"actor.attributes":     "the actor's attributes",
	"event.variables":      "the variables",
	"event.transition":     "the transition",
	"event.destination":    "the destination",
	"event.comment":        "the comment",
	"container.attributes": "the container's attributes",
}

// pathPrefixes are what stands before the rest of a longer path.
var pathPrefixes = []struct{ prefix, words string }{
	{"event.data.", ""},
	{"event.record.", "the record's "},
	{"record.", "the record's "},
	{"event.variables.", "the variable "},
	{"event.extensions.", "the event's "},
	{"object.attributes.", "the object's "},
	{"container.attributes.", "the container's "},
	{"actor.attributes.", "the actor's "},
	{"event.", "the event's "},
	{"object.", "the object's "},
	{"container.", "the container's "},
	{"actor.", "the actor's "},
}

// path is a chain of selections with dots, empty when e is none.
func (s sayer) path(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent()
	case ast.SelectKind:
		if p := s.path(e.AsSelect().Operand()); p != "" && !e.AsSelect().IsTestOnly() {
			return p + "." + e.AsSelect().FieldName()
		}
	case ast.CallKind:
		c := e.AsCall()
		if c.FunctionName() == operators.Index && c.Args()[1].Kind() == ast.LiteralKind {
			if key, ok := c.Args()[1].AsLiteral().(types.String); ok {
				if p := s.path(c.Args()[0]); p != "" {
					return p + "." + string(key)
				}
			}
		}
	}
	return ""
}

func (s sayer) operand(e ast.Expr, field string) string {
	if p := s.path(e); p != "" {
		return pathText(p + "." + field)
	}
	return s.source(e) + "." + field
}

func pathText(p string) string {
	if w, ok := pathWords[p]; ok {
		return w
	}
	for _, pre := range pathPrefixes {
		if rest, ok := strings.CutPrefix(p, pre.prefix); ok && rest != "" {
			return pre.words + rest
		}
	}
	return p
}

// term says a value.
func (s sayer) term(e ast.Expr) string {
	switch e.Kind() {
	case ast.LiteralKind:
		switch x := e.AsLiteral().(type) {
		case types.String:
			return `"` + string(x) + `"`
		case types.Null:
			return "empty"
		default:
			return fmt.Sprint(x.Value())
		}
	case ast.CallKind:
		c := e.AsCall()
		switch {
		case c.FunctionName() == "size" && c.IsMemberFunction() && len(c.Args()) == 0:
			return "the size of " + s.term(c.Target())
		case c.FunctionName() == "size" && len(c.Args()) == 1:
			return "the size of " + s.term(c.Args()[0])
		case (c.FunctionName() == "timestamp" || c.FunctionName() == "duration" || c.FunctionName() == "string") && len(c.Args()) == 1:
			return s.term(c.Args()[0])
		}
	}
	if p := s.path(e); p != "" {
		return pathText(p)
	}
	return "‹" + s.source(e) + "›"
}

func (s sayer) raw(e ast.Expr, not bool) string {
	return "‹" + s.source(e) + "›" + pick(not, " is not true", " is true")
}

func (s sayer) source(e ast.Expr) string {
	text, err := cel.ExprToString(e, s.info)
	if err != nil {
		return "…"
	}
	return text
}

// collect gathers the operands of nested calls of one logical operator.
func collect(e ast.Expr, fn string, into *[]ast.Expr) {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == fn {
		for _, a := range e.AsCall().Args() {
			collect(a, fn, into)
		}
		return
	}
	*into = append(*into, e)
}

func pick(not bool, negative, positive string) string {
	if not {
		return negative
	}
	return positive
}

package expr

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/belfryhq/belfry/internal/words"
)

// Readable says a filter in words, in the printer's language: `shortname is
// "CPR" and the actor is not "user/8"`. Negations are carried down to the
// comparisons (De Morgan), so that "not (a or b)" reads "not a and not b".
// Fields of the event's data and their values are called what labels calls
// them. What has no words is shown as CEL between ‹ and ›. An empty filter is
// empty; the error is Compile's.
func Readable(filter string, p *words.Printer, labels Labels) (string, error) {
	if strings.TrimSpace(filter) == "" {
		return "", nil
	}
	checked, err := check(filter)
	if err != nil {
		return "", err
	}
	s := sayer{info: checked.NativeRep().SourceInfo(), p: p, labels: labels}
	text, _ := s.say(checked.NativeRep().Expr(), false)
	return text, nil
}

type sayer struct {
	info   *ast.SourceInfo
	p      *words.Printer
	labels Labels
}

// what says a phrase about something; a negated one has an id of its own.
func (s sayer) what(id string, not bool, what string) string {
	return s.p.Say(negated(id, not), "What", what)
}

// value says a phrase about something and a value.
func (s sayer) value(id, what, value string) string {
	return s.p.Say(id, "What", what, "Value", value)
}

func negated(id string, not bool) string {
	if not {
		return id + "_not"
	}
	return id
}

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
			return s.what("filter.given", not, s.operand(sel.Operand(), sel.FieldName())), bindsAll
		}
		if path := s.path(e); path == "object.hidden" || path == "container.hidden" {
			return s.what("filter.hidden", not, s.p.Say("filter.path."+sel.Operand().AsIdent())), bindsAll
		}
		return s.what("filter.true", not, s.term(e)), bindsAll
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			return s.p.Say(pick(bool(b) == not, "filter.never", "filter.always")), bindsAll
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
		parted := make([]string, 0, len(parts))
		for _, p := range parts {
			text, b := s.say(p, not)
			if and && b == bindsOr || !and && b == bindsAnd {
				text = "(" + text + ")"
			}
			parted = append(parted, text)
		}
		if and {
			return strings.Join(parted, " "+s.p.Say("filter.and")+" "), bindsAnd
		}
		return strings.Join(parted, " "+s.p.Say("filter.or")+" "), bindsOr
	case call.IsMemberFunction() && len(args) == 1:
		if w, ok := memberWords[fn]; ok {
			return s.value(pick(not, w[1], w[0]), s.term(call.Target()), s.term(args[0])), bindsAll
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
					return s.what("filter.empty", empty, s.term(left)), bindsAll
				}
			}
			return s.value(pick(not, w[1], w[0]), s.term(left), s.valueOf(left, right)), bindsAll
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
		return s.p.Say(pick(not, "filter.record_there", "filter.record_gone")), true
	}
	if s.path(left) == "" {
		return "", false
	}
	text, _ := s.say(left, not == bool(b))
	return text, true
}

func (s sayer) sayIn(left, right ast.Expr, not bool) string {
	for path, id := range map[string]string{"ancestors": "filter.within", "related": "filter.about", "event.related": "filter.about", "event.flags": "filter.flagged"} {
		if s.path(right) == path {
			return s.value(negated(id, not), "", s.term(left))
		}
	}
	if right.Kind() == ast.ListKind {
		items := make([]string, 0, right.AsList().Size())
		for _, el := range right.AsList().Elements() {
			items = append(items, s.valueOf(left, el))
		}
		switch len(items) {
		case 0:
			return s.p.Say(pick(not, "filter.always", "filter.never"))
		case 1:
			return s.value(negated("filter.is", not), s.term(left), items[0])
		}
		return s.value(pick(not, "filter.none_of", "filter.one_of"), s.term(left), strings.Join(items, ", "))
	}
	return s.value(negated("filter.contains", not), s.term(right), s.valueOf(right, left))
}

// Phrases of comparisons and, second, of their negations.
var (
	binaryWords = map[string][2]string{
		operators.Equals:        {"filter.is", "filter.is_not"},
		operators.NotEquals:     {"filter.is_not", "filter.is"},
		operators.Less:          {"filter.less", "filter.at_least"},
		operators.LessEquals:    {"filter.at_most", "filter.more"},
		operators.Greater:       {"filter.more", "filter.at_most"},
		operators.GreaterEquals: {"filter.at_least", "filter.less"},
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
		"startsWith": {"filter.begins", "filter.begins_not"},
		"endsWith":   {"filter.ends", "filter.ends_not"},
		"contains":   {"filter.contains", "filter.contains_not"},
		"matches":    {"filter.matches", "filter.matches_not"},
	}
)

// pathWords are the paths that have names of their own.
var pathWords = map[string]bool{
	"event": true, "event.type": true, "event.actor": true, "event.object": true, "event.time": true,
	"event.record": true, "event.data": true, "record": true, "object.id": true, "container.id": true,
	"actor.id": true, "now": true, "related": true, "ancestors": true, "object.attributes": true,
	"actor.attributes": true, "event.variables": true, "event.transition": true, "event.destination": true, "event.comment": true,
	"container.attributes": true,
}

// pathPrefixes are phrases of what stands before the rest of a longer path.
var pathPrefixes = []struct{ prefix, id string }{
	{"event.data.", ""},
	{"event.record.", "filter.of.record"},
	{"record.", "filter.of.record"},
	{"event.variables.", "filter.of.variable"},
	{"event.extensions.", "filter.of.event"},
	{"object.attributes.", "filter.of.object"},
	{"container.attributes.", "filter.of.container"},
	{"actor.attributes.", "filter.of.actor"},
	{"event.", "filter.of.event"},
	{"object.", "filter.of.object"},
	{"container.", "filter.of.container"},
	{"actor.", "filter.of.actor"},
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
		return s.pathText(p + "." + field)
	}
	return s.source(e) + "." + field
}

func (s sayer) pathText(p string) string {
	if pathWords[p] {
		return s.p.Say("filter.path." + p)
	}
	if l, ok := s.labels[dataPath(p)]; ok && l.Title != "" {
		return l.Title
	}
	for _, pre := range pathPrefixes {
		if rest, ok := strings.CutPrefix(p, pre.prefix); ok && rest != "" {
			if pre.id == "" {
				return rest
			}
			return s.p.Say(pre.id, "Name", rest)
		}
	}
	return p
}

// dataPath is the path within the event's data, empty for others.
func dataPath(p string) string {
	rest, ok := strings.CutPrefix(p, "event.data.")
	if !ok {
		return ""
	}
	return rest
}

// valueOf says what something is compared with: by its label when it is a value
// of a field that has labels.
func (s sayer) valueOf(field, e ast.Expr) string {
	if l, ok := s.labels[dataPath(s.path(field))]; ok && e.Kind() == ast.LiteralKind {
		if label, ok := l.Values[fmt.Sprint(e.AsLiteral().Value())]; ok && label != "" {
			return label
		}
	}
	return s.term(e)
}

// term says a value.
func (s sayer) term(e ast.Expr) string {
	switch e.Kind() {
	case ast.LiteralKind:
		switch x := e.AsLiteral().(type) {
		case types.String:
			return `"` + string(x) + `"`
		case types.Null:
			return s.p.Say("filter.nothing")
		default:
			return fmt.Sprint(x.Value())
		}
	case ast.CallKind:
		c := e.AsCall()
		switch {
		case c.FunctionName() == "size" && c.IsMemberFunction() && len(c.Args()) == 0:
			return s.p.Say("filter.size", "What", s.term(c.Target()))
		case c.FunctionName() == "size" && len(c.Args()) == 1:
			return s.p.Say("filter.size", "What", s.term(c.Args()[0]))
		case (c.FunctionName() == "timestamp" || c.FunctionName() == "duration" || c.FunctionName() == "string") && len(c.Args()) == 1:
			return s.term(c.Args()[0])
		}
	}
	if p := s.path(e); p != "" {
		return s.pathText(p)
	}
	return "‹" + s.source(e) + "›"
}

func (s sayer) raw(e ast.Expr, not bool) string {
	return s.what("filter.true", not, "‹"+s.source(e)+"›")
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

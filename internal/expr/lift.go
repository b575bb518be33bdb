package expr

import (
	"math"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// LifterVersion changes whenever Lift would lift a filter differently, so that
// a stored Lifted of another version is lifted again.
const LifterVersion = 1

// Equality is a conjunct path == value, or path in [values].
type Equality struct {
	Path   Path    `json:"path"`
	Values []Value `json:"values"` // at least one, no two equal
}

// Holds reports whether the equality is true of the variables.
func (q *Equality) Holds(v *Vars) bool {
	val, ok := v.Lookup(q.Path)
	return ok && slices.Contains(q.Values, val)
}

// Lifted is a filter taken apart: it is true of an event exactly when every
// equality holds and the residual is true.
type Lifted struct {
	Version    int        `json:"version"` // LifterVersion
	Equalities []Equality `json:"equalities,omitempty"`
	Residual   string     `json:"residual,omitempty"` // a CEL filter; empty = true
}

// Lift takes the equalities out of a filter that Compile accepts. The common
// forms are read directly, in about a microsecond; everything else goes
// through the checked syntax tree. Of a filter that Compile refuses the error
// is Compile's, or else the fault stays in the residual and shows when it is
// compiled: it never becomes a match.
func Lift(filter string) (Lifted, error) {
	if l, ok := liftText(filter); ok {
		return l, nil
	}
	return liftChecked(filter)
}

// liftChecked lifts from the checked syntax tree.
func liftChecked(filter string) (Lifted, error) {
	checked, err := check(filter)
	if err != nil {
		return Lifted{}, err
	}
	var conjuncts []ast.Expr
	flatten(checked.NativeRep().Expr(), &conjuncts)
	l := Lifted{Version: LifterVersion}
	var rest []string
	for _, c := range conjuncts {
		if eq, ok := equality(c); ok {
			l.Equalities = append(l.Equalities, eq)
			continue
		}
		text, err := cel.ExprToString(c, checked.NativeRep().SourceInfo())
		if err != nil || !sameSource(text, c) {
			// The printer lost something: the whole filter is checked
			// again, which is slower and as true.
			l.Residual = strings.TrimSpace(filter)
			continue
		}
		rest = append(rest, text)
	}
	switch {
	case l.Residual != "":
	case len(l.Equalities) == 0:
		l.Residual = strings.TrimSpace(filter)
	case len(rest) == 1:
		l.Residual = rest[0]
	case len(rest) > 1:
		l.Residual = "(" + strings.Join(rest, ") && (") + ")"
	}
	return l, nil
}

// sameSource reports whether text parses to the expression it was printed of.
func sameSource(text string, e ast.Expr) bool {
	parsed, issues := environment().Parse(text)
	return (issues == nil || issues.Err() == nil) && ast.EquivExpr(parsed.NativeRep().Expr(), e)
}

// flatten appends the operands of nested && in order.
func flatten(e ast.Expr, into *[]ast.Expr) {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
		for _, arg := range e.AsCall().Args() {
			flatten(arg, into)
		}
		return
	}
	*into = append(*into, e)
}

// equality reads path == literal, literal == path and path in [literals].
func equality(e ast.Expr) (Equality, bool) {
	if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 {
		return Equality{}, false
	}
	left, right := e.AsCall().Args()[0], e.AsCall().Args()[1]
	switch e.AsCall().FunctionName() {
	case operators.Equals:
		if left.Kind() == ast.LiteralKind {
			left, right = right, left
		}
		val, ok := literal(right)
		if !ok {
			return Equality{}, false
		}
		path, ok := pathOf(left)
		return Equality{Path: path, Values: []Value{val}}, ok
	case operators.In:
		if right.Kind() != ast.ListKind || right.AsList().Size() == 0 || len(right.AsList().OptionalIndices()) > 0 {
			return Equality{}, false
		}
		path, ok := pathOf(left)
		if !ok {
			return Equality{}, false
		}
		vals := make([]Value, 0, right.AsList().Size())
		for _, el := range right.AsList().Elements() {
			val, ok := literal(el)
			if !ok {
				return Equality{}, false
			}
			vals = append(vals, val)
		}
		return Equality{Path: path, Values: unique(vals)}, true
	}
	return Equality{}, false
}

// unique drops repetitions, in place.
func unique(vals []Value) []Value {
	const few = 16
	if len(vals) <= few {
		out := vals[:0]
		for _, v := range vals {
			if !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
		return out
	}
	seen := make(map[Value]struct{}, len(vals))
	return slices.DeleteFunc(vals, func(v Value) bool {
		_, again := seen[v]
		seen[v] = struct{}{}
		return again
	})
}

// literal is the Value of a string, number or bool literal. Integers become
// doubles as CEL compares them with the doubles of JSON.
func literal(e ast.Expr) (Value, bool) {
	if e.Kind() != ast.LiteralKind {
		return Value{}, false
	}
	switch x := e.AsLiteral().(type) {
	case types.String:
		return Text(string(x)), true
	case types.Int:
		return Number(float64(x)), true
	case types.Uint:
		return Number(float64(x)), true
	case types.Double:
		return Number(float64(x)), !math.IsNaN(float64(x))
	case types.Bool:
		return Bool(bool(x)), true
	}
	return Value{}, false
}

// pathOf reads variable.field.field and variable["field"]; the type checker
// has seen that the fields of typed variables exist.
func pathOf(e ast.Expr) (Path, bool) {
	var segments []string
	for {
		switch e.Kind() {
		case ast.SelectKind:
			s := e.AsSelect()
			if s.IsTestOnly() {
				return "", false
			}
			segments = append(segments, s.FieldName())
			e = s.Operand()
			continue
		case ast.CallKind:
			c := e.AsCall()
			if c.FunctionName() != operators.Index || c.Args()[1].Kind() != ast.LiteralKind {
				return "", false
			}
			key, ok := c.Args()[1].AsLiteral().(types.String)
			if !ok {
				return "", false
			}
			segments = append(segments, string(key))
			e = c.Args()[0]
			continue
		case ast.IdentKind:
			segments = append(segments, strings.TrimPrefix(e.AsIdent(), "."))
		default:
			return "", false
		}
		break
	}
	slices.Reverse(segments)
	if slices.Contains(segments, "") && segments[0] == "" {
		return "", false
	}
	if !liftable(segments) {
		return "", false
	}
	return makePath(segments)
}

// liftable reports whether Lookup knows the path: a scalar field of a typed
// variable, or anything below a dynamic one.
func liftable(segments []string) bool {
	_, ok := pathKind(segments)
	return ok
}

// pathKind is what values a path can have: a scalar type, or DynType for
// whatever JSON holds there.
func pathKind(segments []string) (*types.Type, bool) {
	root, rest := segments[0], segments[1:]
	if root == varRecord {
		return types.DynType, true
	}
	if len(rest) == 0 {
		return nil, false
	}
	var t *types.Type
	switch root {
	case varEvent:
		t = fieldType(eventFields, rest[0])
	case varObject, varContainer:
		t = fieldType(objectFields, rest[0])
	case varActor:
		t = fieldType(userFields, rest[0])
	}
	switch {
	case t == types.DynType:
		return t, true
	case t == jsonMap:
		return types.DynType, len(rest) > 1
	case t == types.StringType, t == types.BoolType:
		return t, len(rest) == 1
	}
	return nil, false
}

func fieldType[T any](fields []field[T], name string) *types.Type {
	for i := range fields {
		if fields[i].name == name {
			return fields[i].typ
		}
	}
	return nil
}

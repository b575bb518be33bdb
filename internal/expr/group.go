package expr

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/belfryhq/belfry/internal/belfry"
)

// MaxGroup is the longest name of a group, in bytes.
const MaxGroup = 255

// Group is a compiled expression that says which group of a condition an event
// is in; it is safe for concurrent use.
type Group struct{ prog cel.Program }

var groups = computed{
	env:       environment,
	emptyHint: "write e.g. event.actor, or leave it out to look at all events together",
	gives:     groupType,
	refusal:   "the expression is of type %s, a group is a text, a number, true or false",
	hint:      "take one part of it, e.g. event.actor or string(event.data.course)",
}

// CompileGroup type-checks an expression of groups and plans its program. Errors
// are those of Compile.
func CompileGroup(source string) (*Group, error) {
	prog, err := groups.compile(source)
	if err != nil {
		return nil, err
	}
	return &Group{prog: prog}, nil
}

func groupType(t *types.Type) bool {
	for _, may := range []*types.Type{types.StringType, types.DynType, types.IntType, types.UintType, types.DoubleType, types.BoolType, types.TimestampType, userType, objectType} {
		if t.IsExactType(may) {
			return true
		}
	}
	return false
}

// Of is the event's group. fault says why it has none: a field is missing, or
// what it holds names no group.
func (g *Group) Of(v *Vars) (group, fault string) { return worked(g.prog, v, "group") }

// worked is the value of an expression as a text.
func worked(prog cel.Program, v *Vars, kind string) (group, fault string) {
	out, _, err := prog.Eval(v)
	if err != nil {
		return "", unworked(err).Detail
	}
	switch out := out.(type) {
	case types.String:
		group = string(out)
	case types.Int:
		group = strconv.FormatInt(int64(out), 10)
	case types.Uint:
		group = strconv.FormatUint(uint64(out), 10)
	case types.Double:
		group = strconv.FormatFloat(float64(out), 'g', -1, 64)
	case types.Bool:
		group = strconv.FormatBool(bool(out))
	case types.Timestamp:
		group = out.Time.UTC().Format(time.RFC3339Nano)
	case *userVal:
		group = out.u.ID
	case *objectVal:
		group = out.o.ID
	default:
		return "", "the result is a " + typeName(out) + ", a " + kind + " is a text, a number, true or false"
	}
	switch {
	case len(group) > MaxGroup:
		return "", fmt.Sprintf("the result has %d bytes: a %s has at most %d", len(group), kind, MaxGroup)
	case !utf8.ValidString(group) || strings.IndexByte(group, 0) >= 0:
		return "", "the result is no text that can be stored"
	}
	return group, ""
}

func typeName(v ref.Val) string {
	if v == nil {
		return "nothing"
	}
	return v.Type().TypeName()
}

// GroupOf compiles an expression of groups and evaluates it for an event; ""
// for a condition without one.
func GroupOf(source string, e *belfry.Event, facts Facts) (group, fault string) {
	if source == "" {
		return "", ""
	}
	g, err := CompileGroup(source)
	if err != nil {
		return "", err.Error()
	}
	return g.Of(NewVars(e, facts))
}

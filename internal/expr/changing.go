package expr

import (
	"math"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Changing is a compiled expression whose value a condition watches; it is safe
// for concurrent use.
type Changing struct {
	prog   cel.Program
	number bool
}

var changing = computed{
	env:       environment,
	emptyHint: "write e.g. event.data.state",
	gives:     groupType,
	refusal:   "the expression is of type %s, a value that changes is a text, a number, true or false",
	hint:      "take one part of it, e.g. event.data.state",
}

var measures = computed{
	env:       environment,
	emptyHint: "write e.g. event.data.temperature",
	gives: func(t *types.Type) bool {
		return t.IsExactType(types.DynType) || t.IsExactType(types.IntType) || t.IsExactType(types.UintType) || t.IsExactType(types.DoubleType)
	},
	refusal: "the expression is of type %s, what is above or below a limit is a number",
	hint:    "take a number, e.g. event.data.temperature or double(event.data.price)",
}

// CompileChanging type-checks an expression whose value is watched, of a number
// if that is asked, and plans its program. Errors are those of Compile.
func CompileChanging(source string, number bool) (*Changing, error) {
	kind := &changing
	if number {
		kind = &measures
	}
	prog, err := kind.compile(source)
	if err != nil {
		return nil, err
	}
	return &Changing{prog, number}, nil
}

// Of is the value of an event. fault says why it has none.
func (c *Changing) Of(v *Vars) (value, fault string) {
	value, fault = worked(c.prog, v, "value")
	if fault == "" && c.number {
		if f, err := strconv.ParseFloat(value, 64); err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return "", "the result is no number that could be above or below a limit"
		}
	}
	return value, fault
}

// ChangingOf compiles an expression whose value is watched and evaluates it for
// an event.
func ChangingOf(source string, number bool, e *belfry.Event, facts Facts) (value, fault string) {
	c, err := CompileChanging(source, number)
	if err != nil {
		return "", err.Error()
	}
	return c.Of(NewVars(e, facts))
}

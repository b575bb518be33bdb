package expr

import (
	"fmt"
	"slices"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// computed is a kind of expression that gives something else than true or false.
// What was compiled is remembered: an expression is compiled once, not once an
// event.
type computed struct {
	env       func() *cel.Env
	more      []string // its variables besides those of filters
	emptyHint string
	gives     func(*types.Type) bool // whether values of a type may be what it gives
	refusal   string                 // of other types, with %s for the type
	hint      string                 // what to do then

	mu    sync.Mutex
	known map[string]cel.Program
}

// maxComputed bounds what is remembered of a kind. A table that grows too big is
// thrown away.
const maxComputed = 512

// compile type-checks an expression and plans its program, or finds the one it
// made before. Errors are those of Compile.
func (k *computed) compile(source string) (cel.Program, error) {
	k.mu.Lock()
	prog := k.known[source]
	k.mu.Unlock()
	if prog != nil {
		return prog, nil
	}
	env := k.env()
	ast, err := compileIn(env, source, k.emptyHint, slices.Concat(variables, k.more))
	if err != nil {
		return nil, err
	}
	if t := ast.OutputType(); !k.gives(t) {
		return nil, invalid(Fault{Line: 1, Column: 1, Message: fmt.Sprintf(k.refusal, t), Hint: k.hint})
	}
	if prog, err = program(env, ast); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil || len(k.known) >= maxComputed {
		k.known = make(map[string]cel.Program)
	}
	k.known[source] = prog
	return prog, nil
}

// unworked is why an expression that is no filter was not worked out.
func unworked(err error) Verdict {
	v := failure(err)
	if v.Detail == tooMuchWork {
		v.Detail = "the expression needs too much work for this event"
	}
	return v
}

package expr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Fault is one error in a filter's source.
type Fault struct {
	Line    int // 1-based; 0 = the whole
	Column  int // 1-based, in characters
	Message string
	Hint    string // what to do; may be empty
}

// String is the fault in one line.
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", f.Line, f.Column)
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return b.String()
}

// SourceError lists what is wrong with a filter. It is the cause of the
// Invalid errors of Compile.
type SourceError struct{ Faults []Fault }

func (e *SourceError) Error() string {
	msgs := make([]string, 0, len(e.Faults))
	for _, f := range e.Faults {
		msgs = append(msgs, f.String())
	}
	return strings.Join(msgs, "; ")
}

func invalid(faults ...Fault) error {
	cause := &SourceError{Faults: faults}
	return &belfry.Error{Kind: belfry.Invalid, Msg: cause.Error(), Cause: cause}
}

// Verdict is what a filter says of an event: Code is belfry.FilterTrue,
// belfry.FilterFalse or belfry.FilterFault. A missing key is false, with the
// key in Detail; every other failure is a fault, with its words.
type Verdict struct {
	Code   string
	Detail string
}

// True reports whether the filter matched.
func (v Verdict) True() bool { return v.Code == belfry.FilterTrue }

// Program is a compiled filter; it is safe for concurrent use.
type Program struct{ prog cel.Program }

// check parses and type-checks a filter.
func check(source string) (*cel.Ast, error) { return checkIn(environment(), source) }

func checkIn(env *cel.Env, source string) (*cel.Ast, error) {
	ast, err := compileIn(env, source, "leave it out to match every event", variables)
	if err != nil {
		return nil, err
	}
	if t := ast.OutputType(); !t.IsExactType(types.BoolType) && !t.IsExactType(types.DynType) {
		return nil, invalid(Fault{Line: 1, Column: 1, Message: fmt.Sprintf("the expression is of type %s, a filter must be true or false", t), Hint: "compare it with something, e.g. == 'value'"})
	}
	return ast, nil
}

// compileIn parses and type-checks an expression in an environment with these
// variables.
func compileIn(env *cel.Env, source, emptyHint string, variables []string) (*cel.Ast, error) {
	if len(source) > MaxSource {
		return nil, invalid(Fault{Message: fmt.Sprintf("the expression has %d bytes, at most %d are allowed", len(source), MaxSource), Hint: "shorten it, or make several subscriptions"})
	}
	if !utf8.ValidString(source) {
		return nil, invalid(Fault{Message: "the expression is not valid UTF-8"})
	}
	if strings.TrimSpace(source) == "" {
		return nil, invalid(Fault{Message: "the expression is empty", Hint: emptyHint})
	}
	ast, issues := env.Compile(source)
	if issues != nil && issues.Err() != nil {
		faults := make([]Fault, 0, len(issues.Errors()))
		for _, e := range issues.Errors() {
			f := Fault{Message: message(e.Message), Hint: hint(e.Message, variables)}
			if e.Location != nil && e.Location.Line() > 0 {
				f.Line, f.Column = e.Location.Line(), e.Location.Column()+1
			}
			faults = append(faults, f)
			if len(faults) == 5 { // the parser repeats itself after the first
				break
			}
		}
		return nil, invalid(faults...)
	}
	return ast, nil
}

// Compile type-checks a filter and plans its program. Errors are Invalid with
// line, column and a hint; their cause is a *SourceError.
func Compile(filter string) (*Program, error) {
	ast, err := check(filter)
	if err != nil {
		return nil, err
	}
	return plan(environment(), ast)
}

func plan(env *cel.Env, ast *cel.Ast) (*Program, error) {
	prog, err := program(env, ast)
	if err != nil {
		return nil, err
	}
	return &Program{prog: prog}, nil
}

func program(env *cel.Env, ast *cel.Ast) (cel.Program, error) {
	prog, err := env.Program(ast,
		cel.EvalOptions(cel.OptOptimize),
		cel.CostLimit(costLimit),
		cel.CostTracking(bySize{}),
		cel.InterruptCheckFrequency(interruptEvery),
	)
	if err != nil {
		return nil, invalid(Fault{Message: oneLine(err.Error())})
	}
	return prog, nil
}

// bySize counts work on values whose types only the event tells. The library
// knows the cost of an overload, and of a call that several overloads may answer
// it counts 1, whatever the length of a text that is copied or of a list that
// is searched.
type bySize struct{}

// CallCost is the cost of such a call; nil where the library knows it.
func (bySize) CallCost(function, overload string, args []ref.Val, _ ref.Val) *uint64 {
	if overload != "" {
		return nil
	}
	var size uint64
	for _, a := range args {
		switch a := a.(type) {
		case types.String:
			size += uint64(len(a))
		case types.Bytes:
			size += uint64(len(a))
		case traits.Lister:
			if n, ok := a.Size().(types.Int); ok && function == operators.In {
				size += 10 * uint64(n)
			}
		}
	}
	if size < 10 {
		return nil
	}
	cost := 1 + size/10 // as the library counts texts
	return &cost
}

// Eval evaluates the filter for an event. It ends by itself at the cost limit.
func (p *Program) Eval(v *Vars) Verdict {
	out, _, err := p.prog.Eval(v)
	return verdict(out, err)
}

// EvalContext is Eval that also ends when ctx does, which is a fault.
func (p *Program) EvalContext(ctx context.Context, v *Vars) Verdict {
	out, _, err := p.prog.ContextEval(ctx, v)
	return verdict(out, err)
}

func verdict(out any, err error) Verdict {
	if err != nil {
		return failure(err)
	}
	switch out {
	case types.True:
		return Verdict{Code: belfry.FilterTrue}
	case types.False:
		return Verdict{Code: belfry.FilterFalse}
	}
	return Verdict{Code: belfry.FilterFault, Detail: fmt.Sprintf("the result is a %T, not true or false", out)}
}

// missing are how CEL's errors for a value that is not there begin. There is
// no sentinel for them; TestMissing holds them to the library.
var missing = []string{"no such key", "no such attribute", "index out of bounds", "invalid index"}

// tooMuchWork says that the cost limit was reached.
const tooMuchWork = "the filter needs too much work for this event"

func failure(err error) Verdict {
	msg := oneLine(err.Error())
	for _, m := range missing {
		if strings.HasPrefix(msg, m) {
			return Verdict{Code: belfry.FilterFalse, Detail: msg}
		}
	}
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded {
		msg = tooMuchWork
	}
	return Verdict{Code: belfry.FilterFault, Detail: msg}
}

// oneLine bounds a message of the library for people.
func oneLine(msg string) string {
	msg = strings.Join(strings.Fields(msg), " ")
	if len(msg) > 300 {
		cut := 300
		for !utf8.RuneStart(msg[cut]) {
			cut--
		}
		msg = msg[:cut] + "…"
	}
	return msg
}

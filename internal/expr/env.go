package expr

import (
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Limits of an expression.
const (
	MaxSource = 8 << 10 // bytes of source
	maxNodes  = 2_000   // nodes of its syntax tree
	maxDepth  = 100     // nesting
	costLimit = 200_000 // units of CEL's cost model: some milliseconds

	// interruptEvery is how many iterations of a comprehension pass between
	// looks at the context.
	interruptEvery = 100
)

// environment is built at the first use (about a millisecond) and never
// changes, like a compiled pattern.
var environment = sync.OnceValue(func() *cel.Env {
	env, err := newEnvironment()
	if err != nil {
		panic("expr: the environment does not build: " + err.Error()) // constant input: shown by any test
	}
	return env
})

// extended is an environment with more variables, built as environment is.
func extended(what string, base func() *cel.Env, more ...cel.EnvOption) func() *cel.Env {
	return sync.OnceValue(func() *cel.Env {
		env, err := base().Extend(more...)
		if err != nil {
			panic("expr: the environment of " + what + " does not build: " + err.Error()) // constant input: shown by any test
		}
		return env
	})
}

func newEnvironment() (*cel.Env, error) {
	reg, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	return cel.NewCustomEnv(
		cel.CustomTypeAdapter(reg),
		cel.CustomTypeProvider(newProvider(reg)),
		cel.StdLib(),
		cel.Macros(cel.StandardMacros...),
		cel.EnableMacroCallTracking(), // residuals are printed back to source
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(MaxSource),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(maxNodes),
		cel.ExpressionNestingDepthLimit(maxDepth),
		cel.RegexProgramSizeLimit(1_000),
		cel.ASTValidators(
			cel.ValidateRegexLiterals(),
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateComprehensionNestingLimit(3),
		),
		cel.Variable(varEvent, eventType),
		cel.Variable(varObject, objectType),
		cel.Variable(varContainer, objectType),
		cel.Variable(varActor, userType),
		cel.Variable(varRecord, types.DynType),
		cel.Variable(varRelated, strings_),
		cel.Variable(varAncestors, strings_),
		cel.Variable(varNow, types.TimestampType),
	)
}

// variables are the names a filter may begin with, for hints.
var variables = []string{varEvent, varObject, varContainer, varActor, varRecord, varRelated, varAncestors, varNow}

// provider teaches CEL the struct types over a registry of the well-known ones.
type provider struct {
	types.Provider
	structs map[string]structType
}

type structType struct {
	typ    *types.Type
	names  []string
	fields map[string]*types.FieldType
}

func newProvider(base types.Provider) *provider {
	return &provider{Provider: base, structs: map[string]structType{
		eventType.TypeName():  makeStruct(eventType, eventFields),
		objectType.TypeName(): makeStruct(objectType, objectFields),
		userType.TypeName():   makeStruct(userType, userFields),
	}}
}

func makeStruct[T any](typ *types.Type, fields []field[T]) structType {
	s := structType{typ: typ, fields: make(map[string]*types.FieldType, len(fields))}
	for i := range fields {
		f := &fields[i]
		s.names = append(s.names, f.name)
		s.fields[f.name] = &types.FieldType{
			Type: f.typ,
			IsSet: func(target any) bool {
				v, ok := target.(*T)
				return ok && f.isSet(v)
			},
			GetFrom: func(target any) (any, error) {
				v, ok := target.(*T)
				if !ok {
					return nil, fmt.Errorf("no such key: %s", f.name)
				}
				return f.get(v), nil
			},
		}
	}
	return s
}

func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if s, ok := p.structs[name]; ok {
		return types.NewTypeTypeWithParam(s.typ), true
	}
	return p.Provider.FindStructType(name)
}

func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if s, ok := p.structs[name]; ok {
		return s.names, true
	}
	return p.Provider.FindStructFieldNames(name)
}

func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if s, ok := p.structs[name]; ok {
		f, ok := s.fields[field]
		return f, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

func (p *provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if _, ok := p.structs[name]; ok {
		return types.NewErr("a %s cannot be made in a filter", name)
	}
	return p.Provider.NewValue(name, fields)
}

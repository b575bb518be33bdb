package expr

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Names that only expressions of recipients know.
const (
	varAncestor = "ancestor"
	varDocument = "document"
)

// MaxNames is how many names one expression of recipients may give; what is
// beyond is cut, and said to be.
const MaxNames = 20_000

// maxName is the longest name that counts, in bytes: what is longer is no id
// and no address.
const maxName = 512

// documentEnvironment is the environment of filters and the document.
var documentEnvironment = extended("documents", environment, cel.Variable(varDocument, types.StringType))

// recipientEnvironment is that and the ancestor a rule names the types of.
var recipientEnvironment = extended("recipients", documentEnvironment, cel.Variable(varAncestor, objectType))

// Recipients is a compiled expression that names recipients; it is safe for
// concurrent use.
type Recipients struct{ prog cel.Program }

var recipients = computed{
	env:       recipientEnvironment,
	more:      []string{varAncestor, varDocument},
	emptyHint: "write e.g. event.data.reviewers, or leave the rule out",
	gives:     names,
	refusal:   "the expression is of type %s, recipients are text or a list of texts",
	hint:      "e.g. event.data.reviewers.map(r, 'user/' + string(r))",
}

// CompileRecipients type-checks an expression of recipients and plans its
// program. Errors are those of Compile.
func CompileRecipients(source string) (*Recipients, error) {
	prog, err := recipients.compile(source)
	if err != nil {
		return nil, err
	}
	return &Recipients{prog: prog}, nil
}

// ReadsAncestor reports whether a valid expression of recipients reads the
// variable ancestor, which is empty unless the rule says of which types.
func ReadsAncestor(source string) bool {
	_, err := compileIn(documentEnvironment(), source, "", nil)
	return err != nil
}

// names reports whether values of a type may name recipients.
func names(t *types.Type) bool {
	switch {
	case t.IsExactType(types.StringType), t.IsExactType(types.DynType), t.IsExactType(types.NullType), t.IsExactType(userType):
		return true
	case t.Kind() == types.ListKind:
		return names(t.Parameters()[0])
	}
	return t.Kind() == types.TypeParamKind // of an empty list
}

// Named is what an expression of recipients gives: ids of users and groups, and
// addresses, each once and in the order it gave them.
type Named struct {
	Names []string
	Cut   int    // names beyond MaxNames
	Fault string // what is wrong with it, or with something that it holds: the rest is named all the same
}

// Names evaluates the expression. A missing key names nobody, which is no
// fault: the event has no such people. ancestor is what the variable of that
// name stands for, nil = none.
func (r *Recipients) Names(v *Vars, ancestor *belfry.Object) Named {
	a := &recipientVars{Vars: v}
	a.ancestor.o = noObject
	if ancestor != nil {
		a.ancestor.o = ancestor
	}
	a.ancestor.attributes.raw = a.ancestor.o.Attributes
	out, _, err := r.prog.Eval(a)
	if err != nil {
		verdict := unworked(err)
		if verdict.Code == belfry.FilterFalse {
			return Named{}
		}
		return Named{Fault: verdict.Detail}
	}
	g := gathering{seen: map[string]bool{}}
	g.take(out, 0)
	return g.Named
}

// recipientVars are the variables of a filter and the two names more.
type recipientVars struct {
	*Vars
	ancestor objectVal
}

var _ interpreter.Activation = (*recipientVars)(nil)

// ResolveName makes recipientVars an activation of CEL.
func (v *recipientVars) ResolveName(name string) (any, bool) {
	switch name {
	case varAncestor:
		return &v.ancestor, true
	case varDocument:
		return v.object.o.Document, true
	}
	return v.Vars.ResolveName(name)
}

// gathering collects names from a value of CEL.
type gathering struct {
	Named
	seen map[string]bool
}

// take adds what a value names and notes what is wrong with it, if anything.
func (g *gathering) take(v ref.Val, depth int) {
	switch v := v.(type) {
	case types.Null:
	case types.String:
		g.add(string(v))
	case *userVal:
		g.add(v.u.ID)
	case traits.Lister:
		if depth == 3 {
			g.wrong("the result is nested more than three lists deep")
			return
		}
		for it := v.Iterator(); it.HasNext() == types.True; {
			g.take(it.Next(), depth+1)
		}
	default:
		g.wrong(fmt.Sprintf("the result holds a %s where the name of a user or group or an address should be: string(…) makes text of a number", v.Type().TypeName()))
	}
}

// wrong keeps the first fault.
func (g *gathering) wrong(fault string) {
	if g.Fault == "" {
		g.Fault = fault
	}
}

func (g *gathering) add(name string) {
	switch {
	case name == "" || g.seen[name]:
		return
	case len(name) > maxName:
		g.wrong("the result holds a text of " + strconv.Itoa(len(name)) + " bytes, which is no id and no address")
		return
	case !utf8.ValidString(name):
		g.wrong("the result holds a text that is not valid UTF-8")
		return
	}
	g.seen[name] = true
	if len(g.Names) == MaxNames {
		g.Cut++
		return
	}
	g.Names = append(g.Names, name)
}

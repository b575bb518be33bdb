package expr

import (
	"fmt"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/belfryhq/belfry/internal/belfry"
)

// varRecipient is who reads a computed message.
const varRecipient = "recipient"

// maxSaid bounds the text of a computed message, in bytes.
const maxSaid = 64 << 10

// messageEnvironment is the environment of filters, the document and who reads.
var messageEnvironment = extended("messages", documentEnvironment, cel.Variable(varRecipient, userType))

// Message is a compiled expression that says a message or drops it; it is safe
// for concurrent use.
type Message struct{ prog cel.Program }

var messages = computed{
	env:       messageEnvironment,
	more:      []string{varDocument, varRecipient},
	emptyHint: "leave it out to send what the template says",
	gives:     says,
	refusal:   "the expression is of type %s; a message is text, {'subject': …, 'body': …}, or true or false",
	hint:      "string(…) makes text of a number",
}

// CompileMessage type-checks an expression of a message and plans its program.
// Errors are those of Compile.
func CompileMessage(source string) (*Message, error) {
	prog, err := messages.compile(source)
	if err != nil {
		return nil, err
	}
	return &Message{prog: prog}, nil
}

// says reports whether values of a type may be a message.
func says(t *types.Type) bool {
	switch {
	case t.IsExactType(types.StringType), t.IsExactType(types.BoolType), t.IsExactType(types.DynType), t.IsExactType(types.NullType):
		return true
	case t.Kind() == types.MapKind:
		key := t.Parameters()[0]
		return key.IsExactType(types.StringType) || key.IsExactType(types.DynType) || key.Kind() == types.TypeParamKind
	}
	return false
}

// Said is what an expression of a message gives for one reader.
type Said struct {
	None          bool   // there is to be no message
	Subject, Body string // empty = what the template says
	Fault         string // why it gives nothing; empty = it was worked out
}

// Say evaluates the expression. False, null and what has no text are no message (both
// ends of a choice must be of one type: cond ? text : ""), true is one without
// words of its own. Whatever fails, a missing key among it, is a fault.
func (m *Message) Say(v *Vars, recipient *belfry.User) Said {
	a := &messageVars{Vars: v}
	a.recipient.u = noUser
	if recipient != nil {
		a.recipient.u = recipient
		a.recipient.attributes.raw = recipient.Attributes
	}
	out, _, err := m.prog.Eval(a)
	if err != nil {
		return Said{Fault: unworked(err).Detail}
	}
	return said(out)
}

func said(out ref.Val) Said {
	switch v := out.(type) {
	case types.Bool:
		return Said{None: !bool(v)}
	case types.Null:
		return Said{None: true}
	case types.String:
		return Said{Body: short(string(v)), None: v == ""}
	case traits.Mapper:
		var s Said
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			text, ok := v.Get(key).(types.String)
			switch {
			case !ok:
				return Said{Fault: fmt.Sprintf("%v of the result is a %s, not text: string(…) makes text of a number", key.Value(), v.Get(key).Type().TypeName())}
			case key == types.String("subject"):
				s.Subject = short(string(text))
			case key == types.String("body"):
				s.Body = short(string(text))
			default:
				return Said{Fault: fmt.Sprintf("the result has the member %q: subject and body are known", key.Value())}
			}
		}
		s.None = s == Said{}
		return s
	}
	return Said{Fault: fmt.Sprintf("the result is a %s: a message is text, {'subject': …, 'body': …}, or true or false", out.Type().TypeName())}
}

// short is text of a bounded length.
func short(text string) string {
	if len(text) <= maxSaid {
		return text
	}
	at := maxSaid
	for at > 0 && !utf8.RuneStart(text[at]) {
		at--
	}
	return text[:at]
}

// messageVars are the variables of a filter, the document and who reads.
type messageVars struct {
	*Vars
	recipient userVal
}

var _ interpreter.Activation = (*messageVars)(nil)

// ResolveName makes messageVars an activation of CEL.
func (v *messageVars) ResolveName(name string) (any, bool) {
	switch name {
	case varRecipient:
		return &v.recipient, true
	case varDocument:
		return v.object.o.Document, true
	}
	return v.Vars.ResolveName(name)
}

package expr

import (
	"encoding/json"
	"reflect"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Facts are what is known about an event besides itself.
type Facts struct {
	// Ancestors is the event's object first, then its parents, the root
	// last. An event without an object has the root alone.
	Ancestors []belfry.Object
	Actor     *belfry.User // nil = unknown, or none
	Now       time.Time    // of planning
}

// Vars are the variables of one event, decoded on demand: event, object,
// container, actor, record, related, ancestors and now. A Vars belongs to one
// goroutine.
type Vars struct {
	event     eventVal
	object    objectVal
	container objectVal
	actor     userVal
	ancestors []string
	facts     Facts
	params    params // of the program that runs
	looks     []looked
	room      [8]looked // for looks
}

// noObject stands for an object that is not there: all its fields are empty.
var noObject = &belfry.Object{}

// noUser stands for an actor that is not known or may not be.
var noUser = &belfry.User{}

// NewVars are the variables of e. They keep e and facts, which must not change
// while the Vars is in use. Of an anonymous event neither event.actor nor actor
// can be seen: a filter must not be an oracle for who did it.
func NewVars(e *belfry.Event, facts Facts) *Vars {
	v := new(Vars)
	v.Set(e, facts)
	return v
}

// Set makes v, whatever it was, what NewVars makes.
func (v *Vars) Set(e *belfry.Event, facts Facts) {
	*v = Vars{facts: facts}
	v.looks = v.room[:0]
	v.event.e = e
	v.event.data.raw = e.Data
	v.event.record.raw = e.Record
	v.event.variables.raw = e.Variables
	v.object.o, v.container.o, v.actor.u = noObject, noObject, noUser
	if len(facts.Ancestors) > 0 {
		v.object.o = &facts.Ancestors[0]
	}
	if len(facts.Ancestors) > 1 {
		v.container.o = &facts.Ancestors[1]
	}
	v.event.anonymous = e.Has(belfry.FlagAnonymous)
	if facts.Actor != nil && !v.event.anonymous {
		v.actor.u = facts.Actor
	}
	v.object.attributes.raw = v.object.o.Attributes
	v.container.attributes.raw = v.container.o.Attributes
	v.actor.attributes.raw = v.actor.u.Attributes
}

// Names of the variables.
const (
	varEvent     = "event"
	varObject    = "object"
	varContainer = "container"
	varActor     = "actor"
	varRecord    = "record"
	varRelated   = "related"
	varAncestors = "ancestors"
	varNow       = "now"
)

var _ interpreter.Activation = (*Vars)(nil)

// ResolveName makes Vars an activation of CEL.
func (v *Vars) ResolveName(name string) (any, bool) {
	switch name {
	case varEvent:
		return &v.event, true
	case varObject:
		return &v.object, true
	case varContainer:
		return &v.container, true
	case varActor:
		return &v.actor, true
	case varRecord:
		return v.event.record.get(), true
	case varRelated:
		return v.event.e.Related, true
	case varAncestors:
		return v.ancestorIDs(), true
	case varNow:
		return v.facts.Now, true
	}
	return v.params.resolve(name)
}

// Parent makes Vars an activation of CEL.
func (v *Vars) Parent() interpreter.Activation { return nil }

func (v *Vars) ancestorIDs() []string {
	if v.ancestors == nil {
		v.ancestors = make([]string, len(v.facts.Ancestors))
		for i := range v.facts.Ancestors {
			v.ancestors[i] = v.facts.Ancestors[i].ID
		}
	}
	return v.ancestors
}

// lazy is a JSON value decoded at the first look. What is absent or does not
// parse is null.
type lazy struct {
	raw  json.RawMessage
	done bool
	val  any
}

func (l *lazy) get() any {
	if !l.done {
		l.done = true
		if len(l.raw) > 0 {
			if json.Unmarshal(l.raw, &l.val) != nil {
				l.val = nil
			}
		}
	}
	return l.val
}

// getMap is the value as a map, empty when it is none.
func (l *lazy) getMap() any {
	if m, ok := l.get().(map[string]any); ok {
		return m
	}
	return map[string]any{}
}

func (l *lazy) present() bool { return l.get() != nil }

// The three struct types of the environment.
var (
	eventType  = types.NewObjectType("belfry.Event")
	objectType = types.NewObjectType("belfry.Object")
	userType   = types.NewObjectType("belfry.User")
	jsonMap    = types.NewMapType(types.StringType, types.DynType)
	strings_   = types.NewListType(types.StringType)
)

type eventVal struct {
	e                       *belfry.Event
	anonymous               bool
	data, record, variables lazy
	extensions              map[string]any
}

type objectVal struct {
	o          *belfry.Object
	attributes lazy
}

type userVal struct {
	u          *belfry.User
	attributes lazy
}

func (v *eventVal) extensionMap() map[string]any {
	if v.extensions == nil {
		v.extensions = make(map[string]any, len(v.e.Extensions))
		for k, raw := range v.e.Extensions {
			l := lazy{raw: raw}
			v.extensions[k] = l.get()
		}
	}
	return v.extensions
}

// field is a field of one of the struct types: its CEL type and its value of
// the *eventVal, *objectVal or *userVal. A value is set when it is not zero,
// unless set says otherwise.
type field[T any] struct {
	name string
	typ  *types.Type
	get  func(*T) any
	set  func(*T) bool
}

// The fields, in the order people are shown them. The names are those of the
// JSON forms.
var (
	eventFields = []field[eventVal]{
		{name: "id", typ: types.StringType, get: func(v *eventVal) any { return v.e.ID }},
		{name: "source", typ: types.StringType, get: func(v *eventVal) any { return v.e.Source }},
		{name: "type", typ: types.StringType, get: func(v *eventVal) any { return v.e.Type }},
		{name: "time", typ: types.TimestampType, get: func(v *eventVal) any { return v.e.Time }, set: func(v *eventVal) bool { return !v.e.Time.IsZero() }},
		{name: "subject", typ: types.StringType, get: func(v *eventVal) any { return v.e.Subject }},
		{name: "datacontenttype", typ: types.StringType, get: func(v *eventVal) any { return v.e.DataContentType }},
		{name: "dataschema", typ: types.StringType, get: func(v *eventVal) any { return v.e.DataSchema }},
		{name: "object", typ: types.StringType, get: func(v *eventVal) any { return v.e.Object }},
		{name: "actor", typ: types.StringType, get: func(v *eventVal) any {
			if v.anonymous {
				return ""
			}
			return v.e.Actor
		}},
		{name: "related", typ: strings_, get: func(v *eventVal) any { return v.e.Related }, set: func(v *eventVal) bool { return len(v.e.Related) > 0 }},
		{name: "destination", typ: types.StringType, get: func(v *eventVal) any { return v.e.Destination }},
		{name: "data", typ: types.DynType, get: func(v *eventVal) any { return v.data.get() }, set: func(v *eventVal) bool { return v.data.present() }},
		{name: "record", typ: types.DynType, get: func(v *eventVal) any { return v.record.get() }, set: func(v *eventVal) bool { return v.record.present() }},
		{name: "flags", typ: strings_, get: func(v *eventVal) any { return v.e.Flags }, set: func(v *eventVal) bool { return len(v.e.Flags) > 0 }},
		{name: "commit", typ: types.StringType, get: func(v *eventVal) any { return v.e.Commit }},
		{name: "problem", typ: types.StringType, get: func(v *eventVal) any { return v.e.Problem }},
		{name: "resolves", typ: types.StringType, get: func(v *eventVal) any { return v.e.Resolves }},
		{name: "transition", typ: types.StringType, get: func(v *eventVal) any { return v.e.Transition }},
		{name: "comment", typ: types.StringType, get: func(v *eventVal) any { return v.e.Comment }},
		{name: "variables", typ: jsonMap, get: func(v *eventVal) any { return v.variables.getMap() }, set: func(v *eventVal) bool { return v.variables.present() }},
		{name: "extensions", typ: jsonMap, get: func(v *eventVal) any { return v.extensionMap() }, set: func(v *eventVal) bool { return len(v.e.Extensions) > 0 }},
	}
	objectFields = []field[objectVal]{
		{name: "id", typ: types.StringType, get: func(v *objectVal) any { return v.o.ID }},
		{name: "type", typ: types.StringType, get: func(v *objectVal) any { return v.o.Type }},
		{name: "parent", typ: types.StringType, get: func(v *objectVal) any { return v.o.Parent }},
		{name: "title", typ: types.StringType, get: func(v *objectVal) any { return v.o.Title }},
		{name: "url", typ: types.StringType, get: func(v *objectVal) any { return v.o.URL }},
		{name: "attributes", typ: jsonMap, get: func(v *objectVal) any { return v.attributes.getMap() }, set: func(v *objectVal) bool { return v.attributes.present() }},
		{name: "document", typ: types.StringType, get: func(v *objectVal) any { return v.o.Document }},
		{name: "hidden", typ: types.BoolType, get: func(v *objectVal) any { return v.o.Hidden }},
		{name: "implied", typ: types.BoolType, get: func(v *objectVal) any { return v.o.Implied }},
	}
	userFields = []field[userVal]{
		{name: "id", typ: types.StringType, get: func(v *userVal) any { return v.u.ID }},
		{name: "name", typ: types.StringType, get: func(v *userVal) any { return v.u.Name }},
		{name: "email", typ: types.StringType, get: func(v *userVal) any { return v.u.Email }},
		{name: "locale", typ: types.StringType, get: func(v *userVal) any { return v.u.Locale }},
		{name: "time_zone", typ: types.StringType, get: func(v *userVal) any { return v.u.TimeZone }},
		{name: "state", typ: types.StringType, get: func(v *userVal) any { return v.u.State }},
		{name: "attributes", typ: jsonMap, get: func(v *userVal) any { return v.attributes.getMap() }, set: func(v *userVal) bool { return v.attributes.present() }},
	}
)

func (f *field[T]) isSet(v *T) bool {
	if f.set != nil {
		return f.set(v)
	}
	switch x := f.get(v).(type) {
	case string:
		return x != ""
	case bool:
		return x
	default:
		return x != nil
	}
}

// The struct values are values of CEL so that whole variables can be compared
// and put into lists; they are equal when they are the same.

func (v *eventVal) ConvertToNative(t reflect.Type) (any, error)  { return noNative(t) }
func (v *objectVal) ConvertToNative(t reflect.Type) (any, error) { return noNative(t) }
func (v *userVal) ConvertToNative(t reflect.Type) (any, error)   { return noNative(t) }

func (v *eventVal) ConvertToType(t ref.Type) ref.Val  { return noConversion(eventType, t) }
func (v *objectVal) ConvertToType(t ref.Type) ref.Val { return noConversion(objectType, t) }
func (v *userVal) ConvertToType(t ref.Type) ref.Val   { return noConversion(userType, t) }

func (v *eventVal) Equal(o ref.Val) ref.Val { return types.Bool(ref.Val(v) == o) }
func (v *objectVal) Equal(o ref.Val) ref.Val {
	w, ok := o.(*objectVal)
	return types.Bool(ok && v.o.ID == w.o.ID)
}
func (v *userVal) Equal(o ref.Val) ref.Val { return types.Bool(ref.Val(v) == o) }

func (v *eventVal) Type() ref.Type  { return eventType }
func (v *objectVal) Type() ref.Type { return objectType }
func (v *userVal) Type() ref.Type   { return userType }

func (v *eventVal) Value() any  { return v }
func (v *objectVal) Value() any { return v }
func (v *userVal) Value() any   { return v }

func noNative(t reflect.Type) (any, error) {
	return nil, belfry.Errorf(belfry.Invalid, "no conversion to %v", t)
}

func noConversion(from *types.Type, to ref.Type) ref.Val {
	if to == types.TypeType {
		return from
	}
	return types.NewErr("type conversion error from '%s' to '%s'", from, to)
}

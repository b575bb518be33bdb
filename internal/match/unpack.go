package match

import (
	"reflect"
	"sync"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Reflection unpacks every field and takes its time. What nearly every
// subscription holds is read by hand, from the same bytes: an event that many
// want unpacks them all.

// structFields is a struct whose fields are read by hand or by their codecs.
type structFields struct {
	codecs []codec
	hand   []byHand
}

// byHand says which field one is; 0 leaves it to its codec.
type byHand uint8

const (
	handTitle byHand = iota + 1
	handRecipients
	handOwner
	handOrigin
	handCreated
	handVersion

	handExplicit

	handUsers
	handGroups
)

func fieldsOf(t reflect.Type, hand map[string]byHand, but ...string) structFields {
	f := structFields{codecs: fieldCodecs(t, but...), hand: make([]byHand, t.NumField())}
	for i := range f.hand {
		f.hand[i] = hand[t.Field(i).Name]
	}
	return f
}

var (
	// subscriptionFields are those of what an entry's head does not hold.
	subscriptionFields = sync.OnceValue(func() structFields {
		return fieldsOf(reflect.TypeFor[belfry.Subscription](), map[string]byHand{
			"Title": handTitle, "Recipients": handRecipients, "Owner": handOwner, "Origin": handOrigin, "Created": handCreated, "Version": handVersion,
		}, "ID", "Scope", "Types", "ObjectTypes", "Filter", "Combined", "State")
	})
	ruleFields = sync.OnceValue(func() structFields {
		return fieldsOf(reflect.TypeFor[belfry.Rule](), map[string]byHand{"Explicit": handExplicit})
	})
	explicitFields = sync.OnceValue(func() structFields {
		return fieldsOf(reflect.TypeFor[belfry.ExplicitRule](), map[string]byHand{"Users": handUsers, "Groups": handGroups})
	})
)

// subscription reads what packFields wrote of one.
func (u *unpacker) subscription(s *belfry.Subscription) {
	fields := subscriptionFields()
	for i := u.uint(); i != 0; i = u.uint() {
		switch fields.hand[i-1] {
		case handTitle:
			s.Title = u.text()
		case handRecipients:
			s.Recipients = u.rules()
		case handOwner:
			s.Owner = u.text()
		case handOrigin:
			s.Origin = u.text()
		case handCreated:
			s.Created = u.time()
		case handVersion:
			s.Version = u.int()
		default:
			u.reflected(fields.codecs[i-1], reflect.ValueOf(s).Elem().Field(int(i-1)))
		}
	}
}

func (u *unpacker) rules() []belfry.Rule {
	n := int(u.uint()) - 1
	if n < 0 {
		return nil
	}
	var list []belfry.Rule
	if n == 1 && u.room != nil {
		list = u.room.rules[:]
	} else {
		list, u.room = make([]belfry.Rule, n), nil
	}
	fields := ruleFields()
	for k := range list {
		for i := u.uint(); i != 0; i = u.uint() {
			if fields.hand[i-1] == handExplicit {
				list[k].Explicit = u.explicit()
				continue
			}
			u.reflected(fields.codecs[i-1], reflect.ValueOf(&list[k]).Elem().Field(int(i-1)))
		}
	}
	u.room = nil
	return list
}

func (u *unpacker) explicit() *belfry.ExplicitRule {
	if u.uint() == 0 {
		return nil
	}
	var x *belfry.ExplicitRule
	if u.room != nil {
		x = &u.room.explicit
	} else {
		x = new(belfry.ExplicitRule)
	}
	fields := explicitFields()
	for i := u.uint(); i != 0; i = u.uint() {
		switch fields.hand[i-1] {
		case handUsers:
			x.Users = u.names()
		case handGroups:
			x.Groups = u.names()
		default:
			u.reflected(fields.codecs[i-1], reflect.ValueOf(x).Elem().Field(int(i-1)))
		}
	}
	return x
}

func (u *unpacker) names() []string {
	n := int(u.uint()) - 1
	if n < 0 {
		return nil
	}
	var list []string
	if n == 1 && u.room != nil {
		list, u.room = u.room.names[:], nil
	} else {
		list = make([]string, n)
	}
	for i := range list {
		list[i] = u.text()
	}
	return list
}

// reflected reads one value by its codec, from a copy: u itself stays where it
// is cheap.
func (u *unpacker) reflected(c codec, v reflect.Value) {
	there := *u
	c.unpack(&there, v)
	u.pos = there.pos
}

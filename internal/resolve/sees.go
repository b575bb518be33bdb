package resolve

import (
	"cmp"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Sees is why a user may not be told of events of a type on an object, whatever
// names her; nil when she may.
func Sees(dir Directory, object string, typ belfry.EventType, user string, now time.Time) (*belfry.Reason, error) {
	people, err := dir.Persons([]string{user})
	if err != nil {
		return nil, err
	}
	if reason := Away(people[user]); reason != nil {
		return reason, nil
	}
	return SeesAt(dir, object, &typ, user, now)
}

// SeesAt is Sees of a user who is known to be active.
func SeesAt(dir Directory, object string, typ *belfry.EventType, user string, now time.Time) (*belfry.Reason, error) {
	chain, err := ancestors(dir, cmp.Or(object, Root))
	if err != nil || !seesByRole(typ, chain) {
		return nil, err // as nearly always: everybody may
	}
	e := &belfry.Event{Object: object}
	r := &run{dir: dir, acc: &belfry.Accepted{Event: e}, e: e, typ: *typ, now: now}
	for _, load := range []func() error{r.loadChain, func() error { return r.loadGrants(nil) }, func() error { return r.loadGroups(nil) }} {
		if err := load(); err != nil {
			return nil, err
		}
	}
	r.see.prepare(r)
	return r.see.refuse(r, user), nil
}

// MaySubscribe is why a user may not subscribe by herself to events of a type at
// an object; nil when she may. Whoever may not see them may not.
func MaySubscribe(dir Directory, object string, typ belfry.EventType, user string, now time.Time) (*belfry.Reason, error) {
	why, err := Sees(dir, object, typ, user, now)
	if err != nil || why != nil {
		return why, err
	}
	switch typ.Subscribe.Who {
	case belfry.JoinNone:
		return &belfry.Reason{Code: belfry.MayNotSubscribe, Detail: "nobody does by themselves"}, nil
	case belfry.JoinRoles:
		why, err := Sees(dir, object, belfry.EventType{SeeRoles: typ.Subscribe.Roles}, user, now)
		if err == nil && why != nil && why.Code == belfry.MayNotSee {
			why.Code = belfry.MayNotSubscribe
		}
		return why, err
	}
	return nil, nil
}

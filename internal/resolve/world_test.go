package resolve

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// world is a Directory of maps.
type world struct {
	objects map[string]belfry.Object
	grants  map[string][]belfry.Grant
	groups  map[string]belfry.Group
	users   map[string]*belfry.Person
	members map[string][]belfry.Member
	outs    map[string][]string
	steps   []step // in the order they came
	fail    error
	chunk   int // of Members and UserIDs; 0 = what is asked for
}

// step is one of a history, with the event that brought it.
type step struct {
	event string
	belfry.HistoryEntry
}

// step appends to the history of an object: a step a minute from noon on,
// brought by the event evt_0… of that number.
func (w *world) step(object, transition, actor string, variables ...string) *world {
	n := len(w.steps)
	h := belfry.HistoryEntry{Object: object, Document: w.objects[object].Document, Transition: transition, Actor: actor, Time: noon.Add(time.Duration(n) * time.Minute)}
	if len(variables) > 0 {
		h.Variables = []byte(variables[0])
	}
	w.steps = append(w.steps, step{fmt.Sprintf("evt_0%04d", n), h})
	return w
}

func (w *world) Steps(q belfry.StepQuery) (out []belfry.HistoryEntry, next string, err error) {
	limit := q.Limit
	if w.chunk > 0 {
		limit = w.chunk
	}
	for i := len(w.steps) - 1; i >= 0; i-- {
		s := &w.steps[i]
		if q.Document == "" && s.Object != q.Object || q.Document != "" && s.Document != q.Document || s.event >= q.Event ||
			q.Before != "" && s.event >= q.Before {
			continue
		}
		if len(out) == limit {
			return out, next, w.fail
		}
		out, next = append(out, s.HistoryEntry), s.event
	}
	return out, "", w.fail
}

func newWorld() *world {
	return &world{objects: map[string]belfry.Object{}, grants: map[string][]belfry.Grant{}, groups: map[string]belfry.Group{},
		users: map[string]*belfry.Person{}, members: map[string][]belfry.Member{}, outs: map[string][]string{}}
}

func (w *world) object(id, parent string, edit ...func(*belfry.Object)) *world {
	o := belfry.Object{ID: id, Parent: parent}
	for _, f := range edit {
		f(&o)
	}
	w.objects[id] = o
	return w
}

func (w *world) user(ids ...string) *world {
	for _, id := range ids {
		w.users[id] = &belfry.Person{User: belfry.User{ID: id, State: belfry.UserActive}}
	}
	return w
}

func (w *world) state(state string, ids ...string) *world {
	w.user(ids...)
	for _, id := range ids {
		w.users[id].User.State = state
	}
	return w
}

func (w *world) email(id, email string) *world {
	w.users[id].User.Email = email
	return w
}

func (w *world) group(id string, members ...string) *world {
	g := w.groups[id]
	g.ID, g.Members = id, append(g.Members, members...)
	w.groups[id] = g
	return w
}

func (w *world) address(id, address string) *world {
	g := w.groups[id]
	g.ID, g.Address = id, address
	w.groups[id] = g
	return w
}

func (w *world) grant(object, role string, principals ...string) *world {
	for _, p := range principals {
		w.grants[object] = append(w.grants[object], belfry.Grant{Principal: p, Role: role, Object: object})
	}
	return w
}

func (w *world) member(sub string, ms ...belfry.Member) *world {
	for _, m := range ms {
		m.Subscription = sub
		w.members[sub] = append(w.members[sub], m)
	}
	return w
}

func (w *world) Ancestors(id string) ([]belfry.Object, error) {
	if w.fail != nil {
		return nil, w.fail
	}
	var chain []belfry.Object
	for id != "" && id != Root {
		o, ok := w.objects[id]
		if !ok {
			o = belfry.Object{ID: id, Implied: true}
		}
		chain = append(chain, o)
		id = o.Parent
	}
	root := w.objects[Root]
	root.ID = Root
	return append(chain, root), nil
}

func (w *world) isGroup(id string) bool {
	_, ok := w.groups[id]
	return ok || IsPseudo(id)
}

func (w *world) Grants(objects []string) (map[string]Grants, error) {
	out := map[string]Grants{}
	for _, o := range objects {
		var g Grants
		for _, x := range w.grants[o] {
			if w.isGroup(x.Principal) {
				g.Groups = append(g.Groups, x)
			} else {
				g.Users = append(g.Users, x)
			}
		}
		byPrincipal := func(a, b belfry.Grant) int { return strings.Compare(a.Principal, b.Principal) }
		slices.SortStableFunc(g.Users, byPrincipal)
		slices.SortStableFunc(g.Groups, byPrincipal)
		out[o] = g
	}
	return out, nil
}

func (w *world) Groups(ids []string) (map[string]Group, error) {
	out := map[string]Group{}
	for _, id := range ids {
		g, ok := w.groups[id]
		if !ok {
			continue
		}
		split := Group{ID: id, Address: g.Address}
		for _, m := range g.Members {
			if w.isGroup(m) {
				split.Groups = append(split.Groups, m)
			} else {
				split.Users = append(split.Users, m)
			}
		}
		slices.Sort(split.Users)
		slices.Sort(split.Groups)
		split.Users = slices.Compact(split.Users)
		out[id] = split
	}
	return out, nil
}

func (w *world) Persons(ids []string) (map[string]*belfry.Person, error) {
	out := map[string]*belfry.Person{}
	for _, id := range ids {
		if p := w.users[id]; p != nil {
			out[id] = p
		}
	}
	return out, nil
}

func (w *world) PersonsByEmail(emails []string) (map[string]string, error) {
	out := map[string]string{}
	for id, p := range w.users {
		for _, a := range emailsOf(p) {
			if slices.Contains(emails, a) && (out[a] == "" || id < out[a]) {
				out[a] = id
			}
		}
	}
	return out, nil
}

func (w *world) Members(sub, after string, limit int) ([]belfry.Member, error) {
	if w.chunk > 0 {
		limit = w.chunk
	}
	all := slices.Clone(w.members[sub])
	slices.SortStableFunc(all, func(a, b belfry.Member) int { return strings.Compare(a.Principal, b.Principal) })
	var out []belfry.Member
	for _, m := range all {
		if m.Principal <= after {
			continue
		}
		if len(out) >= limit && out[len(out)-1].Principal != m.Principal {
			break
		}
		out = append(out, m)
	}
	return out, nil
}

func (w *world) JoinedGroups(sub string) ([]belfry.Member, error) {
	var out []belfry.Member
	for _, m := range w.members[sub] {
		if w.isGroup(m.Principal) {
			out = append(out, m)
		}
	}
	return out, nil
}

func (w *world) OptOuts(sub, after string, limit int) ([]belfry.OptOut, error) {
	if w.chunk > 0 {
		limit = w.chunk
	}
	if !utf8.ValidString(after) { // what a database makes of it
		return nil, belfry.Errorf(belfry.Invalid, "%q is no text", after)
	}
	all := slices.Clone(w.outs[sub])
	slices.Sort(all)
	var out []belfry.OptOut
	for _, who := range slices.Compact(all) {
		if who > after && len(out) < limit {
			out = append(out, belfry.OptOut{Subscription: sub, Who: who})
		}
	}
	return out, nil
}

func (w *world) UserIDs(after string, limit int) ([]string, error) {
	if w.chunk > 0 {
		limit = w.chunk
	}
	var out []string
	for id, p := range w.users {
		if id > after && p.User.State == belfry.UserActive {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out[:min(limit, len(out))], nil
}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func event(object string) *belfry.Accepted {
	return &belfry.Accepted{Tenant: "default", EventID: "evt_1", At: noon, Event: &belfry.Event{ID: "1", Type: "core.course_updated", Object: object}}
}

func match(sub belfry.Subscription) belfry.Match {
	if sub.ID == "" {
		sub.ID = "sub_1"
	}
	return belfry.Match{Subscription: &sub, Scope: sub.ScopeObject(), Because: []belfry.Reason{{Code: belfry.ScopeMatched, Subscription: sub.ID}}}
}

func (w *world) MembersAmong(sub string, who []string) (out []belfry.Member, err error) {
	for after := ""; ; {
		list, err := w.Members(sub, after, len(who))
		if err != nil || len(list) == 0 {
			return out, err
		}
		for _, m := range list {
			if slices.Contains(who, m.Principal) {
				out = append(out, m)
			}
		}
		after = list[len(list)-1].Principal
	}
}

func (w *world) OptOutsAmong(sub string, who []string) (out []belfry.OptOut, err error) {
	for after := ""; ; {
		list, err := w.OptOuts(sub, after, len(who))
		if err != nil || len(list) == 0 {
			return out, err
		}
		for _, o := range list {
			if slices.Contains(who, o.Who) {
				out = append(out, o)
			}
		}
		after = list[len(list)-1].Who
	}
}

package pipeline

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/match"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/route"
)

// Bounds of answers about places.
const (
	hereSubscriptions = 200 // looked up for one type
	herePeople        = 100 // shown of one type
	typesPage         = 50  // types in one answer
	hersAtMost        = 10_000
)

// supposed is an event that is not stored, as of now.
func (x *Explainer) supposed(ctx context.Context, tenant string, e *belfry.Event) (*belfry.Accepted, time.Time, error) {
	version, err := x.Store.Version(ctx, tenant)
	now := x.Now()
	return &belfry.Accepted{Tenant: tenant, EventID: belfry.EventID(now, 0, 0), At: now, AsOf: version, Event: e}, now, err
}

// look is what one question about an event works on.
func (x *Explainer) look(ctx context.Context, acc *belfry.Accepted, now time.Time) (*match.Snapshot, *view, match.Facts, error) {
	snapshot, err := x.Stages.Subscriptions.Snapshot(ctx, acc.Tenant)
	if err != nil {
		return nil, nil, match.Facts{}, err
	}
	v, err := x.Stages.view(ctx, acc)
	if err != nil {
		return nil, nil, match.Facts{}, err
	}
	facts, err := v.facts(acc.Event, now)
	return snapshot, v, facts, err
}

// Interested says whether one subscription wants an event that is not stored,
// and why, or why not.
func (x *Explainer) Interested(ctx context.Context, tenant, id string, e *belfry.Event) (belfry.AnswerSubscription, error) {
	answer := belfry.AnswerSubscription{ID: id, Because: []belfry.ReasonView{}}
	acc, now, err := x.supposed(ctx, tenant, e)
	if err != nil {
		return answer, err
	}
	snapshot, _, facts, err := x.look(ctx, acc, now)
	if err != nil {
		return answer, err
	}
	m, wants, known := snapshot.Interest(id, e, facts)
	if !known {
		return answer, x.idle(ctx, tenant, id, &answer)
	}
	return subscriptionAnswer(&m, wants), nil
}

// idle says why a subscription that is not active wants nothing; NotFound when
// there is none.
func (x *Explainer) idle(ctx context.Context, tenant, id string, answer *belfry.AnswerSubscription) error {
	_, reason, err := x.Stages.Subscriptions.Standing(ctx, tenant, id)
	if err != nil {
		return err
	}
	if reason == nil || reason.Detail == "" {
		return belfry.Errorf(belfry.NotFound, "there is no subscription %q that is active or paused", id)
	}
	answer.Because = belfry.ViewReasons([]belfry.Reason{*reason})
	return nil
}

// Recipients says whom one active subscription would tell of an event, stored
// (by its id) or supposed, whether or not its filter wants it: the answer has
// the form of a trace.
func (x *Explainer) Recipients(ctx context.Context, tenant, id, eventID string, e *belfry.Event, q belfry.TraceQuery) (belfry.Answer, error) {
	var acc *belfry.Accepted
	now := x.Now()
	if eventID != "" {
		events, err := x.Store.Events(ctx, tenant, []string{eventID})
		if err != nil {
			return belfry.Answer{}, err
		}
		if acc = events[eventID]; acc == nil {
			return belfry.Answer{}, belfry.Errorf(belfry.NotFound, "there is no event %s", eventID)
		}
	} else {
		var err error
		if acc, now, err = x.supposed(ctx, tenant, e); err != nil {
			return belfry.Answer{}, err
		}
	}
	answer := belfry.Answer{Event: acc.View(), Planned: true, Computed: true, Subscriptions: []belfry.AnswerSubscription{}, People: []belfry.AnswerPerson{}}
	if eventID == "" {
		answer.Event = belfry.EventView{Event: *e}
	}
	snapshot, v, facts, err := x.look(ctx, acc, now)
	if err != nil {
		return answer, err
	}
	m, wants, known := snapshot.Interest(id, acc.Event, facts)
	if !known {
		none := belfry.AnswerSubscription{ID: id}
		if err := x.idle(ctx, tenant, id, &none); err != nil {
			return answer, err
		}
		answer.Subscriptions = append(answer.Subscriptions, none)
		return answer, nil
	}
	answer.Subscriptions = append(answer.Subscriptions, subscriptionAnswer(&m, wants))
	err = x.people(ctx, acc, v, []belfry.Match{m}, q, now, &answer)
	return answer, err
}

// types are the catalogue's types that can be subscribed to at an object of a
// type, after a name; next continues.
func (x *Explainer) types(ctx context.Context, tenant, objectType, after string, limit int) (list []belfry.EventType, next string, err error) {
	if limit <= 0 || limit > typesPage {
		limit = typesPage
	}
	const page = 500
	for {
		docs, err := x.Store.Documents(ctx, tenant, belfry.KindEventType, after, page)
		if err != nil {
			return nil, "", err
		}
		for i := range docs {
			after = docs[i].ID
			var t belfry.EventType
			if err := json.Unmarshal(docs[i].Body, &t); err != nil {
				return nil, "", belfry.Errorf(belfry.Internal, "event type %s is stored in a form this version does not read: %w", after, err)
			}
			switch {
			case t.Discovered || t.Deprecated:
			case len(t.ObjectTypes) > 0 && !slices.Contains(t.ObjectTypes, objectType):
			default:
				if len(list) == limit {
					return list, list[limit-1].Name, nil
				}
				list = append(list, t)
			}
		}
		if len(docs) < page {
			return list, "", nil
		}
	}
}

// here is what a question about a place works on.
type here struct {
	snapshot *match.Snapshot
	view     *view
	facts    match.Facts
	now      time.Time
	acc      *belfry.Accepted
	types    []belfry.EventType
	next     string
	matches  map[string][]belfry.Match
}

// at gathers what is looked up at an object for the types of a page.
func (x *Explainer) at(ctx context.Context, tenant, object, only, after string, limit int) (h here, err error) {
	if h.acc, h.now, err = x.supposed(ctx, tenant, &belfry.Event{Object: object}); err != nil {
		return h, err
	}
	if h.snapshot, h.view, h.facts, err = x.look(ctx, h.acc, h.now); err != nil {
		return h, err
	}
	at := &h.view.ancestors[0]
	if at.ID != belfry.RootObject {
		known, err := h.view.dir.Objects([]string{at.ID})
		if err != nil {
			return h, err
		}
		if o, ok := known[at.ID]; !ok || o.Deleted != nil {
			return h, belfry.Errorf(belfry.NotFound, "there is no object %q", object)
		}
	}
	if only == "" {
		if h.types, h.next, err = x.types(ctx, tenant, at.Type, after, limit); err != nil {
			return h, err
		}
	} else {
		t, _, err := x.Stages.Directory.EventType(ctx, tenant, only)
		if err != nil {
			return h, err
		}
		t.Name = only // asked for by name: the catalogue need not know it
		h.types = []belfry.EventType{t}
	}
	names := make([]string, len(h.types))
	for i := range h.types {
		names[i] = h.types[i].Name
	}
	h.matches = h.snapshot.Here(names, h.facts, hereSubscriptions)
	return h, nil
}

// Generators says what can be subscribed to at an object: the catalogue's
// types that happen on objects of its type. For a user it also says whether she
// may see them and subscribe to them by herself, and what she joined or opted out of.
func (x *Explainer) Generators(ctx context.Context, tenant, object, user, after string, limit int) (list []belfry.Generator, next string, err error) {
	h, err := x.at(ctx, tenant, object, "", after, limit)
	if err != nil {
		return nil, "", err
	}
	joined, out := map[string]bool{}, map[string]bool{}
	if user != "" {
		members, err := x.Store.Joined(ctx, tenant, user, hersAtMost)
		if err != nil {
			return nil, "", err
		}
		for i := range members {
			within := members[i].Object == "" || slices.ContainsFunc(h.view.ancestors, func(o belfry.Object) bool { return o.ID == members[i].Object })
			joined[members[i].Subscription] = joined[members[i].Subscription] || within
		}
		outs, err := x.Store.OptedOut(ctx, tenant, user, hersAtMost)
		if err != nil {
			return nil, "", err
		}
		for i := range outs {
			out[outs[i].Subscription] = true
		}
	}
	list = []belfry.Generator{}
	for i := range h.types {
		t := &h.types[i]
		g := belfry.Generator{Type: t.Name, Title: t.Title, Category: t.Category, Object: h.view.ancestors[0].ID, Subscribe: t.Subscribe, Subscriptions: []belfry.GeneratorSubscription{}}
		for k := range h.matches[t.Name] {
			s := h.matches[t.Name][k].Subscription
			g.Subscriptions = append(g.Subscriptions, belfry.GeneratorSubscription{ID: s.ID, Title: s.Title, Joined: joined[s.ID], OptedOut: out[s.ID]})
		}
		if user != "" {
			why, err := resolve.MaySubscribe(h.view.dir, g.Object, *t, user, h.now)
			if err != nil {
				return nil, "", err
			}
			may, sees := why == nil, why == nil || why.Code == belfry.MayNotSubscribe
			if g.MaySee, g.MaySubscribe = &sees, &may; !may {
				g.Because = belfry.ViewReasons([]belfry.Reason{*why})
			}
		}
		list = append(list, g)
	}
	return list, h.next, nil
}

// WhoGetsWhat says who would be told of each type at an object, or of one of
// them, by the rules as they are now and whatever filters say.
func (x *Explainer) WhoGetsWhat(ctx context.Context, tenant, object, typ, after string, limit int) (list []belfry.HereAnswer, next string, err error) {
	h, err := x.at(ctx, tenant, object, typ, after, limit)
	if err != nil {
		return nil, "", err
	}
	list = []belfry.HereAnswer{}
	for i := range h.types {
		t := &h.types[i]
		matches := h.matches[t.Name]
		if len(matches) == 0 && typ == "" {
			continue
		}
		answer := belfry.HereAnswer{Type: t.Name, Title: t.Title, Object: h.view.ancestors[0].ID, Subscriptions: []belfry.AnswerSubscription{}, People: []belfry.AnswerPerson{}, Kinds: map[string]int{}}
		for k := range matches {
			answer.Subscriptions = append(answer.Subscriptions, subscriptionAnswer(&matches[k], true))
		}
		event := *h.acc
		event.Event = &belfry.Event{Type: t.Name, Object: h.acc.Event.Object}
		v := *h.view
		v.typ = *t
		var told belfry.Answer
		if err := x.people(ctx, &event, &v, matches, belfry.TraceQuery{Limit: herePeople}, h.now, &told); err != nil {
			return nil, "", err
		}
		answer.People, answer.More = append(answer.People, told.People...), told.Next != ""
		for k := range told.People {
			if p := &told.People[k]; p.Outcome == belfry.Told && len(p.Because) > 0 {
				answer.Kinds[p.Because[0].Code]++
			}
		}
		list = append(list, answer)
	}
	return list, h.next, nil
}

// Effective says what holds for a user for a type at an object, and where each
// setting comes from: by a subscription that leaves all to her, or by the one
// that is named.
func (x *Explainer) Effective(ctx context.Context, tenant, user, object, typ, subscription string) ([]belfry.EffectiveSetting, error) {
	acc, now, err := x.supposed(ctx, tenant, &belfry.Event{Object: object, Type: typ})
	if err != nil {
		return nil, err
	}
	v, err := x.Stages.view(ctx, acc)
	if err != nil {
		return nil, err
	}
	person, err := v.dir.Person(user)
	if err != nil {
		return nil, err
	}
	if person == nil || person.User.State == belfry.UserDeleted {
		return nil, belfry.Errorf(belfry.NotFound, "there is no user %q", user)
	}
	h := route.Hers{Person: person, EventType: typ, Type: v.typ, Ancestors: v.ancestors, Now: now}
	_, said, err := x.Stages.defaults(ctx, tenant)
	if err != nil {
		return nil, err
	}
	h.Defaults, h.Often, h.Fallback = said.Channels, said.Frequency, said.Fallback
	if subscription != "" {
		if h.Via, err = x.hersBy(ctx, v, tenant, user, subscription); err != nil {
			return nil, err
		}
	}
	return route.EffectiveSettings(h), nil
}

// hersBy is the way a subscription would tell a user at a place, with how she
// joined it, the closest join first.
func (x *Explainer) hersBy(ctx context.Context, v *view, tenant, user, subscription string) (*belfry.Via, error) {
	sub, _, err := x.Stages.Subscriptions.Standing(ctx, tenant, subscription)
	if err != nil {
		return nil, err
	}
	if sub == nil {
		return nil, belfry.Errorf(belfry.NotFound, "there is no subscription %q that is active or paused", subscription)
	}
	via := &belfry.Via{Match: &belfry.Match{Subscription: sub}}
	for i := range sub.Notify {
		n := &sub.Notify[i]
		if n.Endpoint != "" {
			continue
		}
		if len(n.Channels) == 0 { // each person's own choice
			via.Notify.Channels = nil
			break
		}
		via.Notify.Channels = append(via.Notify.Channels, n.Channels...)
	}
	members, err := x.Store.Joined(ctx, tenant, user, hersAtMost)
	if err != nil {
		return nil, err
	}
	closest := len(v.ancestors) + 1
	for i := range members {
		steps := len(v.ancestors)
		if m := &members[i]; m.Object != "" {
			steps = slices.IndexFunc(v.ancestors, func(o belfry.Object) bool { return o.ID == m.Object })
		}
		if members[i].Subscription == subscription && steps >= 0 && steps < closest {
			closest, via.Member = steps, &members[i]
		}
	}
	return via, nil
}

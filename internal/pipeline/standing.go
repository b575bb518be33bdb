package pipeline

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/condition"
	"github.com/belfryhq/belfry/internal/match"
	"github.com/belfryhq/belfry/internal/words"
)

// GroupReader reads where conditions stand.
type GroupReader interface {
	ConditionGroups(ctx context.Context, tenant, subscription, after string, only *string, limit int) ([]belfry.ConditionGroup, error)
	Observations(ctx context.Context, g *belfry.ConditionGroup, from time.Time, limit int) ([]belfry.Observed, error)
	ObservationsBefore(ctx context.Context, g *belfry.ConditionGroup, after, before time.Time, limit int) ([]belfry.Observed, error)
}

// shownObservations bounds what an answer counts of a group.
const shownObservations = condition.MaxCount

// Conditions lists where the condition of a subscription stands in its groups,
// after one of them.
func (x *Explainer) Conditions(ctx context.Context, tenant, id, after string, limit int) (list []belfry.ConditionView, next string, err error) {
	sub, reason, err := x.Stages.Subscriptions.Standing(ctx, tenant, id)
	if err != nil {
		return nil, "", err
	}
	if sub == nil {
		if reason != nil && reason.Detail != "" {
			return []belfry.ConditionView{}, "", nil
		}
		return nil, "", belfry.Errorf(belfry.NotFound, "there is no subscription %q that is active or paused", id)
	}
	if sub.Condition == nil {
		return nil, "", belfry.Errorf(belfry.NotFound, "subscription %s has no condition", id)
	}
	if limit <= 0 || limit > 100 {
		limit = 100
	}
	spec, _ := condition.Parse(sub.Condition)
	groups, err := x.Store.ConditionGroups(ctx, tenant, id, after, nil, limit)
	if err != nil {
		return nil, "", err
	}
	if !spec.Grouped { // its one group sorts before all
		none := ""
		if groups, err = x.Store.ConditionGroups(ctx, tenant, id, "", &none, 1); err != nil {
			return nil, "", err
		}
	}
	list = []belfry.ConditionView{}
	now := x.Now()
	for i := range groups {
		v, _, err := x.standing(ctx, &groups[i], &spec, nil, now)
		if err != nil {
			return nil, "", err
		}
		list = append(list, *v)
	}
	if spec.Grouped && len(groups) == limit {
		next = groups[limit-1].Group
	}
	return list, next, nil
}

// standing is where a condition stands in a group, with one observation more
// when there is one that is only supposed; then it also says whether that one
// meets it.
func (x *Explainer) standing(ctx context.Context, g *belfry.ConditionGroup, spec *condition.Spec, more *belfry.Observed, now time.Time) (*belfry.ConditionView, *condition.Firing, error) {
	var st condition.State
	if len(g.State) > 0 {
		if err := json.Unmarshal(g.State, &st); err != nil {
			return nil, nil, belfry.Errorf(belfry.Internal, "the state of a condition cannot be read: %w", err)
		}
	}
	var counted []belfry.Observed
	var err error
	if spec.Count > 0 {
		counted, err = x.Store.ObservationsBefore(ctx, g, spec.Window(&st, now), now.Add(time.Microsecond), shownObservations)
		if err != nil {
			return nil, nil, err
		}
		for len(counted) > 0 && (!st.Reset.Before(counted[0]) || !counted[0].At.After(now.Add(-spec.Span))) {
			counted = counted[1:]
		}
	}
	if more == nil {
		return say(spec.View(&st, g.Group, counted, now)), nil, nil
	}
	sure := *spec
	sure.Wait = 0
	look := condition.Look{Now: now, Before: counted, Fresh: []belfry.Observed{*more}}
	if spec.Change() && !g.Low.IsZero() { // what waits comes first
		if look.Fresh, err = x.Store.Observations(ctx, g, g.Low, shownObservations); err != nil {
			return nil, nil, err
		}
		look.Fresh = append(look.Fresh, *more)
		slices.SortFunc(look.Fresh, func(a, b belfry.Observed) int {
			if a.Before(b) {
				return -1
			}
			return 1
		})
	}
	f := sure.Look(st, look)
	for i := range f.Firings {
		if spec.Change() && f.Firings[i].Events[0] != more.EventID {
			continue
		}
		if f.Firings[i].Over == spec.Absence() { // an absence: that it is over
			return say(spec.View(&f.State, g.Group, nil, now)), &f.Firings[i], nil
		}
	}
	if spec.Count > 0 {
		counted = append(counted, *more)
	}
	return say(spec.View(&f.State, g.Group, counted, now)), nil, nil
}

// say puts it into words: English, until somebody knows the reader.
func say(v *belfry.ConditionView) *belfry.ConditionView {
	v.Text = words.For().Condition(v)
	return v
}

// weigh explains what a subscription's condition makes of an event: the answer
// for the subscription and, when the event is only supposed and would meet the
// condition, what would be told then.
func (x *Explainer) weigh(ctx context.Context, acc *belfry.Accepted, v *view, facts match.Facts, m *belfry.Match, supposed bool, now time.Time) (answer belfry.AnswerSubscription, would *belfry.Accepted, err error) {
	c, spec := weigh(acc, v, facts, m.Subscription)
	c.reason.Subscription = m.Subscription.ID
	because := append(append([]belfry.Reason(nil), m.Because...), c.reason)
	answer = belfry.AnswerSubscription{ID: m.Subscription.ID, Title: m.Subscription.Title, Matched: true, Because: belfry.ViewReasons(because)}
	if c.observation == nil {
		return answer, nil, nil
	}
	g := belfry.ConditionGroup{Tenant: acc.Tenant, Subscription: m.Subscription.ID, Group: c.observation.Group, Born: now}
	rows, err := x.Store.ConditionGroups(ctx, acc.Tenant, m.Subscription.ID, "", &g.Group, 1)
	if err != nil {
		return answer, nil, err
	}
	if len(rows) > 0 {
		g = rows[0]
	}
	var more *belfry.Observed
	if supposed {
		more = &belfry.Observed{At: c.observation.At, EventID: acc.EventID, Value: c.observation.Value}
	}
	var met *condition.Firing
	if answer.Condition, met, err = x.standing(ctx, &g, &spec, more, now); err != nil || met == nil {
		return answer, nil, err
	}
	known := map[string]*belfry.Accepted{acc.EventID: acc}
	stored, err := x.Store.Events(ctx, acc.Tenant, met.Events)
	if err != nil {
		return answer, nil, err
	}
	for id, e := range stored {
		known[id] = e
	}
	e, err := derived(&g, m.Subscription, &spec, met, known)
	if err != nil {
		return answer, nil, err
	}
	code := belfry.ConditionIsMet
	if met.Over {
		code = belfry.ConditionIsOver
	}
	answer.Because = append(answer.Because, belfry.ViewReasons([]belfry.Reason{{Code: code, Subscription: m.Subscription.ID, Group: g.Group}})...)
	return answer, &belfry.Accepted{Tenant: acc.Tenant, EventID: acc.EventID, At: acc.At, AsOf: acc.AsOf, Event: &e}, nil
}

// conditions explains matches, of which some have conditions: the subscriptions, the
// matches that tell of the event itself, and the events that conditions would
// make of it.
func (x *Explainer) conditions(ctx context.Context, acc *belfry.Accepted, v *view, facts match.Facts, matches []belfry.Match, supposed bool, now time.Time, answer *belfry.Answer) (plain []belfry.Match, would []*belfry.Accepted, err error) {
	for i := range matches {
		m := &matches[i]
		if !bare(m, acc) {
			plain = append(plain, *m)
			answer.Subscriptions = append(answer.Subscriptions, subscriptionAnswer(m, true))
			continue
		}
		a, e, err := x.weigh(ctx, acc, v, facts, m, supposed, now)
		if err != nil {
			return nil, nil, err
		}
		answer.Subscriptions = append(answer.Subscriptions, a)
		if e != nil {
			would = append(would, e)
		}
	}
	return plain, would, nil
}

// wouldTell adds whom the events would tell that conditions would make.
func (x *Explainer) wouldTell(ctx context.Context, events []*belfry.Accepted, q belfry.TraceQuery, now time.Time, answer *belfry.Answer) error {
	for _, acc := range events {
		snapshot, v, facts, err := x.look(ctx, acc, now)
		if err != nil {
			return err
		}
		matches, err := x.Stages.made(ctx, acc, v, snapshot, snapshot.Match(acc.Event, facts))
		if err != nil {
			return err
		}
		var told []belfry.Match
		for i := range matches {
			if !bare(&matches[i], acc) {
				told = append(told, matches[i])
			}
		}
		if len(told) == 0 {
			continue
		}
		if err := x.people(ctx, acc, v, told, q, now, answer); err != nil {
			return err
		}
	}
	return nil
}

// now is where a condition stands now in the group that an event was counted
// in, as its reasons say; nil when it does not count.
func (x *Explainer) now(ctx context.Context, tenant string, sub *belfry.Subscription, because []belfry.Reason) (*belfry.ConditionView, error) {
	for i := range because {
		if r := &because[i]; r.Code == belfry.ConditionCounted || r.Code == belfry.ConditionFuture || r.Code == belfry.ConditionIsMet || r.Code == belfry.ConditionIsOver {
			rows, err := x.Store.ConditionGroups(ctx, tenant, sub.ID, "", &r.Group, 1)
			if err != nil || len(rows) == 0 {
				return nil, err
			}
			spec, _ := condition.Parse(sub.Condition)
			v, _, err := x.standing(ctx, &rows[0], &spec, nil, x.Now())
			return v, err
		}
	}
	return nil, nil
}

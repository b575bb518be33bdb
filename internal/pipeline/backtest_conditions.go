package pipeline

import (
	"context"
	"encoding/json"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/condition"
	"github.com/belfryhq/belfry/internal/match"
)

// supposedGroup is a group of a condition in a backtest.
type supposedGroup struct {
	state condition.State
	seen  []belfry.Observed // within reach
	last  *belfry.Accepted
}

// meets says what the condition of the subscription that is tried out makes of
// an event that it wants, going by the order in which events came: the event
// that would have told that it is met; nil = it would not have told. Events
// before the backtest's first one count for nothing.
func (run *backtest) meets(ctx context.Context, s *Stages, acc *belfry.Accepted, v *view, facts match.Facts, m *belfry.Match) (*belfry.Accepted, *view, error) {
	c, spec := weigh(acc, v, facts, run.sub)
	if c.observation == nil {
		return nil, nil, nil
	}
	spec.Wait = 0
	if run.groups == nil {
		run.groups = map[string]*supposedGroup{}
	}
	g := run.groups[c.observation.Group]
	if g == nil {
		if len(run.groups) >= run.sub.Condition.MaxGroups() {
			return nil, nil, nil
		}
		g = &supposedGroup{}
		run.groups[c.observation.Group] = g
	}
	this := belfry.Observed{At: c.observation.At, EventID: acc.EventID, Value: c.observation.Value}
	look := condition.Look{Now: acc.At, Fresh: []belfry.Observed{this}}
	if spec.Count > 0 {
		from := spec.Window(&g.state, this.At)
		for len(g.seen) > 0 && (g.seen[0].At.Before(from) || len(g.seen) > max(spec.Count, countedAlong)) {
			g.seen = g.seen[1:]
		}
		for _, o := range g.seen {
			if o.Before(this) {
				look.Before = append(look.Before, o)
			}
		}
		g.seen = append(g.seen, this)
	}
	f := spec.Look(g.state, look)
	g.state = f.State
	known := map[string]*belfry.Accepted{acc.EventID: acc}
	if g.last != nil {
		known[g.last.EventID] = g.last
	}
	g.last = acc
	for i := range f.Firings {
		if f.Firings[i].Over {
			continue
		}
		e, err := derived(&belfry.ConditionGroup{Tenant: run.tenant, Subscription: run.sub.ID, Group: c.observation.Group, Born: run.sum.Since}, run.sub, &spec, &f.Firings[i], known)
		if err != nil {
			return nil, nil, err
		}
		told := &belfry.Accepted{Tenant: acc.Tenant, EventID: acc.EventID, At: acc.At, AsOf: acc.AsOf, Event: &e}
		if v, err = s.view(ctx, told); err != nil {
			return nil, nil, err
		}
		var data belfry.ConditionData
		if err := json.Unmarshal(e.Data, &data); err != nil {
			return nil, nil, err
		}
		if data.Event != nil {
			if v.typ, _, err = s.Directory.EventType(ctx, acc.Tenant, data.Event.Type); err != nil {
				return nil, nil, err
			}
		}
		m.Because = append(m.Because, belfry.Reason{Code: belfry.ConditionIsMet, Subscription: run.sub.ID, Group: data.Group})
		return told, v, nil
	}
	return nil, nil, nil
}

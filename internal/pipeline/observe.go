package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/condition"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/match"
)

// weighed is what became of a match with a condition.
type weighed struct {
	observation *belfry.Observation // nil = it does not count
	reason      belfry.Reason
}

// conditional reports whether any of the matches has a condition: nearly never.
func conditional(matches []belfry.Match) bool {
	for i := range matches {
		if matches[i].Subscription.Condition != nil {
			return true
		}
	}
	return false
}

// observe takes the matches with a condition out: they tell nobody of the event
// itself. Of a first page it says what counts, and why not in the page's notes,
// which are of all matches.
func (s *Stages) observe(ctx context.Context, acc *belfry.Accepted, v *view, facts match.Facts, matches []belfry.Match, of part, page *belfry.PlanPage) (plain []belfry.Match, err error) {
	for i := range matches {
		m := &matches[i]
		if !bare(m, acc) {
			plain = append(plain, *m)
			continue
		}
		if of.cursor != "" {
			continue // said with the first page
		}
		c := weighed{reason: belfry.Reason{Code: belfry.ConditionReplay}}
		if of.run == 0 {
			if c, err = s.count(ctx, acc, v, facts, m.Subscription); err != nil {
				return nil, err
			}
		}
		if c.observation != nil {
			page.Observations = append(page.Observations, *c.observation)
		}
		c.reason.Subscription = m.Subscription.ID
		page.Matches[i].Because = append(slices.Clone(m.Because), c.reason)
	}
	return plain, nil
}

// bare reports whether a match is of a condition that does not tell of this
// event: all but the one that made it.
func bare(m *belfry.Match, acc *belfry.Accepted) bool {
	if m.Subscription.Condition == nil {
		return false
	}
	code := m.Because[0].Code
	return !acc.Event.FromConditions() || code != belfry.ConditionIsMet && code != belfry.ConditionIsOver
}

// count says whether an event counts for a subscription's condition, and in
// which group.
func (s *Stages) count(ctx context.Context, acc *belfry.Accepted, v *view, facts match.Facts, sub *belfry.Subscription) (weighed, error) {
	c, spec := weigh(acc, v, facts, sub)
	if c.observation == nil || !spec.Grouped {
		return c, nil
	}
	room, err := s.Groups.room(ctx, acc.Tenant, sub, c.observation.Group, acc.At)
	if err == nil && !room {
		return weighed{reason: belfry.Reason{Code: belfry.ConditionFull, Group: c.observation.Group}}, nil
	}
	return c, err
}

// weigh is count but for the room there is for groups.
func weigh(acc *belfry.Accepted, v *view, facts match.Facts, sub *belfry.Subscription) (weighed, condition.Spec) {
	spec, faults := condition.Parse(sub.Condition)
	no := func(r belfry.Reason) (weighed, condition.Spec) { return weighed{reason: r}, spec }
	if len(faults) > 0 { // it was valid when it was saved
		return no(belfry.Reason{Code: belfry.ConditionFault, Detail: faults[0].Pointer + " " + faults[0].Message})
	}
	if acc.Event.Source == belfry.OwnSource {
		return no(belfry.Reason{Code: belfry.ConditionFault, Detail: "events of this service itself do not count: conditions could go round in circles"})
	}
	if acc.Event.Has(belfry.FlagSilent) {
		return no(belfry.Reason{Code: belfry.EventIsSilent})
	}
	for i := range v.ancestors {
		if v.ancestors[i].Settings.Has(belfry.FlagSilent) {
			return no(belfry.Reason{Code: belfry.PlaceIsSilent, Object: v.ancestors[i].ID})
		}
	}
	at, odd, counts := spec.Counts(acc.Event.Time, acc.At)
	if !counts {
		return no(*odd)
	}
	group, fault := expr.GroupOf(sub.Condition.GroupBy, acc.Event, facts)
	if fault != "" {
		return no(belfry.Reason{Code: belfry.ConditionFault, Detail: fault})
	}
	value := ""
	if spec.Change() {
		if value, fault = expr.ChangingOf(sub.Condition.Change, spec.Limits(), acc.Event, facts); fault != "" {
			return no(belfry.Reason{Code: belfry.ConditionNoValue, Detail: fault})
		}
		value = spec.Keep(value)
	}
	c := weighed{
		observation: &belfry.Observation{Subscription: sub.ID, Group: group, At: at, Look: at.Add(spec.Wait), Value: value, AsOf: acc.AsOf},
		reason:      belfry.Reason{Code: belfry.ConditionCounted, Group: group},
	}
	if odd != nil {
		c.reason.Code, c.reason.Detail = odd.Code, odd.Detail
	}
	return c, spec
}

// made are the matches of an event that a condition made: besides those that
// ask for such events, the subscription whose condition it is, which tells its
// recipients of it as of the last event that counted.
func (s *Stages) made(ctx context.Context, acc *belfry.Accepted, v *view, snapshot *match.Snapshot, matches []belfry.Match) ([]belfry.Match, error) {
	var data belfry.ConditionData
	if err := json.Unmarshal(acc.Event.Data, &data); err != nil {
		return matches, belfry.Errorf(belfry.Internal, "the data of an event of a condition cannot be read: %w", err)
	}
	if data.Event != nil {
		typ, _, err := s.Directory.EventType(ctx, acc.Tenant, data.Event.Type)
		if err != nil {
			return nil, err
		}
		v.typ = typ
	}
	// Whom the events were about is not told by the service itself.
	matches = slices.DeleteFunc(slices.Clone(matches), func(m belfry.Match) bool { return m.Subscription.ID == NoticesID })
	sub, standing := snapshot.Get(data.Subscription)
	if !standing {
		return matches, nil
	}
	code := belfry.ConditionIsMet
	if acc.Event.Type == belfry.ConditionResolved {
		if code = belfry.ConditionIsOver; sub.Condition == nil || !sub.Condition.Resolved {
			return matches, nil
		}
	}
	m := belfry.Match{Subscription: sub, Scope: sub.ScopeObject(), Because: []belfry.Reason{{Code: code, Subscription: sub.ID, Group: data.Group, Detail: told(&data)}}}
	m.Distance = max(0, slices.IndexFunc(v.ancestors, func(o belfry.Object) bool { return o.ID == m.Scope }))
	others := slices.DeleteFunc(matches, func(o belfry.Match) bool { return o.Subscription.ID == sub.ID })
	return append([]belfry.Match{m}, others...), nil
}

// told says what met a condition.
func told(d *belfry.ConditionData) string {
	switch {
	case d.Met != "":
		return "after " + d.Within
	case d.After != nil && d.Before == nil:
		return fmt.Sprintf("%q, the first value", *d.After) + crossed(d)
	case d.After != nil:
		return fmt.Sprintf("from %q to %q", *d.Before, *d.After) + crossed(d)
	case d.Needed == 0:
		return "nothing for " + d.Within
	}
	if d.Count == 1 {
		return "1 event in " + d.Within
	}
	return fmt.Sprintf("%d events in %s", d.Count, d.Within)
}

// crossed says which limit a value crossed.
func crossed(d *belfry.ConditionData) string {
	if d.Limit == nil {
		return ""
	}
	return ", " + d.Crossed + " " + condition.Number(*d.Limit)
}

// GroupStore is what Groups reads.
type GroupStore interface {
	ConditionGroups(ctx context.Context, tenant, subscription, after string, only *string, limit int) ([]belfry.ConditionGroup, error)
	CountGroups(ctx context.Context, tenant, subscription string, most int) (int, error)
}

// Groups keeps conditions within the groups they may have. It asks the table
// for what it has not seen lately; a few more than may be get in where several
// processes plan.
type Groups struct {
	store GroupStore
	known *lru.Cache[groupName, time.Time]

	mu     sync.Mutex
	counts map[groupName]groupCount // with an empty group
}

type groupName struct{ tenant, subscription, group string }

type groupCount struct {
	n  int
	at time.Time
}

const (
	knownGroups  = 65_536
	groupsBelief = 10 * time.Second
	maxCounts    = 10_000
)

// NewGroups makes a Groups.
func NewGroups(store GroupStore) *Groups {
	known, _ := lru.New[groupName, time.Time](knownGroups) // the size is positive, which is all New checks
	return &Groups{store: store, known: known, counts: map[groupName]groupCount{}}
}

// room reports whether a group is there or may be made.
func (g *Groups) room(ctx context.Context, tenant string, sub *belfry.Subscription, group string, now time.Time) (bool, error) {
	name := groupName{tenant, sub.ID, group}
	if at, ok := g.known.Get(name); ok && now.Sub(at) < time.Minute {
		return true, nil
	}
	have, err := g.store.ConditionGroups(ctx, tenant, sub.ID, "", &group, 1)
	if err != nil {
		return false, err
	}
	if len(have) > 0 {
		g.known.Add(name, now)
		return true, nil
	}
	of := groupName{tenant: tenant, subscription: sub.ID}
	most := sub.Condition.MaxGroups()
	g.mu.Lock()
	count, fresh := g.counts[of]
	g.mu.Unlock()
	if !fresh || now.Sub(count.at).Abs() > groupsBelief {
		n, err := g.store.CountGroups(ctx, tenant, sub.ID, most+2)
		if err != nil {
			return false, err
		}
		count = groupCount{n - 1, now} // the group "" is always there
	}
	room := count.n < most
	if room {
		count.n++
		g.known.Add(name, now)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.counts) >= maxCounts {
		clear(g.counts)
	}
	g.counts[of] = count
	return room, nil
}

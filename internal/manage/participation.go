package manage

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// ByParticipation is who added members who take part in something.
const ByParticipation = "participation"

const (
	maxTakers   = 1000 // people whom one event makes members
	takersPages = 1000 // of members looked through for those of one object
)

// Participate makes members of subscriptions that follow what people do of
// whoever an event says takes part, at its object, and takes out who does not
// any more. Doing it again changes nothing. Who opted out of a subscription
// stays out of it.
func (m *Manager) Participate(ctx context.Context, tenant string, e *belfry.Event, subs []belfry.Subscription) error {
	if e.Object == "" {
		return nil
	}
	places, err := m.places(ctx, tenant, e.Object)
	if err != nil {
		if belfry.KindOf(err) == belfry.NotFound {
			return nil
		}
		return err
	}
	by := By{Tenant: tenant, Who: ByParticipation}
	for i := range subs {
		sub := &subs[i]
		if !wants(sub, "", places) {
			continue
		}
		at := joinedAt(sub, e.Object)
		ch := m.change(by, "members.follow", sub.ID)
		for _, f := range sub.Joining.Follow {
			if !slices.ContainsFunc(f.Types, func(t string) bool { return belfry.TypeMatches(t, e.Type) }) {
				continue
			}
			if f.Who == belfry.Everybody {
				err = m.everybodyLeaves(ctx, tenant, sub.ID, at, &ch)
			} else {
				err = m.takesPart(ctx, by, sub, at, f.Leave, takers(e, f.Who), &ch)
			}
			if err != nil {
				return err
			}
		}
		if len(ch.Members)+len(ch.DropMembers) == 0 {
			continue
		}
		ch.Audit[0].Detail = e.Type + " at " + e.Object
		if _, err := m.store.Apply(ctx, ch); err != nil {
			return err
		}
	}
	return nil
}

// takesPart adds to an edit what changes for the people of one rule.
func (m *Manager) takesPart(ctx context.Context, by By, sub *belfry.Subscription, at string, leave bool, who []string, ch *belfry.Changes) error {
	persons, err := m.store.Persons(ctx, by.Tenant, who)
	if err != nil {
		return err
	}
	for _, w := range who {
		if p := persons[w]; p == nil || p.User.State == belfry.UserDeleted {
			continue
		}
		have, out, err := m.store.JoinsOf(ctx, by.Tenant, sub.ID, w)
		if err != nil {
			return err
		}
		here := slices.IndexFunc(have, func(j belfry.Member) bool { return j.Object == at })
		switch {
		case leave && here >= 0:
			ch.DropMembers = append(ch.DropMembers, have[here])
		case !leave && here < 0 && !out:
			ch.Members = append(ch.Members, belfry.Member{Subscription: sub.ID, Principal: w, Object: at, By: ByParticipation, Since: m.now(), UnlessOut: true})
		}
	}
	return nil
}

// everybodyLeaves adds to an edit that all who take part at an object leave.
// Who joined there by themselves stays.
func (m *Manager) everybodyLeaves(ctx context.Context, tenant, subscription, at string, ch *belfry.Changes) error {
	const page = 1000
	after := ""
	for range takersPages {
		ms, err := m.store.Members(ctx, tenant, subscription, after, page)
		if err != nil {
			return err
		}
		for _, mb := range ms {
			if after = mb.Principal; mb.Object == at && mb.By == ByParticipation {
				ch.DropMembers = append(ch.DropMembers, mb)
			}
		}
		if len(ms) < page {
			return nil
		}
	}
	return nil
}

// takers are the people an event names: its actor, those it is about, or the
// texts at a path in its data.
func takers(e *belfry.Event, who string) []string {
	var all []string
	switch who {
	case "", "actor":
		all = []string{e.Actor}
	case "related":
		all = e.Related
	default:
		var v any
		if json.Unmarshal(e.Data, &v) != nil {
			return nil
		}
		for name := range strings.SplitSeq(who, ".") {
			fields, _ := v.(map[string]any)
			v = fields[name]
		}
		switch v := v.(type) {
		case string:
			all = []string{v}
		case []any:
			for _, x := range v {
				if s, ok := x.(string); ok {
					all = append(all, s)
				}
			}
		}
	}
	all = slices.DeleteFunc(distinct(all), func(s string) bool { return !belfry.CanBeName(s) })
	return all[:min(len(all), maxTakers)]
}

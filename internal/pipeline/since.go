package pipeline

import (
	"context"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/route"
)

// delayed is how long after the event a send is looked at as one that was held
// up: what is sent at once was looked at a moment ago.
const delayed = time.Minute

// late reports whether a delivery goes out long enough after it was planned for
// its recipient to have lost what she had then.
func (m *Messages) late(d *belfry.Delivery) bool {
	if d.Attempts > 0 {
		return true
	}
	planned, err := belfry.IDTime(d.ID)
	return err == nil && m.now().Sub(planned) > delayed
}

// since is why a person is not to be told any more of what was planned for her:
// she has left the group, lost the role or left the subscription that named
// her, muted it, or may not see it now.
func (c *itemCheck) since(ctx context.Context, acc *belfry.Accepted, sub *belfry.Subscription, because []belfry.Reason) (*belfry.Reason, error) {
	if reason, err := c.unnamed(ctx, acc, because); err != nil || reason != nil {
		return reason, err
	}
	if c.who != nil && (len(c.who.Preferences) > 0 || c.who.Settings.Stop) {
		view, err := c.m.facts.Directory.At(ctx, c.d.Tenant, 0)
		if err != nil {
			return nil, err
		}
		ancestors, err := view.Ancestors(acc.Event.ObjectOrRoot())
		if err != nil {
			return nil, err
		}
		typ, _, err := c.m.facts.Directory.EventType(ctx, c.d.Tenant, acc.Event.Type)
		if err != nil {
			return nil, err
		}
		about := route.About{Type: acc.Event.Type, Category: typ.Category, Ancestors: ancestors, Now: c.now, Zone: c.who.User.Zone()}
		if reason := route.Silent(c.who, c.d.Channel, typ, sub, acc.Event, because, about); reason != nil {
			return reason, nil
		}
	}
	return c.sees(ctx, acc.Event)
}

// sees is why she may not be told of an event: the same for all of a digest that
// are of one type and happened at one place.
func (c *itemCheck) sees(ctx context.Context, e *belfry.Event) (*belfry.Reason, error) {
	at := place{e.ObjectOrRoot(), e.Type}
	reason, asked := c.seen[at]
	if asked {
		return reason, nil
	}
	reason, err := c.m.facts.Sees(ctx, c.d.Tenant, e, c.d.Principal, c.now)
	if err == nil && c.seen != nil {
		c.seen[at] = reason
	}
	return reason, err
}

type place struct{ object, typ string }

// unnamed is why nothing names her any more. What named her is looked at first,
// once a digest; only when all of that is gone the subscriptions are asked anew.
func (c *itemCheck) unnamed(ctx context.Context, acc *belfry.Accepted, because []belfry.Reason) (*belfry.Reason, error) {
	var gone *belfry.Reason
	joined, others := false, false
	for i := range because {
		joined = joined || because[i].NamesJoined()
		others = others || because[i].Names() && !because[i].NamesJoined()
	}
	if joined && !others && c.d.Bundle != "" {
		return nil, nil // whoever leaves takes what waits with her: see again.left
	}
	for i := range because {
		why := because[i]
		if !why.Names() {
			continue
		}
		why.Rule, why.Detail = 0, ""
		holds, asked := c.holds[why]
		if !asked {
			view, err := c.m.facts.Directory.At(ctx, c.d.Tenant, 0)
			if err != nil {
				return nil, err
			}
			if holds, err = resolve.Holds(view, c.d.Principal, &why, c.now); err != nil {
				return nil, err
			}
			if c.holds == nil {
				c.holds = map[belfry.Reason]bool{}
			}
			c.holds[why] = holds
		}
		if holds {
			return nil, nil
		}
		if gone == nil {
			gone = &because[i]
		}
	}
	if gone == nil {
		return nil, nil
	}
	st := &Stages{Directory: c.m.facts.Directory, Subscriptions: c.m.subs}
	e := &eventAgain{acc: acc}
	if err := st.matched(ctx, e, c.now); err != nil {
		return nil, err
	}
	ways := route.Ways(because)
	matches := slices.DeleteFunc(slices.Clone(e.matches), func(m belfry.Match) bool { return !slices.Contains(ways, m.Subscription.ID) })
	result, err := resolve.Only(e.view.dir, acc, matches, e.view.typ, c.now, &belfry.Replay{Recipient: c.d.Principal})
	if err != nil || len(result.Recipients) > 0 {
		return nil, err
	}
	for _, d := range result.Dropped {
		if n := len(d.Because); d.Principal == c.d.Principal && n > 0 {
			return &d.Because[n-1], nil
		}
	}
	return &belfry.Reason{Code: belfry.NoLongerNamed, Subscription: gone.Subscription, Object: gone.Object, Role: gone.Role, Group: gone.Group}, nil
}

package pipeline

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/route"
)

// despite are, by digest, people who have stopped all messages and of whose
// digest that is due something is told all the same: for it they are as if they
// had not. What else it holds is left out as it is sent.
func (s *Sealer) despite(ctx context.Context, tenant string, due []belfry.Bundle, people map[string]*belfry.Person) (map[string]*belfry.Person, error) {
	var ids []string
	for i := range due {
		if p := people[due[i].Principal]; p != nil && p.Settings.Stop {
			ids = append(ids, due[i].ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	items, err := s.o.Store.BundleItems(ctx, tenant, ids, lookItems)
	if err != nil {
		return nil, err
	}
	a := &again{s: s, tenant: tenant, events: map[string]*eventAgain{}}
	if err := a.read(ctx, items); err != nil {
		return nil, err
	}
	out := map[string]*belfry.Person{}
	for i := range due {
		b := &due[i]
		for k := range items[b.ID] {
			insists, err := s.insists(ctx, tenant, b.Channel, &items[b.ID][k], a.events[items[b.ID][k].EventID])
			if err != nil {
				return nil, err
			}
			if insists {
				p := *people[b.Principal]
				p.Settings.Stop = false
				out[b.ID] = &p
				break
			}
		}
	}
	return out, nil
}

// insists reports whether an item is told whatever the person wants.
func (s *Sealer) insists(ctx context.Context, tenant, channel string, it *belfry.BundleItem, e *eventAgain) (bool, error) {
	if it.State != belfry.Scheduled || e == nil || e.acc == nil {
		return false, nil
	}
	typ, _, err := s.o.Facts.Directory.EventType(ctx, tenant, e.acc.Event.Type)
	if err != nil || it.Subscription == "" {
		return route.Insists(channel, typ, nil), err
	}
	sub, _, err := s.o.Stages.Subscriptions.Standing(ctx, tenant, it.Subscription)
	return route.Insists(channel, typ, sub), err
}

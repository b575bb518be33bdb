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
	channel := make(map[string]string, len(due))
	for i := range due {
		channel[due[i].ID] = due[i].Channel
	}
	some, _, err := s.some(ctx, tenant, ids, func(it *belfry.BundleItem, e *eventAgain) (bool, error) {
		return s.insists(ctx, tenant, channel[it.Bundle], it, e)
	})
	if err != nil {
		return nil, err
	}
	out := map[string]*belfry.Person{}
	for i := range due {
		if some[due[i].ID] {
			p := *people[due[i].Principal]
			p.Settings.Stop = false
			out[due[i].ID] = &p
		}
	}
	return out, nil
}

// some says of which digests something holds for any item; seen is how many items
// those have that have no more than a part.
func (s *Sealer) some(ctx context.Context, tenant string, ids []string, holds func(*belfry.BundleItem, *eventAgain) (bool, error)) (found map[string]bool, seen map[string]int, err error) {
	found, seen = map[string]bool{}, map[string]int{}
	items, err := s.o.Store.BundleItems(ctx, tenant, ids, s.part)
	for id, list := range items {
		if len(list) < s.part {
			seen[id] = len(list)
		}
	}
	for err == nil && len(items) > 0 {
		a := &again{s: s, tenant: tenant, events: map[string]*eventAgain{}}
		if err := a.read(ctx, items); err != nil {
			return nil, nil, err
		}
		next := map[string][]belfry.BundleItem{}
		for id, list := range items {
			for i := 0; i < len(list) && !found[id]; i++ {
				if found[id], err = holds(&list[i], a.events[list[i].EventID]); err != nil {
					return nil, nil, err
				}
			}
			if len(list) == s.part && !found[id] {
				if next[id], err = s.o.Store.WaitingItems(ctx, tenant, id, list[s.part-1].ID, s.part); err != nil {
					return nil, nil, err
				}
			}
		}
		items = next
	}
	return found, seen, err
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

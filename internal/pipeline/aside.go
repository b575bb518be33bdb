package pipeline

import (
	"context"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// aside is what a tenant has on disk that waits for paused subscriptions. Such
// deliveries are let go of one by one, for others to the same destination go
// on; when a subscription is edited the table is read again from the first of
// them. Nothing of it is stored: a process that starts finds them by reading.
type aside struct {
	first map[string]belfry.DueKey // by subscription, a key before the first that waits
	rest  *belfry.DueKey           // of subscriptions beyond maxAside
}

// maxAside bounds how many paused subscriptions are told apart; the others
// count as one.
const maxAside = 4096

func (a *aside) note(subscription string, key belfry.DueKey) {
	first, known := a.first[subscription]
	switch {
	case known && !keyLess(key, first):
	case known || len(a.first) < maxAside:
		a.first[subscription] = key
	case a.rest == nil || keyLess(key, *a.rest):
		a.rest = &key
	}
}

// take gives from where the table is to be read for a subscription that was
// edited; for all of them when all is set.
func (a *aside) take(subscription string, all bool) (from belfry.DueKey, any bool) {
	join := func(key belfry.DueKey) {
		if !any || keyLess(key, from) {
			from, any = key, true
		}
	}
	if all {
		for _, key := range a.first {
			join(key)
		}
		clear(a.first)
	} else if key, ok := a.first[subscription]; ok {
		join(key)
		delete(a.first, subscription)
	}
	if a.rest != nil && (all || !any) {
		join(*a.rest)
		a.rest = nil
	}
	return from, any
}

// setAside lets go of a delivery until one of the subscriptions that it awaits
// is edited. It answers false when something was resumed since it was composed.
// A line stays where it is: what comes after it is not sent before it.
func (d *Dispatcher) setAside(ds *dest, it *item, c *Composed, start time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resumes.Load() != c.resumes {
		return false
	}
	a := d.aside[it.d.Tenant]
	if a == nil {
		a = &aside{first: map[string]belfry.DueKey{}}
		d.aside[it.d.Tenant] = a
	}
	for _, id := range c.Awaits {
		a.note(id, keyBefore(&it.d))
	}
	d.done(ds, false, 0, d.o.Now())
	d.unspent(ds.lane, start)
	if l := ds.lines[it.d.Line]; it.d.Line != 0 && l != nil {
		d.cutLine(ds, l)
		delete(ds.lines, it.d.Line)
		d.bar(ds, it.d.Line)
	}
	d.drop(it)
	d.ready(ds)
	d.tidy(ds)
	return true
}

// Edited makes the Dispatcher try again what waited for subscriptions that were
// edited: they may have been resumed, or ended. Without any, all are meant.
func (d *Dispatcher) Edited(tenant string, subscriptions ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resumes.Add(1)
	a := d.aside[tenant]
	if a == nil {
		return
	}
	if len(subscriptions) == 0 {
		subscriptions = []string{""}
	}
	for _, id := range subscriptions {
		if from, any := a.take(id, id == ""); any {
			d.backlogOf(tenant).rewind(from)
			d.poke()
		}
	}
	if len(a.first) == 0 && a.rest == nil {
		delete(d.aside, tenant)
	}
}

// another looks for a subscription that stands among the others that named the
// recipient of a delivery whose leading one does not: she is told on its behalf.
// Else the delivery waits while one of them is paused.
func (m *Messages) another(ctx context.Context, d *belfry.Delivery, why *belfry.Reason) (*belfry.Subscription, *belfry.Delivery, *belfry.Reason, error) {
	for _, id := range othersNamed(d) {
		sub, reason, err := m.subs.Standing(ctx, d.Tenant, id)
		switch {
		case err != nil:
			return nil, d, nil, err
		case reason == nil:
			instead := *d
			instead.Subscription = id
			return sub, &instead, nil, nil
		case reason.Code == belfry.SubscriptionWaits && why.Code != belfry.SubscriptionWaits:
			why = reason
		}
	}
	return nil, d, why, nil
}

// othersNamed are the subscriptions besides the leading one that named the
// recipient of a delivery.
func othersNamed(d *belfry.Delivery) (ids []string) {
	for _, r := range d.Because {
		if r.Subscription != "" && r.Subscription != d.Subscription && !slices.Contains(ids, r.Subscription) {
			ids = append(ids, r.Subscription)
		}
	}
	return ids
}

// awaited are the subscriptions an edit of which may let a delivery go.
func awaited(d *belfry.Delivery) []string { return append(othersNamed(d), d.Subscription) }

// Awaits says of open deliveries, by their ids, which paused subscription they
// wait for: by what holds them in a send. Those that wait for none are not in it.
func (x *Explainer) Awaits(ctx context.Context, tenant string, ds []belfry.Delivery) (map[string]belfry.ReasonView, error) {
	out := map[string]belfry.ReasonView{}
	m := Messages{subs: x.Stages.Subscriptions}
	for i := range ds {
		d := &ds[i]
		if !d.State.Open() || d.Subscription == "" || d.Bundle != "" {
			continue
		}
		_, why, err := m.subs.Standing(ctx, tenant, d.Subscription)
		if err == nil && why != nil {
			_, _, why, err = m.another(ctx, d, why)
		}
		switch {
		case err != nil:
			return nil, err
		case why != nil && why.Code == belfry.SubscriptionWaits:
			out[d.ID] = belfry.ViewReasons([]belfry.Reason{*why})[0]
		}
	}
	return out, nil
}

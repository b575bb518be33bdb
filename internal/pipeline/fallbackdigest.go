package pipeline

import (
	"context"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/route"
)

// digest is Next for a digest: the same items go another way, all together. What
// speaks of where to fall back is what holds for each of them: her preference for
// everything, or for the one type or place that all are of, the one subscription
// that all come by, the one type, the tenant. What she is told there anyhow is
// left out; where that is all, the next way is taken.
func (f *Fallbacks) digest(ctx context.Context, d *belfry.Delivery, p *Payload, person *belfry.Person, last *belfry.Attempt) (*belfry.Delivery, error) {
	read, err := f.Store.BundleItems(ctx, d.Tenant, []string{d.Bundle}, 0)
	if err != nil {
		return nil, err
	}
	left := map[string]bool{} // out already
	for i := range last.Dropped {
		left[last.Dropped[i].ID] = true
	}
	items := slices.DeleteFunc(read[d.Bundle], func(it belfry.BundleItem) bool { return it.State != belfry.Scheduled || left[it.ID] })
	if len(items) == 0 {
		return nil, nil
	}
	failure := route.Failure{Delivery: d, Person: person, Why: whyOf(last)}
	channels, said, err := f.Stages.defaults(ctx, d.Tenant)
	if err != nil {
		return nil, err
	}
	failure.Channels, failure.Fallback = channels, said.Fallback
	if failure.About, failure.Type, err = f.common(ctx, d.Tenant, p, person); err != nil {
		return nil, err
	}
	apart := map[string]bool{}
	for i := range items {
		id := items[i].Subscription
		if _, known := apart[id]; known || id == "" {
			continue
		}
		sub, _, err := f.Subscriptions.Standing(ctx, d.Tenant, id)
		if err != nil {
			return nil, err
		}
		apart[id] = sub != nil && !sub.Merges()
		failure.Subscription = sub
	}
	if len(apart) != 1 {
		failure.Subscription = nil
	}
	for _, way := range route.Instead(failure) {
		told, err := f.told(ctx, d.Tenant, &way, items, apart)
		if err != nil {
			return nil, err
		}
		if len(told) == len(items) {
			continue
		}
		for id := range told {
			last.Dropped = append(last.Dropped, belfry.ItemDrop{ID: id, Because: belfry.Reason{Code: belfry.ReplayDelivered, Detail: "by " + way.Channel}})
		}
		if way.Channel != belfry.ChannelInbox {
			way.ID = belfry.NewID(belfry.DeliveryPrefix, f.Now())
			return &way, nil
		}
		if last.Entries, err = f.entries(ctx, &way, items, told); err != nil {
			return nil, err
		}
		return &last.Entries[0], nil
	}
	return nil, nil
}

// common is what all events of a digest have in common, for a preference to be
// asked about.
func (f *Fallbacks) common(ctx context.Context, tenant string, p *Payload, person *belfry.Person) (about route.About, typ belfry.EventType, err error) {
	about = route.About{Now: f.Now().Truncate(time.Microsecond), Zone: person.User.Zone()}
	first, sameType, sameObject := (*belfry.Event)(nil), true, true
	if p.digest != nil {
		for i := range p.digest.items {
			acc := p.digest.items[i].acc
			switch {
			case acc == nil:
			case first == nil:
				first = acc.Event
			default:
				sameType = sameType && acc.Event.Type == first.Type
				sameObject = sameObject && acc.Event.ObjectOrRoot() == first.ObjectOrRoot()
			}
		}
	}
	if first == nil {
		return about, typ, nil
	}
	if sameType {
		if typ, _, err = f.Facts.Directory.EventType(ctx, tenant, first.Type); err != nil {
			return about, typ, err
		}
		about.Type, about.Category = first.Type, typ.Category
	}
	if sameObject {
		view, err := f.Facts.Directory.At(ctx, tenant, 0)
		if err != nil {
			return about, typ, err
		}
		if about.Ancestors, err = view.Ancestors(first.ObjectOrRoot()); err != nil {
			return about, typ, err
		}
	}
	return about, typ, nil
}

// wayID is the id an item has when it is told alone by a way.
func wayID(it *belfry.BundleItem, way *belfry.Delivery, apart map[string]bool) string {
	slot := way.Channel
	if apart[it.Subscription] {
		slot += "\x00" + it.Subscription
	}
	return belfry.DeliveryID(it.EventID, 0, slot, way.Address)
}

// told are the items that a way tells already. What she is told by the channel
// that failed is what is being told.
func (f *Fallbacks) told(ctx context.Context, tenant string, way *belfry.Delivery, items []belfry.BundleItem, apart map[string]bool) (map[string]bool, error) {
	byID := make(map[string]string, len(items))
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = wayID(&items[i], way, apart)
		byID[ids[i]] = items[i].ID
	}
	out := map[string]bool{}
	note := func(id string) {
		if item := byID[id]; item != id {
			out[item] = true
		}
	}
	states, err := f.Store.DeliveryStates(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	for id := range states {
		note(id)
	}
	if way.Channel != belfry.ChannelInbox {
		return out, nil
	}
	entries, err := f.Store.InboxEntries(ctx, tenant, ids)
	for id := range entries {
		note(id)
	}
	return out, err
}

// entries are what a digest puts into the inbox.
func (f *Fallbacks) entries(ctx context.Context, way *belfry.Delivery, items []belfry.BundleItem, told map[string]bool) (out []belfry.Delivery, err error) {
	held := false
	if gate := f.Stages.Gate; gate != nil {
		a, err := gate.authoriser(ctx, way.Tenant)
		if err != nil {
			return nil, err
		}
		held = a != nil
	}
	fell := way.Because[len(way.Because)-1]
	for i := range items {
		it := &items[i]
		if told[it.ID] {
			continue
		}
		n := *way
		n.EventID, n.Run, n.Subscription, n.Template, n.Bundle = it.EventID, it.Run, it.Subscription, it.Template, ""
		n.ID = wayID(it, way, nil)
		n.Because = append(slices.Clone(it.Because), fell)
		if held {
			n.State = belfry.Held
		}
		out = append(out, n)
	}
	return out, nil
}

package manage

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Members lists who joined a subscription, by principal. next continues after
// the last principal given; all joins of one principal come together, so that a
// page may hold more than limit.
func (m *Manager) Members(ctx context.Context, tenant, subscription, after string, limit int) ([]belfry.Member, string, error) {
	if _, ok, err := m.store.Subscription(ctx, tenant, subscription); err != nil {
		return nil, "", err
	} else if !ok {
		return nil, "", notFound("subscription", subscription)
	}
	members, err := m.store.Members(ctx, tenant, subscription, after, limit)
	if err != nil || len(members) < limit {
		return members, "", err
	}
	return members, members[len(members)-1].Principal, nil
}

// PutMembers adds or changes members. Whoever is added by name has not opted
// out any more. Pointers are /<n>/….
func (m *Manager) PutMembers(ctx context.Context, by By, subscription string, ms []belfry.Member) ([]belfry.Member, error) {
	sub, err := m.living(ctx, by.Tenant, subscription, nil)
	if err != nil {
		return nil, err
	}
	f := &faults{}
	f.size(len(ms))
	if err := f.err(); err != nil {
		return nil, err
	}
	ms = slices.Clone(ms)
	var principals, objects []string
	for i := range ms {
		principals = append(principals, ms[i].Principal)
		objects = append(objects, ms[i].Object)
	}
	who, err := m.principals(ctx, by.Tenant, principals)
	if err != nil {
		return nil, err
	}
	within, err := m.within(ctx, by.Tenant, &sub, distinct(objects))
	if err != nil {
		return nil, err
	}
	now := m.now()
	ch := m.change(by, "members.put", subscription)
	for i := range ms {
		mb := &ms[i]
		p := at(true, i)
		mb.Subscription, mb.Since, mb.By = subscription, now, by.Who
		mb.Object = joinedAt(&sub, mb.Object)
		if f.key(p+"/principal", mb.Principal, maxID) && !who[mb.Principal] && !pseudo(mb.Principal) {
			mb.Principal = f.address(p+"/principal", mb.Principal)
		}
		if fault := within[mb.Object]; mb.Object != "" && fault != "" {
			f.add(p+"/object", "%s", fault)
		}
		m.checkChannels(f, by.Tenant, p+"/channels", mb.Channels)
		f.frequency(p+"/frequency", mb.Frequency)
		ch.DropOptOuts = append(ch.DropOptOuts, belfry.OptOut{Subscription: subscription, Who: mb.Principal})
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	_, ch.Audit[0].Detail = batchTarget(ms, func(x *belfry.Member) string { return x.Principal })
	if len(ms) == 1 {
		ch.Audit[0].Detail = ms[0].Principal
	}
	ch.Members = ms
	_, err = m.store.Apply(ctx, ch)
	return ms, err
}

// address is a principal that is no user and no group: an address, in its
// normal form.
func (f *faults) address(pointer, principal string) string {
	if !strings.Contains(principal, "@") {
		f.add(pointer, "there is no user or group %q", principal)
		return principal
	}
	f.email(pointer, strings.TrimSpace(principal))
	return belfry.NormaliseEmail(principal)
}

// joinedAt is where a join counts: empty for the whole scope.
func joinedAt(sub *belfry.Subscription, object string) string {
	if object == belfry.RootObject || object == sub.ScopeObject() {
		return ""
	}
	return object
}

// within says of each object why nobody can join there; empty = one can.
func (m *Manager) within(ctx context.Context, tenant string, sub *belfry.Subscription, objects []string) (map[string]string, error) {
	out := make(map[string]string, len(objects))
	for _, id := range objects {
		if id == belfry.RootObject {
			continue
		}
		places, err := m.places(ctx, tenant, id)
		if belfry.KindOf(err) == belfry.NotFound {
			out[id] = "there is no object " + strconv.Quote(id)
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, ok := places[sub.ScopeObject()]; !ok {
			out[id] = strconv.Quote(id) + " is outside of the subscription's scope"
		}
	}
	return out, nil
}

// DropMembers takes members out; those who are none are fine. Without an
// object, the join to the whole scope is meant.
func (m *Manager) DropMembers(ctx context.Context, by By, subscription string, ms []belfry.Member) error {
	sub, ok, err := m.store.Subscription(ctx, by.Tenant, subscription)
	if err != nil {
		return err
	}
	if !ok {
		return notFound("subscription", subscription)
	}
	f := &faults{}
	f.size(len(ms))
	ms = slices.Clone(ms)
	for i := range ms {
		f.key(at(true, i)+"/principal", ms[i].Principal, maxID)
		ms[i].Subscription = subscription
		ms[i].Object = joinedAt(&sub, ms[i].Object)
	}
	if err := f.err(); err != nil {
		return err
	}
	if len(ms) == 0 {
		return nil
	}
	ch := m.change(by, "members.drop", subscription)
	_, ch.Audit[0].Detail = batchTarget(ms, func(x *belfry.Member) string { return x.Principal })
	if len(ms) == 1 {
		ch.Audit[0].Detail = ms[0].Principal
	}
	ch.DropMembers = ms
	_, err = m.store.Apply(ctx, ch)
	return err
}

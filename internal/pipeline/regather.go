package pipeline

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/route"
)

// Bounds of what is decided anew at once.
const (
	lookPage    = 256  // looks, and open digests
	lookItems   = 2000 // of a digest; the rest follows
	regatherMax = 512  // digests of one call of door 4
)

// looks decides anew about digests that gather where something changed that
// decides how and when they are told. Looks are rows: one is gone with what was
// decided by it, in one transaction, or is done again.
func (s *Sealer) looks(ctx context.Context) error {
	for ctx.Err() == nil {
		list, err := s.o.Store.Looks(ctx, s.o.Shards.Mine(belfry.LeaseDelivery), lookPage)
		if err != nil || len(list) == 0 {
			return err
		}
		for len(list) > 0 {
			n := 1 // those at the digests of people together, of one tenant
			for n < len(list) && list[0].What == belfry.LookPerson && list[n].What == belfry.LookPerson && list[n].Tenant == list[0].Tenant {
				n++
			}
			if err := s.look(ctx, list[:n]); err != nil {
				return err
			}
			list = list[n:]
		}
	}
	return nil
}

// look does looks at people, or one at something else.
func (s *Sealer) look(ctx context.Context, list []belfry.Look) error {
	tenant, what := list[0].Tenant, &list[0]
	var version int64
	var who []string
	for i := range list {
		version = max(version, list[i].Version)
		if list[i].What == belfry.LookPerson {
			who = append(who, list[i].Item)
		}
	}
	if err := s.o.Stages.In.Reach(ctx, tenant, version); err != nil {
		return err
	}
	concerns := func(it *belfry.BundleItem, acc *belfry.Accepted) bool {
		switch what.What {
		case belfry.LookSubscription:
			return slices.Contains(route.Ways(it.Because), what.Item)
		case belfry.LookType:
			return acc.Event.Type == what.Item
		}
		return true
	}
	for after := ""; ; {
		limit := lookPage
		if who != nil {
			limit = 1 << 20 // people have few
		}
		bundles, err := s.o.Store.OpenBundles(ctx, tenant, who, after, s.o.Now(), limit)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(bundles, lookPage) {
			if err := s.regather(ctx, tenant, version, part, concerns); err != nil {
				return err
			}
		}
		if len(bundles) < limit {
			break
		}
		after = bundles[len(bundles)-1].ID
		s.round(ctx) // what is due meanwhile does not wait for all of it
	}
	return s.o.Store.Regather(ctx, nil, list)
}

// regather decides anew about some open digests, as far as they are concerned.
func (s *Sealer) regather(ctx context.Context, tenant string, version int64, bundles []belfry.Bundle, concerns func(*belfry.BundleItem, *belfry.Accepted) bool) error {
	ids := make([]string, len(bundles))
	for i := range bundles {
		ids[i] = bundles[i].ID
	}
	items, err := s.o.Store.BundleItems(ctx, tenant, ids, lookItems)
	if err != nil {
		return err
	}
	again := &again{s: s, tenant: tenant, version: version, now: s.o.Now().Truncate(time.Microsecond), events: map[string]*eventAgain{}, taken: map[string]bool{}}
	if err := again.read(ctx, items); err != nil {
		return err
	}
	var list []belfry.Regather
	for i := range bundles {
		r, err := again.bundle(ctx, &bundles[i], items[bundles[i].ID], concerns)
		if err != nil {
			return err
		}
		if len(r.Moves) > 0 {
			list = append(list, r)
		}
	}
	if err := again.free(ctx, list); err != nil {
		return err
	}
	if err := again.hold(ctx, list); err != nil {
		return err
	}
	for part := range slices.Chunk(list, regatherMax) {
		if err := s.o.Store.Regather(context.WithoutCancel(ctx), part, nil); err != nil {
			return err
		}
	}
	var least time.Time
	for i := range list {
		for k := range list[i].Moves {
			if to := list[i].Moves[k].To; to != nil && to.Digest != nil && (least.IsZero() || to.Digest.Least().Before(least)) {
				least = to.Digest.Least()
			}
			if to := list[i].Moves[k].To; to != nil && to.Channel == belfry.ChannelInbox {
				s.o.Dispatcher.o.Fallback.Told(to)
			}
		}
	}
	if !least.IsZero() {
		s.expect(tenant, least)
		if s.o.Shards.Shared() {
			s.o.Peers.Tell(belfry.Wake{Tenant: tenant, Due: least})
		}
	}
	return nil
}

// again is what is decided anew together.
type again struct {
	s       *Sealer
	tenant  string
	version int64
	now     time.Time
	events  map[string]*eventAgain
	taken   map[string]bool // ids of what is told anyhow
}

type eventAgain struct {
	acc     *belfry.Accepted
	view    *view
	matches []belfry.Match
}

// read reads the events that items tell of.
func (a *again) read(ctx context.Context, items map[string][]belfry.BundleItem) error {
	var ids []string
	for _, list := range items {
		for i := range list {
			if id := list[i].EventID; list[i].State == belfry.Scheduled && a.events[id] == nil {
				a.events[id] = &eventAgain{}
				ids = append(ids, id)
			}
		}
	}
	events, err := a.s.o.Store.Events(ctx, a.tenant, ids)
	for id, acc := range events {
		late := *acc
		late.AsOf = max(acc.AsOf, a.version)
		a.events[id].acc = &late
	}
	return err
}

// bundle is what becomes of the items of a digest.
func (a *again) bundle(ctx context.Context, b *belfry.Bundle, items []belfry.BundleItem, concerns func(*belfry.BundleItem, *belfry.Accepted) bool) (belfry.Regather, error) {
	r := belfry.Regather{Tenant: a.tenant, Bundle: b.ID, At: a.now, Slot: &belfry.Delivery{
		Principal: b.Principal, Address: b.Address, Channel: b.Channel, Digest: &belfry.Bundling{Key: b.Key},
	}}
	var due time.Time // of what stays
	frequency := b.Frequency
	stay := -1
	for i := range items {
		it := &items[i]
		if it.State != belfry.Scheduled {
			continue
		}
		r.Seen++
		e := a.events[it.EventID]
		if e == nil || e.acc == nil || !concerns(it, e.acc) {
			continue
		}
		anew, err := a.item(ctx, b, it, e)
		if err != nil {
			return r, err
		}
		switch {
		case anew.Off != nil:
			m := belfry.ItemMove{Item: it.ID, Because: *anew.Off}
			if len(anew.Instead) > 0 {
				r.Moves = append(r.Moves, a.ways(m, anew.Instead)...)
			} else {
				r.Moves = append(r.Moves, m)
			}
		case anew.To == nil:
		case anew.To.Digest.Key != b.Key:
			r.Moves = append(r.Moves, belfry.ItemMove{Item: it.ID, To: anew.To})
		case b.Asked(): // somebody said when
		case anew.To.Digest.Counts(): // when the last one went decides, as before
		case due.IsZero() || anew.To.Digest.Due.Before(due):
			due, frequency = anew.To.Digest.Due, anew.To.Digest.Frequency
			r.Moves = append(r.Moves, belfry.ItemMove{Item: it.ID, To: anew.To})
			if stay >= 0 { // one says it for all
				r.Moves = slices.Delete(r.Moves, stay, stay+1)
			}
			stay = len(r.Moves) - 1
		}
	}
	if stay >= 0 && due.Equal(b.Due) && frequency == b.Frequency {
		r.Moves = slices.Delete(r.Moves, stay, stay+1)
	}
	return r, nil
}

// ways are the moves of which the first that is free is made: see free.
func (a *again) ways(m belfry.ItemMove, instead []belfry.Delivery) (out []belfry.ItemMove) {
	for i := range instead {
		way := m
		way.To = &instead[i]
		way.Because.Detail = m.Because.Detail + ": told by " + instead[i].Channel
		out = append(out, way)
	}
	return append(out, m)
}

// item decides about one item.
func (a *again) item(ctx context.Context, b *belfry.Bundle, it *belfry.BundleItem, e *eventAgain) (route.Anew, error) {
	st := a.s.o.Stages
	if e.view == nil {
		if err := st.matched(ctx, e, a.now); err != nil {
			return route.Anew{}, err
		}
	}
	// Those by which she was named: what she joins later tells of what comes later.
	ways := route.Ways(it.Because)
	var matches []belfry.Match
	for i := range e.matches {
		if slices.Contains(ways, e.matches[i].Subscription.ID) {
			matches = append(matches, e.matches[i])
		}
	}
	if len(matches) == 0 {
		return route.Anew{}, nil
	}
	only := &belfry.Replay{Recipient: cmp.Or(b.Principal, b.Address)}
	result, err := resolve.Only(e.view.dir, e.acc, matches, e.view.typ, a.now, only)
	if err != nil || len(result.Recipients) == 0 {
		out := route.Anew{}
		if err == nil {
			out.Off, err = resolve.Left(e.view.dir, b.Principal, it.Because, a.now)
		}
		return out, err
	}
	// As if it had been planned then with what holds now.
	planned, err := belfry.IDTime(it.ID)
	if err != nil {
		return route.Anew{}, err
	}
	if planned.Before(b.Opened) { // a replay tells of old things
		planned = b.Opened
	}
	if why := resolve.Rejoined(b.Principal, it.Because, &result, planned); why != nil {
		return route.Anew{Off: why}, nil
	}
	if planned.After(a.now) { // clocks differ
		planned = a.now
	}
	in, _, err := st.input(ctx, e.acc, it.Run, e.view, &result, planned)
	if err != nil {
		return route.Anew{}, err
	}
	alone := belfry.Delivery{Tenant: a.tenant, ID: it.ID, EventID: it.EventID, Run: it.Run, Subscription: it.Subscription, Channel: b.Channel, Principal: b.Principal, Address: b.Address}
	return route.Again(in, &alone, b, a.now), nil
}

// matched looks at an event again as it is planned.
func (s *Stages) matched(ctx context.Context, e *eventAgain, now time.Time) error {
	snapshot, err := s.Subscriptions.Snapshot(ctx, e.acc.Tenant)
	if err != nil {
		return err
	}
	v, err := s.view(ctx, e.acc)
	if err != nil {
		return err
	}
	facts, err := v.facts(e.acc.Event, now)
	if err != nil {
		return err
	}
	e.matches = snapshot.Match(e.acc.Event, facts)
	if e.acc.Event.FromConditions() {
		if e.matches, err = s.made(ctx, e.acc, v, snapshot, e.matches); err != nil {
			return err
		}
	}
	e.view = v
	return nil
}

// free leaves, of the other ways of an item, the first by which it is not told
// anyhow, or else that it is left out.
func (a *again) free(ctx context.Context, list []belfry.Regather) error {
	var ids []string
	for i := range list {
		for k := range list[i].Moves {
			if m := &list[i].Moves[k]; m.To != nil && m.To.ID != m.Item {
				ids = append(ids, m.To.ID)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	states, err := a.s.o.Store.DeliveryStates(ctx, a.tenant, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, known := states[id]; known {
			a.taken[id] = true
		}
	}
	entries, err := a.s.o.Store.InboxEntries(ctx, a.tenant, ids)
	if err != nil {
		return err
	}
	for id := range entries {
		a.taken[id] = true
	}
	for i := range list {
		moves := list[i].Moves
		kept := moves[:0]
		for k := 0; k < len(moves); k++ {
			m := moves[k]
			if m.To != nil && m.To.ID != m.Item && a.taken[m.To.ID] {
				continue // the next way of the same item, or none
			}
			kept = append(kept, m)
			if m.To != nil && m.To.ID != m.Item {
				a.taken[m.To.ID] = true
				for k+1 < len(moves) && moves[k+1].Item == m.Item {
					k++
				}
			}
		}
		list[i].Moves = kept
	}
	return nil
}

// hold holds what goes to inboxes from now on, where the platform is asked first.
func (a *again) hold(ctx context.Context, list []belfry.Regather) error {
	gate := a.s.o.Stages.Gate
	if gate == nil {
		return nil
	}
	authoriser, err := gate.authoriser(ctx, a.tenant)
	if err != nil || authoriser == nil {
		return err
	}
	for i := range list {
		for k := range list[i].Moves {
			if to := list[i].Moves[k].To; to != nil && to.Digest == nil {
				to.State, to.Due = belfry.Held, a.now
			}
		}
	}
	return nil
}

package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/route"
)

// Bounds of what is decided anew at once.
const (
	lookPage  = 256  // looks, and open digests
	lookItems = 2000 // of a digest; the rest follows, part by part
)

// looks decides anew about digests that gather where something changed that
// decides how and when they are told. Looks are rows: one is gone with what was
// decided by it, in one transaction, or is done again. One at what is not a
// person's goes through all digests, a page at a time, and notes with each how
// far it is: what else is to be looked at, and what is due, has its turn between
// pages, and whoever goes on after a crash begins there.
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
			look := s.lookOn
			if list[0].What == belfry.LookPerson {
				look = s.lookAtPeople
			}
			if err := look(ctx, list[:n]); err != nil {
				return err
			}
			list = list[n:]
		}
		s.round(ctx) // what is due meanwhile does not wait for all of it
	}
	return nil
}

// lookAtPeople does looks at people of one tenant.
func (s *Sealer) lookAtPeople(ctx context.Context, list []belfry.Look) error {
	tenant, version, who := list[0].Tenant, int64(0), make([]string, len(list))
	for i := range list {
		version, who[i] = max(version, list[i].Version), list[i].Item
	}
	if err := s.o.Stages.In.Reach(ctx, tenant, version); err != nil {
		return err
	}
	bundles, err := s.o.Store.OpenBundles(ctx, tenant, who, "", "", s.o.Now(), 1<<20) // people have few
	if err != nil {
		return err
	}
	for part := range slices.Chunk(bundles, lookPage) {
		all := func(*belfry.BundleItem, *belfry.Accepted) bool { return true }
		if err := s.regather(ctx, tenant, version, part, all, nil); err != nil {
			return err
		}
	}
	return s.o.Store.Regather(ctx, nil, list)
}

// lookOn does the next page of a look at something else.
func (s *Sealer) lookOn(ctx context.Context, list []belfry.Look) error {
	what := list[0]
	if err := s.o.Stages.In.Reach(ctx, what.Tenant, what.Version); err != nil {
		return err
	}
	if what.After == "" { // whatever is begun from now on is decided by what holds now, or noted
		var err error
		if what.Until, err = s.o.Store.LastBundle(ctx, what.Tenant); err != nil {
			return err
		}
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
	bundles, err := s.o.Store.OpenBundles(ctx, what.Tenant, nil, what.After, what.Until, s.o.Now(), lookPage)
	if err != nil {
		return err
	}
	what.After = ""
	if len(bundles) == lookPage {
		what.After = bundles[lookPage-1].ID
	}
	return s.regather(ctx, what.Tenant, what.Version, bundles, concerns, []belfry.Look{what})
}

// regather decides anew about some open digests, as far as they are concerned.
// looks are how far it has come with that. A digest of very many things is gone
// through part by part, in the order of their ids: whoever begins again after a
// crash finds what was moved where it went, and decides as before about what
// stayed.
func (s *Sealer) regather(ctx context.Context, tenant string, version int64, bundles []belfry.Bundle, concerns func(*belfry.BundleItem, *belfry.Accepted) bool, looks []belfry.Look) error {
	for parts := map[string]*lookPart{}; ; {
		long, err := s.regatherPart(ctx, tenant, version, bundles, concerns, parts, looks)
		if err != nil || len(long) == 0 {
			return err
		}
		bundles = long
	}
}

// lookPart is how far the look at a digest of very many things is.
type lookPart struct {
	after string           // the last item that was looked at
	stays *belfry.Bundling // of what stays, the earliest
	waits int              // how many stay
}

// note takes up what a part says of what stays.
func (p *lookPart) note(r *belfry.Regather) {
	gone := map[string]bool{}
	for i := range r.Moves {
		if m := &r.Moves[i]; !r.Stay(m) {
			gone[m.Item] = true
		} else if p.stays == nil || m.To.Digest.Due.Before(p.stays.Due) {
			p.stays = m.To.Digest
		}
	}
	p.waits += r.Seen - len(gone)
	r.Moves = slices.DeleteFunc(r.Moves, func(m belfry.ItemMove) bool { return r.Stay(&m) }) // the last part says it
}

// partItems are the next items of digests.
func (s *Sealer) partItems(ctx context.Context, tenant string, bundles []belfry.Bundle, parts map[string]*lookPart) (map[string][]belfry.BundleItem, error) {
	if len(parts) == 0 {
		ids := make([]string, len(bundles))
		for i := range bundles {
			ids[i] = bundles[i].ID
		}
		return s.o.Store.BundleItems(ctx, tenant, ids, s.part)
	}
	items := make(map[string][]belfry.BundleItem, len(bundles))
	for i := range bundles { // few are so long
		id := bundles[i].ID
		var err error
		if items[id], err = s.o.Store.WaitingItems(ctx, tenant, id, parts[id].after, s.part); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// regatherPart is regather of so many items of each digest. It answers with those
// that have more; what it has come to is noted when there are none.
func (s *Sealer) regatherPart(ctx context.Context, tenant string, version int64, bundles []belfry.Bundle, concerns func(*belfry.BundleItem, *belfry.Accepted) bool, parts map[string]*lookPart, looks []belfry.Look) (long []belfry.Bundle, err error) {
	items, err := s.partItems(ctx, tenant, bundles, parts)
	if err != nil {
		return nil, err
	}
	again := newAgain(s, tenant, version, bundles)
	if err := again.read(ctx, items); err != nil {
		return nil, err
	}
	if err := again.resolve(ctx, bundles, items, concerns); err != nil {
		return nil, err
	}
	var list []belfry.Regather
	for i := range bundles {
		here, part := items[bundles[i].ID], parts[bundles[i].ID]
		r, err := again.bundle(ctx, &bundles[i], here, concerns, part != nil || len(here) == s.part)
		if err != nil {
			return nil, err
		}
		if len(here) == s.part {
			long = append(long, bundles[i])
			if part == nil {
				part = &lookPart{}
				parts[bundles[i].ID] = part
			}
			r.To = here[s.part-1].ID
		}
		if part != nil {
			r.After = part.after
			part.note(&r)
			if part.after = r.To; r.To == "" {
				r.Stays, r.Waits = part.stays, part.waits
			}
		}
		if len(r.Moves) > 0 || r.InPart() && r.To == "" {
			list = append(list, r)
		}
	}
	if err := again.free(ctx, list); err != nil {
		return nil, err
	}
	if err := again.hold(ctx, list); err != nil {
		return nil, err
	}
	if len(long) > 0 {
		looks = nil
	}
	if len(list)+len(looks) > 0 {
		if err := s.o.Store.Regather(context.WithoutCancel(ctx), list, looks); err != nil {
			return nil, err
		}
	}
	var least time.Time
	for i := range list {
		if stays := list[i].Stays; stays != nil && (least.IsZero() || stays.Least().Before(least)) {
			least = stays.Least()
		}
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
	return long, nil
}

// again is what is decided anew together.
type again struct {
	s       *Sealer
	tenant  string
	version int64
	now     time.Time
	events  map[string]*eventAgain
	crowd   *crowd
	stages  Stages
	taken   map[string]bool // ids of what is told anyhow
}

type eventAgain struct {
	acc     *belfry.Accepted
	view    *view
	matches []belfry.Match
	ways    map[string]*wayAgain // by the subscriptions that named somebody
}

// wayAgain is what an event's matches of some subscriptions say of whom they
// named.
type wayAgain struct {
	matches []belfry.Match
	who     []string
	results map[string]resolve.PageResult
}

func newAgain(s *Sealer, tenant string, version int64, bundles []belfry.Bundle) *again {
	a := &again{s: s, tenant: tenant, version: version, now: s.o.Now().Truncate(time.Microsecond), events: map[string]*eventAgain{}, taken: map[string]bool{}}
	a.stages = *s.o.Stages
	a.stages.Problems = &muters{Problems: a.stages.Problems}
	who := make([]string, len(bundles))
	for i := range bundles {
		who[i] = whose(&bundles[i])
	}
	slices.Sort(who)
	a.crowd = &crowd{who: slices.Compact(who)}
	return a
}

// whose is whom a digest is for: a principal, or a bare address.
func whose(b *belfry.Bundle) string { return cmp.Or(b.Principal, b.Address) }

// crowd keeps what was read of the people of a page for all its events.
type crowd struct {
	who     []string
	people  map[string]*belfry.Person
	members map[string][]belfry.Member
	outs    map[string][]belfry.OptOut
}

// muters asks once who muted a problem.
type muters struct {
	Problems
	muted map[string][]string
}

func (m *muters) Followers(ctx context.Context, tenant, source, problem, after string, muted bool, limit int) ([]string, error) {
	return once(&m.muted, fmt.Sprint(source, "\x00", problem, "\x00", after, muted, limit), func() ([]string, error) {
		return m.Problems.Followers(ctx, tenant, source, problem, after, muted, limit)
	})
}

// among is a directory that reads of a crowd once. Those who pass push nobody out
// of its caches.
type among struct {
	*directory.View
	*crowd
}

func (a among) Persons(ids []string) (map[string]*belfry.Person, error) {
	if a.people == nil {
		people, err := a.View.Persons(a.who)
		if err != nil {
			return nil, err
		}
		a.people = people
	}
	var others []string
	out := make(map[string]*belfry.Person, len(ids))
	for _, id := range ids {
		if p := a.people[id]; p != nil {
			out[id] = p
		} else if _, known := slices.BinarySearch(a.who, id); !known {
			others = append(others, id)
		}
	}
	if len(others) == 0 {
		return out, nil
	}
	more, err := a.View.Persons(others)
	for id, p := range more {
		out[id] = p
	}
	return out, err
}

func (a among) MembersAmong(subscription string, _ []string) ([]belfry.Member, error) {
	return once(&a.members, subscription, func() ([]belfry.Member, error) { return a.View.MembersAmong(subscription, a.who) })
}

func (a among) OptOutsAmong(subscription string, _ []string) ([]belfry.OptOut, error) {
	return once(&a.outs, subscription, func() ([]belfry.OptOut, error) { return a.View.OptOutsAmong(subscription, a.who) })
}

// once is what was read under a key, or is now.
func once[V any](known *map[string]V, key string, read func() (V, error)) (V, error) {
	if v, ok := (*known)[key]; ok {
		return v, nil
	}
	v, err := read()
	if err == nil {
		if *known == nil {
			*known = map[string]V{}
		}
		(*known)[key] = v
	}
	return v, err
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

// resolve resolves all there is to decide about, each event once for those whom
// the same subscriptions named.
func (a *again) resolve(ctx context.Context, bundles []belfry.Bundle, items map[string][]belfry.BundleItem, concerns func(*belfry.BundleItem, *belfry.Accepted) bool) error {
	for i := range bundles {
		b := &bundles[i]
		for k := range items[b.ID] {
			it := &items[b.ID][k]
			e := a.events[it.EventID]
			if it.State != belfry.Scheduled || e == nil || e.acc == nil || !concerns(it, e.acc) {
				continue
			}
			if e.view == nil {
				if err := a.s.o.Stages.matched(ctx, e, a.now); err != nil {
					return err
				}
			}
			w := e.way(it)
			w.who = append(w.who, whose(b))
		}
	}
	for _, e := range a.events {
		for _, w := range e.ways {
			if len(w.matches) == 0 {
				continue
			}
			var err error
			if w.results, err = resolve.Some(among{e.view.dir.Passing(), a.crowd}, e.acc, w.matches, e.view.typ, a.now, w.who); err != nil {
				return err
			}
		}
	}
	return nil
}

// way is what an item came by: the matches by which its reader was named. What
// she joins later tells of what comes later.
func (e *eventAgain) way(it *belfry.BundleItem) *wayAgain {
	ways := route.Ways(it.Because)
	key := strings.Join(ways, " ")
	w := e.ways[key]
	if w == nil {
		w = &wayAgain{}
		for i := range e.matches {
			if slices.Contains(ways, e.matches[i].Subscription.ID) {
				w.matches = append(w.matches, e.matches[i])
			}
		}
		if e.ways == nil {
			e.ways = map[string]*wayAgain{}
		}
		e.ways[key] = w
	}
	return w
}

// bundle is what becomes of the items of a digest, or of a part of them.
func (a *again) bundle(ctx context.Context, b *belfry.Bundle, items []belfry.BundleItem, concerns func(*belfry.BundleItem, *belfry.Accepted) bool, inPart bool) (belfry.Regather, error) {
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
	if stay >= 0 && due.Equal(b.Due) && frequency == b.Frequency && !inPart {
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
	w := e.way(it)
	if len(w.matches) == 0 {
		return route.Anew{}, nil
	}
	result := w.results[whose(b)]
	result.Recipients = slices.Clone(result.Recipients) // of others, too
	if len(result.Recipients) == 0 {
		off, err := resolve.Left(among{e.view.dir.Passing(), a.crowd}, b.Principal, it.Because, a.now)
		return route.Anew{Off: off}, err
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
	in, _, err := a.stages.input(ctx, e.acc, it.Run, e.view, &result, planned)
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

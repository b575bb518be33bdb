package pipeline

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
	"github.com/belfryhq/belfry/internal/resolve"
)

// gathered is what a digest's payload holds in place of an event.
type gathered struct {
	bundle belfry.Bundle
	items  []digestItem
	rest   func(ctx context.Context, after string) ([]digestItem, error) // the next that wait; nil = there are no more
}

type digestItem struct {
	belfry.BundleItem
	acc   *belfry.Accepted     // nil = the event is not kept any more
	sub   *belfry.Subscription // as it stands when it is sent; nil = it has none
	alone bool                 // no other of many digests speaks of the event: it is not worth remembering
}

// Bounds of what of digests is in memory: events that many of them speak of,
// when they are small, and words of them.
const (
	digestEvents = 1024
	digestEvent  = 16 << 10
	digestWords  = 4096
	digestParts  = 40 // that are looked at of one of which nothing before them is left
	manyDigests  = 16 // read at once: what one of them speaks of is seldom in others
)

// digestPayload is the payload of a digest.
func digestPayload(g *gathered) *Payload {
	return &Payload{Accepted: &belfry.Accepted{Tenant: g.bundle.Tenant, EventID: g.bundle.ID, Event: &belfry.Event{}}, digest: g}
}

// digests reads digests into payloads, by the id of the bundle.
func (d *Dispatcher) digests(ctx context.Context, tenant string, bundles []string, out map[string]*Payload) error {
	known, err := d.o.Store.Bundles(ctx, tenant, bundles)
	if err != nil {
		return err
	}
	items, err := d.o.Store.WaitingOf(ctx, tenant, bundles, render.DigestMost+1)
	if err != nil {
		return err
	}
	told, err := d.digestItems(ctx, tenant, items)
	if err != nil {
		return err
	}
	for id, b := range known {
		g := &gathered{bundle: b, items: told[id]}
		if len(g.items) > render.DigestMost {
			g.rest = func(ctx context.Context, after string) ([]digestItem, error) {
				list, err := d.o.Store.WaitingItems(ctx, tenant, id, after, render.DigestMost+1)
				if err != nil {
					return nil, err
				}
				more, err := d.digestItems(ctx, tenant, map[string][]belfry.BundleItem{id: list})
				return more[id], err
			}
		}
		out[id] = digestPayload(g)
	}
	return nil
}

// digestItems reads what items speak of.
func (d *Dispatcher) digestItems(ctx context.Context, tenant string, items map[string][]belfry.BundleItem) (map[string][]digestItem, error) {
	events := map[string]*belfry.Accepted{}
	times := map[string]int{}
	var missing []string
	for _, list := range items {
		for i := range list {
			id := list[i].EventID
			if times[id]++; times[id] > 1 {
				continue
			}
			acc, cached := d.spoken.Get(spokenKey{tenant, id})
			if events[id] = acc; !cached {
				missing = append(missing, id)
			}
		}
	}
	slices.Sort(missing) // what happened one after the other is stored side by side
	read, err := d.accepted(ctx, tenant, missing)
	if err != nil {
		return nil, err
	}
	alone := func(event string) bool { return len(items) >= manyDigests && times[event] == 1 }
	for id, acc := range read {
		events[id] = acc
		if len(acc.Body) <= digestEvent && !alone(id) {
			d.spoken.Add(spokenKey{tenant, id}, acc)
		}
	}
	out := make(map[string][]digestItem, len(items))
	for id, list := range items {
		told := make([]digestItem, len(list))
		for i := range list {
			told[i] = digestItem{BundleItem: list[i], acc: events[list[i].EventID], alone: alone(list[i].EventID)}
		}
		out[id] = told
	}
	return out, nil
}

type spokenKey struct{ tenant, event string }

// wordsKey is what the words of an item depend on. They are kept for a minute:
// what the directory says of an event's object and people may change.
type wordsKey struct {
	tenant, event, subscription, template, channel, locale, zone string
	minute                                                       int64
}

// said is an item in words, or why its subscription wants nothing said.
type said struct {
	entry  render.Entry
	attach bool // the event's record goes with the digest
	drop   *belfry.Reason
}

// digest checks each item of a digest against what is known now and renders
// what is left of it.
func (m *Messages) digest(ctx context.Context, d *belfry.Delivery, p *Payload) (Composed, error) {
	g := p.digest
	if g == nil {
		return Composed{}, belfry.Errorf(belfry.Internal, "the digest %s was not read", d.Bundle)
	}
	target, who, drop, err := m.target(ctx, d)
	if err != nil || drop != nil {
		return Composed{Drop: drop}, err
	}
	check := &itemCheck{m: m, d: d, who: who, now: m.now(), optedOut: map[string]bool{}, seen: map[place]*belfry.Reason{}}
	var dropped []belfry.ItemDrop
	items := g.items
	for part := 0; ; part++ {
		msg, drops, err := m.digestPart(ctx, d, g, items, check)
		if err != nil {
			return Composed{}, err
		}
		dropped = append(dropped, drops...)
		if msg != nil {
			return Composed{Target: target, Message: msg, Dropped: dropped}, nil
		}
		// Of very many things, those that come first may all be refused.
		if g.rest == nil || len(items) <= render.DigestMost || part == digestParts {
			return Composed{Drop: &belfry.Reason{Code: belfry.NothingLeft}, Dropped: dropped}, nil
		}
		if items, err = g.rest(ctx, items[len(items)-1].ID); err != nil {
			return Composed{}, err
		}
	}
}

// digestPart is the message of a digest, of so many of its items; nil when
// nothing of them is left.
func (m *Messages) digestPart(ctx context.Context, d *belfry.Delivery, g *gathered, items []digestItem, check *itemCheck) (*belfry.Message, []belfry.ItemDrop, error) {
	var left []*digestItem
	var dropped []belfry.ItemDrop
	for i := range items {
		it := &items[i]
		if it.State != belfry.Scheduled {
			continue // was taken out before
		}
		reason, err := check.refuse(ctx, it)
		if err != nil {
			return nil, nil, err
		}
		if reason != nil {
			dropped = append(dropped, belfry.ItemDrop{ID: it.ID, Because: *reason})
			continue
		}
		left = append(left, it)
	}
	if m.gate != nil {
		var err error
		if left, dropped, err = m.authorised(ctx, d, left, dropped); err != nil {
			return nil, nil, err
		}
	}
	return m.digestMessage(ctx, d, g, left, check.who, dropped)
}

// authorised leaves out what the platform says may not be seen.
func (m *Messages) authorised(ctx context.Context, d *belfry.Delivery, items []*digestItem, dropped []belfry.ItemDrop) ([]*digestItem, []belfry.ItemDrop, error) {
	events := make([]*belfry.Event, len(items))
	for i := range items {
		events[i] = items[i].acc.Event
	}
	reasons, err := m.gate.recheckAll(ctx, d, events)
	if err != nil {
		return nil, nil, err
	}
	left := items[:0]
	for i, it := range items {
		if reasons[i] == nil {
			left = append(left, it)
			continue
		}
		dropped = append(dropped, belfry.ItemDrop{ID: it.ID, Because: *reasons[i]})
	}
	return left, dropped, nil
}

// itemCheck looks at each item of a digest as it is sent.
type itemCheck struct {
	m        *Messages
	d        *belfry.Delivery
	who      *belfry.Person
	now      time.Time
	optedOut map[string]bool          // by subscription
	holds    map[belfry.Reason]bool   // whether what named her still does
	seen     map[place]*belfry.Reason // why she may not be told of what happened there, nil = she may; nil = not kept
}

// refuse is why an item is left out.
func (c *itemCheck) refuse(ctx context.Context, it *digestItem) (*belfry.Reason, error) {
	if it.acc == nil {
		return &belfry.Reason{Code: belfry.EventExpired}, nil
	}
	if it.Subscription != "" {
		sub, reason, err := c.m.subs.Standing(ctx, c.d.Tenant, it.Subscription)
		if err == nil && reason != nil {
			alone := *c.d
			alone.Subscription, alone.Because = it.Subscription, it.Because
			var instead *belfry.Delivery
			if sub, instead, reason, err = c.m.another(ctx, &alone, reason); instead != nil {
				it.Subscription = instead.Subscription
			}
		}
		if err != nil || reason != nil {
			return reason, err
		}
		it.sub = sub
		if sub != nil && sub.Acknowledge != nil {
			done, err := c.m.facts.Acks.Acknowledged(ctx, c.d.Tenant, it.EventID, cmp.Or(c.d.Principal, c.d.Address))
			if err != nil {
				return nil, err
			}
			if done {
				return &belfry.Reason{Code: belfry.Acknowledged}, nil
			}
		}
		out, asked := c.optedOut[it.Subscription]
		if !asked {
			alone := *c.d
			alone.Subscription = it.Subscription
			if out, err = c.m.facts.OptedOut(ctx, &alone); err != nil {
				return nil, err
			}
			c.optedOut[it.Subscription] = out
		}
		if out {
			return &belfry.Reason{Code: belfry.OptedOut, Subscription: it.Subscription}, nil
		}
	}
	if c.d.Principal == "" {
		return nil, nil
	}
	return c.since(ctx, it.acc, it.sub, it.Because)
}

// Sees is why a user who is active may not be told of an event now; nil when she
// may.
func (f *Facts) Sees(ctx context.Context, tenant string, e *belfry.Event, user string, now time.Time) (*belfry.Reason, error) {
	view, err := f.Directory.At(ctx, tenant, 0)
	if err != nil {
		return nil, err
	}
	typ, _, err := f.Directory.EventType(ctx, tenant, e.Type)
	if err != nil {
		return nil, err
	}
	return resolve.SeesAt(view, e.ObjectOrRoot(), &typ, user, now)
}

// digestMessage puts items into words; nil when none of them has any. What
// quiet hours held and is alone is told as ever.
func (m *Messages) digestMessage(ctx context.Context, d *belfry.Delivery, g *gathered, items []*digestItem, who *belfry.Person, dropped []belfry.ItemDrop) (*belfry.Message, []belfry.ItemDrop, error) {
	if g.bundle.Held && len(items) == 1 {
		it := items[0]
		alone := *d
		alone.EventID, alone.Subscription, alone.Template, alone.Because = it.EventID, it.Subscription, it.Template, it.Because
		msg, drop, err := m.message(ctx, &alone, it.acc, it.sub, who)
		if drop != nil {
			dropped = append(dropped, belfry.ItemDrop{ID: it.ID, Because: *drop})
		}
		return msg, dropped, err
	}
	out := render.Digest{Frequency: g.bundle.Frequency, Held: g.bundle.Held, Locale: d.Locale, Now: m.now(), Links: render.Links{Why: m.links.Why(d)}}
	settings, err := m.facts.Directory.TenantSettings(ctx, d.Tenant)
	if err != nil {
		return nil, dropped, err
	}
	if settings != nil {
		out.Fallback = settings.Locale
	}
	var records []*belfry.Event
	subs := map[string]bool{}
	for i, it := range items {
		if out.More = i == render.DigestMost; out.More {
			break
		}
		w, err := m.words(ctx, d, it, who)
		if err != nil {
			return nil, dropped, err
		}
		if w.drop != nil {
			dropped = append(dropped, belfry.ItemDrop{ID: it.ID, Because: *w.drop})
			continue
		}
		if w.attach {
			records = append(records, it.acc.Event)
		}
		out.Items = append(out.Items, render.DigestItem{Entry: &w.entry, Event: it.acc.Event})
		if it.sub == nil || subs[it.Subscription] {
			continue
		}
		subs[it.Subscription] = true
		out.Stops = append(out.Stops, render.DigestStop{Title: it.sub.Title,
			URL: m.links.Unsubscribe(d.Tenant, it.Subscription, d.Principal, d.Address), ListID: m.links.ListID(d.Tenant, it.Subscription)})
	}
	if len(out.Items) == 0 {
		return nil, dropped, nil
	}
	msg := out.Mail()
	msg.ID, msg.Thread = d.ID, "digest "+g.bundle.Key
	if g.bundle.Frequency.By == belfry.ByObject {
		msg.Thread = items[0].acc.Event.ObjectOrRoot()
	}
	if table := render.RecordsCSV(records); table != nil {
		msg.Attachments = []belfry.Attachment{{Name: "records.csv", ContentType: "text/csv; charset=utf-8", Body: table}}
	}
	var only *belfry.Subscription
	if len(subs) == 1 {
		only = items[0].sub
	}
	return &msg, dropped, m.facts.address(ctx, d.Tenant, only, &render.Item{Event: &belfry.Event{}}, &msg)
}

// words are those of an item, the same for all whose language and clock are the
// same; the reader's name is none of them. Only what an expression computes for
// each reader is made for each.
func (m *Messages) words(ctx context.Context, d *belfry.Delivery, it *digestItem, who *belfry.Person) (*said, error) {
	zone, reader := "", &belfry.User{Email: d.Address}
	if who != nil {
		zone = who.User.TimeZone
	}
	key := wordsKey{d.Tenant, it.EventID, it.Subscription, it.Template, d.Channel, d.Locale, zone, m.now().Unix() / 60}
	shared := it.sub == nil || !slices.ContainsFunc(it.sub.Notify, func(n belfry.Notify) bool { return n.Message != "" })
	if !shared && who != nil {
		reader = &who.User
	}
	shared = shared && !it.alone
	if shared {
		if w, ok := m.digested.Get(key); ok {
			return w, nil
		}
	}
	item, err := m.facts.Item(ctx, d.Tenant, it.acc, it.sub, nil, &belfry.Person{User: belfry.User{Locale: d.Locale, TimeZone: zone}})
	if err != nil {
		return nil, err
	}
	item.Locale = d.Locale
	wanted := Wanted{Subscription: it.sub, Template: it.Template, Channel: d.Channel, Reader: reader, Now: m.now()}
	t, from, drop, err := m.facts.Wording(ctx, m.templates, d.Tenant, &wanted, &item)
	if err != nil {
		return nil, err
	}
	w := &said{drop: drop, attach: from != nil && from.Attach == belfry.AttachCSV}
	if drop == nil {
		w.entry = t.Inbox(item)
	}
	if shared {
		m.digested.Add(key, w)
	}
	return w, nil
}

// bundlesOf divides ids of payloads into those of events and those of digests.
func bundlesOf(ids []string) (events, bundles []string) {
	for i, id := range ids {
		if !strings.HasPrefix(id, belfry.BundlePrefix) {
			continue
		}
		events = append(events, ids[:i]...)
		for _, id := range ids[i:] {
			if strings.HasPrefix(id, belfry.BundlePrefix) {
				bundles = append(bundles, id)
			} else {
				events = append(events, id)
			}
		}
		return events, bundles
	}
	return ids, nil
}

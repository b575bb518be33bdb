package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/route"
)

// overLimit is until when a digest waits, and why.
type overLimit struct {
	until time.Time
	why   belfry.Reason
	seen  int // of how many items: one that comes may be mandatory
}

// limits says which of the digests that are due wait, for a throttle or for
// another day; what waits for a throttle takes nothing of the day.
func (s *Sealer) limits(ctx context.Context, tenant string, due []belfry.Bundle, people map[string]*belfry.Person, now time.Time) (map[string]overLimit, error) {
	often, err := s.often(ctx, tenant, due, now)
	if err != nil {
		return nil, err
	}
	if len(often) > 0 {
		due = slices.DeleteFunc(due, func(b belfry.Bundle) bool { _, waits := often[b.ID]; return waits })
	}
	over, err := s.room(ctx, tenant, due, people, now)
	if err != nil {
		return nil, err
	}
	maps.Copy(over, often)
	return over, nil
}

// usesAtOnce is how many uses of throttles are asked for in one transaction.
const usesAtOnce = 2000

// bound is one use of a throttle by a digest.
type bound struct {
	bundle int
	sub    *belfry.Subscription
	name   string
}

// often says which of the digests that are due wait for a throttle, and until
// when. A digest is one message of each subscription, and value of the
// throttle's key, that it tells of; those of one person that began together, on
// several channels, are one. It waits while it tells of nothing but what was told
// often enough, and has its turn then. One that has anything else to tell goes,
// with all there is in it: it would be a message without that, too.
func (s *Sealer) often(ctx context.Context, tenant string, due []belfry.Bundle, now time.Time) (map[string]overLimit, error) {
	if any, err := s.o.Stages.Subscriptions.Throttles(ctx, tenant); err != nil || !any {
		return nil, err
	}
	t := &tells{s: s, tenant: tenant, now: now, subs: map[string]*belfry.Subscription{}, names: map[[2]string]string{}}
	ids := make([]string, 0, len(due))
	for i := range due {
		if due[i].Principal != "" {
			ids = append(ids, due[i].ID)
		}
	}
	items, err := s.o.Store.BundleItems(ctx, tenant, ids, s.part)
	if err != nil {
		return nil, err
	}
	if err := t.read(ctx, items); err != nil || len(t.events) == 0 {
		return nil, err
	}
	goes := make([]bool, len(due)) // whatever its throttles say
	var first, other []bound       // of the subscriptions that lead, and of others that name her
	for i := range due {
		asked := map[string]bool{}
		ask := func(list []bound, sub *belfry.Subscription, e *eventAgain) ([]bound, error) {
			name, err := t.name(ctx, sub, e)
			if err != nil || asked[name] {
				return list, err
			}
			asked[name] = true
			return append(list, bound{i, sub, name}), nil
		}
		for k := range items[due[i].ID] {
			it := &items[due[i].ID][k]
			if it.State != belfry.Scheduled {
				continue
			}
			lead, rest, free, err := t.ways(ctx, it)
			if err != nil {
				return nil, err
			}
			goes[i] = goes[i] || free || due[i].Asked()
			if lead == nil && len(rest) == 0 {
				continue
			}
			e := t.events[it.EventID]
			if e == nil || e.acc == nil {
				continue
			}
			typ, _, err := s.o.Facts.Directory.EventType(ctx, tenant, e.acc.Event.Type)
			if err != nil {
				return nil, err
			}
			if typ.Mandatory {
				goes[i] = true
				continue
			}
			if lead != nil {
				if first, err = ask(first, lead, e); err != nil {
					return nil, err
				}
			}
			for _, sub := range rest {
				if other, err = ask(other, sub, e); err != nil {
					return nil, err
				}
			}
		}
	}
	out := map[string]overLimit{}
	for turn, list := range [][]bound{first, other, append(first, other...)} {
		left := list[:0:0]
		for _, b := range list {
			if turn == 0 || !goes[b.bundle] {
				left = append(left, b)
			}
		}
		from, err := s.take(ctx, tenant, due, left, now, turn == 2)
		if err != nil {
			return nil, err
		}
		for i, b := range left {
			at := from[i]
			switch wait, waits := out[due[b.bundle].ID]; {
			case !at.IsZero() && !at.After(now):
				goes[b.bundle] = true
			case turn < 2:
			case !waits || at.Before(wait.until):
				seen := len(items[due[b.bundle].ID])
				if seen >= s.part { // there may be more, which are not looked at
					seen = 0
				}
				out[due[b.bundle].ID] = overLimit{until: at, seen: seen, why: belfry.Reason{Code: belfry.ThrottleWaits, Subscription: b.sub.ID,
					Detail: fmt.Sprintf("%d within %s: waits until %s", b.sub.Throttle.Limit, b.sub.Throttle.Window, at.UTC().Format(time.RFC3339))}}
			}
		}
	}
	for i := range due {
		if goes[i] {
			delete(out, due[i].ID)
		}
	}
	return out, s.free(ctx, t, items, out)
}

// free lets those of the digests that wait go of which so many things were looked
// at that there may be more, and one of those comes under no throttle.
func (s *Sealer) free(ctx context.Context, t *tells, items map[string][]belfry.BundleItem, waits map[string]overLimit) error {
	var long []string
	for id := range waits {
		if len(items[id]) == s.part {
			long = append(long, id)
		}
	}
	if len(long) == 0 {
		return nil
	}
	found, _, err := s.some(ctx, t.tenant, long, func(it *belfry.BundleItem, e *eventAgain) (bool, error) {
		if it.State != belfry.Scheduled || e == nil || e.acc == nil {
			return false, nil
		}
		typ, _, err := s.o.Facts.Directory.EventType(ctx, t.tenant, e.acc.Event.Type)
		if err != nil || typ.Mandatory {
			return typ.Mandatory, err
		}
		_, _, free, err := t.ways(ctx, it)
		return free, err
	})
	for id, goes := range found {
		if goes {
			delete(waits, id)
		}
	}
	return err
}

// take asks for uses of throttles by digests.
func (s *Sealer) take(ctx context.Context, tenant string, due []belfry.Bundle, list []bound, now time.Time, wait bool) (from []time.Time, err error) {
	for part := range slices.Chunk(list, usesAtOnce) {
		uses := make([]belfry.QuotaUse, len(part))
		for i, u := range part {
			b := &due[u.bundle]
			key, _, _ := strings.Cut(b.Key, " to=") // of all her devices
			uses[i] = belfry.QuotaUse{Principal: b.Principal, Name: u.name, Grant: fmt.Sprintf("%s @%d", key, b.Opened.UnixMicro()),
				Limit: u.sub.Throttle.Limit, Span: u.sub.Throttle.Span(), Wait: wait, Force: b.Asked()}
		}
		got, err := s.o.Stages.Quotas.TakeQuotas(ctx, tenant, now, uses)
		if err != nil {
			return nil, err
		}
		from = append(from, got...)
	}
	return from, nil
}

// tells knows which throttles items of digests come under.
type tells struct {
	s      *Sealer
	tenant string
	now    time.Time
	subs   map[string]*belfry.Subscription // that stand; nil = it does not
	names  map[[2]string]string            // by subscription and event
	events map[string]*eventAgain          // of items with a throttle
}

func (t *tells) standing(ctx context.Context, id string) (*belfry.Subscription, error) {
	sub, known := t.subs[id]
	if known {
		return sub, nil
	}
	sub, why, err := t.s.o.Stages.Subscriptions.Standing(ctx, t.tenant, id)
	if why != nil {
		sub = nil
	}
	t.subs[id] = sub
	return sub, err
}

// ways are the throttled subscriptions that an item comes by, the leading one
// apart; free when she hears of it by one that bounds nothing.
func (t *tells) ways(ctx context.Context, it *belfry.BundleItem) (lead *belfry.Subscription, rest []*belfry.Subscription, free bool, err error) {
	for _, id := range append([]string{it.Subscription}, route.Ways(it.Because)...) {
		if id == "" {
			continue
		}
		sub, err := t.standing(ctx, id)
		switch {
		case err != nil:
			return nil, nil, false, err
		case sub == nil:
		case sub.Throttle == nil || sub.Mandatory:
			free = true
		case id == it.Subscription:
			lead = sub
		default:
			rest = append(rest, sub)
		}
	}
	return lead, rest, free, nil
}

// read reads the events of the items that come under a throttle.
func (t *tells) read(ctx context.Context, items map[string][]belfry.BundleItem) error {
	bounded := map[string][]belfry.BundleItem{}
	for id, list := range items {
		for i := range list {
			lead, rest, _, err := t.ways(ctx, &list[i])
			if err != nil {
				return err
			}
			if lead != nil || len(rest) > 0 {
				bounded[id] = append(bounded[id], list[i])
			}
		}
	}
	if len(bounded) == 0 {
		return nil
	}
	a := &again{s: t.s, tenant: t.tenant, events: map[string]*eventAgain{}}
	t.events = a.events
	return a.read(ctx, bounded)
}

// name is that of the throttle's quota for an event.
func (t *tells) name(ctx context.Context, sub *belfry.Subscription, e *eventAgain) (string, error) {
	if sub.Throttle.Key == "" {
		return throttleName(sub, nil, expr.Facts{}), nil
	}
	key := [2]string{sub.ID, e.acc.EventID}
	if name, known := t.names[key]; known {
		return name, nil
	}
	v, err := t.s.o.Stages.view(ctx, e.acc)
	if err != nil {
		return "", err
	}
	facts, err := v.facts(e.acc.Event, t.now)
	if err != nil {
		return "", err
	}
	t.names[key] = throttleName(sub, e.acc.Event, facts)
	return t.names[key], nil
}

// room says which of the digests that are due are over somebody's daily limit of
// a channel, where a digest is one message, and until when they wait: the first
// day that has room, which is theirs from then on. One that tells something
// mandatory, or that somebody sends now, goes at once and takes its part all the
// same.
func (s *Sealer) room(ctx context.Context, tenant string, due []belfry.Bundle, people map[string]*belfry.Person, now time.Time) (map[string]overLimit, error) {
	settings, err := s.o.Facts.Directory.TenantSettings(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var most map[string]int
	if settings != nil {
		most = settings.MaxPerDay
	}
	limit := map[string]int{}
	var over []*belfry.Bundle
	for i := range due {
		b := &due[i]
		if n := dailyLimit(people[b.Principal], b.Channel, most); b.Principal != "" && n > 0 {
			limit[b.ID] = n
			over = append(over, b)
		}
	}
	out := map[string]overLimit{}
	seen := map[string]int{}
	take := func(list []*belfry.Bundle, day int, force bool) ([]time.Time, error) {
		uses := make([]belfry.QuotaUse, len(list))
		for i, b := range list {
			from, until := dayOf(people[b.Principal], now, day)
			uses[i] = belfry.QuotaUse{Principal: b.Principal, Name: dayQuota(b.Channel, from), Grant: b.ID, Limit: limit[b.ID], Until: until,
				Force: force || b.Asked(), Instead: dayQuotas(b.Channel)}
		}
		return s.o.Stages.Quotas.TakeQuotas(ctx, tenant, now, uses)
	}
	for day := 0; len(over) > 0 && day <= daysAhead; day++ {
		granted, err := take(over, day, false)
		if err != nil {
			return nil, err
		}
		left := over[:0]
		for i, b := range over {
			switch from, _ := dayOf(people[b.Principal], now, day); {
			case !granted[i].IsZero() && day == 0:
			case !granted[i].IsZero() || day == daysAhead: // more than a month's worth waits already
				at := morningOf(from)
				out[b.ID] = overLimit{seen: seen[b.ID], until: at, why: belfry.Reason{Code: belfry.OverDailyLimit, Detail: fmt.Sprintf("%d a day: waits until %s", limit[b.ID], at.Format(time.RFC3339))}}
			default:
				left = append(left, b)
			}
		}
		if over = left; day == 0 && len(over) > 0 {
			var must []*belfry.Bundle
			if over, must, err = s.optional(ctx, tenant, over, seen); err != nil {
				return nil, err
			}
			if len(must) > 0 {
				if _, err = take(must, day, true); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// optional are the digests that tell nothing mandatory, and the others; seen gets
// how many items those have of which all were looked at.
func (s *Sealer) optional(ctx context.Context, tenant string, list []*belfry.Bundle, seen map[string]int) (out, must []*belfry.Bundle, err error) {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	mandatory, read, err := s.some(ctx, tenant, ids, func(it *belfry.BundleItem, e *eventAgain) (bool, error) {
		if it.State != belfry.Scheduled || e == nil || e.acc == nil {
			return false, nil
		}
		typ, _, err := s.o.Facts.Directory.EventType(ctx, tenant, e.acc.Event.Type)
		if err != nil || typ.Mandatory || it.Subscription == "" {
			return typ.Mandatory, err
		}
		sub, _, err := s.o.Stages.Subscriptions.Standing(ctx, tenant, it.Subscription)
		return sub != nil && sub.Mandatory, err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, b := range list {
		if mandatory[b.ID] {
			must = append(must, b)
		} else {
			out = append(out, b)
			seen[b.ID] = read[b.ID] // 0 = of one of very many: what comes meanwhile is not looked for
		}
	}
	return out, must, nil
}

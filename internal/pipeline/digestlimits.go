package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// overLimit is until when a digest waits, and why.
type overLimit struct {
	until time.Time
	why   belfry.Reason
	seen  int // of how many items: one that comes may be mandatory
}

// room says which of the digests that are due are over somebody's daily limit of
// a channel, where a digest is one message, and until when they wait: the first
// day that has room, which is theirs from then on. One that tells something
// mandatory goes at once.
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
	for day := 0; len(over) > 0 && day <= daysAhead; day++ {
		uses := make([]belfry.QuotaUse, len(over))
		for i, b := range over {
			from, until := dayOf(people[b.Principal], now, day)
			uses[i] = belfry.QuotaUse{Principal: b.Principal, Name: dayQuota(b.Channel, from), Grant: b.ID, Limit: limit[b.ID], Until: until}
		}
		granted, err := s.o.Stages.Quotas.TakeQuotas(ctx, tenant, now, uses)
		if err != nil {
			return nil, err
		}
		left := over[:0]
		for i, b := range over {
			switch from, _ := dayOf(people[b.Principal], now, day); {
			case granted[i] && day == 0:
			case granted[i] || day == daysAhead: // more than a month's worth waits already
				at := morningOf(from)
				out[b.ID] = overLimit{seen: seen[b.ID], until: at, why: belfry.Reason{Code: belfry.OverDailyLimit, Detail: fmt.Sprintf("%d a day: waits until %s", limit[b.ID], at.Format(time.RFC3339))}}
			default:
				left = append(left, b)
			}
		}
		if over = left; day == 0 && len(over) > 0 {
			if over, err = s.optional(ctx, tenant, over, seen); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// optional are the digests that tell nothing mandatory; seen gets how many items
// those have of which all were looked at.
func (s *Sealer) optional(ctx context.Context, tenant string, list []*belfry.Bundle, seen map[string]int) ([]*belfry.Bundle, error) {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	items, err := s.o.Store.BundleItems(ctx, tenant, ids, lookItems)
	if err != nil {
		return nil, err
	}
	a := &again{s: s, tenant: tenant, events: map[string]*eventAgain{}}
	if err := a.read(ctx, items); err != nil {
		return nil, err
	}
	must := func(it *belfry.BundleItem) (bool, error) {
		e := a.events[it.EventID]
		if it.State != belfry.Scheduled || e == nil || e.acc == nil {
			return false, nil
		}
		typ, _, err := s.o.Facts.Directory.EventType(ctx, tenant, e.acc.Event.Type)
		if err != nil || typ.Mandatory || it.Subscription == "" {
			return typ.Mandatory, err
		}
		sub, _, err := s.o.Stages.Subscriptions.Standing(ctx, tenant, it.Subscription)
		return sub != nil && sub.Mandatory, err
	}
	var out []*belfry.Bundle
	for _, b := range list {
		mandatory := false
		for i := range items[b.ID] {
			if mandatory, err = must(&items[b.ID][i]); err != nil {
				return nil, err
			}
			if mandatory {
				break
			}
		}
		if !mandatory {
			out = append(out, b)
			if n := len(items[b.ID]); n < lookItems { // else there may be more, which are not looked at
				seen[b.ID] = n
			}
		}
	}
	return out, nil
}

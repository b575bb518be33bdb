package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/route"
)

// Quotas keeps what people were granted of what is limited.
type Quotas interface {
	// TakeQuotas says from when each use is granted, the zero time = it is not.
	TakeQuotas(ctx context.Context, tenant string, now time.Time, uses []belfry.QuotaUse) ([]time.Time, error)
}

// daysAhead is how far what is over a daily limit is put off at most.
const daysAhead = 31

// morning is when what was put off to a day goes out.
const morning = 8

// plan routes a page within the limits there are: what a throttle refuses is
// routed anew without it, and what is over a daily limit goes out another day.
func (s *Stages) plan(ctx context.Context, in *route.Input, most map[string]int) ([]belfry.Delivery, []belfry.Suppression, error) {
	ds, sups := route.Plan(*in)
	throttles := throttlesOf(in)
	for range len(throttles) {
		refused, err := s.throttle(ctx, in, ds, throttles)
		if err != nil {
			return nil, nil, err
		}
		if !refused {
			break
		}
		ds, sups = route.Plan(*in)
	}
	return ds, sups, s.putOff(ctx, in, ds, most)
}

// throttlesOf are the subscriptions of a page that bound their messages. What is
// mandatory is not bounded, nor what nobody has acknowledged.
func throttlesOf(in *route.Input) map[string]*belfry.Subscription {
	if in.Type.Mandatory {
		return nil
	}
	return matched(in, func(m *belfry.Match) bool {
		return m.Subscription.Throttle != nil && !m.Subscription.Mandatory && m.Escalation == 0
	})
}

// matched are the subscriptions, by id, of those matches of a page that are
// wanted. Neighbours mostly have the same: each is asked about once a run.
func matched(in *route.Input, wanted func(*belfry.Match) bool) map[string]*belfry.Subscription {
	var out map[string]*belfry.Subscription
	var seen *belfry.Match
	for i := range in.Recipients {
		for k := range in.Recipients[i].Via {
			m := in.Recipients[i].Via[k].Match
			if m == nil || m == seen {
				continue
			}
			if seen = m; !wanted(m) {
				continue
			}
			if out == nil {
				out = map[string]*belfry.Subscription{}
			}
			out[m.Subscription.ID] = m.Subscription
		}
	}
	return out
}

// throttle takes what the deliveries need of their throttles, and notes whom
// they refuse.
func (s *Stages) throttle(ctx context.Context, in *route.Input, ds []belfry.Delivery, throttles map[string]*belfry.Subscription) (refused bool, err error) {
	var uses []belfry.QuotaUse
	var whose []route.Throttled
	keys := map[string]string{}
	for i := range ds {
		d := &ds[i]
		sub := throttles[d.Subscription]
		if sub == nil || d.Principal == "" || d.Channel == belfry.ChannelInbox || d.Digest != nil { // a digest is counted when it is sealed: see Sealer.often
			continue
		}
		who := route.Throttled{Principal: d.Principal, Subscription: sub.ID}
		if n := len(whose); n > 0 && slices.Contains(whose[max(0, n-8):], who) { // her channels come together
			continue
		}
		name, known := keys[sub.ID]
		if !known {
			name = throttleName(sub, in.Event.Event, expr.Facts{Ancestors: in.Ancestors, Actor: in.Actor, Now: in.Now})
			keys[sub.ID] = name
		}
		uses = append(uses, belfry.QuotaUse{Principal: d.Principal, Name: name, Grant: d.EventID, Limit: sub.Throttle.Limit, Until: in.Now.Add(sub.Throttle.Span())})
		whose = append(whose, who)
	}
	if len(uses) == 0 {
		return false, nil
	}
	granted, err := s.Quotas.TakeQuotas(ctx, in.Event.Tenant, in.Now, uses)
	if err != nil {
		return false, err
	}
	for i, from := range granted {
		if !from.IsZero() {
			continue
		}
		refused = true
		if in.Throttled == nil {
			in.Throttled = map[route.Throttled]belfry.Reason{}
		}
		t := throttles[whose[i].Subscription].Throttle
		in.Throttled[whose[i]] = belfry.Reason{Code: belfry.IsThrottled, Subscription: whose[i].Subscription, Detail: fmt.Sprintf("%d within %s", t.Limit, t.Window)}
	}
	return refused, nil
}

// throttleName is the name of a throttle's quota for an event. What has no key
// shares that of the others without.
func throttleName(sub *belfry.Subscription, e *belfry.Event, facts expr.Facts) string {
	key := ""
	if sub.Throttle.Key != "" {
		if g, err := expr.CompileGroup(sub.Throttle.Key); err == nil {
			key, _ = g.Of(expr.NewVars(e, facts))
		}
	}
	sum := sha256.Sum256([]byte(key))
	return "throttle/" + sub.ID + "/" + base64.RawURLEncoding.EncodeToString(sum[:12])
}

// putOff moves what is over somebody's daily limit of a channel to the first day
// that has room, by her own calendar. What is urgent or mandatory goes at once and
// takes its part all the same, and a digest is counted when it is sealed: see
// Sealer.room.
func (s *Stages) putOff(ctx context.Context, in *route.Input, ds []belfry.Delivery, most map[string]int) error {
	limited := len(most) > 0
	for _, p := range in.Persons {
		limited = limited || len(p.Settings.MaxPerDay) > 0
	}
	if !limited {
		return nil
	}
	must := in.Type.Mandatory || in.Type.Urgent
	var insisting map[string]*belfry.Subscription // those that are mandatory
	if !must {
		insisting = matched(in, func(m *belfry.Match) bool { return m.Subscription.Mandatory })
	}
	var over []*belfry.Delivery
	for i := range ds {
		d := &ds[i]
		if limitOn(in, d, most) > 0 && d.Digest == nil {
			over = append(over, d)
		}
	}
	for day := 0; len(over) > 0 && day < daysAhead; day++ {
		uses := make([]belfry.QuotaUse, len(over))
		for i, d := range over {
			from, until := dayOf(in.Persons[d.Principal], in.Now, day)
			uses[i] = belfry.QuotaUse{Principal: d.Principal, Name: dayQuota(d.Channel, from), Grant: d.ID, Limit: limitOn(in, d, most), Until: until, Force: must || insisting[d.Subscription] != nil}
		}
		granted, err := s.Quotas.TakeQuotas(ctx, in.Event.Tenant, in.Now, uses)
		if err != nil {
			return err
		}
		left := over[:0]
		for i, d := range over {
			switch {
			case granted[i].IsZero():
				left = append(left, d)
			case day > 0:
				from, _ := dayOf(in.Persons[d.Principal], in.Now, day)
				d.Due = morningOf(from)
				d.Because = append(slices.Clone(d.Because), belfry.Reason{Code: belfry.OverDailyLimit, Detail: fmt.Sprintf("%d a day: waits until %s", uses[i].Limit, d.Due.Format(time.RFC3339))})
			}
		}
		over = left
	}
	for _, d := range over { // more than a month's worth waits already
		from, _ := dayOf(in.Persons[d.Principal], in.Now, daysAhead)
		d.Due = from.UTC()
	}
	return nil
}

// limitOn is how many messages a day somebody gets by a delivery's channel: the
// smaller of what she and the tenant say; 0 = any number.
func limitOn(in *route.Input, d *belfry.Delivery, most map[string]int) int {
	if d.Principal == "" {
		return 0
	}
	return dailyLimit(in.Persons[d.Principal], d.Channel, most)
}

// dailyLimit is limitOn for a person and channel.
func dailyLimit(person *belfry.Person, channel string, most map[string]int) int {
	if person == nil || channel == belfry.ChannelInbox {
		return 0
	}
	limit, hers := most[channel], person.Settings.MaxPerDay[channel]
	if hers > 0 && (limit == 0 || hers < limit) {
		return hers
	}
	return limit
}

// dayQuota is the name of the quota of a channel on a day.
func dayQuota(channel string, day time.Time) string {
	return dayQuotas(channel) + day.Format(time.DateOnly)
}

// dayQuotas begins the names of the quotas of a channel on all days.
func dayQuotas(channel string) string { return "day/" + channel + "/" }

// morningOf is when what was put off to a day goes out.
func morningOf(day time.Time) time.Time {
	return time.Date(day.Year(), day.Month(), day.Day(), morning, 0, 0, 0, day.Location()).UTC()
}

// dayOf is the day of somebody's calendar that many days after now.
func dayOf(person *belfry.Person, now time.Time, days int) (from, until time.Time) {
	zone := person.User.Zone()
	year, month, day := now.In(zone).Date()
	return time.Date(year, month, day+days, 0, 0, 0, 0, zone), time.Date(year, month, day+days+1, 0, 0, 0, 0, zone)
}

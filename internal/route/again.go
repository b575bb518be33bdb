package route

import (
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Anew is what is to become of an item of a digest that gathers. The zero value
// leaves it where it waits.
type Anew struct {
	// To is where it waits, by its own channel: one place.
	To *belfry.Delivery
	// Off is why it is not told by its own channel any more. Instead are the
	// other ways there are now, in the order in which they are to be taken; one
	// that exists already tells her anyhow.
	Off     *belfry.Reason
	Instead []belfry.Delivery
}

// Again decides anew about an item that waits in a digest, with facts as they
// are now: as if what holds now had held when it was planned, which is in.Now;
// what would have been told before now is due now. Whether somebody is told at
// all is not decided here but when the digest is sealed and sent: who is muted,
// stopped or has no address may be, and have, something else until then. The
// exception is a frequency of never, which is a choice about what waits.
func Again(in Input, item *belfry.Delivery, b *belfry.Bundle, now time.Time) Anew {
	merges := map[string]bool{}
	for i := range in.Recipients {
		for k := range in.Recipients[i].Via {
			if m := in.Recipients[i].Via[k].Match; m != nil {
				merges[m.Subscription.ID] = m.Subscription.Merges()
			}
		}
	}
	apart := func(sub string) string {
		if together, known := merges[sub]; known && !together {
			return sub
		}
		return ""
	}
	own := apart(item.Subscription)
	every := false
	for i := range in.Channels {
		every = every || in.Channels[i].Name == item.Channel && in.Channels[i].Every
	}
	g := regather{item: item, bundle: b, now: now, person: in.Persons[item.Principal]}
	ds, sups := Plan(in)
	var out Anew
	chosen := false // whatever becomes of it, the channel is still one of hers
	for i := range ds {
		d := &ds[i]
		if d.Principal != item.Principal || item.Principal == "" && d.Address != item.Address || d.Channel == belfry.ChannelWebhook || d.RunsScript() || apart(d.Subscription) != own {
			continue
		}
		switch {
		case d.Channel != item.Channel:
			d.Digest = g.waits(d)
			out.Instead = append(out.Instead, *d)
		case every && d.Address != item.Address:
			chosen = true // another device
		case out.To == nil:
			to := *d
			to.ID, to.Run, to.Digest = item.ID, item.Run, g.waits(d)
			out.To = &to
		}
	}
	if out.To != nil {
		out.Instead = nil
		return out
	}
	known := chosen || len(ds) > 0
	for i := range sups {
		s := &sups[i]
		if s.Principal != item.Principal || item.Principal == "" && s.Address != item.Address || len(s.Because) == 0 {
			continue
		}
		if known = true; s.Channel != "" && s.Channel != item.Channel {
			continue
		}
		switch why := s.Because[len(s.Because)-1]; why.Code {
		case belfry.FrequencyIsNever, belfry.ChannelForbidden:
			if out.Off == nil {
				out.Off = &why
			}
		case belfry.NoChannel:
		default:
			chosen = true // and it is for later to say whether it can be
		}
	}
	switch {
	case out.Off != nil:
	case chosen || !known: // or nothing names her any more, which is seen to as it is sent
		return Anew{}
	default:
		out.Off = &belfry.Reason{Code: belfry.ChannelOff, Detail: item.Channel}
	}
	return out
}

// regather says where a delivery waits that was made anew of an item.
type regather struct {
	item   *belfry.Delivery
	bundle *belfry.Bundle
	now    time.Time
	person *belfry.Person
}

func (g *regather) waits(d *belfry.Delivery) *belfry.Bundling {
	if d.Channel == belfry.ChannelInbox {
		return nil
	}
	if d.Digest == nil { // told at once: what waited together goes together, at the next moment
		key := "now " + g.bundle.Key
		if d.Channel != g.item.Channel {
			key += " of=" + d.Channel + " to=" + d.Address
		}
		return &belfry.Bundling{Key: key, Frequency: g.bundle.Frequency, Held: g.bundle.Held, Due: g.soonest(g.now)}
	}
	b := *d.Digest
	for _, at := range []*time.Time{&b.Due, &b.Early} {
		if !at.IsZero() && at.Before(g.now) {
			*at = g.soonest(g.now)
		}
	}
	return &b
}

// soonest is a time, or the end of the quiet hours that it is in.
func (g *regather) soonest(at time.Time) time.Time {
	if g.person != nil {
		if until := QuietUntil(&g.person.Settings, g.person.User.Zone(), at); !until.IsZero() {
			return until
		}
	}
	return at
}

// Ways reports the subscriptions that named whoever an item is for, as its
// reasons say.
func Ways(because []belfry.Reason) (subs []string) {
	for i := range because {
		if id := because[i].Subscription; id != "" && !slices.Contains(subs, id) {
			subs = append(subs, id)
		}
	}
	return subs
}

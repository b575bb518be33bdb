package route

import (
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// hers is what is decided of the person at hand.
type hers struct {
	pref    *Effective
	choices choices
}

// fallback decides by which channels somebody is told when another has failed:
// her preference, the subscription, the type and the tenant, the first that
// names any.
func (p *plan) fallback(via *belfry.Via, pref *Effective) ([]string, belfry.Reason) {
	switch {
	case pref.Fallback != nil:
		return pref.Fallback.Fallback, belfry.Reason{Code: belfry.ByPreference, Object: pref.Fallback.Object, Detail: detail(pref.Fallback, "")}
	case via.Match != nil && len(via.Match.Subscription.Fallback) > 0:
		return via.Match.Subscription.Fallback, belfry.Reason{Code: belfry.BySubscription, Subscription: via.Match.Subscription.ID}
	case len(p.in.Type.Channels.Fallback) > 0:
		return p.in.Type.Channels.Fallback, belfry.Reason{Code: belfry.ByType}
	}
	return p.in.Fallback, belfry.Reason{Code: belfry.ByTenant}
}

// fallBack tells by the first other channel that can, when one that was chosen
// reaches nobody. Those that tell her anyhow are no other way.
func (p *plan) fallBack(r *belfry.Recipient, person *belfry.Person, failed *ChannelInfo, c *choice, why belfry.Reason) {
	list, _ := p.fallback(c.via, p.hers.pref)
	for _, name := range list {
		ch := p.channels[name]
		chosen := slices.ContainsFunc(p.hers.choices, func(c choice) bool { return c.channel == name })
		if ch == nil || chosen || name == belfry.ChannelWebhook || p.forbidden(name) {
			continue
		}
		if address, ok := reach(person, ch); ok {
			// Said once: whatever else fails has this way, too.
			p.hers.choices = append(p.hers.choices, choice{channel: name, via: c.via})
			var digest *belfry.Bundling // waits as what was chosen would
			if ch.Contact != "" {
				digest = c.bundling(ch, address)
			}
			p.put(r, name, address, r.Principal, c.via, digest, p.because(r, c.decision, fellBack(failed.Name, "", why.Text())))
			return
		}
	}
}

// reach is the first usable address of a person on a channel.
func reach(person *belfry.Person, ch *ChannelInfo) (string, bool) {
	if ch.Contact == "" {
		return person.User.ID, true
	}
	contacts := contactsOf(&person.User, ch.Contact)
	at := slices.IndexFunc(contacts, func(c belfry.Contact) bool { return unusable(&c) == nil })
	if at < 0 {
		return "", false
	}
	return contacts[at].Address, true
}

func fellBack(channel, address, why string) belfry.Reason {
	detail := channel
	if address != "" {
		detail += " to " + address
	}
	return belfry.Reason{Code: belfry.FellBack, Detail: detail + ": " + why}
}

// Failure is a delivery to a person that will never arrive.
type Failure struct {
	Delivery     *belfry.Delivery
	Why          string // in words
	Person       *belfry.Person
	Subscription *belfry.Subscription // nil when it is of none
	Type         belfry.EventType     // zero when the catalogue has none
	Channels     []ChannelInfo
	Fallback     []string // the tenant's
	About        About    // the event
}

// Instead are the other ways to tell what a delivery failed to, in the order in
// which they are to be tried: the person's next contacts of the same channel by
// priority, then the channels to fall back to. Those that exist already, as
// deliveries, were tried or tell her anyhow. Those of a digest have no ids: what
// was tried is among its reasons.
func Instead(f Failure) []belfry.Delivery {
	d := f.Delivery
	p := &plan{in: &Input{Type: f.Type, Fallback: f.Fallback}}
	pref := Prefer(f.Person.Preferences, f.About)
	via := &belfry.Via{}
	if f.Subscription != nil {
		via.Match = &belfry.Match{Subscription: f.Subscription}
	}
	suffix := slotSuffix(d)
	because := append(slices.Clone(d.Because), fellBack(d.Channel, d.Address, f.Why))
	var out []belfry.Delivery
	add := func(channel, address string) {
		if d.Bundle != "" && (channel == d.Channel && address == d.Address || tried(d.Because, channel, address)) {
			return
		}
		n := *d
		n.Channel, n.Address, n.Because = channel, address, because
		n.ID = ""
		if d.Bundle == "" {
			n.ID = belfry.DeliveryID(d.EventID, 0, channel+suffix, address)
		}
		n.State, n.Due, n.Attempts, n.Base = belfry.Scheduled, f.About.Now, 0, 0
		if channel == belfry.ChannelInbox {
			if d.Bundle == "" {
				n.ID = belfry.DeliveryID(d.EventID, 0, channel, address)
			}
			n.State = belfry.Delivered
		}
		if n.ID != d.ID {
			out = append(out, n)
		}
	}
	tell := func(ch *ChannelInfo) {
		if ch.Contact == "" {
			add(ch.Name, f.Person.User.ID)
			return
		}
		contacts := contactsOf(&f.Person.User, ch.Contact)
		for i := range contacts {
			if c := &contacts[i]; unusable(c) == nil {
				add(ch.Name, c.Address)
			}
		}
	}
	find := func(name string) *ChannelInfo {
		at := slices.IndexFunc(f.Channels, func(c ChannelInfo) bool { return c.Name == name })
		if at < 0 {
			return nil
		}
		return &f.Channels[at]
	}
	if ch := find(d.Channel); ch != nil && !ch.Every {
		tell(ch)
	}
	list, _ := p.fallback(via, &pref)
	for _, name := range list {
		if ch := find(name); ch != nil && name != d.Channel && name != belfry.ChannelWebhook && !p.forbidden(name) {
			tell(ch)
		}
	}
	return out
}

// tried reports whether a way is among those that failed, as reasons say.
func tried(because []belfry.Reason, channel, address string) bool {
	way := fellBack(channel, address, "").Detail
	return slices.ContainsFunc(because, func(r belfry.Reason) bool { return r.Code == belfry.FellBack && strings.HasPrefix(r.Detail, way) })
}

// maxStep bounds the steps of an escalation.
const maxStep = 50

// slotSuffix is what stands after the channel in what a delivery's id is computed
// from: see Plan.
func slotSuffix(d *belfry.Delivery) string {
	is := func(suffix string) bool {
		return d.ID == belfry.DeliveryID(d.EventID, 0, d.Channel+suffix, d.Address)
	}
	apart := "\x00" + d.Subscription
	switch {
	case is(""):
		return ""
	case is(apart):
		return apart
	}
	for step := 1; step <= maxStep; step++ {
		if suffix := apart + "\x00" + strconv.Itoa(step); is(suffix) {
			return suffix
		}
	}
	return ""
}

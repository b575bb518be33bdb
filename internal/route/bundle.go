package route

import (
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// wait is what a frequency comes to for a person (nil for a bare address) now.
// Whom a matter is passed on to is told at once, and what is to be acknowledged
// is in no digest.
func (p *plan) wait(o *Often, via *belfry.Via, person *belfry.Person) *belfry.Bundling {
	if via.Match != nil && via.Match.Escalation > 0 || service(p.in.Event.Event.Type) {
		return nil
	}
	needed := via.Match != nil && via.Match.Subscription.Acknowledge != nil
	if needed {
		o.Frequency, o.By = nil, belfry.Reason{}
	}
	if !o.Frequency.Digest() && (person == nil || person.Settings.Quiet == nil) {
		return nil
	}
	in := WhenInput{Frequency: o.Frequency, Zone: time.UTC, Object: p.in.Event.Event.ObjectOrRoot(), Now: p.in.Now, Urgent: p.in.Type.Urgent}
	if person != nil {
		in.Settings, in.Zone = &person.Settings, person.User.Zone()
	}
	if via.Match != nil {
		in.Subscription = via.Match.Subscription.ID
	}
	b := When(in)
	if b != nil && needed { // alone, for there it can be acknowledged
		b.Key += " of=" + p.in.Event.EventID
	}
	return b
}

// service reports whether a type is of what the house itself has to say to
// somebody, which is no news: a welcome, a mute that ends. That a condition is
// met is news.
func service(typ string) bool {
	return strings.HasPrefix(typ, belfry.OwnTypes) && typ != belfry.ConditionMet && typ != belfry.ConditionResolved
}

// digest is the reason of what waits.
func (o *Often) digest() belfry.Reason {
	switch {
	case o.wait == nil:
		return belfry.Reason{}
	case o.wait.Held:
		return belfry.Reason{Code: belfry.InQuiet}
	}
	detail := o.wait.Frequency.String()
	if o.By.Code != "" {
		detail += ", " + (belfry.Reason{Code: o.By.Code, Detail: o.By.Detail}).Text()
	}
	return belfry.Reason{Code: belfry.InDigest, Subscription: o.By.Subscription, Object: o.By.Object, Detail: detail}
}

// bundling is how what is told by a channel waits: with others of the same
// device where each is told, and apart where the subscription is.
func (c *choice) bundling(ch *ChannelInfo, address string) *belfry.Bundling {
	b := c.often.wait
	apart := c.via.Match != nil && !c.via.Match.Subscription.Merges()
	if b == nil || !apart && !ch.Every {
		return b
	}
	own := *b
	if apart {
		own.Key += " apart=" + c.via.Match.Subscription.ID
	}
	if ch.Every {
		own.Key += " to=" + address
	}
	return &own
}

// Ready decides what becomes of a bundle that is due: it is told at an address,
// or not at all for a reason, or later, in quiet hours. ch is its channel as it
// is set up now; nil = it is not.
func Ready(b *belfry.Bundle, person *belfry.Person, ch *ChannelInfo, now time.Time) (address string, why *belfry.Reason, until time.Time) {
	if b.Principal == "" {
		if !strings.Contains(b.Address, "@") { // it was erased
			return "", &belfry.Reason{Code: belfry.NoAddress}, time.Time{}
		}
		return b.Address, nil, time.Time{}
	}
	switch {
	case person == nil:
		return "", &belfry.Reason{Code: belfry.UserUnknown}, time.Time{}
	case person.User.State == belfry.UserSuspended:
		return "", &belfry.Reason{Code: belfry.UserIsSuspended}, time.Time{}
	case person.User.State == belfry.UserDeleted:
		return "", &belfry.Reason{Code: belfry.UserIsDeleted}, time.Time{}
	case person.Settings.Stop:
		return "", &belfry.Reason{Code: belfry.GlobalStop}, time.Time{}
	}
	if until = QuietUntil(&person.Settings, person.User.Zone(), now); !until.IsZero() {
		return "", nil, until
	}
	if ch == nil || ch.Contact == "" {
		return b.Address, nil, time.Time{} // the send says what is wrong, and is tried again
	}
	contacts := contactsOf(&person.User, ch.Contact)
	for i := range contacts {
		if ch.Every && contacts[i].Address != b.Address {
			continue
		}
		no := unusable(&contacts[i])
		if no == nil {
			return contacts[i].Address, nil, time.Time{}
		}
		if why == nil {
			why = no
		}
	}
	if why == nil {
		why = &belfry.Reason{Code: belfry.NoAddress, Detail: "the address was removed since"}
	}
	return "", why, time.Time{}
}

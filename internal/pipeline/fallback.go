package pipeline

import (
	"cmp"
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/route"
)

// Fallback finds another way for what will never arrive.
type Fallback interface {
	// Next is what to try instead of a delivery whose attempt is its last; nil
	// when there is nothing left. Of a digest it says in the attempt what is left
	// out of it there, and what it puts into an inbox.
	Next(ctx context.Context, d *belfry.Delivery, p *Payload, last *belfry.Attempt) (*belfry.Delivery, error)
	// Told hears of deliveries that were planned so.
	Told(d *belfry.Delivery)
}

// noFallback is a house without other ways.
type noFallback struct{}

func (noFallback) Next(context.Context, *belfry.Delivery, *Payload, *belfry.Attempt) (*belfry.Delivery, error) {
	return nil, nil
}
func (noFallback) Told(*belfry.Delivery) {}

// instead reports whether another way is looked for: a message to a person was
// refused for good, or its address is of no use any more.
func instead(d *belfry.Delivery, a *belfry.Attempt) bool {
	if d.Principal == "" || d.Channel == belfry.ChannelWebhook {
		return false
	}
	if a.Because != nil {
		switch a.Because.Code {
		case belfry.NoAddress, belfry.NotVerified, belfry.ContactDisabled, belfry.ContactDead:
			return true
		}
		return false
	}
	return a.State == belfry.Failed
}

// askAgain is when another way is looked for again, when it could not be.
const askAgain = time.Minute

// later makes an attempt that would have been the last one of more: what is to
// be done instead could not be found out.
func later(a *belfry.Attempt, now time.Time) {
	a.State, a.Due, a.Because = belfry.Retrying, now.Add(askAgain).Truncate(time.Microsecond), nil
}

// FallbackStore tells what was planned already.
type FallbackStore interface {
	DeliveryStates(ctx context.Context, tenant string, ids []string) (map[string]belfry.State, error)
	Message(ctx context.Context, tenant, id string) (belfry.Delivery, bool, error)
	BundleItems(ctx context.Context, tenant string, bundles []string, limit int) (map[string][]belfry.BundleItem, error)
	InboxEntries(ctx context.Context, tenant string, ids []string) (map[string]bool, error)
}

// Fallbacks is the Fallback of the house: the next contact by priority, then the
// next channel.
type Fallbacks struct {
	Store         FallbackStore
	Facts         *Facts
	Stages        *Stages
	Subscriptions *Subscriptions
	Watch         *Watch
	Peers         Peers
	Now           func() time.Time
}

// Next finds the first way that was not planned yet.
func (f *Fallbacks) Next(ctx context.Context, d *belfry.Delivery, p *Payload, last *belfry.Attempt) (*belfry.Delivery, error) {
	person, err := f.Facts.Person(ctx, d.Tenant, d.Principal)
	if err != nil || person == nil || person.User.State != belfry.UserActive {
		return nil, err
	}
	if d.Bundle != "" {
		return f.digest(ctx, d, p, person, last)
	}
	failure := route.Failure{Delivery: d, Person: person}
	failure.Why = whyOf(last)
	if d.Subscription != "" {
		if failure.Subscription, _, err = f.Subscriptions.Standing(ctx, d.Tenant, d.Subscription); err != nil {
			return nil, err
		}
	}
	v, err := f.Stages.view(ctx, p.Accepted)
	if err != nil {
		return nil, err
	}
	channels, said, err := f.Stages.defaults(ctx, d.Tenant)
	if err != nil {
		return nil, err
	}
	failure.Type, failure.Channels, failure.Fallback = v.typ, channels, said.Fallback
	failure.About = route.About{Type: p.Event.Type, Category: v.typ.Category, Ancestors: v.ancestors, Now: f.Now().Truncate(time.Microsecond), Zone: person.User.Zone()}
	ways := route.Instead(failure)
	ids := make([]string, len(ways))
	for i := range ways {
		ids[i] = ways[i].ID
	}
	known, err := f.Store.DeliveryStates(ctx, d.Tenant, ids)
	if err != nil {
		return nil, err
	}
	for i := range ways {
		if _, planned := known[ways[i].ID]; planned {
			continue
		}
		if ways[i].Channel == belfry.ChannelInbox {
			_, there, err := f.Store.Message(ctx, d.Tenant, ways[i].ID)
			if err != nil {
				return nil, err
			}
			if there {
				continue
			}
		}
		return &ways[i], nil
	}
	return nil, nil
}

// whyOf says in words why a way failed.
func whyOf(last *belfry.Attempt) string {
	if last.Because != nil {
		return last.Because.Text()
	}
	return cut(cmp.Or(last.Outcome.Detail, last.Outcome.Kind.String()), 200)
}

// Told wakes whoever looks at an inbox.
func (f *Fallbacks) Told(d *belfry.Delivery) {
	if d.Channel != belfry.ChannelInbox {
		return
	}
	ds := []belfry.Delivery{*d}
	f.Watch.notify(d.Tenant, ds)
	if marks, any := marksOf(d.Tenant, ds); any {
		f.Peers.Tell(belfry.Wake{Tenant: d.Tenant, Inboxes: marks})
	}
}

// cut is the beginning of a text, n bytes at most.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// planned sees to deliveries that door 3 planned. d.mu is held.
func (d *Dispatcher) planned(rs []record, applied []bool) {
	for i := range rs {
		then := rs[i].attempt.Then
		if then == nil || !applied[i] || !then.State.Open() {
			continue
		}
		d.backlogOf(then.Tenant).rewind(keyBefore(then))
		d.poke()
	}
}

// told is planned for those who look at inboxes.
func (d *Dispatcher) told(rs []record, applied []bool) {
	for i := range rs {
		if then := rs[i].attempt.Then; then != nil && applied[i] {
			d.o.Fallback.Told(then)
		}
	}
}

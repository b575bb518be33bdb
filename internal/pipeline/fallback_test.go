package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/store"
)

// fallible is a house whose mail server knows nobody of some addresses.
func fallible(t *testing.T, unknown map[string]belfry.OutcomeKind) *house {
	h := newHouse(t, sqlite(t), func(po *PlannerOptions, do *DispatcherOptions) {
		do.Fallback = &Fallbacks{Store: po.Store.(interface {
			PlanStore
			FallbackStore
		}), Stages: po.Stages, Now: clock, Peers: Alone{}}
	})
	f := h.send.o.Fallback.(*Fallbacks)
	f.Facts, f.Subscriptions, f.Watch = &Facts{Directory: h.dir, Acks: h.db}, h.subs, h.watch
	h.r.respond = func(_ context.Context, to channel.Target, _ *belfry.Message) belfry.Outcome {
		if kind, bad := unknown[to.Address]; bad {
			return belfry.Outcome{Kind: kind, Status: 550, Detail: "550 no such user"}
		}
		return belfry.Outcome{Kind: belfry.OutcomeDelivered}
	}
	mail := func(address string, priority int) belfry.Contact {
		return belfry.Contact{Kind: "email", Address: address, Verified: true, Priority: priority}
	}
	h.apply(belfry.Changes{
		Users: []belfry.User{{ID: "ada", State: belfry.UserActive, Contacts: []belfry.Contact{mail("a@x.org", 1), mail("b@x.org", 2), mail("c@x.org", 3)}}},
		Subscriptions: []belfry.Subscription{{
			ID: "sub_1", Types: []string{"course.*"}, State: belfry.SubscriptionActive, Created: clock(), Fallback: []string{"inbox"},
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada"}}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}},
		}},
	})
	h.run()
	return h
}

// went is what became of an event's deliveries: "channel address state code".
func (h *house) went(event string) (out []string) {
	h.t.Helper()
	rows, err := traceRows{h.db}.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: event, Limit: 100})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, d := range rows.Deliveries {
		out = append(out, fmt.Sprint(d.Channel, " ", d.Address, " ", d.State, " ", d.Because[len(d.Because)-1].Code))
	}
	slices.Sort(out)
	return out
}

// feature: PEER-12, S3-19
func TestFallBackAfterFailure(t *testing.T) {
	h := fallible(t, map[string]belfry.OutcomeKind{"a@x.org": belfry.OutcomeRefused, "b@x.org": belfry.OutcomeGone})
	event := h.accept(1, "course.updated")[0]
	h.r.wait(t, 1)
	h.drained()
	want := []string{"email a@x.org failed by_subscription", "email b@x.org failed fell_back", "email c@x.org delivered fell_back"}
	if got := h.went(event); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	h.r.once(t)
}

// feature: PEER-12 the last contact's failure leads to the next channel, and its
// success is none of the mail's
func TestFallBackToChannel(t *testing.T) {
	h := fallible(t, map[string]belfry.OutcomeKind{"a@x.org": belfry.OutcomeRefused, "b@x.org": belfry.OutcomeRefused, "c@x.org": belfry.OutcomeRefused})
	woken, cancel := h.watch.Watch(belfry.DefaultTenant, "ada")
	defer cancel()
	event := h.accept(1, "course.updated")[0]
	<-woken // the inbox has it
	h.drained()
	want := []string{"email a@x.org failed by_subscription", "email b@x.org failed fell_back", "email c@x.org failed fell_back", "inbox ada delivered fell_back"}
	if got := h.went(event); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// feature: S3-19 an address that is switched off before the send is no way, and
// nothing is told that has another way already
func TestFallBackFromWhatIsOfNoUse(t *testing.T) {
	h := fallible(t, nil)
	h.stop() // nothing is sent meanwhile
	event := h.accept(1, "course.updated")[0]
	h2 := newHouse(t, h.db, func(po *PlannerOptions, do *DispatcherOptions) {
		do.Fallback = &Fallbacks{Store: h.db, Stages: po.Stages, Facts: &Facts{Directory: po.Stages.Directory, Acks: h.db}, Subscriptions: po.Stages.Subscriptions, Watch: NewWatch(), Peers: Alone{}, Now: clock}
	})
	if err := h2.subs.Load(context.Background(), belfry.DefaultTenant); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h2.plan.Run(ctx) }()
	h2.everythingPlanned()
	stop()
	<-done
	h2.apply(belfry.Changes{Users: []belfry.User{{ID: "ada", State: belfry.UserActive, Contacts: []belfry.Contact{
		{Kind: "email", Address: "a@x.org", Verified: true, Disabled: true}, {Kind: "email", Address: "d@x.org", Verified: true}}}}})
	h2.run()
	h2.r.wait(t, 1)
	h2.drained()
	want := []string{"email a@x.org suppressed contact_disabled", "email d@x.org delivered fell_back"}
	if got := h2.went(event); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// A digest that will never arrive goes another way with the same items, once:
// to the next contact, then to the next channel, less what that one tells anyhow.
//
// feature: S3-19, PEER-12, NEW-11
func TestDigestFallsBack(t *testing.T) {
	refused, gone := belfry.OutcomeRefused, belfry.OutcomeGone
	for name, c := range map[string]struct {
		unknown map[string]belfry.OutcomeKind
		off     bool // all her addresses, since it was planned
		inbox   bool // she is told there anyhow
		sent    string
		want    []string // of each event
	}{
		"first":             {sent: "a@x.org", want: []string{"email a@x.org delivered in_digest"}},
		"next contact":      {unknown: map[string]belfry.OutcomeKind{"a@x.org": refused}, sent: "b@x.org", want: []string{"email b@x.org delivered fell_back"}},
		"the last contact":  {unknown: map[string]belfry.OutcomeKind{"a@x.org": gone, "b@x.org": refused}, sent: "c@x.org", want: []string{"email c@x.org delivered fell_back"}},
		"next channel":      {unknown: map[string]belfry.OutcomeKind{"a@x.org": refused, "b@x.org": refused, "c@x.org": refused}, want: []string{"email c@x.org failed fell_back", "inbox ada delivered fell_back"}},
		"told there anyhow": {unknown: map[string]belfry.OutcomeKind{"a@x.org": refused, "b@x.org": refused, "c@x.org": refused}, inbox: true, want: []string{"email c@x.org failed fell_back", "inbox ada delivered by_subscription"}},
		"no address left":   {off: true, want: []string{"email a@x.org suppressed fell_back", "inbox ada delivered fell_back"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := fallible(t, c.unknown)
			channels := []string{"email"}
			if c.inbox {
				channels = append(channels, "inbox")
			}
			h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{{
				ID: "sub_1", Types: []string{"course.*"}, State: belfry.SubscriptionActive, Created: clock(), Fallback: []string{"inbox"}, Frequency: &belfry.Frequency{Every: belfry.Weekly},
				Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada"}}}}, Notify: []belfry.Notify{{Channels: channels}},
			}}})
			events := h.accept(2, "course.updated")
			h.everythingPlanned()
			if c.off {
				var off []belfry.Contact
				for _, a := range []string{"a@x.org", "b@x.org", "c@x.org"} {
					off = append(off, belfry.Contact{Kind: "email", Address: a, Verified: true, Disabled: true})
				}
				h.apply(belfry.Changes{Users: []belfry.User{{ID: "ada", State: belfry.UserActive, Contacts: off}}})
			}
			list := h.digest(func(b *belfry.Bundle) bool { return b.State == belfry.BundleOpen })
			if err := h.sealNow(&list); err != nil {
				t.Fatal(err)
			}
			h.digest(func(b *belfry.Bundle) bool { return b.State == belfry.BundleSent || b.State == belfry.BundleOver })
			h.drained()
			for _, e := range events {
				if got := h.went(e); !slices.Equal(got, c.want) {
					t.Errorf("%q\nwant %q", got, c.want)
				}
			}
			h.r.mu.Lock()
			defer h.r.mu.Unlock()
			if len(h.r.got) > 1 || c.sent != "" && len(h.r.order[c.sent]) != 1 {
				t.Errorf("sent %v", h.r.order)
			}
		})
	}
}

// digest waits until the one digest there is holds something, and gives it.
func (h *house) digest(holds func(*belfry.Bundle) bool) (out belfry.Bundle) {
	h.t.Helper()
	h.until("the digest is as it is to be", func() bool {
		list, _, err := h.db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{})
		if err != nil || len(list) != 1 || !holds(&list[0]) {
			return false
		}
		out = list[0]
		return true
	})
	return out
}

// sealNow seals a digest that is not due yet.
func (h *house) sealNow(b *belfry.Bundle) error {
	due := *b
	due.Due = clock()
	return h.seal.seal(context.Background(), belfry.DefaultTenant, []belfry.Bundle{due}, clock())
}

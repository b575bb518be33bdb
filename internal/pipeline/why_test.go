package pipeline

import (
	"slices"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: NEW-1 of a mail and of an inbox entry: subscription, rule, what
// decided, where it went, how it ended, and what to do about it
func TestWhy(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.ex.Links = noLinks{}
	h.school()
	sub := teachers("sub_t")
	sub.Filter = ""
	sub.Recipients = append([]belfry.Rule{{Explicit: &belfry.ExplicitRule{Emails: []string{"x@example.org"}}}}, sub.Recipients...)
	h.apply(belfry.Changes{
		Subscriptions: []belfry.Subscription{sub},
		Preferences:   []belfry.UserPreferences{{User: "user/2", Preferences: []belfry.Preference{{Type: "course.*", Object: "course/1", Channels: []string{"inbox"}}}}},
	})
	h.run()
	event := h.accept(1, "course.updated")[0]
	h.r.wait(t, 2)
	h.drained()
	why := func(channel, address string) belfry.Why {
		t.Helper()
		w, err := h.ex.Why(t.Context(), belfry.DefaultTenant, belfry.DeliveryID(event, 0, channel, address))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	codes := func(w belfry.Why) (out []string) {
		for _, c := range w.Change {
			out = append(out, c.Code)
		}
		return out
	}
	mail := why("email", "ada@example.org")
	if mail.Outcome != belfry.Told || mail.State != "delivered" || mail.Subscription.Title != "Teachers" || mail.Rule != 2 || mail.Principal != "user/1" || mail.Contact.Address != "ada@example.org" ||
		len(mail.Named) != 1 || mail.Named[0].Code != belfry.NamedRole || len(mail.Decided) != 1 || mail.Decided[0].Code != belfry.ByTenant || len(mail.Attempts) != 1 || mail.Attempts[0].Outcome != "delivered" ||
		mail.Event.ObjectTitle != "Physics" || mail.Planned.IsZero() || mail.Due != nil {
		t.Errorf("%+v", mail)
	}
	if got := codes(mail); !slices.Equal(got, []string{belfry.ChangeUnsubscribe, belfry.ChangePrefer}) || mail.Change[0].URL == "" {
		t.Errorf("%+v", mail.Change)
	}
	inbox := why(belfry.ChannelInbox, "user/2")
	if inbox.Contact != (belfry.WhyContact{Channel: "inbox"}) || inbox.Decided[0].Code != belfry.ByPreference || !slices.Equal(codes(inbox), []string{belfry.ChangeUnsubscribe, belfry.ChangePreference}) ||
		inbox.Change[1].Type != "course.*" || inbox.Change[1].Object != "course/1" {
		t.Errorf("%+v", inbox)
	}
	if bare := why("email", "x@example.org"); bare.Principal != "" || bare.Rule != 1 || !slices.Equal(codes(bare), []string{belfry.ChangeUnsubscribe}) {
		t.Errorf("%+v", bare)
	}
	// What has ended since says so and offers nothing to end.
	sub.State, sub.Because = belfry.SubscriptionEnded, "ended by ops"
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{sub}})
	if w := why("email", "ada@example.org"); w.Subscription.Gone == nil || w.Subscription.Gone.Detail != "ended by ops" || slices.Contains(codes(w), belfry.ChangeUnsubscribe) {
		t.Errorf("%+v", w)
	}
	if _, err := h.ex.Why(t.Context(), belfry.DefaultTenant, "dlv_none"); belfry.KindOf(err) != belfry.NotFound {
		t.Errorf("%v", err)
	}
	// Another tenant's is not there.
	if _, err := h.ex.Why(t.Context(), "other", mail.Delivery); belfry.KindOf(err) != belfry.NotFound {
		t.Errorf("%v", err)
	}
	if _, ok, err := h.db.Message(t.Context(), belfry.DefaultTenant, "a\x00b"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

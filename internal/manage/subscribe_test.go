package manage

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Whoever wishes for the same shares one subscription, however it is written;
// what is not offered is refused; what was joined is listed.
// feature: S3-24, CPS-4
func TestWishesAreShared(t *testing.T) {
	h := open(t).school()
	h.roles = rolesHeld{"user/8 at forum/3": "", "user/9 at forum/3": "", "user/8 at root": ""}
	for _, typ := range []belfry.EventType{{Name: "forum.post", Title: "New post"}, {Name: "forum.edit"}, {Name: "forum.old", Deprecated: true}} {
		_, _, _, err := h.PutEventType(h.ctx(), by, typ, nil)
		h.ok(err)
	}
	wish := func(user string, w Wish) Subscribed {
		t.Helper()
		s, err := h.Subscribe(h.ctx(), by, user, w)
		h.ok(err)
		return s
	}
	daily := &belfry.Frequency{Every: "daily"}
	first := wish("user/8", Wish{Types: []string{"forum.post", "forum.edit"}, Object: "forum/3", Channels: []string{"email"}, Frequency: daily})
	second := wish("user/9", Wish{Types: []string{"forum.edit", "forum.post", "forum.edit"}, Object: "forum/3", Applies: "subtree"})
	if !first.Created || second.Created || first.Subscription.ID != second.Subscription.ID || first.Subscription.Origin != belfry.FromPerson || first.Subscription.Title != "forum.edit, New post: forum/3" {
		t.Errorf("%+v\n%+v", first, second)
	}
	h.same("members", h.members(first.Subscription.ID), []string{"user/8", "user/9"})
	other := wish("user/8", Wish{Types: []string{"forum.post"}, Filter: "event.actor != 'user/8'"})
	if other.Subscription.ID == first.Subscription.ID {
		t.Error("other criteria share a subscription")
	}
	wish("user/8", Wish{Types: []string{"forum.post"}, Filter: "event.actor != 'user/8'", Channels: []string{"inbox"}}) // again: other channels
	ms, next, err := h.Memberships(h.ctx(), by.Tenant, "user/8", "", 10)
	h.ok(err)
	if len(ms) != 2 || next != "" || ms[0].State != belfry.SubscriptionActive || ms[0].Title == "" {
		t.Errorf("%+v", ms)
	}
	for _, c := range []struct {
		w      Wish
		places string
	}{
		{Wish{}, "/types: generators"},
		{Wish{Types: []string{"forum.*"}}, "/types/0: prefix"},
		{Wish{Types: []string{"forum.none"}}, "/types/0: no event type"},
		{Wish{Types: []string{"forum.old"}}, "/types/0: deprecated"},
		{Wish{Types: []string{"forum.post"}, Object: "forum/9"}, "/scope/object: no object"},
		{Wish{Types: []string{"forum.post"}, Filter: "event."}, "/filter: "},
	} {
		_, err := h.Subscribe(h.ctx(), by, "user/8", c.w)
		h.refused(err, belfry.Invalid, c.places)
	}
	if _, err := h.Subscribe(h.ctx(), by, "user/77", Wish{Types: []string{"forum.post"}}); err == nil {
		t.Error("a user who is not there subscribes")
	}
	h.ok(h.DeleteSubscription(h.ctx(), by, other.Subscription.ID, nil))
	if _, err := h.Subscribe(h.ctx(), by, "user/8", Wish{Types: []string{"forum.post"}, Filter: "event.actor != 'user/8'"}); belfry.KindOf(err) != belfry.Conflict {
		t.Error(err)
	}
}

package manage

import (
	"errors"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What is for an object that is deleted ends a while later, below it too, with
// the reason, and its owner is told before that; what is for another place, or
// for one that was put back, goes on.
//
// feature: CPS-5
func TestSubscriptionsOfWhatIsGoneEnd(t *testing.T) {
	h := open(t).school()
	sub := func(object, owner string) string {
		s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Scope: belfry.Scope{Object: object}, Owner: owner, Recipients: related()})
		h.ok(err)
		return s.ID
	}
	below, paused, other, everywhere := sub("forum/3", "user/8"), sub("course/41", ""), sub("course/42", "user/9"), sub("", "user/9")
	_, err := h.PauseSubscription(h.ctx(), by, paused, "")
	h.ok(err)
	h.ok(h.DeleteObject(h.ctx(), by, "course/41", nil))
	gone := h.now
	told := map[string]string{}
	var broken error
	end := func(before time.Time) int {
		n, err := h.EndGone(h.ctx(), by, before, func(s *belfry.Subscription, o *belfry.Object) error {
			told[s.ID] += o.ID + " to " + s.Owner + ";"
			return broken
		})
		if !errors.Is(err, broken) {
			t.Error(err)
		}
		return n
	}
	state := func(id string) string {
		s, ok, err := h.db.Subscription(h.ctx(), by.Tenant, id)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return s.State + " " + s.Because
	}
	if n := end(gone); n != 0 || len(told) != 0 || state(below) != "active " {
		t.Errorf("at once: %d, told %v, %s", n, told, state(below))
	}
	broken = errors.New("nobody can be told")
	if n := end(gone.Add(time.Second)); n != 0 || state(below) != "active " {
		t.Errorf("when nobody can be told: %d, %s", n, state(below))
	}
	broken = nil
	clear(told)
	if n := end(gone.Add(time.Second)); n != 2 {
		t.Errorf("%d are ended, want 2", n)
	}
	for id, want := range map[string]string{below: "ended forum/3 was deleted", paused: "ended course/41 was deleted", other: "active ", everywhere: "active "} {
		if got := state(id); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if told[below] != "forum/3 to user/8;" || len(told) != 2 {
		t.Errorf("told %v", told)
	}
	if n := end(gone.Add(time.Hour)); n != 0 || len(told) != 2 {
		t.Errorf("again: %d, %v", n, told)
	}
	h.ok(h.DeleteObject(h.ctx(), by, "course/42", nil))
	_, _, _, err = h.PutObject(h.ctx(), by, belfry.Object{ID: "course/42", Type: "course", Parent: "category/2"}, nil)
	h.ok(err)
	if n := end(gone.Add(time.Hour)); n != 0 || state(other) != "active " {
		t.Errorf("put back: %d, %s", n, state(other))
	}
}

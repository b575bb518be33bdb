package manage

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
		n, err := h.EndGone(h.ctx(), by, before, func(list []GoneNotice) error {
			for _, g := range list {
				told[g.Subscription.ID] += g.Object.ID + " to " + strings.Join(g.Who, ",") + ";"
			}
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

// Everybody who subscribed by themselves to something that is deleted hears of
// it, once for all that is deleted together; who was put there hears nothing.
//
// feature: CPS-5
func TestWhoSubscribedHearsThatItIsGone(t *testing.T) {
	h := open(t).school()
	sub := func(object, owner string) belfry.Subscription {
		s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Scope: belfry.Scope{Object: object}, Owner: owner, Recipients: related(), Joining: belfry.Joining{Who: "anyone"}})
		h.ok(err)
		return s.Subscription
	}
	course, forum := sub("course/41", "user/2"), sub("forum/3", "user/2")
	const crowd = 3*goneWho + 5
	ch := belfry.Changes{Tenant: by.Tenant}
	for i := range crowd {
		ch.Members = append(ch.Members, belfry.Member{Subscription: course.ID, Principal: fmt.Sprintf("user/c%04d", i), Since: h.now})
	}
	ch.Members = append(ch.Members,
		belfry.Member{Subscription: course.ID, Principal: "user/9", Since: h.now, By: "admin"},
		belfry.Member{Subscription: forum.ID, Principal: "user/c0007", Since: h.now},
		belfry.Member{Subscription: forum.ID, Principal: "guest@example.org", Since: h.now})
	_, err := h.db.Apply(h.ctx(), ch)
	h.ok(err)
	h.ok(h.DeleteObject(h.ctx(), by, "course/41", nil))
	heard, ids := map[string]int{}, map[string]bool{}
	tell := func(list []GoneNotice) error {
		for _, g := range list {
			if len(g.Who) > goneWho || !g.Others {
				t.Errorf("%d people in one notice, others %v", len(g.Who), g.Others)
			}
			id := fmt.Sprint(g.Subscription.ID, g.Part)
			if ids[id] {
				t.Errorf("two notices are part %d of %s", g.Part, g.Subscription.ID)
			}
			ids[id] = true
			for _, who := range g.Who {
				heard[who]++
			}
		}
		return nil
	}
	if n, err := h.EndGone(h.ctx(), by, h.now.Add(time.Second), tell); n != 2 || err != nil {
		t.Error(n, err)
	}
	for who, n := range heard {
		if n != 1 {
			t.Errorf("%s hears %d times", who, n)
		}
	}
	for _, who := range []string{"user/2", "user/c0000", "user/c0007", "guest@example.org", fmt.Sprintf("user/c%04d", crowd-1)} {
		if heard[who] != 1 {
			t.Errorf("%s hears nothing", who)
		}
	}
	if len(heard) != crowd+2 || heard["user/9"] != 0 {
		t.Errorf("%d hear of it, want %d; user/9, who was put there, %d times", len(heard), crowd+2, heard["user/9"])
	}
}

// A crash at any moment of a deletion tells nobody twice and forgets nobody: what
// was told before is told again under the same keys, and its subscriptions end
// together. An edit that comes in between keeps one subscription for the next time.
//
// feature: CPS-5
func TestGoneIsToldOnceOverCrashes(t *testing.T) {
	const subs, crashes = 4, 9
	for crash := range crashes {
		h := open(t).school()
		ch := belfry.Changes{Tenant: by.Tenant}
		var ids []string
		for i := range subs {
			s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Scope: belfry.Scope{Object: "forum/3"}, Owner: fmt.Sprintf("user/o%d", i), Recipients: related(), Joining: belfry.Joining{Who: "anyone"},
				Types: []string{fmt.Sprintf("t%d.x", i)}})
			h.ok(err)
			ids = append(ids, s.ID)
			for k := range 2*goneWho + 5 { // everybody is in all of them
				ch.Members = append(ch.Members, belfry.Member{Subscription: s.ID, Principal: fmt.Sprintf("user/c%04d", k), Since: h.now})
			}
			ch.Members = append(ch.Members, belfry.Member{Subscription: s.ID, Principal: fmt.Sprintf("user/own%d", i), Since: h.now})
		}
		_, err := h.db.Apply(h.ctx(), ch)
		h.ok(err)
		h.ok(h.DeleteObject(h.ctx(), by, "course/41", nil))
		dead := errors.New("the process is dead")
		seen, heard, calls := map[string]bool{}, map[string]int{}, 0
		tell := func(list []GoneNotice) error {
			for _, g := range list {
				if seen[g.Key()] {
					continue // as the door of events does
				}
				seen[g.Key()] = true
				for _, who := range g.Who {
					heard[who]++
				}
			}
			if calls++; calls == crash+1 {
				return dead
			}
			return nil
		}
		before := h.now.Add(time.Second)
		n, err := h.EndGone(h.ctx(), by, before, tell)
		if err != nil && !errors.Is(err, dead) {
			t.Fatal(err)
		}
		if errors.Is(err, dead) {
			if n != 0 {
				t.Errorf("crash %d: %d of a deletion ended before all were told", crash, n)
			}
			n, err = h.EndGone(h.ctx(), by, before, tell)
			h.ok(err)
		}
		if n != subs {
			t.Errorf("crash %d: %d ended, want %d", crash, n, subs)
		}
		for who, times := range heard {
			if times != 1 {
				t.Errorf("crash %d: %s hears %d times", crash, who, times)
			}
		}
		if want := 2*goneWho + 5 + 2*subs; len(heard) != want {
			t.Errorf("crash %d: %d hear, want %d", crash, len(heard), want)
		}
		for _, id := range ids {
			if s, _, err := h.db.Subscription(h.ctx(), by.Tenant, id); err != nil || s.State != belfry.SubscriptionEnded || s.Because != "forum/3 was deleted" {
				t.Errorf("%+v, %v", s, err)
			}
		}
	}

	h := open(t).school()
	a, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Scope: belfry.Scope{Object: "forum/3"}, Recipients: related(), Types: []string{"a.x"}})
	h.ok(err)
	b, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Scope: belfry.Scope{Object: "forum/3"}, Recipients: related(), Types: []string{"b.x"}})
	h.ok(err)
	h.ok(h.DeleteObject(h.ctx(), by, "forum/3", nil))
	edited := false
	n, err := h.EndGone(h.ctx(), by, h.now.Add(time.Second), func([]GoneNotice) error {
		if edited {
			return nil
		}
		edited = true
		next := a.Subscription
		next.Title, next.Scope.Object = "Moved", "course/42"
		_, err := h.PutSubscription(h.ctx(), by, next, nil)
		return err
	})
	h.ok(err)
	for id, want := range map[string]string{a.ID: belfry.SubscriptionActive, b.ID: belfry.SubscriptionEnded} {
		if s, _, err := h.db.Subscription(h.ctx(), by.Tenant, id); err != nil || s.State != want {
			t.Errorf("%s is %s (%v), want %s", s.Title, s.State, err, want)
		}
	}
	if n != 1 {
		t.Errorf("%d ended beside one that was moved, want 1", n)
	}
}

// dyingAfter is a store of a process that dies as soon as so many edits are done.
type dyingAfter struct {
	Store
	edits int
	err   error
}

func (d *dyingAfter) Apply(ctx context.Context, ch belfry.Changes) (int64, error) {
	if d.edits == 0 {
		return 0, d.err
	}
	v, err := d.Store.Apply(ctx, ch)
	if d.edits--; d.edits == 0 {
		return 0, d.err
	}
	return v, err
}

// A deletion that ends very many subscriptions ends them in parts: a crash between
// two of them tells nobody twice either, and an edit in between neither.
//
// feature: CPS-5
func TestGoneInPartsIsToldOnce(t *testing.T) {
	const subs = 2*goneTogether + 300
	for _, crash := range []int{1, 2, 3} {
		h := open(t).school()
		ch := belfry.Changes{Tenant: by.Tenant}
		for i := range subs { // everybody owns several of them, near and far
			id := fmt.Sprintf("sub_%05d", i)
			ch.Subscriptions = append(ch.Subscriptions, belfry.Subscription{ID: id, State: belfry.SubscriptionActive, Scope: belfry.Scope{Object: "forum/3"}, Owner: fmt.Sprintf("user/o%d", i%701), Recipients: related()})
			ch.Members = append(ch.Members, belfry.Member{Subscription: id, Principal: fmt.Sprintf("user/m%d", i%401), Since: h.now})
		}
		_, err := h.db.Apply(h.ctx(), ch)
		h.ok(err)
		h.ok(h.DeleteObject(h.ctx(), by, "course/41", nil))
		seen, heard := map[string]bool{}, map[string]int{}
		edited := false
		tell := func(list []GoneNotice) error {
			for _, g := range list {
				if seen[g.Key()] {
					continue // as the door of events does
				}
				seen[g.Key()] = true
				for _, who := range g.Who {
					heard[who]++
				}
				if g.Subscription.ID == "sub_01500" && !edited {
					edited = true
					next := g.Subscription
					next.Title = "Edited meanwhile"
					_, err := h.db.Apply(h.ctx(), belfry.Changes{Tenant: by.Tenant, Subscriptions: []belfry.Subscription{next}})
					h.ok(err)
				}
			}
			return nil
		}
		before, dead := h.now.Add(time.Second), errors.New("the process is dead")
		whole := h.store
		h.store = &dyingAfter{whole, crash, dead}
		n, err := h.EndGone(h.ctx(), by, before, tell)
		if err != nil && !errors.Is(err, dead) {
			t.Fatal(err)
		}
		h.store = whole
		for range 2 { // the edited one had to wait
			_, err = h.EndGone(h.ctx(), by, before, tell)
			h.ok(err)
		}
		left, err := h.db.Gone(h.ctx(), by.Tenant, before, belfry.GonePlace{}, 10)
		if err != nil || len(left) > 0 || n >= subs {
			t.Errorf("crash %d: %d are left, %v; %d ended before it", crash, len(left), err, n)
		}
		for who, times := range heard {
			if times != 1 {
				t.Errorf("crash %d: %s hears %d times", crash, who, times)
			}
		}
		if len(heard) != 701+401 {
			t.Errorf("crash %d: %d hear, want %d", crash, len(heard), 701+401)
		}
	}
}

package manage

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Who may subscribe to a type by themselves: asked when somebody subscribes, and
// when she joins a subscription that names the type, whoever made it.
// Administrators add whom they like.
// feature: CPS-25
func TestWhoMaySubscribe(t *testing.T) {
	for _, c := range []struct {
		name    string
		rule    belfry.Subscribers
		user    string // empty = may
		address string
	}{
		{"as the subscription says", belfry.Subscribers{}, "", ""},
		{"nobody", belfry.Subscribers{Who: belfry.JoinNone}, "nobody joins event type", "not open to addresses"},
		{"members", belfry.Subscribers{Who: belfry.JoinMembers}, "", "not open to addresses"},
		{"a role she has", belfry.Subscribers{Who: belfry.JoinRoles, Roles: []string{"student"}}, "", "not open to addresses"},
		{"a role she has not", belfry.Subscribers{Who: belfry.JoinRoles, Roles: []string{"teacher"}}, "holders of teacher", "not open to addresses"},
		{"anyone", belfry.Subscribers{Who: belfry.JoinAnyone}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := joining(t, belfry.Joining{})
			_, _, _, err := h.PutEventType(h.ctx(), by, belfry.EventType{Name: "core.course_updated", Subscribe: c.rule}, nil)
			h.ok(err)
			says := func(err error, words string) {
				t.Helper()
				switch {
				case words == "":
					h.ok(err)
				case belfry.KindOf(err) != belfry.Forbidden || !strings.Contains(err.Error(), words):
					t.Errorf("%v, want a word of %q", err, words)
				}
			}
			_, err = h.Subscribe(h.ctx(), by, "user/8", Wish{Types: []string{"core.course_updated"}, Object: "course/41"})
			says(err, c.user)
			s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "News", Scope: belfry.Scope{Object: "course/41"}, Types: []string{"core.other", "core.course_updated"}, Joining: belfry.Joining{Who: belfry.JoinAnyone}})
			h.ok(err)
			_, err = h.Join(h.ctx(), by, s.ID, Joiner{User: "user/8"})
			says(err, c.user)
			_, err = h.Join(h.ctx(), by, s.ID, Joiner{Email: "x@example.org"})
			says(err, c.address)
			all, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "All", Scope: belfry.Scope{Object: "course/41"}, Types: []string{"core.*"}, Joining: belfry.Joining{Who: belfry.JoinMembers}})
			h.ok(err)
			_, err = h.Join(h.ctx(), by, all.ID, Joiner{User: "user/8"})
			h.ok(err) // a prefix is an administrator's word
			_, err = h.PutMembers(h.ctx(), by, s.ID, []belfry.Member{{Principal: "user/8"}})
			h.ok(err)
			_, total := h.imports("user,types,object\nuser/8,core.course_updated,course/41\n", ImportOptions{})
			if total.Refused != 0 {
				t.Errorf("%+v", total)
			}
		})
	}
}

// Narrowing who may subscribe takes nobody out: what she joined stays, and says
// that she could not join it today. An address that has not confirmed yet cannot
// while it is so.
// feature: CPS-25
func TestSubscribersNarrowed(t *testing.T) {
	h, _ := joining(t, belfry.Joining{})
	put := func(s belfry.Subscribers) {
		t.Helper()
		_, _, _, err := h.PutEventType(h.ctx(), by, belfry.EventType{Name: "core.course_updated", Subscribe: s}, nil)
		h.ok(err)
	}
	put(belfry.Subscribers{})
	wished, err := h.Subscribe(h.ctx(), by, "user/8", Wish{Types: []string{"core.course_updated"}, Object: "course/41"})
	h.ok(err)
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "News", Types: []string{"core.course_updated"}, Joining: belfry.Joining{Who: belfry.JoinAnyone}})
	h.ok(err)
	h.joins(s.ID, Joiner{Email: "x@example.org"})
	h.joins(s.ID, Joiner{Email: "y@example.org"})
	events := h.post()
	put(belfry.Subscribers{Who: belfry.JoinRoles, Roles: []string{"teacher"}})
	h.same("members", h.members(wished.Subscription.ID), []string{"user/8"})
	ms, _, err := h.Memberships(h.ctx(), by.Tenant, "user/8", "", 10)
	h.ok(err)
	if len(ms) != 1 || !strings.Contains(ms[0].Closed, "event type core.course_updated is joined by holders of teacher") {
		t.Errorf("%+v", ms)
	}
	var ref AskRef
	for _, e := range events {
		if r, asks := AskOf(e); asks && r.Who == "x@example.org" {
			ref = r
		}
	}
	if o, err := h.Answer(h.ctx(), by.Tenant, ref); err != nil || o.State != OfferClosed {
		t.Errorf("%+v %v", o, err)
	}
	put(belfry.Subscribers{Who: belfry.JoinAnyone})
	if o, err := h.Answer(h.ctx(), by.Tenant, ref); err != nil || o.State != OfferDone {
		t.Errorf("%+v %v", o, err)
	}
	if ms, _, err := h.Memberships(h.ctx(), by.Tenant, "user/8", "", 10); err != nil || ms[0].Closed != "" {
		t.Errorf("%+v %v", ms, err)
	}
}

// feature: CPS-25
func TestSubscribersRefused(t *testing.T) {
	h := open(t)
	for _, c := range []struct {
		rule  belfry.Subscribers
		fault string
	}{
		{belfry.Subscribers{Who: "member"}, "/subscribe/who: did you mean"},
		{belfry.Subscribers{Who: belfry.JoinRoles}, "/subscribe/roles: name the roles"},
		{belfry.Subscribers{Roles: []string{"teacher"}}, "/subscribe/roles: leave it out"},
		{belfry.Subscribers{Who: belfry.JoinRoles, Roles: []string{""}}, "/subscribe/roles/0: is required"},
	} {
		_, _, _, err := h.PutEventType(h.ctx(), by, belfry.EventType{Name: "a.b", Subscribe: c.rule}, nil)
		h.refused(err, belfry.Invalid, c.fault)
	}
}

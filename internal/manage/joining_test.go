package manage

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

// rolesHeld are the roles of users; the root stands for everywhere.
type rolesHeld map[string]string

func (h rolesHeld) Lacks(_ context.Context, _, object, user string, roles []string) (*belfry.Reason, error) {
	role, known := h[user+" at "+object]
	switch {
	case !known:
		return &belfry.Reason{Code: belfry.UserUnknown}, nil
	case len(roles) == 0 || slices.Contains(roles, role):
		return nil, nil
	}
	return &belfry.Reason{Code: belfry.MayNotSee}, nil
}

// joining opens a house whose people may join, with a subscription at course 41.
func joining(t *testing.T, j belfry.Joining) (*house, belfry.Subscription) {
	t.Helper()
	h := open(t).school()
	h.roles = rolesHeld{"user/8 at course/41": "student", "user/8 at forum/3": "teacher", "user/9 at course/41": "teacher"}
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "News of CPR", Scope: belfry.Scope{Object: "course/41"}, Joining: j})
	h.ok(err)
	return h, s.Subscription
}

// members are who joined, with where.
func (h *house) members(id string) (list []string) {
	h.t.Helper()
	ms, _, err := h.Members(h.ctx(), by.Tenant, id, "", 100)
	h.ok(err)
	for _, m := range ms {
		list = append(list, strings.TrimSuffix(m.Principal+" "+m.Object, " "))
	}
	return list
}

// post does what the postman does until nothing is due, and gives the events.
func (h *house) post() (events []*belfry.Event) {
	h.t.Helper()
	for range 100 {
		asks, err := h.db.DueAsks(h.ctx(), h.now, 0, 100)
		h.ok(err)
		if len(asks) == 0 {
			return events
		}
		for _, a := range asks {
			c, err := h.Consider(h.ctx(), a)
			h.ok(err)
			if c.Event != nil {
				again, err := h.Consider(h.ctx(), a) // as after a crash
				h.ok(err)
				if d := cmp.Diff(c.Event, again.Event); d != "" {
					h.t.Errorf("the same ask makes another event: %s", d)
				}
				events = append(events, c.Event)
			}
			h.ok(c.Settle(h.ctx()))
		}
	}
	h.t.Fatal("asks that are due again and again")
	return nil
}

func types(events []*belfry.Event) (list []string) {
	for _, e := range events {
		list = append(list, e.Type+" to "+strings.Join(e.Related, ","))
	}
	slices.Sort(list)
	return list
}

func (h *house) same(what string, got, want []string) {
	h.t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		h.t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func (h *house) joins(id string, j Joiner) JoinAnswer {
	h.t.Helper()
	a, err := h.Join(h.ctx(), by, id, j)
	h.ok(err)
	return a
}

// feature: CPS-9, CPS-25
func TestWhoMayJoin(t *testing.T) {
	for _, c := range []struct {
		name   string
		rule   belfry.Joining
		who    Joiner
		refuse string // empty = may
	}{
		{"nobody by default", belfry.Joining{}, Joiner{User: "user/8"}, "nobody joins"},
		{"nobody", belfry.Joining{Who: belfry.JoinNone}, Joiner{User: "user/8"}, "nobody joins"},
		{"members", belfry.Joining{Who: belfry.JoinMembers}, Joiner{User: "user/8"}, ""},
		{"members, unknown", belfry.Joining{Who: belfry.JoinMembers}, Joiner{User: "user/77"}, "no user"},
		{"members, an address", belfry.Joining{Who: belfry.JoinMembers}, Joiner{Email: "x@example.org"}, "not open to addresses"},
		{"a role held", belfry.Joining{Who: belfry.JoinRoles, Roles: []string{"teacher"}}, Joiner{User: "user/9"}, ""},
		{"a role not held", belfry.Joining{Who: belfry.JoinRoles, Roles: []string{"teacher"}}, Joiner{User: "user/8"}, "joined by holders of teacher"},
		{"a role held below, joining there", belfry.Joining{Who: belfry.JoinRoles, Roles: []string{"teacher"}}, Joiner{User: "user/8", Object: "forum/3"}, ""},
		{"anyone: a user", belfry.Joining{Who: belfry.JoinAnyone}, Joiner{User: "user/8"}, ""},
		{"anyone: an address", belfry.Joining{Who: belfry.JoinAnyone}, Joiner{Email: "x@example.org"}, ""},
		{"outside of the scope", belfry.Joining{Who: belfry.JoinMembers}, Joiner{User: "user/8", Object: "course/42"}, "outside"},
		{"both", belfry.Joining{Who: belfry.JoinAnyone}, Joiner{User: "user/8", Email: "x@example.org"}, "a user, or an email"},
		{"no address", belfry.Joining{Who: belfry.JoinAnyone}, Joiner{Email: "x"}, "e-mail address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, s := joining(t, c.rule)
			_, err := h.Join(h.ctx(), by, s.ID, c.who)
			if c.refuse == "" {
				h.ok(err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.refuse) {
				t.Errorf("%v, want a word of %q", err, c.refuse)
			}
			h.same("members", h.members(s.ID), nil)
		})
	}
}

// Joins are for a part of the scope or the whole of it; leaving one leaves the
// others, leaving all opts out of what rules name; rejoining takes that back.
// Who joins is welcomed once, who leaves is told goodbye.
// feature: CPS-9, CPS-24, CPS-26, S3-23
func TestJoinAndLeave(t *testing.T) {
	h, s := joining(t, belfry.Joining{Who: belfry.JoinMembers})
	if a := h.joins(s.ID, Joiner{User: "user/8", Object: "forum/3", Channels: []string{"email"}}); a.State != Joined || a.Member.Object != "forum/3" || a.Member.By != "" {
		t.Errorf("%+v", a)
	}
	h.joins(s.ID, Joiner{User: "user/8", Object: "forum/3"}) // again: other channels, no other welcome
	h.joins(s.ID, Joiner{User: "user/8", Object: "course/41"})
	_, err := h.PutMembers(h.ctx(), by, s.ID, []belfry.Member{{Principal: "user/9"}})
	h.ok(err)
	h.same("members", h.members(s.ID), []string{"user/8", "user/8 forum/3", "user/9"})
	ms, _, err := h.Members(h.ctx(), by.Tenant, s.ID, "", 100)
	h.ok(err)
	if ms[0].By != "" || ms[2].By != by.Who {
		t.Errorf("who added them: %+v", ms)
	}
	h.same("told", types(h.post()), []string{"belfry.joined to user/8", "belfry.joined to user/8"})

	leave := func(j Joiner) {
		t.Helper()
		a, err := h.Leave(h.ctx(), by, s.ID, j)
		h.ok(err)
		if a.State != Left {
			t.Errorf("%+v", a)
		}
	}
	leave(Joiner{User: "user/8", Object: "forum/3"})
	h.same("members", h.members(s.ID), []string{"user/8", "user/9"})
	leave(Joiner{User: "user/8"})
	leave(Joiner{User: "user/8"}) // again
	h.same("members", h.members(s.ID), []string{"user/9"})
	h.same("told", types(h.post()), []string{"belfry.left to user/8", "belfry.left to user/8"})
	if _, out, err := h.db.JoinsOf(h.ctx(), by.Tenant, s.ID, "user/8"); err != nil || !out {
		t.Errorf("opted out %v, %v", out, err)
	}
	h.joins(s.ID, Joiner{User: "user/8"})
	if joins, out, err := h.db.JoinsOf(h.ctx(), by.Tenant, s.ID, "user/8"); err != nil || out || len(joins) != 1 {
		t.Errorf("opted out %v, %v, %v", out, joins, err)
	}
	no := false
	s.Joining.Greet, s.Mandatory, s.Version = &no, true, 0
	_, err = h.PutSubscription(h.ctx(), by, s, nil)
	h.ok(err)
	h.post()
	h.joins(s.ID, Joiner{User: "user/9", Object: "course/41"})
	h.same("told", types(h.post()), nil)
	_, err = h.Leave(h.ctx(), by, s.ID, Joiner{User: "user/9"})
	if belfry.KindOf(err) != belfry.Conflict || !strings.Contains(err.Error(), "mandatory") {
		t.Error(err)
	}
}

func (h *house) asks(id, email string) {
	h.t.Helper()
	a := h.joins(id, Joiner{Email: email})
	if d := cmp.Diff(JoinAnswer{State: Asked}, a); d != "" {
		h.t.Errorf("the answer depends on the address %s: %s", email, d)
	}
}

func (h *house) leaves(id, email string) {
	h.t.Helper()
	a, err := h.Leave(h.ctx(), by, id, Joiner{Email: email})
	h.ok(err)
	if d := cmp.Diff(JoinAnswer{State: Asked}, a); d != "" {
		h.t.Errorf("the answer depends on the address %s: %s", email, d)
	}
}

// answer follows the link of an event.
func (h *house) answer(e *belfry.Event) (JoinOffer, error) {
	h.t.Helper()
	ref, asks := AskOf(e)
	if !asks {
		h.t.Fatalf("%s asks nothing", e.Type)
	}
	shown, err := h.Offer(h.ctx(), by.Tenant, ref)
	if err != nil {
		return shown, err
	}
	h.ok(err)
	return h.Answer(h.ctx(), by.Tenant, ref)
}

// An address joins and leaves by links that are mailed to it: none > pending >
// joined > pending > none. Looking confirms nothing, answering twice is once,
// and the same answer is given whether the address is known or not.
// feature: CPS-10, CPS-26
func TestAddressesConfirm(t *testing.T) {
	h, s := joining(t, belfry.Joining{Who: belfry.JoinAnyone})
	h.leaves(s.ID, "x@example.org") // never joined
	h.same("mails", types(h.post()), nil)
	h.asks(s.ID, " X@Example.org ")
	mails := h.post()
	h.same("mails", types(mails), []string{"belfry.joining_confirm to x@example.org"})
	h.same("members", h.members(s.ID), nil)
	pending, _, err := h.PendingJoins(h.ctx(), by.Tenant, s.ID, "", 10)
	h.ok(err)
	if len(pending) != 1 || pending[0].Who != "x@example.org" || pending[0].For != "join" || !pending[0].Sent || !pending[0].Until.Equal(h.now.Add(72*time.Hour)) {
		t.Errorf("%+v", pending)
	}
	// Asked again while it is pending: no other mail.
	h.asks(s.ID, "x@example.org")
	h.same("mails", types(h.post()), nil)
	for _, want := range []string{OfferDone, OfferDone} {
		if o, err := h.answer(mails[0]); err != nil || o.State != want || o.Title != "News of CPR" || o.Who != "x@example.org" {
			t.Errorf("%+v, %v", o, err)
		}
	}
	h.same("members", h.members(s.ID), []string{"x@example.org"})
	h.same("mails", types(h.post()), []string{"belfry.joined to x@example.org"})
	// Who joined is not asked again.
	h.asks(s.ID, "x@example.org")
	h.same("mails", types(h.post()), nil)

	h.leaves(s.ID, "x@example.org")
	bye := h.post()
	h.same("mails", types(bye), []string{"belfry.leaving_confirm to x@example.org"})
	h.same("members", h.members(s.ID), []string{"x@example.org"})
	// The old link does not join again, and a link serves its purpose alone.
	if o, err := h.answer(mails[0]); err != nil || o.State != OfferDone {
		t.Errorf("%+v, %v", o, err)
	}
	for range 2 {
		if o, err := h.answer(bye[0]); err != nil || o.State != OfferDone || !o.Leave {
			t.Errorf("%+v, %v", o, err)
		}
	}
	h.same("members", h.members(s.ID), nil)
	h.same("mails", types(h.post()), []string{"belfry.left to x@example.org"})
	if o, err := h.answer(mails[0]); belfry.KindOf(err) != belfry.NotFound {
		t.Errorf("an old link: %+v, %v", o, err)
	}
	// A link that is made up, or of something else, does nothing.
	for _, forge := range []func(*AskRef){func(r *AskRef) { r.ID = "ask_other" }, func(r *AskRef) { r.Kind = belfry.AskWelcome }, func(r *AskRef) { r.Subscription = "sub_none" }} {
		ref, _ := AskOf(mails[0])
		forge(&ref)
		if o, err := h.Answer(h.ctx(), by.Tenant, ref); belfry.KindOf(err) != belfry.NotFound {
			t.Errorf("forged: %+v, %v", o, err)
		}
	}
}

// One message at a time waits for an address's answer; others follow it, or
// come when it is over, and a link that is over does nothing.
// feature: CPS-10
func TestOneMailWaitsForAnAnswer(t *testing.T) {
	h, s := joining(t, belfry.Joining{Who: belfry.JoinAnyone})
	var ids []string
	for range 3 {
		other := s
		other.ID, other.State, other.Version = "", "", 0
		o, err := h.CreateSubscription(h.ctx(), by, other)
		h.ok(err)
		ids = append(ids, o.ID)
		h.now = h.now.Add(time.Second)
		h.asks(o.ID, "x@example.org")
	}
	first := h.post()
	if len(first) != 1 {
		t.Fatalf("%d mails at once", len(first))
	}
	h.same("more", types(h.post()), nil)
	_, err := h.answer(first[0])
	h.ok(err)
	h.now = h.now.Add(time.Second)
	next := h.post()
	h.same("after the answer", types(next), []string{"belfry.joined to x@example.org", "belfry.joining_confirm to x@example.org"})
	// The second is never answered. The third takes its turn, unless its own
	// time is over before.
	h.now = h.now.Add(72*time.Hour + time.Second)
	for _, e := range next {
		if e.Type == belfry.EventConfirm {
			if _, err := h.answer(e); belfry.KindOf(err) != belfry.NotFound {
				t.Errorf("an old link: %v", err)
			}
		}
	}
	h.same("much later", types(h.post()), nil)
	h.asks(ids[2], "x@example.org")
	h.same("asked again", types(h.post()), []string{"belfry.joining_confirm to x@example.org"})
	if len(h.members(ids[1])) != 0 {
		t.Error("joined without an answer")
	}
}

// Asks are bounded by client, in all, and by address: the first two are told to
// who asks, the last shows nothing.
// feature: CPS-10
func TestAsksAreBounded(t *testing.T) {
	h, s := joining(t, belfry.Joining{Who: belfry.JoinAnyone})
	h.joining = JoiningTerms{Answer: time.Hour, PerAddress: 2, PerClient: 3, PerTenant: 6}
	from := func(client string, n int) error {
		t.Helper()
		_, err := h.Join(h.ctx(), by, s.ID, Joiner{Email: "a" + string(rune('a'+n)) + "@example.org", Client: client})
		return err
	}
	for i := range 3 {
		h.ok(from("2001:db8::1", i))
	}
	for _, client := range []string{"2001:db8::2", "2001:db8:0:0:ffff::1"} { // of the same network
		if err := from(client, 9); belfry.KindOf(err) != belfry.Overloaded {
			t.Errorf("%s: %v", client, err)
		}
	}
	for i := range 3 {
		h.ok(from("203.0.113.7", 3+i))
	}
	if err := from("", 6); belfry.KindOf(err) != belfry.Overloaded {
		t.Errorf("more than all may: %v", err)
	}
	h.now = h.now.Add(time.Hour)
	h.ok(from("", 6))

	// An address whose owner confirms gets two mails a day, others wait for room.
	h.now = h.now.Add(time.Hour)
	h.post()
	h.asks(s.ID, "x@example.org")
	mails := h.post()
	_, err := h.answer(mails[0])
	h.ok(err)
	h.same("the second", types(h.post()), []string{"belfry.joined to x@example.org"})
	h.leaves(s.ID, "x@example.org")
	h.same("the third", types(h.post()), nil)
}

// What is switched off meanwhile is refused, and stays pending; without
// confirmation the address joins at once; addresses an administrator lists can
// leave; invitations are accepted whoever may join.
// feature: CPS-9, CPS-10
func TestJoiningIsSwitched(t *testing.T) {
	h, s := joining(t, belfry.Joining{Who: belfry.JoinAnyone})
	h.asks(s.ID, "x@example.org")
	mails := h.post()
	put := func(change func(*belfry.Subscription)) {
		t.Helper()
		change(&s)
		s.Version, s.State = 0, ""
		got, err := h.PutSubscription(h.ctx(), by, s, nil)
		h.ok(err)
		s = got.Subscription
	}
	put(func(s *belfry.Subscription) { s.Joining.Who = belfry.JoinMembers })
	if o, err := h.answer(mails[0]); err != nil || o.State != OfferClosed {
		t.Errorf("%+v, %v", o, err)
	}
	h.same("members", h.members(s.ID), nil)
	put(func(s *belfry.Subscription) { s.Joining.Who = belfry.JoinAnyone })
	if o, err := h.answer(mails[0]); err != nil || o.State != OfferDone {
		t.Errorf("%+v, %v", o, err)
	}
	h.post()

	no := false
	put(func(s *belfry.Subscription) { s.Joining.Confirm = &no })
	h.asks(s.ID, "y@example.org")
	h.same("without confirmation", types(h.post()), []string{"belfry.joined to y@example.org"})
	h.same("members", h.members(s.ID), []string{"x@example.org", "y@example.org"})
	h.leaves(s.ID, "y@example.org")
	h.same("without confirmation", types(h.post()), []string{"belfry.left to y@example.org"})
	h.same("members", h.members(s.ID), []string{"x@example.org"})

	put(func(s *belfry.Subscription) {
		s.Joining = belfry.Joining{}
		s.Recipients = []belfry.Rule{{Explicit: &belfry.ExplicitRule{Emails: []string{"Listed@Example.org"}}}}
	})
	h.leaves(s.ID, "listed@example.org")
	bye := h.post()
	h.same("listed", types(bye), []string{"belfry.leaving_confirm to listed@example.org"})
	_, err := h.answer(bye[0])
	h.ok(err)
	if _, out, err := h.db.JoinsOf(h.ctx(), by.Tenant, s.ID, "listed@example.org"); err != nil || !out {
		t.Errorf("opted out: %v, %v", out, err)
	}

	n, err := h.Invite(h.ctx(), by, s.ID, Invitation{Users: []string{"user/8"}, Emails: []string{"Z@example.org", "z@example.org", "x@example.org"}, Object: "forum/3"})
	if err != nil || n != 3 {
		t.Errorf("%d invited, %v", n, err)
	}
	invited := h.post()
	h.same("invited", types(invited), []string{"belfry.joining_invited to user/8", "belfry.joining_invited to x@example.org", "belfry.joining_invited to z@example.org"})
	for _, e := range invited {
		if e.Related[0] != "x@example.org" {
			_, err := h.answer(e)
			h.ok(err)
		}
	}
	h.same("members", h.members(s.ID), []string{"user/8 forum/3", "x@example.org", "z@example.org forum/3"})
	_, err = h.Invite(h.ctx(), by, s.ID, Invitation{Users: []string{"user/77"}})
	h.refused(err, belfry.Invalid, "/users/0: user/77")
}

// Members of no id but an address are told there, and administrators may add
// them as confirmed.
// feature: CPS-31, CPS-8
func TestAddressesAsMembers(t *testing.T) {
	h, s := joining(t, belfry.Joining{})
	got, err := h.PutMembers(h.ctx(), by, s.ID, []belfry.Member{{Principal: " X@Example.org"}})
	h.ok(err)
	if got[0].Principal != "x@example.org" || got[0].By != by.Who {
		t.Errorf("%+v", got)
	}
	h.refused(second(h.PutMembers(h.ctx(), by, s.ID, []belfry.Member{{Principal: "x@"}})), belfry.Invalid, "/0/principal: e-mail address")
}

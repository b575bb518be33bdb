package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-24
func testOptOuts(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	apply := func(ch belfry.Changes) {
		t.Helper()
		ch.Tenant = belfry.DefaultTenant
		if _, err := db.Apply(t.Context(), ch); err != nil {
			t.Fatal(err)
		}
	}
	since := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	apply(belfry.Changes{Members: []belfry.Member{
		{Subscription: "sub_a", Principal: "user/1", Since: since}, {Subscription: "sub_a", Principal: "user/1", Object: "forum/2", Since: since},
		{Subscription: "sub_b", Principal: "user/1", Since: since}, {Subscription: "sub_a", Principal: "user/2", Since: since},
	}})
	apply(belfry.Changes{OptOuts: []belfry.OptOut{{Subscription: "sub_a", Who: "user/1", Since: since}, {Subscription: "sub_a", Who: "x@example.org", Since: since}}})
	apply(belfry.Changes{OptOuts: []belfry.OptOut{{Subscription: "sub_a", Who: "user/1", Since: since.Add(time.Hour)}}}) // a repeat changes nothing

	list, err := db.OptOuts(t.Context(), belfry.DefaultTenant, "sub_a", "", 10)
	if err != nil || len(list) != 2 || list[0].Who != "user/1" || !list[0].Since.Equal(since) || list[1].Who != "x@example.org" {
		t.Fatalf("opt-outs: %+v, %v", list, err)
	}
	among, err := db.OptOutsAmong(t.Context(), belfry.DefaultTenant, "sub_a", []string{"x@example.org", "user/2", "user/1", "user/1"})
	if err != nil || len(among) != 2 || among[0] != list[0] || among[1] != list[1] {
		t.Errorf("opt-outs of some: %+v, %v", among, err)
	}
	members, err := db.MembersAmong(t.Context(), belfry.DefaultTenant, "sub_a", []string{"user/9", "user/2", "user/1", "user/2"})
	if err != nil || len(members) != 1 || members[0].Principal != "user/2" || !members[0].Since.Equal(since) {
		t.Errorf("members of some: %+v, %v", members, err)
	}
	for _, who := range [][]string{nil, {"user/9"}} {
		among, err := db.OptOutsAmong(t.Context(), belfry.DefaultTenant, "sub_a", who)
		members, err2 := db.MembersAmong(t.Context(), belfry.DefaultTenant, "sub_a", who)
		if len(among)+len(members) != 0 || err != nil || err2 != nil {
			t.Errorf("%q: %+v, %+v, %v, %v", who, among, members, err, err2)
		}
	}
	outs, err := db.OptedOut(t.Context(), belfry.DefaultTenant, "user/1", 10)
	if err != nil || len(outs) != 1 || outs[0].Subscription != "sub_a" || outs[0].Who != "user/1" || !outs[0].Since.Equal(since) {
		t.Errorf("what one person opted out of: %+v, %v", outs, err)
	}
	hers, err := db.Joined(t.Context(), belfry.DefaultTenant, "user/1", 10)
	if err != nil || len(hers) != 1 || hers[0].Subscription != "sub_b" {
		t.Errorf("what one person joined: %+v, %v", hers, err)
	}
	left, err := db.Members(t.Context(), belfry.DefaultTenant, "sub_a", "", 10)
	if err != nil || len(left) != 1 || left[0].Principal != "user/2" {
		t.Errorf("members of the subscription opted out of: %+v, %v", left, err)
	}
	apply(belfry.Changes{Groups: []belfry.Group{{ID: "staff"}, {ID: "others"}}, Members: []belfry.Member{{Subscription: "sub_a", Principal: "staff", Since: since}}})
	joined, err := db.JoinedGroups(t.Context(), belfry.DefaultTenant, "sub_a", nil)
	if err != nil || len(joined) != 1 || joined[0].Principal != "staff" {
		t.Errorf("groups that joined: %+v, %v", joined, err)
	}
	// Whether there are more groups or more members, and with those that nobody
	// declares, of which one is declared.
	crowd := belfry.Changes{Groups: []belfry.Group{{ID: "a"}}, Members: []belfry.Member{{Subscription: "sub_c", Principal: "z", Since: since}, {Subscription: "sub_c", Principal: "staff", Since: since},
		{Subscription: "sub_c", Principal: "a", Object: "x", Since: since}, {Subscription: "sub_c", Principal: "a", Since: since}, {Subscription: "sub_d", Principal: "z", Since: since}}}
	for i := range 20 {
		crowd.Members = append(crowd.Members, belfry.Member{Subscription: "sub_c", Principal: fmt.Sprint("user/", i), Since: since})
	}
	apply(crowd)
	for _, groups := range []int{0, 40} {
		var more belfry.Changes
		for i := range groups {
			more.Groups = append(more.Groups, belfry.Group{ID: fmt.Sprint("group/", i)})
		}
		apply(more)
		joined, err := db.JoinedGroups(t.Context(), belfry.DefaultTenant, "sub_c", []string{"z", "a", "nobody"})
		var got []string
		for _, m := range joined {
			got = append(got, m.Principal+"@"+m.Object)
		}
		if want := []string{"a@", "a@x", "staff@", "z@"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("beside %d other groups: %v, %v; want %v", groups, got, err, want)
		}
	}
	other, err := db.Members(t.Context(), belfry.DefaultTenant, "sub_b", "", 10)
	if err != nil || len(other) != 1 {
		t.Errorf("members of another subscription: %+v, %v", other, err)
	}
	// Who adds her for what she did, and has not seen yet that she left, adds nobody.
	late := []belfry.Member{{Subscription: "sub_a", Principal: "user/1", Since: since, UnlessOut: true}, {Subscription: "sub_a", Principal: "user/3", Since: since, UnlessOut: true},
		{Subscription: "sub_b", Principal: "user/1", Object: "x", Since: since, UnlessOut: true}}
	apply(belfry.Changes{Members: late})
	if left, err = db.Members(t.Context(), belfry.DefaultTenant, "sub_a", "user/", 10); err != nil || len(left) != 2 || left[0].Principal != "user/2" || left[1].Principal != "user/3" {
		t.Errorf("members of the subscription opted out of: %+v, %v", left, err)
	}
	if hers, err = db.Joined(t.Context(), belfry.DefaultTenant, "user/1", 10); err != nil || len(hers) != 3 { // sub_b twice, and sub_c
		t.Errorf("what one person joined: %+v, %v", hers, err)
	}
	apply(belfry.Changes{DropOptOuts: []belfry.OptOut{{Subscription: "sub_a", Who: "user/1"}}})
	if list, err = db.OptOuts(t.Context(), belfry.DefaultTenant, "sub_a", "", 10); err != nil || len(list) != 1 {
		t.Errorf("after it was taken back: %+v, %v", list, err)
	}
}

func testDeadContacts(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	apply := func(ch belfry.Changes) {
		t.Helper()
		ch.Tenant = belfry.DefaultTenant
		if _, err := db.Apply(t.Context(), ch); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	apply(belfry.Changes{Users: []belfry.User{{ID: "user/1", State: belfry.UserActive, Email: "Ada@Example.org"}}})
	apply(belfry.Changes{DeadContacts: []belfry.DeadContact{
		{User: "user/1", Kind: "email", Address: "ada@example.org", Reason: "550 5.1.1 no such user", At: at},
		{User: "user/1", Kind: "email", Address: "nobody@example.org", Reason: "x", At: at},
		{User: "user/9", Kind: "email", Address: "ada@example.org", Reason: "x", At: at},
	}})
	people, err := db.Persons(t.Context(), belfry.DefaultTenant, []string{"user/1"})
	if err != nil || len(people["user/1"].User.Contacts) != 1 {
		t.Fatalf("people: %+v, %v", people, err)
	}
	c := people["user/1"].User.Contacts[0]
	if c.Dead != "550 5.1.1 no such user" || c.DeadAt == nil || !c.DeadAt.Equal(at) {
		t.Errorf("contact: %+v", c)
	}
	// The platform's next sync repeats the address: it stays dead.
	apply(belfry.Changes{Users: []belfry.User{{ID: "user/1", State: belfry.UserActive, Email: "ada@example.org"}}})
	people, err = db.Persons(t.Context(), belfry.DefaultTenant, []string{"user/1"})
	if err != nil || people["user/1"].User.Contacts[0].Dead == "" {
		t.Errorf("after the platform repeated the address: %+v, %v", people["user/1"].User.Contacts, err)
	}
}

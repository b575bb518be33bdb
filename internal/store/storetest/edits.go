package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

func testVersions(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	if v := must[int64](t)(db.Version(ctx, tenant)); v != 0 {
		t.Errorf("version %d before the first edit", v)
	}
	for i := range 3 {
		ch := belfry.Changes{Objects: []belfry.Object{{ID: fmt.Sprint("o", i)}, {ID: "o"}}, Users: []belfry.User{{ID: "u"}}}
		if v := apply(t, db, ch); v != int64(i+1) {
			t.Fatalf("edit %d has version %d", i+1, v)
		}
	}
	if v := apply(t, db, belfry.Changes{}); v != 4 {
		t.Errorf("an empty edit has version %d, want 4", v)
	}
	if v := must[int64](t)(db.Version(ctx, tenant)); v != 4 {
		t.Errorf("version %d, want 4", v)
	}
	all := must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, 0, 100))
	if len(all) != 9 {
		t.Fatalf("%d changes, want 9: %v", len(all), all)
	}
	// A limit never cuts a version.
	for limit, want := range map[int]int{1: 3, 3: 3, 4: 6, 6: 6, 7: 9} {
		if got := must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, 0, limit)); len(got) != want {
			t.Errorf("a limit of %d gave %d changes, want %d", limit, len(got), want)
		}
	}
	same(t, "the last version's", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, 2, 100)),
		[]belfry.Change{{Version: 3, Kind: "object", Key: "o"}, {Version: 3, Kind: "object", Key: "o2"}, {Version: 3, Kind: "user", Key: "u"}})
	same(t, "versions of things", must[map[string]int64](t)(db.Versions(ctx, tenant, belfry.KindObject, []string{"o", "o1", "x"})), map[string]int64{"o": 3, "o1": 2})
}

func testObjects(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	apply(t, db, belfry.Changes{Objects: []belfry.Object{
		{ID: "forum/1", Type: "forum", Parent: "course/1"}, // before its parent
		{ID: "course/1", Type: "course", Parent: "root", Title: "CPR", URL: "https://x", Attributes: json.RawMessage(`{"a":1}`), Blocks: []string{"*"}, Hidden: true, Origin: "k"},
		{ID: "course/2", Type: "course"}, {ID: "post/1", Parent: "forum/1"},
		{ID: "loop/a", Parent: "loop/b"}, {ID: "loop/b", Parent: "loop/a"},
	}})
	read := func(id string) belfry.Object {
		t.Helper()
		o, ok := must[map[string]belfry.Object](t)(db.Objects(ctx, tenant, []string{id, "unknown"}))[id]
		if !ok {
			t.Fatalf("no object %s", id)
		}
		return o
	}
	same(t, "an object", read("course/1"), belfry.Object{ID: "course/1", Type: "course", Parent: "root", Title: "CPR", URL: "https://x",
		Attributes: json.RawMessage(`{"a":1}`), Blocks: []string{"*"}, Hidden: true, Origin: "k"})
	children := func(parent, after string, limit int) (ids []string) {
		t.Helper()
		for _, o := range must[[]belfry.Object](t)(db.Children(ctx, tenant, parent, after, limit)) {
			ids = append(ids, o.ID)
		}
		return ids
	}
	same(t, "children of the root", children("", "", 10), []string{"course/1", "course/2"})
	same(t, "children of the root, by its id", children(belfry.RootObject, "course/1", 10), []string{"course/2"})
	same(t, "children", children("course/1", "", 10), []string{"forum/1"})

	v := apply(t, db, belfry.Changes{DeleteObjects: []string{"course/1", "unknown", "loop/a"}})
	for id, dead := range map[string]bool{"course/1": true, "forum/1": true, "post/1": true, "loop/a": true, "loop/b": true, "course/2": false} {
		if got := read(id).Deleted != nil; got != dead {
			t.Errorf("%s deleted: %v, want %v", id, got, dead)
		}
	}
	if title := read("course/1").Title; title != "CPR" {
		t.Errorf("a tombstone has the title %q", title)
	}
	same(t, "children without tombstones", children("", "", 10), []string{"course/2"})
	same(t, "the change log", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, v-1, 100)), []belfry.Change{{Version: v, Kind: "object", Key: "course/1"},
		{Version: v, Kind: "object", Key: "forum/1"}, {Version: v, Kind: "object", Key: "loop/a"}, {Version: v, Kind: "object", Key: "loop/b"}, {Version: v, Kind: "object", Key: "post/1"}})
	same(t, "versions of tombstones", must[map[string]int64](t)(db.Versions(ctx, tenant, belfry.KindObject, []string{"course/1", "course/2"})), map[string]int64{"course/2": 1})

	// Declared again, it lives again; a second deletion is a new one.
	apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "course/1", Type: "course"}}})
	if o := read("course/1"); o.Deleted != nil {
		t.Errorf("put again, still deleted: %+v", o)
	}
	// The last of several entries with one id counts.
	apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "x", Title: "1"}, {ID: "x", Title: "2"}}})
	if o := read("x"); o.Title != "2" {
		t.Errorf("of two entries the one titled %q was kept", o.Title)
	}

	var many []belfry.Object
	var ids []string
	for i := range 1300 {
		many = append(many, belfry.Object{ID: fmt.Sprintf("many/%04d", i), Parent: "many"})
		ids = append(ids, many[i].ID)
	}
	apply(t, db, belfry.Changes{Objects: many})
	if got := must[map[string]belfry.Object](t)(db.Objects(ctx, tenant, ids)); len(got) != len(ids) {
		t.Errorf("read %d objects of %d", len(got), len(ids))
	}
}

func testUsers(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	read := func(id string) *belfry.Person {
		t.Helper()
		return must[map[string]*belfry.Person](t)(db.Persons(ctx, tenant, []string{id, "unknown"}))[id]
	}
	found := func(email string) string {
		t.Helper()
		return must[map[string]string](t)(db.PersonsByEmail(ctx, tenant, []string{email, "nobody@example.org"}))[email]
	}
	put := func(u belfry.User) []belfry.Contact {
		t.Helper()
		apply(t, db, belfry.Changes{Users: []belfry.User{u}})
		return read(u.ID).User.Contacts
	}
	sms := belfry.Contact{Kind: "sms", Address: "+55", Label: "phone", Priority: 2, Verified: true}
	from := func(c belfry.Contact, origin string) belfry.Contact { c.Origin = origin; return c }
	mail := func(address, origin string) belfry.Contact {
		return belfry.Contact{Kind: "email", Address: address, Verified: true, Origin: origin}
	}

	same(t, "a new user's contacts", put(belfry.User{ID: "u", Name: "Ada", Email: "Ada@Example.org", Origin: "k1", Contacts: []belfry.Contact{sms}}),
		[]belfry.Contact{from(sms, "k1"), mail("Ada@Example.org", "k1")})
	if p := read("u"); p.User.State != belfry.UserActive || p.User.Name != "Ada" {
		t.Errorf("a new user: %+v", p.User)
	}
	if id := found("ada@example.org"); id != "u" {
		t.Errorf("the address belongs to %q", id)
	}
	same(t, "contacts of another origin", put(belfry.User{ID: "u", Email: "ada@example.org", Origin: "k2", Contacts: []belfry.Contact{{Kind: "push", Address: "tok"}}}),
		[]belfry.Contact{from(sms, "k1"), mail("Ada@Example.org", "k1"), {Kind: "push", Address: "tok", Origin: "k2"}})
	same(t, "nil contacts are untouched; a new e-mail replaces the origin's", put(belfry.User{ID: "u", Email: "new@example.org", Origin: "k1"}),
		[]belfry.Contact{from(sms, "k1"), {Kind: "push", Address: "tok", Origin: "k2"}, mail("new@example.org", "k1")})
	if found("ada@example.org") != "" || found("new@example.org") != "u" {
		t.Error("the addresses did not follow")
	}
	same(t, "an empty list drops the origin's", put(belfry.User{ID: "u", Email: "new@example.org", Origin: "k1", Contacts: []belfry.Contact{}}),
		[]belfry.Contact{{Kind: "push", Address: "tok", Origin: "k2"}, mail("new@example.org", "k1")})

	// A dead address stays dead while it stays, and an explicit entry for the e-mail is kept as it is.
	when := time.Unix(1_800_000_000, 0).UTC()
	dead := belfry.Contact{Kind: "email", Address: "new@example.org", Dead: "550", DeadAt: &when, Origin: "k1"}
	put(belfry.User{ID: "u", Email: "new@example.org", Origin: "k1", Contacts: []belfry.Contact{dead}})
	same(t, "a dead contact, synced again", put(belfry.User{ID: "u", Email: "new@example.org", Origin: "k1", Contacts: []belfry.Contact{{Kind: "email", Address: "NEW@example.org", Verified: true}}}),
		[]belfry.Contact{{Kind: "push", Address: "tok", Origin: "k2"}, {Kind: "email", Address: "NEW@example.org", Verified: true, Dead: "550", DeadAt: &when, Origin: "k1"}})
	same(t, "without an e-mail", put(belfry.User{ID: "u", Origin: "k1"}), []belfry.Contact{{Kind: "push", Address: "tok", Origin: "k2"}})

	// Settings and preferences live beside the profile.
	until := when.Add(time.Hour)
	prefs := []belfry.Preference{{Type: "core.*", Object: "course/41", Level: belfry.LevelRelated, Channels: []string{"email"}, MuteUntil: &until}}
	apply(t, db, belfry.Changes{Settings: []belfry.UserSettings{{User: "u", Settings: belfry.Settings{Stop: true}}}, Preferences: []belfry.UserPreferences{{User: "u", Preferences: prefs}}})
	put(belfry.User{ID: "u", Name: "Ada L.", Email: "u@example.org"})
	p := read("u")
	if !p.Settings.Stop || p.User.Name != "Ada L." {
		t.Errorf("person: %+v", p)
	}
	same(t, "preferences", p.Preferences, prefs)
	apply(t, db, belfry.Changes{Preferences: []belfry.UserPreferences{{User: "u"}}})
	if p := read("u"); len(p.Preferences) != 0 || !p.Settings.Stop {
		t.Errorf("person: %+v", p)
	}

	// Lists, and the first of two with one address.
	apply(t, db, belfry.Changes{Users: []belfry.User{{ID: "b", Email: "U@example.org"}, {ID: "c", State: belfry.UserSuspended}, {ID: "d"}, {ID: "e"}}})
	same(t, "active users", must[[]string](t)(db.UserIDs(ctx, tenant, "", 10)), []string{"b", "d", "e", "u"})
	same(t, "active users, page by page", must[[]string](t)(db.UserIDs(ctx, tenant, "b", 2)), []string{"d", "e"})
	if id := found("u@example.org"); id != "b" {
		t.Errorf("the shared address belongs to %q, want b", id)
	}
	apply(t, db, belfry.Changes{DeleteUsers: []string{"b", "unknown"}})
	if p := read("b"); p == nil || p.User.State != belfry.UserDeleted {
		t.Errorf("a deleted user: %+v", p)
	}
	if id := found("u@example.org"); id != "u" {
		t.Errorf("after the deletion the address belongs to %q, want u", id)
	}
	same(t, "active users without the deleted", must[[]string](t)(db.UserIDs(ctx, tenant, "", 10)), []string{"d", "e", "u"})
	put(belfry.User{ID: "b", Email: "U@example.org"}) // comes back
	if id := found("u@example.org"); id != "b" {
		t.Errorf("after the return the address belongs to %q, want b", id)
	}
}

func testGroups(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	read := func(id string) belfry.Group {
		t.Helper()
		return must[map[string]belfry.Group](t)(db.Groups(ctx, tenant, []string{id, "unknown"}))[id]
	}
	apply(t, db, belfry.Changes{Groups: []belfry.Group{{ID: "g", Name: "Staff", Members: []string{"u2", "u1", "u1", "group/h"}, Origin: "k1"}, {ID: "h"}}})
	same(t, "a group", read("g"), belfry.Group{ID: "g", Name: "Staff", Members: []string{"group/h", "u1", "u2"}, Origin: "k1"})
	apply(t, db, belfry.Changes{Groups: []belfry.Group{{ID: "g", Name: "Staff", Address: "staff@example.org", Members: []string{"u2", "u3"}, Origin: "k2"}}})
	same(t, "with members of two origins", read("g").Members, []string{"group/h", "u1", "u2", "u3"})
	apply(t, db, belfry.Changes{Groups: []belfry.Group{{ID: "g", Name: "Crew", Origin: "k1"}}})
	same(t, "nil members are untouched", read("g"), belfry.Group{ID: "g", Name: "Crew", Members: []string{"group/h", "u1", "u2", "u3"}, Origin: "k1"})
	apply(t, db, belfry.Changes{Groups: []belfry.Group{{ID: "g", Members: []string{}, Origin: "k1"}}})
	same(t, "without one origin's members", read("g").Members, []string{"u2", "u3"})
	same(t, "groups", must[[]string](t)(db.GroupIDs(ctx, tenant, "", 10)), []string{"g", "h"})
	v := apply(t, db, belfry.Changes{DropGroups: []string{"g"}})
	if g := read("g"); g.ID != "" {
		t.Errorf("a dropped group: %+v", g)
	}
	same(t, "changes", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, v-1, 10)), []belfry.Change{{Version: v, Kind: belfry.KindGroup, Key: "g"}})

	apply(t, db, belfry.Changes{Users: []belfry.User{{ID: "u"}}})
	_, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Groups: []belfry.Group{{ID: "u"}}})
	kind(t, err, belfry.Conflict)
	_, err = db.Apply(ctx, belfry.Changes{Tenant: tenant, Users: []belfry.User{{ID: "h"}}})
	kind(t, err, belfry.Conflict)
}

func testGrants(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	from, until := time.Unix(1_700_000_000, 0).UTC(), time.Unix(1_800_000_000, 0).UTC()
	read := func() []belfry.Grant {
		t.Helper()
		return must[map[string][]belfry.Grant](t)(db.GrantsOn(ctx, tenant, []string{"course/1", "course/2"}))["course/1"]
	}
	grant := func(principal, role, origin string) belfry.Grant {
		return belfry.Grant{Principal: principal, Role: role, Object: "course/1", Origin: origin}
	}
	timed := grant("u2", "student", "k1")
	timed.From, timed.Until = &from, &until
	off := grant("u2", "student", "k1")
	off.Inactive = "suspended enrolment"
	apply(t, db, belfry.Changes{Grants: []belfry.GrantSet{{Object: "course/1", Origin: "k1", Grants: []belfry.Grant{{Principal: "u1", Role: "teacher"},
		{Principal: "u2", Role: "student", From: &from, Until: &until}, {Principal: "u2", Role: "student", Inactive: "suspended enrolment"}}}}})
	same(t, "grants", read(), []belfry.Grant{grant("u1", "teacher", "k1"), timed, off})
	apply(t, db, belfry.Changes{Grants: []belfry.GrantSet{{Object: "course/1", Origin: "k2", Grants: []belfry.Grant{{Principal: "u1", Role: "teacher"}}},
		{Object: "course/1", Origin: "k1", Principal: "u2", Grants: []belfry.Grant{{Role: "tutor"}}}}})
	same(t, "of two origins, one person's replaced", read(), []belfry.Grant{grant("u1", "teacher", "k1"), grant("u1", "teacher", "k2"), grant("u2", "tutor", "k1")})
	v := apply(t, db, belfry.Changes{Grants: []belfry.GrantSet{{Object: "course/1", Origin: "k1"}}})
	same(t, "one origin's dropped", read(), []belfry.Grant{grant("u1", "teacher", "k2")})
	same(t, "changes", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, v-1, 10)), []belfry.Change{{Version: v, Kind: belfry.KindGrants, Key: "course/1"}})
	_, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Grants: []belfry.GrantSet{{Object: "course/1", Principal: "u1", Grants: []belfry.Grant{{Principal: "u2", Role: "x"}}}}})
	kind(t, err, belfry.Invalid)
	if roles := must[[]string](t)(db.Roles(ctx, tenant, 10)); !slices.Equal(roles, []string{"student", "teacher", "tutor"}) { // also those that nobody has any more
		t.Errorf("roles %q", roles)
	}
	if roles := must[[]string](t)(db.Roles(ctx, "other", 10)); len(roles) != 0 {
		t.Errorf("roles of another tenant: %q", roles)
	}
}

func testHistory(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	at := func(n int) time.Time { return time.Unix(int64(n), 0).UTC() }
	apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "doc", Document: "d1"}}})
	apply(t, db, belfry.Changes{History: []belfry.HistoryEntry{{Object: "doc", Transition: "submit", Actor: "u1", Time: at(20), Variables: json.RawMessage(`{"a":[1]}`)},
		{Object: "doc", Transition: "publish", Actor: "u2", Time: at(20), Document: "other", Comment: "ok"}, {Transition: "boot", Time: at(1)}}})
	v := apply(t, db, belfry.Changes{History: []belfry.HistoryEntry{{Object: "doc", Transition: "create", Time: at(-10)}}}) // imported late, happened long ago
	want := []string{"create", "submit", "publish"}
	var got []belfry.HistoryEntry
	for after := ""; ; {
		list, next, err := db.History(ctx, tenant, "doc", after, 1)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, list...)
		if after = next; next == "" {
			break
		}
	}
	var names []string
	for _, h := range got {
		names = append(names, h.Transition)
	}
	same(t, "oldest first", names, want)
	same(t, "an entry", got[1], belfry.HistoryEntry{Object: "doc", Document: "d1", Transition: "submit", Actor: "u1", Time: at(20), Variables: json.RawMessage(`{"a":[1]}`)})
	if got[2].Document != "other" || got[2].Comment != "ok" {
		t.Errorf("entry: %+v", got[2])
	}
	if list, _, err := db.History(ctx, tenant, "", "", 10); err != nil || len(list) != 1 || list[0].Object != belfry.RootObject {
		t.Errorf("the root's: %+v, %v", list, err)
	}
	same(t, "changes", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, v-1, 10)), []belfry.Change{{Version: v, Kind: belfry.KindHistory, Key: "doc"}})
	_, _, err := db.History(ctx, tenant, "doc", "nonsense", 10)
	kind(t, err, belfry.Invalid)
}

func testSubscriptions(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	no := false
	sub := belfry.Subscription{ID: "sub_b", Title: "t", Scope: belfry.Scope{Object: "course/1"}, Types: []string{"core.*"}, Filter: "event.data.x == '<1>'",
		Recipients: []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"teacher"}}}}, Merge: &no, Owner: "user/2", State: belfry.SubscriptionActive, Created: time.Unix(1_800_000_000, 0).UTC()}
	v := apply(t, db, belfry.Changes{Subscriptions: []belfry.Subscription{sub, {ID: "sub_a", State: belfry.SubscriptionEnded}, {ID: "sub_c", State: belfry.SubscriptionPaused}}})
	got, ok, err := db.Subscription(ctx, tenant, "sub_b")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	sub.Version = v
	same(t, "a subscription", got, sub)
	if _, ok, err := db.Subscription(ctx, tenant, "sub_x"); ok || err != nil {
		t.Errorf("an unknown subscription: %v, %v", ok, err)
	}
	var ids []string
	same(t, "those that are", must[[]belfry.Subscription](t)(db.SubscriptionsOf(ctx, tenant, []string{"sub_x", "sub_b"})), []belfry.Subscription{got})
	same(t, "none of none", len(must[[]belfry.Subscription](t)(db.SubscriptionsOf(ctx, tenant, nil))), 0)
	for _, s := range must[[]belfry.Subscription](t)(db.Subscriptions(ctx, tenant, "sub_a", 10)) {
		ids = append(ids, s.ID)
	}
	same(t, "after the first", ids, []string{"sub_b", "sub_c"})
	same(t, "the active ones", must[[]belfry.Subscription](t)(db.ActiveSubscriptions(ctx, tenant, "sub_a", 10)), []belfry.Subscription{sub})
	same(t, "none after it", must[[]belfry.Subscription](t)(db.ActiveSubscriptions(ctx, tenant, "sub_b", 10)), []belfry.Subscription{})

	since := time.Unix(1_800_000_001, 0).UTC()
	member := func(sub, principal, object string, channels ...string) belfry.Member {
		return belfry.Member{Subscription: sub, Principal: principal, Object: object, Channels: channels, Since: since}
	}
	v = apply(t, db, belfry.Changes{Members: []belfry.Member{member("sub_b", "u2", ""), member("sub_b", "u1", "forum/2", "email"), member("sub_b", "u1", ""), member("sub_b", "u3", ""), member("sub_c", "u1", "")}})
	same(t, "changes", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, v-1, 10)), []belfry.Change{{Version: v, Kind: belfry.KindMembers, Key: "sub_b"}, {Version: v, Kind: belfry.KindMembers, Key: "sub_c"}})
	same(t, "members, a person's together", must[[]belfry.Member](t)(db.Members(ctx, tenant, "sub_b", "", 1)), []belfry.Member{member("sub_b", "u1", ""), member("sub_b", "u1", "forum/2", "email")})
	same(t, "the next", must[[]belfry.Member](t)(db.Members(ctx, tenant, "sub_b", "u1", 10)), []belfry.Member{member("sub_b", "u2", ""), member("sub_b", "u3", "")})
	same(t, "what one joined", must[[]belfry.Member](t)(db.Memberships(ctx, tenant, "u1", "", 1)), []belfry.Member{member("sub_b", "u1", ""), member("sub_b", "u1", "forum/2", "email")})
	same(t, "what else", must[[]belfry.Member](t)(db.Memberships(ctx, tenant, "u1", "sub_b", 1)), []belfry.Member{member("sub_c", "u1", "")})
	apply(t, db, belfry.Changes{Members: []belfry.Member{member("sub_b", "u1", "", "sms")}, DropMembers: []belfry.Member{{Subscription: "sub_b", Principal: "u1", Object: "forum/2"}, {Subscription: "sub_b", Principal: "nobody"}}})
	same(t, "after a change", must[[]belfry.Member](t)(db.Members(ctx, tenant, "sub_b", "", 1)), []belfry.Member{member("sub_b", "u1", "", "sms")})
	weekly, monthly := member("sub_b", "u1", ""), member("sub_b", "u3", "", "email", "sms") // feature: CPS-23
	weekly.Frequency, monthly.Frequency = &belfry.Frequency{Every: belfry.Weekly}, &belfry.Frequency{Every: belfry.Monthly, Day: 3}
	apply(t, db, belfry.Changes{Members: []belfry.Member{weekly, monthly}})
	same(t, "how often", must[[]belfry.Member](t)(db.Members(ctx, tenant, "sub_b", "", 10)), []belfry.Member{weekly, member("sub_b", "u2", ""), monthly})
	same(t, "how often of what one joined", must[[]belfry.Member](t)(db.Joined(ctx, tenant, "u1", 10))[:1], []belfry.Member{weekly})
}

func testDocuments(t *testing.T, place func(testing.TB) string) {
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	db := openAt(t, place(t), func() time.Time { return clock })
	ctx := context.Background()
	put := func(id, body string) int64 {
		return apply(t, db, belfry.Changes{Documents: []belfry.Document{{Kind: belfry.KindEndpoint, ID: id, Body: []byte(body)}},
			Audit: []belfry.AuditEntry{{Who: "key_1", Action: "endpoint.put", Target: id}, {At: clock.Add(-time.Hour), Who: "key_1", Action: "note", Target: id, Detail: fmt.Sprintf("%q", body)}}})
	}
	put("b", "1")
	put("a", "2")
	v := put("b", "3\x00\xff") // bytes are bytes
	d, ok, err := db.Document(ctx, tenant, belfry.KindEndpoint, "b")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	same(t, "a document", d, belfry.Document{Kind: belfry.KindEndpoint, ID: "b", Body: []byte("3\x00\xff"), Version: v})
	same(t, "documents by id", must[map[string]belfry.Document](t)(db.DocumentsOf(ctx, tenant, belfry.KindEndpoint, []string{"b", "nobody"})), map[string]belfry.Document{"b": d})
	if got := must[map[string]belfry.Document](t)(db.DocumentsOf(ctx, "another", belfry.KindEndpoint, []string{"a", "b"})); len(got) != 0 {
		t.Errorf("another tenant's documents: %+v", got)
	}
	list := must[[]belfry.Document](t)(db.Documents(ctx, tenant, belfry.KindEndpoint, "", 10))
	if len(list) != 2 || list[0].ID != "a" || list[1].Version != v {
		t.Errorf("documents: %+v", list)
	}
	if list := must[[]belfry.Document](t)(db.Documents(ctx, tenant, belfry.KindTemplate, "", 10)); len(list) != 0 {
		t.Errorf("documents of another kind: %+v", list)
	}
	v = apply(t, db, belfry.Changes{DropDocuments: []belfry.DocumentKey{{Kind: belfry.KindEndpoint, ID: "a"}}})
	if _, ok, err := db.Document(ctx, tenant, belfry.KindEndpoint, "a"); ok || err != nil {
		t.Errorf("a dropped document: %v, %v", ok, err)
	}
	same(t, "changes", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, v-1, 10)), []belfry.Change{{Version: v, Kind: belfry.KindEndpoint, Key: "a"}})

	audit := must[[]store.AuditRow](t)(db.Audit(ctx, tenant, "", 4))
	var got []string
	for _, a := range audit {
		got = append(got, a.Action+" "+a.Target)
	}
	same(t, "audit, newest first", got, []string{"note b", "endpoint.put b", "note a", "endpoint.put a"})
	same(t, "an entry", audit[2].AuditEntry, belfry.AuditEntry{At: clock.Add(-time.Hour), Who: "key_1", Action: "note", Target: "a", Detail: `"2"`})
	if rest := must[[]store.AuditRow](t)(db.Audit(ctx, tenant, audit[3].ID, 10)); len(rest) != 2 || !rest[1].At.Equal(clock) {
		t.Errorf("the rest: %+v", rest)
	}
}

func testEditsAtomic(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	v1 := apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "o"}}, Documents: []belfry.Document{{Kind: belfry.KindEndpoint, ID: "e", Body: []byte("{}")}}})
	edit := belfry.Changes{Tenant: tenant, Objects: []belfry.Object{{ID: "o", Title: "new"}, {ID: "p"}}}
	try := func(want belfry.Kind, set func(*belfry.Changes)) {
		t.Helper()
		ch := edit
		set(&ch)
		_, err := db.Apply(ctx, ch)
		kind(t, err, want)
	}
	try(belfry.Stale, func(ch *belfry.Changes) {
		ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindObject, Key: "o", Version: v1 + 1}}
	})
	try(belfry.Stale, func(ch *belfry.Changes) {
		ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindObject, Key: "o", Version: v1}, {Kind: belfry.KindEndpoint, Key: "e"}} // the second must not exist
	})
	try(belfry.Invalid, func(ch *belfry.Changes) { ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindGrants, Key: "o"}} })
	try(belfry.NotFound, func(ch *belfry.Changes) { ch.Preferences = []belfry.UserPreferences{{User: "nobody"}} })
	try(belfry.Invalid, func(ch *belfry.Changes) { ch.Objects = append([]belfry.Object{{}}, ch.Objects...) })
	if v := must[int64](t)(db.Version(ctx, tenant)); v != v1 {
		t.Errorf("refused edits moved the version to %d", v)
	}
	if got := must[map[string]belfry.Object](t)(db.Objects(ctx, tenant, []string{"o", "p"})); len(got) != 1 || got["o"].Title != "" {
		t.Errorf("refused edits left %+v", got)
	}
	edit.IfMatch = []belfry.Expectation{{Kind: belfry.KindObject, Key: "o", Version: v1}, {Kind: belfry.KindObject, Key: "p", Version: 0}, {Kind: belfry.KindEndpoint, Key: "e", Version: v1}}
	if v := apply(t, db, edit); v != v1+1 {
		t.Errorf("version %d, want %d", v, v1+1)
	}
	_, err := db.Apply(ctx, edit) // a second time the same expectations are stale
	kind(t, err, belfry.Stale)

	// A tombstone does not exist.
	apply(t, db, belfry.Changes{DeleteObjects: []string{"o"}})
	apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "o"}}, IfMatch: []belfry.Expectation{{Kind: belfry.KindObject, Key: "o", Version: 0}}})
}

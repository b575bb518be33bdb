package resolve

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/google/go-cmp/cmp"
)

// show writes a page in a form tables can hold: "u1 <named_user" told,
// "u2 !named_user>blacklisted" dropped.
func show(p PageResult) []string {
	var out []string
	codes := func(because []belfry.Reason) string {
		var cs []string
		for _, r := range because {
			c := r.Code
			if r.Role != "" {
				c += ":" + r.Role
			}
			if r.Group != "" {
				c += "~" + r.Group
			}
			if r.Object != "" {
				c += "@" + r.Object
			}
			cs = append(cs, c)
		}
		return strings.Join(cs, ",")
	}
	for _, r := range p.Recipients {
		var all []string
		for _, v := range r.Via {
			s := codes(v.Because)
			if v.Match.Subscription.ID != "sub_1" {
				s = v.Match.Subscription.ID + "/" + s
			}
			all = append(all, s)
		}
		out = append(out, r.Principal+r.Address+r.Endpoint+" <"+strings.Join(all, " <"))
	}
	for _, d := range p.Dropped {
		out = append(out, d.Principal+d.Address+" !"+codes(d.Because))
	}
	return out
}

func one(t *testing.T, w *world, e *belfry.Accepted, typ belfry.EventType, ms ...belfry.Match) []string {
	t.Helper()
	p, err := Page(w, e, ms, typ, noon, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Last {
		t.Fatalf("more than one page: next %q", p.Next)
	}
	return show(p)
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func explicit(users, groups, emails []string) []belfry.Rule {
	return []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: users, Groups: groups, Emails: emails}}}
}

func role(on, origin string, roles ...string) belfry.Rule {
	r := &belfry.RoleRule{Roles: roles, On: on}
	if origin != "" {
		r.Origins = []string{origin}
	}
	return belfry.Rule{Role: r}
}

// feature: CPS-8 explicit users, groups, addresses and members
// feature: CPS-27 a group with an address is told there instead of being expanded
func TestExplicitRule(t *testing.T) {
	w := newWorld().object("c", "").user("u1", "u2", "u3", "u4").email("u3", "U3@Example.org").
		group("staff", "u1", "inner").group("inner", "u2", "staff"). // a cycle
		group("list", "u4").address("list", "List@Example.org")
	tests := []struct {
		name string
		rule []belfry.Rule
		want []string
	}{
		{"users", explicit([]string{"u2", "u1"}, nil, nil), []string{"u1 <named_user", "u2 <named_user"}},
		{"unknown user", explicit([]string{"ghost"}, nil, nil), []string{"ghost !named_user,user_unknown"}},
		{"nested and cyclic groups", explicit(nil, []string{"staff"}, nil), []string{"u1 <named_group~staff", "u2 <named_group~staff"}},
		{"unknown group", explicit(nil, []string{"gone"}, nil), []string{"gone !named_group~gone,group_unknown~gone"}},
		{"group with an address", explicit(nil, []string{"list"}, nil), []string{"list@example.org <named_group~list"}},
		{"everyone", explicit(nil, []string{"authenticated"}, nil), []string{
			"u1 <named_group~authenticated", "u2 <named_group~authenticated", "u3 <named_group~authenticated", "u4 <named_group~authenticated"}},
		{"addresses", explicit(nil, nil, []string{" X@Example.org ", "x@example.org"}), []string{"x@example.org <named_address"}},
		{"an address somebody has", explicit(nil, nil, []string{"u3@EXAMPLE.org"}), []string{"u3 <named_address"}},
		{"all reasons meet", append(explicit([]string{"u1"}, []string{"staff"}, nil), explicit([]string{"u1"}, nil, nil)...),
			[]string{"u1 <named_user,named_group~staff,named_user", "u2 <named_group~staff"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			want(t, one(t, w, event("c"), belfry.EventType{}, match(belfry.Subscription{Recipients: tc.rule})), tc.want...)
		})
	}
}

func TestGroupsTooDeep(t *testing.T) {
	w := newWorld().user("top", "last", "below")
	for i := range MaxDepth + 3 {
		w.group(fmt.Sprintf("g%02d", i), fmt.Sprintf("g%02d", i+1))
	}
	w.group("g00", "top").group(fmt.Sprintf("g%02d", MaxDepth-1), "last").group(fmt.Sprintf("g%02d", MaxDepth), "below")
	want(t, one(t, w, event(""), belfry.EventType{}, match(belfry.Subscription{Recipients: explicit(nil, []string{"g00"}, nil)})),
		"last <named_group~g00", "top <named_group~g00", "g32 !named_group~g00,group_too_deep~g32")
}

// feature: CPS-8 members; a join made at an object counts for its subtree only
// feature: S3-1 a group subscribes
func TestMembers(t *testing.T) {
	w := newWorld().object("c", "").object("f", "c").object("g", "c").user("u1", "u2", "u3", "u4", "u5").
		group("team", "u4", "u5").member("sub_1",
		belfry.Member{Principal: "u1"},
		belfry.Member{Principal: "u2", Object: "f", Channels: []string{"email"}},
		belfry.Member{Principal: "u3", Object: "g"},
		belfry.Member{Principal: "u4", Object: "g"}, belfry.Member{Principal: "u4"}, belfry.Member{Principal: "u4", Object: "f"},
		belfry.Member{Principal: "team", Object: "c"}, belfry.Member{Principal: "team"},
	)
	sub := match(belfry.Subscription{})
	want(t, one(t, w, event("f"), belfry.EventType{}, sub),
		"u1 <named_member", "u2 <named_member@f", "u4 <named_member@f,named_member~team@c", "u5 <named_member~team@c",
		"u3 !named_member@g,joined_elsewhere@g")
	p, err := Page(w, event("f"), []belfry.Match{sub}, belfry.EventType{}, noon, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Recipients {
		m := r.Via[0].Member
		if m == nil {
			t.Fatalf("%s: no member", r.Principal)
		}
		if wantP := map[string]string{"u5": "team"}[r.Principal]; wantP != "" && m.Principal != wantP || wantP == "" && m.Principal != r.Principal {
			t.Errorf("%s joined as %s", r.Principal, m.Principal)
		}
		if r.Principal == "u2" && !cmp.Equal(m.Channels, []string{"email"}) {
			t.Errorf("u2's channels %v", m.Channels)
		}
	}
	// A group that joined only elsewhere names nobody, and says so.
	w2 := newWorld().object("a", "").object("b", "").user("u1").group("team", "u1").member("sub_1", belfry.Member{Principal: "team", Object: "b"})
	want(t, one(t, w2, event("a"), belfry.EventType{}, sub), "u1 !named_member~team@b,joined_elsewhere@b")
}

// feature: CPS-11 roles, local and merged, blocking honoured
// feature: CPS-12 on the object, its container or the destination
func TestRoleRule(t *testing.T) {
	past, soon := noon.Add(-time.Hour), noon.Add(time.Hour)
	w := newWorld().
		object("cat", "").object("course", "cat").object("forum", "course").object("other", "cat").
		object("quiet", "cat", func(o *belfry.Object) { o.Blocks = []string{"teacher"} }).object("deep", "quiet").
		object("shut", "cat", func(o *belfry.Object) { o.Blocks = []string{"*"} }).
		user("t-root", "t-cat", "t-course", "t-forum", "m-cat", "t-quiet", "t-other", "g1", "g2").
		group("dept", "g1", "sub").group("sub", "g2").
		grant(Root, "teacher", "t-root").grant("cat", "teacher", "t-cat").grant("cat", "manager", "m-cat").
		grant("course", "teacher", "t-course").grant("forum", "teacher", "t-forum").grant("quiet", "teacher", "t-quiet").
		grant("other", "teacher", "t-other").grant("course", "assistant", "dept")
	w.grants["shut"] = []belfry.Grant{
		{Principal: "t-root", Role: "student", Inactive: "suspended enrolment"},
		{Principal: "t-cat", Role: "student", From: &soon},
		{Principal: "t-course", Role: "student", Until: &past},
		{Principal: "t-forum", Role: "student", From: &past, Until: &soon},
		{Principal: "t-quiet", Role: "student", Inactive: "left"}, {Principal: "t-quiet", Role: "student"},
	}
	tests := []struct {
		name   string
		object string
		dest   string
		flags  []string
		rules  []belfry.Rule
		want   []string
	}{
		{"local", "course", "", nil, []belfry.Rule{role("", "local", "teacher")}, []string{"t-course <named_role:teacher@course"}},
		{"merged is the default", "forum", "", nil, []belfry.Rule{role("", "", "teacher")}, []string{
			"t-cat <named_role:teacher@cat", "t-course <named_role:teacher@course", "t-forum <named_role:teacher@forum", "t-root <named_role:teacher@root"}},
		{"several roles", "cat", "", nil, []belfry.Rule{role("", "local", "teacher", "manager", "manager")}, []string{
			"m-cat <named_role:manager@cat", "t-cat <named_role:teacher@cat"}},
		{"a group holds the role", "course", "", nil, []belfry.Rule{role("", "", "assistant")}, []string{
			"g1 <named_role:assistant~dept@course", "g2 <named_role:assistant~dept@course"}},
		{"a blocked role is not inherited", "deep", "", nil, []belfry.Rule{role("", "", "teacher")}, []string{
			"t-quiet <named_role:teacher@quiet",
			"t-cat !named_role:teacher@cat,grant_blocked:teacher@quiet", "t-root !named_role:teacher@root,grant_blocked:teacher@quiet"}},
		{"blocking one role leaves others", "deep", "", nil, []belfry.Rule{role("", "", "manager")}, []string{"m-cat <named_role:manager@cat"}},
		{"blocking all", "shut", "", nil, []belfry.Rule{role("", "", "manager")}, []string{"m-cat !named_role:manager@cat,grant_blocked:manager@shut"}},
		{"the container", "forum", "", nil, []belfry.Rule{role("container", "local", "teacher")}, []string{"t-course <named_role:teacher@course"}},
		{"the root has no container", "", "", nil, []belfry.Rule{role("container", "", "teacher")}, nil},
		{"the destination", "forum", "other", nil, []belfry.Rule{role("destination", "local", "teacher")}, []string{"t-other <named_role:teacher@other"}},
		{"the destination, merged", "forum", "other", nil, []belfry.Rule{role("destination", "", "manager")}, []string{"m-cat <named_role:manager@cat"}},
		{"no destination", "forum", "", nil, []belfry.Rule{role("destination", "", "teacher")}, nil},
		{"validity", "shut", "", nil, []belfry.Rule{role("", "local", "student")}, []string{
			"t-forum <named_role:student@shut", "t-quiet <named_role:student@shut",
			"t-cat !named_role:student@shut,grant_inactive:student@shut", "t-course !named_role:student@shut,grant_inactive:student@shut",
			"t-root !named_role:student@shut,grant_inactive:student@shut"}},
		{"dropped by one rule, named by another", "shut", "", nil, append(explicit([]string{"t-root"}, nil, nil), role("", "local", "student")), []string{
			"t-forum <named_role:student@shut", "t-quiet <named_role:student@shut", "t-root <named_user",
			"t-cat !named_role:student@shut,grant_inactive:student@shut", "t-course !named_role:student@shut,grant_inactive:student@shut"}},
		// feature: CPS-13 notify_no_local and notify_local_only by event
		{"no local", "course", "", []string{"notify_no_local"}, append(explicit([]string{"t-course"}, nil, nil), role("", "", "teacher")), []string{
			"t-course <named_user",
			"t-cat !named_role:teacher@cat,flag_no_local", "t-root !named_role:teacher@root,flag_no_local"}},
		{"local only", "course", "", []string{"notify_local_only"}, []belfry.Rule{role("", "", "teacher")}, []string{
			"t-course <named_role:teacher@course",
			"t-cat !named_role:teacher@cat,flag_local_only", "t-root !named_role:teacher@root,flag_local_only"}},
		{"any role", "cat", "", nil, []belfry.Rule{role("", "local", "*")}, []string{"m-cat <named_role:manager@cat", "t-cat <named_role:teacher@cat"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			e := event(tc.object)
			e.Event.Destination, e.Event.Flags = tc.dest, tc.flags
			want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: tc.rules})), tc.want...)
		})
	}
}

func TestInactiveGrantSaysWhy(t *testing.T) {
	w := newWorld().object("c", "").user("u24")
	w.grants["c"] = []belfry.Grant{{Principal: "u24", Role: "student", Inactive: "enrolment ended"}}
	p, err := Page(w, event("c"), []belfry.Match{match(belfry.Subscription{Recipients: []belfry.Rule{role("", "", "student")}})}, belfry.EventType{}, noon, "", 0)
	if err != nil || len(p.Dropped) != 1 {
		t.Fatal(p, err)
	}
	if last := p.Dropped[0].Because[1]; last.Detail != "enrolment ended" || last.Text() != "the role is not active, role student, at c: enrolment ended" {
		t.Errorf("%+v: %s", last, last.Text())
	}
}

func TestRelatedRule(t *testing.T) {
	w := newWorld().user("user/1", "user/2", "7").email("user/2", "two@example.org").group("team", "user/1")
	rule := func(path string) []belfry.Rule { return []belfry.Rule{{Related: &belfry.RelatedRule{Path: path}}} }
	tests := []struct {
		name, path, data string
		related          []string
		want             []string
	}{
		{"the event's own list", "", ``, []string{"user/1", "user/1", "nobody"}, []string{"user/1 <named_related", "nobody !named_related,user_unknown"}},
		{"a string", "author", `{"author":"user/1"}`, nil, []string{"user/1 <named_related"}},
		{"a list", "doc.reviewers", `{"doc":{"reviewers":["user/1","user/2"]}}`, nil, []string{"user/1 <named_related", "user/2 <named_related"}},
		{"a field of each", "reviews.by", `{"reviews":[{"by":"user/1"},{"by":["user/2"]},{}]}`, nil, []string{"user/1 <named_related", "user/2 <named_related"}},
		{"written with data", "data.author", `{"author":"user/1"}`, nil, []string{"user/1 <named_related"}},
		{"numbers are text", "id", `{"id":7}`, nil, []string{"7 <named_related"}},
		{"addresses", "to", `{"to":["New@Example.org","two@example.org"]}`, nil, []string{"new@example.org <named_related", "user/2 <named_related"}},
		{"a group", "team", `{"team":"team"}`, nil, []string{"user/1 <named_related~team"}},
		{"other values name nobody", "a", `{"a":[true,null,{"b":1}," "]}`, nil, nil},
		{"what no store keeps names nobody", "to", `{"to":["a\u0000b","x\r\nBcc: y@example.org","` + strings.Repeat("x", 600) + `","user/1"]}`, nil,
			[]string{"user/1 <named_related", " !rule_fault"}},
		{"no such path", "x.y", `{"x":"z"}`, nil, nil},
		{"no data", "x", ``, nil, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			e := event("")
			e.Event.Related, e.Event.Data = tc.related, []byte(tc.data)
			want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: rule(tc.path)})), tc.want...)
		})
	}
}

// feature: CPS-7 the blacklist counts after groups are expanded, per subscription
func TestExclusionsAndActor(t *testing.T) {
	no := false
	w := newWorld().user("u1", "u2", "u3", "actor").email("u2", "Two@Example.org").group("all", "u1", "u2", "u3", "actor")
	w.users["u3"].User.Contacts = []belfry.Contact{{Kind: "email", Address: "THREE@example.org"}}
	rules := explicit(nil, []string{"all"}, []string{"out@example.org", "in@example.org"})
	excl := belfry.Exclusion{Users: []string{"u1"}, Emails: []string{"two@EXAMPLE.org ", "three@example.org", "Out@Example.org"}}
	e := event("")
	e.Event.Actor = "actor"
	want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: rules, Exclude: excl})),
		"in@example.org <named_address",
		"out@example.org !named_address,blacklisted",
		"actor !named_group~all,is_actor",
		"u1 !named_group~all,blacklisted", "u2 !named_group~all,blacklisted", "u3 !named_group~all,blacklisted")
	want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: rules, Exclude: excl}),
		match(belfry.Subscription{ID: "sub_2", Recipients: explicit([]string{"u1", "actor"}, nil, nil), ExcludeActor: &no})),
		"in@example.org <named_address", "actor <sub_2/named_user", "u1 <sub_2/named_user",
		"out@example.org !named_address,blacklisted",
		"u2 !named_group~all,blacklisted", "u3 !named_group~all,blacklisted")
	// Left out by each subscription for another reason: all are kept.
	want(t, one(t, w, e, belfry.EventType{},
		match(belfry.Subscription{Recipients: explicit([]string{"actor"}, nil, nil), Exclude: belfry.Exclusion{Users: []string{"actor"}}}),
		match(belfry.Subscription{ID: "sub_2", Recipients: explicit([]string{"actor"}, nil, nil)})),
		"actor !named_user,named_user,blacklisted,is_actor")
}

// feature: CPS-24 an opt-out holds whatever rule names somebody, for that subscription
func TestOptOuts(t *testing.T) {
	w := newWorld().user("u1", "u2", "u3").email("u3", "u3@example.org").grant(Root, "r", "u1", "u2").member("sub_1", belfry.Member{Principal: "u1"})
	w.outs["sub_1"] = []string{"u1", "gone@example.org", "u3@example.org", "nobody"}
	rules := append(explicit(nil, nil, []string{"gone@example.org", "kept@example.org", "u3@example.org"}), role("", "", "r"))
	want(t, one(t, w, event(""), belfry.EventType{}, match(belfry.Subscription{Recipients: rules, Exclude: belfry.Exclusion{Users: []string{"u1"}}})),
		"kept@example.org <named_address", "u2 <named_role:r@root",
		"gone@example.org !named_address,opted_out", "u1 !named_member,named_role:r@root,opted_out", "u3 !named_address,opted_out")
	want(t, one(t, w, event(""), belfry.EventType{}, match(belfry.Subscription{Recipients: rules}), match(belfry.Subscription{ID: "sub_2", Recipients: explicit([]string{"u1", "u3"}, nil, nil)})),
		"kept@example.org <named_address", "u1 <sub_2/named_user", "u2 <named_role:r@root", "u3 <sub_2/named_user",
		"gone@example.org !named_address,opted_out")
}

// Addresses end in any character, and are asked for as text that a database takes.
func TestOptOutsOfAnyAlphabet(t *testing.T) {
	w := newWorld()
	w.outs["sub_1"] = []string{"ana@example.é"}
	want(t, one(t, w, event(""), belfry.EventType{}, match(belfry.Subscription{Recipients: explicit(nil, nil, []string{"ana@example.é", "ana@example.рф"})})),
		"ana@example.рф <named_address", "ana@example.é !named_address,opted_out")
}

// feature: NEW-1 everybody a rule names is told or dropped with the reason
func TestStates(t *testing.T) {
	w := newWorld().user("a").state(belfry.UserSuspended, "s").state(belfry.UserDeleted, "d").email("d", "d@example.org")
	want(t, one(t, w, event(""), belfry.EventType{}, match(belfry.Subscription{Recipients: explicit([]string{"a", "s"}, nil, []string{"d@example.org"})})),
		"a <named_user", "d !named_address,user_deleted", "s !named_user,user_suspended")
}

// feature: NEW-4 permission is checked at planning
// feature: S3-11 nobody hears of what they may not see
func TestVisibility(t *testing.T) {
	hide := func(o *belfry.Object) { o.Hidden = true }
	build := func(hidden bool) *world {
		w := newWorld().object("cat", "").object("f", "c").
			user("teacher", "student", "ended", "cat-manager", "stranger", "in-group").group("g", "in-group").
			address("g", "g@example.org").
			grant("c", "teacher", "teacher").grant("c", "student", "student").grant("cat", "manager", "cat-manager").grant("c", "student", "g")
		w.object("c", "cat")
		if hidden {
			w.object("c", "cat", hide)
		}
		w.grants["c"] = append(w.grants["c"], belfry.Grant{Principal: "ended", Role: "student", Inactive: "suspended enrolment"})
		return w
	}
	all := match(belfry.Subscription{Recipients: explicit([]string{"teacher", "student", "ended", "cat-manager", "stranger", "in-group"}, []string{"g"}, []string{"x@example.org"}),
		Notify: []belfry.Notify{{}, {Endpoint: "ep_1"}}})
	t.Run("hidden above", func(t *testing.T) {
		want(t, one(t, build(true), event("f"), belfry.EventType{}, all),
			"ep_1 <named_endpoint", "g@example.org <named_group~g",
			"cat-manager <named_user", "in-group <named_user", "student <named_user", "teacher <named_user",
			"x@example.org !named_address,object_hidden@c",
			"ended !named_user,object_hidden@c", "stranger !named_user,object_hidden@c")
	})
	t.Run("roles needed", func(t *testing.T) {
		want(t, one(t, build(false), event("f"), belfry.EventType{SeeRoles: []string{"teacher", "manager"}}, all),
			"ep_1 <named_endpoint", "cat-manager <named_user", "teacher <named_user",
			"g@example.org !named_group~g,may_not_see@f", "x@example.org !named_address,may_not_see@f",
			"ended !named_user,may_not_see@f", "in-group !named_user,may_not_see@f", "stranger !named_user,may_not_see@f", "student !named_user,may_not_see@f")
	})
	t.Run("any role needed", func(t *testing.T) {
		want(t, one(t, build(false), event("f"), belfry.EventType{SeeRoles: []string{"*"}}, all),
			"ep_1 <named_endpoint", "g@example.org <named_group~g",
			"cat-manager <named_user", "in-group <named_user", "student <named_user", "teacher <named_user",
			"x@example.org !named_address,may_not_see@f",
			"ended !named_user,may_not_see@f", "stranger !named_user,may_not_see@f")
	})
	t.Run("blocked roles do not see", func(t *testing.T) {
		w := build(true)
		c := w.objects["c"]
		c.Blocks = []string{"manager"}
		w.objects["c"] = c
		want(t, one(t, w, event("f"), belfry.EventType{}, match(belfry.Subscription{Recipients: explicit([]string{"cat-manager"}, nil, nil)})),
			"cat-manager !named_user,object_hidden@c")
	})
	t.Run("everybody holds a role", func(t *testing.T) {
		w := build(true).grant(Root, "guest", belfry.GroupAuthenticated)
		want(t, one(t, w, event("f"), belfry.EventType{}, match(belfry.Subscription{Recipients: explicit([]string{"stranger"}, nil, nil)})), "stranger <named_user")
	})
	t.Run("the reason of an inactive role is told", func(t *testing.T) {
		p, err := Page(build(true), event("f"), []belfry.Match{match(belfry.Subscription{Recipients: explicit([]string{"ended"}, nil, nil)})}, belfry.EventType{}, noon, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Dropped[0].Because[1].Detail; got != "role student at c: suspended enrolment" {
			t.Error(got)
		}
	})
}

func TestSilent(t *testing.T) {
	w := newWorld().user("u1")
	e := event("")
	e.Event.Flags = []string{belfry.FlagSilent}
	want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: explicit([]string{"u1", "ghost"}, nil, []string{"x@y.org"}), Notify: []belfry.Notify{{}, {Endpoint: "ep_1"}}})),
		"ep_1 !named_endpoint,event_silent", "x@y.org !named_address,event_silent", "ghost !named_user,user_unknown", "u1 !named_user,event_silent")
}

func TestEndpoints(t *testing.T) {
	no := false
	w := newWorld().user("u1")
	sub := func(id string, merge *bool, n ...belfry.Notify) belfry.Match {
		return match(belfry.Subscription{ID: id, Merge: merge, Notify: n, Recipients: explicit([]string{"u1"}, nil, nil)})
	}
	call := belfry.Notify{Endpoint: "ep_1"}
	want(t, one(t, w, event(""), belfry.EventType{}, sub("b", nil, call), sub("a", nil, call, belfry.Notify{Endpoint: "ep_0"}), sub("c", &no, call)),
		"ep_0 <a/named_endpoint", "ep_1 <a/named_endpoint <b/named_endpoint", "ep_1 <c/named_endpoint")
	// Both in one: the endpoint is called and people are told.
	want(t, one(t, w, event(""), belfry.EventType{}, sub("a", nil, belfry.Notify{Endpoint: "ep_1", Channels: []string{"inbox"}})),
		"ep_1 <a/named_endpoint", "u1 <a/named_user")
}

// The leading subscription: mandatory first, then joined by herself, then
// closest scope, most specific type, oldest.
func TestLeadingSubscription(t *testing.T) {
	no := false
	w := newWorld().user("u").member("joined", belfry.Member{Principal: "u"})
	sub := func(id string, edit func(*belfry.Match)) belfry.Match {
		m := match(belfry.Subscription{ID: id, Recipients: explicit([]string{"u"}, nil, nil), Created: noon})
		m.Distance, m.Pattern = 2, "core.*"
		edit(&m)
		return m
	}
	got := one(t, w, event(""), belfry.EventType{},
		sub("z-younger", func(m *belfry.Match) { m.Subscription.Created = noon.Add(time.Hour) }),
		sub("apart", func(m *belfry.Match) { m.Subscription.Merge = &no }),
		sub("every", func(m *belfry.Match) { m.Pattern = "" }),
		sub("longer", func(m *belfry.Match) { m.Pattern = "core.course_*" }),
		sub("exact", func(m *belfry.Match) { m.Pattern = "core.course_updated" }),
		sub("close", func(m *belfry.Match) { m.Distance = 0 }),
		sub("joined", func(m *belfry.Match) { m.Distance = 9; m.Subscription.Recipients = nil }),
		sub("mandatory", func(m *belfry.Match) { m.Distance = 9; m.Subscription.Mandatory = true }),
		sub("b-old", func(*belfry.Match) {}), sub("a-old", func(*belfry.Match) {}),
	)
	want(t, got, "u <mandatory/named_user <joined/named_member <close/named_user <exact/named_user <longer/named_user <a-old/named_user <b-old/named_user <z-younger/named_user <every/named_user",
		"u <apart/named_user")
}

func TestFaultsPassThrough(t *testing.T) {
	w := newWorld()
	w.fail = errors.New("the disk is away")
	if _, err := Page(w, event("c"), nil, belfry.EventType{}, noon, "", 0); !errors.Is(err, w.fail) {
		t.Error(err)
	}
	if _, err := Page(newWorld(), event("c"), nil, belfry.EventType{}, noon, "nonsense", 0); belfry.KindOf(err) != belfry.Internal {
		t.Error(err)
	}
	if p, err := Page(newWorld(), event("c"), nil, belfry.EventType{}, noon, "", 0); err != nil || !p.Last || p.Next == "" || len(p.Ancestors) != 2 {
		t.Error(p, err)
	}
	if p, err := Page(newWorld(), event("c"), nil, belfry.EventType{}, noon, cursorEnd, 0); err != nil || !p.Last {
		t.Error(p, err)
	}
}

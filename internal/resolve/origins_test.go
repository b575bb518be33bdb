package resolve

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

func typed(typ string) func(*belfry.Object) { return func(o *belfry.Object) { o.Type = typ } }

// feature: CPS-11 roles on the closest ancestor of the given types; a farther one is never tried
func TestAncestorOrigins(t *testing.T) {
	w := newWorld().
		object("site", "", typed("site")).object("outer", "site", typed("thread")).object("inner", "outer", typed("thread")).
		object("post", "inner", typed("post")).object("reply", "post", typed("post")).object("note", "reply", typed("note")).
		object("shut", "outer", typed("thread"), func(o *belfry.Object) { o.Blocks = []string{"moderator"} }).object("under", "shut", typed("post")).
		user("m-site", "m-outer", "m-shut", "o-inner", "o-post", "o-reply", "o-note").
		grant("site", "moderator", "m-site").grant("outer", "moderator", "m-outer").grant("shut", "moderator", "m-shut").
		grant("inner", "owner", "o-inner").grant("post", "owner", "o-post").grant("reply", "owner", "o-reply").grant("note", "owner", "o-note")
	rule := func(role string, types []string, origins ...string) []belfry.Rule {
		return []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{role}, Origins: origins, AncestorTypes: types}}}
	}
	tests := []struct {
		name, object string
		flags        []string
		rules        []belfry.Rule
		want         []string
	}{
		// Use case 8 of CPS: whoever wrote the post is told of the reply.
		{"the closest post above a reply", "note", nil, rule("owner", []string{"post"}, "ancestor_local"), []string{"o-reply <named_role:owner@reply"}},
		{"the object itself is not its ancestor", "reply", nil, rule("owner", []string{"post"}, "ancestor_local"), []string{"o-post <named_role:owner@post"}},
		{"the closest of several types", "note", nil, rule("owner", []string{"thread", "post"}, "ancestor_local"), []string{"o-reply <named_role:owner@reply"}},
		{"a farther one is not tried", "post", nil, rule("moderator", []string{"thread"}, "ancestor_local"), nil},
		{"no such ancestor", "post", nil, rule("owner", []string{"wiki"}, "ancestor_local"), nil},
		{"merged from the ancestor on", "post", nil, rule("moderator", []string{"thread"}, "ancestor_merged"), []string{
			"m-outer <named_role:moderator@outer", "m-site <named_role:moderator@site"}},
		{"blocking on the ancestor is honoured", "under", nil, rule("moderator", []string{"thread"}, "ancestor_merged"), []string{
			"m-shut <named_role:moderator@shut",
			"m-outer !named_role:moderator@outer,grant_blocked:moderator@shut", "m-site !named_role:moderator@site,grant_blocked:moderator@shut"}},
		{"blocking below the ancestor is not in its way", "under", nil, rule("moderator", []string{"site"}, "ancestor_local", "merged"), []string{
			"m-shut <named_role:moderator@shut", "m-site <named_role:moderator@site",
			"m-outer !named_role:moderator@outer,grant_blocked:moderator@shut"}},
		{"the union of origins", "note", nil, rule("owner", []string{"thread"}, "local", "ancestor_local"), []string{
			"o-inner <named_role:owner@inner", "o-note <named_role:owner@note"}},
		// feature: CPS-13 notify_local_only reduces merged to local, there as well
		{"local only", "post", []string{belfry.FlagLocalOnly}, rule("owner", []string{"thread"}, "ancestor_merged"), []string{"o-inner <named_role:owner@inner"}},
		{"no local", "note", []string{belfry.FlagNoLocal}, rule("owner", []string{"post"}, "ancestor_local"), []string{"o-reply !named_role:owner@reply,flag_no_local"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			e := event(tc.object)
			e.Event.Flags = tc.flags
			want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: tc.rules})), tc.want...)
		})
	}
}

// feature: CPS-14 workflow-implied recipients: origins, transitions, last and all, variables, local and global history
func TestWorkflowRule(t *testing.T) {
	w := newWorld().user("author", "editor", "reader", "boss", "rev1", "rev2", "other").state(belfry.UserDeleted, "gone").email("rev2", "rev2@example.org").
		group("board", "rev1", "rev2").
		object("folder", "", typed("folder")).object("work", "folder", func(o *belfry.Object) { o.Type, o.Document = "doc", "d1" }).
		object("section", "", typed("section")).object("copy", "section", func(o *belfry.Object) { o.Type, o.Document = "doc", "d1" }).
		object("plain", "folder", typed("doc")).object("part", "plain", typed("part")).
		step("work", "create", "author").
		step("folder", "grant", "boss").
		step("work", "modify", "editor", `{"reviewers":["rev1","rev2@example.org","rev1",7],"stack":{"next":"boss"},"team":"board","none":null}`).
		step("work", "comment", "reader").
		step("copy", "submit", "gone").
		step("work", "view", "reader")
	rule := func(r belfry.WorkflowRule) []belfry.Rule { return []belfry.Rule{{Workflow: &r}} }
	later := noon.Add(time.Hour)
	tests := []struct {
		name   string
		object string
		own    string // the event's own transition, by other
		at     time.Time
		rule   belfry.WorkflowRule
		want   []string
	}{
		{"last of all by default", "work", "", later, belfry.WorkflowRule{}, []string{"reader <named_workflow@work"}},
		{"last of the named ones is one entry, not one a name", "work", "", later, belfry.WorkflowRule{Transitions: []string{"create", "modify"}},
			[]string{"editor <named_workflow@work"}},
		{"all of the named ones", "work", "", later, belfry.WorkflowRule{Transitions: []string{"create", "modify"}, Lookup: "all"},
			[]string{"author <named_workflow@work", "editor <named_workflow@work"}},
		{"who did the last edit", "work", "", later, belfry.WorkflowRule{Transitions: []string{"-", "comment", "view"}}, []string{"editor <named_workflow@work"}},
		{"only - is all", "work", "", later, belfry.WorkflowRule{Transitions: []string{"-"}}, []string{"reader <named_workflow@work"}},
		{"* among names is all", "work", "", later, belfry.WorkflowRule{Transitions: []string{"create", "*"}}, []string{"reader <named_workflow@work"}},
		{"everybody who ever did anything here, once", "work", "", later, belfry.WorkflowRule{Lookup: "all"},
			[]string{"author <named_workflow@work", "editor <named_workflow@work", "reader <named_workflow@work,named_workflow@work"}},
		{"the event's own step is the last", "work", "publish", later, belfry.WorkflowRule{}, []string{"other <named_workflow@work"}},
		{"also when it comes late", "work", "publish", noon.Add(30 * time.Second), belfry.WorkflowRule{}, []string{"reader <named_workflow@work"}},
		{"it is of its own object only", "part", "publish", later, belfry.WorkflowRule{Origins: []string{"container"}}, nil},
		{"no history names nobody", "plain", "", later, belfry.WorkflowRule{Lookup: "all"}, nil},
		{"a variable that is a list, with a number", "work", "", later, belfry.WorkflowRule{Transitions: []string{"modify"}, Variables: []string{"reviewers"}},
			[]string{"rev1 <named_workflow@work", "rev2 <named_workflow@work", "7 !named_workflow@work,user_unknown"}},
		{"a stack in a variable", "work", "", later, belfry.WorkflowRule{Transitions: []string{"modify"}, Variables: []string{"stack.next", "actor"}},
			[]string{"boss <named_workflow@work", "editor <named_workflow@work"}},
		{"a group in a variable", "work", "", later, belfry.WorkflowRule{Transitions: []string{"modify"}, Variables: []string{"team"}},
			[]string{"rev1 <named_workflow~board@work", "rev2 <named_workflow~board@work"}},
		{"missing and empty variables name nobody", "work", "", later, belfry.WorkflowRule{Transitions: []string{"modify"}, Variables: []string{"none", "missing"}}, nil},
		{"the container's history", "work", "", later, belfry.WorkflowRule{Origins: []string{"container"}}, []string{"boss <named_workflow@folder"}},
		{"the closest ancestor's", "part", "", later, belfry.WorkflowRule{Origins: []string{"ancestor"}, AncestorTypes: []string{"folder"}},
			[]string{"boss <named_workflow@folder"}},
		{"a container that is the ancestor is read once", "work", "", later,
			belfry.WorkflowRule{Origins: []string{"container", "ancestor"}, AncestorTypes: []string{"folder"}}, []string{"boss <named_workflow@folder"}},
		{"local history of a copy", "copy", "", later, belfry.WorkflowRule{Transitions: []string{"create"}}, nil},
		{"global history: who wrote the original", "copy", "", later, belfry.WorkflowRule{Transitions: []string{"create"}, History: "global"},
			[]string{"author <named_workflow@work"}},
		{"a deleted user is named and dropped", "copy", "", later, belfry.WorkflowRule{}, []string{"gone !named_workflow@copy,user_deleted"}},
		{"global without a document is local", "part", "", later, belfry.WorkflowRule{History: "global", Lookup: "all"}, nil},
	}
	for _, tc := range tests {
		for _, chunk := range []int{0, 1} { // the history in one piece and step by step
			t.Run(fmt.Sprint(tc.name, " ", chunk), func(t *testing.T) {
				w.chunk = chunk
				e := event(tc.object)
				e.Event.Time = tc.at
				if tc.own != "" {
					e.Event.Transition, e.Event.Actor = tc.own, "other"
				}
				no := false
				want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: rule(tc.rule), ExcludeActor: &no})), tc.want...)
			})
		}
	}
}

// A history that has gone on meanwhile does not change who is told of an event.
func TestWorkflowOfTheMoment(t *testing.T) {
	w := newWorld().user("u1", "u2").object("o", "").step("o", "submit", "u1").step("o", "submit", "u2")
	e := event("o")
	e.EventID, e.Event.Time = w.steps[1].event, noon
	want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: []belfry.Rule{{Workflow: &belfry.WorkflowRule{}}}})), "u1 <named_workflow@o")
}

func TestLongHistoryIsCutAndSaysSo(t *testing.T) {
	w := newWorld().user("first").object("o", "").step("o", "create", "first")
	for range MaxSteps {
		w.steps = append(w.steps, step{fmt.Sprintf("evt_0%05d", len(w.steps)+9000), belfry.HistoryEntry{Object: "o", Transition: "view", Time: noon}})
	}
	sub := match(belfry.Subscription{Recipients: []belfry.Rule{{Workflow: &belfry.WorkflowRule{Transitions: []string{"create"}}}}})
	w.chunk = 2500
	e := event("o")
	e.EventID = "evt_9"
	want(t, one(t, w, e, belfry.EventType{}, sub), " !rule_cut@o")
}

// feature: CPS-15 computed recipients by expression with the full namespace
func TestComputedRule(t *testing.T) {
	w := newWorld().user("user/1", "user/2", "user/3").email("user/2", "two@example.org").group("team", "user/1", "user/3").
		object("cat", "", typed("category")).
		object("course", "cat", typed("course"), func(o *belfry.Object) { o.Attributes = []byte(`{"tutor":"user/3"}`) }).
		object("forum", "course", typed("forum"), func(o *belfry.Object) { o.Document, o.Title = "doc-7", "News" })
	w.users["user/1"].User.Attributes = []byte(`{"manager":"user/2"}`)
	tests := []struct {
		expression string
		data       string
		want       []string
	}{
		{`event.data.reviewers.map(r, 'user/' + string(r))`, `{"reviewers":[1,2]}`, []string{"user/1 <named_computed", "user/2 <named_computed"}},
		{`'user/1'`, ``, []string{"user/1 <named_computed"}},
		{`event.data.who`, `{"who":"user/3"}`, []string{"user/3 <named_computed"}},
		{`actor`, ``, []string{"user/1 <named_computed"}},
		{`[actor.attributes.manager, event.actor]`, ``, []string{"user/1 <named_computed", "user/2 <named_computed"}},
		{`related`, ``, []string{"user/3 <named_computed"}},
		{`[ancestor.attributes.tutor]`, ``, []string{"user/3 <named_computed"}},
		{`container.type == 'course' && document == 'doc-7' && object.title == 'News' && ancestors[2] == 'cat' && now > event.time ? ['user/2'] : []`, ``,
			[]string{"user/2 <named_computed"}},
		{`record.submissions.filter(s, s.status == 'draft').map(s, 'user/' + string(s.userid))`, ``, []string{"user/2 <named_computed"}},
		{`'team'`, ``, []string{"user/1 <named_computed~team", "user/3 <named_computed~team"}},
		{`['New@Example.org', 'TWO@example.org']`, ``, []string{"new@example.org <named_computed", "user/2 <named_computed"}},
		{`['user/1', 'user/1', '']`, ``, []string{"user/1 <named_computed"}},
		{`[['user/1'], ['user/2']]`, ``, []string{"user/1 <named_computed", "user/2 <named_computed"}},
		{`['nobody']`, ``, []string{"nobody !named_computed,user_unknown"}},
		{`[event.data.who, event.data.who + '@example.org', 'user/1']`, `{"who":"n\u0000body"}`, []string{"user/1 <named_computed", " !rule_fault"}},
		{`event.data.to`, `{"to":[7,"user/1",["user/2",true]]}`, []string{"user/1 <named_computed", "user/2 <named_computed", " !rule_fault"}},
		{`event.data.missing`, `{}`, nil},
		{`[]`, ``, nil},
		{`null`, ``, nil},
		{`event.data.n`, `{"n":null}`, nil},
		{`event.data.n`, `{"n":7}`, []string{" !rule_fault"}},
		{`[event.data.n / event.data.m]`, `{"n":"x","m":2}`, []string{" !rule_fault"}},
		{`event.data.many.map(a, event.data.many.map(b, event.data.many.map(c, a + b + c)))`, `{"many":["` + strings.Repeat(`x","`, 200) + `x"]}`, []string{" !rule_fault"}},
		{`[string(bytes([]))]`, ``, []string{" !rule_fault"}}, // was never saved: it does not compile
	}
	for _, tc := range tests {
		t.Run(tc.expression, func(t *testing.T) {
			e := event("forum")
			e.Event.Actor, e.Event.Related, e.Event.Time = "user/1", []string{"user/3"}, noon.Add(-time.Hour)
			e.Event.Data = []byte(tc.data)
			e.Event.Record = []byte(`{"submissions":[{"userid":1,"status":"submitted"},{"userid":2,"status":"draft"}]}`)
			no := false
			rules := []belfry.Rule{{Computed: &belfry.ComputedRule{Expression: tc.expression, AncestorTypes: []string{"course"}}}}
			want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: rules, ExcludeActor: &no})), tc.want...)
		})
	}
}

// Of an anonymous event no expression learns the actor.
func TestComputedRuleOfAnAnonymousEvent(t *testing.T) {
	w := newWorld().user("user/1").object("o", "")
	e := event("o")
	e.Event.Actor, e.Event.Flags = "user/1", []string{belfry.FlagAnonymous}
	no := false
	rules := []belfry.Rule{{Computed: &belfry.ComputedRule{Expression: "[actor.id, event.actor]"}}, {Computed: &belfry.ComputedRule{Expression: "actor"}}}
	want(t, one(t, w, e, belfry.EventType{}, match(belfry.Subscription{Recipients: rules, ExcludeActor: &no})))
}

// A rule that yields very many is cut, and what is left out is recorded; the
// fault is on the first page alone.
func TestComputedRuleIsCutAndPaged(t *testing.T) {
	w := newWorld().object("o", "")
	e := event("o")
	var ids strings.Builder
	for i := range 20_100 {
		fmt.Fprintf(&ids, `,"%d"`, i)
	}
	e.Event.Data = []byte(`{"to":[` + ids.String()[1:] + `]}`)
	sub := match(belfry.Subscription{Recipients: []belfry.Rule{{Computed: &belfry.ComputedRule{Expression: "event.data.to"}}}})
	dropped, cuts, cursor := 0, 0, ""
	for {
		p, err := Page(w, e, []belfry.Match{sub}, belfry.EventType{}, noon, cursor, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range p.Dropped {
			if last := d.Because[len(d.Because)-1]; last.Code == belfry.RuleCut {
				cuts++
				if last.Detail != "20000 are taken, 100 are left out" || last.Rule != 1 {
					t.Errorf("%+v", last)
				}
				continue
			}
			dropped++
		}
		if p.Last {
			break
		}
		cursor = p.Next
	}
	if dropped != 20_000 || cuts != 1 {
		t.Errorf("%d people, %d cuts", dropped, cuts)
	}
}

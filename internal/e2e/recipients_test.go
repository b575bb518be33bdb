package e2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/config"
)

// The tables of CPS's subscriptions that say whom a rule names: its explicit,
// role and computed rules (2.5), merged roles and the two flags (2.6), and the
// people of a workflow (2.7), less their defects, on the whole program: who has
// it in the inbox or by mail in the end, and what the trace, and the explanation
// before it, say of everybody who was named.
//
// feature: CPS-7, CPS-8, CPS-9, CPS-11, CPS-13, CPS-14, CPS-15, CPS-24, CPS-27
func TestRecipientsOfCPS(t *testing.T) {
	h := newHouse(t, func(*testing.T, *config.Config) {})
	people := strings.Fields("ada ben cid dee eve fay gus hal ivy joe kim lea")
	var users []m
	for _, id := range people {
		users = append(users, m{"id": id, "name": strings.ToUpper(id[:1]) + id[1:]})
	}
	users = append(users, m{"id": "gone"}, m{"id": "mia", "email": "Mia@Example.org"})
	h.call(http.MethodPost, "/v1/users:batch", users, nil)
	h.call(http.MethodPost, "/v1/groups:batch", []m{
		{"id": "vanished", "members": []string{"kim"}}, {"id": "editors", "members": []string{"ada", "inner", "gone", "vanished"}}, {"id": "inner", "members": []string{"ben"}},
		{"id": "list", "members": []string{"cid"}, "address": "list@example.org"}, {"id": "pair", "members": []string{"gus", "hal"}},
	}, nil)
	h.call(http.MethodDelete, "/v1/users/gone", nil, nil)
	h.call(http.MethodDelete, "/v1/groups/vanished", nil, nil)
	h.call(http.MethodPost, "/v1/objects:batch", []m{
		{"id": "site", "type": "site"}, {"id": "news", "type": "section", "parent": "site"}, {"id": "newsletter", "type": "section", "parent": "site"},
		{"id": "news/today", "type": "section", "parent": "news"}, {"id": "news/today/doc", "type": "doc", "parent": "news/today"},
		{"id": "quiet", "type": "section", "parent": "site", "blocks": []string{"reader"}}, {"id": "quiet/in", "type": "section", "parent": "quiet"},
		{"id": "shut", "type": "section", "parent": "site", "blocks": []string{"*"}}, {"id": "shut/in", "type": "section", "parent": "shut"},
		{"id": "forum", "type": "forum", "parent": "site"}, {"id": "thread", "type": "thread", "parent": "forum"}, {"id": "post", "type": "post", "parent": "thread"},
		{"id": "reply", "type": "post", "parent": "post"}, {"id": "note", "type": "note", "parent": "reply"},
		{"id": "folder", "type": "section", "parent": "site"}, {"id": "folder/page", "type": "doc", "parent": "folder"},
		{"id": "folder/sub", "type": "section", "parent": "folder"}, {"id": "folder/sub/page", "type": "doc", "parent": "folder/sub"},
		{"id": "work", "type": "doc", "parent": "folder", "document": "d1"}, {"id": "copy", "type": "doc", "parent": "news", "document": "d1"},
		{"id": "part", "type": "part", "parent": "work"}, {"id": "plain", "type": "doc", "parent": "site"},
	}, nil)
	grants := func(object string, of ...string) m {
		var list []m
		for _, g := range of {
			who, role, _ := strings.Cut(g, ":")
			role, inactive, _ := strings.Cut(role, "!")
			list = append(list, m{"principal": who, "role": role, "inactive": inactive})
		}
		return m{"object": object, "grants": list}
	}
	h.call(http.MethodPost, "/v1/grants:batch", []m{
		grants("root", "joe:reader", "eve:both"), grants("site", "ada:reader", "kim:owner", "ada:editor"), grants("news", "ben:reader", "pair:reader", "ben:editor"),
		grants("news/today", "cid:reader", "dee:reader!suspended", "cid:editor", "eve:both"),
		grants("news/today/doc", "cid:reader", "list:listed", "authenticated:public"),
		grants("quiet", "fay:reader"), grants("shut", "ivy:writer"), grants("forum", "fay:mod"), grants("thread", "gus:owner"), grants("post", "hal:owner"), grants("reply", "ivy:owner"), grants("note", "joe:owner"),
		grants("folder", "ben:reader"), grants("folder/page", "cid:reader"), grants("folder/sub", "dee:reader"), grants("folder/sub/page", "eve:reader"),
	}, nil)
	h.call(http.MethodPut, "/v1/objects/folder/settings", m{"flags": []string{"notify_no_local", "notify_local_only"}}, nil)
	step := func(object, transition, actor string, variables any, minute int) m {
		s := m{"object": object, "transition": transition, "actor": actor, "time": fmt.Sprintf("2026-01-01T00:%02d:00Z", minute)}
		if variables != nil {
			s["variables"] = variables
		}
		return s
	}
	h.call(http.MethodPost, "/v1/history:batch", []m{
		step("work", "create", "ada", nil, 1), step("folder", "grant", "kim", nil, 2),
		step("work", "modify", "ben", m{"reviewers": []any{"gus", "mia@example.org", "gus", 7}, "stack": m{"next": "kim"}, "team": "pair", "none": nil}, 3),
		step("work", "comment", "cid", nil, 4), step("copy", "submit", "gone", nil, 5), step("work", "view", "cid", nil, 6),
	}, nil)

	type row struct {
		name    string
		at      string
		rule    m
		more    m                 // of the subscription
		event   m                 // of the event
		members []m               // of the subscription
		leaves  string            // opts out
		want    map[string]string // by person or address; told, or the reasons of why not
	}
	explicit := func(e m) m { return m{"explicit": e} }
	role := func(role, origin string, types ...string) m {
		r := m{"roles": []string{role}}
		if origin != "" {
			r["origins"] = strings.Fields(origin)
		}
		if len(types) > 0 {
			r["ancestor_types"] = types
		}
		return m{"role": r}
	}
	work := func(w m) m { return m{"workflow": w} }
	told := func(who ...string) map[string]string {
		out := map[string]string{}
		for _, w := range who {
			out[w] = belfry.Told
		}
		return out
	}
	and := func(a map[string]string, pairs ...string) map[string]string {
		for i := 0; i+1 < len(pairs); i += 2 {
			a[pairs[i]] = pairs[i+1]
		}
		return a
	}
	everybody := told(append(people, "mia")...)
	rows := []row{
		{name: "2.5 who joined at a section hears of what is below it", at: "news/today/doc", members: []m{{"principal": "ada", "object": "news"}}, want: told("ada")},
		{name: "2.5 and not of what is merely called alike", at: "newsletter", members: []m{{"principal": "ada", "object": "news"}}, want: map[string]string{"ada": "named_member joined_elsewhere"}},
		{name: "2.5 joined at several sections is joined once", at: "news/today", members: []m{{"principal": "ada", "object": "news"}, {"principal": "ada", "object": "news/today"}}, want: told("ada")},
		{name: "2.5 members of groups, and of groups in them; who vanished is recorded", at: "news", rule: explicit(m{"groups": []string{"editors"}}),
			want: and(told("ada", "ben"), "gone", "named_group user_deleted", "vanished", "named_group user_unknown")},
		{name: "2.5 addresses are for the whole scope", at: "news/today/doc", rule: explicit(m{"emails": []string{"x@example.org"}}), more: m{"scope": m{"object": "site"}}, want: told("x@example.org")},
		{name: "2.5 addresses that differ in case are one", at: "news", rule: explicit(m{"emails": []string{"X@Example.org", "x@example.ORG"}}), want: told("x@example.org")},
		{name: "2.5 a group's own address instead of its members", at: "news", rule: explicit(m{"groups": []string{"list"}}), want: told("list@example.org")},
		{name: "2.5 the blacklist holds for group addresses as well", at: "news", rule: explicit(m{"groups": []string{"list"}}), more: m{"exclude": m{"emails": []string{"LIST@example.org"}}},
			want: map[string]string{"list@example.org": "named_group blacklisted"}},
		{name: "2.5 the flags do not touch explicit rules", at: "folder", rule: explicit(m{"users": []string{"ada"}, "groups": []string{"pair"}}), event: m{"flags": []string{"notify_no_local", "notify_local_only"}}, want: told("ada", "gus", "hal")},
		{name: "2.5 roles on the object's container", at: "news/today/doc", rule: m{"role": m{"roles": []string{"editor"}, "on": "container", "origins": []string{"local"}}}, want: told("cid")},
		{name: "2.5 a place's own events tell no roles; the list is told", at: "folder", rule: role("reader", ""), more: m{"recipients": []m{role("reader", ""), explicit(m{"users": []string{"lea"}})}},
			want: and(told("lea"), "ada", "named_role place_no_local", "ben", "named_role place_no_local", "joe", "named_role place_no_local")},
		{name: "2.5 nor what happens directly in it", at: "folder/page", rule: role("reader", "local"), want: map[string]string{"cid": "named_role place_no_local"}},
		{name: "2.5 in its sub-folders roles are told, the local ones", at: "folder/sub/page", rule: role("reader", ""),
			want: and(told("eve"), "dee", "named_role place_local_only", "ben", "named_role place_local_only", "ada", "named_role place_local_only", "joe", "named_role place_local_only")},
		{name: "2.5 a group that holds the role", at: "news", rule: role("reader", "local"), want: told("ben", "gus", "hal")},
		{name: "2.5 a group with an address that holds the role", at: "news/today/doc", rule: role("listed", ""), want: told("list@example.org")},
		{name: "2.5 everybody who is known holds the role", at: "news/today/doc", rule: role("public", ""), want: everybody},
		{name: "2.5 who opted out of a role's messages", at: "news", rule: role("reader", "local"), more: m{"joining": m{"who": "members", "greet": false}}, leaves: "gus",
			want: and(told("ben", "hal"), "gus", "named_role opted_out")},
		{name: "2.5 an expression names people, groups and addresses", at: "news", rule: m{"computed": m{"expression": "event.data.to"}}, event: m{"data": m{"to": []string{"ada", "pair", "new@example.org", "MIA@example.org"}}},
			want: told("ada", "gus", "hal", "new@example.org", "mia")},
		{name: "2.5 an expression that gives no names is recorded, and the other rules are told", at: "news", event: m{"data": m{"to": 7}},
			more: m{"recipients": []m{{"computed": m{"expression": "event.data.to"}}, explicit(m{"users": []string{"ada"}})}}, want: and(told("ada"), "", "rule_fault")},

		{name: "2.6 local", at: "news/today", rule: role("reader", "local"), want: and(told("cid"), "dee", "named_role grant_inactive")},
		{name: "2.6 merged: up to the root", at: "news/today", rule: role("reader", "merged"), want: and(told("cid", "ben", "gus", "hal", "ada", "joe"), "dee", "named_role grant_inactive")},
		{name: "2.6 several roles are united, who has it at several levels is told once", at: "news/today/doc", rule: m{"role": m{"roles": []string{"editor", "both"}}}, want: told("ada", "ben", "cid", "eve")},
		{name: "2.6 a role that is blocked is not inherited", at: "quiet/in", rule: role("reader", ""), want: and(told("fay"), "ada", "named_role grant_blocked", "joe", "named_role grant_blocked")},
		{name: "2.6 another role is", at: "quiet/in", rule: role("editor", ""), want: told("ada")},
		{name: "2.6 all roles are blocked", at: "shut/in", rule: m{"role": m{"roles": []string{"reader", "writer", "editor"}}},
			want: and(told("ivy"), "ada", "named_role named_role grant_blocked grant_blocked", "joe", "named_role grant_blocked")},
		{name: "2.6 the closest ancestor of a type", at: "note", rule: role("owner", "ancestor_local", "post"), want: told("ivy")},
		{name: "2.6 never the object itself", at: "reply", rule: role("owner", "ancestor_local", "post"), want: told("hal")},
		{name: "2.6 the closest of several types", at: "note", rule: role("owner", "ancestor_local", "thread", "post"), want: told("ivy")},
		{name: "2.6 a farther one is never tried, though nobody has the role at the closest", at: "note", rule: role("mod", "ancestor_local", "post", "forum"), want: nil},
		{name: "2.6 no such ancestor names nobody", at: "note", rule: role("owner", "ancestor_local", "wiki"), want: nil},
		{name: "2.6 merged from the ancestor on", at: "note", rule: role("owner", "ancestor_merged", "thread"), want: told("gus", "kim")},
		{name: "2.6 origins are united", at: "note", rule: role("owner", "local ancestor_local", "thread"), want: told("joe", "gus")},
		{name: "2.6 this event local only", at: "news/today", rule: role("reader", ""), event: m{"flags": []string{"notify_local_only"}},
			want: and(told("cid"), "dee", "named_role grant_inactive", "ben", "named_role flag_local_only", "gus", "named_role flag_local_only", "hal", "named_role flag_local_only", "ada", "named_role flag_local_only", "joe", "named_role flag_local_only")},
		{name: "2.6 this event to no roles", at: "note", rule: role("owner", "local ancestor_local", "post"), event: m{"flags": []string{"notify_no_local"}},
			want: map[string]string{"joe": "named_role flag_no_local", "ivy": "named_role flag_no_local"}},
		{name: "2.6 both: no roles comes first", at: "news", rule: role("reader", "local"), event: m{"flags": []string{"notify_local_only", "notify_no_local"}},
			want: map[string]string{"ben": "named_role flag_no_local", "gus": "named_role flag_no_local", "hal": "named_role flag_no_local"}},
		{name: "2.6 the event's flag before the place's", at: "folder/page", rule: role("reader", ""), event: m{"flags": []string{"notify_local_only"}},
			want: and(told("cid"), "ben", "named_role flag_local_only", "ada", "named_role flag_local_only", "joe", "named_role flag_local_only")},

		{name: "2.7 the last step of all", at: "work", rule: work(m{}), want: told("cid")},
		{name: "2.7 the last of the named ones is one entry, not one a name", at: "work", rule: work(m{"transitions": []string{"create", "modify"}}), want: told("ben")},
		{name: "2.7 all of the named ones", at: "work", rule: work(m{"transitions": []string{"create", "modify"}, "lookup": "all"}), want: told("ada", "ben")},
		{name: "2.7 - and names: all but these; who did the last edit", at: "work", rule: work(m{"transitions": []string{"-", "comment", "view"}}), want: told("ben")},
		{name: "2.7 - alone is all", at: "work", rule: work(m{"transitions": []string{"-"}}), want: told("cid")},
		{name: "2.7 * among names is all", at: "work", rule: work(m{"transitions": []string{"create", "*"}}), want: told("cid")},
		{name: "2.7 everybody who ever did anything here, each once", at: "work", rule: work(m{"lookup": "all"}), want: told("ada", "ben", "cid")},
		{name: "2.7 a variable that is a list; one who is unknown is recorded", at: "work", rule: work(m{"transitions": []string{"modify"}, "variables": []string{"reviewers"}}),
			want: and(told("gus", "mia"), "7", "named_workflow user_unknown")},
		{name: "2.7 a stack in a variable, beside the actor", at: "work", rule: work(m{"transitions": []string{"modify"}, "variables": []string{"stack.next", "actor"}}), want: told("kim", "ben")},
		{name: "2.7 a group in a variable", at: "work", rule: work(m{"transitions": []string{"modify"}, "variables": []string{"team"}}), want: told("gus", "hal")},
		{name: "2.7 a variable that is missing or empty names nobody", at: "work", rule: work(m{"transitions": []string{"modify"}, "variables": []string{"none", "missing"}}), want: nil},
		{name: "2.7 no history names nobody", at: "plain", rule: work(m{"lookup": "all"}), want: nil},
		{name: "2.7 who is deleted is recorded", at: "copy", rule: work(m{}), want: map[string]string{"gone": "named_workflow user_deleted"}},
		{name: "2.7 the container's history", at: "work", rule: work(m{"origins": []string{"container"}}), want: told("kim")},
		{name: "2.7 the closest ancestor's", at: "part", rule: work(m{"origins": []string{"ancestor"}, "ancestor_types": []string{"section"}}), want: told("kim")},
		{name: "2.7 origins are united", at: "work", rule: work(m{"origins": []string{"context", "container"}}), want: told("cid", "kim")},
		{name: "2.7 a copy's own history", at: "copy", rule: work(m{"transitions": []string{"create"}}), want: nil},
		{name: "2.7 the history of all copies: who wrote the original", at: "copy", rule: work(m{"transitions": []string{"create"}, "history": "global"}), want: told("ada")},
		// Last of all: it adds to the history.
		{name: "2.7 the event's own step is the last, and its actor is named", at: "work", rule: work(m{"transitions": []string{"publish"}}), event: m{"transition": "publish", "actor": "lea"},
			more: m{"exclude_actor": false}, want: told("lea")},
	}
	ids := make([]string, len(rows))
	explained := make([]belfry.Answer, len(rows))
	for i, r := range rows {
		typ := fmt.Sprintf("row%d.happened", i)
		sub := m{"title": r.name, "types": []string{typ}, "notify": []m{{"channels": []string{"inbox", "email"}}}}
		if r.rule != nil {
			sub["recipients"] = []m{r.rule}
		}
		for k, v := range r.more {
			sub[k] = v
		}
		var made struct{ ID string }
		h.call(http.MethodPost, "/v1/subscriptions", sub, &made)
		for _, member := range r.members {
			h.call(http.MethodPost, "/v1/subscriptions/"+made.ID+"/members", member, nil)
		}
		if r.leaves != "" {
			h.call(http.MethodPost, "/v1/subscriptions/"+made.ID+"/leave", m{"user": r.leaves}, nil)
		}
		event := m{"source": "cps", "type": typ, "object": r.at, "time": "2026-01-02T00:00:00Z"}
		for k, v := range r.event {
			event[k] = v
		}
		h.call(http.MethodPost, "/v1/explain", event, &explained[i])
		event["id"] = fmt.Sprint(i)
		var got struct{ IDs []string }
		h.call(http.MethodPost, "/v1/events", event, &got)
		ids[i] = got.IDs[0]
	}
	h.quiet()
	has := map[string]map[string]bool{} // event -> who has it
	note := func(event, who string) {
		if has[event] == nil {
			has[event] = map[string]bool{}
		}
		has[event][who] = true
	}
	for _, who := range append(people, "mia") {
		for _, e := range h.inbox(who) {
			note(e.Event, who)
		}
	}
	letters := h.mail.letters()
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			trace := h.trace(ids[i], "")
			got, want := channelless(trace), r.want
			if want == nil {
				want = map[string]string{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the trace (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(lines(explained[i]), lines(trace)); diff != "" {
				t.Errorf("explained, and what was decided (-explained +traced):\n%s", diff)
			}
			for who, fate := range want {
				came := has[ids[i]][who]
				if strings.Contains(who, "@") {
					sent := all[delivery](h, "/v1/deliveries?event="+ids[i]+"&recipient="+url.QueryEscape(who)+"&")
					came = len(sent) == 1 && sent[0].State == "delivered"
				}
				if came != (fate == belfry.Told) {
					t.Errorf("%s has it: %v, but the trace says %s", who, came, fate)
				}
			}
			for who := range has[ids[i]] {
				if want[who] != belfry.Told {
					t.Errorf("%s has it", who)
				}
			}
		})
	}
	for address, n := range map[string]int{"x@example.org": 2, "list@example.org": 2, "new@example.org": 1, "mia@example.org": 3} {
		if got := len(h.mail.to(address)); got != n {
			t.Errorf("%d letters came to %s, want %d", got, address, n)
		}
	}
	if len(letters) != 8 {
		t.Errorf("%d letters came", len(letters))
	}
}

// channelless are the fates of a trace, less the lines about one channel of
// somebody who is told by another.
func channelless(a belfry.Answer) map[string]string {
	out := map[string]string{}
	told := map[string]bool{}
	for _, p := range a.People {
		told[p.Principal+p.Address] = told[p.Principal+p.Address] || p.Outcome == belfry.Told
	}
	for _, p := range a.People {
		who := p.Principal + p.Address
		switch {
		case told[who]:
			out[who] = belfry.Told
		default:
			out[who] = codes(p.Because)
		}
	}
	return out
}

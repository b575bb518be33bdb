package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/config"
)

// The eleven use cases with which the design of CPS's subscriptions begins, on
// the whole program: who has what in her inbox in the end.
// feature: CPS-33, CPS-11, CPS-12, CPS-13, CPS-14
func TestUseCasesOfCPS(t *testing.T) {
	t.Parallel()
	type doc = map[string]any
	role := func(r doc) []doc { return []doc{{"role": r}} }
	workflow := func(w doc) []doc { return []doc{{"workflow": w}} }
	cases := []struct {
		name       string
		recipients []doc
		before     []doc // earlier events, whose types nobody subscribed to
		event      doc
		want       string
	}{
		{name: "1 the creator when her document is published",
			recipients: role(doc{"roles": []string{"owner"}, "origins": []string{"local"}}),
			event:      doc{"object": "ws/doc", "actor": "ron", "destination": "news"}, want: "ann"},
		{name: "2 who submitted it, when it is published",
			recipients: workflow(doc{"transitions": []string{"submit"}}),
			before:     []doc{{"object": "ws/doc", "actor": "sam", "transition": "submit"}, {"object": "ws/doc", "actor": "val", "transition": "check"}},
			event:      doc{"object": "ws/doc", "actor": "ron"}, want: "sam"},
		{name: "3 the reviewers of the section it is submitted to",
			recipients: role(doc{"roles": []string{"reviewer"}, "on": "destination"}),
			event:      doc{"object": "ws/doc", "actor": "ann", "destination": "news"}, want: "rita ron"},
		{name: "4 the reviewers of a forum when a post waits",
			recipients: role(doc{"roles": []string{"moderator"}}),
			event:      doc{"object": "forum/post", "actor": "mia"}, want: "mod"},
		{name: "5 all who validated it on its way, wherever that was, when it is approved",
			recipients: workflow(doc{"transitions": []string{"validate", "countersign"}, "lookup": "all", "history": "global"}),
			before: []doc{{"object": "ws/doc", "actor": "val", "transition": "validate"}, {"object": "news/doc", "actor": "vic", "transition": "countersign"},
				{"object": "ws/doc", "actor": "mia", "transition": "comment"}, {"object": "ws/other", "actor": "mel", "transition": "validate"}},
			event: doc{"object": "news/doc", "actor": "ron"}, want: "val vic"},
		{name: "6 who handles it, by a role everywhere or there, when it is resolved",
			recipients: role(doc{"roles": []string{"handler"}, "origins": []string{"merged"}}),
			event:      doc{"object": "ws/doc", "actor": "ann"}, want: "boss hal"},
		{name: "7 the members of a workspace when something in it is commented",
			recipients: role(doc{"roles": []string{"member"}, "on": "container"}),
			event:      doc{"object": "ws/doc", "actor": "mel"}, want: "mia"},
		{name: "8 who wrote the post that is answered",
			recipients: role(doc{"roles": []string{"owner"}, "origins": []string{"ancestor_local"}, "ancestor_types": []string{"post", "thread"}}),
			event:      doc{"object": "forum/reply/nested", "actor": "mel"}, want: "mia"},
		{name: "9 the members of the workspace something is pasted into",
			recipients: role(doc{"roles": []string{"member"}, "on": "destination"}),
			event:      doc{"object": "news/doc", "actor": "ron", "destination": "ws"}, want: "mel mia"},
		{name: "10 the readers on the list when a version is frozen",
			recipients: []doc{{"explicit": doc{"users": []string{"ann", "sam"}, "groups": []string{"readers"}}}},
			event:      doc{"object": "ws/doc", "actor": "sam"}, want: "ann mia"},
		{name: "11a a transition that tells local roles alone",
			recipients: role(doc{"roles": []string{"reviewer"}, "origins": []string{"merged"}}),
			event:      doc{"object": "news", "actor": "ann", "flags": []string{"notify_local_only"}}, want: "ron"},
		{name: "11b a transition that tells no roles, but those on the list",
			recipients: append(role(doc{"roles": []string{"reviewer"}}), doc{"explicit": doc{"users": []string{"sam"}}}),
			event:      doc{"object": "news", "actor": "ann", "flags": []string{"notify_no_local"}}, want: "sam"},
	}

	h := newHouse(t, func(*testing.T, *config.Config) {})
	people := strings.Fields("ann boss hal mel mia mod rita ron sam val vic")
	var users []doc
	for _, id := range people {
		users = append(users, doc{"id": id})
	}
	h.call(http.MethodPost, "/v1/users:batch", users, nil)
	h.call(http.MethodPost, "/v1/groups:batch", []doc{{"id": "readers", "members": []string{"mia"}}}, nil)
	h.call(http.MethodPost, "/v1/objects:batch", []doc{
		{"id": "ws", "type": "workspace"}, {"id": "ws/doc", "type": "article", "parent": "ws", "document": "d1"}, {"id": "ws/other", "type": "article", "parent": "ws"},
		{"id": "sections", "type": "section"}, {"id": "news", "type": "section", "parent": "sections"},
		{"id": "news/doc", "type": "article", "parent": "news", "document": "d1"},
		{"id": "forum", "type": "forum", "parent": "ws"}, {"id": "forum/post", "type": "post", "parent": "forum"},
		{"id": "forum/reply", "type": "post", "parent": "forum/post"}, {"id": "forum/reply/nested", "type": "post", "parent": "forum/reply"},
	}, nil)
	grant := func(object string, of ...string) doc {
		var grants []doc
		for _, g := range of {
			who, role, _ := strings.Cut(g, ":")
			grants = append(grants, doc{"principal": who, "role": role})
		}
		return doc{"object": object, "grants": grants}
	}
	h.call(http.MethodPost, "/v1/grants:batch", []doc{
		grant("root", "boss:handler"), grant("ws", "mia:member", "mel:member"), grant("ws/doc", "ann:owner", "hal:handler"),
		grant("sections", "rita:reviewer"), grant("news", "ron:reviewer"), grant("forum", "mod:moderator"),
		grant("forum/post", "ann:owner"), grant("forum/reply", "mia:owner"),
	}, nil)

	for i, c := range cases {
		typ := fmt.Sprintf("case%d.happened", i)
		h.call(http.MethodPost, "/v1/subscriptions", doc{"title": c.name, "types": []string{typ}, "recipients": c.recipients, "notify": []doc{{"channels": []string{"inbox"}}}}, nil)
		// What came before, one at a time: each is a step of its object's history.
		for k, e := range append(c.before, c.event) {
			e["source"], e["id"], e["type"] = "cps", fmt.Sprint(i, "-", k), typ
			if k < len(c.before) {
				e["type"] = "cps.step"
			}
			h.call(http.MethodPost, "/v1/events", e, nil)
		}
	}
	h.quiet()
	told := map[string][]string{}
	for _, who := range people {
		for _, e := range h.inbox(who) {
			told[e.Type] = append(told[e.Type], who)
		}
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := told[fmt.Sprintf("case%d.happened", i)]
			if slices.Sort(got); strings.Join(got, " ") != c.want {
				t.Errorf("told %q, want %q", got, c.want)
			}
		})
	}
}

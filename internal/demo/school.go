package demo

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/web/ui"
)

// Ids of the school.
const (
	science   = "category/1"
	languages = "category/2"
	mechanics = "course/11"
	chemistry = "course/12"
	writing   = "course/21"
	forum     = "module/101"
	pendulum  = "module/102"
	opinion   = "module/103"

	olga   = "user/1"
	henrik = "user/2"
	amara  = "user/3"
	samir  = "user/4"
	grace  = "user/5"
	tomas  = "user/6"
	yuki   = "user/7"
	lena   = "user/8"
	priya  = "user/9"
)

// furnish declares the school through the API: courses and activities, people,
// roles and choices, event types, subscriptions, and the endpoint of the
// records system at hookURL. It gives the endpoint as stored and the secret
// that signs its webhooks.
func furnish(ctx context.Context, api *client.Client, now time.Time, hookURL string) (endpoint, secret string, err error) {
	do := func(method, path string, in, out any) {
		if err == nil {
			err = api.Call(ctx, method, path, in, out)
		}
	}
	do(http.MethodPost, "/v1/objects:batch", objects(), nil)
	do(http.MethodPost, "/v1/users:batch", users(), nil)
	do(http.MethodPost, "/v1/grants:batch", grants(), nil)
	for _, t := range types {
		do(http.MethodPut, "/v1/event-types/"+pathID(t.Name), t, nil)
	}
	muted := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 7)
	do(http.MethodPut, "/v1/users/"+pathID(lena)+"/settings", belfry.Settings{Stop: true}, nil)
	do(http.MethodPut, "/v1/users/"+pathID(yuki)+"/preferences", []belfry.Preference{{Object: mechanics, MuteUntil: &muted}}, nil)
	var issued struct{ ID, Secret string }
	do(http.MethodPost, "/v1/endpoints", map[string]any{
		"url": hookURL, "description": "Student records",
		"schedule": []string{"2s", "4s", "8s", "15s", "30s", "1m"}, // short waits: somebody is watching
	}, &issued)
	for _, s := range subscriptions(issued.ID) {
		var stored struct{ ID string }
		do(http.MethodPost, "/v1/subscriptions", s.rule, &stored)
		for _, m := range s.joined {
			do(http.MethodPost, "/v1/subscriptions/"+pathID(stored.ID)+"/members", m, nil)
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("furnishing the school: %w", err)
	}
	return issued.ID, issued.Secret, nil
}

// subscription is what the API takes to make one, and who joins it.
type subscription struct {
	rule   map[string]any
	joined []map[string]any
}

func subscriptions(endpoint string) []subscription {
	people := []belfry.Notify{{Channels: []string{"inbox", "email"}}}
	role := func(names ...string) []belfry.Rule {
		return []belfry.Rule{{Role: &belfry.RoleRule{Roles: names, Origins: []string{belfry.OriginMerged}}}}
	}
	joined := func(user string, channels ...string) map[string]any {
		return map[string]any{"principal": user, "channels": channels}
	}
	return []subscription{
		{rule: map[string]any{
			"title": "Everything in Classical mechanics, to its teachers",
			"scope": belfry.Scope{Object: mechanics}, "recipients": role("editingteacher", "teacher"), "notify": people,
		}},
		{rule: map[string]any{
			"title": "New discussions in Questions and answers",
			"scope": belfry.Scope{Object: forum}, "types": []string{"mod_forum.discussion_created"}, "notify": people,
		}, joined: []map[string]any{joined(tomas), joined(yuki), joined(lena), joined(priya, "inbox")}},
		{rule: map[string]any{
			"title": "Course changes in Science, to its managers",
			"scope": belfry.Scope{Object: science}, "types": []string{"core.course_*"}, "object_types": []string{"course"},
			"recipients": role("manager"), "notify": people,
		}},
		{rule: map[string]any{
			"title": "Marks, to whoever was marked", "types": []string{"mod_assign.submission_graded"},
			"recipients": []belfry.Rule{{Related: &belfry.RelatedRule{}}}, "notify": people,
		}},
		{rule: map[string]any{
			"title": "Courses and completions, to the records system",
			"types": []string{"core.course_updated", "core.course_completed"}, "notify": []belfry.Notify{{Endpoint: endpoint}},
		}},
	}
}

var types = []belfry.EventType{
	{Name: "mod_forum.discussion_created", Title: "New discussion", Category: "forum", ObjectTypes: []string{"forum"}},
	{Name: "core.course_updated", Title: "Course changed", Category: "course", ObjectTypes: []string{"course"}},
	{Name: "core.course_completed", Title: "Course completed", Category: "course", ObjectTypes: []string{"course"}},
	{Name: "core.course_backup_created", Title: "Backup made", Category: "course", ObjectTypes: []string{"course"}},
	{Name: "mod_assign.assessable_submitted", Title: "Work handed in", Category: "assign", ObjectTypes: []string{"assign"}},
	{Name: "mod_assign.submission_graded", Title: "Work marked", Category: "assign", ObjectTypes: []string{"assign"}},
	{Name: "mod_feedback.response_submitted", Title: "Feedback given", Category: "feedback", ObjectTypes: []string{"feedback"}},
}

// Scenes are the things that can happen, in the order of the page.
func Scenes() []ui.Scene {
	return []ui.Scene{
		{
			Key: "discussion", Title: "demo.discussion", Text: "demo.discussion_text",
			Event: event("mod_forum.discussion_created", forum, tomas, `{"subject":"Why does the mass not matter?","message":"A heavy bob and a light one swing together. Why?"}`),
		},
		{
			Key: "course", Title: "demo.course", Text: "demo.course_text",
			Event: event("core.course_updated", mechanics, henrik, `{"fullname":"Classical mechanics","changed":"exam date","exam":"12 June, 09:00, hall B"}`),
		},
		{
			Key: "handin", Title: "demo.handin", Text: "demo.handin_text",
			Event: event("mod_assign.assessable_submitted", pendulum, priya, `{"files":2,"late":false}`),
		},
		{
			Key: "mark", Title: "demo.mark", Text: "demo.mark_text",
			Event: related(event("mod_assign.submission_graded", pendulum, amara, `{"mark":"17 of 20","comment":"Clear figures; mind the units."}`), tomas),
		},
		{
			Key: "anonymous", Title: "demo.anonymous", Text: "demo.anonymous_text",
			Event: flagged(event("mod_feedback.response_submitted", opinion, priya, `{"answers":5}`), belfry.FlagAnonymous),
		},
		{
			Key: "completed", Title: "demo.completed", Text: "demo.completed_text",
			Event: related(event("core.course_completed", mechanics, lena, `{"mark":"18 of 20"}`), lena),
		},
		{
			Key: "backup", Title: "demo.backup", Text: "demo.backup_text",
			Event: flagged(event("core.course_backup_created", mechanics, "", `{"size":"48 MB"}`), belfry.FlagSilent),
		},
	}
}

// People are those the page introduces; endpoint is the records system's id.
func People(endpoint string) []ui.Person {
	notes := []struct{ id, note string }{
		{olga, "demo.olga"},
		{henrik, "demo.henrik"},
		{amara, "demo.amara"},
		{grace, "demo.grace"},
		{samir, "demo.samir"},
		{tomas, "demo.tomas"},
		{yuki, "demo.yuki"},
		{lena, "demo.lena"},
		{priya, "demo.priya"},
	}
	var people []ui.Person
	for _, n := range notes {
		for _, u := range users() {
			if u.ID == n.id {
				people = append(people, ui.Person{ID: u.ID, Name: u.Name, Address: u.Email, Note: n.note})
			}
		}
	}
	return append(people, ui.Person{ID: endpoint, Name: "demo.records", Note: "demo.records_text"})
}

// Places are the titles of the school's objects, by id.
func Places() map[string]string {
	places := map[string]string{belfry.RootObject: "Hillside School"}
	for _, o := range objects() {
		places[o.ID] = o.Title
	}
	return places
}

func objects() []belfry.Object {
	return []belfry.Object{
		object(science, "category", "", "Science", "/course/index.php?categoryid=1"),
		object(languages, "category", "", "Languages", "/course/index.php?categoryid=2"),
		object(mechanics, "course", science, "Classical mechanics", "/course/view.php?id=11"),
		object(chemistry, "course", science, "Organic chemistry", "/course/view.php?id=12"),
		object(writing, "course", languages, "Creative writing", "/course/view.php?id=21"),
		object(forum, "forum", mechanics, "Questions and answers", "/mod/forum/view.php?id=101"),
		object(pendulum, "assign", mechanics, "The pendulum", "/mod/assign/view.php?id=102"),
		object(opinion, "feedback", mechanics, "Your opinion of this course", "/mod/feedback/view.php?id=103"),
	}
}

func users() []belfry.User {
	return []belfry.User{
		user(olga, "Olga Brandt", "olga"), user(henrik, "Henrik Solberg", "henrik"), user(amara, "Amara Okafor", "amara"),
		user(samir, "Samir Haddad", "samir"), user(grace, "Grace Osei", "grace"), user(tomas, "Tomás Rivera", "tomas"),
		user(yuki, "Yuki Tanaka", "yuki"), user(lena, "Lena Fischer", "lena"), user(priya, "Priya Nair", "priya"),
	}
}

func grants() []map[string]any {
	type grant = map[string]any
	return []map[string]any{
		{"object": science, "grants": []grant{{"principal": olga, "role": "manager"}, {"principal": amara, "role": "teacher"}}},
		{"object": mechanics, "grants": []grant{
			{"principal": henrik, "role": "editingteacher"}, {"principal": grace, "role": "teacher"},
			{"principal": samir, "role": "teacher", "inactive": "suspended enrolment"},
			{"principal": tomas, "role": "student"}, {"principal": yuki, "role": "student"},
			{"principal": lena, "role": "student"}, {"principal": priya, "role": "student"},
		}},
	}
}

func object(id, typ, parent, title, path string) belfry.Object {
	return belfry.Object{ID: id, Type: typ, Parent: parent, Title: title, URL: "https://school.example" + path}
}

// user is a person with a mailbox, which was confirmed except for Grace's.
func user(id, name, mailbox string) belfry.User {
	address := mailbox + "@school.example"
	return belfry.User{
		ID: id, Name: name, Email: address, Locale: "en", TimeZone: "Europe/London", State: belfry.UserActive,
		Contacts: []belfry.Contact{{Kind: "email", Address: address, Verified: id != grace}},
	}
}

// pathID is an id as a path carries it.
func pathID(id string) string { return "~" + base64.RawURLEncoding.EncodeToString([]byte(id)) }

func event(typ, object, actor, data string) belfry.Event {
	return belfry.Event{Source: "/hillside", Type: typ, Object: object, Actor: actor, Data: json.RawMessage(data)}
}

func related(e belfry.Event, users ...string) belfry.Event {
	e.Related = users
	return e
}

func flagged(e belfry.Event, flags ...string) belfry.Event {
	e.Flags = flags
	return e
}

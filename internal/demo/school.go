package demo

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/web/ui"
)

// Ids of the school that tests and pages speak of.
const (
	EndpointID = "ep_records"

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

// origin is who declares everything of the school.
const origin = "demo"

// School is the whole school as one edit of a tenant: categories,
// courses and activities; people, roles and choices; event types with titles;
// the subscriptions; and the endpoint of the records system at hookURL, whose
// webhooks are signed with the sealed key. at is the time of the edit.
func School(tenant string, at time.Time, hookURL string, sealed []byte) (belfry.Changes, error) {
	ch := belfry.Changes{
		Tenant:  tenant,
		Objects: objects(),
		Users:   users(),
		Grants: []belfry.GrantSet{
			grants(science, belfry.Grant{Principal: olga, Role: "manager"}, belfry.Grant{Principal: amara, Role: "teacher"}),
			grants(mechanics,
				belfry.Grant{Principal: henrik, Role: "editingteacher"},
				belfry.Grant{Principal: grace, Role: "teacher"},
				belfry.Grant{Principal: samir, Role: "teacher", Inactive: "suspended enrolment"},
				belfry.Grant{Principal: tomas, Role: "student"}, belfry.Grant{Principal: yuki, Role: "student"},
				belfry.Grant{Principal: lena, Role: "student"}, belfry.Grant{Principal: priya, Role: "student"}),
		},
		Settings:    []belfry.UserSettings{{User: lena, Settings: belfry.Settings{Stop: true}}},
		Preferences: []belfry.UserPreferences{{User: yuki, Preferences: []belfry.Preference{{Object: mechanics, MuteUntil: day(at, 7)}}}},
		Members: []belfry.Member{
			{Subscription: "sub_discussions", Principal: tomas, Since: at}, {Subscription: "sub_discussions", Principal: yuki, Since: at},
			{Subscription: "sub_discussions", Principal: lena, Since: at}, {Subscription: "sub_discussions", Principal: priya, Channels: []string{"inbox"}, Since: at},
		},
	}
	// Grace's address was never confirmed: nothing is mailed to it.
	for i := range ch.Users {
		if u := &ch.Users[i]; u.ID == grace {
			u.Contacts = []belfry.Contact{{Kind: "email", Address: u.Email, Origin: origin}}
		}
	}
	ch.Subscriptions = subscriptions(at)
	for _, t := range types {
		body, err := json.Marshal(t)
		if err != nil {
			return belfry.Changes{}, err
		}
		ch.Documents = append(ch.Documents, belfry.Document{Kind: belfry.KindEventType, ID: t.Name, Body: body})
	}
	body, err := belfry.EncodeEndpoint(belfry.Endpoint{
		ID: EndpointID, URL: hookURL, Description: "Student records", Format: "standard", State: belfry.EndpointActive, Created: at,
		Secrets: []belfry.EndpointSecret{{Sealed: sealed}},
		// Short waits: somebody is watching.
		Schedule: []string{"2s", "4s", "8s", "15s", "30s", "1m"},
	})
	if err != nil {
		return belfry.Changes{}, fmt.Errorf("endpoint of the demonstration: %w", err)
	}
	ch.Documents = append(ch.Documents, belfry.Document{Kind: belfry.KindEndpoint, ID: EndpointID, Body: body})
	return ch, nil
}

func subscriptions(at time.Time) []belfry.Subscription {
	people := []belfry.Notify{{Channels: []string{"inbox", "email"}}}
	role := func(names ...string) []belfry.Rule {
		return []belfry.Rule{{Role: &belfry.RoleRule{Roles: names, Origins: []string{belfry.OriginMerged}}}}
	}
	subs := []belfry.Subscription{
		{
			ID: "sub_teachers", Title: "Everything in Classical mechanics, to its teachers",
			Scope: belfry.Scope{Object: mechanics}, Recipients: role("editingteacher", "teacher"), Notify: people,
		},
		{
			ID: "sub_discussions", Title: "New discussions in Questions and answers",
			Scope: belfry.Scope{Object: forum}, Types: []string{"mod_forum.discussion_created"}, Notify: people,
		},
		{
			ID: "sub_managers", Title: "Course changes in Science, to its managers",
			Scope: belfry.Scope{Object: science}, Types: []string{"core.course_*"}, ObjectTypes: []string{"course"},
			Recipients: role("manager"), Notify: people,
		},
		{
			ID: "sub_marks", Title: "Marks, to whoever was marked",
			Types:      []string{"mod_assign.submission_graded"},
			Recipients: []belfry.Rule{{Related: &belfry.RelatedRule{}}}, Notify: people,
		},
		{
			ID: "sub_records", Title: "Courses and completions, to the records system",
			Types: []string{"core.course_updated", "core.course_completed"}, Notify: []belfry.Notify{{Endpoint: EndpointID}},
		},
	}
	for i := range subs {
		subs[i].State, subs[i].Origin, subs[i].Created = belfry.SubscriptionActive, "admin", at
	}
	return subs
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
			Key: "discussion", Title: "Tomás opens a discussion", Text: "Four students follow this forum. One wrote it, one muted the course, one stopped all messages.",
			Event: event("mod_forum.discussion_created", forum, tomas, `{"subject":"Why does the mass not matter?","message":"A heavy bob and a light one swing together. Why?"}`),
		},
		{
			Key: "course", Title: "Henrik moves the exam", Text: "Teachers, a manager by the category, and the records system by a signed webhook.",
			Event: event("core.course_updated", mechanics, henrik, `{"fullname":"Classical mechanics","changed":"exam date","exam":"12 June, 09:00, hall B"}`),
		},
		{
			Key: "handin", Title: "Priya hands in her work", Text: "Amara is told by a role on the category above; Samir's enrolment is suspended.",
			Event: event("mod_assign.assessable_submitted", pendulum, priya, `{"files":2,"late":false}`),
		},
		{
			Key: "mark", Title: "Amara marks Tomás's work", Text: "The event is about Tomás, so he is told.",
			Event: related(event("mod_assign.submission_graded", pendulum, amara, `{"mark":"17 of 20","comment":"Clear figures; mind the units."}`), tomas),
		},
		{
			Key: "anonymous", Title: "Somebody answers the feedback", Text: "Anonymous: no message, inbox or webhook says who.",
			Event: flagged(event("mod_feedback.response_submitted", opinion, priya, `{"answers":5}`), belfry.FlagAnonymous),
		},
		{
			Key: "completed", Title: "Lena completes the course", Text: "The records system hears; Lena has stopped all messages and nobody writes to her.",
			Event: related(event("core.course_completed", mechanics, lena, `{"mark":"18 of 20"}`), lena),
		},
		{
			Key: "backup", Title: "The nightly backup runs", Text: "Marked silent by the platform: kept, traceable, told to nobody.",
			Event: flagged(event("core.course_backup_created", mechanics, "", `{"size":"48 MB"}`), belfry.FlagSilent),
		},
	}
}

// People are those the page introduces.
func People() []ui.Person {
	notes := []struct{ id, note string }{
		{olga, "manages the Science category"},
		{henrik, "teaches Classical mechanics"},
		{amara, "teaches everything in Science, by a role on the category"},
		{grace, "assists in the course; her mail address was never confirmed"},
		{samir, "teacher whose enrolment is suspended"},
		{tomas, "student, follows the forum"},
		{yuki, "student, follows the forum, muted the course for a week"},
		{lena, "student, follows the forum, stopped all messages"},
		{priya, "student, follows the forum in the inbox only"},
	}
	var people []ui.Person
	for _, n := range notes {
		for _, u := range users() {
			if u.ID == n.id {
				people = append(people, ui.Person{ID: u.ID, Name: u.Name, Address: u.Email, Note: n.note})
			}
		}
	}
	return append(people, ui.Person{ID: EndpointID, Name: "Student records", Note: "another system, told by webhook"})
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

func object(id, typ, parent, title, path string) belfry.Object {
	return belfry.Object{ID: id, Type: typ, Parent: parent, Title: title, URL: "https://school.example" + path, Origin: origin}
}

func user(id, name, mailbox string) belfry.User {
	address := mailbox + "@school.example"
	return belfry.User{
		ID: id, Name: name, Email: address, Locale: "en", TimeZone: "Europe/London", State: belfry.UserActive, Origin: origin,
		Contacts: []belfry.Contact{{Kind: "email", Address: address, Verified: true, Origin: origin}},
	}
}

func grants(on string, list ...belfry.Grant) belfry.GrantSet {
	for i := range list {
		list[i].Object, list[i].Origin = on, origin
	}
	return belfry.GrantSet{Object: on, Origin: origin, Grants: list}
}

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

// day is the midnight (UTC) that follows at by n days.
func day(at time.Time, n int) *time.Time {
	d := at.UTC().Truncate(24*time.Hour).AddDate(0, 0, n)
	return &d
}

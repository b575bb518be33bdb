package pipeline

import (
	"context"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What was planned for somebody is looked at again when it goes out: who lost
// what named her, muted it or may not see it goes without, and the trace and
// the why page say so; in a digest, and in a message that was delayed.
//
// feature: S3-18, NEW-4, S3-11, S3-9
func TestLeftOutOfWhatWaits(t *testing.T) {
	tomorrow := clock().Add(30 * 24 * time.Hour)
	group := func(members ...string) belfry.Changes {
		return belfry.Changes{Groups: []belfry.Group{{ID: "staff", Members: []string{}}, {ID: "team", Members: append([]string{}, members...)}}}
	}
	grants := func(object string, roles ...string) belfry.Changes {
		set := belfry.GrantSet{Object: object, Origin: "x"}
		for _, r := range roles {
			set.Grants = append(set.Grants, belfry.Grant{Object: object, Principal: "u1", Role: r})
		}
		return belfry.Changes{Grants: []belfry.GrantSet{set}}
	}
	prefer := func(p belfry.Preference) belfry.Changes {
		return belfry.Changes{Preferences: []belfry.UserPreferences{{User: "u1", Preferences: []belfry.Preference{p}}}}
	}
	typed := func(body string) belfry.Changes {
		return belfry.Changes{Documents: []belfry.Document{{Kind: belfry.KindEventType, ID: "course.updated", Body: []byte(body)}}}
	}
	stop := belfry.Changes{Settings: []belfry.UserSettings{{User: "u1", Settings: belfry.Settings{Stop: true}}}}
	const sub = "sub_course_updated"
	for name, c := range map[string]struct {
		rule   belfry.Rule
		before []belfry.Changes
		after  belfry.Changes
		want   string // reason; empty = told
	}{
		"left the group":              {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Groups: []string{"team"}}}, before: []belfry.Changes{group("u1")}, after: group(), want: belfry.NoLongerNamed},
		"still in the group":          {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Groups: []string{"team"}}}, before: []belfry.Changes{group("u1")}, after: group("u1", "u2")},
		"in it by another group":      {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Groups: []string{"team"}}}, before: []belfry.Changes{group("u1")}, after: belfry.Changes{Groups: []belfry.Group{{ID: "staff", Members: []string{"u1"}}, {ID: "team", Members: []string{"staff"}}}}},
		"lost the role":               {rule: belfry.Rule{Role: &belfry.RoleRule{Roles: []string{"teacher"}, Origins: []string{"merged"}}}, before: []belfry.Changes{grants("course/1", "teacher")}, after: grants("course/1"), want: belfry.NoLongerNamed},
		"lost one of two roles":       {rule: belfry.Rule{Role: &belfry.RoleRule{Roles: []string{"teacher", "tutor"}, Origins: []string{"merged"}}}, before: []belfry.Changes{grants("course/1", "teacher")}, after: grants("course/1", "tutor")},
		"has the role further up now": {rule: belfry.Rule{Role: &belfry.RoleRule{Roles: []string{"teacher"}, Origins: []string{"merged"}}}, before: []belfry.Changes{grants("course/1", "teacher")}, after: belfry.Changes{Grants: []belfry.GrantSet{grants("course/1").Grants[0], grants(belfry.RootObject, "teacher").Grants[0]}}},
		"left the subscription":       {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{}}, before: []belfry.Changes{{Members: []belfry.Member{{Subscription: sub, Principal: "u1", Since: clock()}}}}, after: belfry.Changes{DropMembers: []belfry.Member{{Subscription: sub, Principal: "u1"}}}, want: belfry.NoLongerNamed},
		"muted":                       {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: prefer(belfry.Preference{Object: "course/1", MuteUntil: &tomorrow}), want: belfry.Muted},
		"muted elsewhere":             {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: prefer(belfry.Preference{Object: "course/2", MuteUntil: &tomorrow})},
		"muted every week":            {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: prefer(belfry.Preference{Mutes: []belfry.Window{{From: "00:00", To: "23:59"}}})},
		"switched off":                {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: prefer(belfry.Preference{Type: "course.*", Level: belfry.LevelNone}), want: belfry.LevelIsNone},
		"only what is about her":      {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: prefer(belfry.Preference{Level: belfry.LevelRelated}), want: belfry.NotAboutThem},
		"hidden":                      {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: belfry.Changes{Objects: []belfry.Object{{ID: "course/1", Type: "course", Hidden: true}}}, want: belfry.ObjectHidden},
		"a role is needed now":        {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: belfry.Changes{Documents: []belfry.Document{{Kind: belfry.KindEventType, ID: "course.updated", Body: []byte(`{"name":"course.updated","see_roles":["teacher"]}`)}}}, want: belfry.MayNotSee},
		"deleted":                     {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: belfry.Changes{DeleteUsers: []string{"u1"}}, want: belfry.UserIsDeleted},
		"suspended":                   {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: belfry.Changes{Users: []belfry.User{{ID: "u1", Email: "u1@example.org", State: belfry.UserSuspended}}}, want: belfry.UserIsSuspended},
		"stopped all messages":        {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, after: stop, want: belfry.GlobalStop},
		"stopped, of what must be":    {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, before: []belfry.Changes{typed(`{"name":"course.updated","mandatory":true}`)}, after: stop},
		"stopped, by a forced way":    {rule: belfry.Rule{Explicit: &belfry.ExplicitRule{Users: []string{"u1"}}}, before: []belfry.Changes{typed(`{"name":"course.updated","channels":{"forced":["email"]}}`)}, after: stop},
	} {
		for _, every := range []string{belfry.Daily, belfry.Immediate} {
			t.Run(name+", "+every, func(t *testing.T) {
				t.Parallel()
				h, clk, box := postHouse(t, sqlite(t))
				clk.set(clock()) // its events are as old as they say
				h.people(belfry.User{ID: "u1"}, belfry.User{ID: "u2"})
				h.apply(belfry.Changes{Objects: []belfry.Object{{ID: "course/1", Type: "course"}, {ID: "course/2", Type: "course"}}})
				h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{{ID: sub, Types: []string{"course.updated"}, State: belfry.SubscriptionActive, Created: clock(),
					Recipients: []belfry.Rule{c.rule}, Notify: []belfry.Notify{{Channels: []string{"email"}}}, Frequency: &belfry.Frequency{Every: every}}}})
				for _, ch := range c.before {
					h.apply(ch)
				}
				if every == belfry.Immediate { // the first send fails
					box.fail = 1
				}
				h.run()
				event := h.accept(1, "course.updated")[0]
				h.allPlanned()
				id := belfry.DeliveryID(event, 0, "email", "u1@example.org")
				if every == belfry.Immediate {
					h.until("the send has failed", func() bool { return h.delivery(id).State == belfry.Retrying })
				}
				h.apply(c.after)
				h.decided()
				clk.set(clk.now().Add(25 * time.Hour))
				state := func() belfry.AnswerPerson {
					a, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: event, Principal: "u1"})
					if err != nil || len(a.People) != 1 {
						t.Fatalf("%+v, %v", a.People, err)
					}
					return a.People[0]
				}
				if c.want == "" {
					h.until("she is told", func() bool { return len(box.of("u1@example.org")) == 1 })
					return
				}
				h.until("it is left out", func() bool { return state().Outcome == belfry.NotTold })
				because := state().Because
				codes := map[string]bool{}
				for _, b := range because {
					codes[b.Code] = true
				}
				why, err := h.ex.Why(context.Background(), belfry.DefaultTenant, id)
				if !codes[c.want] || err != nil || why.Outcome != belfry.NotTold {
					t.Errorf("%+v; why: %+v, %v", because, why, err)
				}
				h.settled()
				if n := len(box.of("u1@example.org")); n != 0 {
					t.Errorf("she is told %d times", n)
				}
			})
		}
	}
}

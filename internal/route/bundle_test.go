package route_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/route"
)

// What waits for a digest, and what does not whatever was chosen.
//
// feature: PEER-9, NEW-5, CPS-23
func TestPlanDigests(t *testing.T) {
	at := time.Date(2026, 5, 9, 23, 0, 0, 0, time.UTC)
	daily := &belfry.Frequency{Every: belfry.Daily}
	apart := false
	for _, tc := range []struct {
		name string
		sub  belfry.Subscription
		typ  belfry.EventType
		set  belfry.Settings
		of   string
		want string // the key; empty = at once
	}{
		{name: "a digest", sub: belfry.Subscription{Frequency: daily}, want: "daily"},
		{name: "of the type", typ: belfry.EventType{Frequency: daily}, want: "daily"},
		{name: "kept apart", sub: belfry.Subscription{Frequency: daily, Merge: &apart}, want: "daily apart=sub_1"},
		{name: "urgent", sub: belfry.Subscription{Frequency: daily}, typ: belfry.EventType{Urgent: true}},
		{name: "a notice of the house", sub: belfry.Subscription{Frequency: daily}, of: belfry.MuteEnding},
		{name: "a condition that is met", sub: belfry.Subscription{Frequency: daily}, of: belfry.ConditionMet, want: "daily"},
		{name: "quiet hours", set: belfry.Settings{Quiet: &belfry.Window{From: "22:00", To: "07:00"}}, want: "quiet"},
		{name: "at once"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sub := tc.sub
			sub.ID = "sub_1"
			e := &belfry.Event{Type: "course.updated"}
			if tc.of != "" {
				e.Type = tc.of
			}
			tc.typ.Name = e.Type
			ds, sups := route.Plan(route.Input{
				Event:      &belfry.Accepted{Tenant: "t", EventID: belfry.EventID(at, 0, 1), Event: e},
				Recipients: []belfry.Recipient{{Principal: "u1", Via: []belfry.Via{{Match: &belfry.Match{Subscription: &sub}, Because: []belfry.Reason{{Code: belfry.NamedUser}}}}}},
				Persons:    map[string]*belfry.Person{"u1": {User: belfry.User{ID: "u1", State: belfry.UserActive, Email: "u1@example.org"}, Settings: tc.set}},
				Channels:   []route.ChannelInfo{{Name: "inbox", Kind: "inbox"}, {Name: "email", Kind: "email", Contact: "email"}},
				Defaults:   []string{"inbox", "email"}, Type: tc.typ, Now: at,
			})
			if len(ds) != 2 || len(sups) != 0 || ds[0].Digest != nil {
				t.Fatalf("the inbox waits, or somebody is not told: %+v, %+v", ds, sups)
			}
			got := ""
			if ds[1].Digest != nil {
				got = ds[1].Digest.Key
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

package route

import (
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// The effective setting always shows where it came from.
func TestEffectiveSettings(t *testing.T) {
	soon := noon.Add(time.Hour)
	way := []belfry.Object{{ID: "forum"}, {ID: "course"}, {ID: "root"}}
	prefs := []belfry.Preference{
		{Level: "related"}, {Object: "course", Level: "none"}, {Type: "core.*", Object: "course", Channels: []string{"email", "sms"}}, {Object: "forum", MuteUntil: &soon},
	}
	for _, c := range []struct {
		name   string
		person belfry.Person
		typ    belfry.EventType
		via    *belfry.Via
		want   []string
	}{
		{"nothing said", belfry.Person{}, belfry.EventType{}, nil, []string{"stop=false by_nobody", "level=all by_nobody", "channel=inbox by_tenant_default", "frequency=immediate by_nobody"}},
		{"the type's default", belfry.Person{}, belfry.EventType{Channels: belfry.TypeChannels{Default: []string{"email"}}, Frequency: &belfry.Frequency{Every: belfry.Weekly}}, nil,
			[]string{"stop=false by_nobody", "level=all by_nobody", "channel=email by_type_default", "frequency=weekly by_type_default"}},
		{"preferences, each from its own", belfry.Person{Settings: belfry.Settings{Stop: true}, Preferences: prefs}, belfry.EventType{Mandatory: true,
			Channels: belfry.TypeChannels{Forced: []string{"inbox", "email"}, Forbidden: []string{"sms"}}}, nil, []string{
			"stop=true global_stop", "level=none by_preference @course", "mute_until=2026-03-02T13:00:00Z by_preference @forum", "mandatory=true by_mandatory",
			"forbidden=sms channel_forbidden", "channel=inbox by_forced", "channel=email by_forced", "frequency=immediate by_nobody"}},
		{"preferred channels", belfry.Person{Preferences: prefs}, belfry.EventType{}, nil, []string{"stop=false by_nobody", "level=none by_preference @course",
			"mute_until=2026-03-02T13:00:00Z by_preference @forum", "channel=email by_preference @course core.*", "channel=sms by_preference @course core.*", "frequency=immediate by_nobody"}},
		{"by a subscription, as she joined it", belfry.Person{Preferences: []belfry.Preference{{Category: "Courses", Frequency: &belfry.Frequency{Every: belfry.Daily}, Level: "none"}}},
			belfry.EventType{Category: "Courses"},
			&belfry.Via{Match: &belfry.Match{Subscription: &belfry.Subscription{ID: "sub_1", Mandatory: false, Frequency: &belfry.Frequency{Every: belfry.Hourly}}},
				Notify: belfry.Notify{Channels: []string{"email"}}, Member: &belfry.Member{Channels: []string{"sms"}}}, []string{
				"stop=false by_nobody", "level=none by_preference Courses", "channel=sms by_member", "frequency=daily by_preference Courses"}},
		{"a mandatory one asks her for channels only", belfry.Person{Preferences: []belfry.Preference{{Channels: []string{"sms"}, Frequency: &belfry.Frequency{Every: belfry.Never}}}},
			belfry.EventType{}, &belfry.Via{Match: &belfry.Match{Subscription: &belfry.Subscription{ID: "sub_1", Mandatory: true, Frequency: &belfry.Frequency{Every: belfry.Hourly}}}}, []string{
				"stop=false by_nobody", "level=all by_nobody", "mandatory=true by_mandatory", "channel=sms by_preference", "frequency=hourly by_subscription"}},
	} {
		var got []string
		for _, s := range EffectiveSettings(Hers{Person: &c.person, EventType: "core.course_updated", Type: c.typ, Ancestors: way, Defaults: []string{"inbox"}, Now: noon, Via: c.via}) {
			line := s.Setting + "=" + s.Value + " " + s.Because.Code
			if s.Object != "" {
				line += " @" + s.Object
			}
			if s.Type+s.Category != "" {
				line += " " + s.Type + s.Category
			}
			got = append(got, line)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

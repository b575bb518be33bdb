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
		want   []string
	}{
		{"nothing said", belfry.Person{}, belfry.EventType{}, []string{"stop=false by_nobody", "level=all by_nobody", "channel=inbox by_tenant_default"}},
		{"the type's default", belfry.Person{}, belfry.EventType{Channels: belfry.TypeChannels{Default: []string{"email"}}},
			[]string{"stop=false by_nobody", "level=all by_nobody", "channel=email by_type_default"}},
		{"preferences, each from its own", belfry.Person{Settings: belfry.Settings{Stop: true}, Preferences: prefs}, belfry.EventType{Mandatory: true,
			Channels: belfry.TypeChannels{Forced: []string{"inbox", "email"}, Forbidden: []string{"sms"}}}, []string{
			"stop=true global_stop", "level=none by_preference @course", "mute_until=2026-03-02T13:00:00Z by_preference @forum", "mandatory=true by_mandatory",
			"channel=inbox by_forced", "channel=email by_forced"}},
		{"preferred channels", belfry.Person{Preferences: prefs}, belfry.EventType{}, []string{"stop=false by_nobody", "level=none by_preference @course",
			"mute_until=2026-03-02T13:00:00Z by_preference @forum", "channel=email by_preference @course core.*", "channel=sms by_preference @course core.*"}},
	} {
		var got []string
		for _, s := range EffectiveSettings(&c.person, "core.course_updated", way, c.typ, []string{"inbox"}, noon) {
			line := s.Setting + "=" + s.Value + " " + s.Because.Code
			if s.Object != "" {
				line += " @" + s.Object
			}
			if s.Type != "" {
				line += " " + s.Type
			}
			got = append(got, line)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

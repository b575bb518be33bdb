package route

import (
	"slices"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// EffectiveSettings say what holds for a person for an event type at ancestors
// (the object first), each with what it comes from: the global stop, the level,
// a mute, and the channels of a subscription that names none, in the order in
// which it is decided who speaks.
func EffectiveSettings(p *belfry.Person, typ string, ancestors []belfry.Object, t belfry.EventType, defaults []string, now time.Time) []belfry.EffectiveSetting {
	set := func(setting, value string, because belfry.Reason, pref *belfry.Preference) belfry.EffectiveSetting {
		s := belfry.EffectiveSetting{Setting: setting, Value: value}
		if pref != nil {
			because = belfry.Reason{Code: belfry.ByPreference}
			s.Type, s.Object = pref.Type, pref.Object
		}
		s.Because = belfry.ReasonView{Reason: because, Text: because.Text()}
		return s
	}
	nobody := belfry.Reason{Code: belfry.ByNobody}
	stop := nobody
	if p.Settings.Stop {
		stop = belfry.Reason{Code: belfry.GlobalStop}
	}
	out := []belfry.EffectiveSetting{set("stop", strconv.FormatBool(p.Settings.Stop), stop, nil)}
	pref := Prefer(p.Preferences, typ, ancestors, now)
	level := belfry.LevelAll
	if pref.Level != nil {
		level = pref.Level.Level
	}
	out = append(out, set("level", level, nobody, pref.Level))
	if pref.Mute != nil {
		out = append(out, set("mute_until", pref.Mute.MuteUntil.UTC().Format(time.RFC3339), belfry.Reason{}, pref.Mute))
	}
	if t.Mandatory {
		out = append(out, set("mandatory", "true", belfry.Reason{Code: belfry.ByMandatory}, nil))
	}
	channel := func(name string, because belfry.Reason, pref *belfry.Preference) {
		if !slices.Contains(t.Channels.Forbidden, name) && !slices.ContainsFunc(out, func(s belfry.EffectiveSetting) bool { return s.Setting == "channel" && s.Value == name }) {
			out = append(out, set("channel", name, because, pref))
		}
	}
	for _, c := range t.Channels.Forced {
		channel(c, belfry.Reason{Code: belfry.ByForced}, nil)
	}
	switch {
	case pref.Channels != nil:
		for _, c := range pref.Channels.Channels {
			channel(c, belfry.Reason{}, pref.Channels)
		}
	case len(t.Channels.Default) > 0:
		for _, c := range t.Channels.Default {
			channel(c, belfry.Reason{Code: belfry.ByType}, nil)
		}
	default:
		for _, c := range defaults {
			channel(c, belfry.Reason{Code: belfry.ByTenant}, nil)
		}
	}
	return out
}

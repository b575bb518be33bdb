package route

import (
	"slices"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Hers is what EffectiveSettings looks at.
type Hers struct {
	Person    *belfry.Person
	EventType string
	Type      belfry.EventType // zero when the catalogue has none
	Ancestors []belfry.Object  // the object first, the root last
	Defaults  []string         // the tenant's channels
	Fallback  []string
	Often     *belfry.Frequency
	Now       time.Time
	// Via is the way she would be told, with the subscription and how she joined
	// it; nil = by a subscription that leaves all to her.
	Via *belfry.Via
}

// EffectiveSettings say what holds for a person for an event type at a place,
// each with what it comes from: the global stop, the level, a mute, the channels
// and the frequency, in the order in which it is decided who speaks.
func EffectiveSettings(h Hers) []belfry.EffectiveSetting {
	via := h.Via
	if via == nil {
		via = &belfry.Via{}
	}
	p := &plan{in: &Input{
		Event: &belfry.Accepted{Event: &belfry.Event{Type: h.EventType}}, Type: h.Type, Defaults: h.Defaults, Fallback: h.Fallback, Often: h.Often, Ancestors: h.Ancestors, Now: h.Now,
	}}
	set := func(setting, value string, because belfry.Reason, pref *belfry.Preference) belfry.EffectiveSetting {
		s := belfry.EffectiveSetting{Setting: setting, Value: value}
		if pref != nil {
			because = belfry.Reason{Code: belfry.ByPreference}
			s.Type, s.Category, s.Object = pref.Type, pref.Category, pref.Object
		}
		s.Because = belfry.ReasonView{Reason: because, Text: because.Text()}
		return s
	}
	pref := p.prefer(h.Person)
	// by is the preference that decided, when one did.
	by := func(because belfry.Reason, of *belfry.Preference) *belfry.Preference {
		if because.Code == belfry.ByPreference {
			return of
		}
		return nil
	}
	nobody := belfry.Reason{Code: belfry.ByNobody}
	stop := nobody
	if h.Person.Settings.Stop {
		stop = belfry.Reason{Code: belfry.GlobalStop}
	}
	out := []belfry.EffectiveSetting{set("stop", strconv.FormatBool(h.Person.Settings.Stop), stop, nil)}
	level := belfry.LevelAll
	if pref.Level != nil {
		level = pref.Level.Level
	}
	out = append(out, set("level", level, nobody, pref.Level))
	if pref.Mute != nil {
		mute := set("mute_until", pref.MuteEnds.UTC().Format(time.RFC3339), belfry.Reason{}, pref.Mute)
		mute.Because.Detail = pref.Mute.Because
		if by := pref.Mute.MutedBy; by != "" {
			mute.Because.Detail = join(mute.Because.Detail, "set by "+by)
		}
		mute.Because.Text = mute.Because.Reason.Text()
		out = append(out, mute)
	}
	if p.mandatory(via) {
		because := belfry.Reason{Code: belfry.ByMandatory}
		if !h.Type.Mandatory {
			because.Subscription = via.Match.Subscription.ID
		}
		out = append(out, set("mandatory", "true", because, nil))
	}
	for _, c := range h.Type.Channels.Forbidden {
		out = append(out, set("forbidden", c, belfry.Reason{Code: belfry.ChannelForbidden}, nil))
	}
	channel := func(name string, because belfry.Reason, pref *belfry.Preference) {
		if !p.forbidden(name) && !slices.ContainsFunc(out, func(s belfry.EffectiveSetting) bool { return s.Setting == "channel" && s.Value == name }) {
			out = append(out, set("channel", name, because, pref))
		}
	}
	for _, c := range h.Type.Channels.Forced {
		channel(c, belfry.Reason{Code: belfry.ByForced}, nil)
	}
	channels, because := p.choose(via, &pref)
	for _, c := range channels {
		channel(c, because, by(because, pref.Channels))
	}
	fallback, because := p.fallback(via, &pref)
	for _, c := range fallback {
		if !p.forbidden(c) {
			out = append(out, set("fallback", c, because, by(because, pref.Fallback)))
		}
	}
	often := p.often(via, &pref)
	if often.By.Code == "" {
		often.By = nobody
	}
	return append(out, set("frequency", often.Frequency.String(), often.By, by(often.By, pref.Frequency)))
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + ", " + b
}

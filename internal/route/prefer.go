package route

import (
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Effective is what a person wants of one type at one place. Each setting has
// its own origin: the preference that speaks of it, the closest object first,
// then the most specific type; nil where none does.
type Effective struct {
	Level    *belfry.Preference // names a level
	Channels *belfry.Preference // names channels
	Mute     *belfry.Preference // mutes past now
}

// Prefer finds the effective preference for an event type at ancestors (the
// object first, the root last) at now. A preference that leaves a setting empty
// does not speak of it, and a mute that has ended is silent.
func Prefer(prefs []belfry.Preference, typ string, ancestors []belfry.Object, now time.Time) Effective {
	var best Effective
	var level, channels, mute rank
	for i := range prefs {
		pref := &prefs[i]
		at, applies := rankOf(pref, typ, ancestors)
		if !applies {
			continue
		}
		if pref.Level != "" && (best.Level == nil || at.before(level)) {
			best.Level, level = pref, at
		}
		if len(pref.Channels) > 0 && (best.Channels == nil || at.before(channels)) {
			best.Channels, channels = pref, at
		}
		if pref.MuteUntil != nil && pref.MuteUntil.After(now) && (best.Mute == nil || at.before(mute)) {
			best.Mute, mute = pref, at
		}
	}
	return best
}

// rank orders preferences: fewer steps up to their object first, then the more
// specific type. Of equals the first in the list holds.
type rank struct{ steps, specificity int }

func (a rank) before(b rank) bool {
	return a.steps < b.steps || a.steps == b.steps && a.specificity > b.specificity
}

func rankOf(pref *belfry.Preference, typ string, ancestors []belfry.Object) (rank, bool) {
	r := rank{steps: len(ancestors)} // for all objects: beyond the root
	if pref.Object != "" {
		r.steps = -1
		for i := range ancestors {
			if ancestors[i].ID == pref.Object {
				r.steps = i
				break
			}
		}
		if r.steps < 0 {
			return rank{}, false
		}
	}
	switch {
	case pref.Type == "":
		r.specificity = -1
	case !belfry.TypeMatches(pref.Type, typ):
		return rank{}, false
	case strings.HasSuffix(pref.Type, "*"):
		r.specificity = len(pref.Type) - 1
	default:
		r.specificity = 1 << 30
	}
	return r, true
}

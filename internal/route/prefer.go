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
	Level     *belfry.Preference // names a level
	Channels  *belfry.Preference // names channels
	Fallback  *belfry.Preference // names channels to fall back to
	Frequency *belfry.Preference // names a frequency
	Mute      *belfry.Preference // mutes now
	MuteEnds  time.Time          // with Mute
}

// About is what a preference is asked about: an event type with its category,
// at ancestors (the object first, the root last), at a time by the person's
// clocks.
type About struct {
	Type      string
	Category  string
	Ancestors []belfry.Object
	Now       time.Time
	Zone      *time.Location
}

// Prefer finds the effective preference. A preference that leaves a setting
// empty does not speak of it, and a mute that is over, or has not begun, is
// silent.
func Prefer(prefs []belfry.Preference, of About) Effective {
	var best Effective
	var level, channels, fallback, frequency, mute rank
	for i := range prefs {
		pref := &prefs[i]
		at, applies := rankOf(pref, &of)
		if !applies {
			continue
		}
		if pref.Level != "" && (best.Level == nil || at.before(level)) {
			best.Level, level = pref, at
		}
		if len(pref.Channels) > 0 && (best.Channels == nil || at.before(channels)) {
			best.Channels, channels = pref, at
		}
		if len(pref.Fallback) > 0 && (best.Fallback == nil || at.before(fallback)) {
			best.Fallback, fallback = pref, at
		}
		if pref.Frequency != nil && (best.Frequency == nil || at.before(frequency)) {
			best.Frequency, frequency = pref, at
		}
		if best.Mute == nil || at.before(mute) {
			if until, muted := pref.MutedUntil(of.Now, of.Zone); muted {
				best.Mute, best.MuteEnds, mute = pref, until, at
			}
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

// How specific what a preference is for is: a type, then a category, which an
// administrator put together, then a prefix, the longer the more, then all.
const (
	forType     = 1 << 30
	forCategory = 1 << 29
	forAll      = -1
)

func rankOf(pref *belfry.Preference, of *About) (rank, bool) {
	r := rank{steps: len(of.Ancestors)} // for all objects: beyond the root
	if pref.Object != "" {
		r.steps = -1
		for i := range of.Ancestors {
			if of.Ancestors[i].ID == pref.Object {
				r.steps = i
				break
			}
		}
		if r.steps < 0 {
			return rank{}, false
		}
	}
	switch {
	case pref.Category != "":
		if pref.Category != of.Category {
			return rank{}, false
		}
		r.specificity = forCategory
	case pref.Type == "":
		r.specificity = forAll
	case !belfry.TypeMatches(pref.Type, of.Type):
		return rank{}, false
	case strings.HasSuffix(pref.Type, "*"):
		r.specificity = len(pref.Type) - 1
	default:
		r.specificity = forType
	}
	return r, true
}

package manage

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Bounds of preferences.
const (
	maxPreferences = 1000 // of one person
	maxWindows     = 50   // of one mute
	maxRemind      = 7 * 24 * time.Hour
)

// Preferences are a person's, as they were put.
func (m *Manager) Preferences(ctx context.Context, tenant, user string) ([]belfry.Preference, error) {
	p, err := m.person(ctx, tenant, user)
	if err != nil {
		return nil, err
	}
	return p.Preferences, nil
}

// PutPreferences replaces a person's preferences and gives them as stored.
func (m *Manager) PutPreferences(ctx context.Context, by By, user string, ps []belfry.Preference) ([]belfry.Preference, error) {
	person, err := m.person(ctx, by.Tenant, user)
	if err != nil {
		return nil, err
	}
	f := &faults{}
	if len(ps) > maxPreferences {
		f.add("", "has %d entries: at most %d are allowed", len(ps), maxPreferences)
		return nil, f.err()
	}
	ps = slices.Clone(ps)
	var objects []string
	for i := range ps {
		objects = append(objects, ps[i].Object)
	}
	known, err := m.knownObjects(ctx, by.Tenant, objects)
	if err != nil {
		return nil, err
	}
	seen := map[belfry.PreferencePlace]bool{}
	for i := range ps {
		pr := &ps[i]
		p := at(true, i)
		if pr.Type != "" {
			f.pattern(p+"/type", pr.Type)
		}
		if f.line(p+"/category", pr.Category, 100); pr.Category != "" && pr.Type != "" {
			f.add(p+"/category", "goes without a type: a type is in its category")
		}
		if !known(pr.Object) {
			f.add(p+"/object", "there is no object %q", pr.Object)
		}
		if pr.Level != "" {
			f.choice(p+"/level", pr.Level, belfry.LevelAll, belfry.LevelRelated, belfry.LevelNone)
		}
		m.checkChannels(f, by.Tenant, p+"/channels", pr.Channels)
		m.checkChannels(f, by.Tenant, p+"/fallback", pr.Fallback)
		f.frequency(p+"/frequency", pr.Frequency)
		if seen[pr.Place()] {
			f.add(p, "says again what another entry says of this type and object: leave one")
		}
		seen[pr.Place()] = true
		if pr.MuteUntil != nil {
			until := pr.MuteUntil.UTC()
			pr.MuteUntil = &until
		}
		f.mute(p, pr)
		m.signMute(by, pr, person.Preferences)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	ch := m.change(by, "preferences.put", user)
	ch.Preferences = []belfry.UserPreferences{{User: user, Preferences: ps}}
	ch.DropTimers = []belfry.TimerKey{{Kind: belfry.TimerMuteEnds, ID: user}}
	if t, any := belfry.MuteTimer(by.Tenant, user, ps, m.now(), person.User.Zone()); any {
		ch.Timers = []belfry.Timer{t}
	}
	_, err = m.store.Apply(ctx, ch)
	return ps, err
}

// mute checks the mute of a preference.
func (f *faults) mute(p string, pr *belfry.Preference) {
	if len(pr.Mutes) > maxWindows {
		f.add(p+"/mutes", "has %d entries: at most %d are allowed", len(pr.Mutes), maxWindows)
		return
	}
	for i := range pr.Mutes {
		f.within(p+"/mutes/"+strconv.Itoa(i), pr.Mutes[i].Faults())
	}
	f.line(p+"/because", pr.Because, maxName)
	if pr.Because != "" && !pr.Muting() {
		f.add(p+"/because", "says why something is muted: give mute_until or mutes, or leave it out")
	}
	if pr.Remind == "" {
		return
	}
	switch d, ok := belfry.ParseSpan(pr.Remind); {
	case !ok || d <= 0 || d > maxRemind:
		f.add(p+"/remind", "must be how long before the end, such as 30m or 1d, at most %s", belfry.FormatSpan(maxRemind))
	case !pr.Muting():
		f.add(p+"/remind", "goes with a mute: give mute_until or mutes, or leave it out")
	}
}

// signMute says who set a mute: whoever did first, while it stays the same.
func (m *Manager) signMute(by By, pr *belfry.Preference, before []belfry.Preference) {
	pr.MutedBy = ""
	if !pr.Muting() {
		return
	}
	pr.MutedBy = by.Who
	for i := range before {
		old := &before[i]
		if old.Place() == pr.Place() && old.SameMute(pr) && old.MutedBy != "" {
			pr.MutedBy = old.MutedBy
		}
	}
}

// frequency checks how often somebody is told.
func (f *faults) frequency(pointer string, often *belfry.Frequency) {
	f.within(pointer, often.Faults())
}

package belfry

import "time"

// MuteEnding is the type of the events by which people are told that a mute of
// theirs ends soon.
const MuteEnding = "belfry.mute_ending"

// Reminder is when somebody is told that a mute ends.
type Reminder struct {
	At   time.Time // tell her then
	Ends time.Time
}

// mutesLookedAt bounds how many mutes ahead a reminder is looked for.
const mutesLookedAt = 8

// NextReminder is the first reminder of a preference's mutes after a time; false
// when there is none. A mute that is shorter than Remind has its reminder when
// it begins; one that is set so late that the time is over has none.
func (p *Preference) NextReminder(after time.Time, zone *time.Location) (Reminder, bool) {
	before, ok := ParseSpan(p.Remind)
	if !ok || !p.Muting() {
		return Reminder{}, false
	}
	at := after
	for range mutesLookedAt {
		ends, muted := p.MutedUntil(at, zone)
		begins := at
		if !muted {
			next, any := NextWindow(p.Mutes, at, zone)
			if !any {
				return Reminder{}, false
			}
			begins = next
			ends, _ = p.MutedUntil(begins, zone)
		}
		if _, still := p.MutedUntil(ends, zone); still {
			return Reminder{}, false // it never ends
		}
		r := Reminder{At: ends.Add(-before), Ends: ends}
		if !muted && r.At.Before(begins) {
			r.At = begins
		}
		if r.At.After(after) {
			return r, true
		}
		at = ends
	}
	return Reminder{}, false
}

// NextReminder is the first reminder after a time of all preferences.
func NextReminder(ps []Preference, after time.Time, zone *time.Location) (first Reminder, any bool) {
	for i := range ps {
		if r, ok := ps[i].NextReminder(after, zone); ok && (!any || r.At.Before(first.At)) {
			first, any = r, true
		}
	}
	return first, any
}

// MuteTimer is the timer of somebody's next reminder, as it is to be put; false
// when there is none.
func MuteTimer(tenant, user string, ps []Preference, after time.Time, zone *time.Location) (Timer, bool) {
	r, any := NextReminder(ps, after, zone)
	return Timer{Tenant: tenant, Kind: TimerMuteEnds, ID: user, Shard: Shard(tenant, user), Due: r.At.UTC().Truncate(time.Microsecond), Body: []byte("{}")}, any
}

package route

import (
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Silent is why a person does not want to be told any more of what was planned
// for her: she has muted it since, or switched it off. A mute that comes again
// every week is for what happens while it lasts. What is mandatory, or forced
// on a channel, she is told all the same.
func Silent(person *belfry.Person, channel string, typ belfry.EventType, sub *belfry.Subscription, event *belfry.Event, because []belfry.Reason, about About) *belfry.Reason {
	if Insists(channel, typ, sub) || service(event.Type) {
		return nil
	}
	pref := Prefer(person.Preferences, about)
	if pref.Mute != nil && (pref.Mute.MuteUntil == nil || !pref.Mute.MuteUntil.After(about.Now)) {
		pref.Mute = nil
	}
	p := &plan{in: &Input{Event: &belfry.Accepted{Event: event}}}
	return p.block(&belfry.Recipient{Principal: person.User.ID, Via: []belfry.Via{{Because: because}}}, person, &pref)
}

// Insists reports whether what is told of a type by a channel, for a
// subscription (nil = none), is told whatever the person wants: it is mandatory,
// or the administrator forces the channel.
func Insists(channel string, typ belfry.EventType, sub *belfry.Subscription) bool {
	return typ.Mandatory || sub != nil && sub.Mandatory || slices.Contains(typ.Channels.Forced, channel)
}

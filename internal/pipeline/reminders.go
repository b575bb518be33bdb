package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// remindersID is the built-in subscription that reminds people of mutes: a mute
// must not hold back the word of its own end.
const remindersID = belfry.SubscriptionPrefix + "reminders"

func reminders() belfry.Subscription {
	s := notices()
	s.ID, s.Title, s.Types, s.Mandatory = remindersID, "Reminders before a mute ends", []string{belfry.MuteEnding}, true
	return s
}

// builtIns are the house's own subscriptions, of every tenant.
var builtIns = []string{NoticesID, ConfirmationsID, remindersID}

// BuiltIns is how many subscriptions of the house's own a tenant has.
func BuiltIns() int { return len(builtIns) }

// BuiltIn reports whether a subscription is one of the house's own.
func BuiltIn(id string) bool { return slices.Contains(builtIns, id) }

// remindLate is how late somebody is still reminded.
const remindLate = 15 * time.Minute

// Reminders acts on the timers of mutes.
type Reminders struct {
	Facts *Facts
	// Admit accepts an event of the house, at most once with one id.
	Admit func(ctx context.Context, tenant string, e belfry.Event) error
	Now   func() time.Time
}

// Act reminds a person of the mutes whose time has come, and sets the timer to
// the next. What she prefers, and her time zone, are those of now.
func (r *Reminders) Act(ctx context.Context, t *belfry.Timer) (Move, error) {
	person, err := r.Facts.Person(ctx, t.Tenant, t.ID)
	if err != nil || person == nil || person.User.State != belfry.UserActive {
		return Move{}, err
	}
	now, zone := r.Now(), person.User.Zone()
	since := t.Due.Add(-time.Microsecond)
	if late := now.Add(-remindLate); since.Before(late) {
		since = late
	}
	for i := range person.Preferences {
		p := &person.Preferences[i]
		next, any := p.NextReminder(since, zone)
		if !any || next.At.After(now) || !next.Ends.After(now) || person.Settings.Stop {
			continue
		}
		if err := r.Admit(ctx, t.Tenant, reminderOf(person.User.ID, p, next.Ends)); err != nil {
			return Move{}, err
		}
	}
	if next, any := belfry.MuteTimer(t.Tenant, t.ID, person.Preferences, now, zone); any {
		return Move{Next: &next}, nil
	}
	return Move{}, nil
}

// reminderOf is the event of a mute that ends: the same whoever makes it.
func reminderOf(user string, p *belfry.Preference, ends time.Time) belfry.Event {
	place, _ := json.Marshal([]string{user, p.Type, p.Category, p.Object, ends.UTC().Format(time.RFC3339Nano)})
	sum := sha256.Sum256(place)
	data := map[string]string{"ends": ends.UTC().Format(time.RFC3339)}
	for name, value := range map[string]string{"type": p.Type, "category": p.Category, "because": p.Because, "muted_by": p.MutedBy} {
		if value != "" {
			data[name] = value
		}
	}
	body, _ := json.Marshal(data) // texts
	return belfry.Event{
		ID: "mute-" + base64.RawURLEncoding.EncodeToString(sum[:18]), Source: belfry.OwnSource, Type: belfry.MuteEnding,
		Object: p.Object, Related: []string{user}, Data: body,
	}
}

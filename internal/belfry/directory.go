package belfry

import (
	"encoding/json"
	"slices"
	"time"
)

// Object is a node of a tenant's tree.
type Object struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Parent     string          `json:"parent,omitempty"` // empty = the root
	Title      string          `json:"title,omitempty"`
	URL        string          `json:"url,omitempty"`
	Attributes json.RawMessage `json:"attributes,omitempty"` // a JSON object
	Document   string          `json:"document,omitempty"`   // shared identity of one document placed several times
	Hidden     bool            `json:"hidden,omitempty"`
	Blocks     []string        `json:"blocks,omitempty"`  // roles not inherited from above; "*" = all
	Implied    bool            `json:"implied,omitempty"` // named by an event, declared by nobody
	Deleted    *time.Time      `json:"deleted,omitempty"` // tombstone
	Origin     string          `json:"origin,omitempty"`  // who declared it: a key's or a source's name
	Settings   *ObjectSettings `json:"-"`                 // nil = none; kept apart, since whoever declares the object does not know them
}

// Ways subscriptions are looked up from an event's object upward.
const (
	LookupMerge   = "merge"   // those of all objects on the way
	LookupNearest = "nearest" // administrators' of the closest object that has any for the type, or has OwnSubscriptions
)

// ObjectSettings say how subscriptions are looked up from an object and below
// it, and who is told there. People's own subscriptions always apply.
type ObjectSettings struct {
	Lookup           string   `json:"lookup,omitempty"`            // merge | nearest; empty = as the closest object above says, at last merge
	Stop             bool     `json:"stop,omitempty"`              // administrators' subscriptions above the object do not apply
	OwnSubscriptions bool     `json:"own_subscriptions,omitempty"` // nearest goes no further, though the object has none
	Flags            []string `json:"flags,omitempty"`             // as of events; an event's own win
	Sender           *Sender  `json:"sender,omitempty"`            // of messages about what happens there and below
}

// Empty reports whether nothing is set.
func (s *ObjectSettings) Empty() bool {
	return s == nil || s.Lookup == "" && !s.Stop && !s.OwnSubscriptions && len(s.Flags) == 0 && s.Sender == nil
}

// Has reports whether the object has a flag.
func (s *ObjectSettings) Has(flag string) bool { return s != nil && slices.Contains(s.Flags, flag) }

// BlocksRole reports whether role is not inherited from above o.
func (o *Object) BlocksRole(role string) bool {
	return slices.Contains(o.Blocks, "*") || slices.Contains(o.Blocks, role)
}

// Pseudo groups: reserved principals that stand for many people.
const (
	GroupAuthenticated = "authenticated"
	GroupAnyone        = "anyone"
)

// States of a user.
const (
	UserActive    = "active"
	UserSuspended = "suspended"
	UserDeleted   = "deleted"
)

// User is a person the platform knows.
type User struct {
	ID         string          `json:"id"`
	Name       string          `json:"name,omitempty"`
	Email      string          `json:"email,omitempty"` // also a contact of kind email
	Locale     string          `json:"locale,omitempty"`
	TimeZone   string          `json:"time_zone,omitempty"`
	State      string          `json:"state"`
	Contacts   []Contact       `json:"contacts,omitempty"`
	Attributes json.RawMessage `json:"attributes,omitempty"`
	Origin     string          `json:"origin,omitempty"`
}

// Zone is the user's time zone; UTC where none is known.
func (u *User) Zone() *time.Location {
	zone, _ := Zone(u.TimeZone)
	return zone
}

// Contact is one address of a user on one kind of channel: a mailbox, a phone,
// a device.
type Contact struct {
	Kind     string            `json:"kind"`
	Address  string            `json:"address"`
	Label    string            `json:"label,omitempty"`
	Priority int               `json:"priority,omitempty"` // 1 first; 0 counts as 1
	Verified bool              `json:"verified"`
	Disabled bool              `json:"disabled,omitempty"` // switched off by the person or an administrator
	Dead     string            `json:"dead,omitempty"`     // reason of the tombstone; empty = alive
	DeadAt   *time.Time        `json:"dead_at,omitempty"`
	Keys     map[string]string `json:"keys,omitempty"`
	Origin   string            `json:"origin,omitempty"`
}

// Group holds users and groups.
type Group struct {
	ID      string   `json:"id"`
	Name    string   `json:"name,omitempty"`
	Members []string `json:"members,omitempty"` // principals
	// Address, when set, is told once instead of every member.
	Address string `json:"address,omitempty"`
	Origin  string `json:"origin,omitempty"`
}

// Grant says that a principal has a role on an object. Inactive grants count
// for nothing and are named in the trace.
type Grant struct {
	Principal string     `json:"principal"`
	Role      string     `json:"role"`
	Object    string     `json:"object,omitempty"`
	From      *time.Time `json:"from,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
	Inactive  string     `json:"inactive,omitempty"` // reason, e.g. "suspended enrolment"; empty = active
	Origin    string     `json:"origin,omitempty"`
}

// InactiveAt is empty when the grant counts at now, else why it does not.
func (g *Grant) InactiveAt(now time.Time) string {
	switch {
	case g.Inactive != "":
		return g.Inactive
	case g.From != nil && now.Before(*g.From):
		return "not yet valid: starts " + g.From.UTC().Format(time.RFC3339)
	case g.Until != nil && !now.Before(*g.Until):
		return "expired on " + g.Until.UTC().Format(time.RFC3339)
	}
	return ""
}

// HistoryEntry is one step of an object's workflow.
type HistoryEntry struct {
	Object     string          `json:"object,omitempty"`
	Document   string          `json:"document,omitempty"`
	Transition string          `json:"transition"`
	Actor      string          `json:"actor,omitempty"`
	Time       time.Time       `json:"time"`
	Comment    string          `json:"comment,omitempty"`
	Variables  json.RawMessage `json:"variables,omitempty"`
}

// StepQuery asks for steps of workflows, the latest first.
type StepQuery struct {
	Object   string // the steps of this object
	Document string // when set, those of every object that is this document instead
	Event    string // none that came with this event (evt_...) or a later one
	AsOf     int64  // none that an edit after this version added
	Before   string // continues where a page ended; empty = from the latest
	Limit    int
}

// Preference is what a person wants for (type or category, object); empty parts
// mean all. A setting that is left empty is not spoken of.
type Preference struct {
	Type      string     `json:"type,omitempty"`     // exact, or a prefix with *
	Category  string     `json:"category,omitempty"` // of the catalogue, instead of a type
	Object    string     `json:"object,omitempty"`   // applies to its subtree
	Level     string     `json:"level,omitempty"`    // all (default) | related | none
	Channels  []string   `json:"channels,omitempty"`
	Fallback  []string   `json:"fallback,omitempty"` // channels, when another has failed for good
	Frequency *Frequency `json:"frequency,omitempty"`

	// A mute is once until a time, or comes again every week, or both.
	MuteUntil *time.Time `json:"mute_until,omitempty"`
	Mutes     []Window   `json:"mutes,omitempty"`    // in the person's time zone
	Remind    string     `json:"remind,omitempty"`   // tell her so long before a mute ends: a Go duration
	Because   string     `json:"because,omitempty"`  // why it is muted, for whoever asks
	MutedBy   string     `json:"muted_by,omitempty"` // who set the mute; the server's to say
}

// PreferencePlace is what a preference is for: a person has one for each.
type PreferencePlace struct{ Type, Category, Object string }

// Place is what the preference is for.
func (p *Preference) Place() PreferencePlace {
	return PreferencePlace{p.Type, p.Category, p.Object}
}

// Muting reports whether the preference has a mute, whenever it is.
func (p *Preference) Muting() bool { return p.MuteUntil != nil || len(p.Mutes) > 0 }

// SameMute reports whether two preferences mute at the same times.
func (p *Preference) SameMute(o *Preference) bool {
	once := p.MuteUntil == o.MuteUntil || p.MuteUntil != nil && o.MuteUntil != nil && p.MuteUntil.Equal(*o.MuteUntil)
	return once && slices.EqualFunc(p.Mutes, o.Mutes, func(a, b Window) bool {
		return a.From == b.From && a.To == b.To && slices.Equal(a.Days, b.Days)
	})
}

// MutedUntil reports whether the preference mutes at now, and until when: windows
// that follow on each other are one mute.
func (p *Preference) MutedUntil(now time.Time, zone *time.Location) (until time.Time, muted bool) {
	if p.MuteUntil != nil && p.MuteUntil.After(now) {
		until, muted = *p.MuteUntil, true
	}
	if len(p.Mutes) > 0 {
		at := now
		if muted {
			at = until
		}
		if end, in := WindowsAt(p.Mutes, at, zone); in {
			return end, true
		}
	}
	return until, muted
}

// Levels of a preference.
const (
	LevelAll     = "all"
	LevelRelated = "related" // only what is about me
	LevelNone    = "none"
)

// Settings are a person's choices that hold everywhere.
type Settings struct {
	Stop bool `json:"stop"` // global stop: no message on any channel
	// Quiet are hours in which she is not disturbed: what comes then waits for
	// their end and is told in one message.
	Quiet         *Window `json:"quiet,omitempty"`
	DigestAt      string  `json:"digest_at,omitempty"`      // HH:MM: when digests come that do not say; empty = 08:00
	DigestWeekday string  `json:"digest_weekday,omitempty"` // of weekly ones; empty = monday
	// MaxPerDay is how many messages she gets a day by each channel; what is more
	// waits.
	MaxPerDay map[string]int `json:"max_per_day,omitempty"`
}

// Person is all that resolve and route need to know of a user.
type Person struct {
	User        User
	Settings    Settings
	Preferences []Preference
}

// UnmarshalJSON reads a contact; one that does not say whether it is verified
// is: who may write a user's addresses vouches for them.
func (c *Contact) UnmarshalJSON(raw []byte) error {
	type plain Contact
	p := plain{Verified: true}
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	*c = Contact(p)
	return nil
}

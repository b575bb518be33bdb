package belfry

import "time"

// Condition makes a subscription tell when something happens often (Count),
// stops happening (Absence) or is not what it was (Change), instead of telling
// of each event. Exactly one of the three is set. Spans are written as ParseSpan
// reads them.
type Condition struct {
	Count    int        `json:"count,omitempty"`       // so many events
	Within   string     `json:"within,omitempty"`      // in less than this, by the events' own time; of a change: a value is remembered for so long, empty = 90d
	Absence  string     `json:"absence,omitempty"`     // no event for so long
	Change   string     `json:"change,omitempty"`      // CEL: its value is not what it was at the event before of the group
	Above    *float64   `json:"above,omitempty"`       // of a change: not of the value itself, but of its side: above when it is more than this
	Below    *float64   `json:"below,omitempty"`       // and below when it is less than this; between the two it stays on its side
	Steps    []Step     `json:"transitions,omitempty"` // of a change: these alone; empty = all
	First    bool       `json:"first,omitempty"`       // of a change: tell also of the first value of a group
	Starts   string     `json:"starts,omitempty"`      // of an absence: saved (default without groups) | first
	GroupBy  string     `json:"group_by,omitempty"`    // CEL: events of one value are looked at together
	Groups   int        `json:"groups,omitempty"`      // at most so many groups at once; 0 = 10,000
	Cooldown string     `json:"cooldown,omitempty"`    // quiet after each time it was met
	Late     string     `json:"late,omitempty"`        // events that come later than this after they happened do not count; empty = 1h, or the span of an absence when that is longer
	Wait     string     `json:"wait,omitempty"`        // for events that are on their way, before it is decided; empty = not at all
	Until    *time.Time `json:"until,omitempty"`       // nothing is looked at from then on
	Resolved bool       `json:"resolved,omitempty"`    // of an absence: tell also when it is over
}

// Step is a change that is asked for: from one value to another. Both may be *,
// or empty, which is the same. Of a change across limits the values are
// SideAbove and SideBelow.
type Step struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// The sides of the limits of a change.
const (
	SideAbove = "above"
	SideBelow = "below"
)

// Where the watch of an absence begins.
const (
	StartsSaved = "saved" // when the subscription is saved, or resumed
	StartsFirst = "first" // with the first event of a group
)

// OwnSource is the source of Belfry's own events; nobody else may name it.
const OwnSource = "belfry"

// Types of Belfry's own events about conditions.
const (
	ConditionMet      = "belfry.condition_met"
	ConditionResolved = "belfry.condition_resolved" // an absence is over
)

// FromConditions reports whether the event was made of a condition.
func (e *Event) FromConditions() bool {
	return e.Source == OwnSource && (e.Type == ConditionMet || e.Type == ConditionResolved)
}

// ConditionData is the data of events that conditions make.
type ConditionData struct {
	Subscription string          `json:"subscription"`
	Title        string          `json:"title,omitempty"` // of the subscription
	Group        string          `json:"group"`
	Count        int             `json:"count"` // events that met it; 0 of an absence or a change
	Needed       int             `json:"needed,omitempty"`
	Within       string          `json:"within,omitempty"`  // the window, or the span of the absence
	Before       *string         `json:"before,omitempty"`  // of a change: what it was; not there of a first value
	After        *string         `json:"after,omitempty"`   // of a change: what it is
	Crossed      string          `json:"crossed,omitempty"` // of a change across limits: above | below
	Limit        *float64        `json:"limit,omitempty"`   // the one that was crossed
	Firing       int             `json:"firing"`            // how often it was met in this group, this time included
	First        *time.Time      `json:"first,omitempty"`
	Last         *time.Time      `json:"last,omitempty"`
	Events       []string        `json:"events"`          // evt_..., the newest last, a hundred at most
	Event        *ConditionEvent `json:"event,omitempty"` // the last of them
	Met          string          `json:"met,omitempty"`   // of a condition that is over: the event that said it was met
}

// ConditionEvent is the last event that counted, as far as it is small.
type ConditionEvent struct {
	Type   string         `json:"type"`
	Object string         `json:"object,omitempty"`
	Actor  string         `json:"actor,omitempty"`
	Time   time.Time      `json:"time"`
	Data   map[string]any `json:"data,omitempty"`
}

// Observation says that an event counts for a subscription's condition. Door 2
// stores it with the page that found it.
type Observation struct {
	Subscription string
	Group        string
	At           time.Time // when it happened; never after it was accepted
	Look         time.Time // when it is to be looked at
	Value        string    // for a change: see Observed
	AsOf         int64     // the version under which it was found
}

// Observed is a stored observation.
type Observed struct {
	At      time.Time
	EventID string
	Value   string `json:",omitempty"` // what a change looks at, as package condition writes it
}

// Before reports whether o comes before another one: by time, then by id.
func (o Observed) Before(p Observed) bool {
	return o.At.Before(p.At) || o.At.Equal(p.At) && o.EventID < p.EventID
}

// ConditionGroup is where the condition of a subscription stands in one group.
// Every subscription with a condition has the group "", from when it is saved.
type ConditionGroup struct {
	Tenant       string
	Subscription string
	Group        string
	Born         time.Time // names the row among those the group had before
	Low          time.Time // the earliest observation nobody has looked at; zero = none
	Due          time.Time // when it is to be looked at; zero = when something comes
	AsOf         int64     // look at it with what is known from this version on
	Mark         int64     // rises with every observation and edit
	Version      int64     // rises with every look
	State        []byte    // of package condition
}

// ConditionStep is one look at a group. It counts only while Version is the
// row's; what came meanwhile (Mark) makes it be looked at again.
type ConditionStep struct {
	Of     ConditionGroup // as it was read
	Low    time.Time
	Due    time.Time
	State  []byte
	Drop   bool    // the row goes
	Drafts []Draft // events to be accepted with it
}

// MaxGroups is how many groups a condition has room for.
func (c *Condition) MaxGroups() int {
	if c.Groups == 0 {
		return 10_000
	}
	return c.Groups
}

// ConditionView says where a condition stands in a group.
type ConditionView struct {
	Group   string     `json:"group"`
	Count   int        `json:"count"`            // events that count now
	Needed  int        `json:"needed,omitempty"` // of a count
	Within  string     `json:"within,omitempty"` // the window, or the span of the absence
	Value   *string    `json:"value,omitempty"`  // of a change: what it is now
	Side    string     `json:"side,omitempty"`   // of a change across limits: above | below | between, from the beginning
	First   *time.Time `json:"first,omitempty"`  // the earliest of those that count
	Last    *time.Time `json:"last,omitempty"`   // the newest event
	Quiet   *time.Time `json:"quiet_until,omitempty"`
	Since   *time.Time `json:"since,omitempty"` // of an absence: from when it is counted
	Due     *time.Time `json:"due,omitempty"`   // of an absence: when it is met if nothing comes
	Firings int        `json:"firings"`         // how often it was met
	Met     *time.Time `json:"met,omitempty"`   // when it was last
	Open    bool       `json:"open,omitempty"`  // an absence that lasts
	Ended   *time.Time `json:"ended,omitempty"` // when its time was over
	Text    string     `json:"text"`            // in words, in the language of Accept-Language
}

// Between is the side of a value that was on none of the limits' sides yet.
const Between = "between"

package belfry

import "time"

// ProblemResolved is the type of the events that tell whoever asked that a
// problem is resolved.
const ProblemResolved = "belfry.resolved"

// EndedCursor begins the cursor of a plan that was ended by the event that
// follows it, before all of it was told.
const EndedCursor = "ended/"

// ProblemName is what an event raises, and what another one of its source names
// to resolve it: its problem, else its id.
func (e *Event) ProblemName() string {
	if e.Problem != "" {
		return e.Problem
	}
	return e.ID
}

// Ending is what an event does that resolves a problem.
type Ending struct {
	Tenant  string
	By      string    // evt_...
	At      time.Time // when it happened
	Source  string
	Problem string   // what it resolves: a problem, or the id of an event
	Events  []string // evt_..., that are ended by it
}

// Follow says that a user wants to hear nothing more of an event's problem until
// it is resolved, or to be told when it is.
type Follow struct {
	User  string    `json:"user,omitempty"`
	Event string    `json:"event"` // evt_...
	Mute  bool      `json:"mute"`
	Tell  bool      `json:"tell"`
	Since time.Time `json:"since,omitzero"`
}

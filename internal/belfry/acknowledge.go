package belfry

import "time"

// Acknowledge says that somebody is to say that she has taken notice: messages
// carry a link for it. When nobody does in time, the next are told.
type Acknowledge struct {
	Escalate []EscalationStep `json:"escalate,omitempty"` // in their order
}

// EscalationStep tells others, or by other channels, of what nobody has
// acknowledged. Without users and groups it tells again whom the subscription
// has told already.
type EscalationStep struct {
	After    string   `json:"after"` // since the step before, or since the event was planned: as ParseSpan reads it
	Users    []string `json:"users,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	Channels []string `json:"channels,omitempty"` // empty = each person's own choice
}

// Again reports whether the step tells those who were told.
func (s *EscalationStep) Again() bool { return len(s.Users)+len(s.Groups) == 0 }

// Wait is After, parsed.
func (s *EscalationStep) Wait() time.Duration {
	d, _ := ParseSpan(s.After)
	return d
}

// Escalation names a step of a subscription: the terms of a run of planning.
type Escalation struct {
	Subscription string `json:"subscription"`
	Step         int    `json:"step"` // 1-based
}

// Acknowledgement is somebody's word that she has taken notice of an event.
type Acknowledgement struct {
	EventID string    `json:"event,omitempty"`
	Who     string    `json:"who"` // a principal, or a bare (normalised) address
	At      time.Time `json:"at"`
	How     string    `json:"how"` // link | inbox | api
}

// Ways to acknowledge.
const (
	ByLink  = "link"
	ByInbox = "inbox"
	ByAPI   = "api"
)

// Timer is something to be done at a time: a row that outlives crashes. The
// owner of the plan shard acts on it.
type Timer struct {
	Tenant string
	Kind   string
	ID     string // of the kind; unique in the tenant with it
	Shard  int
	Due    time.Time
	Body   []byte // JSON, of the kind
}

// Kinds of timers.
const (
	TimerEscalation = "escalation" // ID: EscalationTimer
	TimerMuteEnds   = "mute_ends"  // ID: the user's
)

// EscalationTimer is the id of the timer of a subscription's escalation of an
// event. Those of one event begin with its id and a slash.
func EscalationTimer(eventID, subscription string) string { return eventID + "/" + subscription }

// TimerKey names a timer.
type TimerKey struct{ Kind, ID string }

// PlannedRun is a run of planning that somebody, or a timer, ordered.
type PlannedRun struct {
	EventPlace
	Terms Replay
}

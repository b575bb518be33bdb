package belfry

import "time"

// EventView is an event as answers show it: the event's own form and what
// acceptance added. EventID is empty for an event that is only supposed.
type EventView struct {
	EventID  string     `json:"event_id,omitempty"` // evt_...
	Accepted *time.Time `json:"accepted,omitempty"`
	Event
}

// View shows an accepted event.
func (a *Accepted) View() EventView {
	at := a.At
	return EventView{EventID: a.EventID, Accepted: &at, Event: *a.Event}
}

// ReasonView is a Reason with its words.
type ReasonView struct {
	Reason
	Text string `json:"text"`
}

// ViewReasons shows reasons; never nil, so that it is [] in JSON.
func ViewReasons(reasons []Reason) []ReasonView {
	views := make([]ReasonView, 0, len(reasons))
	for _, r := range reasons {
		views = append(views, ReasonView{Reason: r, Text: r.Text()})
	}
	return views
}

// Answer says for one event who was (or would be) told what, who was not, and
// why: the answer of a trace and of an explanation.
type Answer struct {
	Event         EventView            `json:"event"`
	Subscriptions []AnswerSubscription `json:"subscriptions"`
	People        []AnswerPerson       `json:"people"`
	// Planned is false while the event still waits for its plan, so that
	// more may follow; an explanation is always complete.
	Planned bool `json:"planned"`
	// Computed is true when the answer was computed with today's data rather
	// than read from what was decided then.
	Computed bool `json:"computed"`
	// Acknowledged are those who said that they have taken notice; Escalation is
	// what comes next, and when, if nobody does.
	Acknowledged []Acknowledgement  `json:"acknowledged,omitempty"`
	Escalation   []AnswerEscalation `json:"escalation,omitempty"`
	// Next continues the list of people; empty = this is the end.
	Next string `json:"next,omitempty"`
}

// AnswerEscalation is the step of an escalation that is to come next.
type AnswerEscalation struct {
	Subscription string    `json:"subscription"`
	Title        string    `json:"title,omitempty" doc:"Of the subscription"`
	Step         int       `json:"step"`
	Of           int       `json:"of,omitempty" doc:"How many steps there are; absent when there is no such step any more, and none will be taken"`
	Due          time.Time `json:"due"`
	Users        []string  `json:"users,omitempty" doc:"Who is told"`
	Groups       []string  `json:"groups,omitempty" doc:"Whose members are told"`
	Again        bool      `json:"again,omitempty" doc:"Those are told again whom the subscription told"`
	Channels     []string  `json:"channels,omitempty" doc:"Absent: each person's own choice"`
}

// Fill says what the step is, as the subscription is now.
func (a *AnswerEscalation) Fill(sub *Subscription) {
	if sub == nil || sub.Acknowledge == nil || a.Step < 1 || a.Step > len(sub.Acknowledge.Escalate) {
		return
	}
	step := &sub.Acknowledge.Escalate[a.Step-1]
	a.Title, a.Of, a.Users, a.Groups, a.Again, a.Channels = sub.Title, len(sub.Acknowledge.Escalate), step.Users, step.Groups, step.Again(), step.Channels
}

// AnswerSubscription says whether a subscription wanted the event, and why.
type AnswerSubscription struct {
	ID      string       `json:"id"`
	Title   string       `json:"title,omitempty"`
	Matched bool         `json:"matched"`
	Because []ReasonView `json:"because"`
	// Condition is where a condition stands now in the event's group.
	Condition *ConditionView `json:"condition,omitempty"`
}

// What became of somebody for an event.
const (
	Told    = "told"
	NotTold = "not_told"
)

// AnswerPerson says what became of one person, bare address or endpoint.
type AnswerPerson struct {
	Principal string       `json:"principal,omitempty"`
	Address   string       `json:"address,omitempty"`
	Endpoint  string       `json:"endpoint,omitempty"`
	Channel   string       `json:"channel,omitempty"` // set when the line speaks of one channel only
	Outcome   string       `json:"outcome"`           // Told or NotTold
	Because   []ReasonView `json:"because"`
	// Deliveries are ids (dlv_...), those of the inbox included; empty for
	// an explanation, which sends nothing.
	Deliveries []string `json:"deliveries"`
}

// TraceQuery asks what became of an event.
type TraceQuery struct {
	EventID   string
	Principal string // of this person only; somebody no rule named gets a computed answer
	After     string // Answer.Next of the page before
	Limit     int    // of people; at most 1000
}

// TraceRows is what the store kept of an event's planning.
type TraceRows struct {
	Matches      []MatchNote
	Deliveries   []Delivery // inbox rows included, as channel inbox
	Suppressions []Suppression
	Planned      bool   // no page of the plan is missing
	Next         string // continues the list; empty = the end
}

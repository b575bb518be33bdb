package belfry

import "time"

// Backtest asks what a subscription would have done with stored events.
type Backtest struct {
	Subscription Subscription `json:"subscription"` // saved (with its id) or only supposed
	Since        time.Time    `json:"since"`        // of events accepted then or later
	Until        time.Time    `json:"until"`        // of events accepted before
}

// BacktestJob is the kind of job that does a long one.
const BacktestJob = "subscriptions.backtest"

// SupposedID stands for a subscription that is not saved.
const SupposedID = SubscriptionPrefix + "supposed"

// BacktestReport is what a subscription would have sent, alone, by today's
// people and preferences, had each event happened when it did.
type BacktestReport struct {
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Events   int64     `json:"events" doc:"Stored events that were looked at"`
	Matched  int64     `json:"matched" doc:"Those it wants"`
	Messages int64     `json:"messages" doc:"What would have been sent, inbox entries included"`
	People   int64     `json:"people" doc:"Different users and addresses that would have been told"`
	// AtLeast is true when there were too many people to tell all apart, or an
	// event told too many to go through.
	AtLeast  bool             `json:"at_least,omitempty" doc:"There are more people, and perhaps messages, than were counted"`
	Cut      bool             `json:"cut,omitempty" doc:"There were more events than are looked at: until is where it ended"`
	Channels map[string]int64 `json:"channels" doc:"Messages by channel"`
	PerWeek  BacktestVolume   `json:"per_person_and_week" doc:"Messages to those who are told at all"`
	Weeks    []BacktestWeek   `json:"weeks" doc:"Seven days each, from since"`
	Most     []BacktestPerson `json:"most" doc:"Who would have heard most"`
	NotTold  map[string]int64 `json:"not_told" doc:"How often somebody it names would not have been told, by the deciding reason"`
	Samples  []BacktestSample `json:"samples" doc:"The latest events it wants"`
}

// BacktestVolume is how much comes to one person.
type BacktestVolume struct {
	Mean float64 `json:"mean"`
	Most int64   `json:"most" doc:"The most that anybody would have got in one of the weeks"`
}

// BacktestWeek is a part of a backtest.
type BacktestWeek struct {
	Start    time.Time `json:"start"`
	Matched  int64     `json:"matched"`
	Messages int64     `json:"messages"`
	People   int64     `json:"people"`
}

// BacktestPerson is what would have come to one user or address.
type BacktestPerson struct {
	Who      string `json:"who"`
	Messages int64  `json:"messages"`
	InAWeek  int64  `json:"in_a_week" doc:"The most in one of the weeks"`
}

// BacktestSample is an event that a subscription wants, with whom it would have
// told and why: some of them.
type BacktestSample struct {
	Event   string         `json:"event"`
	Type    string         `json:"type"`
	Object  string         `json:"object,omitempty"`
	At      time.Time      `json:"at"`
	Because []ReasonView   `json:"because"`
	People  []AnswerPerson `json:"people"`
	More    bool           `json:"more,omitempty" doc:"There are more people"`
}

package belfry

import "time"

// Why says about one message to one person all there is to say: what happened,
// which subscription and rule named her, what decided how she was told, when and
// where, how the sends ended, and how she changes it.
type Why struct {
	Delivery     string          `json:"delivery"`
	Outcome      string          `json:"outcome" enum:"told,not_told"`
	State        string          `json:"state"`
	Event        WhyEvent        `json:"event"`
	Subscription WhySubscription `json:"subscription,omitzero"`
	Principal    string          `json:"principal,omitempty"`
	Endpoint     string          `json:"endpoint,omitempty"`
	Contact      WhyContact      `json:"contact"`
	// Named are the reasons that named her, the leading subscription's first;
	// Rule is the rule of those.
	Named []ReasonView `json:"named"`
	Rule  int          `json:"rule,omitempty" doc:"1-based position in the subscription's recipients"`
	// Decided is what decided the channel, or that nothing is sent.
	Decided  []ReasonView `json:"decided"`
	Planned  time.Time    `json:"planned" doc:"When the event was accepted"`
	Due      *time.Time   `json:"due,omitempty" doc:"When the next send is tried; absent when it is over"`
	Attempts []WhyAttempt `json:"attempts"`
	Change   []WhyChange  `json:"change"`
	Locale   string       `json:"locale,omitempty" doc:"Of the reader"`
}

// WhyEvent is what a message is about.
type WhyEvent struct {
	ID          string    `json:"id"`
	Type        string    `json:"type"`
	Title       string    `json:"title,omitempty"`
	Object      string    `json:"object,omitempty"`
	ObjectTitle string    `json:"object_title,omitempty"`
	URL         string    `json:"url,omitempty"`
	Time        time.Time `json:"time"`
}

// WhySubscription is what a message came by.
type WhySubscription struct {
	ID    string `json:"id"`
	Title string `json:"title,omitempty"`
	// Gone is why it does not stand any more.
	Gone *ReasonView `json:"gone,omitempty"`
}

// WhyContact is where a message went.
type WhyContact struct {
	Channel string `json:"channel"`
	Address string `json:"address,omitempty"`
	Label   string `json:"label,omitempty"`
}

// WhyAttempt is one send.
type WhyAttempt struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"`
	Text    string    `json:"text,omitempty" doc:"The outcome in words"`
	Status  int       `json:"status,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// What somebody can do about a message.
const (
	ChangeUnsubscribe = "unsubscribe"
	ChangeLeave       = "leave"
	ChangePreference  = "preference" // there is one that decided
	ChangePrefer      = "prefer"     // there is none yet
	ChangeMandatory   = "mandatory"  // nothing
	ChangeForced      = "forced"     // nothing, on this channel
)

// WhyChange is one way to change what comes.
type WhyChange struct {
	Code   string `json:"code" enum:"unsubscribe,leave,preference,prefer,mandatory,forced"`
	Text   string `json:"text"`
	URL    string `json:"url,omitempty"`
	Type   string `json:"type,omitempty"`   // of the preference
	Object string `json:"object,omitempty"` // of the preference
}

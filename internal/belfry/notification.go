package belfry

import "time"

// NotificationType is the type of the events by which people are told of an
// object by hand.
const NotificationType = "belfry.notification"

// KindNotification is the kind of a notification's document.
const KindNotification = "notification"

// NotificationPrefix begins ids of notifications.
const NotificationPrefix = "ntf_"

// Notification is a message about an object that somebody sends by hand, to
// people she chose. Whom it tells is a subscription of its own, what happened an
// event of its own, so that everything that holds for others holds for it.
type Notification struct {
	ID         string    `json:"id"`
	Object     string    `json:"object,omitempty"` // what it is about; empty = the root
	Recipients []Rule    `json:"recipients"`
	Channels   []string  `json:"channels,omitempty"` // empty = each person's own choice
	Template   string    `json:"template,omitempty"` // a reusable message, instead of subject and body
	Subject    string    `json:"subject,omitempty"`  // with mustache values
	Body       string    `json:"body,omitempty"`     // Markdown with mustache values
	From       string    `json:"from,omitempty"`     // the user who writes: her name is shown, answers go to her
	Who        string    `json:"who,omitempty"`      // who ordered it; the server's to say, as what follows
	Created    time.Time `json:"created,omitzero"`

	Subscription string    `json:"subscription,omitempty"`
	Event        string    `json:"event,omitempty"`    // evt_...
	State        string    `json:"state,omitempty"`    // sending | paused | sent | cancelled
	Progress     *Progress `json:"progress,omitempty"` // of its messages
}

// States of a notification.
const (
	NotificationSending   = "sending"
	NotificationPaused    = "paused"
	NotificationSent      = "sent"
	NotificationCancelled = "cancelled"
)

// Progress counts the messages of an event by what became of them.
type Progress struct {
	Planned   bool  `json:"planned"` // everybody is decided
	Open      int64 `json:"open"`    // they wait for a send
	Delivered int64 `json:"delivered"`
	Failed    int64 `json:"failed"`
	Not       int64 `json:"not"` // suppressed or cancelled
}

// Reach is whom a message would tell, counted before anything is sent.
type Reach struct {
	People    int64            `json:"people"`    // users who would be told
	Addresses int64            `json:"addresses"` // bare addresses that would be
	Messages  int64            `json:"messages"`
	Channels  map[string]int64 `json:"channels"`           // messages on each
	LeftOut   int64            `json:"left_out"`           // people and addresses that would hear nothing
	Reasons   map[string]int64 `json:"reasons"`            // why not, by code: of those, and of single channels
	Samples   []AnswerPerson   `json:"samples,omitempty"`  // the first of those who would hear nothing
	AtLeast   bool             `json:"at_least,omitempty"` // there are more than were counted
}

package ui

import (
	"context"
	"net/http"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// House is what the page does and reads of Belfry.
type House interface {
	// Publish hands an event in; the receipt comes after it is durable.
	Publish(ctx context.Context, e belfry.Event) (belfry.Receipt, error)
	// Trace says who was told of an event, who was not, and why.
	Trace(ctx context.Context, eventID string) (belfry.Answer, error)
	// Deliveries are those of an event, on all channels.
	Deliveries(ctx context.Context, eventID string) ([]Delivery, error)
	// Inbox is a user's newest entries.
	Inbox(ctx context.Context, user string) ([]InboxItem, error)
}

// Catcher holds what arrived at the demonstration's mail server and webhook
// receiver, oldest first.
type Catcher interface {
	Mails() []Mail
	Hooks() []Hook
	// Changed gives a channel that is closed at the next arrival.
	Changed() <-chan struct{}
	// Refuse makes the webhook receiver answer 503, or well again.
	Refuse(bool)
	Refusing() bool
}

// Delivery is one message to one destination, as far as the page shows it.
type Delivery struct {
	ID        string `json:"id"`
	Recipient string `json:"recipient"`
	Channel   string `json:"channel"`
	Address   string `json:"address"`
	State     string `json:"state"`
}

// InboxItem is an inbox entry. HTML is sanitised by the server.
type InboxItem struct {
	ID      string            `json:"id"`
	Event   string            `json:"event"`
	Title   string            `json:"title"`
	Text    string            `json:"text"`
	HTML    string            `json:"html"`
	URL     string            `json:"url"`
	Reason  belfry.ReasonView `json:"reason"`
	Read    bool              `json:"read"`
	Created time.Time         `json:"created"`
}

// Mail is a caught message.
type Mail struct {
	ID        int // counts up
	At        time.Time
	From, To  string // of the envelope
	Subject   string
	MessageID string
	Headers   []Header // in order, unfolded
	Text      string
	HTML      string // as it came: only shown sandboxed
}

// Header is one line of a head.
type Header struct{ Name, Value string }

// Hook is a caught webhook request.
type Hook struct {
	ID       int // counts up
	At       time.Time
	Delivery string      // webhook-id
	Head     http.Header // of the request
	Body     []byte
	Verified bool   // the signature is right
	Problem  string // why not
	Status   int    // what the receiver answered
}

// Scene is something that can happen in the school, at the press of a button.
// The page fills in the event's id and time. Title and Text are ids of package
// words, or themselves.
type Scene struct {
	Key   string // names the button
	Title string // what happens, as a sentence
	Text  string // what to look for
	Event belfry.Event
}

// Person is somebody of the school.
type Person struct {
	ID      string
	Name    string // of a person, or an id of package words
	Address string // mailbox
	Note    string // who they are and what they chose: an id of package words, or itself
}

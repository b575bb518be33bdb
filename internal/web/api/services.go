package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
)

// Authenticator tells who is asking and keeps keys; *auth.Authenticator is one.
type Authenticator interface {
	Authenticate(ctx context.Context, authorization, tenant string, addr netip.Addr) (auth.Identity, error)
	Issue(ctx context.Context, by auth.Identity, draft auth.KeyDraft) (auth.IssuedKey, error)
	Keys(ctx context.Context, by auth.Identity, after string, limit int) ([]auth.Key, string, error)
	Key(ctx context.Context, by auth.Identity, id string) (auth.Key, error)
	Revoke(ctx context.Context, by auth.Identity, id string) error
	Forget(kind, id string)
}

// Ingester admits events; *ingest.Ingester is one.
type Ingester interface {
	Receive(ctx context.Context, o ingest.Origin, h http.Header, body []byte) (ingest.Result, error)
	// Prepare fills in what an event leaves out, without storing it.
	Prepare(ctx context.Context, o ingest.Origin, events []belfry.Event) ([]belfry.Draft, []int, map[int]*belfry.Error, error)
}

// Explainer says who is told and why: of a stored event, or of one that is
// only supposed.
type Explainer interface {
	Explain(ctx context.Context, tenant string, e *belfry.Event) (belfry.Answer, error)
	// Trace gives NotFound for an event that is not there.
	Trace(ctx context.Context, tenant string, q belfry.TraceQuery) (belfry.Answer, error)
	Answerer
	// Why says all about one delivery or inbox entry.
	Why(ctx context.Context, tenant, id string) (belfry.Why, error)
	// Awaits says which open deliveries wait for a paused subscription.
	Awaits(ctx context.Context, tenant string, ds []belfry.Delivery) (map[string]belfry.ReasonView, error)
}

// Answerer answers questions about subscriptions, places and people; what is
// not there is NotFound.
type Answerer interface {
	Interested(ctx context.Context, tenant, subscription string, e *belfry.Event) (belfry.AnswerSubscription, error)
	// Recipients speaks of a stored event by its id, or of e.
	Recipients(ctx context.Context, tenant, subscription, eventID string, e *belfry.Event, q belfry.TraceQuery) (belfry.Answer, error)
	Generators(ctx context.Context, tenant, object, user, after string, limit int) ([]belfry.Generator, string, error)
	WhoGetsWhat(ctx context.Context, tenant, object, typ, after string, limit int) ([]belfry.HereAnswer, string, error)
	Effective(ctx context.Context, tenant, user, object, typ, subscription string) ([]belfry.EffectiveSetting, error)
	// Conditions are where a subscription's condition stands in its groups.
	Conditions(ctx context.Context, tenant, subscription, after string, limit int) ([]belfry.ConditionView, string, error)
}

// EventQuery selects stored events, newest first.
type EventQuery struct {
	Type   string // exact, or a prefix with *; empty = all
	Object string // empty = all
	Since  time.Time
	Before string // event id the page before ended with
	Limit  int
}

// EventReader reads stored events.
type EventReader interface {
	ListEvents(ctx context.Context, tenant string, q EventQuery) (events []belfry.Accepted, next string, err error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
}

// DeliveryQuery selects deliveries, newest first.
type DeliveryQuery struct {
	State        *belfry.State // nil = any
	Recipient    string        // principal or address
	Event        string
	Channel      string
	Endpoint     string
	Subscription string
	Since        time.Time
	Until        time.Time
	Before       string // delivery id the page before ended with
	Limit        int
}

// DeliveryReader reads deliveries and their attempts.
type DeliveryReader interface {
	ListDeliveries(ctx context.Context, tenant string, q DeliveryQuery) (ds []belfry.Delivery, next string, err error)
	Delivery(ctx context.Context, tenant, id string) (belfry.Delivery, bool, error)
	Attempts(ctx context.Context, tenant, deliveryID string) ([]belfry.Attempt, error)
	// LastAttempts are the newest attempts of those deliveries that have any.
	LastAttempts(ctx context.Context, tenant string, ids []string) (map[string]belfry.Attempt, error)
}

// InboxQuery selects entries of one inbox, newest first. Archived false leaves
// out archived and snoozed ones, true gives only archived ones.
type InboxQuery struct {
	Before   string
	Limit    int
	Unread   bool
	Archived bool
}

// InboxItem is an entry as a person reads it.
type InboxItem struct {
	ID           string            `json:"id"`
	Event        string            `json:"event" doc:"evt_..., for the trace"`
	Type         string            `json:"type"`
	Object       string            `json:"object,omitempty"`
	Subscription string            `json:"subscription,omitempty"`
	Title        string            `json:"title"`
	Text         string            `json:"text"`
	HTML         string            `json:"html" doc:"Sanitised fragment"`
	URL          string            `json:"url,omitempty"`
	Reason       belfry.ReasonView `json:"reason" doc:"Why it is here; the trace has all reasons"`
	Acknowledge  bool              `json:"acknowledge,omitempty" doc:"She is asked to acknowledge it"`
	Acknowledged bool              `json:"acknowledged,omitempty" doc:"She did"`
	Read         bool              `json:"read"`
	Archived     bool              `json:"archived"`
	SnoozedUntil *time.Time        `json:"snoozed_until,omitempty"`
	Created      time.Time         `json:"created"`
}

// InboxPage is a page of an inbox. Unread counts the whole inbox.
type InboxPage struct {
	Items  []InboxItem `json:"items"`
	Unread int         `json:"unread"`
	Next   string      `json:"next,omitempty"`
}

// InboxMark is what is done with entries.
type InboxMark string

// Marks of inbox entries.
const (
	MarkRead      InboxMark = "read"
	MarkUnread    InboxMark = "unread"
	MarkArchive   InboxMark = "archive"
	MarkUnarchive InboxMark = "unarchive"
)

// Inbox serves inboxes: entries rendered from their events.
type Inbox interface {
	Items(ctx context.Context, tenant, principal string, q InboxQuery) (InboxPage, error)
	// Mark marks the entries, all of the inbox when ids is empty, wakes the
	// watchers and says how many changed.
	Mark(ctx context.Context, tenant, principal string, ids []string, mark InboxMark) (int, error)
	// Watch gives a channel that receives after changes of the inbox; several
	// changes may become one receive.
	Watch(tenant, principal string) (woken <-chan struct{}, cancel func())
}

// Documents are the store's low-volume values, and its audit.
type Documents interface {
	Document(ctx context.Context, tenant, kind, id string) (belfry.Document, bool, error)
	Documents(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, error)
	Apply(ctx context.Context, ch belfry.Changes) (version int64, err error)
	Audit(ctx context.Context, tenant, before string, limit int) (entries []belfry.AuditEntry, next string, err error)
}

// Offer is what an unsubscribe link would end.
type Offer struct {
	Title  string // of the subscription, in words
	Who    string // the address or name that would stop getting it
	Locale string // of the user; empty = not known
}

// Public serves those who only hold a link.
type Public interface {
	// Offered says what the token would end; NotFound for tokens that are
	// unknown, expired or used for something that is gone.
	Offered(ctx context.Context, token string) (Offer, error)
	// Unsubscribe ends exactly that subscription for exactly that recipient;
	// repeating it changes nothing. NotFound as in Offered.
	Unsubscribe(ctx context.Context, token string) error
	// Why says why the message of a link came; NotFound as in Offered.
	Why(ctx context.Context, token string) (belfry.Why, error)
}

// Health says whether the server can do its work.
type Health interface {
	// Ready is nil when requests can be served, else why not.
	Ready(ctx context.Context) error
}

// Sealer encrypts what must not be readable in the database; *secret.Box is
// one.
type Sealer interface {
	Seal(clear, associated []byte) []byte
	Open(sealed, associated []byte) ([]byte, error)
}

// object is any JSON object.
type object = map[string]json.RawMessage

package belfry

import "time"

// ChannelInbox is the kind without a Sender: its delivery is the row itself.
const ChannelInbox = "inbox"

// ChannelWebhook is the channel of deliveries to endpoints.
const ChannelWebhook = "webhook"

// States of a delivery. Open ones (scheduled, retrying, held) still want a send.
const (
	Scheduled  State = 0
	Retrying   State = 1
	Held       State = 2
	Delivered  State = 3
	Failed     State = 4
	Suppressed State = 5
	Cancelled  State = 6
)

// State of a delivery; the numbers are stored, never reorder them.
type State int8

// Open reports whether a delivery in this state still wants a send.
func (s State) Open() bool { return s < Delivered }

var stateNames = [...]string{"scheduled", "retrying", "held", "delivered", "failed", "suppressed", "cancelled"}

// String is the state's name in the API.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// ParseState is the inverse of String.
func ParseState(name string) (State, bool) {
	for i, n := range stateNames {
		if n == name {
			return State(i), true
		}
	}
	return 0, false
}

// MarshalText gives the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Priorities of deliveries.
const (
	PriorityUrgent = 10
	PriorityNormal = 0
	PriorityDigest = -10
)

// UnmarshalText reads a state's name.
func (s *State) UnmarshalText(text []byte) error {
	state, ok := ParseState(string(text))
	if !ok {
		return Errorf(Invalid, "there is no state %q", text)
	}
	*s = state
	return nil
}

// Delivery is one message to one destination on one channel.
type Delivery struct {
	Tenant       string
	ID           string // DeliveryID(EventID, 0, Channel, Address), whatever the run
	EventID      string
	Run          int    // that planned it last: 0 = the first planning; replays count up
	Subscription string // the leading one: gives template and unsubscribe link
	Channel      string // a channel's name; ChannelInbox rows are kept in the inbox
	Principal    string // the user; empty for bare addresses and endpoints
	Address      string // normalised address; for inbox the principal, for webhook the endpoint's id
	Destination  string // what is queued, limited and broken as one: the endpoint, or the principal or address
	Shard        int    // Shard(Tenant, Destination)
	State        State
	Due          time.Time
	Attempts     int
	Bundle       string // the digest it is (bnd_..., in place of the event too); empty = tells one event
	Priority     int    // higher goes first: PriorityUrgent, PriorityNormal, PriorityDigest
	Line         int64  // deliveries of one line to a destination go one after the other, by id; 0 = in none
	Parked       bool   // to be found by its destination: what is in a line always, others once they wait behind what is on disk
	Locale       string
	Template     string
	Because      []Reason
	// Base is how many attempts there were when it was last retried by hand:
	// the schedule of retries counts from there.
	Base int
	// Digest is set on what waits for a digest: then door 2 puts it into the
	// open bundle, and no message of its own is sent.
	Digest *Bundling
}

// Suppression records that somebody is not told, and why.
type Suppression struct {
	Principal string
	Channel   string // empty = on no channel
	Address   string
	Because   []Reason // the last one decided
}

// PlanPage is one page of an event's plan: everything decided for the
// principals in (From, To]. Door 2 commits it and moves the event's cursor by
// compare-and-set from From to To; Last marks the event planned.
type PlanPage struct {
	Tenant       string
	EventID      string
	Run          int
	From, To     string
	Last         bool
	Resend       bool        // a replay: what was delivered goes again
	Decided      int64       // the tenant's version that all of it was decided by, at least
	Gathers      bool        // something of it waits for a digest; set by the store
	Matches      []MatchNote // on the first page only: what matched, for the trace
	Deliveries   []Delivery
	Suppressions []Suppression
	Timers       []Timer       // on the first page only
	Observations []Observation // on the first page of run 0 only
}

// MatchNote is what the trace keeps of a Match.
type MatchNote struct {
	Subscription string   `json:"subscription"`
	Because      []Reason `json:"because"`
}

// Match is a subscription that wants an event, with why.
type Match struct {
	Subscription *Subscription
	Scope        string // the object it sits on
	Distance     int    // steps from the event's object up to Scope; 0 = on it
	Pattern      string // the type pattern that matched; "" = every type
	// Escalation is the step of an escalation this is, 1-based; 0 = none. Its
	// channels come before those that people chose.
	Escalation int
	Because    []Reason
}

// Recipient is somebody a match named: exactly one of Principal, Address and
// Endpoint is set.
type Recipient struct {
	Principal string
	Address   string // an e-mail address nobody known owns
	Endpoint  string
	Via       []Via // at least one; the leading subscription first
}

// Via is one way a recipient came to be named.
type Via struct {
	Match   *Match
	Notify  Notify  // what the subscription says is to be done
	Member  *Member // set when the recipient joined
	Because []Reason
}

// Dropped is a principal or address that a rule named and resolution dropped.
type Dropped struct {
	Principal string
	Address   string
	Because   []Reason // naming reasons first, the deciding one last
}

// Message is what a channel sends: every form a channel might need, made by
// render from one body. Empty forms do not apply to the channel.
type Message struct {
	ID          string // the delivery's id: stable over retries
	Subject     string // plain text, one line
	Text        string
	HTML        string // sanitised fragment for the inbox; whole document for mail
	URL         string
	Unsubscribe string // address of the RFC 8058 one-click page for exactly this subscription
	ListID      string // RFC 2919 list identifier of the subscription
	Thread      string // same for all messages about one object
	Locale      string
	From        string // mailbox wanted as the sender; the channel decides whether it may be
	ReplyTo     string // mailbox for answers; empty = the channel's
	Attachments []Attachment
	ContentType string // of Body
	Body        []byte // payload of machine channels (webhook)
	Time        time.Time
}

// Attachment is a file that goes with a mail.
type Attachment struct {
	Name        string
	ContentType string
	Body        []byte
}

// OutcomeKind is how a send ended.
type OutcomeKind int8

// Kinds of outcome; the numbers are stored, never reorder them.
const (
	OutcomeDelivered OutcomeKind = 0 // the destination confirmed
	OutcomeAccepted  OutcomeKind = 1 // a relay took it over
	OutcomeRetry     OutcomeKind = 2 // try again, not before After
	OutcomeRefused   OutcomeKind = 3 // will never work for this message
	OutcomeGone      OutcomeKind = 4 // the address is dead
)

var outcomeNames = [...]string{"delivered", "accepted", "retry", "refused", "gone"}

// String is the kind's name in the API.
func (k OutcomeKind) String() string {
	if k < 0 || int(k) >= len(outcomeNames) {
		return "unknown"
	}
	return outcomeNames[k]
}

// MarshalText gives the kind's name.
func (k OutcomeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Outcome ends a send. Detail is a safe excerpt: no secret, at most 500 bytes.
type Outcome struct {
	Kind   OutcomeKind
	Status int           // the protocol's own code, 0 = none
	After  time.Duration // with OutcomeRetry: the least wait the destination asked for; 0 = by schedule
	Detail string
	// Throttled is true when the destination said "too much" (429, 503,
	// 421): it does not count against its health.
	Throttled bool
}

// Attempt is one try of a delivery, as door 3 records it.
type Attempt struct {
	Tenant     string
	DeliveryID string
	N          int // 1-based; recorded only while the delivery's count is N-1
	At         time.Time
	Took       time.Duration
	Outcome    Outcome
	State      State     // of the delivery afterwards
	Due        time.Time // next try, with Retrying
	// Because explains a final state that no send decided (cancelled,
	// suppressed before the send).
	Because *Reason
	// Then is told instead, by another contact or channel: it is planned with
	// the attempt, once.
	Then    *Delivery
	Entries []Delivery // of a digest that goes on in the inbox: what it tells, Then being the first of them
	Bundle  string     // the digest that was sent
	Dropped []ItemDrop // what was left out of it
}

// PendingPlan is an event whose plan is not complete.
type PendingPlan struct {
	Accepted Accepted
	Run      int
	Cursor   string // where the next page begins; "" = at the beginning
	Terms    Replay // of a run that somebody ordered
}

// DueKey orders open deliveries: by due time, then id.
type DueKey struct {
	Due time.Time
	ID  string
}

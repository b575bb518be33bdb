package belfry

import (
	"encoding/json"
	"slices"
	"time"
)

// DefaultTenant is the tenant a fresh server has.
const DefaultTenant = "default"

// RootObject is the id under which the root of a tenant's tree is known. Every
// object without a parent is its child; a subscription without scope sits on it.
const RootObject = "root"

// Flags of an event. FlagLocalOnly and FlagNoLocal come from CPS
// portal_subscriptions: they narrow role rules for this one event.
const (
	FlagLocalOnly = "notify_local_only" // merged role origins become local
	FlagNoLocal   = "notify_no_local"   // role rules name nobody
	FlagSilent    = "silent"            // stored and traceable, told to nobody
	FlagAnonymous = "anonymous"         // nobody may learn the actor
)

// Event is an immutable fact, in Belfry's own form (docs/api.md, "Our event
// form"). The attributes of CloudEvents 1.0 keep their meaning; the others are
// Belfry's extensions. Identity is (tenant, Source, ID).
type Event struct {
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Time            time.Time       `json:"time"`
	Subject         string          `json:"subject,omitempty"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	DataSchema      string          `json:"dataschema,omitempty"`
	Object          string          `json:"object,omitempty"`      // where it happened; empty = the root
	Actor           string          `json:"actor,omitempty"`       // who did it; empty = system or anonymous
	Related         []string        `json:"related,omitempty"`     // users it is about
	Destination     string          `json:"destination,omitempty"` // second object of copy, publish and move events
	Data            json.RawMessage `json:"data,omitempty"`        // any JSON value
	Record          json.RawMessage `json:"record,omitempty"`      // the row as it is now, or false when gone
	Flags           []string        `json:"flags,omitempty"`
	Commit          string          `json:"commit,omitempty"`   // events of one act of the platform share it
	Problem         string          `json:"problem,omitempty"`  // what it raises, until an event resolves it; events of one problem share it
	Resolves        string          `json:"resolves,omitempty"` // the problem, or the id of an event, of the same source that this one ends
	Transition      string          `json:"transition,omitempty"`
	Comment         string          `json:"comment,omitempty"`   // what the actor said with the transition
	Variables       json.RawMessage `json:"variables,omitempty"` // of the transition; a JSON object
	// Extensions are CloudEvents extension attributes that Belfry gives no
	// meaning; values are JSON scalars and are kept as they came.
	Extensions map[string]json.RawMessage `json:"extensions,omitempty"`
}

// Has reports whether the event carries flag.
func (e *Event) Has(flag string) bool { return slices.Contains(e.Flags, flag) }

// ObjectOrRoot is the object of the event, the root when it names none.
func (e *Event) ObjectOrRoot() string {
	if e.Object == "" {
		return RootObject
	}
	return e.Object
}

// Accepted is an event after door 1: durable, ordered and bound to the version
// of subscriptions, directory and preferences it was accepted under.
type Accepted struct {
	Tenant  string
	EventID string    // evt_..., time-ordered by acceptance within a tenant
	At      time.Time // when it was accepted, microseconds
	AsOf    int64     // the tenant's version at that moment
	Event   *Event
	Body    []byte // Event as canonical JSON, as it is stored; nil when it is not at hand
}

// Draft is an admitted event on its way through door 1.
type Draft struct {
	Tenant string
	Event  *Event
	Body   []byte // Event as canonical JSON, what is stored
	// Implied names objects the event speaks of that nobody declared; they
	// become children of the root, marked implied.
	Implied []string
	// Discovered is true when the type is not in the catalogue; it is listed
	// there as discovered.
	Discovered bool
}

// Receipt is what door 1 answers for one draft.
type Receipt struct {
	EventID   string
	Duplicate bool // seen before: EventID is the first one's
	At        time.Time
	AsOf      int64
}

// EventType is an entry of the catalogue.
type EventType struct {
	Name        string            `json:"name"`
	Title       string            `json:"title,omitempty"`
	Titles      map[string]string `json:"titles,omitempty"` // by locale
	Description string            `json:"description,omitempty"`
	Category    string            `json:"category,omitempty"`
	ObjectTypes []string          `json:"object_types,omitempty"` // empty = any
	Schema      json.RawMessage   `json:"schema,omitempty"`       // JSON Schema of data
	Channels    TypeChannels      `json:"channels,omitzero"`
	Frequency   *Frequency        `json:"frequency,omitempty"` // by default; nil = at once
	Details     []string          `json:"details,omitempty"`   // fields of data that the built-in message shows, like other.enrol; empty = all simple ones
	Content     []string          `json:"content,omitempty"`   // where the words of the thing are, the first that is there: like other.content, record.message; text or HTML
	Template    string            `json:"template,omitempty"`  // of its messages, where the subscription names none
	SeeRoles    []string          `json:"see_roles,omitempty"` // roles (merged, active) one of which is needed to be told
	Subscribe   Subscribers       `json:"subscribe,omitzero"`  // who may subscribe to it by themselves
	Mandatory   bool              `json:"mandatory,omitempty"`
	Urgent      bool              `json:"urgent,omitempty"` // its messages go before others that wait, at once and in quiet hours
	Record      bool              `json:"record,omitempty"` // CloudEvents of this type carry the row in data.record
	Deprecated  bool              `json:"deprecated,omitempty"`
	Retention   string            `json:"retention,omitempty"`  // how long its events and all that hangs on them are kept: 30d, 12h, 0d = for ever; empty = as the server is set
	Discovered  bool              `json:"discovered,omitempty"` // learned from an event, not declared
	Origin      string            `json:"origin,omitempty"`     // the source that declared it; empty = a person, whose word stays
}

// Subscribers says who may subscribe to a type by themselves, or join a
// subscription that names it.
type Subscribers struct {
	Who   string   `json:"who,omitempty"`   // none | members | roles | anyone, as of Joining; empty = as the subscription says
	Roles []string `json:"roles,omitempty"` // held where she subscribes, or above; with who roles
}

// TypeChannels says what a type allows: names of channels.
type TypeChannels struct {
	Forced    []string `json:"forced,omitempty"`
	Forbidden []string `json:"forbidden,omitempty"`
	Default   []string `json:"default,omitempty"`
	Fallback  []string `json:"fallback,omitempty"` // when another has failed for good
}

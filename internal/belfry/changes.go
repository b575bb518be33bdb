package belfry

import "time"

// Changes is one edit of a tenant: of subscriptions, directory, preferences or
// configuration. The store applies it in one transaction under the next number
// of the tenant's version, in the order of the fields. Nil slices touch nothing.
type Changes struct {
	Tenant string

	Objects       []Object // put; parents may follow children
	DeleteObjects []string // tombstones the objects and everything under them
	Places        []Place  // put

	Users       []User // put; nil Contacts = untouched, else replaces those of User.Origin
	DeleteUsers []string
	Groups      []Group // put; nil Members = untouched, else replaces those of Group.Origin
	DropGroups  []string

	EraseUsers       []string      // as if they had never been
	DropGroupMembers []GroupMember // of whatever origin

	Grants  []GrantSet // replaces
	History []HistoryEntry

	Settings    []UserSettings
	Preferences []UserPreferences

	Subscriptions []Subscription
	Members       []Member // put
	DropMembers   []Member // by Subscription, Principal and Object
	OptOuts       []OptOut // put; also drops the person's memberships of the subscription
	DropOptOuts   []OptOut // by Subscription and Who

	DropAsks []Ask // Stale when one was answered already
	Asks     []Ask // put

	DeadContacts []DeadContact

	Documents     []Document // put
	DropDocuments []DocumentKey

	// Acknowledgements also mark the inbox entries of who gave them as read, cancel
	// what else of the event was to be sent to her, and end the escalation.
	Acknowledgements []Acknowledgement
	Timers           []Timer    // put
	DropTimers       []TimerKey // those that are there

	Cancels     []DeliveryCancel // Conflict when one is over
	Retries     []DeliveryRetry  // Conflict when one cannot be retried
	SendDigests []DigestSend     // Conflict when one does not gather
	Jobs        []Job            // to be done from now on
	CancelJobs  []JobCancel      // Conflict when one is over

	Audit []AuditEntry

	// IfMatch lists versions that must still hold, else nothing is applied
	// and the error is Stale.
	IfMatch []Expectation
}

// Place sets an object's settings. The root has some, too.
type Place struct {
	Object   string
	Settings ObjectSettings
}

// GroupMember is a principal in a group.
type GroupMember struct{ Group, Principal string }

// GrantSet replaces the grants of one origin on one object, or, when Principal
// is set, only that principal's.
type GrantSet struct {
	Object    string
	Origin    string
	Principal string
	Grants    []Grant
}

// DeadContact puts a tombstone on an address of a user that a provider says is
// gone.
type DeadContact struct {
	User, Kind, Address string
	Reason              string
	At                  time.Time
}

// UserSettings sets a person's settings.
type UserSettings struct {
	User     string
	Settings Settings
}

// UserPreferences replaces a person's preferences.
type UserPreferences struct {
	User        string
	Preferences []Preference
}

// Kinds of things an edit changes: they name rows of the change log, from
// which caches and indexes of every node follow, and documents.
const (
	KindObject       = "object"
	KindUser         = "user"
	KindGroup        = "group"
	KindGrants       = "grants" // key: the object
	KindHistory      = "history"
	KindSubscription = "subscription"
	KindMembers      = "members" // key: the subscription

	// KindEverything stands in the change log where it was cut off: whoever
	// comes from before it must take everything for changed.
	KindEverything = "*"

	KindEventType = "event_type"
	KindEndpoint  = "endpoint"
	KindChannel   = "channel"
	KindSource    = "source"
	KindTemplate  = "template"
	KindFilter    = "filter"
	KindKey       = "key" // kept under tenant "*", found by id before the tenant is known
	KindTenant    = "tenant"
	KindSetting   = "setting"

	KindDelivery = "delivery" // cancelled, or to be sent again
	KindJob      = "job"      // ordered, or cancelled
)

// AllTenants is the tenant of what belongs to the server itself.
const AllTenants = "*"

// Document is a low-volume configuration value, kept as JSON under (tenant,
// kind, id): event types, endpoints, channels, sources, templates, keys.
type Document struct {
	Kind    string
	ID      string
	Body    []byte
	Version int64 // of its last change; set by the store
}

// DocumentKey names a document.
type DocumentKey struct{ Kind, ID string }

// Expectation is the version a thing must still have; 0 = it must not exist.
type Expectation struct {
	Kind, Key string
	Version   int64
}

// Change is a row of the change log: at Version, the thing (Kind, Key) was
// put or dropped.
type Change struct {
	Version int64
	Kind    string
	Key     string
}

// AuditEntry records an edit by a person or a key.
type AuditEntry struct {
	At     time.Time `json:"at"`
	Who    string    `json:"who"`
	Action string    `json:"action"` // e.g. "subscription.create"
	Target string    `json:"target"`
	Detail string    `json:"detail,omitempty"`
}

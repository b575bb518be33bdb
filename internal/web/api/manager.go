package api

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/words"
)

// Values of package manage as the calls use them.
type (
	By                = manage.By     // who edits
	Expect            = manage.Expect // the version an edited thing must have
	Stored            = manage.Stored // a subscription with its words
	SubscriptionQuery = manage.SubscriptionQuery
	KindView          = manage.Kind
	ConfiguredView    = manage.ConfiguredView
	ConfiguredDraft   = manage.ConfiguredDraft
)

// Manager makes people's edits: it checks, audits and stores them, and reads
// back what is there; *manage.Manager is one. Errors are those of belfry.Error;
// reads of what is not there, or is another tenant's, are NotFound. Versions
// are those of the last change of the thing.
type Manager interface {
	ObjectManager
	PeopleManager
	GroupManager
	SubscriptionManager
	CatalogueManager
	EndpointManager
	ChannelManager
	SourceManager
	TemplateManager
	FilterManager
	LifeManager
	BacktestManager
	PersonManager
	AckManager
	NotificationManager
	JoiningManager
	FollowManager
	PresetManager
	Importer
	ManifestManager
}

// ObjectManager keeps the tree.
type ObjectManager interface {
	Object(ctx context.Context, tenant, id string) (belfry.Object, int64, error)
	PutObject(ctx context.Context, by By, o belfry.Object, match Expect) (stored belfry.Object, version int64, created bool, err error)
	DeleteObject(ctx context.Context, by By, id string, match Expect) error
	PutObjects(ctx context.Context, by By, os []belfry.Object) error // whole or not at all; parents may follow children
	// ObjectSettings of the root are the tree's.
	ObjectSettings(ctx context.Context, tenant, object string) (belfry.ObjectSettings, error)
	PutObjectSettings(ctx context.Context, by By, object string, s belfry.ObjectSettings) (belfry.ObjectSettings, error)
	Grants(ctx context.Context, tenant, object string) ([]belfry.Grant, error)
	// PutGrants replaces the grants of by's origin on each object named by
	// sets.
	PutGrants(ctx context.Context, by By, sets []belfry.GrantSet) error
	History(ctx context.Context, tenant, object, after string, limit int) ([]belfry.HistoryEntry, string, error)
	AddHistory(ctx context.Context, by By, entries []belfry.HistoryEntry) error
}

// PeopleManager keeps users. Nil Contacts of a put user are untouched, others
// replace those of by's origin.
type PeopleManager interface {
	User(ctx context.Context, tenant, id string) (belfry.User, int64, error)
	PutUser(ctx context.Context, by By, u belfry.User, match Expect) (stored belfry.User, version int64, created bool, err error)
	DeleteUser(ctx context.Context, by By, id string, match Expect) error
	PutUsers(ctx context.Context, by By, us []belfry.User) error
	ContactWarnings(us ...belfry.User) []string
	Preferences(ctx context.Context, tenant, user string) ([]belfry.Preference, error)
	PutPreferences(ctx context.Context, by By, user string, ps []belfry.Preference) ([]belfry.Preference, error)
	Settings(ctx context.Context, tenant, user string) (belfry.Settings, error)
	PutSettings(ctx context.Context, by By, user string, s belfry.Settings) (belfry.Settings, error)
}

// GroupManager keeps groups. Nil Members of a put group are untouched.
type GroupManager interface {
	Group(ctx context.Context, tenant, id string) (belfry.Group, int64, error)
	PutGroup(ctx context.Context, by By, g belfry.Group, match Expect) (stored belfry.Group, version int64, created bool, err error)
	DeleteGroup(ctx context.Context, by By, id string, match Expect) error
	PutGroups(ctx context.Context, by By, gs []belfry.Group) error
}

// SubscriptionManager keeps subscriptions and who joined them.
type SubscriptionManager interface {
	Subscriptions(ctx context.Context, tenant string, q SubscriptionQuery) ([]belfry.Subscription, string, error)
	Subscription(ctx context.Context, tenant, id string) (Stored, error)
	CreateSubscription(ctx context.Context, by By, s belfry.Subscription) (Stored, error)
	PutSubscription(ctx context.Context, by By, s belfry.Subscription, match Expect) (Stored, error)
	DeleteSubscription(ctx context.Context, by By, id string, match Expect) error
	PauseSubscription(ctx context.Context, by By, id, because string) (Stored, error)
	ResumeSubscription(ctx context.Context, by By, id string) (Stored, error)
	Members(ctx context.Context, tenant, subscription, after string, limit int) ([]belfry.Member, string, error)
	// PutMembers gives the members as they are stored.
	PutMembers(ctx context.Context, by By, subscription string, ms []belfry.Member) ([]belfry.Member, error)
	DropMembers(ctx context.Context, by By, subscription string, ms []belfry.Member) error
}

// CatalogueManager keeps event types.
type CatalogueManager interface {
	EventTypes(ctx context.Context, tenant, after string, limit int) ([]belfry.EventType, string, error)
	EventType(ctx context.Context, tenant, name string) (belfry.EventType, int64, error)
	PutEventType(ctx context.Context, by By, t belfry.EventType, match Expect) (stored belfry.EventType, version int64, created bool, err error)
	EventTypeWarnings(ctx context.Context, tenant string, t *belfry.EventType) ([]string, error)
	DeleteEventType(ctx context.Context, by By, name string, match Expect) error
}

// EndpointManager keeps webhook targets. Secrets come in clear, in the form
// whsec_..., and only from the calls that made them.
type EndpointManager interface {
	Endpoints(ctx context.Context, tenant, after string, limit int) ([]belfry.Endpoint, string, error)
	Endpoint(ctx context.Context, tenant, id string) (belfry.Endpoint, error)
	EndpointWarnings(e *belfry.Endpoint) []string
	CreateEndpoint(ctx context.Context, by By, e belfry.Endpoint) (stored belfry.Endpoint, secret string, err error)
	PutEndpoint(ctx context.Context, by By, e belfry.Endpoint, match Expect) (belfry.Endpoint, error)
	DeleteEndpoint(ctx context.Context, by By, id string, match Expect) error
	RotateSecret(ctx context.Context, by By, id string) (stored belfry.Endpoint, secret string, err error)
	PauseEndpoint(ctx context.Context, by By, id, because string) (belfry.Endpoint, error)
	ResumeEndpoint(ctx context.Context, by By, id string) (belfry.Endpoint, error)
}

// ChannelManager keeps the ways out.
type ChannelManager interface {
	ChannelKinds() []KindView
	Channels(ctx context.Context, tenant string) ([]ConfiguredView, error)
	Channel(ctx context.Context, tenant, name string) (ConfiguredView, int64, error)
	PutChannel(ctx context.Context, by By, d ConfiguredDraft, match Expect) (stored ConfiguredView, version int64, created bool, err error)
	DeleteChannel(ctx context.Context, by By, name string, match Expect) error
}

// SourceStatus is how a source is doing.
type SourceStatus struct {
	State    string           `json:"state" doc:"starting, syncing, tailing, failing, paused, stopped, or elsewhere: another node runs it, see position"`
	At       *time.Time       `json:"at,omitempty" doc:"Of this report"`
	Position string           `json:"position,omitempty" doc:"Where it is, in words"`
	LagMS    int64            `json:"lag_ms" doc:"How far it is behind the platform"`
	Error    string           `json:"error,omitempty" doc:"What is wrong and what to do"`
	ErrorAt  *time.Time       `json:"error_at,omitempty"`
	Counters map[string]int64 `json:"counters,omitempty"`
}

// EndpointStatus is what this node knows of how an endpoint is doing.
type EndpointStatus struct {
	Known        bool       `json:"known" doc:"False when this node has not called it lately: another node does, or nobody"`
	Breaker      string     `json:"breaker" doc:"closed, open (left alone until next_probe) or half_open (one message at a time)"`
	Failures     int        `json:"failures" doc:"In a row"`
	FailingSince *time.Time `json:"failing_since,omitempty"`
	NextProbe    *time.Time `json:"next_probe,omitempty" doc:"When it is called next, while it is left alone"`
	Sending      int        `json:"sending" doc:"Requests under way"`
	Concurrency  int        `json:"concurrency" doc:"Requests at once at present"`
	Queued       int        `json:"queued" doc:"Messages in memory"`
	OnDisk       bool       `json:"on_disk" doc:"More messages wait in the database"`
	Slow         bool       `json:"slow"`
	Paused       bool       `json:"paused"`
}

// SourceManager keeps the ways in.
type SourceManager interface {
	SourceKinds() []KindView
	Sources(ctx context.Context, tenant, after string, limit int) ([]ConfiguredView, string, error)
	Source(ctx context.Context, tenant, id string) (ConfiguredView, int64, error)
	CreateSource(ctx context.Context, by By, d ConfiguredDraft) (ConfiguredView, int64, error)
	PutSource(ctx context.Context, by By, id string, d ConfiguredDraft, match Expect) (ConfiguredView, int64, error)
	DeleteSource(ctx context.Context, by By, id string, match Expect) error
}

// FilterManager keeps saved filters.
type FilterManager interface {
	Filters(ctx context.Context, tenant, after string, limit int) ([]belfry.SavedFilter, string, error)
	Filter(ctx context.Context, tenant, name string) (belfry.SavedFilter, int64, error)
	PutFilter(ctx context.Context, by By, f belfry.SavedFilter, match Expect) (stored belfry.SavedFilter, version int64, created bool, err error)
	// DeleteFilter pauses the subscriptions that name it.
	DeleteFilter(ctx context.Context, by By, name string, match Expect) error
	// FilterWords says a filter in a language, with the labels of event types.
	FilterWords(ctx context.Context, tenant, filter string, types []string, p *words.Printer) (string, error)
}

// Running reaches what runs: channels and sources as they are set up now.
type Running interface {
	// TestEndpoint sends a test webhook now and says how it ended.
	TestEndpoint(ctx context.Context, tenant, id string) (belfry.Outcome, error)
	// TestChannel sends a test message to an address now. NotFound when no such
	// channel is set up, Invalid when it has no sender or the address is wrong.
	TestChannel(ctx context.Context, tenant, name, address string) (belfry.Outcome, error)
	// SourceStatus is how a source is doing; false when it does not run. Where
	// another node runs it, that is said.
	SourceStatus(tenant, id string) (SourceStatus, bool)
	EndpointStatus(tenant, id string) EndpointStatus
}

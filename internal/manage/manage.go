package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// MaxBatch is the most things one batch may hold.
const MaxBatch = 10_000

// By says who edits: for the audit, and for what is kept apart by its origin.
type By struct {
	Tenant string
	Who    string // in the audit
	Origin string // of contacts, members and grants that are written: a key's or a source's name
}

// Expect is the version an edited thing must have, else the edit is Stale;
// nil = any, 0 = it must not exist yet.
type Expect = *int64

// Store is where edits go and what they are checked against. Apply must put
// the edit in force before it returns. Maps are by id; what is missing is
// absent; tombstoned objects have Deleted set.
type Store interface {
	Apply(ctx context.Context, ch belfry.Changes) (version int64, err error)
	Versions(ctx context.Context, tenant, kind string, keys []string) (map[string]int64, error)
	TreeStore
	PeopleStore
	SubscriptionStore
	DocumentStore
	LifeStore
	FollowStore
	HoldingStore
	AckStore
	JoiningStore
}

// TreeStore reads the tree and what hangs on it.
type TreeStore interface {
	Objects(ctx context.Context, tenant string, ids []string) (map[string]belfry.Object, error)
	GrantsOn(ctx context.Context, tenant string, objects []string) (map[string][]belfry.Grant, error)
	// Roles are those that were ever given to somebody.
	Roles(ctx context.Context, tenant string, limit int) ([]string, error)
	History(ctx context.Context, tenant, object, after string, limit int) ([]belfry.HistoryEntry, string, error)
}

// PeopleStore reads principals.
type PeopleStore interface {
	Persons(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Person, error)
	Groups(ctx context.Context, tenant string, ids []string) (map[string]belfry.Group, error)
	GroupIDs(ctx context.Context, tenant, after string, limit int) ([]string, error)
}

// SubscriptionStore reads subscriptions and who joined them.
type SubscriptionStore interface {
	// Version is that of the last edit.
	Version(ctx context.Context, tenant string) (int64, error)
	Subscriptions(ctx context.Context, tenant, after string, limit int) ([]belfry.Subscription, error)
	Subscription(ctx context.Context, tenant, id string) (belfry.Subscription, bool, error)
	Members(ctx context.Context, tenant, subscription, after string, limit int) ([]belfry.Member, error)
	Gone(ctx context.Context, tenant string, before time.Time, after belfry.GonePlace, limit int) ([]belfry.Gone, error)
	// GoneLast are the last of those of one deletion, the very last first.
	GoneLast(ctx context.Context, tenant string, deleted time.Time, limit int) ([]belfry.Gone, error)
}

// DocumentStore reads configuration.
type DocumentStore interface {
	// Permits are what was last taken of a tenant's limits.
	Permits(ctx context.Context, tenant string) ([]belfry.Permits, error)
	Document(ctx context.Context, tenant, kind, id string) (belfry.Document, bool, error)
	Documents(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, error)
}

// Box seals secrets; *secret.Box is one.
type Box interface {
	Seal(clear, associated []byte) []byte
	Open(sealed, associated []byte) ([]byte, error)
}

// Channels knows the names of the channels that are set up.
type Channels interface {
	Known(tenant, name string) bool
	// Builtin are the channels that every tenant has without setting them up,
	// kinds by name: those that are always there and those of the server's
	// configuration.
	Builtin() map[string]string
}

// Kinds describes kinds of channels or of sources and checks settings.
type Kinds interface {
	Kinds() []Kind
	// Check validates settings of a kind; errors are Invalid with pointers
	// /settings/<name>. The kind is one of Kinds.
	Check(kind string, settings map[string]string) error
}

// Crowds says how many other subscriptions an event of a subscription's types
// is held against one by one, because their filters have nothing to look them
// up by.
type Crowds interface {
	Crowd(tenant string, s *belfry.Subscription) int
}

// Options are the parts of a Manager; all are needed, but for the kinds and the
// crowds.
type Options struct {
	Store        Store
	Box          Box
	Now          func() time.Time // UTC, microseconds
	Channels     Channels
	ChannelKinds Kinds
	SourceKinds  Kinds
	Crowds       Crowds
	Senders      Senders      // nil = nothing is sent here
	Backtests    Backtests    // nil = all of them are jobs
	Parts        Parts        // of what is stored about people
	Lost         error        // a step's answer when its job is not ours any more
	Notices      Notices      // nil = nothing is sent by hand
	Roles        Roles        // nil = nobody joins by themselves
	Joining      JoiningTerms // zero = DefaultJoining
	// Schema says why the data of events cannot be checked against a schema;
	// nil = whatever is an object is taken for one.
	Schema func(schema json.RawMessage) error
	// Outbound knows which hosts nothing is sent to; nil = none.
	Outbound Outbound
}

// Outbound says why nothing can be sent to the host of a URL, as far as that is
// known before it is tried.
type Outbound interface {
	Judge(host string) error
}

// Manager makes edits; it is safe for concurrent use.
type Manager struct {
	store        Store
	box          Box
	now          func() time.Time
	channels     Channels
	channelKinds Kinds
	sourceKinds  Kinds
	crowds       Crowds
	senders      Senders
	roles        Roles
	joining      JoiningTerms
	backtests    Backtests
	notices      Notices
	parts        Parts
	lost         error
	schema       func(json.RawMessage) error
	outbound     Outbound
	// structure serialises, by tenant, edits whose check spans several things
	// (no cycles in trees and groups), so that two edits that are right
	// alone do not become wrong together. Other nodes are not held up: there
	// the readers of trees and groups, which stop at repeats, are the net.
	structure sync.Map // tenant -> *sync.Mutex
}

// New makes a Manager; the error says which option is missing.
func New(o Options) (*Manager, error) {
	switch {
	case o.Store == nil:
		return nil, errors.New("manage: Options.Store is missing")
	case o.Box == nil:
		return nil, errors.New("manage: Options.Box is missing")
	case o.Now == nil:
		return nil, errors.New("manage: Options.Now is missing")
	case o.Channels == nil:
		return nil, errors.New("manage: Options.Channels is missing")
	}
	m := &Manager{store: o.Store, box: o.Box, now: o.Now, channels: o.Channels, channelKinds: o.ChannelKinds, sourceKinds: o.SourceKinds, crowds: o.Crowds, senders: o.Senders, backtests: o.Backtests, parts: o.Parts, lost: o.Lost, roles: o.Roles, joining: o.Joining, schema: o.Schema, outbound: o.Outbound}
	if m.senders == nil {
		m.senders = noSenders{}
	}
	if m.lost == nil {
		m.lost = errors.New("the job is not ours any more")
	}
	if m.backtests == nil {
		m.backtests = noBacktests{}
	}
	if m.notices = o.Notices; m.notices == nil {
		m.notices = noNotices{}
	}
	if m.channelKinds == nil {
		m.channelKinds = noKinds{}
	}
	if m.sourceKinds == nil {
		m.sourceKinds = noKinds{}
	}
	if m.crowds == nil {
		m.crowds = noCrowds{}
	}
	if m.outbound == nil {
		m.outbound = everywhere{}
	}
	if m.roles == nil {
		m.roles = noRoles{}
	}
	if m.joining == (JoiningTerms{}) {
		m.joining = DefaultJoining()
	}
	if err := m.joining.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// noCrowds is a server without an index.
type noCrowds struct{}

func (noCrowds) Crowd(string, *belfry.Subscription) int { return 0 }

// noKinds is a server without kinds: none can be set up.
type noKinds struct{}

func (noKinds) Kinds() []Kind                         { return nil }
func (noKinds) Check(string, map[string]string) error { return nil }

func (m *Manager) lock(tenant string) (unlock func()) {
	v, _ := m.structure.LoadOrStore(tenant, new(sync.Mutex))
	mu := v.(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

// change begins a Changes by somebody, with its line in the audit.
func (m *Manager) change(by By, action, target string) belfry.Changes {
	return belfry.Changes{Tenant: by.Tenant, Audit: []belfry.AuditEntry{{At: m.now(), Who: by.Who, Action: action, Target: target}}}
}

// apply stores ch while the thing has the expected version.
func (m *Manager) apply(ctx context.Context, ch belfry.Changes, kind, key string, match Expect) (int64, error) {
	if match != nil {
		ch.IfMatch = append(ch.IfMatch, belfry.Expectation{Kind: kind, Key: key, Version: *match})
	}
	return m.store.Apply(ctx, ch)
}

// version is the version of one thing; 0 = it does not exist.
func (m *Manager) version(ctx context.Context, tenant, kind, key string) (int64, error) {
	versions, err := m.store.Versions(ctx, tenant, kind, []string{key})
	return versions[key], err
}

// retries is how often an edit that reads, changes and writes is begun again
// when somebody else wrote in between and the caller asked for no version.
const retries = 5

// retry runs edit again while it is Stale for no fault of the caller's.
func retry[T any](match Expect, edit func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := edit()
		if err == nil || match != nil || n == retries || belfry.KindOf(err) != belfry.Stale {
			return v, err
		}
	}
}

func notFound(what, id string) error {
	return belfry.Errorf(belfry.NotFound, "there is no %s %q", what, id)
}

// batchTarget names the things of a batch in the audit: the first few ids.
func batchTarget[T any](things []T, id func(*T) string) (target, detail string) {
	if len(things) == 1 {
		return id(&things[0]), ""
	}
	target = fmt.Sprintf("%d things", len(things))
	for i := range things {
		if i == 5 {
			return target, detail + " …"
		}
		if i > 0 {
			detail += " "
		}
		detail += id(&things[i])
	}
	return target, detail
}

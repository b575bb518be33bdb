package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/channel/email"
	"github.com/belfryhq/belfry/internal/channel/inbox"
	"github.com/belfryhq/belfry/internal/channel/script"
	"github.com/belfryhq/belfry/internal/channel/webhook"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/outbound"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/route"
)

// Kinds is the one list of channel kinds.
func Kinds() []channel.Kind {
	return []channel.Kind{inbox.Kind(), email.Kind(), webhook.Kind(), script.Kind()}
}

// concurrency is how many sends run at once on a channel over all of its
// destinations. Mail goes through few connections; webhooks wait for peers;
// scripts share the machine with the server.
var concurrency = map[string]int{"email": 16, "webhook": 512, belfry.KindScript: 4}

// channels holds the senders of every tenant: those of the configuration, and,
// over them, those an administrator set up.
type channels struct {
	kinds  map[string]channel.Kind
	deps   channel.Deps // of channels that tenants set up: everything is guarded
	own    channel.Deps // of the operator's own channels: a relay may be next door
	secret opener
	store  documents
	log    *slog.Logger

	mu      sync.Mutex // serialises changes
	common  []opened
	shared  *tenantChannels // of tenants that set up none of their own
	tenants atomic.Pointer[map[string]*tenantChannels]
	shares  atomic.Pointer[map[string]map[string]belfry.ChannelLimit] // by tenant and channel: of what is common
}

type opener interface {
	Open(sealed, associated []byte) ([]byte, error)
}

type documents interface {
	Documents(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, error)
}

// opened is a channel that is set up.
type opened struct {
	name   string
	kind   channel.Kind
	sender channel.Sender // nil for kinds without one
	owner  string         // the tenant whose account it is
	limits channel.Limits
}

// tenantChannels is what a tenant's deliveries see; immutable.
type tenantChannels struct {
	byName   map[string]opened
	own      []opened // those of them this tenant set up
	routes   []route.ChannelInfo
	defaults []string
}

func newChannels(kinds []channel.Kind, configured map[string]map[string]string, deps channel.Deps, secret opener, store documents, log *slog.Logger) (*channels, error) {
	own := deps
	own.Dialer = &net.Dialer{Timeout: 10 * time.Second}
	c := &channels{kinds: map[string]channel.Kind{}, deps: deps, own: own, secret: secret, store: store, log: log}
	for _, k := range kinds {
		c.kinds[k.Name] = k
	}
	for _, name := range []string{belfry.ChannelInbox, belfry.ChannelWebhook} {
		o, err := c.open(name, name, nil, deps)
		if err != nil {
			return nil, err
		}
		c.common = append(c.common, o)
	}
	for name, settings := range configured {
		if name == belfry.ChannelInbox || name == belfry.ChannelWebhook {
			return nil, fmt.Errorf("channels.%s: this channel is always there and has no settings", name)
		}
		values := make(map[string]string, len(settings))
		for k, v := range settings {
			values[k] = v
		}
		kind := values["kind"]
		delete(values, "kind")
		if kind == "" {
			kind = name
		}
		o, err := c.open(name, kind, values, own)
		if err != nil {
			return nil, fmt.Errorf("channels.%s: %w", name, err)
		}
		c.common = append(c.common, o)
	}
	c.shared = &tenantChannels{byName: map[string]opened{}}
	for _, o := range c.common {
		c.shared.byName[o.name] = o
	}
	c.shared.derive()
	none := map[string]*tenantChannels{}
	c.tenants.Store(&none)
	c.shares.Store(&map[string]map[string]belfry.ChannelLimit{})
	return c, nil
}

// CheckChannels says what is wrong with the channels of a configuration: what
// New would say of them, without a database and without connecting anywhere.
func CheckChannels(cfg *config.Config) error {
	c, err := configuredChannels(cfg, "")
	if err != nil {
		return err
	}
	c.Close()
	return nil
}

// configuredChannels are the channels of a configuration, without a database.
func configuredChannels(cfg *config.Config, version string) (*channels, error) {
	guard := outbound.New(outbound.Options{Allow: cfg.AllowedOutbound()})
	deps := channel.Deps{HTTP: guard.Client(), Dialer: guard.Dialer(), Log: slog.New(slog.DiscardHandler), Now: (&clock{}).now, Version: version}
	return newChannels(Kinds(), cfg.Channels, deps, nil, nil, deps.Log) // only load, which is not called, reads tenants' own
}

func (c *channels) open(name, kind string, values map[string]string, deps channel.Deps) (opened, error) {
	k, ok := c.kinds[kind]
	if !ok {
		return opened{}, belfry.Errorf(belfry.Invalid, "there is no channel kind %q", kind)
	}
	if err := channel.Validate(k.All(), values); err != nil {
		return opened{}, err
	}
	o := opened{name: name, kind: k, owner: belfry.AllTenants}
	values, o.limits = k.Split(values)
	if k.New != nil {
		s, err := k.New(deps, values)
		if err != nil {
			return opened{}, err
		}
		o.sender = s
	}
	return o, nil
}

// stored opens a channel that a tenant set up.
func (c *channels) stored(tenant string, d belfry.Document) (opened, error) {
	var stored belfry.Configured
	if err := json.Unmarshal(d.Body, &stored); err != nil {
		return opened{}, fmt.Errorf("it is stored in a form this version does not read: %w", err)
	}
	values, err := stored.Open(c.secret, tenant)
	if err != nil {
		return opened{}, err
	}
	if c.kinds[stored.Kind].Operator {
		return opened{}, belfry.Errorf(belfry.Forbidden, "only the server's configuration may set up a channel of kind %s", stored.Kind)
	}
	o, err := c.open(d.ID, stored.Kind, values, c.deps)
	o.owner = tenant
	return o, err
}

// load reads a tenant's own channels; it is called at the start and whenever
// one of them was edited. A channel that cannot be opened leaves the others
// working.
func (c *channels) load(ctx context.Context, tenant string) error {
	docs, err := c.store.Documents(ctx, tenant, belfry.KindChannel, "", 1000)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &tenantChannels{byName: map[string]opened{}}
	for _, o := range c.common {
		t.byName[o.name] = o
	}
	for _, d := range docs {
		o, err := c.stored(tenant, d)
		if err == nil {
			t.byName[d.ID] = o
			t.own = append(t.own, o)
		} else {
			c.log.Error("channel cannot be opened", "tenant", tenant, "channel", d.ID, "error", err)
		}
	}
	t.derive()
	old := *c.tenants.Load()
	next := make(map[string]*tenantChannels, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[tenant] = t
	c.tenants.Store(&next)
	if before := old[tenant]; before != nil {
		for _, o := range before.own {
			if o.sender != nil {
				// Sends that hold the old sender may still be under way.
				time.AfterFunc(2*time.Minute, func() { _ = o.sender.Close() })
			}
		}
	}
	return nil
}

// share reads what tenants may send by the channels that all share; it is called
// at the start and whenever a tenant was edited.
func (c *channels) share(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const page = 1000
	next := map[string]map[string]belfry.ChannelLimit{}
	for after := ""; ; {
		docs, err := c.store.Documents(ctx, belfry.AllTenants, belfry.KindTenant, after, page)
		if err != nil {
			return err
		}
		for _, d := range docs {
			var l belfry.TenantLimits
			if err := json.Unmarshal(d.Body, &l); err != nil {
				return fmt.Errorf("tenant %s is stored in a form this version does not read: %w", d.ID, err)
			}
			if len(l.Limits) > 0 {
				next[d.ID] = l.Limits
			}
			after = d.ID
		}
		if len(docs) < page {
			break
		}
	}
	c.shares.Store(&next)
	return nil
}

// derive makes what route asks for. The channels used when nobody chose: the
// inbox, and e-mail when there is a channel for it.
func (t *tenantChannels) derive() {
	for _, name := range slices.Sorted(maps.Keys(t.byName)) {
		o := t.byName[name]
		if o.name == belfry.ChannelWebhook {
			continue // endpoints are named, not chosen
		}
		t.routes = append(t.routes, route.ChannelInfo{Name: o.name, Kind: o.kind.Name, Contact: o.kind.Contact})
	}
	t.defaults = []string{belfry.ChannelInbox}
	if _, ok := t.byName["email"]; ok {
		t.defaults = append(t.defaults, "email")
	}
}

func (c *channels) of(tenant string) *tenantChannels {
	if t := (*c.tenants.Load())[tenant]; t != nil {
		return t
	}
	return c.shared
}

// Channel finds a channel that can send.
func (c *channels) Channel(tenant, name string) (pipeline.Channel, bool) {
	o, ok := c.of(tenant).byName[name]
	if !ok || o.sender == nil {
		return pipeline.Channel{}, false
	}
	n := concurrency[o.kind.Name]
	if n == 0 {
		n = 16
	}
	ch := pipeline.Channel{Name: name, Sender: o.sender, Concurrency: n, Relay: o.kind.Contact != "", Owner: o.owner, Limits: o.limits}
	if o.owner == belfry.AllTenants && o.kind.Contact != "" {
		l := (*c.shares.Load())[tenant][name]
		ch.Share = channel.Limits{PerMinute: l.PerMinute, PerDay: l.PerDay}
	}
	return ch, true
}

// Routes are a tenant's channels as route knows them.
func (c *channels) Routes(tenant string) ([]route.ChannelInfo, []string) {
	t := c.of(tenant)
	return t.routes, t.defaults
}

// Known reports whether a tenant has a channel of this name that tells people.
func (c *channels) Known(tenant, name string) bool {
	o, ok := c.of(tenant).byName[name]
	return ok && o.kind.Name != belfry.KindScript
}

// Builtin are the channels every tenant has, kinds by name.
func (c *channels) Builtin() map[string]string {
	kinds := make(map[string]string, len(c.common))
	for _, o := range c.common {
		kinds[o.name] = o.kind.Name
	}
	return kinds
}

// Close closes every sender.
func (c *channels) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.common {
		if o.sender != nil {
			_ = o.sender.Close()
		}
	}
	for _, t := range *c.tenants.Load() {
		for _, o := range t.own {
			if o.sender != nil {
				_ = o.sender.Close()
			}
		}
	}
}

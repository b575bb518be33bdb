package config

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Config is everything an operator may set. Each field has its key (koanf), an
// example or what it may be (form), and what it does (help); docs/
// configuration.md is made of these tags.
type Config struct {
	Listen       string   `koanf:"listen" form:"host:port" help:"Address to listen on. Port 0 takes a free one; the log line *listening* names it."`
	DataDir      string   `koanf:"data_dir" form:"folder" help:"Folder for the SQLite database and, there, the secret key. It is made when missing."`
	Database     URL      `koanf:"database" form:"sqlite:folder or postgres://user:password@host/name" help:"Where everything is kept. Empty: SQLite in the data folder."`
	PublicURL    string   `koanf:"public_url" form:"https://host[/path]" help:"Address under which people reach this server; links in messages begin with it. Empty: the address listened on."`
	BootstrapKey Secret   `koanf:"bootstrap_key" form:"16 characters or more" help:"A root key accepted from the first start, for automation. Empty: none, and the first start prints a key once."`
	SecretKey    []Secret `koanf:"secret_key" form:"list of 32 random bytes in base64" help:"Encrypts secrets in the database and signs links: the first key does, all are accepted. Empty: on SQLite made in the data folder; on PostgreSQL the start is refused."`

	OutboundAllow []string `koanf:"outbound_allow" form:"list of CIDRs" help:"Private networks that webhooks, providers and the sources of other tenants than default may reach all the same, like 10.1.0.0/16. Everything private is refused otherwise; sources of the tenant default, the operator's own, reach everything."`

	Channels map[string]map[string]string `koanf:"channels" form:"channels.name.setting" help:"Channels of every tenant, like channels.email.url (smtp://user:password@host:port or smtps://…) and channels.email.from; what each kind knows is in GET /v1/channels of a running server."`

	Ingest Ingest `koanf:"ingest"`
	Nodes  Nodes  `koanf:"nodes"`
	Log    Log    `koanf:"log"`
	Limits Limits `koanf:"limits"`

	Webhooks Webhooks `koanf:"webhooks"`

	Joining Joining `koanf:"joining"`

	Retention Retention `koanf:"retention"`

	origins map[string]string // of each key that was set, where
}

// Ingest says how events are taken in.
type Ingest struct {
	UnknownTypes string `koanf:"unknown_types" form:"accept or refuse" help:"What becomes of events whose type is not in the catalogue: accepted and listed as discovered, or refused."`
}

// Nodes says how processes share a PostgreSQL database.
type Nodes struct {
	Roles  []string      `koanf:"roles" form:"list of api, plan, deliver, source" help:"What this process does of the service, where several share a PostgreSQL database: answers requests, plans events, sends, runs sources. Each role must be some process's."`
	Lease  time.Duration `koanf:"lease" form:"duration" help:"After how long without a sign of life another process takes over what this one did. The same for all."`
	Notify bool          `koanf:"notify" form:"true or false" help:"Tell other processes at once what there is to do (LISTEN and NOTIFY). Behind a pooler that pools transactions set false: they look by themselves, about once a second."`
}

// Log says what is logged and how.
type Log struct {
	Level  string `koanf:"level" form:"debug, info, warn or error" help:"The least that is logged."`
	Format string `koanf:"format" form:"text or json" help:"Form of the log, which goes to standard error."`
}

// Webhooks says how endpoints are treated.
type Webhooks struct {
	DisableAfter time.Duration `koanf:"disable_after" form:"duration" help:"An endpoint whose every call has failed for so long is disabled and its owner told; an endpoint's own disable_after goes before it. 0: never."`
}

// Joining bounds what people can make the server do who hold no key.
type Joining struct {
	Answer     time.Duration `koanf:"answer" form:"duration" help:"How long a link works by which an address confirms that it joins or leaves, or by which somebody accepts an invitation."`
	PerAddress int           `koanf:"per_address" form:"number" help:"Messages about joining that are sent to one address in a day at most; more wait."`
	PerClient  int           `koanf:"per_client" form:"number" help:"How often one client (a network address, as the platform tells it) may ask for addresses in an hour; above it the answer is 429."`
	PerTenant  int           `koanf:"per_tenant" form:"number" help:"How often all together may ask for addresses in an hour."`
}

// Limits bound memory and waiting.
type Limits struct {
	PendingEvents int           `koanf:"pending_events" form:"number" help:"Accepted events that may wait to be planned; above it new ones are answered 429 with Retry-After."`
	Window        int           `koanf:"window" form:"number" help:"Deliveries in memory at most; more wait in the database."`
	Drain         time.Duration `koanf:"drain" form:"duration" help:"How long sends in flight may take to end when the server stops."`
}

// Retention says how long things are kept; 0 = for ever.
type Retention struct {
	Events     time.Duration `koanf:"events" form:"duration, like 90d" help:"How long events are kept after they were accepted; longer while a plan or a delivery of one is open, or an inbox entry is kept. An event type may say otherwise. 0: for ever, here and below."`
	Deliveries time.Duration `koanf:"deliveries" form:"duration" help:"How long deliveries are kept with their attempts, and what was decided about each event and why. Open deliveries stay."`
	Inbox      time.Duration `koanf:"inbox" form:"duration" help:"How long inbox entries are kept, read or not."`
	Audit      time.Duration `koanf:"audit" form:"duration" help:"How long the record of edits is kept."`
	Dedupe     time.Duration `koanf:"dedupe" form:"duration" help:"How long a repeat of an event is known as one. 0: as long as events are kept."`
	Changes    time.Duration `koanf:"changes" form:"duration" help:"How long the log is kept by which nodes follow edits; a node that was away for longer loads all anew."`
}

// Unknown types.
const (
	AcceptUnknown = "accept"
	RefuseUnknown = "refuse"
)

const day = 24 * time.Hour

// Default is the configuration of a server nobody configured.
func Default() Config {
	return Config{
		Listen:  "127.0.0.1:8420",
		DataDir: "belfry-data",
		Ingest:  Ingest{UnknownTypes: AcceptUnknown},
		Nodes:   Nodes{Roles: belfry.Roles, Lease: 10 * time.Second, Notify: true},
		Log:     Log{Level: "info", Format: "text"},
		Retention: Retention{
			Events: 90 * day, Deliveries: 90 * day, Inbox: 365 * day, Audit: 730 * day, Changes: 7 * day,
		},
		Joining:  Joining{Answer: 3 * day, PerAddress: 5, PerClient: 20, PerTenant: 1000},
		Webhooks: Webhooks{DisableAfter: 5 * 24 * time.Hour},
		Limits:   Limits{PendingEvents: 1_000_000, Window: 16_384, Drain: 10 * time.Second},
	}
}

// DatabaseURL is where everything is kept, the default filled in.
func (c *Config) DatabaseURL() string {
	if c.Database == "" {
		return "sqlite:" + filepath.ToSlash(c.DataDir)
	}
	return string(c.Database)
}

// OnPostgres reports whether the database is PostgreSQL.
func (c *Config) OnPostgres() bool {
	return strings.HasPrefix(string(c.Database), "postgres://") || strings.HasPrefix(string(c.Database), "postgresql://")
}

// SecretKeys are the master keys in clear; none when they are to be made in
// the data folder.
func (c *Config) SecretKeys() []string {
	keys := make([]string, 0, len(c.SecretKey))
	for _, k := range c.SecretKey {
		keys = append(keys, string(k))
	}
	return keys
}

// AllowedOutbound are OutboundAllow as prefixes; those that cannot be read,
// which Validate refuses, are left out.
func (c *Config) AllowedOutbound() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range c.OutboundAllow {
		if p, ok := prefix(s); ok {
			list = append(list, p)
		}
	}
	return list
}

// prefix reads a CIDR or a single address.
func prefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	return netip.Prefix{}, false
}

// Level is Log.Level for slog.
func (c *Config) Level() slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(c.Log.Level)) // Validate has refused what cannot be read
	return l
}

// Masked stands for a secret that is set.
const Masked = "(hidden)"

// Secret is text that is never printed.
type Secret string

// String is the mask; empty for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Masked
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON is String.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// URL is an address that may carry a password, which is never printed.
type URL string

// String is the address with its password masked.
func (u URL) String() string { return redact(string(u)) }

// GoString is String, for %#v.
func (u URL) GoString() string { return u.String() }

// LogValue is String, for slog.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalJSON is String.
func (u URL) MarshalJSON() ([]byte, error) { return json.Marshal(u.String()) }

// redact masks the password of an address, wherever URLs of databases and
// relays carry one.
func redact(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return Masked // it may hold a password that cannot be told apart
	}
	if q := u.Query(); u.RawQuery != "" {
		changed := false
		for name := range q {
			if secretName(name) {
				q.Set(name, "xxxxx")
				changed = true
			}
		}
		if changed {
			u.RawQuery = q.Encode()
		}
	}
	return u.Redacted()
}

// secretName reports whether a setting of that name holds a secret; channels
// describe theirs, but this package does not know them.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"secret", "password", "passwd", "token", "key"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Validate says everything that is wrong with c, nil when nothing is. Load has
// called it; it is for configurations made in code.
func (c *Config) Validate() error {
	if faults := c.faults(); len(faults) > 0 {
		return fmt.Errorf("the configuration has faults:\n  %s", strings.Join(faults, "\n  "))
	}
	return nil
}

func (c *Config) faults() []string {
	var faults []string
	fail := func(key, format string, args ...any) {
		where := c.origins[key]
		if where == "" {
			where = key
		}
		faults = append(faults, where+": "+fmt.Sprintf(format, args...))
	}
	c.addresses(fail)
	c.secrets(fail)
	for _, s := range c.OutboundAllow {
		if _, ok := prefix(s); !ok {
			fail("outbound_allow", "%q is no network: write it like 10.1.0.0/16 or 127.0.0.1", s)
		}
	}
	choice := func(key, value string, of ...string) {
		for _, o := range of {
			if value == o {
				return
			}
		}
		fail(key, "%q must be one of %s", value, strings.Join(of, ", "))
	}
	choice("log.level", c.Log.Level, "debug", "info", "warn", "error")
	choice("log.format", c.Log.Format, "text", "json")
	choice("ingest.unknown_types", c.Ingest.UnknownTypes, AcceptUnknown, RefuseUnknown)
	between := func(key string, n, least, most int) {
		if n < least || n > most {
			fail(key, "%d must be from %d to %d", n, least, most)
		}
	}
	between("limits.pending_events", c.Limits.PendingEvents, 1, 1_000_000_000)
	between("limits.window", c.Limits.Window, 64, 10_000_000)
	for _, r := range c.Nodes.Roles {
		choice("nodes.roles", r, belfry.Roles...)
	}
	if len(c.Nodes.Roles) == 0 {
		fail("nodes.roles", "is empty: this process would do nothing")
	}
	if !c.OnPostgres() {
		for _, r := range belfry.Roles {
			if !slices.Contains(c.Nodes.Roles, r) {
				fail("nodes.roles", "leaves out %s, and with SQLite nobody else can do that: leave roles out, or use PostgreSQL", r)
			}
		}
	}
	if c.Nodes.Lease < time.Second || c.Nodes.Lease > 10*time.Minute {
		fail("nodes.lease", "%s must be from 1s to 10m", c.Nodes.Lease)
	}
	if c.Joining.Answer < time.Minute {
		fail("joining.answer", "%s is too short to answer a mail: give a minute or more", c.Joining.Answer)
	}
	between("joining.per_address", c.Joining.PerAddress, 1, 1_000_000)
	between("joining.per_client", c.Joining.PerClient, 1, 1_000_000)
	between("joining.per_tenant", c.Joining.PerTenant, 1, 1_000_000_000)
	if c.Webhooks.DisableAfter < 0 {
		fail("webhooks.disable_after", "%s must not be negative", c.Webhooks.DisableAfter)
	}
	if c.Limits.Drain < 0 {
		fail("limits.drain", "%s must not be negative", c.Limits.Drain)
	}
	for _, r := range []struct {
		key  string
		kept time.Duration
	}{
		{"events", c.Retention.Events}, {"deliveries", c.Retention.Deliveries}, {"inbox", c.Retention.Inbox},
		{"audit", c.Retention.Audit}, {"dedupe", c.Retention.Dedupe}, {"changes", c.Retention.Changes},
	} {
		if r.kept != 0 && (r.kept < time.Hour || r.kept > 36_500*day) {
			fail("retention."+r.key, "%s must be from 1h to 36500d, or 0", belfry.FormatSpan(r.kept))
		}
	}
	return faults
}

func (c *Config) addresses(fail func(key, format string, args ...any)) {
	if host, port, err := net.SplitHostPort(c.Listen); err != nil {
		fail("listen", "%q is no address to listen on: write it like 127.0.0.1:8420, or :8420 for all of this machine's", c.Listen)
	} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		fail("listen", "%q has no port from 0 to 65535", c.Listen)
	} else if strings.ContainsAny(host, "/ ") {
		fail("listen", "%q is no address to listen on: leave out the scheme and the path", c.Listen)
	}
	if c.DataDir == "" && c.Database == "" {
		fail("data_dir", "is empty: name a folder, or a database")
	}
	switch scheme, rest, _ := strings.Cut(string(c.Database), ":"); {
	case c.Database == "":
	case scheme == "sqlite":
		if strings.TrimLeft(rest, "/") == "" {
			fail("database", "names no file: write it like sqlite:/var/lib/belfry/belfry.db")
		}
	case scheme == "postgres", scheme == "postgresql":
		if _, err := url.Parse(string(c.Database)); err != nil {
			fail("database", "is no URL: write it like postgres://user:password@host:5432/belfry, special characters in the password as %%XX")
		}
	default:
		fail("database", "must begin with sqlite: or postgres://")
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			fail("public_url", "%q must be like https://notify.example.org, a path allowed, nothing more", redact(c.PublicURL))
		}
	}
}

func (c *Config) secrets(fail func(key, format string, args ...any)) {
	if k := c.BootstrapKey; k != "" {
		if len(k) < 16 || len(k) > 512 {
			fail("bootstrap_key", "must have 16 to 512 characters: make one with `head -c 32 /dev/urandom | base64`")
		} else if strings.ContainsFunc(string(k), func(r rune) bool { return r <= ' ' || r > '~' }) {
			fail("bootstrap_key", "must be plain ASCII without spaces, since it travels in a header")
		}
	}
	if c.OnPostgres() && len(c.SecretKey) == 0 {
		fail("secret_key", "must be set with PostgreSQL, where several servers share it: make one with `head -c 32 /dev/urandom | base64` and set BELFRY_SECRET_KEY to it on each")
	}
	for i, k := range c.SecretKey {
		text := strings.NewReplacer("-", "+", "_", "/", "=", "").Replace(string(k))
		if raw, err := base64.RawStdEncoding.DecodeString(text); err != nil || len(raw) != 32 {
			fail("secret_key", "key %d of %d is not 32 bytes in base64: make one with `head -c 32 /dev/urandom | base64`", i+1, len(c.SecretKey))
		}
	}
}

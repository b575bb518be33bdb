package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/outbound"
	"github.com/belfryhq/belfry/internal/secret"
	"github.com/belfryhq/belfry/internal/store"
)

// Examined is what is found of a database that is only looked at. All but the
// versions is of one whose schema is current.
type Examined struct {
	Version, Newest int64 // of its schema, and of the one this program makes
	InUse           bool  // a server works with the file
	Size, Free      int64
	// Ahead is how far the database's clock is before this machine's, where
	// others share it, and Within how exactly that is known.
	Shared        bool
	Ahead, Within time.Duration
	// Sealed are secrets that were tried, and Unopened those of them that this
	// configuration's keys do not open.
	Sealed, Unopened int
	Channels         []string // what is wrong with the tenants' own channels
	Sources          []SourceFound
}

// SourceFound is what a source's own examination of its platform found.
type SourceFound struct {
	Source string // tenant/name
	Paused bool
	Found  []connector.Finding
}

// Bounds of an examination: a few tell as well as all, and somebody waits.
const (
	tenantsExamined = 100
	sourcesExamined = 20
	sourceExamined  = 15 * time.Second
)

// Examine looks at the database of a configuration and at what is set up in it.
// It changes nothing; fs.ErrNotExist is a database that is not there yet.
func Examine(ctx context.Context, cfg *config.Config) (e Examined, err error) {
	now := (&clock{}).now
	look, err := store.OpenLook(ctx, store.Options{URL: cfg.DatabaseURL(), Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		return e, err
	}
	defer func() { _ = look.Close() }()
	e.Version, e.Newest, e.InUse, e.Shared = look.Version, look.Newest, look.InUse, look.Shared()
	if e.Shared {
		if e.Ahead, e.Within, err = look.Clock(ctx); err != nil {
			return e, err
		}
	}
	if !look.Current() {
		return e, nil
	}
	storage, err := look.Storage(ctx)
	if err != nil {
		return e, err
	}
	e.Size, e.Free = storage.Size, storage.Free
	keys := cfg.SecretKeys()
	if len(keys) == 0 {
		if keys, err = secret.Load(filepath.Join(cfg.DataDir, "secret.key")); err != nil {
			return e, nil // the check of the key says so
		}
	}
	box, err := secret.New(keys)
	if err != nil {
		return e, err
	}
	if e.Sealed, e.Unopened, _, err = countSealed(ctx, look, box); err != nil {
		return e, err
	}
	return e, e.setUp(ctx, cfg, look, box, now)
}

// setUp examines the channels and sources that tenants set up.
func (e *Examined) setUp(ctx context.Context, cfg *config.Config, look *store.Look, box *secret.Box, now func() time.Time) error {
	guard := outbound.New(outbound.Options{Allow: cfg.AllowedOutbound()})
	quiet := slog.New(slog.DiscardHandler)
	chs, err := newChannels(Kinds(), nil, channel.Deps{HTTP: guard.Client(), Dialer: guard.Dialer(), Log: quiet, Now: now}, box, look, quiet)
	if err != nil {
		return err
	}
	defer chs.Close()
	srcs := newSources(sourceParts{guarded: guard.Dialer().DialContext})
	tenants, err := look.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, tenant := range tenants[:min(len(tenants), tenantsExamined)] {
		docs, err := look.Documents(ctx, tenant, belfry.KindChannel, "", 1000)
		if err != nil {
			return err
		}
		for _, d := range docs {
			o, err := chs.stored(tenant, d)
			if err != nil {
				e.Channels = append(e.Channels, fmt.Sprintf("%s of %s: %v", d.ID, tenant, err))
			} else if o.sender != nil {
				_ = o.sender.Close()
			}
		}
		if docs, err = look.Documents(ctx, tenant, belfry.KindSource, "", 1000); err != nil {
			return err
		}
		for _, d := range docs {
			if len(e.Sources) == sourcesExamined {
				return nil
			}
			e.Sources = append(e.Sources, srcs.examine(ctx, tenant, d, box, now))
		}
	}
	return nil
}

// examine lets a source look at its platform.
func (s *sources) examine(ctx context.Context, tenant string, d belfry.Document, box opener, now func() time.Time) SourceFound {
	f := SourceFound{Source: tenant + "/" + d.ID}
	fail := func(do string, err error) SourceFound {
		f.Found = []connector.Finding{{Severity: connector.SeverityError, What: err.Error(), Do: do}}
		return f
	}
	var c belfry.Configured
	if err := json.Unmarshal(d.Body, &c); err != nil {
		return fail("use the version of Belfry that stored it, or set it up anew", fmt.Errorf("it is stored in a form this version does not read: %w", err))
	}
	f.Source = tenant + "/" + c.Name
	if f.Paused = c.State == belfry.EndpointPaused; f.Paused {
		return f
	}
	kind, ok := s.kinds[c.Kind]
	if !ok {
		return fail("upgrade the program, or delete the source", fmt.Errorf("there is no connector of kind %q", c.Kind))
	}
	values, err := c.Open(box, tenant)
	if err != nil {
		return fail("set its secrets anew", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sourceExamined)
	defer cancel()
	deps := connector.Deps{Name: c.Name, Kind: c.Kind, Log: slog.New(slog.DiscardHandler), Now: now, Dial: s.dial(tenant)}
	f.Found = kind.Check(ctx, deps, values)
	return f
}

// SendTest sends a test message by a channel of the configuration, as POST
// /v1/channels/{name}/test of a running server does; nil = it was taken.
func SendTest(ctx context.Context, cfg *config.Config, version, name, address string) error {
	c, err := configuredChannels(cfg, version)
	if err != nil {
		return err
	}
	defer c.Close()
	o, known := c.shared.byName[name]
	if !known || o.sender == nil || o.kind.Contact == "" {
		return belfry.Errorf(belfry.NotFound, "the configuration has no channel %s that sends to addresses", name)
	}
	if out := sendTestMessage(ctx, o.sender, address); out.Kind != belfry.OutcomeDelivered && out.Kind != belfry.OutcomeAccepted {
		return belfry.Errorf(belfry.Unavailable, "%s", out.Detail)
	}
	return nil
}

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/connector/moodle"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/store"
)

// Connectors is the one list of connectors.
func Connectors() []connector.Kind {
	return []connector.Kind{moodle.Kind()}
}

// sourceParts are what sources work with.
type sourceParts struct {
	db      *store.DB
	ingest  *ingest.Ingester
	publish *publisher
	planner ingest.Planner
	shards  pipeline.Shards
	secret  opener
	now     func() time.Time
	log     *slog.Logger
	guarded func(ctx context.Context, network, address string) (net.Conn, error)
}

// dial is how sources of a tenant connect. The tenant every server has is its
// operator's, whose platform is mostly beside it; others reach what webhooks do.
func (p *sourceParts) dial(tenant string) func(ctx context.Context, network, address string) (net.Conn, error) {
	if tenant == belfry.DefaultTenant {
		return nil
	}
	return p.guarded
}

// sources runs every active source of every tenant.
type sources struct {
	sourceParts
	kinds map[string]connector.Kind

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	running map[sourceKey]*runningSource
	done    sync.WaitGroup
}

type sourceKey struct{ tenant, id string }

// shard is the source's shard among those that nodes divide.
func (k sourceKey) shard() int { return belfry.Shard(k.tenant, k.id) }

// Gained starts the sources of shards that are this process's now.
func (s *sources) Gained([]int) {
	s.mu.Lock()
	ctx := s.ctx
	s.mu.Unlock()
	if ctx == nil {
		return // Run will
	}
	tenants, err := s.db.Tenants(ctx)
	for _, t := range tenants {
		if e := s.load(ctx, t); e != nil {
			err = e
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Error("reading sources", "error", err)
		time.AfterFunc(time.Second, func() { s.Gained(nil) })
	}
}

// Leave ends the sources of shards that are not this process's any more, and
// answers when all have ended. Their fences keep what one of them may still
// hand over from being stored.
func (s *sources) Leave(_ context.Context, shards []int) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.running {
		if slices.Contains(shards, key.shard()) {
			s.stop(key)
		}
	}
	return shards
}

type runningSource struct {
	cancel  context.CancelFunc
	ended   chan struct{}
	version int64

	mu     sync.Mutex
	status connector.Status
}

func newSources(parts sourceParts) *sources {
	s := &sources{sourceParts: parts, kinds: map[string]connector.Kind{}, running: map[sourceKey]*runningSource{}}
	for _, k := range Connectors() {
		s.kinds[k.Name] = k
	}
	return s
}

// Run runs the sources until ctx ends.
func (s *sources) Run(ctx context.Context, tenants []string) error {
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	for _, t := range tenants {
		if err := s.load(ctx, t); err != nil {
			s.log.Error("reading sources", "tenant", t, "error", err)
		}
	}
	<-ctx.Done()
	s.done.Wait()
	return nil
}

// load makes what runs for a tenant agree with what is configured.
func (s *sources) load(ctx context.Context, tenant string) error {
	docs, err := s.db.Documents(ctx, tenant, belfry.KindSource, "", 1000)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil {
		return nil
	}
	want := map[sourceKey]bool{}
	for _, d := range docs {
		key := sourceKey{tenant, d.ID}
		var c belfry.Configured
		if err := json.Unmarshal(d.Body, &c); err != nil {
			s.log.Error("source is stored in a form this version does not read", "tenant", tenant, "source", d.ID, "error", err)
			continue
		}
		if c.State == belfry.EndpointPaused || !s.shards.Has(belfry.LeaseSource, key.shard()) {
			continue
		}
		want[key] = true
		if r := s.running[key]; r != nil && r.version == d.Version {
			continue
		}
		s.stop(key)
		s.start(key, c, d.Version)
	}
	for key := range s.running {
		if key.tenant == tenant && !want[key] {
			s.stop(key)
		}
	}
	return nil
}

// stop ends a source and waits for it: two runs of one source never overlap.
// s.mu is held.
func (s *sources) stop(key sourceKey) {
	r := s.running[key]
	if r == nil {
		return
	}
	r.cancel()
	<-r.ended
	delete(s.running, key)
}

func (s *sources) start(key sourceKey, c belfry.Configured, version int64) {
	ctx, cancel := context.WithCancel(s.ctx)
	r := &runningSource{cancel: cancel, ended: make(chan struct{}), version: version}
	r.status = connector.Status{At: s.now(), State: connector.StateStarting}
	s.running[key] = r
	log := s.log.With("tenant", key.tenant, "source", c.Name, "source_id", key.id) // metrics say tenant/id
	s.done.Go(func() {
		defer close(r.ended)
		defer cancel()
		if err := s.run(ctx, key, c, r, log); err != nil && ctx.Err() == nil {
			log.Error("source stopped", "error", err)
			r.report(connector.Status{At: s.now(), State: connector.StateFailing, Error: err.Error(), ErrorAt: s.now()})
		}
	})
}

func (s *sources) run(ctx context.Context, key sourceKey, c belfry.Configured, r *runningSource, log *slog.Logger) error {
	kind, ok := s.kinds[c.Kind]
	if !ok {
		return fmt.Errorf("there is no connector of kind %q", c.Kind)
	}
	values, err := c.Open(s.secret, key.tenant)
	if err != nil {
		return err
	}
	src, err := kind.New(connector.Deps{Name: c.Name, Kind: c.Kind, Log: log, Now: s.now, Dial: s.dial(key.tenant)}, values)
	if err != nil {
		return err
	}
	return src.Run(ctx, &sink{s: s, key: key, origin: c.Kind + "/" + c.Name, status: r, log: log})
}

// Status is how a source is doing; false when it does not run.
func (s *sources) Status(tenant, id string) (connector.Status, bool) {
	s.mu.Lock()
	r := s.running[sourceKey{tenant, id}]
	s.mu.Unlock()
	if r == nil {
		return connector.Status{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status, true
}

func (r *runningSource) report(st connector.Status) {
	r.mu.Lock()
	r.status = st
	r.mu.Unlock()
}

// sink commits what one source hands over.
type sink struct {
	s      *sources
	key    sourceKey
	origin string
	status *runningSource
	log    *slog.Logger
}

func (k *sink) Cursor(ctx context.Context) ([]byte, error) {
	return k.s.db.SourceCursor(ctx, k.key.tenant, k.key.id)
}

// Hand commits a batch. An event that can never be admitted is logged and left
// out: it must not hold up the rest.
func (k *sink) Hand(ctx context.Context, b connector.Batch) error {
	ch := b.Changes
	ch.Tenant = k.key.tenant
	var drafts []belfry.Draft
	if len(b.Events) > 0 {
		ds, _, faults, err := k.s.ingest.Prepare(ctx, ingest.Origin{Tenant: k.key.tenant, Key: k.origin, Partial: true}, b.Events)
		if err != nil {
			return err
		}
		for i, f := range faults {
			k.log.Warn("event cannot be admitted and is left out", "event", b.Events[i].ID, "type", b.Events[i].Type, "error", f)
		}
		drafts = ds
	}
	return k.s.publish.source(ctx, k.key, k.origin, ch, drafts, b.Cursor)
}

func (k *sink) Report(st connector.Status) { k.status.report(st) }

// all is how every running source is doing, by tenant/id.
func (s *sources) all() map[string]connector.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]connector.Status, len(s.running))
	for key, r := range s.running {
		r.mu.Lock()
		out[key.tenant+"/"+key.id] = r.status
		r.mu.Unlock()
	}
	return out
}

package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/jobs"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/outbound"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/secret"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/upkeep"
	"github.com/belfryhq/belfry/internal/web/api"
)

// Options are what a program is made of.
type Options struct {
	Config  config.Config
	Log     *slog.Logger
	Version string
	// Pages are served beside the API; nil = none. The demonstration has one.
	Pages http.Handler
	// Kinds are kinds of channels beside those of the house, and Ahead is how far
	// the program's clock is ahead of the true time; nil = neither. The benchmark
	// has a channel that counts, and does not wait a day for a digest.
	Kinds []channel.Kind
	Ahead func() time.Duration
}

// App is a program that is ready to run.
type App struct {
	log      *slog.Logger
	outage   *outage
	clock    *clock
	grace    time.Duration
	db       *store.DB
	listener net.Listener
	url      string
	server   *http.Server
	api      *api.Server

	publisher  *publisher
	channels   *channels
	sources    *sources
	planner    *pipeline.Planner
	dispatcher *pipeline.Dispatcher
	sealer     *pipeline.Sealer
	conditions *pipeline.Conditions
	watch      *pipeline.Watch
	cluster    *cluster  // nil where the database is this process's alone
	follower   *follower // likewise
	roles      []string
	version    string
	started    time.Time
	counters   *pipeline.Counters
	subs       *pipeline.Subscriptions
	backlog    *backlog
	gate       *pipeline.Gate
	upkeep     *upkeep.Keeper
	jobs       *jobs.Runner
	timers     *pipeline.Timers
	postman    *postman
	auth       *auth.Authenticator
	ingest     *ingest.Ingester
	manager    *manage.Manager
	ready      atomic.Bool
	closed     atomic.Bool
}

// New opens the store, loads what must be in memory, binds the address and
// wires the rooms. Errors are sentences for whoever starts the program.
func New(ctx context.Context, o Options) (_ *App, err error) {
	cfg := o.Config
	if err := makeFolder(&cfg); err != nil {
		return nil, err
	}
	clock := &clock{ahead: o.Ahead}
	outage := newOutage(o.Log)
	o.Log = slog.New(outage.handler(o.Log.Handler()))
	db, err := store.Open(ctx, store.Options{URL: cfg.DatabaseURL(), Log: o.Log, Now: clock.now})
	if err != nil {
		return nil, err
	}
	a := &App{outage: outage, log: o.Log, grace: cfg.Limits.Drain, db: db, counters: pipeline.NewCounters(), roles: cfg.Nodes.Roles, version: o.Version, clock: clock, started: clock.now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	box, err := openBox(ctx, &cfg, db, o.Log)
	if err != nil {
		return nil, err
	}
	if a.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w; choose another address with --listen or BELFRY_LISTEN", cfg.Listen, err)
	}
	a.url = strings.TrimSuffix(cfg.PublicURL, "/")
	if a.url == "" {
		a.url = "http://" + a.listener.Addr().String()
	}
	if err := a.wire(ctx, &cfg, box, o); err != nil {
		return nil, err
	}
	if err := compareKey(ctx, db, box, o.Log); err != nil {
		return nil, err
	}
	return a, nil
}

// compareKey tells the log when the secret key is not the one this database is
// used with: of several servers one with another key would take its part of the
// shards, and no webhook of that part could be signed. A start is not refused
// for it, since a key that is lost is lost.
func compareKey(ctx context.Context, db sealedStore, box *secret.Box, log *slog.Logger) error {
	looked, failed, example, err := countSealed(ctx, db, box)
	if err != nil {
		return err
	}
	if failed > 0 {
		log.Error("secrets in the database cannot be opened with this secret key, and webhooks cannot be signed: set BELFRY_SECRET_KEY to the key that all servers of this database had, behind a new one if there is one; "+
			"if it is lost, set the secrets of endpoints, channels and sources anew", "looked_at", looked, "not_opened", failed, "endpoint", example)
	}
	return nil
}

// sealedStore is where sealed secrets are.
type sealedStore interface {
	documents
	Tenants(ctx context.Context) ([]string, error)
}

// countSealed tries some of the sealed secrets: of how many, how many do not
// open, and whose one of them is.
func countSealed(ctx context.Context, db sealedStore, box *secret.Box) (looked, failed int, example string, err error) {
	const tenants, most = 100, 20 // to look at: a few tell as well as all
	list, err := db.Tenants(ctx)
	if err != nil {
		return 0, 0, "", err
	}
	for _, tenant := range list[:min(len(list), tenants)] {
		docs, err := db.Documents(ctx, tenant, belfry.KindEndpoint, "", most)
		if err != nil {
			return 0, 0, "", err
		}
		for _, d := range docs {
			e, err := belfry.DecodeEndpoint(d)
			if err != nil || len(e.Secrets) == 0 {
				continue // said where it is used
			}
			looked++
			if _, err := box.Open(e.Secrets[0].Sealed, belfry.EndpointSecretContext(tenant, e.ID)); err != nil {
				failed++
				example = tenant + "/" + e.ID
			}
		}
		if looked >= most {
			break
		}
	}
	return looked, failed, example, nil
}

// makeFolder makes the data folder, where there is to be one.
func makeFolder(cfg *config.Config) error {
	if cfg.OnPostgres() {
		return nil
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("cannot make the data folder: %w; name another with --data-dir or BELFRY_DATA_DIR", err)
	}
	return nil
}

// openBox makes the box of the configured keys, or of the key in the data
// folder. That one is made when it is missing, but not for a database that has
// been at work with another: a backup brought back without its key would lose
// every secret in silence.
func openBox(ctx context.Context, cfg *config.Config, db *store.DB, log *slog.Logger) (*secret.Box, error) {
	keys := cfg.SecretKeys()
	if len(keys) == 0 {
		if cfg.OnPostgres() {
			return nil, errors.New("on PostgreSQL every node needs the same secret key: set BELFRY_SECRET_KEY to 32 random bytes in base64, for example from: openssl rand -base64 32")
		}
		file := filepath.Join(cfg.DataDir, "secret.key")
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			tenants, err := db.Tenants(ctx)
			if err != nil {
				return nil, err
			}
			if len(tenants) > 0 {
				return nil, fmt.Errorf("%[1]s is missing, and the database was used with it: put it back from your backup, or set BELFRY_SECRET_KEY. If it is lost, make another with `(umask 077; head -c 32 /dev/urandom | base64 > %[1]s)`: "+
					"links in messages sent so far end, and secrets of endpoints, channels and sources have to be set anew", file)
			}
		}
		made := false
		var err error
		if keys, made, err = secret.LoadOrMake(file); err != nil {
			return nil, err
		}
		if made {
			log.Info("made a secret key; keep it with your backups", "file", file)
		}
	}
	return secret.New(keys)
}

func (a *App) wire(ctx context.Context, cfg *config.Config, box *secret.Box, o Options) error {
	now := a.clock.now // the one clock of everybody
	guard := outbound.New(outbound.Options{Allow: cfg.AllowedOutbound()})
	dir := directory.New(directory.Options{Store: a.db})
	subs := pipeline.NewSubscriptions(a.db, a.log)
	a.subs = subs
	facts := &pipeline.Facts{Directory: dir, Acks: a.db}
	templates := newTemplates(a.db)
	watch := pipeline.NewWatch()
	a.watch = watch
	deps := channel.Deps{HTTP: guard.Client(), Dialer: guard.Dialer(), Log: a.log, Now: now, Version: o.Version}
	var err error
	if a.channels, err = newChannels(slices.Concat(Kinds(), o.Kinds), cfg.Channels, deps, box, a.db, a.log); err != nil {
		return err
	}
	a.publisher = &publisher{DB: a.db, dir: dir, subs: subs, channels: a.channels, templates: templates, doubts: newDoubts(), now: now}
	var here place = pipeline.Alone{}
	var in pipeline.In = alone{a.publisher}
	if a.db.Clustered() {
		a.follower = newFollower(a.publisher, a.log)
		if err := a.newCluster(ctx, cfg, o.Version); err != nil {
			return err
		}
		here, in = a.cluster, a.follower
	}
	a.publisher.follower, a.publisher.peers = a.follower, here
	a.auth = auth.New(auth.Options{Store: a.publisher, Bootstrap: string(cfg.BootstrapKey), Now: now})
	a.publisher.auth = a.auth
	links := &links{base: a.url, box: box, now: now}
	facts.Answer = links.Answer
	stages := &pipeline.Stages{Directory: dir, Subscriptions: subs, Channels: a.channels, Acts: a.db, Acks: a.db, Quotas: a.db, Groups: pipeline.NewGroups(a.db), Problems: a.db, In: in}

	messages := pipeline.NewMessages(facts, subs, templates, links, box, now)
	a.gate = pipeline.NewGate(pipeline.GateOptions{
		Store: a.db, Directory: dir, Messages: messages, Asker: asker{a.channels}, Shards: here, Watch: watch, Log: a.log, Now: now,
		Wake: func(tenant string, due time.Time) { a.dispatcher.Wake(tenant, due) },
	})
	stages.Gate = a.gate
	messages.SetGate(a.gate)
	poll := pipeline.DefaultPoll
	if a.cluster != nil && !cfg.Nodes.Notify {
		poll = time.Second // nobody tells: this node looks
	}
	a.dispatcher = pipeline.NewDispatcher(pipeline.DispatcherOptions{
		Store: a.db, Channels: a.channels,
		Composer:  messages,
		Aftermath: &aftermath{app: a, dir: dir, failures: &pipeline.Failures{Store: a.db, Now: now}, period: cfg.Webhooks.DisableAfter},
		Permits:   a.db, Shards: here, Peers: here, In: in,
		Fallback: &pipeline.Fallbacks{Store: a.db, Facts: facts, Stages: stages, Subscriptions: subs, Watch: watch, Peers: here, Now: now},
		Counters: a.counters, Log: a.log, Now: now, Jitter: rand.Float64,
		Window: cfg.Limits.Window, Poll: poll, Grace: cfg.Limits.Drain,
	})
	a.sealer = pipeline.NewSealer(pipeline.SealerOptions{
		Store: a.db, Facts: facts, Stages: stages, Channels: a.channels, Dispatcher: a.dispatcher, Shards: here, Peers: here, Counters: a.counters, Log: a.log, Now: now, Poll: poll,
	})
	a.planner = pipeline.NewPlanner(pipeline.PlannerOptions{
		Store: a.db, Stages: stages, Dispatcher: a.dispatcher, Sealer: a.sealer, Watch: watch, Shards: here, Peers: here, Poll: poll, Counters: a.counters, Log: a.log, Now: now,
		Observed: func(tenant string) { a.conditions.Look(tenant) },
		Endings:  &pipeline.Endings{Store: a.db, Events: own{a}, Ended: a.ended},
		Participate: func(ctx context.Context, tenant string, e *belfry.Event, subs []belfry.Subscription) error {
			return a.manager.Participate(ctx, tenant, e, subs)
		},
	})
	a.backlog = &backlog{Planner: a.planner}
	a.publisher.dispatcher, a.publisher.planner, a.publisher.sealer = a.dispatcher, a.backlog, a.sealer
	a.ingest, err = ingest.New(ingest.Options{
		Store: a.db, Catalogue: catalogue{dir}, Planner: a.backlog, Now: now,
		Limits:             ingest.Limits{Pending: cfg.Limits.PendingEvents},
		RefuseUnknownTypes: cfg.Ingest.UnknownTypes == config.RefuseUnknown,
	})
	if err != nil {
		return err
	}
	a.conditions = pipeline.NewConditions(pipeline.ConditionsOptions{
		Store: a.db, Subscriptions: subs, Directory: dir, In: in, Events: own{a}, Shards: here, Counters: a.counters, Log: a.log, Now: now, Poll: poll,
	})
	a.publisher.conditions = a.conditions
	a.sources = newSources(sourceParts{db: a.db, ingest: a.ingest, publish: a.publisher, planner: a.backlog, shards: here, secret: box, now: now, log: a.log, guarded: guard.Dialer().DialContext})
	a.publisher.sources = a.sources

	backtests := pipeline.NewBacktester(stages, a.db, now)
	a.jobs = a.newJobs(here, backtests)
	a.timers = a.newTimers(here, facts)
	a.manager, err = manage.New(manage.Options{
		Store: a.publisher, Box: box, Now: now, Channels: a.channels, ChannelKinds: channelKinds{}, SourceKinds: sourceKinds{}, Crowds: subs,
		Senders: alarm{a, here}, Backtests: backtests, Notices: sendings{a, stages},
		Parts: manage.Parts{All: store.PersonParts(), Edits: store.EditedParts()}, Lost: jobs.ErrLost,
		Roles: roles{dir, now}, Joining: manage.JoiningTerms(cfg.Joining), Schema: ingest.CheckSchema, Outbound: guard,
	})
	if err != nil {
		return err
	}
	a.postman = &postman{db: a.db, manage: a.manager, ingest: a.ingest, shards: here, now: now, log: a.log, wake: make(chan struct{}, 1)}
	a.publisher.postman = a.postman
	explainer := &pipeline.Explainer{Stages: stages, Store: traces{a.db}, Links: links, Now: now}
	a.api = api.New(api.Options{
		Auth: a.auth, Ingest: a.ingest, Manage: a.manager,
		Asking:    &asking{links, a.manager},
		Running:   &running{app: a, messages: messages},
		Nodes:     listed{a},
		Preview:   previews{facts, templates},
		Explain:   explainer,
		Events:    reads{a.db},
		Delivery:  reads{a.db},
		Digests:   reads{a.db},
		Jobs:      reads{a.db},
		Inbox:     &inboxes{watch: watch, db: a.db, facts: facts, subs: subs, templates: templates},
		Documents: edits{a.publisher}, Public: &public{links: links, subs: subs, facts: facts, edit: a.publisher, explain: explainer}, Health: a,
		Notices: &notices{links: links, db: a.db, facts: facts, manage: a.manager}, Metrics: a.metrics(), Seal: box,
		Log: a.log, Now: now, Version: o.Version, PublicURL: a.url,
	})
	a.upkeep = newUpkeep(cfg.Retention, a.db, a.api, a.endGone(), a.log, now)
	if err := a.upkeep.Prepare(ctx); err != nil {
		a.log.Warn("partitions for what comes were not made: rows have their place all the same, and it is tried again", "error", err)
	}
	if err := a.channels.share(ctx); err != nil {
		return err
	}
	tenants, err := a.db.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		if a.follower != nil { // asked first, so that nothing that is loaded is older
			version, err := a.db.Version(ctx, t)
			if err != nil {
				return err
			}
			a.follower.start(t, version)
		}
		if err := errors.Join(subs.Load(ctx, t), a.channels.load(ctx, t)); err != nil {
			return err
		}
	}
	pages := o.Pages
	if pages == nil { // nothing is there to see yet but the API's own pages
		pages = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" && r.Method == http.MethodGet {
				http.Redirect(w, r, "/docs", http.StatusSeeOther)
				return
			}
			a.api.ServeHTTP(w, r)
		})
	}
	a.server = &http.Server{
		Handler:           a.serving(beside(a.api, pages)),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// serving is what this process answers requests with.
func (a *App) serving(all http.Handler) http.Handler {
	if slices.Contains(a.roles, belfry.RoleAPI) {
		return all
	}
	return onlyHealth(all)
}

// beside serves the API's addresses by the API and all others by pages.
func beside(surface, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, p := range []string{"/v1/", "/u/", "/a/", "/why/", "/confirm/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics"} {
			if r.URL.Path == strings.TrimSuffix(p, "/") || strings.HasPrefix(r.URL.Path, p) {
				surface.ServeHTTP(w, r)
				return
			}
		}
		pages.ServeHTTP(w, r)
	})
}

// URL is where the program is reached.
func (a *App) URL() string { return a.url }

// Addr is the address that was bound.
func (a *App) Addr() string { return a.listener.Addr().String() }

// Auth keeps keys.
func (a *App) Auth() *auth.Authenticator { return a.auth }

// Ready is nil while the program can do its work.
func (a *App) Ready(ctx context.Context) error {
	if !a.ready.Load() {
		return belfry.Errorf(belfry.Unavailable, "starting, or stopping")
	}
	return a.db.Ping(ctx)
}

// Run serves until ctx ends, then drains: no new requests, planned batches are
// committed, sends in flight end, what became of them is recorded.
func (a *App) Run(ctx context.Context) error {
	tenants, err := a.db.Tenants(ctx)
	if err != nil {
		return err
	}
	failed := make(chan error, 16)
	stage := func(run func(context.Context) error) (stop func()) {
		stageCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := run(stageCtx); err != nil {
				failed <- err
			}
		}()
		return func() { cancel(); <-done }
	}
	// Stopped last in, first out: sources and requests, planning, sending, and
	// then other nodes take over.
	stopNode, stopFollow := func() {}, func() {}
	if a.cluster != nil {
		stopNode, stopFollow = stage(a.cluster.Run), stage(a.follower.Run)
	}
	stopOutage := stage(func(ctx context.Context) error { return a.outage.watch(ctx, a.db.Ping) })
	stopDispatch := stage(a.dispatcher.Run)
	stopSeal := stage(a.sealer.Run)
	stopPlan := stage(a.planner.Run)
	stopConditions := stage(a.conditions.Run)
	stopGate := stage(a.gate.Run)
	stopCount := stage(a.count)
	stopTime := stage(func(ctx context.Context) error { return a.clock.keepTime(ctx, a.db, a.log) })
	stopUpkeep, stopSigns := stage(a.upkeep.Run), stage(a.signs().Run)
	stopResolve := stage(func(ctx context.Context) error { return a.publisher.resolve(ctx, a.log) })
	stopSources := stage(func(ctx context.Context) error { return a.sources.Run(ctx, tenants) })
	stopJobs, stopTimers := stage(a.jobs.Run), stage(a.timers.Run)
	stopPost := stage(a.postman.Run)
	stopServe := stage(func(context.Context) error {
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	if a.cluster != nil {
		select {
		case <-a.cluster.Joined():
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	a.ready.Store(ctx.Err() == nil && err == nil)
	a.log.Info("listening", "url", a.url, "addr", a.Addr())

	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	a.ready.Store(false)
	a.log.Info("stopping")
	a.api.Drain()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.grace)
	defer cancel()
	if shutdownErr := a.server.Shutdown(drain); shutdownErr != nil {
		_ = a.server.Close()
	}
	stopServe()
	stopPost()
	stopJobs()
	stopTimers()
	stopSources()
	stopResolve()
	stopUpkeep()
	stopSigns()
	stopTime()
	stopCount()
	stopConditions()
	stopPlan()
	stopSeal()
	stopGate()
	stopDispatch()
	stopFollow()
	stopNode()
	stopOutage()
	a.log.Info("stopped")
	return errors.Join(err, a.Close())
}

// Close lets go of everything; idempotent. Run calls it.
func (a *App) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	if a.listener != nil {
		_ = a.listener.Close()
	}
	if a.channels != nil {
		a.channels.Close()
	}
	return a.db.Close()
}

// backlog tells ingest how far planning is behind.
type backlog struct {
	*pipeline.Planner
	pending atomic.Int64
}

// Pending is how many accepted events wait to be planned, as last counted.
func (b *backlog) Pending() int { return int(b.pending.Load()) }

// count keeps the backlog's figure fresh: ingest asks for every request, and
// four times a second is fine enough for a bound of many thousands.
func (a *App) count(ctx context.Context) error {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	for {
		n, err := a.db.Pending(ctx)
		if err == nil {
			a.backlog.pending.Store(n)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/config"
)

// Server is a program under test; *app.App is one.
type Server interface {
	Run(ctx context.Context) error
	URL() string
}

// Start makes a Server of a configuration: the wiring, which the benchmark
// does not know.
type Start func(ctx context.Context, c config.Config, with Parts) (Server, error)

// Parts are what a scenario gives a server beside its configuration.
type Parts struct {
	Kinds []channel.Kind       // of channels, beside those of the house
	Ahead func() time.Duration // how far the server's clock is ahead; nil = not at all
}

// Options of a run; Start, Program and Progress are needed.
type Options struct {
	Size       Size
	Database   string    // URL of a PostgreSQL server where databases may be made; empty = SQLite
	Start      Start     // a server in this process
	Program    []string  // command line of a server in a process of its own, configured by its environment
	Progress   io.Writer // a line for each stage
	Terminal   bool      // Progress is one: lines may be written over
	CPUProfile string    // file; empty = none
	Only       []string  // names of scenarios; empty = those of every run of this size
	Plots      string    // folder for plots; empty = none
	Nodes      int       // processes of a service on PostgreSQL; 0 = no such service unless asked for by name
}

// Size is how long and how much is measured.
type Size struct {
	Quick       bool
	Rounds      int           // of which the median counts
	Window      time.Duration // of a round
	Latency     time.Duration // whole seconds
	Endpoints   int
	Outstanding int64 // events on their way at once, of one event to one endpoint
	InboxEvents int
	Backlog     int // deliveries
	Match       []int
	Load        int // subscriptions
	Starts      int
	Fsyncs      int
	Settle      time.Duration // before memory is read
	People      int           // of the group that inboxes are filled for
	Hanging     Hanging
	Crowd       Crowd
	Hostile     Hostile
	Growth      Growth
	Failover    Failover
	Planning    Planning
	Digests     Digests
	Roles       Roles
}

// Full takes some minutes.
func Full() Size {
	return Size{Rounds: 5, Window: 4 * time.Second, Latency: 15 * time.Second, Endpoints: 100, Outstanding: 1024, InboxEvents: 400, Backlog: 1_000_000,
		Match: []int{1_000, 10_000, 100_000, 1_000_000}, Load: 1_000_000, Starts: 5, Fsyncs: 500, Settle: 3 * time.Second, People: 1000,
		Hanging:  Hanging{Endpoints: 50, Hang: 5, Pause: 10 * time.Second, PerSecond: 250, Window: 30 * time.Second, Rounds: 2},
		Crowd:    Crowd{Members: 1_000_000, Stored: 10, Events: 3},
		Hostile:  Hostile{Members: 1_000_000, Endpoints: 1000, PerSecond: 1000, Small: 50_000, Idle: 10 * time.Second},
		Growth:   Growth{Stored: []int{10_000, 100_000, 1_000_000, 10_000_000}, Window: 4 * time.Second, Limit: 40 * time.Minute},
		Failover: Failover{Nodes: 3, Endpoints: 10, People: 10, PerSecond: 200, Window: 40 * time.Second, KillAfter: 10 * time.Second},
		Planning: Planning{People: 10_000, Subscriptions: 100, Rules: 10, Each: 100, Events: 9},
		Digests:  Digests{People: 50_000, Group: 1000, Items: 20},
		Roles:    Roles{Objects: 100_000, Grants: 10, People: 20_000, Events: 100_000, Edits: 20}}
}

// Quick takes less than 45 seconds.
func Quick() Size {
	return Size{Quick: true, Rounds: 2, Window: time.Second, Latency: 3 * time.Second, Endpoints: 100, Outstanding: 1024, InboxEvents: 60, Backlog: 50_000,
		Match: []int{1_000, 100_000}, Load: 20_000, Starts: 2, Fsyncs: 200, Settle: 1500 * time.Millisecond, People: 1000,
		Hanging:  Hanging{Endpoints: 50, Hang: 5, Pause: 10 * time.Second, PerSecond: 250, Window: 15 * time.Second, Rounds: 1},
		Crowd:    Crowd{Members: 50_000, Stored: 10, Events: 3},
		Hostile:  Hostile{Members: 50_000, Endpoints: 100, PerSecond: 400, Small: 2000, Idle: 5 * time.Second},
		Growth:   Growth{Stored: []int{10_000, 100_000}, Window: time.Second, Limit: 2 * time.Minute},
		Failover: Failover{Nodes: 3, Endpoints: 10, People: 10, PerSecond: 100, Window: 10 * time.Second, KillAfter: 3 * time.Second, Lease: 2 * time.Second},
		Planning: Planning{People: 10_000, Subscriptions: 100, Rules: 10, Each: 100, Events: 3},
		Digests:  Digests{People: 5000, Group: 500, Items: 20},
		Roles:    Roles{Objects: 10_000, Grants: 10, People: 5000, Events: 5000, Edits: 5}}
}

// run is a run in progress.
type run struct {
	Options
	places   *places
	key      string
	report   Report
	progress progress
	plots    []plot
	profiled bool // the profile is written, or being so
}

// Run measures. Every error ends it: figures of a run that lost something are
// worth nothing.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if err = o.Check(); err != nil {
		return nil, err
	}
	r := &run{Options: o, key: "bench-0123456789abcdef0123456789", progress: progress{w: o.Progress, terminal: o.Terminal}}
	r.report = Report{Database: "sqlite", MatchNS: map[string]float64{}, notes: notes{quick: o.Size.Quick, endpoints: o.Size.Endpoints, backlog: o.Size.Backlog, people: o.Size.People}}
	if o.Database != "" {
		r.report.Database = "postgres"
	}
	if r.places, err = newPlaces(o.Database); err != nil {
		return nil, err
	}
	defer r.places.remove()
	ceiling := o.wants("ceiling", "fanout", "single")
	for _, stage := range []struct {
		name   string
		wanted bool
		do     func(context.Context) error
	}{
		{"matching", o.wants("match"), r.match},
		{"loading " + thousands(o.Size.Load) + " subscriptions", o.wants("load"), r.loading},
		{"disk", o.wants("disk"), r.fsync},
		{"ceiling", ceiling, r.ceiling},
		{"throughput and latency", o.wants("fanout", "single", "latency", "ingest", "inbox"), r.throughput},
		{"ceiling again", ceiling, r.ceiling},
		{"start and idle memory", o.wants("start", "backlog"), r.starts},
		{"backlog of " + thousands(o.Size.Backlog) + " deliveries", o.wants("backlog"), r.backlog},
		{"an announcement", o.wants("announcement"), r.announcement},
		{"a hostile mix", o.wants("hostile"), r.hostile},
		{strconv.Itoa(o.nodesOrTwo()) + " nodes", o.wants("nodes"), r.severalNodes},
		{"the loss of a node", o.wants("failover"), r.failover},
		{"growth", o.wants("growth"), r.growth},
		{"inboxes of " + thousands(o.Size.Crowd.Members) + " members", o.wants("million"), r.million},
		{"planning an event for " + thousands(o.Size.Planning.People) + " people", o.wants("plan"), r.planning},
		{"roles on " + thousands(o.Size.Roles.Objects) + " objects", o.wants("roles"), r.roles},
		{"digests of " + thousands(o.Size.Digests.People) + " people", o.wants("digests"), r.digests},
		{"hanging endpoints", o.wants("hanging"), r.hanging},
	} {
		if !stage.wanted {
			continue
		}
		r.progress.begin(stage.name)
		err := stage.do(ctx)
		r.progress.end()
		if err != nil {
			return nil, fmt.Errorf("measuring %s: %w", stage.name, err)
		}
	}
	if r.report.CeilingPosts > 0 {
		r.report.FanoutRatio = rounded(r.report.Fanout / r.report.CeilingPosts)
		r.report.SingleRatio = rounded(r.report.Single / r.report.CeilingPosts)
	}
	if err = save(o.Plots, r.plots); err != nil {
		return nil, fmt.Errorf("writing the plots: %w", err)
	}
	return &r.report, nil
}

func (r *run) fsync(context.Context) error {
	took, err := fsync(r.places.root, r.Size.Fsyncs)
	r.report.Fsync = rounded(float64(took.Nanoseconds()) / 1000)
	return err
}

// ceiling is measured before and after the load; the higher one counts, which
// is to Belfry's disadvantage.
func (r *run) ceiling(ctx context.Context) error {
	var rates []float64
	for range r.Size.Rounds {
		rate, err := ceiling(ctx, r.Size.Window)
		if err != nil {
			return err
		}
		rates = append(rates, rate)
	}
	r.report.CeilingPosts = max(r.report.CeilingPosts, rounded(median(rates)))
	return nil
}

func (r *run) throughput(ctx context.Context) error {
	return r.serving(ctx, func(ctx context.Context, rig *rig) error { return r.load(ctx, rig) })
}

// serving gives measure a server in this process, with a place and a sink of
// its own, and stops it afterwards.
func (r *run) serving(ctx context.Context, measure func(context.Context, *rig) error) error {
	pl, err := r.places.next(ctx)
	if err != nil {
		return err
	}
	defer r.places.empty(pl)
	return r.servingAt(ctx, pl.config(r.key), Parts{}, measure)
}

// servingAt is serving of a configuration whose place is the caller's.
func (r *run) servingAt(ctx context.Context, c config.Config, with Parts, measure func(context.Context, *rig) error) error {
	s, err := startSink()
	if err != nil {
		return err
	}
	defer s.close()
	server, err := r.Start(ctx, c, with)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(serving) }()
	defer func() { stop(); <-ended }()

	rig, err := newRig(server.URL(), r.key, s)
	if err != nil {
		return err
	}
	defer rig.close()
	measuring, give := context.WithCancel(ctx)
	defer give()
	measured := make(chan error, 1)
	go func() { measured <- measure(measuring, rig) }()
	select {
	case err = <-measured:
		return err
	case err = <-ended:
		ended <- err
		give()
		return fmt.Errorf("the server stopped: %w", errors.Join(err, <-measured))
	}
}

// profile records the load from here on until it is stopped, once a run.
func (r *run) profile() (stop func(), err error) {
	if r.CPUProfile == "" || r.profiled {
		return func() {}, nil
	}
	f, err := os.Create(r.CPUProfile)
	if err != nil {
		return nil, err
	}
	if err = pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	r.profiled = true
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

func (r *run) load(ctx context.Context, rig *rig) error {
	if err := rig.setUp(ctx, r.Size.Endpoints); err != nil {
		return err
	}
	stop, err := r.profile()
	if err != nil {
		return err
	}
	defer stop()
	if r.wants("fanout") {
		var err error
		if r.report.Fanout, err = r.rounds(ctx, "fan-out", func() (tally, error) { return rig.fanout(ctx, r.Size.Window, r.Size.Outstanding/16) }); err != nil {
			return err
		}
	}
	if r.wants("single") {
		var err error
		if r.report.Single, err = r.rounds(ctx, "single", func() (tally, error) { return rig.single(ctx, r.Size.Window, r.Size.Outstanding) }); err != nil {
			return err
		}
	}
	if r.wants("latency") {
		r.progress.step("latency")
		latencies, err := rig.latency(ctx, 100, r.Size.Latency)
		if err != nil {
			return fmt.Errorf("latency: %w", err)
		}
		l := latencyOf(latencies)
		r.report.Latency = &l
	}
	if r.wants("ingest") {
		if err := r.ingest(ctx, rig); err != nil {
			return fmt.Errorf("ingest: %w", err)
		}
	}
	if r.wants("inbox") {
		r.progress.step("inbox")
		rows, err := rig.inbox(ctx, r.Size.People, r.Size.InboxEvents)
		if err != nil {
			return fmt.Errorf("inbox: %w", err)
		}
		r.report.InboxRows = rounded(rows)
	}
	return nil
}

// rounds measures after one warm-up round and gives the median.
func (r *run) rounds(ctx context.Context, what string, measure func() (tally, error)) (float64, error) {
	var rates []float64
	for i := range r.Size.Rounds + 1 {
		r.progress.step("%s, round %d of %d", what, i, r.Size.Rounds)
		t, err := measure()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", what, err)
		}
		r.count(t)
		if i > 0 {
			rates = append(rates, t.rate)
		}
	}
	return rounded(median(rates)), ctx.Err()
}

// count adds what was seen of repeats and signatures.
func (r *run) count(t tally) {
	r.report.notes.repeated += t.repeated
	r.report.notes.checked += t.checked
}

func (r *run) ingest(ctx context.Context, rig *rig) error {
	r.progress.step("ingest")
	before, err := databaseSize(ctx, rig)
	if err != nil {
		return err
	}
	accepted, events, err := rig.ingest(ctx, r.Size.Window, 100)
	if err != nil {
		return err
	}
	after, err := databaseSize(ctx, rig)
	if err != nil {
		return err
	}
	r.report.IngestBatch = rounded(accepted)
	r.report.DiskPerMillion = int64(rounded(float64(after-before) / float64(events) * 1e6))
	var rates []float64
	for i := range r.Size.Rounds {
		r.progress.step("ingest and planning, round %d of %d", i+1, r.Size.Rounds)
		rate, err := rig.ingestPlanned(ctx, r.Size.Window, 100)
		if err != nil {
			return err
		}
		rates = append(rates, rate)
	}
	r.report.IngestPlanned = rounded(median(rates))
	return nil
}

// databaseSize is the server's own figure of it, the same on every database.
func databaseSize(ctx context.Context, rig *rig) (int64, error) {
	v, err := figure(ctx, rig.api, "belfry_database_bytes")
	return int64(v), err
}

// starts measures how long a process takes to be ready, and what it holds when
// it has nothing to do.
func (r *run) starts(ctx context.Context) error {
	var times []float64
	for i := range r.Size.Starts {
		pl, err := r.places.next(ctx)
		if err != nil {
			return err
		}
		c, err := startChild(ctx, r.Program[0], r.Program[1:], pl.environ(r.key))
		if err != nil {
			return err
		}
		times = append(times, milliseconds(c.ready))
		if i == 0 {
			if err = settle(ctx, r.Size.Settle); err == nil {
				r.report.IdleRSS, err = c.rss()
			}
		}
		c.stop()
		if err != nil {
			return err
		}
	}
	r.report.StartMS = rounded(median(times))
	return nil
}

// backlog measures a process that holds deliveries due now and cannot send
// them, after it planned them all.
func (r *run) backlog(ctx context.Context) error {
	s, err := startSink()
	if err != nil {
		return err
	}
	defer s.close()
	pl, err := r.places.next(ctx)
	if err != nil {
		return err
	}
	c, err := startChild(ctx, r.Program[0], r.Program[1:], pl.environ(r.key))
	if err != nil {
		return err
	}
	defer c.stop()
	rig, err := newRig(c.url, r.key, s)
	if err != nil {
		return err
	}
	defer rig.close()
	if err = rig.setUp(ctx, r.Size.Endpoints); err != nil {
		return err
	}
	if err = rig.backlog(ctx, r.Size.Backlog); err != nil {
		return fmt.Errorf("%w; the server's last words:\n%s", err, c.tail)
	}
	if err = settle(ctx, r.Size.Settle); err != nil {
		return err
	}
	r.report.BacklogRSS, err = c.rss()
	return err
}

func settle(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

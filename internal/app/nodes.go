package app

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/nodes"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/web/api"
)

// place is how this process stands to others that may share its database.
type place interface {
	pipeline.Shards
	pipeline.Peers
}

// cluster is the place of a process on PostgreSQL.
type cluster struct {
	*nodes.Keeper
	*nodes.Wire
}

// Run keeps the node's place and tells and hears others until ctx ends.
func (c *cluster) Run(ctx context.Context) error {
	wired := make(chan struct{})
	wire, quiet := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(wired)
		_ = c.Wire.Run(wire) // it has no error but the end
	}()
	err := c.Keeper.Run(ctx)
	quiet()
	<-wired
	return err
}

// deaf is the Wire's line where nothing is told: everybody looks by themselves.
type deaf struct{}

func (deaf) Tell(context.Context, string) error { return nil }

func (deaf) Listen(ctx context.Context, _ func(), _ func(string)) error {
	<-ctx.Done()
	return nil
}

// ear passes on what other nodes tell.
type ear struct{ app *App }

func (e ear) Heard(ws []belfry.Wake) {
	for i := range ws {
		w := &ws[i]
		if w.Edited {
			e.app.follower.edited(w.Tenant)
		}
		if w.Counted {
			e.app.conditions.Look(w.Tenant)
		}
		if w.Event != "" {
			e.app.planner.Wake(w.Tenant, w.Event)
		}
		if len(w.Planned) > 0 {
			e.app.dispatcher.Planned(w.Tenant, w.Planned)
		}
		if !w.Due.IsZero() {
			e.app.dispatcher.Wake(w.Tenant, w.Due)
			e.app.sealer.Expect(w.Tenant, w.Due)
		}
		if w.Inboxes != [belfry.WakeInboxes]byte{} {
			e.app.watch.WakeMarked(w.Tenant, w.Inboxes)
		}
	}
}

func (e ear) Unheard() {
	e.app.follower.edited("")
	e.app.planner.Requeue()
	e.app.conditions.LookAll()
	e.app.dispatcher.Look()
	e.app.watch.WakeAll()
}

func (e ear) Changed() { e.app.cluster.Wake() }

// newCluster makes this process's place among the nodes on its database, and
// refuses a clock that differs from the database's: nodes with different ideas
// of now would send early, late, or in another order.
func (a *App) newCluster(ctx context.Context, cfg *config.Config, version string) error {
	ahead, within, err := a.db.Clock(ctx)
	if err != nil {
		return err
	}
	if err := judgeClock(ahead, within); err != nil {
		return err
	}
	// From here on it is the database's, whatever happens to this machine's.
	a.clock.correct(ahead)
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	var line nodes.Line = deaf{}
	if cfg.Nodes.Notify {
		line = a.db
	}
	a.cluster = &cluster{}
	a.cluster.Wire = nodes.NewWire(line, func() string { return a.cluster.ID() }, ear{a}, a.log)
	parts := map[string]nodes.Part{}
	for kind, part := range map[string]struct {
		role string
		part nodes.Part
	}{
		belfry.LeasePlan:     {belfry.RolePlan, lazyPart{func() nodes.Part { return planPart{a.planner, a.conditions} }}},
		belfry.LeaseDelivery: {belfry.RoleDeliver, lazyPart{func() nodes.Part { return a.dispatcher }}},
		belfry.LeaseSource:   {belfry.RoleSource, lazyPart{func() nodes.Part { return a.sources }}},
	} {
		if slices.Contains(cfg.Nodes.Roles, part.role) {
			parts[kind] = part.part
		}
	}
	a.cluster.Keeper = nodes.NewKeeper(nodes.Options{
		Store: a.db, Lease: cfg.Nodes.Lease, Parts: parts, Changed: a.cluster.Wire.Changed, Log: a.log, Now: time.Now,
		Self: belfry.Node{Name: name, Address: a.url, Roles: cfg.Nodes.Roles, Version: version},
	})
	return nil
}

// judgeClock says what to do when the database's clock is too far from ours.
func judgeClock(ahead, within time.Duration) error {
	off := ahead.Abs() - within
	if off <= nodes.Skew {
		return nil
	}
	return fmt.Errorf("this machine's clock is %s %s the database's: set both by a time service (NTP, chrony), then start again",
		off.Round(100*time.Millisecond), map[bool]string{true: "behind", false: "ahead of"}[ahead > 0])
}

// lazyPart is a part that is made after the Keeper that divides the work: it
// is not asked for before Run.
type lazyPart struct{ part func() nodes.Part }

func (l lazyPart) Gained(shards []int) { l.part().Gained(shards) }

func (l lazyPart) Leave(ctx context.Context, shards []int) []int { return l.part().Leave(ctx, shards) }

// onlyHealth is what a node serves that takes in no requests.
func onlyHealth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch strings.TrimSuffix(r.URL.Path, "/") {
		case "/healthz", "/readyz", "/metrics":
			next.ServeHTTP(w, r)
			return
		}
		http.Error(w, "this node takes in no requests: its roles do not include api", http.StatusMisdirectedRequest)
	})
}

// listed shows the processes that form the service.
type listed struct{ app *App }

// Nodes lists them as the database has them now.
func (l listed) Nodes(ctx context.Context) ([]api.NodeView, error) {
	a := l.app
	if a.cluster == nil {
		all := map[string]int{belfry.LeasePlan: belfry.Shards, belfry.LeaseDelivery: belfry.Shards, belfry.LeaseSource: belfry.Shards}
		host, _ := os.Hostname() // a name for people
		return []api.NodeView{{Name: host, Address: a.url, Roles: a.roles, Version: a.version, Started: a.started, Alive: true, Self: true, Shards: all}}, nil
	}
	table, err := a.db.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]api.NodeView, 0, len(table.Nodes))
	at := map[string]int{}
	for i, n := range table.Nodes {
		views = append(views, api.NodeView{ID: n.ID, Name: n.Name, Address: n.Address, Roles: n.Roles, Version: n.Version, Started: n.Started,
			Until: &table.Nodes[i].Until, Alive: n.Until.After(table.Clock), Self: n.ID == a.cluster.ID(), Shards: map[string]int{}})
		at[n.ID] = i
	}
	for _, lease := range table.Leases {
		if i, ok := at[lease.Owner]; ok {
			views[i].Shards[lease.Kind]++
		}
	}
	return views, nil
}

package nodes

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Store keeps nodes and leases. Errors of kind Conflict say that this node was
// declared dead.
type Store interface {
	JoinNode(ctx context.Context, n belfry.Node, lease time.Duration) error
	RenewNode(ctx context.Context, id string, lease time.Duration) (belfry.NodeTable, error)
	BuryNode(ctx context.Context, id string) (bool, error)
	LeaveNode(ctx context.Context, id string) error
	ClaimShards(ctx context.Context, id, kind string, shards []int) ([]int, error)
	ReleaseShards(ctx context.Context, id, kind string, shards []int) error
	// FenceAs makes all that is committed from now on depend on the node's life.
	FenceAs(id string)
}

// Part does the work of one kind of lease.
type Part interface {
	// Gained tells of shards that are this node's now.
	Gained(shards []int)
	// Leave stops work on shards, of which Keeper.Has is false already, and
	// waits until nothing of them is under way or ctx ends. It answers with
	// those of which nothing is.
	Leave(ctx context.Context, shards []int) []int
}

// Options of a Keeper; all are needed.
type Options struct {
	Store Store
	// Self says who this is; its id is drawn by the Keeper.
	Self  belfry.Node
	Lease time.Duration
	// Parts by kind of lease: of those the node's roles name.
	Parts map[string]Part
	// Changed tells other nodes to look at the table.
	Changed func()
	Log     *slog.Logger
	// Now must carry a monotonic reading.
	Now func() time.Time
}

// Skew is how far the clocks of nodes may be apart.
const Skew = 5 * time.Second

// roleOf says which role works on a kind of lease.
var roleOf = map[string]string{
	belfry.LeasePlan:     belfry.RolePlan,
	belfry.LeaseDelivery: belfry.RoleDeliver,
	belfry.LeaseSource:   belfry.RoleSource,
}

// Keeper keeps this process's place among the nodes.
type Keeper struct {
	o      Options
	wake   chan struct{}
	joined chan struct{} // closed after the first renewal
	once   sync.Once

	id     atomic.Pointer[string]
	until  atomic.Pointer[time.Time] // begin no send after it
	shared atomic.Bool
	kinds  map[string]*kind
	table  atomic.Pointer[belfry.NodeTable]

	patience time.Duration // of the next beat
	renewed  time.Time     // when the last renewal that succeeded was asked for
	since    time.Time     // when the first of an unbroken row of them was
	apart    bool          // the clocks are
}

// kind is what this node has of one kind of lease.
type kind struct {
	part Part
	mine atomic.Pointer[mine]
}

// mine is a set of shards; immutable.
type mine struct {
	has  [belfry.Shards]bool
	list []int
}

func newMine(shards []int) *mine {
	m := &mine{list: slices.Sorted(slices.Values(shards))}
	if m.list == nil {
		m.list = []int{}
	}
	for _, s := range shards {
		m.has[s] = true
	}
	return m
}

// NewKeeper makes a Keeper that has nothing before Run.
func NewKeeper(o Options) *Keeper {
	k := &Keeper{o: o, patience: o.Lease / 3, wake: make(chan struct{}, 1), joined: make(chan struct{}), kinds: map[string]*kind{}}
	for name := range roleOf {
		kd := &kind{part: o.Parts[name]}
		kd.mine.Store(newMine(nil))
		k.kinds[name] = kd
	}
	none, never := "", time.Time{}
	k.id.Store(&none)
	k.until.Store(&never)
	return k
}

// Mine are the shards this node has of a kind, never nil.
func (k *Keeper) Mine(name string) []int { return k.kinds[name].mine.Load().list }

// Has reports whether this node has a shard.
func (k *Keeper) Has(name string, shard int) bool { return k.kinds[name].mine.Load().has[shard] }

// Shared reports whether there are other nodes.
func (k *Keeper) Shared() bool { return k.shared.Load() }

// MaySend reports whether the lease is good for a send that begins now: its
// last third is left for sends to end in.
func (k *Keeper) MaySend() bool { return k.o.Now().Before(*k.until.Load()) }

// ID is this node's name among the others; empty before it has joined.
func (k *Keeper) ID() string { return *k.id.Load() }

// Table is who was there and who had what when last looked at.
func (k *Keeper) Table() belfry.NodeTable {
	if t := k.table.Load(); t != nil {
		return *t
	}
	return belfry.NodeTable{}
}

// Wake makes the Keeper look at the table now.
func (k *Keeper) Wake() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Joined is closed when this node has joined and claimed for the first time.
func (k *Keeper) Joined() <-chan struct{} { return k.joined }

// Run keeps the node's place until ctx ends, and then leaves: all parts must
// have stopped before.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		wait := k.beat(ctx)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			k.leave(context.WithoutCancel(ctx))
			return nil
		case <-k.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// leavePatience is how long leaving in order may take; others find out by
// themselves when it fails.
const leavePatience = 3 * time.Second

func (k *Keeper) leave(ctx context.Context) {
	if k.ID() == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	k.lose()
	if err := k.o.Store.LeaveNode(ctx, k.ID()); err != nil {
		k.o.Log.Warn("leaving the other nodes: they will find out", "node", k.ID(), "error", err)
		return
	}
	k.o.Changed()
}

// beat renews the lease, or joins, and acts on what the table says. It answers
// when to do so again.
//
// A connection that is dead and does not say so must not cost the lease, so a
// beat gives up after a third of one. A database that is slow, as on a busy disk,
// would never be heard out then: after a beat that was not, the next has twice as
// long, up to two thirds of a lease, or all of one while there is none to lose;
// after one that was, twice what it took.
func (k *Keeper) beat(ctx context.Context) time.Duration {
	began := k.o.Now()
	limited, cancel := context.WithTimeout(ctx, k.patience)
	defer cancel()
	wait := k.step(limited)
	took := k.o.Now().Sub(began)
	if limited.Err() != nil {
		took = k.patience
	}
	most := k.mostPatience()
	if k.ID() == "" {
		most = k.o.Lease
	}
	k.patience = min(max(2*took, k.o.Lease/3), most)
	return wait
}

// mostPatience is how long a beat of a node that has joined may take at most.
func (k *Keeper) mostPatience() time.Duration { return k.o.Lease * 2 / 3 }

// pause is the time between a beat that failed and the next.
func (k *Keeper) pause() time.Duration { return min(k.o.Lease/3, time.Second) }

// step is what a beat does before ctx ends.
func (k *Keeper) step(ctx context.Context) time.Duration {
	regular := k.o.Lease / 3
	if k.ID() == "" {
		if err := k.join(ctx); err != nil {
			k.o.Log.Error("joining the other nodes", "error", err)
			return k.pause()
		}
	}
	asked := k.o.Now()
	table, err := k.o.Store.RenewNode(ctx, k.ID(), k.o.Lease)
	switch {
	case belfry.KindOf(err) == belfry.Conflict:
		k.o.Log.Warn("this node was taken for dead; what it had is in other hands, it joins anew", "node", k.ID())
		k.lose()
		none := ""
		k.id.Store(&none)
		return 0
	case err != nil:
		k.o.Log.Error("renewing the lease of this node", "node", k.ID(), "until", *k.until.Load(), "error", err)
		return k.pause()
	}
	k.judgeClock(table.Clock, asked)
	until := asked.Add(k.o.Lease - k.o.Lease/3)
	k.until.Store(&until)
	if k.since.IsZero() || asked.Sub(k.renewed) > k.o.Lease*2/3 {
		k.since = asked
	}
	k.renewed = asked
	changed, err := k.act(ctx, &table)
	k.table.Store(&table)
	if changed {
		k.o.Changed()
	}
	if err != nil {
		if ctx.Err() == nil {
			k.o.Log.Error("dividing the work among nodes", "error", err)
		}
		return k.pause()
	}
	k.once.Do(func() { close(k.joined) })
	return max(regular-k.o.Now().Sub(asked), 0)
}

// judgeClock warns, once a drift, when this machine's clock and the database's
// have come apart since the start. Work goes on: leases do not look at it.
func (k *Keeper) judgeClock(database, asked time.Time) {
	now := k.o.Now()
	off := max(asked.Sub(database), database.Sub(now)) // it was read between asked and now
	if apart := off > Skew; apart != k.apart {
		k.apart = apart
		if apart {
			k.o.Log.Warn("this machine's clock has come apart from the database's: messages may be early, late or in another order; set both by a time service", "by", off)
		}
	}
}

func (k *Keeper) join(ctx context.Context) error {
	n := k.o.Self
	n.ID = belfry.NewID("node_", k.o.Now())
	if err := k.o.Store.JoinNode(ctx, n, k.o.Lease); err != nil {
		return err
	}
	k.o.Store.FenceAs(n.ID)
	k.id.Store(&n.ID)
	k.renewed, k.since = time.Time{}, time.Time{}
	k.o.Log.Info("joined as a node", "node", n.ID, "roles", n.Roles, "lease", k.o.Lease)
	k.o.Changed()
	return nil
}

// lose drops all shards at once: they are, or may be, in other hands.
func (k *Keeper) lose() {
	gone := time.Time{}
	k.until.Store(&gone)
	now, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for anything
	for _, kd := range k.kinds {
		had := kd.mine.Swap(newMine(nil)).list
		if len(had) > 0 && kd.part != nil {
			kd.part.Leave(now, had)
		}
	}
}

// act buries the dead, claims what is free and gives back what is too much.
// It says whether other nodes should look.
func (k *Keeper) act(ctx context.Context, table *belfry.NodeTable) (changed bool, err error) {
	// Whoever was cut off from the database cannot tell the dead from those
	// that were cut off with it: it gives them time to give up a beat that is
	// not heard out and to renew first.
	if settled := k.renewed.Sub(k.since) >= k.mostPatience()+k.pause(); settled {
		for i := range table.Nodes {
			n := &table.Nodes[i]
			if n.ID == k.ID() || n.Until.After(table.Clock) {
				continue
			}
			buried, err := k.o.Store.BuryNode(ctx, n.ID)
			if err != nil {
				return changed, err
			}
			if buried {
				k.o.Log.Warn("a node has died; its work is taken over", "node", n.ID, "host", n.Name, "last_seen", n.Until.Add(-k.o.Lease))
				changed = true
				for j := range table.Leases {
					if table.Leases[j].Owner == n.ID {
						table.Leases[j].Owner = ""
					}
				}
				n.Roles = nil // of no use any more
			}
		}
	}
	others := false
	for i := range table.Nodes {
		others = others || table.Nodes[i].ID != k.ID() && table.Nodes[i].Roles != nil
	}
	if k.shared.Swap(others) != others {
		k.o.Log.Info("nodes at work", "alone", !others)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for name, kd := range k.kinds {
		if kd.part == nil {
			continue
		}
		wg.Go(func() {
			did, e := k.divide(ctx, name, kd, table)
			mu.Lock()
			defer mu.Unlock()
			changed = changed || did
			if e != nil {
				err = e
			}
		})
	}
	wg.Wait()
	return changed, err
}

// divide sees to one kind of lease.
func (k *Keeper) divide(ctx context.Context, name string, kd *kind, table *belfry.NodeTable) (changed bool, err error) {
	var owners [belfry.Shards]string
	var had []int
	for _, l := range table.Leases {
		if l.Kind == name {
			owners[l.Shard] = l.Owner
			if l.Owner == k.ID() {
				had = append(had, l.Shard)
			}
		}
	}
	// What the table gives us and we do not work on: we were cut off after a
	// claim. It is taken up as if it were claimed now.
	var took []int
	for _, s := range had {
		if !k.Has(name, s) {
			took = append(took, s)
		}
	}
	claim, give := share(working(table, name), &owners, k.ID())
	if len(claim) > 0 {
		got, err := k.o.Store.ClaimShards(ctx, k.ID(), name, claim)
		if err != nil {
			return false, err
		}
		took = append(took, got...)
		had = append(had, got...)
	}
	if len(took) > 0 {
		kd.mine.Store(newMine(had))
		kd.part.Gained(took)
		k.o.Log.Debug("took shards", "kind", name, "shards", len(took), "now", len(had))
	}
	if give == 0 {
		return false, nil
	}
	return k.give(ctx, name, kd, had, give)
}

// working are the nodes that work on a kind of lease, sorted.
func working(table *belfry.NodeTable, name string) []string {
	var live []string
	for i := range table.Nodes {
		if slices.Contains(table.Nodes[i].Roles, roleOf[name]) {
			live = append(live, table.Nodes[i].ID)
		}
	}
	slices.Sort(live)
	return live
}

// give gives back some of the shards: any, of which work can be stopped soon.
// The others are kept and worked on as before.
func (k *Keeper) give(ctx context.Context, name string, kd *kind, had []int, n int) (bool, error) {
	rest := slices.Clone(had)
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	out := rest[:n]
	rest = rest[n:]
	kd.mine.Store(newMine(rest))
	short, cancel := context.WithTimeout(ctx, k.o.Lease/6)
	left := kd.part.Leave(short, out)
	cancel()
	kept := slices.DeleteFunc(slices.Clone(out), func(s int) bool { return slices.Contains(left, s) })
	back := func(shards []int) {
		kd.mine.Store(newMine(append(rest, shards...)))
		kd.part.Gained(shards)
	}
	if len(kept) > 0 {
		back(kept)
		rest = append(rest, kept...)
	}
	if len(left) == 0 {
		return false, nil
	}
	if err := k.o.Store.ReleaseShards(ctx, k.ID(), name, left); err != nil {
		// Whether they are released is not known; the table will say. Until then
		// nobody works on them.
		return false, err
	}
	k.o.Log.Debug("gave shards", "kind", name, "shards", len(left), "now", len(rest))
	return true, nil
}

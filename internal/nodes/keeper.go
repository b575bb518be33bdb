package nodes

import (
	"context"
	"log/slog"
	"maps"
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
	// RenewNode prolongs the lease, counted from now.
	RenewNode(ctx context.Context, id string, lease time.Duration) error
	// Nodes reads who is there and who has what.
	Nodes(ctx context.Context) (belfry.NodeTable, error)
	BuryNode(ctx context.Context, id string) (bool, error)
	LeaveNode(ctx context.Context, id string) error
	ClaimShards(ctx context.Context, id, kind string, shards []int) ([]int, error)
	ReleaseShards(ctx context.Context, id, kind string, shards []int) error
	// FenceAs makes all that is committed from now on depend on the node's life.
	FenceAs(id string)
}

// Part does the work of one kind of lease.
type Part interface {
	// Gained tells of shards that are this node's now, or that it was to leave and
	// keeps.
	Gained(shards []int)
	// Leave stops work on shards, of which Keeper.Has is false already, and
	// waits until nothing of them is under way or ctx ends. It answers with
	// those of which nothing is, and is asked again of the others.
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
	joined chan struct{} // closed when the work was divided for the first time
	once   sync.Once

	id     atomic.Pointer[string]
	until  atomic.Pointer[time.Time] // begin no send after it
	shared atomic.Bool
	kinds  map[string]*kind
	table  atomic.Pointer[belfry.NodeTable]

	apart  bool           // the clocks are
	asking sync.WaitGroup // renewals under way

	mu      sync.Mutex
	over    bool      // this life is: what is still answered is of no use
	asked   time.Time // when the latest renewal that succeeded was asked for
	renewed time.Time // when we last heard that one did
	since   time.Time // when we heard of the first of an unbroken row of them
}

// kind is what this node has of one kind of lease.
type kind struct {
	part Part
	mine atomic.Pointer[mine]

	// Of whoever divides the work alone. Shards that are to be given and of which
	// something is under way yet, with the time they were left: no work on them is
	// begun. And those that were left in vain, with the time that was seen.
	leaving map[int]time.Time
	clung   map[int]time.Time
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
	k := &Keeper{o: o, wake: make(chan struct{}, 1), joined: make(chan struct{}), kinds: map[string]*kind{}}
	for name := range roleOf {
		kd := &kind{part: o.Parts[name], leaving: map[int]time.Time{}, clung: map[int]time.Time{}}
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
	defer k.asking.Wait()
	for ctx.Err() == nil {
		if err := k.join(ctx); err != nil {
			k.o.Log.Error("joining the other nodes", "error", err)
			k.rest(ctx, k.pause())
			continue
		}
		k.live(ctx)
		if ctx.Err() != nil {
			break
		}
		k.o.Log.Warn("this node was taken for dead; what it had is in other hands, it joins anew", "node", k.ID())
		k.lose()
		none := ""
		k.id.Store(&none)
	}
	k.leave(context.WithoutCancel(ctx))
	return nil
}

// rest waits for d, a Wake, or the end of ctx.
func (k *Keeper) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-k.wake:
	case <-t.C:
	}
}

// live is a node's life: it renews its lease and, apart from that, has its share
// of the work, until it finds that it was declared dead or ctx ends.
func (k *Keeper) live(ctx context.Context) {
	life, end := context.WithCancel(ctx)
	id := k.ID()
	var renewing sync.WaitGroup
	renewing.Go(func() {
		k.renew(ctx, life, id, func() {
			k.stopSending(id) // before what is under way has ended
			end()
		})
	})
	defer renewing.Wait()
	defer end()
	for life.Err() == nil {
		began := k.o.Now()
		err := k.look(life)
		wait := max(k.regular()-k.o.Now().Sub(began), 0)
		if k.leaving() {
			wait = 0 // leaving waits
		}
		switch {
		case life.Err() != nil:
			return
		case belfry.KindOf(err) == belfry.Conflict:
			return
		case err != nil:
			k.o.Log.Error("dividing the work among nodes", "error", err)
			wait = k.pause()
		default:
			k.once.Do(func() { close(k.joined) })
		}
		k.rest(life, wait)
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

// regular is the time from one renewal to the next, and from one look at the
// table to the next.
func (k *Keeper) regular() time.Duration { return k.o.Lease / 3 }

// pause is the time between a call that failed and the next.
func (k *Keeper) pause() time.Duration { return min(k.regular(), time.Second) }

// atOnce is how many renewals may be under way: those that were begun within a
// lease, and one more that ends at this moment. Where a lease is shorter than an
// answer is waited for, so many silent connections at once cost the lease.
const atOnce = 4

// renew asks for more time, three times within the length of a lease, until the
// node's life ends, and calls die, once or more, when it was declared dead.
//
// It does not wait for an answer before it asks anew, and hears out each as long
// as it may be of use: neither a connection that is dead and does not say so nor a
// database that is slow, as on a busy disk, costs the lease, as long as one answer
// within its length comes. Nothing else that a node asks delays it. What was asked
// is not given up at the end of a life, for it would cost its connection: ctx ends
// it.
func (k *Keeper) renew(ctx, life context.Context, id string, die func()) {
	free := make(chan struct{}, atOnce)
	failed := make(chan struct{}, 1)
	next := k.o.Now().Add(k.regular())
	t := time.NewTimer(k.regular())
	defer t.Stop()
	for {
		select {
		case <-life.Done():
			return
		case <-failed:
			if len(free) == 0 { // with nothing to hope for, sooner
				t.Reset(min(next.Sub(k.o.Now()), k.pause()))
			}
			continue
		case <-t.C:
		}
		next = k.o.Now().Add(k.regular())
		t.Reset(k.regular())
		select {
		case free <- struct{}{}:
		default:
			continue
		}
		k.asking.Go(func() {
			err := k.ask(ctx, id)
			<-free
			switch {
			case err == nil || life.Err() != nil:
				return
			case belfry.KindOf(err) == belfry.Conflict:
				die()
				return
			}
			k.o.Log.Error("renewing the lease of this node", "node", id, "until", *k.until.Load(), "error", err)
			select {
			case failed <- struct{}{}:
			default:
			}
		})
	}
}

// ask asks once for more time.
func (k *Keeper) ask(ctx context.Context, id string) error {
	asked := k.o.Now()
	limited, cancel := k.patient(ctx)
	defer cancel()
	err := k.o.Store.RenewNode(limited, id, k.o.Lease)
	if err == nil {
		k.prolonged(id, asked)
	}
	return err
}

// prolonged notes that a lease was prolonged that was asked for at some time.
// Answers come in any order, and some when the node's life is over.
func (k *Keeper) prolonged(id string, asked time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || id != k.ID() {
		return
	}
	now := k.o.Now()
	if now.Sub(k.renewed) > k.gap() {
		k.since = now
	}
	k.renewed = now
	if asked.After(k.asked) {
		k.asked = asked
		until := asked.Add(k.o.Lease - k.o.Lease/3)
		k.until.Store(&until)
	}
}

// settled reports whether answers came without a gap for a while. Whoever was
// cut off from the database cannot tell the dead from those that were cut off
// with it: it gives them time to find that it is back, and to renew first.
func (k *Keeper) settled() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.o.Now().Sub(k.renewed) <= k.gap() && k.renewed.Sub(k.since) >= k.gap()+k.pause()
}

// gap is how long no answer may come before we count as cut off.
func (k *Keeper) gap() time.Duration { return k.o.Lease * 2 / 3 }

// leastPatience is how long an answer is waited for where a lease is shorter. To
// give up a question costs its connection, and a new one is slow to come from a
// server that is slow to answer: whoever gives up too soon never hears anything.
const leastPatience = 10 * time.Second

// patient bounds how long an answer is waited for: a connection may be dead and
// not say so.
func (k *Keeper) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(k.o.Lease, leastPatience))
}

// look reads the table and acts on what it says.
func (k *Keeper) look(ctx context.Context) error {
	asked := k.o.Now()
	limited, cancel := k.patient(ctx)
	table, err := k.o.Store.Nodes(limited)
	cancel()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(table.Nodes, func(n belfry.Node) bool { return n.ID == k.ID() }) {
		return belfry.Errorf(belfry.Conflict, "this node is not among those that are known")
	}
	k.judgeClock(table.Clock, asked)
	changed, err := k.act(ctx, &table)
	k.table.Store(&table)
	if changed {
		k.o.Changed()
	}
	return err
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
	asked := k.o.Now()
	n.ID = belfry.NewID("node_", asked)
	limited, cancel := k.patient(ctx)
	err := k.o.Store.JoinNode(limited, n, k.o.Lease)
	cancel()
	if err != nil {
		return err
	}
	k.o.Store.FenceAs(n.ID)
	k.id.Store(&n.ID)
	k.mu.Lock()
	k.over, k.asked, k.renewed, k.since = false, time.Time{}, time.Time{}, time.Time{}
	k.mu.Unlock()
	k.prolonged(n.ID, asked)
	k.o.Log.Info("joined as a node", "node", n.ID, "roles", n.Roles, "lease", k.o.Lease)
	k.o.Changed()
	return nil
}

// stopSending ends the sends of a life. Who hears of its end late, in the next,
// ends nothing.
func (k *Keeper) stopSending(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id != k.ID() {
		return
	}
	k.over = true
	gone := time.Time{}
	k.until.Store(&gone)
}

// lose drops all shards at once: they are, or may be, in other hands.
func (k *Keeper) lose() {
	k.stopSending(k.ID())
	now, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for anything
	for _, kd := range k.kinds {
		had := kd.mine.Swap(newMine(nil)).list
		clear(kd.leaving)
		if len(had) > 0 && kd.part != nil {
			kd.part.Leave(now, had)
		}
	}
}

// act buries the dead, claims what is free and gives back what is too much.
// It says whether other nodes should look.
func (k *Keeper) act(ctx context.Context, table *belfry.NodeTable) (changed bool, err error) {
	if k.settled() {
		for i := range table.Nodes {
			n := &table.Nodes[i]
			if n.ID == k.ID() || n.Until.After(table.Clock) {
				continue
			}
			limited, cancel := k.patient(ctx)
			buried, err := k.o.Store.BuryNode(limited, n.ID)
			cancel()
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
	for s := range kd.leaving {
		if owners[s] != k.ID() {
			delete(kd.leaving, s) // a release that looked as if it had failed
		}
	}
	// What the table gives us and we do not work on: we were cut off after a
	// claim. It is taken up as if it were claimed now.
	var took []int
	for _, s := range had {
		if _, leaves := kd.leaving[s]; !leaves && !k.Has(name, s) {
			took = append(took, s)
		}
	}
	claim, give := share(working(table, name), &owners, k.ID())
	if len(claim) > 0 {
		limited, cancel := k.patient(ctx)
		got, err := k.o.Store.ClaimShards(limited, k.ID(), name, claim)
		cancel()
		if err != nil {
			return false, err
		}
		took = append(took, got...)
		had = append(had, got...)
	}
	if len(took) > 0 {
		kd.work(had, took)
		k.o.Log.Debug("took shards", "kind", name, "shards", len(took), "now", len(had))
	}
	return k.give(ctx, name, kd, had, give)
}

// work begins work on some more of what this node has.
func (kd *kind) work(had, more []int) {
	kd.mine.Store(newMine(kd.staying(had)))
	kd.part.Gained(more)
}

// staying are those of what this node has that are not being left.
func (kd *kind) staying(had []int) []int {
	return slices.DeleteFunc(slices.Clone(had), func(s int) bool { _, leaves := kd.leaving[s]; return leaves })
}

// leaving reports whether shards are being left.
func (k *Keeper) leaving() bool {
	for _, kd := range k.kinds {
		if len(kd.leaving) > 0 {
			return true
		}
	}
	return false
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

// Shards that are to be given are left for so many leases at most: as long as what
// a dead node had may wait. Those that were left in vain are not left again for so
// many, so that work on them is not held up again and again. And it is looked so
// often within a lease what of those that are being left is free by now.
const (
	leaveFor   = 2
	clingFor   = 20
	leaveLooks = 20
)

// give gives back n of the shards: any, whether or not something is under way on
// them. To give those of which nothing is would leave all that is to be done where
// it is. No work is begun on what is to be given until what is under way has ended.
// What clings too long, to a destination that hangs, is worked on again, and others
// are given instead. What is free goes at once and does not wait for the rest.
func (k *Keeper) give(ctx context.Context, name string, kd *kind, had []int, n int) (bool, error) {
	now := k.o.Now()
	var again []int
	for s, left := range kd.leaving {
		clings := now.Sub(left) >= leaveFor*k.o.Lease
		if clings {
			kd.clung[s] = now
		}
		if clings || len(kd.leaving) > n { // or another node has died meanwhile
			delete(kd.leaving, s)
			again = append(again, s)
		}
	}
	if len(again) > 0 {
		kd.work(had, again)
		k.o.Log.Debug("kept shards", "kind", name, "shards", len(again))
	}
	maps.DeleteFunc(kd.clung, func(_ int, at time.Time) bool { return now.Sub(at) >= clingFor*k.o.Lease })
	more := slices.DeleteFunc(kd.staying(had), func(s int) bool { _, clings := kd.clung[s]; return clings })
	rand.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	for _, s := range more[:min(max(n-len(kd.leaving), 0), len(more))] {
		kd.leaving[s] = now
	}
	if len(kd.leaving) == 0 {
		return false, nil
	}
	kd.mine.Store(newMine(kd.staying(had)))
	short, cancel := context.WithTimeout(ctx, k.o.Lease/leaveLooks)
	left := kd.part.Leave(short, slices.Collect(maps.Keys(kd.leaving)))
	cancel()
	if len(left) == 0 {
		return false, nil
	}
	limited, cancel := k.patient(ctx)
	err := k.o.Store.ReleaseShards(limited, k.ID(), name, left)
	cancel()
	if err != nil {
		// Whether they are released is not known; the table will say. Until then
		// nobody works on them.
		return false, err
	}
	for _, s := range left {
		delete(kd.leaving, s)
	}
	k.o.Log.Debug("gave shards", "kind", name, "shards", len(left), "now", len(had)-len(left))
	return true, nil
}

package nodes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// lease of the nodes of these tests; time is virtual.
const lease = 6 * time.Second

// memory is the table of nodes with the promises of the store (store/nodes.go,
// storetest): the clock is its own, a node is buried only after its lease, who
// is buried can do nothing more, and only free shards are claimed.
type memory struct {
	mu     sync.Mutex
	nodes  map[string]*belfry.Node
	owners map[string]*[belfry.Shards]string
	buried []string
}

func newMemory() *memory {
	m := &memory{nodes: map[string]*belfry.Node{}, owners: map[string]*[belfry.Shards]string{}}
	for kind := range roleOf {
		m.owners[kind] = &[belfry.Shards]string{}
	}
	return m
}

var errFenced = belfry.Errorf(belfry.Conflict, "this node was taken for dead")

func (m *memory) join(n belfry.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n.Until = time.Now().Add(lease)
	m.nodes[n.ID] = &n
}

func (m *memory) renew(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[id]
	if n == nil {
		return errFenced
	}
	n.Until = time.Now().Add(lease)
	return nil
}

func (m *memory) table() (table belfry.NodeTable) {
	m.mu.Lock()
	defer m.mu.Unlock()
	table.Clock = time.Now()
	for _, n := range m.nodes {
		table.Nodes = append(table.Nodes, *n)
	}
	for kind, owners := range m.owners {
		for s, owner := range owners {
			table.Leases = append(table.Leases, belfry.Lease{Kind: kind, Shard: s, Owner: owner})
		}
	}
	return table
}

func (m *memory) end(id string, onlyDead bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[id]
	if n == nil || onlyDead && !n.Until.Before(time.Now()) {
		return false
	}
	delete(m.nodes, id)
	if onlyDead {
		m.buried = append(m.buried, id)
	}
	for _, owners := range m.owners {
		for s := range owners {
			if owners[s] == id {
				owners[s] = ""
			}
		}
	}
	return true
}

func (m *memory) claim(id, kind string, shards []int) (got []int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes[id] == nil {
		return nil, errFenced
	}
	for _, s := range shards {
		if m.owners[kind][s] == "" {
			m.owners[kind][s] = id
			got = append(got, s)
		}
	}
	return got, nil
}

func (m *memory) release(id, kind string, shards []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range shards {
		if m.owners[kind][s] == id {
			m.owners[kind][s] = ""
		}
	}
}

// divided says what is wrong while not each of the nodes, live in number, has
// its part of a kind.
func (m *memory) divided(kind string, live int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.nodes) != live {
		return fmt.Errorf("%d nodes are in the table, and %d live", len(m.nodes), live)
	}
	for owner, has := range counts(m.owners[kind]) {
		if m.nodes[owner] == nil || has < belfry.Shards/live || has > belfry.Shards/live+1 {
			return fmt.Errorf("of %s %q has %d shards, with %d nodes", kind, owner, has, live)
		}
	}
	return nil
}

// host is a machine with a process on it, its line to the table, and a part
// that sends.
type host struct {
	m     *memory
	watch *watch
	k     *Keeper
	end   context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex
	chance *rand.Rand
	gone   bool          // killed: it does nothing more
	cut    bool          // calls fail, or hang, or work and are not answered
	flaky  bool          // some calls work and are not answered
	slow   time.Duration // each call takes so long, heard out or not
	tardy  time.Duration // and each claim and release this longer
	takes  time.Duration // a send takes about so long; 0 = up to a third of a lease
	hangs  int           // sends on shards below it do not end
	cold   time.Duration // what is asked first on a connection takes so long
	warm   int           // connections that something was asked on
	lost   int           // new connections that were given up
	unwell bool          // every second renewal is lost, and nobody says so
	odd    bool          // the last one was
	frozen chan struct{} // closed when what was asked since is done; nil = it is done at once
	halted chan struct{} // closed when it goes on; nil = it runs
	flying map[flight]time.Time
	landed chan struct{} // closed and made anew with every end of a send
	fence  string
}

type flight struct {
	kind  string
	shard int
}

var (
	errLost = errors.New("the line is lost")
	allKind = []string{belfry.LeasePlan, belfry.LeaseDelivery}
)

// start starts a process. Others are told of changes at once while told.
func (m *memory) start(w *watch, seed uint64, changed func()) *host {
	h := &host{m: m, watch: w, chance: rand.New(rand.NewPCG(seed, 1)), flying: map[flight]time.Time{}, landed: make(chan struct{}), ended: make(chan struct{})}
	parts := map[string]Part{}
	for _, kind := range allKind {
		parts[kind] = sending{h, kind}
	}
	h.k = NewKeeper(Options{
		Store: h, Self: belfry.Node{Roles: []string{belfry.RolePlan, belfry.RoleDeliver}}, Lease: lease,
		Parts: parts, Changed: changed, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	ctx, cancel := context.WithCancel(context.Background())
	h.end = cancel
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.k.Run(ctx) })
	wg.Go(func() { h.work(ctx) })
	go func() { wg.Wait(); close(h.ended) }()
	return h
}

func (h *host) stop() { h.end(); <-h.ended }

func (h *host) kill() {
	h.mu.Lock()
	h.gone = true
	for f := range h.flying {
		h.watch.lands(h, f)
	}
	clear(h.flying)
	h.mu.Unlock()
	h.resume()
	h.end()
}

func (h *host) setCut(cut bool) { h.mu.Lock(); h.cut, h.flaky = cut, false; h.mu.Unlock() }

func (h *host) setSlow(d time.Duration) { h.mu.Lock(); h.slow = d; h.mu.Unlock() }

func (h *host) setCold(d time.Duration) { h.mu.Lock(); h.cold, h.warm, h.lost = d, 0, 0; h.mu.Unlock() }

func (h *host) setTardy(d time.Duration) { h.mu.Lock(); h.tardy = d; h.mu.Unlock() }

func (h *host) setTakes(d time.Duration, hangs int) {
	h.mu.Lock()
	h.takes, h.hangs = d, hangs
	h.mu.Unlock()
}

func (h *host) setUnwell(unwell bool) { h.mu.Lock(); h.unwell = unwell; h.mu.Unlock() }

// setFrozen has calls wait for thawed to be closed; nil = they do not.
func (h *host) setFrozen(thawed chan struct{}) { h.mu.Lock(); h.frozen = thawed; h.mu.Unlock() }

func (h *host) setFlaky() { h.mu.Lock(); h.cut, h.flaky = false, true; h.mu.Unlock() }

// halt stops the process in the middle of whatever it does, as SIGSTOP would.
func (h *host) halt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.halted == nil && !h.gone {
		h.halted = make(chan struct{})
		// What it has under way is out of its hands: the store's fence keeps
		// what became of it from being recorded.
		for f := range h.flying {
			h.watch.lands(h, f)
		}
		clear(h.flying)
	}
}

func (h *host) resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.halted != nil {
		close(h.halted)
		h.halted = nil
	}
}

func (h *host) state() (gone, cut bool, halted chan struct{}, dice float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone, h.cut, h.halted, h.chance.Float64()
}

// call is one call of the table over the line.
func call[T any](ctx context.Context, h *host, f func() (T, error)) (T, error) {
	var none T
	gone, cut, halted, dice := h.state()
	if halted != nil && dice < 0.5 { // halted before it asked
		<-halted
		gone, cut, halted, dice = h.state()
	}
	switch {
	case ctx.Err() != nil:
		return none, ctx.Err()
	case gone, cut && dice < 0.3:
		return none, errLost
	case cut && dice < 0.6: // into a black hole
		<-ctx.Done()
		return none, ctx.Err()
	case cut && dice < 0.7: // done, and the answer is lost
		_, _ = f()
		return none, errLost
	case cut:
		<-time.After(time.Duration(dice * float64(lease) / 10))
		return none, errLost
	}
	h.mu.Lock()
	slow, frozen := h.slow, h.frozen
	h.mu.Unlock()
	if frozen != nil {
		select {
		case <-frozen:
		case <-ctx.Done(): // it is on its way
			go func() { <-frozen; _, _ = f() }()
			return none, ctx.Err()
		}
	}
	if !h.connect(ctx) {
		return none, ctx.Err()
	}
	select {
	case <-time.After(slow):
	case <-ctx.Done(): // it is done all the same
		_, _ = f()
		return none, ctx.Err()
	}
	v, err := f()
	h.mu.Lock()
	h.warm++ // it is free again
	if h.flaky && h.chance.Float64() < 0.4 {
		err = errLost
	}
	h.mu.Unlock()
	<-time.After(time.Duration(dice * float64(20*time.Millisecond)))
	if halted != nil { // halted before it heard
		<-halted
	}
	return v, err
}

// connect takes a connection, or waits until a new one is of use.
func (h *host) connect(ctx context.Context) bool {
	h.mu.Lock()
	cold := h.cold
	if h.warm > 0 {
		h.warm--
		cold = 0
	}
	h.mu.Unlock()
	select {
	case <-time.After(cold):
		return true
	case <-ctx.Done():
		h.mu.Lock()
		h.lost++
		h.mu.Unlock()
		return false
	}
}

func (h *host) JoinNode(ctx context.Context, n belfry.Node, _ time.Duration) error {
	_, err := call(ctx, h, func() (int, error) { h.m.join(n); return 0, nil })
	return err
}

func (h *host) RenewNode(ctx context.Context, id string, _ time.Duration) error {
	h.mu.Lock()
	h.odd = h.unwell && !h.odd
	lost := h.odd
	h.mu.Unlock()
	if lost {
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := call(ctx, h, func() (int, error) { return 0, h.m.renew(id) })
	return err
}

func (h *host) Nodes(ctx context.Context) (belfry.NodeTable, error) {
	return call(ctx, h, func() (belfry.NodeTable, error) { return h.m.table(), nil })
}

func (h *host) BuryNode(ctx context.Context, id string) (bool, error) {
	return call(ctx, h, func() (bool, error) { return h.m.end(id, true), nil })
}

func (h *host) LeaveNode(ctx context.Context, id string) error {
	_, err := call(ctx, h, func() (bool, error) { return h.m.end(id, false), nil })
	return err
}

func (h *host) ClaimShards(ctx context.Context, id, kind string, shards []int) ([]int, error) {
	h.delay()
	return call(ctx, h, func() ([]int, error) { return h.m.claim(id, kind, shards) })
}

func (h *host) ReleaseShards(ctx context.Context, id, kind string, shards []int) error {
	h.delay()
	_, err := call(ctx, h, func() (int, error) { h.m.release(id, kind, shards); return 0, nil })
	return err
}

// delay passes the time that changes of hand take.
func (h *host) delay() {
	h.mu.Lock()
	d := h.tardy
	h.mu.Unlock()
	pass(d)
}

func (h *host) FenceAs(id string) { h.mu.Lock(); h.fence = id; h.mu.Unlock() }

// sending is the part of one kind: it sends on every eighth shard, all the time.
type sending struct {
	h    *host
	kind string
}

func (s sending) Gained([]int) {}

// Leave waits for what is under way.
func (s sending) Leave(ctx context.Context, shards []int) []int {
	for {
		s.h.mu.Lock()
		landed := s.h.landed
		free := slices.DeleteFunc(slices.Clone(shards), func(n int) bool { _, busy := s.h.flying[flight{s.kind, n}]; return busy })
		s.h.mu.Unlock()
		if len(free) == len(shards) {
			return free
		}
		select {
		case <-ctx.Done():
			return free
		case <-landed:
		}
	}
}

const tick = lease / 60

// work begins a send on whatever it has, and ends those that took their time:
// up to a third of a lease, as the last third of one is kept for them.
func (h *host) work(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			h.mu.Lock() // sends end before a node leaves in order
			for f := range h.flying {
				h.watch.lands(h, f)
			}
			clear(h.flying)
			h.mu.Unlock()
			return
		case <-t.C:
		}
		h.mu.Lock()
		if h.gone || h.halted != nil {
			h.mu.Unlock()
			continue
		}
		now := time.Now()
		for f, until := range h.flying {
			if !now.Before(until) {
				delete(h.flying, f)
				h.watch.lands(h, f)
			}
		}
		close(h.landed)
		h.landed = make(chan struct{})
		for _, kind := range allKind {
			for s := 0; s < belfry.Shards; s += 8 {
				f := flight{kind, s}
				if _, busy := h.flying[f]; busy || !h.k.Has(kind, s) || !h.k.MaySend() {
					continue
				}
				takes := time.Duration(h.chance.Float64() * float64(lease/3-tick))
				switch {
				case s < h.hangs:
					takes = 100 * lease
				case h.takes > 0:
					takes = h.takes + time.Duration(h.chance.Float64()*float64(h.takes/10))
				}
				h.flying[f] = now.Add(takes)
				h.watch.leaves(h, f)
			}
		}
		h.mu.Unlock()
	}
}

// watch sees all sends, and that no shard is worked on by two.
type watch struct {
	mu    sync.Mutex
	air   map[flight]*host
	sends int
	wrong []string
}

func newWatch() *watch { return &watch{air: map[flight]*host{}} }

func (w *watch) leaves(h *host, f flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if other := w.air[f]; other != nil && other != h && len(w.wrong) < 10 {
		w.wrong = append(w.wrong, fmt.Sprintf("%s shard %d is worked on by %s and by %s", f.kind, f.shard, other.k.ID(), h.k.ID()))
	}
	w.air[f] = h
	w.sends++
}

func (w *watch) lands(h *host, f flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.air[f] == h {
		delete(w.air, f)
	}
}

func (w *watch) verdict() (wrong []string, sends int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.wrong), w.sends
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// DeliveryStore is what the Dispatcher needs of the store.
type DeliveryStore interface {
	Tenants(ctx context.Context) ([]string, error)
	DueDeliveries(ctx context.Context, tenant string, after belfry.DueKey, until time.Time, limit int, shards []int) ([]belfry.Delivery, error)
	// DueFor lists what is parked and due to one destination, urgent only what is
	// urgent and in no line.
	DueFor(ctx context.Context, tenant, destination string, urgent bool, after belfry.DueKey, until time.Time, limit int) ([]belfry.Delivery, error)
	// PlannedDeliveries lists what is due by until of events.
	PlannedDeliveries(ctx context.Context, tenant string, events []string, until time.Time, shards []int) ([]belfry.Delivery, error)
	// Park makes DueFor find deliveries, which it does not before.
	Park(ctx context.Context, tenant string, ids []string) error
	NextDue(ctx context.Context, tenant string, after time.Time, shards []int) (time.Time, bool, error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	// InLine lists open deliveries of one line of a destination, due or not, in
	// the order of their ids.
	InLine(ctx context.Context, tenant, destination string, line int64, limit int) ([]belfry.Delivery, error)
	RecordAttempts(ctx context.Context, as []belfry.Attempt) ([]bool, error)
	// Bundles and WaitingOf are digests with what they are to tell of, limit of each.
	Bundles(ctx context.Context, tenant string, ids []string) (map[string]belfry.Bundle, error)
	WaitingOf(ctx context.Context, tenant string, bundles []string, limit int) (map[string][]belfry.BundleItem, error)
	WaitingItems(ctx context.Context, tenant, bundle, after string, limit int) ([]belfry.BundleItem, error)
}

// Channel is a channel as it is set up now.
type Channel struct {
	Name        string
	Sender      channel.Sender
	Concurrency int // sends at once over all destinations; half as many more may be under way to slow ones
	// Relay: all sends go to one peer that passes them on, so how long one takes
	// says nothing of its destination.
	Relay bool
	// Owner is the tenant whose account it is: belfry.AllTenants when all share it.
	Owner  string
	Limits channel.Limits // of the account
	Share  channel.Limits // of what this tenant may send by an account that all share
}

// Channels finds a tenant's channel by name.
type Channels interface {
	Channel(tenant, name string) (Channel, bool)
}

// Composer makes what is sent: it checks, against what is known now, that the
// delivery is still wanted, and renders the message. A non-nil Reason says why
// nothing is sent any more; Wait means not now (a paused endpoint), and later
// the destination is tried again.
type Composer interface {
	// Expect reads what will be needed of people many at once.
	Expect(ctx context.Context, tenant string, people []string) error
	Compose(ctx context.Context, d *belfry.Delivery, p *Payload) (Composed, error)
}

// Composed is a message ready to be sent, or the reason it is not.
type Composed struct {
	Target  channel.Target
	Message *belfry.Message
	Waits   []time.Duration // the destination's own retry schedule; nil = the built-in one
	// What the destination grants; 0 = no limit of its own.
	Rate        float64 // sends a second
	Concurrency int     // sends at once
	Drop        *belfry.Reason
	Hold        bool              // the platform is asked first whether it may go
	Dropped     []belfry.ItemDrop // of a digest: what is left out
	Wait        bool
	// Awaits are subscriptions that are paused, of a delivery that goes out when
	// one of them is resumed; what else is for its destination does not wait.
	Awaits []string

	resumes int64 // as they were before it was composed
}

// Aftermath is told what sends taught about addresses.
type Aftermath interface {
	// Gone hears that an address is dead.
	Gone(ctx context.Context, d *belfry.Delivery, out belfry.Outcome) error
	// Ended hears how calls of endpoints ended that are not gone, many at once and
	// in their order.
	Ended(ctx context.Context, calls []Call) error
	// Gained hears that another process followed the endpoints of shards until now.
	Gained(shards []int)
	// Settle keeps for other processes what is in memory only.
	Settle(ctx context.Context) error
}

// DispatcherOptions are the parts a Dispatcher works with; all are needed.
type DispatcherOptions struct {
	Store     DeliveryStore
	Channels  Channels
	Composer  Composer
	Aftermath Aftermath
	Permits   Permits
	Shards    Shards
	Peers     Peers
	In        In
	Counters  *Counters
	Log       *slog.Logger
	Now       func() time.Time
	Jitter    func() float64

	Fallback    Fallback      // nil = there are no other ways
	Window      int           // deliveries in memory at most
	WindowBytes int           // bytes of events in memory at most, counted per delivery
	Queue       int           // deliveries in memory per destination at most
	Poll        time.Duration // safety net: look for due deliveries at least so often
	Grace       time.Duration // on stop, let sends in flight end for so long
}

// Defaults of a Dispatcher's bounds.
const (
	DefaultWindow      = 16384
	DefaultWindowBytes = 48 << 20
	DefaultQueue       = 1024
	DefaultPoll        = 5 * time.Second
	DefaultGrace       = 10 * time.Second

	// recordGrace is how long a stop waits for a database that is away.
	recordGrace = 10 * time.Second
)

// Dispatcher sends open deliveries and records what became of them.
//
// Every open delivery that is due is, at any time, one of: in memory; behind
// the tenant's cursor on disk (not scanned yet); of an event that another process
// planned and told of, on disk (not read yet); behind its destination's mark on
// disk (scanned, and refused because the destination was full, paused or
// broken); or set aside on disk until a subscription is edited. So a hand-over
// may be dropped whenever memory is short, and what was told may be lost: a
// survey puts the cursor before what was planned lately.
//
// What is behind a mark is read by its destination, and the table finds that way
// only what is parked: most deliveries go from memory and never are. Whatever is
// put behind a mark is parked there before the next read of the destination; when
// the process ends before, whoever comes after scans it again.
type Dispatcher struct {
	o DispatcherOptions

	mu         sync.Mutex
	dests      map[destKey]*dest
	held       map[string]uint8   // shards of the deliveries in memory, or reserved for them, by id
	heldBy     [belfry.Shards]int // how many of each shard
	emptied    chan struct{}      // closed and made anew when a shard has none in memory any more
	lookedLong time.Time          // when a survey last looked for what may have taken longest
	// released are those that left memory while the backlog is being read, by id,
	// as they were known there: what is read of them may be older than what became
	// of them.
	released map[string]rowMark
	// revoked are those of held that were cancelled, seen the rows of held ones
	// that were read again.
	revoked     map[string]struct{}
	revocations atomic.Int32 // len(revoked)
	seen        map[string]rowMark
	resumes     atomic.Int64 // how often something was said to be sendable again
	reading     bool
	bytes       int
	lanes       map[laneKey]*lane
	accounts    map[accountKey]*account
	backlogs    map[string]*backlog
	aside       map[string]*aside // what waits for subscriptions, by tenant
	waiting     int               // backlogs that wait for room
	relieved    int               // deliveries that left memory since all of those were looked at
	sending     int               // runners of all lanes
	queued      [speeds]int       // how much waits for destinations, by their speed
	swept       time.Time
	closing     bool
	runners     sync.WaitGroup

	spoken *lru.Cache[spokenKey, *belfry.Accepted] // events that digests spoke of lately

	wake    chan struct{}
	records chan record

	gathering chan struct{} // holds a token of the recorder that gathers; a channel, for virtual time stands still for a mutex
	many      bool          // whether the last one gathered many

	sendCtx context.Context
	stopped chan struct{}
}

// NewDispatcher makes a Dispatcher; nothing is sent before Run.
func NewDispatcher(o DispatcherOptions) *Dispatcher {
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	if o.WindowBytes == 0 {
		o.WindowBytes = DefaultWindowBytes
	}
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Fallback == nil {
		o.Fallback = noFallback{}
	}
	spoken, _ := lru.New[spokenKey, *belfry.Accepted](digestEvents) // the size is positive, which is all New checks
	return &Dispatcher{
		o:         o,
		spoken:    spoken,
		dests:     map[destKey]*dest{},
		held:      map[string]uint8{},
		emptied:   make(chan struct{}),
		released:  map[string]rowMark{},
		revoked:   map[string]struct{}{},
		seen:      map[string]rowMark{},
		lanes:     map[laneKey]*lane{},
		accounts:  map[accountKey]*account{},
		backlogs:  map[string]*backlog{},
		aside:     map[string]*aside{},
		gathering: make(chan struct{}, 1),
		wake:      make(chan struct{}, 1),
		records:   make(chan record, 256),
		stopped:   make(chan struct{}),
	}
}

// Run sends until ctx ends, then lets the sends in flight finish within Grace,
// records them and returns.
func (d *Dispatcher) Run(ctx context.Context) error {
	sendCtx, cancelSends := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelSends()
	d.mu.Lock()
	d.sendCtx = sendCtx
	for _, l := range d.lanes {
		d.spawn(l)
	}
	d.mu.Unlock()

	// Recording outlives the sends: what went out must not be forgotten for
	// having gone out late.
	recordCtx, cancelRecords := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRecords()
	var recorders sync.WaitGroup
	for range 2 {
		recorders.Go(func() { d.record(recordCtx) })
	}
	d.follow(ctx)

	d.mu.Lock()
	d.closing = true
	for _, ds := range d.dests {
		if ds.timer != nil {
			ds.timer.Stop()
		}
	}
	for _, a := range d.accounts {
		if a.timer != nil {
			a.timer.Stop()
		}
	}
	d.mu.Unlock()
	grace := time.AfterFunc(d.o.Grace, cancelSends)
	defer grace.Stop()
	d.runners.Wait()
	close(d.records)
	patience := time.AfterFunc(recordGrace, cancelRecords)
	defer patience.Stop()
	recorders.Wait()
	d.settleAftermath(recordCtx)
	d.surrender(recordCtx)
	close(d.stopped)
	return nil
}

// Reserve holds places in memory for deliveries about to be committed, so that
// no read of the table can pick them up and send them before their hand-over.
// It returns, for each delivery, whether a place is held; the others stay on
// disk. Every reservation ends in Handover or Forgo. Those whose destination has
// others waiting on disk are noted as parked: they will wait behind them.
func (d *Dispatcher) Reserve(ds []belfry.Delivery, p *Payload) []bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	places := make([]bool, len(ds))
	now := d.o.Now()
	size := p.size()
	for i := range ds {
		if ds[i].Channel == belfry.ChannelInbox || ds[i].State != belfry.Scheduled || ds[i].Due.After(now) || ds[i].Digest != nil || !d.mine(&ds[i]) {
			continue
		}
		b := d.backlogOf(ds[i].Tenant)
		if to := d.dests[keyOf(&ds[i])]; to != nil && (to.paused || to.marks[queuingOf(&ds[i])].set) {
			ds[i].Parked = true
		}
		if _, ok := d.held[ds[i].ID]; ok || !d.fits(b, size) && (ds[i].Priority <= belfry.PriorityNormal || !d.fitsUrgent(size)) {
			continue
		}
		d.hold(b, &ds[i], size)
		places[i] = true
	}
	return places
}

// Handover gives the Dispatcher deliveries that are now committed; places is
// what Reserve answered for them. They are whole when the event's first plan is
// made with them, and nothing of it was committed before.
func (d *Dispatcher) Handover(ds []belfry.Delivery, p *Payload, places []bool, whole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size, now := p.size(), d.o.Now()
	var elsewhere belfry.Wake // what is for other processes
	rows := 0                 // of them, due
	for i := range ds {
		if ds[i].Channel == belfry.ChannelInbox || !ds[i].State.Open() || ds[i].State == belfry.Held || ds[i].Digest != nil {
			continue
		}
		b := d.backlogOf(ds[i].Tenant)
		if !places[i] {
			d.passed(&ds[i])
		}
		switch {
		case !d.mine(&ds[i]):
			if places[i] {
				d.release(b, &ds[i], size)
			}
			if whole && !ds[i].Due.After(now) {
				rows++
			} else {
				elsewhere.Join(&belfry.Wake{Due: ds[i].Due})
			}
		case places[i]:
			d.put(item{d: ds[i], p: p, size: size})
		case ds[i].Due.After(now):
			b.expect(ds[i].Due)
			d.poke()
		default:
			b.rewind(keyBefore(&ds[i]))
			if d.fits(b, size) {
				d.poke()
			} else {
				d.wait(b)
			}
		}
	}
	if rows > 0 {
		elsewhere.Planned = []belfry.Planned{{Event: ds[0].EventID, Rows: rows}}
	}
	if rows > 0 || !elsewhere.Due.IsZero() {
		elsewhere.Tenant = ds[0].Tenant
		d.o.Peers.Tell(elsewhere)
	}
}

// Forgo gives back places whose deliveries were not committed.
func (d *Dispatcher) Forgo(ds []belfry.Delivery, p *Payload, places []bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range ds {
		if places[i] {
			d.release(d.backlogOf(ds[i].Tenant), &ds[i], p.size())
		}
	}
}

// Requeue makes the Dispatcher look again for what is due to a destination now,
// after an edit that may have made it sendable: a resumed endpoint, a manual
// retry.
func (d *Dispatcher) Requeue(tenant, destination string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resumes.Add(1)
	b := d.backlogOf(tenant)
	for key := range d.lanes {
		if key.tenant != tenant {
			continue
		}
		if ds := d.dests[destKey{tenant, key.channel, destination}]; ds != nil {
			ds.paused = false
			ds.health = newHealth()
			ds.terms.Store(nil)
			d.unbar(ds)
			d.ready(ds)
		}
	}
	b.seek(destination)
	d.poke()
}

// Wake makes the Dispatcher look for what is due from a time on: another
// process planned it.
func (d *Dispatcher) Wake(tenant string, due time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.backlogOf(tenant)
	if due.After(d.o.Now()) {
		b.expect(due)
	} else {
		b.rewind(belfry.DueKey{Due: due})
	}
	d.poke()
}

// Planned makes the Dispatcher read what is due of events that another process
// planned: nothing else, where a Wake would have it read again what it has.
func (d *Dispatcher) Planned(tenant string, events []belfry.Planned) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.backlogOf(tenant)
	b.planned = append(b.planned, events...)
	if b.waiting || len(b.planned) > maxPlanned {
		b.spread(b.planned)
		b.planned = nil
	}
	d.poke()
}

// Look makes the Dispatcher look for whatever other processes may have planned
// without its being told.
func (d *Dispatcher) Look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.backlogs {
		b.rewind(belfry.DueKey{Due: d.o.Now().Add(-atLongest)})
	}
	d.poke()
}

// Gained makes the Dispatcher look for the deliveries of shards it has now.
func (d *Dispatcher) Gained(shards []int) {
	d.o.Aftermath.Gained(shards)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.backlogs {
		b.rewind(belfry.DueKey{})
	}
	d.poke()
}

// Leave lets go of the deliveries of shards that Shards says are not this
// process's any more, and waits until what became of those being sent is
// recorded. It answers with the shards of which nothing is in memory; when ctx
// ends some may be missing.
func (d *Dispatcher) Leave(ctx context.Context, shards []int) []int {
	leaving := map[int]bool{}
	for _, s := range shards {
		leaving[s] = true
	}
	d.mu.Lock()
	for _, ds := range d.dests {
		if leaving[ds.shard] {
			d.leave(ds)
		}
	}
	d.mu.Unlock()
	for {
		d.mu.Lock()
		left := slices.DeleteFunc(slices.Clone(shards), func(s int) bool { return d.heldBy[s] > 0 })
		emptied := d.emptied
		d.mu.Unlock()
		if len(left) == len(shards) {
			return left
		}
		select {
		case <-ctx.Done():
			return left
		case <-emptied:
		}
	}
}

func (d *Dispatcher) settleAftermath(ctx context.Context) {
	if err := d.o.Aftermath.Settle(ctx); err != nil {
		d.o.Log.Error("keeping which endpoints fail", "error", err)
	}
}

// mine reports whether a delivery is for this process. d.mu is held.
func (d *Dispatcher) mine(dv *belfry.Delivery) bool {
	return d.o.Shards.Has(belfry.LeaseDelivery, dv.Shard)
}

type offered int8

const (
	taken   offered = iota // in memory now, or was already
	parked                 // stays behind its destination's mark
	tooMuch                // the window is full
)

// offer puts a row that was read from disk into memory if it fits; p is nil
// when its destination took no more as the events were read. d.mu is held.
func (d *Dispatcher) offer(dv belfry.Delivery, p *Payload) offered {
	if _, ok := d.held[dv.ID]; ok {
		d.seen[dv.ID] = markOf(&dv)
		return taken
	}
	if was, ok := d.released[dv.ID]; ok {
		// It was settled while this row was being read: the row is old news, unless
		// it was changed since, by a retry of what was cancelled or delivered.
		if was != markOf(&dv) {
			d.backlogOf(dv.Tenant).rewind(keyBefore(&dv))
			d.poke()
		}
		return taken
	}
	if !d.mine(&dv) {
		return taken // by whoever has its shard now
	}
	if dv.Line != 0 {
		d.enter(d.destOf(&dv), item{d: dv}, false)
		return taken
	}
	ds := d.dests[keyOf(&dv)]
	if p == nil && ds == nil {
		ds = d.destOf(&dv)
	}
	if p == nil || ds != nil && !d.accepts(ds, &dv, p.size()) {
		ds.park(&dv)
		if ds.queued == 0 {
			d.ready(ds) // sets the timer, or refills
		}
		return parked
	}
	size := p.size()
	b := d.backlogOf(dv.Tenant)
	if !d.fits(b, size) {
		return tooMuch
	}
	if ds == nil {
		ds = d.destOf(&dv)
	}
	// Not by put: with this one held there may seem to be room for it no more.
	d.hold(b, &dv, size)
	ds.push(item{d: dv, p: p, size: size})
	d.ready(ds)
	return taken
}

// destOf finds or begins a destination. d.mu is held.
func (d *Dispatcher) destOf(dv *belfry.Delivery) *dest {
	key := keyOf(dv)
	ds := d.dests[key]
	if ds == nil {
		ds = &dest{key: key, shard: dv.Shard, b: d.backlogOf(dv.Tenant), lane: d.laneOf(dv.Tenant, dv.Channel), health: newHealth(), stirred: d.o.Now()}
		d.dests[key] = ds
	}
	return ds
}

// put queues a held delivery, or parks it when its destination takes no more.
// d.mu is held.
func (d *Dispatcher) put(it item) {
	if _, is := d.revoked[it.d.ID]; is { // cancelled between its commit and its hand-over
		d.drop(&it)
		return
	}
	ds := d.destOf(&it.d)
	switch {
	case it.d.Line != 0:
		d.enter(ds, it, true)
		return
	case d.accepts(ds, &it.d, it.size):
		ds.push(it)
	default:
		ds.park(&it.d)
		d.release(ds.b, &it.d, it.size)
	}
	d.ready(ds)
}

// timeLimit is a context for one send after the other: to make one for each
// would cost as much as planning does. Each send has sendTimeout at least and
// twice of it at most.
type timeLimit struct {
	ctx    context.Context
	cancel context.CancelFunc
	made   time.Time
}

func (t *timeLimit) of(parent context.Context, now time.Time) context.Context {
	if t.ctx == nil || now.Sub(t.made) > sendTimeout {
		t.end()
		t.made = now
		t.ctx, t.cancel = context.WithTimeout(parent, 2*sendTimeout)
	}
	return t.ctx
}

func (t *timeLimit) end() {
	if t.cancel != nil {
		t.cancel()
	}
}

func (d *Dispatcher) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// InFlight is how many deliveries are in memory.
func (d *Dispatcher) InFlight() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.held)
}

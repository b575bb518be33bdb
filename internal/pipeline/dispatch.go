package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// DeliveryStore is what the Dispatcher needs of the store.
type DeliveryStore interface {
	Tenants(ctx context.Context) ([]string, error)
	DueDeliveries(ctx context.Context, tenant string, after belfry.DueKey, until time.Time, limit int, shards []int) ([]belfry.Delivery, error)
	DueFor(ctx context.Context, tenant, destination string, after belfry.DueKey, until time.Time, limit int) ([]belfry.Delivery, error)
	NextDue(ctx context.Context, tenant string, after time.Time, shards []int) (time.Time, bool, error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	RecordAttempts(ctx context.Context, as []belfry.Attempt) ([]bool, error)
}

// Channel is a channel as it is set up now.
type Channel struct {
	Name        string
	Sender      channel.Sender
	Concurrency int // sends at once over all destinations
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
	Compose(ctx context.Context, d *belfry.Delivery, p *Payload) (Composed, error)
}

// Composed is a message ready to be sent, or the reason it is not.
type Composed struct {
	Target  channel.Target
	Message *belfry.Message
	Waits   []time.Duration // the destination's own retry schedule; nil = the built-in one
	Rate    float64         // sends a second the destination grants; 0 = unlimited
	Drop    *belfry.Reason
	Wait    bool
}

// Aftermath is told what a send taught about an address: it is gone.
type Aftermath interface {
	Gone(ctx context.Context, d *belfry.Delivery, out belfry.Outcome) error
}

// DispatcherOptions are the parts a Dispatcher works with; all are needed.
type DispatcherOptions struct {
	Store     DeliveryStore
	Channels  Channels
	Composer  Composer
	Aftermath Aftermath
	Shards    Shards
	Peers     Peers
	Counters  *Counters
	Log       *slog.Logger
	Now       func() time.Time
	Jitter    func() float64

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
// the tenant's cursor on disk (not scanned yet); or behind its destination's
// mark on disk (scanned, and refused because the destination was full,
// paused or broken). So a hand-over may be dropped whenever memory is short.
type Dispatcher struct {
	o DispatcherOptions

	mu         sync.Mutex
	dests      map[destKey]*dest
	held       map[string]uint8   // shards of the deliveries in memory, or reserved for them, by id
	heldBy     [belfry.Shards]int // how many of each shard
	emptied    chan struct{}      // closed and made anew when a shard has none in memory any more
	lookedLong time.Time          // when a survey last looked for what may have taken longest
	// released are ids that left memory while the backlog is being read: what
	// is read of them may be older than what became of them.
	released map[string]struct{}
	// revoked are those of held that were cancelled, seen the rows of held ones
	// that were read again.
	revoked     map[string]struct{}
	revocations atomic.Int32 // len(revoked)
	seen        map[string]rowMark
	resumes     atomic.Int64 // how often something was said to be sendable again
	reading     bool
	bytes       int
	lanes       map[laneKey]*lane
	backlogs    map[string]*backlog
	closing     bool
	runners     sync.WaitGroup

	wake    chan struct{}
	records chan record

	gathering sync.Mutex // held by the recorder that gathers
	many      bool       // whether the last one gathered many

	sendCtx context.Context
	stopped chan struct{}
}

type destKey struct{ tenant, name string }

type laneKey struct{ tenant, channel string }

// item is a delivery in memory with the event it speaks of.
type item struct {
	d    belfry.Delivery
	p    *Payload
	size int
}

// dest is what is queued, limited and broken as one.
type dest struct {
	key     destKey
	shard   int
	lane    *lane
	queue   []item
	running int
	inReady bool
	health  health
	limiter *rate.Limiter
	limited atomic.Bool // limiter is set; spares a look under the lock
	paused  bool
	marked  bool // rows after mark are on disk only
	// refilling: rows after the former mark are being read, and are nowhere else.
	refilling bool
	mark      belfry.DueKey // exclusive
	timer     *time.Timer
}

// lane is the concurrency of one channel of one tenant: its runners take turns
// over the destinations that are ready, one send each. It begins with few, for
// sends that end at once need no more and more would only cost; while
// destinations wait and sends are slow it takes on more, up to its cap.
type lane struct {
	cap     int
	running int
	ready   []*dest
	ended   int  // sends that ended since the last look
	looking bool // a look is due
}

// Growth of a lane.
const (
	firstRunners = 16
	lookEvery    = 2 * time.Millisecond
)

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
	return &Dispatcher{
		o:        o,
		dests:    map[destKey]*dest{},
		held:     map[string]uint8{},
		emptied:  make(chan struct{}),
		released: map[string]struct{}{},
		revoked:  map[string]struct{}{},
		seen:     map[string]rowMark{},
		lanes:    map[laneKey]*lane{},
		backlogs: map[string]*backlog{},
		wake:     make(chan struct{}, 1),
		records:  make(chan record, 256),
		stopped:  make(chan struct{}),
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
	d.mu.Unlock()
	grace := time.AfterFunc(d.o.Grace, cancelSends)
	defer grace.Stop()
	d.runners.Wait()
	close(d.records)
	patience := time.AfterFunc(recordGrace, cancelRecords)
	defer patience.Stop()
	recorders.Wait()
	close(d.stopped)
	return nil
}

// Reserve holds places in memory for deliveries about to be committed, so that
// no read of the table can pick them up and send them before their hand-over.
// It returns, for each delivery, whether a place is held; the others stay on
// disk. Every reservation ends in Handover or Forgo.
func (d *Dispatcher) Reserve(ds []belfry.Delivery, p *Payload) []bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	places := make([]bool, len(ds))
	now := d.o.Now()
	size := p.size()
	for i := range ds {
		if ds[i].Channel == belfry.ChannelInbox || ds[i].State != belfry.Scheduled || ds[i].Due.After(now) || !d.mine(&ds[i]) {
			continue
		}
		if _, ok := d.held[ds[i].ID]; ok || !d.fits(size) {
			continue
		}
		d.hold(&ds[i], size)
		places[i] = true
	}
	return places
}

// Handover gives the Dispatcher deliveries that are now committed; places is
// what Reserve answered for them.
func (d *Dispatcher) Handover(ds []belfry.Delivery, p *Payload, places []bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size := p.size()
	for i := range ds {
		if ds[i].Channel == belfry.ChannelInbox || !ds[i].State.Open() || ds[i].State == belfry.Held {
			continue
		}
		b := d.backlogOf(ds[i].Tenant)
		switch {
		case !d.mine(&ds[i]):
			if places[i] {
				d.release(ds[i].ID, size)
			}
			d.o.Peers.Tell(belfry.Wake{Tenant: ds[i].Tenant, Due: ds[i].Due})
		case places[i]:
			d.put(item{d: ds[i], p: p, size: size})
		case ds[i].Due.After(d.o.Now()):
			b.expect(ds[i].Due)
			d.poke()
		default:
			b.rewind(keyBefore(&ds[i]))
			if len(d.held) >= d.o.Window {
				b.waiting = true
			} else {
				d.poke()
			}
		}
	}
}

// Forgo gives back places whose deliveries were not committed.
func (d *Dispatcher) Forgo(ds []belfry.Delivery, p *Payload, places []bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range ds {
		if places[i] {
			d.release(ds[i].ID, p.size())
		}
	}
}

// Requeue makes the Dispatcher look again for what is due now, after an edit
// that may have made it sendable: a resumed endpoint, a manual retry.
func (d *Dispatcher) Requeue(tenant, destination string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resumes.Add(1)
	b := d.backlogOf(tenant)
	if ds := d.dests[destKey{tenant, destination}]; ds != nil {
		ds.paused = false
		ds.health = newHealth()
		d.ready(ds)
	}
	b.rewind(belfry.DueKey{})
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
func (d *Dispatcher) Gained([]int) {
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
			d.forget(ds)
			ds.marked = false // whoever has the shard reads all of it
			d.tidy(ds)
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

// mine reports whether a delivery is for this process. d.mu is held.
func (d *Dispatcher) mine(dv *belfry.Delivery) bool {
	return d.o.Shards.Has(belfry.LeaseDelivery, dv.Shard)
}

// hold takes a place in memory. d.mu is held.
func (d *Dispatcher) hold(dv *belfry.Delivery, size int) {
	d.held[dv.ID] = uint8(dv.Shard)
	d.heldBy[dv.Shard]++
	d.bytes += size
}

type offered int8

const (
	taken   offered = iota // in memory now, or was already
	parked                 // stays behind its destination's mark
	tooMuch                // the window is full
)

// fits reports whether the window has room for one more. d.mu is held.
func (d *Dispatcher) fits(size int) bool {
	return len(d.held) < d.o.Window && (d.bytes+size <= d.o.WindowBytes || len(d.held) == 0)
}

// offer puts a row that was read from disk into memory if it fits. d.mu is held.
func (d *Dispatcher) offer(dv belfry.Delivery, p *Payload) offered {
	if _, ok := d.held[dv.ID]; ok {
		d.seen[dv.ID] = markOf(&dv)
		return taken
	}
	if _, ok := d.released[dv.ID]; ok {
		return taken // was settled while this row was being read: the row is old news
	}
	if !d.mine(&dv) {
		return taken // by whoever has its shard now
	}
	ds := d.dests[destKey{dv.Tenant, dv.Destination}]
	if ds != nil && !d.accepts(ds) {
		ds.park(keyBefore(&dv))
		if len(ds.queue) == 0 {
			d.ready(ds) // sets the timer, or refills
		}
		return parked
	}
	size := p.size()
	if !d.fits(size) {
		return tooMuch
	}
	d.hold(&dv, size)
	d.put(item{d: dv, p: p, size: size})
	return taken
}

// accepts reports whether ds takes more into memory. d.mu is held.
func (d *Dispatcher) accepts(ds *dest) bool {
	return !ds.marked && !ds.paused && len(ds.queue) < d.o.Queue && ds.health.blockedUntil(d.o.Now()).IsZero()
}

// put queues a held delivery, or parks it when its destination takes no more.
// d.mu is held.
func (d *Dispatcher) put(it item) {
	if _, is := d.revoked[it.d.ID]; is { // cancelled between its commit and its hand-over
		d.drop(&it)
		return
	}
	key := destKey{it.d.Tenant, it.d.Destination}
	ds := d.dests[key]
	if ds == nil {
		ds = &dest{key: key, shard: it.d.Shard, lane: d.laneOf(it.d.Tenant, it.d.Channel), health: newHealth()}
		d.dests[key] = ds
	}
	if !d.accepts(ds) {
		ds.park(keyBefore(&it.d))
		d.release(it.d.ID, it.size)
	} else {
		ds.queue = append(ds.queue, it)
	}
	d.ready(ds)
}

// park remembers that rows after key are on disk only.
func (ds *dest) park(key belfry.DueKey) {
	if !ds.marked || keyLess(key, ds.mark) {
		ds.marked, ds.mark = true, key
	}
}

// ready puts ds in line for a sender if it may send now; if it may only later,
// it sets a timer; if its queue runs low and more is on disk, it asks for it.
// d.mu is held.
func (d *Dispatcher) ready(ds *dest) {
	if ds.marked && !ds.paused && len(ds.queue) < d.o.Queue/2 {
		if until := ds.health.blockedUntil(d.o.Now()); until.IsZero() {
			d.backlogOf(ds.key.tenant).refill[ds] = struct{}{}
			d.poke()
		}
	}
	if ds.inReady || ds.paused || (len(ds.queue) == 0 && !ds.marked) {
		return
	}
	if until := ds.health.blockedUntil(d.o.Now()); !until.IsZero() {
		d.later(ds, until)
		return
	}
	if len(ds.queue) == 0 || ds.running >= ds.health.allowed() {
		return
	}
	if ds.limiter != nil {
		if r := ds.limiter.ReserveN(d.o.Now(), 1); r.DelayFrom(d.o.Now()) > 0 {
			wait := r.DelayFrom(d.o.Now())
			r.CancelAt(d.o.Now())
			d.later(ds, d.o.Now().Add(wait))
			return
		}
	}
	ds.inReady = true
	ds.lane.ready = append(ds.lane.ready, ds)
	d.spawn(ds.lane)
}

// later looks at ds again at a time. d.mu is held.
func (d *Dispatcher) later(ds *dest, at time.Time) {
	if ds.timer != nil {
		ds.timer.Stop()
	}
	ds.timer = time.AfterFunc(at.Sub(d.o.Now())+time.Millisecond, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.closing {
			ds.timer = nil
			d.ready(ds)
		}
	})
}

func (d *Dispatcher) laneOf(tenant, name string) *lane {
	key := laneKey{tenant, name}
	l := d.lanes[key]
	if l == nil {
		n := 0
		if ch, ok := d.o.Channels.Channel(tenant, name); ok {
			n = ch.Concurrency
		}
		l = &lane{cap: max(n, 1)}
		d.lanes[key] = l
	}
	return l
}

// spawn starts the lane's first runners as they are needed, and looks after a
// while whether they are enough. d.mu is held.
func (d *Dispatcher) spawn(l *lane) {
	if d.closing || d.sendCtx == nil {
		return
	}
	d.start(l, min(len(l.ready), min(l.cap, firstRunners)-l.running))
	if len(l.ready) > 0 && l.running < l.cap && !l.looking {
		l.looking = true
		time.AfterFunc(lookEvery, func() { d.look(l) })
	}
}

// look takes on more runners when each ended less than a send since the last
// look and destinations still wait.
func (d *Dispatcher) look(l *lane) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.looking = false
	if d.closing {
		return
	}
	if l.ended < l.running {
		d.start(l, min(len(l.ready), max(4, l.running/2), l.cap-l.running))
	}
	l.ended = 0
	d.spawn(l)
}

// start starts n runners. d.mu is held.
func (d *Dispatcher) start(l *lane, n int) {
	for range n {
		l.running++
		d.runners.Add(1)
		go d.runner(l)
	}
}

// runner sends one delivery after the other, taking turns over the lane's
// ready destinations, until none is ready.
func (d *Dispatcher) runner(l *lane) {
	defer d.runners.Done()
	var limit timeLimit
	defer limit.end()
	for {
		ds, it, ok := d.next(l)
		if !ok {
			return
		}
		d.send(limit.of(d.sendCtx, d.o.Now()), ds, it)
	}
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

func (d *Dispatcher) next(l *lane) (*dest, item, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(l.ready) > 0 && !d.closing {
		ds := l.ready[0]
		l.ready[0] = nil
		l.ready = l.ready[1:]
		ds.inReady = false
		if len(ds.queue) == 0 || ds.paused || !ds.health.blockedUntil(d.o.Now()).IsZero() {
			d.ready(ds)
			continue
		}
		it := ds.queue[0]
		ds.queue[0] = item{}
		ds.queue = ds.queue[1:]
		ds.running++
		if ds.limiter != nil {
			ds.limiter.AllowN(d.o.Now(), 1)
		}
		d.ready(ds)
		return ds, it, true
	}
	l.running--
	return nil, item{}, false
}

// release takes a delivery out of memory. d.mu is held.
func (d *Dispatcher) release(id string, size int) {
	shard := d.held[id]
	delete(d.held, id)
	d.unmark(id)
	if d.heldBy[shard]--; d.heldBy[shard] == 0 && d.o.Shards.Shared() { // somebody may wait in Leave
		close(d.emptied)
		d.emptied = make(chan struct{})
	}
	d.bytes -= size
	if d.reading {
		d.released[id] = struct{}{}
	}
	if len(d.held) < d.o.Window/2 {
		for _, b := range d.backlogs {
			if b.waiting {
				b.waiting = false
				b.dirty = true
				d.poke()
			}
		}
	}
}

// forget drops the queue of a destination that cannot be sent to for a while:
// its deliveries are on disk behind the mark. d.mu is held.
func (d *Dispatcher) forget(ds *dest) {
	for i := range ds.queue {
		ds.park(keyBefore(&ds.queue[i].d))
		d.release(ds.queue[i].d.ID, ds.queue[i].size)
	}
	ds.queue = nil
}

// tidy drops the state of a destination that has nothing to say. d.mu is held.
func (d *Dispatcher) tidy(ds *dest) {
	if len(ds.queue) == 0 && ds.running == 0 && !ds.marked && !ds.refilling && !ds.paused && !ds.inReady && ds.timer == nil &&
		ds.health.failures == 0 && ds.health.limit <= 2*firstConcurrency && ds.limiter == nil {
		delete(d.dests, ds.key)
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

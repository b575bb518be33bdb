package pipeline

import (
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/belfryhq/belfry/internal/belfry"
)

type destKey struct{ tenant, channel, name string }

func keyOf(d *belfry.Delivery) destKey { return destKey{d.Tenant, d.Channel, d.Destination} }

// item is a delivery in memory with the event it speaks of.
type item struct {
	d    belfry.Delivery
	p    *Payload
	size int
}

// urgency orders what waits for one destination, and destinations that wait
// for one lane.
type urgency int8

const (
	urgent urgency = iota
	normal
	digest
	urgencies
)

func urgencyOf(priority int) urgency {
	switch {
	case priority > belfry.PriorityNormal:
		return urgent
	case priority < belfry.PriorityNormal:
		return digest
	}
	return normal
}

// speed is what is known of how long a destination takes for a send.
type speed int8

const (
	unproven speed = iota // nothing yet
	fast
	slow // sends take slowAfter or longer
	speeds
)

// slowAfter is how long a send takes at a slow destination.
const slowAfter = time.Second

// terms are what a destination grants.
type terms struct {
	rate        float64 // sends a second; 0 = unlimited
	concurrency int     // sends at once; 0 = maxConcurrency
}

// dest is what is queued, limited and broken as one.
type dest struct {
	key      destKey
	shard    int
	lane     *lane
	b        *backlog // of its tenant
	queues   [urgencies][]item
	queued   int // in queues and in lines
	bytes    int // of what is queued
	running  int
	lined    uint16 // in which of the lane's lists it stands: a bit for each speed and urgency
	turns    uint8
	speed    speed
	paused   bool
	marks    [queuings]mark
	unparked int // of what is behind the marks: to be parked before they are read
	// refilling: rows after a former mark are being read, and are nowhere else.
	refilling bool

	health  health
	limiter *rate.Limiter
	terms   atomic.Pointer[terms] // nil = not known before the first message is composed
	took    time.Duration         // of a send, a moving average
	stirred time.Time             // when a send ended last, or the first of those under way began
	timer   *time.Timer
	wakeAt  time.Time // when timer fires

	lines      map[int64]*line    // what goes one after the other, by Delivery.Line
	loads      map[int64]struct{} // lines to be read
	barred     map[int64]struct{} // lines whose head waits for its next try
	overbarred bool               // more of them than are remembered
}

// best is the most urgent that waits.
func (ds *dest) best() (urgency, bool) {
	for u := range urgencies {
		if len(ds.queues[u]) > 0 {
			return u, true
		}
	}
	return 0, false
}

// pop takes what is sent next. What is urgent goes first, but one in eight
// sends is for what it passes over, and one in sixteen for digests: nothing
// waits for ever.
func (ds *dest) pop() item {
	u, _ := ds.best()
	ds.turns++
	switch {
	case ds.turns%16 == 0 && len(ds.queues[digest]) > 0:
		u = digest
	case ds.turns%8 == 4 && len(ds.queues[normal]) > 0:
		u = normal
	}
	q := ds.queues[u]
	it := q[0]
	q[0] = item{}
	ds.queues[u] = q[1:]
	if len(q) == 1 {
		ds.queues[u] = nil
	}
	ds.count(-1, it.size)
	return it
}

// count keeps account of what is queued: n more or fewer of a size.
func (ds *dest) count(n, size int) {
	ds.queued += n
	ds.bytes += n * size
	ds.lane.d.queued[ds.speed] += n
	ds.lane.queued += n
}

// push queues an item, unless the account's limit puts it off.
func (ds *dest) push(it item) {
	if l := ds.lane; len(l.accounts) > 0 {
		if due, why := l.putOff(&it, l.queued, l.d.o.Now()); !due.IsZero() {
			l.surplus = append(l.surplus, postponed{ds, it, due, why})
			l.d.spawn(l)
			return
		}
	}
	u := urgencyOf(it.d.Priority)
	ds.queues[u] = append(ds.queues[u], it)
	ds.count(1, it.size)
}

// mark says that rows after a key are on disk only.
type mark struct {
	set bool
	key belfry.DueKey // exclusive
}

// queuing is what has room and a mark of its own at a destination.
type queuing int8

const (
	others   queuing = iota
	pressing         // urgent ones that are in no line
	queuings
)

func queuingOf(dv *belfry.Delivery) queuing {
	if dv.Priority > belfry.PriorityNormal && dv.Line == 0 {
		return pressing
	}
	return others
}

// park remembers that a row, and others like it after it, are on disk only.
func (ds *dest) park(dv *belfry.Delivery) {
	ds.parkAfter(queuingOf(dv), keyBefore(dv))
	if !dv.Parked && dv.Line == 0 {
		ds.unparked++
		ds.b.unparked = append(ds.b.unparked, unparked{ds, dv.ID})
	}
}

func (ds *dest) parkAfter(q queuing, key belfry.DueKey) {
	if m := &ds.marks[q]; !m.set || keyLess(key, m.key) {
		*m = mark{true, key}
	}
}

func (ds *dest) marked() bool { return ds.marks[others].set || ds.marks[pressing].set }

// allowed is how many sends may run at once. One finds out what the terms of a
// destination are and whether it answers, before others follow.
func (ds *dest) allowed() int {
	n := ds.health.allowed()
	t := ds.terms.Load()
	switch {
	case ds.lane.relay:
	case t == nil || ds.speed == unproven:
		n = 1
	case t.concurrency > 0:
		n = min(n, t.concurrency)
	}
	return n
}

// gauge learns how fast a destination is: from a send that took so long, or,
// before any has ended, from the time they have been under way.
func (ds *dest) gauge(now time.Time) {
	if ds.speed != slow && ds.running > 0 && now.Sub(ds.stirred) >= slowAfter && !ds.lane.relay {
		ds.lane.reclass(ds, slow)
	}
}

func (ds *dest) ended(took time.Duration, now time.Time) {
	ds.stirred = now
	if ds.lane.relay {
		return // how long the relay takes says nothing of whom it relays to
	}
	if ds.speed == unproven {
		ds.took = took
	} else {
		ds.took += (took - ds.took) / 4
	}
	if ds.took >= slowAfter {
		ds.lane.reclass(ds, slow)
	} else {
		ds.lane.reclass(ds, fast)
	}
}

// slowQueue is how many deliveries wait in memory for a slow destination.
const slowQueue = 8

// share is how many deliveries may wait in memory for ds now: as many as it
// sends within moments, and no more than what is left of the window, so that
// no destination fills it alone, nor those that are slow, nor those of which
// nothing is known yet. d.mu is held.
func (d *Dispatcher) share(ds *dest) int {
	n := min(d.o.Queue, max(1, d.o.Window-len(d.held)))
	switch waiting := d.queued[ds.speed]; {
	case ds.health.probing():
		return 1 - ds.running
	case ds.lane.relay:
	case ds.speed == slow:
		n = min(n, slowQueue)
		if waiting >= d.o.Window/8 {
			return 1
		}
	case ds.speed == unproven && waiting >= d.o.Window/2:
		return 1
	case ds.speed == unproven && waiting >= d.o.Window/4:
		n = min(n, slowQueue)
	}
	if ds.limiter != nil {
		n = min(n, max(slowQueue, int(2*ds.limiter.Limit())))
	}
	return n
}

// space is how many more of a kind may wait in memory for ds now. What is
// urgent passes by what waits on disk and has a quarter of a queue of its own.
// d.mu is held.
func (d *Dispatcher) space(ds *dest, q queuing) int {
	if q == pressing && !ds.health.probing() {
		return max(1, min(d.o.Queue/4, d.share(ds))) - len(ds.queues[urgent])
	}
	return d.share(ds) - ds.queued
}

// accepts reports whether ds takes one more into memory: it has room, and none
// of its kind waits on disk before it. d.mu is held.
func (d *Dispatcher) accepts(ds *dest, it *belfry.Delivery, size int) bool {
	return !ds.marks[queuingOf(it)].set && d.hasRoom(ds, it, size)
}

// hasRoom reports whether ds may have one more in memory. d.mu is held.
func (d *Dispatcher) hasRoom(ds *dest, it *belfry.Delivery, size int) bool {
	now := d.o.Now()
	if ds.paused || !ds.health.blockedUntil(now).IsZero() {
		return false
	}
	ds.gauge(now)
	if ds.bytes > 0 && ds.bytes+size > d.o.WindowBytes-d.bytes {
		return false
	}
	return d.space(ds, queuingOf(it)) > 0
}

// brief is a wait over which a queue is kept in memory.
const brief = 2 * time.Second

// ready puts ds in line for a sender if it may send now; if it may only later,
// it sets a timer; if its queue runs low and more is on disk, it asks for it.
// d.mu is held.
func (d *Dispatcher) ready(ds *dest) {
	if ds.paused || ds.queued == 0 && !ds.marked() {
		return
	}
	now := d.o.Now()
	if until := ds.health.blockedUntil(now); !until.IsZero() {
		d.later(ds, until)
		return
	}
	if d.wants(ds, others) > 0 || d.wants(ds, pressing) > 0 {
		if _, asked := ds.b.refill[ds]; !asked {
			ds.b.refill[ds] = struct{}{}
			d.poke()
		}
	}
	u, any := ds.best()
	if !any || ds.lined&ds.bit(u) != 0 || ds.running >= ds.allowed() {
		return
	}
	if ds.limiter != nil {
		if tokens := ds.limiter.TokensAt(now); tokens < 1 {
			d.later(ds, now.Add(time.Duration((1-tokens)/float64(ds.limiter.Limit())*float64(time.Second))))
			return
		}
	}
	ds.gauge(now)
	ds.lined |= ds.bit(u)
	ds.lane.lists[ds.speed][u].push(ds)
	d.spawn(ds.lane)
}

// wants is how many rows should be read from disk for ds now; a queue is
// filled again when half of it is sent. d.mu is held.
func (d *Dispatcher) wants(ds *dest, q queuing) int {
	if !ds.marks[q].set || len(ds.loads) >= page {
		return 0
	}
	queued := ds.queued
	if q == pressing {
		queued = len(ds.queues[urgent])
	}
	space := d.space(ds, q)
	if space < queued {
		return 0
	}
	return min(space, page)
}

func (ds *dest) bit(u urgency) uint16 { return 1 << (int(ds.speed)*int(urgencies) + int(u)) }

// later looks at ds again at a time. d.mu is held.
func (d *Dispatcher) later(ds *dest, at time.Time) {
	if ds.timer != nil {
		if ds.wakeAt.Equal(at) {
			return
		}
		ds.timer.Stop()
	}
	ds.wakeAt = at
	var timer *time.Timer
	timer = time.AfterFunc(at.Sub(d.o.Now())+time.Millisecond, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if ds.timer == timer && !d.closing {
			ds.timer = nil
			d.ready(ds)
			d.tidy(ds)
		}
	})
	ds.timer = timer
}

// forget drops the queue of a destination that cannot be sent to for a while:
// its deliveries are on disk behind the mark. d.mu is held.
func (d *Dispatcher) forget(ds *dest) { d.trim(ds, 0) }

// trim drops what is queued beyond the first n. d.mu is held.
func (d *Dispatcher) trim(ds *dest, n int) {
	d.cut(ds, n == 0)
	for u := urgencies - 1; u >= 0; u-- {
		q := ds.queues[u]
		keep := min(len(q), max(0, len(q)-(ds.queued-n)))
		for i := keep; i < len(q); i++ {
			ds.park(&q[i].d)
			ds.count(-1, q[i].size)
			d.release(ds.b, &q[i].d, q[i].size)
			if q[i].d.Line != 0 {
				delete(ds.lines, q[i].d.Line)
			}
			q[i] = item{}
		}
		ds.queues[u] = q[:keep]
		if keep == 0 {
			ds.queues[u] = nil
		}
	}
}

// pull takes out of memory what waits for ds and is meant. d.mu is held.
func (d *Dispatcher) pull(ds *dest, meant func(*item) bool) (pulled bool) {
	for u := range ds.queues {
		ds.queues[u] = slices.DeleteFunc(ds.queues[u], func(it item) bool {
			if !meant(&it) {
				return false
			}
			pulled = true
			ds.count(-1, it.size)
			d.drop(&it)
			d.overtaken(ds, it.d.Line)
			return true
		})
	}
	for _, l := range ds.lines {
		l.waiting = slices.DeleteFunc(l.waiting, func(it item) bool {
			if !meant(&it) {
				return false
			}
			pulled = true
			ds.count(-1, it.size)
			d.drop(&it)
			return true
		})
	}
	return pulled
}

// leave drops all that is known of what ds is to be sent: another process
// reads it now. d.mu is held.
func (d *Dispatcher) leave(ds *dest) {
	d.forget(ds)
	ds.marks, ds.overbarred = [queuings]mark{}, false
	clear(ds.loads)
	clear(ds.barred)
	delete(ds.b.loading, ds)
	delete(ds.b.refill, ds)
	d.tidy(ds)
}

// idleAfter is how long what was learned of a destination is kept when nothing
// is to be sent to it.
const idleAfter = 2 * maxCooldown

// idle reports whether nothing is to be done for ds. d.mu is held.
func (ds *dest) idle() bool {
	return ds.queued == 0 && ds.running == 0 && !ds.marked() && !ds.refilling && !ds.paused && ds.lined == 0 && ds.timer == nil &&
		len(ds.lines) == 0 && len(ds.loads) == 0 && len(ds.barred) == 0
}

// manyIdle is how many destinations are remembered, idle or not, before those
// that did well are forgotten as soon as they are idle.
const manyIdle = 16384

// tidy drops the state of a destination that has nothing to say. d.mu is held.
func (d *Dispatcher) tidy(ds *dest) {
	if ds.idle() && (ds.lane.relay || len(d.dests) > manyIdle && ds.health.plain(d.o.Now()) && ds.limiter == nil && ds.speed != slow) {
		delete(d.dests, ds.key)
	}
}

// sweep drops the state of destinations that have been idle for long. d.mu is
// held.
func (d *Dispatcher) sweep(now time.Time) {
	for key, ds := range d.dests {
		d.unbar(ds)
		if ds.idle() && now.Sub(ds.stirred) > idleAfter && ds.health.blockedUntil(now).IsZero() {
			delete(d.dests, key)
		}
	}
}

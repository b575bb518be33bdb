package pipeline

import (
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

type laneKey struct{ tenant, channel string }

// lane is the concurrency of one channel of one tenant: its runners take turns
// over the destinations that are ready, one send each. It begins with few, for
// sends that end at once need no more and more would only cost; while
// destinations wait and sends are slow it takes on more, up to its cap.
//
// Destinations that are slow have runners of their own beside the cap, half as
// many, and those of which nothing is known yet have half of the cap, so that
// however many of them hang, those that answer are sent to.
type lane struct {
	d       *Dispatcher
	key     laneKey
	cap     int
	relay   bool // all sends go to one peer, which passes them on
	running int
	busy    [speeds]int // sends under way
	lists   [speeds][urgencies]ring
	turns   uint32
	ended   int         // sends that ended since the last look
	looking bool        // a look is due
	finding bool        // so is a find
	queued  int         // deliveries in memory that wait for its destinations
	surplus []postponed // deliveries in memory to be put off

	accounts []*account // none = nothing limits it
}

// ring is a queue of destinations.
type ring struct {
	buf  []*dest
	head int
}

func (r *ring) len() int { return len(r.buf) - r.head }

func (r *ring) push(ds *dest) { r.buf = append(r.buf, ds) }

func (r *ring) pop() *dest {
	ds := r.buf[r.head]
	r.buf[r.head] = nil
	r.head++
	switch {
	case r.head == len(r.buf):
		r.buf, r.head = r.buf[:0], 0
	case r.head >= 64 && r.head*2 >= len(r.buf):
		n := copy(r.buf, r.buf[r.head:])
		clear(r.buf[n:])
		r.buf, r.head = r.buf[:n], 0
	}
	return ds
}

// Growth of a lane.
const (
	firstRunners = 16
	lookEvery    = 2 * time.Millisecond
	findEvery    = 100 * time.Millisecond
)

func (d *Dispatcher) laneOf(tenant, name string) *lane {
	key := laneKey{tenant, name}
	l := d.lanes[key]
	if l == nil {
		l = &lane{d: d, key: key, cap: 1}
		if ch, ok := d.o.Channels.Channel(tenant, name); ok {
			l.cap, l.relay = max(ch.Concurrency, 1), ch.Relay
		}
		d.limit(l)
		d.lanes[key] = l
	}
	return l
}

// slowCap is how many sends to slow destinations run at once.
func (l *lane) slowCap() int { return max(1, l.cap/2) }

// room reports whether a send to a destination of that speed may begin.
func (l *lane) room(s speed) bool {
	switch {
	case s == slow:
		return l.busy[slow] < l.slowCap()
	case l.busy[unproven]+l.busy[fast] >= l.cap:
		return false
	case s == unproven && !l.relay:
		return l.busy[unproven] < max(1, l.cap/2)
	}
	return true
}

// lined is how many destinations stand in the lists, whether or not there is
// room.
func (l *lane) lined() int {
	n := 0
	for s := range speeds {
		for u := range urgencies {
			n += l.lists[s][u].len()
		}
	}
	return n
}

// waiting is how many destinations a runner that is free could send to. One
// runner puts off what is to be put off.
func (l *lane) waiting() int {
	n := min(1, len(l.surplus))
	if l.shut() {
		return n
	}
	for s := range speeds {
		if l.room(s) {
			for u := range urgencies {
				n += l.lists[s][u].len()
			}
		}
	}
	return n
}

// shut reports whether an account lets nothing be sent now.
func (l *lane) shut() bool {
	if len(l.accounts) == 0 {
		return false
	}
	now := l.d.o.Now()
	return slices.ContainsFunc(l.accounts, func(a *account) bool { return a.waits(now) })
}

// pick takes the destination whose turn it is: speeds take turns, and within
// one what is urgent goes first as in dest.pop.
func (l *lane) pick() *dest {
	l.turns++
	for k := range speeds {
		s := (speed(l.turns%uint32(speeds)) + k) % speeds
		lists := &l.lists[s]
		if lists[urgent].len()+lists[normal].len()+lists[digest].len() == 0 || !l.room(s) {
			continue
		}
		u := urgent
		for lists[u].len() == 0 {
			u++
		}
		switch turn := l.turns / uint32(speeds); {
		case turn%16 == 0 && lists[digest].len() > 0:
			u = digest
		case turn%8 == 4 && lists[normal].len() > 0:
			u = normal
		}
		ds := lists[u].pop()
		ds.lined &^= 1 << (int(s)*int(urgencies) + int(u))
		return ds
	}
	return nil
}

// reclass notes that ds is of another speed than was thought.
func (l *lane) reclass(ds *dest, s speed) {
	if ds.speed == s {
		return
	}
	l.busy[ds.speed] -= ds.running
	l.busy[s] += ds.running
	l.d.queued[ds.speed] -= ds.queued
	l.d.queued[s] += ds.queued
	ds.speed = s
	if s == slow {
		l.d.trim(ds, min(ds.queued, max(1, l.d.share(ds))))
	}
}

// spawn starts the lane's first runners as they are needed, and looks after a
// while whether they are enough, and who holds up the others. d.mu is held.
func (d *Dispatcher) spawn(l *lane) {
	if d.closing || d.sendCtx == nil {
		return
	}
	first := min(l.cap, firstRunners) + l.busy[slow]
	if l.looking && l.finding && l.running >= first {
		return
	}
	waiting := l.waiting()
	if l.running < first {
		d.start(l, min(waiting, first-l.running))
	}
	if l.shut() {
		return // its account wakes it
	}
	full := l.running >= l.cap+l.busy[slow]
	if waiting > 0 && !full && !l.looking {
		l.looking = true
		time.AfterFunc(lookEvery, func() { d.look(l) })
	}
	if (full || l.lined() > waiting) && !l.finding {
		l.finding = true
		time.AfterFunc(findEvery, func() { d.find(l) })
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
		d.start(l, min(l.waiting(), max(4, l.running/2), l.cap+l.busy[slow]-l.running, d.spare(l)))
	}
	l.ended = 0
	d.spawn(l)
}

// find tells apart those of the lane's destinations whose sends do not end, as
// long as others wait for them.
func (d *Dispatcher) find(l *lane) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.finding = false
	if d.closing {
		return
	}
	now := d.o.Now()
	for _, ds := range d.dests {
		if ds.lane == l && ds.running > 0 {
			ds.gauge(now)
		}
	}
	d.spawn(l)
}

// maxRunners is how many sends run at once over all lanes; each has its first
// runners whatever the others do.
const maxRunners = 8192

func (d *Dispatcher) spare(l *lane) int {
	return max(maxRunners-d.sending, min(l.cap, firstRunners)-l.running)
}

// start starts n runners. d.mu is held.
func (d *Dispatcher) start(l *lane, n int) {
	for range n {
		l.running++
		d.sending++
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
		ds, it, off, ok := d.next(l)
		switch {
		case !ok:
			return
		case off != nil:
			d.postpone(off)
			continue
		}
		d.send(limit.of(d.sendCtx, d.o.Now()), ds, it)
	}
}

func (d *Dispatcher) next(l *lane) (*dest, item, *postponed, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.closing {
		if n := len(l.surplus); n > 0 {
			off := l.surplus[n-1]
			l.surplus[n-1] = postponed{}
			l.surplus = l.surplus[:n-1]
			return nil, item{}, &off, true
		}
		if len(l.accounts) > 0 && (l.lined() == 0 || !d.permitted(l, d.o.Now())) {
			break
		}
		ds := l.pick()
		if ds == nil {
			break
		}
		now := d.o.Now()
		ds.gauge(now)
		if _, any := ds.best(); !any || ds.paused || ds.running >= ds.allowed() || !l.room(ds.speed) || !ds.health.blockedUntil(now).IsZero() ||
			ds.limiter != nil && ds.limiter.TokensAt(now) < 1 {
			d.ready(ds)
			continue
		}
		it := ds.pop()
		if it.d.Line != 0 {
			if l := ds.lines[it.d.Line]; l != nil {
				l.queued = false
			}
		}
		if ds.running == 0 {
			ds.stirred = now
		}
		ds.running++
		l.busy[ds.speed]++
		if ds.limiter != nil {
			ds.limiter.AllowN(now, 1)
		}
		for _, a := range l.accounts {
			a.spend()
		}
		d.ready(ds)
		return ds, it, nil, true
	}
	l.running--
	d.sending--
	return nil, item{}, nil, false
}

// postpone has a delivery wait on disk: no try is counted.
func (d *Dispatcher) postpone(off *postponed) {
	d.o.Counters.Postponed.Add(1)
	a := belfry.Attempt{Tenant: off.it.d.Tenant, DeliveryID: off.it.d.ID, At: d.o.Now(), State: off.it.d.State, Due: off.due, Because: off.why}
	d.records <- record{attempt: a, ds: off.ds, it: off.it}
}

// done ends a send that took so long; sent is false when nothing was sent
// after all. d.mu is held.
func (d *Dispatcher) done(ds *dest, sent bool, took time.Duration, now time.Time) {
	ds.running--
	ds.lane.busy[ds.speed]--
	ds.lane.ended++
	if sent {
		ds.ended(took, now)
	} else {
		ds.stirred = now
	}
}

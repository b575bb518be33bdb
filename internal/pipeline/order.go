package pipeline

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
)

// line is what is in memory of deliveries that an endpoint wants one after the
// other. Its head is queued or under way until what became of it is durable;
// the next is sent only when the head is delivered or given up. While the head
// waits for its next try there is no line: the table knows who is first, and
// is asked when the head, or anything behind it, turns up.
type line struct {
	waiting []item // behind the head, in order
	last    string // id of the last one that is in memory
	more    bool   // others behind it are on disk only
	queued  bool   // the head is not under way yet
}

const (
	lineChunk  = 64 // rows of a line that are read at once
	linesAtOne = 64 // lines of one destination that are read in one turn
	maxLoads   = 4 * page
	maxBarred  = 4096
)

// enter sees to a delivery that goes one after the other with others: a row
// that was read, or, held, one that was handed over. Only what follows in
// memory what is in memory is kept there, and where other processes plan, which
// may have put something between, not even that. d.mu is held.
func (d *Dispatcher) enter(ds *dest, it item, held bool) {
	l := ds.lines[it.d.Line]
	switch {
	case l == nil && (ds.paused || len(ds.loads) >= maxLoads || !ds.health.blockedUntil(d.o.Now()).IsZero()):
		ds.park(&it.d)
		d.ready(ds)
	case l == nil:
		d.load(ds, it.d.Line)
	case it.d.ID < l.last:
		d.cutLine(ds, l) // it was planned late, and comes before those that wait
	case held && !l.more && !d.o.Shards.Shared() && d.accepts(ds, &it.d, it.size):
		l.waiting = append(l.waiting, it)
		l.last = it.d.ID
		ds.count(1, it.size)
		return
	default:
		l.more = true
	}
	if held {
		d.release(ds.b, &it.d, it.size)
	}
}

// passed notes that a delivery of a line is on disk only: what comes after it
// may not be sent before it is read. d.mu is held.
func (d *Dispatcher) passed(dv *belfry.Delivery) {
	if dv.Line == 0 {
		return
	}
	if ds := d.dests[keyOf(dv)]; ds != nil {
		if l := ds.lines[dv.Line]; l != nil {
			l.more = true
		} else {
			d.load(ds, dv.Line) // it may be being read at this moment, without this one
		}
	}
}

// load asks for a line to be read. d.mu is held.
func (d *Dispatcher) load(ds *dest, key int64) {
	if ds.loads == nil {
		ds.loads = map[int64]struct{}{}
	}
	ds.loads[key] = struct{}{}
	ds.b.loading[ds] = struct{}{}
	d.poke()
}

// cutLine drops what waits behind the head of a line. d.mu is held.
func (d *Dispatcher) cutLine(ds *dest, l *line) {
	for i := range l.waiting {
		ds.count(-1, l.waiting[i].size)
		d.release(ds.b, &l.waiting[i].d, l.waiting[i].size)
	}
	l.waiting, l.more = nil, true
}

// cut drops what waits in lines, and with heads also the lines whose head is
// queued, which is dropped by the caller. Those under way stay: nothing of
// their line may be sent before they end. d.mu is held.
func (d *Dispatcher) cut(ds *dest, heads bool) {
	for key, l := range ds.lines {
		d.cutLine(ds, l)
		if heads && l.queued {
			delete(ds.lines, key)
		}
	}
}

// advance moves a line on when what became of its head is durable. d.mu is held.
func (d *Dispatcher) advance(r *record, applied bool) {
	ds, key := r.ds, r.it.d.Line
	l := ds.lines[key]
	if l == nil {
		return
	}
	switch {
	case !applied: // the table knows better
		d.overtaken(ds, key)
	case r.attempt.State.Open():
		d.cutLine(ds, l)
		delete(ds.lines, key)
		d.bar(ds, key)
	case len(l.waiting) > 0:
		next := l.waiting[0]
		l.waiting[0] = item{}
		l.waiting = l.waiting[1:]
		l.queued = true
		ds.count(-1, next.size) // push counts it again
		ds.push(next)
	default:
		delete(ds.lines, key)
		if l.more {
			d.load(ds, key)
		}
	}
}

// overtaken has a line read again whose head is over without a record of it.
// d.mu is held.
func (d *Dispatcher) overtaken(ds *dest, key int64) {
	if l := ds.lines[key]; l != nil {
		d.cutLine(ds, l)
		delete(ds.lines, key)
		d.load(ds, key)
	}
}

// bar remembers that a line waits for its head's next try. The head comes back
// when it is due, unless somebody ends it before: so barred lines are looked at
// again from time to time. d.mu is held.
func (d *Dispatcher) bar(ds *dest, key int64) {
	if ds.barred == nil {
		ds.barred = map[int64]struct{}{}
	}
	if len(ds.barred) < maxBarred {
		ds.barred[key] = struct{}{}
	} else {
		ds.overbarred = true
	}
}

// unbar has barred lines looked at again. d.mu is held.
func (d *Dispatcher) unbar(ds *dest) {
	for key := range ds.barred {
		if len(ds.loads) >= maxLoads {
			return
		}
		delete(ds.barred, key)
		if ds.lines[key] == nil {
			d.load(ds, key)
		}
	}
	if ds.overbarred && len(ds.barred) == 0 {
		ds.overbarred = false
		ds.parkAfter(others, belfry.DueKey{})
		d.ready(ds)
	}
}

// loadLines reads lines of one destination; more is true when others wait.
func (d *Dispatcher) loadLines(ctx context.Context, b *backlog, ds *dest) (more bool, err error) {
	d.mu.Lock()
	keys := make([]int64, 0, linesAtOne)
	for key := range ds.loads {
		if len(keys) == linesAtOne {
			more = true
			break
		}
		keys = append(keys, key)
		delete(ds.loads, key)
	}
	if !more {
		delete(b.loading, ds)
	}
	ds.refilling = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		ds.refilling = false
		if ds.queued == 0 && ds.running == 0 {
			d.ready(ds) // nothing of its own would ask for more
		}
		d.tidy(ds)
	}()
	for i, key := range keys {
		if err := d.loadLine(ctx, ds, key); err != nil {
			d.mu.Lock()
			for _, again := range keys[i:] {
				d.load(ds, again)
			}
			d.mu.Unlock()
			return false, err
		}
	}
	return more, nil
}

func (d *Dispatcher) loadLine(ctx context.Context, ds *dest, key int64) error {
	d.beginRead()
	defer d.endRead()
	rows, err := d.o.Store.InLine(ctx, ds.key.tenant, ds.key.name, key, lineChunk)
	if err != nil || len(rows) == 0 {
		return err
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].EventID
	}
	payloads, err := d.events(ctx, ds.key.tenant, ids)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fill(ds, key, rows, payloads)
	return nil
}

// fill brings a line into memory as it was read. d.mu is held.
func (d *Dispatcher) fill(ds *dest, key int64, rows []belfry.Delivery, payloads map[string]*Payload) {
	if d.dests[ds.key] != ds || !d.mine(&rows[0]) {
		return // given up meanwhile
	}
	if ds.lines[key] != nil {
		ds.lines[key].more = true
		return
	}
	now := d.o.Now()
	var l *line
	for i := range rows {
		dv := &rows[i]
		if _, old := d.released[dv.ID]; old {
			if l == nil {
				d.load(ds, key) // the rows are old news
			}
			break
		}
		p := payloads[dv.EventID]
		_, held := d.held[dv.ID]
		if held || p == nil {
			break // a hand-over is about to bring it
		}
		if dv.Due.After(now) {
			if l == nil {
				d.bar(ds, key)
				ds.b.expect(dv.Due)
			}
			break
		}
		it := item{d: *dv, p: p, size: p.size()}
		fits := d.fits(ds.b, it.size)
		if !fits {
			d.wait(ds.b)
		}
		if l != nil {
			if !fits || ds.queued >= d.share(ds) {
				break // the rest is read when these are sent
			}
			d.hold(ds.b, dv, it.size)
			ds.count(1, it.size)
			l.waiting = append(l.waiting, it)
			l.last = dv.ID
			continue
		}
		if !fits || !d.hasRoom(ds, dv, it.size) {
			ds.park(dv)
			return
		}
		d.hold(ds.b, dv, it.size)
		ds.push(it)
		l = &line{last: dv.ID, queued: true, more: true}
		if ds.lines == nil {
			ds.lines = map[int64]*line{}
		}
		ds.lines[key] = l
		delete(ds.barred, key)
		d.ready(ds)
	}
	if _, again := ds.loads[key]; !again && l != nil && len(rows) < lineChunk && l.last == rows[len(rows)-1].ID {
		l.more = false
	}
}

package pipeline

import (
	"context"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// page is how many rows one read of the backlog takes.
const page = 256

// backlog is what a tenant has on disk.
type backlog struct {
	tenant    string
	cursor    belfry.DueKey            // due rows up to here are in memory or behind a mark
	dirty     bool                     // there may be due rows after cursor
	waiting   bool                     // there are, and the window is full
	next      time.Time                // when the next scheduled row is due; zero = none known
	nextKnown bool                     // next was asked for since it last came, or since the last survey
	asked     *belfry.DueKey           // least key rewound to since the page under way began to be read
	held      int                      // deliveries in memory
	bytes     int                      // of them
	enough    int                      // while waiting: with so few in memory it is read on
	refill    map[*dest]struct{}       // destinations that run low
	loading   map[*dest]struct{}       // destinations with lines to be read
	sought    map[string]belfry.DueKey // destinations to be read by name, after a key
	planned   []belfry.Planned         // events to be read by name, after what was told first
	unparked  []unparked               // what is behind marks and not parked yet
}

// unparked is a delivery behind its destination's mark that no read by
// destination finds yet.
type unparked struct {
	ds *dest
	id string
}

// maxUnparked bounds how many are remembered before they are parked, whether or
// not a destination is about to be read.
const maxUnparked = 4096

// parkedAtOnce is how many are parked in one piece of the writer's work.
const parkedAtOnce = 512

// maxPlanned bounds how many events are looked for by name before it is cheaper
// to read everything.
const maxPlanned = 1024

// spread has what is due of events read with everything else that is.
func (b *backlog) spread(events []belfry.Planned) {
	for _, e := range events {
		b.rewind(belfry.DueKey{Due: e.Since()})
	}
}

// maxSought bounds how many destinations are looked for by name before it is
// cheaper to read everything.
const maxSought = 4096

// seek has all that is due to a destination read again.
func (b *backlog) seek(destination string) {
	if len(b.sought) >= maxSought {
		clear(b.sought)
		b.rewind(belfry.DueKey{})
		return
	}
	b.sought[destination] = belfry.DueKey{}
}

// expect notes that something is due at a later time.
func (b *backlog) expect(due time.Time) {
	if b.next.IsZero() || due.Before(b.next) {
		b.next = due
	}
}

// rewind makes the next scan begin no later than after key.
func (b *backlog) rewind(key belfry.DueKey) {
	if keyLess(key, b.cursor) {
		b.cursor = key
	}
	if b.asked == nil || keyLess(key, *b.asked) {
		b.asked = &key
	}
	b.dirty = true
}

// backlogOf finds or begins a tenant's backlog; a new one begins at the very
// first row, so nothing an earlier process left is missed. d.mu is held.
func (d *Dispatcher) backlogOf(tenant string) *backlog {
	b := d.backlogs[tenant]
	if b == nil {
		b = &backlog{tenant: tenant, dirty: true, refill: map[*dest]struct{}{}, loading: map[*dest]struct{}{}, sought: map[string]belfry.DueKey{}}
		d.backlogs[tenant] = b
		d.poke()
	}
	return b
}

// follow reads the backlog into memory as it falls due and as memory allows,
// until ctx ends.
func (d *Dispatcher) follow(ctx context.Context) {
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-poll.C:
			d.survey(ctx)
		}
		wait := d.o.Poll
		for bs := d.all(); len(bs) > 0 && ctx.Err() == nil; {
			// Tenants take turns, some pages each, until none has more or room
			// for it.
			more := bs[:0]
			for _, b := range bs {
				again, err := d.drain(ctx, b)
				if err != nil && ctx.Err() == nil {
					d.o.Log.Error("reading due deliveries", "tenant", b.tenant, "error", err)
					d.mu.Lock()
					b.dirty = true
					d.mu.Unlock()
					wait = min(wait, time.Second)
				} else if again {
					more = append(more, b)
				}
				d.mu.Lock()
				if !b.next.IsZero() {
					wait = min(wait, max(b.next.Sub(d.o.Now()), 0))
				}
				d.mu.Unlock()
			}
			bs = more
		}
		poll.Reset(wait)
		if d.o.Shards.Shared() && !sleep(ctx, sharedPace) {
			return
		}
	}
}

// sharedPace is the least time between two looks for what other processes told
// of: under load each look finds more.
const sharedPace = 4 * time.Millisecond

// survey is the safety net: it learns of tenants and of due times that no
// hand-over told of, and marks every backlog for a look.
func (d *Dispatcher) survey(ctx context.Context) {
	tenants, err := d.o.Store.Tenants(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.o.Log.Error("listing tenants", "error", err)
		}
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	back := d.back()
	for _, t := range tenants {
		b := d.backlogOf(t)
		if !back.IsZero() {
			b.rewind(belfry.DueKey{Due: back})
		}
		switch {
		case !b.waiting:
			b.dirty = true
		case d.fits(b, 0):
			d.relieve(b)
		}
		b.nextKnown = false
	}
	if now := d.o.Now(); now.Sub(d.swept) >= sweepEvery {
		d.swept = now
		d.sweep(now)
	}
}

// back is from what due time on a survey looks again: others may have put
// deliveries behind the cursor, and what they told of it may be lost. d.mu is
// held.
func (d *Dispatcher) back() time.Time {
	if !d.o.Shards.Shared() {
		return time.Time{}
	}
	now := d.o.Now()
	if now.Sub(d.lookedLong) < longLook {
		return now.Add(-lately)
	}
	d.lookedLong = now
	return now.Add(-atLongest)
}

// sweepEvery is how often destinations that have nothing to do are looked at.
const sweepEvery = time.Minute

func (d *Dispatcher) all() []*backlog {
	d.mu.Lock()
	defer d.mu.Unlock()
	bs := make([]*backlog, 0, len(d.backlogs))
	for _, b := range d.backlogs {
		bs = append(bs, b)
	}
	return bs
}

// pagesAtOne is how many pages of due rows one tenant reads in its turn.
const pagesAtOne = 4

// drain brings what is due of one tenant into memory, as much as is its turn:
// first destinations that run low, then everything after the cursor. more is
// true when there is more to be read now.
func (d *Dispatcher) drain(ctx context.Context, b *backlog) (more bool, err error) {
	d.mu.Lock()
	now := d.o.Now()
	if !b.next.IsZero() && !b.next.After(now) {
		b.next, b.nextKnown, b.dirty = time.Time{}, false, true
	}
	dirty := b.dirty && !b.waiting
	if dirty {
		b.dirty = false
	}
	var low, loading []*dest
	fits := d.fits(b, 0)
	if !fits && len(b.refill)+len(b.loading)+len(b.sought) > 0 {
		d.wait(b)
	}
	if fits {
		for ds := range b.refill {
			low = append(low, ds)
		}
		clear(b.refill)
		for ds := range b.loading {
			loading = append(loading, ds)
		}
	}
	var name string
	var after belfry.DueKey
	seek := false
	for name, after = range b.sought {
		seek = fits
		break
	}
	d.mu.Unlock()

	if err := d.parkAll(ctx, b, low); err != nil {
		d.mu.Lock()
		for _, again := range low {
			b.refill[again] = struct{}{}
		}
		b.dirty = b.dirty || dirty
		d.mu.Unlock()
		return false, err
	}
	for i, ds := range low {
		if err := d.refillOne(ctx, b, ds, now); err != nil {
			d.mu.Lock()
			for _, again := range low[i:] {
				b.refill[again] = struct{}{}
			}
			b.dirty = b.dirty || dirty
			d.mu.Unlock()
			return false, err
		}
	}
	for _, ds := range loading {
		again, err := d.loadLines(ctx, b, ds)
		if err != nil {
			d.mu.Lock()
			b.dirty = b.dirty || dirty
			d.mu.Unlock()
			return false, err
		}
		more = more || again
	}
	if seek {
		if err := d.seekPage(ctx, b, name, after, now); err != nil {
			return false, err
		}
	}
	if err := d.plannedPage(ctx, b); err != nil {
		d.mu.Lock()
		b.dirty = b.dirty || dirty
		d.mu.Unlock()
		return false, err
	}
	if dirty {
		again, err := d.scan(ctx, b, now)
		if err != nil {
			return false, err
		}
		more = more || again
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return more || len(b.planned) > 0 || !b.waiting && len(b.refill)+len(b.loading)+len(b.sought) > 0, nil
}

// parkAll parks what is behind marks, where a destination with such a mark is
// about to be read, or there are many. What is behind none any more is another
// process's now, which scans it.
func (d *Dispatcher) parkAll(ctx context.Context, b *backlog, low []*dest) error {
	d.mu.Lock()
	list := b.unparked
	if len(list) < maxUnparked && !slices.ContainsFunc(low, func(ds *dest) bool { return ds.unparked > 0 }) {
		d.mu.Unlock()
		return nil
	}
	b.unparked = nil
	ids := make([]string, 0, len(list))
	for _, u := range list {
		if u.ds.marked() {
			ids = append(ids, u.id)
		}
	}
	d.mu.Unlock()
	slices.Sort(ids) // in one order, as whoever else writes many of them does
	var err error
	for chunk := range slices.Chunk(slices.Compact(ids), parkedAtOnce) {
		if err = d.o.Store.Park(ctx, b.tenant, chunk); err != nil {
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		b.unparked = append(list, b.unparked...)
		return err
	}
	for _, u := range list {
		u.ds.unparked--
	}
	return nil
}

// plannedAtOnce is about how many rows of events that others planned are read at
// once.
const plannedAtOnce = 512

// plannedPage reads what is due of events that others planned, some of them.
// What finds no room, or cannot be read, is read with everything else later.
func (d *Dispatcher) plannedPage(ctx context.Context, b *backlog) error {
	d.mu.Lock()
	now := d.o.Now() // after all of them were planned: other reads went before
	rows, n := 0, 0
	for n < len(b.planned) && rows < plannedAtOnce {
		rows += b.planned[n].Rows
		n++
	}
	some := b.planned[:n:n]
	if b.planned = b.planned[n:]; len(b.planned) == 0 {
		b.planned = nil
	}
	if n > 0 && !d.fits(b, 0) {
		b.spread(some)
		d.wait(b)
		n = 0
	}
	d.mu.Unlock()
	if n == 0 {
		return nil
	}
	ids := make([]string, n)
	for i := range some {
		ids[i] = some[i].Event
	}
	d.beginRead()
	defer d.endRead()
	// Clocks may differ: what is due there and not yet here is waited for.
	read, err := d.o.Store.PlannedDeliveries(ctx, b.tenant, ids, now.Add(lately), d.o.Shards.Mine(belfry.LeaseDelivery))
	var payloads map[string]*Payload
	var later []bool
	if err == nil {
		payloads, later, err = d.payloads(ctx, b.tenant, read)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		b.spread(some)
		return err
	}
	full := false
	for i := range read {
		p := payloads[read[i].EventID]
		switch {
		case read[i].Due.After(now):
			b.expect(read[i].Due)
		case p == nil && !later[i]:
		case full:
			b.rewind(keyBefore(&read[i]))
		case d.offer(read[i], p) == tooMuch:
			full = true
			b.rewind(keyBefore(&read[i]))
			d.wait(b)
		}
	}
	return nil
}

// seekPage reads a page of what is due to a destination, whatever is known of
// it.
func (d *Dispatcher) seekPage(ctx context.Context, b *backlog, name string, after belfry.DueKey, now time.Time) error {
	d.beginRead()
	defer d.endRead()
	rows, err := d.o.Store.DueFor(ctx, b.tenant, name, false, after, now, page)
	if err != nil {
		return err
	}
	payloads, later, err := d.payloads(ctx, b.tenant, rows)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key, kept := after, 0
	full := false
	for i := range rows {
		if payloads[rows[i].EventID] == nil && !later[i] {
			continue
		}
		switch d.offer(rows[i], payloads[rows[i].EventID]) {
		case taken:
			kept++
		case parked:
		case tooMuch:
			full = true
		}
		if full {
			d.wait(b)
			break
		}
		key = belfry.DueKey{Due: rows[i].Due, ID: rows[i].ID}
	}
	if b.sought[name] == after { // else it is sought from the beginning again
		if full || len(rows) == page && kept > 0 {
			b.sought[name] = key
		} else {
			delete(b.sought, name) // there is no more, or it is behind a mark
		}
	}
	return nil
}

// refillOne reads the rows of one destination that wait behind its marks.
func (d *Dispatcher) refillOne(ctx context.Context, b *backlog, ds *dest, now time.Time) error {
	for _, q := range []queuing{pressing, others} {
		if err := d.refill(ctx, b, ds, q, now); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ready(ds) // sets the timer when it is blocked, or asks for more
	d.tidy(ds)
	return nil
}

func (d *Dispatcher) refill(ctx context.Context, b *backlog, ds *dest, q queuing, now time.Time) error {
	d.mu.Lock()
	limit := d.wants(ds, q)
	if limit <= 0 || ds.paused || d.dests[ds.key] != ds || !ds.health.blockedUntil(now).IsZero() {
		d.mu.Unlock()
		return nil
	}
	if ds.unparked > 0 { // something was put behind the mark this moment: its turn comes again
		b.refill[ds] = struct{}{}
		d.poke()
		d.mu.Unlock()
		return nil
	}
	after := ds.marks[q].key
	// While the mark is lifted, newly refused rows set it anew at their own key.
	ds.marks[q], ds.refilling = mark{}, true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		ds.refilling = false
	}()

	restore := func(key belfry.DueKey) {
		d.mu.Lock()
		defer d.mu.Unlock()
		ds.parkAfter(q, key)
	}
	d.beginRead()
	defer d.endRead()
	rows, err := d.o.Store.DueFor(ctx, ds.key.tenant, ds.key.name, q == pressing, after, now, limit)
	if err != nil {
		restore(after)
		return err
	}
	payloads, later, err := d.payloads(ctx, ds.key.tenant, rows)
	if err != nil {
		restore(after)
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range rows {
		p := payloads[rows[i].EventID]
		if p == nil && !later[i] {
			continue
		}
		switch d.offer(rows[i], p) {
		case taken:
		case parked:
			if ds.marks[q].set {
				return nil // offer set the mark at this row
			}
		case tooMuch:
			// Its queue may be empty, so nothing of its own would ask again.
			ds.parkAfter(q, keyBefore(&rows[i]))
			b.refill[ds] = struct{}{}
			d.wait(b)
			return nil
		}
	}
	if len(rows) == limit {
		last := &rows[len(rows)-1]
		ds.parkAfter(q, belfry.DueKey{Due: last.Due, ID: last.ID})
	}
	return nil
}

// scan moves the cursor over what is due by now, some pages of it; more is
// true when there are others.
func (d *Dispatcher) scan(ctx context.Context, b *backlog, now time.Time) (more bool, err error) {
	for range pagesAtOne {
		d.mu.Lock()
		after := b.cursor
		full := !d.fits(b, 0)
		if full {
			d.wait(b)
		}
		d.mu.Unlock()
		if full {
			return false, nil
		}
		n, err := d.scanPage(ctx, b, after, now)
		if err != nil || n < 0 {
			return false, err
		}
		if n < page {
			return false, d.learnNext(ctx, b, now)
		}
	}
	d.mu.Lock()
	b.dirty = true
	d.mu.Unlock()
	return true, nil
}

// learnNext asks when the next row falls due, unless that is known.
func (d *Dispatcher) learnNext(ctx context.Context, b *backlog, now time.Time) error {
	d.mu.Lock()
	known := b.nextKnown
	b.nextKnown = true // what falls due from now on is told of
	d.mu.Unlock()
	if known {
		return nil
	}
	due, ok, err := d.o.Store.NextDue(ctx, b.tenant, now, d.o.Shards.Mine(belfry.LeaseDelivery))
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		b.nextKnown = false
		return err
	}
	if ok {
		b.expect(due)
	}
	return nil
}

// scanPage offers one page of due rows and answers how many there were, -1
// when memory is full.
func (d *Dispatcher) scanPage(ctx context.Context, b *backlog, after belfry.DueKey, now time.Time) (int, error) {
	d.mu.Lock()
	d.reading, b.asked = true, nil // at once: what is asked for from now on may not be read
	d.mu.Unlock()
	defer d.endRead()
	rows, err := d.o.Store.DueDeliveries(ctx, b.tenant, after, now, page, d.o.Shards.Mine(belfry.LeaseDelivery))
	if err != nil {
		return 0, err
	}
	payloads, later, err := d.payloads(ctx, b.tenant, rows)
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, key := len(rows), after
	for i := range rows {
		if p := payloads[rows[i].EventID]; (p != nil || later[i]) && d.offer(rows[i], p) == tooMuch {
			d.wait(b)
			n = -1
			break
		}
		key = belfry.DueKey{Due: rows[i].Due, ID: rows[i].ID}
	}
	// A page that is not full ends where the time of its reading is; the rows of
	// others before that need no second look.
	if n >= 0 && n < page && d.o.Shards.Mine(belfry.LeaseDelivery) != nil {
		key = belfry.DueKey{Due: now}
	}
	// What was asked for while the page was read may have been committed after
	// it and lie within it: then the cursor stays before that.
	if b.asked != nil && keyLess(*b.asked, key) {
		key = *b.asked
	}
	if b.cursor == after { // else a rewind went further back
		b.cursor = key
	}
	return n, nil
}

// beginRead and endRead bracket every read whose rows are offered.
func (d *Dispatcher) beginRead() {
	d.mu.Lock()
	d.reading = true
	d.mu.Unlock()
}

func (d *Dispatcher) endRead() {
	d.mu.Lock()
	d.reading = false
	clear(d.released)
	d.mu.Unlock()
}

// payloads loads the events of rows that are not in memory. One that is has none
// and needs none, also when it leaves memory before it is offered: it is among
// the released then. Nor has one whose destination takes no more, or that is read
// again in its line. later says which those are: all of them are offered, since
// a row in memory may have been changed by a retry that nobody else tells of.
func (d *Dispatcher) payloads(ctx context.Context, tenant string, rows []belfry.Delivery) (_ map[string]*Payload, later []bool, err error) {
	if len(rows) == 0 {
		return nil, nil, nil
	}
	ids := make([]string, 0, len(rows))
	seen := make(map[string]bool, len(rows))
	later = make([]bool, len(rows))
	var people []string
	d.mu.Lock()
	for i := range rows {
		if _, held := d.held[rows[i].ID]; held {
			later[i] = true
			continue
		}
		if ds := d.dests[keyOf(&rows[i])]; rows[i].Line != 0 || ds != nil && !d.accepts(ds, &rows[i], 0) {
			later[i] = true
			continue
		}
		if !seen[rows[i].EventID] {
			seen[rows[i].EventID] = true
			ids = append(ids, rows[i].EventID)
		}
		if rows[i].Principal != "" {
			people = append(people, rows[i].Principal)
		}
	}
	d.mu.Unlock()
	out, err := d.events(ctx, tenant, ids)
	if err == nil && len(people) > 0 {
		err = d.o.Composer.Expect(ctx, tenant, people)
	}
	return out, later, err
}

// events reads events into payloads, and digests by the ids of their bundles.
func (d *Dispatcher) events(ctx context.Context, tenant string, ids []string) (map[string]*Payload, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ids, bundles := bundlesOf(ids)
	events, err := d.accepted(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*Payload, len(events)+len(bundles))
	if len(bundles) > 0 {
		if err := d.digests(ctx, tenant, bundles, out); err != nil {
			return nil, err
		}
	}
	for id, acc := range events {
		out[id] = NewPayload(acc)
	}
	for _, id := range ids {
		if events[id] == nil {
			// Cannot happen while partitions with open deliveries are kept.
			d.o.Log.Error("delivery without its event", "tenant", tenant, "event", id)
		}
	}
	return out, nil
}

// accepted reads events from disk. What another process accepted and planned is
// sent by no less than what it was accepted and planned by.
func (d *Dispatcher) accepted(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error) {
	events, err := d.o.Store.Events(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	version := int64(0)
	for _, acc := range events {
		version = max(version, acc.AsOf)
	}
	return events, d.o.In.Reach(ctx, tenant, version)
}

func keyLess(a, b belfry.DueKey) bool {
	if !a.Due.Equal(b.Due) {
		return a.Due.Before(b.Due)
	}
	return a.ID < b.ID
}

// keyBefore is a key after which d itself is read: a proper prefix of its id
// sorts before it.
func keyBefore(d *belfry.Delivery) belfry.DueKey {
	return belfry.DueKey{Due: d.Due, ID: d.ID[:len(d.ID)-1]}
}

package pipeline

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// page is how many rows one read of the backlog takes.
const page = 256

// backlog is what a tenant has on disk.
type backlog struct {
	tenant    string
	cursor    belfry.DueKey  // due rows up to here are in memory or behind a mark
	dirty     bool           // there may be due rows after cursor
	waiting   bool           // there are, and the window is full
	next      time.Time      // when the next scheduled row is due; zero = none known
	nextKnown bool           // next was asked for since it last came, or since the last survey
	asked     *belfry.DueKey // least key rewound to since the page under way began to be read
	refill    map[*dest]struct{}
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
		b = &backlog{tenant: tenant, dirty: true, refill: map[*dest]struct{}{}}
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
		for _, b := range d.all() {
			if err := d.drain(ctx, b); err != nil && ctx.Err() == nil {
				d.o.Log.Error("reading due deliveries", "tenant", b.tenant, "error", err)
				d.mu.Lock()
				b.dirty = true
				d.mu.Unlock()
				wait = min(wait, time.Second)
				continue
			}
			d.mu.Lock()
			if !b.next.IsZero() {
				wait = min(wait, max(b.next.Sub(d.o.Now()), 0))
			}
			d.mu.Unlock()
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
		if !b.waiting {
			b.dirty = true
		}
		b.nextKnown = false
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

func (d *Dispatcher) all() []*backlog {
	d.mu.Lock()
	defer d.mu.Unlock()
	bs := make([]*backlog, 0, len(d.backlogs))
	for _, b := range d.backlogs {
		bs = append(bs, b)
	}
	return bs
}

// drain brings what is due of one tenant into memory: first destinations that
// run low, then everything after the cursor.
func (d *Dispatcher) drain(ctx context.Context, b *backlog) error {
	d.mu.Lock()
	low := make([]*dest, 0, len(b.refill))
	for ds := range b.refill {
		low = append(low, ds)
	}
	clear(b.refill)
	now := d.o.Now()
	if !b.next.IsZero() && !b.next.After(now) {
		b.next, b.nextKnown, b.dirty = time.Time{}, false, true
	}
	dirty := b.dirty
	b.dirty = false
	d.mu.Unlock()

	for _, ds := range low {
		if err := d.refillOne(ctx, b, ds, now); err != nil {
			d.mu.Lock()
			for _, again := range low {
				b.refill[again] = struct{}{}
			}
			d.mu.Unlock()
			return err
		}
	}
	if !dirty {
		return nil
	}
	return d.scan(ctx, b, now)
}

// refillOne reads the rows of one destination that wait behind its mark.
func (d *Dispatcher) refillOne(ctx context.Context, b *backlog, ds *dest, now time.Time) error {
	d.mu.Lock()
	if !ds.marked || ds.paused {
		d.mu.Unlock()
		return nil
	}
	after := ds.mark
	// While the mark is lifted, newly refused rows set it anew at their own key.
	ds.marked, ds.refilling = false, true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		ds.refilling = false
		d.tidy(ds)
	}()

	restore := func(key belfry.DueKey) {
		d.mu.Lock()
		defer d.mu.Unlock()
		ds.park(key)
	}
	d.beginRead()
	defer d.endRead()
	rows, err := d.o.Store.DueFor(ctx, ds.key.tenant, ds.key.name, after, now, page)
	if err != nil {
		restore(after)
		return err
	}
	payloads, err := d.payloads(ctx, ds.key.tenant, rows)
	if err != nil {
		restore(after)
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range rows {
		p := payloads[rows[i].EventID]
		if p == nil {
			continue
		}
		switch d.offer(rows[i], p) {
		case taken:
		case parked:
			return nil // offer set the mark at this row
		case tooMuch:
			// Its queue may be empty, so nothing of its own would ask again.
			ds.park(keyBefore(&rows[i]))
			b.refill[ds] = struct{}{}
			b.waiting = true
			return nil
		}
	}
	if len(rows) == page {
		last := &rows[len(rows)-1]
		ds.park(belfry.DueKey{Due: last.Due, ID: last.ID})
		d.ready(ds)
	}
	return nil
}

// scan moves the cursor over everything due by now.
func (d *Dispatcher) scan(ctx context.Context, b *backlog, now time.Time) error {
	for {
		d.mu.Lock()
		after := b.cursor
		full := len(d.held) >= d.o.Window
		if full {
			b.waiting = true
		}
		d.mu.Unlock()
		if full {
			return nil
		}
		n, err := d.scanPage(ctx, b, after, now)
		if err != nil || n < 0 {
			return err
		}
		if n < page {
			break
		}
	}
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
	d.beginRead()
	defer d.endRead()
	d.mu.Lock()
	b.asked = nil
	d.mu.Unlock()
	rows, err := d.o.Store.DueDeliveries(ctx, b.tenant, after, now, page, d.o.Shards.Mine(belfry.LeaseDelivery))
	if err != nil {
		return 0, err
	}
	payloads, err := d.payloads(ctx, b.tenant, rows)
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, key := len(rows), after
	for i := range rows {
		if p := payloads[rows[i].EventID]; p != nil && d.offer(rows[i], p) == tooMuch {
			b.waiting = true
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

// payloads loads the events of rows that are not in memory. A row whose
// delivery leaves memory before it is offered has none and needs none: it is
// among the released.
func (d *Dispatcher) payloads(ctx context.Context, tenant string, rows []belfry.Delivery) (map[string]*Payload, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]string, 0, len(rows))
	seen := make(map[string]bool, len(rows))
	d.mu.Lock()
	for i := range rows {
		if _, held := d.held[rows[i].ID]; !held && !seen[rows[i].EventID] {
			seen[rows[i].EventID] = true
			ids = append(ids, rows[i].EventID)
		}
	}
	d.mu.Unlock()
	events, err := d.o.Store.Events(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*Payload, len(events))
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

package pipeline

import "github.com/belfryhq/belfry/internal/belfry"

// The window is what is in memory over all tenants. A tenant may fill it as
// long as four times as much is left as it would take from it: one alone has
// four fifths, two have four ninths each, and whoever comes last finds room,
// however much the others have waiting.
const tenantPart = 4

// fits reports whether the window has room for one more of a tenant. d.mu is
// held.
func (d *Dispatcher) fits(b *backlog, size int) bool {
	n, bytes := d.o.Window-len(d.held), d.o.WindowBytes-d.bytes
	if n <= 0 || size > bytes && len(d.held) > 0 {
		return false
	}
	return b.held < tenantPart*n && (b.bytes+size <= tenantPart*bytes || b.held == 0)
}

// fitsUrgent reports whether there is room for what is urgent, which may go
// beyond the window by a sixteenth. d.mu is held.
func (d *Dispatcher) fitsUrgent(size int) bool {
	return len(d.held) < d.o.Window+d.o.Window/16 && d.bytes+size <= d.o.WindowBytes+d.o.WindowBytes/16
}

// hold takes a place in memory. d.mu is held.
func (d *Dispatcher) hold(b *backlog, dv *belfry.Delivery, size int) {
	d.held[dv.ID] = uint8(dv.Shard)
	d.heldBy[dv.Shard]++
	d.bytes += size
	b.held++
	b.bytes += size
}

// release takes a delivery out of memory. d.mu is held.
func (d *Dispatcher) release(b *backlog, dv *belfry.Delivery, size int) {
	id := dv.ID
	shard := d.held[id]
	delete(d.held, id)
	d.unmark(id)
	if d.heldBy[shard]--; d.heldBy[shard] == 0 && d.o.Shards.Shared() { // somebody may wait in Leave
		close(d.emptied)
		d.emptied = make(chan struct{})
	}
	d.bytes -= size
	b.held--
	b.bytes -= size
	if d.reading {
		d.released[id] = markOf(dv)
	}
	if d.waiting == 0 {
		return
	}
	if b.waiting && b.held <= b.enough {
		d.relieve(b)
	}
	if d.relieved++; d.relieved >= min(d.o.Window/8, len(d.held)/2) {
		d.relieved = 0
		for _, b := range d.backlogs {
			if b.waiting && b.held <= max(b.enough, d.o.Window-len(d.held)) {
				d.relieve(b)
			}
		}
	}
}

// wait notes that a tenant's backlog found no room: it is read on when half of
// what the tenant has in memory is sent, or enough of what others have. d.mu is
// held.
func (d *Dispatcher) wait(b *backlog) {
	if !b.waiting {
		b.waiting = true
		b.enough = b.held / 2
		d.waiting++
	}
}

// relieve has a backlog read on. d.mu is held.
func (d *Dispatcher) relieve(b *backlog) {
	b.waiting, b.dirty = false, true
	d.waiting--
	d.poke()
}

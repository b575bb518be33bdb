package pipeline

import (
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// rowMark is a row as it was last read while its delivery was in memory.
type rowMark struct {
	due            int64 // microseconds, as it is stored
	attempts, base int
}

func markOf(d *belfry.Delivery) rowMark { return rowMark{d.Due.UnixMicro(), d.Attempts, d.Base} }

// Revoke takes deliveries out of memory that were cancelled in the table. It
// answers for each whether it is being sent at this moment, or may be: that one
// may still arrive, and is not tried again.
func (d *Dispatcher) Revoke(tenant string, ids []string) (inFlight []bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	inFlight = make([]bool, len(ids))
	queued := map[string]bool{}
	for _, id := range ids {
		if d.reading {
			d.released[id] = rowMark{} // what is being read may be older than the cancel: it is read again
		}
		if _, held := d.held[id]; held {
			queued[id] = false
			d.revoked[id] = struct{}{}
		}
	}
	for key, ds := range d.dests { // what waited for one of them may go now
		if key.tenant == tenant {
			d.unbar(ds)
		}
	}
	if len(queued) == 0 {
		return inFlight
	}
	// The window bounds how many are looked at.
	for key, ds := range d.dests {
		if key.tenant != tenant {
			continue
		}
		pulled := d.pull(ds, func(it *item) bool {
			if _, gone := queued[it.d.ID]; gone {
				queued[it.d.ID] = true
				return true
			}
			return false
		})
		if pulled {
			d.ready(ds)
			d.tidy(ds)
		}
	}
	d.revocations.Store(int32(len(d.revoked)))
	for i, id := range ids {
		out, held := queued[id]
		inFlight[i] = held && !out
	}
	return inFlight
}

// Recovered forgets what made the Dispatcher hold a destination back: somebody
// says that it is well.
func (d *Dispatcher) Recovered(tenant, destination string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.lanes {
		if key.tenant != tenant {
			continue
		}
		if ds := d.dests[destKey{tenant, key.channel, destination}]; ds != nil {
			ds.health = newHealth()
			d.unbar(ds)
			d.ready(ds)
		}
	}
}

// Resume makes the Dispatcher try every destination of a tenant again: something
// that held all of them back may be over.
func (d *Dispatcher) Resume(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resumes.Add(1)
	for key, ds := range d.dests {
		if key.tenant == tenant && ds.paused {
			ds.paused = false
			d.ready(ds)
		}
	}
	d.backlogOf(tenant).rewind(belfry.DueKey{})
	d.poke()
}

// isRevoked reports whether a delivery was cancelled since it came into memory.
func (d *Dispatcher) isRevoked(id string) bool {
	if d.revocations.Load() == 0 { // nearly always: spares the lock
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, is := d.revoked[id]
	return is
}

// drop lets go of a delivery that this process has nothing more to do with. If
// its row was changed while it was in memory, a retry of what was just
// recorded or cancelled, the row is looked at again. d.mu is held.
func (d *Dispatcher) drop(it *item) {
	mark, seen := d.seen[it.d.ID]
	d.release(d.backlogOf(it.d.Tenant), &it.d, it.size)
	if seen && mark != markOf(&it.d) {
		d.backlogOf(it.d.Tenant).rewind(keyBefore(&belfry.Delivery{ID: it.d.ID, Due: time.UnixMicro(mark.due).UTC()}))
		d.poke()
	}
}

// unmark forgets what is known of a delivery that leaves memory. d.mu is held.
func (d *Dispatcher) unmark(id string) {
	delete(d.seen, id)
	if len(d.revoked) > 0 {
		delete(d.revoked, id)
		d.revocations.Store(int32(len(d.revoked)))
	}
}

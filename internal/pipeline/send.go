package pipeline

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/time/rate"

	"github.com/belfryhq/belfry/internal/belfry"
)

// sendTimeout is the least time a send has, whatever its channel's own
// time-outs are; they are shorter.
const sendTimeout = 90 * time.Second

// record is an attempt on its way to door 3 with what is to be done after.
type record struct {
	attempt belfry.Attempt
	ds      *dest
	it      item
}

// send carries out one delivery and passes what became of it to the recorder.
func (d *Dispatcher) send(ctx context.Context, ds *dest, it item) {
	start := d.o.Now()
	composed, out, ok := d.try(ctx, ds, &it)
	if !ok && d.isRevoked(it.d.ID) {
		d.mu.Lock()
		d.done(ds, false, 0, d.o.Now())
		d.unspent(ds.lane, start)
		d.drop(&it)
		d.overtaken(ds, it.d.Line)
		d.ready(ds)
		d.tidy(ds)
		d.mu.Unlock()
		return
	}
	if !ok && len(composed.Awaits) > 0 {
		if d.setAside(ds, &it, &composed, start) {
			return
		}
		d.pause(ds, 10*time.Millisecond) // what it waits for may have come meanwhile
	}
	if !ok { // stays as it is: a paused endpoint, or a database that is away
		d.mu.Lock()
		ds.running--
		ds.lane.busy[ds.speed]--
		d.unspent(ds.lane, start)
		ds.park(&it.d)
		d.release(ds.b, &it.d, it.size)
		d.forget(ds)
		delete(ds.lines, it.d.Line)
		d.ready(ds)
		d.mu.Unlock()
		return
	}
	now := d.o.Now()
	var a belfry.Attempt
	unsent := composed.Drop != nil || composed.Hold
	if composed.Hold {
		a = belfry.Attempt{Tenant: it.d.Tenant, DeliveryID: it.d.ID, At: now, State: belfry.Held, Due: now}
	} else if composed.Drop != nil {
		a = belfry.Attempt{Tenant: it.d.Tenant, DeliveryID: it.d.ID, At: now, State: belfry.Suppressed, Due: it.d.Due, Because: composed.Drop}
	} else {
		a = settle(&it.d, out, start, now.Sub(start), composed.Waits, d.o.Jitter())
	}
	a.Bundle, a.Dropped = it.d.Bundle, composed.Dropped
	if instead(&it.d, &a) {
		then, err := d.o.Fallback.Next(ctx, &it.d, it.p, &a)
		if a.Then = then; err != nil {
			d.o.Log.Error("looking for another way", "delivery", it.d.ID, "error", err)
			later(&a, now)
		}
	}
	d.mu.Lock()
	d.done(ds, !unsent, now.Sub(start), now)
	if unsent {
		d.unspent(ds.lane, start)
	}
	if !unsent {
		d.o.Counters.attempt(it.d.Channel, out, now.Sub(start))
		if ds.health.note(out, now) {
			d.o.Log.Warn("destination fails, pausing it", "tenant", ds.key.tenant, "destination", ds.key.name,
				"failures", ds.health.failures, "until", ds.health.openUntil, "detail", out.Detail)
		}
		if until := ds.health.blockedUntil(now); until.Sub(now) > brief {
			d.forget(ds)
		}
	}
	d.ready(ds)
	d.mu.Unlock()
	d.records <- record{attempt: a, ds: ds, it: it}
}

// try composes and sends; ok is false when the delivery is to stay untouched.
func (d *Dispatcher) try(ctx context.Context, ds *dest, it *item) (c Composed, out belfry.Outcome, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			d.o.Log.Error("panic while sending", "delivery", it.d.ID, "channel", it.d.Channel, "panic", r, "stack", string(debug.Stack()))
			out, ok = belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: fmt.Sprintf("internal fault: %v", r)}, true
		}
	}()
	if !d.o.Shards.MaySend() {
		d.pause(ds, time.Second) // another process may take over at any moment
		return c, out, false
	}
	resumes := d.resumes.Load()
	c, err := d.o.Composer.Compose(ctx, &it.d, it.p)
	if err != nil {
		if belfry.KindOf(err) == belfry.Unavailable || d.sendCtx.Err() != nil {
			d.pause(ds, time.Second)
			return c, out, false
		}
		return c, belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: err.Error()}, true
	}
	if c.Wait {
		d.mu.Lock()
		over := d.resumes.Load() != resumes // what it waits for may have come meanwhile
		ds.paused = !over
		d.mu.Unlock()
		if over {
			d.pause(ds, 10*time.Millisecond)
		}
		return c, out, false
	}
	if len(c.Awaits) > 0 {
		c.resumes = resumes
		return c, out, false
	}
	if c.Drop != nil || c.Hold {
		return c, out, true
	}
	d.grant(ds, terms{rate: c.Rate, concurrency: c.Concurrency})
	if d.isRevoked(it.d.ID) {
		return c, out, false
	}
	ch, found := d.o.Channels.Channel(it.d.Tenant, it.d.Channel)
	if !found {
		return c, belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "channel " + it.d.Channel + " is not set up"}, true
	}
	out = ch.Sender.Send(ctx, c.Target, c.Message)
	if out.Kind == belfry.OutcomeRetry && d.sendCtx.Err() != nil {
		return c, out, false // cut off by our own stop, not by the destination
	}
	return c, out, true
}

// pause keeps a destination quiet for a moment.
func (d *Dispatcher) pause(ds *dest, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ds.health.notBefore = d.o.Now().Add(wait)
	d.later(ds, ds.health.notBefore)
}

// grant keeps a destination's limits in step with the terms it grants.
func (d *Dispatcher) grant(ds *dest, t terms) {
	switch known := ds.terms.Load(); {
	case known != nil && *known == t, known == nil && ds.lane.relay && t == terms{}:
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ds.terms.Store(&t)
	switch {
	case t.rate <= 0:
		ds.limiter = nil
	case ds.limiter == nil:
		ds.limiter = rate.NewLimiter(rate.Limit(t.rate), max(1, int(t.rate)))
		ds.limiter.AllowN(d.o.Now(), min(ds.running, ds.limiter.Burst())) // those under way
	case float64(ds.limiter.Limit()) != t.rate:
		ds.limiter.SetLimitAt(d.o.Now(), rate.Limit(t.rate))
		ds.limiter.SetBurstAt(d.o.Now(), max(1, int(t.rate)))
	}
	d.ready(ds) // others may follow the first
}

// batch is how many attempts one door-3 call carries at most.
const batch = 512

// linger is how long a busy dispatcher gathers attempts for one call, and
// manyAttempts how many in the call before make it a busy one. Rows that are
// planned together lie together: the more of them are recorded at once, the
// fewer pages the database writes. When little is sent nothing waits.
const (
	linger       = 20 * time.Millisecond
	manyAttempts = 8
)

// record carries attempts to door 3 until records is closed. A delivery stays
// in memory until its attempt is durable, so it cannot be read and sent again.
func (d *Dispatcher) record(ctx context.Context) {
	rs := make([]record, 0, batch)
	as := make([]belfry.Attempt, 0, batch)
	for {
		rs = d.gather(rs[:0])
		if len(rs) == 0 {
			return
		}
		as = as[:0]
		for i := range rs {
			as = append(as, rs[i].attempt)
		}
		applied := d.commit(ctx, as)
		d.settled(ctx, rs, applied)
	}
}

// gather waits for attempts and gives as many as there are, a batch at most;
// none when records is closed and empty. One recorder gathers while the other
// commits.
func (d *Dispatcher) gather(rs []record) []record {
	d.gathering <- struct{}{}
	defer func() { <-d.gathering }()
	r, ok := <-d.records
	if !ok {
		return rs
	}
	rs = append(rs, r)
	var patience <-chan time.Time // none: what is there is enough
	if d.many && r.it.d.Line == 0 {
		t := time.NewTimer(linger)
		defer t.Stop()
		patience = t.C
	}
	for len(rs) < batch && ok {
		select {
		case r, ok = <-d.records:
		default:
			if patience == nil {
				ok = false
				break
			}
			select {
			case r, ok = <-d.records:
			case <-patience:
				ok = false
			}
		}
		if ok {
			rs = append(rs, r)
			if r.it.d.Line != 0 {
				patience = nil // the next of its line waits for it
			}
		}
	}
	d.many = len(rs) >= manyAttempts
	return rs
}

// commit repeats until the store has taken the attempts: what was sent must
// not be forgotten because the database is away for a while. On stop the grace
// ends it; then the sends count as in flight and are repeated. So they are when
// another process was given what this one had. The answer says what was applied.
func (d *Dispatcher) commit(ctx context.Context, as []belfry.Attempt) []bool {
	wait := 50 * time.Millisecond
	for {
		applied, err := d.o.Store.RecordAttempts(ctx, as)
		if err == nil {
			return applied
		}
		d.o.Log.Error("recording attempts", "attempts", len(as), "error", err)
		if belfry.KindOf(err) == belfry.Conflict {
			return make([]bool, len(as))
		}
		select {
		case <-ctx.Done():
			return make([]bool, len(as))
		case <-time.After(wait):
			wait = min(2*wait, 5*time.Second)
		}
	}
}

// again sees to the next try of a delivery. When recording took longer than the
// wait, the cursor may be past the row already. d.mu is held.
func (d *Dispatcher) again(r *record) {
	b := d.backlogOf(r.it.d.Tenant)
	next := r.it.d
	next.Due = r.attempt.Due
	if next.Due.After(d.o.Now()) {
		b.expect(next.Due)
	} else {
		b.rewind(keyBefore(&next))
	}
	d.poke()
}

// settled lets go of deliveries whose attempts are durable. One that was not
// applied came second: the table says what is to be done now.
func (d *Dispatcher) settled(ctx context.Context, rs []record, applied []bool) {
	d.mu.Lock()
	for i := range rs {
		r := &rs[i]
		_, revoked := d.revoked[r.it.d.ID]
		d.drop(&r.it)
		if r.it.d.Line != 0 {
			d.advance(r, applied[i] && !revoked)
		}
		switch {
		case revoked, r.attempt.State == belfry.Held && applied[i]: // nothing more is to be done here
		case r.attempt.State.Open():
			d.again(r)
		case !applied[i] && d.o.Shards.Shared():
			d.backlogOf(r.it.d.Tenant).rewind(belfry.DueKey{})
			d.poke()
		}
		d.ready(r.ds)
		d.tidy(r.ds)
	}
	d.planned(rs, applied)
	d.mu.Unlock()
	d.told(rs, applied)
	var calls []Call
	for i := range rs {
		a := &rs[i].attempt
		if a.Outcome.Kind == belfry.OutcomeGone && a.Because == nil {
			if err := d.o.Aftermath.Gone(ctx, &rs[i].it.d, a.Outcome); err != nil {
				d.o.Log.Error("recording a dead address", "delivery", a.DeliveryID, "error", err)
			}
		}
		if rs[i].it.d.Channel == belfry.ChannelWebhook && a.N > 0 && a.Because == nil && a.Outcome.Kind != belfry.OutcomeGone {
			calls = append(calls, Call{&rs[i].it.d, a.Outcome})
		}
		if a.State != belfry.Delivered && (a.N > 0 || a.Because != nil) {
			d.o.Log.Info("attempt", "tenant", a.Tenant, "delivery", a.DeliveryID, "channel", rs[i].it.d.Channel,
				"destination", rs[i].it.d.Destination, "n", a.N, "outcome", a.Outcome.Kind.String(), "status", a.Outcome.Status,
				"state", a.State.String(), "took", a.Took, "detail", a.Outcome.Detail)
		}
	}
	if len(calls) > 0 {
		if err := d.o.Aftermath.Ended(ctx, calls); err != nil {
			d.o.Log.Error("following how endpoints do", "calls", len(calls), "error", err)
		}
	}
}

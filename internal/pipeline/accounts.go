package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// Permits are where processes share the limits of provider accounts: each
// takes a slice of what a window has left and works it off in memory.
type Permits interface {
	// TakePermits takes up to want of an account's limit for the window of a
	// length that begins at start, and never more than is left.
	TakePermits(ctx context.Context, tenant, channel string, start time.Time, span time.Duration, limit, want int) (got int, err error)
	ReturnPermits(ctx context.Context, tenant, channel string, start time.Time, span time.Duration, n int) error
}

const (
	day = 24 * time.Hour // of UTC: Truncate counts from a midnight

	maxSlice      = 256
	permitTimeout = 10 * time.Second
	permitRetry   = time.Second // when the store is away
)

// sliceSize is how much of a limit is taken at once: little enough that
// processes share what there is and a crash loses little, and enough for four
// calls of the store a second.
func sliceSize(limit int, span time.Duration) int {
	if span < day {
		return max(1, (limit+3)/4)
	}
	return min(max(1, limit/100), maxSlice)
}

type accountKey struct{ tenant, channel string }

// account is what is limited as one: what a provider allows a tenant's channel,
// or one that all tenants share, and what the server allows one tenant of that.
// d.mu guards all of it.
type account struct {
	key    accountKey
	name   string // of the channel
	why    string // reason of what waits for it
	limits channel.Limits
	lanes  map[*lane]struct{}
	second slice // or minute: limits.Pace
	day    slice
	taking bool

	shutUntil time.Time // nothing is to be had before
	usedUp    time.Time // the end of the day of which nothing is left
	timer     *time.Timer

	next   time.Time // when the next that finds no room in memory is due
	filled int       // how many are due then
}

// slice is what was taken of a window and is not used yet.
type slice struct {
	start time.Time
	left  int
}

func (s *slice) has(now time.Time, span time.Duration) bool {
	return s.left > 0 && s.start.Equal(now.Truncate(span))
}

func (a *account) has(now time.Time) bool {
	n, span := a.limits.Pace()
	return (n == 0 || a.second.has(now, span)) && (a.limits.PerDay == 0 || a.day.has(now, day))
}

// waits reports whether there is nothing to be done now but wait.
func (a *account) waits(now time.Time) bool { return a.taking || a.shutUntil.After(now) }

func (a *account) spend() {
	if n, _ := a.limits.Pace(); n > 0 {
		a.second.left--
	}
	if a.limits.PerDay > 0 {
		a.day.left--
	}
}

// unspent gives back of the day what began and was not sent after all. What
// began at the very start of a day may have been of the day before. d.mu is
// held.
func (d *Dispatcher) unspent(l *lane, began time.Time) {
	if d.sendCtx.Err() != nil {
		return // a send that was cut off may have arrived
	}
	for _, a := range l.accounts {
		if a.limits.PerDay > 0 && a.day.start.Equal(began.Add(-time.Minute).Truncate(day)) {
			a.day.left++
		}
	}
}

// postponed is a delivery in memory that is put off: it waits on disk.
type postponed struct {
	ds  *dest
	it  item
	due time.Time
	why *belfry.Reason // nil = it waits its turn, a little
}

const (
	spreadSteps  = 2 // of the short window at a time
	spreadAtMost = time.Hour
)

// putOff says until when a delivery is put off, zero = not at all, and why. When
// the day is used up all wait for the next. Of those that a limit a second lets
// through slowly, some seconds' worth waits in memory, so that they leave room
// for other channels; the others come back about when their turn is. What is
// urgent is not passed by.
func (a *account) putOff(it *item, queued int, now time.Time) (time.Time, *belfry.Reason) {
	if it.d.Line != 0 {
		return time.Time{}, nil // lines have a memory of their own
	}
	if a.usedUp.After(now) {
		return a.usedUp, a.because(a.limits.PerDay, "a day", a.usedUp)
	}
	n, span := a.limits.Pace()
	if n == 0 || queued < 4*n+16 || urgencyOf(it.d.Priority) == urgent {
		return time.Time{}, nil
	}
	step := spreadSteps * span
	if soonest := now.Add(2 * step).Truncate(span); a.next.Before(soonest) {
		a.next, a.filled = soonest, 0
	}
	due := a.next
	if a.filled++; a.filled >= n*spreadSteps && due.Sub(now) < spreadAtMost {
		a.next, a.filled = due.Add(step), 0
	}
	if span == time.Second {
		return due, nil
	}
	return due, a.because(n, "a minute", due)
}

// because is why something waits for the account.
func (a *account) because(n int, within string, until time.Time) *belfry.Reason {
	return &belfry.Reason{Code: a.why, Detail: fmt.Sprintf("%d %s: waits until %s", n, within, until.UTC().Format(time.RFC3339))}
}

// putOff is that of the lane's accounts, the longest.
func (l *lane) putOff(it *item, queued int, now time.Time) (due time.Time, why *belfry.Reason) {
	for _, a := range l.accounts {
		if until, because := a.putOff(it, queued, now); until.After(due) {
			due, why = until, because
		}
	}
	return due, why
}

// limit finds the accounts of a lane and what limits them now. d.mu is held.
func (d *Dispatcher) limit(l *lane) {
	ch, ok := d.o.Channels.Channel(l.key.tenant, l.key.channel)
	var now []*account
	add := func(key accountKey, why string, limits channel.Limits) {
		if !ok || limits == (channel.Limits{}) {
			return
		}
		a := d.accounts[key]
		if a == nil {
			a = &account{key: key, name: l.key.channel, why: why, lanes: map[*lane]struct{}{}}
			d.accounts[key] = a
		}
		if a.limits != limits {
			a.limits = limits
			a.shutUntil, a.usedUp, a.next = time.Time{}, time.Time{}, time.Time{}
		}
		a.lanes[l] = struct{}{}
		now = append(now, a)
	}
	// The share first: who has used hers up takes nothing of what all share.
	add(accountKey{l.key.tenant, belfry.ShareOf(l.key.channel)}, belfry.OverShare, ch.Share)
	add(accountKey{ch.Owner, l.key.channel}, belfry.OverAccount, ch.Limits)
	for _, a := range l.accounts {
		if !slices.Contains(now, a) {
			delete(a.lanes, l)
		}
	}
	l.accounts = now
}

// Relimit follows an edit of a tenant's channels, or of its share of others;
// without a tenant it is that of any. What was put off to another day stays so.
func (d *Dispatcher) Relimit(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, l := range d.lanes {
		if key.tenant == tenant || tenant == "" {
			d.limit(l)
			d.spawn(l)
		}
	}
}

// permitted reports whether the lane's accounts let a send begin; when what was
// taken is used it has more taken. d.mu is held, by a runner.
func (d *Dispatcher) permitted(l *lane, now time.Time) bool {
	if l.shut() {
		return false
	}
	for _, a := range l.accounts {
		if !a.has(now) {
			a.taking = true
			d.runners.Add(1)
			go d.take(a, a.limits, a.second, a.day)
			return false
		}
	}
	return true
}

// take takes what is missing of a slice for this second and this day, and lets
// the account's lanes go on, or wait for the next window.
func (d *Dispatcher) take(a *account, limits channel.Limits, second, today slice) {
	defer d.runners.Done()
	ctx, cancel := context.WithTimeout(d.sendCtx, permitTimeout)
	defer cancel()
	var err error
	fill := func(s *slice, limit int, span time.Duration) (got bool) {
		now := d.o.Now()
		if limit == 0 || s.has(now, span) {
			return true
		}
		*s = slice{start: now.Truncate(span)}
		s.left, err = d.o.Permits.TakePermits(ctx, a.key.tenant, a.key.channel, s.start, span, limit, sliceSize(limit, span))
		return err == nil && s.left > 0
	}
	anyDay := fill(&today, limits.PerDay, day)
	n, span := limits.Pace()
	ok := anyDay && fill(&second, n, span)

	d.mu.Lock()
	defer d.mu.Unlock()
	a.taking, a.second, a.day = false, second, today
	if d.closing {
		return
	}
	switch now := d.o.Now(); {
	case ok || a.limits != limits:
	case err != nil:
		d.o.Log.Error("taking of the limit of a channel's account", "tenant", a.key.tenant, "channel", a.key.channel, "error", err)
		d.shut(a, now.Add(permitRetry))
	case anyDay:
		d.shut(a, second.start.Add(span))
	default:
		a.usedUp = today.start.Add(day)
		says := "the daily limit of a channel is used up: its messages wait for the next day (UTC)"
		if a.why == belfry.OverShare {
			says = "the daily limit of a tenant on a channel is used up: its messages wait for the next day (UTC)"
		}
		d.o.Log.Warn(says, "tenant", a.key.tenant, "channel", a.name, "limit", limits.PerDay, "until", a.usedUp)
		d.shut(a, a.usedUp)
		for _, ds := range d.dests {
			if slices.Contains(ds.lane.accounts, a) {
				d.putOffAll(ds, now)
			}
		}
	}
	for l := range a.lanes {
		d.spawn(l)
	}
}

// shut has an account's lanes wait, and wakes them once. d.mu is held.
func (d *Dispatcher) shut(a *account, until time.Time) {
	a.shutUntil = until
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timer = time.AfterFunc(until.Sub(d.o.Now())+time.Millisecond, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for l := range a.lanes {
			d.spawn(l)
		}
	})
}

// putOffAll puts off what waits in memory for a destination. d.mu is held.
func (d *Dispatcher) putOffAll(ds *dest, now time.Time) {
	for u, q := range ds.queues {
		var stay []item
		for _, it := range q {
			if due, why := ds.lane.putOff(&it, 0, now); due.IsZero() {
				stay = append(stay, it)
			} else {
				ds.count(-1, it.size)
				ds.lane.surplus = append(ds.lane.surplus, postponed{ds, it, due, why})
			}
		}
		ds.queues[u] = stay
	}
}

// surrender gives back what is left of the day; that of a second is over
// sooner. It is for the end, when nothing is sent any more.
func (d *Dispatcher) surrender(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, permitTimeout)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.accounts {
		if !a.day.has(d.o.Now(), day) {
			continue
		}
		if err := d.o.Permits.ReturnPermits(ctx, a.key.tenant, a.key.channel, a.day.start, day, a.day.left); err != nil {
			d.o.Log.Error("giving back of the daily limit of a channel", "tenant", a.key.tenant, "channel", a.key.channel, "unused", a.day.left, "error", err)
		}
		a.day.left = 0
	}
}

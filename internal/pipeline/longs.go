package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// longLane plans what has several pages, beside the workers, for all of them:
// a page is short, its commit is shared with others, and the plans take turns
// page by page. So nobody else's event waits longer than for one such page
// however many people the large ones have, and large ones take no more than one
// processor from the others. While a page is committed the next one is made.
// While the workers have something to plan the lane rests after each page for
// longRests times as long as the page took: the busier the machine and its disk,
// the longer that is, up to longestRest. While the workers have nothing to plan, pages are as long as first ones are,
// and each twice as long as the one before up to LonePage: then nobody waits,
// and long pages cost less together.
//
// The later events of a long plan's object wait for its end, in order. Whoever
// joins, leaves or is edited while it runs is told or not by what is known when
// her page is made: pages go through people in one order and never back, so
// everybody is decided once.
type longLane struct {
	mu    sync.Mutex
	queue []*long
	wake  chan struct{}
	short atomic.Int64 // how often the workers planned something
}

// How the lane rests while others are planned. A page of 256 people then comes
// every 50 ms at the least: a million are planned within four minutes on however
// busy a machine, and otherwise in about one.
const (
	longRests   = 3
	longestRest = 50 * time.Millisecond
)

// rest is how long the lane rests after a page that took so long to make and to
// commit, with others planned beside it or not: the shorter, the more plans are
// in the lane or wait for it, so that what comes faster than it rests does not pile up. A clock
// that steps does not make it longer.
func rest(beside bool, plans int, took time.Duration) time.Duration {
	if !beside {
		return 0
	}
	return min(longRests*max(took, 0), longestRest) / time.Duration(max(plans, 1))
}

// objectKey is what keeps the order of its events.
type objectKey struct{ tenant, object string }

func (j *job) object() objectKey {
	return objectKey{j.acc.Tenant, j.acc.Event.ObjectOrRoot()}
}

// long is an event whose plan has several pages, and the later events of its
// object, which wait for it.
type long struct {
	job   job // the lane's, but for its event
	w     *worker
	made  int // people of the pages made so far, about
	limit int // of the page before; 0 = not known
	// alone is how often the workers had planned something when one had made the
	// first page, and had nothing else: as long as that stays nobody waits. 0 = it
	// had, or is not known.
	alone int64
	gone  atomic.Bool
	after []job // w.mu
}

// plans is how many are in the lane with the one whose turn it is, and how many
// events wait for its end.
func (ll *longLane) plans(turn *long) int {
	ll.mu.Lock()
	n := len(ll.queue) + 1
	ll.mu.Unlock()
	turn.w.mu.Lock()
	defer turn.w.mu.Unlock()
	return n + len(turn.after)
}

// keptPeople is how many people of a long plan are kept in memory for the next
// event to them. Of more, those that were read first would be pushed out before
// they are asked for again, and everybody else's with them.
const keptPeople = 10_000

// take gives up to n jobs of the queue; those whose object has a long plan
// under way wait for its end.
func (p *Planner) take(w *worker, n int) []job {
	w.mu.Lock()
	defer w.mu.Unlock()
	jobs := make([]job, 0, min(n, len(w.queue)))
	rest := w.queue[:0]
	for i, j := range w.queue {
		if len(jobs) == n {
			rest = append(rest, w.queue[i:]...)
			break
		}
		switch l := w.longs[j.object()]; {
		case l == nil && j.cursor == "":
			jobs = append(jobs, j)
		case l == nil: // begun before, by a process that ended
			l = &long{job: j, w: w, made: keptPeople}
			w.longs[j.object()] = l
			p.longs.put(l)
		case len(l.after) < p.o.Queue:
			l.after = append(l.after, j)
		default:
			rest = append(rest, j)
		}
	}
	clear(w.queue[len(rest):])
	w.queue = rest
	return jobs
}

// begin notes that a job's plan goes on after the page just made. Of the jobs
// that were taken with it, those of its object wait for it; the others are given
// back.
func (w *worker) begin(j job, with []job) (l *long, others []job) {
	l = &long{job: j, w: w}
	for _, o := range with {
		if o.object() == j.object() {
			l.after = append(l.after, o)
		} else {
			others = append(others, o)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longs[j.object()] = l
	return l, others
}

// ended lets the events that waited for a long plan go on, before all others.
func (l *long) ended() {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	l.gone.Store(true)
	delete(w.longs, l.job.object())
	w.queue = append(l.after, w.queue...)
	l.after = nil
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// leave lets go of a plan whose shard is not this process's any more, and of what
// waits for it: whoever has the shard now goes on at the cursor.
func (p *Planner) leave(l *long) {
	w := l.w
	w.mu.Lock()
	l.gone.Store(true)
	delete(w.longs, l.job.object())
	after := l.after
	l.after = nil
	w.mu.Unlock()
	for i := range after {
		p.drop(&after[i])
	}
	p.drop(&l.job)
}

// continues puts a plan in line when its first page was committed.
func (p *Planner) continues(l *long, first *planned, err error) {
	if err != nil {
		l.ended()
		p.Requeue() // whoever moved the cursor may not be there any more
		return
	}
	l.job.cursor = first.page.To
	l.made = len(first.page.Deliveries) + len(first.page.Suppressions)
	p.longs.put(l)
}

func (ll *longLane) put(l *long) {
	ll.mu.Lock()
	defer ll.mu.Unlock()
	ll.queue = append(ll.queue, l)
	select {
	case ll.wake <- struct{}{}:
	default:
	}
}

// next is the plan whose turn it is; nil when ctx ended.
func (ll *longLane) next(ctx context.Context) *long {
	for ctx.Err() == nil {
		ll.mu.Lock()
		if len(ll.queue) > 0 {
			l := ll.queue[0]
			ll.queue[0] = nil
			ll.queue = ll.queue[1:]
			ll.mu.Unlock()
			return l
		}
		ll.mu.Unlock()
		select {
		case <-ll.wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// planLongs makes page after page until ctx ends, the plans in turn. One page
// at most is made that is not on its way through door 2 yet.
func (p *Planner) planLongs(ctx context.Context) {
	pages := make(chan planned)
	var committing sync.WaitGroup
	committing.Go(func() {
		for pl := range pages {
			start := p.o.Now()
			p.commitLong(ctx, &pl)
			if r := rest(pl.beside, pl.plans, pl.took+p.o.Now().Sub(start)); r > 0 {
				sleep(ctx, r)
			}
		}
	})
	defer committing.Wait()
	defer close(pages)
	short := int64(-1)
	for {
		l := p.longs.next(ctx)
		if l == nil {
			return
		}
		if l.gone.Load() {
			continue
		}
		if !p.o.Shards.Has(belfry.LeasePlan, l.job.shard()) {
			select {
			case pages <- planned{job: l.job, long: l, left: true}: // behind its last page
				continue
			case <-ctx.Done():
				return
			}
		}
		limit, n := p.o.LongPage, p.longs.short.Load()
		beside := n != short && n != l.alone
		if short = n; !beside {
			limit = max(limit, p.o.Page, min(2*l.limit, p.o.LonePage))
		}
		l.limit = limit
		start := p.o.Now()
		page, ok := p.pageOf(ctx, &l.job, part{limit: limit, passing: l.made >= keptPeople})
		if !ok {
			return
		}
		pl := planned{job: l.job, page: page, payload: NewPayload(l.job.acc), long: l, beside: beside, plans: p.longs.plans(l), took: p.o.Now().Sub(start)}
		l.job.cursor = page.To
		l.made += len(page.Deliveries) + len(page.Suppressions)
		select {
		case pages <- pl:
		case <-ctx.Done():
			return
		}
		if !page.Last {
			p.longs.put(l)
		}
	}
}

// commitLong passes one page of a long plan through door 2. No place in memory
// is held for what it tells: a later page may name an address an earlier one
// already told, which the table knows and memory does not.
func (p *Planner) commitLong(ctx context.Context, pl *planned) {
	if pl.long.gone.Load() {
		return // the page before it was not ours to commit
	}
	if pl.left {
		p.leave(pl.long)
		return
	}
	pl.places = make([]bool, len(pl.page.Deliveries))
	errs := p.commit(ctx, []planned{*pl})
	if errs == nil {
		return
	}
	p.tellMoved([]planned{*pl}, errs)
	p.committed(pl, errs[0])
	if errs[0] != nil || pl.page.Last {
		pl.long.ended()
	}
	if errs[0] != nil {
		p.Requeue() // whoever moved the cursor may not be there any more
	}
}

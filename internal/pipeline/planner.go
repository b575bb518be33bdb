package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// PlanStore is what the Planner needs of the store.
type PlanStore interface {
	Tenants(ctx context.Context) ([]string, error)
	PendingPlans(ctx context.Context, tenant, after string, limit int) ([]belfry.PendingPlan, error)
	CommitPlans(ctx context.Context, pages []belfry.PlanPage) ([]error, error)
}

// PlannerOptions are the parts a Planner works with; all are needed.
type PlannerOptions struct {
	Store      PlanStore
	Stages     *Stages
	Dispatcher *Dispatcher
	Watch      *Watch
	Counters   *Counters
	Log        *slog.Logger
	Now        func() time.Time

	Workers int           // planners side by side; each owns the objects of some shards
	Queue   int           // events in memory per worker at most
	Poll    time.Duration // safety net: look for unplanned events at least so often
}

// Defaults of a Planner's bounds.
const (
	DefaultWorkers   = 4
	DefaultPlanQueue = 4096
)

// Planner takes accepted events to committed plans. Events of one object go to
// one worker and keep their order.
//
// It is direct (events are handed over in memory) or reading (the table of
// pending plans is the truth). It begins reading; a hand-over that finds no
// room puts it back to reading; it turns direct when, with hand-overs held
// off, the table has shown nothing that is not in memory already.
type Planner struct {
	o       PlannerOptions
	workers []*worker
	wake    chan struct{}

	mu     sync.Mutex
	direct bool
	held   map[planKey]struct{} // events in memory
}

type planKey struct {
	event string
	run   int
}

// job is an event to be planned.
type job struct {
	acc    *belfry.Accepted
	run    int
	cursor string
}

func (j *job) key() planKey { return planKey{j.acc.EventID, j.run} }

// worker owns shards: their events in the order they came.
type worker struct {
	mu    sync.Mutex
	queue []job
	wake  chan struct{}
}

// NewPlanner makes a Planner; nothing is planned before Run.
func NewPlanner(o PlannerOptions) *Planner {
	if o.Workers == 0 {
		o.Workers = DefaultWorkers
	}
	if o.Queue == 0 {
		o.Queue = DefaultPlanQueue
	}
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	p := &Planner{o: o, wake: make(chan struct{}, 1), held: map[planKey]struct{}{}}
	for range o.Workers {
		p.workers = append(p.workers, &worker{wake: make(chan struct{}, 1)})
	}
	return p
}

// Handover offers events just accepted, in accept order. It never waits for
// planning; what does not fit is found in the table.
func (p *Planner) Handover(accs []belfry.Accepted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.direct {
		p.poke()
		return
	}
	for i := range accs {
		if !p.push(job{acc: &accs[i]}) {
			p.direct = false
			p.poke()
			return
		}
	}
}

// Requeue makes the Planner look into the table: a replay was ordered.
func (p *Planner) Requeue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.direct = false
	p.poke()
}

// push queues a job unless it is in memory; false when there is no room.
// p.mu is held.
func (p *Planner) push(j job) bool {
	if _, ok := p.held[j.key()]; ok {
		return true
	}
	w := p.workers[belfry.Shard(j.acc.Tenant, j.acc.Event.ObjectOrRoot())%len(p.workers)]
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= p.o.Queue {
		return false
	}
	w.queue = append(w.queue, j)
	p.held[j.key()] = struct{}{}
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

func (p *Planner) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run plans until ctx ends; the batch under way is finished.
func (p *Planner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range p.workers {
		wg.Go(func() { p.work(ctx, w) })
	}
	p.read(ctx)
	wg.Wait()
	return nil
}

// read brings pending events from the table into memory whenever the Planner
// is not direct.
func (p *Planner) read(ctx context.Context) {
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		survey := false
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-poll.C:
			survey = true
		}
		wait := p.o.Poll
		if p.isDirect() && !survey {
			continue
		}
		done, err := p.readAll(ctx)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				p.o.Log.Error("reading unplanned events", "error", err)
			}
			wait = min(wait, time.Second)
		case !done:
			wait = 5 * time.Millisecond // the queues are full: let them drain
		}
		poll.Reset(wait)
	}
}

func (p *Planner) isDirect() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.direct
}

// planPage is how many pending events one read takes.
const planPage = 512

// readAll pushes pending events of every tenant until a queue is full (false)
// or the table holds nothing more; then the Planner is direct.
func (p *Planner) readAll(ctx context.Context) (done bool, err error) {
	tenants, err := p.o.Store.Tenants(ctx)
	if err != nil {
		return false, err
	}
	last := make(map[string]string, len(tenants))
	for _, tenant := range tenants {
		for {
			rows, err := p.o.Store.PendingPlans(ctx, tenant, last[tenant], planPage)
			if err != nil {
				return false, err
			}
			if !p.pushAll(tenant, rows, last) {
				return false, nil
			}
			if len(rows) < planPage {
				break
			}
		}
	}
	// The last look, with hand-overs held off: whatever was committed and not
	// handed over before is seen here; whatever comes after is handed over.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.direct {
		return true, nil
	}
	for _, tenant := range tenants {
		rows, err := p.o.Store.PendingPlans(ctx, tenant, last[tenant], planPage)
		if err != nil {
			return false, err
		}
		for i := range rows {
			if !p.push(jobOf(&rows[i])) {
				return false, nil
			}
		}
		if len(rows) == planPage {
			return false, nil
		}
	}
	p.direct = true
	return true, nil
}

func (p *Planner) pushAll(tenant string, rows []belfry.PendingPlan, last map[string]string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range rows {
		if !p.push(jobOf(&rows[i])) {
			return false
		}
		last[tenant] = rows[i].Accepted.EventID
	}
	return true
}

func jobOf(r *belfry.PendingPlan) job {
	acc := r.Accepted
	return job{acc: &acc, run: r.Run, cursor: r.Cursor}
}

// planBatch is how many events one door-2 call carries at most.
const planBatch = 256

// long is an event whose plan has several pages, and the later events of its
// object, which wait for it.
type long struct {
	job   job
	after []job
}

// work plans one worker's events. Long plans take turns with the others, a
// page each.
func (p *Planner) work(ctx context.Context, w *worker) {
	var longs []*long
	for {
		jobs := w.take(planBatch)
		if len(jobs) == 0 && len(longs) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-w.wake:
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		jobs = slices.DeleteFunc(jobs, func(j job) bool {
			for _, l := range longs {
				if l.job.acc.Tenant == j.acc.Tenant && l.job.acc.Event.ObjectOrRoot() == j.acc.Event.ObjectOrRoot() {
					l.after = append(l.after, j)
					return true
				}
			}
			return false
		})
		for _, l := range longs {
			jobs = append(jobs, l.job)
		}
		unfinished := p.plan(ctx, jobs)
		if ctx.Err() != nil {
			return
		}
		longs = p.turn(w, longs, unfinished)
	}
}

// turn keeps the plans that go on, and puts what waited for finished ones back
// at the head of the queue.
func (p *Planner) turn(w *worker, longs []*long, unfinished []job) []*long {
	next := make([]*long, 0, len(unfinished))
	for _, j := range unfinished {
		i := slices.IndexFunc(longs, func(l *long) bool { return l.job.key() == j.key() })
		if i < 0 {
			next = append(next, &long{job: j})
			continue
		}
		longs[i].job = j
		next = append(next, longs[i])
	}
	for _, l := range longs {
		if !slices.Contains(next, l) && len(l.after) > 0 {
			w.mu.Lock()
			w.queue = append(l.after, w.queue...)
			w.mu.Unlock()
		}
	}
	return next
}

func (w *worker) take(n int) []job {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = min(n, len(w.queue))
	jobs := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	return jobs
}

// planned is one page on its way through door 2.
type planned struct {
	job     job
	page    belfry.PlanPage
	payload *Payload
	places  []bool
}

// planRows is how many deliveries and suppressions one door-2 call carries, a
// page more or less: it bounds what planning holds in memory.
const planRows = 2048

// plan makes and commits the next page of each job, and returns the jobs that
// have more pages; nil when ctx ended.
func (p *Planner) plan(ctx context.Context, jobs []job) (unfinished []job) {
	for len(jobs) > 0 {
		n, more, ok := p.planSome(ctx, jobs)
		if !ok {
			return nil
		}
		unfinished = append(unfinished, more...)
		jobs = jobs[n:]
	}
	return unfinished
}

// planSome plans the first n of the jobs, as many as one call carries. It
// repeats until the store answers: an accepted event is never given up because
// the database is away.
func (p *Planner) planSome(ctx context.Context, jobs []job) (n int, unfinished []job, ok bool) {
	ps := make([]planned, 0, len(jobs))
	rows := 0
	for _, j := range jobs {
		if rows >= planRows {
			break
		}
		page, ok := p.pageOf(ctx, &j)
		if !ok {
			p.forgo(ps)
			return 0, nil, false
		}
		rows += len(page.Deliveries) + len(page.Suppressions)
		pl := planned{job: j, page: page, payload: NewPayload(j.acc)}
		pl.places = p.o.Dispatcher.Reserve(page.Deliveries, pl.payload)
		if j.cursor != "" {
			// A later page may name an address an earlier one already told:
			// the table knows, memory does not.
			p.o.Dispatcher.Forgo(page.Deliveries, pl.payload, pl.places)
			clear(pl.places)
		}
		ps = append(ps, pl)
	}
	errs := p.commit(ctx, ps)
	if errs == nil {
		return 0, nil, false
	}
	for i := range ps {
		pl := &ps[i]
		if errs[i] != nil {
			p.moved(pl, errs[i])
			continue
		}
		p.o.Dispatcher.Handover(pl.page.Deliveries, pl.payload, pl.places)
		p.o.Watch.notify(pl.page.Tenant, pl.page.Deliveries)
		p.o.Counters.Deliveries.Add(int64(len(pl.page.Deliveries)))
		p.o.Counters.Suppressed.Add(int64(len(pl.page.Suppressions)))
		if pl.page.Last {
			p.o.Counters.Planned.Add(1)
			p.drop(&pl.job)
			continue
		}
		pl.job.cursor = pl.page.To
		unfinished = append(unfinished, pl.job)
	}
	return len(ps), unfinished, true
}

// forgo gives back the places of pages that will not be committed.
func (p *Planner) forgo(ps []planned) {
	for i := range ps {
		p.o.Dispatcher.Forgo(ps[i].page.Deliveries, ps[i].payload, ps[i].places)
	}
}

// moved gives up a page because the cursor was not where it begins: somebody
// else moved it, or an earlier try of ours whose answer was lost on the way.
// What the table holds stands. It may have been read past while the page's
// places were held, so it is looked at again from there.
func (p *Planner) moved(pl *planned, err error) {
	p.o.Log.Warn("plan page not applied", "event", pl.page.EventID, "error", err)
	p.o.Dispatcher.Forgo(pl.page.Deliveries, pl.payload, pl.places)
	clear(pl.places)
	p.o.Dispatcher.Handover(pl.page.Deliveries, pl.payload, pl.places)
	p.o.Watch.notify(pl.page.Tenant, pl.page.Deliveries)
	p.drop(&pl.job)
}

func (p *Planner) drop(j *job) {
	p.mu.Lock()
	delete(p.held, j.key())
	p.mu.Unlock()
}

// commit passes pages through door 2 until it answers; nil when ctx ended.
func (p *Planner) commit(ctx context.Context, ps []planned) []error {
	pages := make([]belfry.PlanPage, len(ps))
	for i := range ps {
		pages[i] = ps[i].page
	}
	wait := 50 * time.Millisecond
	for {
		errs, err := p.o.Store.CommitPlans(context.WithoutCancel(ctx), pages)
		if err == nil {
			return errs
		}
		p.o.Log.Error("committing plans", "pages", len(pages), "error", err)
		if !sleep(ctx, wait) {
			p.forgo(ps)
			return nil
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// pageOf makes a job's next page, repeating while facts cannot be read. A
// fault in a stage ends the plan with that recorded, so that one event can
// never hold up the rest; a replay can plan it again.
func (p *Planner) pageOf(ctx context.Context, j *job) (page belfry.PlanPage, ok bool) {
	wait := 50 * time.Millisecond
	for {
		page, err := p.guarded(ctx, j)
		switch {
		case err == nil:
			return page, true
		case ctx.Err() != nil:
			return page, false
		case errors.Is(err, errFault):
			p.o.Counters.PlanFaults.Add(1)
			p.o.Log.Error("event cannot be planned", "tenant", j.acc.Tenant, "event", j.acc.EventID, "error", err)
			return faultPage(j, err), true
		}
		p.o.Log.Error("planning", "event", j.acc.EventID, "error", err)
		if !sleep(ctx, wait) {
			return page, false
		}
		wait = min(2*wait, 5*time.Second)
	}
}

var errFault = errors.New("fault in planning")

func (p *Planner) guarded(ctx context.Context, j *job) (page belfry.PlanPage, err error) {
	defer func() {
		if r := recover(); r != nil {
			p.o.Log.Error("panic while planning", "event", j.acc.EventID, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", errFault, r)
		}
	}()
	return p.o.Stages.Page(ctx, j.acc, j.run, j.cursor, p.o.Now())
}

// faultPage ends a plan that cannot be made.
func faultPage(j *job, err error) belfry.PlanPage {
	return belfry.PlanPage{
		Tenant: j.acc.Tenant, EventID: j.acc.EventID, Run: j.run, From: j.cursor, To: j.cursor, Last: true,
		Suppressions: []belfry.Suppression{{Because: []belfry.Reason{{Code: belfry.PlanningFault, Detail: err.Error()}}}},
	}
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// PlanStore is what the Planner needs of the store.
type PlanStore interface {
	Tenants(ctx context.Context) ([]string, error)
	PendingPlans(ctx context.Context, tenant, after string, limit int, shards []int) ([]belfry.PendingPlan, error)
	CommitPlans(ctx context.Context, pages []belfry.PlanPage) ([]error, error)
	DeliveryStates(ctx context.Context, tenant string, ids []string) (map[string]belfry.State, error)
}

// PlannerOptions are the parts a Planner works with; all are needed.
type PlannerOptions struct {
	Store      PlanStore
	Stages     *Stages
	Dispatcher *Dispatcher
	Sealer     *Sealer
	Watch      *Watch
	Shards     Shards
	Peers      Peers
	Counters   *Counters
	Log        *slog.Logger
	Now        func() time.Time
	Observed   func(tenant string) // something counts for conditions
	Endings    *Endings
	// Participate makes members of whoever an event says takes part; nil = none.
	Participate func(ctx context.Context, tenant string, e *belfry.Event, subs []belfry.Subscription) error

	Workers  int           // planners side by side; each owns the objects of some shards
	Queue    int           // events in memory per worker at most
	Page     int           // people of an event's first page at most; who has no more is planned at once
	LongPage int           // of each page that follows, while other events are planned
	LonePage int           // of each page that follows, at most, while none are
	Poll     time.Duration // safety net: look for unplanned events at least so often
}

// Defaults of a Planner's bounds. The first page of a plan is as long as others
// can wait for; those that follow are as short as they can be without costing
// much more together.
const (
	DefaultWorkers   = 4
	DefaultPlanQueue = 4096
	DefaultPage      = 1024
	DefaultLongPage  = 256
	DefaultLonePage  = 4096
)

// Planner takes accepted events to committed plans. Events of one object go to
// one worker and keep their order.
//
// It is direct (events are handed over in memory) or reading (the table of
// pending plans is the truth). It begins reading; a hand-over that finds no
// room puts it back to reading; it turns direct when, with hand-overs held
// off, the table has shown nothing that is not in memory already.
//
// Where several processes share the database, each plans the events of the
// shards it has, whoever accepted them. Then events are not handed over in
// memory but looked for in the table from the first of them on, so that those
// of one object are found in their order, also when two processes accepted them.
type Planner struct {
	o       PlannerOptions
	workers []*worker
	longs   longLane
	wake    chan struct{}

	mu      sync.Mutex
	direct  bool
	whole   bool              // the table is to be read from at on, direct or not
	held    map[planKey]int   // shards of the events in memory
	reading bool              // rows are on their way that may show what is held as pending
	over    map[planKey]bool  // what left memory planned since they were read
	from    map[string]string // by tenant: there may be events to plan from this id on
	at      map[string]string // by tenant: while reading, events up to here are in memory
	rewound int               // how often reading began again
	dropped chan struct{}     // closed and made anew when an event leaves memory
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
	terms  belfry.Replay // of a run that somebody ordered
}

func (j *job) key() planKey { return planKey{j.acc.EventID, j.run} }

// shard is the plan shard of the event's object.
func (j *job) shard() int { return belfry.Shard(j.acc.Tenant, j.acc.Event.ObjectOrRoot()) }

// worker owns shards: their events in the order they came.
type worker struct {
	mu    sync.Mutex
	queue []job
	longs map[objectKey]*long // plans of several pages under way
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
	if o.Page == 0 {
		o.Page = DefaultPage
	}
	if o.LongPage == 0 {
		o.LongPage = DefaultLongPage
	}
	if o.LonePage == 0 {
		o.LonePage = DefaultLonePage
	}
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	p := &Planner{o: o, wake: make(chan struct{}, 1), held: map[planKey]int{}, over: map[planKey]bool{}, from: map[string]string{}, at: map[string]string{}, dropped: make(chan struct{})}
	p.longs.wake = make(chan struct{}, 1)
	for range o.Workers {
		p.workers = append(p.workers, &worker{longs: map[objectKey]*long{}, wake: make(chan struct{}, 1)})
	}
	return p
}

// Handover offers events just accepted, in accept order. It never waits for
// planning; what does not fit is found in the table.
func (p *Planner) Handover(accs []belfry.Accepted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.o.Shards.Shared() {
		for i := range accs {
			if i > 0 && accs[i].Tenant == accs[i-1].Tenant {
				continue // whoever looks finds it after the one before
			}
			p.look(accs[i].Tenant, accs[i].EventID)
			p.o.Peers.Tell(belfry.Wake{Tenant: accs[i].Tenant, Event: accs[i].EventID})
		}
		return
	}
	if !p.direct {
		p.poke()
		return
	}
	for i := range accs {
		if !p.push(job{acc: &accs[i]}) {
			p.reread()
			p.poke()
			return
		}
	}
}

// Requeue makes the Planner look into the table: a replay was ordered.
func (p *Planner) Requeue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reread()
	p.poke()
}

// reread makes the Planner read the table from its beginning. p.mu is held.
func (p *Planner) reread() {
	p.direct = false
	p.rewind()
}

// rewind makes a reading of the table begin again. p.mu is held.
func (p *Planner) rewind() {
	clear(p.at)
	p.rewound++
}

// Wake makes the Planner look for events from an id on: another process
// accepted them.
func (p *Planner) Wake(tenant, from string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look(tenant, from)
}

// look is Wake. p.mu is held.
func (p *Planner) look(tenant, from string) {
	if from == "" {
		p.rewind()
		p.whole = true
	} else if at, ok := p.from[tenant]; !ok || from < at {
		p.from[tenant] = from
	}
	p.poke()
}

// Gained makes the Planner look for the events of shards it has now.
func (p *Planner) Gained([]int) { p.Requeue() }

// Leave lets go of the events of shards that Shards says are not this process's
// any more, and waits for those that are being planned. It answers with the
// shards of which nothing is in memory; when ctx ends some may be missing.
func (p *Planner) Leave(ctx context.Context, shards []int) []int {
	leaving := map[int]bool{}
	for _, s := range shards {
		leaving[s] = true
	}
	for _, w := range p.workers {
		p.drain(w, leaving)
	}
	for {
		p.mu.Lock()
		busy := map[int]bool{}
		for _, s := range p.held {
			busy[s] = true
		}
		dropped := p.dropped
		p.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(shards), func(s int) bool { return busy[s] })
		if len(left) == len(shards) {
			return left
		}
		select {
		case <-ctx.Done():
			return left
		case <-dropped:
		}
	}
}

// drain takes the waiting events of the shards out of memory. The lane lets go
// of long plans when their turn comes.
func (p *Planner) drain(w *worker, leaving map[int]bool) {
	var out []job
	w.mu.Lock()
	w.queue = slices.DeleteFunc(w.queue, func(j job) bool {
		if leaving[j.shard()] {
			out = append(out, j)
			return true
		}
		return false
	})
	for _, l := range w.longs {
		if leaving[l.job.shard()] {
			out = append(out, l.after...)
			l.after = nil
		}
	}
	w.mu.Unlock()
	for i := range out {
		p.drop(&out[i])
	}
}

// push queues a job unless it is in memory or not for this process; false when
// there is no room. p.mu is held.
func (p *Planner) push(j job) bool {
	if _, ok := p.held[j.key()]; ok || !p.o.Shards.Has(belfry.LeasePlan, j.shard()) {
		return true
	}
	w := p.workers[j.shard()%len(p.workers)]
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= p.o.Queue {
		return false
	}
	w.queue = append(w.queue, j)
	p.held[j.key()] = j.shard()
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
	wg.Go(func() { p.planLongs(ctx) })
	p.read(ctx)
	wg.Wait()
	return nil
}

// read brings pending events from the table into memory: all of them while the
// Planner is not direct and now and then as the safety net, else what others
// told of.
func (p *Planner) read(ctx context.Context) {
	survey := time.NewTicker(p.o.Poll)
	defer survey.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-again.C:
		case <-survey.C:
			p.survey()
		}
		done, err := p.readSome(ctx)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				p.o.Log.Error("reading unplanned events", "error", err)
			}
			again.Reset(min(p.o.Poll, time.Second))
		case !done:
			again.Reset(5 * time.Millisecond) // the queues are full: let them drain
		}
		if p.o.Shards.Shared() && !sleep(ctx, sharedPace) {
			return
		}
	}
}

// survey is the safety net: the table is read from its beginning, where events
// are in the order they were accepted; what is in memory is passed over.
func (p *Planner) survey() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole = true
	p.rewind()
}

// readSome reads what there is to read; false when a queue is full.
func (p *Planner) readSome(ctx context.Context) (done bool, err error) {
	p.mu.Lock()
	whole := p.whole || !p.direct
	p.mu.Unlock()
	if whole {
		return p.readAll(ctx)
	}
	return p.readNew(ctx)
}

// planPage is how many pending events one read takes.
const planPage = 512

// readNew pushes the events that others told of; false when a queue is full.
func (p *Planner) readNew(ctx context.Context) (done bool, err error) {
	p.mu.Lock()
	from := p.from
	p.from = map[string]string{}
	p.mu.Unlock()
	for tenant, id := range from {
		last := map[string]string{tenant: before(id)}
		if done, err = p.readTenant(ctx, tenant, last); err != nil || !done {
			p.mu.Lock()
			p.reread()
			p.mu.Unlock()
			return done, err
		}
	}
	return true, nil
}

// before is a text that sorts before an id, and after those before it.
func before(id string) string { return id[:len(id)-1] }

// readTenant pushes a tenant's pending events after last until there are no
// more or a queue is full (false), and moves last on.
func (p *Planner) readTenant(ctx context.Context, tenant string, last map[string]string) (done bool, err error) {
	for {
		p.mu.Lock()
		p.reading = true
		p.mu.Unlock()
		rows, err := p.o.Store.PendingPlans(ctx, tenant, last[tenant], planPage, p.o.Shards.Mine(belfry.LeasePlan))
		if !p.pushAll(tenant, rows, last) || err != nil {
			return false, err
		}
		if len(rows) < planPage {
			return true, nil
		}
	}
}

// readAll pushes pending events of every tenant until a queue is full (false)
// or the table holds nothing more; then the Planner is direct.
func (p *Planner) readAll(ctx context.Context) (done bool, err error) {
	tenants, err := p.o.Store.Tenants(ctx)
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	last, rewound := maps.Clone(p.at), p.rewound
	for tenant, id := range p.from {
		if first := before(id); first < last[tenant] {
			last[tenant] = first
		}
	}
	clear(p.from)
	p.mu.Unlock()
	for _, tenant := range tenants {
		if done, err = p.readTenant(ctx, tenant, last); err != nil || !done {
			p.mu.Lock()
			if p.rewound == rewound {
				p.at = last
			}
			p.mu.Unlock()
			return false, err
		}
	}
	// The last look, with hand-overs held off: whatever was committed and not
	// handed over before is seen here; whatever comes after is handed over.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rewound != rewound {
		return false, nil
	}
	p.whole = false
	if p.direct {
		return true, nil
	}
	for _, tenant := range tenants {
		rows, err := p.o.Store.PendingPlans(ctx, tenant, last[tenant], planPage, p.o.Shards.Mine(belfry.LeasePlan))
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
	clear(p.at)
	return true, nil
}

// pushAll pushes the rows of a read, less those that were planned meanwhile.
func (p *Planner) pushAll(tenant string, rows []belfry.PendingPlan, last map[string]string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		p.reading = false
		clear(p.over)
	}()
	for i := range rows {
		if j := jobOf(&rows[i]); !p.over[j.key()] && !p.push(j) {
			return false
		}
		last[tenant] = rows[i].Accepted.EventID
	}
	return true
}

func jobOf(r *belfry.PendingPlan) job {
	acc := r.Accepted
	return job{acc: &acc, run: r.Run, cursor: r.Cursor, terms: r.Terms}
}

// planBatch is how many events one door-2 call carries at most.
const planBatch = 256

// work plans one worker's events.
func (p *Planner) work(ctx context.Context, w *worker) {
	for {
		jobs := p.take(w, planBatch)
		if len(jobs) == 0 {
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
			if p.o.Shards.Has(belfry.LeasePlan, j.shard()) {
				return false
			}
			p.drop(&j)
			return true
		})
		if !p.plan(ctx, w, jobs) {
			return
		}
	}
}

// planned is one page on its way through door 2.
type planned struct {
	job     job
	page    belfry.PlanPage
	payload *Payload
	places  []bool
	long    *long // the plan it is a page of, when that has several
	left    bool  // no page: the plan's shard is another process's
	// Of a page of the long lane: others were planned beside it, how many plans
	// were in the lane, and how long it took to make.
	beside bool
	plans  int
	took   time.Duration
}

// planRows is how many deliveries and suppressions one door-2 call carries, a
// page more or less: it bounds what planning holds in memory.
const planRows = 2048

// plan makes and commits the first page of each job, and passes on those that
// have more; false when ctx ended.
func (p *Planner) plan(ctx context.Context, w *worker, jobs []job) bool {
	for len(jobs) > 0 {
		var ok bool
		if jobs, ok = p.planSome(ctx, w, jobs); !ok {
			return false
		}
	}
	return true
}

// planSome plans the first of the jobs, as many as one call carries, and gives
// the others, without those that wait for a long plan now. It repeats until the
// store answers: an accepted event is never given up because the database is
// away.
func (p *Planner) planSome(ctx context.Context, w *worker, jobs []job) (rest []job, ok bool) {
	p.longs.short.Add(1)
	ps := make([]planned, 0, len(jobs))
	for rows := 0; len(jobs) > 0 && rows < planRows; {
		j := jobs[0]
		jobs = jobs[1:]
		page, ok := p.pageOf(ctx, &j, part{limit: p.o.Page})
		if !ok {
			p.forgo(ps)
			return nil, false
		}
		rows += len(page.Deliveries) + len(page.Suppressions)
		pl := planned{job: j, page: page, payload: NewPayload(j.acc)}
		if j.run == 0 {
			pl.places = p.o.Dispatcher.Reserve(page.Deliveries, pl.payload)
		} else { // a replay finds rows that are there: the table says which go
			pl.places = make([]bool, len(page.Deliveries))
		}
		if !page.Last {
			pl.long, jobs = w.begin(j, jobs)
			if pl.long.limit = p.o.Page; len(ps)+len(jobs) == 0 {
				pl.long.alone = p.longs.short.Load()
			}
		}
		ps = append(ps, pl)
	}
	errs := p.commit(ctx, ps)
	if errs == nil {
		return nil, false
	}
	p.tellMoved(ps, errs)
	for i := range ps {
		p.committed(&ps[i], errs[i])
		if l := ps[i].long; l != nil {
			p.continues(l, &ps[i], errs[i])
		}
	}
	return jobs, true
}

// tellMoved has one line in the log of all pages of a call that are given up: a
// node that was taken for dead gives up as many as it had.
func (p *Planner) tellMoved(ps []planned, errs []error) {
	n, first := 0, 0
	for i := range errs {
		if errs[i] != nil {
			if n == 0 {
				first = i
			}
			n++
		}
	}
	if n > 0 {
		p.o.Log.Info("plan pages not applied", "pages", n, "first", ps[first].page.EventID, "error", errs[first])
	}
}

// committed tells the others of a page that door 2 has answered for.
func (p *Planner) committed(pl *planned, err error) {
	if err != nil {
		p.moved(pl)
		return
	}
	p.o.Dispatcher.Handover(pl.page.Deliveries, pl.payload, pl.places, pl.page.Run == 0 && pl.page.From == "" && pl.page.Last)
	p.o.Sealer.planned(&pl.page)
	p.show(pl)
	p.observed(pl)
	p.o.Counters.Deliveries.Add(int64(len(pl.page.Deliveries)))
	p.o.Counters.Suppressed.Add(int64(len(pl.page.Suppressions)))
	if pl.page.Last {
		p.o.Counters.Planned.Add(1)
		p.end(&pl.job)
	}
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
// places were held, so it is looked at again; and it may be due earlier than
// what was made now, but not before the event was accepted, with room for
// clocks that differ.
func (p *Planner) moved(pl *planned) {
	p.o.Dispatcher.Forgo(pl.page.Deliveries, pl.payload, pl.places)
	clear(pl.places)
	p.o.Dispatcher.Handover(pl.page.Deliveries, pl.payload, pl.places, false)
	earliest := slices.Clone(pl.page.Deliveries)
	for i := range earliest {
		if at := pl.job.acc.At.Add(-lately); earliest[i].Due.After(at) {
			earliest[i].Due = at
		}
	}
	p.o.Dispatcher.Handover(earliest, pl.payload, pl.places, false)
	p.show(pl)
	p.observed(pl)
	p.drop(&pl.job)
}

// observed makes conditions be looked at that a page has something for, here
// and elsewhere.
func (p *Planner) observed(pl *planned) {
	if len(pl.page.Observations) == 0 {
		return
	}
	p.o.Observed(pl.page.Tenant)
	if p.o.Shards.Shared() {
		p.o.Peers.Tell(belfry.Wake{Tenant: pl.page.Tenant, Counted: true})
	}
}

// show wakes whoever looks at the inboxes of a page, here and elsewhere.
func (p *Planner) show(pl *planned) {
	p.o.Watch.notify(pl.page.Tenant, pl.page.Deliveries)
	if p.o.Shards.Shared() {
		if marks, any := marksOf(pl.page.Tenant, pl.page.Deliveries); any {
			p.o.Peers.Tell(belfry.Wake{Tenant: pl.page.Tenant, Inboxes: marks})
		}
	}
}

func (p *Planner) drop(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(j)
}

// end is drop for what is planned to its end.
func (p *Planner) end(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading {
		p.over[j.key()] = true
	}
	p.release(j)
}

// release lets go of a job. p.mu is held.
func (p *Planner) release(j *job) {
	delete(p.held, j.key())
	if p.o.Shards.Shared() { // somebody may wait in Leave
		close(p.dropped)
		p.dropped = make(chan struct{})
	}
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
func (p *Planner) pageOf(ctx context.Context, j *job, of part) (page belfry.PlanPage, ok bool) {
	wait := 50 * time.Millisecond
	for {
		page, err := p.guarded(ctx, j, of)
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

func (p *Planner) guarded(ctx context.Context, j *job, of part) (page belfry.PlanPage, err error) {
	defer func() {
		if r := recover(); r != nil {
			p.o.Log.Error("panic while planning", "event", j.acc.EventID, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", errFault, r)
		}
	}()
	of.run, of.cursor, of.terms = j.run, j.cursor, j.terms
	if j.acc.Event.Resolves != "" && j.run == 0 && j.cursor == "" {
		if err := p.o.Endings.end(ctx, j.acc); err != nil {
			return page, err
		}
	}
	if j.run == 0 && j.cursor == "" && p.o.Participate != nil {
		if err := p.participate(ctx, j.acc); err != nil {
			return page, err
		}
	}
	page, err = p.o.Stages.page(ctx, j.acc, of, p.o.Now())
	if err == nil && j.run > 0 {
		err = p.leaveOut(ctx, &page)
	}
	return page, err
}

// participate sees to who joins by what an event says, before it is planned: who
// is made a member by it is told of it. What is done twice changes nothing.
func (p *Planner) participate(ctx context.Context, acc *belfry.Accepted) error {
	if err := p.o.Stages.In.Reach(ctx, acc.Tenant, acc.AsOf); err != nil {
		return err
	}
	subs, err := p.o.Stages.Subscriptions.Following(ctx, acc.Tenant, acc.Event.Type)
	if err != nil || len(subs) == 0 {
		return err
	}
	if err = p.o.Participate(ctx, acc.Tenant, acc.Event, subs); err != nil && belfry.KindOf(err) != belfry.Unavailable && ctx.Err() == nil {
		p.o.Log.Error("joining by participation", "tenant", acc.Tenant, "event", acc.EventID, "error", err)
		return nil // it would fail again: the event is planned all the same
	}
	return err
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

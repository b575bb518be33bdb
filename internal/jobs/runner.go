package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Store is what a Runner needs of the store.
type Store interface {
	OpenJobs(ctx context.Context) ([]belfry.Job, error)
	ClaimJob(ctx context.Context, tenant, id, owner string, lease time.Duration) (belfry.Job, bool, error)
	RenewJob(ctx context.Context, j *belfry.Job, lease time.Duration) (bool, error)
	StepJob(ctx context.Context, j *belfry.Job, step belfry.JobStep) (bool, error)
}

// Kind does the next step of a job, from j.Cursor on. A step is bounded: tens of
// milliseconds, and memory of a page. The answer is what is to be recorded; when
// the step's own writes recorded it, Recorded is set. ErrLost says that the job
// is not ours any more; an error of kind Unavailable that it is to be tried
// again; another ends the job as failed, in its words.
type Kind func(ctx context.Context, j *belfry.Job) (belfry.JobStep, error)

// ErrLost is a step's answer when the job is not this process's any more: it
// was cancelled, or taken over.
var ErrLost = errors.New("the job is not ours any more")

// Options are the parts of a Runner; the first block is needed.
type Options struct {
	Store Store
	Kinds map[string]Kind
	Owner string // names this process in the table
	Log   *slog.Logger

	Side  int           // jobs at once
	Poll  time.Duration // look for jobs so often
	Lease time.Duration // a dead process's jobs are taken over after it
}

// Defaults of Options.
const (
	DefaultSide  = 4
	DefaultPoll  = time.Second
	DefaultLease = 10 * time.Second
)

// Runner works on jobs.
type Runner struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	working map[string]bool // ids of jobs at hand here
}

// New makes a Runner; nothing is done before Run.
func New(o Options) *Runner {
	if o.Side == 0 {
		o.Side = DefaultSide
	}
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	return &Runner{o: o, wake: make(chan struct{}, 1), working: map[string]bool{}}
}

// Poke makes the Runner look for jobs now: one was ordered.
func (r *Runner) Poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run works on jobs until ctx ends; the steps under way are finished and the
// jobs given back.
func (r *Runner) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	poll := time.NewTicker(r.o.Poll)
	defer poll.Stop()
	for {
		if err := r.look(ctx, &workers); err != nil && ctx.Err() == nil {
			r.o.Log.Error("looking for jobs", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-poll.C:
		}
	}
}

// look begins to work on jobs that nobody holds, as many as there is room for.
func (r *Runner) look(ctx context.Context, workers *sync.WaitGroup) error {
	open, err := r.o.Store.OpenJobs(ctx)
	if err != nil {
		return err
	}
	for _, j := range open {
		kind, known := r.o.Kinds[j.Kind]
		if !known || !r.begin(j.ID) {
			continue
		}
		workers.Go(func() {
			defer r.Poke() // there is room for another
			defer r.end(j.ID)
			r.work(ctx, j, kind)
		})
	}
	return nil
}

func (r *Runner) begin(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working[id] || len(r.working) >= r.o.Side {
		return false
	}
	r.working[id] = true
	return true
}

func (r *Runner) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.working, id)
}

// work claims a job and does its steps until it is over, lost, or ctx ends.
func (r *Runner) work(ctx context.Context, open belfry.Job, kind Kind) {
	j, ok, err := r.o.Store.ClaimJob(ctx, open.Tenant, open.ID, r.o.Owner, r.o.Lease)
	if err != nil || !ok {
		return // another process was first, or the next look tries again
	}
	log := r.o.Log.With("tenant", j.Tenant, "job", j.ID, "kind", j.Kind)
	held, lose := context.WithCancel(ctx)
	defer lose()
	var renewing sync.WaitGroup
	claimed := j // the steps write to j
	renewing.Go(func() { r.renew(held, lose, claimed) })
	defer renewing.Wait()
	defer lose()
	log.Info("job taken up", "done", j.Done, "epoch", j.Epoch)
	wait := 50 * time.Millisecond
	for held.Err() == nil {
		step, err := r.step(held, &j, kind)
		switch {
		case err == nil:
			wait = 50 * time.Millisecond
		case errors.Is(err, ErrLost):
			log.Info("job lost or cancelled")
			return
		case held.Err() != nil:
		case belfry.KindOf(err) == belfry.Unavailable:
			log.Warn("job waits", "error", err)
			sleep(held, wait)
			wait = min(2*wait, 5*time.Second)
			continue
		default:
			log.Error("job failed", "error", err)
			step = belfry.JobStep{Cursor: j.Cursor, Done: j.Done, Total: j.Total, Result: j.Result, State: belfry.JobFailed, Error: err.Error()}
			if _, err := r.o.Store.StepJob(context.WithoutCancel(held), &j, step); err != nil {
				log.Error("recording that a job failed", "error", err) // whoever takes it over finds out again
			}
			return
		}
		if held.Err() != nil {
			break
		}
		j.Cursor, j.Done, j.Total, j.Result, j.State = step.Cursor, step.Done, step.Total, step.Result, step.State
		if !step.State.Open() {
			log.Info("job over", "state", step.State.String(), "done", step.Done)
			return
		}
		if step.Wait > 0 {
			sleep(held, step.Wait)
		}
	}
	if ctx.Err() != nil { // a stop: whoever is there goes on at once
		giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.Lease)
		defer cancel()
		if _, err := r.o.Store.RenewJob(giving, &j, 0); err != nil {
			log.Warn("giving a job back", "error", err)
		}
	}
}

// step does a step and records it, unless it did so itself.
func (r *Runner) step(ctx context.Context, j *belfry.Job, kind Kind) (step belfry.JobStep, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.o.Log.Error("panic in a job", "job", j.ID, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal fault: %v", v)
		}
	}()
	if step, err = kind(ctx, j); err != nil || step.Recorded {
		return step, err
	}
	ok, err := r.o.Store.StepJob(ctx, j, step)
	if err == nil && !ok {
		err = ErrLost
	}
	return step, err
}

// renew keeps a job while it is worked on; when it is lost, lose ends the work.
// What fails is tried again: the lease has room for two misses.
func (r *Runner) renew(ctx context.Context, lose func(), j belfry.Job) {
	tick := time.NewTicker(r.o.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if ok, err := r.o.Store.RenewJob(ctx, &j, r.o.Lease); err == nil && !ok {
			lose()
			return
		}
	}
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

package store

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// A job is one caller's call, waiting at a door. Its payload is written by the
// caller before and by the writer afterwards; done hands it back.
type job struct {
	door   *door
	weight int  // rows, about
	long   bool // of something long: others come between, see writer.take
	data   any
	state  atomic.Int32
	err    error
	done   chan struct{}
	// split, when set, divides a job that fails alone into parts that can
	// fail alone; they write their results where the whole would.
	split func() []*job
	// failed, when set, hears the error of a job that was not committed.
	failed func(error)
}

func (j *job) fail(err error) {
	j.err = err
	if j.failed != nil {
		j.failed(err)
	}
}

// States of a job.
const (
	waiting int32 = iota
	taken
	withdrawn
)

// A door commits jobs of one kind within a transaction.
type door struct {
	limit  int // weight a transaction takes from this door
	queue  []*job
	commit func(s *session, jobs []*job) error
	w      *writer
}

// A culprit is an error that belongs to one job alone; the others of its
// transaction are tried again without it.
type culprit struct {
	job *job
	err error
}

func isCulprit(err error) bool {
	var c *culprit
	return errors.As(err, &c)
}

func (c *culprit) Error() string { return c.err.Error() }
func (c *culprit) Unwrap() error { return c.err }

// errCareful asks for the transaction to be made again with session.careful
// set: a batch statement touched fewer rows than expected, and which ones can
// only be told row by row.
var errCareful = errors.New("some rows were not as expected")

// A writer is a goroutine with a connection that serves some doors in turn.
type writer struct {
	db     *DB
	doors  []*door
	fenced bool // works only while this node is not declared dead

	mu     sync.Mutex
	ended  bool
	long   bool          // the transaction before carried a long job
	taken  int           // jobs of the transaction at hand
	signal chan struct{} // one token: there may be work, or an end

	// Of the goroutine alone.
	session *session
	trouble trouble
}

// trouble is what keeps a writer from committing: a full disk meets every
// request, and the log, which may share the disk, has a line of it now and then.
type trouble struct {
	text    string
	logged  time.Time
	commits int // that failed since it began
}

// troubleEvery is how often trouble that goes on is logged.
const troubleEvery = 10 * time.Second

// failed tells the log of a commit that the database did not take.
func (w *writer) failed(jobs int, err error) {
	t, now := &w.trouble, w.db.now()
	t.commits++
	since := now.Sub(t.logged)
	if text := err.Error(); text != t.text || since < 0 || since >= troubleEvery {
		t.text, t.logged = text, now
		w.db.log.Warn("store: commit failed", "jobs", jobs, "failed", t.commits, "error", err)
	}
}

// succeeded tells the log that trouble is over.
func (w *writer) succeeded() {
	if w.trouble.commits > 0 {
		w.db.log.Info("store: commits succeed again", "failed", w.trouble.commits)
		w.trouble = trouble{}
	}
}

func (db *DB) newWriter(doors ...*door) *writer {
	w := &writer{db: db, doors: doors, signal: make(chan struct{}, 1)}
	for _, d := range doors {
		d.w = w
	}
	return w
}

// do puts a job into its queue and waits until it is committed or has failed.
// When ctx ends first, a job that no transaction has taken is withdrawn.
func (d *door) do(ctx context.Context, j *job) error {
	j.door, j.done = d, make(chan struct{})
	w := d.w
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return errClosing
	}
	d.queue = append(d.queue, j)
	w.mu.Unlock()
	w.wake()
	select {
	case <-j.done:
	case <-ctx.Done():
		if j.state.CompareAndSwap(waiting, withdrawn) {
			return ctx.Err()
		}
		<-j.done
	}
	return j.err
}

func (w *writer) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *writer) close() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.wake()
}

// take takes from each door in turn what has gathered there, up to its limit.
// After a transaction with a long job in it the others have one to themselves:
// whoever waited for it does not wait for the next long one too.
func (w *writer) take(batch []*job) (_ []*job, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	apart := w.long
	w.long = false
	batch = w.gather(batch, apart)
	if len(batch) == 0 && apart {
		batch = w.gather(batch, false)
	}
	w.taken = len(batch)
	return batch, w.ended
}

// gather is take, with long jobs or without. w.mu is held.
func (w *writer) gather(batch []*job, apart bool) []*job {
	for _, d := range w.doors {
		weight, n := 0, 0
		rest := d.queue[:0]
		for _, j := range d.queue {
			if n > 0 && weight+j.weight > d.limit && j.state.Load() == waiting {
				break
			}
			n++
			if apart && j.long && j.state.Load() == waiting {
				rest = append(rest, j)
				continue
			}
			if j.state.CompareAndSwap(waiting, taken) {
				batch = append(batch, j)
				weight += j.weight
				w.long = w.long || j.long
			}
		}
		rest = append(rest, d.queue[n:]...)
		clear(d.queue[len(rest):])
		d.queue = rest
	}
	return batch
}

// gatherings is how often the writer lets others run before it takes what they
// have brought. Each turn costs a tenth of a microsecond when nobody is ready.
const gatherings = 4

func (w *writer) run() {
	defer w.closeSession()
	var batch []*job
	for {
		// Whoever is ready to run runs first, and may add to this commit: on a
		// busy machine commits grow, on a quiet one this costs nothing.
		for range gatherings {
			runtime.Gosched()
		}
		var ended bool
		batch, ended = w.take(batch[:0])
		if len(batch) == 0 {
			if ended {
				return
			}
			<-w.signal
			continue
		}
		w.serve(batch)
		for _, j := range batch {
			close(j.done)
		}
		clear(batch)
	}
}

// serve commits the jobs, all in one transaction when it can. A job that
// cannot be committed does not stop the others: the culprit is set aside when
// it is known, and else the batch is halved until it is alone.
func (w *writer) serve(batch []*job) {
	for len(batch) > 0 {
		err := w.transaction(batch, false)
		if errors.Is(err, errCareful) {
			err = w.transaction(batch, true)
		}
		for tries := 0; transient(err) && tries < 10; tries++ {
			err = w.transaction(batch, true)
		}
		if err == nil {
			for _, j := range batch {
				j.err = nil
			}
			w.db.jobs.Add(int64(len(batch)))
			w.succeeded()
			return
		}
		err = fault(err)
		if unavailable(err) || errors.Is(err, ErrFenced) && !isCulprit(err) {
			for _, j := range batch {
				j.fail(err)
			}
			w.failed(len(batch), err)
			return
		}
		if c := (*culprit)(nil); errors.As(err, &c) {
			c.job.fail(c.err)
			batch = slices.DeleteFunc(slices.Clone(batch), func(j *job) bool { return j == c.job })
			continue
		}
		if len(batch) > 1 {
			half := len(batch) / 2
			w.serve(batch[:half])
			batch = batch[half:]
			continue
		}
		w.divide(batch[0], err)
		return
	}
}

// divide ends a job that cannot be committed even alone, or commits its parts.
func (w *writer) divide(j *job, err error) {
	if j.split == nil {
		j.fail(err)
		return
	}
	parts := j.split()
	for _, p := range parts {
		p.door = j.door
	}
	w.serve(parts)
	j.err = nil
	for _, p := range parts {
		if p.err != nil {
			j.err = p.err
			return
		}
	}
}

// transaction runs the doors' work for the batch and commits it.
func (w *writer) transaction(batch []*job, careful bool) (err error) {
	s, err := w.begun()
	if err != nil {
		return err
	}
	s.careful = careful
	defer func() {
		if err == nil {
			return
		}
		s.forget()
		// A connection that cannot roll back, or that the machine failed, is
		// not used again.
		if rollback := s.rollback(); rollback != nil || broken(err) {
			w.closeSession()
		}
	}()
	for _, d := range w.doors {
		jobs := s.jobs[:0]
		for _, j := range batch {
			if j.door == d {
				jobs = append(jobs, j)
			}
		}
		s.jobs = jobs
		if len(jobs) == 0 {
			continue
		}
		if err := d.commit(s, jobs); err != nil {
			return err
		}
	}
	if err := s.flushChanges(); err != nil {
		return err
	}
	if err := s.flushShared(); err != nil {
		return err
	}
	if err := s.commit(); err != nil {
		w.db.counts.forget(w.db.now()) // whether it was committed is not known
		return err
	}
	w.db.commits.Add(1)
	s.committed()
	rows := 0
	for _, j := range batch {
		rows += j.weight
	}
	w.db.checkpoints.wrote(rows)
	return nil
}

// begun gives the writer's session with a transaction begun. A connection that was
// cut while nothing was asked of it shows that here, before anything was done:
// another one takes its place at once.
func (w *writer) begun() (*session, error) {
	for kept := writeConns; ; kept-- {
		s, err := w.open()
		if err != nil {
			return nil, err
		}
		if err = s.begin(w.fence()); err == nil {
			return s, nil
		}
		w.closeSession()
		if kept == 0 || !wasCut(err) {
			return nil, err
		}
	}
}

// open gives the writer's session, connecting when there is none.
func (w *writer) open() (*session, error) {
	if w.session != nil {
		return w.session, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	conn, err := w.db.write.Conn(ctx)
	if err != nil {
		return nil, belfry.Errorf(belfry.Unavailable, "the database cannot be reached (%w)", &away{err})
	}
	w.session = newSession(w.db, conn)
	return w.session, nil
}

// fence is the node whose life the writer's transactions depend on, or empty.
func (w *writer) fence() string {
	if !w.fenced {
		return ""
	}
	return w.db.fenceID()
}

func (w *writer) closeSession() {
	if w.session != nil {
		w.session.close()
		w.session = nil
	}
}

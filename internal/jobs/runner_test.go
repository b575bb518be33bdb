package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/jobs"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

const tenant = belfry.DefaultTenant

func order(t *testing.T, db *store.DB, kind string) string {
	t.Helper()
	id := belfry.NewID(belfry.JobPrefix, time.Now())
	if _, err := db.Apply(t.Context(), belfry.Changes{Tenant: tenant, Jobs: []belfry.Job{{ID: id, Kind: kind, Params: []byte(`{}`), Created: time.Now()}}}); err != nil {
		t.Fatal(err)
	}
	return id
}

// runner starts one; stop ends it as a stop of the program does.
func runner(t *testing.T, db *store.DB, owner string, kinds map[string]jobs.Kind) (stop func()) {
	t.Helper()
	r := jobs.New(jobs.Options{Store: db, Kinds: kinds, Owner: owner, Log: slog.New(slog.DiscardHandler),
		Poll: 10 * time.Millisecond, Lease: 500 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(stop)
	return stop
}

// over waits until a job has ended.
func over(t *testing.T, db *store.DB, id string) belfry.Job {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		j, ok, err := db.Job(context.Background(), tenant, id)
		if err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		if !j.State.Open() {
			return j
		}
		if time.Now().After(deadline) {
			t.Fatalf("the job is not over after a minute: %+v", j)
		}
	}
}

// counting is a kind of so many steps; each is noted.
type counting struct {
	mu    sync.Mutex
	steps map[int]int
	by    map[string]int
}

func (c *counting) kind(owner string, n int) jobs.Kind {
	return func(_ context.Context, j *belfry.Job) (belfry.JobStep, error) {
		at, _ := strconv.Atoi(j.Cursor)
		c.mu.Lock()
		c.steps[at]++
		c.by[owner]++
		c.mu.Unlock()
		step := belfry.JobStep{Cursor: strconv.Itoa(at + 1), Done: int64(at + 1), Total: int64(n), State: belfry.JobRunning}
		if at+1 == n {
			step.State = belfry.JobDone
		}
		return step, nil
	}
}

func engines(t *testing.T, test func(*testing.T, *store.DB, *store.DB)) {
	t.Run("SQLite", func(t *testing.T) {
		db := storetest.SQLite(t)
		test(t, db, db)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		url := storetest.PostgresPlace(t)
		test(t, storetest.Open(t, url), storetest.Open(t, url)) // two processes
	})
}

// Two runners on one database do each step of each job once.
func TestEachStepOnce(t *testing.T) {
	engines(t, func(t *testing.T, one, two *store.DB) {
		const steps = 50
		c := &counting{steps: map[int]int{}, by: map[string]int{}}
		id := order(t, one, "count")
		stop := runner(t, one, "one", map[string]jobs.Kind{"count": c.kind("one", steps)})
		stopTwo := runner(t, two, "two", map[string]jobs.Kind{"count": c.kind("two", steps)})
		j := over(t, one, id)
		stop()
		stopTwo()
		if j.State != belfry.JobDone || j.Done != steps || j.Total != steps || j.Epoch != 1 {
			t.Errorf("%+v", j)
		}
		for at := range steps {
			if c.steps[at] != 1 {
				t.Errorf("step %d was done %d times", at, c.steps[at])
			}
		}
	})
}

// A stop gives a job back in the middle; another goes on where it was, and so
// does one after a process that died without a word.
func TestAnotherGoesOn(t *testing.T) {
	engines(t, func(t *testing.T, one, two *store.DB) {
		c := &counting{steps: map[int]int{}, by: map[string]int{}}
		id := order(t, one, "count")
		reached := make(chan struct{})
		var once sync.Once
		count := c.kind("one", 50)
		stop := runner(t, one, "one", map[string]jobs.Kind{"count": func(ctx context.Context, j *belfry.Job) (belfry.JobStep, error) {
			if j.Cursor == "20" {
				once.Do(func() { close(reached) })
				<-ctx.Done() // in the middle of a step
				return belfry.JobStep{}, ctx.Err()
			}
			return count(ctx, j)
		}})
		<-reached
		stop()
		j, _, err := one.Job(context.Background(), tenant, id)
		if err != nil || j.Cursor != "20" || !j.State.Open() {
			t.Fatalf("after the stop: %+v, %v", j, err)
		}
		// One that dies: it claims and is never heard of again.
		if _, ok, err := one.ClaimJob(context.Background(), tenant, id, "dead", 300*time.Millisecond); err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		runner(t, two, "two", map[string]jobs.Kind{"count": c.kind("two", 50)})
		if j = over(t, two, id); j.State != belfry.JobDone || j.Epoch != 3 {
			t.Errorf("%+v", j)
		}
		for at := range 50 {
			if c.steps[at] != 1 {
				t.Errorf("step %d was done %d times", at, c.steps[at])
			}
		}
		if c.by["one"] != 20 || c.by["two"] != 30 {
			t.Errorf("steps by owner: %v", c.by)
		}
	})
}

func TestHowJobsEnd(t *testing.T) {
	db := storetest.SQLite(t)
	var away atomic.Int32
	cancelled := make(chan struct{})
	id := ""
	kinds := map[string]jobs.Kind{
		"fails": func(context.Context, *belfry.Job) (belfry.JobStep, error) {
			return belfry.JobStep{}, errors.New("it broke")
		},
		"panics": func(context.Context, *belfry.Job) (belfry.JobStep, error) { panic("it panicked") },
		"comes back": func(context.Context, *belfry.Job) (belfry.JobStep, error) {
			if away.Add(1) < 3 {
				return belfry.JobStep{}, belfry.Errorf(belfry.Unavailable, "away")
			}
			return belfry.JobStep{State: belfry.JobDone, Result: []byte(`{"n":1}`)}, nil
		},
		"waits": func(context.Context, *belfry.Job) (belfry.JobStep, error) {
			return belfry.JobStep{State: belfry.JobRunning, Wait: time.Millisecond}, nil
		},
		"is cancelled": func(ctx context.Context, j *belfry.Job) (belfry.JobStep, error) {
			if _, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, CancelJobs: []belfry.JobCancel{{ID: j.ID, Because: belfry.Reason{Detail: "by ops"}}}}); err != nil {
				return belfry.JobStep{}, err
			}
			defer close(cancelled)
			return belfry.JobStep{State: belfry.JobDone}, nil
		},
	}
	runner(t, db, "one", kinds)
	for kind, want := range map[string]belfry.Job{
		"fails":        {State: belfry.JobFailed, Error: "it broke"},
		"panics":       {State: belfry.JobFailed, Error: "internal fault: it panicked"},
		"comes back":   {State: belfry.JobDone},
		"is cancelled": {State: belfry.JobCancelled, Error: "by ops"},
	} {
		got := over(t, db, order(t, db, kind))
		if got.State != want.State || got.Error != want.Error || got.Ended.IsZero() {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	<-cancelled
	// A kind nobody here knows is left alone, and holds up nobody.
	unknown := order(t, db, "of a newer version")
	id = order(t, db, "fails")
	over(t, db, id)
	if j, _, err := db.Job(t.Context(), tenant, unknown); err != nil || j.State != belfry.JobWaiting || j.Epoch != 0 {
		t.Errorf("a job of an unknown kind: %+v, %v", j, err)
	}
	// One that goes on for ever ends when it is cancelled.
	id = order(t, db, "waits")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if j, _, err := db.Job(t.Context(), tenant, id); err != nil || j.State == belfry.JobRunning {
			break
		}
		<-tick.C
	}
	if _, err := db.Apply(t.Context(), belfry.Changes{Tenant: tenant, CancelJobs: []belfry.JobCancel{{ID: id, Because: belfry.Reason{Detail: "by ops"}}}}); err != nil {
		t.Fatal(err)
	}
	if j := over(t, db, id); j.State != belfry.JobCancelled {
		t.Errorf("%+v", j)
	}
}

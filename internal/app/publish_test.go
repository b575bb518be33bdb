package app

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/testtime"
)

// What is found in the database because of an edit is not decided by what was
// before it: the edit is committed before it is in force.
func TestDecisionsWaitForTheEditThatIsMade(t *testing.T) {
	p := &publisher{}
	in := alone{p}
	var inForce atomic.Bool
	l := p.lock("school")
	l.Lock()
	begun, done := make(chan struct{}), make(chan bool)
	go func() {
		close(begun)
		if err := in.Reach(t.Context(), "school", 7); err != nil {
			t.Error(err)
		}
		done <- inForce.Load()
	}()
	if err := in.Reach(t.Context(), "other", 7); err != nil { // does not wait
		t.Error(err)
	}
	<-begun
	for range 1000 { // for whoever does not wait to be seen
		runtime.Gosched()
	}
	inForce.Store(true)
	l.reached(7)
	l.Unlock()
	if !<-done {
		t.Error("decided before the edit was in force")
	}
	l.Lock() // the next edit keeps nobody from what was before it
	defer l.Unlock()
	if err := in.Reach(t.Context(), "school", 7); err != nil || in.Reached("school") != 7 {
		t.Errorf("reached %d, %v", in.Reached("school"), err)
	}
}

// edited is a publisher of what stands after one edit, and its version.
func edited(t *testing.T) (*publisher, int64) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "belfry.db"), Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	version, err := db.Apply(t.Context(), belfry.Changes{Tenant: "school", Users: []belfry.User{{ID: "ada"}}})
	if err != nil {
		t.Fatal(err)
	}
	return &publisher{DB: db, dir: directory.New(directory.Options{Store: db}), subs: pipeline.NewSubscriptions(db, log), doubts: newDoubts()}, version
}

// An edit waits for those before it and not for ever, and whoever waits goes when
// nobody asks any more.
func TestEditsWaitInVainForSoLong(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		p, version := edited(t)
		var log strings.Builder
		f := newFollower(p, slog.New(slog.NewTextHandler(&log, nil)))
		f.of("school").following <- struct{}{} // somebody follows, and comes to no end
		began := time.Now()
		f.before(t.Context(), "school")
		if d := time.Since(began); d != beforeAtMost || !strings.Contains(log.String(), "an edit comes before others") {
			t.Errorf("after %v: %s", d, &log)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := f.Reach(ctx, "school", version); !errors.Is(err, context.Canceled) {
			t.Errorf("reached: %v", err)
		}
	})
}

// While an edit is stored and what it changes could not be read, nothing is
// decided that comes of it, whatever else is edited; once it is read all goes on.
func TestNothingIsDecidedBeforeAnEditIsReadBack(t *testing.T) {
	ctx := t.Context()
	p, version := edited(t)
	in := alone{p}
	p.lock("school").behind = 1 // as Apply leaves it
	p.doubts.add(&belfry.Changes{Tenant: "school"}, 1)
	for range 2 {
		if err := in.Reach(ctx, "school", version); belfry.KindOf(err) != belfry.Unavailable || in.Reached("school") >= version {
			t.Fatalf("reached %d of %d: %v", in.Reached("school"), version, err)
		}
	}
	for tenant, d := range p.doubts.take() {
		if err := p.asStored(ctx, tenant, d); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Reach(ctx, "school", version); err != nil || in.Reached("school") != version {
		t.Errorf("reached %d of %d: %v", in.Reached("school"), version, err)
	}
}

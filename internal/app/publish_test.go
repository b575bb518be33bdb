package app

import (
	"log/slog"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/store"
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

// While an edit is stored and what it changes could not be read, nothing is
// decided that comes of it, whatever else is edited; once it is read all goes on.
func TestNothingIsDecidedBeforeAnEditIsReadBack(t *testing.T) {
	ctx := t.Context()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(ctx, store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "belfry.db"), Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	version, err := db.Apply(ctx, belfry.Changes{Tenant: "school", Users: []belfry.User{{ID: "ada"}}})
	if err != nil {
		t.Fatal(err)
	}
	p := &publisher{DB: db, dir: directory.New(directory.Options{Store: db}), subs: pipeline.NewSubscriptions(db, log), doubts: newDoubts()}
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

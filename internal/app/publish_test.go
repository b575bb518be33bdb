package app

import (
	"runtime"
	"sync/atomic"
	"testing"
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

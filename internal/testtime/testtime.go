// Package testtime runs tests in virtual time: testing/synctest, with what it
// needs to be sound under the race detector.
//
// It promises what synctest.Test promises. It refuses to be used by anything but
// tests; waiting for the bubble is synctest.Wait as ever. It is tested by those
// who use it: before it, the keeper's tests crashed in two runs of three when they
// were run three times in a row.
package testtime

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test. Under the race detector the process has one processor
// meanwhile: the runtime runs the timers of a bubble with one context of the
// detector for all of them, and where two processors do so at once that is
// overwritten, and the process ends with a fault in the detector
// (golang/go#78156, Go 1.26). Races are found as before, for the detector goes by
// what happens before what, not by what happens at once.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raced {
		one.enter()
		defer one.leave()
	}
	synctest.Test(t, f)
}

// processors is how many tests need a single one now, and how many there are
// otherwise.
type processors struct {
	mu        sync.Mutex
	n, before int
}

var one processors

func (p *processors) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n++; p.n == 1 {
		p.before = runtime.GOMAXPROCS(1)
	}
}

func (p *processors) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n--; p.n == 0 {
		runtime.GOMAXPROCS(p.before)
	}
}

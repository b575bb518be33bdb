package testdb

import (
	"os"
	"sync"
	"testing"
)

// Runner is what testing.M and Wrap's result have in common.
type Runner interface{ Run() int }

// Main runs the tests of a binary, stops the servers they started and exits.
func Main(m *testing.M) { os.Exit(Wrap(m).Run()) }

// Wrap makes a Runner that runs m and then stops the servers; for goleak:
//
//	goleak.VerifyTestMain(testdb.Wrap(m))
func Wrap(m Runner) Runner { return wrapped{m} }

type wrapped struct{ m Runner }

// Run runs the tests, then stops the servers.
func (w wrapped) Run() int {
	code := w.m.Run()
	stopAll()
	return code
}

// stops holds what must be called before the binary ends, in order of start.
var stops struct {
	sync.Mutex
	all []func()
}

func atEnd(stop func()) {
	stops.Lock()
	defer stops.Unlock()
	stops.all = append(stops.all, stop)
}

func stopAll() {
	stops.Lock()
	all := stops.all
	stops.all = nil
	stops.Unlock()
	for i := len(all) - 1; i >= 0; i-- {
		all[i]()
	}
}

//go:build linux

package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/belfryhq/belfry/internal/testdb"
)

// setClock is a machine's clock that can be set.
type setClock struct {
	t      *testing.T
	binary string
	file   string
}

// newSetClock is a clock of the test's own, for the program of buildSetClock.
func newSetClock(t *testing.T, binary string) *setClock {
	t.Helper()
	c := &setClock{t: t, binary: binary, file: filepath.Join(t.TempDir(), "clock")}
	c.set(0)
	return c
}

// buildSetClock builds a program whose clock is a setClock. The program has no
// such thing: it is built once more, with one small file of another text
// (go build -overlay), and is else the same.
func buildSetClock(t *testing.T) (binary string) {
	t.Helper()
	dir := t.TempDir()
	binary = filepath.Join(dir, "belfry")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	machine := filepath.Join(here, "..", "app", "machine.go")
	if _, err := os.Stat(machine); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{machine: filepath.Join(here, "testdata", "machine.go.txt")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "github.com/belfryhq/belfry/cmd/belfry")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program with a clock that steps: %v\n%s", err, out)
	}
	return binary
}

// set makes the time of day so much ahead of what it is.
func (c *setClock) set(ahead time.Duration) {
	c.t.Helper()
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o600) // never cut short: it is in a process's memory
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	var word [8]byte
	*(*int64)(unsafe.Pointer(&word)) = int64(ahead / time.Second)
	if _, err := f.WriteAt(word[:], 0); err != nil {
		c.t.Fatal(err)
	}
}

// on is the same home, whose processes have this clock.
func (c *setClock) on(h *home) *home {
	other := *h
	other.binary = c.binary
	other.env = append(append([]string{}, h.env...), "FAULTS_CLOCK="+c.file)
	return &other
}

// steps a clock is set by, one after the other, each from what it is.
var steps = []time.Duration{time.Hour, -time.Hour, -time.Hour, 40 * time.Second, 24 * time.Hour, -25 * time.Hour}

// The machine's clock is set forward and back in mid-load: ids rise all the
// same, retries are made when they were to be, a destination that was paused
// for seconds is not paused for hours, nothing is lost and nothing repeated.
// It has the machine alone: a node that does not come to say that it lives is
// rightly taken for dead.
// feature: NEW-10, NEW-12
func TestClockSteps(t *testing.T) {
	binary := buildSetClock(t)
	t.Run("SQLite", func(t *testing.T) {
		c := newSetClock(t, binary)
		h := c.on(newHome(t))
		stepRounds(t, c, h.start(), nil)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		c := newSetClock(t, binary)
		h := newHome(t, append(onPostgres(testdb.Postgres(t)), "BELFRY_NODES_LEASE="+lease.String())...)
		stepRounds(t, c, c.on(h).start(), h.start())
		c.set(-time.Minute)
		c.on(h).refused("clock is 1m0", "behind the database's", "NTP", "start again")
	})
}

func stepRounds(t *testing.T, c *setClock, p, other *process) {
	t.Cleanup(func() { c.set(0) })
	a := furnish(t, p)
	ps := []*process{p}
	if other != nil {
		ps = append(ps, other)
		a.gather(t, p)
		divided(t, p, 2)
	}
	// One that is down, and comes back after a clock was set back.
	var down atomic.Bool
	broken := newReceiver(t, "broken", func(string, int) (int, time.Duration) {
		if down.Load() {
			return http.StatusInternalServerError, 0
		}
		return http.StatusOK, 0
	})
	a.all = append(a.all, broken)
	p.subscribe(broken.URL, nil)
	l := newLoad(t, p)
	l.to(ps...)
	l.begin(1, 1, 20)
	last, ahead := "", time.Duration(0)
	rises := func() {
		t.Helper()
		var got struct{ IDs []string }
		one := l.draw(1)[0]
		p.call(http.MethodPost, "/v1/events", one, &got)
		l.mu.Lock()
		one.evt = got.IDs[0]
		l.mu.Unlock()
		if one.evt <= last {
			t.Errorf("event %s was accepted after %s", one.evt, last)
		}
		last = one.evt
	}
	for range rounds(t, 1) {
		for _, by := range steps {
			rises()
			if by == -time.Hour {
				down.Store(true)
				from := strings.Count(p.logged(), "pausing it") + othersLog(other, "pausing it")
				await(t, patience, "paused", func() (bool, string) {
					n := strings.Count(p.logged(), "pausing it") + othersLog(other, "pausing it")
					return n > from, fmt.Sprint(n)
				})
			}
			ahead += by
			c.set(ahead)
			rises()
			l.grows(p, 60)
			down.Store(false)
			rises()
		}
	}
	l.end()
	l.settle(p, a)
	l.noRepeats(a)
	for _, p := range ps {
		if strings.Contains(p.logged(), "taken for dead") || strings.Contains(p.logged(), "has died") {
			t.Error("a node was taken for dead because a clock was set")
		}
	}
}

func othersLog(p *process, words string) int {
	if p == nil {
		return 0
	}
	return strings.Count(p.logged(), words)
}

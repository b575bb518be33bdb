//go:build linux

package faults_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that is full: producers are told so with 503, the program lives on,
// and when there is space again everything that was accepted arrives.
// feature: NEW-10, NEW-12
func TestFullDisk(t *testing.T) {
	t.Parallel()
	t.Run("no space left", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		// Large enough for all the load brings, so that only the ballast fills it.
		if err := unix.Mount("belfry", dir, "tmpfs", 0, "size=160m"); err != nil {
			if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
				t.Logf("only root can make a small disk; the limit of the other test stands for it")
				return
			}
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		h := homeIn(t, dir)
		ballast := filepath.Join(dir, "ballast")
		fillDisk(t, h, func(*process) { fill(t, ballast) }, func(*process) { _ = os.Remove(ballast) })

		// And a start on a full disk says what is wrong, or works.
		fill(t, ballast)
		p := h.spawn()
		select {
		case <-p.up:
			p.kill()
		case <-p.done:
			if !strings.Contains(p.logged(), "disk") || p.cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("a start on a full disk ends with %d and says\n%s", p.cmd.ProcessState.ExitCode(), p.logged())
			}
		case <-time.After(patience):
			t.Error("a start on a full disk neither works nor ends")
		}
		_ = os.Remove(ballast)
		h.start().idle()
	})
	t.Run("no file may grow", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		limit := func(size func() uint64) func(*process) {
			return func(p *process) {
				if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size(), Max: unix.RLIM_INFINITY}, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		fillDisk(t, h, limit(func() uint64 { return 4096 }), limit(func() uint64 { return unix.RLIM_INFINITY }))
	})
}

// fillDisk is the test, whatever makes the disk full.
func fillDisk(t *testing.T, h *home, full, free func(*process)) {
	p := h.start()
	a := furnish(t, p)
	l := newLoad(t, p)
	l.begin(2, 2, 20)
	times := 0
	for range rounds(t, 3) {
		times++
		l.grows(p, 60)
		full(p)
		n := l.refused()
		await(t, patience, "refused", func() (bool, string) {
			p.alive()
			return l.refused() > n+5, l.summary()
		})
		got, err := do(client, http.MethodPut, p.url+"/v1/users/dora", "application/json", strings.NewReader(`{"name":"Dora"}`))
		if err != nil {
			t.Error(err)
		} else if got.status == 503 {
			got.problem(t)
		} else if got.status >= 300 { // a little may fit in still
			t.Errorf("an edit on a full disk: %d %s", got.status, got.body)
		}
		p.call(http.MethodGet, "/v1/events?limit=1", nil, nil) // reading goes on
		free(p)
	}
	l.grows(p, 60)
	l.end()
	l.settle(p, a)
	// Each refused request has met the disk; the log has some lines of it, each
	// time that the disk was full.
	log := p.logged()
	if n := strings.Count(log, "commit failed"); n < 1 || n > 33*times {
		t.Errorf("%d lines tell of failed commits, want a few of each of %d times", n, times)
	}
	if !strings.Contains(log, "commits succeed again") {
		t.Error("no line tells that the disk takes commits again")
	}
	l.noRepeats(a)
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	sound(t, filepath.Join(h.dir, "belfry.db"))
}

// fill writes a file until nothing more goes in.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

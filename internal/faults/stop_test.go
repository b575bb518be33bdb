//go:build linux

package faults_test

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// SIGTERM in mid-load drains: what was begun is ended and recorded, so that
// nothing at all is repeated by the next process.
// feature: NEW-10, NEW-12
func TestStoppedInMidLoad(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		stopRounds(t, h, 5)
		sound(t, filepath.Join(h.dir, "belfry.db"))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		stopRounds(t, newHome(t, onPostgres(testdb.Postgres(t))...), 3)
	})
}

func stopRounds(t *testing.T, h *home, short int) {
	p := h.start()
	a := furnish(t, p)
	l := newLoad(t, p)
	l.begin(2, 2, 20)
	longest := time.Duration(0)
	stops := 0
	for range rounds(t, short) {
		stops++
		<-time.After(time.Duration(200+rand.Int64N(600)) * time.Millisecond)
		begun := time.Now()
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d, want 0:\n%s", code, last(p.logged(), 2000))
		}
		longest = max(longest, time.Since(begun))
		if !strings.Contains(p.logged(), "msg=stopped") {
			t.Errorf("does not say that it stopped:\n%s", last(p.logged(), 2000))
		}
		p = h.start()
		l.to(p)
	}
	l.end()
	l.settle(p, a)
	for _, r := range a.receivers() {
		for _, again := range r.repeats() {
			t.Errorf("%s got event %s twice, at %v and %v", r.name, again.event, again.first.at, again.second.at)
		}
	}
	t.Logf("%d stops, no repeat, the longest took %v", stops, longest.Round(time.Millisecond))
}

// hanging is a receiver that answers nobody before release is closed; each
// arrival is told on arrived.
func hanging(t *testing.T) (s *httptest.Server, arrived <-chan string, release chan struct{}) {
	told, release := make(chan string, 10_000), make(chan struct{})
	s = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case told <- r.Header.Get("webhook-id"):
		default:
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() {
		select {
		case <-release:
		default:
			close(release)
		}
	})
	return s, told, release
}

func soon[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
	return v
}

// A stop waits for a receiver that hangs only as long as it was told to, and
// the send it cut off is made again by the next process.
// feature: NEW-10
func TestStopDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	h := newHome(t, "BELFRY_LIMITS_DRAIN=1s")
	receiver, arrived, release := hanging(t)
	p := h.start()
	p.subscribe(receiver.URL, nil)
	p.call(http.MethodPost, "/v1/events", map[string]string{"id": "1", "source": "s", "type": "a.b"}, nil)
	first := soon(t, arrived, "the webhook")
	begun := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 || time.Since(begun) > 20*time.Second {
		t.Errorf("exit code %d after %v", code, time.Since(begun))
	}
	close(release)
	p = h.start()
	if again := soon(t, arrived, "the webhook again"); again != first {
		t.Errorf("sent again under %s, was %s", again, first)
	}
	p.idle()
}

// The second signal does not wait.
func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	h := newHome(t, "BELFRY_LIMITS_DRAIN=5m")
	receiver, arrived, _ := hanging(t)
	p := h.start()
	p.subscribe(receiver.URL, nil)
	p.call(http.MethodPost, "/v1/events", map[string]string{"id": "1", "source": "s", "type": "a.b"}, nil)
	soon(t, arrived, "the webhook")
	p.signal(syscall.SIGTERM)
	await(t, patience, "stopping", func() (bool, string) { return strings.Contains(p.logged(), "msg=stopping"), p.logged() })
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(p.logged(), "stopped at once") {
		t.Errorf("says %s", last(p.logged(), 1000))
	}
}

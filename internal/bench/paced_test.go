package bench

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStreamsAreCountedApart(t *testing.T) {
	p, r := newPeer(t)
	one := &stream{name: "one", rig: r, perSecond: 400, events: 40, fan: 1, event: func(b []byte, seq int64) []byte { return appendEvent(b, "bench.single", seq) }}
	// The peer tells three endpoints of it.
	all := &stream{name: "all", rig: r, perSecond: 100, after: 20 * time.Millisecond, events: 5, fan: 3, event: func(b []byte, seq int64) []byte { return appendEvent(b, "bench.fanout", seq) }}
	streams := []*stream{one, all}
	if err := flow(t.Context(), time.Now(), streams); err != nil {
		t.Fatal(err)
	}
	if err := arrived(t.Context(), streams, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if a, b := one.samples(), all.samples(); len(a) != 40 || len(b) != 15 || b[0].due != 20*time.Millisecond || b[14].due != 60*time.Millisecond || b[2].due != b[0].due || a[39].due != 97500*time.Microsecond {
		t.Error(a, b)
	}

	p.lose.Store(true)
	p.twice.Store(true)
	if err := flow(t.Context(), time.Now(), streams[:1]); err != nil {
		t.Fatal(err)
	}
	err := arrived(t.Context(), streams[:1], 100*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "one: 1 of 40") || one.tally().repeated != 1 {
		t.Error("a loss went unseen:", err, one.tally())
	}

	// An error of one ends all at once.
	away := *all
	away.rig, err = newRig("http://127.0.0.1:1", "key", r.sink)
	if err != nil {
		t.Fatal(err)
	}
	long := *one
	long.events, long.perSecond = 1000, 1
	if err := flow(t.Context(), time.Now(), []*stream{&long, &away}); err == nil || !strings.HasPrefix(err.Error(), "all: ") {
		t.Error(err)
	}
}

func TestTimesByWhenTheyWereDue(t *testing.T) {
	var list []sample
	for i := range 400 { // 100 a second, each slower by a millisecond
		list = append(list, sample{due: time.Duration(399-i) * 10 * time.Millisecond, took: time.Duration(400-i) * time.Millisecond})
	}
	got := overTime(list, time.Second, 99)
	want := []point{{0.5, 99}, {1.5, 199}, {2.5, 299}, {3.5, 399}}
	if !slices.Equal(got, want) {
		t.Error(got)
	}
	if b := between(list, time.Second, 2*time.Second); len(b) != 100 || b[0] != 101*time.Millisecond || b[99] != 200*time.Millisecond {
		t.Error(b)
	}
	if overTime(nil, time.Second, 50) == nil || between(nil, 0, time.Hour) != nil {
		t.Error("of nothing")
	}
}

func TestHangingEndpointsAreReleased(t *testing.T) {
	s, err := startSink()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	h := &hang{from: 1, pause: time.Hour, release: make(chan struct{})}
	s.hang.Store(h)
	s.track.Store(newTrack(0, 8, 2, false))
	call := func(ctx context.Context, path string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, strings.NewReader(`{"seq":1}`))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := call(t.Context(), "/0"); err != nil {
		t.Error("a healthy endpoint hangs:", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := call(short, "/1"); err == nil {
		t.Error("an endpoint that hangs answered")
	}
	answered := make(chan error, 1)
	go func() { answered <- call(t.Context(), "/1") }()
	close(h.release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if n := s.track.Load().received.Load(); n != 2 {
		t.Errorf("%d were received", n)
	}
}

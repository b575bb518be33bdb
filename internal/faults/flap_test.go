//go:build linux

package faults_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Receivers that are up, down and up again, each in its way, while events come
// in: the breaker of each spares it while it is down, the others notice
// nothing, and once it is up it gets everything.
// feature: PEER-5, NEW-10
func TestReceiversFlap(t *testing.T) {
	t.Parallel()
	p := newHome(t).start()
	a := furnish(t, p)
	// One answers with errors, one is not there, one hangs.
	var down atomic.Bool
	fails := newReceiver(t, "fails", func(string, int) (int, time.Duration) {
		if down.Load() {
			return http.StatusInternalServerError, 0
		}
		return http.StatusOK, 0
	})
	behind := func(r *receiver) (*wire, string) {
		u, err := url.Parse(r.URL)
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(t, u.Host)
		return w, "http://" + w.Addr().String()
	}
	absent, hangs := newReceiver(t, "absent", prompt), newReceiver(t, "hangs", prompt)
	absentWire, absentURL := behind(absent)
	hangsWire, hangsURL := behind(hangs)
	ids := map[*receiver]string{}
	for r, url := range map[*receiver]string{fails: fails.URL, absent: absentURL, hangs: hangsURL} {
		var ep struct{ ID string }
		made := map[string]any{"url": url, "schedule": []string{"1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s"}}
		if r == hangs {
			// Only this one is given up by the clock. A busy machine can take a
			// second over an answer: the sender has then given up what the
			// receiver took, and sends it again, as it must.
			made["timeout"] = "3s"
		}
		p.call(http.MethodPost, "/v1/endpoints", made, &ep)
		p.call(http.MethodPost, "/v1/subscriptions", map[string]any{"notify": []any{map[string]any{"endpoint": ep.ID}}}, nil)
		ids[r] = ep.ID
	}
	a.all = append(a.all, fails, absent, hangs)
	paused := func(r *receiver) (n int) {
		for line := range strings.Lines(p.logged()) {
			if strings.Contains(line, "pausing it") && strings.Contains(line, ids[r]) {
				n++
			}
		}
		return n
	}
	l := newLoad(t, p)
	l.begin(1, 1, 10)
	var gaps []death
	most := 0
	for range rounds(t, 1) {
		l.grows(p, 60)
		was := map[*receiver]int{}
		for r := range ids {
			was[r] = paused(r)
		}
		d := death{sent: time.Now()}
		down.Store(true)
		absentWire.refuse()
		hangsWire.stall()
		for r := range ids {
			await(t, patience, r.name+" spared", func() (bool, string) { n := paused(r); return n > was[r], fmt.Sprint(n) })
		}
		healthy, tried := len(a.every.received()), fails.arrivals()
		l.grows(p, 100)
		await(t, 10*time.Second, "told to the healthy one", func() (bool, string) {
			n := len(a.every.received())
			return n >= healthy+100, fmt.Sprintf("%d then, %d now", healthy, n)
		})
		most = max(most, fails.arrivals()-tried)
		hangsWire.drop() // what it holds back is lost: the sends of it were given up
		d.until = time.Now()
		down.Store(false)
		absentWire.heal()
		hangsWire.heal()
		d.dead = time.Now()
		gaps = append(gaps, d)
		for r := range ids {
			n := len(r.received())
			await(t, patience, r.name+" told again", func() (bool, string) { return len(r.received()) > n, fmt.Sprint(n) })
		}
	}
	l.end()
	l.settle(p, a)
	// Those that were cut off in the middle of an answer get it again.
	l.excused(a, gaps)
	for _, r := range a.receivers() {
		if n := len(r.repeats()); n > 0 && r != absent && r != hangs {
			t.Errorf("%s got %d repeats, and nothing was cut off there", r.name, n)
		}
	}
	// It is tried with what was under way when the breaker opened, and then by one
	// probe after each cool-down, not by each of a hundred events.
	if most > 20 {
		t.Errorf("one that was down was tried %d times while 100 events came in", most)
	}
}

// arrivals is how many requests came in.
func (r *receiver) arrivals() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hits {
		n += len(h.arrivals)
	}
	return n
}

//go:build linux

package faults_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// raw is an HTTP server whose answers are written by hand. The connection is
// closed with a reset when speak returns, or when the test ends.
func raw(t *testing.T, hits *atomic.Int64, speak func(c net.Conn, done <-chan struct{})) *httptest.Server {
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		hits.Add(1)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetLinger(0)
		speak(c, done)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(done) })
	return s
}

// drip writes text a byte at a time until the other side has had enough.
func drip(c net.Conn, done <-chan struct{}, text func(i int) byte) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		case <-tick.C:
			if _, err := c.Write([]byte{text(i)}); err != nil {
				return
			}
		}
	}
}

// Receivers that misbehave in every way harm nobody but themselves: a healthy
// one gets everything at once, all that can be told to the others is, and what
// is wrong with each is said in words.
// feature: PEER-3, PEER-5, NSY-10
func TestHostileReceivers(t *testing.T) {
	t.Parallel()
	p := newHome(t).start()
	p.call(http.MethodPut, "/v1/users/owner", map[string]string{"name": "Owner"}, nil)
	healthy := newReceiver(t, "healthy", prompt)
	elsewhere := newReceiver(t, "elsewhere", prompt)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	const gigabyte = 1 << 30
	var poured atomic.Int64
	seen := make([]atomic.Int64, 16)
	endless := "HTTP/1.1 200 OK\r\nX-Endless: "
	bad := []struct {
		name string
		url  string
		ends bool   // sooner or later everything is told
		says string // of an attempt's detail
	}{
		{"hangs", raw(t, &seen[0], func(_ net.Conn, done <-chan struct{}) { <-done }).URL, false, "no answer within 1s"},
		{"resets", raw(t, &seen[1], func(net.Conn, <-chan struct{}) {}).URL, false, "closed before an answer"},
		{"answers byte by byte", raw(t, &seen[2], func(c net.Conn, done <-chan struct{}) {
			drip(c, done, func(i int) byte { return (endless + strings.Repeat("a", 1<<16))[i] })
		}).URL, false, "no answer within 1s"},
		{"has endless headers", raw(t, &seen[3], func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, endless)
			for {
				if _, err := c.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}).URL, false, "header"},
		{"is no HTTP server", raw(t, &seen[4], func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, "220 mail.example.org ESMTP\r\n") }).URL, false, "malformed HTTP"},
		{"redirects", serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}), false, "redirects are not followed"},
		{"is not there", closed.URL, false, "nothing listens there"},
		{"always fails", serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no database\x00\x1b[31m", 500) }), false, "no database"},
		{"answers a gigabyte", serve(t, func(w http.ResponseWriter, _ *http.Request) {
			for sent := 0; sent < gigabyte; sent += 1 << 16 {
				if n, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				} else {
					poured.Add(int64(n))
				}
			}
		}), true, ""},
		{"flaps", serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if seen[5].Add(1)%2 == 1 {
				w.WriteHeader(http.StatusBadGateway)
			}
		}), true, ""},
		{"is busy", serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if seen[6].Add(1)%3 == 1 {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
			}
		}), true, ""},
		{"dribbles its body", raw(t, &seen[7], func(c net.Conn, done <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
			drip(c, done, func(int) byte { return 'x' })
		}).URL, true, ""},
	}
	ids := make([]string, len(bad))
	endpoint := func(url string, ends bool, timeout string) string {
		waits := []string{"200ms", "200ms", "300ms", "400ms", "500ms", "1h"}
		if ends {
			waits = slices.Repeat([]string{"200ms"}, 30)
		}
		var ep struct{ ID string }
		p.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": url, "timeout": timeout, "schedule": waits, "owner": "owner"}, &ep)
		p.call(http.MethodPost, "/v1/subscriptions", map[string]any{"types": []string{"load.*"}, "notify": []any{map[string]any{"endpoint": ep.ID}}}, nil)
		return ep.ID
	}
	for i, b := range bad {
		ids[i] = endpoint(b.url, b.ends, "1s")
	}
	gone := endpoint(serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }), false, "1s")
	// What is given up after a second on a busy machine would be sent again.
	well := endpoint(healthy.URL, true, "20s")

	// As many more as the busy one takes in the patience of a long run.
	events := 60 + min(int(soak/(3*time.Second)), 540)
	for i := range events {
		p.call(http.MethodPost, "/v1/events", map[string]string{"id": fmt.Sprint(i), "source": "/h", "type": "load.x"}, nil)
		if i%20 == 19 { // also after the others were found wanting
			await(t, 10*time.Second, "told to the healthy one", func() (bool, string) {
				n := len(healthy.received())
				return n == i+1, fmt.Sprintf("%d of %d", n, i+1)
			})
		}
	}
	open := func() map[string]int {
		n := map[string]int{}
		for _, state := range []string{"scheduled", "retrying"} {
			for _, d := range list[struct{ Address string }](p, "/v1/deliveries?state="+state) {
				n[d.Address]++
			}
		}
		return n
	}
	await(t, patience, "told to those that can be told", func() (bool, string) {
		p.alive()
		n, left := open(), ""
		for i, b := range bad {
			if b.ends && n[ids[i]] > 0 {
				left += fmt.Sprintf("%s: %d; ", b.name, n[ids[i]])
			}
		}
		// What was planned for the one that is gone waits, should it be resumed.
		return left == "" && n[well] == 0, fmt.Sprintf("%sthe healthy one: %d", left, n[well])
	})
	for i, b := range bad {
		details := p.details(ids[i])
		if !b.ends && open()[ids[i]] != events {
			t.Errorf("%s: %d deliveries are open, want all %d", b.name, open()[ids[i]], events)
		}
		if !strings.Contains(details, b.says) {
			t.Errorf("%s: %q is not said in %s", b.name, b.says, details)
		}
		if strings.ContainsAny(details, "\x00\x1b") {
			t.Errorf("%s: control characters in %q", b.name, details)
		}
	}
	if n := len(elsewhere.received()); n > 0 {
		t.Errorf("%d redirects were followed", n)
	}
	if got := healthy.repeats(); len(got) > 0 {
		t.Errorf("the healthy one got %d repeats", len(got))
	}
	// What is poured beyond what is looked at is not read: it stays in the
	// sockets' buffers.
	if n := poured.Load(); n > int64(events)*32<<20 {
		t.Errorf("%d MB were read of answers nobody needs", n>>20)
	}
	var ep struct{ State, Because string }
	p.call(http.MethodGet, "/v1/endpoints/"+gone, nil, &ep)
	if ep.State != "disabled" || !strings.Contains(ep.Because, "410") {
		t.Errorf("the endpoint that is gone: %+v", ep)
	}
	await(t, patience, "told to its owner", func() (bool, string) {
		rows := list[struct{ Type string }](p, "/v1/users/owner/inbox")
		return len(rows) == 1 && rows[0].Type == "belfry.endpoint_disabled", fmt.Sprint(rows)
	})
	rss := p.rss(t)
	if rss > 300<<20 {
		t.Errorf("the program holds %d MB", rss>>20)
	}
	t.Logf("%d bad receivers; the program holds %d MB; %d MB of the gigabytes went out", len(bad), rss>>20, poured.Load()>>20)
}

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// details is what the attempts at an endpoint say.
func (p *process) details(endpoint string) string {
	p.t.Helper()
	var b strings.Builder
	looked := 0
	for _, d := range list[struct {
		ID, Address string
		Tries       int
	}](p, "/v1/deliveries") {
		if d.Address != endpoint || d.Tries == 0 || looked == 20 {
			continue
		}
		looked++
		var one struct {
			Attempts []struct{ Outcome, Detail string }
		}
		p.call(http.MethodGet, "/v1/deliveries/"+d.ID, nil, &one)
		for _, a := range one.Attempts {
			fmt.Fprintf(&b, "%s %s; ", a.Outcome, a.Detail)
		}
	}
	return b.String()
}

// rss is the memory of the process, in bytes.
func (p *process) rss(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

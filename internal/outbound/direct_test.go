package outbound_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/outbound"
)

// local is a guard that reaches this machine.
func local(t testing.TB) *outbound.Guard {
	t.Helper()
	allow, err := outbound.ParseAllow("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	g := outbound.New(outbound.Options{Allow: allow})
	t.Cleanup(g.Close)
	return g
}

// post is a request that may be repeated, as those of webhooks are.
func post(ctx context.Context, t testing.TB, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Idempotency-Key"] = nil
	return req
}

// raw serves each connection with f; it ends with the test.
func raw(t testing.TB, f func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				f(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + ln.Addr().String() + "/"
}

// take reads one request to its end.
func take(br *bufio.Reader) error {
	req, err := http.ReadRequest(br)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err
}

func do(t *testing.T, g *outbound.Guard, req *http.Request) (int, string) {
	t.Helper()
	resp, err := outbound.Within(g.Client().Transport, req, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, string(body)
}

// Requests one after the other use one connection; an answer that was not read
// to its end costs it.
func TestConnectionsAreKept(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/chunked":
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "b")
		case "/long":
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		default:
			_, _ = io.Copy(w, r.Body)
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	g := local(t)
	for range 3 {
		for path, want := range map[string]string{"/none": "", "/chunked": "ab", "/echo": "hello"} {
			if _, got := do(t, g, post(t.Context(), t, srv.URL+path, "hello")); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	resp, err := g.Client().Do(post(t.Context(), t, srv.URL+"/long", ""))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	do(t, g, post(t.Context(), t, srv.URL+"/none", ""))
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// A peer that closed a kept connection, with or without a last word, is asked
// again over a new one. A request that must not be repeated is lost instead.
func TestClosedWhileKept(t *testing.T) {
	for _, tc := range []struct {
		name, last string
		wait       bool // until the close arrived and is seen before sending
		repeatable bool
		fails      bool
	}{
		{name: "seen", wait: true, repeatable: true},
		{name: "seen, not repeatable", wait: true},
		{name: "a last word", last: "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", wait: true, repeatable: true},
		{name: "as the request comes", repeatable: true},
		{name: "as the request comes, not repeatable", fails: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var n atomic.Int32
			gone := make(chan struct{})
			url := raw(t, func(c net.Conn, br *bufio.Reader) {
				first := n.Add(1) == 1
				for take(br) == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					if !first {
						continue
					}
					if !tc.wait {
						_, _ = br.Peek(1) // the second request is here, and unread
					}
					_, _ = io.WriteString(c, tc.last)
					_ = c.Close()
					close(gone)
					return
				}
			})
			g := local(t)
			do(t, g, post(t.Context(), t, url, "first"))
			if tc.wait {
				<-gone
				<-time.After(150 * time.Millisecond) // longer than a kept connection is used without a look
			}
			req := post(t.Context(), t, url, "second")
			if !tc.repeatable {
				req.Header = http.Header{}
			}
			resp, err := g.Client().Transport.RoundTrip(req)
			if (err != nil) != tc.fails {
				t.Fatalf("error %v, want one: %v", err, tc.fails)
			}
			if err == nil {
				if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
					t.Errorf("status %d", resp.StatusCode)
				}
			}
		})
	}
}

// However a peer drags on, a request ends by its bound, and at once when it is
// cancelled.
func TestEndsInTime(t *testing.T) {
	for name, serve := range map[string]func(net.Conn, *bufio.Reader, <-chan struct{}){
		"silent":    func(_ net.Conn, br *bufio.Reader, over <-chan struct{}) { _ = take(br); <-over },
		"reads not": func(_ net.Conn, br *bufio.Reader, over <-chan struct{}) { _, _ = br.ReadByte(); <-over },
		"head byte by byte": func(c net.Conn, br *bufio.Reader, _ <-chan struct{}) {
			_ = take(br)
			for err := error(nil); err == nil; <-time.After(5 * time.Millisecond) {
				_, err = io.WriteString(c, "H")
			}
		},
		"body byte by byte": func(c net.Conn, br *bufio.Reader, _ <-chan struct{}) {
			_ = take(br)
			_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
			for ; err == nil; <-time.After(5 * time.Millisecond) {
				_, err = io.WriteString(c, "x")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			url := raw(t, func(c net.Conn, br *bufio.Reader) { serve(c, br, over) })
			t.Cleanup(func() { close(over) })
			g := local(t)
			for _, cancelled := range []bool{false, true} {
				ctx, cancel := context.WithCancel(t.Context())
				bound, want := 200*time.Millisecond, context.DeadlineExceeded
				if cancelled {
					bound, want = time.Minute, context.Canceled
					time.AfterFunc(100*time.Millisecond, cancel)
				}
				begun := time.Now()
				resp, err := outbound.Within(g.Client().Transport, post(ctx, t, url, strings.Repeat("x", 32<<20)), bound)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				if took := time.Since(begun); !errors.Is(err, want) || took > 10*time.Second {
					t.Errorf("cancelled %v: %v after %v, want %v", cancelled, err, took, want)
				}
				cancel()
			}
		})
	}
}

// What a peer answers reads as it does over http.Transport.
func TestAnswersReadAsNetHTTPReadsThem(t *testing.T) {
	for _, answer := range answers {
		compare(t, answer)
	}
	// A peer that wants no more of a long request says so and closes.
	url := raw(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = br.ReadByte()
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.CopyN(io.Discard, br, 1<<20)
	})
	g := local(t)
	if code, _ := do(t, g, post(t.Context(), t, url, strings.Repeat("x", 64<<20))); code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", code)
	}
}

var answers = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 204 No Content\r\n\r\n",
	"HTTP/1.1 200 OK\r\n\r\nuntil the end",
	"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
	"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\n!",
	strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 10) + "HTTP/1.1 200 OK\r\n\r\n",
	"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 410 Gone\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 20 OK\r\n\r\n",
	"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
	"SSH-2.0-OpenSSH_9.2\r\n",
	"HTTP/1.1 200 OK\r\nBad Header: 1\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 100<<10) + "\r\n\r\n",
	"\r\n\r\n", "",
}

// FuzzAnswer holds the direct way against http.Transport.
func FuzzAnswer(f *testing.F) {
	for _, a := range answers {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		if strings.Contains(answer, " 101") {
			return // the connection would change hands
		}
		compare(t, answer)
	})
}

func compare(t *testing.T, answer string) {
	t.Helper()
	url := raw(t, func(c net.Conn, br *bufio.Reader) {
		if take(br) == nil {
			_, _ = io.WriteString(c, answer)
		}
	})
	read := func(rt http.RoundTripper) string {
		req := post(t.Context(), t, url, "question")
		req.Header = http.Header{} // each is asked once
		resp, err := rt.RoundTrip(req)
		if err != nil {
			return "error"
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return fmt.Sprintln(resp.StatusCode, resp.Header, resp.ContentLength, string(body), err != nil)
	}
	theirs := &http.Transport{MaxResponseHeaderBytes: 64 << 10, DisableCompression: true}
	defer theirs.CloseIdleConnections()
	if got, want := read(local(t).Client().Transport), read(theirs); got != want {
		t.Errorf("answer %.200q\n got %.300s\nwant %.300s", answer, got, want)
	}
}

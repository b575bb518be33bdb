package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sink is the receiver of webhooks: a real server on loopback. Endpoint n
// posts to /n.
type sink struct {
	server *http.Server
	url    string
	failed chan error

	track   atomic.Pointer[track] // the first of what is counted now
	mu      sync.RWMutex
	secrets map[int][]byte // HMAC keys by endpoint
	buffers sync.Pool
	hang    atomic.Pointer[hang]
}

// hang makes endpoints from a number on answer late.
type hang struct {
	from    int
	pause   time.Duration
	release chan struct{} // closed = nobody waits any more
}

func (h *hang) wait(ctx context.Context) {
	timer := time.NewTimer(h.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.release:
	case <-ctx.Done():
	}
}

// sampled is how many deliveries share one check of the signature.
const sampled = 16

// track counts what one round sends.
type track struct {
	base, events int64 // sequence numbers base..base+events-1
	fan          int   // deliveries of one event
	seen         [][]atomic.Uint64

	received   atomic.Int64 // each delivery once
	repeated   atomic.Int64
	badSigned  atomic.Int64
	checked    atomic.Int64
	unexpected atomic.Int64
	step       chan struct{} // told now and then that something came
	sent       []atomic.Int64
	latencies  []atomic.Int64 // ns by event and delivery of it, 0 = not there yet; nil = not measured
	each       int            // latencies of an event
	began      time.Time
	also       []*track // counted at the same time, of other sequence numbers
}

// of finds what counts a sequence number: t itself when nothing does.
func (t *track) of(seq int64) *track {
	for _, a := range t.also {
		if seq >= a.base && seq < a.base+a.events {
			return a
		}
	}
	return t
}

func newTrack(base, events int64, fan int, latencies bool) *track {
	t := &track{base: base, events: events, fan: fan, step: make(chan struct{}, 1), began: time.Now()}
	for range fan {
		t.seen = append(t.seen, make([]atomic.Uint64, events/64+1))
	}
	if latencies {
		t.measure(1, t.began)
	}
	return t
}

// measure makes the track keep times from a start on, each per event.
func (t *track) measure(each int, start time.Time) {
	t.began, t.each = start, each
	t.sent = make([]atomic.Int64, t.events)
	t.latencies = make([]atomic.Int64, t.events*int64(each))
}

func startSink() (*sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{url: "http://" + ln.Addr().String(), failed: make(chan error, 1), secrets: map[int][]byte{}}
	s.buffers.New = func() any { return new(bytes.Buffer) }
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := s.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
	return s, nil
}

func (s *sink) close() { _ = s.server.Close() }

func (s *sink) keep(endpoint int, secret string) error {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return fmt.Errorf("the endpoint's secret is not whsec_ and base64: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[endpoint] = raw
	return nil
}

// ServeHTTP takes one delivery.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	buf := s.buffers.Get().(*bytes.Buffer)
	defer s.buffers.Put(buf)
	buf.Reset()
	if _, err := io.Copy(buf, r.Body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if t := s.track.Load(); t != nil {
		endpoint, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		seq, ok := sequence(buf.Bytes())
		if err != nil || !ok {
			t.unexpected.Add(1)
		} else {
			t = t.of(seq)
			t.mark(endpoint, seq, now)
			if seq%sampled == 0 {
				t.checked.Add(1)
				if !s.signed(endpoint, r.Header, buf.Bytes()) {
					t.badSigned.Add(1)
				}
			}
			if h := s.hang.Load(); h != nil && endpoint >= h.from {
				h.wait(r.Context())
			}
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

var seqMark = []byte(`"seq":`)

// sequence finds the number the generator put into the event.
func sequence(body []byte) (int64, bool) {
	_, rest, ok := bytes.Cut(body, seqMark)
	if !ok {
		return 0, false
	}
	var n int64
	for i, c := range rest {
		if c < '0' || c > '9' {
			return n, i > 0
		}
		n = n*10 + int64(c-'0')
	}
	return 0, false
}

func (t *track) mark(endpoint int, seq int64, now time.Time) {
	i := seq - t.base
	if i < 0 || i >= t.events || endpoint < 0 || endpoint >= t.fan {
		t.unexpected.Add(1) // of a round before
		return
	}
	word, bit := &t.seen[endpoint][i/64], uint64(1)<<(i%64)
	if word.Or(bit)&bit != 0 {
		t.repeated.Add(1)
		return
	}
	if t.latencies != nil {
		t.latencies[i*int64(t.each)+int64(endpoint%t.each)].Store(max(1, now.Sub(t.began).Nanoseconds()-t.sent[i].Load()))
	}
	if n := t.received.Add(1); n%64 == 0 || t.latencies != nil || t.fan == 1 {
		select {
		case t.step <- struct{}{}:
		default:
		}
	}
}

// signed checks a Standard Webhooks signature.
func (s *sink) signed(endpoint int, h http.Header, body []byte) bool {
	s.mu.RLock()
	secret := s.secrets[endpoint]
	s.mu.RUnlock()
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, h.Get("Webhook-Id")+"."+h.Get("Webhook-Timestamp")+".")
	_, _ = mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, got := range strings.Fields(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return len(secret) > 0
		}
	}
	return false
}

// wait returns when n deliveries are in, or says how many are missing.
func (t *track) wait(ctx context.Context, n int64) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if t.received.Load() >= n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d deliveries did not arrive: %w", n-t.received.Load(), n, context.Cause(ctx))
		}
	}
}

// sound says what was wrong with what arrived.
func (t *track) sound() error {
	if n := t.badSigned.Load(); n > 0 {
		return fmt.Errorf("%d of %d signatures checked were wrong", n, t.checked.Load())
	}
	return nil
}

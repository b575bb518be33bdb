// Package channeltest checks that a Sender keeps the promises of package
// channel: it honours its deadline against peers that hang, drop or are not
// there, survives hostile content, hides secrets, works from many goroutines,
// and closes without leaving anything behind.
//
// It promises to use real sockets only; what a status of the protocol means is
// each channel's own table and its own test.
//
// It refuses to run in parallel with other tests: it counts goroutines.
package channeltest

import (
	"context"
	"io"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// Subject is a channel under test.
type Subject struct {
	// Open makes a Sender whose peer listens at address (host:port), and a
	// target that reaches it.
	Open func(t *testing.T, address string) (channel.Sender, channel.Target)
	// Accepting starts a peer that takes every message, and tells how many it
	// has taken.
	Accepting func(t *testing.T) (address string, taken func() int)
	// Echoing starts a peer that refuses and repeats in its answer whatever it
	// was told, credentials included.
	Echoing func(t *testing.T) (address string)
	// Secrets are texts that no Detail may hold.
	Secrets []string
	// Message is one that an accepting peer takes. Its ID is replaced.
	Message belfry.Message
}

// Run checks everything.
func Run(t *testing.T, s Subject) {
	for name, check := range map[string]func(*testing.T, Subject){
		"delivers":           delivers,
		"concurrent":         concurrent,
		"hanging":            hanging,
		"cancelled":          cancelled,
		"dropping":           dropping,
		"absent":             absent,
		"hostile":            hostile,
		"echoing":            echoing,
		"close":              closing,
		"close while in use": closingInUse,
	} {
		before := goleak.IgnoreCurrent()
		t.Run(name, func(t *testing.T) { check(t, s) })
		if err := goleak.Find(before); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (s *Subject) message(i int) *belfry.Message {
	m := s.Message
	m.ID = belfry.DeliveryID("evt_0", i, "test", "nobody")
	return &m
}

func (s *Subject) open(t *testing.T, address string) (channel.Sender, channel.Target) {
	t.Helper()
	sender, target := s.Open(t, address)
	t.Cleanup(func() {
		if err := sender.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return sender, target
}

// wellFormed checks what holds for every outcome.
func (s *Subject) wellFormed(t *testing.T, out belfry.Outcome) {
	t.Helper()
	if out.Kind < belfry.OutcomeDelivered || out.Kind > belfry.OutcomeGone {
		t.Errorf("outcome of no kind: %+v", out)
	}
	if len(out.Detail) > channel.MaxDetail || !utf8.ValidString(out.Detail) || strings.ContainsAny(out.Detail, "\r\n\x00") {
		t.Errorf("detail is not one line of at most %d bytes: %q", channel.MaxDetail, out.Detail)
	}
	if out.After < 0 {
		t.Errorf("negative wait: %+v", out)
	}
	for _, secret := range s.Secrets {
		if strings.Contains(out.Detail, secret) {
			t.Errorf("the detail holds a secret: %q", out.Detail)
		}
	}
}

func went(out belfry.Outcome) bool {
	return out.Kind == belfry.OutcomeDelivered || out.Kind == belfry.OutcomeAccepted
}

func delivers(t *testing.T, s Subject) {
	address, taken := s.Accepting(t)
	sender, target := s.open(t, address)
	before := s.Message
	before.Body = append([]byte(nil), s.Message.Body...)
	for i := range 3 {
		out := sender.Send(t.Context(), target, s.message(i))
		s.wellFormed(t, out)
		if !went(out) {
			t.Fatalf("send %d: %v %q", i, out.Kind, out.Detail)
		}
	}
	if n := taken(); n != 3 {
		t.Errorf("the peer took %d messages, want 3", n)
	}
	if !reflect.DeepEqual(before, s.Message) {
		t.Error("Send changed the message")
	}
}

func concurrent(t *testing.T, s Subject) {
	const senders, each = 32, 4
	address, taken := s.Accepting(t)
	sender, target := s.open(t, address)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range each {
				out := sender.Send(ctx, target, s.message(g*each+i))
				s.wellFormed(t, out)
				if !went(out) {
					t.Errorf("%v %q", out.Kind, out.Detail)
				}
			}
		})
	}
	wg.Wait()
	if n := taken(); n != senders*each {
		t.Errorf("the peer took %d messages, want %d", n, senders*each)
	}
}

// slack is how much later than its deadline a Send may return.
const slack = 2 * time.Second

func hanging(t *testing.T, s Subject) {
	sender, target := s.open(t, peer(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	const given = 150 * time.Millisecond
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), given)
			defer cancel()
			start := time.Now()
			out := sender.Send(ctx, target, s.message(i))
			if took := time.Since(start); took > given+slack {
				t.Errorf("took %v, was given %v", took, given)
			}
			s.wantRetry(t, out)
		})
	}
	wg.Wait()
}

func cancelled(t *testing.T, s Subject) {
	connected := make(chan struct{}, 1)
	sender, target := s.open(t, peer(t, func(c net.Conn) {
		select {
		case connected <- struct{}{}:
		default:
		}
		_, _ = io.Copy(io.Discard, c)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan belfry.Outcome, 1)
	go func() { ended <- sender.Send(ctx, target, s.message(0)) }()
	<-connected
	cancel()
	select {
	case out := <-ended:
		s.wantRetry(t, out)
	case <-time.After(slack):
		t.Error("Send goes on after its context was cancelled")
		<-ended
	}
	s.wantRetry(t, sender.Send(ctx, target, s.message(1)))
}

func (s *Subject) wantRetry(t *testing.T, out belfry.Outcome) {
	t.Helper()
	s.wellFormed(t, out)
	if out.Kind != belfry.OutcomeRetry {
		t.Errorf("%v %q, want retry", out.Kind, out.Detail)
	}
	if out.Detail == "" {
		t.Error("a retry without a word why")
	}
}

func dropping(t *testing.T, s Subject) {
	sender, target := s.open(t, peer(t, func(net.Conn) {}))
	for i := range 3 {
		s.wantRetry(t, sender.Send(t.Context(), target, s.message(i)))
	}
	garbage, gt := s.open(t, peer(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "\x00\xff\x15\x03\x01 SSH-2.0-OpenSSH \r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s.wantRetry(t, garbage.Send(ctx, gt, s.message(9)))
}

func absent(t *testing.T, s Subject) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	sender, target := s.open(t, address)
	s.wantRetry(t, sender.Send(t.Context(), target, s.message(0)))
}

func echoing(t *testing.T, s Subject) {
	sender, target := s.open(t, s.Echoing(t))
	for i := range 2 {
		out := sender.Send(t.Context(), target, s.message(i))
		s.wellFormed(t, out)
		if went(out) {
			t.Errorf("%v, want a refusal", out.Kind)
		}
	}
}

func hostile(t *testing.T, s Subject) {
	address, _ := s.Accepting(t)
	sender, target := s.open(t, address)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i, evil := range []string{
		"", " ", ".", "\r\n", "\x00", "\xff\xfe", "a\r\nInjected: yes\r\n\r\n.\r\n", "a\nInjected: yes", "a\rInjected: yes",
		"\r\n.\r\nMAIL FROM:<x@example.org>\r\n", "<script>", "🙈\u202e\ufeff", "a, b@example.org <c@example.org>, \"", strings.Repeat("x", 70000),
		strings.Repeat("é ", 9000), "=?utf-8?q?=0D=0AInjected:_yes?=", "%0d%0aInjected: yes",
	} {
		for field := range 12 {
			m, tg := s.message(i), target
			switch field {
			case 0:
				m.ID = evil
			case 1:
				m.Subject = evil
			case 2:
				m.Text = evil
			case 3:
				m.HTML = evil
			case 4:
				m.URL = evil
			case 5:
				m.Unsubscribe = evil
			case 6:
				m.ListID = evil
			case 7:
				m.Thread = evil
			case 8:
				m.Locale, m.ContentType = evil, evil
			case 9:
				m.Body = []byte(evil)
			case 10:
				tg.Name = evil
			case 11:
				if tg.Address == "" {
					continue
				}
				tg.Address = evil
			}
			s.wellFormed(t, sender.Send(ctx, tg, m))
		}
	}
	s.wellFormed(t, sender.Send(ctx, channel.Target{}, &belfry.Message{}))
	// After all that, an honest message still goes.
	if out := sender.Send(ctx, target, s.message(0)); !went(out) {
		t.Errorf("afterwards: %v %q", out.Kind, out.Detail)
	}
}

func closing(t *testing.T, s Subject) {
	address, _ := s.Accepting(t)
	sender, target := s.open(t, address)
	if out := sender.Send(t.Context(), target, s.message(0)); !went(out) {
		t.Fatalf("%v %q", out.Kind, out.Detail)
	}
	for range 3 {
		if err := sender.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	s.wantRetry(t, sender.Send(t.Context(), target, s.message(1)))
}

// closingInUse closes while sends hang: Close waits for no peer.
func closingInUse(t *testing.T, s Subject) {
	connected := make(chan struct{}, 1)
	sender, target := s.open(t, peer(t, func(c net.Conn) {
		select {
		case connected <- struct{}{}:
		default:
		}
		_, _ = io.Copy(io.Discard, c)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	ended := make(chan belfry.Outcome, 1)
	go func() { ended <- sender.Send(ctx, target, s.message(0)) }()
	<-connected
	start := time.Now()
	if err := sender.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	s.wantRetry(t, <-ended)
}

// peer listens and lets serve have every connection, which is closed when
// serve returns or the test ends.
func peer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	open := map[net.Conn]bool{}
	done := false
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if done {
				mu.Unlock()
				_ = c.Close()
				continue
			}
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				serve(c)
				_ = c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		done = true
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

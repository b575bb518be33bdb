package pipeline

import (
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"pgregory.net/rapid"
)

// feature: PEER-3
func TestRetriesFollowTheScheduleWithJitter(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	retry := belfry.Outcome{Kind: belfry.OutcomeRetry}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, len(schedule)-1).Draw(t, "attempts so far")
		jitter := rapid.Float64Range(0, 0.999).Draw(t, "jitter")
		took := time.Duration(rapid.IntRange(0, int(time.Minute)).Draw(t, "took"))
		a := settle(&belfry.Delivery{Attempts: n}, retry, at, took, nil, jitter)
		wait := a.Due.Sub(at.Add(took))
		if a.State != belfry.Retrying || a.N != n+1 {
			t.Fatalf("try %d: state %v, N %d", n+1, a.State, a.N)
		}
		if lo, hi := schedule[n]*9/10, schedule[n]*11/10; wait < lo-time.Microsecond || wait > hi+time.Microsecond {
			t.Fatalf("try %d waits %v, want within [%v, %v]", n+1, wait, lo, hi)
		}
	})
	last := settle(&belfry.Delivery{Attempts: len(schedule)}, retry, at, 0, nil, 0)
	if last.State != belfry.Failed {
		t.Errorf("after %d tries the state is %v, want failed", len(schedule)+1, last.State)
	}
}

func TestOutcomesSettleStates(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		out   belfry.Outcome
		waits []time.Duration
		state belfry.State
		wait  time.Duration
	}{
		{"delivered", belfry.Outcome{Kind: belfry.OutcomeDelivered}, nil, belfry.Delivered, 0},
		{"accepted by a relay", belfry.Outcome{Kind: belfry.OutcomeAccepted}, nil, belfry.Delivered, 0},
		{"refused", belfry.Outcome{Kind: belfry.OutcomeRefused}, nil, belfry.Failed, 0},
		{"gone", belfry.Outcome{Kind: belfry.OutcomeGone}, nil, belfry.Failed, 0},
		{"Retry-After is a lower bound", belfry.Outcome{Kind: belfry.OutcomeRetry, After: time.Hour}, nil, belfry.Retrying, time.Hour},
		{"Retry-After never shortens", belfry.Outcome{Kind: belfry.OutcomeRetry, After: time.Second}, nil, belfry.Retrying, 4500 * time.Millisecond},
		{"the endpoint's own schedule", belfry.Outcome{Kind: belfry.OutcomeRetry}, []time.Duration{10 * time.Second}, belfry.Retrying, 9 * time.Second},
		{"an empty schedule means one try", belfry.Outcome{Kind: belfry.OutcomeRetry}, []time.Duration{}, belfry.Failed, 0},
	} {
		a := settle(&belfry.Delivery{Due: at}, c.out, at, 0, c.waits, 0)
		if a.State != c.state || a.Due.Sub(at) != c.wait {
			t.Errorf("%s: state %v after %v, want %v after %v", c.name, a.State, a.Due.Sub(at), c.state, c.wait)
		}
	}
}

// feature: PEER-5
func TestBreakerOpensProbesAndCloses(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	fail, good := belfry.Outcome{Kind: belfry.OutcomeRetry}, belfry.Outcome{Kind: belfry.OutcomeDelivered}
	h := newHealth()
	for i := range failuresToOpen - 1 {
		if h.note(fail, now) {
			t.Fatalf("opened after %d failures", i+1)
		}
	}
	if h.allowed() != 1 {
		t.Errorf("after %d failures %d sends may run at once", failuresToOpen-1, h.allowed())
	}
	if !h.note(fail, now) || !h.blockedUntil(now).Equal(now.Add(firstCooldown)) {
		t.Fatalf("not open until %v: %v", now.Add(firstCooldown), h.blockedUntil(now))
	}
	now = now.Add(firstCooldown)
	if !h.blockedUntil(now).IsZero() || h.allowed() != 1 || !h.probing() {
		t.Fatal("after the cool-down one probe should pass")
	}
	if !h.note(fail, now) || !h.blockedUntil(now).Equal(now.Add(2*firstCooldown)) {
		t.Fatalf("a failed probe should double the cool-down: %v", h.blockedUntil(now))
	}
	for range 20 {
		now = h.openUntil
		h.note(fail, now)
	}
	if got := h.openUntil.Sub(now); got != maxCooldown {
		t.Errorf("the cool-down grew to %v, want at most %v", got, maxCooldown)
	}
	now = h.openUntil
	h.note(good, now)
	if h.probing() || h.failures != 0 || !h.blockedUntil(now).IsZero() {
		t.Error("one success should close it")
	}
}

func TestThrottlingSlowsDownWithoutCountingAsFailure(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	h := newHealth()
	for range 100 {
		h.note(belfry.Outcome{Kind: belfry.OutcomeDelivered}, now)
	}
	if h.allowed() != maxConcurrency {
		t.Fatalf("a healthy destination grew to %d", h.allowed())
	}
	for range 10 {
		if h.note(belfry.Outcome{Kind: belfry.OutcomeRetry, Throttled: true, After: 30 * time.Second}, now) {
			t.Fatal("throttling opened the breaker")
		}
	}
	if !h.blockedUntil(now).Equal(now.Add(30*time.Second)) || h.failures != 0 || h.allowed() != 1 {
		t.Errorf("blocked until %v, %d failures, %d at once", h.blockedUntil(now), h.failures, h.allowed())
	}
}

package pipeline

import (
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// schedule is the wait before each further try, from Standard Webhooks'
// operational advice as docs/api.md fixes it: ten tries over three days.
var schedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// settle turns the outcome of the n-th try into what door 3 records. waits is
// the destination's own schedule or nil for the built-in one. jitter in [0,1)
// spreads the wait over 90 % to 110 %, so that what failed together does not
// come back together. A wait the destination asked for is a lower bound.
func settle(d *belfry.Delivery, out belfry.Outcome, at time.Time, took time.Duration, waits []time.Duration, jitter float64) belfry.Attempt {
	a := belfry.Attempt{
		Tenant: d.Tenant, DeliveryID: d.ID, N: d.Attempts + 1,
		At: at, Took: took, Outcome: out, Due: d.Due,
	}
	if waits == nil {
		waits = schedule
	}
	switch out.Kind {
	case belfry.OutcomeDelivered, belfry.OutcomeAccepted:
		a.State = belfry.Delivered
	case belfry.OutcomeRetry:
		tries := d.Attempts - d.Base // since the last retry by hand
		if tries >= len(waits) {
			a.State = belfry.Failed
			break
		}
		wait := time.Duration(float64(waits[tries]) * (0.9 + 0.2*jitter))
		a.State = belfry.Retrying
		// As it will be stored, so that what is in memory and what is read of
		// it have one order.
		a.Due = at.Add(took).Add(max(wait, out.After)).Truncate(time.Microsecond)
	default:
		a.State = belfry.Failed
	}
	return a
}

// Health of a destination. A breaker opens after failuresToOpen failures in a
// row and then lets one probe through after each cool-down, which doubles up
// to maxCooldown; one success closes it. One that fails again before it has
// done well for a while is not trusted as at first: its cool-down goes on
// where it was. Concurrency grows by one with each success and halves with
// each failure, so a failing destination never holds more than a few senders.
const (
	failuresToOpen = 5
	firstCooldown  = 10 * time.Second
	maxCooldown    = 5 * time.Minute
	wellAfter      = 20 // successes in a row after which the last cool-down is forgotten

	firstConcurrency = 4
	maxConcurrency   = 64
)

type health struct {
	failures  int
	well      int       // successes in a row since the breaker closed
	since     time.Time // of the first of the failures
	limit     int       // sends at once
	openUntil time.Time // zero = closed
	cooldown  time.Duration
	notBefore time.Time // asked for by the destination (Retry-After)
}

func newHealth() health { return health{limit: firstConcurrency} }

// blockedUntil is the time before which nothing may be sent; zero = now.
func (h *health) blockedUntil(now time.Time) time.Time {
	until := h.openUntil
	if h.notBefore.After(until) {
		until = h.notBefore
	}
	if until.After(now) {
		return until
	}
	return time.Time{}
}

// probing reports whether the breaker is open or half open: one send at a time.
func (h *health) probing() bool { return !h.openUntil.IsZero() }

// plain reports whether there is nothing to remember.
func (h *health) plain(now time.Time) bool {
	return h.failures == 0 && !h.notBefore.After(now) && h.cooldown == 0 && h.limit <= 2*firstConcurrency
}

// allowed is how many sends may run at once.
func (h *health) allowed() int {
	if h.probing() {
		return 1
	}
	return h.limit
}

// note learns from an outcome; true when the breaker has just opened.
func (h *health) note(out belfry.Outcome, now time.Time) (opened bool) {
	switch {
	case out.Kind != belfry.OutcomeRetry: // also a refusal shows a living peer
		h.failures, h.since, h.openUntil = 0, time.Time{}, time.Time{}
		if h.well++; h.well >= wellAfter {
			h.cooldown = 0
		}
		h.limit = min(h.limit+1, maxConcurrency)
	case out.Throttled:
		h.limit = max(1, h.limit/2)
		if out.After > 0 {
			h.notBefore = now.Add(min(out.After, maxCooldown))
		}
	default:
		if h.failures == 0 {
			h.since = now
		}
		h.failures++
		h.well = 0
		h.limit = max(1, h.limit/2)
		if h.failures >= failuresToOpen && !h.openUntil.After(now) {
			h.cooldown = min(max(2*h.cooldown, firstCooldown), maxCooldown)
			h.openUntil = now.Add(h.cooldown)
			return true
		}
	}
	return false
}

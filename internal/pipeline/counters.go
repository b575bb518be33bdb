package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Counters count what the pipeline does; the app shows them as metrics.
type Counters struct {
	Planned    atomic.Int64 // events whose plan was committed
	Deliveries atomic.Int64 // deliveries committed, inbox rows included
	Suppressed atomic.Int64 // suppressions committed
	Sealed     atomic.Int64 // digests whose gathering ended
	Postponed  atomic.Int64 // deliveries put off by a limit of their channel's account
	PlanFaults atomic.Int64 // events whose planning failed for good

	ConditionsMet atomic.Int64 // events by which conditions told, those that are over included

	mu       sync.Mutex
	attempts map[AttemptKey]*AttemptCount
}

// AttemptKey tells series of attempts apart.
type AttemptKey struct{ Channel, Outcome string }

// AttemptCount is one series of attempts.
type AttemptCount struct {
	N    int64
	Took time.Duration // sum
}

// NewCounters makes counters at zero.
func NewCounters() *Counters { return &Counters{attempts: map[AttemptKey]*AttemptCount{}} }

func (c *Counters) attempt(channel string, out belfry.Outcome, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := AttemptKey{channel, out.Kind.String()}
	n := c.attempts[k]
	if n == nil {
		n = &AttemptCount{}
		c.attempts[k] = n
	}
	n.N++
	n.Took += took
}

// Attempts is a copy of the counts of attempts.
func (c *Counters) Attempts() map[AttemptKey]AttemptCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[AttemptKey]AttemptCount, len(c.attempts))
	for k, v := range c.attempts {
		out[k] = *v
	}
	return out
}

package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/store"
)

// clock is the one that everybody is handed. It runs on the machine's monotonic
// reading, which no step of the time of day touches, towards a truth: the
// machine's time of day, or where others share the database, the database's.
// When that is ahead it follows at once, so that what is due is done; when that
// is behind, as after a clock was set back, it goes on a tenth slower until the
// truth has caught up. So it never goes back: retries, breakers and limits wait
// no longer than they were told to.
type clock struct {
	mu   sync.Mutex
	read time.Time // the machine's clock when last read
	at   time.Time // what it was made of, without a monotonic reading
	// shared is the truth at the moment read in the monotonic reading of
	// sharedAt; zero = the machine's time of day is the truth.
	shared, sharedAt time.Time
	ahead            func() time.Duration // of all this; nil = not at all
}

// now is the time: UTC, in the microseconds that are stored.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.tell(machine())
	if c.ahead != nil {
		at = at.Add(c.ahead())
	}
	return at.Truncate(time.Microsecond)
}

// tell moves on to a reading of the machine's clock. c.mu is held.
func (c *clock) tell(read time.Time) time.Time {
	truth := read.Round(0).UTC()
	if !c.shared.IsZero() {
		truth = c.shared.Add(read.Sub(c.sharedAt))
	}
	if !c.read.IsZero() {
		passed := read.Sub(c.read)
		if passed < 0 {
			return c.at // read before another that was told first
		}
		if here := c.at.Add(passed); here.After(truth) {
			truth = later(truth, here.Add(-passed/10))
		}
	}
	c.read, c.at = read, truth
	return c.at
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// correct makes the truth what is so far ahead of this clock, from now on by
// the monotonic reading alone.
func (c *clock) correct(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	read := machine()
	c.shared, c.sharedAt = c.tell(read).Add(by), read
}

// off is how far it is ahead of the machine's time of day.
func (c *clock) off() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	read := machine()
	return c.tell(read).Sub(read.Round(0))
}

const (
	// compareEvery is how often a clock is compared with the database's.
	compareEvery = 5 * time.Second
	// worthSaying is what an operator hears of.
	worthSaying = 2 * time.Second
)

// keepTime compares the clock with the database's, where others share it, and
// says when the machine's was set, until ctx ends.
func (c *clock) keepTime(ctx context.Context, db *store.DB, log *slog.Logger) error {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	said := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if db.Clustered() {
			// A slow answer tells little; the next one will tell more.
			if ahead, within, err := db.Clock(ctx); err == nil && within < time.Second {
				if c.ahead != nil {
					ahead += c.ahead() // the store was told that, too
				}
				if ahead.Abs() > within {
					c.correct(ahead)
				}
			}
		}
		if off := c.off().Round(time.Second); (off - said).Abs() >= worthSaying {
			said = off
			log.Warn("this machine's clock was set, or differs from the database's: time goes on evenly here; set it by a time service (NTP, chrony)", "behind", off)
		}
	}
}

package belfry

import (
	"strconv"
	"strings"
	"time"
)

// Part is a group of tables whose rows hang on events and live equally long.
type Part string

// Parts, in the order in which they are cleared: each is needed by those after.
const (
	PartDeliveries Part = "deliveries" // with their attempts, and what was decided about an event
	PartInbox      Part = "inbox"
	PartEvents     Part = "events"
)

// Parts lists the parts.
func Parts() []Part { return []Part{PartDeliveries, PartInbox, PartEvents} }

const day = 24 * time.Hour

// ParseSpan reads a length of time as people write it for weeks and months:
// 90d, or as Go writes durations: 36h, 10m.
func ParseSpan(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 100*366 {
			return 0, false
		}
		return time.Duration(n) * day, true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// FormatSpan writes a span as ParseSpan reads it.
func FormatSpan(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	if d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Walk names what one table is searched for, a chunk at a time.
type Walk struct {
	Tenant string
	// Table is deliveries (with their attempts), suppressions, plan_matches,
	// inbox or events.
	Table string
	// Before: rows of events accepted before it go, unless they are needed.
	Before time.Time
	// Keep are event types whose rows go by a time of their own instead; the
	// zero time keeps them.
	Keep map[string]time.Time
}

// Cleared is what one chunk did.
type Cleared struct {
	Rows int           // that went
	Next string        // place where the walk goes on; empty at the end
	Took time.Duration // of the writer's time
}

// Pruned says what became of a part's partitions that are too old.
type Pruned struct {
	Dropped int // partitions that went
	Held    int // partitions that hold what is still needed
	// Until is where the newest partition ends that is too old as a whole:
	// rows before it that are not needed are left to be removed one by one.
	// Without partitions it is the time that was asked for.
	Until time.Time
}

// Mark is how far a piece of housekeeping has come, and when.
type Mark struct {
	Place string
	At    time.Time
}

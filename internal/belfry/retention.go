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
	if d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return d.String()
}

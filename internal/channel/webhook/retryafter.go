package webhook

import (
	"net/http"
	"strings"
	"time"
)

// MaxRetryAfter is the longest wait a destination may ask for: longer ones are
// cut, so that no answer parks deliveries for years.
const MaxRetryAfter = 24 * time.Hour

// RetryAfter reads a Retry-After header (RFC 9110 §10.2.3): whole seconds or an
// HTTP date, seen from now. The answer is within [0, MaxRetryAfter]; 0 for what
// is past or cannot be read.
func RetryAfter(value string, now time.Time) time.Duration {
	value = strings.Trim(value, " \t")
	if value == "" {
		return 0
	}
	var wait time.Duration
	digits := true
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c < '0' || c > '9' {
			digits = false
			break
		}
		if wait < MaxRetryAfter { // beyond, more digits change nothing
			wait = wait*10 + time.Duration(c-'0')*time.Second
		}
	}
	if !digits {
		at, err := http.ParseTime(value)
		if err != nil {
			return 0
		}
		wait = at.Sub(now)
	}
	return min(max(wait, 0), MaxRetryAfter)
}

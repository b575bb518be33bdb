package store

import (
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// maxSent bounds what of an attempt is kept in the delivery's row.
const maxSent = 256

// withDelivery reports whether an attempt is kept in the delivery's own row: a
// first one that delivered. That saves a row, its key and its pages for nearly
// every delivery there is. The row keeps the time it was due, whatever the
// attempt says.
func withDelivery(a *belfry.Attempt) bool {
	return a.N == 1 && a.State == belfry.Delivered && a.Because == nil && a.Outcome.After == 0 && !a.Outcome.Throttled &&
		len(a.Outcome.Detail) <= maxSent
}

// firstAttempt is the text of an attempt that is kept with its delivery: time,
// microseconds taken, kind and status in base 36, and the detail.
func (w *scribe) firstAttempt(a *belfry.Attempt) string {
	return w.write(func(b []byte) []byte {
		for _, n := range [...]int64{micros(a.At), a.Took.Microseconds(), int64(a.Outcome.Kind), int64(a.Outcome.Status)} {
			b = append(strconv.AppendInt(b, n, 36), ' ')
		}
		return append(b, a.Outcome.Detail...)
	})
}

// readFirst is the inverse of firstAttempt, less when the delivery was due.
func readFirst(tenant, deliveryID, text string) (a belfry.Attempt, err error) {
	var n [4]int64
	rest := text
	for i := range n {
		word, after, _ := strings.Cut(rest, " ")
		if n[i], err = strconv.ParseInt(word, 36, 64); err != nil {
			return a, belfry.Errorf(belfry.Internal, "the first attempt of %s cannot be read back: %w", deliveryID, err)
		}
		rest = after
	}
	return belfry.Attempt{
		Tenant: tenant, DeliveryID: deliveryID, N: 1, At: fromMicros(n[0]), Took: time.Duration(n[1]) * time.Microsecond, State: belfry.Delivered,
		Outcome: belfry.Outcome{Kind: belfry.OutcomeKind(n[2]), Status: int(n[3]), Detail: rest},
	}, nil
}

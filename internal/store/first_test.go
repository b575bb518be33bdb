package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What is kept of a first attempt with its delivery is all there was to it, and
// what would not fit is a row of its own.
func TestFirstAttemptIsReadBack(t *testing.T) {
	kept := 0
	rapid.Check(t, func(t *rapid.T) {
		a := belfry.Attempt{
			Tenant: "t", DeliveryID: "dlv_1", N: rapid.IntRange(0, 2).Draw(t, "n"),
			At:   time.UnixMicro(rapid.Int64Range(-1, 1<<52).Draw(t, "at")).UTC(),
			Took: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "took")) * time.Microsecond,
			Outcome: belfry.Outcome{
				Kind: belfry.OutcomeKind(rapid.IntRange(0, 1).Draw(t, "kind")), Status: rapid.IntRange(0, 999).Draw(t, "status"),
				Detail: rapid.StringN(-1, -1, 300).Draw(t, "detail"), Throttled: rapid.IntRange(0, 9).Draw(t, "throttled") == 0,
			},
			State: belfry.Delivered,
		}
		if a.At.UnixMicro() == 0 {
			a.At = time.Time{}
		}
		if !withDelivery(&a) {
			if a.N == 1 && !a.Outcome.Throttled && len(a.Outcome.Detail) <= maxSent {
				t.Fatal("it would have fitted")
			}
			return
		}
		kept++
		var w scribe
		got, err := readFirst("t", "dlv_1", w.firstAttempt(&a))
		if diff := cmp.Diff(a, got); err != nil || diff != "" {
			t.Fatalf("%v, (-want +got):\n%s", err, diff)
		}
	})
	if kept == 0 {
		t.Error("none was kept")
	}
}

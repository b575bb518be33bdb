package pipeline

import (
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testtime"
)

// A receiver that is down for good is tried ten times over three days, each
// wait within a tenth of the schedule's, and then it is recorded as failed;
// one that comes back is told at the next try.
// feature: PEER-3
func TestThreeDaysOfTries(t *testing.T) {
	for _, back := range []int{0, 1, 4, 10} { // the try at which it is back; 0 = never
		for _, jitter := range []float64{0, 0.5, 0.999} {
			testtime.Test(t, func(t *testing.T) {
				begun := time.Now()
				d := belfry.Delivery{Due: begun}
				var due time.Duration
				for d.State.Open() {
					<-time.After(time.Until(d.Due))
					out := belfry.Outcome{Kind: belfry.OutcomeRetry}
					if d.Attempts+1 == back {
						out.Kind = belfry.OutcomeDelivered
					}
					const took = 15 * time.Second // it hangs
					start := time.Now()
					<-time.After(took)
					a := settle(&d, out, start, took, nil, jitter)
					if d.Attempts < len(schedule) {
						due += took + time.Duration(float64(schedule[d.Attempts])*(0.9+0.2*jitter))
					}
					d.Attempts, d.State, d.Due = a.N, a.State, a.Due
					if a.State == belfry.Retrying && (d.Due.Sub(begun)-due).Abs() > time.Millisecond {
						t.Fatalf("try %d is due after %v, want %v", a.N+1, d.Due.Sub(begun), due)
					}
				}
				took := time.Since(begun)
				switch {
				case back == 0 && (d.State != belfry.Failed || d.Attempts != 10 || took < 3*24*time.Hour*9/10 || took > 4*24*time.Hour):
					t.Errorf("down for good: %v after %d tries and %v", d.State, d.Attempts, took)
				case back > 0 && (d.State != belfry.Delivered || d.Attempts != back):
					t.Errorf("back at try %d: %v after %d tries", back, d.State, d.Attempts)
				}
			})
		}
	}
}

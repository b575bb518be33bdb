//go:build linux

package faults_test

import (
	"fmt"
	"iter"
	"os"
	"testing"
	"time"
)

// soak is how long all faults together are made in a long run (make soak);
// zero = each a few times, as with every change.
var soak = func() time.Duration {
	text := os.Getenv("BELFRY_SOAK")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		panic(fmt.Sprintf("BELFRY_SOAK is %q: say how long, like 30m", text))
	}
	_ = os.Unsetenv("BELFRY_SOAK") // the programs that are started refuse a setting there is not
	return d
}()

// loops is among how many a long run's time is divided: the calls of rounds.
const loops = 32

// rounds goes round as often as a fault is to be made: short times, or in a
// long run as often as there is time, and short times at least.
func rounds(t *testing.T, short int) iter.Seq[int] {
	return func(yield func(int) bool) {
		begun := time.Now()
		n := 0
		for ; n < short || time.Since(begun) < soak/loops; n++ {
			if !yield(n) {
				return
			}
		}
		if soak > 0 {
			t.Logf("%d rounds in %v", n, time.Since(begun).Round(time.Second))
		}
	}
}

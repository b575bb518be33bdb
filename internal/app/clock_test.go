package app

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// stepped is a reading of a machine's clock, after it ran for a while and was
// set by so much.
func stepped(begun time.Time, ran, set time.Duration) time.Time {
	return begun.Add(ran).Add(set) // what Sub sees is put right by reading
}

// reading makes tell see readings whose monotonic part is ran alone: the
// clock's fields are wall times here, so the step is taken out of the truth.
type reading struct {
	clock
	begun time.Time
}

// at gives the clock's time when the machine has run for ran and its time of
// day was set by set.
func (r *reading) tellAt(ran, set time.Duration) time.Time {
	// Without a monotonic reading Sub compares times of day, as it would the
	// monotonic reading: begun + ran is that; the truth is given apart.
	mono := r.begun.Add(ran)
	r.shared, r.sharedAt = stepped(r.begun, ran, set), mono
	return r.tell(mono)
}

// feature: NEW-12
func TestClockNeverGoesBackAndCatchesUp(t *testing.T) {
	begun := time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		r := &reading{begun: begun}
		last, ran, set := r.tellAt(0, 0), time.Duration(0), time.Duration(0)
		for range rapid.IntRange(1, 50).Draw(t, "readings") {
			passed := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "passed"))
			ran += passed
			if rapid.Bool().Draw(t, "step") {
				set += time.Duration(rapid.Int64Range(-int64(2*time.Hour), int64(2*time.Hour)).Draw(t, "by"))
			}
			now, truth := r.tellAt(ran, set), stepped(begun, ran, set)
			if now.Before(last) {
				t.Fatalf("went back from %v to %v", last, now)
			}
			if now.Before(truth) {
				t.Fatalf("%v, and it is %v: what is due is late", now, truth)
			}
			if now.After(truth) && now.Sub(last) > passed {
				t.Fatalf("ahead, and %v passed as %v", passed, now.Sub(last))
			}
			if now.Sub(last) < passed-passed/10-1 {
				t.Fatalf("%v passed as %v only: what waits would wait long", passed, now.Sub(last))
			}
			last = now
		}
		// Nothing is set any more: it is right again after ten times what it was off.
		off := last.Sub(stepped(begun, ran, set))
		if now := r.tellAt(ran+10*off+10, set); !now.Equal(stepped(begun, ran+10*off+10, set)) {
			t.Fatalf("was %v ahead, and is %v still", off, now.Sub(stepped(begun, ran+10*off+10, set)))
		}
	})
}

// Whoever reads the real one sees microseconds of UTC that rise.
func TestClockOfThisMachine(t *testing.T) {
	c := &clock{}
	last := c.now()
	if off := time.Since(last); off < 0 || off > time.Minute {
		t.Errorf("off by %v", off)
	}
	for range 1000 {
		now := c.now()
		if now.Before(last) || now.Location() != time.UTC || now.Nanosecond()%1000 != 0 {
			t.Fatalf("%v after %v", now, last)
		}
		last = now
	}
	c.correct(time.Hour)
	if ahead := c.now().Sub(last); ahead < time.Hour || ahead > time.Hour+time.Minute {
		t.Errorf("corrected by an hour: %v", ahead)
	}
	if off := c.off(); off < time.Hour-time.Minute || off > time.Hour+time.Minute {
		t.Errorf("says it is %v ahead", off)
	}
	now := c.now()
	c.correct(-time.Hour)
	if next := c.now(); next.Before(now) {
		t.Errorf("went back from %v to %v", now, next)
	}
}

func TestClockSkewIsRefused(t *testing.T) {
	for _, c := range []struct {
		ahead, within time.Duration
		want          string
	}{
		{0, 0, ""},
		{5 * time.Second, 0, ""},
		{-5 * time.Second, time.Millisecond, ""},
		{8 * time.Second, 4 * time.Second, ""}, // the answer took long
		{7*time.Second + 40*time.Millisecond, 40 * time.Millisecond, "this machine's clock is 7s behind the database's: set both by a time service (NTP, chrony), then start again"},
		{-90 * time.Minute, 0, "this machine's clock is 1h30m0s ahead of the database's: set both by a time service (NTP, chrony), then start again"},
	} {
		if err := judgeClock(c.ahead, c.within); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%v within %v: %v", c.ahead, c.within, err)
		}
	}
}

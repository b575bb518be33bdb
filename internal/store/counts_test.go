package store

import (
	"testing"
	"time"
)

// A commit in doubt may finish after it was counted: counts taken meanwhile are
// soon taken again, and the first one after the doubt stays.
func TestCountsInDoubtAreTakenAgain(t *testing.T) {
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	c := &counts{known: true, counted: at}
	if !c.standing(at.Add(24*time.Hour), false) {
		t.Error("without doubt a count stands")
	}
	c.forget(at)
	if c.standing(at, false) {
		t.Error("a commit in doubt must be counted again")
	}
	c.known, c.counted = true, at.Add(time.Second)
	if !c.standing(at.Add(2*time.Second), false) || c.standing(at.Add(time.Second+countsKept), false) {
		t.Error("while in doubt a count stands for a moment only")
	}
	c.counted = at.Add(countsDoubt)
	if !c.standing(at.Add(24*time.Hour), false) {
		t.Error("a count taken after the doubt stands")
	}
}

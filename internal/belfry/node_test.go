package belfry_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

// A joined wake says all that each of its parts said, or more.
func TestWakeJoin(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000).UTC()
	id := func(s int) string { return belfry.EventID(at.Add(time.Duration(s)*time.Second), 0, 0) }
	w := belfry.Wake{Tenant: "t", Event: "evt_2"}
	w.Join(&belfry.Wake{Tenant: "t", Event: "evt_1", Edited: true, Due: at, Planned: []belfry.Planned{{Event: id(1), Rows: 2}}})
	w.Join(&belfry.Wake{Tenant: "t", Counted: true, Due: at.Add(time.Hour), Planned: []belfry.Planned{{Event: id(-1), Rows: 1}}})
	want := belfry.Wake{Tenant: "t", Event: "evt_1", Edited: true, Counted: true, Due: at, Planned: []belfry.Planned{{Event: id(1), Rows: 2}, {Event: id(-1), Rows: 1}}}
	if d := cmp.Diff(want, w); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	// Too many events to name are told by when the first was accepted.
	for i := range belfry.WakePlanned {
		w.Join(&belfry.Wake{Tenant: "t", Planned: []belfry.Planned{{Event: id(i), Rows: 1}}})
	}
	if first := at.Add(-time.Second); !w.Due.Equal(first) || len(w.Planned) >= belfry.WakePlanned {
		t.Errorf("due from %v and %d names, want %v", w.Due, len(w.Planned), first)
	}
	if got := (belfry.Planned{Event: "x"}).Since(); got.IsZero() || got.After(time.Unix(1, 0)) {
		t.Errorf("of what is no id: %v", got)
	}
}

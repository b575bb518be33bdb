package belfry_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

func TestSpans(t *testing.T) {
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "0d": 0, "0": 0, "36h": 36 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, ok := belfry.ParseSpan(text); !ok || got != want {
			t.Errorf("%s is %s, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "9999999999d", "3 d", "90", "1w"} {
		if got, ok := belfry.ParseSpan(text); ok {
			t.Errorf("%q is %s", text, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(100*365*24*time.Hour)).Draw(t, "span"))
		if got, ok := belfry.ParseSpan(belfry.FormatSpan(d)); !ok || got != d {
			t.Fatalf("%s was written as %s and read as %s", d, belfry.FormatSpan(d), got)
		}
	})
}

// The range of an event's deliveries holds the id of each, and none of the
// events before and after it.
func TestDeliveryRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMilli(rapid.Int64Range(0, 1<<47).Draw(t, "at"))
		n := rapid.Uint16().Draw(t, "n")
		event := belfry.EventID(at, n, rapid.Uint64().Draw(t, "salt"))
		from, to, ok := belfry.DeliveryRange(event)
		address := rapid.String().Draw(t, "address")
		id := belfry.DeliveryID(event, rapid.IntRange(0, 9).Draw(t, "run"), "webhook", address)
		if !ok || id < from || id >= to {
			t.Fatalf("%s is not from %s to %s", id, from, to)
		}
		if near, beyond, ok := belfry.DeliveryRangeTo(event, address); !ok || id < near || id >= beyond || near < from || beyond > to {
			t.Fatalf("%s is not from %s to %s, within %s to %s", id, near, beyond, from, to)
		}
		next := belfry.EventID(at, n+1, 0)
		if n == 1<<16-1 {
			next = belfry.EventID(at.Add(time.Millisecond), 0, 0)
		}
		if first, _, _ := belfry.DeliveryRange(next); first != to {
			t.Fatalf("the next event's range begins at %s, not at %s", first, to)
		}
	})
	for _, id := range []string{"", "evt_", "x", "evt_zzzzzzzzzzzzzzzzzzzzzzzzzu"} {
		if _, _, ok := belfry.DeliveryRange(id); ok {
			t.Errorf("%q has a range", id)
		}
	}
}

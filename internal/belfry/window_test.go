package belfry_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: NEW-13 weekly windows by the person's own clock
func TestWindows(t *testing.T) {
	saoPaulo, _ := belfry.Zone("America/Sao_Paulo")
	berlin, _ := belfry.Zone("Europe/Berlin")
	at := func(zone *time.Location, text string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	weekend := []belfry.Window{{Days: []string{"saturday", "sun"}, From: "00:00", To: "00:00"}}
	nights := []belfry.Window{{From: "22:00", To: "07:00"}}
	for _, c := range []struct {
		name  string
		zone  *time.Location
		ws    []belfry.Window
		now   string
		until string // empty = not in one
		next  string
	}{
		{"two whole days are one mute", saoPaulo, weekend, "2026-03-07 10:00", "2026-03-09 00:00", "2026-03-14 00:00"},
		{"the end is outside", saoPaulo, weekend, "2026-03-09 00:00", "", "2026-03-14 00:00"},
		{"after midnight it is still last night", berlin, nights, "2026-03-02 06:59", "2026-03-02 07:00", "2026-03-02 22:00"},
		{"the morning", berlin, nights, "2026-03-02 07:00", "", "2026-03-02 22:00"},
		{"the night the clocks go forward", berlin, nights, "2026-03-29 01:00", "2026-03-29 07:00", "2026-03-29 22:00"},
		{"the night they go back", berlin, nights, "2026-10-24 23:00", "2026-10-25 07:00", "2026-10-25 22:00"},
		{"a window after another", berlin, []belfry.Window{{Days: []string{"mon"}, From: "09:00", To: "12:00"}, {Days: []string{"mon"}, From: "12:00", To: "13:30"}}, "2026-03-02 11:00", "2026-03-02 13:30", "2026-03-09 09:00"},
		{"none", berlin, nil, "2026-03-02 11:00", "", ""},
	} {
		now := at(c.zone, c.now)
		until, in := belfry.WindowsAt(c.ws, now, c.zone)
		if in != (c.until != "") || in && !until.Equal(at(c.zone, c.until)) {
			t.Errorf("%s: until %v, %v; want %q", c.name, until, in, c.until)
		}
		next, any := belfry.NextWindow(c.ws, now, c.zone)
		if any != (c.next != "") || any && !next.Equal(at(c.zone, c.next)) {
			t.Errorf("%s: next %v, %v; want %q", c.name, next, any, c.next)
		}
	}
	if short, long := at(berlin, "2026-03-28 22:00"), at(berlin, "2026-10-24 22:00"); true {
		end, _ := belfry.WindowsAt(nights, short, berlin)
		if end.Sub(short) != 8*time.Hour {
			t.Errorf("the short night has %v", end.Sub(short))
		}
		if end, _ = belfry.WindowsAt(nights, long, berlin); end.Sub(long) != 10*time.Hour {
			t.Errorf("the long night has %v", end.Sub(long))
		}
	}
}

func TestWindowFaults(t *testing.T) {
	w := belfry.Window{Days: []string{"mon", "funday"}, From: "8:00", To: "24:00"}
	var got string
	for _, f := range w.Faults() {
		got += f.Pointer + " "
	}
	if got != "/days/1 /from /to " {
		t.Error(got)
	}
}

// Whoever is in no window a minute before and in none now did not enter one
// between; the end of a window is never in it.
func TestWindowsProperty(t *testing.T) {
	zone, _ := belfry.Zone("Europe/Berlin")
	rapid.Check(t, func(t *rapid.T) {
		clock := rapid.StringMatching(`([01][0-9]|2[0-3]):[0-5][0-9]`)
		var ws []belfry.Window
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			ws = append(ws, belfry.Window{Days: rapid.SliceOfNDistinct(rapid.SampledFrom(belfry.Weekdays), 1, 3, rapid.ID[string]).Draw(t, "days"), From: clock.Draw(t, "from"), To: clock.Draw(t, "to")})
		}
		now := time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 20*24*60).Draw(t, "minutes")) * time.Minute)
		until, in := belfry.WindowsAt(ws, now, zone)
		if !in {
			next, any := belfry.NextWindow(ws, now, zone)
			if !any || next.Before(now) {
				t.Fatalf("nothing begins after %v: %v", now, next)
			}
			for at := now; at.Before(next); at = at.Add(7 * time.Minute) {
				if _, in := belfry.WindowsAt(ws, at, zone); in {
					t.Fatalf("in one at %v, before the next begins at %v", at, next)
				}
			}
			if _, in := belfry.WindowsAt(ws, next, zone); !in {
				t.Fatalf("not in the one that begins at %v", next)
			}
			return
		}
		if _, still := belfry.WindowsAt(ws, until, zone); still && until.Sub(now) < 7*24*time.Hour {
			t.Fatalf("until %v, and still in one", until)
		}
		for at := now; at.Before(until); at = at.Add(7 * time.Minute) {
			if _, in := belfry.WindowsAt(ws, at, zone); !in {
				t.Fatalf("not in one at %v, before it ends at %v", at, until)
			}
		}
	})
}

package belfry

import (
	"slices"
	"strconv"
	"time"
)

// Window is a part of the week that comes again, by somebody's own clock: from
// one time of day to another, on the days on which it begins.
type Window struct {
	Days []string `json:"days,omitempty"` // mon or monday and so on; empty = every day
	From string   `json:"from"`           // HH:MM
	To   string   `json:"to"`             // HH:MM, of the next day unless it is later than From; the same time = a whole day
}

// Faults is what is wrong with w, with pointers from w on.
func (w *Window) Faults() []Field {
	var out []Field
	for i, day := range w.Days {
		if _, ok := ParseWeekday(day); !ok {
			out = append(out, Field{Pointer: "/days/" + strconv.Itoa(i), Message: strconv.Quote(day) + " is not a day of the week, such as mon or monday"})
		}
	}
	for _, part := range []struct{ name, value string }{{"/from", w.From}, {"/to", w.To}} {
		if _, ok := ParseClock(part.value); !ok {
			out = append(out, Field{Pointer: part.name, Message: strconv.Quote(part.value) + " is not a time of day from 00:00 to 23:59, such as 08:00"})
		}
	}
	return out
}

// on reports whether the window begins on a day of the week.
func (w *Window) on(day time.Weekday) bool {
	return len(w.Days) == 0 || slices.ContainsFunc(w.Days, func(s string) bool {
		d, ok := ParseWeekday(s)
		return ok && d == day
	})
}

// of is the window that begins on the day that many days after now's, by the
// clocks of zone; not there when it does not begin on that day. A time that
// the clocks leave out or have twice is as time.Date takes it.
func (w *Window) of(now time.Time, days int, zone *time.Location) (from, to time.Time, there bool) {
	begin, ok := ParseClock(w.From)
	end, ok2 := ParseClock(w.To)
	year, month, day := now.In(zone).Date()
	clock := func(day int, at time.Duration) time.Time {
		return time.Date(year, month, day, int(at/time.Hour), int(at%time.Hour/time.Minute), 0, 0, zone)
	}
	from = clock(day+days, begin)
	if !ok || !ok2 || !w.on(time.Date(year, month, day+days, 12, 0, 0, 0, time.UTC).Weekday()) {
		return from, from, false
	}
	if end <= begin {
		days++
	}
	return from, clock(day+days, end), true
}

// windowsChain bounds how many windows that follow on each other are one.
const windowsChain = 16

// WindowsAt reports whether now is in one of the windows, and when what is one
// time without a break ends; of windows that never end, that is some days on.
func WindowsAt(ws []Window, now time.Time, zone *time.Location) (until time.Time, in bool) {
	at := now
	for range windowsChain {
		end := at
		for i := range ws {
			for days := -1; days <= 0; days++ {
				if from, to, there := ws[i].of(at, days, zone); there && !from.After(at) && to.After(end) {
					end = to
				}
			}
		}
		if !end.After(at) {
			break
		}
		at = end
	}
	return at, at.After(now)
}

// NextWindow is the first time at or after now at which one of the windows
// begins that was not running before; false when none does within two weeks.
func NextWindow(ws []Window, now time.Time, zone *time.Location) (time.Time, bool) {
	for days := 0; days <= 14; days++ {
		var first time.Time
		for i := range ws {
			from, _, there := ws[i].of(now, days, zone)
			if !there || from.Before(now) || !first.IsZero() && !from.Before(first) {
				continue
			}
			if _, running := WindowsAt(ws, from.Add(-time.Nanosecond), zone); !running {
				first = from
			}
		}
		if !first.IsZero() {
			return first, true
		}
	}
	return time.Time{}, false
}

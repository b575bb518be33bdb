package route

import (
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// When digests come that nobody gave a time.
const (
	defaultAt      = "08:00"
	defaultWeekday = "monday"
)

// WhenInput is what the time of a message depends on.
type WhenInput struct {
	Frequency    *belfry.Frequency // as decided; nil = at once
	Settings     *belfry.Settings  // of the person; nil for a bare address
	Zone         *time.Location
	Subscription string // that it is told by
	Object       string // that it is told of
	Now          time.Time
	Urgent       bool // breaks through
}

// When decides when a message goes out about what is known now, and with what:
// nil is at once and alone. A frequency of never is not asked about here.
func When(in WhenInput) *belfry.Bundling {
	if in.Urgent {
		return nil
	}
	if !in.Frequency.Digest() {
		if until := QuietUntil(in.Settings, in.Zone, in.Now); !until.IsZero() {
			return &belfry.Bundling{Key: "quiet", Held: true, Due: until, Frequency: belfry.Frequency{Every: belfry.Immediate}}
		}
		return nil
	}
	f := complete(*in.Frequency, in.Settings)
	b := &belfry.Bundling{Key: keyOf(in.Frequency, &in), Frequency: f}
	if f.Clock == belfry.ClockElapsed {
		b.Wait = elapsed(f.Every)
		b.Early, b.Since = in.Now, in.Now.Add(-b.Wait)
	} else {
		b.Due = NextTick(f, in.Zone, in.Now)
		if f.Leading {
			b.Early, b.Since = in.Now, lastTick(f, in.Zone, in.Now)
		}
	}
	for _, at := range []*time.Time{&b.Due, &b.Early} {
		if !at.IsZero() {
			if until := QuietUntil(in.Settings, in.Zone, *at); !until.IsZero() {
				*at = until
			}
		}
	}
	return b
}

// complete fills in what the person's settings and the defaults say.
func complete(f belfry.Frequency, s *belfry.Settings) belfry.Frequency {
	if f.Clock == "" {
		f.Clock = belfry.ClockCalendar
	}
	if f.Content == "" {
		f.Content = belfry.ContentEvent
	}
	if f.By == "" {
		f.By = belfry.ByPerson
	}
	if f.Clock == belfry.ClockElapsed {
		return f
	}
	if f.At == "" && f.Every == belfry.Hourly {
		f.At = "00:00"
	}
	if f.At == "" && s != nil {
		f.At = s.DigestAt
	}
	if f.At == "" {
		f.At = defaultAt
	}
	if f.Every == belfry.Weekly {
		if f.Weekday == "" && s != nil {
			f.Weekday = s.DigestWeekday
		}
		if day, ok := belfry.ParseWeekday(f.Weekday); ok {
			f.Weekday = belfry.Weekdays[day]
		} else {
			f.Weekday = defaultWeekday
		}
	}
	if f.Every == belfry.Monthly && f.Day == 0 {
		f.Day = 1
	}
	return f
}

// keyOf names what shares a message: of the frequency as it was chosen, so that
// it stays when the person's settings change.
func keyOf(f *belfry.Frequency, in *WhenInput) string {
	var b strings.Builder
	b.WriteString(f.Every)
	for _, part := range []struct{ name, value string }{
		{"clock", f.Clock}, {"at", f.At}, {"on", f.Weekday}, {"content", f.Content},
	} {
		if part.value != "" && part.value != belfry.ClockCalendar && part.value != belfry.ContentEvent {
			b.WriteString(" " + part.name + "=" + part.value)
		}
	}
	if f.Day != 0 {
		b.WriteString(" day=" + strconv.Itoa(f.Day))
	}
	if f.Leading {
		b.WriteString(" leading")
	}
	switch f.By {
	case belfry.ByRule:
		b.WriteString(" of=" + in.Subscription)
	case belfry.ByObject:
		b.WriteString(" of=" + in.Object)
	}
	return b.String()
}

// elapsed is how long the elapsed clock waits after a message. A month is 30
// days there.
func elapsed(every string) time.Duration {
	const day = 24 * time.Hour
	switch every {
	case belfry.Hourly:
		return time.Hour
	case belfry.Weekly:
		return 7 * day
	case belfry.Monthly:
		return 30 * day
	}
	return day
}

// NextTick is the first time after a moment at which a digest of a complete
// frequency goes out by the calendar of a zone. A time of day that a day does
// not have, since clocks were put forward over it, is the moment they were put
// forward; one that a day has twice is its first.
func NextTick(f belfry.Frequency, zone *time.Location, after time.Time) time.Time {
	at, _ := belfry.ParseClock(f.At)
	local := after.In(zone)
	year, month, day := local.Date()
	switch f.Every {
	case belfry.Hourly:
		return nextHour(int(at/time.Minute)%60, zone, after)
	case belfry.Weekly:
		weekday, _ := belfry.ParseWeekday(f.Weekday)
		first := (int(weekday) - int(local.Weekday()) + 7) % 7
		for d := first; ; d += 7 {
			if tick := wall(zone, year, month, day+d, at); tick.After(after) {
				return tick
			}
		}
	case belfry.Monthly:
		for m := 0; ; m++ {
			of := time.Month(int(month) + m)
			last := time.Date(year, of+1, 0, 0, 0, 0, 0, time.UTC).Day()
			if tick := wall(zone, year, of, min(f.Day, last), at); tick.After(after) {
				return tick
			}
		}
	}
	for d := 0; ; d++ {
		if tick := wall(zone, year, month, day+d, at); tick.After(after) {
			return tick
		}
	}
}

// lastTick is the last tick that is not after a moment.
func lastTick(f belfry.Frequency, zone *time.Location, now time.Time) time.Time {
	span := elapsed(f.Every)
	t := NextTick(f, zone, now.Add(-2*span-25*time.Hour))
	for {
		next := NextTick(f, zone, t)
		if next.After(now) {
			return t
		}
		t = next
	}
}

// nextHour is the first time after a moment at which clocks of a zone show a
// minute of any hour.
func nextHour(minute int, zone *time.Location, after time.Time) time.Time {
	best := after.Add(2 * time.Hour) // further than any
	// Clocks may be put by a part of an hour within the next ones.
	for ahead := range 3 {
		shift := offset(after.Add(time.Duration(ahead)*time.Hour), zone)
		hour := after.Add(shift).Truncate(time.Hour)
		for h := range 3 {
			tick := hour.Add(time.Duration(h)*time.Hour + time.Duration(minute)*time.Minute - shift)
			if tick.After(after) && tick.Before(best) && offset(tick, zone) == shift {
				best = tick
			}
		}
	}
	return best.UTC()
}

func offset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// wall is when clocks of a zone show a time on a day: the first such moment, or
// the one in which they are put forward over it.
func wall(zone *time.Location, year int, month time.Month, day int, at time.Duration) time.Time {
	shown := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Add(at)
	const around = 25 * time.Hour // more than clocks are ever off
	var best, gap time.Time
	for _, near := range []time.Time{shown.Add(-around), shown.Add(around)} {
		shift := offset(near, zone)
		t := shown.Add(-shift)
		if offset(t, zone) == shift {
			if best.IsZero() || t.Before(best) {
				best = t
			}
		} else if start, _ := t.In(zone).ZoneBounds(); start.After(gap) {
			gap = start
		}
	}
	if best.IsZero() {
		best = gap
	}
	return best.UTC()
}

// QuietUntil is when the quiet hours end in which a moment is; zero when it is
// in none. Quiet hours that meet others go on with them.
func QuietUntil(s *belfry.Settings, zone *time.Location, at time.Time) time.Time {
	if s == nil || s.Quiet == nil {
		return time.Time{}
	}
	until, in := belfry.WindowsAt([]belfry.Window{*s.Quiet}, at, zone)
	if !in {
		return time.Time{}
	}
	return until.UTC()
}

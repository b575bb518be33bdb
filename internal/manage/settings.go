package manage

import (
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// settings checks a person's settings, and writes days in full.
func (f *faults) settings(s *belfry.Settings) {
	if s.DigestAt != "" {
		if _, ok := belfry.ParseClock(s.DigestAt); !ok {
			f.add("/digest_at", "%q is not a time of day from 00:00 to 23:59, such as 08:00", s.DigestAt)
		}
	}
	if s.DigestWeekday != "" {
		day, ok := belfry.ParseWeekday(s.DigestWeekday)
		if !ok {
			f.choice("/digest_weekday", s.DigestWeekday, belfry.Weekdays...)
		}
		s.DigestWeekday = belfry.Weekdays[day]
	}
	if s.Quiet == nil {
		return
	}
	if len(s.Quiet.Days) > len(belfry.Weekdays) {
		f.add("/quiet/days", "has %d entries: there are %d days", len(s.Quiet.Days), len(belfry.Weekdays))
		return
	}
	f.within("/quiet", s.Quiet.Faults())
	if len(f.list) == 0 && endless(s.Quiet) {
		f.add("/quiet", "never ends: nothing would ever be told; to stop all messages set stop")
	}
}

// endless reports whether quiet hours are all hours of all days.
func endless(w *belfry.Window) bool {
	if w.From != w.To {
		return false
	}
	days := map[time.Weekday]bool{}
	for _, name := range w.Days {
		day, _ := belfry.ParseWeekday(name)
		days[day] = true
	}
	return len(w.Days) == 0 || len(days) == len(belfry.Weekdays)
}

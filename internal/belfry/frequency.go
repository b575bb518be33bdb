package belfry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Frequency is how often somebody is told: of each event at once, or of what
// gathered since, in one message. The zero value says nothing: whoever comes
// next in the order of who decides speaks.
type Frequency struct {
	Every   string `json:"every"`             // immediate | hourly | daily | weekly | monthly | never
	Clock   string `json:"clock,omitempty"`   // calendar (default): at fixed times in the person's zone | elapsed: so long after the last message at least
	At      string `json:"at,omitempty"`      // HH:MM, of the calendar clock; empty = the person's setting, else 08:00; hourly looks at the minutes only
	Weekday string `json:"weekday,omitempty"` // of weekly; empty = the person's setting, else monday
	Day     int    `json:"day,omitempty"`     // of monthly: 1 to 31, the last day of shorter months; 0 = 1
	Content string `json:"content,omitempty"` // event (default): what was true when it happened | send: the object and the templates as they are when it goes out
	By      string `json:"by,omitempty"`      // what shares a message: person (default), subscription, or object: one each
	Leading bool   `json:"leading,omitempty"` // the first after a quiet period goes at once, the rest waits
}

// How often somebody is told.
const (
	Immediate = "immediate"
	Hourly    = "hourly"
	Daily     = "daily"
	Weekly    = "weekly"
	Monthly   = "monthly"
	Never     = "never"
)

// Clocks of a frequency.
const (
	ClockCalendar = "calendar"
	ClockElapsed  = "elapsed"
)

// What a digest says of its events.
const (
	ContentEvent = "event"
	ContentSend  = "send"
)

// What shares a digest.
const (
	ByPerson = "person"
	ByObject = "object"
	ByRule   = "subscription"
)

// Frequencies are the words for Every.
var Frequencies = []string{Immediate, Hourly, Daily, Weekly, Monthly, Never}

// Weekdays are the words for a day of the week, in the order of time.Weekday.
var Weekdays = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// ParseWeekday reads a weekday: its name, or the first three letters of it.
func ParseWeekday(s string) (time.Weekday, bool) {
	for i, name := range Weekdays {
		if s == name || s == name[:3] {
			return time.Weekday(i), true
		}
	}
	return 0, false
}

// ParseClock reads a time of day, HH:MM from 00:00 to 23:59, as the time since
// midnight on a day of 24 hours.
func ParseClock(s string) (time.Duration, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	for _, i := range []int{0, 1, 3, 4} {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	if h > 23 || m > 59 {
		return 0, false
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, true
}

// Digest reports whether messages wait to be sent together.
func (f *Frequency) Digest() bool {
	return f != nil && f.Every != "" && f.Every != Immediate && f.Every != Never
}

// Faults is what is wrong with f, with pointers from f on.
func (f *Frequency) Faults() []Field {
	if f == nil {
		return nil
	}
	var out []Field
	fault := func(pointer, format string, args ...any) {
		out = append(out, Field{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
	word := func(pointer, s string, words ...string) bool {
		if slices.Contains(words, s) {
			return true
		}
		if near := Nearest(s, words); near != "" {
			fault(pointer, "%q is not known: did you mean %q?", s, near)
		} else {
			fault(pointer, "%q is not known: it is one of %s", s, strings.Join(words, ", "))
		}
		return false
	}
	if !word("/every", f.Every, Frequencies...) {
		return out
	}
	if !f.Digest() {
		if *f != (Frequency{Every: f.Every}) {
			fault("", "%s stands alone: at, weekday and the others are of hourly, daily, weekly and monthly", f.Every)
		}
		return out
	}
	if f.Clock != "" {
		word("/clock", f.Clock, ClockCalendar, ClockElapsed)
	}
	if f.Content != "" {
		word("/content", f.Content, ContentEvent, ContentSend)
	}
	if f.By != "" {
		word("/by", f.By, ByPerson, ByRule, ByObject)
	}
	elapsed := f.Clock == ClockElapsed
	if f.At != "" {
		switch _, ok := ParseClock(f.At); {
		case !ok:
			fault("/at", "%q is not a time of day from 00:00 to 23:59, such as 08:00", f.At)
		case elapsed:
			fault("/at", "goes with the calendar clock only: the elapsed clock counts from the last message")
		}
	}
	if f.Weekday != "" {
		switch {
		case !word("/weekday", f.Weekday, Weekdays...):
		case f.Every != Weekly || elapsed:
			fault("/weekday", "goes only with weekly by the calendar clock: leave it out")
		}
	}
	switch {
	case f.Day < 0 || f.Day > 31:
		fault("/day", "is a day of the month from 1 to 31")
	case f.Day != 0 && (f.Every != Monthly || elapsed):
		fault("/day", "goes only with monthly by the calendar clock: leave it out")
	}
	return out
}

// MarshalJSON writes a frequency that says no more than how often as that word.
func (f Frequency) MarshalJSON() ([]byte, error) {
	if f == (Frequency{Every: f.Every}) {
		return json.Marshal(f.Every)
	}
	type plain Frequency
	return json.Marshal(plain(f))
}

// UnmarshalJSON reads a word or the whole form.
func (f *Frequency) UnmarshalJSON(raw []byte) error {
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] == '"' {
		*f = Frequency{}
		return json.Unmarshal(raw, &f.Every)
	}
	type plain Frequency
	p := plain{}
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	*f = Frequency(p)
	return nil
}

// String says it in words, in the short form of lists and traces.
func (f *Frequency) String() string {
	if f == nil || f.Every == "" {
		return Immediate
	}
	s := f.Every
	if f.Clock == ClockElapsed {
		return s + ", counted from the last message"
	}
	if f.Weekday != "" {
		s += " on " + strings.ToUpper(f.Weekday[:1]) + f.Weekday[1:]
	}
	if f.Day != 0 {
		s += fmt.Sprintf(" on day %d", f.Day)
	}
	if f.At != "" {
		s += " at " + f.At
	}
	return s
}

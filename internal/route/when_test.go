package route_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/route"
)

func utc(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func zone(name string) *time.Location {
	z, _ := belfry.Zone(name)
	return z
}

// The calendar clock is the person's own, over changes of daylight-saving time
// in both directions.
//
// feature: CPS-23, S3-4
func TestWhenByTheCalendar(t *testing.T) {
	for _, tc := range []struct {
		name, zone, now, due string
		f                    belfry.Frequency
		s                    *belfry.Settings
	}{
		{"at eight, today", "America/Sao_Paulo", "2026-05-09T09:31:16Z", "2026-05-09T11:00:00Z", belfry.Frequency{Every: "daily"}, nil},
		{"at eight, tomorrow", "America/Sao_Paulo", "2026-05-09T11:00:00Z", "2026-05-10T11:00:00Z", belfry.Frequency{Every: "daily"}, nil},
		{"the person's hour", "America/Sao_Paulo", "2026-05-09T11:00:00Z", "2026-05-09T21:30:00Z", belfry.Frequency{Every: "daily"}, &belfry.Settings{DigestAt: "18:30"}},
		{"its own hour before the person's", "UTC", "2026-05-09T11:00:00Z", "2026-05-09T12:00:00Z", belfry.Frequency{Every: "daily", At: "12:00"}, &belfry.Settings{DigestAt: "18:30"}},
		{"on Monday", "America/Sao_Paulo", "2026-05-09T09:31:16Z", "2026-05-11T11:00:00Z", belfry.Frequency{Every: "weekly"}, nil},
		{"on the person's day", "America/Sao_Paulo", "2026-05-09T09:31:16Z", "2026-05-13T11:00:00Z", belfry.Frequency{Every: "weekly"}, &belfry.Settings{DigestWeekday: "wednesday"}},
		{"on Friday at nine", "Asia/Kathmandu", "2026-05-09T09:31:16Z", "2026-05-15T03:15:00Z", belfry.Frequency{Every: "weekly", Weekday: "friday", At: "09:00"}, nil},
		{"on the first", "UTC", "2026-05-09T09:31:16Z", "2026-06-01T08:00:00Z", belfry.Frequency{Every: "monthly"}, nil},
		{"on the last day of a short month", "UTC", "2026-02-09T09:31:16Z", "2026-02-28T08:00:00Z", belfry.Frequency{Every: "monthly", Day: 31}, nil},
		{"over the year's end", "UTC", "2026-12-31T09:00:00Z", "2027-01-31T08:00:00Z", belfry.Frequency{Every: "monthly", Day: 31}, nil},
		{"on the hour", "Asia/Kathmandu", "2026-05-09T09:31:16Z", "2026-05-09T10:15:00Z", belfry.Frequency{Every: "hourly"}, nil},
		{"at half past", "UTC", "2026-05-09T09:31:16Z", "2026-05-09T10:30:00Z", belfry.Frequency{Every: "hourly", At: "00:30"}, nil},

		{"spring: the hour that is left out", "Europe/Lisbon", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", belfry.Frequency{Every: "daily", At: "01:30"}, nil},
		{"spring: the same hour after it", "Europe/Lisbon", "2026-03-28T12:00:00Z", "2026-03-29T07:00:00Z", belfry.Frequency{Every: "daily"}, nil},
		{"spring: midnight is left out", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z", belfry.Frequency{Every: "daily", At: "00:00"}, nil},
		{"autumn: the first of two", "Europe/Lisbon", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", belfry.Frequency{Every: "daily", At: "01:30"}, nil},
		{"autumn: not the second of two", "Europe/Lisbon", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z", belfry.Frequency{Every: "daily", At: "01:30"}, nil},
		{"autumn: the same hour after it", "Europe/Lisbon", "2026-10-24T12:00:00Z", "2026-10-25T08:00:00Z", belfry.Frequency{Every: "daily"}, nil},
		{"autumn: both hours", "Europe/Lisbon", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", belfry.Frequency{Every: "hourly", At: "00:30"}, nil},
		{"half an hour is put forward", "Australia/Lord_Howe", "2026-10-03T15:10:00Z", "2026-10-03T16:00:00Z", belfry.Frequency{Every: "hourly"}, nil},
	} {
		b := route.When(route.WhenInput{Frequency: &tc.f, Settings: tc.s, Zone: zone(tc.zone), Now: utc(t, tc.now)})
		if b == nil || !b.Due.Equal(utc(t, tc.due)) || b.Counts() {
			t.Errorf("%s: %+v, want %s", tc.name, b, tc.due)
		}
	}
}

// The elapsed clock counts from the last message: what comes after a quiet time
// is told at once.
//
// feature: S3-4, S3-8
func TestWhenByTheElapsedClock(t *testing.T) {
	now := utc(t, "2026-05-09T09:31:16Z")
	for every, wait := range map[string]time.Duration{"hourly": time.Hour, "daily": 24 * time.Hour, "weekly": 7 * 24 * time.Hour, "monthly": 30 * 24 * time.Hour} {
		b := route.When(route.WhenInput{Frequency: &belfry.Frequency{Every: every, Clock: "elapsed"}, Zone: time.UTC, Now: now})
		for _, tc := range []struct {
			last, due time.Time
		}{
			{time.Time{}, now},
			{now.Add(-wait - time.Second), now},
			{now.Add(-wait), now},
			{now.Add(-wait + time.Second), now.Add(time.Second)},
			{now, now.Add(wait)},
		} {
			if due := b.DueAfter(tc.last); !due.Equal(tc.due) {
				t.Errorf("%s: the last one went %s ago: due %s, want %s", every, now.Sub(tc.last), due, tc.due)
			}
		}
	}
}

// The first after a quiet period goes at once, the rest waits for the next time.
//
// feature: PEER-9
func TestWhenLeading(t *testing.T) {
	now := utc(t, "2026-05-09T09:31:16Z")
	b := route.When(route.WhenInput{Frequency: &belfry.Frequency{Every: "daily", Leading: true}, Zone: time.UTC, Now: now})
	for last, due := range map[string]string{
		"2026-05-08T12:00:00Z": "2026-05-09T09:31:16Z", // before today's eight o'clock
		"2026-05-09T07:59:59Z": "2026-05-09T09:31:16Z",
		"2026-05-09T08:00:00Z": "2026-05-10T08:00:00Z",
		"2026-05-09T09:00:00Z": "2026-05-10T08:00:00Z",
	} {
		if got := b.DueAfter(utc(t, last)); !got.Equal(utc(t, due)) {
			t.Errorf("the last one went at %s: due %s, want %s", last, got, due)
		}
	}
	if got := b.DueAfter(time.Time{}); !got.Equal(now) {
		t.Errorf("the very first is due %s", got)
	}
}

// What shares a message has one key, whatever the person's settings say; what
// does not has another.
func TestWhenKeys(t *testing.T) {
	now := utc(t, "2026-05-09T09:31:16Z")
	key := func(f belfry.Frequency, s *belfry.Settings, sub, object string) string {
		return route.When(route.WhenInput{Frequency: &f, Settings: s, Zone: time.UTC, Now: now, Subscription: sub, Object: object}).Key
	}
	daily := key(belfry.Frequency{Every: "daily"}, nil, "sub_1", "course/1")
	for _, same := range []string{
		key(belfry.Frequency{Every: "daily"}, &belfry.Settings{DigestAt: "18:00"}, "sub_2", "course/2"),
		key(belfry.Frequency{Every: "daily", Clock: "calendar", Content: "event"}, nil, "sub_1", "course/1"),
	} {
		if same != daily {
			t.Errorf("%q is not %q", same, daily)
		}
	}
	seen := map[string]bool{daily: true}
	for _, f := range []belfry.Frequency{
		{Every: "weekly"}, {Every: "daily", At: "09:00"}, {Every: "daily", Clock: "elapsed"}, {Every: "daily", Content: "send"}, {Every: "weekly", Weekday: "friday"},
		{Every: "monthly", Day: 3}, {Every: "daily", Leading: true}, {Every: "daily", By: "subscription"}, {Every: "daily", By: "object"},
	} {
		k := key(f, nil, "sub_1", "course/1")
		if seen[k] {
			t.Errorf("%+v shares the key %q", f, k)
		}
		seen[k] = true
	}
	if key(belfry.Frequency{Every: "daily", By: "object"}, nil, "sub_1", "course/2") == key(belfry.Frequency{Every: "daily", By: "object"}, nil, "sub_1", "course/1") {
		t.Error("two objects share a message")
	}
}

// Quiet hours hold what comes, and what is due, in the person's zone; they may
// go over midnight and meet each other. What is urgent breaks through.
//
// feature: NEW-5
func TestWhenQuiet(t *testing.T) {
	night := &belfry.Settings{Quiet: &belfry.Window{From: "22:00", To: "07:00"}}
	weekend := &belfry.Settings{Quiet: &belfry.Window{From: "00:00", To: "00:00", Days: []string{"sat", "sunday"}}}
	for _, tc := range []struct {
		name, zone, now, due string
		s                    *belfry.Settings
		f                    *belfry.Frequency
		urgent               bool
	}{
		{"in the evening", "Europe/Lisbon", "2026-05-09T21:30:00Z", "2026-05-10T06:00:00Z", night, nil, false},
		{"in the morning", "Europe/Lisbon", "2026-05-10T05:59:59Z", "2026-05-10T06:00:00Z", night, nil, false},
		{"at their end", "Europe/Lisbon", "2026-05-10T06:00:00Z", "", night, nil, false},
		{"by day", "Europe/Lisbon", "2026-05-10T12:00:00Z", "", night, nil, false},
		{"in another zone", "America/Sao_Paulo", "2026-05-10T05:00:00Z", "2026-05-10T10:00:00Z", night, nil, false},
		{"urgent", "Europe/Lisbon", "2026-05-09T21:30:00Z", "", night, nil, true},
		{"a digest within them", "UTC", "2026-05-10T12:00:00Z", "2026-05-11T07:00:00Z", night, &belfry.Frequency{Every: "daily", At: "23:00"}, false},
		{"a night shorter by an hour", "Europe/Lisbon", "2026-03-28T23:00:00Z", "2026-03-29T06:00:00Z", night, nil, false},
		{"a night longer by an hour", "Europe/Lisbon", "2026-10-24T22:00:00Z", "2026-10-25T07:00:00Z", night, nil, false},
		{"a whole weekend", "UTC", "2026-05-09T10:00:00Z", "2026-05-11T00:00:00Z", weekend, nil, false},
		{"a Friday", "UTC", "2026-05-08T23:59:00Z", "", weekend, nil, false},
	} {
		b := route.When(route.WhenInput{Frequency: tc.f, Settings: tc.s, Zone: zone(tc.zone), Now: utc(t, tc.now), Urgent: tc.urgent})
		switch {
		case tc.due == "" && b != nil:
			t.Errorf("%s: waits: %+v", tc.name, b)
		case tc.due != "" && (b == nil || !b.Due.Equal(utc(t, tc.due)) || b.Held != (tc.f == nil)):
			t.Errorf("%s: %+v, want %s", tc.name, b, tc.due)
		}
	}
}

// naiveTick looks at the clock of the zone minute by minute.
func naiveTick(f belfry.Frequency, zone *time.Location, after time.Time) time.Time {
	at, _ := belfry.ParseClock(f.At)
	shown := func(t time.Time) (date string, of time.Duration, l time.Time) {
		l = t.In(zone)
		return l.Format(time.DateOnly), time.Duration(l.Hour())*time.Hour + time.Duration(l.Minute())*time.Minute, l
	}
	for t := after.Truncate(time.Minute).Add(time.Minute); ; t = t.Add(time.Minute) {
		date, now, l := shown(t)
		if f.Every == "hourly" {
			if now%time.Hour == at%time.Hour {
				return t
			}
			continue
		}
		hit := now == at
		for _, back := range []time.Duration{30 * time.Minute, time.Hour} { // a second time today?
			if d, o, _ := shown(t.Add(-back)); d == date && o == at {
				hit = false
			}
		}
		if !hit && now > at { // was it left out just now?
			d, o, _ := shown(t.Add(-time.Minute))
			hit = d == date && o < at || d != date && o != 23*time.Hour+59*time.Minute || d != date && now > 0
			if d == date && o >= at {
				hit = false
			}
		}
		last := time.Date(l.Year(), l.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
		switch {
		case !hit:
		case f.Every == "weekly" && l.Weekday() != time.Monday+4:
		case f.Every == "monthly" && l.Day() != min(f.Day, last):
		default:
			return t
		}
	}
}

func TestTicksAgainstNaive(t *testing.T) {
	zones := []string{"UTC", "America/Sao_Paulo", "Europe/Lisbon", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "America/Havana"}
	rapid.Check(t, func(rt *rapid.T) {
		f := belfry.Frequency{Every: rapid.SampledFrom([]string{"hourly", "daily", "weekly", "monthly"}).Draw(rt, "every"), Weekday: "friday"}
		f.Day = rapid.IntRange(1, 31).Draw(rt, "day")
		minute := rapid.IntRange(0, 24*60-1)
		if rapid.Bool().Draw(rt, "early") { // when clocks are changed
			minute = rapid.IntRange(0, 4*60)
		}
		m := minute.Draw(rt, "at")
		f.At = time.Time{}.Add(time.Duration(m) * time.Minute).Format("15:04")
		zone := zone(rapid.SampledFrom(zones).Draw(rt, "zone"))
		after := time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 3*365*24*3600).Draw(rt, "after")) * time.Second)
		if start, end := after.In(zone).ZoneBounds(); rapid.Bool().Draw(rt, "near a change") && !end.IsZero() && !start.IsZero() {
			after = end.Add(time.Duration(rapid.IntRange(-48*3600, 3*3600).Draw(rt, "from it")) * time.Second)
		}
		got, want := route.NextTick(f, zone, after), naiveTick(f, zone, after)
		if !got.Equal(want) {
			rt.Fatalf("%s at %s in %s after %s: %s, want %s", f.Every, f.At, zone, after.In(zone), got.In(zone), want.In(zone))
		}
	})
}

package belfry_test

import (
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What is used of a limit is what was taken within its window, also by a server
// whose clock is a little ahead; nothing of another window, channel or account.
// feature: S3-20
func TestUsageOfALimit(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 5, 9, 23, 59, 55, 0, time.UTC)
	minute, midnight := now.Truncate(time.Minute), now.Truncate(day)
	limit := belfry.ChannelLimit{PerMinute: 10, PerDay: 100}
	share := belfry.ShareOf("email")
	for name, tc := range map[string]struct {
		taken       []belfry.Permits
		minute, day belfry.WindowUsage
	}{
		"nothing":    {minute: belfry.WindowUsage{Remaining: 10, Frees: minute.Add(time.Minute)}, day: belfry.WindowUsage{Remaining: 100, Frees: midnight.Add(day)}},
		"some":       {[]belfry.Permits{{share, time.Minute, minute, 4}, {share, day, midnight, 30}}, belfry.WindowUsage{Used: 4, Remaining: 6, Frees: minute.Add(time.Minute)}, belfry.WindowUsage{Used: 30, Remaining: 70, Frees: midnight.Add(day)}},
		"a lowered":  {[]belfry.Permits{{share, day, midnight, 130}}, belfry.WindowUsage{Remaining: 10, Frees: minute.Add(time.Minute)}, belfry.WindowUsage{Used: 130, Frees: midnight.Add(day)}},
		"of another": {[]belfry.Permits{{"email", day, midnight, 30}, {belfry.ShareOf("sms"), day, midnight, 30}, {share, time.Second, minute, 3}}, belfry.WindowUsage{Remaining: 10, Frees: minute.Add(time.Minute)}, belfry.WindowUsage{Remaining: 100, Frees: midnight.Add(day)}},
		"is over":    {[]belfry.Permits{{share, time.Minute, minute.Add(-time.Minute), 10}, {share, day, midnight.Add(-day), 100}}, belfry.WindowUsage{Remaining: 10, Frees: minute.Add(time.Minute)}, belfry.WindowUsage{Remaining: 100, Frees: midnight.Add(day)}},
		"is ahead":   {[]belfry.Permits{{share, time.Minute, minute.Add(time.Minute), 10}, {share, day, midnight.Add(day), 100}}, belfry.WindowUsage{Used: 10, Frees: minute.Add(2 * time.Minute)}, belfry.WindowUsage{Used: 100, Frees: midnight.Add(2 * day)}},
		"is wrong":   {[]belfry.Permits{{share, time.Minute, minute.Add(2 * time.Minute), 10}, {share, day, midnight.Add(3 * day), 100}}, belfry.WindowUsage{Remaining: 10, Frees: minute.Add(time.Minute)}, belfry.WindowUsage{Remaining: 100, Frees: midnight.Add(day)}},
	} {
		if u := limit.Usage("email", tc.taken, now); *u.Minute != tc.minute || *u.Day != tc.day {
			t.Errorf("%s: %+v and %+v", name, *u.Minute, *u.Day)
		}
	}
	if u := (belfry.ChannelLimit{PerDay: 1}).Usage("email", nil, now); u.Minute != nil || u.Day == nil {
		t.Errorf("%+v", u)
	}
}

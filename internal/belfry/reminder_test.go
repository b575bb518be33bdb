package belfry_test

import (
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: NEW-13, PEER-13 a reminder before the end
func TestNextReminder(t *testing.T) {
	zone, _ := belfry.Zone("America/Sao_Paulo")
	at := func(text string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	once := at("2026-03-02 12:00")
	nights := []belfry.Window{{From: "22:00", To: "07:00"}}
	for _, c := range []struct {
		name       string
		p          belfry.Preference
		after      string
		want, ends string // empty = none
	}{
		{"once", belfry.Preference{MuteUntil: &once, Remind: "1h"}, "2026-03-02 08:00", "2026-03-02 11:00", "2026-03-02 12:00"},
		{"once, and it was said", belfry.Preference{MuteUntil: &once, Remind: "1h"}, "2026-03-02 11:00", "", ""},
		{"set too late", belfry.Preference{MuteUntil: &once, Remind: "1h"}, "2026-03-02 11:30", "", ""},
		{"nobody asked", belfry.Preference{MuteUntil: &once}, "2026-03-02 08:00", "", ""},
		{"tonight's", belfry.Preference{Mutes: nights, Remind: "30m"}, "2026-03-02 08:00", "2026-03-03 06:30", "2026-03-03 07:00"},
		{"within the night", belfry.Preference{Mutes: nights, Remind: "30m"}, "2026-03-02 23:00", "2026-03-03 06:30", "2026-03-03 07:00"},
		{"the next night's", belfry.Preference{Mutes: nights, Remind: "30m"}, "2026-03-03 06:30", "2026-03-04 06:30", "2026-03-04 07:00"},
		{"longer than the mute", belfry.Preference{Mutes: nights, Remind: "20h"}, "2026-03-02 08:00", "2026-03-02 22:00", "2026-03-03 07:00"},
		{"without an end", belfry.Preference{Mutes: []belfry.Window{{From: "00:00", To: "00:00"}}, Remind: "1h"}, "2026-03-02 08:00", "", ""},
	} {
		r, any := c.p.NextReminder(at(c.after), zone)
		if any != (c.want != "") || any && (!r.At.Equal(at(c.want)) || !r.Ends.Equal(at(c.ends))) {
			t.Errorf("%s: %v %v, want %q before %q", c.name, r, any, c.want, c.ends)
		}
	}
	first, _ := belfry.NextReminder([]belfry.Preference{{Mutes: nights, Remind: "30m"}, {MuteUntil: &once, Remind: "1h"}, {}}, at("2026-03-02 08:00"), zone)
	if !first.At.Equal(at("2026-03-02 11:00")) {
		t.Errorf("first of all %v", first)
	}
}

package route

import (
	"fmt"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What waits is decided anew as if what holds now had held when it was planned.
//
// feature: CPS-23, NEW-5
func TestAgain(t *testing.T) {
	planned := time.Date(2026, 5, 9, 9, 31, 0, 0, time.UTC) // a Saturday
	daily := &belfry.Frequency{Every: belfry.Daily}
	sub := &belfry.Subscription{ID: "sub_1", Types: []string{"t"}}
	apart := &belfry.Subscription{ID: "sub_2", Types: []string{"t"}, Merge: new(bool)}
	via := func(s *belfry.Subscription, f *belfry.Frequency, channels ...string) belfry.Via {
		return belfry.Via{Match: &belfry.Match{Subscription: s}, Member: &belfry.Member{Frequency: f, Channels: channels}, Because: []belfry.Reason{{Code: belfry.NamedMember, Subscription: s.ID}}}
	}
	mail := belfry.User{ID: "u", Email: "u@x.org", State: belfry.UserActive}
	type recipients = []belfry.Recipient
	for name, c := range map[string]struct {
		item   string // channel; its subscription
		person belfry.Person
		who    recipients
		typ    belfry.EventType
		after  time.Duration // since it was planned
		want   string
	}{
		"as it was":            {item: "email sub_1", person: belfry.Person{User: mail}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "email")}}}, want: `"daily" Sun 08:00`},
		"overdue":              {item: "email sub_1", person: belfry.Person{User: mail}, after: 48 * time.Hour, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "email")}}}, want: `"daily" Mon 09:31`},
		"overdue at night":     {item: "email sub_1", person: belfry.Person{User: mail, Settings: belfry.Settings{Quiet: &belfry.Window{From: "09:00", To: "10:00"}}}, after: 48 * time.Hour, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "email")}}}, want: `"daily" Mon 10:00`},
		"at once":              {item: "email sub_1", person: belfry.Person{User: mail}, after: time.Hour, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, &belfry.Frequency{Every: belfry.Immediate}, "email")}}}, want: `"now weekly" Sat 10:31`},
		"urgent now":           {item: "email sub_1", person: belfry.Person{User: mail}, typ: belfry.EventType{Urgent: true}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "email")}}}, want: `"now weekly" Sat 09:31`},
		"no more quiet hours":  {item: "email sub_1", person: belfry.Person{User: mail}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, nil, "email")}}}, want: `"now weekly" Sat 09:31`},
		"never":                {item: "email sub_1", person: belfry.Person{User: mail}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, &belfry.Frequency{Every: belfry.Never}, "email")}}}, want: "off frequency_never, "},
		"another channel":      {item: "email sub_1", person: belfry.Person{User: mail}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "inbox")}}}, want: "off channel_off, inbox"},
		"one channel more":     {item: "email sub_1", person: belfry.Person{User: mail}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "inbox", "email")}}}, want: `"daily" Sun 08:00`},
		"forbidden":            {item: "email sub_1", person: belfry.Person{User: mail}, typ: belfry.EventType{Channels: belfry.TypeChannels{Forbidden: []string{"email"}}}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "email", "inbox")}}}, want: "off channel_forbidden, inbox"},
		"stopped for now":      {item: "email sub_1", person: belfry.Person{User: mail, Settings: belfry.Settings{Stop: true}}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "inbox")}}}, want: "stays"},
		"no address for now":   {item: "email sub_1", person: belfry.Person{User: belfry.User{ID: "u", State: belfry.UserActive}}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, daily, "email")}}}, want: "stays"},
		"nothing names her":    {item: "email sub_1", person: belfry.Person{User: mail}, want: "stays"},
		"kept apart":           {item: "email sub_2", person: belfry.Person{User: mail}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, &belfry.Frequency{Every: belfry.Hourly}, "email")}}, {Principal: "u", Via: []belfry.Via{via(apart, daily, "email")}}}, want: `"daily apart=sub_2" Sun 08:00`},
		"not those kept apart": {item: "email sub_1", person: belfry.Person{User: mail}, who: recipients{{Principal: "u", Via: []belfry.Via{via(sub, &belfry.Frequency{Every: belfry.Hourly}, "email")}}, {Principal: "u", Via: []belfry.Via{via(apart, daily, "email")}}}, want: `"hourly" Sat 10:00`},
	} {
		t.Run(name, func(t *testing.T) {
			item := belfry.Delivery{ID: "dlv_1", Principal: "u"}
			if _, err := fmt.Sscan(c.item, &item.Channel, &item.Subscription); err != nil {
				t.Fatal(err)
			}
			in := Input{Event: &belfry.Accepted{EventID: belfry.EventID(planned, 0, 1), Event: &belfry.Event{Type: "t"}}, Recipients: c.who, Persons: map[string]*belfry.Person{"u": &c.person},
				Channels: []ChannelInfo{{Name: "inbox"}, {Name: "email", Kind: "email", Contact: "email"}}, Type: c.typ, Now: planned}
			b := &belfry.Bundle{Key: "weekly", Frequency: belfry.Frequency{Every: belfry.Weekly}}
			got := Again(in, &item, b, planned.Add(c.after))
			text := "stays"
			switch {
			case got.Off != nil:
				text = "off " + got.Off.Code + ", "
				for _, d := range got.Instead {
					text += d.Channel
				}
			case got.To != nil:
				if got.To.ID != item.ID {
					t.Errorf("it becomes %s", got.To.ID)
				}
				text = fmt.Sprintf("%q %s", got.To.Digest.Key, got.To.Digest.Due.Format("Mon 15:04"))
			}
			if text != c.want {
				t.Errorf("%s, want %s", text, c.want)
			}
		})
	}
}

package route

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: PEER-12, S3-19 a channel that reaches nobody is fallen back from when
// it is planned
func TestFallBackWhilePlanning(t *testing.T) {
	noMail := func(p *belfry.Person) { p.User.Email = "" }
	phone := func(p *belfry.Person) {
		p.User.Contacts = append(p.User.Contacts, belfry.Contact{Kind: "sms", Address: "+1", Verified: true})
	}
	deadMail := func(p *belfry.Person) {
		p.User.Email, p.User.Contacts = "", append(p.User.Contacts, belfry.Contact{Kind: "email", Address: "a@x.org", Verified: true, Dead: "550"})
	}
	mail := via(belfry.Subscription{Fallback: []string{"push", "sms"}}, belfry.Notify{Channels: []string{"email"}}, nil)
	tests := []struct {
		name   string
		person *belfry.Person
		via    belfry.Via
		typ    belfry.TypeChannels
		tenant []string
		want   []string
	}{
		{"not needed", ada(phone), mail, belfry.TypeChannels{}, nil, []string{"email ada@example.org by_subscription"}},
		{"no address", ada(noMail, phone), mail, belfry.TypeChannels{}, nil, []string{"sms +1 fell_back", "!email ada no_address"}},
		{"a dead one", ada(deadMail, phone), mail, belfry.TypeChannels{}, nil, []string{"sms +1 fell_back", "!email ada/a@x.org contact_dead"}},
		{"nothing reaches her", ada(noMail), mail, belfry.TypeChannels{}, nil, []string{"!email ada no_address"}},
		{"her preference before the subscription", ada(noMail, phone, func(p *belfry.Person) { p.Preferences = []belfry.Preference{{Fallback: []string{"inbox"}}} }), mail, belfry.TypeChannels{}, nil,
			[]string{"inbox ada fell_back", "!email ada no_address"}},
		{"the type's", ada(noMail, phone), via(belfry.Subscription{}, belfry.Notify{Channels: []string{"email"}}, nil), belfry.TypeChannels{Fallback: []string{"sms"}}, []string{"inbox"},
			[]string{"sms +1 fell_back", "!email ada no_address"}},
		{"the tenant's", ada(noMail, phone), via(belfry.Subscription{}, belfry.Notify{Channels: []string{"email"}}, nil), belfry.TypeChannels{}, []string{"inbox"},
			[]string{"inbox ada fell_back", "!email ada no_address"}},
		{"a forbidden one", ada(noMail, phone), mail, belfry.TypeChannels{Forbidden: []string{"sms"}}, nil, []string{"!email ada no_address"}},
		{"what is told anyhow is no other way", ada(noMail, phone), via(belfry.Subscription{Fallback: []string{"inbox", "sms"}}, belfry.Notify{Channels: []string{"email", "inbox"}}, nil), belfry.TypeChannels{}, nil,
			[]string{"inbox ada by_subscription", "sms +1 fell_back", "!email ada no_address"}},
		{"two that fail have one other way", ada(noMail), via(belfry.Subscription{Fallback: []string{"inbox"}}, belfry.Notify{Channels: []string{"email", "sms"}}, nil), belfry.TypeChannels{}, nil,
			[]string{"inbox ada fell_back", "!email ada no_address", "!sms ada no_address"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			in := input(to("ada", tc.via)).with(tc.person)
			in.Type.Channels, in.Fallback = tc.typ, tc.tenant
			if d := gocmp.Diff(tc.want, show(Plan(in))); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// feature: PEER-12, S3-19 the next contact by priority, then the next channel
func TestInstead(t *testing.T) {
	contacts := func(p *belfry.Person) {
		p.User.Email = ""
		p.User.Contacts = []belfry.Contact{
			{Kind: "email", Address: "c@x.org", Verified: true, Priority: 3}, {Kind: "email", Address: "a@x.org", Verified: true}, {Kind: "email", Address: "b@x.org", Verified: true, Priority: 2},
			{Kind: "email", Address: "off@x.org", Verified: true, Disabled: true}, {Kind: "sms", Address: "+1", Verified: true}, {Kind: "device", Address: "d1", Verified: true},
		}
	}
	sub := &belfry.Subscription{ID: "sub_1", Fallback: []string{"email", "push", "sms", "inbox", "fax", "webhook"}}
	event := belfry.EventID(noon, 1, 2)
	failed := func(channel, address, slot string) *belfry.Delivery {
		return &belfry.Delivery{Tenant: "default", ID: belfry.DeliveryID(event, 0, slot, address), EventID: event, Channel: channel, Address: address, Principal: "ada", Subscription: "sub_1",
			State: belfry.Failed, Attempts: 7, Line: 0, Because: []belfry.Reason{{Code: belfry.NamedUser}}}
	}
	for _, tc := range []struct {
		name     string
		delivery *belfry.Delivery
		suffix   string
		want     string
	}{
		{"the contacts that are left, then the channels", failed("email", "a@x.org", "email"), "", "email b@x.org, email c@x.org, push d1, sms +1, inbox ada"},
		{"one whose address is gone meanwhile", failed("email", "old@x.org", "email"), "", "email a@x.org, email b@x.org, email c@x.org, push d1, sms +1, inbox ada"},
		{"of devices each has its own", failed("push", "d1", "push"), "", "email a@x.org, email b@x.org, email c@x.org, sms +1, inbox ada"},
		{"apart stays apart", failed("email", "a@x.org", "email\x00sub_1"), "\x00sub_1", "email b@x.org, email c@x.org, push d1, sms +1, inbox ada"},
		{"a step stays a step", failed("sms", "+1", "sms\x00sub_1\x003"), "\x00sub_1\x003", "email a@x.org, email b@x.org, email c@x.org, push d1, inbox ada"},
	} {
		ways := Instead(Failure{Delivery: tc.delivery, Why: "550 no such user", Person: ada(contacts), Subscription: sub, Channels: channels,
			Type: belfry.EventType{Channels: belfry.TypeChannels{}}, About: About{Type: "core.course_updated", Ancestors: input().Ancestors, Now: noon}})
		var got []string
		for _, w := range ways {
			got = append(got, w.Channel+" "+w.Address)
			slot := w.Channel + tc.suffix
			if w.Channel == "inbox" {
				slot = "inbox"
			}
			last := w.Because[len(w.Because)-1]
			if w.ID != belfry.DeliveryID(event, 0, slot, w.Address) || w.Attempts != 0 || !w.Due.Equal(noon) || len(w.Because) != 2 ||
				last.Code != belfry.FellBack || last.Detail != tc.delivery.Channel+" to "+tc.delivery.Address+": 550 no such user" {
				t.Errorf("%s: %+v", tc.name, w)
			}
		}
		if strings.Join(got, ", ") != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

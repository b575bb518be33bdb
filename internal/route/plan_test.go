package route

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

var channels = []ChannelInfo{
	{Name: "inbox", Kind: "inbox"},
	{Name: "email", Kind: "email", Contact: "email"},
	{Name: "push", Kind: "webpush", Contact: "device", Every: true},
	{Name: "sms", Kind: "sms", Contact: "sms"},
	{Name: "webhook", Kind: "webhook"},
}

func input(rs ...belfry.Recipient) Input {
	return Input{
		Event:      &belfry.Accepted{Tenant: "default", EventID: belfry.EventID(noon, 1, 2), At: noon, Event: &belfry.Event{ID: "1", Type: "core.course_updated", Object: "forum"}},
		Recipients: rs, Persons: map[string]*belfry.Person{}, Channels: channels,
		Defaults:  []string{"inbox", "email"},
		Ancestors: []belfry.Object{{ID: "forum"}, {ID: "course"}, {ID: belfry.RootObject}},
		Endpoints: map[string]*belfry.Endpoint{}, Now: noon,
	}
}

func (in Input) with(ps ...*belfry.Person) Input {
	for _, p := range ps {
		in.Persons[p.User.ID] = p
	}
	return in
}

func ada(edit ...func(*belfry.Person)) *belfry.Person {
	p := &belfry.Person{User: belfry.User{ID: "ada", Email: " Ada@Example.org", Locale: "pt-BR", State: belfry.UserActive}}
	for _, f := range edit {
		f(p)
	}
	return p
}

func via(sub belfry.Subscription, notify belfry.Notify, member *belfry.Member) belfry.Via {
	if sub.ID == "" {
		sub.ID = "sub_1"
	}
	return belfry.Via{Match: &belfry.Match{Subscription: &sub}, Notify: notify, Member: member,
		Because: []belfry.Reason{{Code: belfry.NamedUser, Subscription: sub.ID, Rule: 1}}}
}

func to(principal string, vias ...belfry.Via) belfry.Recipient {
	if len(vias) == 0 {
		vias = []belfry.Via{via(belfry.Subscription{}, belfry.Notify{}, nil)}
	}
	return belfry.Recipient{Principal: principal, Via: vias}
}

// show: "email ada@example.org by_tenant_default" or "!email ada@… reason".
func show(ds []belfry.Delivery, ss []belfry.Suppression) []string {
	last := func(rs []belfry.Reason) string {
		r := rs[len(rs)-1]
		if r.Object != "" {
			return r.Code + "@" + r.Object
		}
		return r.Code
	}
	out := []string{}
	for _, d := range ds {
		out = append(out, strings.TrimSpace(d.Channel+" "+d.Address+" "+last(d.Because)))
	}
	for _, s := range ss {
		who := s.Principal
		if s.Address != "" {
			who += "/" + s.Address
		}
		out = append(out, "!"+s.Channel+" "+who+" "+last(s.Because))
	}
	return out
}

func often(every string) *belfry.Frequency { return &belfry.Frequency{Every: every} }

func inSaoPaulo(p *belfry.Person) { p.User.TimeZone = "America/Sao_Paulo" }

// feature: PEER-8 who decides, with mandatory types
func TestWhoDecides(t *testing.T) {
	later, earlier := noon.Add(time.Hour), noon.Add(-time.Hour)
	prefs := func(ps ...belfry.Preference) func(*belfry.Person) {
		return func(p *belfry.Person) { p.Preferences = ps }
	}
	stop := func(p *belfry.Person) { p.Settings.Stop = true }
	inbox, email := []string{"inbox"}, []string{"email"}
	mandatory := belfry.Subscription{Mandatory: true}
	tests := []struct {
		name   string
		person *belfry.Person
		typ    belfry.EventType
		event  func(*belfry.Event)
		vias   []belfry.Via
		want   []string
	}{
		{name: "the tenant's defaults", want: []string{"inbox ada by_tenant_default", "email ada@example.org by_tenant_default"}},
		{name: "the type's default", typ: belfry.EventType{Channels: belfry.TypeChannels{Default: inbox}}, want: []string{"inbox ada by_type_default"}},
		{name: "the subscription before it", typ: belfry.EventType{Channels: belfry.TypeChannels{Default: inbox}},
			vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{Channels: email}, nil)}, want: []string{"email ada@example.org by_subscription"}},
		{name: "the preference before it", person: ada(prefs(belfry.Preference{Channels: inbox})),
			vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{Channels: email}, nil)}, want: []string{"inbox ada by_preference"}},
		{name: "the member's setting before it", person: ada(prefs(belfry.Preference{Channels: inbox})),
			vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{}, &belfry.Member{Principal: "ada", Object: "course", Channels: email})},
			want: []string{"email ada@example.org by_member@course"}},
		{name: "a member without channels leaves it to the preference", person: ada(prefs(belfry.Preference{Channels: inbox})),
			vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{}, &belfry.Member{Principal: "ada"})}, want: []string{"inbox ada by_preference"}},
		{name: "global stop", person: ada(stop), want: []string{"! ada global_stop"}},
		{name: "global stop before the member's setting", person: ada(stop),
			vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{}, &belfry.Member{Principal: "ada", Channels: email})}, want: []string{"! ada global_stop"}},
		{name: "mandatory before global stop", person: ada(stop), vias: []belfry.Via{via(mandatory, belfry.Notify{Channels: email}, nil)},
			want: []string{"email ada@example.org by_mandatory"}},
		{name: "a mandatory type before global stop", person: ada(stop), typ: belfry.EventType{Mandatory: true, Channels: belfry.TypeChannels{Default: inbox}},
			want: []string{"inbox ada by_mandatory"}},
		{name: "never the global stop of a deleted user", person: ada(stop, func(p *belfry.Person) { p.User.State = belfry.UserDeleted }),
			vias: []belfry.Via{via(mandatory, belfry.Notify{Channels: email}, nil)}, want: []string{"! ada global_stop"}},
		{name: "mandatory ignores mutes, and channels are hers", person: ada(prefs(belfry.Preference{Channels: inbox, MuteUntil: &later})),
			vias: []belfry.Via{via(mandatory, belfry.Notify{Channels: email}, nil)}, want: []string{"inbox ada by_mandatory"}},
		{name: "mandatory ignores level none", person: ada(prefs(belfry.Preference{Level: "none"})),
			vias: []belfry.Via{via(mandatory, belfry.Notify{Channels: email}, nil)}, want: []string{"email ada@example.org by_mandatory"}},
		{name: "mandatory with nothing against it", vias: []belfry.Via{via(mandatory, belfry.Notify{Channels: email}, nil)},
			want: []string{"email ada@example.org by_subscription"}},
		{name: "only the mandatory way passes a mute", person: ada(prefs(belfry.Preference{Object: "course", MuteUntil: &later})),
			vias: []belfry.Via{via(mandatory, belfry.Notify{Channels: email}, nil), via(belfry.Subscription{ID: "b"}, belfry.Notify{Channels: inbox}, nil)},
			want: []string{"email ada@example.org by_mandatory", "!inbox ada muted@course"}},
		{name: "forced before stop, mute and preference", person: ada(stop, prefs(belfry.Preference{Level: "none", Channels: inbox})),
			typ: belfry.EventType{Channels: belfry.TypeChannels{Forced: email}}, want: []string{"email ada@example.org by_forced", "!inbox ada global_stop"}},
		{name: "forced beside what she chose", person: ada(prefs(belfry.Preference{Channels: inbox})),
			typ: belfry.EventType{Channels: belfry.TypeChannels{Forced: email}}, want: []string{"inbox ada by_preference", "email ada@example.org by_forced"}},
		{name: "forbidden before everything", person: ada(prefs(belfry.Preference{Channels: email})),
			typ:  belfry.EventType{Mandatory: true, Channels: belfry.TypeChannels{Forbidden: email, Forced: email}},
			want: []string{"!email ada channel_forbidden"}},
		{name: "forbidding one leaves the others", typ: belfry.EventType{Channels: belfry.TypeChannels{Forbidden: email}},
			want: []string{"inbox ada by_tenant_default", "!email ada channel_forbidden"}},
		{name: "a channel nobody set up", vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{Channels: []string{"fax", "inbox"}}, nil)},
			want: []string{"inbox ada by_subscription", "!fax ada channel_unknown"}},
		{name: "webhook is not for people", vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{Channels: []string{"webhook"}}, nil)},
			want: []string{"!webhook ada no_address"}},
		// feature: CPS-23 a frequency for a person and a place; never is a pause
		{name: "the frequency never", person: ada(prefs(belfry.Preference{Object: "course", Frequency: often(belfry.Never)})), want: []string{"! ada frequency_never@course"}},
		{name: "never, but she joined hourly", person: ada(prefs(belfry.Preference{Frequency: often(belfry.Never), Channels: inbox})),
			vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{}, &belfry.Member{Principal: "ada", Frequency: often(belfry.Hourly)})}, want: []string{"inbox ada by_preference"}},
		{name: "one way is paused, the other not", person: ada(),
			vias: []belfry.Via{via(belfry.Subscription{ID: "a"}, belfry.Notify{}, &belfry.Member{Principal: "ada", Frequency: often(belfry.Never)}), via(belfry.Subscription{ID: "b"}, belfry.Notify{Channels: inbox}, nil)},
			want: []string{"inbox ada by_subscription", "!email ada frequency_never"}},
		{name: "mandatory is not paused", person: ada(prefs(belfry.Preference{Frequency: often(belfry.Never)})), vias: []belfry.Via{via(mandatory, belfry.Notify{Channels: email}, nil)},
			want: []string{"email ada@example.org by_subscription"}},
		{name: "forced is not paused", person: ada(prefs(belfry.Preference{Frequency: often(belfry.Never)})), typ: belfry.EventType{Channels: belfry.TypeChannels{Forced: email}},
			want: []string{"email ada@example.org by_forced", "!inbox ada frequency_never"}},
		// feature: PEER-8 types, categories and prefixes
		{name: "the category before the prefix", person: ada(prefs(belfry.Preference{Type: "core.*", Channels: inbox}, belfry.Preference{Category: "Courses", Channels: email})),
			typ: belfry.EventType{Category: "Courses"}, want: []string{"email ada@example.org by_preference"}},
		{name: "the type before the category", person: ada(prefs(belfry.Preference{Category: "Courses", Channels: email}, belfry.Preference{Type: "core.course_updated", Channels: inbox})),
			typ: belfry.EventType{Category: "Courses"}, want: []string{"inbox ada by_preference"}},
		{name: "another category", person: ada(prefs(belfry.Preference{Category: "Marks", Level: "none"}, belfry.Preference{Channels: inbox})),
			typ: belfry.EventType{Category: "Courses"}, want: []string{"inbox ada by_preference"}},
		// feature: NEW-13 mutes that come again: noon UTC on a Monday is nine o'clock in São Paulo
		{name: "muted on Monday mornings", person: ada(prefs(belfry.Preference{Mutes: []belfry.Window{{Days: []string{"mon"}, From: "08:00", To: "10:00"}}}), inSaoPaulo), want: []string{"! ada muted"}},
		{name: "not muted yet", person: ada(prefs(belfry.Preference{Channels: inbox, Mutes: []belfry.Window{{Days: []string{"mon"}, From: "11:00", To: "13:00"}}}), inSaoPaulo), want: []string{"inbox ada by_preference"}},
		// feature: PEER-8 mutes at an object
		{name: "muted at the course", person: ada(prefs(belfry.Preference{Object: "course", MuteUntil: &later})), want: []string{"! ada muted@course"}},
		{name: "muted elsewhere", person: ada(prefs(belfry.Preference{Object: "course/2", MuteUntil: &later})),
			want: []string{"inbox ada by_tenant_default", "email ada@example.org by_tenant_default"}},
		{name: "the mute has ended", person: ada(prefs(belfry.Preference{Object: "forum", MuteUntil: &earlier}, belfry.Preference{Channels: inbox})),
			want: []string{"inbox ada by_preference"}},
		{name: "a mute holds for what she joined, too", person: ada(prefs(belfry.Preference{MuteUntil: &later})),
			vias: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{}, &belfry.Member{Principal: "ada", Channels: email})}, want: []string{"! ada muted"}},
		{name: "level none", person: ada(prefs(belfry.Preference{Level: "none", Type: "core.*"})), want: []string{"! ada level_none"}},
		{name: "the closest object wins", person: ada(prefs(belfry.Preference{Level: "none"}, belfry.Preference{Level: "all", Object: "forum", Channels: inbox})),
			want: []string{"inbox ada by_preference@forum"}},
		{name: "the object before the type", person: ada(prefs(belfry.Preference{Level: "none", Type: "core.course_updated", Object: "course"}, belfry.Preference{Level: "all", Object: "forum", Channels: inbox})),
			want: []string{"inbox ada by_preference@forum"}},
		{name: "then the most specific type", person: ada(prefs(belfry.Preference{Object: "course", Channels: inbox}, belfry.Preference{Object: "course", Type: "core.course_updated", Channels: email}, belfry.Preference{Object: "course", Type: "core.*", Channels: inbox})),
			want: []string{"email ada@example.org by_preference@course"}},
		{name: "another type's preference", person: ada(prefs(belfry.Preference{Type: "core.course_created", Level: "none"})),
			want: []string{"inbox ada by_tenant_default", "email ada@example.org by_tenant_default"}},
		{name: "each setting from where it is spoken of", person: ada(prefs(belfry.Preference{Object: "forum", Level: "all"}, belfry.Preference{Object: "course", Channels: inbox})),
			want: []string{"inbox ada by_preference@course"}},
		{name: "level related, not about her", person: ada(prefs(belfry.Preference{Level: "related"})), want: []string{"! ada level_related"}},
		{name: "level related, about her", person: ada(prefs(belfry.Preference{Level: "related", Channels: inbox})),
			event: func(e *belfry.Event) { e.Related = []string{"ada"} }, want: []string{"inbox ada by_preference"}},
		{name: "level related, named by the related rule", person: ada(prefs(belfry.Preference{Level: "related", Channels: inbox})),
			vias: []belfry.Via{{Match: &belfry.Match{Subscription: &belfry.Subscription{ID: "s"}}, Because: []belfry.Reason{{Code: belfry.NamedRelated}}}}, want: []string{"inbox ada by_preference"}},
		{name: "several subscriptions, one message a channel", vias: []belfry.Via{via(belfry.Subscription{ID: "a"}, belfry.Notify{Channels: inbox}, nil), via(belfry.Subscription{ID: "b"}, belfry.Notify{Channels: []string{"inbox", "email"}}, nil)},
			want: []string{"inbox ada by_subscription", "email ada@example.org by_subscription"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			person := tc.person
			if person == nil {
				person = ada()
			}
			in := input(to("ada", tc.vias...)).with(person)
			in.Type = tc.typ
			if tc.event != nil {
				tc.event(in.Event.Event)
			}
			if d := gocmp.Diff(tc.want, show(Plan(in))); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestNoChannelAtAll(t *testing.T) {
	in := input(to("ada")).with(ada())
	in.Defaults = nil
	if d := gocmp.Diff([]string{"! ada no_channel"}, show(Plan(in))); d != "" {
		t.Error(d)
	}
}

// feature: S3-19 contact by priority
// feature: AIR-5 many devices, each switchable
func TestContacts(t *testing.T) {
	mail := func(address string, priority int, edit ...func(*belfry.Contact)) belfry.Contact {
		c := belfry.Contact{Kind: "email", Address: address, Priority: priority, Verified: true}
		for _, f := range edit {
			f(&c)
		}
		return c
	}
	off := func(c *belfry.Contact) { c.Disabled = true }
	dead := func(c *belfry.Contact) { c.Dead = "550 no such user" }
	unverified := func(c *belfry.Contact) { c.Verified = false }
	tests := []struct {
		name     string
		channel  string
		email    string
		contacts []belfry.Contact
		want     []string
	}{
		{"the user's own address", "email", "A@x.org", nil, []string{"email a@x.org by_subscription"}},
		{"by priority", "email", "", []belfry.Contact{mail("b@x.org", 2), mail(" C@X.org ", 1)}, []string{"email c@x.org by_subscription"}},
		{"no priority counts as the first", "email", "", []belfry.Contact{mail("b@x.org", 1), mail("c@x.org", 0)}, []string{"email b@x.org by_subscription"}},
		{"the next usable one", "email", "a@x.org", []belfry.Contact{mail("A@x.org", 1, dead), mail("b@x.org", 1, off), mail("c@x.org", 2, unverified), mail("d@x.org", 3)}, []string{"email d@x.org by_subscription"}},
		{"none", "email", "", nil, []string{"!email ada no_address"}},
		{"of another kind", "sms", "a@x.org", []belfry.Contact{mail("b@x.org", 1)}, []string{"!sms ada no_address"}},
		{"not verified", "email", "a@x.org", []belfry.Contact{mail("a@x.org", 1, unverified)}, []string{"!email ada/a@x.org address_not_verified"}},
		{"switched off", "email", "", []belfry.Contact{mail("a@x.org", 1, off)}, []string{"!email ada/a@x.org contact_disabled"}},
		{"dead", "email", "", []belfry.Contact{mail("a@x.org", 1, dead), mail("b@x.org", 2, off)}, []string{"!email ada/a@x.org contact_dead"}},
		{"every device", "push", "", []belfry.Contact{{Kind: "device", Address: "d1", Verified: true}, {Kind: "device", Address: "d2", Verified: true, Disabled: true}, {Kind: "device", Address: "D3", Verified: true, Priority: 2}},
			[]string{"push d1 by_subscription", "push D3 by_subscription", "!push ada/d2 contact_disabled"}},
		{"no device left", "push", "", []belfry.Contact{{Kind: "device", Address: "d1", Dead: "unregistered"}}, []string{"!push ada/d1 contact_dead"}},
		{"the inbox needs none", "inbox", "", nil, []string{"inbox ada by_subscription"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			in := input(to("ada", via(belfry.Subscription{}, belfry.Notify{Channels: []string{tc.channel}}, nil))).
				with(ada(func(p *belfry.Person) { p.User.Email, p.User.Contacts = tc.email, tc.contacts }))
			if d := gocmp.Diff(tc.want, show(Plan(in))); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestUnknownPerson(t *testing.T) {
	if d := gocmp.Diff([]string{"! ghost user_unknown"}, show(Plan(input(to("ghost"))))); d != "" {
		t.Error(d)
	}
}

func TestDeliveryFields(t *testing.T) {
	r := to("ada", via(belfry.Subscription{ID: "lead"}, belfry.Notify{Channels: []string{"inbox"}, Template: "short"}, nil),
		via(belfry.Subscription{ID: "other"}, belfry.Notify{Channels: []string{"email", "inbox"}, Template: "long"}, nil))
	in := input(r).with(ada())
	in.Run = 3
	ds, ss := Plan(in)
	if len(ds) != 2 || len(ss) != 0 {
		t.Fatal(show(ds, ss))
	}
	named := []belfry.Reason{{Code: belfry.NamedUser, Subscription: "lead", Rule: 1}, {Code: belfry.NamedUser, Subscription: "other", Rule: 1}}
	want := []belfry.Delivery{
		{Tenant: "default", ID: belfry.DeliveryID(in.Event.EventID, 0, "inbox", "ada"), EventID: in.Event.EventID, Run: 3, Subscription: "lead",
			Channel: "inbox", Principal: "ada", Address: "ada", Destination: "ada", Shard: belfry.Shard("default", "ada"), State: belfry.Delivered, Due: noon,
			Locale: "pt-BR", Template: "short", Because: append(slices.Clone(named), belfry.Reason{Code: belfry.BySubscription, Subscription: "lead"})},
		{Tenant: "default", ID: belfry.DeliveryID(in.Event.EventID, 0, "email", "ada@example.org"), EventID: in.Event.EventID, Run: 3, Subscription: "other",
			Channel: "email", Principal: "ada", Address: "ada@example.org", Destination: "ada", Shard: belfry.Shard("default", "ada"), Due: noon,
			Locale: "pt-BR", Template: "long", Because: append(slices.Clone(named), belfry.Reason{Code: belfry.BySubscription, Subscription: "other"})},
	}
	if d := gocmp.Diff(want, ds); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// Of two notifications of one subscription, the one that names the channel
// gives the template, also when her preference chose the channel.
func TestTemplateOfTheNotificationThatNamesTheChannel(t *testing.T) {
	sub := &belfry.Match{Subscription: &belfry.Subscription{ID: "s"}}
	because := []belfry.Reason{{Code: belfry.NamedUser}}
	in := input(to("ada", belfry.Via{Match: sub, Notify: belfry.Notify{Channels: []string{"inbox"}, Template: "short"}, Because: because},
		belfry.Via{Match: sub, Notify: belfry.Notify{Channels: []string{"email"}, Template: "long"}, Because: because})).
		with(ada(func(p *belfry.Person) { p.Preferences = []belfry.Preference{{Channels: []string{"email"}}} }))
	ds, _ := Plan(in)
	if len(ds) != 1 || ds[0].Template != "long" || len(ds[0].Because) != 2 {
		t.Errorf("%+v", ds)
	}
}

// feature: S3-23 a subscription kept apart has messages of its own
func TestKeptApart(t *testing.T) {
	no := false
	in := input(to("ada"), to("ada", via(belfry.Subscription{ID: "apart", Merge: &no}, belfry.Notify{}, nil))).with(ada())
	ds, ss := Plan(in)
	if d := gocmp.Diff([]string{"inbox ada by_tenant_default", "email ada@example.org by_tenant_default", "inbox ada by_tenant_default", "email ada@example.org by_tenant_default"}, show(ds, ss)); d != "" {
		t.Fatal(d)
	}
	ids := map[string]bool{}
	for _, d := range ds {
		ids[d.ID] = true
	}
	if len(ids) != 4 || ds[2].ID != belfry.DeliveryID(in.Event.EventID, 0, "inbox\x00apart", "ada") {
		t.Error(ids)
	}
}

func TestSameAddress(t *testing.T) {
	bob := ada(func(p *belfry.Person) { p.User.ID, p.User.Email = "bob", "ADA@example.org" })
	in := input(belfry.Recipient{Address: "x@example.org", Via: to("").Via}, to("ada"), to("bob")).with(ada(), bob)
	ds, ss := Plan(in)
	if d := gocmp.Diff([]string{"email x@example.org by_tenant_default", "inbox ada by_tenant_default", "email ada@example.org by_tenant_default",
		"inbox bob by_tenant_default", "!email bob/ada@example.org same_address"}, show(ds, ss)); d != "" {
		t.Error(d)
	}
}

func TestBareAddresses(t *testing.T) {
	addr := func(n belfry.Notify) belfry.Recipient {
		return belfry.Recipient{Address: "X@Example.org", Via: []belfry.Via{via(belfry.Subscription{}, n, nil)}}
	}
	tests := []struct {
		name     string
		notify   belfry.Notify
		typ      belfry.TypeChannels
		defaults []string
		want     []string
	}{
		{"the defaults' e-mail", belfry.Notify{}, belfry.TypeChannels{}, []string{"inbox", "email"}, []string{"email x@example.org by_tenant_default"}},
		{"the type's", belfry.Notify{}, belfry.TypeChannels{Default: []string{"email", "sms"}}, nil, []string{"email x@example.org by_type_default"}},
		{"the tenant's when the type's has none", belfry.Notify{}, belfry.TypeChannels{Default: []string{"inbox"}}, []string{"email"}, []string{"email x@example.org by_tenant_default"}},
		{"no default has one: the first there is", belfry.Notify{}, belfry.TypeChannels{Default: []string{"inbox"}}, []string{"inbox"}, []string{"email x@example.org by_subscription"}},
		{"the subscription's", belfry.Notify{Channels: []string{"inbox", "email"}}, belfry.TypeChannels{}, nil, []string{"email x@example.org by_subscription"}},
		{"the subscription allows none", belfry.Notify{Channels: []string{"inbox"}}, belfry.TypeChannels{}, []string{"email"}, []string{"! /X@Example.org no_channel"}},
		{"forbidden", belfry.Notify{}, belfry.TypeChannels{Forbidden: []string{"email"}}, []string{"email"}, []string{"!email /X@Example.org channel_forbidden"}},
		{"forced", belfry.Notify{Channels: []string{"inbox"}}, belfry.TypeChannels{Forced: []string{"email", "inbox"}}, nil, []string{"email x@example.org by_forced"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			in := input(addr(tc.notify))
			in.Type.Channels, in.Defaults = tc.typ, tc.defaults
			ds, ss := Plan(in)
			if d := gocmp.Diff(tc.want, show(ds, ss)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if len(ds) > 0 && (ds[0].Principal != "" || ds[0].Destination != "x@example.org") {
				t.Errorf("%+v", ds[0])
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	call := func(id string) belfry.Recipient {
		v := via(belfry.Subscription{}, belfry.Notify{Endpoint: id, Template: "t"}, nil)
		v.Because = []belfry.Reason{{Code: belfry.NamedEndpoint, Subscription: "sub_1"}}
		return belfry.Recipient{Endpoint: id, Via: []belfry.Via{v}}
	}
	in := input(call("ep_a"), call("ep_d"), call("ep_p"), call("ep_x"))
	in.Endpoints = map[string]*belfry.Endpoint{"ep_a": {ID: "ep_a", State: belfry.EndpointActive},
		"ep_d": {ID: "ep_d", State: belfry.EndpointDisabled, Because: "410 gone"}, "ep_p": {ID: "ep_p", State: belfry.EndpointPaused}}
	in.Dropped = []belfry.Dropped{{Address: "ep_s", Because: []belfry.Reason{{Code: belfry.NamedEndpoint}, {Code: belfry.EventIsSilent}}},
		{Principal: "u", Because: []belfry.Reason{{Code: belfry.NamedUser}, {Code: belfry.Blacklisted}}}}
	ds, ss := Plan(in)
	if d := gocmp.Diff([]string{"webhook ep_a by_subscription", "webhook ep_p by_subscription",
		"!webhook /ep_d endpoint_disabled", "!webhook /ep_x endpoint_unknown", "!webhook /ep_s event_silent", "! u blacklisted"}, show(ds, ss)); d != "" {
		t.Fatal(d)
	}
	if d := ds[1]; d.State != belfry.Scheduled || d.Principal != "" || d.Destination != "ep_p" || d.Template != "t" || !d.Due.Equal(noon) {
		t.Errorf("%+v", d)
	}
	if ss[0].Because[1].Detail != "410 gone" {
		t.Errorf("%+v", ss[0])
	}
	in.Type.Channels.Forbidden = []string{"webhook"}
	if ds, _ := Plan(in); len(ds) != 0 {
		t.Error("forbidden webhooks are called")
	}
}

// feature: PEER-10
func TestPriorityAndOrderArePlanned(t *testing.T) {
	call := func(id string) belfry.Recipient {
		return belfry.Recipient{Endpoint: id, Via: []belfry.Via{via(belfry.Subscription{}, belfry.Notify{Endpoint: id}, nil)}}
	}
	lines := func(object string, urgent bool) (out []int64) {
		in := input(call("ep_n"), call("ep_o"), call("ep_e"))
		in.Endpoints = map[string]*belfry.Endpoint{"ep_n": {ID: "ep_n", Ordered: belfry.OrderedNone},
			"ep_o": {ID: "ep_o", Ordered: belfry.OrderedObject}, "ep_e": {ID: "ep_e", Ordered: belfry.OrderedEndpoint}}
		in.Event.Event.Object, in.Type.Urgent = object, urgent
		ds, _ := Plan(in)
		for _, d := range ds {
			out = append(out, d.Line)
			if (d.Priority > belfry.PriorityNormal) != urgent {
				t.Errorf("priority %d, urgent %v", d.Priority, urgent)
			}
		}
		return out
	}
	one, same, other := lines("course/1", false), lines("course/1", true), lines("course/2", false)
	if len(one) != 3 || one[0] != 0 || one[1] == 0 || one[2] == 0 || one[1] == one[2] {
		t.Fatalf("lines %v", one)
	}
	if !slices.Equal(one, same) || one[1] == other[1] || one[2] != other[2] {
		t.Errorf("of one object %v and %v, of another %v", one, same, other)
	}
}

// A naive evaluator asks, for one channel alone, who speaks first: it goes
// through the order of model.md, "Who decides channel and frequency", layer by
// layer.
func naive(in *Input, p *belfry.Person, r *belfry.Recipient, channel string) string {
	typ := in.Type.Channels
	speaks := func(setting func(*belfry.Preference) bool) *belfry.Preference { return naivePreference(in, p, setting) }
	mutes := func(p *belfry.Preference) bool {
		if p.MuteUntil != nil && in.Now.Before(*p.MuteUntil) {
			return true
		}
		return slices.ContainsFunc(p.Mutes, func(w belfry.Window) bool { return w.From == "11:00" }) // noon is in it
	}
	blocked := ""
	level := speaks(func(p *belfry.Preference) bool { return p.Level != "" })
	switch {
	case p.Settings.Stop:
		blocked = belfry.GlobalStop
	case speaks(mutes) != nil:
		blocked = belfry.Muted
	case level != nil && level.Level == "none":
		blocked = belfry.LevelIsNone
	case level != nil && level.Level == "related" && !slices.Contains(in.Event.Event.Related, p.User.ID):
		blocked = belfry.NotAboutThem
	}
	chosen, chosenBlocked := slices.Contains(typ.Forced, channel), ""
	for _, v := range r.Via {
		list := in.Defaults
		if len(typ.Default) > 0 {
			list = typ.Default
		}
		if len(v.Notify.Channels) > 0 {
			list = v.Notify.Channels
		}
		if pref := speaks(func(p *belfry.Preference) bool { return len(p.Channels) > 0 }); pref != nil {
			list = pref.Channels
		}
		if v.Member != nil && len(v.Member.Channels) > 0 {
			list = v.Member.Channels
		}
		if !slices.Contains(list, channel) {
			continue
		}
		switch mandatory := in.Type.Mandatory || v.Match.Subscription.Mandatory; {
		case mandatory:
			chosen = true
		case blocked != "":
			chosenBlocked = blocked
		case naiveOften(in, p, &v) == belfry.Never:
			chosenBlocked = cmp.Or(chosenBlocked, belfry.FrequencyIsNever)
		default:
			chosen = true
		}
	}
	switch {
	case !chosen && chosenBlocked == "":
		return ""
	case slices.Contains(typ.Forbidden, channel):
		return belfry.ChannelForbidden
	case !chosen:
		return chosenBlocked
	case channel == "fax":
		return belfry.ChannelUnknown
	case channel == "sms":
		return belfry.NoAddress
	}
	return "told"
}

// naivePreference is the preference that speaks of a setting: it sorts all there are.
func naivePreference(in *Input, p *belfry.Person, setting func(*belfry.Preference) bool) *belfry.Preference {
	type ranked struct {
		pref         *belfry.Preference
		object, kind int
	}
	var all []ranked
	for i := range p.Preferences {
		pref := &p.Preferences[i]
		object := len(in.Ancestors)
		if pref.Object != "" {
			object = slices.IndexFunc(in.Ancestors, func(o belfry.Object) bool { return o.ID == pref.Object })
		}
		kind, ok := map[string]int{"": 0, "core.*": 1, "core.course_*": 2, in.Event.Event.Type: 4}[pref.Type]
		if pref.Category != "" {
			kind, ok = 3, pref.Category == in.Type.Category
		}
		if object >= 0 && ok && setting(pref) {
			all = append(all, ranked{pref, object, kind})
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Or(a.object-b.object, b.kind-a.kind) })
	if len(all) == 0 {
		return nil
	}
	return all[0].pref
}

// naiveOften is the frequency of one way: the last layer that overwrites it.
func naiveOften(in *Input, p *belfry.Person, v *belfry.Via) string {
	sub := v.Match.Subscription
	mandatory := in.Type.Mandatory || sub.Mandatory
	out := belfry.Immediate
	for _, layer := range []*belfry.Frequency{in.Often, in.Type.Frequency, sub.Frequency} {
		if layer != nil {
			out = layer.Every
		}
	}
	if mandatory {
		if out == belfry.Never {
			return belfry.Immediate
		}
		return out
	}
	if pref := naivePreference(in, p, func(p *belfry.Preference) bool { return p.Frequency != nil }); pref != nil {
		out = pref.Frequency.Every
	}
	if v.Member != nil && v.Member.Frequency != nil {
		out = v.Member.Frequency.Every
	}
	return out
}

// feature: PEER-8, S3-22
func TestPlanEqualsNaive(t *testing.T) {
	names := []string{"inbox", "email", "sms", "fax"}
	categories := []string{"", "Courses", "Marks"}
	evenings, mornings := belfry.Window{From: "18:00", To: "20:00"}, belfry.Window{Days: []string{"mon"}, From: "11:00", To: "13:00"}
	later, earlier := noon.Add(time.Hour), noon.Add(-time.Hour)
	rapid.Check(t, func(t *rapid.T) {
		some := func(label string, max int) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, max, rapid.ID[string]).Draw(t, label)
		}
		one := func(label string, in int) bool { return rapid.IntRange(0, in-1).Draw(t, label) == 0 }
		sometimes := func(label string) *belfry.Frequency {
			if !one(label, 4) {
				return nil
			}
			return often(rapid.SampledFrom(belfry.Frequencies).Draw(t, label))
		}
		p := ada()
		p.Settings.Stop = one("stop", 6)
		seen := map[belfry.PreferencePlace]bool{}
		for range rapid.IntRange(0, 4).Draw(t, "preferences") {
			pref := belfry.Preference{
				Type:   rapid.SampledFrom([]string{"", "core.*", "core.course_*", "core.course_updated", "mod.*"}).Draw(t, "type"),
				Object: rapid.SampledFrom([]string{"", "forum", "course", belfry.RootObject, "elsewhere"}).Draw(t, "object"),
				Level:  rapid.SampledFrom([]string{"", "", "all", "related", "none"}).Draw(t, "level"), Channels: some("preferred", 2), Frequency: sometimes("preferred frequency")}
			if pref.Type == "" {
				pref.Category = rapid.SampledFrom(categories).Draw(t, "of category")
			}
			if one("mute", 5) {
				pref.MuteUntil = rapid.SampledFrom([]*time.Time{&later, &earlier}).Draw(t, "until")
			}
			if one("recurring mute", 6) {
				pref.Mutes = []belfry.Window{rapid.SampledFrom([]belfry.Window{evenings, mornings}).Draw(t, "window")}
			}
			if !seen[pref.Place()] {
				seen[pref.Place()] = true
				p.Preferences = append(p.Preferences, pref)
			}
		}
		var vias []belfry.Via
		for i := range rapid.IntRange(1, 3).Draw(t, "ways") {
			var m *belfry.Member
			if one("joined", 3) {
				m = &belfry.Member{Principal: "ada", Channels: some("joined with", 2), Frequency: sometimes("joined with frequency")}
			}
			vias = append(vias, via(belfry.Subscription{ID: fmt.Sprint("s", i), Mandatory: one("mandatory", 4), Frequency: sometimes("subscription's")}, belfry.Notify{Channels: some("notify", 2)}, m))
		}
		in := input(to("ada", vias...)).with(p)
		in.Defaults = some("defaults", 2)
		in.Often = sometimes("tenant's")
		in.Type = belfry.EventType{Mandatory: one("mandatory type", 8), Category: rapid.SampledFrom(categories).Draw(t, "category"), Frequency: sometimes("type's frequency")}
		in.Type.Channels.Default = some("type's", 2)
		if one("forces", 4) {
			in.Type.Channels.Forced = some("forced", 1)
		}
		if one("forbids", 4) {
			in.Type.Channels.Forbidden = some("forbidden", 1)
		}
		if one("about her", 3) {
			in.Event.Event.Related = []string{"ada"}
		}
		before, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		ds, ss := Plan(in)
		if after, _ := json.Marshal(in); string(after) != string(before) {
			t.Fatal("Plan changed its input")
		}
		effective := EffectiveSettings(Hers{Person: p, EventType: in.Event.Event.Type, Type: in.Type, Ancestors: in.Ancestors, Defaults: in.Defaults, Often: in.Often, Now: noon, Via: &vias[0]})
		if got, want := effective[len(effective)-1].Value, naiveOften(&in, p, &vias[0]); got != want {
			t.Fatalf("the frequency is %s, the naive one %s", got, want)
		}
		got := map[string]string{}
		put := func(channel, what string) {
			if have, twice := got[channel]; twice {
				t.Fatalf("%s is decided twice: %s and %s", channel, have, what)
			}
			got[channel] = what
		}
		for _, d := range ds {
			put(d.Channel, "told")
		}
		for _, s := range ss {
			put(s.Channel, s.Because[len(s.Because)-1].Code)
		}
		want, passed, blocks := map[string]string{}, false, ""
		for _, c := range names {
			what := naive(&in, p, &in.Recipients[0], c)
			if what == "" {
				continue
			}
			want[c] = what
			switch what {
			case belfry.GlobalStop, belfry.Muted, belfry.LevelIsNone, belfry.NotAboutThem, belfry.FrequencyIsNever:
				blocks = what
			}
		}
		// When nothing passes, it is said once for all channels.
		if whole, ok := got[""]; ok {
			if len(got) != 1 {
				t.Fatalf("both a channel and none: %v", got)
			}
			for _, what := range want {
				passed = passed || what == "told" || what == belfry.NoAddress || what == belfry.ChannelUnknown
			}
			if passed || blocks != "" && whole != blocks {
				t.Fatalf("said %s, but %v", whole, want)
			}
			return
		}
		if d := gocmp.Diff(want, got); d != "" {
			t.Fatalf("-naive +plan\n%s", d)
		}
	})
}

func BenchmarkPlan10000(b *testing.B) {
	in := input()
	shared := []belfry.Via{via(belfry.Subscription{}, belfry.Notify{}, nil)}
	for i := range 10_000 {
		id := fmt.Sprintf("user/%05d", i)
		in.Persons[id] = &belfry.Person{User: belfry.User{ID: id, Email: id + "@example.org", State: belfry.UserActive}}
		in.Recipients = append(in.Recipients, belfry.Recipient{Principal: id, Via: shared})
	}
	b.ReportAllocs()
	for b.Loop() {
		if ds, _ := Plan(in); len(ds) != 20_000 {
			b.Fatal(len(ds))
		}
	}
}

// MarshalText lets a test write the plan's input down.
func (th Throttled) MarshalText() ([]byte, error) {
	return []byte(th.Principal + " " + th.Subscription), nil
}

// People who come by the same ways are planned together as each would be alone,
// whatever some of them have set.
func TestSharedWaysAreDecidedAsEachAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var shared [][]belfry.Via
		for range rapid.IntRange(1, 3).Draw(t, "sets of ways") {
			var vias []belfry.Via
			for i := range rapid.IntRange(1, 4).Draw(t, "ways") {
				sub := belfry.Subscription{ID: fmt.Sprintf("sub_%d_%d", len(shared), i), Mandatory: rapid.Bool().Draw(t, "mandatory"),
					Fallback: rapid.SampledFrom([][]string{nil, {"sms"}, {"inbox"}}).Draw(t, "fallback")}
				if every := rapid.SampledFrom([]string{"", belfry.Daily, belfry.Never, belfry.Hourly}).Draw(t, "every"); every != "" {
					sub.Frequency = &belfry.Frequency{Every: every}
				}
				names := rapid.SampledFrom([][]string{nil, {"email"}, {"inbox", "email"}, {"push"}, {"none"}}).Draw(t, "channels")
				vias = append(vias, via(sub, belfry.Notify{Channels: names}, nil))
			}
			shared = append(shared, vias)
		}
		in := input()
		for i := range rapid.IntRange(2, 6).Draw(t, "people") {
			p := ada(func(p *belfry.Person) {
				p.User.ID, p.User.Email = fmt.Sprintf("p%d", i), rapid.SampledFrom([]string{"", fmt.Sprintf("p%d@example.org", i)}).Draw(t, "email")
				p.User.TimeZone = rapid.SampledFrom([]string{"", "America/Sao_Paulo", "Asia/Tokyo"}).Draw(t, "zone")
				switch rapid.IntRange(0, 6).Draw(t, "settings") {
				case 0:
					p.Settings.Stop = true
				case 1:
					p.Settings.DigestAt = "20:30"
				case 2:
					p.Settings.Quiet = &belfry.Window{From: "11:00", To: "13:30"}
				case 3:
					p.Preferences = []belfry.Preference{{Channels: []string{"sms", "inbox"}}}
				case 4:
					p.Preferences = []belfry.Preference{{Level: belfry.LevelNone}}
				}
			})
			in.with(p)
			in.Recipients = append(in.Recipients, to(p.User.ID, shared[rapid.IntRange(0, len(shared)-1).Draw(t, "set")]...))
		}
		gotDeliveries, gotSuppressions := Plan(in)
		var deliveries []belfry.Delivery
		var suppressions []belfry.Suppression
		for _, r := range in.Recipients {
			alone := in
			alone.Recipients = []belfry.Recipient{r}
			alone.Recipients[0].Via = slices.Clone(r.Via)
			ds, ss := Plan(alone)
			deliveries, suppressions = append(deliveries, ds...), append(suppressions, ss...)
		}
		if d := gocmp.Diff(deliveries, gotDeliveries, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		if d := gocmp.Diff(suppressions, gotSuppressions, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

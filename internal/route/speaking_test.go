package route

import (
	"slices"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What the expression of a message says decides who is told at all.
// feature: CPS-16, CPS-18
func TestSpeaking(t *testing.T) {
	says := func(sub, message string, channels ...string) belfry.Via {
		return via(belfry.Subscription{ID: sub}, belfry.Notify{Message: message, Channels: channels}, nil)
	}
	forced := func(in *Input) { in.Type.Channels.Forced = []string{"sms"} }
	for name, c := range map[string]struct {
		vias []belfry.Via
		edit func(*Input)
		want []string
	}{
		"says something":             {[]belfry.Via{says("a", `"Dear " + recipient.name`, "email")}, nil, []string{"email ada@example.org by_subscription"}},
		"has none":                   {[]belfry.Via{says("a", `recipient.locale == "de"`, "email")}, nil, []string{"! ada message_none"}},
		"none, though forced":        {[]belfry.Via{says("a", `false`, "email")}, forced, []string{"! ada message_none"}},
		"one of two":                 {[]belfry.Via{says("a", `false`, "email"), says("a", `true`, "inbox")}, nil, []string{"inbox ada by_subscription"}},
		"another subscription":       {[]belfry.Via{says("a", `false`, "email"), via(belfry.Subscription{ID: "b"}, belfry.Notify{Channels: []string{"inbox"}}, nil)}, nil, []string{"inbox ada by_subscription"}},
		"a fault tells all the same": {[]belfry.Via{says("a", `event.data.gone`, "email")}, nil, []string{"email ada@example.org by_subscription"}},
	} {
		in := input(to("ada", c.vias...)).with(ada())
		if c.edit != nil {
			c.edit(&in)
		}
		ds, ss := Plan(in)
		if got := show(ds, ss); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if name == "a fault tells all the same" && (len(ds) != 1 || !slices.ContainsFunc(ds[0].Because, func(r belfry.Reason) bool { return r.Code == belfry.MessageFault })) {
			t.Errorf("%s: %+v", name, ds)
		}
	}
	in := input(belfry.Recipient{Address: "x@example.org", Via: []belfry.Via{says("a", `recipient.email.endsWith("@example.org") ? "" : "hello"`, "email")}})
	if got := show(Plan(in)); !slices.Equal(got, []string{"! /x@example.org message_none"}) {
		t.Errorf("an address: %q", got)
	}
}

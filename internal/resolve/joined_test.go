package resolve

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Addresses that joined are told as addresses, where they joined, on every
// page; an id that is a user's is that user, whatever it looks like; what rules
// name by such an id is a user who is not known.
// feature: CPS-10, CPS-9
func TestAddressesThatJoined(t *testing.T) {
	w := newWorld().object("root", "").object("course/1", "root").object("forum/1", "course/1").object("forum/2", "course/1").user("ada", "who@is.a-user")
	w.members["sub_a"] = []belfry.Member{
		{Principal: "ada"}, {Principal: "all@x.example"}, {Principal: "here@x.example", Object: "forum/1"}, {Principal: "listed@x.example"},
		{Principal: "out@x.example"}, {Principal: "there@x.example", Object: "forum/2"}, {Principal: "who@is.a-user"},
	}
	w.outs["sub_a"] = []string{"out@x.example"}
	w.grants["forum/1"] = []belfry.Grant{{Principal: "role@x.example", Role: "reader"}}
	sub := &belfry.Subscription{ID: "sub_a", Exclude: belfry.Exclusion{Emails: []string{"Listed@x.example"}},
		Recipients: []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"reader"}}}}}
	e := &belfry.Accepted{EventID: "evt_1", Event: &belfry.Event{Type: "a.b", Object: "forum/1"}}
	for _, limit := range []int{0, 1, 2, 3} {
		var told, dropped []string
		for cursor := ""; ; {
			p, err := Page(w, e, []belfry.Match{{Subscription: sub}}, belfry.EventType{}, noon, cursor, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range p.Recipients {
				told = append(told, r.Principal+"|"+r.Address+" "+r.Via[0].Because[0].Code+" "+r.Via[0].Because[0].Object)
			}
			for _, d := range p.Dropped {
				dropped = append(dropped, d.Principal+"|"+d.Address+" "+d.Because[len(d.Because)-1].Code)
			}
			if p.Last {
				break
			}
			cursor = p.Next
		}
		slices.Sort(told)
		slices.Sort(dropped)
		if d := cmp.Diff([]string{"ada| named_member ", "who@is.a-user| named_member ", "|all@x.example named_member ", "|here@x.example named_member forum/1"}, told); d != "" {
			t.Errorf("limit %d: told (-want +got)\n%s", limit, d)
		}
		want := []string{"role@x.example| user_unknown", "there@x.example| joined_elsewhere", "|listed@x.example blacklisted", "|out@x.example opted_out"}
		if d := cmp.Diff(want, dropped); d != "" {
			t.Errorf("limit %d: dropped (-want +got)\n%s", limit, d)
		}
	}
	// What only holders of a role may see is not for addresses; a silent event is for nobody.
	for code, change := range map[string]func(*belfry.EventType, *belfry.Event){
		belfry.MayNotSee:     func(typ *belfry.EventType, _ *belfry.Event) { typ.SeeRoles = []string{"reader"} },
		belfry.EventIsSilent: func(_ *belfry.EventType, e *belfry.Event) { e.Flags = []string{belfry.FlagSilent} },
	} {
		typ, ev := belfry.EventType{}, *e.Event
		change(&typ, &ev)
		p, err := Only(w, &belfry.Accepted{EventID: "evt_1", Event: &ev}, []belfry.Match{{Subscription: sub}}, typ, noon, &belfry.Replay{Recipient: "all@x.example"})
		if err != nil || len(p.Recipients) != 0 || len(p.Dropped) != 1 || p.Dropped[0].Because[1].Code != code {
			t.Errorf("%s: %+v, %v", code, p, err)
		}
	}
}

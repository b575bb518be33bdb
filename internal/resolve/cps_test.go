package resolve

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// The edge cases of recipients in CPS portal_subscriptions (its rules, its
// lists and its blacklist), less its defects.
// feature: CPS-7, CPS-8, CPS-9, CPS-27
func TestRecipientEdges(t *testing.T) {
	w := newWorld().
		object("news", "").object("newsletter", "").object("news/today", "news").
		user("ada", "ben").state(belfry.UserDeleted, "gone").email("ada", "Ada@Example.org").
		group("list", "ada", "ben").address("list", "List@Example.org").group("editors", "ada", "gone", "vanished-group")
	join := func(who, at string) belfry.Member { return belfry.Member{Principal: who, Object: at} }
	for _, tc := range []struct {
		name, object string
		members      []belfry.Member
		rules        []belfry.Rule
		exclude      belfry.Exclusion
		want         []string
	}{
		{"a join counts for the object's subtree", "news/today", []belfry.Member{join("ben", "news")}, nil, belfry.Exclusion{}, []string{"ben <named_member@news"}},
		{"and not for what is merely called alike", "newsletter", []belfry.Member{join("ben", "news")}, nil, belfry.Exclusion{},
			[]string{"ben !named_member@news,joined_elsewhere@news"}},
		{"joined at several places in one", "news/today", []belfry.Member{join("ben", "news"), join("ben", "news/today"), join("ben", "newsletter")}, nil, belfry.Exclusion{},
			[]string{"ben <named_member@news/today"}},
		{"two rules, one person, both reasons", "news", []belfry.Member{join("ada", "")}, explicit([]string{"ada"}, nil, []string{"ada@example.org"}), belfry.Exclusion{},
			[]string{"ada <named_member,named_user,named_address"}},
		{"addresses that differ in case are one", "news", nil, explicit(nil, nil, []string{"X@Example.org", "x@example.ORG"}), belfry.Exclusion{}, []string{"x@example.org <named_address"}},
		{"a group's vanished and deleted members are recorded", "news", nil, explicit(nil, []string{"editors"}, nil), belfry.Exclusion{},
			[]string{"ada <named_group~editors", "gone !named_group~editors,user_deleted", "vanished-group !named_group~editors,user_unknown"}},
		{"a vanished group is recorded", "news", nil, explicit(nil, []string{"was"}, nil), belfry.Exclusion{}, []string{"was !named_group~was,group_unknown~was"}},
		{"a group with an address is told there", "news", nil, explicit(nil, []string{"list"}, nil), belfry.Exclusion{}, []string{"list@example.org <named_group~list"}},
		{"the blacklist is for group addresses, too", "news", nil, explicit(nil, []string{"list"}, nil), belfry.Exclusion{Emails: []string{"LIST@example.org"}},
			[]string{"list@example.org !named_group~list,blacklisted"}},
		{"and for whoever has a listed address", "news", nil, explicit([]string{"ada"}, nil, nil), belfry.Exclusion{Emails: []string{"ada@example.org"}},
			[]string{"ada !named_user,blacklisted"}},
		{"everybody, less the blacklist", "news", nil, explicit(nil, []string{belfry.GroupAnyone}, nil), belfry.Exclusion{Users: []string{"ben"}},
			[]string{"ada <named_group~anyone", "ben !named_group~anyone,blacklisted"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.members = map[string][]belfry.Member{}
			w.member("sub_1", tc.members...)
			want(t, one(t, w, event(tc.object), belfry.EventType{}, match(belfry.Subscription{Recipients: tc.rules, Exclude: tc.exclude})), tc.want...)
		})
	}
}

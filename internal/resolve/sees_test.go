package resolve

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-25
func TestMaySubscribe(t *testing.T) {
	w := newWorld().object("root", "").object("course/1", "root").object("forum/1", "course/1").user("ada").user("ben")
	w.grants["course/1"] = []belfry.Grant{{Principal: "ada", Role: "teacher"}}
	teachers := belfry.Subscribers{Who: belfry.JoinRoles, Roles: []string{"teacher"}}
	for _, c := range []struct {
		name, object, user string
		typ                belfry.EventType
		want               string
	}{
		{"as the subscription says", "forum/1", "ben", belfry.EventType{}, ""},
		{"nobody", "forum/1", "ada", belfry.EventType{Subscribe: belfry.Subscribers{Who: belfry.JoinNone}}, belfry.MayNotSubscribe},
		{"members", "forum/1", "ben", belfry.EventType{Subscribe: belfry.Subscribers{Who: belfry.JoinMembers}}, ""},
		{"anyone", "forum/1", "ben", belfry.EventType{Subscribe: belfry.Subscribers{Who: belfry.JoinAnyone}}, ""},
		{"a role held above", "forum/1", "ada", belfry.EventType{Subscribe: teachers}, ""},
		{"a role not held", "forum/1", "ben", belfry.EventType{Subscribe: teachers}, belfry.MayNotSubscribe},
		{"a role held elsewhere", "root", "ada", belfry.EventType{Subscribe: teachers}, belfry.MayNotSubscribe},
		{"may not see", "forum/1", "ben", belfry.EventType{SeeRoles: []string{"teacher"}, Subscribe: belfry.Subscribers{Who: belfry.JoinNone}}, belfry.MayNotSee},
		{"unknown", "forum/1", "cleo", belfry.EventType{}, belfry.UserUnknown},
	} {
		why, err := MaySubscribe(w, c.object, c.typ, c.user, noon)
		if err != nil {
			t.Fatal(err)
		}
		if got := (why != nil); got != (c.want != "") || got && why.Code != c.want {
			t.Errorf("%s: %+v, want %q", c.name, why, c.want)
		}
	}
}

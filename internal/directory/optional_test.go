package directory

import (
	"context"
	"fmt"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// lists is a store that has the optional reads.
type lists struct {
	*store.DB
	outs   []belfry.OptOut // sorted
	groups []belfry.Member
	asked  int
}

func (l *lists) OptOuts(_ context.Context, _, _, after string, limit int) ([]belfry.OptOut, error) {
	l.asked++
	var out []belfry.OptOut
	for _, o := range l.outs {
		if o.Who > after && len(out) < limit {
			out = append(out, o)
		}
	}
	return out, nil
}

func (l *lists) JoinedGroups(context.Context, string, string, []string) ([]belfry.Member, error) {
	l.asked++
	return l.groups, nil
}

func TestOptOuts(t *testing.T) {
	for _, n := range []int{0, 3, fewMembers, fewMembers + 1, 2000} {
		l := &lists{DB: open(t)}
		for i := range n {
			l.outs = append(l.outs, belfry.OptOut{Subscription: "s", Who: fmt.Sprintf("u%05d", i)})
		}
		d := New(Options{Store: l})
		got, after := 0, ""
		for v := at(t, d, 0); ; {
			list := must(v.OptOuts("s", after, 100))(t)
			if len(list) == 0 {
				break
			}
			got, after = got+len(list), list[len(list)-1].Who
		}
		if got != n || n <= fewMembers && l.asked != 1 {
			t.Errorf("%d of %d, asked %d times", got, n, l.asked)
		}
		// An edit is seen.
		l.outs = []belfry.OptOut{{Subscription: "s", Who: "x"}}
		ch := belfry.Changes{Tenant: school, OptOuts: l.outs}
		d.Published(school, 1, &ch)
		if list := must(at(t, d, 0).OptOuts("s", "", 100))(t); len(list) != 1 || list[0].Who != "x" {
			t.Errorf("%v", list)
		}
		l.outs = nil
		ch = belfry.Changes{Tenant: school, DropOptOuts: []belfry.OptOut{{Subscription: "s", Who: "x"}}}
		d.Published(school, 2, &ch)
		if list := must(at(t, d, 0).OptOuts("s", "", 100))(t); len(list) != 0 {
			t.Errorf("%v", list)
		}
	}
}

func TestJoinedGroupsOfTheStore(t *testing.T) {
	l := &lists{DB: open(t), groups: []belfry.Member{{Subscription: "s", Principal: "team"}}}
	ch := belfry.Changes{Tenant: school}
	for i := range fewMembers + 1 {
		ch.Members = append(ch.Members, belfry.Member{Subscription: "s", Principal: fmt.Sprintf("u%05d", i)})
	}
	v := at(t, New(Options{Store: l}), apply(t, l.DB, ch))
	for range 2 {
		if got := must(v.JoinedGroups("s"))(t); len(got) != 1 || l.asked != 1 {
			t.Errorf("%v, asked %d times", got, l.asked)
		}
	}
}

// Whom one asks for is found in lists that are kept whole and in long ones.
func TestAmong(t *testing.T) {
	for _, n := range []int{3, fewMembers, fewMembers + 1} {
		db := open(t)
		ch := belfry.Changes{Tenant: school}
		for i := range n {
			ch.Members = append(ch.Members, belfry.Member{Subscription: "s", Principal: fmt.Sprintf("u%05d", i)})
			ch.OptOuts = append(ch.OptOuts, belfry.OptOut{Subscription: "o", Who: fmt.Sprintf("u%05d", i)})
		}
		v := at(t, New(Options{Store: db}), apply(t, db, ch))
		who := []string{"u00002", "nobody", "u00000", "u00002"}
		if got := must(v.MembersAmong("s", who))(t); len(got) != 2 || got[0].Principal != "u00000" || got[1].Principal != "u00002" {
			t.Errorf("%d: members %+v", n, got)
		}
		if got := must(v.OptOutsAmong("o", who))(t); len(got) != 2 || got[0].Who != "u00000" || got[1].Who != "u00002" {
			t.Errorf("%d: opt-outs %+v", n, got)
		}
		if got := must(v.MembersAmong("o", who))(t); len(got) != 0 {
			t.Errorf("%d: members of another: %+v", n, got)
		}
	}
}

package match_test

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/match"
)

// feature: NEW-2 what is supposed is seen by nobody else, and counts as if it
// were there
func TestSuppose(t *testing.T) {
	x := match.New()
	put := func(id, filter, origin string) *belfry.Subscription {
		return &belfry.Subscription{ID: id, Types: []string{"a.b"}, Filter: filter, State: belfry.SubscriptionActive, Origin: origin}
	}
	for _, id := range []string{"sub_1", "sub_2", "sub_3"} {
		if err := x.Put(put(id, "event.data.n == 1", belfry.FromAdmin)); err != nil {
			t.Fatal(err)
		}
	}
	was := x.Snapshot()
	e := &belfry.Event{Type: "a.b", Object: "o", Data: []byte(`{"n":2}`)}
	facts := match.Facts{Ancestors: []belfry.Object{{ID: "o"}, {ID: belfry.RootObject}}}
	changed, err := was.Suppose(put("sub_2", "event.data.n == 2", belfry.FromAdmin))
	if err != nil {
		t.Fatal(err)
	}
	ids := func(s *match.Snapshot) (out []string) {
		for _, m := range s.Match(e, facts) {
			out = append(out, m.Subscription.ID)
		}
		return out
	}
	if got := ids(changed); len(got) != 1 || got[0] != "sub_2" {
		t.Errorf("with the supposed change: %v", got)
	}
	if got := ids(was); len(got) != 0 || changed.Len() != 3 {
		t.Errorf("the snapshot it was made from matches %v; %d are in the new one", got, changed.Len())
	}
	if got, ok := was.Get("sub_2"); !ok || got.Filter != "event.data.n == 1" {
		t.Errorf("the snapshot it was made from holds %+v", got)
	}
	paused := put("sub_new", "", belfry.FromAdmin)
	paused.State = belfry.SubscriptionPaused
	more, err := was.Suppose(paused)
	if err != nil {
		t.Fatal(err)
	}
	m, wants, known := more.Interest("sub_new", e, facts)
	if !wants || !known || m.Subscription.ID != "sub_new" {
		t.Errorf("%+v, %v, %v", m, wants, known)
	}
	// What is nearer decides, as it would.
	near := put("sub_near", "", belfry.FromAdmin)
	near.Scope.Object = "o"
	facts.Ancestors[0].Settings = &belfry.ObjectSettings{Lookup: belfry.LookupNearest}
	if more, err = was.Suppose(near); err != nil {
		t.Fatal(err)
	}
	if m, wants, _ := more.Interest("sub_1", &belfry.Event{Type: "a.b", Object: "o", Data: []byte(`{"n":1}`)}, facts); wants || m.Because[len(m.Because)-1].Code != belfry.LookupNearer {
		t.Errorf("%+v, %v", m, wants)
	}
	if _, err := was.Suppose(put("sub_bad", "event.nonsense(", belfry.FromAdmin)); belfry.KindOf(err) != belfry.Invalid {
		t.Errorf("%v", err)
	}
}

package match

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

// naiveLookup says which subscriptions count where an event happened, from the
// words of the model and all subscriptions.
func naiveLookup(subs map[string]*belfry.Subscription, e *belfry.Event, f Facts) func(s *belfry.Subscription, distance int) bool {
	policy, top := belfry.LookupMerge, len(f.Ancestors)-1
	for i := len(f.Ancestors) - 1; i >= 0; i-- { // closer ones overwrite
		if s := f.Ancestors[i].Settings; s != nil {
			if s.Lookup != "" {
				policy = s.Lookup
			}
			if s.Stop {
				top = i
			}
		}
	}
	var own []int // distances of objects that have spoken
	for i := range f.Ancestors {
		if s := f.Ancestors[i].Settings; s != nil && s.OwnSubscriptions {
			own = append(own, i)
		}
		for _, s := range subs {
			asks := len(s.Types) == 0 || slices.ContainsFunc(s.Types, func(p string) bool { return belfry.TypeMatches(p, e.Type) })
			reach := s.Scope.Applies != belfry.AppliesSelf && s.Scope.Applies != belfry.AppliesChildren ||
				s.Scope.Applies == belfry.AppliesSelf && i == 0 || s.Scope.Applies == belfry.AppliesChildren && i == 1
			if s.State == belfry.SubscriptionActive && (s.Origin == belfry.FromAdmin || s.Origin == belfry.FromManifest) && s.ScopeObject() == f.Ancestors[i].ID && asks && reach {
				own = append(own, i)
			}
		}
	}
	return func(s *belfry.Subscription, distance int) bool {
		if s.Origin == belfry.FromPerson || s.Origin == belfry.FromBelfry {
			return true
		}
		if distance > top {
			return false
		}
		return policy == belfry.LookupMerge || len(own) == 0 || slices.Min(own) == distance
	}
}

// feature: CPS-5 subscriptions held at objects, looked up upward: merge, nearest and stop
func TestLookup(t *testing.T) {
	x := New()
	put := func(id, scope, origin string, edit ...func(*belfry.Subscription)) {
		s := active(id, scope, "doc.changed")
		s.Origin = origin
		for _, f := range edit {
			f(s)
		}
		if err := x.Put(s); err != nil {
			t.Fatal(err)
		}
	}
	put("sub_site", "", belfry.FromAdmin)
	put("sub_area", "area", belfry.FromAdmin)
	put("sub_person", "", belfry.FromPerson)
	put("sub_builtin", "", belfry.FromBelfry)
	put("sub_other", "folder", belfry.FromAdmin, func(s *belfry.Subscription) { s.Types = []string{"doc.deleted"} })
	never := func(s *belfry.Subscription) { s.Filter = "event.data.x == 'never'" }
	put("sub_narrow", "narrow", belfry.FromManifest, never)
	put("sub_self", "alone", belfry.FromAdmin, func(s *belfry.Subscription) { s.Scope.Applies = belfry.AppliesSelf })
	put("sub_mine", "mine", belfry.FromPerson)
	always := []string{"sub_builtin", "sub_person"}
	type settings = map[string]belfry.ObjectSettings
	nearest := belfry.ObjectSettings{Lookup: belfry.LookupNearest}
	for _, c := range []struct {
		name string
		way  []string
		set  settings
		want []string // besides always
	}{
		{"merge is the default", []string{"doc", "area"}, nil, []string{"sub_area", "sub_site"}},
		{"the nearest alone", []string{"doc", "area"}, settings{"root": nearest}, []string{"sub_area"}},
		{"the object's own", []string{"area"}, settings{"root": nearest}, []string{"sub_area"}},
		{"one of another type does not carry", []string{"doc", "folder", "area"}, settings{"root": nearest}, []string{"sub_area"}},
		{"an empty place of its own silences what is above", []string{"doc", "folder", "area"}, settings{"root": nearest, "folder": {OwnSubscriptions: true}}, nil},
		{"carrying is decided before filters", []string{"doc", "narrow", "area"}, settings{"root": nearest}, nil},
		{"what does not reach here does not carry", []string{"doc", "alone", "area"}, settings{"root": nearest}, []string{"sub_area"}},
		{"and where it does, it does", []string{"alone", "area"}, settings{"root": nearest}, []string{"sub_self"}},
		{"a person's does not carry and always applies", []string{"doc", "mine", "area"}, settings{"root": nearest}, []string{"sub_mine", "sub_area"}},
		{"the closest policy wins", []string{"doc", "folder", "area"}, settings{"root": nearest, "folder": {Lookup: belfry.LookupMerge}}, []string{"sub_area", "sub_site"}},
		{"nearest below merge", []string{"doc", "folder", "area"}, settings{"area": nearest}, []string{"sub_area"}},
		{"none carries: nothing to choose from", []string{"doc"}, settings{"doc": nearest}, []string{"sub_site"}},
		{"stop here", []string{"doc", "folder", "area"}, settings{"area": {Stop: true}}, []string{"sub_area"}},
		{"stop below", []string{"doc", "folder", "area"}, settings{"folder": {Stop: true}}, nil},
		{"stop and nearest: nothing up to there", []string{"doc", "folder", "area"}, settings{"folder": {Stop: true, Lookup: belfry.LookupNearest}}, nil},
		{"the closest stop", []string{"doc", "folder", "area"}, settings{"doc": {Stop: true}, "area": {Stop: true}}, nil},
		{"own subscriptions mean nothing to merge", []string{"doc", "folder", "area"}, settings{"folder": {OwnSubscriptions: true}}, []string{"sub_area", "sub_site"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := chain(c.way...)
			for i := range f.Ancestors {
				if s, ok := c.set[f.Ancestors[i].ID]; ok {
					f.Ancestors[i].Settings = &s
				}
			}
			want := slices.Concat(c.want, always)
			got := matched(x.Snapshot().Match(&belfry.Event{Type: "doc.changed"}, f))
			slices.Sort(want)
			slices.Sort(got)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// What is passed over is explained, and so is why.
func TestLookupExplained(t *testing.T) {
	x := New()
	for id, scope := range map[string]string{"sub_site": "", "sub_area": "area", "sub_folder": "folder"} {
		s := active(id, scope)
		s.Origin = belfry.FromAdmin
		if err := x.Put(s); err != nil {
			t.Fatal(err)
		}
	}
	f := chain("doc", "folder", "area")
	f.Ancestors[2].Settings = &belfry.ObjectSettings{Lookup: belfry.LookupNearest, Stop: true}
	hits, misses := x.Snapshot().Explain(&belfry.Event{Type: "t"}, f, 10)
	if got := matched(hits); !slices.Equal(got, []string{"sub_folder"}) {
		t.Errorf("matched %v", got)
	}
	want := []belfry.Reason{
		{Code: belfry.LookupNearer, Subscription: "sub_area", Object: "folder"},
		{Code: belfry.LookupStopped, Subscription: "sub_site", Object: "area"},
	}
	var got []belfry.Reason
	for _, m := range misses {
		got = append(got, m.Because[len(m.Because)-1])
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if _, misses := x.Snapshot().Explain(&belfry.Event{Type: "t"}, f, 1); len(misses) != 1 {
		t.Errorf("%d misses, at most 1 was asked for", len(misses))
	}
}

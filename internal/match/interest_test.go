package match

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-3 whether one subscription is interested, and why not
func TestInterest(t *testing.T) {
	x := New()
	s := active("sub_1", "course/41", "core.course_*", "core.course_updated")
	s.Origin, s.ObjectTypes, s.Filter = belfry.FromAdmin, []string{"forum"}, `event.data.shortname == 'CPR'`
	if err := x.Put(s); err != nil {
		t.Fatal(err)
	}
	data := json.RawMessage(`{"shortname":"CPR"}`)
	stopped := chain("forum/3:forum", "course/41:course")
	stopped.Ancestors[0].Settings = &belfry.ObjectSettings{Stop: true}
	for _, c := range []struct {
		name  string
		e     belfry.Event
		facts Facts
		want  string
	}{
		{"yes", belfry.Event{Type: "core.course_updated", Data: data}, chain("forum/3:forum", "course/41:course"), belfry.FilterTrue},
		{"elsewhere", belfry.Event{Type: "core.course_updated", Data: data}, chain("forum/4:forum", "course/42:course"), belfry.ScopeMissed},
		{"another type", belfry.Event{Type: "core.user_login", Data: data}, chain("forum/3:forum", "course/41:course"), belfry.TypeMissed},
		{"another object type", belfry.Event{Type: "core.course_updated", Data: data}, chain("course/41:course"), belfry.ObjectMissed},
		{"the filter", belfry.Event{Type: "core.course_updated"}, chain("forum/3:forum", "course/41:course"), belfry.FilterFalse},
		{"not looked up", belfry.Event{Type: "core.course_updated", Data: data}, stopped, belfry.LookupStopped},
	} {
		m, wants, known := x.Snapshot().Interest("sub_1", &c.e, c.facts)
		if got := m.Because[len(m.Because)-1].Code; !known || got != c.want || wants != (c.want == belfry.FilterTrue) || m.Subscription.ID != "sub_1" {
			t.Errorf("%s: %v %v %s, want %s", c.name, wants, known, got, c.want)
		}
	}
	if _, _, known := x.Snapshot().Interest("sub_2", &belfry.Event{}, chain()); known {
		t.Error("an unknown subscription is known")
	}
}

// Interest agrees with Match for each subscription, and Here is what Match
// would give were all filters true.
func TestInterestAndHereAgreeWithMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, bare := New(), New()
		var ids []string
		for _, s := range rapid.SliceOfN(genSubscription, 0, 30).Draw(t, "subscriptions") {
			_ = x.Put(s)
			plain := *s
			plain.Filter = ""
			_ = bare.Put(&plain)
			ids = append(ids, s.ID)
		}
		e, f := genEvent.Draw(t, "event"), genFacts.Draw(t, "facts")
		e.Object = f.Ancestors[0].ID
		hits := matched(x.Snapshot().Match(e, f))
		for _, id := range ids {
			if _, wants, _ := x.Snapshot().Interest(id, e, f); wants != slices.Contains(hits, id) {
				t.Fatalf("%s: interested %v, matched %v", id, wants, hits)
			}
		}
		want := matched(bare.Snapshot().Match(e, f))
		if got := matched(x.Snapshot().Here([]string{e.Type, "zzz"}, f, 100)[e.Type]); !slices.Equal(got, want) {
			t.Fatalf("here %v, want %v", got, want)
		}
	})
}

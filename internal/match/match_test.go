package match

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chain makes Facts of ids and types, nearest first: "forum/3:forum".
func chain(spec ...string) Facts {
	var f Facts
	for _, s := range append(spec, belfry.RootObject+":root") {
		id, typ, _ := strings.Cut(s, ":")
		f.Ancestors = append(f.Ancestors, belfry.Object{ID: id, Type: typ})
	}
	return f
}

func active(id, scope string, types ...string) *belfry.Subscription {
	return &belfry.Subscription{ID: id, Scope: belfry.Scope{Object: scope}, Types: types, State: belfry.SubscriptionActive}
}

func matched(ms []belfry.Match) []string {
	ids := []string{}
	for _, m := range ms {
		ids = append(ids, m.Subscription.ID)
	}
	return ids
}

// feature: CPS-5, CPS-6
func TestScopeTypesAndObjectTypes(t *testing.T) {
	x := New()
	put := func(s *belfry.Subscription) {
		t.Helper()
		if err := x.Put(s); err != nil {
			t.Fatal(err)
		}
	}
	put(active("sub_root", ""))
	put(active("sub_course", "course/41", "core.course_*"))
	put(active("sub_exact", "course/41", "core.course_updated"))
	put(active("sub_star", "course/41", "*"))
	put(active("sub_other", "course/42"))
	self := active("sub_self", "course/41")
	self.Scope.Applies = belfry.AppliesSelf
	put(self)
	children := active("sub_children", "course/41")
	children.Scope.Applies = belfry.AppliesChildren
	put(children)
	forums := active("sub_forums", "course/41")
	forums.ObjectTypes = []string{"forum"}
	put(forums)
	paused := active("sub_paused", "course/41")
	paused.State = belfry.SubscriptionPaused
	put(paused)

	for _, c := range []struct {
		typ   string
		facts Facts
		want  []string
	}{
		{"core.course_updated", chain("course/41:course", "category/2:category"), []string{"sub_exact", "sub_course", "sub_star", "sub_self", "sub_root"}},
		{"core.course_viewed", chain("course/41:course", "category/2:category"), []string{"sub_course", "sub_star", "sub_self", "sub_root"}},
		{"mod_forum.post_created", chain("forum/3:forum", "course/41:course"), []string{"sub_star", "sub_children", "sub_forums", "sub_root"}},
		{"mod_forum.post_created", chain("post/9:post", "forum/3:forum", "course/41:course"), []string{"sub_star", "sub_root"}},
		{"core.user_login", chain(), []string{"sub_root"}},
		{"core.course_updated", chain("course/42:course"), []string{"sub_other", "sub_root"}},
		{"core.course_updated", Facts{}, []string{"sub_star", "sub_self", "sub_root"}}, // object known by id only
	} {
		e := &belfry.Event{Type: c.typ}
		if len(c.facts.Ancestors) == 0 {
			e.Object = "course/41"
			c.want = []string{"sub_exact", "sub_course", "sub_star", "sub_self", "sub_root"}
		}
		if d := cmp.Diff(c.want, matched(x.Snapshot().Match(e, c.facts))); d != "" {
			t.Errorf("%s at %v (-want +got)\n%s", c.typ, c.facts.Ancestors, d)
		}
	}
}

func TestReasons(t *testing.T) {
	x := New()
	s := active("sub_1", "course/41", "core.*", "core.course_*")
	s.Filter = `event.data.shortname == 'CPR'`
	if err := x.Put(s); err != nil {
		t.Fatal(err)
	}
	e := &belfry.Event{Type: "core.course_updated", Data: json.RawMessage(`{"shortname":"CPR"}`)}
	ms := x.Snapshot().Match(e, chain("forum/3:forum", "course/41:course"))
	if len(ms) != 1 {
		t.Fatalf("%d matches", len(ms))
	}
	if ms[0].Scope != "course/41" || ms[0].Distance != 1 || ms[0].Pattern != "core.course_*" {
		t.Errorf("%+v", ms[0])
	}
	want := []belfry.Reason{
		{Code: belfry.ScopeMatched, Subscription: "sub_1", Object: "course/41"},
		{Code: belfry.TypeMatched, Subscription: "sub_1", Detail: "core.course_*"},
		{Code: belfry.FilterTrue, Subscription: "sub_1"},
	}
	if d := cmp.Diff(want, ms[0].Because); d != "" {
		t.Error(d)
	}
}

// feature: NEW-1, NEW-3
func TestExplainNearMisses(t *testing.T) {
	x := New()
	for id, filter := range map[string]string{
		"sub_a": `event.data.shortname == 'CPR'`,
		"sub_b": `event.data.shortname == 'ECG'`,
		"sub_c": `event.data.shortname.startsWith('E')`,
		"sub_d": `event.data.missing in ['x']`,
		"sub_e": `event.data.shortname > 5`,
		"sub_f": `event.data.nothing > 5`,
		"sub_g": `event.type == 5`, // does not compile: filed, and never true
	} {
		s := active(id, "course/41")
		s.Filter = filter
		if err := x.Put(s); (err != nil) != (id == "sub_g") {
			t.Fatalf("%s: %v", id, err)
		}
	}
	if err := x.Put(active("sub_z", "course/42")); err != nil {
		t.Fatal(err)
	}
	e := &belfry.Event{Type: "core.course_updated", Data: json.RawMessage(`{"shortname":"CPR"}`)}
	hits, misses := x.Snapshot().Explain(e, chain("course/41:course"), 100)
	if d := cmp.Diff([]string{"sub_a"}, matched(hits)); d != "" {
		t.Error(d)
	}
	got := map[string]string{}
	for _, m := range misses {
		r := m.Because[len(m.Because)-1]
		got[m.Subscription.ID] = r.Code + ": " + r.Detail
	}
	want := map[string]string{
		"sub_b": `filter_false: event.data.shortname is not "ECG"`,
		"sub_c": `filter_false: `,
		"sub_d": `filter_false: the event has no event.data.missing`,
		"sub_e": `filter_fault: no such overload`,
		"sub_f": `filter_false: no such key: nothing`,
		"sub_g": got["sub_g"],
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(got["sub_g"], "filter_fault: line 1, column 12") {
		t.Error(got["sub_g"])
	}
	_, few := x.Snapshot().Explain(e, chain("course/41:course"), 2)
	if d := cmp.Diff([]string{"sub_b", "sub_c"}, matched(few)); d != "" {
		t.Error(d)
	}
}

func TestPutCopiesAndReplaces(t *testing.T) {
	x := New()
	s := active("sub_1", "", "a")
	if err := x.Put(s); err != nil {
		t.Fatal(err)
	}
	before := x.Snapshot()
	s.Types = []string{"b"}
	if err := x.Put(s); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		snap *Snapshot
		typ  string
		n    int
	}{{before, "a", 1}, {before, "b", 0}, {x.Snapshot(), "a", 0}, {x.Snapshot(), "b", 1}} {
		if got := len(c.snap.Match(&belfry.Event{Type: c.typ}, chain())); got != c.n {
			t.Errorf("%s: %d matches, want %d", c.typ, got, c.n)
		}
	}
	s.State = belfry.SubscriptionPaused
	if err := x.Put(s); err != nil || x.Snapshot().Len() != 0 {
		t.Errorf("%d left after pausing, %v", x.Snapshot().Len(), err)
	}
	x.Drop("sub_unknown")
	if _, ok := before.Get("sub_1"); !ok {
		t.Error("an old snapshot changed")
	}
}

// An index whose subscriptions all went is as empty as a new one.
func TestNothingIsLeftBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := New()
		subs := rapid.SliceOfN(genSubscription, 0, 60).Draw(t, "subscriptions")
		for _, s := range subs {
			_ = x.Put(s)
		}
		for _, s := range rapid.Permutation(subs).Draw(t, "order") {
			x.Drop(s.ID)
		}
		s := x.Snapshot()
		if s.ids.root != nil || s.slots.root != nil || s.buckets.root != nil || s.prefixes.root != nil {
			t.Fatalf("%+v", s)
		}
	})
}

var (
	scopes  = []string{"", "root", "course/1", "course/2", "forum/1", "forum/2", "post/1"}
	filters = []string{
		"", "", `event.data.a == 'x'`, `event.data.a == 'y'`, `event.data.a in ['x', 'z', 1]`, `event.data.b == 1`, `event.data.b == 1 && event.data.a == 'x'`,
		`event.data.a == 'x' || event.data.b == 1`, `event.data.b > 1`, `event.data.a == 'y' && event.data.b > 0`, `has(event.data.c)`, `!(event.data.a == 'x')`,
		`object.type == 'forum'`, `'course/1' in ancestors`, `event.data.a > 5`, `object.type == 'forum' && event.data.c.d == true && event.data.a != 'x'`,
		`event.data.b == -0.0`, `event.type == 5`, `event.data.p1 == 1`, `event.data.p2 == 1`, `event.data.p3 == 1`, `event.actor == 'user/1'`,
	}
	patternPool = []string{"a.b", "a.c", "a.*", "a.b*", "*", "b", "a", "", "zz*", "a.b*"}
)

var genSubscription = rapid.Custom(func(t *rapid.T) *belfry.Subscription {
	s := &belfry.Subscription{
		ID: fmt.Sprintf("sub_%02d", rapid.IntRange(0, 40).Draw(t, "id")),
		Scope: belfry.Scope{
			Object:  rapid.SampledFrom(scopes).Draw(t, "scope"),
			Applies: rapid.SampledFrom([]string{"", belfry.AppliesSubtree, belfry.AppliesSelf, belfry.AppliesChildren}).Draw(t, "applies"),
		},
		Types:  rapid.SliceOfN(rapid.SampledFrom(patternPool), 0, 3).Draw(t, "types"),
		Filter: rapid.SampledFrom(filters).Draw(t, "filter"),
		State:  rapid.SampledFrom([]string{belfry.SubscriptionActive, belfry.SubscriptionActive, belfry.SubscriptionActive, belfry.SubscriptionPaused}).Draw(t, "state"),
	}
	s.Origin = rapid.SampledFrom([]string{belfry.FromAdmin, belfry.FromManifest, belfry.FromPerson, belfry.FromBelfry}).Draw(t, "origin")
	if rapid.IntRange(0, 3).Draw(t, "object types") == 0 {
		s.ObjectTypes = []string{"forum"}
	}
	if s.Filter == "" && rapid.Bool().Draw(t, "own path") { // many paths on one bucket
		s.Filter = fmt.Sprintf("event.data.p%d == 1", rapid.IntRange(0, 60).Draw(t, "path"))
	}
	return s
})

var genEvent = rapid.Custom(func(t *rapid.T) *belfry.Event {
	return &belfry.Event{
		Type:  rapid.SampledFrom([]string{"a.b", "a.c", "a.bc", "b", "a", "a.b*"}).Draw(t, "type"),
		Actor: rapid.SampledFrom([]string{"", "user/1"}).Draw(t, "actor"),
		Data: json.RawMessage(rapid.SampledFrom([]string{
			``, `{}`, `{"a":"x"}`, `{"a":"y","b":1}`, `{"a":1,"b":2.0}`, `{"a":"x","b":1,"c":{"d":true}}`, `{"c":null,"p1":1}`, `{"p1":1,"p2":1,"p3":1,"p40":1}`, `"x"`, `{"a":"z","c":{"d":true}}`, `{"b":0}`, `{"b":-0}`,
		}).Draw(t, "data")),
	}
})

var genFacts = rapid.Custom(func(t *rapid.T) Facts {
	f := rapid.SampledFrom([]Facts{
		chain(), chain("course/1:course"), chain("course/2:course"), chain("forum/1:forum", "course/1:course"), chain("forum/2:forum", "course/2:course"),
		chain("post/1:post", "forum/1:forum", "course/1:course", "category/1:category"), chain("unknown/1:"),
	}).Draw(t, "place")
	f.Ancestors = slices.Clone(f.Ancestors)
	for i := range f.Ancestors {
		if rapid.IntRange(0, 3).Draw(t, "set") == 0 {
			f.Ancestors[i].Settings = &belfry.ObjectSettings{
				Lookup: rapid.SampledFrom([]string{"", belfry.LookupMerge, belfry.LookupNearest, belfry.LookupNearest}).Draw(t, "lookup"),
				Stop:   rapid.IntRange(0, 3).Draw(t, "stop") == 0, OwnSubscriptions: rapid.IntRange(0, 4).Draw(t, "own") == 0,
			}
		}
	}
	return f
})

// naive walks over all subscriptions and evaluates whole filters with CEL.
func naive(subs map[string]*belfry.Subscription, e *belfry.Event, f Facts) []string {
	type result struct {
		id            string
		distance, key int
	}
	var out []result
	counts := naiveLookup(subs, e, f)
	for _, s := range subs {
		if s.State != belfry.SubscriptionActive {
			continue
		}
		distance := slices.IndexFunc(f.Ancestors, func(o belfry.Object) bool { return o.ID == s.ScopeObject() })
		if distance < 0 || s.Scope.Applies == belfry.AppliesSelf && distance != 0 || s.Scope.Applies == belfry.AppliesChildren && distance != 1 {
			continue
		}
		key := -1
		if len(s.Types) == 0 {
			key = 0
		}
		for _, p := range s.Types {
			if belfry.TypeMatches(p, e.Type) {
				if strings.HasSuffix(p, "*") {
					key = max(key, len(p))
				} else {
					key = max(key, 1000)
				}
			}
		}
		if key < 0 || len(s.ObjectTypes) > 0 && !slices.Contains(s.ObjectTypes, f.Ancestors[0].Type) {
			continue
		}
		if !counts(s, distance) {
			continue
		}
		if s.Filter != "" {
			p, err := expr.Compile(s.Filter)
			if err != nil || !p.Eval(expr.NewVars(e, f)).True() {
				continue
			}
		}
		out = append(out, result{s.ID, distance, key})
	}
	slices.SortFunc(out, func(a, b result) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		if a.key != b.key {
			return b.key - a.key
		}
		return strings.Compare(a.id, b.id)
	})
	ids := []string{}
	for _, r := range out {
		ids = append(ids, r.id)
	}
	return ids
}

func TestMatchIsTheNaiveWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := New()
		truth := map[string]*belfry.Subscription{}
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			for range rapid.IntRange(0, 25).Draw(t, "edits") {
				if rapid.IntRange(0, 3).Draw(t, "drop") == 0 {
					id := fmt.Sprintf("sub_%02d", rapid.IntRange(0, 40).Draw(t, "id"))
					x.Drop(id)
					delete(truth, id)
					continue
				}
				s := genSubscription.Draw(t, "subscription")
				_ = x.Put(s) // some filters do not compile: they match nothing
				truth[s.ID] = s
			}
			for range 4 {
				e, f := genEvent.Draw(t, "event"), genFacts.Draw(t, "facts")
				want := naive(truth, e, f)
				snap := x.Snapshot()
				if d := cmp.Diff(want, matched(snap.Match(e, f))); d != "" {
					t.Fatalf("%s (-want +got)\n%s", e.Type, d)
				}
				hits, misses := snap.Explain(e, f, 1000)
				if d := cmp.Diff(want, matched(hits)); d != "" {
					t.Fatal(d)
				}
				for _, m := range misses {
					if slices.Contains(want, m.Subscription.ID) || m.Because[len(m.Because)-1].Code == belfry.FilterTrue {
						t.Fatalf("%s is both a match and a miss", m.Subscription.ID)
					}
				}
			}
		}
	})
}

// Keys are hashes: what a collision would put before us is not believed.
func TestCollisionsAreNotMatches(t *testing.T) {
	x := New()
	if err := x.Put(active("sub_1", "course/1", "a.*")); err != nil {
		t.Fatal(err)
	}
	snap := x.Snapshot()
	e, _ := snap.find(snap.hash.text("sub_1"), "sub_1")
	for _, c := range []struct {
		pattern, scope string
		n              int
	}{{"a.*", "course/1", 1}, {"a.*", "course/2", 0}, {"a.b", "course/1", 0}, {"", "course/1", 0}} {
		q := search{snap: snap, event: &belfry.Event{Type: "a.b"}, facts: chain(c.scope)}
		q.consider(e, c.pattern, place{scope: c.scope})
		if len(q.found) != c.n {
			t.Errorf("%q at %s: %d, want %d", c.pattern, c.scope, len(q.found), c.n)
		}
	}
}

// What would take too many places is looked at for each event instead.
func TestManyValuesTimesManyTypes(t *testing.T) {
	x := New()
	s := active("sub_1", "")
	var values []string
	for i := range 500 {
		values = append(values, fmt.Sprint(i))
	}
	for i := range 10 {
		s.Types = append(s.Types, fmt.Sprintf("a.%d", i))
	}
	s.Filter = "event.data.n in [" + strings.Join(values, ",") + "] && event.data.m == 1"
	few := active("sub_2", "", s.Types...)
	few.Filter = "event.data.n in [" + strings.Join(values, ",") + "]"
	if err := x.Edit([]*belfry.Subscription{s, few}, nil); err != nil {
		t.Fatal(err)
	}
	if n := x.Snapshot().slots.n; n != 10 {
		t.Errorf("filed in %d places, want one for each type of the first", n)
	}
	for data, want := range map[string][]string{`{"n":499,"m":1}`: {"sub_1", "sub_2"}, `{"n":499}`: {"sub_2"}, `{"n":500,"m":1}`: {}} {
		if d := cmp.Diff(want, matched(x.Snapshot().Match(&belfry.Event{Type: "a.7", Data: json.RawMessage(data)}, chain()))); d != "" {
			t.Errorf("%s (-want +got)\n%s", data, d)
		}
	}
}

// Zeros are equal whatever their sign, in the hashed keys too.
func TestZeros(t *testing.T) {
	x := New()
	s := active("sub_1", "")
	s.Filter = "event.data.n == -0.0"
	if err := x.Put(s); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"0", "-0", "0.0", "0e5"} {
		if got := x.Snapshot().Match(&belfry.Event{Type: "a", Data: json.RawMessage(`{"n":` + n + `}`)}, chain()); len(got) != 1 {
			t.Errorf("%s: %d matches", n, len(got))
		}
	}
}

// Many entries under one key, and of many keys on one trie: the persistent map
// itself against a map. What was there before an edit stays as it was, although
// an edit changes its own nodes in place.
func TestTrie(t *testing.T) {
	type item struct{ h, second uint64 }
	second := func(i *item) uint64 { return i.second }
	type version struct {
		tr    trie[*item]
		truth map[*item]bool
	}
	rapid.Check(t, func(t *rapid.T) {
		var tr trie[*item]
		truth := map[*item]bool{}
		var all []*item
		var versions []version
		for edit := range uint64(rapid.IntRange(1, 12).Draw(t, "edits")) {
			versions = append(versions, version{tr, maps.Clone(truth)})
			for range rapid.IntRange(0, 60).Draw(t, "changes") {
				switch rapid.IntRange(0, 5).Draw(t, "change") {
				case 0, 1:
					if len(all) == 0 {
						continue
					}
					i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
					tr = tr.without(edit, all[i].h, all[i], second)
					delete(truth, all[i])
					all = slices.Delete(all, i, i+1)
				case 2:
					i := slices.IndexFunc(all, func(it *item) bool { return tr.get(it.h).one == it })
					if i < 0 {
						continue
					}
					it := &item{all[i].h, 3}
					tr = tr.swap(edit, it.h, it)
					delete(truth, all[i])
					truth[it], all[i] = true, it
				default:
					// Few hashes, some of which differ only in their last bits.
					h := rapid.SampledFrom([]uint64{1, 2, 65, 1 << 63, 1<<63 | 1, 3 << 60, ^uint64(0), 1 | 1<<36}).Draw(t, "hash")
					it := &item{h, rapid.Uint64Range(0, 5).Draw(t, "second")}
					tr = tr.with(edit, h, it, second)
					truth[it] = true
					all = append(all, it)
				}
			}
		}
		for _, v := range append(versions, version{tr, truth}) {
			got := map[*item]bool{}
			for it := range v.tr.all() {
				got[it] = true
			}
			if len(got) != len(v.truth) || v.tr.n != len(v.truth) {
				t.Fatalf("%d of %d, n %d", len(got), len(v.truth), v.tr.n)
			}
			for it := range v.truth {
				if !got[it] || !slices.Contains(slices.Collect(v.tr.get(it.h).items()), it) {
					t.Fatalf("lost %+v", it)
				}
			}
		}
	})
}

// Readers see whole edits while writers work.
func TestReadersWhileWriting(t *testing.T) {
	x := New()
	const rounds = 300
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range 2 {
		writers.Go(func() {
			for i := range rounds {
				a, b := active(fmt.Sprintf("sub_a%d", w), "course/1", "a.*"), active(fmt.Sprintf("sub_b%d", w), "course/1")
				a.Filter = fmt.Sprintf("event.data.n == %d", i%7)
				b.Filter = a.Filter
				if err := x.Edit([]*belfry.Subscription{a, b}, nil); err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					if err := x.Edit(nil, []string{a.ID, b.ID}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				for n := range 7 {
					ms := x.Snapshot().Match(&belfry.Event{Type: "a.b", Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))}, chain("course/1:course"))
					if len(ms)%2 != 0 {
						t.Errorf("half an edit: %v", matched(ms))
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

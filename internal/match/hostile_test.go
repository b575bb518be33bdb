package match

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// putAll files subscriptions in pages.
func putAll(tb testing.TB, x *Index, n int, make func(i int) *belfry.Subscription) {
	tb.Helper()
	const page = 2000
	for from := 0; from < n; from += page {
		var subs []*belfry.Subscription
		for i := from; i < min(n, from+page); i++ {
			subs = append(subs, make(i))
		}
		if err := x.Edit(subs, nil); err != nil {
			tb.Fatal(err)
		}
	}
}

// What no equality files is evaluated one by one: as many as there are, of one
// program if they differ in literals only. It is counted, so that it can be
// warned of.
func TestCrowd(t *testing.T) {
	x := New()
	const n = 20_000
	putAll(t, x, n, func(i int) *belfry.Subscription {
		s := active(fmt.Sprintf("sub_%05d", i), "course/1", "a.b")
		s.Filter = fmt.Sprintf("event.data.n - 0.0 > %d", i) // needs CEL
		return s
	})
	snap := x.Snapshot()
	if got := len(snap.Match(&belfry.Event{Type: "a.b", Data: json.RawMessage(`{"n":12.5}`)}, chain("course/1:course"))); got != 13 {
		t.Errorf("%d matches", got)
	}
	if got := snap.cache.Len(); got != 1 {
		t.Errorf("%d programs for one shape", got)
	}
	crowd := func(id, scope, filter string, types ...string) int {
		s := active(id, scope, types...)
		s.Filter = filter
		return x.Snapshot().Crowd(s)
	}
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"a further one", crowd("new", "course/1", "event.data.n > 5", "x", "a.b"), n},
		{"one of them", crowd("sub_00007", "course/1", "event.data.n > 5", "a.b"), n - 1},
		{"with an equality", crowd("new", "course/1", "event.data.n > 5 && event.data.a == 'x'", "a.b"), 0},
		{"without a filter", crowd("new", "course/1", " ", "a.b"), 0},
		{"of another type", crowd("new", "course/1", "event.data.n > 5", "a.c"), 0},
		{"elsewhere", crowd("new", "course/2", "event.data.n > 5", "a.b"), 0},
		{"not valid", crowd("new", "course/1", "event.data.n >", "a.b"), n},
		{"all of them", snap.Evaluated(), n},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.name, c.got, c.want)
		}
	}
	x.Drop("sub_00007")
	s := active("sub_00008", "course/1", "a.b")
	s.Filter = "event.data.n == 5"
	if err := x.Put(s); err != nil || x.Snapshot().Evaluated() != n-2 {
		t.Errorf("%d are evaluated, want %d; %v", x.Snapshot().Evaluated(), n-2, err)
	}
}

// The time of a match does not follow the number of subscriptions in shapes
// that are made to make it do so. The figures are bounds for a machine under
// load; they are some 50 times what an idle one needs.
func TestHostileShapes(t *testing.T) {
	quickest := func(x *Index, e *belfry.Event, f Facts, want int) time.Duration {
		t.Helper()
		best := time.Hour
		for range 20 {
			start := time.Now()
			got := len(x.Snapshot().Match(e, f))
			best = min(best, time.Since(start))
			if got != want {
				t.Fatalf("%d matches, want %d", got, want)
			}
		}
		return best
	}
	deep := Facts{}
	for i := range 1000 {
		deep.Ancestors = append(deep.Ancestors, belfry.Object{ID: fmt.Sprintf("folder/%d", i), Type: "folder"})
	}
	deep.Ancestors = append(deep.Ancestors, belfry.Object{ID: belfry.RootObject, Type: "root"})
	var list []string
	for i := range 1500 {
		list = append(list, fmt.Sprint(i*7))
	}
	in := "event.data.n in [" + strings.Join(list, ",") + "]"
	for _, c := range []struct {
		name  string
		n     int
		make  func(i int) *belfry.Subscription
		event belfry.Event
		facts Facts
		want  int
		bound time.Duration
	}{
		{"40,000 prefixes", 40_000, func(i int) *belfry.Subscription {
			return active(fmt.Sprintf("sub_%06d", i), "", fmt.Sprintf("a.%d*", i))
		}, belfry.Event{Type: "a.1234567890"}, chain("course/1:course"), 5, 2 * time.Millisecond}, // a.1* to a.12345*
		{"prefixes of every length", 250, func(i int) *belfry.Subscription {
			return active(fmt.Sprintf("sub_%06d", i), "", strings.Repeat("x", i)+"*")
		}, belfry.Event{Type: strings.Repeat("x", 200)}, deep, 201, 100 * time.Millisecond},
		{"1,000 ancestors", 2000, func(i int) *belfry.Subscription {
			return active(fmt.Sprintf("sub_%06d", i), fmt.Sprintf("folder/%d", i*100), "a.*")
		}, belfry.Event{Type: "a.b", Object: "folder/0"}, deep, 10, 20 * time.Millisecond},
		{"long in lists", 20, func(i int) *belfry.Subscription {
			s := active(fmt.Sprintf("sub_%06d", i), "", "a.b")
			s.Filter = in
			return s
		}, belfry.Event{Type: "a.b", Data: json.RawMessage(`{"n":7000}`)}, chain(), 20, 20 * time.Millisecond},
		{"a path each", 20_000, func(i int) *belfry.Subscription {
			s := active(fmt.Sprintf("sub_%06d", i), "", "a.b")
			s.Filter = fmt.Sprintf("event.data.p%d == 1", i)
			return s
		}, belfry.Event{Type: "a.b", Data: json.RawMessage(`{"p7":1,"p8":2,"p9":1}`)}, chain(), 2, 2 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := New()
			putAll(t, x, c.n, c.make)
			took := quickest(x, &c.event, c.facts, c.want)
			t.Logf("%d subscriptions: %v", c.n, took)
			if took > c.bound {
				t.Errorf("%v, at most %v are allowed", took, c.bound)
			}
			hits, _ := x.Snapshot().Explain(&c.event, c.facts, 5)
			if len(hits) != c.want {
				t.Errorf("%d are explained, want %d", len(hits), c.want)
			}
		})
	}
}

// Explain keeps no more near misses than it is asked for, and those that come
// first in order.
func TestManyNearMisses(t *testing.T) {
	x := New()
	putAll(t, x, 3000, func(i int) *belfry.Subscription {
		s := active(fmt.Sprintf("sub_%05d", (i*977)%3000), "course/1", "a.b")
		s.Filter = "event.data.n == 1"
		return s
	})
	_, missed := x.Snapshot().Explain(&belfry.Event{Type: "a.b"}, chain("course/1:course"), 3)
	if d := cmp.Diff([]string{"sub_00000", "sub_00001", "sub_00002"}, matched(missed)); d != "" {
		t.Error(d)
	}
}

// The index is the naive walk with conditions that are no equalities, whose
// literals and shapes are drawn, and old snapshots stay what they were while
// later edits go on.
func TestDrawnFiltersAndOldSnapshots(t *testing.T) {
	conjunct := rapid.Custom(func(t *rapid.T) string {
		field := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "field")
		lit := rapid.SampledFrom([]string{`'x'`, `"y"`, "1", "2.5", "-1", "0"}).Draw(t, "literal")
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0, 1:
			return "event.data." + field + " == " + lit
		case 2:
			return "event.data." + field + rapid.SampledFrom([]string{" > ", " <= ", " != ", ">=-"}).Draw(t, "operator") + lit
		case 3:
			return "(" + lit + " == event.data." + field + " || event.data.b > 1)"
		case 4:
			return "event.data." + field + ".startsWith('x')"
		}
		return "event.data." + field + " in [" + lit + ", 'x']"
	})
	rapid.Check(t, func(t *rapid.T) {
		x := New()
		truth := map[string]*belfry.Subscription{}
		type version struct {
			snap  *Snapshot
			truth map[string]*belfry.Subscription
		}
		var versions []version
		for range rapid.IntRange(1, 5).Draw(t, "edits") {
			var put []*belfry.Subscription
			for range rapid.IntRange(0, 20).Draw(t, "put") {
				s := genSubscription.Draw(t, "subscription")
				s.Filter = strings.Join(rapid.SliceOfN(conjunct, 0, 3).Draw(t, "filter"), " && ")
				put = append(put, s)
			}
			drop := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("sub_%02d", rapid.IntRange(0, 40).Draw(t, "id")) }), 0, 5).Draw(t, "drop")
			_ = x.Edit(put, drop) // a literal of the wrong type is a filter that does not compile
			next := map[string]*belfry.Subscription{}
			for id, s := range truth {
				if !slices.Contains(drop, id) {
					next[id] = s
				}
			}
			for _, s := range put {
				next[s.ID] = s
			}
			truth = next
			versions = append(versions, version{x.Snapshot(), truth})
		}
		for range 3 {
			e, f := genEvent.Draw(t, "event"), genFacts.Draw(t, "facts")
			for i, v := range versions {
				if d := cmp.Diff(naive(v.truth, e, f), matched(v.snap.Match(e, f))); d != "" {
					t.Fatalf("edit %d, %s %s (-want +got)\n%s", i, e.Type, e.Data, d)
				}
			}
		}
	})
}

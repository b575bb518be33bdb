package manage

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

var genNode = rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})

// A tree has a cycle exactly when some node never comes to the root.
func TestCyclesAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parent := rapid.MapOf(genNode, rapid.SampledFrom([]string{"", "root", "a", "b", "c", "d", "e", "f"})).Draw(t, "parents")
		ids := slices.Sorted(func(yield func(string) bool) {
			for id := range parent {
				if !yield(id) {
					return
				}
			}
		})
		var os []belfry.Object
		for _, id := range rapid.Permutation(ids).Draw(t, "order") {
			os = append(os, belfry.Object{ID: id, Parent: parent[id]})
		}
		inCycle := func(id string) bool {
			at := id
			for range 10 {
				if at = parent[at]; at == id {
					return true
				}
			}
			return false
		}
		named := map[string]bool{}
		for _, c := range cycles(os, parent) {
			if c.ids[0] != c.ids[len(c.ids)-1] || !slices.Contains(c.ids, os[c.index].ID) {
				t.Fatalf("%+v is not a cycle through entry %d", c.ids, c.index)
			}
			for i := range c.ids[1:] {
				if parent[c.ids[i]] != c.ids[i+1] || named[c.ids[i]] {
					t.Fatalf("%v: %s is not in %s, or was named before", c.ids, c.ids[i], c.ids[i+1])
				}
			}
			for _, id := range c.ids {
				named[id] = true
			}
		}
		for _, id := range ids {
			if named[id] != inCycle(id) {
				t.Fatalf("%s: named %v, in a cycle %v", id, named[id], inCycle(id))
			}
		}
	})
}

// Some group of the edit holds itself exactly when a loop is found, and what is
// found is a loop.
func TestLoopsAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		holds := rapid.MapOf(genNode, rapid.SliceOfN(genNode, 0, 3)).Draw(t, "holds")
		ids := rapid.SliceOfNDistinct(genNode, 1, 6, rapid.ID).Draw(t, "edited")
		found := loops(holds, ids)
		for id, way := range found {
			if !slices.Contains(ids, id) || way[0] != id || way[len(way)-1] != id || len(way) < 2 {
				t.Fatalf("%s: %v", id, way)
			}
			for i := range way[1:] {
				if !slices.Contains(holds[way[i]], way[i+1]) {
					t.Fatalf("%s does not hold %s", way[i], way[i+1])
				}
			}
		}
		any := slices.ContainsFunc(ids, func(id string) bool { return holdsItself(holds, id) })
		if any != (len(found) > 0) {
			t.Fatalf("a loop: %v, found %v", any, found)
		}
	})
}

func holdsItself(holds map[string][]string, from string) bool {
	seen := map[string]bool{}
	var down func(string) bool
	down = func(id string) bool {
		for _, h := range holds[id] {
			if h == from {
				return true
			}
			if !seen[h] {
				seen[h] = true
				if down(h) {
					return true
				}
			}
		}
		return false
	}
	return down(from)
}

package nodes

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// A few nodes and any division of the shards among them, some free.
func division(t *rapid.T) (live []string, owners [belfry.Shards]string) {
	for i := range rapid.IntRange(1, 9).Draw(t, "nodes") {
		live = append(live, fmt.Sprint("node_", i))
	}
	// Runs rather than single shards, so that very uneven divisions come up.
	for s := 0; s < belfry.Shards; {
		owner := ""
		if i := rapid.IntRange(-1, len(live)-1).Draw(t, "owner"); i >= 0 {
			owner = live[i]
		}
		for range rapid.IntRange(1, belfry.Shards).Draw(t, "run") {
			if s < belfry.Shards {
				owners[s] = owner
				s++
			}
		}
	}
	return live, owners
}

func counts(owners *[belfry.Shards]string) map[string]int {
	n := map[string]int{}
	for _, o := range owners {
		n[o]++
	}
	return n
}

// feature: NEW-12
func TestShareDividesFairlyWithFewMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, owners := division(t)
		before, had := owners, counts(&owners)
		part := func(rank int) int {
			n := belfry.Shards / len(live)
			if rank < belfry.Shards%len(live) {
				n++
			}
			return n
		}
		// All look at the same table and act at once, until nobody has anything to do.
		moved := 0
		for round := 0; ; round++ {
			if round > 2 {
				t.Fatalf("still moving after %d rounds: %v", round, counts(&owners))
			}
			seen, acted := owners, false
			for _, me := range live {
				claim, give := share(live, &seen, me)
				for _, s := range claim {
					if owners[s] != "" {
						t.Fatalf("%s and %s both claim shard %d", owners[s], me, s)
					}
					owners[s] = me
				}
				if give > 0 && len(claim) > 0 {
					t.Fatalf("%s claims %d and gives %d", me, len(claim), give)
				}
				for s := range owners {
					if give > 0 && seen[s] == me {
						owners[s] = ""
						give, moved = give-1, moved+1
					}
				}
				acted = acted || len(claim) > 0 || owners != seen
			}
			if !acted {
				break
			}
		}
		surplus := 0
		for rank, node := range live {
			surplus += max(had[node]-part(rank), 0)
			if n := counts(&owners)[node]; n != part(rank) {
				t.Fatalf("%s has %d shards, want %d", node, n, part(rank))
			}
		}
		if moved != surplus {
			t.Fatalf("%d shards were given back, and only %d were too many", moved, surplus)
		}
		changed := 0
		for s := range owners {
			if before[s] != "" && before[s] != owners[s] {
				changed++
			}
		}
		if changed > surplus {
			t.Fatalf("%d shards changed hands, and only %d were too many", changed, surplus)
		}
	})
}

func TestShareOfWhoDoesNotWorkOnIt(t *testing.T) {
	var owners [belfry.Shards]string
	if claim, give := share([]string{"node_a"}, &owners, "node_b"); len(claim) != 0 || give != 0 {
		t.Errorf("a node without the role claims %d and gives %d", len(claim), give)
	}
	if claim, _ := share(nil, &owners, "node_b"); len(claim) != 0 {
		t.Errorf("nobody claims %d", len(claim))
	}
	claim, _ := share([]string{"node_a"}, &owners, "node_a")
	if len(claim) != belfry.Shards || !slices.IsSorted(claim) {
		t.Errorf("a single node claims %d", len(claim))
	}
}

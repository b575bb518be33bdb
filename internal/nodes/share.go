package nodes

import (
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

// share says what a node is to do about the shards of one kind: claim takes
// free ones, give is how many it has above its part. live are the nodes that
// work on the kind, sorted; owners has a name for each shard, "" for none. Parts
// differ by one at most, and the first nodes have the greater ones. Every node
// that knows the same table divides the free shards alike, so claims seldom
// meet.
func share(live []string, owners *[belfry.Shards]string, me string) (claim []int, give int) {
	rank := slices.Index(live, me)
	if rank < 0 {
		return nil, 0
	}
	part := func(rank int) int {
		n := belfry.Shards / len(live)
		if rank < belfry.Shards%len(live) {
			n++
		}
		return n
	}
	has := map[string]int{}
	var free []int
	for shard, owner := range owners {
		if owner == "" {
			free = append(free, shard)
			continue
		}
		has[owner]++
	}
	for r, node := range live {
		n := min(max(part(r)-has[node], 0), len(free))
		if r == rank {
			return free[:n], max(has[me]-part(rank), 0)
		}
		free = free[n:]
	}
	return nil, 0
}

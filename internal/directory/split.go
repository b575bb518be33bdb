package directory

import (
	"slices"
	"sync/atomic"

	"github.com/belfryhq/belfry/internal/resolve"
)

// Which of the principals in a list are groups does not follow from the list:
// a group may be made, or dropped, after it was named. So a list is cached
// together with the answer and the stamp it was given at, and when groups
// changed since, only the changed ones are asked about again.

// classified says which principals of a list are groups, at a stamp.
type classified struct {
	stamp  uint64
	groups []string // sorted
}

// classifier is the part of a cached list that remembers.
type classifier struct {
	last atomic.Pointer[classified]
}

// groupsOf says which of ids (sorted, unique) are groups now, sorted. What is
// derived from a list keeps the answer it was derived from, and holds while the
// answer is equal.
func (v *View) groupsOf(c *classifier, ids []string) (groups []string, err error) {
	old := c.last.Load()
	ask, base := ids, []string(nil)
	var stamp uint64
	if old == nil {
		stamp = v.t.groupStamp()
	} else {
		var keys []string
		var ok bool
		if keys, stamp, ok = v.t.groupsSince(old.stamp); ok {
			if stamp == old.stamp {
				return old.groups, nil
			}
			base, ask = old.groups, nil
			for _, k := range keys {
				if _, listed := slices.BinarySearch(ids, k); listed && !slices.Contains(ask, k) {
					ask = append(ask, k)
				}
			}
			base = slices.DeleteFunc(slices.Clone(base), func(id string) bool { return slices.Contains(ask, id) })
		}
	}
	groups = base
	for chunk := range slices.Chunk(ask, 2000) {
		known, err := v.rawGroups(chunk)
		if err != nil {
			return nil, err
		}
		for _, id := range chunk {
			if known[id] != nil || resolve.IsPseudo(id) {
				groups = append(groups, id)
			}
		}
	}
	slices.Sort(groups)
	c.last.Store(&classified{stamp, groups})
	return groups, nil
}

package directory

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// key names a cached thing.
type key struct{ tenant, id string }

// slot is a cached value, or the knowledge that there is none.
type slot[V any] struct {
	value  V
	exists bool
}

// cache keeps the most recently used values of one kind, at most limit by
// weight.
//
// The race it must win: a reader asks the database, an edit commits and
// invalidates, the reader comes back with what was true before. So loads
// register before they ask, and an invalidation strikes its key from every
// load under way: what was struck is used by that reader, who asked before the
// edit was in force, and is not kept.
type cache[V any] struct {
	weigh func(V) int
	limit int

	mu    sync.Mutex
	lru   *simplelru.LRU[key, slot[V]]
	total int
	loads map[*load]struct{}
}

// load is a read of the database that is under way.
type load struct {
	tenant string
	struck map[string]struct{} // ids that were invalidated since it began
	all    bool                // so was everything of the tenant
}

func newCache[V any](limit int, weigh func(V) int) *cache[V] {
	c := &cache[V]{weigh: weigh, limit: limit, loads: map[*load]struct{}{}}
	// As many entries as the limit weighs, at most; the error is for sizes
	// below one.
	c.lru, _ = simplelru.NewLRU(max(limit, 1), func(_ key, s slot[V]) { c.total -= c.weight(s) })
	return c
}

func (c *cache[V]) weight(s slot[V]) int {
	if c.weigh == nil || !s.exists {
		return 1
	}
	return c.weigh(s.value)
}

// get looks one up; known is false when the database must be asked.
func (c *cache[V]) get(tenant, id string) (s slot[V], known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lru.Get(key{tenant, id})
}

// many gives those of ids that exist, asking read for all that are not cached
// at once. ids may repeat.
func (c *cache[V]) many(tenant string, ids []string, read func(missing []string) (map[string]V, error)) (map[string]V, error) {
	found := make(map[string]V, len(ids))
	var missing []string
	var asked map[string]struct{}
	c.mu.Lock()
	for _, id := range ids {
		if s, known := c.lru.Get(key{tenant, id}); known {
			if s.exists {
				found[id] = s.value
			}
			continue
		}
		if asked == nil {
			asked = map[string]struct{}{}
		}
		if _, twice := asked[id]; !twice {
			asked[id] = struct{}{}
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		c.mu.Unlock()
		return found, nil
	}
	l := &load{tenant: tenant}
	c.loads[l] = struct{}{}
	c.mu.Unlock()

	values, err := read(missing)

	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loads, l)
	if err != nil {
		return nil, err
	}
	for id, v := range values {
		found[id] = v
	}
	// A batch that would push out most of what others use passes by.
	if l.all || len(missing) > max(c.limit/4, 1) {
		return found, nil
	}
	for _, id := range missing {
		if _, struck := l.struck[id]; struck {
			continue
		}
		v, exists := values[id]
		c.put(key{tenant, id}, slot[V]{v, exists})
	}
	return found, nil
}

// put keeps a value. c.mu is held.
func (c *cache[V]) put(k key, s slot[V]) {
	w := c.weight(s)
	if w > c.limit {
		return // it alone would be everything
	}
	c.lru.Remove(k)
	c.lru.Add(k, s)
	for c.total += w; c.total > c.limit; {
		c.lru.RemoveOldest()
	}
}

// drop invalidates one.
func (c *cache[V]) drop(tenant, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(key{tenant, id})
	for l := range c.loads {
		if l.tenant == tenant && !l.all {
			if l.struck == nil {
				l.struck = map[string]struct{}{}
			}
			l.struck[id] = struct{}{}
		}
	}
}

// dropAll invalidates everything of a tenant.
func (c *cache[V]) dropAll(tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.lru.Keys() {
		if k.tenant == tenant {
			c.lru.Remove(k)
		}
	}
	for l := range c.loads {
		if l.tenant == tenant {
			l.all, l.struck = true, nil
		}
	}
}

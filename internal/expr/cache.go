package expr

import (
	"container/list"
	"hash/maphash"
	"sync"
)

// Cache compiles filters at their first use and keeps the most recently used
// programs, up to a bound. It is safe for concurrent use: each of its parts
// holds its own lock for the time of a look, never while compiling.
type Cache struct {
	seed  maphash.Seed
	parts [16]cachePart
}

type cachePart struct {
	mu      sync.Mutex
	max     int
	entries map[string]*list.Element // of *cacheEntry
	recent  list.List                // front = most recent
}

type cacheEntry struct {
	filter string
	prog   *Program
	err    error
}

// NewCache keeps about max programs, of 5 to 20 KB each.
func NewCache(max int) *Cache {
	c := &Cache{seed: maphash.MakeSeed()}
	for i := range c.parts {
		c.parts[i].max = (max + len(c.parts) - 1) / len(c.parts)
		c.parts[i].entries = make(map[string]*list.Element)
	}
	return c
}

// Get is Compile, remembered; errors are remembered too.
func (c *Cache) Get(filter string) (*Program, error) {
	p := &c.parts[maphash.String(c.seed, filter)%uint64(len(c.parts))]
	p.mu.Lock()
	if el, ok := p.entries[filter]; ok {
		p.recent.MoveToFront(el)
		e := el.Value.(*cacheEntry)
		p.mu.Unlock()
		return e.prog, e.err
	}
	p.mu.Unlock()

	prog, err := Compile(filter) // two at once may both do it: harmless

	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.entries[filter]; !ok {
		p.entries[filter] = p.recent.PushFront(&cacheEntry{filter, prog, err})
		for p.recent.Len() > p.max {
			last := p.recent.Back()
			p.recent.Remove(last)
			delete(p.entries, last.Value.(*cacheEntry).filter)
		}
	}
	return prog, err
}

// Len is the number of programs kept.
func (c *Cache) Len() int {
	n := 0
	for i := range c.parts {
		c.parts[i].mu.Lock()
		n += c.parts[i].recent.Len()
		c.parts[i].mu.Unlock()
	}
	return n
}

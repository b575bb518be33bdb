package expr

import (
	"container/list"
	"hash/maphash"
	"sync"
)

// Cache compiles filters at their first use and keeps the most recently used
// programs, up to a bound. Filters that differ only in literals share one
// program. It is safe for concurrent use: each of its parts holds its own lock
// for the time of a look, never while compiling.
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
	key  string
	prog *Program
	err  error
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

// A key is the text that was compiled after its kind.
const (
	wholeKey = 'w'
	shapeKey = 's'
)

// Eval evaluates a filter, which is compiled if no program for it is kept. The
// error is Compile's.
func (c *Cache) Eval(filter string, v *Vars) (Verdict, error) {
	var room [256]byte
	if key, ok := v.params.shape(filter, append(room[:0], shapeKey)); ok {
		prog, err := c.get(key)
		if err == nil {
			return prog.Eval(v), nil
		}
		// The words of an error are those of the filter as it was written.
	}
	prog, err := c.get(append(append(room[:0], wholeKey), filter...))
	if err != nil {
		return Verdict{}, err
	}
	return prog.Eval(v), nil
}

func (c *Cache) get(key []byte) (*Program, error) {
	p := &c.parts[maphash.Bytes(c.seed, key)%uint64(len(c.parts))]
	p.mu.Lock()
	if el, ok := p.entries[string(key)]; ok {
		p.recent.MoveToFront(el)
		e := el.Value.(*cacheEntry)
		p.mu.Unlock()
		return e.prog, e.err
	}
	p.mu.Unlock()

	e := &cacheEntry{key: string(key)}
	if text := e.key[1:]; e.key[0] == shapeKey { // two at once may both do it: harmless
		e.prog, e.err = compileShape(text)
	} else {
		e.prog, e.err = Compile(text)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.entries[e.key]; !ok {
		p.entries[e.key] = p.recent.PushFront(e)
		for p.recent.Len() > p.max {
			last := p.recent.Back()
			p.recent.Remove(last)
			delete(p.entries, last.Value.(*cacheEntry).key)
		}
	}
	return e.prog, e.err
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

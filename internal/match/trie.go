package match

import (
	"iter"
	"math/bits"
	"slices"
)

// trie is a persistent multimap from 64-bit hashes to elements: with and
// without give a new trie that shares what they do not change. Keys are
// hashes only, so whoever looks up must check that what is found is what was
// meant. Elements are small values, such as pointers; the zero value is none.
// The zero trie is empty.
//
// A node has up to 64 branches, told apart by six bits of the hash; a branch
// is a leaf, all of one hash, or a deeper node.
//
// Every change names its edit. Nodes made by the same edit are changed in
// place, because nobody else has seen them: an edit of many copies each node
// once. Edit 0 copies always.
type trie[E comparable] struct {
	root *node[E]
	n    int
}

type node[E comparable] struct {
	leafMap, kidMap uint64 // which of the 64 branches are leaves, are nodes
	edit            uint64 // that made it
	leaves          []leaf[E]
	kids            []*node[E]
}

// leaf holds what has one hash.
type leaf[E comparable] struct {
	hash uint64
	bag  bag[E]
}

// bag is a persistent set of elements: one, a few in a slice, or many in a
// trie by a second hash, so that adding to a big bag copies little. The zero
// bag is empty.
type bag[E comparable] struct {
	one  E
	more *bagMore[E]
}

type bagMore[E comparable] struct {
	few  []E
	many trie[E]
}

// maxFew is where a slice becomes a trie.
const maxFew = 16

func (b bag[E]) size() int {
	var none E
	switch {
	case b.one != none:
		return 1
	case b.more == nil:
		return 0
	}
	return len(b.more.few) + b.more.many.n
}

// with adds el, whose second hash is h2. second is a function of el for
// turning a slice into a trie; nil keeps a slice, for bags within bags: more
// than a few of one first and one second hash do not happen.
func (b bag[E]) with(edit uint64, el E, second func(E) uint64) bag[E] {
	var none E
	switch {
	case b.one == none && b.more == nil:
		return bag[E]{one: el}
	case b.one != none:
		return bag[E]{more: &bagMore[E]{few: []E{b.one, el}}}
	case b.more.few != nil && (len(b.more.few) < maxFew || second == nil):
		few := make([]E, 0, len(b.more.few)+1)
		return bag[E]{more: &bagMore[E]{few: append(append(few, b.more.few...), el)}}
	}
	many := b.more.many
	for _, x := range b.more.few {
		many = many.with(edit, second(x), x, nil)
	}
	return bag[E]{more: &bagMore[E]{many: many.with(edit, second(el), el, nil)}}
}

func (b bag[E]) without(edit uint64, el E, second func(E) uint64) bag[E] {
	var none E
	switch {
	case b.one != none:
		if b.one == el {
			return bag[E]{}
		}
		return b
	case b.more == nil:
		return b
	case b.more.few != nil:
		i := slices.Index(b.more.few, el)
		switch {
		case i < 0:
			return b
		case len(b.more.few) == 2:
			return bag[E]{one: b.more.few[1-i]}
		}
		few := make([]E, 0, len(b.more.few)-1)
		return bag[E]{more: &bagMore[E]{few: append(append(few, b.more.few[:i]...), b.more.few[i+1:]...)}}
	}
	many := b.more.many.without(edit, second(el), el, nil)
	if many.n > maxFew/2 { // below that a slice again; the gap keeps it from going to and fro
		return bag[E]{more: &bagMore[E]{many: many}}
	}
	few := make([]E, 0, many.n)
	for x := range many.all() {
		few = append(few, x)
	}
	return bag[E]{more: &bagMore[E]{few: few}}
}

// items yields the elements.
func (b bag[E]) items() iter.Seq[E] {
	return func(yield func(E) bool) { b.each(yield) }
}

func (b bag[E]) each(yield func(E) bool) bool {
	var none E
	if b.one != none {
		return yield(b.one)
	}
	if b.more == nil {
		return true
	}
	for _, el := range b.more.few {
		if !yield(el) {
			return false
		}
	}
	return b.more.many.root.each(yield)
}

const (
	stride = 6
	branch = 1<<stride - 1
)

// get is the bag of a hash.
func (t trie[E]) get(h uint64) bag[E] {
	n := t.root
	for shift := 0; n != nil; shift += stride {
		bit := uint64(1) << (h >> shift & branch)
		if n.leafMap&bit != 0 {
			if l := &n.leaves[rank(n.leafMap, bit)]; l.hash == h {
				return l.bag
			}
			return bag[E]{}
		}
		if n.kidMap&bit == 0 {
			return bag[E]{}
		}
		n = n.kids[rank(n.kidMap, bit)]
	}
	return bag[E]{}
}

func rank(m, bit uint64) int { return bits.OnesCount64(m & (bit - 1)) }

// all yields everything, in no order that means anything.
func (t trie[E]) all() iter.Seq[E] {
	return func(yield func(E) bool) { t.root.each(yield) }
}

func (n *node[E]) each(yield func(E) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.leaves {
		if !n.leaves[i].bag.each(yield) {
			return false
		}
	}
	for _, k := range n.kids {
		if !k.each(yield) {
			return false
		}
	}
	return true
}

// own is n itself when edit made it, else a copy that edit may change.
func (n *node[E]) own(edit uint64) *node[E] {
	if edit != 0 && n.edit == edit {
		return n
	}
	return &node[E]{leafMap: n.leafMap, kidMap: n.kidMap, edit: edit, leaves: slices.Clone(n.leaves), kids: slices.Clone(n.kids)}
}

// with adds el under h. second hashes elements for big bags.
func (t trie[E]) with(edit, h uint64, el E, second func(E) uint64) trie[E] {
	return trie[E]{root: t.root.with(edit, 0, h, el, second), n: t.n + 1}
}

func (n *node[E]) with(edit uint64, shift int, h uint64, el E, second func(E) uint64) *node[E] {
	bit := uint64(1) << (h >> shift & branch)
	if n == nil {
		return &node[E]{leafMap: bit, edit: edit, leaves: []leaf[E]{{hash: h, bag: bag[E]{one: el}}}}
	}
	c := n.own(edit)
	switch {
	case c.leafMap&bit != 0:
		i := rank(c.leafMap, bit)
		old := c.leaves[i]
		if old.hash == h {
			c.leaves[i].bag = old.bag.with(edit, el, second)
			return c
		}
		c.leafMap &^= bit
		c.leaves = removed(c.leaves, i)
		c.kidMap |= bit
		deeper := &node[E]{leafMap: 1 << (old.hash >> (shift + stride) & branch), edit: edit, leaves: []leaf[E]{old}}
		c.kids = inserted(c.kids, rank(c.kidMap, bit), deeper.with(edit, shift+stride, h, el, second))
	case c.kidMap&bit != 0:
		i := rank(c.kidMap, bit)
		c.kids[i] = c.kids[i].with(edit, shift+stride, h, el, second)
	default:
		c.leafMap |= bit
		c.leaves = inserted(c.leaves, rank(c.leafMap, bit), leaf[E]{hash: h, bag: bag[E]{one: el}})
	}
	return c
}

// without removes el from under h; it must be there.
func (t trie[E]) without(edit, h uint64, el E, second func(E) uint64) trie[E] {
	return trie[E]{root: t.root.without(edit, 0, h, el, second), n: t.n - 1}
}

func (n *node[E]) without(edit uint64, shift int, h uint64, el E, second func(E) uint64) *node[E] {
	if n == nil {
		return nil
	}
	bit := uint64(1) << (h >> shift & branch)
	c := n.own(edit)
	switch {
	case c.leafMap&bit != 0:
		i := rank(c.leafMap, bit)
		rest := c.leaves[i].bag.without(edit, el, second)
		if rest.size() > 0 {
			c.leaves[i].bag = rest
			return c
		}
		c.leafMap &^= bit
		c.leaves = removed(c.leaves, i)
	case c.kidMap&bit != 0:
		i := rank(c.kidMap, bit)
		kid := c.kids[i].without(edit, shift+stride, h, el, second)
		switch {
		case kid == nil:
			c.kidMap &^= bit
			c.kids = removed(c.kids, i)
		case len(kid.kids) == 0 && len(kid.leaves) == 1: // a lone leaf moves up
			c.kidMap &^= bit
			c.kids = removed(c.kids, i)
			c.leafMap |= bit
			c.leaves = inserted(c.leaves, rank(c.leafMap, bit), kid.leaves[0])
		default:
			c.kids[i] = kid
		}
	}
	if len(c.leaves) == 0 && len(c.kids) == 0 {
		return nil
	}
	return c
}

// swap puts el in the place of old under h, where old must be the one element.
func (t trie[E]) swap(edit, h uint64, el E) trie[E] {
	return trie[E]{root: t.root.swap(edit, 0, h, el), n: t.n}
}

func (n *node[E]) swap(edit uint64, shift int, h uint64, el E) *node[E] {
	bit := uint64(1) << (h >> shift & branch)
	c := n.own(edit)
	if c.leafMap&bit != 0 {
		c.leaves[rank(c.leafMap, bit)].bag = bag[E]{one: el}
		return c
	}
	i := rank(c.kidMap, bit)
	c.kids[i] = c.kids[i].swap(edit, shift+stride, h, el)
	return c
}

// inserted and removed copy to slices without spare room: they are kept.
func inserted[E any](s []E, i int, e E) []E {
	out := make([]E, len(s)+1)
	copy(out, s[:i])
	out[i] = e
	copy(out[i+1:], s[i:])
	return out
}

func removed[E any](s []E, i int) []E {
	if len(s) == 1 {
		return nil
	}
	out := make([]E, len(s)-1)
	copy(out, s[:i])
	copy(out[i:], s[i+1:])
	return out
}

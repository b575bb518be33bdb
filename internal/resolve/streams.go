package resolve

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// A stream yields principals in ascending order, each with the sources that
// name it. All streams of a page are merged, so whatever names one person
// comes together however many people there are.
type stream interface {
	// seek goes to the first principal after after and reports whether
	// there is one.
	seek(after string) (bool, error)
	// next goes to the following one.
	next() (bool, error)
	// find goes to one principal and reports whether it is there.
	find(id string) bool
	// key is the principal the stream stands on; only after true.
	key() string
	// hits adds to the entry what names key. It may add nothing.
	hits(r *run, e *entry)
}

// entry is one principal of a page and everything that names it.
type entry struct {
	id      string
	sources []int32 // while it is gathered; then set
	set     *combo  // what these amount to
	joins   []join  // joins of her own that apply here
	outs    []int   // matches whose subscription she opted out of
}

// gathered ends an entry; false when nothing names it. Its sources are written
// where those of the next one will be.
func (r *run) gathered(e *entry) bool {
	if r.scratch = e.sources[:0]; len(e.sources) == 0 {
		return false
	}
	slices.Sort(e.sources)
	e.set = r.setOf(slices.Compact(e.sources))
	e.sources = nil
	return true
}

type join struct {
	match  int
	member *belfry.Member
}

// pair names one principal by one source.
type pair struct {
	id     string
	source int32
}

// pairStream yields principals that rules name one by one.
type pairStream struct {
	pairs []pair
	pos   int
}

func newPairStream(pairs []pair) *pairStream {
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(strings.Compare(a.id, b.id), cmp.Compare(a.source, b.source))
	})
	return &pairStream{pairs: pairs}
}

func (s *pairStream) seek(after string) (bool, error) {
	s.pos = sort.Search(len(s.pairs), func(i int) bool { return s.pairs[i].id > after })
	return s.pos < len(s.pairs), nil
}

func (s *pairStream) next() (bool, error) {
	id := s.pairs[s.pos].id
	for s.pos < len(s.pairs) && s.pairs[s.pos].id == id {
		s.pos++
	}
	return s.pos < len(s.pairs), nil
}

func (s *pairStream) key() string { return s.pairs[s.pos].id }

func (s *pairStream) hits(_ *run, e *entry) {
	for i := s.pos; i < len(s.pairs) && s.pairs[i].id == e.id; i++ {
		e.sources = append(e.sources, s.pairs[i].source)
	}
}

// groupStream yields the direct members of one group, for every rule that
// reaches the group.
type groupStream struct {
	ids     []string
	pos     int
	sources []int32
}

func (s *groupStream) seek(after string) (bool, error) {
	s.pos = sort.Search(len(s.ids), func(i int) bool { return s.ids[i] > after })
	return s.pos < len(s.ids), nil
}

func (s *groupStream) next() (bool, error) { s.pos++; return s.pos < len(s.ids), nil }
func (s *groupStream) key() string         { return s.ids[s.pos] }

func (s *groupStream) hits(_ *run, e *entry) { e.sources = append(e.sources, s.sources...) }

// grantStream yields the users with grants on one object, for every role rule
// that looks there.
type grantStream struct {
	object string
	grants []belfry.Grant
	pos    int
	roles  map[string][]*roleUse
}

// roleUse is a role rule looking for one role on one object.
type roleUse struct {
	match, rule int
	object      string
	role        string
	level       int            // steps from where the rule looks up to object
	deny        *belfry.Reason // why grants here do not count for the rule; nil = they do
	source      int32          // made at the first hit; -1 before
	inactive    map[string]int32
}

func (s *grantStream) seek(after string) (bool, error) {
	s.pos = sort.Search(len(s.grants), func(i int) bool { return s.grants[i].Principal > after })
	return s.wanted(), nil
}

// wanted moves over grants of roles nobody asks for.
func (s *grantStream) wanted() bool {
	for ; s.pos < len(s.grants); s.pos++ {
		if len(s.roles[s.grants[s.pos].Role]) > 0 {
			return true
		}
	}
	return false
}

func (s *grantStream) next() (bool, error) {
	id := s.grants[s.pos].Principal
	for s.pos < len(s.grants) && s.grants[s.pos].Principal == id {
		s.pos++
	}
	return s.wanted(), nil
}

func (s *grantStream) key() string { return s.grants[s.pos].Principal }

func (s *grantStream) hits(r *run, e *entry) {
	for i := s.pos; i < len(s.grants) && s.grants[i].Principal == e.id; i++ {
		g := &s.grants[i]
		uses := s.roles[g.Role]
		if len(uses) == 0 {
			continue
		}
		inactive := g.InactiveAt(r.now)
		for _, u := range uses {
			e.sources = append(e.sources, r.roleSource(u, inactive))
		}
	}
}

// memberChunk is how many members are read at once at most: a subscription's
// million members pass through a buffer of this size. A short page reads no more
// than it holds, and one to tell whether it is the last.
const memberChunk = 1000

func chunkOf(limit int) int { return min(memberChunk, limit+1) }

// memberStream yields the users who joined one subscription.
type memberStream struct {
	dir          Directory
	chunk        int
	match        int
	subscription string
	buf          []belfry.Member
	pos          int
	groups       map[string]bool // joined groups: expanded elsewhere
	here         map[string]int32
	elsewhere    map[string]int32
}

func (s *memberStream) seek(after string) (bool, error) {
	var err error
	s.pos = 0
	s.buf, err = s.dir.Members(s.subscription, after, s.chunk)
	return len(s.buf) > 0, err
}

func (s *memberStream) next() (bool, error) {
	id := s.buf[s.pos].Principal
	for s.pos < len(s.buf) && s.buf[s.pos].Principal == id {
		s.pos++
	}
	if s.pos < len(s.buf) {
		return true, nil
	}
	return s.seek(id)
}

func (s *memberStream) key() string { return s.buf[s.pos].Principal }

func (s *memberStream) hits(r *run, e *entry) {
	if s.groups[e.id] {
		return
	}
	// Several joins of one person: the closest to the event's object holds,
	// one for the whole scope only when no other does.
	var best *belfry.Member
	bestAt := len(r.chain) + 1
	for i := s.pos; i < len(s.buf) && s.buf[i].Principal == e.id; i++ {
		m := &s.buf[i]
		at, ok := r.joinedAt(m)
		if ok && at < bestAt {
			best, bestAt = m, at
		}
	}
	if best == nil {
		for i := s.pos; i < len(s.buf) && s.buf[i].Principal == e.id; i++ {
			e.sources = append(e.sources, r.joinSource(s, s.buf[i].Object, true))
		}
		return
	}
	member := *best // the buffer is read anew for the next chunk
	e.sources = append(e.sources, r.joinSource(s, best.Object, false))
	e.joins = append(e.joins, join{s.match, &member})
}

// optOutStream goes along with the others and marks who opted out of one
// subscription. It names nobody.
type optOutStream struct {
	dir          Directory
	chunk        int
	match        int
	subscription string
	buf          []belfry.OptOut
	pos          int
}

func (s *optOutStream) seek(after string) (bool, error) {
	var err error
	s.pos = 0
	s.buf, err = s.dir.OptOuts(s.subscription, after, s.chunk)
	return len(s.buf) > 0, err
}

func (s *optOutStream) next() (bool, error) {
	s.pos++
	if s.pos < len(s.buf) {
		return true, nil
	}
	return s.seek(s.buf[s.pos-1].Who)
}

func (s *optOutStream) key() string { return s.buf[s.pos].Who }

func (s *optOutStream) hits(_ *run, e *entry) { e.outs = append(e.outs, s.match) }

// has reports whether who opted out. Asking in ascending order reads on from
// where the last answer was found.
func (s *optOutStream) has(who string) (bool, error) {
	if who == "" {
		return false, nil
	}
	if s.pos >= len(s.buf) || s.buf[s.pos].Who > who || s.buf[len(s.buf)-1].Who < who {
		_, last := utf8.DecodeLastRuneInString(who)
		if ok, err := s.seek(who[:len(who)-last]); !ok || err != nil { // shorter, so before it
			return false, err
		}
	}
	for s.key() < who {
		if ok, err := s.next(); !ok || err != nil {
			return false, err
		}
	}
	return s.key() == who, nil
}

// everyoneStream yields every active user, for the pseudo groups.
type everyoneStream struct {
	dir     Directory
	chunk   int
	buf     []string
	pos     int
	sources []int32
}

func (s *everyoneStream) seek(after string) (bool, error) {
	var err error
	s.pos = 0
	s.buf, err = s.dir.UserIDs(after, s.chunk)
	return len(s.buf) > 0, err
}

func (s *everyoneStream) next() (bool, error) {
	s.pos++
	if s.pos < len(s.buf) {
		return true, nil
	}
	return s.seek(s.buf[s.pos-1])
}

func (s *everyoneStream) key() string { return s.buf[s.pos] }

func (s *everyoneStream) hits(_ *run, e *entry) { e.sources = append(e.sources, s.sources...) }

// collect merges all streams and gives up to limit principals after after,
// ascending, and whether there may be more.
func (r *run) collect(after string, limit int) (entries []entry, more bool, err error) {
	h := mergeHeap{}
	for _, s := range r.streams {
		ok, err := s.seek(after)
		if err != nil {
			return nil, false, err
		}
		if ok {
			h = append(h, head{s.key(), s})
		}
	}
	h.init()
	budget := limit * hitsPerPerson
	for len(h) > 0 && len(entries) < limit && budget > 0 {
		e := entry{id: h[0].key, sources: r.scratch}
		for len(h) > 0 && h[0].key == e.id {
			h[0].s.hits(r, &e)
			ok, err := h[0].s.next()
			if err != nil {
				return nil, false, err
			}
			if ok {
				h[0].key = h[0].s.key()
			} else {
				h[0] = h[len(h)-1]
				h = h[:len(h)-1]
			}
			h.down(0)
		}
		if r.gathered(&e) {
			budget -= len(e.set.sources)
			entries = append(entries, e)
		}
	}
	return entries, len(h) > 0, nil
}

// mergeHeap is a binary heap of streams by their keys. container/heap would
// cost an interface call for each comparison of the hottest loop here.
type mergeHeap []head

type head struct {
	key string
	s   stream
}

func (h mergeHeap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h mergeHeap) down(i int) {
	for {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if right := least + 1; right < len(h) && h[right].key < h[least].key {
			least = right
		}
		if h[i].key <= h[least].key {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

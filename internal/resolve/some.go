package resolve

import (
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Among is a Directory that finds those who are asked for among however many
// there are. Names may repeat; answers are in the order of Members, OptOuts and
// UserIDs, and whole.
type Among interface {
	Directory
	MembersAmong(subscription string, who []string) ([]belfry.Member, error)
	OptOutsAmong(subscription string, who []string) ([]belfry.OptOut, error)
}

// Some resolves many recipients of e, each a user or a bare address (normalised),
// as Only resolves each of them: the rules are laid out once, and what is read of
// people is read of all together. Whom nothing names has an empty result.
func Some(dir Among, e *belfry.Accepted, matches []belfry.Match, typ belfry.EventType, now time.Time, who []string) (map[string]PageResult, error) {
	r := &run{dir: dir, acc: e, e: e.Event, matches: matches, typ: typ, now: now, chunk: chunkOf(onlyChunk)}
	if err := r.compile(); err != nil {
		return nil, err
	}
	who = slices.Clone(who)
	slices.Sort(who)
	who = slices.DeleteFunc(slices.Compact(who), func(id string) bool { return id == "" })
	for _, s := range r.streams {
		if s, reads := s.(chooser); reads {
			if err := s.choose(dir, who); err != nil {
				return nil, err
			}
		}
	}
	entries, named := make([]entry, 0, len(who)), []string(nil)
	for _, id := range who {
		e := entry{id: id, sources: r.scratch}
		for _, s := range r.streams {
			if s.find(id) {
				s.hits(r, &e)
			}
		}
		if r.gathered(&e) {
			entries = append(entries, e)
			if len(r.made(e.set).live) > 0 {
				named = append(named, id)
			}
		}
	}
	var persons map[string]*belfry.Person
	if len(named) > 0 {
		var err error
		if persons, err = dir.Persons(named); err != nil {
			return nil, err
		}
	}
	out := make(map[string]PageResult, len(who))
	for _, id := range who {
		p := PageResult{Ancestors: r.chain, Persons: map[string]*belfry.Person{}, Next: cursorEnd, Last: true}
		if address := belfry.NormaliseEmail(id); len(r.addresses[address]) > 0 {
			r.tellAddress(&p, address)
		}
		if len(entries) > 0 && entries[0].id == id {
			r.tellPerson(&p, &entries[0], entries[0].set, persons[id])
			entries = entries[1:]
		}
		out[id] = p
	}
	return out, nil
}

// chooser is a stream that can be had of some people only.
type chooser interface {
	choose(dir Among, who []string) error
}

func (s *memberStream) choose(dir Among, who []string) (err error) {
	s.buf, err = dir.MembersAmong(s.subscription, who)
	return err
}

func (s *optOutStream) choose(dir Among, who []string) (err error) {
	s.buf, err = dir.OptOutsAmong(s.subscription, who)
	return err
}

func (s *everyoneStream) choose(dir Among, who []string) error {
	people, err := dir.Persons(who)
	for _, id := range who {
		if p := people[id]; p != nil && p.User.State == belfry.UserActive {
			s.buf = append(s.buf, id)
		}
	}
	return err
}

// find goes to a principal and reports whether the stream has it: of those that
// read as they go, among whom was chosen.

func (s *pairStream) find(id string) bool {
	s.pos = sort.Search(len(s.pairs), func(i int) bool { return s.pairs[i].id >= id })
	return s.pos < len(s.pairs) && s.pairs[s.pos].id == id
}

func (s *groupStream) find(id string) (found bool) {
	s.pos, found = slices.BinarySearch(s.ids, id)
	return found
}

func (s *grantStream) find(id string) (found bool) {
	s.pos, found = slices.BinarySearchFunc(s.grants, id, func(g belfry.Grant, id string) int { return strings.Compare(g.Principal, id) })
	return found
}

func (s *memberStream) find(id string) (found bool) {
	s.pos, found = slices.BinarySearchFunc(s.buf, id, func(m belfry.Member, id string) int { return strings.Compare(m.Principal, id) })
	return found
}

func (s *optOutStream) find(id string) (found bool) {
	s.pos, found = slices.BinarySearchFunc(s.buf, id, func(o belfry.OptOut, id string) int { return strings.Compare(o.Who, id) })
	return found
}

func (s *everyoneStream) find(id string) (found bool) {
	s.pos, found = slices.BinarySearch(s.buf, id)
	return found
}

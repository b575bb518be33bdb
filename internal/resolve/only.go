package resolve

import (
	"time"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// onlyChunk is how many principals are looked at once on the way to one.
const onlyChunk = 64

// Only resolves one recipient of e as Page resolves all: a user, a bare address
// (normalised), or an endpoint. The result has one page; nobody is in it whom
// nothing names.
func Only(dir Directory, e *belfry.Accepted, matches []belfry.Match, typ belfry.EventType, now time.Time, to *belfry.Replay) (PageResult, error) {
	r := &run{dir: dir, acc: e, e: e.Event, matches: matches, typ: typ, now: now, chunk: chunkOf(onlyChunk)}
	if err := r.compile(); err != nil {
		return PageResult{}, err
	}
	out := PageResult{Ancestors: r.chain, Persons: map[string]*belfry.Person{}, Next: cursorEnd, Last: true}
	if _, called := r.endpoints[to.Endpoint]; called && to.Endpoint != "" {
		r.tellEndpoint(&out, to.Endpoint)
	}
	if to.Recipient == "" {
		return out, nil
	}
	if address := belfry.NormaliseEmail(to.Recipient); len(r.addresses[address]) > 0 {
		r.tellAddress(&out, address)
	}
	_, last := utf8.DecodeLastRuneInString(to.Recipient)
	after := to.Recipient[:len(to.Recipient)-last] // shorter, so before it
	for {
		entries, more, err := r.collect(after, onlyChunk)
		if err != nil {
			return PageResult{}, err
		}
		for i := range entries {
			switch id := entries[i].id; {
			case id == to.Recipient:
				return out, r.tellPeople(&out, entries[i:i+1])
			case id > to.Recipient:
				return out, nil
			}
		}
		if !more || len(entries) == 0 {
			return out, nil
		}
		after = entries[len(entries)-1].id
	}
}

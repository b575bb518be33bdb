package resolve

import (
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// PageResult is what one page of an event's recipients holds.
type PageResult struct {
	// Recipients are endpoints, then addresses, then principals, each sorted.
	// A principal has one entry, and one more for each subscription that asks
	// to be kept apart (merge false). Via may be shared between recipients:
	// read only.
	Recipients []belfry.Recipient
	Dropped    []belfry.Dropped
	// Persons are the users among Recipients.
	Persons map[string]*belfry.Person
	// Ancestors of the event's object, itself first and the root last.
	Ancestors []belfry.Object
	Next      string // cursor of the next page; opaque
	Last      bool   // there is no next page
}

// Cursors: where the last page ended. They are opaque to everybody else; the
// prefixes keep ids of the three kinds apart.
const (
	cursorEndpoints = "!endpoints/"
	cursorAddresses = "!addresses/"
	cursorPeople    = "people/"
	cursorEnd       = "~end"
)

const (
	phaseEndpoints = iota
	phaseAddresses
	phasePeople
	phaseEnd
)

func parseCursor(cursor string) (phase int, after string, err error) {
	if cursor == "" {
		return phaseEndpoints, "", nil
	}
	if s, ok := strings.CutPrefix(cursor, cursorEndpoints); ok {
		return phaseEndpoints, s, nil
	}
	if s, ok := strings.CutPrefix(cursor, cursorAddresses); ok {
		return phaseAddresses, s, nil
	}
	if s, ok := strings.CutPrefix(cursor, cursorPeople); ok {
		return phasePeople, s, nil
	}
	if cursor == cursorEnd {
		return phaseEnd, "", nil
	}
	return 0, "", belfry.Errorf(belfry.Internal, "the plan's cursor %q is not one that resolution gave out", cursor)
}

// hitsPerPerson bounds a page where very many rules name the same people: it
// ends early when it has limit times this number of namings.
const hitsPerPerson = 256

// Page resolves one page of the recipients of e: those after cursor ("" at the
// beginning, then PageResult.Next), at most limit of them (0 or more than
// MaxPage = MaxPage). Most events have one page. typ is the catalogue's entry of
// the event's type, the zero value when there is none; now decides which grants
// are valid. Errors are those of dir.
func Page(dir Directory, e *belfry.Accepted, matches []belfry.Match, typ belfry.EventType, now time.Time, cursor string, limit int) (PageResult, error) {
	phase, after, err := parseCursor(cursor)
	if err != nil {
		return PageResult{}, err
	}
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	r := &run{dir: dir, acc: e, e: e.Event, matches: matches, typ: typ, now: now, chunk: chunkOf(limit)}
	if err := r.compile(); err != nil {
		return PageResult{}, err
	}
	out := PageResult{Ancestors: r.chain, Persons: map[string]*belfry.Person{}}
	if phase == phaseEnd {
		out.Next, out.Last = cursorEnd, true
		return out, nil
	}
	if cursor == "" && len(r.faults) > 0 {
		out.Dropped = append(out.Dropped, belfry.Dropped{Because: r.faults})
	}
	used := 0
	if phase == phaseEndpoints {
		for _, id := range sortedAfter(r.endpoints, after) {
			if used == limit {
				return out, nil
			}
			r.tellEndpoint(&out, id)
			used++
			out.Next = cursorEndpoints + id
		}
		phase, after = phaseAddresses, ""
	}
	if phase == phaseAddresses {
		for _, address := range sortedAfter(r.addresses, after) {
			if used == limit {
				return out, nil
			}
			r.tellAddress(&out, address)
			used++
			out.Next = cursorAddresses + address
		}
		after = ""
	}
	if used == limit {
		return out, nil
	}
	entries, more, err := r.collect(after, limit-used)
	if err != nil {
		return PageResult{}, err
	}
	if err := r.tellPeople(&out, entries); err != nil {
		return PageResult{}, err
	}
	if n := len(entries); n > 0 {
		out.Next = cursorPeople + entries[n-1].id
	}
	if !more {
		out.Next, out.Last = cursorEnd, true
	}
	return out, nil
}

func sortedAfter[V any](m map[string]V, after string) []string {
	var ids []string
	for id := range m {
		if id > after {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

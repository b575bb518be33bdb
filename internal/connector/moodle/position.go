package moodle

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"
)

// position is how far the log was read. Rows up to High were handed, except
// those in Gaps: ids that were not there when a higher one was seen, because
// another request's transaction has them or because they never will be.
type position struct {
	High int64 `json:"high"`
	Gaps []gap `json:"gaps,omitempty"` // ascending, none touching another
	// Newest is the newest timecreated that was seen, but never beyond the
	// clock: a row from the future must not make all others look restored.
	Newest int64 `json:"newest,omitempty"`
}

// gap is a range of ids, both ends included, that is waited for since Since
// (unknown after a restart: then the wait begins again).
type gap struct {
	From  int64     `json:"from"`
	To    int64     `json:"to"`
	Since time.Time `json:"-"`
}

// maxGaps bounds the ranges that are waited for; beyond, the oldest are given
// up. A cluster whose servers count in steps has one after every row.
const maxGaps = 2000

// see notes that row id was read. Ids that are missing before it may still
// come when they are above live; others are taken as never there.
func (p *position) see(id int64, now time.Time, live int64) {
	if id > p.High {
		if from := max(p.High, live) + 1; from < id {
			p.Gaps = append(p.Gaps, gap{From: from, To: id - 1, Since: now})
		}
		p.High = id
	} else {
		i := sort.Search(len(p.Gaps), func(i int) bool { return p.Gaps[i].To >= id })
		if i < len(p.Gaps) && p.Gaps[i].From <= id {
			g := p.Gaps[i]
			var parts []gap
			if g.From < id {
				parts = append(parts, gap{g.From, id - 1, g.Since})
			}
			if id < g.To {
				parts = append(parts, gap{id + 1, g.To, g.Since})
			}
			p.Gaps = slices.Replace(p.Gaps, i, i+1, parts...)
		}
	}
	if over := len(p.Gaps) - maxGaps; over > 0 {
		p.Gaps = slices.Delete(p.Gaps, 0, over)
	}
}

// wants reports whether row id was not read yet.
func (p *position) wants(id int64) bool {
	if id > p.High {
		return true
	}
	i := sort.Search(len(p.Gaps), func(i int) bool { return p.Gaps[i].To >= id })
	return i < len(p.Gaps) && p.Gaps[i].From <= id
}

// close gives up the gaps that were waited for longer than window.
func (p *position) close(now time.Time, window time.Duration) {
	p.Gaps = slices.DeleteFunc(p.Gaps, func(g gap) bool { return now.Sub(g.Since) > window })
}

// clone is a copy that shares nothing.
func (p *position) clone() position {
	c := *p
	c.Gaps = slices.Clone(p.Gaps)
	return c
}

// cursor is what is kept in the store: the position, and short digests of the
// directory as it was handed, so that a restart hands only what changed.
type cursor struct {
	V int `json:"v"`
	position
	Folds [kinds][]byte `json:"folds"`           // see tables.folds
	Last  [kinds]int64  `json:"last"`            // the highest id of each kind that was handed
	Types uint32        `json:"types,omitempty"` // digest of the catalogue that was handed
	Fresh []string      `json:"fresh,omitempty"` // types that were learned from rows
}

const cursorVersion = 1

func (c cursor) encode() ([]byte, error) {
	c.V = cursorVersion
	return json.Marshal(c)
}

func decodeCursor(raw []byte, now time.Time) (cursor, error) {
	var c cursor
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("the stored cursor cannot be read: %w", err)
	}
	if c.V != cursorVersion {
		return c, fmt.Errorf("the stored cursor is of form %d and this version reads form %d; it was written by a newer version", c.V, cursorVersion)
	}
	for i := range c.Gaps {
		c.Gaps[i].Since = now
	}
	return c, nil
}

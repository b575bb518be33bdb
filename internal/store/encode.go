package store

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	experiment "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/belfryhq/belfry/internal/belfry"
)

// clean refuses text that PostgreSQL cannot keep, on both engines alike and
// before it meets other callers' rows.
func clean(texts ...string) error {
	for _, t := range texts {
		if strings.IndexByte(t, 0) >= 0 {
			return belfry.Errorf(belfry.Invalid, "%q contains a NUL character: remove it", short(t))
		}
		if !utf8.ValidString(t) {
			return belfry.Errorf(belfry.Invalid, "%q is not valid UTF-8: send UTF-8", short(t))
		}
	}
	return nil
}

func short(t string) string {
	if len(t) > 80 {
		return t[:80] + "…"
	}
	return t
}

// scribe writes the JSON of reasons by hand, into pages it gives out as
// strings: door 2 writes tens of thousands of them a second. The result is
// what encoding/json would write for the same value.
type scribe struct {
	page []byte
	last []belfry.Reason // and what was written for them: everybody of a group has the same
	text string
}

const scribePage = 64 << 10

// reasons is the JSON array of rs, which nobody changes afterwards.
func (w *scribe) reasons(rs []belfry.Reason) string {
	if len(rs) == 0 || len(rs) != len(w.last) || &rs[0] != &w.last[0] {
		w.last, w.text = rs, w.array(rs)
	}
	return w.text
}

func (w *scribe) array(rs []belfry.Reason) string {
	return w.write(func(b []byte) []byte { return appendReasons(b, rs) })
}

// reason is the JSON of r, empty without one.
func (w *scribe) reason(r *belfry.Reason) string {
	if r == nil {
		return ""
	}
	return w.write(func(b []byte) []byte { return appendReason(b, r) })
}

// notes is the JSON array of match notes. Reasons that all name the note's own
// subscription, as matching writes them, are "own" and leave it out: that halves
// what an event that a thousand subscriptions want writes about them.
func (w *scribe) notes(notes []belfry.MatchNote) string {
	return w.write(func(b []byte) []byte {
		b = append(b, '[')
		for i := range notes {
			if i > 0 {
				b = append(b, ',')
			}
			n := &notes[i]
			b = append(b, `{"subscription":`...)
			b = appendText(b, n.Subscription)
			if ownReasons(n) {
				b = append(b, `,"own":[`...)
				for k := range n.Because {
					if k > 0 {
						b = append(b, ',')
					}
					r := n.Because[k]
					r.Subscription = ""
					b = appendReason(b, &r)
				}
				b = append(b, "]}"...)
				continue
			}
			b = append(b, `,"because":`...)
			b = append(appendReasons(b, n.Because), '}')
		}
		return append(b, ']')
	})
}

// readEvent reads an event's body, which a digest does for each of its items: by
// the library that becomes encoding/json, in half the time. What was accepted
// stays readable: it checks no more than the library that wrote the body does.
func readEvent(a *belfry.Accepted) error {
	a.Event = new(belfry.Event)
	if err := experiment.Unmarshal(a.Body, a.Event, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return belfry.Errorf(belfry.Internal, "event %s cannot be read back: %w", a.EventID, err)
	}
	return nil
}

func ownReasons(n *belfry.MatchNote) bool {
	return n.Subscription != "" && len(n.Because) > 0 &&
		!slices.ContainsFunc(n.Because, func(r belfry.Reason) bool { return r.Subscription != n.Subscription })
}

// readNotes is the inverse of scribe.notes.
func readNotes(text string) ([]belfry.MatchNote, error) {
	var stored []struct {
		belfry.MatchNote
		Own []belfry.Reason `json:"own"`
	}
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return nil, err
	}
	notes := make([]belfry.MatchNote, len(stored))
	for i := range stored {
		for k := range stored[i].Own {
			stored[i].Own[k].Subscription = stored[i].Subscription
		}
		if notes[i] = stored[i].MatchNote; stored[i].Own != nil {
			notes[i].Because = stored[i].Own
		}
	}
	return notes, nil
}

// write appends to the current page and gives what was appended. A string is
// copied out, because a page lives as long as any string in it would.
func (w *scribe) write(put func([]byte) []byte) string {
	w.page = put(w.page[:0])
	out := string(w.page)
	if cap(w.page) > scribePage {
		w.page = nil
	}
	return out
}

func appendReasons(b []byte, rs []belfry.Reason) []byte {
	b = append(b, '[')
	for i := range rs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendReason(b, &rs[i])
	}
	return append(b, ']')
}

func appendReason(b []byte, r *belfry.Reason) []byte {
	b = append(b, `{"code":`...)
	b = appendText(b, r.Code)
	b = appendField(b, `,"subscription":`, r.Subscription)
	if r.Rule != 0 {
		b = append(b, `,"rule":`...)
		b = strconv.AppendInt(b, int64(r.Rule), 10)
	}
	b = appendField(b, `,"object":`, r.Object)
	b = appendField(b, `,"role":`, r.Role)
	b = appendField(b, `,"group":`, r.Group)
	b = appendField(b, `,"detail":`, r.Detail)
	return append(b, '}')
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, name...), value)
}

// appendText appends t as a JSON string.
func appendText(b []byte, t string) []byte {
	for i := range len(t) {
		if c := t[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(t)
			if err != nil {
				return append(b, `""`...) // cannot happen for a string
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, t...)
	return append(b, '"')
}

// readReasons is the inverse of scribe.reasons, with the reason of the end
// after the others.
func readReasons(because, ended string) ([]belfry.Reason, error) {
	var rs []belfry.Reason
	because, err := unpack(because)
	if err != nil {
		return nil, err
	}
	if because != "" && because != "[]" {
		if err := json.Unmarshal([]byte(because), &rs); err != nil {
			return nil, err
		}
	}
	if ended != "" {
		var r belfry.Reason
		if err := json.Unmarshal([]byte(ended), &r); err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// knownReasons remembers what reasons were read from which text: one subscription
// tells each recipient of each event for the same reasons, and reading them costs
// as much as the row does. What it gives is shared: nobody changes it.
type knownReasons struct {
	mu     sync.RWMutex
	by     map[string][]belfry.Reason
	packed map[string][]belfry.Reason
}

// Bounds of knownReasons; when it is full it begins anew.
const (
	maxKnownReasons = 2048
	maxKnownText    = 512
)

func (k *knownReasons) read(because, ended string) ([]belfry.Reason, error) {
	switch {
	case ended == "" && because != "" && because[0] == packMark:
		return k.from(&k.packed, maxKnownPacked, because)
	case ended != "", len(because) > maxKnownText:
		return readReasons(because, ended)
	}
	return k.from(&k.by, maxKnownReasons, because)
}

// from reads reasons through one of the maps of known texts.
func (k *knownReasons) from(known *map[string][]belfry.Reason, most int, because string) ([]belfry.Reason, error) {
	k.mu.RLock()
	rs, ok := (*known)[because]
	k.mu.RUnlock()
	if ok {
		return rs, nil
	}
	rs, err := readReasons(because, "")
	if err != nil {
		return nil, err
	}
	rs = slices.Clip(rs)
	k.mu.Lock()
	defer k.mu.Unlock()
	if *known == nil || len(*known) >= most {
		*known = make(map[string][]belfry.Reason)
	}
	(*known)[because] = rs
	return rs, nil
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}

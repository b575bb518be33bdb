package store

import (
	"cmp"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Whom a hundred subscriptions name has a hundred reasons, and thousands beside
// her have the same. Such lists are stored once an event, in reasons, and rows
// say where: shareMark, which begins no JSON, and a hash. There the text is
// compressed, since reasons are nearly alike: packMark and base64 of the
// deflated text.
const (
	shareFrom = 2 << 10 // bytes of text that are worth a row of their own
	shareMany = 16      // reasons; fewer are hardly ever so long
	shareMark = '='
	packMark  = '~'
	// Lists that a transaction writes again and again, and texts that are read so.
	maxShared      = 1024
	maxKnownPacked = 64
	maxUnpacked    = 16 << 20
)

// shared are the long lists of reasons of a transaction.
type shared struct {
	by   map[sharedKey]string // what rows say
	rows []sharedReasons      // to be written
	z    *flate.Writer
	out  strings.Builder
}

// sharedKey tells lists apart by where they lie: nobody changes them while the
// transaction runs.
type sharedKey struct {
	tenant, event string
	first         *belfry.Reason
	n             int
}

type sharedReasons struct{ tenant, event, id, text string }

// because is what a row of an event says for reasons: their JSON, or where they
// are when they are many. What it names is written by flushShared.
func (s *session) because(tenant, event string, rs []belfry.Reason) string {
	if len(rs) < shareMany || !strings.HasPrefix(event, belfry.EventPrefix) { // a digest has a few of its own
		return s.scribe.reasons(rs)
	}
	key := sharedKey{tenant, event, &rs[0], len(rs)}
	text, ok := s.shared.by[key]
	if ok {
		return text
	}
	if text = s.scribe.array(rs); len(text) >= shareFrom {
		sum := sha256.Sum256([]byte(text))
		row := sharedReasons{tenant, event, string(shareMark) + base64.RawURLEncoding.EncodeToString(sum[:12]), ""}
		row.text, text = s.shared.pack(text), row.id
		s.shared.rows = append(s.shared.rows, row)
	}
	if s.shared.by == nil || len(s.shared.by) >= maxShared {
		s.shared.by = map[sharedKey]string{}
	}
	s.shared.by[key] = text
	return text
}

var insertReasons = insert("reasons", "tenant:t event_id:t id:t because:t", "ON CONFLICT DO NOTHING")

// flushShared writes the lists that rows of the transaction name. It comes
// last, and in order, so that transactions that write the same ones do not wait
// for each other in a circle.
func (s *session) flushShared() error {
	list := s.shared.rows
	slices.SortFunc(list, func(a, b sharedReasons) int {
		return cmp.Or(strings.Compare(a.tenant, b.tenant), strings.Compare(a.event, b.event), strings.Compare(a.id, b.id))
	})
	rows := s.rows(insertReasons)
	for _, r := range list {
		rows.text(r.tenant).text(r.event).text(r.id).text(r.text)
	}
	_, err := rows.flush()
	return err
}

// forget lets go of the lists: others may come to lie where they were.
func (p *shared) forget() {
	p.by = nil
	clear(p.rows)
	p.rows = p.rows[:0]
}

// becauseOf is the SQL of what rows of a table (or its alias) say for reasons,
// with those that are shared in place of where they are.
func becauseOf(table string) string {
	return strings.ReplaceAll(`CASE WHEN t.because >= '=' AND t.because < '>' THEN
		COALESCE((SELECT r.because FROM reasons r WHERE r.tenant = t.tenant AND r.event_id = t.event_id AND r.id = t.because), '') ELSE t.because END`, "t.", table+".")
}

func (p *shared) pack(text string) string {
	p.out.Reset()
	p.out.WriteByte(packMark)
	to := base64.NewEncoder(base64.RawStdEncoding, &p.out)
	if p.z == nil {
		p.z, _ = flate.NewWriter(to, flate.BestSpeed) // the level is one there is
	} else {
		p.z.Reset(to)
	}
	// A Builder does not fail, and these have no errors of their own.
	_, _ = io.WriteString(p.z, text)
	_ = p.z.Close()
	_ = to.Close()
	return p.out.String()
}

// unpack is the text that pack was given; what is not packed stays as it is.
func unpack(text string) (string, error) {
	if text == "" || text[0] != packMark {
		return text, nil
	}
	from := flate.NewReader(base64.NewDecoder(base64.RawStdEncoding, strings.NewReader(text[1:])))
	var out strings.Builder
	if _, err := io.Copy(&out, io.LimitReader(from, maxUnpacked)); err != nil {
		return "", belfry.Errorf(belfry.Internal, "reasons are stored in a form this version does not read: %w", err)
	}
	return out.String(), nil
}

package store

import (
	"compress/flate"
	"encoding/base64"
	"io"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Whom a hundred subscriptions name has a hundred reasons, nearly alike, and so
// have the thousands beside her. Such texts are kept compressed: packMark, which
// begins no JSON, and base64 of the deflated text.
const (
	packFrom = 2 << 10 // bytes of text that are worth it
	packMark = '~'
	packMany = 16 // reasons; fewer are hardly ever so long
	// Texts that a transaction writes again and again, and those that are read so.
	maxPacked      = 1024
	maxKnownPacked = 64
	maxUnpacked    = 16 << 20
)

// packs are the long texts of reasons of a transaction.
type packs struct {
	by  map[*belfry.Reason]packedReasons
	z   *flate.Writer
	out strings.Builder
}

type packedReasons struct {
	n    int
	text string
}

// reasons is the text of many reasons, compressed when it is long. It is made
// once for all who share them.
func (p *packs) reasons(rs []belfry.Reason, write func([]belfry.Reason) string) string {
	if known, ok := p.by[&rs[0]]; ok && known.n == len(rs) {
		return known.text
	}
	text := write(rs)
	if len(text) >= packFrom {
		text = p.pack(text)
	}
	if p.by == nil || len(p.by) >= maxPacked {
		p.by = map[*belfry.Reason]packedReasons{}
	}
	p.by[&rs[0]] = packedReasons{len(rs), text}
	return text
}

// forget lets go of the reasons: others may come to lie where they were.
func (p *packs) forget() { p.by = nil }

func (p *packs) pack(text string) string {
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

package match

import (
	"hash/maphash"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Suppose is the snapshot as it would be with sub in it, in place of the one
// with its id, whatever its state. Nobody but the caller sees it. The error is
// that of Index.Put.
func (s *Snapshot) Suppose(sub *belfry.Subscription) (*Snapshot, error) {
	h, err := headOf(sub)
	if err != nil {
		return nil, &belfry.Error{Kind: belfry.KindOf(err), Msg: "filter: " + strings.TrimPrefix(err.Error(), "filter: "), Cause: err}
	}
	next := *s
	next.edit = 0 // copies always: what is shared stays as it is
	next.unpacked = unpackedFor(0, nil)
	next.remove(sub.ID)
	next.choose(&h)
	words := words{seed: maphash.MakeSeed(), list: s.words[:len(s.words):len(s.words)]}
	e, _ := pack(&h, sub, nil, &words)
	next.words = words.list
	next.add(e, &h)
	return &next, nil
}

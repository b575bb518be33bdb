package moodle

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
)

// leafSize is the number of ids in a leaf, foldSize in a fold: a fold is the
// piece of a kind that a restart compares as a whole.
const (
	leafSize = 256
	foldSize = 4096
)

// dirty is the hash of a row whose handed state is not known exactly: the next
// full compare hands it again.
const dirty = 1

// table holds the hash of every row of a kind that was handed, 4 bytes a row;
// 0 = no such row. ever also remembers those that are gone.
type table struct {
	leaves map[int64]*leaf
	digest map[int64][]byte // of folds that did not change since it was made
	last   int64            // the highest id that ever had a row
}

type leaf struct {
	hash [leafSize]uint32
	ever [leafSize / 64]uint64
}

func (t *table) get(id int64) uint32 {
	if l := t.leaves[id/leafSize]; l != nil {
		return l.hash[id%leafSize]
	}
	return 0
}

func (t *table) known(id int64) bool {
	l := t.leaves[id/leafSize]
	return l != nil && l.ever[id%leafSize/64]&(1<<(id%64)) != 0
}

func (t *table) set(id int64, hash uint32) {
	if id < 0 {
		return
	}
	l := t.leaves[id/leafSize]
	if l == nil {
		if t.leaves == nil {
			t.leaves = map[int64]*leaf{}
		}
		l = &leaf{}
		t.leaves[id/leafSize] = l
	}
	l.hash[id%leafSize] = hash
	delete(t.digest, id/foldSize)
	if hash != 0 {
		t.last = max(t.last, id)
		l.ever[id%leafSize/64] |= 1 << (id % 64)
	}
}

// present gives the ids with from < id < to that have a row, ascending.
func (t *table) present(from, to int64) []int64 {
	var out []int64
	for _, n := range slices.Sorted(maps.Keys(t.leaves)) {
		if (n+1)*leafSize <= from || n*leafSize >= to {
			continue
		}
		for i, h := range t.leaves[n].hash {
			if id := n*leafSize + int64(i); h != 0 && id > from && id < to {
				out = append(out, id)
			}
		}
	}
	return out
}

// maxFolds bounds the digests in a cursor: ids beyond maxFolds*foldSize are
// handed again at every start.
const maxFolds = 16384

// folds digests the table in pieces of foldSize ids, 8 bytes each.
func (t *table) folds() []byte {
	if len(t.leaves) == 0 {
		return nil
	}
	last := min(maxFolds-1, slices.Max(slices.Collect(maps.Keys(t.leaves)))/(foldSize/leafSize))
	out := make([]byte, 0, 8*(last+1))
	for f := range last + 1 {
		out = append(out, t.fold(f)...)
	}
	return out
}

func (t *table) fold(f int64) []byte {
	if d := t.digest[f]; d != nil {
		return d
	}
	if t.digest == nil {
		t.digest = map[int64][]byte{}
	}
	t.digest[f] = t.computeFold(f)
	return t.digest[f]
}

func (t *table) computeFold(f int64) []byte {
	h := sha256.New()
	var b [4]byte
	empty := true
	for n := f * (foldSize / leafSize); n < (f+1)*(foldSize/leafSize); n++ {
		l := t.leaves[n]
		for i := range leafSize {
			var v uint32
			if l != nil {
				v = l.hash[i]
			}
			empty = empty && v == 0
			binary.LittleEndian.PutUint32(b[:], v)
			_, _ = h.Write(b[:])
		}
	}
	if empty {
		return make([]byte, 8)
	}
	return h.Sum(nil)[:8]
}

// foldAt is the stored digest of a fold, nil when there is none.
func foldAt(folds []byte, f int64) []byte {
	if int64(len(folds)) < 8*(f+1) {
		return nil
	}
	return folds[8*f : 8*f+8]
}

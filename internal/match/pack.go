package match

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// A subscription is kept packed: one string of bytes that the collector need
// not look into. The codec is made from the type by reflection, so that a new
// field of belfry.Subscription is kept without anybody thinking of it; a test
// fills every field and wants it back.

// packer writes.
type packer struct {
	buf   []byte
	words *words
}

func (p *packer) uint(n uint64) { p.buf = binary.AppendUvarint(p.buf, n) }

// text writes a string: the number of a word, or its length and bytes.
func (p *packer) text(s string) {
	if id, ok := p.words.number(s, false); ok {
		p.uint(uint64(id)<<1 | 1)
		return
	}
	p.inline(s)
}

// word is text for what will surely come again.
func (p *packer) word(s string) {
	if id, ok := p.words.number(s, true); ok {
		p.uint(uint64(id)<<1 | 1)
		return
	}
	p.inline(s)
}

func (p *packer) inline(s string) {
	p.uint(uint64(len(s)) << 1)
	p.buf = append(p.buf, s...)
}

// unpacker reads what a packer wrote; it trusts it. Strings are parts of src.
type unpacker struct {
	src   string
	pos   int
	words []string
	room  *common // for the first that fits; nil = none, or taken
}

func (u *unpacker) byte() byte {
	b := u.src[u.pos]
	u.pos++
	return b
}

func (u *unpacker) uint() uint64 {
	n := uint64(u.src[u.pos])
	u.pos++
	if n < 0x80 {
		return n
	}
	n &= 0x7f
	for shift := 7; ; shift += 7 {
		b := u.src[u.pos]
		u.pos++
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (u *unpacker) text() string {
	n := u.uint()
	if n&1 != 0 {
		return u.words[n>>1]
	}
	return u.take(int(n >> 1))
}

func (u *unpacker) take(n int) string {
	s := u.src[u.pos : u.pos+n]
	u.pos += n
	return s
}

// words numbers strings that come again and again: scopes, types, owners,
// paths. A string becomes a word at its second sight. Words are never taken
// back, since snapshots read them; their number is bounded, and what finds no
// room is written out.
type words struct {
	seed  maphash.Seed
	ids   map[string]uint32
	list  []string // only ever appended to: a snapshot holds its beginning
	once  []uint64 // hashes of strings seen lately, by their own low bits
	sight int
}

const (
	maxWords = 1 << 14
	maxSeen  = 1 << 12
)

func (w *words) number(s string, now bool) (uint32, bool) {
	if len(s) < 3 || len(s) > 64 {
		return 0, false
	}
	if id, ok := w.ids[s]; ok {
		return id, true
	}
	if len(w.list) >= maxWords || !now && !w.again(s) {
		return 0, false
	}
	if w.ids == nil {
		w.ids = make(map[string]uint32)
	}
	id := uint32(len(w.list))
	s = strings.Clone(s) // not a part of something bigger
	w.ids[s] = id
	w.list = append(w.list, s)
	return id, true
}

// again reports whether s was seen lately. What is remembered grows with what
// was seen: a small tenant's index is small.
func (w *words) again(s string) bool {
	if w.sight++; w.sight > len(w.once) && len(w.once) < maxSeen {
		w.once = make([]uint64, max(64, 4*len(w.once)))
	}
	h := maphash.String(w.seed, s)
	slot := &w.once[h&uint64(len(w.once)-1)]
	known := *slot == h
	*slot = h
	return known
}

// codec packs and unpacks values of one type.
type codec struct {
	pack   func(*packer, reflect.Value)
	unpack func(*unpacker, reflect.Value)
}

var timeType = reflect.TypeFor[time.Time]()

func codecOf(t reflect.Type) codec {
	if t == timeType {
		return codec{packTime, unpackTime}
	}
	switch t.Kind() {
	case reflect.String:
		return codec{
			func(p *packer, v reflect.Value) { p.text(v.String()) },
			func(u *unpacker, v reflect.Value) { v.SetString(u.text()) },
		}
	case reflect.Bool:
		return codec{
			func(p *packer, v reflect.Value) {
				var b byte
				if v.Bool() {
					b = 1
				}
				p.buf = append(p.buf, b)
			},
			func(u *unpacker, v reflect.Value) { v.SetBool(u.byte() != 0) },
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return codec{
			func(p *packer, v reflect.Value) { p.int(v.Int()) },
			func(u *unpacker, v reflect.Value) { v.SetInt(u.int()) },
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return codec{
			func(p *packer, v reflect.Value) { p.uint(v.Uint()) },
			func(u *unpacker, v reflect.Value) { v.SetUint(u.uint()) },
		}
	case reflect.Float32, reflect.Float64:
		return codec{
			func(p *packer, v reflect.Value) { p.uint(math.Float64bits(v.Float())) },
			func(u *unpacker, v reflect.Value) { v.SetFloat(math.Float64frombits(u.uint())) },
		}
	case reflect.Pointer:
		return pointerCodec(t)
	case reflect.Slice:
		return sliceCodec(t)
	case reflect.Map:
		return mapCodec(t)
	case reflect.Struct:
		return structCodec(t)
	}
	panic(fmt.Sprintf("match: a %s cannot be packed", t)) // a fixed type: shown by any test
}

func (p *packer) int(n int64) { p.buf = binary.AppendVarint(p.buf, n) }

func (u *unpacker) int() int64 {
	n := u.uint()
	return int64(n>>1) ^ -int64(n&1)
}

func packTime(p *packer, v reflect.Value) {
	t := v.Interface().(time.Time)
	if t.Location() == time.UTC {
		p.uint(0)
		p.int(t.Unix())
		p.uint(uint64(t.Nanosecond()))
		return
	}
	b, err := t.MarshalBinary()
	if err != nil { // an offset that no JSON can have brought
		b, _ = t.UTC().MarshalBinary()
	}
	p.uint(uint64(len(b)))
	p.buf = append(p.buf, b...)
}

func unpackTime(u *unpacker, v reflect.Value) {
	t := v.Addr().Interface().(*time.Time)
	*t = u.time()
}

func (u *unpacker) time() (t time.Time) {
	if n := u.uint(); n > 0 {
		_ = t.UnmarshalBinary([]byte(u.take(int(n)))) // written by MarshalBinary
		return t
	}
	sec := u.int()
	return time.Unix(sec, int64(u.uint())).UTC()
}

// deferred breaks the circle of types that contain themselves.
func deferred(t reflect.Type) func() codec {
	return sync.OnceValue(func() codec { return codecOf(t) })
}

func pointerCodec(t reflect.Type) codec {
	el := deferred(t.Elem())
	return codec{
		func(p *packer, v reflect.Value) {
			if v.IsNil() {
				p.uint(0)
				return
			}
			p.uint(1)
			el().pack(p, v.Elem())
		},
		func(u *unpacker, v reflect.Value) {
			if u.uint() == 0 {
				return
			}
			v.Set(reflect.New(t.Elem()))
			el().unpack(u, v.Elem())
		},
	}
}

// sliceCodec writes the length and one, 0 for nil.
func sliceCodec(t reflect.Type) codec {
	if t.Elem().Kind() == reflect.Uint8 {
		return codec{
			func(p *packer, v reflect.Value) {
				if v.IsNil() {
					p.uint(0)
					return
				}
				p.uint(uint64(v.Len()) + 1)
				p.buf = append(p.buf, v.Bytes()...)
			},
			func(u *unpacker, v reflect.Value) {
				if n := u.uint(); n > 0 {
					v.SetBytes([]byte(u.take(int(n - 1))))
				}
			},
		}
	}
	el := deferred(t.Elem())
	return codec{
		func(p *packer, v reflect.Value) {
			if v.IsNil() {
				p.uint(0)
				return
			}
			p.uint(uint64(v.Len()) + 1)
			for i := range v.Len() {
				el().pack(p, v.Index(i))
			}
		},
		func(u *unpacker, v reflect.Value) {
			n := int(u.uint()) - 1
			if n < 0 {
				return
			}
			if list, ok := v.Addr().Interface().(*[]string); ok { // most of them
				*list = make([]string, n)
				for i := range *list {
					(*list)[i] = u.text()
				}
				return
			}
			v.Set(reflect.MakeSlice(t, n, n))
			for i := range n {
				el().unpack(u, v.Index(i))
			}
		},
	}
}

func mapCodec(t reflect.Type) codec {
	key, el := deferred(t.Key()), deferred(t.Elem())
	return codec{
		func(p *packer, v reflect.Value) {
			if v.IsNil() {
				p.uint(0)
				return
			}
			p.uint(uint64(v.Len()) + 1)
			for it := v.MapRange(); it.Next(); {
				key().pack(p, it.Key())
				el().pack(p, it.Value())
			}
		},
		func(u *unpacker, v reflect.Value) {
			n := int(u.uint()) - 1
			if n < 0 {
				return
			}
			v.Set(reflect.MakeMapWithSize(t, n))
			for range n {
				k, x := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
				key().unpack(u, k)
				el().unpack(u, x)
				v.SetMapIndex(k, x)
			}
		},
	}
}

// structCodec writes the fields that are not zero, each after its number from
// 1 on, and 0 at the end.
func structCodec(t reflect.Type) codec {
	fields := fieldCodecs(t)
	return codec{
		func(p *packer, v reflect.Value) { packFields(p, fields, v) },
		func(u *unpacker, v reflect.Value) {
			for i := u.uint(); i != 0; i = u.uint() {
				fields[i-1].unpack(u, v.Field(int(i-1)))
			}
		},
	}
}

// packFields writes the fields of a struct that have a codec.
func packFields(p *packer, fields []codec, v reflect.Value) {
	for i := range fields {
		if f := v.Field(i); fields[i].pack != nil && !f.IsZero() {
			p.uint(uint64(i) + 1)
			fields[i].pack(p, f)
		}
	}
	p.uint(0)
}

// fieldCodecs are those of a struct's fields; the named ones have none.
func fieldCodecs(t reflect.Type, but ...string) []codec {
	fields := make([]codec, t.NumField())
	for i := range fields {
		if slices.Contains(but, t.Field(i).Name) {
			continue
		}
		if !t.Field(i).IsExported() {
			panic(fmt.Sprintf("match: %s.%s cannot be packed", t, t.Field(i).Name))
		}
		fields[i] = codecOf(t.Field(i).Type)
	}
	return fields
}

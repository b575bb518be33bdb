package belfry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"strings"
	"time"
)

// Ids are a prefix and 26 characters: 48 bits of time in milliseconds and 80
// other bits (of events and deliveries, the first 16 count within it), in a base32 alphabet that sorts as the bits do. So ids of one
// kind sort by time and a range of ids is a range of time.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// Prefixes of ids.
const (
	EventPrefix        = "evt_"
	DeliveryPrefix     = "dlv_"
	SubscriptionPrefix = "sub_"
	EndpointPrefix     = "ep_"
	KeyPrefix          = "key_"
	SourcePrefix       = "src_"
)

func encodeID(prefix string, b *[16]byte) string {
	var out [32]byte
	n := copy(out[:], prefix)
	idEncoding.Encode(out[n:n+26], b[:])
	return string(out[:n+26])
}

// NewID draws an id: the time and 80 random bits.
func NewID(prefix string, at time.Time) string {
	var b [16]byte
	putTime(&b, at)
	_, _ = rand.Read(b[6:]) // documented never to fail
	return encodeID(prefix, &b)
}

// EventID makes the id of the n-th event accepted within at's millisecond by
// one writer; ids of one writer sort in the order of (at, n). salt (any bits)
// tells writers apart.
func EventID(at time.Time, n uint16, salt uint64) string {
	var b [16]byte
	putTime(&b, at)
	binary.BigEndian.PutUint16(b[6:], n)
	binary.BigEndian.PutUint64(b[8:], salt)
	return encodeID(EventPrefix, &b)
}

// DeliveryID computes the id of the delivery of an event's run to an address
// on a channel. It begins as the event's id does, with the time and the order
// of acceptance, so deliveries sort as their events do; it never changes, so a
// plan that is made again makes the same deliveries. Then comes where the
// address lies among others (see near), and 56 bits of a hash.
func DeliveryID(eventID string, run int, channel, address string) string {
	b, ok := eventBits(eventID)
	if !ok {
		b = [16]byte{}
	}
	var key [512]byte
	k := append(key[:0], eventID...)
	k = binary.BigEndian.AppendUint32(append(k, 0), uint32(run))
	k = append(append(k, channel...), 0)
	k = append(k, address...)
	sum := sha256.Sum256(k)
	b[8] = near(address)
	copy(b[9:], sum[:7])
	return encodeID(DeliveryPrefix, &b)
}

// near tells roughly where an address or a person's name lies in the order in
// which planning walks through them. Ids of one event that are written together
// so lie together: a page of the index is written once for many rows, where
// hashes alone would touch another page for each of a million. It need not be
// right for any name: only speed depends on it. Of numbered names (user/1234)
// it is the thousand, of others it is made of the first two characters.
func near(address string) byte {
	name := address
	if i := strings.IndexByte(name, '@'); i > 0 {
		name = name[:i]
	}
	if i := strings.LastIndexAny(name, ":/"); i >= 0 {
		name = name[i+1:]
	}
	digits, n := 0, 0
	for i := len(name) - 1; i >= 0 && '0' <= name[i] && name[i] <= '9'; i-- {
		digits++
	}
	if digits > 0 && digits+2 >= len(name) {
		for i := len(name) - digits; i < len(name)-3; i++ {
			n = (n*10 + int(name[i]-'0')) & 0xff_ffff
		}
		return byte(n)
	}
	if len(name) < 2 {
		return 0
	}
	return name[0]<<3 | name[1]>>2&7
}

// DeliveryRange is the range of ids, from (inclusive) to (exclusive), in which
// the ids of an event's deliveries are; events accepted by two nodes in one
// moment may share it. It is false for what is no event's id.
func DeliveryRange(eventID string) (from, to string, ok bool) {
	b, ok := eventBits(eventID)
	if !ok {
		return "", "", false
	}
	clear(b[8:])
	from, to = span(b, 7)
	return from, to, true
}

// DeliveryRangeTo is the part of DeliveryRange in which the ids of an event's
// deliveries to an address are, among those to others that lie near it.
func DeliveryRangeTo(eventID, address string) (from, to string, ok bool) {
	b, ok := eventBits(eventID)
	if !ok {
		return "", "", false
	}
	clear(b[8:])
	b[8] = near(address)
	from, to = span(b, 8)
	return from, to, true
}

func eventBits(eventID string) (b [16]byte, ok bool) {
	_, enc, ok := strings.Cut(eventID, "_")
	if !ok || len(enc) != 26 {
		return b, false
	}
	_, err := idEncoding.Decode(b[:], []byte(enc))
	return b, err == nil
}

// span is from b to the next that differs in the bytes up to last.
func span(b [16]byte, last int) (from, to string) {
	from = encodeID(DeliveryPrefix, &b)
	for i := last; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			break
		}
	}
	return from, encodeID(DeliveryPrefix, &b)
}

// IDTime is the time an id begins with, in milliseconds.
func IDTime(id string) (time.Time, error) {
	_, enc, ok := strings.Cut(id, "_")
	if !ok || len(enc) != 26 {
		return time.Time{}, errors.New("not an id: " + id)
	}
	var b [16]byte
	if _, err := idEncoding.Decode(b[:], []byte(enc)); err != nil {
		return time.Time{}, errors.New("not an id: " + id)
	}
	ms := int64(binary.BigEndian.Uint64(b[:8]) >> 16)
	return time.UnixMilli(ms).UTC(), nil
}

// MinID is the smallest id of a kind at or after at.
func MinID(prefix string, at time.Time) string {
	var b [16]byte
	putTime(&b, at)
	return encodeID(prefix, &b)
}

func putTime(b *[16]byte, at time.Time) {
	binary.BigEndian.PutUint64(b[:8], uint64(at.UnixMilli())<<16)
}

// Shards is the number of plan shards and of delivery shards.
const Shards = 256

// Shard is the shard that owns key: an object for planning, a destination for
// delivery.
func Shard(tenant, key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(tenant))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(key))
	s := h.Sum32()
	return int((s ^ s>>16) & (Shards - 1))
}

package secret

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrSealed is Open's error: the value was not sealed with one of the keys and
// this associated data, or was changed.
var ErrSealed = errors.New("cannot be decrypted: it was sealed with another secret key, or changed; put the old key back into BELFRY_SECRET_KEY behind the new one")

// ErrToken is Verify's error for everything that is no token of this kind.
var ErrToken = errors.New("the link is not valid")

// ErrExpired is Verify's error for a token that was valid until a while ago.
var ErrExpired = errors.New("the link has expired")

// Box seals, opens, signs and verifies. It is safe for concurrent use.
type Box struct {
	keys []derived // the first encrypts and signs
}

// derived is a master key, taken apart by use.
type derived struct {
	id   [4]byte // of the key, in sealed values; says nothing about it
	aead cipher.AEAD
	sign []byte
}

// New makes a Box of master keys in ParseKeys' form, at least one.
func New(keys []string) (*Box, error) {
	keys, err := ParseKeys(strings.Join(keys, ","))
	if err != nil {
		return nil, err
	}
	b := &Box{keys: make([]derived, 0, len(keys))}
	for _, key := range keys {
		master, err := decodeKey(key)
		if err != nil {
			return nil, err
		}
		var d derived
		id, err := derive(master, "belfry key id", len(d.id))
		if err != nil {
			return nil, err
		}
		copy(d.id[:], id)
		seal, err := derive(master, "belfry seal", chacha20poly1305.KeySize)
		if err != nil {
			return nil, err
		}
		if d.aead, err = chacha20poly1305.NewX(seal); err != nil {
			return nil, err
		}
		if d.sign, err = derive(master, "belfry sign", sha256.Size); err != nil {
			return nil, err
		}
		b.keys = append(b.keys, d)
	}
	return b, nil
}

func derive(master []byte, purpose string, n int) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, master, nil, purpose, n)
	if err != nil {
		return nil, fmt.Errorf("derive the key %q: %w", purpose, err)
	}
	return key, nil
}

// sealedVersion begins every sealed value: version, key id, nonce, ciphertext.
const sealedVersion = 1

const sealedHead = 1 + 4 + chacha20poly1305.NonceSizeX

// Seal encrypts clear with the first key. The same associated data must be
// given to Open; it ties the value to its place (tenant, endpoint id ...), so
// that a sealed value copied to another place does not open there.
func (b *Box) Seal(clear, associated []byte) []byte {
	d := &b.keys[0]
	out := make([]byte, sealedHead, sealedHead+len(clear)+chacha20poly1305.Overhead)
	out[0] = sealedVersion
	copy(out[1:5], d.id[:])
	copy(out[5:], random(chacha20poly1305.NonceSizeX))
	return d.aead.Seal(out, out[5:sealedHead], clear, associated)
}

// Open decrypts what Seal made with any of the keys, or answers ErrSealed.
func (b *Box) Open(sealed, associated []byte) ([]byte, error) {
	if len(sealed) < sealedHead+chacha20poly1305.Overhead || sealed[0] != sealedVersion {
		return nil, ErrSealed
	}
	for i := range b.keys {
		d := &b.keys[i]
		if [4]byte(sealed[1:5]) != d.id {
			continue
		}
		if clear, err := d.aead.Open(nil, sealed[5:sealedHead], sealed[sealedHead:], associated); err == nil {
			return clear, nil
		}
	}
	return nil, ErrSealed
}

// Stale reports whether sealed was sealed with another key than the first, so
// that it should be sealed anew.
func (b *Box) Stale(sealed []byte) bool {
	return len(sealed) < sealedHead || [4]byte(sealed[1:5]) != b.keys[0].id
}

// Link tokens are base64url of: expiry in unix seconds (uvarint, 0 = never),
// payload, 16 bytes of HMAC-SHA256. 128 bits are far beyond guessing over a
// network, and keep links short.
const macSize = 16

// maxToken bounds the work spent on a token of unknown origin.
const maxToken = 4096

// Sign makes a link token of a kind (e.g. "unsubscribe"): payload and expiry,
// readable by whoever holds it, made by nobody else. A zero expires means it
// never ends. Payload is at most 2 KiB; a longer one is a bug and makes a token
// that Verify refuses.
func (b *Box) Sign(kind string, payload []byte, expires time.Time) string {
	raw := make([]byte, 0, binary.MaxVarintLen64+len(payload)+macSize)
	var until uint64
	if !expires.IsZero() {
		until = uint64(max(expires.Unix(), 1))
	}
	raw = binary.AppendUvarint(raw, until)
	raw = append(raw, payload...)
	return base64.RawURLEncoding.EncodeToString(append(raw, b.keys[0].mac(kind, raw)...))
}

// Verify gives the payload of a token that Sign made with any of the keys for
// the same kind and that has not expired at now. The error is ErrToken, or
// ErrExpired for a genuine token whose time is over.
func (b *Box) Verify(kind, token string, now time.Time) ([]byte, error) {
	if len(token) > maxToken {
		return nil, ErrToken
	}
	// Strict: one token has one spelling.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < macSize+1 || strings.ContainsAny(token, "\r\n") {
		return nil, ErrToken
	}
	signed, mac := raw[:len(raw)-macSize], raw[len(raw)-macSize:]
	genuine := false
	for i := range b.keys {
		if hmac.Equal(mac, b.keys[i].mac(kind, signed)) {
			genuine = true
			break
		}
	}
	if !genuine {
		return nil, ErrToken
	}
	until, n := binary.Uvarint(signed)
	if n <= 0 {
		return nil, ErrToken
	}
	if until != 0 && now.Unix() >= int64(until) {
		return nil, ErrExpired
	}
	return signed[n:], nil
}

// mac binds kind and text; the length keeps their border unambiguous.
func (d *derived) mac(kind string, text []byte) []byte {
	h := hmac.New(sha256.New, d.sign)
	writeSized(h, kind)
	_, _ = h.Write(text)
	return h.Sum(nil)[:macSize]
}

func writeSized(h hash.Hash, s string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(s)))
	_, _ = h.Write(n[:])
	_, _ = h.Write([]byte(s))
}

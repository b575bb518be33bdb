package webhook

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"sync"
)

// ed25519Mark begins a raw key that is an ed25519 seed; see channel.Target.
const ed25519Mark = "whsk_"

// signer signs with one key.
type signer struct {
	key     []byte
	private ed25519.PrivateKey // nil for HMAC
	macs    sync.Pool          // of *mac: the key's schedule is computed once each
}

type mac struct {
	hash.Hash
	sum     [sha256.Size]byte
	scratch []byte // id.timestamp.
}

func newSigner(key []byte) *signer {
	s := &signer{key: bytes.Clone(key)}
	if len(key) == len(ed25519Mark)+ed25519.SeedSize && string(key[:len(ed25519Mark)]) == ed25519Mark {
		s.private = ed25519.NewKeyFromSeed(key[len(ed25519Mark):])
		return s
	}
	s.macs.New = func() any { return &mac{Hash: hmac.New(sha256.New, s.key)} }
	return s
}

// append appends the signature of id.timestamp.body to dst.
func (s *signer) append(dst []byte, id, timestamp string, body []byte) []byte {
	if s.private != nil {
		text := make([]byte, 0, len(id)+len(timestamp)+len(body)+2)
		text = append(appendHead(text, id, timestamp), body...)
		return base64.StdEncoding.AppendEncode(append(dst, "v1a,"...), ed25519.Sign(s.private, text))
	}
	m := s.macs.Get().(*mac)
	m.Reset()
	m.scratch = appendHead(m.scratch[:0], id, timestamp)
	_, _ = m.Write(m.scratch)
	_, _ = m.Write(body)
	dst = base64.StdEncoding.AppendEncode(append(dst, "v1,"...), m.Sum(m.sum[:0]))
	s.macs.Put(m)
	return dst
}

func appendHead(dst []byte, id, timestamp string) []byte {
	dst = append(append(dst, id...), '.')
	return append(append(dst, timestamp...), '.')
}

// shown are the texts by which the key might appear in an answer.
func (s *signer) shown() []string {
	raw := s.key
	if s.private != nil {
		raw = raw[len(ed25519Mark):]
	}
	return []string{
		string(raw),
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
	}
}

// sign is the webhook-signature header: a signature for every key.
func (p *prepared) sign(id, timestamp string, body []byte) string {
	var small [256]byte
	dst := small[:0]
	for i, s := range p.signers {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = s.append(dst, id, timestamp, body)
	}
	return string(dst)
}

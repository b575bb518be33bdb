package secret

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Prefixes of webhook signing keys as Standard Webhooks shows them.
const (
	hmacPrefix    = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
)

// Sizes of an HMAC key, from Standard Webhooks; ours have 32 bytes.
const (
	minHMACKey = 24
	maxHMACKey = 64
)

// MakeWebhookSecret draws an HMAC signing key: its raw bytes, to be sealed, and
// the text that is shown once to whoever verifies.
func MakeWebhookSecret() (key []byte, shown string) {
	key = random(32)
	return key, ShowWebhookSecret(key)
}

// ParseWebhookSecret reads a signing key somebody brings along: whsec_ and
// base64 of 24 to 64 bytes (HMAC-SHA256), whose raw bytes are the answer, or
// whsk_ and base64 of an ed25519 private key (64 bytes) or seed (32 bytes),
// for which the answer is "whsk_" and the seed. Errors never repeat the key.
func ParseWebhookSecret(shown string) ([]byte, error) {
	switch {
	case strings.HasPrefix(shown, hmacPrefix):
		raw, err := decodeBase64(shown[len(hmacPrefix):])
		if err != nil {
			return nil, errors.New("is not a signing key: what follows whsec_ must be base64")
		}
		if len(raw) < minHMACKey || len(raw) > maxHMACKey {
			return nil, fmt.Errorf("is not a signing key: it has %d bytes, and must have %d to %d", len(raw), minHMACKey, maxHMACKey)
		}
		if _, ok := Ed25519Key(raw); ok {
			return nil, errors.New("is not a signing key: its bytes begin with the mark of another kind of key; draw another")
		}
		return raw, nil
	case strings.HasPrefix(shown, privatePrefix):
		raw, err := decodeBase64(shown[len(privatePrefix):])
		if err != nil {
			return nil, errors.New("is not a signing key: what follows whsk_ must be base64")
		}
		switch len(raw) {
		case ed25519.SeedSize:
		case ed25519.PrivateKeySize:
			if !ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]).Equal(ed25519.PrivateKey(raw)) {
				return nil, errors.New("is not an ed25519 private key: its two halves do not belong together")
			}
		default:
			return nil, fmt.Errorf("is not an ed25519 private key: it has %d bytes, and must have 64, or 32 for a seed", len(raw))
		}
		return append([]byte(privatePrefix), raw[:ed25519.SeedSize]...), nil
	case strings.HasPrefix(shown, publicPrefix):
		return nil, errors.New("is a public key: give the private one, which begins with whsk_")
	}
	return nil, errors.New("is not a signing key: it must begin with whsec_ (HMAC) or whsk_ (ed25519)")
}

// ShowWebhookSecret is the text of a key in ParseWebhookSecret's raw form: for
// HMAC the shared secret, for ed25519 the public key (whpk_), which is all that
// its verifier needs.
func ShowWebhookSecret(raw []byte) string {
	if key, ok := Ed25519Key(raw); ok {
		return publicPrefix + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	}
	return hmacPrefix + base64.StdEncoding.EncodeToString(raw)
}

// Ed25519Key is the private key in a raw key, when it holds one.
func Ed25519Key(raw []byte) (ed25519.PrivateKey, bool) {
	if len(raw) != len(privatePrefix)+ed25519.SeedSize || string(raw[:len(privatePrefix)]) != privatePrefix {
		return nil, false
	}
	return ed25519.NewKeyFromSeed(raw[len(privatePrefix):]), true
}

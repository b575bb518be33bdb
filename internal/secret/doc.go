// Package secret keeps what must stay secret: encryption at rest, signed
// links, hashes of API keys, webhook signing keys.
//
// A Box is made of a list of master keys: the first encrypts and signs, all of
// them open and verify, so a key is rotated by putting a new one in front. Each
// use has a key of its own derived from the master key (HKDF-SHA256), so a
// sealed value can never pass as a link token, nor a token of one kind as one
// of another.
//
// It promises: Seal is authenticated (ChaCha20-Poly1305 with a random 192-bit
// nonce) and bound to its associated data; Open and Verify never panic and say
// nothing of why beyond the named errors; comparisons of secrets take constant
// time; no error text repeats a secret.
//
// It refuses to store anything but the key file of LoadOrMake, to read the
// clock (time is an argument), and to hash passwords: HashKey is for random
// secrets of 128 bits and more only.
//
// Testing against it needs no fake: secret.New([]string{secret.MakeKey()}).
package secret

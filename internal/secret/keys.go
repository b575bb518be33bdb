package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keySize is the size of a master key in bytes.
const keySize = 32

// MakeKey draws a new master key, as text for BELFRY_SECRET_KEY.
func MakeKey() string { return base64.RawURLEncoding.EncodeToString(random(keySize)) }

// ParseKeys reads a list of master keys separated by commas or white space,
// each 32 bytes in base64 (standard or URL alphabet, with or without padding).
// The answer is their canonical text, at least one. Errors say which of the
// keys is wrong and never repeat it.
func ParseKeys(list string) ([]string, error) {
	fields := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
	if len(fields) == 0 {
		return nil, errors.New("no secret key is given: make one with `head -c 32 /dev/urandom | base64`")
	}
	keys := make([]string, 0, len(fields))
	seen := map[string]int{}
	for i, f := range fields {
		raw, err := decodeKey(f)
		if err != nil {
			return nil, fmt.Errorf("secret key %d of %d %w", i+1, len(fields), err)
		}
		key := base64.RawURLEncoding.EncodeToString(raw)
		if first, ok := seen[key]; ok {
			return nil, fmt.Errorf("secret key %d of %d is the same as key %d: remove it", i+1, len(fields), first)
		}
		seen[key] = i + 1
		keys = append(keys, key)
	}
	return keys, nil
}

func decodeKey(text string) ([]byte, error) {
	raw, err := decodeBase64(text)
	switch {
	case err != nil:
		return nil, errors.New("is not base64: it must be 32 random bytes in base64, such as `head -c 32 /dev/urandom | base64` prints")
	case len(raw) != keySize:
		return nil, fmt.Errorf("has %d bytes: it must be 32 random bytes in base64, such as `head -c 32 /dev/urandom | base64` prints", len(raw))
	}
	return raw, nil
}

// decodeBase64 reads any of the four usual forms.
func decodeBase64(text string) ([]byte, error) {
	text = strings.TrimRight(text, "=")
	if strings.ContainsAny(text, "+/") {
		return base64.RawStdEncoding.DecodeString(text)
	}
	return base64.RawURLEncoding.DecodeString(text)
}

// LoadOrMake reads the master keys in file, or makes the file with one new key
// and mode 0600 when there is none. made tells which. Two processes that start
// at once end with the same key. A file that others may read is refused.
func LoadOrMake(file string) (keys []string, made bool, err error) {
	keys, err = Load(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, false, err
	}
	if err := write(file, MakeKey()+"\n"); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, fmt.Errorf("make the secret key file: %w", err)
	} else if err == nil {
		made = true
	}
	keys, err = Load(file)
	return keys, made, err
}

// Load reads the keys of a file; fs.ErrNotExist when there is none.
func Load(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 && !worldless {
		return nil, fmt.Errorf("the secret key file %s can be read by others (mode %04o): run `chmod 600 %s`", file, info.Mode().Perm(), file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("the secret key file %s: %w", file, err)
	}
	return keys, nil
}

// write makes file with text, complete or not at all; fs.ErrExist when it is
// there already.
func write(file, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".secret-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.WriteString(text); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Sync(); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Link(tmp.Name(), file) // fails if file exists
}

// random is n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // documented never to fail
	return b
}

// MakeToken draws an unguessable secret of 256 bits for people to copy, with a
// prefix that says what it is, e.g. "bfk_".
func MakeToken(prefix string) string {
	return prefix + base64.RawURLEncoding.EncodeToString(random(32))
}

// HashKey is what is stored of an API key: SHA-256 in hexadecimal. One fast
// hash is enough because the key is 256 random bits, not a password.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// Same compares two hashes or secrets in constant time.
func Same(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// Mask is a secret as it may be shown: its prefix up to the first underscore
// and its last four characters, when enough stays hidden.
func Mask(secret string) string {
	const dots = "••••"
	prefix := ""
	if i := strings.IndexByte(secret, '_'); i > 0 && i <= 8 {
		prefix, secret = secret[:i+1], secret[i+1:]
	}
	if len(secret) < 20 {
		return prefix + dots
	}
	return prefix + dots + strings.ToValidUTF8(secret[len(secret)-4:], "")
}

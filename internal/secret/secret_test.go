package secret_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/secret"
)

var now = time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)

func box(t testing.TB, keys ...string) *secret.Box {
	t.Helper()
	b, err := secret.New(keys)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealedValuesOpenOnlyWhereTheyBelong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clear := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "clear")
		place := rapid.SliceOf(rapid.Byte()).Draw(t, "place")
		b, err := secret.New([]string{secret.MakeKey()})
		if err != nil {
			t.Fatal(err)
		}
		sealed := b.Seal(clear, place)
		if len(clear) > 8 && bytes.Contains(sealed, clear) {
			t.Fatal("the clear text shows")
		}
		got, err := b.Open(sealed, place)
		if err != nil || !bytes.Equal(got, clear) {
			t.Fatalf("open: %v", err)
		}
		if _, err := b.Open(sealed, append(bytes.Clone(place), 0)); !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("opens elsewhere: %v", err)
		}
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, err := b.Open(sealed, place); !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("opens changed: %v", err)
		}
	})
}

func TestRotation(t *testing.T) {
	oldKey, newKey := secret.MakeKey(), secret.MakeKey()
	before, during, after := box(t, oldKey), box(t, newKey, oldKey), box(t, newKey)

	sealed := before.Seal([]byte("whsec"), []byte("ep_1"))
	token := before.Sign("unsubscribe", []byte("sub_1"), time.Time{})
	if got, err := during.Open(sealed, []byte("ep_1")); err != nil || string(got) != "whsec" {
		t.Errorf("the second key does not open: %v", err)
	}
	if !during.Stale(sealed) || during.Stale(during.Seal(nil, nil)) {
		t.Error("stale is wrong")
	}
	if _, err := during.Verify("unsubscribe", token, now); err != nil {
		t.Errorf("the second key does not verify: %v", err)
	}
	if _, err := after.Open(sealed, []byte("ep_1")); !errors.Is(err, secret.ErrSealed) {
		t.Errorf("opens without its key: %v", err)
	}
	if _, err := after.Verify("unsubscribe", token, now); !errors.Is(err, secret.ErrToken) {
		t.Errorf("verifies without its key: %v", err)
	}
	if _, err := after.Open(during.Seal([]byte("x"), nil), nil); err != nil {
		t.Errorf("the first key does not seal: %v", err)
	}
}

// feature: NEW-8 (the link: for exactly one purpose and payload, unguessable)
func TestLinkTokens(t *testing.T) {
	b := box(t, secret.MakeKey())
	payload := []byte("default\x00sub_0123\x00user/8")
	token := b.Sign("unsubscribe", payload, now.Add(time.Hour))
	if strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Errorf("%q is not safe in a URL", token)
	}
	if want := (len(payload)+5+16)*4/3 + 2; len(token) > want {
		t.Errorf("token has %d characters, want at most %d", len(token), want)
	}
	got, err := b.Verify("unsubscribe", token, now)
	if err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("verify: %q %v", got, err)
	}
	for name, tc := range map[string]struct {
		kind, token string
		at          time.Time
		want        error
	}{
		"last moment":       {"unsubscribe", token, now.Add(time.Hour - time.Nanosecond), nil},
		"expired":           {"unsubscribe", token, now.Add(time.Hour), secret.ErrExpired},
		"of another kind":   {"confirm", token, now, secret.ErrToken},
		"of no kind":        {"", token, now, secret.ErrToken},
		"cut":               {"unsubscribe", token[:len(token)-1], now, secret.ErrToken},
		"grown":             {"unsubscribe", token + "A", now, secret.ErrToken},
		"line break":        {"unsubscribe", token + "\n", now, secret.ErrToken},
		"empty":             {"unsubscribe", "", now, secret.ErrToken},
		"huge":              {"unsubscribe", strings.Repeat("A", 1<<20), now, secret.ErrToken},
		"expired and other": {"confirm", token, now.Add(9 * time.Hour), secret.ErrToken},
	} {
		if _, err := b.Verify(tc.kind, tc.token, tc.at); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	forever := b.Sign("unsubscribe", payload, time.Time{})
	if _, err := b.Verify("unsubscribe", forever, now.AddDate(100, 0, 0)); err != nil {
		t.Errorf("a token without end ended: %v", err)
	}
	if got := b.Sign("k", nil, time.Time{}); got == forever {
		t.Error("tokens repeat")
	}
}

func TestChangedTokensAreRefused(t *testing.T) {
	b := box(t, secret.MakeKey())
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "payload")
		kind := rapid.String().Draw(t, "kind")
		token := []byte(b.Sign(kind, payload, now.Add(time.Minute)))
		if got, err := b.Verify(kind, string(token), now); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("verify: %v", err)
		}
		i := rapid.IntRange(0, len(token)-1).Draw(t, "at")
		c := rapid.SampledFrom([]byte("ABCxyz019-_")).Draw(t, "char")
		if token[i] == c {
			return
		}
		token[i] = c
		if _, err := b.Verify(kind, string(token), now); !errors.Is(err, secret.ErrToken) {
			t.Fatalf("changed at %d: %v", i, err)
		}
	})
}

func TestParseKeys(t *testing.T) {
	raw := bytes.Repeat([]byte{0xfb, 0xff}, 16)
	std, url := base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw)
	for _, form := range []string{std, strings.TrimRight(std, "="), url, url + "=", " " + std + "\n", std + ",", "," + url} {
		got, err := secret.ParseKeys(form)
		if err != nil || len(got) != 1 || got[0] != url {
			t.Errorf("%q: %v %v", form, got, err)
		}
	}
	other := secret.MakeKey()
	if got, err := secret.ParseKeys(std + ", " + other); err != nil || len(got) != 2 || got[1] != other {
		t.Errorf("list: %v %v", got, err)
	}
	for in, says := range map[string]string{
		"":                         "no secret key",
		" , ":                      "no secret key",
		"hunter2hunter2!":          "key 1 of 1 is not base64",
		other + ",c2hvcnRzZWNyZXQ": "key 2 of 2 has 11 bytes",
		std + "," + url:            "is the same as key 1",
	} {
		_, err := secret.ParseKeys(in)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", in, err, says)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "c2hvcn")) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}

func TestLoadOrMake(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret.key")
	const racers = 8
	var wg sync.WaitGroup
	keys, makers := make([]string, racers), make([]bool, racers)
	for i := range racers {
		wg.Go(func() {
			k, made, err := secret.LoadOrMake(file)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i], makers[i] = k[0], made
		})
	}
	wg.Wait()
	n := 0
	for i := range racers {
		if keys[i] != keys[0] {
			t.Error("racers hold different keys")
		}
		if makers[i] {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d made the file", n)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v %v", left, err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := secret.LoadOrMake(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a readable file: %v", err)
	}
	broken := filepath.Join(t.TempDir(), "secret.key")
	if err := os.WriteFile(broken, []byte("oops"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := secret.LoadOrMake(broken); err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("a broken file: %v", err)
	}
	if _, _, err := secret.LoadOrMake(filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("made a file in no folder")
	}
}

func TestAPIKeys(t *testing.T) {
	a, b := secret.MakeToken("bfk_"), secret.MakeToken("bfk_")
	if a == b || len(a) < 4+43 || !strings.HasPrefix(a, "bfk_") {
		t.Errorf("%q %q", a, b)
	}
	// SHA-256 of "abc", FIPS 180-2 appendix B.1.
	if got := secret.HashKey("abc"); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Error(got)
	}
	if !secret.Same(secret.HashKey(a), secret.HashKey(a)) || secret.Same(secret.HashKey(a), secret.HashKey(b)) || secret.Same("", "a") {
		t.Error("Same is wrong")
	}
}

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"bfk_0123456789abcdefghijwxyz": "bfk_••••wxyz",
		"whsec_short":                  "whsec_••••",
		"hunter2":                      "••••",
		"":                             "••••",
		"0123456789_0123456789abcdef":  "••••cdef",
	} {
		if got := secret.Mask(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// feature: PEER-2 (forms of keys)
func TestWebhookSecrets(t *testing.T) {
	raw, shown := secret.MakeWebhookSecret()
	if len(raw) != 32 || !strings.HasPrefix(shown, "whsec_") {
		t.Fatalf("%d bytes, %q", len(raw), shown[:8])
	}
	if got, err := secret.ParseWebhookSecret(shown); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("%v", err)
	}
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range [][]byte{priv, priv.Seed()} {
		got, err := secret.ParseWebhookSecret("whsk_" + base64.StdEncoding.EncodeToString(form))
		if err != nil {
			t.Fatal(err)
		}
		key, ok := secret.Ed25519Key(got)
		if !ok || !key.Equal(priv) {
			t.Error("the ed25519 key changed")
		}
		if got := secret.ShowWebhookSecret(got); got != "whpk_"+base64.StdEncoding.EncodeToString(pub) {
			t.Errorf("shown as %q: must be the public key only", got[:5])
		}
	}
	for _, bad := range []string{
		"", "whsec_", "whsec_????", "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)),
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)), "whsk_AAAA", "whsk_*",
		"whsk_" + base64.StdEncoding.EncodeToString(append(priv.Seed(), make([]byte, 32)...)),
		"whpk_" + base64.StdEncoding.EncodeToString(pub), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"whsec_" + base64.StdEncoding.EncodeToString(append([]byte("whsk_"), make([]byte, 32)...)),
	} {
		if _, err := secret.ParseWebhookSecret(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzVerify(f *testing.F) {
	b := box(f, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("k", b.Sign("k", []byte("p"), time.Time{}))
	f.Add("k", b.Sign("k", nil, now))
	f.Add("", "")
	f.Fuzz(func(t *testing.T, kind, token string) {
		payload, err := b.Verify(kind, token, time.Unix(0, 0))
		if err != nil {
			return
		}
		// What verifies is what Sign makes, for one of the expiries.
		if again := b.Sign(kind, payload, time.Time{}); again != token && b.Sign(kind, payload, now) != token {
			t.Fatalf("%q verifies and was never signed", token)
		}
	})
}

func FuzzOpen(f *testing.F) {
	b := box(f, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add(b.Seal([]byte("clear"), []byte("place")), []byte("place"))
	f.Add([]byte{1}, []byte{})
	f.Fuzz(func(t *testing.T, sealed, place []byte) {
		clear, err := b.Open(sealed, place)
		if err == nil && string(clear) != "clear" {
			t.Fatal("opened what was never sealed")
		}
	})
}

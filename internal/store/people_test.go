package store

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What the short way reads is what encoding/json reads, of users as they are
// stored and of any other text.
func TestProfilesAreReadAsJSON(t *testing.T) {
	same := func(t interface{ Fatalf(string, ...any) }, profile []byte) bool {
		var want, got belfry.User
		err := json.Unmarshal(profile, &want)
		if !plainUser(profile, &got) {
			return false
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%s: %v, (-want +got):\n%s", profile, err, diff)
		}
		return true
	}
	plain, err := json.Marshal(&belfry.User{ID: "user/8", Name: "Ada", Email: "ada@example.org", Locale: "pt-BR", State: belfry.UserActive,
		Contacts: []belfry.Contact{{Kind: "email", Address: "ada@example.org", Verified: true}}})
	if err != nil {
		t.Fatal(err)
	}
	if !same(t, plain) {
		t.Errorf("the plainest of profiles is not read the short way: %s", plain)
	}
	text := rapid.OneOf(rapid.StringMatching(`[a-zA-Z0-9/@. {}:,-]*`), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		u := belfry.User{ID: text.Draw(t, "id"), Name: text.Draw(t, "name"), Email: text.Draw(t, "email"), Locale: text.Draw(t, "locale"),
			TimeZone: text.Draw(t, "zone"), State: text.Draw(t, "state"), Origin: text.Draw(t, "origin")}
		for range rapid.IntRange(0, 2).Draw(t, "contacts") {
			u.Contacts = append(u.Contacts, belfry.Contact{Kind: "email", Address: text.Draw(t, "address"), Label: text.Draw(t, "label"), Verified: rapid.Bool().Draw(t, "verified"),
				Priority: max(0, rapid.IntRange(-9, 1).Draw(t, "priority")), Origin: text.Draw(t, "origin")})
		}
		profile, err := json.Marshal(&u)
		if err != nil {
			t.Fatal(err)
		}
		same(t, profile)
	})
	rapid.Check(t, func(t *rapid.T) {
		same(t, []byte(rapid.StringMatching(`\{("(id|name|ID|x|state|contacts|verified)":("[ab\\]{0,3}"|[0-9]|null|true|\{\}|\[\{"kind":"a"(,"verified":(true|false|0))?(,"verified":true)?\}\]),?){0,4}\}?`).Draw(t, "text")))
	})
}

package belfry

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// feature: NEW-15
func TestSubject(t *testing.T) {
	s := Subject{ID: "user/8", Name: "Ada Lovelace", Addresses: []string{"ada@example.org"}, Tag: "erased_x", Salt: "salt"}
	mail := s.For("ada@example.org")
	if mail != s.For("Ada@Example.org") || !strings.HasPrefix(mail, "erased_x.") {
		t.Errorf("%q", mail)
	}
	for text, want := range map[string]string{
		"user/8":                           "erased_x",
		"user/81 and xuser/8":              "user/81 and xuser/8",
		"by user/8.":                       "by erased_x.",
		"550 <Ada@example.org> unknown":    "550 <" + mail + "> unknown",
		"ada@example.org.example":          "ada@example.org.example",
		"recipient user/8, since 2026":     "recipient erased_x, since 2026",
		"nothing of hers":                  "nothing of hers",
		"user/8, user/80 and user/8 again": "erased_x, user/80 and erased_x again",
	} {
		if got := s.Text(text); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
	}
	body := `{"actor": "user/8", "user/8":1,"data":{"who":"Ada Lovelace","n":8,"list":["user\/8","user/80"],"to":"x, ADA@example.org"}}`
	want := `{"actor": "erased_x", "user/8":1,"data":{"who":"erased_x","n":8,"list":["erased_x","user/80"],"to":"x, ` + mail + `"}}`
	if got := string(s.Event([]byte(body))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if other := `{"actor":"user/9","data":{"who":"Ada Lovelace"}}`; s.InJSON([]byte(other)) {
		t.Error("a name alone is not hers")
	}
	// An id that may be anything counts where the event names her.
	short := Subject{ID: "8", Tag: "erased_x"}
	if got := string(short.Event([]byte(`{"actor":"9","data":{"n":"8"}}`))); strings.Contains(got, "erased") {
		t.Errorf("%s", got)
	}
	if got := string(short.Event([]byte(`{"related":["8"],"data":{"n":"8"}}`))); got != `{"related":["erased_x"],"data":{"n":"erased_x"}}` {
		t.Errorf("%s", got)
	}
}

// Whatever JSON it is, it stays JSON of the same shape, and does not name her.
func TestSubjectKeepsJSON(t *testing.T) {
	s := Subject{ID: "user/8", Addresses: []string{"ada@example.org"}, Tag: "erased_x", Salt: "salt"}
	word := rapid.SampledFrom([]string{"user/8", "ada@example.org", "ADA@example.org", "x", "\"", "\\", "é\n", "8", "user/8 and more"})
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			kind := rapid.IntRange(0, 3).Draw(t, "kind")
			switch {
			case kind == 0 && depth > 0:
				return rapid.MapOfN(word, value(depth-1), 0, 4).Draw(t, "object")
			case kind == 1 && depth > 0:
				return rapid.SliceOfN(value(depth-1), 0, 4).Draw(t, "array")
			case kind == 2:
				return float64(rapid.IntRange(-9, 9).Draw(t, "number"))
			}
			return word.Draw(t, "text")
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		v := value(3).Draw(t, "value")
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got := s.JSON(raw)
		var back any
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%s became %s: %v", raw, got, err)
		}
		want, _ := json.Marshal(without(v, &s))
		if have, _ := json.Marshal(back); string(have) != string(want) {
			t.Fatalf("%s became %s, not %s", raw, have, want)
		}
		if s.InJSON(got) {
			t.Fatalf("%s still names her", got)
		}
	})
}

// without is the naive way.
func without(v any, s *Subject) any {
	switch v := v.(type) {
	case string:
		return s.Text(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = without(v[i], s)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[k] = without(v[k], s)
		}
		return out
	}
	return v
}

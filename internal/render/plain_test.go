package render

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// decoded is plain by the library alone.
func decoded(raw json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return convert(v)
}

var genPlain = rapid.Custom(func(t *rapid.T) string { return plainJSON(t, 3) })

func plainJSON(t *rapid.T, depth int) string {
	space := rapid.SampledFrom([]string{"", "", " ", "\n\t"}).Draw(t, "space")
	if kind := rapid.IntRange(0, 9).Draw(t, "kind"); depth > 0 && kind < 5 {
		var parts []string
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			part := plainJSON(t, depth-1)
			if kind > 1 {
				part = rapid.SampledFrom([]string{`"a"`, `"b"`, `"ä"`, `"\u0061"`, `""`}).Draw(t, "key") + space + ":" + part
			}
			parts = append(parts, part)
		}
		if all := strings.Join(parts, space+","+space); kind > 1 {
			return space + "{" + space + all + "}" + space
		} else {
			return "[" + all + space + "]"
		}
	}
	return space + rapid.SampledFrom([]string{`"x"`, `""`, `"O'B \u00e9"`, `"ä"`, "\"\xff\"", "\"a\nb\"", `"\\"`, `"\""`, "0", "-0", "12", "007", "-", "1.50", "1.", ".5", "1e3", "-2E-1", "9223372036854775807", "9223372036854775808",
		"true", "false", "null", "nul", "truefalse", "", `"`, "[", "}", "1 2", "\x00"}).Draw(t, "scalar")
}

// What is read without the library is what the library reads.
func TestPlain(t *testing.T) {
	quick, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		raw := json.RawMessage(genPlain.Draw(t, "JSON"))
		if want, got := decoded(raw), plain(raw); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q is %#v, the library says %#v", raw, got, want)
		}
		if names, ok := (&plainReader{src: raw}).names(); ok && !slices.Equal(decodedKeys(raw), names) {
			t.Fatalf("the names in %q are %q, the library says %q", raw, names, decodedKeys(raw))
		}
		r := plainReader{src: raw}
		if _, ok := r.value(0); ok && r.end() {
			quick++
			if !json.Valid(raw) {
				t.Fatalf("%q is taken for JSON", raw)
			}
		}
		all++
	})
	if quick < all/10 {
		t.Errorf("%d of %d were read without the library", quick, all)
	}
	deep := json.RawMessage(strings.Repeat("[", maxPlainDepth+2) + strings.Repeat("]", maxPlainDepth+2))
	if want, got := decoded(deep), plain(deep); want == nil || !reflect.DeepEqual(want, got) {
		t.Errorf("%v, the library says %v", got, want)
	}
}

func FuzzPlain(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":[true,null,"x",1.5]}`, ` [] `, `{"a":{"a":-0}}`, `"\u0041"`, `1e2`, `{"a":1,"a":2}x`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if want, got := decoded(raw), plain(raw); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q is %#v, the library says %#v", raw, got, want)
		}
	})
}

// What is sanitised before its values are in it is what is sanitised after.
func TestSanitisedOnce(t *testing.T) {
	once := 0
	rapid.Check(t, func(t *rapid.T) {
		holder := placeholderBegin + "0" + placeholderEnd
		other := placeholderBegin + "1" + placeholderEnd
		source := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{holder, other, "**" + holder + "**", "\n\n", "\n> " + holder, "\n- " + other + "\n", "`" + holder + "`", "[" + holder + "](https://a.example)", "[a](https://a.example/?q=" + other + ")",
			"[a](" + holder + ")", "<b>" + holder + "</b>", "\n```\n" + holder + "\n```\n", "| a | b |\n|:-|-|\n| " + holder + " | x |\n", "# " + other + "\n", "a & b < c", "<script>" + holder + "</script>", "![x](" + holder + " \"" + other + "\")",
			"[a](javascript:alert(1))", "~~" + other + "~~", "\\\n" + holder, "<!-- " + holder + " -->", "&amp;" + holder + "&lt;"}), 1, 6).Draw(t, "source"), "")
		values := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"<b>x</b>", "a\nb", `"'&<>`, "&amp;", "https://b.example/?a=1&b=2", "javascript:alert(1)", holder, "é\u00a0\u200b", "<", ">", "-->", "</p>"})), 2, 2).Draw(t, "values")
		for i := range values {
			values[i] = clean(values[i])
		}
		page := read(source)
		got := fill(page, values)
		if !page.sanitised {
			got = policy.Sanitize(got)
		} else {
			once++
		}
		if want := policy.Sanitize(fill(filling{html: toHTML(source)}, values)); got != want {
			t.Fatalf("%q of %q is\n%s\nand sanitised after\n%s", values, source, got, want)
		}
	})
	if once < 20 {
		t.Errorf("%d were sanitised before", once)
	}
}

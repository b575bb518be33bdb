package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// decoded is plain by the library alone.
func decoded(raw json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return null{}
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

// What is null, or not there at all, is nothing where it is printed, and null in a
// whole.
func TestNullIsNothing(t *testing.T) {
	for source, want := range map[string]string{
		"a{{event.data.x}}b": "ab",
		"a{{event.data.x}}b{{#event.data.y}}y{{/event.data.y}}":                     "ab",
		"a{{#event.data.x}}x{{/event.data.x}}{{^event.data.x}}no{{/event.data.x}}b": "anob",
		"a{{#as.date}}{{event.data.x}}{{/as.date}}b":                                "ab",
		"a{{event.data.l}}b": "a1, 2b",
		"a{{event.data}}b":   `a{"l":[1,null,2],"x":null}b`,
		"a{{event.record}}b{{record}}c{{event.variables}}d": "abcd",
	} {
		tmpl, err := Compile("", source)
		if err != nil {
			t.Fatal(source, err)
		}
		got := tmpl.Inbox(Item{Event: &belfry.Event{Type: "x", Data: json.RawMessage(`{"x":null,"l":[1,null,2]}`)}})
		if got.Text != want {
			t.Errorf("%q reads %q, want %q", source, got.Text, want)
		}
	}
}

// Of what is read in part, the part is what it is in the whole.
func TestPlainOf(t *testing.T) {
	less := 0
	rapid.Check(t, func(t *rapid.T) {
		raw := json.RawMessage(genPlain.Filter(func(s string) bool { return json.Valid([]byte(s)) }).Draw(t, "JSON"))
		only := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ä", "c"}), 0, 2).Draw(t, "only")
		all, some := plain(raw), plainOf(raw, only)
		whole, ok := all.(object)
		if !ok {
			if !reflect.DeepEqual(all, some) {
				t.Fatalf("%q is %#v, in part %#v", raw, all, some)
			}
			return
		}
		part, ok := some.(object)
		if !ok {
			t.Fatalf("%q is %#v, of it %v %#v", raw, all, only, some)
		}
		for _, name := range only {
			want, there := whole[name]
			if got, ok := part[name]; ok != there || !reflect.DeepEqual(want, got) {
				t.Fatalf("%q has %#v at %q, in part %#v", raw, want, name, got)
			}
		}
		if len(part) < len(whole) {
			less++
		}
	})
	if less == 0 {
		t.Error("all was read each time")
	}
}

// What of an event's data a template may ask for is what it names, or all.
func TestDataFields(t *testing.T) {
	manyFields := ""
	for i := range fewFields + 1 {
		manyFields += fmt.Sprintf("{{event.data.f%d}}", i)
	}
	for source, want := range map[string][]string{
		"plain {{object.title}}":                                   {},
		"{{event.data.a}} {{ event.data.b.c }}":                    {"a", "b"},
		"{{#event.data.a}}{{b}} {{event.data.c}}{{/event.data.a}}": {"a", "c"},
		"{{#event}}{{data.a}}{{/event}}":                           nil,
		"{{#event.data}}{{a}}{{/event.data}}":                      nil,
		"{{event.data}}":                                           nil,
		"{{event.comment}} {{event.record.a}}":                     {},
		"{{content}} {{event.data.a}}":                             nil,
		"{{#details}}{{label}}{{/details}}":                        nil,
		strings.Repeat("{{event.data.a}}", 50):                     {"a"},
		manyFields:                                                 nil,
	} {
		body, err := Compile("{{type.title}}", source)
		if err != nil {
			t.Fatal(source, err)
		}
		subject, err := Compile(source, "{{event.data.z}}")
		if err != nil {
			t.Fatal(source, err)
		}
		both := want
		if want != nil {
			both = append(slices.Clone(want), "z")
		}
		for _, c := range []struct {
			t    *Template
			want []string
		}{{body, want}, {subject, both}} {
			got := c.t.dataFields()
			slices.Sort(got)
			if (got == nil) != (c.want == nil) || !slices.Equal(got, c.want) {
				t.Errorf("%q: %q, want %q", source, got, c.want)
			}
		}
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

// What is sanitised, and laid out as plain text, before its values are in it is
// what it is after.
func TestReadOnce(t *testing.T) {
	once, even := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		holder := placeholderBegin + "0" + placeholderEnd
		other := placeholderBegin + "1" + placeholderEnd
		source := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{holder, other, " " + holder + " ", "**" + holder + "**", "\n\n", "\n> " + holder, "\n> - " + other + "\n>   " + holder + "\n", "\n- " + other + "\n", "\n3. " + other + "\n", "`" + holder + "`", "[" + holder + "](https://a.example)", "[a](https://a.example/?q=" + other + ")",
			"[a](" + holder + ")", "<b>" + holder + "</b>", "\n```\n" + holder + "\n  " + other + "\n```\n", "| a | b |\n|:-|-|\n| " + holder + " | x |\n", "# " + other + "\n", "a & b < c", "<script>" + holder + "</script>", "![x](" + holder + " \"" + other + "\")",
			"[a](javascript:alert(1))", "~~" + other + "~~", "\\\n" + holder, "<!-- " + holder + " -->", "&amp;" + holder + "&lt;", "\n***\n" + holder}), 1, 6).Draw(t, "source"), "")
		values := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"<b>x</b>", "a\nb", "a b", "a  b", "", " a", "a ", "a\tb", "5.5 km", `"'&<>`, "&amp;", "https://a.example", "https://b.example/?a=1&b=2", "javascript:alert(1)", holder, "é\u00a0\u200b", "<", ">", "-->", "</p>"})), 2, 2).Draw(t, "values")
		for i := range values {
			values[i] = clean(values[i])
		}
		page := read(source)
		got := page.fill(values)
		if !page.sanitised {
			got = policy.Sanitize(got)
		} else {
			once++
		}
		after := filling{html: cutAtHoles(toHTML(source), true)}
		if want := policy.Sanitize(after.fill(values)); got != want {
			t.Fatalf("%q of %q is\n%s\nand sanitised after\n%s", values, source, got, want)
		}
		html, text := page.filled(values)
		if page.even && !slices.ContainsFunc(values, uneven) {
			even++
		}
		if want := toText(html); text != want {
			t.Fatalf("%q of %q is\n%s\nand laid out after\n%s", values, source, text, want)
		}
	})
	linked := read("[" + placeholderBegin + "0" + placeholderEnd + "](https://a.example)")
	if _, text := linked.filled([]string{"https://a.example"}); text != "https://a.example" {
		t.Errorf("a link that is its own words is told as %q", text)
	}
	if once < 20 || even < 10 {
		t.Errorf("%d were sanitised before, %d laid out", once, even)
	}
}

// A template for which only what it names is worked out says what it says when
// everything is.
func TestNothingNamedIsLeftOut(t *testing.T) {
	e := &belfry.Event{ID: "1", Source: "/s", Type: "core.course_updated", Object: "course/41", Actor: "user/8", Related: []string{"user/1", "user/2"}, Comment: "well",
		Data: json.RawMessage(`{"a":{"b":1,"data":"inner"},"list":[{"label":"x"},2],"zero":0,"type":"of the data"}`), Record: json.RawMessage(`{"a":"of the record"}`)}
	it := Item{Event: e, EventID: "ev_1", Object: belfry.Object{ID: "course/41", Title: "CPR", URL: "https://school.example/41"}, TypeTitle: "Changed", RecipientName: "Ann",
		Subscription: &belfry.Subscription{ID: "sub_1", Title: "Courses"}, Site: Site{Name: "School", URL: "https://school.example"}, Said: Words{"Said", "words"}, Locale: "en"}
	tags := []string{"event", "event.data", "event.data.a", "event.data.a.b", "event.data.list", "event.data.zero", "event.record", "event.record.a", "event.related", "event.type", "record", "record.a",
		"actor", "actor.name", "object", "object.title", "type", "type.name", "subscription.title", "recipient.name", "site.url", "message.body", "details", "link", "about", "path", "content", "."}
	inner := []string{"data", "record", "a", "a.b", "type", "label", "value", "title", "name", "b", "list"}
	said := 0
	rapid.Check(t, func(t *rapid.T) {
		var source strings.Builder
		for range rapid.IntRange(1, 4).Draw(t, "pieces") {
			tag := rapid.SampledFrom(tags).Draw(t, "tag")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				within := rapid.SampledFrom(append(inner, tags...)).Draw(t, "inner")
				source.WriteString("{{#" + tag + "}}[{{" + within + "}}]{{/" + tag + "}} ")
			case 1:
				source.WriteString("{{^ " + tag + " }}none{{/" + tag + "}} ")
			default:
				source.WriteString("{{ " + tag + " }} ")
			}
		}
		subject := "{{" + rapid.SampledFrom(tags).Draw(t, "subject") + "}}"
		some, err := Compile(subject, source.String())
		if err != nil {
			return // a name that means nothing where it stands
		}
		all, _ := Compile(subject, source.String())
		for root, of := range vocabulary.fields {
			all.body.parts[root] = slices.Collect(maps.Keys(of.fields))
			if all.body.parts[root] == nil {
				all.body.parts[root] = []string{}
			}
		}
		all.body.whole = true
		want, got := all.Inbox(it), some.Inbox(it)
		if got != want {
			t.Fatalf("%q, %q says\n%+v\nof all\n%+v", subject, source.String(), got, want)
		}
		said += len(got.Text)
	})
	if said == 0 {
		t.Error("nothing was said")
	}
}

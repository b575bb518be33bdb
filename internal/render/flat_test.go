package render

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What is rendered without the library is what the library renders.
func TestFlatly(t *testing.T) {
	quick, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		tags := rapid.SampledFrom([]string{"object.title", "actor.name", "subscription.title", "details", "condition.count", "time", "as", "event.data.a", "event.data.b.a", "event.data", "event.record.a", "record.ä", "event.related", "event.data.String",
			" object.title ", "type.name", "event", "!a remark", "link", "event.data.a.b.c", "event.variables.a"})
		var source strings.Builder
		for range rapid.IntRange(0, 6).Draw(t, "pieces") {
			source.WriteString(rapid.SampledFrom([]string{"", " ", "text", "ä €\n", "\n", "zqv00vqz", "}}", "{", strings.Repeat("long ", 30)}).Draw(t, "text"))
			tag := "{{" + tags.Draw(t, "tag") + "}}"
			if rapid.IntRange(0, 9).Draw(t, "section") == 0 {
				tag = "{{#link}}" + tag + "{{/link}}"
			}
			source.WriteString(tag)
		}
		source.WriteString(rapid.SampledFrom([]string{"", "end", "\n"}).Draw(t, "end"))
		body, err := Compile("{{type.title}}", source.String())
		if err != nil {
			return // no template
		}
		data := func(name string) json.RawMessage {
			if rapid.Bool().Draw(t, "long") {
				return fmt.Appendf(nil, `{"b":{"a":1},"a":%q}`, strings.Repeat("much ", rapid.IntRange(0, 200).Draw(t, "times")))
			}
			return json.RawMessage(genPlain.Filter(func(s string) bool { return json.Valid([]byte(s)) }).Draw(t, name))
		}
		item := Item{
			Event:  &belfry.Event{Type: "x.y", Data: data("data"), Record: data("record"), Related: []string{"a", "b"}, Actor: rapid.SampledFrom([]string{"", "user/8"}).Draw(t, "actor")},
			Object: belfry.Object{ID: "course/1", URL: "https://x.example", Title: rapid.SampledFrom([]string{"", "A & <b>", "zqv01vqz"}).Draw(t, "title")},
		}
		if rapid.Bool().Draw(t, "subscribed") {
			item.Subscription = &belfry.Subscription{ID: "sub_1", Title: "Changes"}
		}
		for _, limit := range []int{maxMarkdown, 8 * maxSubject, 40} {
			told := func() (func(string) (string, bool), *[]string) {
				var taken []string
				return func(s string) (string, bool) {
					taken = append(taken, s)
					return placeholderAt(len(taken) - 1), true
				}, &taken
			}
			value, one := told()
			got, ok := body.body.flatly(item.values(body), limit, value)
			if all++; !ok {
				if len(*one) > 0 {
					t.Fatalf("%q took values and gave up", source.String())
				}
				continue
			}
			quick++
			value, two := told()
			if want := body.body.render(item.values(body).all(), limit, value); got != want || fmt.Sprint(*one) != fmt.Sprint(*two) {
				t.Fatalf("%q of %s and %s, at most %d:\n%q with %q, the library says\n%q with %q", source.String(), item.Event.Data, item.Event.Record, limit, got, *one, want, *two)
			}
		}
	})
	if quick*5 < all {
		t.Errorf("only %d of %d went without the library: the test shows little", quick, all)
	}
}

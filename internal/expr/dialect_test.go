package expr

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// The filter dialects of CloudEvents Subscriptions, written as CEL.
func TestFromDialects(t *testing.T) {
	e := &belfry.Event{ID: "7", Source: "/shop", Type: "order.paid", Subject: `a "quoted" one`, Actor: "user/8",
		Extensions: map[string]json.RawMessage{"region": json.RawMessage(`"eu-1"`), "size": json.RawMessage(`5`), "9lives": json.RawMessage(`"x"`)}}
	for _, c := range []struct {
		raw, cel string
		want     bool
	}{
		{`{"exact":{"type":"order.paid"}}`, `event.type == "order.paid"`, true},
		{`{"exact":{"type":"order.paid","source":"/other"}}`, `(event.source == "/other" && event.type == "order.paid")`, false},
		{`{"prefix":{"type":"order."}}`, `event.type.startsWith("order.")`, true},
		{`{"suffix":{"subject":"\"quoted\" one"}}`, `event.subject.endsWith("\"quoted\" one")`, true},
		{`{"not":{"exact":{"actor":"user/8"}}}`, `!(event.actor == "user/8")`, false},
		{`{"exact":{"region":"eu-1"}}`, `("region" in event.extensions && string(event.extensions["region"]) == "eu-1")`, true},
		{`{"exact":{"size":"5"}}`, `("size" in event.extensions && string(event.extensions["size"]) == "5")`, true},
		{`{"exact":{"9lives":"x"}}`, `("9lives" in event.extensions && string(event.extensions["9lives"]) == "x")`, true},
		{`{"exact":{"absent":"x"}}`, `("absent" in event.extensions && string(event.extensions["absent"]) == "x")`, false},
		{`{"not":{"prefix":{"absent":"x"}}}`, `!(("absent" in event.extensions && string(event.extensions["absent"]).startsWith("x")))`, true},
		{`[{"exact":{"type":"order.paid"}},{"suffix":{"source":"shop"}}]`, `(event.type == "order.paid" && event.source.endsWith("shop"))`, true},
		{`[{"exact":{"type":"order.paid"}}]`, `event.type == "order.paid"`, true},
		{`{"any":[{"exact":{"id":"8"}},{"all":[{"exact":{"id":"7"}},{"not":{"any":[{"exact":{"source":"/x"}}]}}]}]}`,
			`(event.id == "8" || (event.id == "7" && !(event.source == "/x")))`, true},
	} {
		got, err := FromDialects(json.RawMessage(c.raw))
		if err != nil || got != c.cel {
			t.Errorf("%s:\n got %s, %v\nwant %s", c.raw, got, err, c.cel)
			continue
		}
		p, err := Compile(got)
		if err != nil {
			t.Errorf("%s: %s does not compile: %v", c.raw, got, err)
			continue
		}
		if v := p.Eval(NewVars(e, Facts{})); v.True() != c.want || v.Code == belfry.FilterFault {
			t.Errorf("%s: %+v, want %v", c.raw, v, c.want)
		}
	}
	for raw, want := range map[string]string{
		`{}`:                              "exactly one of exact",
		`{"exact":{"type":"a"},"not":{}}`: "exactly one of exact",
		`{"exakt":{"type":"a"}}`:          `did you mean "exact"?`,
		`{"sql":"x"}`:                     "is no dialect that is read here",
		`[]`:                              "not empty",
		`{"all":[]}`:                      "not empty",
		`{"any":[{"exact":{}}]}`:          "/any/0/exact",
		`{"exact":{"type":5}}`:            "attributes with texts",
		`{"exact":{"type":""}}`:           "must not be empty",
		`{"exact":{"Type":"a"}}`:          "lower-case",
		`{"exact":{"a.b":"a"}}`:           "lower-case",
		`{"exact":{"time":"2026-01-01"}}`: "time is no text",
		`{"exact":{"specversion":"1.0"}}`: "leave it out",
		strings.Repeat(`{"not":`, 30) + `{"exact":{"type":"a"}}` + strings.Repeat(`}`, 30): "nested more than",
	} {
		if got, err := FromDialects(json.RawMessage(raw)); err == nil || belfry.KindOf(err) != belfry.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %q, %v; want an error with %q", raw, got, err, want)
		}
	}
}

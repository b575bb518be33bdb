package expr_test

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// feature: CPS-16
func TestMessage(t *testing.T) {
	e := &belfry.Event{Type: "a.b", Actor: "ada", Data: []byte(`{"room":"R1","seats":12,"nothing":null}`)}
	vars := expr.NewVars(e, expr.Facts{Ancestors: []belfry.Object{{ID: "o", Title: "Lab", Document: "d7"}, {ID: "root"}}})
	reader := &belfry.User{ID: "ben", Name: "Ben", Locale: "de", Attributes: []byte(`{"grade":3}`)}
	for source, want := range map[string]expr.Said{
		`false`:                  {None: true},
		`event.data.nothing`:     {None: true},
		`true`:                   {},
		`document`:               {Body: "d7"},
		`{}`:                     {None: true},
		`event.data.seats > 100`: {None: true},
		`recipient.id == "ben"`:  {},
		`recipient.attributes.grade > 3 ? "x" : ""`:         {None: true},
		`recipient.attributes.grade > 3 ? dyn("x") : false`: {None: true},
		`"Room " + event.data.room`:                         {Body: "Room R1"},
		`{"subject": "For " + recipient.name, "body": string(event.data.seats) + " seats in " + object.title}`: {Subject: "For Ben", Body: "12 seats in Lab"},
		`recipient.locale.startsWith("de") ? {"body": "Raum"} : {"body": "Room"}`:                              {Body: "Raum"},
		`"a" + event.data.gone`:         {Fault: "no such key: gone"},
		`event.data.seats`:              {Fault: "the result is a double: a message is text, {'subject': …, 'body': …}, or true or false"},
		`{"subject": "x", "text": "y"}`: {Fault: `the result has the member "text": subject and body are known`},
		`{"subject": event.data.seats}`: {Fault: "subject of the result is a double, not text: string(…) makes text of a number"},
	} {
		m, err := expr.CompileMessage(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got := m.Say(vars, reader); got != want {
			t.Errorf("%s: %+v, want %+v", source, got, want)
		}
	}
	for source, want := range map[string]string{
		``: "empty", `1 + 1`: "of type int", `["a"]`: "of type list(string)", `recipent.name`: "did you mean recipient?", `"a" + `: "line 1",
		`ancestor.title`: "undeclared", // no rule says the types of which the closest counts
	} {
		if _, err := expr.CompileMessage(source); belfry.KindOf(err) != belfry.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", source, err, want)
		}
	}
	huge, err := expr.CompileMessage(`event.data.map(k, event.data.map(l, event.data.map(m, k + l + m).size()).size()).size() > 0 ? "x" : "y"`)
	if err != nil {
		t.Fatal(err)
	}
	var many strings.Builder
	many.WriteString(`{"a":1`)
	for i := range 2000 {
		many.WriteString(`,"k` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + `":1`)
	}
	many.WriteString("}")
	if got := huge.Say(expr.NewVars(&belfry.Event{Data: []byte(many.String())}, expr.Facts{}), nil); !strings.Contains(got.Fault, "too much work") {
		t.Errorf("endless work gives %+v", got)
	}
	// Of an anonymous event a message cannot tell who did it.
	e.Flags = []string{belfry.FlagAnonymous}
	m, err := expr.CompileMessage(`"by " + event.actor + actor.id`)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Say(expr.NewVars(e, expr.Facts{Actor: &belfry.User{ID: "ada"}}), reader); got.Body != "by " {
		t.Errorf("%+v", got)
	}
}

package render_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

// The wording for a reader and a channel.
// feature: PEER-11, CPS-19
func TestWordingFor(t *testing.T) {
	w := func(s, b string) belfry.Words { return belfry.Words{Subject: s, Body: b} }
	set, err := render.CompileSet(&belfry.Template{
		Words: w("base", "base body"),
		Locales: map[string]belfry.Words{
			"pt": w("pt", "pt body"), "pt-BR": w("pt-BR", ""), "fr": w("", "fr body"),
		},
		Channels: map[string]belfry.ChannelWords{
			"sms": {Words: w("sms", ""), Locales: map[string]belfry.Words{"pt": w("", "pt sms body")}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		channel       string
		locales       []string
		subject, body string
	}{
		{"email", nil, "base", "base body"},
		{"email", []string{"", ""}, "base", "base body"},
		{"email", []string{"pt-br"}, "pt-BR", "pt body"},
		{"email", []string{"pt-PT"}, "pt", "pt body"},
		{"email", []string{"pt-Latn-BR-x-y"}, "pt", "pt body"},
		{"email", []string{"fr"}, "base", "fr body"},
		{"email", []string{"fr", "pt"}, "pt", "fr body"}, // the tenant's language before words without one
		{"email", []string{"de"}, "base", "base body"},
		{"email", []string{"de", "pt"}, "pt", "pt body"},
		{"sms", nil, "sms", "base body"},
		{"sms", []string{"pt-BR"}, "pt-BR", "pt sms body"}, // the language goes before the channel
		{"sms", []string{"de"}, "sms", "base body"},
	} {
		e := set.For(c.channel, c.locales...).Inbox(item("{}"))
		if e.Title != c.subject || e.Text != c.body {
			t.Errorf("%s %q: %q, %q; want %q, %q", c.channel, c.locales, e.Title, e.Text, c.subject, c.body)
		}
	}
}

func TestSetFaults(t *testing.T) {
	_, err := render.CompileSet(&belfry.Template{
		Words:    belfry.Words{Subject: "{{nothing}}", Body: "{{as.date}} {{#as.date}}{{#event.data.l}}x{{/event.data.l}}{{/as.date}} {{^as.number}}x{{/as.number}} {{#as.dat}}x{{/as.dat}}"},
		Locales:  map[string]belfry.Words{"pt": {Body: "{{"}},
		Channels: map[string]belfry.ChannelWords{"a/b": {Locales: map[string]belfry.Words{"de": {Subject: "a\nb"}}}},
	})
	if err == nil {
		t.Fatal("compiled")
	}
	got := map[string]int{}
	var faults *belfry.Error
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	for _, f := range faults.Fields {
		got[f.Pointer]++
	}
	for pointer, n := range map[string]int{"/subject": 1, "/body": 4, "/locales/pt/body": 1, "/channels/a~1b/locales/de/subject": 1} {
		if got[pointer] != n {
			t.Errorf("%d faults at %s, want %d: %v", got[pointer], pointer, n, err)
		}
	}
	many := belfry.Template{Locales: map[string]belfry.Words{}}
	for i := range 201 {
		many.Locales["x-"+strings.Repeat("a", i+1)] = belfry.Words{}
	}
	if _, err := render.CompileSet(&many); belfry.KindOf(err) != belfry.Invalid {
		t.Errorf("201 wordings: %v", err)
	}
}

// Dates and numbers are the reader's, in her zone.
func TestFormats(t *testing.T) {
	set, err := render.CompileSet(&belfry.Template{Words: belfry.Words{
		Subject: "{{#as.date}}{{event.data.due}}{{/as.date}}",
		Body:    "{{#as.datetime}}{{event.data.at}}{{/as.datetime}} | {{#as.time}}{{event.data.unix}}{{/as.time}} | {{#as.number}}{{event.data.n}}{{/as.number}} | {{#as.percent}} {{event.data.p}} {{/as.percent}} | {{#as.date}}{{event.data.none}}{{/as.date}} | {{#as.date}}{{event.data.odd}}{{/as.date}} | {{#event.data.list}}{{#as.number}}{{.}}{{/as.number}};{{/event.data.list}}",
	}})
	if err != nil {
		t.Fatal(err)
	}
	it := item(`{"due":"2016-05-09","at":"2016-05-09T23:30:00Z","unix":1462836600,"n":12345.5,"p":0.25,"odd":"<b>soon & \"later\"</b>","list":[1000,2.5]}`)
	it.Zone = time.FixedZone("BRT", -3*3600)
	for locale, want := range map[string][2]string{
		"":      {"9 May 2016", "9 May 2016, 20:30 BRT | 20:30 | 12,345.5 | 25% | | <b>soon & \"later\"</b> | 1,000;2.5;"},
		"de":    {"9. Mai 2016", "9. Mai 2016, 20:30 BRT | 20:30 | 12.345,5 | 25 % | | <b>soon & \"later\"</b> | 1.000;2,5;"},
		"pt-BR": {"9 de maio de 2016", "9 de maio de 2016, 20:30 BRT | 20:30 | 12.345,5 | 25% | | <b>soon & \"later\"</b> | 1.000;2,5;"},
	} {
		it.Locale = locale
		e := set.For("", locale).Inbox(it)
		text := strings.Join(strings.FieldsFunc(e.Text, func(r rune) bool { return r == ' ' || r == '\n' }), " ")
		if e.Title != want[0] || text != want[1] {
			t.Errorf("%q: %q, %q\nwant %q, %q", locale, e.Title, text, want[0], want[1])
		}
		if strings.Contains(e.HTML, "<b>") {
			t.Errorf("%q: markup of a value in %s", locale, e.HTML)
		}
	}
}

// A format does nothing that takes long, whatever the data.
func TestFormatsAreBounded(t *testing.T) {
	set, err := render.CompileSet(&belfry.Template{Words: belfry.Words{Body: "{{#event.data.l}}{{#as.number}}{{event.data}}{{/as.number}}{{/event.data.l}}"}})
	if err != nil {
		t.Fatal(err)
	}
	it := item(`{"l":[` + strings.TrimSuffix(strings.Repeat("1,", 2000), ",") + `],"s":"` + strings.Repeat("x", 50_000) + `"}`)
	start := time.Now()
	e := set.For("").Inbox(it)
	if took := time.Since(start); took > 5*time.Second || len(e.Text) > 200<<10 {
		t.Errorf("took %v for %d bytes", took, len(e.Text))
	}
}

// The built-in message in the languages of the house.
// feature: CPS-19
func TestBuiltInLanguages(t *testing.T) {
	it := item(`{"done":true}`)
	it.ActorName, it.About = "Ada", []string{"Ben"}
	it.Because = []belfry.Reason{{Code: belfry.NamedRole, Role: "teacher"}}
	for locale, want := range map[string][]string{
		"es-MX": {"por Ada", "sobre Ben", "Done: sí", "Recibe este mensaje porque tiene el rol teacher.", "Dejar de recibir"},
		"fr":    {"par Ada", "à propos de Ben", "Done: oui", "Vous recevez ce message car vous avez le rôle teacher.", "Ne plus recevoir"},
		"de-AT": {"von Ada", "betrifft Ben", "Done: ja", "Sie erhalten diese Nachricht, weil Sie die Rolle teacher haben.", "abbestellen"},
		"xx":    {"by Ada", "about Ben", "Done: yes", "You get this because you have the role teacher.", "Stop these"},
	} {
		it.Locale = locale
		m := render.Default(locale).Mail(it, links)
		for _, part := range want {
			if !strings.Contains(m.Text, part) {
				t.Errorf("%s: no %q in\n%s", locale, part, m.Text)
			}
		}
	}
	it.Locale, it.Fallback = "", "fr"
	if m := render.Default(it.Locale, it.Fallback).Mail(it, links); m.Locale != "fr" || !strings.Contains(m.Text, "par Ada") {
		t.Errorf("the tenant's language: %s\n%s", m.Locale, m.Text)
	}
}

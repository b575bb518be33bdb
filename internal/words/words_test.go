package words_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// read is a file of texts: those with plural forms are all forms in one.
func read(t *testing.T, language string) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile(language + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatalf("%s.json: %v", language, err)
	}
	out := map[string][]string{}
	for id, v := range file {
		switch v := v.(type) {
		case string:
			out[id] = []string{v}
		case map[string]any:
			for form, text := range v {
				if form != "one" && form != "many" && form != "other" {
					t.Errorf("%s.json: %s has the form %q", language, id, form)
				}
				out[id] = append(out[id], text.(string))
			}
		}
	}
	return out
}

var placeholders = regexp.MustCompile(`\{\{[^}]*\}\}`)

func placeholdersOf(text string) []string {
	all := placeholders.FindAllString(text, -1)
	slices.Sort(all)
	return slices.Compact(all)
}

// French sets off with one apostrophe, the one that is printed.
func TestFrenchApostrophes(t *testing.T) {
	seen := 0
	for id, forms := range read(t, "fr") {
		for _, text := range forms {
			seen += strings.Count(text, "’")
			if strings.Contains(placeholders.ReplaceAllString(text, ""), "'") {
				t.Errorf("fr.json: %s is %q: write ’ for '", id, text)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d apostrophes were seen", seen)
	}
}

// Every end of a send is said.
func TestOutcomesInWords(t *testing.T) {
	english := read(t, "en")
	for k := belfry.OutcomeKind(0); ; k++ {
		if len(english["why.outcome."+k.String()]) == 0 {
			t.Errorf("en.json has no why.outcome.%s", k)
		}
		if k.String() == "unknown" {
			return
		}
	}
}

// Every text exists in all languages, with the same placeholders.
func TestSameTextsInAllLanguages(t *testing.T) {
	english := read(t, "en")
	if len(english) < 30 {
		t.Fatalf("only %d texts", len(english))
	}
	for _, language := range words.Languages()[1:] {
		other := read(t, language)
		for id, forms := range english {
			if len(other[id]) == 0 {
				t.Errorf("%s.json has no %s", language, id)
				continue
			}
			want := placeholdersOf(forms[0])
			for _, form := range append(other[id], forms...) {
				// A form may leave the number out: one file, no file.
				if got := placeholdersOf(form); !slices.Equal(got, want) && len(forms) == 1 {
					t.Errorf("%s in %s: placeholders %v of %q are not %v", id, language, got, form, want)
				}
				if form == "" {
					t.Errorf("%s in %s is empty", id, language)
				}
			}
		}
		for id := range other {
			if len(english[id]) == 0 && !strings.HasPrefix(id, "reason.") { // those are belfry's
				t.Errorf("en.json has no %s", id)
			}
		}
	}
}

// Every reason has words in every language; the English ones are belfry's.
func TestReasons(t *testing.T) {
	codes := belfry.ReasonCodes()
	for _, language := range words.Languages()[1:] {
		texts := read(t, language)
		for _, code := range codes {
			if len(texts["reason."+code]) == 0 {
				t.Errorf("%s.json has no reason.%s", language, code)
			}
			delete(texts, "reason."+code)
		}
		for id := range texts {
			if strings.HasPrefix(id, "reason.") {
				t.Errorf("%s.json has %s, which is no reason", language, id)
			}
		}
	}
	r := belfry.Reason{Code: belfry.NamedRole, Role: "editor", Group: "staff", Object: "course/41", Detail: "d"}
	for language, want := range map[string]string{
		"en": r.Text(),
		"de": "hat eine Rolle, die das Abonnement nennt, Rolle editor, Gruppe staff, bei course/41: d",
	} {
		if got := words.For(language).Reason(r); got != want {
			t.Errorf("%s: %q", language, got)
		}
	}
	if got := words.For("fr").Reason(belfry.Reason{Code: "new", Detail: "d"}); got != "new: d" {
		t.Errorf("a code without words is %q", got)
	}
}

func TestFallback(t *testing.T) {
	for _, c := range []struct {
		locales []string
		want    string
	}{
		{nil, "yes"},
		{[]string{""}, "yes"},
		{[]string{"de-AT"}, "ja"},
		{[]string{"pt-BR"}, "yes"},
		{[]string{"pt-BR", "fr"}, "oui"},
		{[]string{"no language at all", "es-MX"}, "sí"},
		{[]string{"fr", "de"}, "oui"},
	} {
		if got := words.For(c.locales...).Say("value.yes"); got != c.want {
			t.Errorf("For(%q) says %q, want %q", c.locales, got, c.want)
		}
	}
	for header, want := range map[string]string{
		"de-CH, en;q=0.5": "ja", "pt, fr;q=0.8": "oui", "": "sí", "*": "yes", "%%%": "sí",
	} {
		if got := words.Accepting(header, "es").Say("value.yes"); got != want {
			t.Errorf("Accepting(%q) says %q, want %q", header, got, want)
		}
	}
	if got := words.For("de").Say("no.such"); got != "no.such" {
		t.Errorf("a text that is not there is %q", got)
	}
}

func TestDatesAndNumbers(t *testing.T) {
	at := time.Date(2016, 5, 9, 9, 31, 0, 0, time.UTC)
	for _, c := range []struct{ locale, date, moment, number, percent string }{
		{"", "9 May 2016", "9 May 2016, 09:31 UTC", "1,234,567.5", "12.5%"},
		{"en-US", "May 9, 2016", "May 9, 2016, 9:31 am UTC", "1,234,567.5", "12.5%"},
		{"de", "9. Mai 2016", "9. Mai 2016, 09:31 UTC", "1.234.567,5", "12,5\u00a0%"},
		{"fr", "9 mai 2016", "9 mai 2016, 09:31 UTC", "1\u00a0234\u00a0567,5", "12,5\u00a0%"},
		{"es", "9 de mayo de 2016", "9 de mayo de 2016, 9:31 UTC", "1.234.567,5", "12,5\u00a0%"},
		{"pt-BR", "9 de maio de 2016", "9 de maio de 2016, 09:31 UTC", "1.234.567,5", "12,5%"},
	} {
		p := words.Around(c.locale)
		if got := p.Date(at); got != c.date {
			t.Errorf("%s: date %q, want %q", c.locale, got, c.date)
		}
		if got := p.DateTime(at); got != c.moment {
			t.Errorf("%s: moment %q, want %q", c.locale, got, c.moment)
		}
		if got, _ := p.Number("1234567.5"); got != c.number {
			t.Errorf("%s: number %q, want %q", c.locale, got, c.number)
		}
		if got, _ := p.Percent("0.125"); got != c.percent {
			t.Errorf("%s: percent %q, want %q", c.locale, got, c.percent)
		}
	}
	for locale, want := range map[string]string{"pt-BR": "9 May 2016", "en-US": "May 9, 2016", "de-AT": "9. Mai 2016"} {
		if got := words.For(locale, "pt").Date(at); got != want {
			t.Errorf("%s, in the language of the texts: date %q, want %q", locale, got, want)
		}
	}
	for _, none := range []string{"", "abc", "0x10", "NaN", "Inf", "1e400"} {
		if got, ok := words.For("en").Number(none); ok {
			t.Errorf("%q is the number %q", none, got)
		}
	}
	if got, _ := words.For("de").Number("19.90"); got != "19,90" {
		t.Errorf("19.90 is %q", got)
	}
}

func TestParseTime(t *testing.T) {
	at := time.Date(2016, 5, 9, 9, 31, 16, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2016-05-09T09:31:16Z": at, "2016-05-09T11:31:16+02:00": at, "2016-05-09 09:31:16": at, "1462786276": at, "1462786276000": at,
		"2016-05-09": at.Truncate(24 * time.Hour),
	} {
		got, day, ok := words.ParseTime(text)
		if !ok || !got.Equal(want) || day != (len(text) == 10 && text[4] == '-') {
			t.Errorf("%q is %v (day %v, %v), want %v", text, got, day, ok, want)
		}
	}
	for _, none := range []string{"", "12", "soon", "2016-13-01", "9999999999999999999"} {
		if got, _, ok := words.ParseTime(none); ok {
			t.Errorf("%q is the time %v", none, got)
		}
	}
}

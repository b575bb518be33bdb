package words

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-playground/locales"
	"github.com/go-playground/locales/cs"
	"github.com/go-playground/locales/da"
	"github.com/go-playground/locales/de"
	"github.com/go-playground/locales/de_AT"
	"github.com/go-playground/locales/de_CH"
	"github.com/go-playground/locales/en_GB"
	"github.com/go-playground/locales/en_US"
	"github.com/go-playground/locales/es"
	"github.com/go-playground/locales/es_MX"
	"github.com/go-playground/locales/fi"
	"github.com/go-playground/locales/fr"
	"github.com/go-playground/locales/fr_CA"
	"github.com/go-playground/locales/it"
	"github.com/go-playground/locales/nb"
	"github.com/go-playground/locales/nl"
	"github.com/go-playground/locales/pl"
	"github.com/go-playground/locales/pt"
	"github.com/go-playground/locales/pt_PT"
	"github.com/go-playground/locales/sv"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/number"
)

// format is how a language writes dates and numbers: dates are CLDR's as
// go-playground/locales carries them, numbers golang.org/x/text's.
type format struct {
	tag     language.Tag
	dates   locales.Translator
	numbers *message.Printer
}

// formats are the languages whose dates are known. English without a country is
// written as most of the world writes it, the day first.
var formats = func() []format {
	all := []format{
		{tag: language.English, dates: en_GB.New()}, {tag: language.AmericanEnglish, dates: en_US.New()}, {tag: language.BritishEnglish, dates: en_GB.New()},
		{tag: language.Spanish, dates: es.New()}, {tag: language.MustParse("es-MX"), dates: es_MX.New()},
		{tag: language.French, dates: fr.New()}, {tag: language.CanadianFrench, dates: fr_CA.New()},
		{tag: language.German, dates: de.New()}, {tag: language.MustParse("de-AT"), dates: de_AT.New()}, {tag: language.MustParse("de-CH"), dates: de_CH.New()},
		{tag: language.Portuguese, dates: pt.New()}, {tag: language.EuropeanPortuguese, dates: pt_PT.New()},
		{tag: language.Italian, dates: it.New()}, {tag: language.Dutch, dates: nl.New()}, {tag: language.Polish, dates: pl.New()},
		{tag: language.Czech, dates: cs.New()}, {tag: language.Danish, dates: da.New()}, {tag: language.Swedish, dates: sv.New()},
		{tag: language.MustParse("nb"), dates: nb.New()}, {tag: language.Finnish, dates: fi.New()},
	}
	for i := range all {
		all[i].numbers = message.NewPrinter(all[i].tag)
	}
	return all
}()

var byFormat = func() language.Matcher {
	tags := make([]language.Tag, len(formats))
	for i := range formats {
		tags[i] = formats[i].tag
	}
	return language.NewMatcher(tags)
}()

// Date is a day, such as 9 May 2016.
func (p *Printer) Date(t time.Time) string { return p.formats.dates.FmtDateLong(t) }

// Clock is a time of day, such as 09:31.
func (p *Printer) Clock(t time.Time) string { return p.formats.dates.FmtTimeShort(t) }

// DateTime is a moment with its zone, such as 9 May 2016, 09:31 UTC.
func (p *Printer) DateTime(t time.Time) string {
	return p.Date(t) + ", " + p.Clock(t) + " " + t.Format("MST")
}

func (f *format) integer(n int64) string { return f.numbers.Sprint(number.Decimal(n)) }

// Number is a number in decimal digits as the language writes it; false when
// text is none.
func (p *Printer) Number(text string) (string, bool) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return p.formats.integer(n), true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.ContainsAny(text, "xXpP_nN") || f > 1e15 || f < -1e15 {
		return "", false
	}
	decimals := 0
	if _, after, found := strings.Cut(text, "."); found {
		decimals = min(len(after), 12)
	}
	return p.formats.numbers.Sprint(number.Decimal(f, number.MinFractionDigits(decimals), number.MaxFractionDigits(max(decimals, 6)))), true
}

// Percent is a share of one, as a whole percentage; false when text is no
// number.
func (p *Printer) Percent(text string) (string, bool) {
	f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || f > 1e9 || f < -1e9 || f != f {
		return "", false
	}
	return p.formats.numbers.Sprint(number.Percent(f, number.MaxFractionDigits(1))), true
}

// layouts are the ways a platform may write a moment.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"}

// ParseTime reads a moment as platforms write it: RFC 3339, the same without a
// zone (UTC), a day alone, or seconds or milliseconds since 1970. day is true
// of a day alone, which is the same in every zone.
func ParseTime(text string) (t time.Time, day, ok bool) {
	text = strings.TrimSpace(text)
	if len(text) > 40 {
		return t, false, false
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		const year2200 = 7_258_118_400
		switch {
		case n > year2200:
			return time.UnixMilli(n).UTC(), false, n < 1000*year2200
		case n > 100_000_000: // smaller ones are no moments but counts and ids
			return time.Unix(n, 0).UTC(), false, true
		}
		return t, false, false
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, true, true
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, false, true
		}
	}
	return t, false, false
}

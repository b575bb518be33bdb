package words

import (
	"embed"
	"fmt"
	"strings"
	"sync"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"

	"github.com/belfryhq/belfry/internal/belfry"
)

//go:embed en.json es.json fr.json de.json
var files embed.FS

// shipped are the languages of the texts; the first holds when no other does.
var shipped = []language.Tag{language.English, language.Spanish, language.French, language.German}

var (
	bundle    = load()
	byText    = language.NewMatcher(shipped)
	localizer = func() (all []*i18n.Localizer) {
		for _, tag := range shipped {
			all = append(all, i18n.NewLocalizer(bundle, tag.String()))
		}
		return all
	}()
)

func load() *i18n.Bundle {
	b := i18n.NewBundle(language.English)
	for _, tag := range shipped {
		if _, err := b.LoadMessageFileFS(files, tag.String()+".json"); err != nil {
			panic(err) // a file of this package is broken: its tests say so first
		}
	}
	return b
}

// Languages are those of the texts, English first.
func Languages() []string {
	all := make([]string, len(shipped))
	for i, tag := range shipped {
		all[i] = tag.String()
	}
	return all
}

// Printer says texts in one language and writes dates and numbers as it is
// usual in another, mostly the same. It is safe for use by many goroutines.
type Printer struct {
	language string
	texts    *i18n.Localizer
	formats  *format
	plain    sync.Map // id -> text, of texts without placeholders
}

// printers are all there can be, made when they are first asked for.
var printers struct {
	sync.Mutex
	all   map[[2]int]*Printer
	known map[string]*Printer // by what was asked
}

// maxKnown bounds the languages remembered; users write them into profiles.
const maxKnown = 1024

// For is the printer for a reader's languages (BCP 47), the most wanted first;
// what is empty or no language is passed over. Dates and numbers are written in
// the language of the texts.
func For(locales ...string) *Printer { return printer(false, locales) }

// Around is the printer for texts of others in the first of the languages whose
// dates are known, whatever language the house's own texts are in.
func Around(locales ...string) *Printer { return printer(true, locales) }

func printer(around bool, locales []string) *Printer {
	key := strings.Join(locales, " ")
	if around {
		key = "~" + key
	}
	printers.Lock()
	p := printers.known[key]
	printers.Unlock()
	if p != nil {
		return p
	}
	var tags []language.Tag
	for _, l := range locales {
		if tag, err := language.Parse(l); err == nil && l != "" {
			tags = append(tags, tag)
		}
	}
	p = of(tags, around)
	printers.Lock()
	defer printers.Unlock()
	if printers.known == nil || len(printers.known) >= maxKnown {
		printers.known = map[string]*Printer{}
	}
	printers.known[key] = p
	return p
}

// Language reports whether a tag begins with a language that there is (ISO
// 639), whatever follows.
func Language(tag string) bool {
	base, _, _ := strings.Cut(tag, "-")
	_, err := language.ParseBase(base)
	return err == nil
}

// maxHeader is how much of an Accept-Language is read.
const maxHeader = 1000

// Accepting is the printer for an Accept-Language header (RFC 9110); others
// hold when it names none.
func Accepting(header string, others ...string) *Printer {
	tags, _, err := language.ParseAcceptLanguage(header[:min(len(header), maxHeader)])
	if err != nil || len(tags) == 0 {
		return For(others...)
	}
	return of(tags, false)
}

func of(tags []language.Tag, around bool) *Printer {
	text, format := 0, 0
	for _, tag := range tags {
		if _, i, confidence := byText.Match(tag); confidence >= language.Low {
			text = i
			break
		}
	}
	spoken, _ := shipped[text].Base()
	for _, tag := range append(tags, shipped[text]) {
		_, i, confidence := byFormat.Match(tag)
		if base, _ := formats[i].tag.Base(); confidence >= language.Low && (around || base == spoken) {
			format = i
			break
		}
	}
	printers.Lock()
	defer printers.Unlock()
	if printers.all == nil {
		printers.all = map[[2]int]*Printer{}
	}
	p := printers.all[[2]int{text, format}]
	if p == nil {
		p = &Printer{language: shipped[text].String(), texts: localizer[text], formats: &formats[format]}
		printers.all[[2]int{text, format}] = p
	}
	return p
}

// Language is that of the texts, for lang attributes.
func (p *Printer) Language() string { return p.language }

// Say is a text. pairs are names of its placeholders with their values.
func (p *Printer) Say(id string, pairs ...string) string {
	if len(pairs) == 0 {
		if text, ok := p.plain.Load(id); ok {
			return text.(string)
		}
	}
	text := p.localize(&i18n.LocalizeConfig{MessageID: id, TemplateData: data(pairs)})
	if len(pairs) == 0 {
		p.plain.Store(id, text) // ids are literals of the program: few
	}
	return text
}

// Count is a text with a number that decides its form; the number is its
// placeholder Count.
func (p *Printer) Count(id string, n int, pairs ...string) string {
	d := data(append(pairs, "Count", p.formats.integer(int64(n))))
	return p.localize(&i18n.LocalizeConfig{MessageID: id, TemplateData: d, PluralCount: n})
}

func (p *Printer) localize(c *i18n.LocalizeConfig) string {
	text, err := p.texts.Localize(c)
	if err != nil && text == "" {
		return c.MessageID
	}
	return text
}

func data(pairs []string) map[string]string {
	if len(pairs) == 0 {
		return nil
	}
	d := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		d[pairs[i]] = pairs[i+1]
	}
	return d
}

// Reason is a reason in words, as belfry.Reason.Text is in English.
func (p *Printer) Reason(r belfry.Reason) string {
	if p.language == shipped[0].String() {
		return r.Text()
	}
	text := p.Say("reason." + r.Code)
	if text == "reason."+r.Code { // a code of another version
		return r.Text()
	}
	var b strings.Builder
	b.WriteString(text)
	for _, with := range []struct{ id, name, value string }{
		{"with.role", "Role", r.Role}, {"with.group", "Group", r.Group}, {"with.object", "Object", r.Object},
	} {
		if with.value != "" {
			b.WriteString(p.Say(with.id, with.name, with.value))
		}
	}
	if r.Detail != "" {
		fmt.Fprintf(&b, ": %s", r.Detail)
	}
	return b.String()
}

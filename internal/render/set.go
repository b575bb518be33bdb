package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// Bounds of a set: wordings in other languages and for channels, together.
const maxWordings = 200

// Set is a template in all its languages and for all channels, checked and
// parsed. It is immutable and safe for use by many goroutines.
type Set struct {
	base     wording
	locales  map[string]wording // by tag in lower case
	channels map[string]*Set    // those have none of their own
}

// wording is a subject and a body; nil is a part that is not there.
type wording struct{ subject, body *parsed }

// CompileSet checks and parses a template with all its wordings. Faults are a
// belfry.Invalid error whose fields point to the parts and say line and column.
func CompileSet(t *belfry.Template) (*Set, error) {
	var faults []belfry.Field
	n := len(t.Locales) + len(t.Channels)
	for _, c := range t.Channels {
		n += len(c.Locales)
	}
	if n > maxWordings {
		return nil, belfry.Faults([]belfry.Field{{Pointer: "/locales", Message: fmt.Sprintf("with those of channels there are %d wordings; at most %d are allowed", n, maxWordings)}})
	}
	set := newSet("", t.Words, t.Locales, &faults)
	for _, name := range slices.Sorted(maps.Keys(t.Channels)) {
		c := t.Channels[name]
		if set.channels == nil {
			set.channels = make(map[string]*Set, len(t.Channels))
		}
		set.channels[name] = newSet("/channels/"+pointer(name), c.Words, c.Locales, &faults)
	}
	if err := belfry.Faults(faults); err != nil {
		return nil, err
	}
	return set, nil
}

func newSet(at string, base belfry.Words, locales map[string]belfry.Words, faults *[]belfry.Field) *Set {
	set := &Set{base: newWording(at, base, faults)}
	for _, locale := range slices.Sorted(maps.Keys(locales)) {
		if set.locales == nil {
			set.locales = make(map[string]wording, len(locales))
		}
		set.locales[strings.ToLower(locale)] = newWording(at+"/locales/"+pointer(locale), locales[locale], faults)
	}
	return set
}

func newWording(at string, w belfry.Words, faults *[]belfry.Field) (out wording) {
	if w.Subject != "" {
		if strings.ContainsAny(w.Subject, "\r\n") {
			*faults = append(*faults, belfry.Field{Pointer: at + "/subject", Message: "the subject is one line; remove the line break"})
		}
		out.subject = parse(at+"/subject", w.Subject, maxSubjectSource, faults)
	}
	if w.Body != "" {
		out.body = parse(at+"/body", w.Body, maxBodySource, faults)
	}
	return out
}

// pointer is a key as it stands in a JSON pointer.
func pointer(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }

// For is the template for readers of a channel whose languages are locales, the
// most wanted first: for each language and then for what it falls back to
// (pt-BR, pt), the wording of the channel before that of all; then the wording
// without a language; then the built-in one. Subject and body are found each by
// itself.
func (s *Set) For(channel string, locales ...string) *Template {
	return s.Over(Default(locales...), channel, locales...)
}

// Over is For with other built-in words.
func (s *Set) Over(words *Template, channel string, locales ...string) *Template {
	t := *words
	found := wording{}
	take := func(w wording) bool {
		if found.subject == nil {
			found.subject = w.subject
		}
		if found.body == nil {
			found.body = w.body
		}
		return found.subject != nil && found.body != nil
	}
	sets := [2]*Set{s.channels[channel], s}
	func() {
		for _, locale := range locales {
			for tag := strings.ToLower(locale); tag != ""; tag = parent(tag) {
				for _, from := range sets {
					if from != nil && take(from.locales[tag]) {
						return
					}
				}
			}
		}
		for _, from := range sets {
			if from != nil && take(from.base) {
				return
			}
		}
	}()
	if found.subject != nil {
		t.subject = found.subject
	}
	if found.body != nil {
		t.body, t.builtin = found.body, false
	}
	return &t
}

// parent is the next less special language, empty when there is none.
func parent(tag string) string {
	at := strings.LastIndexByte(tag, '-')
	if at < 0 {
		return ""
	}
	return tag[:at]
}

// Default is the built-in template in a reader's languages, the most wanted
// first.
func Default(locales ...string) *Template { return builtin[words.For(locales...).Language()] }

// bodies are the sources of the built-in templates.
var bodies = map[string]string{}

var builtin = func() map[string]*Template {
	all := map[string]*Template{}
	for _, language := range words.Languages() {
		say := words.For(language)
		body := strings.Replace(DefaultBody, ", by {{actor.name}}", say.Say("event.by", "Actor", "{{actor.name}}"), 1)
		body = strings.Replace(body, ", about {{about}}", say.Say("event.about", "People", "{{about}}"), 1)
		var faults []belfry.Field
		w := newWording("", belfry.Words{Subject: DefaultSubject, Body: body}, &faults)
		if err := belfry.Faults(faults); err != nil {
			panic(err)
		}
		bodies[language] = body
		all[language] = &Template{subject: w.subject, body: w.body, builtin: true}
	}
	return all
}()

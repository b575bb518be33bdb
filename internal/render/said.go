package render

import "github.com/belfryhq/belfry/internal/words"

// Words are a subject and a body that somebody computed: values, never markup.
type Words struct{ Subject, Body string }

const (
	saidSubject = `{{#message.subject}}{{message.subject}}{{/message.subject}}{{^message.subject}}` + DefaultSubject + `{{/message.subject}}`
	saidBody    = `{{message.body}}`
)

// Said is the template of a message that was computed (Item.Said); of the part
// that was not, the built-in one says it.
func Said(locales ...string) *Template { return said[words.For(locales...).Language()] }

var said = func() map[string]*Template {
	all := map[string]*Template{}
	for language, t := range builtin {
		computed, err := Compile(saidSubject, "{{#message.body}}"+saidBody+"{{/message.body}}{{^message.body}}\n"+bodies[language]+"\n{{/message.body}}")
		if err != nil {
			panic(err)
		}
		computed.builtin = t.builtin
		all[language] = computed
	}
	return all
}()

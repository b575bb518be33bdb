package render

import (
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// ownWords are the texts of messages about joining, by event type: those of the
// subject and of the body are made of it.
var ownWords = map[string]string{
	belfry.EventConfirm: "joining.confirm", belfry.EventLeaving: "joining.leaving", belfry.EventInvited: "joining.invited",
	belfry.EventJoined: "joining.joined", belfry.EventLeft: "joining.left",
}

// Own reports whether events of a type have built-in words of their own.
func Own(eventType string) bool { return ownWords[eventType] != "" }

// OwnOrDefault are the built-in words for events of a type, in a reader's
// languages.
func OwnOrDefault(eventType string, locales ...string) *Template {
	if t := own[words.For(locales...).Language()][eventType]; t != nil {
		return t
	}
	return Default(locales...)
}

var own = func() map[string]map[string]*Template {
	all := map[string]map[string]*Template{}
	for _, language := range words.Languages() {
		say := words.For(language)
		place := "{{#event.data.place}}" + say.Say("joining.place", "Place", "{{event.data.place}}") + "{{/event.data.place}}"
		all[language] = map[string]*Template{}
		for typ, text := range ownWords {
			body := say.Say(text+"_what", "Title", "**{{event.data.title}}**", "Place", place)
			if typ == belfry.EventConfirm || typ == belfry.EventLeaving || typ == belfry.EventInvited {
				body += "\n\n**" + say.Say(text+"_do") + "** [{{link}}]({{link}})\n\n" + say.Say(text+"_not")
			}
			var faults []belfry.Field
			w := newWording("", belfry.Words{Subject: say.Say(text, "Title", "{{event.data.title}}"), Body: body + "\n"}, &faults)
			if err := belfry.Faults(faults); err != nil {
				panic(err)
			}
			all[language][typ] = &Template{subject: w.subject, body: w.body, builtin: true}
		}
	}
	return all
}()

package belfry

import "strings"

// Template is the stored form of a message's words: those of its own, and what
// they are in other languages and on single channels. At an object it holds
// there and below; the closest one of a name counts as a whole.
type Template struct {
	Name   string `json:"name"`
	Object string `json:"object,omitempty"` // empty = everywhere
	Title  string `json:"title,omitempty"`  // for people who choose one
	Words
	Locales  map[string]Words        `json:"locales,omitempty"`  // by language (BCP 47)
	Channels map[string]ChannelWords `json:"channels,omitempty"` // by channel
}

// Words are a subject and a body; an empty one is found elsewhere: in a less
// special language, or for all channels, at last in the built-in template.
type Words struct {
	Subject string `json:"subject"`
	Body    string `json:"body"` // Markdown with mustache values
}

// ChannelWords are what is said otherwise on one channel.
type ChannelWords struct {
	Words
	Locales map[string]Words `json:"locales,omitempty"`
}

// DefaultTemplate is the name of the template that holds where no other is
// named; without it, what is built in.
const DefaultTemplate = "default"

// TemplateKey is the id of a template's document. Names hold no blank.
func TemplateKey(name, object string) string {
	if object == "" {
		return name
	}
	return name + " " + object
}

// SplitTemplateKey is the inverse of TemplateKey.
func SplitTemplateKey(key string) (name, object string) {
	name, object, _ = strings.Cut(key, " ")
	return name, object
}

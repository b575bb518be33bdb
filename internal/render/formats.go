package render

import (
	"html"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cbroglie/mustache"

	"github.com/belfryhq/belfry/internal/words"
)

// formats write the one value that stands in their section as the reader's
// language does: {{#as.date}}{{event.data.due}}{{/as.date}}.
var formats = map[string]func(it *Item, text string) (string, bool){
	"date": func(it *Item, text string) (string, bool) {
		t, ok := it.moment(text)
		return it.say().Date(t), ok
	},
	"time": func(it *Item, text string) (string, bool) {
		t, ok := it.moment(text)
		return it.say().Clock(t), ok
	},
	"datetime": func(it *Item, text string) (string, bool) {
		t, ok := it.moment(text)
		return it.say().DateTime(t), ok
	},
	"number":  func(it *Item, text string) (string, bool) { return it.say().Number(text) },
	"percent": func(it *Item, text string) (string, bool) { return it.say().Percent(text) },
}

// formatNames are the names of formats, for the vocabulary.
var formatNames = strings.Join(slices.Sorted(maps.Keys(formats)), " ")

// maxFormatted is how much of a value a format looks at; longer ones are no
// dates and no numbers.
const maxFormatted = 100

// moment is a time in the reader's zone; a day alone stays that day.
func (it *Item) moment(text string) (time.Time, bool) {
	t, day, ok := words.ParseTime(text)
	if ok && !day {
		t = t.In(it.zone())
	}
	return t, ok
}

// formatting is what the sections of formats need of a rendering. What is no
// date or no number is shown as it is.
type formatting struct{ item *Item }

// lambdas are the sections. value is the translator of the values that the
// rendering uses: what a format gives is a value as others are, never markup.
func (f formatting) lambdas(value func(string) string) object {
	out := make(object, len(formats))
	for name, format := range formats {
		out[name] = func(text string, render mustache.RenderFunc) (string, error) {
			// The library escapes what it renders here for HTML, whatever it
			// was told; check has seen to it that it is one value.
			inner, err := render(text)
			if err != nil {
				return "", err
			}
			plain := strings.TrimSpace(html.UnescapeString(inner))
			if len(plain) <= maxFormatted {
				if written, ok := format(f.item, plain); ok {
					plain = written
				}
			}
			return value(plain), nil
		}
	}
	return out
}

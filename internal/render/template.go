package render

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/cbroglie/mustache"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Bounds of a template and of one rendering. A step is one piece of text or
// one tag visited; loops over data count each round.
const (
	maxSubjectSource = 1 << 10
	maxBodySource    = 16 << 10
	maxTags          = 500
	maxNesting       = 8
	maxSteps         = 20_000
	maxMarkdown      = 32 << 10  // with placeholders in the place of values
	maxValues        = 128 << 10 // the values of one rendering together
	maxSubject       = 200       // runes
)

// Template is a subject and a Markdown body, checked and parsed. It is
// immutable and safe for use by many goroutines.
type Template struct {
	subject *parsed
	body    *parsed
	builtin bool // the body is
}

// parsed is the source of a subject or a body.
type parsed struct {
	*mustache.Template
	names
	flat []segment // of a source without sections; nil = it has some

	mu   sync.Mutex
	read map[string]filling // Markdown with placeholders, as it came out before -> HTML
}

// Bounds of what is remembered of a body: with placeholders in the place of
// values it comes out in few ways, by which of its sections are there.
const (
	maxRead       = 32
	maxReadSource = 4 << 10
)

// html is what read makes of source.
func (p *parsed) html(source string) filling {
	p.mu.Lock()
	page, known := p.read[source]
	p.mu.Unlock()
	if known {
		return page
	}
	page = read(source)
	if len(source) <= maxReadSource {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.read == nil || len(p.read) >= maxRead {
			p.read = map[string]filling{}
		}
		p.read[source] = page
	}
	return page
}

// names are what the tags of a template name: what nobody names is not worked out.
type names struct {
	tags  map[string]bool     // whole names, as they stand in a tag
	parts map[string][]string // of the vocabulary's values, those that may be named; nil = none of it is
	whole bool                // a value that has parts may be named as a whole
	data  []string            // the members of the event's data that may be named; nil = all
}

// namesIn are the names in the tags of a source that check has passed.
func namesIn(source string, whole bool) names {
	n := names{tags: map[string]bool{}, parts: map[string][]string{}, whole: whole}
	for rest := source; ; {
		_, opened, open := strings.Cut(rest, "{{")
		tag, after, closed := strings.Cut(opened, "}}")
		if !open || !closed {
			break
		}
		n.tags[strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(tag), "#^/"))] = true
		rest = after
	}
	for tag := range n.tags {
		root, rest, _ := strings.Cut(tag, ".")
		part, _, _ := strings.Cut(rest, ".")
		if of := vocabulary.fields[root]; part == "" && of != nil && of.fields != nil {
			n.parts[root] = slices.Collect(maps.Keys(of.fields)) // in itself or as a section: of its parts it may be any
		} else if n.parts[root] == nil {
			n.parts[root] = []string{}
		}
		if part != "" && !slices.Contains(n.parts[root], part) {
			n.parts[root] = append(n.parts[root], part)
		}
	}
	n.data = n.dataFields()
	return n
}

// fewFields is how many members of an event's data are looked for one by one, in
// data of very many.
const fewFields = 16

// dataFields are the members of the event's data that the tags may mean; nil = all.
func (n *names) dataFields() []string {
	few := []string{}
	for tag := range n.tags {
		var at [3]string
		copy(at[:], strings.Split(tag, "."))
		switch {
		case at[0] == "content", at[0] == "details", tag == "event", tag == "event.data":
			return nil
		case at[0] == "event" && at[1] == "data":
			if few = append(few, at[2]); len(few) > fewFields {
				return nil
			}
		}
	}
	return few
}

// dataFields are the members of an event's data that the template may ask for;
// nil = all.
func (t *Template) dataFields() []string {
	switch {
	case t.subject.data == nil || t.body.data == nil:
		return nil
	case len(t.subject.data) == 0:
		return t.body.data
	case len(t.body.data) == 0:
		return t.subject.data
	}
	return slices.Concat(t.subject.data, t.body.data)
}

// parts are those of a value that the template may ask for.
func (t *Template) parts(root string, part func(name string) any) any {
	o := make(object, len(t.body.parts[root]))
	for _, p := range [...]*parsed{t.subject, t.body} {
		for _, name := range p.parts[root] {
			if _, there := o[name]; !there {
				o[name] = part(name)
			}
		}
	}
	return t.plain(o)
}

// plain is an object that prints itself only where one may be named as a whole:
// the library looks through the methods of all it looks into, for each tag.
func (t *Template) plain(o object) any {
	if t.subject.whole || t.body.whole {
		return o
	}
	return map[string]any(o)
}

// data is what an event carries. Its fields print themselves: whether they have
// parts nobody knows beforehand. The whole does where one of the names means it.
func (t *Template) data(value any, as ...string) any {
	o, ok := value.(object)
	if !ok || slices.ContainsFunc(as, func(name string) bool { return t.subject.tags[name] || t.body.tags[name] }) {
		return value
	}
	return t.plain(o)
}

// DefaultSubject and DefaultBody are the built-in template, good for events of
// any type, in English. It is also the example to start one's own from.
const (
	DefaultSubject = `{{type.title}}{{#object.title}}: {{object.title}}{{/object.title}}`
	DefaultBody    = `**{{type.title}}**{{#object.title}}: {{#link}}[{{object.title}}]({{link}}){{/link}}{{^link}}{{object.title}}{{/link}}{{/object.title}}{{#actor.name}}, by {{actor.name}}{{/actor.name}}{{#about}}, about {{about}}{{/about}}

{{#event.comment}}
> {{event.comment}}

{{/event.comment}}
{{#content}}
> {{content}}

{{/content}}
{{#details}}
- {{label}}: {{value}}
{{/details}}

*{{#path}}{{path}} · {{/path}}{{time}}*
`
)

// Compile checks and parses a template: a subject of one line and a Markdown
// body, both with mustache values. An empty part takes the built-in one's
// place. Faults are a belfry.Invalid error whose fields point to /subject and
// /body and say line and column.
func Compile(subject, body string) (*Template, error) {
	if subject == "" {
		subject = DefaultSubject
	}
	if body == "" {
		body = DefaultBody
	}
	var faults []belfry.Field
	s := parse("/subject", subject, maxSubjectSource, &faults)
	b := parse("/body", body, maxBodySource, &faults)
	if strings.ContainsAny(subject, "\r\n") {
		faults = append(faults, belfry.Field{Pointer: "/subject", Message: "the subject is one line; remove the line break"})
	}
	if err := belfry.Faults(faults); err != nil {
		return nil, err
	}
	return &Template{subject: s, body: b}, nil
}

func parse(pointer, source string, limit int, faults *[]belfry.Field) *parsed {
	fault := func(format string, args ...any) {
		*faults = append(*faults, belfry.Field{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case len(source) > limit:
		fault("is %d bytes long; at most %d are allowed", len(source), limit)
		return nil
	case !utf8.ValidString(source):
		fault("is not valid UTF-8")
		return nil
	}
	before := len(*faults)
	whole := check(source, fault)
	if len(*faults) > before {
		return nil
	}
	// The default provider of partials reads files; this one has none, and
	// check has refused tags that would ask it.
	t, err := mustache.ParseStringPartials(source, &mustache.StaticProvider{})
	if err != nil {
		fault("%s", err)
		return nil
	}
	return &parsed{Template: t, names: namesIn(source, whole), flat: flatten(source)}
}

// frame is an open section while checking.
type frame struct {
	name     string
	format   bool  // holds one value and nothing else
	node     *node // nil for a value without fields
	inverted bool
	at       position
}

type position struct{ line, column int }

func (p position) String() string { return fmt.Sprintf("line %d, column %d", p.line, p.column) }

// check reports what Compile refuses. It reads tags as the mustache library
// does; set-delimiter tags are refused, so both agree on what a tag is. whole says
// that a tag may name a value with parts.
func check(source string, fault func(format string, args ...any)) (whole bool) {
	var open []frame
	at := position{1, 1}
	tags := 0
	for rest := source; ; {
		i := strings.Index(rest, "{{")
		if i < 0 {
			break
		}
		at = advance(at, rest[:i])
		rest = rest[i+2:]
		if strings.HasPrefix(rest, "{") {
			fault("%s: {{{ }}} is not available: values are always escaped; write {{ }}", at)
			return whole
		}
		end := strings.Index(rest, "}}")
		if end < 0 {
			fault("%s: {{ has no }}", at)
			return whole
		}
		tag := strings.TrimSpace(rest[:end])
		if tags++; tags > maxTags {
			fault("%s: more than %d tags", at, maxTags)
			return whole
		}
		if n, err := resolveName(tag, open); tag == "." || err == nil && n.fields != nil {
			whole = true
		}
		open = checkTag(tag, at, open, fault)
		at = advance(at, "{{"+rest[:end+2])
		rest = rest[end+2:]
	}
	for _, f := range open {
		fault("%s: {{#%s}} is never closed; add {{/%s}}", f.at, f.name, f.name)
	}
	return whole
}

// checkTag checks one tag and gives the sections open after it.
func checkTag(tag string, at position, open []frame, fault func(string, ...any)) []frame {
	if tag == "" {
		fault("%s: the tag is empty; name a value, such as {{object.title}}", at)
		return open
	}
	name := strings.TrimSpace(tag[1:])
	if n := len(open); n > 0 && open[n-1].format && (tag[0] == '#' || tag[0] == '^') {
		fault("%s: in {{#%s}} there is one value and no other section", at, open[n-1].name)
	}
	switch tag[0] {
	case '!':
		return open
	case '&':
		fault("%s: {{& }} is not available: values are always escaped; write {{%s}}", at, name)
		return open
	case '>':
		fault("%s: {{> }} is not available: a template cannot include another", at)
		return open
	case '=':
		fault("%s: {{= }} is not available: tags are always written {{ }}", at)
		return open
	case '/':
		if len(open) == 0 {
			fault("%s: {{/%s}} closes nothing", at, name)
			return open
		}
		last := open[len(open)-1]
		if last.name != name {
			fault("%s: {{/%s}} stands where {{/%s}} is due", at, name, last.name)
		}
		return open[:len(open)-1]
	case '#', '^':
		n, err := resolveName(name, open)
		if err != nil {
			fault("%s: %s", at, err)
		}
		if len(open) >= maxNesting {
			fault("%s: sections are nested more than %d deep", at, maxNesting)
		}
		if n == format && tag[0] == '^' {
			fault("%s: {{^%s}} makes no sense: it writes a value, as in {{#%s}}{{event.time}}{{/%s}}", at, name, name, name)
		}
		return append(open, frame{name: name, node: n, format: n == format, inverted: tag[0] == '^', at: at})
	}
	switch n, err := resolveName(tag, open); {
	case err != nil:
		fault("%s: %s", at, err)
	case n == format:
		fault("%s: {{%s}} is a section around a value, as in {{#%s}}{{event.time}}{{/%s}}", at, tag, tag, tag)
	}
	return open
}

func advance(p position, text string) position {
	if n := strings.Count(text, "\n"); n > 0 {
		p.line += n
		p.column = 1
		text = text[strings.LastIndexByte(text, '\n')+1:]
	}
	p.column += utf8.RuneCountInString(text)
	return p
}

// run executes a parsed template with value as the translator of values, and
// gives what was written within the bounds of steps and limit bytes. value
// answers false with the last value it has room for.
func run(t *parsed, from *values, limit int, value func(string) (string, bool)) string {
	if out, ok := t.flatly(from, limit, value); ok {
		return out
	}
	return t.render(from.all(), limit, value)
}

// render is run by the library.
func (t *parsed) render(values object, limit int, value func(string) (string, bool)) string {
	w := &budget{steps: maxSteps, bytes: limit}
	escaped := *t.Template // a copy: the escape function belongs to this rendering
	escape := func(s string) string {
		if w.full {
			return ""
		}
		out, more := value(s)
		w.full = !more
		return out
	}
	escaped.Escape(escape)
	if f, ok := values["as"].(formatting); ok {
		values = maps.Clone(values)
		values["as"] = f.lambdas(escape)
	}
	// The only error is our writer's own, when the bounds are reached: what
	// fits has been written.
	_ = escaped.FRender(w, map[string]any(values))
	return w.out.String()
}

var errSpent = errors.New("render: bounds reached")

// budget is a writer that stops a rendering. The library writes at least once
// (perhaps nothing) for each tag and each round of a section and gives up when
// a write fails, so counting writes bounds the time.
type budget struct {
	out          strings.Builder
	steps, bytes int
	full         bool // no room for values
	spent        bool // nothing more is written
}

func (w *budget) Write(p []byte) (int, error) {
	if w.spent {
		return 0, errSpent
	}
	w.bytes -= len(p)
	if w.steps--; w.steps < 0 || w.bytes < 0 {
		w.full, w.spent = true, true
		w.out.WriteString("…")
		return 0, errSpent
	}
	n, err := w.out.Write(p)
	if w.full { // that was the last value
		w.spent = true
		w.out.WriteString("…")
	}
	return n, err
}

var _ io.Writer = (*budget)(nil)

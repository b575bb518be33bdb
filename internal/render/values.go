package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// node describes the values a template may name. dynamic nodes hold data of
// the event, whose fields nobody knows beforehand.
type node struct {
	dynamic bool
	fields  map[string]*node
}

var (
	leaf    = &node{}
	dynamic = &node{dynamic: true}
	format  = &node{} // a section that writes the value in it
)

func fields(names string, more map[string]*node) *node {
	n := &node{fields: map[string]*node{}}
	for name := range strings.FieldsSeq(names) {
		n.fields[name] = leaf
	}
	for name, m := range more {
		n.fields[name] = m
	}
	return n
}

// Values of a template, as docs/templates.md lists them.
var vocabulary = fields("about content link path time", map[string]*node{
	"event": fields("id source type time subject object actor destination transition comment",
		map[string]*node{"data": dynamic, "record": dynamic, "variables": dynamic, "related": dynamic}),
	"record":       dynamic,
	"object":       fields("id title url type", nil),
	"actor":        fields("id name", nil),
	"recipient":    fields("name", nil),
	"type":         fields("name title", nil),
	"subscription": fields("id title", nil),
	"details":      fields("label value", nil),
	"message":      fields("subject body", nil),
	"site":         fields("name url", nil),
	"as": func() *node {
		n := &node{fields: map[string]*node{}}
		for name := range strings.FieldsSeq(formatNames) {
			n.fields[name] = format
		}
		return n
	}(),
	"condition": conditionFields,
})

// resolveName finds what a name in a tag speaks of, from the innermost open
// section outward, as the mustache library does.
func resolveName(name string, open []frame) (*node, error) {
	if name == "." {
		if len(open) == 0 {
			return nil, errors.New("{{.}} is the current item of a section; it stands in none here")
		}
		return dynamic, nil
	}
	parts := strings.Split(name, ".")
	n, anything := vocabulary.fields[parts[0]], false
	for i := len(open) - 1; i >= 0; i-- {
		if f := open[i]; !f.inverted && f.node != nil {
			if m := f.node.fields[parts[0]]; m != nil {
				n = m
				break
			}
			anything = anything || f.node.dynamic
		}
	}
	if n == nil && anything {
		return dynamic, nil
	}
	known := vocabulary.fields
	for i, p := range parts {
		if i > 0 {
			if n.dynamic {
				return dynamic, nil
			}
			known = n.fields
			n = known[p]
		}
		if n == nil {
			names := make([]string, 0, len(known))
			for k := range known {
				names = append(names, k)
			}
			slices.Sort(names)
			prefix := strings.Join(append(parts[:i:i], ""), ".")
			msg := fmt.Sprintf("unknown value %q", name)
			switch near := belfry.Nearest(p, names); {
			case near != "":
				msg += fmt.Sprintf("; did you mean %q?", prefix+near)
			case len(names) > 0:
				msg += fmt.Sprintf("; known are %s%s", prefix, strings.Join(names, ", "+prefix))
			}
			return nil, errors.New(msg)
		}
	}
	return n, nil
}

// object and list are JSON values that print themselves well where a template
// names a whole one: as JSON, and joined by commas.
type (
	object map[string]any
	list   []any
)

// null is a JSON null, or what is not there: nothing where a template prints it,
// "no" to a section, and null in a whole that is printed.
type null struct{}

func (null) String() string { return "" }

// MarshalJSON implements json.Marshaler.
func (null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

func (o object) String() string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // escaping is for where the value ends up
	if enc.Encode(map[string]any(o)) != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

func (l list) String() string {
	parts := make([]string, 0, len(l))
	for _, v := range l {
		if v != (null{}) {
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, ", ")
}

// plain is a decoded JSON value for templates: whole numbers stay exact and 0
// is "no" to a section, as false is.
func plain(raw json.RawMessage) any { return plainOf(raw, nil) }

// plainOf is plain with no more than some of the members of an object, at least
// those; nil = all. raw is valid JSON then.
func plainOf(raw json.RawMessage, only []string) any {
	if len(raw) == 0 {
		return null{}
	}
	r := plainReader{src: raw, only: only}
	if v, ok := r.value(0); ok && r.end() {
		return v
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return null{}
	}
	return convert(v)
}

func convert(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = convert(e)
		}
		return object(v)
	case []any:
		for i, e := range v {
			v[i] = convert(e)
		}
		return list(v)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		return string(v)
	case nil:
		return null{}
	}
	return v
}

// values are what a template can name of one item; what it does not name is not
// worked out.
type values struct {
	it *Item
	t  *Template

	data, record         any
	dataRead, recordRead bool
	every                object // as the library takes them
}

func (it *Item) values(t *Template) *values { return &values{it: it, t: t} }

// all are the values as the library takes them.
func (v *values) all() object {
	if v.every != nil {
		return v.every
	}
	v.every = object{}
	for _, p := range [...]*parsed{v.t.subject, v.t.body} {
		for root := range p.parts {
			if _, there := v.every[root]; there {
				continue
			}
			if value, ok := v.root(root); ok {
				v.every[root] = value
			}
		}
	}
	return v.every
}

// root is a value of which a template names all, or parts, by its first name;
// false when there is none.
func (v *values) root(name string) (any, bool) {
	if inParts[name] {
		if v.without(name) {
			return nil, false
		}
		return v.t.parts(name, func(part string) any { return v.part(name, part) }), true
	}
	it := v.it
	switch name {
	case "record":
		return v.t.data(v.readRecord(), "record"), true
	case "link":
		return it.link(), true
	case "path":
		return it.breadcrumb(), true
	case "time":
		return it.time(), true
	case "about":
		return it.about(), true
	case "content":
		return it.content(v.readData(), v.readRecord()), true
	case "details":
		all := it.details(v.readData())
		for i := range all {
			if o, ok := all[i].(object); ok {
				all[i] = v.t.plain(o)
			}
		}
		return all, true
	case "as":
		return formatting{it}, true
	case "condition":
		return it.condition(), true
	}
	return nil, false // of a section's own
}

// inParts are the roots whose parts are worked out one by one.
var inParts = map[string]bool{"event": true, "actor": true, "object": true, "recipient": true, "type": true, "message": true, "site": true, "subscription": true}

// without reports that an item has nothing of one of inParts.
func (v *values) without(root string) bool { return root == "subscription" && v.it.Subscription == nil }

// part is a part of one of inParts.
func (v *values) part(root, name string) any {
	it := v.it
	switch root {
	case "event":
		switch name {
		case "data":
			return v.t.data(v.readData(), "event", "event.data")
		case "record":
			return v.t.data(v.readRecord(), "event", "event.record")
		}
		return it.envelope(name)
	case "actor":
		id, called := it.actor()
		if name == "name" {
			return called
		}
		return id
	case "object":
		switch name {
		case "id":
			return it.Object.ID
		case "title":
			return it.objectTitle()
		case "url":
			return webURL(it.Object.URL)
		case "type":
			return it.Object.Type
		}
	case "recipient":
		return it.RecipientName
	case "type":
		if name == "title" {
			return it.typeTitle()
		}
		return it.Event.Type
	case "message":
		if name == "subject" {
			return oneLine(it.Said.Subject)
		}
		return it.Said.Body
	case "site":
		if name == "url" {
			return webURL(it.Site.URL)
		}
		return oneLine(it.Site.Name)
	case "subscription":
		if name == "title" {
			return it.Subscription.Title
		}
		return it.Subscription.ID
	}
	return nil
}

func (v *values) readData() any {
	if !v.dataRead {
		v.data, v.dataRead = plainOf(v.it.Event.Data, v.t.dataFields()), true
	}
	return v.data
}

func (v *values) readRecord() any {
	if !v.recordRead {
		v.record, v.recordRead = plain(v.it.Event.Record), true
	}
	return v.record
}

// envelope is a value of the event beside its data and record.
func (it *Item) envelope(name string) any {
	e := it.Event
	switch name {
	case "id":
		return e.ID
	case "source":
		return e.Source
	case "type":
		return e.Type
	case "time":
		return e.Time.UTC().Format(time.RFC3339)
	case "subject":
		return e.Subject
	case "object":
		return e.Object
	case "actor":
		id, _ := it.actor()
		return id
	case "destination":
		return e.Destination
	case "transition":
		return e.Transition
	case "comment":
		return e.Comment
	case "variables":
		return plain(e.Variables)
	case "related":
		related := make(list, len(e.Related))
		for i, r := range e.Related {
			related[i] = r
		}
		return related
	}
	return nil
}

// about is the names of those the event is about, the first few. An anonymous
// event is about nobody: they may be who did it.
func (it *Item) about() string {
	if it.Event.Has(belfry.FlagAnonymous) {
		return ""
	}
	const most = 5
	var names []string
	for _, n := range it.About {
		if n = oneLine(n); n != "" {
			names = append(names, n)
		}
	}
	if more := len(names) - most; more > 0 {
		return it.say().Say("event.more", "Names", strings.Join(names[:most], ", "), "Count", fmt.Sprint(more))
	}
	return strings.Join(names, ", ")
}

// details are the simple fields of an event's data worth showing to a person
// when nobody wrote a template for the type: those that the type names, else
// all but identifiers and what is nested, in the event's own order.
func (it *Item) details(data any) list {
	const most = 8
	var out list
	add := func(name string, value any) {
		text, label := it.simple(value), phrase(name)
		if text != "" && label != "" && len(out) < most {
			out = append(out, object{"label": label, "value": text})
		}
	}
	if d := it.conditionData(); d != nil {
		return it.conditionDetails(d)
	}
	if it.Details != nil {
		for _, path := range it.Details {
			add(path[strings.LastIndexByte(path, '.')+1:], at(data, path))
		}
		return out
	}
	fields, ok := data.(object)
	if !ok {
		return nil
	}
	for _, name := range keys(it.Event.Data) {
		if l := strings.ToLower(name); !strings.HasSuffix(l, "id") {
			add(name, fields[name])
		}
	}
	return out
}

// at is the value at a dotted path, nil when there is none.
func at(value any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		value, _ = member(value, part)
	}
	return value
}

// member is a member of an object, whether it prints itself or not; false when
// there is none.
func member(value any, name string) (any, bool) {
	var fields map[string]any
	switch o := value.(type) {
	case object:
		fields = o
	case map[string]any:
		fields = o
	}
	m, ok := fields[name]
	return m, ok
}

// content is the words of the thing, as the platform keeps them: what somebody
// wrote in a post, handed in, announced. HTML becomes plain text.
func (it *Item) content(data, record any) string {
	const most, read = 2000, 64 << 10
	for _, path := range it.Content {
		from := data
		if rest, ok := strings.CutPrefix(path, "record."); ok {
			from, path = record, rest
		}
		text, _ := at(from, path).(string)
		if text = text[:min(len(text), read)]; markup.MatchString(text) {
			text = toText(policy.Sanitize(text))
		}
		if text = strings.TrimSpace(clean(text)); text != "" {
			return cut(text, most)
		}
	}
	return ""
}

// markup finds what only HTML has: a < b is none.
var markup = regexp.MustCompile(`</?[a-zA-Z][^<>]*>|&[a-zA-Z]+;|&#[0-9]+;`)

// simple is a value as a detail's text; empty for what is none.
func (it *Item) simple(value any) string {
	const longest = 200
	switch v := value.(type) {
	case string:
		return cut(oneLine(v), longest)
	case int64:
		return fmt.Sprint(v)
	case bool:
		if v {
			return it.say().Say("value.yes")
		}
		return it.say().Say("value.no")
	}
	return ""
}

// keys are the names of a JSON object's members, in its order, each once.
func keys(raw json.RawMessage) []string {
	r := plainReader{src: raw}
	if names, ok := r.names(); ok {
		return names
	}
	return decodedKeys(raw)
}

// decodedKeys is keys by the library alone.
func decodedKeys(raw json.RawMessage) []string {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil { // the brace
		return nil
	}
	var names []string
	for d.More() {
		key, err := d.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			break
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			break
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		if len(names) == maxTags {
			break
		}
	}
	return names
}

// clean drops what has no place in a message: broken UTF-8, control characters
// other than line breaks and tabs, and controls that turn the direction of
// text around and so make it read as something else.
func clean(s string) string {
	if isClean(s) {
		return s
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r' || r == '\u2028' || r == '\u2029':
			return '\n'
		case r == utf8.RuneError, unicode.IsControl(r),
			r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return -1
		}
		return r
	}, s)
}

// isClean reports that clean would change nothing, of text that most is like:
// ASCII without controls.
func isClean(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\n' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}

// oneLine is s cleaned, with every run of white space one blank.
func oneLine(s string) string {
	s = clean(s)
	blank := true // before the first word
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ' && !blank:
			blank = true
		case c <= ' ', c >= 0x7f:
			return strings.Join(strings.Fields(s), " ")
		default:
			blank = false
		}
	}
	if blank && s != "" {
		return strings.Join(strings.Fields(s), " ")
	}
	return s
}

// cut is s in at most n runes, the last one an ellipsis when something went.
func cut(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	for i := range s {
		if n--; n == 0 {
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}

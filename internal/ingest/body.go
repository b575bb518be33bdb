package ingest

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// appendBody appends the event's JSON form, what door 1 stores: the members in
// the order of belfry.Event, payloads as they came. It reads back as the same
// event with encoding/json.
func appendBody(b []byte, e *belfry.Event) []byte {
	b = appendQuoted(append(b, `{"id":`...), e.ID)
	b = appendQuoted(append(b, `,"source":`...), e.Source)
	b = appendQuoted(append(b, `,"type":`...), e.Type)
	b = append(b, `,"time":"`...)
	b = append(e.Time.UTC().AppendFormat(b, time.RFC3339Nano), '"')
	b = appendText(b, `,"subject":`, e.Subject)
	b = appendText(b, `,"datacontenttype":`, e.DataContentType)
	b = appendText(b, `,"dataschema":`, e.DataSchema)
	b = appendText(b, `,"object":`, e.Object)
	b = appendText(b, `,"actor":`, e.Actor)
	b = appendTexts(b, `,"related":[`, e.Related)
	b = appendText(b, `,"destination":`, e.Destination)
	b = appendRaw(b, `,"data":`, &e.Data)
	b = appendRaw(b, `,"record":`, &e.Record)
	b = appendTexts(b, `,"flags":[`, e.Flags)
	b = appendText(b, `,"commit":`, e.Commit)
	b = appendText(b, `,"problem":`, e.Problem)
	b = appendText(b, `,"resolves":`, e.Resolves)
	b = appendText(b, `,"transition":`, e.Transition)
	b = appendText(b, `,"comment":`, e.Comment)
	b = appendRaw(b, `,"variables":`, &e.Variables)
	if len(e.Extensions) > 0 {
		b = append(b, `,"extensions":{`...)
		names := make([]string, 0, len(e.Extensions))
		for name := range e.Extensions {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendQuoted(b, name), ':')
			b = append(b, e.Extensions[name]...)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// bodySize is room enough for the body of most events without growing twice.
func bodySize(e *belfry.Event) int {
	n := 256 + len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) + len(e.Object) + len(e.Actor) + len(e.Data) + len(e.Record) + len(e.Variables) + len(e.Comment)
	for _, r := range e.Related {
		n += len(r) + 3
	}
	return n + 64*len(e.Extensions)
}

// body builds the stored form and lets the event's payloads live in it, so
// that neither holds on to the request they came in.
func body(e *belfry.Event) []byte {
	for name, raw := range e.Extensions {
		e.Extensions[name] = slices.Clone(raw)
	}
	return appendBody(make([]byte, 0, bodySize(e)), e)
}

func appendText(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendQuoted(append(b, name...), s)
}

func appendTexts(b []byte, name string, list []string) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, name...)
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, s)
	}
	return append(b, ']')
}

// appendRaw appends a payload and moves it there; should b grow later, the old
// array stays as the payload's own.
func appendRaw(b []byte, name string, raw *json.RawMessage) []byte {
	if len(*raw) == 0 {
		return b
	}
	b = append(b, name...)
	from := len(b)
	b = append(b, *raw...)
	*raw = json.RawMessage(b[from:len(b):len(b)])
	return b
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends s, which is valid UTF-8, as a JSON string, escaping only
// what must be.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain[c] {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}

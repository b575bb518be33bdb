package ingest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// The data of a CloudEvent need not be JSON; an Event's is. So: data whose
// content type is JSON (or not said) is kept as it is; text (text/*, XML,
// forms, YAML) becomes a JSON string of the text; anything else a JSON string
// of its base64. Which of the two a string is follows from datacontenttype
// alone, so nothing is lost and no marker is needed.

// complete checks what a CloudEvent must have and makes its data JSON.
func (d *decoder) complete(e *belfry.Event, parts *cloudParts, seen int) {
	d.required(e, parts.version)
	if seen&(1<<fDataBase64) == 0 {
		if kind := contentKind(e.DataContentType); kind == otherContent && len(e.Data) > 0 && e.Data[0] == '"' {
			raw := e.Data[1 : len(e.Data)-1]
			text, whole := unescape(raw)
			if !whole {
				d.fail(belfry.Invalid, "/data", "holds half of a surrogate pair, which is no character")
			}
			e.Data = quoteBase64(text)
		}
		return
	}
	if seen&(1<<fData) != 0 && e.Data != nil {
		d.fail(belfry.Invalid, "/data_base64", "stands beside data: send one of the two")
		return
	}
	raw, err := base64.StdEncoding.DecodeString(parts.base64)
	if err != nil {
		d.fail(belfry.Invalid, "/data_base64", "is not base64: "+err.Error())
		return
	}
	d.foreign(e, raw, "/data_base64")
}

// required checks the attributes no CloudEvent may lack.
func (d *decoder) required(e *belfry.Event, version string) {
	switch version {
	case "1.0":
	case "":
		d.fail(belfry.Malformed, "/specversion", "is missing: a CloudEvent has specversion 1.0")
	default:
		d.fail(belfry.Malformed, "/specversion", "is "+clip(version)+": this server reads CloudEvents 1.0")
	}
	for _, a := range [...]struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a.value == "" {
			d.fail(belfry.Malformed, "/"+a.name, "is missing: a CloudEvent must have it")
		}
	}
}

// foreign sets data from bytes of the event's content type.
func (d *decoder) foreign(e *belfry.Event, raw []byte, at string) {
	if len(raw) == 0 {
		return
	}
	kind := contentKind(e.DataContentType)
	if kind != otherContent && !utf8.Valid(raw) {
		d.fail(belfry.Invalid, at, "is not valid UTF-8 at byte "+strconv.Itoa(invalidAt(raw))+", which data of type "+clip(e.DataContentType)+" must be")
		return
	}
	switch kind {
	case jsonContent:
		s := scanner{src: raw, depth: d.lim.Depth}
		value, err := s.compact()
		if err == nil {
			err = s.end()
		}
		if err != nil {
			d.fail(belfry.KindOf(err), at, err.Error())
			return
		}
		if string(value) != "null" {
			e.Data = value
		}
	case textContent:
		e.Data = appendQuoted(make([]byte, 0, len(raw)+len(raw)/16+2), string(raw))
	default:
		e.Data = quoteBase64(raw)
	}
}

func quoteBase64(raw []byte) json.RawMessage {
	out := make([]byte, 0, base64.StdEncoding.EncodedLen(len(raw))+2)
	return append(base64.StdEncoding.AppendEncode(append(out, '"'), raw), '"')
}

type content int

const (
	jsonContent content = iota
	textContent
	otherContent
)

func contentKind(contentType string) content {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	switch {
	case media == "", media == "application/json", media == "text/json", strings.HasSuffix(media, "+json"):
		return jsonContent
	case strings.HasPrefix(media, "text/"), strings.HasSuffix(media, "+xml"), strings.HasSuffix(media, "+yaml"),
		media == "application/xml", media == "application/yaml", media == "application/x-www-form-urlencoded":
		return textContent
	}
	return otherContent
}

// binary reads a request in binary mode: attributes from headers, data from
// the body.
func (p *parsed) binary(h http.Header, body []byte) error {
	p.events = make([]belfry.Event, 1)
	e := &p.events[0]
	d := decoder{lim: p.lim, cloud: true}
	d.begin(nil)
	version := ""
	size := len(body)
	for key, values := range h {
		name, ok := strings.CutPrefix(key, "Ce-")
		if !ok {
			continue
		}
		name = strings.ToLower(name)
		at := pointer([]byte(name))
		if len(values) != 1 {
			d.fail(belfry.Malformed, at, "is given "+strconv.Itoa(len(values))+" times")
			continue
		}
		size += len(name) + len(values[0])
		value := headerValue(values[0])
		if !utf8.ValidString(value) {
			d.fail(belfry.Malformed, at, "is not valid UTF-8 after percent-decoding")
			continue
		}
		d.attribute(e, &version, name, value, at)
	}
	e.DataContentType = h.Get("Content-Type")
	d.required(e, version)
	d.foreign(e, body, "/data")
	if size > p.lim.EventBytes {
		d.fail(belfry.TooLarge, "", "the event is "+strconv.Itoa(size)+" bytes, and one may have "+strconv.Itoa(p.lim.EventBytes)+": keep large content where it is and send its address")
	}
	if len(d.fields) > 0 {
		p.fail(0, d.kind, d.fields)
	}
	return nil
}

// attribute sets one attribute that came as a header.
func (d *decoder) attribute(e *belfry.Event, version *string, name, value, at string) {
	switch f := fieldOf([]byte(name)); f {
	case fID:
		e.ID = value
	case fSource:
		e.Source = value
	case fType:
		e.Type = value
	case fTime:
		if !setTime(e, []byte(value)) {
			d.fail(belfry.Invalid, at, timeText)
		}
	case fSubject:
		e.Subject = value
	case fSchema:
		e.DataSchema = value
	case fObject:
		e.Object = value
	case fActor:
		e.Actor = value
	case fRelated:
		e.Related = split(value)
	case fDestination:
		e.Destination = value
	case fFlags:
		e.Flags = split(value)
	case fCommit:
		e.Commit = value
	case fProblem:
		e.Problem = value
	case fResolves:
		e.Resolves = value
	case fTransition:
		e.Transition = value
	case fSpecVersion:
		*version = value
	case fContentType, fData, fDataBase64:
		d.fail(belfry.Invalid, at, "is no header of binary mode: the content type is Content-Type, the data is the body")
	default:
		if !attributeName(name) {
			d.fail(belfry.Invalid, at, nameText)
			return
		}
		if e.Extensions == nil {
			e.Extensions = make(map[string]json.RawMessage)
		}
		e.Extensions[name] = appendQuoted(nil, value)
	}
}

// headerValue undoes quoting and one round of percent-encoding, as the HTTP
// binding asks. A percent sign that begins no encoding stands for itself,
// since senders that never encode are common.
func headerValue(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		var out strings.Builder
		for i := 1; i < len(v)-1; i++ {
			if v[i] == '\\' && i+1 < len(v)-1 {
				i++
			}
			out.WriteByte(v[i])
		}
		v = out.String()
	}
	if !strings.Contains(v, "%") {
		return v
	}
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '%' && i+2 < len(v) && isHex(v[i+1]) && isHex(v[i+2]) {
			out = append(out, byte(hex4([]byte{'0', '0', v[i+1], v[i+2]})))
			i += 2
			continue
		}
		out = append(out, v[i])
	}
	return string(out)
}

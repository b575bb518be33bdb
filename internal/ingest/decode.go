package ingest

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Form is how a request writes events.
type Form string

// Forms of a request.
const (
	Own        Form = "belfry"      // application/json: an object or an array
	Structured Form = "cloudevents" // application/cloudevents+json
	Batch      Form = "batch"       // application/cloudevents-batch+json
	Binary     Form = "binary"      // attributes in ce- headers, data in the body
)

// Decode reads the events of a request in whatever form it is, checked but
// with nothing filled in: id, source and time may be missing. Data, Record and
// Variables alias body.
//
// The error is a *belfry.Error: MediaType when the Content-Type is no form of
// events, Malformed when the text is no JSON or a
// CloudEvent lacks an attribute it must have, TooLarge when an event is,
// Invalid otherwise, with a pointer for each fault, which in an array begins
// with the item's index.
func Decode(h http.Header, body []byte, lim Limits) ([]belfry.Event, Form, error) {
	p, err := parse(h, body, lim.orDefault())
	if err != nil {
		return nil, p.form, err
	}
	for i := range p.events {
		if p.faults[i] == nil {
			p.add(i, check(&p.events[i], p.lim, true))
		}
	}
	return p.events, p.form, p.err()
}

// parsed is a request whose JSON is sound: every item has its place in events,
// those with faults too.
type parsed struct {
	form   Form
	array  bool // pointers begin with the index
	lim    Limits
	events []belfry.Event
	faults map[int]*belfry.Error // by index; nil without
}

// add keeps faults of item i; their pointers are relative to the item.
func (p *parsed) add(i int, fields []belfry.Field) {
	if len(fields) > 0 {
		p.fail(i, belfry.Invalid, fields)
	}
}

func (p *parsed) fail(i int, kind belfry.Kind, fields []belfry.Field) {
	if p.array {
		for k := range fields {
			fields[k].Pointer = "/" + strconv.Itoa(i) + fields[k].Pointer
		}
	}
	err := belfry.Faults(fields).(*belfry.Error)
	err.Kind = kind
	if p.faults == nil {
		p.faults = make(map[int]*belfry.Error)
	}
	p.faults[i] = err
}

// err joins the faults of all items, in order; the gravest kind stands.
func (p *parsed) err() error { return join(p.faults, len(p.events)) }

// maxFields bounds what an answer says: ten thousand bad events need not be
// named one by one.
const maxFields = 100

func join(faults map[int]*belfry.Error, n int) error {
	if len(faults) == 0 {
		return nil
	}
	var fields []belfry.Field
	kind, more := belfry.Invalid, 0
	for i := range n {
		err := faults[i]
		if err == nil {
			continue
		}
		kind = graver(kind, err.Kind)
		if len(fields) < maxFields {
			fields = append(fields, err.Fields...)
		} else {
			more++
		}
	}
	err := belfry.Faults(fields).(*belfry.Error)
	err.Kind = kind
	if more > 0 {
		err.Msg += "; and " + strconv.Itoa(more) + " more events with faults"
	}
	return err
}

func graver(a, b belfry.Kind) belfry.Kind {
	rank := func(k belfry.Kind) int {
		switch k {
		case belfry.Malformed:
			return 2
		case belfry.TooLarge:
			return 1
		}
		return 0
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// parse finds the form and reads the items.
func parse(h http.Header, body []byte, lim Limits) (parsed, error) {
	p := parsed{lim: lim}
	form, err := formOf(h)
	p.form = form
	if err != nil {
		return p, err
	}
	if form == Binary {
		return p, p.binary(h, body)
	}
	if !utf8.Valid(body) {
		return p, belfry.Errorf(belfry.Malformed, "malformed JSON: byte %d is not valid UTF-8: send UTF-8", invalidAt(body))
	}
	d := decoder{scanner: scanner{src: body, depth: lim.Depth}, lim: lim, cloud: form != Own}
	switch c := d.peek(); {
	case c == '[' && form != Structured:
		p.array = true
		err = p.items(&d)
	case form == Batch:
		err = d.fault("an array of CloudEvents")
	case c == '{':
		p.events = make([]belfry.Event, 1)
		err = p.item(&d, 0)
	case form == Structured:
		err = d.fault("one CloudEvent, an object (send an array as application/cloudevents-batch+json)")
	default:
		err = d.fault("an event, an object, or an array of them")
	}
	if err == nil {
		err = d.end()
	}
	return p, err
}

func (p *parsed) items(d *decoder) error {
	if err := d.open('[', "an array"); err != nil {
		return err
	}
	p.events = make([]belfry.Event, 0, min(len(d.src)/256+1, p.lim.Events))
	for i := 0; ; i++ {
		more, err := d.more(']', i == 0)
		if !more || err != nil {
			return err
		}
		if i == p.lim.Events {
			return belfry.Errorf(belfry.TooLarge, "more than %d events in one request: send several", p.lim.Events)
		}
		p.events = append(p.events, belfry.Event{})
		if err = p.item(d, i); err != nil {
			return err
		}
	}
}

// item reads the item that begins here; the error is of the JSON only.
func (p *parsed) item(d *decoder, i int) error {
	var previous *belfry.Event
	if i > 0 {
		previous = &p.events[i-1]
	}
	d.begin(previous)
	c, start := d.peek(), d.at
	if c != '{' {
		if _, err := d.value(); err != nil {
			return err
		}
		d.fail(belfry.Invalid, "", "must be an event, an object")
	} else if err := d.event(&p.events[i]); err != nil {
		return err
	}
	if size := d.at - start; size > p.lim.EventBytes {
		d.fail(belfry.TooLarge, "", "the event is "+strconv.Itoa(size)+" bytes, and one may have "+strconv.Itoa(p.lim.EventBytes)+": keep large content where it is and send its address")
	}
	if len(d.fields) > 0 {
		p.fail(i, d.kind, d.fields)
	}
	return nil
}

func invalidAt(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

const formsText = "send application/json, application/cloudevents+json, application/cloudevents-batch+json, or CloudEvents binary mode with ce- headers"

// formOf follows the HTTP binding of CloudEvents: the content type decides,
// else ce-specversion makes it binary mode, else it is our own form.
func formOf(h http.Header) (Form, error) {
	contentType := h.Get("Content-Type")
	media, params := contentType, map[string]string(nil)
	if contentType != "" && contentType != "application/json" { // the common case needs no parser
		var err error
		if media, params, err = mime.ParseMediaType(contentType); err != nil {
			return "", belfry.Errorf(belfry.MediaType, "Content-Type %q cannot be read: %s", clip(contentType), formsText)
		}
	}
	var form Form
	switch {
	case media == "application/cloudevents+json":
		form = Structured
	case media == "application/cloudevents-batch+json":
		form = Batch
	case strings.HasPrefix(media, "application/cloudevents"):
		return "", belfry.Errorf(belfry.MediaType, "Content-Type %s is a format of CloudEvents this server does not read: %s", clip(media), formsText)
	case h["Ce-Specversion"] != nil:
		return Binary, nil
	case media == "application/json", media == "":
		form = Own
	default:
		return "", belfry.Errorf(belfry.MediaType, "Content-Type %s is not one of events: %s", clip(media), formsText)
	}
	if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") {
		return "", belfry.Errorf(belfry.MediaType, "charset %s: send UTF-8", clip(c))
	}
	return form, nil
}

// Members of an event. The same table serves our own form and CloudEvents.
const (
	fID = iota
	fSource
	fType
	fTime
	fSubject
	fContentType
	fSchema
	fObject
	fActor
	fRelated
	fDestination
	fFlags
	fCommit
	fProblem
	fResolves
	fTransition
	fData
	fRecord // from here on in our own form only
	fComment
	fVariables
	fExtensions
	fSpecVersion // in CloudEvents only
	fDataBase64
	fOther
)

func fieldOf(name []byte) int {
	switch string(name) {
	case "id":
		return fID
	case "source":
		return fSource
	case "type":
		return fType
	case "time":
		return fTime
	case "subject":
		return fSubject
	case "datacontenttype":
		return fContentType
	case "dataschema":
		return fSchema
	case "object":
		return fObject
	case "actor":
		return fActor
	case "related":
		return fRelated
	case "destination":
		return fDestination
	case "flags":
		return fFlags
	case "commit":
		return fCommit
	case "problem":
		return fProblem
	case "resolves":
		return fResolves
	case "transition":
		return fTransition
	case "data":
		return fData
	case "record":
		return fRecord
	case "comment":
		return fComment
	case "variables":
		return fVariables
	case "extensions":
		return fExtensions
	case "specversion":
		return fSpecVersion
	case "data_base64":
		return fDataBase64
	}
	return fOther
}

// ownNames are the members of our own form, in the order of the documentation.
var ownNames = []string{"id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "object", "actor", "related", "destination",
	"data", "record", "flags", "commit", "problem", "resolves", "transition", "comment", "variables", "extensions"}

// decoder reads one item after another.
type decoder struct {
	scanner
	lim      Limits
	cloud    bool
	previous *belfry.Event // the item before: events of one request often share strings
	fields   []belfry.Field
	kind     belfry.Kind
}

func (d *decoder) begin(previous *belfry.Event) {
	if previous == nil {
		previous = new(belfry.Event)
	}
	d.previous, d.fields, d.kind = previous, nil, belfry.Invalid
}

func (d *decoder) fail(kind belfry.Kind, pointer, msg string) {
	d.kind = graver(d.kind, kind)
	if len(d.fields) < maxFields {
		d.fields = append(d.fields, belfry.Field{Pointer: pointer, Message: msg})
	}
}

// cloudParts are what only a CloudEvent has, seen while its members pass.
type cloudParts struct {
	version string
	base64  string
}

// event reads an object's members into e.
func (d *decoder) event(e *belfry.Event) error {
	if err := d.open('{', "an event"); err != nil {
		return err
	}
	var parts cloudParts
	seen := 0
	for first := true; ; first = false {
		more, err := d.more('}', first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		name, err := d.name()
		if err != nil {
			return err
		}
		f := fieldOf(name)
		if (d.cloud && f >= fRecord && f <= fExtensions) || (!d.cloud && f > fExtensions) {
			f = fOther
		}
		if f != fOther {
			if seen&(1<<f) != 0 {
				d.fail(belfry.Invalid, pointer(name), "is given twice")
			}
			seen |= 1 << f
		}
		if err = d.member(e, &parts, f, name); err != nil {
			return err
		}
	}
	if d.cloud {
		d.complete(e, &parts, seen)
	}
	return nil
}

func (d *decoder) member(e *belfry.Event, parts *cloudParts, f int, name []byte) (err error) {
	switch f {
	case fID:
		e.ID, err = d.text("/id", "")
	case fSource:
		e.Source, err = d.text("/source", d.previous.Source)
	case fType:
		e.Type, err = d.text("/type", d.previous.Type)
	case fTime:
		err = d.time(e)
	case fSubject:
		e.Subject, err = d.text("/subject", d.previous.Subject)
	case fContentType:
		e.DataContentType, err = d.text("/datacontenttype", d.previous.DataContentType)
	case fSchema:
		e.DataSchema, err = d.text("/dataschema", d.previous.DataSchema)
	case fObject:
		e.Object, err = d.text("/object", d.previous.Object)
	case fActor:
		e.Actor, err = d.text("/actor", d.previous.Actor)
	case fRelated:
		e.Related, err = d.texts("/related")
	case fDestination:
		e.Destination, err = d.text("/destination", d.previous.Destination)
	case fFlags:
		e.Flags, err = d.texts("/flags")
	case fCommit:
		e.Commit, err = d.text("/commit", d.previous.Commit)
	case fProblem:
		e.Problem, err = d.text("/problem", d.previous.Problem)
	case fResolves:
		e.Resolves, err = d.text("/resolves", "")
	case fTransition:
		e.Transition, err = d.text("/transition", d.previous.Transition)
	case fData:
		e.Data, err = d.payload()
	case fRecord:
		e.Record, err = d.payload()
	case fComment:
		e.Comment, err = d.text("/comment", "")
	case fVariables:
		e.Variables, err = d.payload()
	case fExtensions:
		err = d.extensions(e)
	case fSpecVersion:
		parts.version, err = d.text("/specversion", "1.0")
	case fDataBase64:
		parts.base64, err = d.text("/data_base64", "")
	default:
		if d.cloud {
			return d.extension(e, "", name)
		}
		d.unknown(name)
		_, err = d.value()
	}
	return err
}

func (d *decoder) unknown(name []byte) {
	n := clip(string(name))
	switch near := belfry.Nearest(n, ownNames); {
	case n == "specversion", n == "data_base64":
		d.fail(belfry.Invalid, pointer(name), "belongs to a CloudEvent: send those as application/cloudevents+json")
	case near != "":
		d.fail(belfry.Invalid, pointer(name), "is no field of an event: did you mean "+near+"?")
	default:
		d.fail(belfry.Invalid, pointer(name), "is no field of an event: put what is your own into data or extensions")
	}
}

// text reads a string; null counts as absent. share is a string that it often
// equals, which then costs no memory.
func (d *decoder) text(pointer, share string) (string, error) {
	if d.peek() != '"' {
		raw, err := d.value()
		if err == nil && raw[0] != 'n' {
			d.fail(belfry.Invalid, pointer, "must be a string")
		}
		return "", err
	}
	raw, escaped, err := d.str()
	if err != nil {
		return "", err
	}
	if escaped {
		var whole bool
		if raw, whole = unescape(raw); !whole {
			d.fail(belfry.Invalid, pointer, "holds half of a surrogate pair, which is no character")
		}
	}
	if string(raw) == share {
		return share, nil
	}
	return string(raw), nil
}

// texts reads an array of strings; a CloudEvent has no arrays and writes a
// list with commas instead.
func (d *decoder) texts(pointer string) ([]string, error) {
	if c := d.peek(); d.cloud && c == '"' {
		list, err := d.text(pointer, "")
		return split(list), err
	} else if c != '[' {
		raw, err := d.value()
		if err == nil && raw[0] != 'n' {
			d.fail(belfry.Invalid, pointer, "must be an array of strings")
		}
		return nil, err
	}
	if err := d.open('[', "an array"); err != nil {
		return nil, err
	}
	var list []string
	for i := 0; ; i++ {
		more, err := d.more(']', i == 0)
		if !more || err != nil {
			return list, err
		}
		at := pointer + "/" + strconv.Itoa(i)
		if d.peek() == 'n' {
			d.fail(belfry.Invalid, at, "must be a string")
		}
		s, err := d.text(at, "")
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
}

func split(list string) []string {
	if strings.TrimSpace(list) == "" {
		return nil
	}
	parts := strings.Split(list, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func (d *decoder) time(e *belfry.Event) error {
	if d.peek() != '"' {
		raw, err := d.value()
		if err == nil && raw[0] != 'n' {
			d.fail(belfry.Invalid, "/time", timeText)
		}
		return err
	}
	raw, _, err := d.str()
	if err != nil {
		return err
	}
	if !setTime(e, raw) {
		d.fail(belfry.Invalid, "/time", timeText)
	}
	return nil
}

const timeText = "must be a time of RFC 3339 from 1970 to 9999, like 2026-11-21T09:30:00Z"

// setTime refuses also the zero time, which would count as none.
func setTime(e *belfry.Event, raw []byte) bool {
	if e.Time.UnmarshalText(raw) != nil && e.Time.UnmarshalText(bytes.ToUpper(raw)) != nil { // the RFC allows t and z
		return false
	}
	e.Time = e.Time.UTC()
	return !e.Time.IsZero()
}

// payload reads any value; null counts as absent.
func (d *decoder) payload() ([]byte, error) {
	raw, err := d.compact()
	if err != nil || string(raw) == "null" {
		return nil, err
	}
	return raw, nil
}

func (d *decoder) extensions(e *belfry.Event) error {
	if d.peek() != '{' {
		raw, err := d.value()
		if err == nil && raw[0] != 'n' {
			d.fail(belfry.Invalid, "/extensions", "must be an object of names and plain values")
		}
		return err
	}
	if err := d.open('{', "an object"); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := d.more('}', first)
		if !more || err != nil {
			return err
		}
		name, err := d.name()
		if err != nil {
			return err
		}
		if err = d.extension(e, "/extensions", name); err != nil {
			return err
		}
	}
}

// extension reads the value of an attribute that is none of ours.
func (d *decoder) extension(e *belfry.Event, under string, name []byte) error {
	d.peek()
	raw, err := d.value()
	if err != nil {
		return err
	}
	at := under + pointer(name)
	if c := raw[0]; c == '{' || c == '[' {
		d.fail(belfry.Invalid, at, "must be a string, a number or a boolean: only data may hold more")
		return nil
	} else if c == 'n' {
		return nil
	}
	if !attributeName(string(name)) {
		d.fail(belfry.Invalid, at, nameText)
		return nil
	}
	if e.Extensions == nil {
		e.Extensions = make(map[string]json.RawMessage)
	}
	if _, twice := e.Extensions[string(name)]; twice {
		d.fail(belfry.Invalid, at, "is given twice")
	}
	e.Extensions[string(name)] = raw
	return nil
}

const nameText = "is no name of an attribute: those have lower-case letters a-z and digits, at most 64"

// attributeName reports whether CloudEvents allows an attribute of that name.
func attributeName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= 64
}

// pointer is the JSON pointer of a member, cut when its name is absurd.
func pointer(name []byte) string {
	return "/" + escapePointer(clip(string(name)))
}

func escapePointer(token string) string {
	if strings.ContainsAny(token, "~/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
	}
	return token
}

// clip keeps foreign words short enough for a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

package ingest

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Bounds of what times an event may carry: within them every database and
// every format of time agrees.
var (
	earliest = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// knownFlags is what the flags of an event may say.
var knownFlags = []string{belfry.FlagLocalOnly, belfry.FlagNoLocal, belfry.FlagSilent, belfry.FlagAnonymous}

// maxURI bounds addresses, which are longer than names.
const maxURI = 2048

// check names every fault of an event whose id, source and time may still be
// missing. scanned says that it came from parse: its text is valid UTF-8 and
// its payloads are JSON. Payloads are bytes and may hold what they like.
func check(e *belfry.Event, lim Limits, scanned bool) []belfry.Field {
	c := checker{scanned: scanned}
	c.key("/id", e.ID, lim.KeyBytes)
	c.key("/source", e.Source, lim.KeyBytes)
	if e.Type == "" {
		c.fail("/type", "is missing: every event has a type, like core.course_updated")
	}
	c.key("/type", e.Type, lim.KeyBytes)
	c.key("/subject", e.Subject, lim.NameBytes)
	c.key("/datacontenttype", e.DataContentType, lim.KeyBytes)
	c.key("/dataschema", e.DataSchema, maxURI)
	c.key("/object", e.Object, lim.NameBytes)
	c.key("/actor", e.Actor, lim.NameBytes)
	c.key("/destination", e.Destination, lim.NameBytes)
	c.key("/commit", e.Commit, lim.NameBytes)
	c.key("/problem", e.Problem, lim.KeyBytes)
	c.key("/resolves", e.Resolves, lim.KeyBytes)
	c.key("/transition", e.Transition, lim.NameBytes)
	c.size("/comment", e.Comment, lim.TextBytes)
	if strings.IndexByte(e.Comment, 0) >= 0 {
		c.fail("/comment", "holds a NUL character: leave it out")
	}
	if len(e.Related) > lim.Related {
		c.fail("/related", "names "+strconv.Itoa(len(e.Related))+" principals, at most "+strconv.Itoa(lim.Related)+" may be: use a group")
	} else {
		for i, r := range e.Related {
			if r == "" {
				c.fail("/related/"+strconv.Itoa(i), "is empty")
			} else if keyFault(r, lim.NameBytes, scanned) != "" {
				c.key("/related/"+strconv.Itoa(i), r, lim.NameBytes)
			}
		}
	}
	for i, f := range e.Flags {
		c.flag(i, f)
		if i > len(knownFlags) {
			break // an absurd list need not be read to its end
		}
	}
	if !e.Time.IsZero() && (e.Time.Before(earliest) || !e.Time.Before(latest)) {
		c.fail("/time", "is in the year "+strconv.Itoa(e.Time.Year())+": it must be from 1970 to 9999")
	}
	c.payloads(e)
	c.attributes(e.Extensions, lim)
	return c.fields
}

type checker struct {
	scanned bool
	fields  []belfry.Field
}

func (c *checker) fail(pointer, msg string) {
	if len(c.fields) < maxFields {
		c.fields = append(c.fields, belfry.Field{Pointer: pointer, Message: msg})
	}
}

func (c *checker) key(pointer, s string, most int) {
	if fault := keyFault(s, most, c.scanned); fault != "" {
		c.fail(pointer, fault)
	}
}

func (c *checker) size(pointer, s string, most int) {
	if len(s) > most {
		c.fail(pointer, sizeFault(s, most))
	} else if !c.scanned && !utf8.ValidString(s) {
		c.fail(pointer, "is not valid UTF-8")
	}
}

func sizeFault(s string, most int) string {
	return "is " + strconv.Itoa(len(s)) + " bytes, at most " + strconv.Itoa(most) + " are allowed"
}

// keyFault says what is wrong with a value that becomes a key or a line of
// text: CloudEvents forbids control characters there, databases NUL.
func keyFault(s string, most int, valid bool) string {
	if len(s) > most {
		return sizeFault(s, most)
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f || c == 0xc2 && i+1 < len(s) && s[i+1] < 0xa0 {
			return "holds a control character at byte " + strconv.Itoa(i) + ": leave it out"
		}
	}
	if !valid && !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	return ""
}

func (c *checker) flag(i int, flag string) {
	for _, k := range knownFlags {
		if flag == k {
			return
		}
	}
	msg := "is no flag: there are " + strings.Join(knownFlags, ", ")
	if near := belfry.Nearest(flag, knownFlags); near != "" {
		msg = "is no flag: did you mean " + near + "?"
	}
	c.fail("/flags/"+strconv.Itoa(i), msg)
}

func (c *checker) payloads(e *belfry.Event) {
	if !c.scanned {
		for _, p := range [...]struct {
			pointer string
			raw     json.RawMessage
		}{{"/data", e.Data}, {"/record", e.Record}, {"/variables", e.Variables}} {
			if len(p.raw) > 0 && (!json.Valid(p.raw) || !utf8.Valid(p.raw)) {
				c.fail(p.pointer, "is not JSON")
				return
			}
		}
	}
	if len(e.Record) > 0 && first(e.Record) != '{' && string(e.Record) != "false" {
		c.fail("/record", "must be an object, the row as it is now, or false when it is gone")
	}
	if len(e.Variables) > 0 && first(e.Variables) != '{' {
		c.fail("/variables", "must be an object")
	}
}

func first(raw json.RawMessage) byte {
	s := scanner{src: raw}
	return s.peek()
}

func (c *checker) attributes(extensions map[string]json.RawMessage, lim Limits) {
	if len(extensions) > lim.Extensions {
		c.fail("/extensions", "has "+strconv.Itoa(len(extensions))+" attributes, at most "+strconv.Itoa(lim.Extensions)+" are kept: put them into data")
		return
	}
	for name, raw := range extensions {
		switch at := "/extensions" + pointer([]byte(name)); {
		case !attributeName(name):
			c.fail(at, nameText)
		case reserved(name):
			c.fail(at, "is an attribute of its own: write it beside extensions")
		case !c.scanned && (!json.Valid(raw) || !utf8.Valid(raw)):
			c.fail(at, "is not JSON")
		case first(raw) == '{' || first(raw) == '[' || first(raw) == 'n':
			c.fail(at, "must be a string, a number or a boolean")
		}
	}
}

// reserved names cannot be extensions: a CloudEvent could not tell them apart
// from the attribute itself.
func reserved(name string) bool {
	f := fieldOf([]byte(name))
	return f <= fData || f == fSpecVersion
}

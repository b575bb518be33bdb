package expr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// The filter dialects of CloudEvents Subscriptions that FromDialects reads.
var dialects = []string{"exact", "prefix", "suffix", "all", "any", "not"}

// maxDialectDepth bounds how deeply filters of CloudEvents may nest.
const maxDialectDepth = 20

// extensionName is what CloudEvents allows an attribute to be named.
var extensionName = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// ours are the attributes that events carry as fields of their own.
var ours = []string{"id", "source", "type", "subject", "datacontenttype", "dataschema", "object", "actor", "destination", "commit", "problem", "resolves", "transition"}

// FromDialects writes a filter in the dialects of CloudEvents Subscriptions
// (one object, or an array all of which must hold) as CEL. Errors are Invalid,
// with pointers into the JSON.
func FromDialects(raw json.RawMessage) (string, error) {
	d := dialectReader{}
	raw = bytes.TrimSpace(raw)
	text := ""
	if len(raw) > 0 && raw[0] == '[' {
		text = d.several(raw, "", "&&", 0)
	} else {
		text = d.one(raw, "", 0)
	}
	if len(d.faults) > 0 {
		return "", belfry.Faults(d.faults)
	}
	return text, nil
}

type dialectReader struct{ faults []belfry.Field }

func (d *dialectReader) fault(pointer, format string, args ...any) string {
	if len(d.faults) < 20 {
		d.faults = append(d.faults, belfry.Field{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
	return ""
}

// one reads an object of one dialect.
func (d *dialectReader) one(raw json.RawMessage, pointer string, depth int) string {
	if depth > maxDialectDepth {
		return d.fault(pointer, "is nested more than %d deep", maxDialectDepth)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || len(members) != 1 {
		return d.fault(pointer, "must be an object with exactly one of %s", strings.Join(dialects, ", "))
	}
	for name, value := range members {
		p := pointer + "/" + name
		switch name {
		case "exact", "prefix", "suffix":
			return d.attributes(value, p, name)
		case "all":
			return d.several(value, p, "&&", depth+1)
		case "any":
			return d.several(value, p, "||", depth+1)
		case "not":
			if inner := d.one(value, p, depth+1); inner != "" {
				return "!(" + inner + ")"
			}
			return ""
		}
		if near := belfry.Nearest(name, dialects); near != "" && name != "sql" {
			return d.fault(pointer, "%q is no dialect: did you mean %q?", name, near)
		}
		return d.fault(pointer, "%q is no dialect that is read here: there are %s; anything else is written in CEL, as text", name, strings.Join(dialects, ", "))
	}
	return ""
}

// several joins a list of filters.
func (d *dialectReader) several(raw json.RawMessage, pointer, by string, depth int) string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return d.fault(pointer, "must be an array of filters that is not empty")
	}
	parts := make([]string, 0, len(list))
	for i, f := range list {
		parts = append(parts, d.one(f, pointer+"/"+strconv.Itoa(i), depth+1))
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, " "+by+" ") + ")"
}

// attributes compares attributes with texts; all must hold.
func (d *dialectReader) attributes(raw json.RawMessage, pointer, dialect string) string {
	var wanted map[string]string
	if json.Unmarshal(raw, &wanted) != nil || len(wanted) == 0 {
		return d.fault(pointer, "must be an object of attributes with texts, such as {\"type\":\"core.course_updated\"}")
	}
	names := make([]string, 0, len(wanted))
	for name := range wanted {
		names = append(names, name)
	}
	slices.Sort(names)
	parts := make([]string, 0, len(names))
	for _, name := range names {
		value := wanted[name]
		switch {
		case value == "":
			return d.fault(pointer+"/"+name, "must not be empty")
		case slices.Contains(ours, name):
			parts = append(parts, compare("event."+name, dialect, value))
		case name == "specversion":
			return d.fault(pointer, "specversion is always 1.0: leave it out")
		case name == "time":
			return d.fault(pointer, "time is no text: compare it in CEL, as in event.time > timestamp('2026-01-01T00:00:00Z')")
		case !extensionName.MatchString(name):
			return d.fault(pointer, "%q is no name of an attribute: they are of lower-case letters and digits", name)
		default: // what is not there is not equal, also within not
			key := Text(name).Source()
			parts = append(parts, "("+key+" in event.extensions && "+compare("string(event.extensions["+key+"])", dialect, value)+")")
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, " && ") + ")"
}

func compare(what, dialect, value string) string {
	text := Text(value).Source()
	switch dialect {
	case "prefix":
		return what + ".startsWith(" + text + ")"
	case "suffix":
		return what + ".endsWith(" + text + ")"
	}
	return what + " == " + text
}

package moodle

import (
	_ "embed"
	"encoding/json"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// eventsText is the catalogue of event classes: see its head.
//
//go:embed events.txt
var eventsText string

// class is one entry of the catalogue.
type class struct {
	typ        string // e.g. core.course_updated
	title      string
	levels     string // of s, g, c, m, p: see events.txt
	deprecated bool
}

// catalogue reads events.txt. It is called once a source.
func catalogue() map[string]class {
	out := map[string]class{}
	component, levels := "", ""
	for line := range strings.Lines(eventsText) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			component, levels, _ = strings.Cut(strings.Trim(line, "[]"), " ")
		default:
			name, title, _ := strings.Cut(line, " ")
			c := class{levels: levels}
			if i := strings.IndexByte(name, ':'); i >= 0 {
				name, c.levels = name[:i], name[i+1:]
			}
			name, c.deprecated = strings.CutSuffix(name, "!")
			c.typ = component + "." + name
			if c.title = strings.TrimSpace(title); c.title == "" {
				c.title = titleOf(name)
			}
			out[c.typ] = c
		}
	}
	return out
}

// titleOf makes words of target_action: "course_module_updated" is "Course
// module updated".
func titleOf(name string) string {
	words := strings.ReplaceAll(name, "_", " ")
	if words == "" {
		return ""
	}
	return strings.ToUpper(words[:1]) + words[1:]
}

// typeName is the event type of a class name: core.course_updated of
// \core\event\course_updated; empty when the name is not one.
func typeName(eventname string) string {
	parts := strings.Split(strings.TrimPrefix(eventname, `\`), `\`)
	if len(parts) < 3 || parts[1] != "event" {
		return ""
	}
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			return ""
		}
	}
	return parts[0] + "." + strings.Join(parts[2:], ".")
}

// anyRole in EventType.SeeRoles asks for an active role, whichever, on the
// object or above it.
const anyRole = "*"

// details are what a message shows of an event when nobody wrote a template:
// of what Moodle's classes keep in other, what people understand.
var details = []string{"other.name", "other.shortname", "other.enrol", "other.username", "other.itemname"}

// content is where Moodle keeps the words of a post or a submission.
var content = []string{"other.content", "record.message"}

// eventType makes the catalogue entry of a class. modules are the names of the
// site's activity modules.
func (c class) eventType(modules []string) belfry.EventType {
	component, name, _ := strings.Cut(c.typ, ".")
	t := belfry.EventType{
		Name: c.typ, Title: c.title, Category: categoryOf(component), Deprecated: c.deprecated,
		Record: name != "message_sent" && name != "message_viewed", Details: details, Content: content,
	}
	module, isModule := strings.CutPrefix(component, "mod_")
	for _, level := range c.levels {
		switch level {
		case 's':
			t.ObjectTypes = append(t.ObjectTypes, TypeSite)
		case 'g':
			t.ObjectTypes = append(t.ObjectTypes, TypeCategory)
		case 'c':
			t.ObjectTypes = append(t.ObjectTypes, TypeCourse)
		case 'm':
			if isModule {
				t.ObjectTypes = append(t.ObjectTypes, module)
			} else {
				t.ObjectTypes = append(t.ObjectTypes, modules...)
			}
		case 'd':
			t.ObjectTypes = append(t.ObjectTypes, TypeDiscussion)
		case 'p':
			t.ObjectTypes = append(t.ObjectTypes, TypeProfile)
		}
	}
	if c.needsRole() {
		t.SeeRoles = []string{anyRole}
	}
	return t
}

// needsRole: what happens inside a course is for those who hold an active role
// there or above it (roles that everybody has are blocked there, see blocks). Not so for coming and going: whoever was unenrolled holds
// none any more, and it is about them.
func (c class) needsRole() bool {
	if c.levels == "" || strings.Trim(c.levels, "cmd") != "" {
		return false
	}
	_, name, _ := strings.Cut(c.typ, ".")
	return !strings.HasPrefix(name, "user_enrolment_")
}

func categoryOf(component string) string {
	switch {
	case component == "core":
		return "Moodle"
	case strings.HasPrefix(component, "mod_"):
		return "Activity: " + strings.TrimPrefix(component, "mod_")
	}
	return component
}

// unknownClass is the entry of a class that the catalogue lacks, as Moodle's
// own fall-back goes: component, target, action. Its levels are not known.
func unknownClass(typ string) class {
	component, name, _ := strings.Cut(typ, ".")
	return class{typ: typ, title: component + ": " + strings.ReplaceAll(name, "_", " ")}
}

// document is the entry as the store keeps it.
func document(t belfry.EventType) (belfry.Document, error) {
	body, err := json.Marshal(t)
	return belfry.Document{Kind: belfry.KindEventType, ID: t.Name, Body: body}, err
}

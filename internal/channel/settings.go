package channel

import (
	"fmt"
	"net/mail"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Types of a setting: how its text is read and how a form shows it.
const (
	TypeText     = "text"     // one line
	TypeLong     = "long"     // several lines, e.g. a PEM key
	TypeURL      = "url"      // absolute URL
	TypeEmail    = "email"    // an address with or without a name
	TypeNumber   = "number"   // whole number >= 0
	TypeBool     = "bool"     // true or false
	TypeDuration = "duration" // Go duration > 0
	TypeChoice   = "choice"   // one of Choices
)

// Setting describes one setting of a kind as data. The same description
// drives validation, the administrator's form and the documentation.
type Setting struct {
	Name     string   `json:"name"`
	Label    string   `json:"label"`
	Type     string   `json:"type"`
	Secret   bool     `json:"secret,omitempty"` // stored sealed, never shown again
	Required bool     `json:"required,omitempty"`
	Help     string   `json:"help,omitempty"`
	Default  string   `json:"default,omitempty"`
	Choices  []string `json:"choices,omitempty"`
}

// Validate checks values against their description. The error is Invalid, with
// one field per fault, whose pointer is /settings/<name>; unknown settings are
// named together with the nearest known one. Values of secrets are never
// repeated in a message.
func Validate(settings []Setting, values map[string]string) error {
	var faults Faults
	fault := faults.Add
	known := make(map[string]bool, len(settings))
	names := make([]string, 0, len(settings))
	for _, s := range settings {
		known[s.Name] = true
		names = append(names, s.Name)
	}
	for _, s := range settings {
		v := values[s.Name]
		if v == "" {
			if s.Required && s.Default == "" {
				fault(s.Name, "is required: %s", s.Label)
			}
			continue
		}
		if msg := s.check(v); msg != "" {
			fault(s.Name, "%s", msg)
		}
	}
	var unknown []string
	for name := range values {
		if !known[name] {
			unknown = append(unknown, name)
		}
	}
	sort.Strings(unknown)
	for _, name := range unknown {
		switch near := belfry.Nearest(name, names); {
		case near != "":
			fault(name, "is not a setting; did you mean %q?", near)
		case len(names) == 0:
			fault(name, "is not a setting: this channel has none")
		default:
			fault(name, "is not a setting; known are %s", strings.Join(names, ", "))
		}
	}
	return faults.Err()
}

// Read is what a kind of channel does with values first: Validate them, then put
// the defaults where there is none.
func Read(settings []Setting, values map[string]string) (map[string]string, error) {
	if err := Validate(settings, values); err != nil {
		return nil, err
	}
	return WithDefaults(settings, values), nil
}

// Faults gathers what is wrong with settings.
type Faults struct{ list []belfry.Field }

// Add notes what is wrong with a setting. The message must not repeat a value
// that may be secret.
func (f *Faults) Add(name, format string, args ...any) {
	f.list = append(f.list, belfry.Field{Pointer: "/settings/" + pointerEscaper.Replace(name), Message: fmt.Sprintf(format, args...)})
}

// Err is the Invalid error that names them all, nil when there are none.
func (f *Faults) Err() error { return belfry.Faults(f.list) }

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// check is empty when v is a value of s, else what is wrong with it. It never
// repeats v, which may be a secret.
func (s *Setting) check(v string) string {
	if s.Type != TypeLong && strings.ContainsAny(v, "\r\n\x00") {
		return "must be one line"
	}
	switch s.Type {
	case TypeURL:
		u, err := url.Parse(v)
		if err != nil || u.Scheme == "" || u.Host == "" {
			return "must be an absolute URL such as scheme://host:port"
		}
	case TypeEmail:
		if _, err := mail.ParseAddress(v); err != nil {
			return `must be a mail address such as news@example.org or "News" <news@example.org>`
		}
	case TypeNumber:
		if _, err := strconv.ParseUint(v, 10, 31); err != nil {
			return "must be a whole number, 0 or more"
		}
	case TypeBool:
		if v != "true" && v != "false" {
			return "must be true or false"
		}
	case TypeDuration:
		if d, err := time.ParseDuration(v); err != nil || d <= 0 {
			return "must be a duration above 0 such as 15s or 2m"
		}
	case TypeChoice:
		for _, c := range s.Choices {
			if v == c {
				return ""
			}
		}
		return "must be one of " + strings.Join(s.Choices, ", ")
	}
	return ""
}

// WithDefaults is a copy of values in which every setting that has a default
// and no value holds the default.
func WithDefaults(settings []Setting, values map[string]string) map[string]string {
	out := make(map[string]string, len(settings))
	for k, v := range values {
		out[k] = v
	}
	for _, s := range settings {
		if out[s.Name] == "" && s.Default != "" {
			out[s.Name] = s.Default
		}
	}
	return out
}

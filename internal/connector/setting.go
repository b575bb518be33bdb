package connector

import (
	"fmt"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Types of a setting.
const (
	TypeText     = "text"
	TypeURL      = "url"      // absolute http or https
	TypeDSN      = "dsn"      // address of a database; may hold a password
	TypeDuration = "duration" // as time.ParseDuration reads it, positive
	TypeInt      = "int"
	TypeBool     = "bool"
)

// Setting describes one setting of a kind: the form, the check and the
// documentation are made from it.
type Setting struct {
	Name     string `json:"name"`
	Label    string `json:"label"`
	Type     string `json:"type"`
	Secret   bool   `json:"secret,omitempty"` // kept encrypted, never shown again
	Required bool   `json:"required,omitempty"`
	Help     string `json:"help,omitempty"`
	Default  string `json:"default,omitempty"`
}

// Values checks the given settings against their description and adds the
// defaults. Unknown names, missing required ones and values of the wrong type
// are a belfry.Invalid error with a pointer "/settings/<name>" each.
func Values(described []Setting, given map[string]string) (map[string]string, error) {
	var faults []belfry.Field
	out := make(map[string]string, len(described))
	known := make([]string, 0, len(described))
	for _, s := range described {
		known = append(known, s.Name)
		v := given[s.Name]
		if v == "" {
			v = s.Default
		}
		if v == "" {
			if s.Required {
				faults = append(faults, fault(s.Name, "is required"))
			}
			continue
		}
		if msg := s.check(v); msg != "" {
			faults = append(faults, fault(s.Name, msg))
			continue
		}
		out[s.Name] = v
	}
	unknown := make([]string, 0)
	for name := range given {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	sort.Strings(unknown)
	for _, name := range unknown {
		faults = append(faults, fault(name, "is not a setting; there are: "+strings.Join(known, ", ")))
	}
	if err := belfry.Faults(faults); err != nil {
		return nil, err
	}
	return out, nil
}

func fault(name, message string) belfry.Field {
	escaped := strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	return belfry.Field{Pointer: "/settings/" + escaped, Message: message}
}

// check says what is wrong with v, empty when nothing is. It never repeats v
// when the setting is secret.
func (s Setting) check(v string) string {
	shown := strconv.Quote(v)
	if s.Secret {
		shown = "the value"
	}
	switch s.Type {
	case TypeURL:
		u, err := url.Parse(v)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return shown + " is not an absolute http or https address, e.g. https://school.example"
		}
	case TypeDuration:
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return shown + " is not a positive duration, e.g. 500ms, 1s, 10m"
		}
	case TypeInt:
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			return shown + " is not a whole number"
		}
	case TypeBool:
		if _, err := strconv.ParseBool(v); err != nil {
			return shown + " is neither true nor false"
		}
	case TypeText, TypeDSN:
	default:
		return fmt.Sprintf("the setting's own type %q is unknown", s.Type)
	}
	return ""
}

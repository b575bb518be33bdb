package expr

import (
	"encoding/json"
	"fmt"
)

// Label is what a field of the event's data, and its values, are called.
type Label struct {
	Title  string
	Values map[string]string // by the value as it is written
}

// Labels are by path within data: state, or address.city.
type Labels map[string]Label

// Bounds of what is read of a schema.
const (
	labelDepth = 5
	maxLabels  = 1000
)

// labelled is a JSON Schema as far as labels need it. titles, by language, is
// ours: JSON Schema knows one title only.
type labelled struct {
	Title      string                     `json:"title"`
	Titles     map[string]string          `json:"titles"`
	Properties map[string]json.RawMessage `json:"properties"`
	Items      json.RawMessage            `json:"items"`
	Enum       []any                      `json:"enum"`
	EnumNames  []string                   `json:"enumNames"` // of forms made by react-jsonschema-form and others
	OneOf      []choice                   `json:"oneOf"`
	AnyOf      []choice                   `json:"anyOf"`
}

type choice struct {
	Const  any               `json:"const"`
	Title  string            `json:"title"`
	Titles map[string]string `json:"titles"`
}

// LabelsOf reads the labels of a JSON Schema of data, in the first of the
// languages that has one, else as title says: of fields by title, of values by
// oneOf or anyOf with const and title, or by enum with enumNames. What cannot be
// read has none.
func LabelsOf(schema json.RawMessage, languages ...string) Labels {
	out := Labels{}
	out.read(schema, "", languages, labelDepth)
	return out
}

func (l Labels) read(raw json.RawMessage, path string, languages []string, depth int) {
	var s labelled
	if depth == 0 || len(raw) == 0 || len(l) >= maxLabels || json.Unmarshal(raw, &s) != nil {
		return
	}
	if path != "" {
		label := Label{Title: titled(s.Title, s.Titles, languages), Values: map[string]string{}}
		for i, name := range s.EnumNames {
			if i < len(s.Enum) {
				label.Values[written(s.Enum[i])] = name
			}
		}
		for _, c := range append(s.OneOf, s.AnyOf...) {
			if c.Const != nil {
				if title := titled(c.Title, c.Titles, languages); title != "" {
					label.Values[written(c.Const)] = title
				}
			}
		}
		if label.Title != "" || len(label.Values) > 0 {
			l[path] = label
		}
		var items labelled
		if len(s.Items) > 0 && json.Unmarshal(s.Items, &items) == nil && len(label.Values) == 0 {
			inner := Labels{}
			inner.read(s.Items, path, languages, 1)
			if got, ok := inner[path]; ok {
				got.Title = label.Title
				l[path] = got
			}
		}
		path += "."
	}
	for name, sub := range s.Properties {
		l.read(sub, path+name, languages, depth-1)
	}
}

// titled is the title in the first language there is.
func titled(title string, by map[string]string, languages []string) string {
	for _, language := range languages {
		if t := by[language]; t != "" {
			return t
		}
	}
	return title
}

// written is a value as CEL shows it.
func written(v any) string { return fmt.Sprint(v) }

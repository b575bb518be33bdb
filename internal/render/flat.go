package render

import (
	"fmt"
	"strconv"
	"strings"
)

// segment is a piece of the source of a template without sections: text, and the
// dotted name of the value behind it; nil = none is, as at the end.
type segment struct {
	text string
	path []string
}

// flatten divides a source that check has passed; nil when it has anything but
// text and values. What the library looks up by a method's name stays with it, and
// so do formats, which are made for each rendering, and the whole of what is worked
// out in parts.
func flatten(source string) []segment {
	var all []segment
	for rest := source; ; {
		text, opened, open := strings.Cut(rest, "{{")
		if !open {
			return append(all, segment{text: text})
		}
		tag, after, closed := strings.Cut(opened, "}}")
		name := strings.TrimSpace(tag)
		if !closed || strings.ContainsAny(name, "#^/!") {
			return nil
		}
		path := strings.Split(name, ".")
		if path[0] == "as" || len(path) == 1 && inParts[path[0]] {
			return nil
		}
		for _, part := range path {
			if part == "" || part == "String" {
				return nil
			}
		}
		all = append(all, segment{text, path})
		rest = after
	}
}

// flatly is run of a template without sections, which is most of what people
// write, without the library and the reflection by which it looks values up:
// TestFlatly holds both together. False when something is not as usual: a value
// that is not there, or more than surely fits the limit.
func (p *parsed) flatly(from *values, limit int, value func(string) (string, bool)) (string, bool) {
	if p.flat == nil {
		return "", false
	}
	var few [16]string
	told := few[:0]
	size := 0
	for i := range p.flat {
		s := &p.flat[i]
		size += len(s.text)
		if s.path == nil {
			continue
		}
		text, ok := from.printed(s.path)
		if !ok {
			return "", false
		}
		told = append(told, text)
		size += max(len(text), len(placeholderBegin)+len(placeholderEnd)+len(strconv.Itoa(maxTags)))
	}
	if size > limit {
		return "", false
	}
	var out strings.Builder
	out.Grow(size)
	for i := range p.flat {
		out.WriteString(p.flat[i].text)
		if p.flat[i].path != nil {
			text, _ := value(told[i]) // what fits the limit is less than there is room for
			out.WriteString(text)
		}
	}
	return out.String(), true
}

// printed is the value of a name as the library prints it; false when there is
// none.
func (v *values) printed(path []string) (string, bool) {
	var at any
	var ok bool
	if root := path[0]; inParts[root] {
		if v.without(root) {
			return "", false
		}
		at, path = v.part(root, path[1]), path[2:]
	} else {
		if at, ok = v.root(root); !ok {
			return "", false
		}
		path = path[1:]
	}
	for _, part := range path {
		if at, ok = member(at, part); !ok {
			return "", false
		}
	}
	switch v := at.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	}
	return fmt.Sprint(at), true
}

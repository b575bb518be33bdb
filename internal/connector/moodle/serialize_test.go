package moodle

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// serialize is PHP's serialize for what json.Unmarshal makes; false for what
// has another form in PHP (an object that is empty or has numbers as keys).
func serialize(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "N;", true
	case bool:
		if v {
			return "b:1;", true
		}
		return "b:0;", true
	case float64:
		return "d:" + strconv.FormatFloat(v, 'g', -1, 64) + ";", true
	case string:
		return fmt.Sprintf("s:%d:\"%s\";", len(v), v), true
	case []any:
		var b strings.Builder
		fmt.Fprintf(&b, "a:%d:{", len(v))
		for i, e := range v {
			s, ok := serialize(e)
			if !ok {
				return "", false
			}
			fmt.Fprintf(&b, "i:%d;%s", i, s)
		}
		return b.String() + "}", true
	case map[string]any:
		if len(v) == 0 {
			return "", false
		}
		var b strings.Builder
		fmt.Fprintf(&b, "a:%d:{", len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if _, err := strconv.Atoi(k); err == nil {
				return "", false
			}
			s, ok := serialize(v[k])
			if !ok {
				return "", false
			}
			fmt.Fprintf(&b, "s:%d:\"%s\";%s", len(k), k, s)
		}
		return b.String() + "}", true
	}
	return "", false
}

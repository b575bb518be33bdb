package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// decode puts the value of a known key into c; it says what is wrong with it.
// Values of secrets are never repeated.
func decode(c *Config, key string, value any) string {
	if channel, ok := strings.CutPrefix(key, "channels."); ok {
		name, setting, _ := strings.Cut(channel, ".")
		text, ok := scalar(value)
		if !ok {
			return "must be one value"
		}
		if c.Channels == nil {
			c.Channels = map[string]map[string]string{}
		}
		if c.Channels[name] == nil {
			c.Channels[name] = map[string]string{}
		}
		c.Channels[name][setting] = text
		return ""
	}
	for _, f := range Fields() {
		if f.Key == key {
			return set(reflect.ValueOf(c).Elem().FieldByIndex(f.index), value, f)
		}
	}
	return ""
}

func set(target reflect.Value, value any, f Field) string {
	if target.Kind() == reflect.Slice {
		list, fault := list(value)
		if fault != "" {
			return fault
		}
		target.Set(reflect.MakeSlice(target.Type(), 0, len(list)))
		for _, s := range list {
			target.Set(reflect.Append(target, reflect.ValueOf(s).Convert(target.Type().Elem())))
		}
		return ""
	}
	text, ok := scalar(value)
	if !ok {
		return "must be one value: " + f.Form
	}
	if target.Type() == reflect.TypeFor[time.Duration]() {
		d, ok := belfry.ParseSpan(text)
		if !ok {
			return fmt.Sprintf("%q is no duration: write it like 10s or 2m", text)
		}
		target.SetInt(int64(d))
		return ""
	}
	switch target.Kind() {
	case reflect.String:
		target.SetString(strings.TrimSpace(text))
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Sprintf("%q is neither true nor false", text)
		}
		target.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
		if err != nil {
			return fmt.Sprintf("%q is no whole number", text)
		}
		target.SetInt(int64(n))
	}
	return ""
}

func scalar(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v), true
	}
	return "", false
}

// list reads a list, or text with commas or spaces between its parts.
func list(value any) ([]string, string) {
	var parts []string
	switch v := value.(type) {
	case string:
		return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' }), ""
	case []any:
		for _, e := range v {
			s, ok := scalar(e)
			if !ok {
				return nil, "must be a list of plain values"
			}
			parts = append(parts, strings.TrimSpace(s))
		}
		return parts, ""
	}
	return nil, "must be a list"
}

package channel_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

var settings = []channel.Setting{
	{Name: "url", Label: "URL", Type: channel.TypeURL, Required: true},
	{Name: "from", Label: "From", Type: channel.TypeEmail},
	{Name: "n", Label: "Number", Type: channel.TypeNumber, Default: "8", Required: true},
	{Name: "on", Label: "On", Type: channel.TypeBool},
	{Name: "wait", Label: "Wait", Type: channel.TypeDuration, Default: "1s"},
	{Name: "mode", Label: "Mode", Type: channel.TypeChoice, Choices: []string{"a", "b"}},
	{Name: "key", Label: "Key", Type: channel.TypeLong, Secret: true},
	{Name: "a/b~c", Label: "Odd", Type: channel.TypeText, Secret: true},
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		values map[string]string
		want   []string // pointer: message begins with
	}{
		"all good": {map[string]string{"url": "https://a.example/x", "from": "A <a@b.example>", "n": "0", "on": "true", "wait": "2m", "mode": "b", "key": "-----BEGIN\nEND", "a/b~c": "x"}, nil},
		"least":    {map[string]string{"url": "smtp://host"}, nil},
		"nothing":  {nil, []string{"/settings/url: is required"}},
		"all bad": {map[string]string{"url": "nohost", "from": "x", "n": "-1", "on": "yes", "wait": "-1s", "mode": "c", "a/b~c": "x\ny"}, []string{
			"/settings/url: must be an absolute URL", "/settings/from: must be a mail address", "/settings/n: must be a whole number",
			"/settings/on: must be true or false", "/settings/wait: must be a duration", "/settings/mode: must be one of a, b", "/settings/a~1b~0c: must be one line",
		}},
		"unknown": {map[string]string{"url": "https://x.example", "form": "x", "zzzzzzzz": "y"}, []string{
			`/settings/form: is not a setting; did you mean "from"?`, "/settings/zzzzzzzz: is not a setting; known are url, from",
		}},
	} {
		err := channel.Validate(settings, tc.values)
		var fault *belfry.Error
		var got []string
		if errors.As(err, &fault) {
			if fault.Kind != belfry.Invalid {
				t.Errorf("%s: kind %v", name, fault.Kind)
			}
			for _, f := range fault.Fields {
				got = append(got, f.Pointer+": "+f.Message)
			}
		}
		if !slices.EqualFunc(got, tc.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if err := channel.Validate(nil, map[string]string{"x": "y"}); err == nil || !strings.Contains(err.Error(), "has none") {
		t.Errorf("%v", err)
	}
}

func TestWithDefaults(t *testing.T) {
	values := map[string]string{"url": "x", "n": ""}
	got := channel.WithDefaults(settings, values)
	if got["n"] != "8" || got["wait"] != "1s" || got["url"] != "x" || values["n"] != "" {
		t.Errorf("%v from %v", got, values)
	}
}

func TestDetail(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"plain text":                     "plain text",
		"  two\r\n\tlines\x00 \n":        "two lines",
		"bad \xff\xfe bytes":             "bad bytes",
		"key hunter2-hunter2 shown":      "key [hidden] shown",
		"at the end: hunter2-hunter2":    "at the end: [hidden]",
		"\u202eright to left\u200b é 日本": "right to left é 日本",
	} {
		if got := channel.Detail(in, "hunter2-hunter2", "", "abc"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringN(4, 60, -1).Draw(t, "secret")
		text := rapid.String().Draw(t, "before") + strings.Repeat(secret, rapid.IntRange(0, 400).Draw(t, "times")) + rapid.String().Draw(t, "after")
		got := channel.Detail(text, secret)
		if len(got) > channel.MaxDetail || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\x00") {
			t.Fatalf("%q", got)
		}
		if strings.Contains(got, secret) && !strings.Contains(channel.Redacted, secret) {
			t.Fatalf("%q holds %q", got, secret)
		}
	})
}

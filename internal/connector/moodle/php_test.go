package moodle

import (
	"encoding/json"
	"strings"
	"testing"
)

// feature: MDL-13
func TestDecodeOther(t *testing.T) {
	for in, want := range map[string]string{
		"":                               `null`,
		"N;":                             `null`,
		"null":                           `null`,
		"b:0;":                           `[]`,
		"b:1;":                           `true`,
		"i:-5;":                          `-5`,
		"d:0.5;":                         `0.5`,
		"d:NAN;":                         `null`,
		`s:4:"é🧪";`:                      "error", // characters counted instead of bytes
		`s:6:"é🧪";`:                      `"é🧪"`,
		`s:3:"a"b";`:                     `"a\"b"`,
		"a:0:{}":                         `[]`,
		"a:2:{i:0;i:7;i:1;N;}":           `[7,null]`,
		"a:2:{i:1;i:7;i:0;N;}":           `{"1":7,"0":null}`,
		`a:1:{s:1:"a";a:1:{i:0;b:0;}}`:   `{"a":[false]}`,
		`a:2:{s:1:"a";i:1;s:1:"a";i:2;}`: `{"a":2}`,
		`a:4:{s:7:"content";s:20:"<p>é ünï 🚀</p>";s:14:"pathnamehashes";a:0:{}s:12:"discussionid";i:7;s:13:"triggeredfrom";s:20:"forum_add_discussion";}`: `{"content":"<p>é ünï 🚀</p>","pathnamehashes":[],"discussionid":7,"triggeredfrom":"forum_add_discussion"}`,
		`{"fullname":"Chimie g\u00e9n\u00e9rale \u2014 \ud83e\uddea", "a": [1, 2]}`:                                                                       `{"fullname":"Chimie g\u00e9n\u00e9rale \u2014 \ud83e\uddea","a":[1,2]}`,
		`"text"`: `"text"`,

		`O:8:"stdClass":0:{}`:    "error",
		`C:1:"X":0:{}`:           "error",
		`a:1:{i:0;O:1:"X":0:{}}`: "error",
		`a:1:{i:0;R:1;}`:         "error",
		"a:1:{i:0;":              "error",
		"a:2:{i:0;i:1;}":         "error",
		"a:1:{a:0:{}i:1;}":       "error",
		"a:99999999:{}":          "error",
		"a:-1:{}":                "error",
		`s:99:"a";`:              "error",
		`s:1:"a"`:                "error",
		"i:1;i:2;":               "error",
		"i:0x10;":                "error",
		"d:0x1p4;":               "error",
		"d:1e999;":               "error",
		"b:2;":                   "error",
		"x:1;":                   "error",
		"{":                      "error",
		"{} {}":                  "error",
		strings.Repeat("a:1:{i:0;", 40) + "N;" + strings.Repeat("}", 40): "error",
		strings.Repeat("[", 40) + strings.Repeat("]", 40):                "error",
		`"` + strings.Repeat("x", maxOther) + `"`:                        "error",
	} {
		got, err := decodeOther(in)
		if err != nil {
			got = json.RawMessage("error")
		}
		if string(got) != want {
			t.Errorf("%.60s\n got %s (%v)\nwant %s", in, got, err, want)
		}
	}
}

// What the reader accepts is valid JSON, and it never panics or runs away.
func FuzzDecodeOther(f *testing.F) {
	for _, seed := range []string{"N;", "b:0;", `s:6:"é🧪";`, "a:2:{i:0;i:7;i:1;N;}", `a:1:{s:1:"a";a:1:{i:0;d:-1.5E+25;}}`, `O:8:"stdClass":0:{}`, `{"a":[1,"\u00e9"]}`, "null", "a:1:{i:0;", "s:5:\"\xff\xfe\";"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := decodeOther(in)
		if err != nil {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q gives %q, which is not JSON", in, got)
		}
		if len(got) > 12*len(in)+16 {
			t.Fatalf("%d bytes became %d", len(in), len(got))
		}
	})
}

// A value written by a naive serializer comes back as it was.
func FuzzPHPRoundTrip(f *testing.F) {
	f.Add(`{"a":[1,2,{"b":null}],"c":"é\"","d":true,"e":[]}`)
	f.Fuzz(func(t *testing.T, in string) {
		var v any
		if json.Unmarshal([]byte(in), &v) != nil || shallow(in) != nil || v == false || len(in) > 4000 {
			return
		}
		php, ok := serialize(v)
		if !ok {
			return
		}
		got, err := decodeOther(php)
		if err != nil {
			t.Fatalf("%s: %v", php, err)
		}
		var back any
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		again, _ := serialize(back)
		if again != php {
			t.Fatalf("%s became %s", php, again)
		}
	})
}

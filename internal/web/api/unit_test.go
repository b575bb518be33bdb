package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"pgregory.net/rapid"
)

func TestPathIDs(t *testing.T) {
	for segment, want := range map[string]string{
		"course/41":     "course/41", // course%2F41, decoded by net/http
		"~Y291cnNlLzQx": "course/41",
		"~Y291cnNlLzQ_": "course/4?", // url alphabet
		"~Lg":           ".",
		"~Li4":          "..",
		"~fmE":          "~a",
		"~Lw==":         "/", // padding is forgiven
		"plain":         "plain",
		"日本 语":          "日本 语",
	} {
		if got, p := decodePathID(segment); p != nil || got != want {
			t.Errorf("decodePathID(%q) = %q, %v; want %q", segment, got, p, want)
		}
	}
	for _, segment := range []string{"", "~", "~a", "~****", "~/w", "\xff", "~_w", "a\x00b", "~AA"} {
		if got, p := decodePathID(segment); p == nil {
			t.Errorf("decodePathID(%q) = %q, want a refusal", segment, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[^\x00]+`).Draw(t, "id")
		enc := encodePathID(id)
		if strings.ContainsAny(enc, "/%?# ") || enc == "." || enc == ".." {
			t.Fatalf("%q is not safe in a path", enc)
		}
		if got, p := decodePathID(enc); p != nil || got != id {
			t.Fatalf("%q became %q, %v", id, got, p)
		}
	})
}

type thing struct {
	Name  string            `json:"name"`
	Count int               `json:"count,omitempty"`
	Tags  []string          `json:"tags,omitempty"`
	When  *time.Time        `json:"when,omitempty"`
	Sub   *part             `json:"sub,omitempty"`
	Parts []part            `json:"parts,omitempty"`
	Any   json.RawMessage   `json:"any,omitempty"`
	Extra map[string]string `json:"extra,omitempty"`
	Keep  string            `json:"-"`
}

type part struct {
	On *bool   `json:"on"`
	X  float64 `json:"x"`
}

func TestDecodeStrict(t *testing.T) {
	for name, c := range map[string]struct {
		text     string
		kind     belfry.Kind
		pointers string
		says     string
	}{
		"fits":             {`{"name":"a","count":2,"tags":["x"],"when":"2026-05-09T09:31:16Z","sub":{"on":true,"x":1.5},"any":[1,{"b":null}],"extra":{"k":"v"}}`, 0, "", ""},
		"nulls are absent": {`{"name":null,"tags":null,"sub":null,"when":null,"extra":null,"any":null}`, 0, "", ""},
		"empty":            {" \n", belfry.Malformed, "", "empty"},
		"not JSON":         {"{\n \"name\": nope}", belfry.Malformed, "", "line 2, column 11"},
		"two values":       {`{}{}`, belfry.Malformed, "", ""},
		"cut off":          {`{"name":"a"`, belfry.Malformed, "", ""},
		"bad UTF-8":        {"{\"name\":\"\xff\"}", belfry.Malformed, "", "byte 9"},
		"unknown":          {`{"nam":"a"}`, belfry.Invalid, "/nam", `did you mean "name"`},
		"case matters":     {`{"Name":"a"}`, belfry.Invalid, "/Name", `"name"`},
		"hidden":           {`{"Keep":"a"}`, belfry.Invalid, "/Keep", ""},
		"several":          {`{"name":1,"count":"x","tags":{},"parts":[{"on":1},{"y":2},3],"when":"yesterday"}`, belfry.Invalid, "/name /count /tags /parts/0/on /parts/1/y /parts/2 /when", ""},
		"fraction":         {`{"count":1.5}`, belfry.Invalid, "/count", "whole number"},
		"too great":        {`{"count":1e30}`, belfry.Invalid, "/count", ""},
		"twice":            {`{"name":"a","name":"b"}`, belfry.Invalid, "/name", "twice"},
		"array":            {`[]`, belfry.Invalid, "", "must be an object, not an array"},
		"null":             {" null\n", belfry.Invalid, "", "must be an object, not null"},
		"escaped pointer":  {`{"a/b~c":1}`, belfry.Invalid, "/a~1b~0c", ""},
		"map value":        {`{"extra":{"k":1}}`, belfry.Invalid, "/extra/k", "text"},
	} {
		t.Run(name, func(t *testing.T) {
			var v thing
			err := decodeStrict([]byte(c.text), &v)
			if c.kind == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *belfry.Error
			if !errors.As(err, &e) || e.Kind != c.kind {
				t.Fatalf("error %v", err)
			}
			var pointers []string
			for _, f := range e.Fields {
				pointers = append(pointers, f.Pointer)
			}
			if got := strings.Join(pointers, " "); got != c.pointers {
				t.Errorf("pointers %q, want %q", got, c.pointers)
			}
			if !strings.Contains(e.Msg, c.says) {
				t.Errorf("says %q, want %q in it", e.Msg, c.says)
			}
		})
	}
}

// Whatever decodeStrict takes, encoding/json takes too and means the same.
func FuzzDecodeStrict(f *testing.F) {
	f.Add([]byte(`{"name":"a","parts":[{"on":true,"x":1}],"any":{}}`))
	f.Add([]byte(`{"name":"a","when":"2026-05-09T09:31:16Z","extra":{"":""}}`))
	f.Add([]byte("{\"name\":\"\\ud800\"}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var v, want thing
		err := decodeStrict(raw, &v)
		if err == nil && json.Unmarshal(raw, &want) != nil {
			t.Fatalf("%q is taken though it is not JSON of this type", raw)
		}
		if err != nil && belfry.KindOf(err) == belfry.Internal {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

// What is beyond the faults an answer has room for costs no more than reading
// it: no near name is looked for.
func TestUnknownFieldsBeyondTheBound(t *testing.T) {
	body := func(n int) []byte {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, `,"field%d":1`, i)
		}
		return append(append([]byte{'{'}, b.Bytes()[1:]...), '}')
	}
	costs := func(n int) float64 {
		raw := body(n)
		return testing.AllocsPerRun(3, func() { _ = decodeStrict(raw, &belfry.Subscription{}) })
	}
	less, more := costs(1000), costs(3000)
	if each := (more - less) / 2000; each > 35 {
		t.Errorf("each unknown field costs %.0f allocations", each)
	}
}

func TestProblemsOfErrors(t *testing.T) {
	for kind, status := range statusOfKind {
		p := problemOf(&belfry.Error{Kind: kind, Msg: "the words", Fields: []belfry.Field{{Pointer: "/a", Message: "m"}}, RetryAfter: 1500 * time.Millisecond})
		if p.Status != status || !strings.HasPrefix(p.Type, problemBase) || p.Title == "" {
			t.Errorf("kind %d: %+v", kind, p)
		}
		inside := kind == belfry.Internal || kind == belfry.Unavailable
		if strings.Contains(p.Detail, "the words") == inside {
			t.Errorf("kind %d says %q", kind, p.Detail)
		}
		if got := p.GetHeaders().Get("Retry-After"); got != "2" {
			t.Errorf("Retry-After %q", got)
		}
	}
	if p := problemOf(errors.New("pq: password of db is hunter2")); p.Status != 500 || strings.Contains(p.Detail, "hunter2") {
		t.Errorf("an inner error leaks: %+v", p)
	}
	if p := problemOf(belfry.Errorf(belfry.Overloaded, "full")); p.GetHeaders().Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	if newProblem(http.StatusUnauthorized, "").GetHeaders().Get("WWW-Authenticate") == "" {
		t.Error("401 without WWW-Authenticate")
	}
}

// Every problem type leads to a heading of docs/errors.md.
func TestProblemTypesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for status, names := range problemTypes {
		if !strings.Contains(string(text), "\n## "+names[0]+"\n") {
			t.Errorf("status %d: docs/errors.md has no heading %q", status, names[0])
		}
	}
}

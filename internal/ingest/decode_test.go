package ingest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
)

const ownEvent = `{"id":"41-1462786276","source":"/moodle","type":"core.course_updated","time":"2016-05-09T09:31:16Z",
 "object":"course/41","actor":"user/8","related":[],"data":{"shortname":"CPR","fullname":"Cardiopulmonary Resuscitation"},
 "record":{"id":41,"fullname":"Cardiopulmonary Resuscitation"},"flags":[]}`

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func own() http.Header        { return headers("Content-Type", "application/json") }
func structured() http.Header { return headers("Content-Type", "application/cloudevents+json") }

func decodeOne(t *testing.T, h http.Header, body string) belfry.Event {
	t.Helper()
	events, _, err := ingest.Decode(h, []byte(body), ingest.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if len(events) != 1 {
		t.Fatalf("%s: %d events", body, len(events))
	}
	return events[0]
}

func TestOurForm(t *testing.T) {
	want := belfry.Event{
		ID: "41-1462786276", Source: "/moodle", Type: "core.course_updated", Time: time.Date(2016, 5, 9, 9, 31, 16, 0, time.UTC),
		Object: "course/41", Actor: "user/8",
		Data:   json.RawMessage(`{"shortname":"CPR","fullname":"Cardiopulmonary Resuscitation"}`),
		Record: json.RawMessage(`{"id":41,"fullname":"Cardiopulmonary Resuscitation"}`),
	}
	if diff := cmp.Diff(want, decodeOne(t, own(), ownEvent)); diff != "" {
		t.Error(diff)
	}
	full := `{"id":"é\u00e9\ud83d\ude00","source":"s","type":"t","time":"2026-01-02t03:04:05.123456789+02:00","subject":"x","datacontenttype":"application/json",
		"dataschema":"https://example.org/s","object":"a","actor":"b","related":["user/1","user/2"],"destination":"c","data":[ 1, {"a" : null} ],"record":false,
		"flags":["silent","anonymous"],"commit":"k","problem":"p","resolves":"r","transition":"publish","comment":"two\nlines","variables":{"v": 1},"extensions":{"tenantid":"7","n":5,"yes":true,"gone":null}}`
	got := decodeOne(t, own(), full)
	want = belfry.Event{
		ID: "éé😀", Source: "s", Type: "t", Time: time.Date(2026, 1, 2, 1, 4, 5, 123456789, time.UTC), Subject: "x", DataContentType: "application/json",
		DataSchema: "https://example.org/s", Object: "a", Actor: "b", Related: []string{"user/1", "user/2"}, Destination: "c",
		Data: json.RawMessage(`[1,{"a":null}]`), Record: json.RawMessage("false"), Flags: []string{"silent", "anonymous"}, Commit: "k", Problem: "p", Resolves: "r",
		Transition: "publish", Comment: "two\nlines", Variables: json.RawMessage(`{"v":1}`),
		Extensions: map[string]json.RawMessage{"tenantid": json.RawMessage(`"7"`), "n": json.RawMessage("5"), "yes": json.RawMessage("true")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	events, form, err := ingest.Decode(own(), []byte(` [ `+ownEvent+` , {"type":"t"} ] `), ingest.Limits{})
	if err != nil || form != ingest.Own || len(events) != 2 || events[1].Type != "t" || !events[1].Time.IsZero() {
		t.Error(events, form, err)
	}
	if events, _, err = ingest.Decode(headers(), []byte("[]"), ingest.Limits{}); err != nil || len(events) != 0 {
		t.Error("an empty array:", events, err)
	}
	if e := decodeOne(t, own(), `{"type":"t","data":null,"object":null,"related":null,"flags":null,"time":null,"extensions":null,"record":null}`); !cmp.Equal(e, belfry.Event{Type: "t"}) {
		t.Errorf("null is absent: %+v", e)
	}
}

// feature: PEER-1
func TestCloudEventsStructured(t *testing.T) {
	e := decodeOne(t, headers("Content-Type", "application/cloudevents+json; charset=UTF-8"), `{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2026-11-21T09:30:00Z",
		"object":"course/41","actor":"user/8","related":"user/1, user/2","destination":"course/42","flags":"silent,notify_no_local","transition":"publish","commit":"c","problem":"disk","resolves":"0",
		"tenantid":"x","count":3,"comment":"kept as a stranger's","data":{"a":1}}`)
	want := belfry.Event{
		ID: "1", Source: "/s", Type: "t", Time: time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC), Object: "course/41", Actor: "user/8", Related: []string{"user/1", "user/2"},
		Destination: "course/42", Flags: []string{"silent", "notify_no_local"}, Transition: "publish", Commit: "c", Problem: "disk", Resolves: "0", Data: json.RawMessage(`{"a":1}`),
		Extensions: map[string]json.RawMessage{"tenantid": json.RawMessage(`"x"`), "count": json.RawMessage("3"), "comment": json.RawMessage(`"kept as a stranger's"`)},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	for body, data := range map[string]string{
		`"data_base64":"eyJhIjogMX0="`:                              `{"a":1}`,
		`"datacontenttype":"text/plain","data_base64":"aGkKIg=="`:   `"hi\n\""`,
		`"datacontenttype":"text/plain","data":"hi"`:                `"hi"`,
		`"datacontenttype":"image/png","data_base64":"/9g="`:        `"/9g="`,
		`"data":"\u0000\u00ff","datacontenttype":"image/png"`:       `"AMO/"`,
		`"datacontenttype":"application/vnd.x+json","data":[1 , 2]`: `[1,2]`,
		`"data":null`: ``,
		`"datacontenttype":"application/octet-stream","data_base64":""`:   ``,
		`"datacontenttype":"application/xml","data":{"as":"it came"}`:     `{"as":"it came"}`,
		`"data_base64":"aGk=","datacontenttype":"application/atom+xml"`:   `"hi"`,
		`"data_base64":null,"data":"x","datacontenttype":"text/x; a=b"`:   ``,
		`"datacontenttype":"application/json; charset=utf-8","data":"hi"`: `"hi"`,
	} {
		events, _, err := ingest.Decode(structured(), []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t",`+body+`}`), ingest.Limits{})
		if strings.Contains(body, `"data":"x"`) {
			if err == nil {
				t.Error("data and data_base64 together were taken")
			}
			continue
		}
		if err != nil || string(events[0].Data) != data {
			t.Errorf("%s: data %s, want %s (%v)", body, events[0].Data, data, err)
		}
	}
}

// feature: PEER-1
func TestCloudEventsBinary(t *testing.T) {
	h := headers("Content-Type", "application/json", "ce-specversion", "1.0", "ce-id", "%E2%82%AC 100%", "ce-source", `"/a \"b\""`, "ce-type", "t",
		"ce-time", "2026-11-21T09:30:00Z", "ce-object", "course/41", "ce-related", "user/1,user/2", "ce-tenantid", "x%20y", "ce-subject", "s", "Other", "header")
	e := decodeOne(t, h, ` {"a" : 1} `)
	want := belfry.Event{ID: "€ 100%", Source: `/a "b"`, Type: "t", Time: time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC), Object: "course/41", Related: []string{"user/1", "user/2"},
		Subject: "s", DataContentType: "application/json", Data: json.RawMessage(`{"a":1}`), Extensions: map[string]json.RawMessage{"tenantid": json.RawMessage(`"x y"`)}}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	with := func(contentType string) http.Header {
		h := headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t")
		if contentType != "" {
			h.Set("Content-Type", contentType)
		}
		return h
	}
	for _, c := range []struct{ contentType, body, data string }{
		{"", "", ""},
		{"", "5", "5"},
		{"application/json", "null", ""},
		{"text/plain", "a\"b", `"a\"b"`},
		{"application/octet-stream", "\xff\xd8", `"/9g="`},
		{"application/xml", "<a/>", `"<a/>"`},
	} {
		if e := decodeOne(t, with(c.contentType), c.body); string(e.Data) != c.data || e.DataContentType != c.contentType {
			t.Errorf("%q %q: data %s", c.contentType, c.body, e.Data)
		}
	}
	for _, c := range []struct {
		h    http.Header
		body string
		kind belfry.Kind
		at   string
	}{
		{headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s"), "", belfry.Malformed, "/type"},
		{headers("ce-specversion", "0.3", "ce-id", "1", "ce-source", "/s", "ce-type", "t"), "", belfry.Malformed, "/specversion"},
		{headers("ce-specversion", "1.0", "ce-id", "1", "ce-id", "2", "ce-source", "/s", "ce-type", "t"), "", belfry.Malformed, "/id"},
		{headers("ce-specversion", "1.0", "ce-id", "%FF", "ce-source", "/s", "ce-type", "t"), "", belfry.Malformed, "/id"},
		{with("application/json"), "{", belfry.Malformed, "/data"},
		{with("application/json"), "1 2", belfry.Malformed, "/data"},
		{with("application/json"), `"` + "\xff" + `"`, belfry.Invalid, "/data"},
		{with("text/plain"), "\xff", belfry.Invalid, "/data"},
		{headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-time", "yesterday"), "", belfry.Invalid, "/time"},
		{headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-time", "0001-01-01T00:00:00Z"), "", belfry.Invalid, "/time"},
		{headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-a-b", "x"), "", belfry.Invalid, "/a-b"},
		{headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-data", "x"), "", belfry.Invalid, "/data"},
		{headers("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "a%00b"), "", belfry.Invalid, "/type"},
	} {
		wantFault(t, fmt.Sprint(c.h, c.body), c.h, c.body, c.kind, c.at)
	}
}

func wantFault(t *testing.T, what string, h http.Header, body string, kind belfry.Kind, at string) {
	t.Helper()
	_, _, err := ingest.Decode(h, []byte(body), ingest.Limits{})
	var e *belfry.Error
	if !errors.As(err, &e) {
		t.Errorf("%.200s: no fault (%v)", what, err)
		return
	}
	if e.Kind != kind {
		t.Errorf("%.200s: kind %d, want %d: %v", what, e.Kind, kind, err)
	}
	if at == "-" {
		return
	}
	for _, f := range e.Fields {
		if f.Pointer == at {
			return
		}
	}
	t.Errorf("%.200s: no fault at %q: %v", what, at, e.Fields)
}

func TestFaults(t *testing.T) {
	long := strings.Repeat("x", 600)
	for body, at := range map[string]string{
		`{}`:                                         "/type",
		`{"type":""}`:                                "/type",
		`{"type":5}`:                                 "/type",
		`{"type":"t","tpye":1}`:                      "/tpye",
		`{"type":"t","a/b~c":1}`:                     "/a~1b~0c",
		`{"type":"t","specversion":"1.0"}`:           "/specversion",
		`{"type":"t","type":"t"}`:                    "/type",
		`{"type":"t","id":"a\u0000b"}`:               "/id",
		`{"type":"t","id":"\ud800"}`:                 "/id",
		`{"type":"t","id":"` + long + `"}`:           "/id",
		`{"type":"t","object":"` + long + `"}`:       "/object",
		`{"type":"t","object":["a"]}`:                "/object",
		`{"type":"t","actor":"a\u0085"}`:             "/actor",
		`{"type":"t","related":"user/1"}`:            "/related",
		`{"type":"t","related":["a",1]}`:             "/related/1",
		`{"type":"t","related":["a",null]}`:          "/related/1",
		`{"type":"t","related":["a",""]}`:            "/related/1",
		`{"type":"t","related":["` + long + `"]}`:    "/related/0",
		`{"type":"t","flags":["silnet"]}`:            "/flags/0",
		`{"type":"t","time":"2026-13-01"}`:           "/time",
		`{"type":"t","time":5}`:                      "/time",
		`{"type":"t","time":"1969-12-31T23:59:59Z"}`: "/time",
		`{"type":"t","time":"0001-01-01T00:00:00Z"}`: "/time", // what some languages write for no time: not now
		`{"type":"t","record":true}`:                 "/record",
		`{"type":"t","record":[]}`:                   "/record",
		`{"type":"t","variables":[]}`:                "/variables",
		`{"type":"t","comment":"\u0000"}`:            "/comment",
		`{"type":"t","extensions":5}`:                "/extensions",
		`{"type":"t","extensions":{"A":1}}`:          "/extensions/A",
		`{"type":"t","extensions":{"a":{}}}`:         "/extensions/a",
		`{"type":"t","extensions":{"object":"x"}}`:   "/extensions/object",
		`{"type":"t","extensions":{"a":1,"a":2}}`:    "/extensions/a",
		`[{"type":"t"},5]`:                           "/1",
		`[{"type":"t"},{"type":"t","id":7}]`:         "/1/id",
	} {
		wantFault(t, body, own(), body, belfry.Invalid, at)
	}
	for _, body := range []string{``, `{`, `[`, `5`, `"x"`, `{"type":"t"`, `{"type":"t"}x`, `{"type":"t",}`, `{"type":"t" "id":"x"}`, `{type:"t"}`, `{"type":'t'}`, `[{"type":"t"},]`,
		`{"type":"t","data":01}`, `{"type":"t","data":1.}`, `{"type":"t","data":-}`, `{"type":"t","data":1e}`, `{"type":"t","data":tru}`, `{"type":"t","data":"\x"}`, `{"type":"t","data":"\u00g0"}`,
		"{\"type\":\"t\",\"data\":\"a\nb\"}", "{\"type\":\"\xff\"}", `{"type":"t","data":{"a"}}`, `{"type":"t","data":{"a":}}`, `{"type":"t","data":[1 2]}`, `{"type":"t","data":NaN}`, "\x00", "null"} {
		wantFault(t, body, own(), body, belfry.Malformed, "-")
	}
	for _, body := range []string{`{"id":"1","source":"/s","type":"t"}`, `{"specversion":"1.0","source":"/s","type":"t"}`, `{"specversion":"1.0","id":"","source":"/s","type":"t"}`,
		`{"specversion":"1.0","id":"1","type":"t"}`, `{"specversion":"1.0","id":"1","source":"/s"}`, `[]`} {
		wantFault(t, body, structured(), body, belfry.Malformed, "-")
	}
	wantFault(t, "batch of one object", headers("Content-Type", "application/cloudevents-batch+json"), `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`, belfry.Malformed, "-")
	wantFault(t, "batch", headers("Content-Type", "application/cloudevents-batch+json"), `[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"1","source":"/s"}]`, belfry.Malformed, "/1/type")
	wantFault(t, "array extension", structured(), `{"specversion":"1.0","id":"1","source":"/s","type":"t","ext":[1]}`, belfry.Invalid, "/ext")
	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "application/cloudevents+avro", "application/json; charset=latin1", "a b c;"} {
		wantFault(t, contentType, headers("Content-Type", contentType), ownEvent, belfry.MediaType, "-")
	}
	wantFault(t, "deep", own(), `{"type":"t","data":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+`}`, belfry.Invalid, "-")
	wantFault(t, "large", own(), `{"type":"t","data":"`+strings.Repeat("x", 256<<10)+`"}`, belfry.TooLarge, "")
	wantFault(t, "large in an array", own(), `[{"type":"t"},{"type":"t","data":"`+strings.Repeat("x", 256<<10)+`"}]`, belfry.TooLarge, "/1")
	wantFault(t, "related", own(), `{"type":"t","related":[`+strings.TrimSuffix(strings.Repeat(`"a",`, 1001), ",")+`]}`, belfry.Invalid, "/related")
	wantFault(t, "many events", own(), "["+strings.TrimSuffix(strings.Repeat(`{"type":"t"},`, 10_001), ",")+"]", belfry.TooLarge, "-")
	wantFault(t, "a very long name", own(), `{"type":"t","`+strings.Repeat("é", 100_000)+`":1}`, belfry.Invalid, "-")

	_, _, err := ingest.Decode(own(), []byte(`{"tpye":"x"}`), ingest.Limits{})
	if err == nil || !strings.Contains(err.Error(), "did you mean type?") {
		t.Error("no help with a misspelt name:", err)
	}
	_, _, err = ingest.Decode(own(), []byte("["+strings.TrimSuffix(strings.Repeat(`{"no":1},`, 5000), ",")+"]"), ingest.Limits{})
	var e *belfry.Error
	if !errors.As(err, &e) || len(e.Fields) > 110 {
		t.Error("an answer must not name thousands of faults")
	}
}

// Whatever is accepted is what encoding/json would read, in every form; and no
// input panics.
func FuzzDecodeOurForm(f *testing.F) {
	f.Add([]byte(ownEvent))
	f.Add([]byte(`[{"type":"t","data":{"a":[1,2.5e3,"\ud83d\ude00"]},"extensions":{"a":true}},{"type":"u"}]`))
	f.Add([]byte(`{"type":"t","flags":["silent"],"variables":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		events, _, err := ingest.Decode(own(), body, ingest.Limits{})
		if err != nil {
			if belfry.KindOf(err) == belfry.Malformed && json.Valid(body) && strings.ContainsAny(string(bytes.TrimSpace(body)[:1]), "[{") && bytes.Equal(bytes.ToValidUTF8(body, nil), body) {
				t.Fatalf("refused as malformed, yet it is JSON: %v", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatal("accepted what is no JSON")
		}
		var items []map[string]json.RawMessage
		if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
			err = json.Unmarshal(body, &items)
		} else {
			items = make([]map[string]json.RawMessage, 1)
			err = json.Unmarshal(body, &items[0])
		}
		if err != nil || len(items) != len(events) {
			t.Fatalf("%d events, encoding/json reads %d (%v)", len(events), len(items), err)
		}
		for i, e := range events {
			for _, p := range []struct {
				name string
				got  string
			}{{"id", e.ID}, {"type", e.Type}, {"object", e.Object}, {"comment", e.Comment}} {
				var want string
				if raw, ok := items[i][p.name]; ok {
					_ = json.Unmarshal(raw, &want)
				}
				if p.got != want {
					t.Fatalf("%s is %q, encoding/json reads %q", p.name, p.got, want)
				}
			}
			var compact bytes.Buffer
			if raw, ok := items[i]["data"]; ok && string(raw) != "null" {
				_ = json.Compact(&compact, raw)
			}
			if compact.String() != string(e.Data) {
				t.Fatalf("data %s, want %s", e.Data, compact.String())
			}
		}
	})
}

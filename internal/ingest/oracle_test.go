package ingest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/cloudevents/sdk-go/v2/binding"
	ce "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
)

// sample draws an event the SDK finds valid, with data of one of three kinds.
func sample(t *rapid.T) ce.Event {
	// The SDK trims what it is given, so words begin and end with a letter.
	word := rapid.Map(rapid.StringOfN(rapid.RuneFrom([]rune("abcXYZ 019-_/.é€😀\"\\,"), unicode.Latin), 0, 20, -1), func(s string) string { return "w" + s + "w" })
	e := ce.New()
	e.SetID(word.Draw(t, "id"))
	e.SetType(word.Draw(t, "type"))
	e.SetSource("/" + rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "source"))
	if rapid.Bool().Draw(t, "timed") {
		e.SetTime(time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC())
	}
	if rapid.Bool().Draw(t, "with subject") {
		e.SetSubject(word.Draw(t, "subject"))
	}
	if rapid.Bool().Draw(t, "with schema") {
		e.SetDataSchema("https://example.org/schema")
	}
	for _, name := range []string{"object", "actor", "tenantid", "destination"} {
		if rapid.Bool().Draw(t, "with "+name) {
			e.SetExtension(name, word.Draw(t, name))
		}
	}
	switch rapid.IntRange(0, 3).Draw(t, "data kind") {
	case 0:
		_ = e.SetData("application/json", map[string]any{"a": word.Draw(t, "a"), "n": rapid.Int32().Draw(t, "n"), "l": []any{true, nil}})
	case 1:
		_ = e.SetData("text/plain", []byte(word.Draw(t, "text")))
	case 2:
		_ = e.SetData("application/octet-stream", rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "bytes"))
	}
	return e
}

// agree compares what we read with what the SDK says the event is.
func agree(t *rapid.T, want *ce.Event, got *belfry.Event) {
	text := func(v any) string { s, _ := v.(string); return s }
	extensions := want.Extensions()
	for _, f := range []struct{ name, want, got string }{
		{"id", want.ID(), got.ID}, {"source", want.Source(), got.Source}, {"type", want.Type(), got.Type}, {"subject", want.Subject(), got.Subject},
		{"dataschema", want.DataSchema(), got.DataSchema}, {"object", text(extensions["object"]), got.Object}, {"actor", text(extensions["actor"]), got.Actor},
		{"destination", text(extensions["destination"]), got.Destination},
	} {
		if f.want != f.got {
			t.Fatalf("%s is %q, the SDK says %q", f.name, f.got, f.want)
		}
	}
	if !want.Time().Equal(got.Time) {
		t.Fatalf("time %v, the SDK says %v", got.Time, want.Time())
	}
	var tenant string
	if raw := got.Extensions["tenantid"]; raw != nil {
		_ = json.Unmarshal(raw, &tenant)
	}
	if tenant != text(extensions["tenantid"]) {
		t.Fatalf("extension %q, the SDK says %q", tenant, extensions["tenantid"])
	}
	switch want.DataContentType() {
	case "application/json":
		var a, b any
		if json.Unmarshal(want.Data(), &a) != nil || json.Unmarshal(got.Data, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("data %s, the SDK says %s", got.Data, want.Data())
		}
	case "text/plain":
		var s string
		if json.Unmarshal(got.Data, &s) != nil || s != string(want.Data()) {
			t.Fatalf("text %s, the SDK says %q", got.Data, want.Data())
		}
	case "application/octet-stream":
		var b []byte
		if json.Unmarshal(got.Data, &b) != nil || string(b) != string(want.Data()) {
			t.Fatalf("bytes %s, the SDK says %x", got.Data, want.Data())
		}
	}
}

// What the CloudEvents SDK writes in any form, we read as it meant it.
// feature: PEER-1
func TestTheSDKsEventsReadTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(sample), 1, 4).Draw(t, "events")
		body, err := json.Marshal(events)
		if err != nil {
			t.Fatal(err)
		}
		got, form, err := ingest.Decode(headers("Content-Type", "application/cloudevents-batch+json"), body, ingest.Limits{})
		if err != nil || form != ingest.Batch || len(got) != len(events) {
			t.Fatalf("%s: %v", body, err)
		}
		for i := range events {
			agree(t, &events[i], &got[i])
			for _, structured := range []bool{true, false} {
				ctx := binding.WithForceBinary(context.Background())
				if structured {
					ctx = binding.WithForceStructured(context.Background())
				}
				r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/", nil)
				if err := cehttp.WriteRequest(ctx, (*binding.EventMessage)(&events[i]), r); err != nil {
					t.Fatal(err)
				}
				var body []byte
				if r.Body != nil {
					body, _ = io.ReadAll(r.Body)
				}
				one, _, err := ingest.Decode(r.Header, body, ingest.Limits{})
				if err != nil {
					t.Fatalf("%v %s: %v", r.Header, body, err)
				}
				want := events[i]
				if !structured {
					// The SDK does not percent-encode headers as the binding
					// asks, so what it wrote means something else.
					want = decoded(want, r.Header)
				}
				agree(t, &want, &one[0])
			}
		}
	})
}

// decoded is the event that headers written without percent-encoding name.
func decoded(e ce.Event, h http.Header) ce.Event {
	out := e.Clone()
	for _, set := range []struct {
		header string
		set    func(string)
	}{{"Ce-Id", out.SetID}, {"Ce-Type", out.SetType}, {"Ce-Subject", out.SetSubject}} {
		if v := h.Get(set.header); v != "" {
			set.set(ingest.HeaderValue(v))
		}
	}
	for name := range e.Extensions() {
		out.SetExtension(name, ingest.HeaderValue(h.Get("Ce-"+strings.ToUpper(name[:1])+name[1:])))
	}
	return out
}

// Binary mode survives any header and any body.
func FuzzDecodeBinary(f *testing.F) {
	f.Add("1", "t", "x", "application/json", []byte(`{"a":1}`))
	f.Add("%E2%82%AC", `"q\"q"`, "a,b", "text/plain", []byte("hi"))
	f.Add("", "", "", "", []byte{0xff})
	f.Fuzz(func(t *testing.T, id, typ, related, contentType string, body []byte) {
		h := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Type": {typ}, "Ce-Source": {"/s"}, "Ce-Related": {related}, "Ce-Xyz": {related}, "Content-Type": {contentType}}
		events, _, err := ingest.Decode(h, body, ingest.Limits{})
		if err == nil {
			wellFormed(t, events)
		}
	})
}

// Structured and batch mode survive any text, and what they accept is a sound
// event.
func FuzzDecodeStructured(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"/9g=","datacontenttype":"image/png","x":1}`))
	f.Add([]byte(`[{"specversion":"1.0","id":"1","source":"/s","type":"t","related":"a,b","data":"\ud800"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, contentType := range []string{"application/cloudevents+json", "application/cloudevents-batch+json"} {
			events, _, err := ingest.Decode(headers("Content-Type", contentType), body, ingest.Limits{})
			if err == nil {
				wellFormed(t, events)
			}
		}
	})
}

// wellFormed checks that the stored form of an event reads back as the event.
func wellFormed(t *testing.T, events []belfry.Event) {
	for _, e := range events {
		raw := ingest.Body(&e)
		var back belfry.Event
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatalf("the stored form is no JSON: %v: %s", err, raw)
		}
		if back.ID != e.ID || back.Type != e.Type || back.Object != e.Object || len(back.Related) != len(e.Related) || len(back.Extensions) != len(e.Extensions) {
			t.Fatalf("the stored form reads back otherwise: %s", raw)
		}
	}
}

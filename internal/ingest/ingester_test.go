package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
)

var now = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

// door is a door 1 in memory, a catalogue and a planner.
type door struct {
	mu      sync.Mutex
	drafts  []belfry.Draft
	ids     map[string]string
	planned []belfry.Accepted
	types   map[string]belfry.EventType
	objects map[string]bool
	pending int
	err     error
	asked   int
}

func (d *door) AcceptEvents(_ context.Context, drafts []belfry.Draft) ([]belfry.Receipt, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	if d.ids == nil {
		d.ids = map[string]string{}
	}
	receipts := make([]belfry.Receipt, len(drafts))
	for i, draft := range drafts {
		key := draft.Tenant + "\x00" + draft.Event.Source + "\x00" + draft.Event.ID
		id, seen := d.ids[key]
		if !seen {
			id = belfry.EventID(now, uint16(len(d.drafts)), 1)
			d.ids[key] = id
			d.drafts = append(d.drafts, draft)
		}
		receipts[i] = belfry.Receipt{EventID: id, Duplicate: seen, At: now, AsOf: 7}
	}
	return receipts, nil
}

func (d *door) EventType(_ context.Context, _, name string) (belfry.EventType, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	t, ok := d.types[name]
	return t, ok, nil
}

func (d *door) UnknownObjects(_ context.Context, _ string, ids []string) (unknown []string, err error) {
	for _, id := range ids {
		if !d.objects[id] {
			unknown = append(unknown, id)
		}
	}
	return unknown, nil
}

func (d *door) Handover(accepted []belfry.Accepted) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.planned = append(d.planned, accepted...)
}

func (d *door) Pending() int { return d.pending }

func newIngester(t testing.TB, d *door, change ...func(*ingest.Options)) *ingest.Ingester {
	t.Helper()
	o := ingest.Options{Store: d, Catalogue: d, Planner: d, Now: func() time.Time { return now }}
	for _, c := range change {
		c(&o)
	}
	g, err := ingest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var moodle = ingest.Origin{Tenant: "default", Key: "moodle"}

func receive(t *testing.T, g *ingest.Ingester, o ingest.Origin, h http.Header, body string) ingest.Result {
	t.Helper()
	r, err := g.Receive(context.Background(), o, h, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// feature: CPS-1
func TestAdmitFillsStoresAndHandsOver(t *testing.T) {
	d := &door{objects: map[string]bool{"course/41": true}, types: map[string]belfry.EventType{"known": {Name: "known"}}}
	g := newIngester(t, d)
	r := receive(t, g, moodle, own(), `[{"type":"known","object":"course/41"},{"type":"new","object":"course/42","destination":"course/41","related":["a","b","a"]},
		{"type":"known","id":"x","source":"/s","time":"2020-01-01T00:00:00Z","object":"root","actor":"user/1","flags":["anonymous"]}]`)
	if accepted, repeats := r.Accepted(); accepted != 3 || repeats != 0 {
		t.Fatal(accepted, repeats)
	}
	first, second, third := d.drafts[0], d.drafts[1], d.drafts[2]
	if first.Event.Source != "/moodle" || len(first.Event.ID) != 26 || !first.Event.Time.Equal(now) || first.Discovered || first.Implied != nil {
		t.Errorf("%+v %+v", first, first.Event)
	}
	if !second.Discovered || !cmp.Equal(second.Implied, []string{"course/42"}) || !cmp.Equal(second.Event.Related, []string{"a", "b"}) {
		t.Errorf("%+v", second)
	}
	if third.Event.Actor != "" || bytes.Contains(third.Body, []byte("user/1")) || third.Implied != nil {
		t.Errorf("an anonymous event kept its actor: %s", third.Body)
	}
	if len(d.planned) != 3 || d.planned[1].EventID != r.Receipts[1].EventID || d.planned[0].AsOf != 7 || d.planned[0].Tenant != "default" || d.planned[2].Event != third.Event {
		t.Errorf("%+v", d.planned)
	}
	if d.asked != 2 {
		t.Errorf("the catalogue was asked %d times for 2 types", d.asked)
	}
	// A repeat is accepted, told nobody, and gets the first one's id.
	again := receive(t, g, moodle, own(), `{"type":"known","id":"x","source":"/s"}`)
	if _, repeats := again.Accepted(); repeats != 1 || again.Receipts[0].EventID != r.Receipts[2].EventID || len(d.planned) != 3 {
		t.Errorf("%+v", again)
	}
}

func TestIdempotencyKeyMakesTheIDs(t *testing.T) {
	d := &door{}
	g := newIngester(t, d)
	o := moodle
	o.IdempotencyKey = "request-1"
	body := `[{"type":"t"},{"type":"t"}]`
	a := receive(t, g, o, own(), body)
	b := receive(t, g, o, own(), body)
	if len(d.drafts) != 2 || a.Receipts[0].EventID != b.Receipts[0].EventID || a.Receipts[0].EventID == a.Receipts[1].EventID || !b.Receipts[1].Duplicate {
		t.Errorf("%+v %+v", a, b)
	}
	o.IdempotencyKey = "request-2"
	receive(t, g, o, own(), body)
	o.Key, o.IdempotencyKey = "moodler", "equest-1"
	receive(t, g, o, own(), body)
	if len(d.drafts) != 6 {
		t.Errorf("%d events, want 6: another key is another event", len(d.drafts))
	}
}

func TestABatchIsWholeOrPartial(t *testing.T) {
	d := &door{}
	g := newIngester(t, d)
	body := `[{"type":"t"},{"tpye":"t"},{"type":"t","id":5},{"type":"u"},{"type":"t","flags":["loud"]}]`
	_, err := g.Receive(context.Background(), moodle, own(), []byte(body))
	var e *belfry.Error
	if !errors.As(err, &e) || e.Kind != belfry.Invalid || len(d.drafts) != 0 {
		t.Fatal(err)
	}
	var at []string
	for _, f := range e.Fields {
		at = append(at, f.Pointer)
	}
	if want := []string{"/1/tpye", "/2/id", "/4/flags/0"}; !cmp.Equal(at, want) {
		t.Errorf("faults at %v, want %v", at, want)
	}
	o := moodle
	o.Partial = true
	r := receive(t, g, o, own(), body)
	if accepted, _ := r.Accepted(); accepted != 2 || len(r.Faults) != 3 || r.Receipts[3].EventID == "" || r.Receipts[1].EventID != "" || len(d.drafts) != 2 {
		t.Errorf("%+v", r)
	}
	if _, err = g.Receive(context.Background(), o, own(), []byte(`[{"type":"t"},`)); belfry.KindOf(err) != belfry.Malformed {
		t.Error("partial or not, malformed JSON is refused:", err)
	}
}

func TestSchemaFaultsHavePointers(t *testing.T) {
	d := &door{types: map[string]belfry.EventType{
		"t": {Name: "t", Schema: json.RawMessage(`{"type":"object","required":["a"],"properties":{"a":{"type":"integer"},"l/~":{"items":{"maxLength":2}}}}`)},
		"n": {Name: "n", Schema: json.RawMessage(`{"$ref":"http://127.0.0.1:1/schema.json"}`)},
		"f": {Name: "f", Schema: json.RawMessage(`{"$ref":"file:///etc/hostname"}`)},
	}}
	g := newIngester(t, d)
	for body, at := range map[string]string{
		`{"type":"t","data":{"a":"x"}}`:               "/data/a",
		`{"type":"t","data":{}}`:                      "/data",
		`{"type":"t"}`:                                "/data",
		`{"type":"t","data":{"a":1,"l/~":["abc"]}}`:   "/data/l~1~0/0",
		`{"type":"n","data":{}}`:                      "/type",
		`{"type":"f","data":{}}`:                      "/type",
		`{"type":"t","data":{"a":1.5}}`:               "/data/a",
		`{"type":"t","data":{"a":"1","l/~":["abc"]}}`: "/data/l~1~0/0",
	} {
		_, err := g.Receive(context.Background(), moodle, own(), []byte(body))
		var e *belfry.Error
		if !errors.As(err, &e) || e.Kind != belfry.Invalid {
			t.Errorf("%s: %v", body, err)
			continue
		}
		found := false
		for _, f := range e.Fields {
			found = found || f.Pointer == at
		}
		if !found {
			t.Errorf("%s: %v, want a fault at %s", body, e.Fields, at)
		}
	}
	receive(t, g, moodle, own(), `{"type":"t","data":{"a":12345678901234567890,"l/~":["ab"]}}`)
	if len(d.drafts) != 1 {
		t.Error("sound data was refused")
	}
}

// feature: MDL-18
func TestRecordTravelsInTheDataOfCloudEvents(t *testing.T) {
	d := &door{types: map[string]belfry.EventType{"t": {Name: "t", Record: true}}}
	g := newIngester(t, d)
	send := func(h http.Header, attributes, data string) *belfry.Event {
		receive(t, g, moodle, h, fmt.Sprintf(`{%s"id":"%d","source":"/s","type":"t","data":%s}`, attributes, len(d.drafts), data))
		return d.drafts[len(d.drafts)-1].Event
	}
	for data, want := range map[string][2]string{
		`{"a":1,"record":{"id":4},"b":[2]}`: {`{"a":1,"b":[2]}`, `{"id":4}`},
		`{ "record" : false }`:              {`{}`, `false`},
		`{"record":5}`:                      {`{"record":5}`, ``},
		`{"a":{"record":{}}}`:               {`{"a":{"record":{}}}`, ``},
		`[{"record":{}}]`:                   {`[{"record":{}}]`, ``},
	} {
		if e := send(structured(), `"specversion":"1.0",`, data); string(e.Data) != want[0] || string(e.Record) != want[1] {
			t.Errorf("%s: data %s record %s", data, e.Data, e.Record)
		}
	}
	if e := send(own(), "", `{"record":{"id":4}}`); e.Record != nil {
		t.Error("our own form has a place for the record")
	}
}

func TestOverloadSaysWhen(t *testing.T) {
	d := &door{pending: 11}
	g := newIngester(t, d, func(o *ingest.Options) { o.Limits.Pending = 10; o.RetryAfter = 3 * time.Second })
	_, err := g.Receive(context.Background(), moodle, own(), []byte(ownEvent))
	var e *belfry.Error
	if !errors.As(err, &e) || e.Kind != belfry.Overloaded || e.RetryAfter != 3*time.Second {
		t.Fatal(err)
	}
	if _, err = g.Admit(context.Background(), moodle, []belfry.Event{{Type: "t"}}); belfry.KindOf(err) != belfry.Overloaded {
		t.Fatal(err)
	}
	d.pending = 10
	receive(t, g, moodle, own(), ownEvent)
}

func TestUnknownTypesMayBeRefused(t *testing.T) {
	g := newIngester(t, &door{}, func(o *ingest.Options) { o.RefuseUnknownTypes = true })
	if _, err := g.Receive(context.Background(), moodle, own(), []byte(ownEvent)); belfry.KindOf(err) != belfry.Invalid {
		t.Fatal(err)
	}
}

// Admit and Prepare take events from code, which may hold anything.
func TestAdmitChecksWhatIsNotFromTheWire(t *testing.T) {
	d := &door{}
	g := newIngester(t, d)
	for name, e := range map[string]belfry.Event{
		"no type": {}, "UTF-8": {Type: "a\xff"}, "object": {Type: "t", Object: "\xff"}, "NUL": {Type: "t", ID: "\x00"}, "data": {Type: "t", Data: json.RawMessage("{")},
		"data UTF-8": {Type: "t", Data: json.RawMessage("\"\xff\"")}, "extension": {Type: "t", Extensions: map[string]json.RawMessage{"a": json.RawMessage("x")}},
		"comment": {Type: "t", Comment: "\xff"}, "variables": {Type: "t", Variables: json.RawMessage("5")}, "related": {Type: "t", Related: []string{"\xff"}},
		"a type of ours": {Type: "belfry.joined"},
		"large":          {Type: "t", Data: json.RawMessage(`"` + strings.Repeat("x", 300<<10) + `"`)},
	} {
		if _, err := g.Admit(context.Background(), moodle, []belfry.Event{e}); err == nil {
			t.Errorf("%s was admitted", name)
		}
	}
	drafts, places, faults, err := g.Prepare(context.Background(), moodle, []belfry.Event{{Type: "a"}, {}, {Type: "b"}})
	if err != nil || len(drafts) != 2 || !cmp.Equal(places, []int{0, 2}) || len(faults) != 1 || faults[1] == nil || len(d.drafts) != 0 {
		t.Error(drafts, places, faults, err)
	}
	d.err = belfry.Errorf(belfry.Unavailable, "the disk is full")
	if _, err := g.Admit(context.Background(), moodle, []belfry.Event{{Type: "t"}}); belfry.KindOf(err) != belfry.Unavailable || len(d.planned) != 0 {
		t.Error(err)
	}
}

// The stored bytes are the event: encoding/json reads the same from them, and
// the payloads live in them, not in the request.
func TestStoredFormIsTheEvent(t *testing.T) {
	d := &door{}
	g := newIngester(t, d)
	body := []byte(`{"id":"\u0001 é \u2028 \"<&>","source":"/s","type":"t","comment":"a\u0002\n\t\r\\b","data":{"a" : [1,"<"]},"record":{"x":1},"variables":{"v":2},
		"related":["u\"1"],"flags":["silent"],"extensions":{"b":1,"a":"x"}}`)
	body = bytes.Replace(body, []byte(`\u0001`), nil, 1)
	if _, err := g.Receive(context.Background(), moodle, own(), body); err != nil {
		t.Fatal(err)
	}
	clear(body)
	draft := d.drafts[0]
	var back belfry.Event
	if err := json.Unmarshal(draft.Body, &back); err != nil {
		t.Fatalf("%v: %s", err, draft.Body)
	}
	if diff := cmp.Diff(*draft.Event, back); diff != "" {
		t.Error(diff)
	}
	if string(back.Data) != `{"a":[1,"<"]}` || string(back.Extensions["a"]) != `"x"` {
		t.Errorf("the request's bytes are still used: %s", draft.Body)
	}
}

func batchOf(n int) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"%d","source":"/moodle","type":"core.course_updated","time":"2026-11-21T09:30:00Z","object":"course/%d","actor":"user/8","related":["user/9"],"data":{"shortname":"CPR","fullname":"Cardiopulmonary Resuscitation","summary":"%s"},"record":{"id":41,"category":3,"fullname":"Cardiopulmonary Resuscitation","visible":1}}`, i, i%50, strings.Repeat("lorem ipsum ", 20))
	}
	b.WriteByte(']')
	return b.Bytes()
}

func BenchmarkDecode100(b *testing.B) {
	body, h := batchOf(100), own()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ingest.Decode(h, body, ingest.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "events/s")
}

// nowhere is a door that keeps nothing.
type nowhere struct{ door }

func (*nowhere) AcceptEvents(_ context.Context, drafts []belfry.Draft) ([]belfry.Receipt, error) {
	return make([]belfry.Receipt, len(drafts)), nil
}
func (*nowhere) Handover([]belfry.Accepted) {}

func BenchmarkReceive100(b *testing.B) {
	d := &nowhere{}
	g, err := ingest.New(ingest.Options{Store: d, Catalogue: d, Planner: d, Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	body, h := batchOf(100), own()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Receive(context.Background(), moodle, h, body); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "events/s")
}

// The source of an event that names none is a URI reference whatever the key
// is called, for CloudEvents and their readers insist on it.
func TestSourceOfAKeyWithSpaces(t *testing.T) {
	for key, want := range map[string]string{"moodle-plugin": "/moodle-plugin", "first key": "/first%20key", "school/plugin": "/school/plugin"} {
		d := &door{}
		o := moodle
		o.Key = key
		receive(t, newIngester(t, d), o, own(), `{"type":"a.b"}`)
		if got := d.drafts[0].Event.Source; got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

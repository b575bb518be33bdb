package render_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

func event() *belfry.Event {
	return &belfry.Event{
		ID: "41-1462786276", Source: "/moodle", Type: "core.course_updated", Time: time.Date(2016, 5, 9, 9, 31, 16, 0, time.UTC),
		Object: "course/41", Actor: "user/8", Related: []string{"user/9"},
		Data:   json.RawMessage(`{"shortname": "CPR", "fullname": "Cardiopulmonary Resuscitation"}`),
		Record: json.RawMessage(`{"id":41}`),
	}
}

func TestWebhookBody(t *testing.T) {
	enc, err := render.EncodeEvent(event())
	if err != nil {
		t.Fatal(err)
	}
	got := string(render.WebhookBody(enc, "core.course_updated", event().Time, "sub_1", "user/12"))
	want := `{"type":"core.course_updated","timestamp":"2016-05-09T09:31:16Z","data":{"id":"41-1462786276","source":"/moodle",` +
		`"type":"core.course_updated","time":"2016-05-09T09:31:16Z","object":"course/41","actor":"user/8","related":["user/9"],` +
		`"data":{"shortname":"CPR","fullname":"Cardiopulmonary Resuscitation"},"record":{"id":41},"subscription":"sub_1","recipient":"user/12"}}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = string(render.WebhookBody(enc, "core.course_updated", event().Time, "sub_1", ""))
	if !strings.HasSuffix(got, `,"subscription":"sub_1"}}`) {
		t.Errorf("no recipient: %s", got)
	}
}

func TestEncodeEventMasksTheActorOfAnonymousEvents(t *testing.T) {
	e := event()
	e.Flags = []string{belfry.FlagAnonymous}
	enc, err := render.EncodeEvent(e)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(enc), "user/8") || e.Actor != "user/8" {
		t.Errorf("%s; actor %q", enc, e.Actor)
	}
}

func TestEncodeEventRefusesBrokenJSON(t *testing.T) {
	e := event()
	e.Data = json.RawMessage(`{`)
	if _, err := render.EncodeEvent(e); err == nil {
		t.Error("no error")
	}
}

// The hand-written bytes are what encoding/json would make of the same value.
func TestWebhookBodyIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := event()
		e.Type, e.Object = rapid.String().Draw(t, "type"), rapid.String().Draw(t, "object")
		e.Time = time.UnixMicro(rapid.Int64Range(-1<<53, 1<<53).Draw(t, "time")).UTC()
		sub, rec := rapid.String().Draw(t, "sub"), rapid.String().Draw(t, "recipient")
		enc, err := render.EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		var got, want map[string]any
		if err := json.Unmarshal(render.WebhookBody(enc, e.Type, e.Time, sub, rec), &got); err != nil {
			t.Fatal(err)
		}
		var data map[string]any
		if err := json.Unmarshal(enc, &data); err != nil {
			t.Fatal(err)
		}
		if sub != "" {
			data["subscription"] = sub
		}
		if rec != "" {
			data["recipient"] = rec
		}
		raw, err := json.Marshal(map[string]any{"type": e.Type, "timestamp": e.Time, "data": data})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestWebhookBodyOfAnEmptyEvent(t *testing.T) {
	for _, enc := range []string{"", "{}"} {
		for _, sub := range []string{"", "sub_1"} {
			b := render.WebhookBody([]byte(enc), "t", time.Time{}, sub, "user/1")
			if !json.Valid(b) {
				t.Errorf("%q: %s", enc, b)
			}
		}
	}
}

func TestWebhookBodyIsOneAllocation(t *testing.T) {
	enc, err := render.EncodeEvent(event())
	if err != nil {
		t.Fatal(err)
	}
	at := event().Time
	if n := testing.AllocsPerRun(100, func() { render.WebhookBody(enc, "core.course_updated", at, "sub_1", "user/12") }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkWebhookBody(b *testing.B) {
	enc, err := render.EncodeEvent(event())
	if err != nil {
		b.Fatal(err)
	}
	at := event().Time
	b.ReportAllocs()
	for b.Loop() {
		render.WebhookBody(enc, "core.course_updated", at, "sub_1", "user/12")
	}
}

func BenchmarkEncodeEvent(b *testing.B) {
	e := event()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := render.EncodeEvent(e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMail(b *testing.B) {
	it := item(`{"shortname":"CPR","fullname":"Cardiopulmonary Resuscitation"}`)
	b.ReportAllocs()
	for b.Loop() {
		render.Default().Mail(it, links)
	}
}

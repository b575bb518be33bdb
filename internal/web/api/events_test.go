package api_test

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/web/api"
)

func (h *house) post(status int, body string, headers ...string) api.Receipt {
	h.t.Helper()
	var r api.Receipt
	h.want(status, "POST", "/v1/events", body, headers...).into(h.t, &r)
	return r
}

// feature: PEER-1 CloudEvents in, in every mode; our own form, one and many.
func TestPostEventsInEveryForm(t *testing.T) {
	h := newHouse(t)
	ours := `{"id":"41-1462786276","source":"/moodle","type":"core.course_updated","time":"2016-05-09T09:31:16Z","object":"course/41","actor":"user/8","data":{"shortname":"CPR"},"record":{"id":41}}`
	cloud := `{"specversion":"1.0","id":"ce-1","source":"/moodle","type":"core.course_updated","object":"course/41","extra":"kept","data":{"a":1}}`
	for _, c := range []struct {
		name, body string
		headers    []string
		ids        int
	}{
		{"ours", ours, nil, 1},
		{"ours without a content type", strings.ReplaceAll(ours, "41-1462786276", "b"), []string{"Content-Type", ""}, 1},
		{"ours, an array", `[` + strings.ReplaceAll(ours, "41-1462786276", "c") + `,{"type":"x.y"},{"type":"x.y"}]`, nil, 3},
		{"structured", cloud, []string{"Content-Type", "application/cloudevents+json; charset=utf-8"}, 1},
		{"batch", `[` + strings.ReplaceAll(cloud, "ce-1", "ce-2") + `,` + strings.ReplaceAll(cloud, "ce-1", "ce-3") + `]`, []string{"Content-Type", "application/cloudevents-batch+json"}, 2},
		{"binary", `{"a":1}`, []string{"ce-specversion", "1.0", "ce-id", "ce-4", "ce-source", "/moodle", "ce-type", "core.course_updated", "ce-related", "user/1,user/2"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := h.post(202, c.body, c.headers...)
			if r.Accepted != c.ids || r.Duplicates != 0 || len(r.IDs) != c.ids {
				t.Fatalf("%+v", r)
			}
			for _, id := range r.IDs {
				var e belfry.EventView
				h.want(200, "GET", "/v1/events/"+*id, "").into(t, &e)
				if e.EventID != *id || e.Accepted == nil || e.ID == "" || e.Source == "" || e.Time.IsZero() {
					t.Errorf("%+v", e)
				}
			}
		})
	}
	t.Run("a repeat gets the first id", func(t *testing.T) {
		r := h.post(202, ours)
		again := h.post(202, ours)
		if r.Accepted != 1 || again.Duplicates != 1 || *again.IDs[0] != *r.IDs[0] {
			t.Errorf("%+v, %+v", r, again)
		}
	})
	t.Run("listed, newest first, in pages", func(t *testing.T) {
		var all []string
		for path := "/v1/events?type=core.*&limit=3"; ; {
			var l struct {
				Items []belfry.EventView
				Next  string
			}
			h.want(200, "GET", path, "").into(t, &l)
			for _, e := range l.Items {
				all = append(all, e.EventID)
			}
			if l.Next == "" {
				break
			}
			path = "/v1/events?type=core.*&limit=3&after=" + l.Next
		}
		if len(all) != 7 {
			t.Errorf("%d events of core.*: %v", len(all), all)
		}
		for i := 1; i < len(all); i++ {
			if all[i] >= all[i-1] {
				t.Errorf("not newest first: %v", all)
			}
		}
		var l struct{ Items []belfry.EventView }
		h.want(200, "GET", "/v1/events?object=course%2F41&type=core.course_updated", "").into(t, &l)
		if len(l.Items) != 6 {
			t.Errorf("%d events at the course", len(l.Items))
		}
	})
	if n := len(h.handed.accepted); n != 9 {
		t.Errorf("%d events were handed over", n)
	}
}

func TestPartialRequests(t *testing.T) {
	h := newHouse(t)
	body := `[{"type":"a.b"},{"typ":"a.b"},{"type":"a.b"}]`
	p := h.want(422, "POST", "/v1/events", body).problem(t)
	if len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Pointer, "/1") || len(h.handed.accepted) != 0 {
		t.Errorf("%+v, %d handed over", p, len(h.handed.accepted))
	}
	var r api.Receipt
	h.want(202, "POST", "/v1/events?partial=true", body).into(t, &r)
	if r.Accepted != 2 || len(r.IDs) != 3 || r.IDs[1] != nil || r.IDs[2] == nil || len(r.Errors) == 0 || !strings.HasPrefix(r.Errors[0].Pointer, "/1") {
		t.Errorf("%+v", r)
	}
	p = h.want(422, "POST", "/v1/events?partial=true", `[{"typ":"a.b"}]`).problem(t)
	if len(p.Errors) == 0 {
		t.Errorf("%+v", p)
	}
}

func TestBadEvents(t *testing.T) {
	h := newHouse(t)
	ten := strings.Repeat("x", 10<<20)
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		pointer    string
	}{
		{"malformed", `{"type":`, nil, 400, ""},
		{"empty", ``, nil, 400, ""},
		{"not an event", `"hello"`, nil, 400, ""},
		{"invalid UTF-8", "{\"type\":\"a.b\",\"object\":\"\xff\"}", nil, 400, ""},
		{"unknown field", `{"type":"a.b","objct":"x"}`, nil, 422, "/objct"},
		{"wrong type", `{"type":7}`, nil, 422, "/type"},
		{"no type", `{"id":"1"}`, nil, 422, "/type"},
		{"bad time", `{"type":"a.b","time":"yesterday"}`, nil, 422, "/time"},
		{"NUL in a key", `{"type":"a.b","object":"a\u0000b"}`, nil, 422, "/object"},
		{"CloudEvent without id", `{"specversion":"1.0","source":"/s","type":"a.b"}`, []string{"Content-Type", "application/cloudevents+json"}, 400, "/id"},
		{"other content type", `type=a.b`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, ""},
		{"an event of 300 KiB", `{"type":"a.b","data":"` + strings.Repeat("x", 300<<10) + `"}`, nil, 413, ""},
		{"10 MB in one event", `{"type":"a.b","data":"` + ten + `"}`, nil, 413, ""},
		{"17 MiB", strings.Repeat(" ", 17<<20), nil, 413, ""},
		{"deep nesting", `{"type":"a.b","data":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, nil, 0, ""},
		{"too many", `[` + strings.Repeat(`{"type":"a.b"},`, 10_000) + `{"type":"a.b"}]`, nil, 413, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := h.send("POST", "/v1/events", c.body, c.headers...)
			p := a.problem(t)
			if c.status != 0 && a.status != c.status {
				t.Fatalf("status %d, want %d: %.300s", a.status, c.status, a.body)
			}
			if a.status >= 500 {
				t.Fatalf("%s", a.body)
			}
			if c.pointer != "" && (len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer) {
				t.Errorf("faults %+v, want one at %s", p.Errors, c.pointer)
			}
		})
	}
	if len(h.handed.accepted) != 0 {
		t.Errorf("%d events were accepted", len(h.handed.accepted))
	}
	h.want(422, "POST", "/v1/events?partial=perhaps", `{"type":"a.b"}`).problem(t)
	h.want(400, "POST", "/v1/events?partial=%zz", `{"type":"a.b"}`).problem(t)
	h.want(400, "POST", "/v1/events", `{"type":"a.b"}`, "Idempotency-Key", "with space").problem(t)
}

func TestEventsOfOneIdempotencyKey(t *testing.T) {
	h := newHouse(t)
	body := `[{"type":"a.b","object":"course/41","data":{"n":1.50,"s":"\u0041"}},{"type":"a.c"}]`
	first := h.post(202, body, "Idempotency-Key", "e1")
	again := h.post(202, "\n"+strings.ReplaceAll(body, "\\u0041", "A"), "Idempotency-Key", "e1")
	if again.Duplicates != 2 || *again.IDs[0] != *first.IDs[0] || *again.IDs[1] != *first.IDs[1] {
		t.Errorf("%+v, %+v", first, again)
	}
	p := h.want(422, "POST", "/v1/events", `[{"type":"a.b","object":"course/42"},{"type":"a.c"}]`, "Idempotency-Key", "e1").problem(t)
	if len(p.Errors) != 1 || p.Errors[0].Parameter != "Idempotency-Key" {
		t.Errorf("%+v", p)
	}
	// Events with ids of their own are repeats by their ids, whatever the key.
	h.post(202, `{"type":"a.b","source":"/s","id":"own"}`, "Idempotency-Key", "e2")
	if r := h.post(202, `{"type":"a.b","source":"/s","id":"own"}`, "Idempotency-Key", "e3"); r.Duplicates != 1 {
		t.Errorf("%+v", r)
	}
	if n := len(h.handed.accepted); n != 3 {
		t.Errorf("%d events were handed over", n)
	}
}

func TestBackPressure(t *testing.T) {
	h := newHouse(t)
	h.handed.pending = 101
	a := h.want(429, "POST", "/v1/events", `{"type":"a.b"}`)
	a.problem(t)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	h.handed.pending = 0
	h.post(202, `{"type":"a.b"}`)
}

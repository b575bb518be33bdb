package api_test

import (
	"strings"
	"testing"
)

// feature: NEW-2 the call: a job where nothing can be done at once, faults by
// their places, and no more than the permission to read
func TestBacktestCall(t *testing.T) {
	h := newHouse(t)
	const path = "/v1/subscriptions/backtest"
	a := h.want(202, "POST", path, `{"draft":{"types":["a.*"],"recipients":[{"explicit":{"users":["user/1"]}}]},"since":"2026-01-01T00:00:00Z","until":"2026-01-08T00:00:00Z"}`,
		"Authorization", "Bearer "+h.key("default", "read"))
	if !strings.HasPrefix(a.header.Get("Location"), "/v1/jobs/job_") || !strings.Contains(a.body, `"kind":"subscriptions.backtest"`) || !strings.Contains(a.body, `"id":"sub_supposed"`) {
		t.Errorf("%v %s", a.header, a.body)
	}
	h.want(403, "POST", path, `{"id":"sub_1"}`, "Authorization", "Bearer "+h.key("default", "publish")).problem(t)
	h.want(404, "POST", path, `{"id":"sub_none"}`).problem(t)
	for body, pointer := range map[string]string{
		`{}`:                                     "/draft",
		`{"id":"sub_1","draft":{}}`:              "/draft",
		`{"draft":{"filter":"event.nonsense("}}`: "/draft/filter",
		`{"draft":{},"since":"2026-01-01T00:00:00Z","until":"2025-01-01T00:00:00Z"}`: "/until",
		`{"draft":{},"since":"2020-01-01T00:00:00Z","until":"2025-01-01T00:00:00Z"}`: "/since",
		`{"draft":{},"since":"2100-01-01T00:00:00Z"}`:                                "/since",
		`{"draft":{"nonsense":1}}`:                                                   "/draft/nonsense",
	} {
		p := h.want(422, "POST", path, body).problem(t)
		if len(p.Errors) == 0 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
	var spec struct {
		Paths map[string]map[string]struct{ Responses map[string]any }
	}
	h.want(200, "GET", "/openapi.json", "").into(t, &spec)
	if r := spec.Paths[path]["post"].Responses; r["200"] == nil || r["202"] == nil {
		t.Errorf("described are %v", r)
	}
}

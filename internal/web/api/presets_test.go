package api_test

import (
	"net/http"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: CPS-21
func TestPresetCalls(t *testing.T) {
	h := newHouse(t)
	h.want(201, "PUT", "/v1/objects/course%2F41", `{"type":"course","title":"CPR"}`)
	h.want(201, "PUT", "/v1/users/user%2F9", `{"name":"Ben"}`)
	h.wantFault(422, "/subscription/scope/object", "PUT", "/v1/presets/news", `{"subscription":{"scope":{"object":"course/41"}}}`)
	h.wantFault(422, "/subscription/typs", "PUT", "/v1/presets/news", `{"subscription":{"typs":[]}}`)
	h.want(201, "PUT", "/v1/presets/news", `{"title":"News","roles":["teacher"],"subscription":{"types":["news.*"],"recipients":[{"role":{"roles":["student"]}}]}}`)
	var p belfry.Preset
	h.want(200, "PATCH", "/v1/presets/news", `{"description":"All that is new"}`).into(t, &p)
	if p.Title != "News" || p.Description == "" || len(p.Subscription.Types) != 1 {
		t.Errorf("%+v", p)
	}
	var s struct{ ID, Origin, Preset, Owner, State string }
	h.want(201, "PUT", "/v1/objects/course%2F41/presets/news?user=user%2F9", "").into(t, &s)
	if s.Origin != "preset" || s.Preset != "news" || s.Owner != "user/9" || s.State != "active" {
		t.Errorf("%+v", s)
	}
	h.want(200, "PUT", "/v1/objects/course%2F41/presets/news", "")
	h.want(409, "PATCH", "/v1/subscriptions/"+s.ID, `{"title":"Mine"}`)
	h.want(200, "POST", "/v1/subscriptions/"+s.ID+"/pause", "")
	var at struct{ Items []belfry.PresetPlace }
	for _, path := range []string{"/v1/objects/course%2F41/presets?user=user%2F9", "/v1/presets/news/objects"} {
		at.Items = nil
		h.want(200, "GET", path, "").into(t, &at)
		if len(at.Items) != 1 || at.Items[0].State != "paused" || at.Items[0].Subscription != s.ID {
			t.Errorf("%s: %+v", path, at)
		}
	}
	h.want(409, "DELETE", "/v1/presets/news", "")
	h.want(204, "DELETE", "/v1/objects/course%2F41/presets/news", "")
	h.want(201, "PUT", "/v1/objects/course%2F41/presets/news", "") // the same subscription, again
	var off struct{ Ended int }
	h.want(200, "POST", "/v1/presets/news/off", "").into(t, &off)
	if off.Ended != 1 {
		t.Errorf("%+v", off)
	}
	h.want(204, "DELETE", "/v1/presets/news", "")
	h.want(404, "GET", "/v1/presets/news", "")
	h.want(404, "PUT", "/v1/objects/course%2F41/presets/news", "")

	reader := h.key("default", "read")
	for _, call := range [][2]string{{http.MethodPut, "/v1/presets/news"}, {http.MethodPut, "/v1/objects/course%2F41/presets/news"}, {http.MethodDelete, "/v1/objects/course%2F41/presets/news"}, {http.MethodPost, "/v1/presets/news/off"}} {
		h.want(403, call[0], call[1], `{}`, "Authorization", "Bearer "+reader)
	}
}

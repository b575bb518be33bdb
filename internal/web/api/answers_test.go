package api_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// The answers echo what was asked.
func (e *explainer) Interested(_ context.Context, _, id string, ev *belfry.Event) (belfry.AnswerSubscription, error) {
	if id == "sub_404" {
		return belfry.AnswerSubscription{}, belfry.Errorf(belfry.NotFound, "there is no subscription %q", id)
	}
	return belfry.AnswerSubscription{ID: id, Title: ev.Type, Matched: ev.Object == "course/41", Because: []belfry.ReasonView{}}, nil
}

func (e *explainer) Recipients(_ context.Context, _, id, eventID string, ev *belfry.Event, q belfry.TraceQuery) (belfry.Answer, error) {
	e.asked = q
	return belfry.Answer{Event: belfry.EventView{EventID: eventID, Event: *ev}, Subscriptions: []belfry.AnswerSubscription{{ID: id}}}, nil
}

func (e *explainer) Generators(_ context.Context, _, object, user, after string, limit int) ([]belfry.Generator, string, error) {
	return []belfry.Generator{{Type: user, Object: object}}, after + "+", nil
}

func (e *explainer) WhoGetsWhat(_ context.Context, _, object, typ, after string, limit int) ([]belfry.HereAnswer, string, error) {
	return []belfry.HereAnswer{{Type: typ, Object: object}}, "", nil
}

func (e *explainer) Effective(_ context.Context, _, user, object, typ, subscription string) ([]belfry.EffectiveSetting, error) {
	return []belfry.EffectiveSetting{{Setting: user, Object: object, Type: typ, Value: subscription}}, nil
}

// feature: CPS-2, CPS-3, CPS-4, CPS-30 the calls
func TestAnswers(t *testing.T) {
	h := newHouse(t)
	has := func(body string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(body, p) {
				t.Errorf("%s is not in %s", p, body)
			}
		}
	}
	const sub = "/v1/subscriptions/sub_1"
	has(h.want(200, "POST", sub+"/interested", `{"source":"/x","type":"core.course_updated","object":"course/41"}`).body, `"interested":true`, `"id":"sub_1"`, `"title":"core.course_updated"`)
	has(h.want(200, "POST", sub+"/interested", `{"source":"/x","type":"a.b","object":"course/42"}`).body, `"interested":false`, `"matched":false`)
	h.want(422, "POST", sub+"/interested", `{"source":"/x"}`).problem(t)
	h.want(422, "POST", sub+"/interested", `[]`).problem(t)
	h.want(404, "POST", "/v1/subscriptions/sub_404/interested", `{"source":"/x","type":"a.b"}`).problem(t)

	has(h.want(200, "GET", sub+"/recipients?event=evt_1&after=people%2Fx&limit=7", "").body, `"event_id":"evt_1"`, `"people":[]`, `"because":[]`)
	if h.explain.asked.After != "people/x" || h.explain.asked.Limit != 7 {
		t.Errorf("asked %+v", h.explain.asked)
	}
	has(h.want(200, "GET", sub+"/recipients?type=a.b&object=course%2F41", "").body, `"type":"a.b"`, `"object":"course/41"`)
	h.want(422, "GET", sub+"/recipients?event=evt_1&type=a.b", "").problem(t)

	has(h.want(200, "GET", "/v1/objects/course%2F41/recipients?type=a.b", "").body, `"type":"a.b"`, `"object":"course/41"`)
	has(h.want(200, "GET", "/v1/generators?object=course%2F41&user=user%2F8&after=m", "").body, `"object":"course/41"`, `"type":"user/8"`, `"next":"m+"`)
	h.want(422, "GET", "/v1/generators", "").problem(t)
	has(h.want(200, "GET", "/v1/users/user%2F8/effective?object=course%2F41&type=a.b&subscription=sub_1", "").body, `"setting":"user/8"`, `"value":"sub_1"`, `"object":"course/41"`, `"type":"a.b"`)
	h.want(422, "GET", "/v1/users/user%2F8/effective", "").problem(t)
	var spec struct{ Paths map[string]json.RawMessage }
	h.want(200, "GET", "/openapi.json", "").into(t, &spec)
	for _, path := range []string{"/v1/generators", "/v1/objects/{id}/recipients", "/v1/subscriptions/{id}/interested"} {
		if spec.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
}

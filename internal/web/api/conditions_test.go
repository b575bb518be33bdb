package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

func (e *explainer) Conditions(_ context.Context, _, id, after string, limit int) ([]belfry.ConditionView, string, error) {
	if id == "sub_404" {
		return nil, "", belfry.Errorf(belfry.NotFound, "there is no subscription %q", id)
	}
	return []belfry.ConditionView{{Group: id + after, Count: limit, Needed: 3, Within: "10 minutes", Text: "2 of 3"}}, after + "+", nil
}

// feature: NEW-6 the calls
func TestConditions(t *testing.T) {
	h := newHouse(t)
	got := h.want(200, "GET", "/v1/subscriptions/sub_1/condition?after=a&limit=2", "").body
	for _, part := range []string{`"group":"sub_1a"`, `"count":2`, `"needed":3`, `"next":"a+"`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	h.want(404, "GET", "/v1/subscriptions/sub_404/condition", "").problem(t)

	for body, pointer := range map[string]string{
		`{"condition":{}}`:          "/condition",
		`{"condition":{"count":3}}`: "/condition/within",
		`{"condition":{"count":3,"within":"10m","group_by":"event.actr"}}`:    "/condition/group_by",
		`{"condition":{"count":3,"within":"10m","group_by":"event.related"}}`: "/condition/group_by",
		`{"condition":{"count":3,"within":"10m","every":"day"}}`:              "/condition/every",
		`{"condition":{"absence":"2s","cooldown":"x"}}`:                       "/condition/cooldown",
		`{"condition":{"change":"event.related"}}`:                            "/condition/change",
		`{"condition":{"change":"event.actor","above":3}}`:                    "/condition/change",
		`{"condition":{"change":"event.data.n","above":3,"below":4}}`:         "/condition/below",
		`{"condition":{"count":3,"within":"10m","transitions":[{"to":"a"}]}}`: "/condition/transitions",
	} {
		if got := h.want(422, "POST", "/v1/subscriptions", body).body; !strings.Contains(got, `"pointer":"`+pointer+`"`) {
			t.Errorf("%s: %s", body, got)
		}
	}
	made := h.want(201, "POST", "/v1/subscriptions", `{"types":["core.user_login_failed"],"condition":{"count":4,"within":"10m","group_by":" event.data.ip ","cooldown":"1h"}}`).body
	for _, part := range []string{
		`"condition":{"count":4,"within":"10m","group_by":"event.data.ip","cooldown":"1h"}`,
		`"readable":"When core.user_login_failed happens anywhere, 4 times in 10 minutes for each event.data.ip, then quiet for 1 hour: tell those who joined, as they prefer"`,
	} {
		if !strings.Contains(made, part) {
			t.Errorf("%s is not in %s", part, made)
		}
	}
	for condition, words := range map[string]string{
		`{"change":" event.data.state ","group_by":"event.object","cooldown":"1h"}`:                                                                                  "and event.data.state changes for each event.object, then quiet for 1 hour",
		`{"change":"event.data.state","group_by":"event.object","transitions":[{"from":"open","to":"closed"},{"to":"failed"},{"from":"new","to":"*"}],"first":true}`: `and event.data.state changes from "open" to "closed", to "failed" or from "new", or has its first value for each event.object`,
		`{"change":"event.data.n","group_by":"event.object","above":30,"below":28.5}`:                                                                                "and event.data.n rises above 30 or falls below 28.5 for each event.object",
		`{"change":"event.data.n","group_by":"event.object","above":30,"transitions":[{"to":"above"}]}`:                                                              `and event.data.n rises above 30 for each event.object`,
	} {
		var got struct{ Readable string }
		h.want(201, "POST", "/v1/subscriptions", `{"types":["ticket.updated"],"condition":`+condition+`}`).into(t, &got)
		if want := "When ticket.updated happens anywhere, " + words + ": tell those who joined, as they prefer"; got.Readable != want {
			t.Errorf("%s reads %q, want %q", condition, got.Readable, want)
		}
	}
	absent := h.want(201, "POST", "/v1/subscriptions", `{"types":["backup.done"],"condition":{"absence":"26h","resolved":true}}`).body
	if part := `"readable":"When for 26 hours no backup.done happens anywhere, and when it is over: tell those who joined, as they prefer"`; !strings.Contains(absent, part) {
		t.Errorf("%s is not in %s", part, absent)
	}
}

package api_test

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/web/api"
)

// feature: S3-27, CPS-31
func TestTableCalls(t *testing.T) {
	h := newHouse(t)
	csv := []string{"Content-Type", "text/csv; charset=utf-8"}
	h.want(201, "PUT", "/v1/users/user%2F9", `{"name":"Ben"}`)
	h.want(201, "PUT", "/v1/event-types/a.b", `{"title":"=1+1"}`)
	var in api.Imported
	h.want(200, "POST", "/v1/subscriptions:import?dry_run=true", "user,types\nuser/9,a.b\nuser/8,a.b\n", csv...).into(t, &in)
	if !in.DryRun || len(in.Items) != 2 || in.Items[1].Row != 3 || in.Items[1].Outcome != "refused" || in.Totals.Joined != 1 || in.Totals.Created != 1 {
		t.Errorf("%+v", in)
	}
	if a := h.want(200, "GET", "/v1/subscriptions:export", ""); strings.Count(a.body, "\n") != 1 {
		t.Errorf("the dry run did something: %s", a.body)
	}
	h.want(200, "POST", "/v1/subscriptions:import", "user,types\nuser/9,a.b\n", csv...)
	a := h.want(200, "GET", "/v1/subscriptions:export", "")
	if got := a.header.Get("Content-Type"); got != "text/csv; charset=utf-8" || !strings.HasPrefix(a.body, "subscription,title,types,object,applies,object_types,filter,user,email,joined_at,channels,frequency,by,since\r\n,'=1+1,a.b,,,,,user/9,") {
		t.Errorf("%s %s", got, a.body)
	}
	var s struct{ ID string }
	h.want(201, "POST", "/v1/subscriptions", `{"title":"News"}`).into(t, &s)
	at := "/v1/subscriptions/" + s.ID + "/members"
	in = api.Imported{}
	h.want(200, "POST", at+":import", "x@example.org\n", csv...).into(t, &in)
	if in.Totals.Joined != 1 {
		t.Errorf("%+v", in)
	}
	if a := h.want(200, "GET", at+":export", ""); !strings.Contains(a.body, "\r\n,x@example.org,,,,") {
		t.Error(a.body)
	}
	// The same key gets the first answer and does nothing again.
	for range 2 {
		in = api.Imported{}
		h.want(200, "POST", at+":import", "y@example.org\n", append(csv, "Idempotency-Key", "once")...).into(t, &in)
		if in.Totals.Joined != 1 {
			t.Errorf("%+v", in)
		}
	}

	h.want(415, "POST", "/v1/subscriptions:import", `{}`)
	h.want(415, "POST", "/v1/subscriptions:import", "user\n", "Content-Type", "text/csv; charset=latin1")
	h.want(400, "POST", "/v1/subscriptions:import", "", csv...)
	if p := h.want(422, "POST", "/v1/subscriptions:import", "usr,types\n", csv...).problem(t); p.Errors[0].Pointer != "/columns/0" {
		t.Errorf("%+v", p)
	}
	h.want(404, "POST", "/v1/subscriptions/sub_none/members:import", "user\n", csv...)
	h.want(404, "GET", "/v1/subscriptions/sub_none/members:export", "")
	h.want(413, "POST", "/v1/subscriptions:import", "user,types\n"+strings.Repeat("x", 17<<20), csv...)
	reader := h.key("default", "read")
	h.want(403, "POST", "/v1/subscriptions:import", "user\n", append(csv, "Authorization", "Bearer "+reader)...)
	h.want(403, "GET", "/v1/subscriptions:export", "", "Authorization", "Bearer "+reader)
}

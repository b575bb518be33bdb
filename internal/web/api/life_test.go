package api_test

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/web/api"
)

// feature: PEER-4, S3-17, NEW-16
func TestLifeOfADelivery(t *testing.T) {
	h := newHouse(t)
	event, item := h.tell("user/8")
	id := belfry.DeliveryID(event, 0, belfry.ChannelWebhook, "ep_1")
	path := "/v1/deliveries/" + id

	var c api.CancelAnswer
	for range 2 { // a second cancel changes nothing
		h.want(200, "POST", path+"/cancel", `{"because":"by hand"}`).into(t, &c)
		if c.Result != "cancelled" {
			t.Errorf("%+v", c)
		}
	}
	var d api.DeliveryView
	h.want(200, "GET", path, "").into(t, &d)
	if last := d.Because[len(d.Because)-1]; d.State != "cancelled" || last.Code != belfry.CancelledBy || !strings.Contains(last.Detail, "by hand") {
		t.Errorf("%+v", d)
	}
	h.want(200, "POST", path+"/retry", "").into(t, &d)
	if d.State != "scheduled" || d.Due == nil {
		t.Errorf("%+v", d)
	}
	applied, err := h.db.RecordAttempts(t.Context(), []belfry.Attempt{{Tenant: "default", DeliveryID: id, N: 1, At: now(), State: belfry.Delivered}})
	if err != nil || !applied[0] {
		t.Fatal(applied, err)
	}
	h.want(409, "POST", path+"/cancel", "")
	h.want(409, "POST", path+"/retry", "")
	h.want(200, "POST", path+"/retry", `{"resend":true}`).into(t, &d)
	if d.State != "scheduled" || d.Tries != 1 {
		t.Errorf("%+v", d)
	}
	h.want(409, "POST", "/v1/deliveries/"+item+"/retry", "") // an inbox entry
	h.want(404, "POST", "/v1/deliveries/dlv_none/retry", "")
	h.want(404, "POST", "/v1/deliveries/dlv_none/cancel", "")

	// Another tenant's keys know nothing of it, and readers change nothing.
	h.want(201, "PUT", "/v1/tenants/other", `{}`)
	other := h.key("other", string(auth.Admin), string(auth.Read))
	h.want(404, "POST", path+"/cancel", "", "Authorization", "Bearer "+other)
	reader := h.key("default", string(auth.Read))
	h.want(403, "POST", path+"/cancel", "", "Authorization", "Bearer "+reader)
	h.want(403, "POST", "/v1/events:replay", `{"event":"`+event+`"}`, "Authorization", "Bearer "+reader)
}

// feature: PEER-4
func TestOrdersOfBulkWork(t *testing.T) {
	h := newHouse(t)
	event, _ := h.tell("user/8")
	for _, c := range []struct{ pointer, path, body string }{
		{"/nonsense", "/v1/deliveries:retry", `{"nonsense":1}`},
		{"/state", "/v1/deliveries:retry", `{"state":"lost"}`},
		{"/state", "/v1/deliveries:retry", `{"state":"held"}`},
		{"/resend", "/v1/deliveries:retry", `{"state":"delivered"}`},
		{"/until", "/v1/deliveries:retry", `{"since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}`},
		{"", "/v1/deliveries:cancel", `{}`},
		{"/state", "/v1/deliveries:cancel", `{"state":"failed","channel":"email"}`},
		{"", "/v1/events:replay", `{"type":"a.*"}`},
		{"/event", "/v1/events:replay", `{"event":"evt_none"}`},
		{"/endpoint", "/v1/events:replay", `{"event":"` + event + `","endpoint":"ep_none"}`},
		{"/endpoint", "/v1/events:replay", `{"event":"` + event + `","endpoint":"ep_1","recipient":"user/8"}`},
		{"/type", "/v1/events:replay", `{"since":"2026-01-01T00:00:00Z","type":"a*b"}`},
	} {
		h.wantFault(422, c.pointer, "POST", c.path, c.body)
	}
	a := h.want(202, "POST", "/v1/events:replay", `{"since":"1970-01-01T00:00:00Z","until":"9999-01-01T00:00:00Z","recipient":"Ada@Example.ORG"}`)
	var j api.JobView
	a.into(t, &j)
	if j.Kind != belfry.ReplayJob || j.State != "waiting" || a.header.Get("Location") != "/v1/jobs/"+j.ID || !strings.Contains(string(j.Asked), "ada@example.org") {
		t.Errorf("%+v, %v", j, a.header)
	}
	for range 2 {
		h.want(200, "POST", "/v1/jobs/"+j.ID+"/cancel", "").into(t, &j)
		if j.State != "cancelled" || j.Ended == nil || j.Error == "" {
			t.Errorf("%+v", j)
		}
	}
	h.want(404, "GET", "/v1/jobs/job_none", "")
	var l struct{ Items []api.JobView }
	for query, want := range map[string]int{"": 1, "state=cancelled": 1, "state=done": 0, "kind=events.replay": 1, "kind=x": 0} {
		h.want(200, "GET", "/v1/jobs?"+query, "").into(t, &l)
		if len(l.Items) != want {
			t.Errorf("%s: %d jobs, want %d", query, len(l.Items), want)
		}
	}
	h.wantFault(422, "/webhooks", "PUT", "/v1/settings", `{"webhooks":"maybe"}`)
}

// What stands for the addresses of somebody who was erased must not be tried
// against a list of addresses: the salt of it is nobody's to see, neither in the
// answer nor while the job waits.
func TestErasureKeepsItsSalt(t *testing.T) {
	h := newHouse(t)
	h.tell("user/8")
	var j api.JobView
	a := h.want(202, "POST", "/v1/users/user%2F8/erase", "")
	a.into(t, &j)
	for _, body := range []string{a.body, h.want(200, "GET", "/v1/jobs/"+j.ID, "").body, h.want(200, "GET", "/v1/jobs", "").body} {
		if strings.Contains(body, "salt") || !strings.Contains(body, belfry.ErasedPrefix) {
			t.Errorf("shown: %s", body)
		}
	}
}

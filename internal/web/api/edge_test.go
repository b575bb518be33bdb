package api_test

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/web/api"
)

func TestEveryAnswerIsGuarded(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/healthz", "/v1/keys", "/v1/nothing", "/nothing", "/u/bad", "/docs", "/openapi.json"} {
		a := h.send("GET", path, "")
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": "max-age=31536000"} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if csp := a.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "script-src 'unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: open to other origins", path)
		}
	}
}

func TestRequestsAreNamedAndLogged(t *testing.T) {
	h := newHouse(t)
	a := h.want(200, "GET", "/v1/events", "", "X-Request-Id", "my-request.0001")
	if got := a.header.Get("X-Request-Id"); got != "my-request.0001" {
		t.Errorf("request id %q", got)
	}
	line := h.log.find("my-request.0001")
	for name, want := range map[string]any{"route": "GET /v1/events", "status": 200.0, "tenant": "default", "key": "bootstrap", "method": "GET"} {
		if line[name] != want {
			t.Errorf("line %v: %s is not %v", line, name, want)
		}
	}
	for _, bad := range []string{"short", "has space here", strings.Repeat("x", 65), "quote\"quote"} {
		if got := h.send("GET", "/healthz", "", "X-Request-Id", bad).header.Get("X-Request-Id"); !strings.HasPrefix(got, "req_") {
			t.Errorf("took the request id %q as %q", bad, got)
		}
	}
	// The token of a public link is a secret, ids are people's: neither is in
	// the log.
	a = h.want(200, "GET", "/u/good", "")
	if line := h.log.find(a.header.Get("X-Request-Id")); line == nil || line["route"] != "GET /u/{token}" {
		t.Errorf("line %v", line)
	}
	if strings.Contains(h.log.buf.String(), "good") || strings.Contains(h.log.buf.String(), rootKey) {
		t.Error("a secret is in the log")
	}
}

func TestUnknownAddressesAndMethods(t *testing.T) {
	h := newHouse(t)
	h.want(404, "GET", "/v1/nothing", "").problem(t)
	h.want(404, "GET", "/", "").problem(t)
	a := h.want(405, "PATCH", "/v1/events", "")
	a.problem(t)
	if allow := a.header.Get("Allow"); !strings.Contains(allow, "GET") || !strings.Contains(allow, "POST") {
		t.Errorf("Allow %q", allow)
	}
	for query, want := range map[string]api.Fault{
		"lmit=3":          {Parameter: "lmit", Message: `unknown parameter: did you mean "limit"?`},
		"nothing=3":       {Parameter: "nothing", Message: "unknown parameter: known here are after, limit, object, since, type"},
		"since=yesterday": {Parameter: "since", Message: `must be a time as in "2026-05-09T09:31:16Z" (RFC 3339)`},
	} {
		p := h.want(422, "GET", "/v1/events?"+query, "").problem(t)
		if len(p.Errors) != 1 || p.Errors[0] != want {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
	if p := h.want(422, "GET", "/v1/events/evt_1?limit=3", "").problem(t); len(p.Errors) != 1 || p.Errors[0].Message != "unknown parameter: this call has none" {
		t.Errorf("%+v", p.Errors)
	}
	for _, q := range []string{"limit=0", "limit=1001", "limit=x", "since=yesterday"} {
		p := h.want(422, "GET", "/v1/events?"+q, "").problem(t)
		if name, _, _ := strings.Cut(q, "="); len(p.Errors) != 1 || p.Errors[0].Parameter != name {
			t.Errorf("%s: %+v", q, p)
		}
	}
}

func TestWhoMayCome(t *testing.T) {
	h := newHouse(t)
	h.want(201, "PUT", "/v1/tenants/other", `{"title":"Other"}`, "Authorization", "Bearer "+rootKey)
	publish, read, admin := h.key("default", "publish"), h.key("default", "read"), h.key("default", "admin")
	foreign := h.key("other", "admin")
	event := `{"type":"a.b","source":"/s","id":"1"}`
	for _, c := range []struct {
		name, key, method, path, body string
		status                        int
	}{
		{"nobody", "", "GET", "/v1/events", "", 401},
		{"nobody, unknown path", "", "GET", "/v1/nothing", "", 401},
		{"nobody posts", "", "POST", "/v1/events", event, 401},
		{"garbage", "nonsense", "GET", "/v1/events", "", 401},
		{"read reads", read, "GET", "/v1/events", "", 200},
		{"read may not publish", read, "POST", "/v1/events", event, 403},
		{"read may not edit", read, "POST", "/v1/keys", `{"name":"x","permissions":["read"]}`, 403},
		{"read may not list keys", read, "GET", "/v1/keys", "", 403},
		{"publish publishes", publish, "POST", "/v1/events", event, 202},
		{"publish may not read", publish, "GET", "/v1/events", "", 403},
		{"admin reads", admin, "GET", "/v1/keys", "", 200},
		{"admin is not root", admin, "GET", "/v1/tenants", "", 403},
		{"root", rootKey, "GET", "/v1/tenants", "", 200},
		{"faults are not shown to who may not", read, "POST", "/v1/subscriptions", `{`, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := "Bearer " + c.key
			if c.key == "" {
				header = ""
			}
			a := h.send(c.method, c.path, c.body, "Authorization", header)
			if a.status != c.status {
				t.Fatalf("status %d, want %d: %s", a.status, c.status, a.body)
			}
			if c.status >= 400 {
				a.problem(t)
			}
			if c.status == 401 && a.header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
		})
	}
	t.Run("another tenant's things are not there", func(t *testing.T) {
		var r api.Receipt
		h.want(202, "POST", "/v1/events", `{"type":"a.b","source":"/s","id":"mine"}`).into(t, &r)
		id := *r.IDs[0]
		nowhere := strings.ReplaceAll(h.want(404, "GET", "/v1/events/evt_00000000000000000000000000", "", "Authorization", "Bearer "+foreign).problem(t).Detail, "evt_00000000000000000000000000", "ID")
		there := strings.ReplaceAll(h.want(404, "GET", "/v1/events/"+id, "", "Authorization", "Bearer "+foreign).problem(t).Detail, id, "ID")
		if nowhere != there {
			t.Errorf("the answers differ: %q, %q", nowhere, there)
		}
		h.want(404, "GET", "/v1/events/"+id+"/trace", "", "Authorization", "Bearer "+foreign)
		h.want(200, "GET", "/v1/events/"+id, "", "Authorization", "Bearer "+admin)
		var l struct{ Items []belfry.EventView }
		h.want(200, "GET", "/v1/events", "", "Authorization", "Bearer "+foreign).into(t, &l)
		if len(l.Items) != 0 {
			t.Errorf("sees %+v", l.Items)
		}
		h.want(403, "GET", "/v1/events", "", "Authorization", "Bearer "+foreign, "Belfry-Tenant", "default").problem(t)
		h.want(200, "GET", "/v1/events/"+id, "", "Belfry-Tenant", "default")
		h.want(404, "GET", "/v1/events/"+id, "", "Belfry-Tenant", "other")
		h.want(404, "GET", "/v1/events", "", "Belfry-Tenant", "nowhere").problem(t)
	})
	t.Run("a revoked key is refused", func(t *testing.T) {
		var k struct{ ID, Key string }
		h.want(201, "POST", "/v1/keys", `{"name":"short-lived","permissions":["read"]}`).into(t, &k)
		h.want(200, "GET", "/v1/events", "", "Authorization", "Bearer "+k.Key)
		h.want(204, "DELETE", "/v1/keys/"+k.ID, "")
		h.want(401, "GET", "/v1/events", "", "Authorization", "Bearer "+k.Key).problem(t)
		h.want(404, "DELETE", "/v1/keys/"+k.ID, "").problem(t)
	})
	t.Run("guessing is slowed down", func(t *testing.T) {
		for range 100 {
			a := h.send("GET", "/v1/events", "", "Authorization", "Bearer bfy_guess")
			if a.status == 429 {
				a.problem(t)
				if a.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				return
			}
		}
		t.Error("a hundred wrong keys and no 429")
	})
}

func TestKeysAndAudit(t *testing.T) {
	h := newHouse(t)
	var ids []string
	for range 3 {
		var k struct{ ID string }
		a := h.want(201, "POST", "/v1/keys", `{"name":"school","permissions":["publish","read"],"app":"moodlemobile"}`)
		a.into(t, &k)
		if a.header.Get("Location") != "/v1/keys/"+k.ID || !strings.Contains(a.body, `"key":"bfy_`) {
			t.Errorf("%v %s", a.header, a.body)
		}
		ids = append(ids, k.ID)
	}
	var seen []string
	for path := "/v1/keys?limit=2"; ; {
		var l struct {
			Items []struct{ ID string }
			Next  string
		}
		a := h.want(200, "GET", path, "")
		a.into(t, &l)
		if strings.Contains(a.body, "bfy_") || strings.Contains(a.body, "hash") {
			t.Fatalf("a secret is shown: %s", a.body)
		}
		for _, k := range l.Items {
			seen = append(seen, k.ID)
		}
		if l.Next == "" {
			break
		}
		path = "/v1/keys?limit=2&after=" + url.QueryEscape(l.Next)
	}
	if slices.Sort(ids); !slices.Equal(seen, ids) {
		t.Errorf("pages give %v, want %v", seen, ids)
	}
	p := h.want(422, "POST", "/v1/keys", `{"name":"","permissions":["pubish"],"root":"yes"}`).problem(t)
	if len(p.Errors) != 1 || p.Errors[0].Pointer != "/root" {
		t.Errorf("%+v", p.Errors)
	}
	var audit struct {
		Items []belfry.AuditEntry
		Next  string
	}
	h.want(200, "GET", "/v1/audit?limit=2", "").into(t, &audit)
	if len(audit.Items) != 2 || audit.Next == "" || audit.Items[0].Action != "key.create" || audit.Items[0].Who != "bootstrap" {
		t.Errorf("%+v", audit)
	}
}

// feature: PEER-17
func TestTenants(t *testing.T) {
	h := newHouse(t)
	h.want(201, "PUT", "/v1/tenants/school-1", `{"title":"A school"}`)
	h.want(200, "PUT", "/v1/tenants/school-1", `{"title":"The school"}`)
	h.want(422, "PUT", "/v1/tenants/School%201", `{}`).problem(t)
	h.want(422, "PUT", "/v1/tenants/school-1", `{"title":"The school","limits":{"pigeon":{"per_day":5}}}`).problem(t)
	var l struct{ Items []api.Tenant }
	h.want(200, "GET", "/v1/tenants", "").into(t, &l)
	if len(l.Items) != 2 || l.Items[0].ID != "default" || l.Items[1].Title != "The school" {
		t.Errorf("%+v", l.Items)
	}
	var one api.Tenant
	h.want(404, "GET", "/v1/tenants/school-2", "").problem(t)
	if h.want(200, "GET", "/v1/tenants/default", "").into(t, &one); one.ID != "default" || one.Usage != nil {
		t.Errorf("%+v", one)
	}
	if _, err := h.db.Apply(t.Context(), belfry.Changes{Tenant: belfry.AllTenants, Documents: []belfry.Document{
		{Kind: belfry.KindTenant, ID: "school-1", Body: []byte(`{"title":"The school","limits":{"email":{"per_day":5}}}`)}}}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/tenants/school-1", "/v1/tenants"} {
		one = api.Tenant{}
		if a := h.want(200, "GET", path, ""); path == "/v1/tenants" {
			a.into(t, &l)
			one = l.Items[1]
		} else {
			a.into(t, &one)
		}
		if u := one.Usage["email"].Day; u == nil || u.Used != 0 || u.Remaining != 5 || u.Frees.IsZero() || one.Usage["email"].Minute != nil {
			t.Errorf("%s: %+v", path, one)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	h := newHouse(t)
	body := `{"name":"school","permissions":["read"]}`
	first := h.want(201, "POST", "/v1/keys", body, "Idempotency-Key", "k1")
	again := h.want(201, "POST", "/v1/keys", body, "Idempotency-Key", "k1")
	if first.body != again.body || again.header.Get("Idempotency-Replayed") != "true" || again.header.Get("Location") != first.header.Get("Location") {
		t.Errorf("first %s, again %s", first.body, again.body)
	}
	var l struct{ Items []struct{ ID string } }
	h.want(200, "GET", "/v1/keys", "").into(t, &l)
	if len(l.Items) != 1 {
		t.Errorf("%d keys were made", len(l.Items))
	}
	p := h.want(422, "POST", "/v1/keys", `{"name":"other","permissions":["read"]}`, "Idempotency-Key", "k1").problem(t)
	if len(p.Errors) != 1 || p.Errors[0].Parameter != "Idempotency-Key" {
		t.Errorf("%+v", p)
	}
	// What failed did nothing, and may be mended under the same key.
	h.want(422, "POST", "/v1/keys", `{}`, "Idempotency-Key", "k2")
	h.want(201, "POST", "/v1/keys", body, "Idempotency-Key", "k2")
	// Another caller's key is another key; a bad one is refused.
	h.want(201, "POST", "/v1/keys", body, "Idempotency-Key", "k1", "Authorization", "Bearer "+h.key("default", "admin"), "X", "y")
	h.want(400, "POST", "/v1/keys", body, "Idempotency-Key", strings.Repeat("x", 256)).problem(t)
	// The token of the key is not readable in the database.
	docs, err := h.db.Documents(t.Context(), "default", "idempotency", "", 10)
	if err != nil || len(docs) != 3 {
		t.Fatalf("%d kept answers, %v", len(docs), err)
	}
	var k struct{ Key string }
	first.into(t, &k)
	for _, d := range docs {
		if strings.Contains(string(d.Body), k.Key) {
			t.Error("the key is kept in clear")
		}
	}
}

// Twenty at once with one key: one of them does it, all get its answer.
func TestIdempotencyKeyAtOnce(t *testing.T) {
	h := newHouse(t)
	answers := make(chan string, 20)
	for range 20 {
		go func() {
			r, _ := http.NewRequest("POST", h.url+"/v1/keys", strings.NewReader(`{"name":"school","permissions":["read"]}`))
			r.Header.Set("Authorization", "Bearer "+rootKey)
			r.Header.Set("Idempotency-Key", "at-once")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			var k struct{ ID string }
			_ = json.NewDecoder(resp.Body).Decode(&k)
			answers <- k.ID
		}()
	}
	ids := map[string]bool{}
	for range 20 {
		ids[<-answers] = true
	}
	if len(ids) != 1 || ids[""] {
		t.Errorf("answers %v", ids)
	}
}

func TestHealth(t *testing.T) {
	h := newHouse(t)
	h.want(200, "GET", "/healthz", "", "Authorization", "")
	h.want(200, "GET", "/readyz", "", "Authorization", "")
	if a := h.want(200, "GET", "/metrics", "", "Authorization", ""); a.body != "belfry_up 1\n" {
		t.Errorf("%q", a.body)
	}
	h.ready = belfry.Errorf(belfry.Unavailable, "the database at db.internal is away")
	a := h.want(503, "GET", "/readyz", "")
	a.problem(t)
	if strings.Contains(a.body, "db.internal") {
		t.Errorf("tells strangers %s", a.body)
	}
	if line := h.log.find(a.header.Get("X-Request-Id")); line == nil || !strings.Contains(line["error"].(string), "db.internal") {
		t.Errorf("the log does not say why: %v", line)
	}
}

func TestPanicsEndAtTheEdge(t *testing.T) {
	h := newHouse(t)
	h.metrics = func(http.ResponseWriter, *http.Request) { panic("a bug with hunter2 in it") }
	a := h.want(500, "GET", "/metrics", "")
	a.problem(t)
	if strings.Contains(a.body, "hunter2") {
		t.Errorf("leaks %s", a.body)
	}
	line := h.log.find(a.header.Get("X-Request-Id"))
	if line["level"] != "ERROR" || !strings.Contains(line["error"].(string), "hunter2") || !strings.Contains(line["stack"].(string), "edge_test.go") {
		t.Errorf("line %v", line)
	}
	h.want(200, "GET", "/healthz", "")
}

// feature: NEW-17, S3-28 looking at a link acknowledges nothing
func TestAcknowledgePage(t *testing.T) {
	h := newHouse(t)
	page := h.want(200, "GET", "/a/good", "", "Authorization", "")
	h.send("HEAD", "/a/good", "", "Authorization", "")
	if h.public.noticed != 0 {
		t.Fatal("looking at the page acknowledged")
	}
	for _, want := range []string{`<form method="post">`, "Course &lt;b&gt;changes&lt;/b&gt;", "ada@example.org"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q:\n%s", want, page.body)
		}
	}
	done := h.want(200, "POST", "/a/good", "", "Content-Type", "application/x-www-form-urlencoded", "Authorization", "")
	if h.public.noticed != 1 || !strings.Contains(done.body, "Acknowledged") {
		t.Errorf("noticed %d times:\n%s", h.public.noticed, done.body)
	}
	gone := h.want(200, "GET", "/a/unknown", "", "Authorization", "")
	for _, method := range []string{"GET", "POST"} {
		for _, token := range []string{"expired", "~~~", "a%2Fb"} {
			if a := h.want(200, method, "/a/"+token, "", "Authorization", ""); a.body != gone.body {
				t.Errorf("%s token %s gets another page:\n%s", method, token, a.body)
			}
		}
	}
	if strings.Contains(gone.body, "form") || h.public.noticed != 1 {
		t.Errorf("noticed %d times:\n%s", h.public.noticed, gone.body)
	}
	h.public.fail = belfry.Errorf(belfry.Unavailable, "the database is away")
	h.want(503, "GET", "/a/good", "", "Authorization", "").problem(t)
}

// feature: NEW-8 one-click unsubscribe for exactly this subscription.
func TestUnsubscribePage(t *testing.T) {
	h := newHouse(t)
	page := h.want(200, "GET", "/u/good", "", "Authorization", "")
	if h.public.ended != 0 {
		t.Fatal("looking at the page unsubscribed")
	}
	if h.send("HEAD", "/u/good", "", "Authorization", "").status != 200 || h.public.ended != 0 {
		t.Fatal("HEAD unsubscribed")
	}
	for _, want := range []string{`<form method="post">`, "Course &lt;b&gt;changes&lt;/b&gt;", "ada@example.org", `lang="en"`, "<h1>", "viewport"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q:\n%s", want, page.body)
		}
	}
	if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self'") || strings.Contains(csp, "script") {
		t.Errorf("policy %q", csp)
	}
	h.want(200, "GET", "/u/page.css", "", "Authorization", "")
	for language, title := range map[string]string{"de-CH, en;q=0.3": "Diese Nachrichten abbestellen?", "fr": "Ne plus recevoir ces messages ?", "es": "¿Dejar de recibir estos mensajes?", "tlh": "Stop these messages?"} {
		a := h.want(200, "GET", "/u/good", "", "Authorization", "", "Accept-Language", language)
		if !strings.Contains(a.body, "<title>"+title+"</title>") || a.header.Get("Vary") != "Accept-Language" {
			t.Errorf("in %s: %s", language, a.body)
		}
	}
	done := h.want(200, "POST", "/u/good", "List-Unsubscribe=One-Click", "Content-Type", "application/x-www-form-urlencoded", "Authorization", "")
	if h.public.ended != 1 || !strings.Contains(done.body, "Messages stopped") {
		t.Errorf("ended %d times:\n%s", h.public.ended, done.body)
	}
	// Every link that is not valid gets the same page.
	gone := h.want(200, "GET", "/u/unknown", "", "Authorization", "")
	for _, token := range []string{"expired", "~~~", "a%2Fb", strings.Repeat("x", 2000)} {
		if a := h.want(200, "GET", "/u/"+token, "", "Authorization", ""); a.body != gone.body {
			t.Errorf("token %.10s gets another page:\n%s", token, a.body)
		}
		if a := h.want(200, "POST", "/u/"+token, "", "Authorization", ""); a.body != gone.body {
			t.Errorf("POST with token %.10s gets another page:\n%s", token, a.body)
		}
	}
	if strings.Contains(gone.body, "form") || h.public.ended != 1 {
		t.Errorf("page %s", gone.body)
	}
	h.public.fail = belfry.Errorf(belfry.Unavailable, "the database is away")
	h.want(503, "POST", "/u/good", "", "Authorization", "").problem(t)
}

func TestExplain(t *testing.T) {
	h := newHouse(t)
	h.explain.answer = belfry.Answer{People: []belfry.AnswerPerson{{Principal: "user/8", Outcome: belfry.Told,
		Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.NamedRole, Role: "teacher", Subscription: "sub_1", Rule: 2}})}}}
	a := h.want(200, "POST", "/v1/explain", `{"type":"core.course_updated","object":"course/41"}`)
	for _, want := range []string{`"planned":true`, `"computed":true`, `"subscriptions":[]`, `"deliveries":[]`, `"outcome":"told"`, `"code":"named_role"`, `"rule":2`, `"text":"holds a role`, `"type":"core.course_updated"`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("lacks %s: %s", want, a.body)
		}
	}
	if events, _, err := h.db.ListEvents(t.Context(), "default", store.EventFilter{}); err != nil || len(events) != 0 || len(h.handed.accepted) != 0 {
		t.Errorf("something was stored: %v, %v", events, err)
	}
	h.want(200, "POST", "/v1/explain", `{"specversion":"1.0","id":"1","source":"/s","type":"a.b","object":"course/41"}`, "Content-Type", "application/cloudevents+json")
	h.want(422, "POST", "/v1/explain", `[{"type":"a.b"},{"type":"a.c"}]`).problem(t)
	h.want(400, "POST", "/v1/explain", `{`).problem(t)
	p := h.want(422, "POST", "/v1/explain", `{"typ":"a.b"}`).problem(t)
	if len(p.Errors) == 0 || p.Errors[0].Pointer == "" {
		t.Errorf("%+v", p)
	}
}

func TestTrace(t *testing.T) {
	h := newHouse(t)
	var r api.Receipt
	h.want(202, "POST", "/v1/events", `{"type":"a.b","source":"/s","id":"1"}`).into(t, &r)
	id := *r.IDs[0]
	a := h.want(200, "GET", "/v1/events/"+id+"/trace?principal=user%2F8&limit=5&after=x", "")
	if want := (belfry.TraceQuery{EventID: id, Principal: "user/8", After: "x", Limit: 5}); h.explain.asked != want {
		t.Errorf("asked %+v", h.explain.asked)
	}
	if !strings.Contains(a.body, `"event_id":"`+id+`"`) || !strings.Contains(a.body, `"people":[]`) {
		t.Errorf("%s", a.body)
	}
}

// A request that lies about its length or stops half-way is answered or cut,
// and the server lives on.
// An answer that says what is wrong, and its line in the log, stay short
// whatever was sent.
func TestFaultsAreBounded(t *testing.T) {
	h := newHouse(t)
	long := strings.Repeat("x", 400_000)
	for _, c := range [][3]string{
		{"POST", "/v1/subscriptions", `{"types":["a.b"],"notify":[{"channels":["` + long + `"]}],"frequency":"` + long + `"}`},
		{"POST", "/v1/subscriptions/backtest", `{"id":"x","` + long + `":1}`},
		{"POST", "/v1/notifications", `{"recipients":[{"explicit":{"users":[` + strings.Repeat(`"\n",`, 1000) + `"\n"]}}],"body":"b"}`},
		{"PUT", "/v1/users/user%2F8/preferences", `[` + strings.Repeat(`{"level":"`+long[:300]+`"},`, 900) + `{}]`},
	} {
		if c[1] == "/v1/users/user%2F8/preferences" {
			h.want(201, "PUT", "/v1/users/user%2F8", `{}`)
		}
		if a := h.want(422, c[0], c[1], c[2]); len(a.body) > 150_000 {
			t.Errorf("%s %s is answered with %d bytes", c[0], c[1], len(a.body))
		}
	}
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	for line := range strings.Lines(h.log.buf.String()) {
		if len(line) > 10_000 {
			t.Errorf("a line of the log has %d bytes: %s", len(line), line[:200])
		}
	}
}

func TestBrokenRequests(t *testing.T) {
	h := newHouse(t)
	host := strings.TrimPrefix(h.url, "http://")
	for name, text := range map[string]string{
		"shorter than said": "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + rootKey + "\r\nContent-Length: 100\r\n\r\n{\"type\"",
		"no length at all":  "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + rootKey + "\r\n\r\n",
		"bad chunk":         "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + rootKey + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			status, _ := bufio.NewReader(conn).ReadString('\n')
			if status != "" && !strings.HasPrefix(status, "HTTP/1.1 4") {
				t.Errorf("answered %q", status)
			}
		})
	}
	h.want(200, "GET", "/healthz", "")
	if len(h.handed.accepted) != 0 {
		t.Errorf("accepted %+v", h.handed.accepted)
	}
}

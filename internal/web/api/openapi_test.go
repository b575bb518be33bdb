package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// operation is what the tests read of the description.
type operation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Tags        []string
	Parameters  []struct {
		Name, In string
		Required bool
	}
	RequestBody *struct {
		Content map[string]struct{ Schema json.RawMessage }
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema json.RawMessage }
	}
	Security []map[string][]string
}

type description struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]json.RawMessage
		SecuritySchemes map[string]any
	}
	Tags []struct{ Name string }
}

func (h *house) description(t *testing.T) (description, string) {
	t.Helper()
	a := h.want(200, "GET", "/openapi.json", "", "Authorization", "")
	var d description
	a.into(t, &d)
	return d, a.body
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

func TestDescriptionIsSound(t *testing.T) {
	h := newHouse(t)
	d, text := h.description(t)
	if d.OpenAPI != "3.1.0" || d.Info.Title != "Belfry" || d.Info.Version != "test" {
		t.Errorf("%s %+v", d.OpenAPI, d.Info)
	}
	for _, word := range []string{"$schema", "127.0.0.1", "belfry.example"} {
		if strings.Contains(text, word) {
			t.Errorf("the description holds %q", word)
		}
	}
	var tags []string
	for _, tag := range d.Tags {
		tags = append(tags, tag.Name)
	}
	ids := map[string]string{}
	for path, item := range d.Paths {
		for method, op := range item {
			at := strings.ToUpper(method) + " " + path
			if op.OperationID == "" || op.Summary == "" || ids[op.OperationID] != "" {
				t.Errorf("%s: operation %q, summary %q, also %s", at, op.OperationID, op.Summary, ids[op.OperationID])
			}
			ids[op.OperationID] = at
			if len(op.Tags) != 1 || !slices.Contains(tags, op.Tags[0]) {
				t.Errorf("%s: tags %v", at, op.Tags)
			}
			var want, got []string
			for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
				want = append(want, m[1])
			}
			for _, p := range op.Parameters {
				if p.In == "path" {
					got = append(got, p.Name)
					if !p.Required {
						t.Errorf("%s: path parameter %s is not required", at, p.Name)
					}
				}
			}
			if !slices.Equal(want, got) {
				t.Errorf("%s: path parameters %v", at, got)
			}
			success := false
			for status, r := range op.Responses {
				success = success || status[0] == '2'
				if r.Description == "" {
					t.Errorf("%s: %s has no description", at, status)
				}
			}
			if !success {
				t.Errorf("%s: no success is described", at)
			}
			if strings.HasPrefix(path, "/v1/") {
				if len(op.Security) != 1 || op.Security[0]["key"] == nil {
					t.Errorf("%s: security %v", at, op.Security)
				}
				if _, ok := op.Responses["default"].Content["application/problem+json"]; !ok {
					t.Errorf("%s: problems are not described", at)
				}
			}
		}
	}
	// Every reference leads somewhere, and every schema compiles.
	for _, m := range regexp.MustCompile(`"\$ref":"#/components/schemas/([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if d.Components.Schemas[m[1]] == nil {
			t.Errorf("reference to the missing schema %s", m[1])
		}
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	for name := range d.Components.Schemas {
		if _, err := c.Compile("openapi.json#/components/schemas/" + name); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
	}
}

// Every route that is registered is described, and the other way round: each
// described operation answers with something else than "no such call".
func TestDescriptionIsComplete(t *testing.T) {
	h := newHouse(t)
	d, _ := h.description(t)
	for path, item := range d.Paths {
		for method := range item {
			if strings.HasSuffix(path, "/stream") {
				continue // does not end; TestInboxStream follows it
			}
			a := h.send(strings.ToUpper(method), pathParameter.ReplaceAllString(path, "x"), "")
			if a.status == http.StatusMethodNotAllowed || a.status == 404 && strings.Contains(a.body, "no call has this address") {
				t.Errorf("%s %s is described and not served: %d", method, path, a.status)
			}
			if a.status >= 500 {
				t.Errorf("%s %s without a body: %d %s", method, path, a.status, a.body)
			}
		}
	}
	// The sources are where routes come from: no other registration exists.
	var served []string
	for _, file := range []string{"events.go", "objects.go", "people.go", "inbox.go", "subscriptions.go", "deliveries.go", "catalogue.go", "keys.go", "public.go", "openapi.go", "server.go", "route.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`mux\.Handle(?:Func)?\("([A-Z]+) ([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			served = append(served, m[1]+" "+m[2])
		}
	}
	assets := []string{"GET /docs/start.js", "GET /docs/{file}", "GET /u/page.css"} // parts of pages
	for _, s := range served {
		method, path, _ := strings.Cut(s, " ")
		if _, ok := d.Paths[path][strings.ToLower(method)]; !ok && !slices.Contains(assets, s) {
			t.Errorf("%s is served and not described", s)
		}
	}
	if len(served) < 5 {
		t.Errorf("found only %v", served)
	}
}

// Every call of the surface this version has is there.
func TestCallsOfTheSurface(t *testing.T) {
	h := newHouse(t)
	d, _ := h.description(t)
	for _, call := range strings.Fields(`POST:/v1/events GET:/v1/events GET:/v1/events/{id} GET:/v1/events/{id}/trace POST:/v1/explain
		GET:/v1/event-types PUT:/v1/event-types/{id} GET:/v1/event-types/{id} DELETE:/v1/event-types/{id}
		PUT:/v1/objects/{id} GET:/v1/objects/{id} PATCH:/v1/objects/{id} DELETE:/v1/objects/{id} POST:/v1/objects:batch GET:/v1/objects/{id}/grants PUT:/v1/objects/{id}/grants
		GET:/v1/objects/{id}/history POST:/v1/objects/{id}/history GET:/v1/objects/{id}/subscriptions POST:/v1/grants:batch POST:/v1/history:batch
		PUT:/v1/users/{id} GET:/v1/users/{id} PATCH:/v1/users/{id} DELETE:/v1/users/{id} POST:/v1/users:batch GET:/v1/users/{id}/contacts PUT:/v1/users/{id}/contacts
		GET:/v1/users/{id}/preferences PUT:/v1/users/{id}/preferences GET:/v1/users/{id}/settings PUT:/v1/users/{id}/settings
		GET:/v1/users/{id}/inbox GET:/v1/users/{id}/inbox/counts POST:/v1/users/{id}/inbox/read POST:/v1/users/{id}/inbox/unread POST:/v1/users/{id}/inbox/archive POST:/v1/users/{id}/inbox/unarchive GET:/v1/users/{id}/inbox/stream
		PUT:/v1/groups/{id} GET:/v1/groups/{id} DELETE:/v1/groups/{id} POST:/v1/groups:batch
		GET:/v1/subscriptions POST:/v1/subscriptions GET:/v1/subscriptions/{id} PUT:/v1/subscriptions/{id} PATCH:/v1/subscriptions/{id} DELETE:/v1/subscriptions/{id}
		GET:/v1/subscriptions/{id}/members POST:/v1/subscriptions/{id}/members DELETE:/v1/subscriptions/{id}/members POST:/v1/subscriptions/{id}/members:batch POST:/v1/subscriptions/{id}/pause POST:/v1/subscriptions/{id}/resume
		GET:/v1/deliveries GET:/v1/deliveries/{id} GET:/v1/channels GET:/v1/channels/{id} PUT:/v1/channels/{id} POST:/v1/channels/{id}/test
		GET:/v1/endpoints POST:/v1/endpoints GET:/v1/endpoints/{id} PUT:/v1/endpoints/{id} PATCH:/v1/endpoints/{id} DELETE:/v1/endpoints/{id} POST:/v1/endpoints/{id}/rotate-secret POST:/v1/endpoints/{id}/test POST:/v1/endpoints/{id}/pause POST:/v1/endpoints/{id}/resume
		GET:/v1/sources POST:/v1/sources GET:/v1/sources/{id} PUT:/v1/sources/{id} DELETE:/v1/sources/{id} GET:/v1/sources/{id}/status
		GET:/v1/templates PUT:/v1/templates/{id} GET:/v1/templates/{id} DELETE:/v1/templates/{id} POST:/v1/templates/preview
		POST:/v1/keys GET:/v1/keys GET:/v1/keys/{id} DELETE:/v1/keys/{id} GET:/v1/tenants GET:/v1/tenants/{id} PUT:/v1/tenants/{id} GET:/v1/audit
		GET:/u/{token} POST:/u/{token} GET:/healthz GET:/readyz GET:/metrics GET:/openapi.json GET:/docs`) {
		method, path, _ := strings.Cut(call, ":")
		if _, ok := d.Paths[path][strings.ToLower(method)]; !ok {
			t.Errorf("%s %s is missing", method, path)
		}
	}
}

// What answers say of usage, of what is held and sent all the same, and of
// warnings is described, since descriptions are made of the handlers' types.
func TestAnswersAreDescribed(t *testing.T) {
	h := newHouse(t)
	d, _ := h.description(t)
	for name, fields := range map[string]string{
		"Tenant": "limits usage", "ConfiguredView": "limit usage", "ChannelUsage": "minute day", "WindowUsage": "used remaining frees",
		"StoredEventType": "warnings mandatory urgent channels", "StoredPreset": "warnings", "StoredEndpoint": "warnings", "ManifestChange": "warnings", "DigestView": "because", "DeliveryView": "because",
	} {
		var schema struct{ Properties map[string]json.RawMessage }
		if err := json.Unmarshal(d.Components.Schemas[name], &schema); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for field := range strings.FieldsSeq(fields) {
			if schema.Properties[field] == nil {
				t.Errorf("%s has no %s", name, field)
			}
		}
	}
}

// Every call that takes a body refuses bad ones alike, before it does anything.
func TestEveryBodyIsChecked(t *testing.T) {
	h := newHouse(t)
	d, _ := h.description(t)
	ten := strings.Repeat("x", 10<<20)
	huge := strings.Repeat(" ", 17<<20)
	for path, item := range d.Paths {
		for method, op := range item {
			if op.RequestBody == nil {
				continue
			}
			if _, table := op.RequestBody.Content["text/csv"]; table {
				for _, c := range []struct {
					name, body, media string
					status            []int
				}{
					{"JSON", `{"a":1}`, "application/json", []int{415}},
					{"another charset", "email\n", "text/csv; charset=latin1", []int{415}},
					{"empty", "", "text/csv", []int{400, 404}}, // of a subscription: it is looked for first
					{"invalid UTF-8", "em\xffail,types\n", "text/csv", []int{422, 404}},
					{"unknown column", "emial,types\n", "text/csv", []int{422, 404}},
					{"seventeen megabytes", huge, "text/csv", []int{413}},
				} {
					a := h.send(strings.ToUpper(method), pathParameter.ReplaceAllString(path, "x"), c.body, "Content-Type", c.media)
					if !slices.Contains(c.status, a.status) {
						t.Errorf("%s %s, %s: %d, want one of %v: %.200s", method, path, c.name, a.status, c.status, a.body)
						continue
					}
					a.problem(t)
				}
				continue
			}
			if _, ok := op.RequestBody.Content["application/json"]; !ok {
				if _, ok := op.RequestBody.Content["application/merge-patch+json"]; !ok {
					t.Errorf("%s %s takes no JSON: %v", method, path, op.RequestBody.Content)
				}
			}
			for _, c := range []struct {
				name, body string
				status     []int
			}{
				{"malformed", `{"a":`, []int{400}},
				{"invalid UTF-8", "{\"a\":\"\xff\"}", []int{400}},
				{"unknown field", `{"no_such_field":1}`, []int{422, 404}}, // of a patch: what it would change is looked for first
				{"unknown field in an array", `[{"no_such_field":1}]`, []int{422}},
				{"wrong type", `"text"`, []int{422, 400}},
				{"ten megabytes", `{"no_such_field":"` + ten + `"}`, []int{413, 422}}, // a batch may be as large
				{"seventeen megabytes", huge, []int{413}},
			} {
				a := h.send(strings.ToUpper(method), pathParameter.ReplaceAllString(path, "x"), c.body)
				if !slices.Contains(c.status, a.status) {
					t.Errorf("%s %s, %s: %d, want one of %v: %.200s", method, path, c.name, a.status, c.status, a.body)
					continue
				}
				a.problem(t)
			}
		}
	}
	if len(h.handed.accepted) > 0 {
		t.Error("an event was accepted")
	}
}

// What the calls really answer is what the description says.
func TestAnswersFitTheDescription(t *testing.T) {
	h := newHouse(t)
	h.people()
	event, _ := h.tell("user/8")
	d, text := h.description(t)
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	for _, call := range []struct{ method, path, sent, body string }{
		{"POST", "/v1/events", "/v1/events", `{"type":"a.b"}`},
		{"GET", "/v1/events", "/v1/events", ""},
		{"GET", "/v1/events/{id}", "/v1/events/" + event, ""},
		{"GET", "/v1/events/{id}/trace", "/v1/events/" + event + "/trace", ""},
		{"POST", "/v1/explain", "/v1/explain", `{"type":"a.b"}`},
		{"GET", "/v1/objects/{id}", "/v1/objects/course%2F41", ""},
		{"GET", "/v1/users/{id}", "/v1/users/user%2F8", ""},
		{"GET", "/v1/users/{id}/inbox", "/v1/users/user%2F8/inbox", ""},
		{"GET", "/v1/groups/{id}", "/v1/groups/staff", ""},
		{"POST", "/v1/subscriptions", "/v1/subscriptions", `{"types":["a.*"],"recipients":[{"related":{}}]}`},
		{"GET", "/v1/subscriptions", "/v1/subscriptions", ""},
		{"GET", "/v1/deliveries", "/v1/deliveries", ""},
		{"POST", "/v1/endpoints", "/v1/endpoints", `{"url":"https://x.example"}`},
		{"POST", "/v1/keys", "/v1/keys", `{"name":"a","permissions":["read"]}`},
		{"GET", "/v1/channels", "/v1/channels", ""},
		{"GET", "/v1/audit", "/v1/audit", ""},
		{"GET", "/v1/nothing", "/v1/nothing", ""},
	} {
		t.Run(call.method+" "+call.path, func(t *testing.T) {
			a := h.send(call.method, call.sent, call.body)
			op, ok := d.Paths[call.path][strings.ToLower(call.method)]
			if !ok {
				op = d.Paths["/v1/events"]["get"] // a problem is a problem
			}
			status, media := fmt.Sprint(a.status), a.header.Get("Content-Type")
			r, ok := op.Responses[status]
			if !ok {
				status, r = "default", op.Responses["default"]
			}
			if _, ok := r.Content[media]; !ok {
				t.Fatalf("%d as %s is not described: %s", a.status, media, a.body)
			}
			pointer := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
			path, method := call.path, strings.ToLower(call.method)
			if a.status == 404 {
				path, method = "/v1/events", "get"
			}
			schema, err := c.Compile("openapi.json#/paths/" + pointer.Replace(path) + "/" + method + "/responses/" + status + "/content/" + pointer.Replace(media) + "/schema")
			if err != nil {
				t.Fatal(err)
			}
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(a.body)))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(v); err != nil {
				t.Errorf("%v\n%s", err, a.body)
			}
		})
	}
}

// The browser of the description needs nothing from elsewhere.
func TestDocsAreOffline(t *testing.T) {
	h := newHouse(t)
	page := h.want(200, "GET", "/docs", "", "Authorization", "")
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page.body, -1) {
		if !strings.HasPrefix(m[1], "/") {
			t.Errorf("the page loads %s", m[1])
			continue
		}
		a := h.want(200, "GET", m[1], "", "Authorization", "")
		if len(a.body) == 0 {
			t.Errorf("%s is empty", m[1])
		}
	}
	if strings.Contains(page.body, "<script>") || !strings.Contains(page.header.Get("Content-Security-Policy"), "script-src 'self'") {
		t.Error("inline scripts, or a policy that lets them")
	}
	h.want(404, "GET", "/docs/oauth2-redirect.html", "", "Authorization", "").problem(t)
	h.want(404, "GET", "/docs/embed.go", "", "Authorization", "").problem(t)
}

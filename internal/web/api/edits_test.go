package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/web/api"
)

// people puts a small school.
func (h *house) people() {
	h.t.Helper()
	h.want(200, "POST", "/v1/objects:batch", `[{"id":"course/41","type":"course","parent":"category/2","title":"CPR"},{"id":"category/2","type":"category","title":"Science"}]`)
	h.want(200, "POST", "/v1/users:batch", `[{"id":"user/8","name":"Ada","email":"ada@example.org"},{"id":"user/9","name":"Bob"}]`)
	h.want(201, "PUT", "/v1/groups/staff", `{"name":"Staff","members":["user/8"]}`)
}

// wantFault sends and expects one fault at a place.
func (h *house) wantFault(status int, pointer, method, path, body string) {
	h.t.Helper()
	p := h.want(status, method, path, body).problem(h.t)
	if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer || p.Errors[0].Message == "" {
		h.t.Errorf("%s %s %s: faults %+v, want one at %q", method, path, clipped(body), p.Errors, pointer)
	}
}

func clipped(s string) string { return s[:min(len(s), 100)] }

func TestObjects(t *testing.T) {
	h := newHouse(t)
	h.want(201, "PUT", "/v1/objects/~Y2F0ZWdvcnkvMg", `{"type":"category","title":"Science"}`)
	a := h.want(201, "PUT", "/v1/objects/course%2F41", `{"type":"course","parent":"category/2","title":"CPR","url":"https://school.example/41","attributes":{"credits":3},"document":"","hidden":false,"blocks":["*"]}`)
	if got := a.header.Get("Location"); got != "/v1/objects/~Y291cnNlLzQx" {
		t.Errorf("Location %q", got)
	}
	tag := a.header.Get("ETag")
	var o belfry.Object
	a = h.want(200, "GET", a.header.Get("Location"), "")
	a.into(t, &o)
	if o.ID != "course/41" || o.Title != "CPR" || o.Parent != "category/2" || a.header.Get("ETag") != tag || tag == "" {
		t.Errorf("%+v %q %q", o, a.header.Get("ETag"), tag)
	}
	t.Run("conditions", func(t *testing.T) {
		if a := h.want(304, "GET", "/v1/objects/course%2F41", "", "If-None-Match", tag); a.body != "" || a.header.Get("ETag") != tag {
			t.Errorf("%+v", a)
		}
		body := `{"type":"course","parent":"category/2","title":"CPR 2"}`
		a := h.want(200, "PUT", "/v1/objects/course%2F41", body, "If-Match", tag)
		if a.header.Get("ETag") == tag {
			t.Error("the ETag stayed")
		}
		h.want(412, "PUT", "/v1/objects/course%2F41", body, "If-Match", tag).problem(t)
		h.want(412, "DELETE", "/v1/objects/course%2F41", "", "If-Match", tag).problem(t)
		h.want(412, "PATCH", "/v1/objects/course%2F41", `{"title":"x"}`, "If-Match", tag).problem(t)
		h.want(412, "PUT", "/v1/objects/course%2F41", body, "If-Match", "nonsense").problem(t)
		h.want(412, "PUT", "/v1/objects/course%2F41", body, "If-None-Match", "*").problem(t)
		h.want(200, "PUT", "/v1/objects/course%2F41", body, "If-Match", "*")
		h.want(200, "GET", "/v1/objects/course%2F41", "", "If-None-Match", tag)
	})
	t.Run("put resets, patch merges", func(t *testing.T) {
		h.want(200, "PUT", "/v1/objects/course%2F41", `{"type":"course","parent":"category/2","title":"CPR","attributes":{"credits":3,"room":{"floor":1,"door":2}}}`)
		var o belfry.Object
		h.want(200, "PATCH", "/v1/objects/course%2F41", `{"hidden":true,"attributes":{"credits":null,"room":{"door":3}}}`, "Content-Type", "application/merge-patch+json").into(t, &o)
		var attributes any
		if err := json.Unmarshal(o.Attributes, &attributes); err != nil || fmt.Sprint(attributes) != "map[room:map[door:3 floor:1]]" || !o.Hidden || o.Title != "CPR" || len(o.Blocks) != 0 {
			t.Errorf("%+v %s", o, o.Attributes)
		}
		h.want(422, "PATCH", "/v1/objects/course%2F41", `{"titel":"x"}`).problem(t)
		h.want(404, "PATCH", "/v1/objects/course%2F42", `{"title":"x"}`).problem(t)
	})
	t.Run("any id", func(t *testing.T) {
		for _, id := range []string{"日本/1", ".", "..", "~x", "a b?c#d%", "a\\b", ":batch", strings.Repeat("x", 512)} {
			a := h.want(201, "PUT", "/v1/objects/~"+b64(id), `{"type":"thing"}`)
			var o belfry.Object
			h.want(200, "GET", a.header.Get("Location"), "").into(t, &o)
			if o.ID != id {
				t.Errorf("%q became %q", id, o.ID)
			}
		}
		h.want(400, "GET", "/v1/objects/~***", "").problem(t)
		h.want(400, "PUT", "/v1/objects/~_w", `{"type":"thing"}`).problem(t)
		h.wantFault(422, "/id", "PUT", "/v1/objects/a", `{"id":"b","type":"thing"}`)
	})
	t.Run("trees have no cycles and no holes", func(t *testing.T) {
		h.wantFault(422, "/parent", "PUT", "/v1/objects/category%2F2", `{"type":"category","parent":"course/41"}`)
		h.wantFault(422, "/parent", "PUT", "/v1/objects/course%2F43", `{"type":"course","parent":"category/404"}`)
		h.wantFault(422, "/0/parent", "POST", "/v1/objects:batch", `[{"id":"a","type":"t","parent":"b"},{"id":"b","type":"t","parent":"a"}]`)
		h.want(404, "GET", "/v1/objects/a", "").problem(t) // nothing of it was stored
	})
	t.Run("deleting", func(t *testing.T) {
		h.want(204, "DELETE", "/v1/objects/category%2F2", "")
		h.want(404, "GET", "/v1/objects/course%2F41", "").problem(t) // it is under it
		h.want(404, "DELETE", "/v1/objects/category%2F2", "").problem(t)
	})
}

func TestGrantsAndHistory(t *testing.T) {
	h := newHouse(t)
	h.people()
	var gs struct{ Items []belfry.Grant }
	h.want(200, "PUT", "/v1/objects/course%2F41/grants", `[{"principal":"user/8","role":"editingteacher"},{"principal":"staff","role":"viewer","until":"2030-01-01T00:00:00Z"}]`).into(t, &gs)
	if len(gs.Items) != 2 {
		t.Fatalf("%+v", gs)
	}
	// Another key's grants are kept apart by its origin.
	other := h.key("default", "admin")
	h.want(200, "PUT", "/v1/objects/course%2F41/grants", `[{"principal":"user/9","role":"student"}]`, "Authorization", "Bearer "+other).into(t, &gs)
	if len(gs.Items) != 3 {
		t.Errorf("%+v", gs)
	}
	h.want(200, "PUT", "/v1/objects/course%2F41/grants", `[]`).into(t, &gs)
	if len(gs.Items) != 1 || gs.Items[0].Role != "student" {
		t.Errorf("%+v", gs)
	}
	h.wantFault(422, "/0/principal", "PUT", "/v1/objects/course%2F41/grants", `[{"principal":"user/404","role":"x"}]`)
	h.wantFault(422, "/0/rol", "PUT", "/v1/objects/course%2F41/grants", `[{"principal":"user/8","rol":"x"}]`)
	h.want(404, "PUT", "/v1/objects/course%2F404/grants", `[]`).problem(t)
	h.want(200, "POST", "/v1/grants:batch", `[{"object":"course/41","grants":[{"principal":"user/8","role":"manager"}]},{"object":"category/2","grants":[{"principal":"user/9","role":"manager"}]}]`)
	h.wantFault(422, "/0/grants/0/principal", "POST", "/v1/grants:batch", `[{"object":"course/41","grants":[{"principal":"user/404","role":"manager"}]}]`)
	h.wantFault(422, "/1/object", "POST", "/v1/grants:batch", `[{"object":"course/41","grants":[]},{"object":"course/404","grants":[]}]`)

	h.want(200, "POST", "/v1/objects/course%2F41/history", `[{"transition":"publish","actor":"user/8","time":"2026-05-09T09:31:16Z","variables":{"a":1}}]`)
	h.want(200, "POST", "/v1/history:batch", `[{"object":"course/41","transition":"view","time":"2026-05-10T09:31:16Z"}]`)
	var es struct{ Items []belfry.HistoryEntry }
	h.want(200, "GET", "/v1/objects/course%2F41/history", "").into(t, &es)
	if len(es.Items) != 2 || es.Items[0].Transition != "publish" {
		t.Errorf("%+v", es)
	}
	h.want(422, "POST", "/v1/objects/course%2F41/history", `[{"object":"course/42","transition":"publish"}]`).problem(t)
}

func TestUsers(t *testing.T) {
	h := newHouse(t)
	a := h.want(201, "PUT", "/v1/users/user%2F8", `{"name":"Ada","email":"ada@example.org","locale":"pt-BR","time_zone":"America/Sao_Paulo","state":"active","contacts":[{"kind":"sms","address":"+5511999990000","label":"phone","priority":2,"verified":true}]}`)
	var u belfry.User
	h.want(200, "GET", a.header.Get("Location"), "").into(t, &u)
	if u.Name != "Ada" || u.State != "active" || len(u.Contacts) == 0 {
		t.Fatalf("%+v", u)
	}
	kinds := func() []string {
		var l struct{ Items []belfry.Contact }
		h.want(200, "GET", "/v1/users/user%2F8/contacts", "").into(t, &l)
		var ks []string
		for _, c := range l.Items {
			ks = append(ks, c.Kind)
		}
		slices.Sort(ks)
		return ks
	}
	before := kinds()
	// Contacts that are not given are untouched; given, they replace one's own.
	h.want(200, "PUT", "/v1/users/user%2F8", `{"name":"Ada L.","email":"ada@example.org"}`)
	if got := kinds(); !slices.Equal(got, before) {
		t.Errorf("contacts %v, before %v", got, before)
	}
	// Of very many kinds that no channel sends to the first are named.
	var strange []string
	for i := range 30 {
		strange = append(strange, fmt.Sprintf(`{"id":"user/9%02d","contacts":[{"kind":"bird%d","address":"loft"}]}`, i, i))
	}
	var many struct{ Warnings []string }
	h.want(200, "POST", "/v1/users:batch", "["+strings.Join(strange, ",")+"]", "Content-Type", "application/json").into(t, &many)
	if n := len(many.Warnings); n != 21 || !strings.Contains(many.Warnings[19], "bird19") || !strings.Contains(many.Warnings[20], "other kinds") {
		t.Errorf("%d warnings: %q", n, many.Warnings)
	}
	// What no channel sends to is stored, for one that may come, and said.
	for _, c := range []struct{ method, path, body, says string }{
		{"PUT", "/v1/users/user%2F8/contacts", `[{"kind":"emial","address":"a@example.org"},{"kind":"email","address":"b@example.org"}]`, `"warnings":["no channel sends to contacts of the kind emial: did you mean email?"]`},
		{"PATCH", "/v1/users/user%2F8", `{"name":"Ada"}`, `"warnings":["no channel sends to contacts of the kind emial: did you mean email?"]`},
		{"POST", "/v1/users:batch", `[{"id":"user/71","contacts":[{"kind":"pigeon","address":"loft"},{"kind":"pigeon","address":"loft 2"}]},{"id":"user/72","contacts":[{"kind":"pigeon","address":"loft"}]}]`,
			`{"stored":2,"warnings":["no channel sends to contacts of the kind pigeon yet"]}`},
		{"PUT", "/v1/users/user%2F71", `{"contacts":[]}`, ""},
	} {
		if a := h.want(200, c.method, c.path, c.body, "Content-Type", map[bool]string{true: "application/merge-patch+json", false: "application/json"}[c.method == "PATCH"]); !strings.Contains(a.body, c.says) || c.says == "" && strings.Contains(a.body, "warnings") {
			t.Errorf("%s %s: %s, want %q", c.method, c.path, a.body, c.says)
		}
	}
	h.want(200, "PUT", "/v1/users/user%2F8/contacts", `[{"kind":"push","address":"device-1","verified":true}]`)
	if got := kinds(); !slices.Contains(got, "push") || slices.Contains(got, "sms") {
		t.Errorf("contacts %v", got)
	}
	// Who may write addresses vouches for them, unless they say otherwise.
	h.want(200, "PUT", "/v1/users/user%2F8/contacts", `[{"kind":"push","address":"device-1"},{"kind":"sms","address":"+551","verified":false}]`)
	var written struct{ Items []belfry.Contact }
	h.want(200, "GET", "/v1/users/user%2F8/contacts", "").into(t, &written)
	for _, c := range written.Items {
		if want := c.Kind != "sms"; c.Verified != want {
			t.Errorf("contact %s is verified: %v, want %v", c.Kind, c.Verified, want)
		}
	}
	h.wantFault(422, "/0/adress", "PUT", "/v1/users/user%2F8/contacts", `[{"kind":"push","adress":"x"}]`)
	h.want(404, "PUT", "/v1/users/user%2F404/contacts", `[]`).problem(t)

	h.want(200, "PUT", "/v1/users/user%2F8/preferences", `[{"type":"core.course_*","level":"none"},{"channels":["inbox"],"frequency":"immediate"}]`)
	var ps []belfry.Preference
	h.want(200, "GET", "/v1/users/user%2F8/preferences", "").into(t, &ps)
	if len(ps) != 2 {
		t.Errorf("%+v", ps)
	}
	if a := h.want(200, "GET", "/v1/users/user%2F8/settings", ""); a.body != "{\"stop\":false}\n" {
		t.Errorf("%s", a.body)
	}
	h.want(200, "PUT", "/v1/users/user%2F8/settings", `{"stop":true,"quiet":null}`)
	h.want(200, "PUT", "/v1/users/user%2F8/settings", `{"stop":false,"quiet":{"from":"22:00","to":"07:00","days":["mon"]},"digest_at":"08:00","digest_weekday":"mon"}`)
	var chosen belfry.Settings
	h.want(200, "GET", "/v1/users/user%2F8/settings", "").into(t, &chosen)
	if chosen.DigestWeekday != "monday" || chosen.Quiet == nil || chosen.Quiet.From != "22:00" {
		t.Errorf("settings read back as %+v", chosen)
	}
	for _, c := range []struct{ path, body, pointer string }{
		{"/v1/users/user%2F8", `{"nme":"x"}`, "/nme"},
		{"/v1/users/user%2F8", `{"name":["x"]}`, "/name"},
		{"/v1/users/user%2F8", `{"state":"sleeping"}`, "/state"},
		{"/v1/users/user%2F8", `{"locale":"not a locale"}`, "/locale"},
		{"/v1/users/user%2F8/preferences", `[{"frequency":"yearly"}]`, "/0/frequency/every"},
		{"/v1/users/user%2F8/preferences", `[{"level":"loud"}]`, "/0/level"},
		{"/v1/users/user%2F8/preferences", `[{"channels":["pigeon"]}]`, "/0/channels/0"},
		{"/v1/users/user%2F8/preferences", `[{"object":"course/404"}]`, "/0/object"},
		{"/v1/users/user%2F8/settings", `{"quiet":{"from":"22:00","to":"7:00"}}`, "/quiet/to"},
		{"/v1/users/user%2F8/settings", `{"quiet":{"from":"22:00","to":"07:00","days":["mo"]}}`, "/quiet/days/0"},
		{"/v1/users/user%2F8/settings", `{"quiet":{"from":"00:00","to":"00:00"}}`, "/quiet"},
		{"/v1/users/user%2F8/settings", `{"digest_at":"24:00"}`, "/digest_at"},
		{"/v1/users/user%2F8/settings", `{"digest_weekday":"mondy"}`, "/digest_weekday"},
		{"/v1/users/user%2F8/settings", `{"stop":"yes"}`, "/stop"},
	} {
		h.wantFault(422, c.pointer, "PUT", c.path, c.body)
	}
	h.want(204, "DELETE", "/v1/users/user%2F8", "")
	h.want(404, "GET", "/v1/users/user%2F8", "").problem(t)
	h.want(404, "GET", "/v1/users/user%2F8/settings", "").problem(t)
}

func TestGroupsHoldNoCycles(t *testing.T) {
	h := newHouse(t)
	h.people()
	h.want(201, "PUT", "/v1/groups/all", `{"name":"All","members":["staff","user/9"]}`)
	h.wantFault(422, "/members", "PUT", "/v1/groups/staff", `{"name":"Staff","members":["all"]}`)
	h.wantFault(422, "/members", "PUT", "/v1/groups/staff", `{"name":"Staff","members":["staff"]}`)
	h.wantFault(422, "/members/0", "PUT", "/v1/groups/staff", `{"name":"Staff","members":["user/404"]}`)
	h.want(409, "PUT", "/v1/groups/user%2F8", `{"name":"x"}`).problem(t)
	h.want(200, "POST", "/v1/groups:batch", `[{"id":"a","members":["b"]},{"id":"b","members":["user/8"]}]`)
	h.want(204, "DELETE", "/v1/groups/all", "")
}

// feature: CPS-2 which subscriptions there are for (type, object).
func TestSubscriptions(t *testing.T) {
	h := newHouse(t)
	h.people()
	body := `{"title":"Course changes to its teachers","scope":{"object":"course/41","applies":"subtree"},"types":["core.course_*"],"object_types":[],
		"filter":"event.data.shortname == 'CPR'",
		"recipients":[{"explicit":{"users":["user/8"],"groups":["staff"],"emails":["x@example.org"]}},{"role":{"roles":["editingteacher"],"origins":["merged"],"ancestor_types":[],"on":"object"}},
			{"workflow":{"origins":["context"],"transitions":["-","view"],"lookup":"last","variables":["actor"],"history":"local"}},
			{"computed":{"expression":"event.data.reviewers.map(r, 'user/' + string(r))"}},{"related":{"path":"related"}}],
		"exclude":{"users":[],"emails":[]},"exclude_actor":true,"notify":[{"channels":["inbox","email"],"template":""}],
		"frequency":"immediate","merge":true,"condition":null,"joining":{"who":"none"},"owner":"user/9"}`
	a := h.want(201, "POST", "/v1/subscriptions", body, "Idempotency-Key", "s1")
	var s api.Stored
	a.into(t, &s)
	if !strings.HasPrefix(s.ID, "sub_") || s.State != "active" || s.Readable == "" || s.Version == 0 || a.header.Get("ETag") == "" || a.header.Get("Location") != "/v1/subscriptions/"+s.ID {
		t.Fatalf("%+v %v", s, a.header)
	}
	if again := h.want(201, "POST", "/v1/subscriptions", body, "Idempotency-Key", "s1"); again.body != a.body {
		t.Errorf("repeated: %s", again.body)
	}
	item := "/v1/subscriptions/" + s.ID

	// What was read can be put back, with its words.
	got := h.want(200, "GET", item, "")
	h.want(200, "PUT", item, got.body, "If-Match", got.header.Get("ETag"))
	h.want(412, "PUT", item, got.body, "If-Match", got.header.Get("ETag")).problem(t)
	s = api.Stored{}
	h.want(200, "PATCH", item, `{"title":"Renamed","filter":null}`).into(t, &s)
	if s.Title != "Renamed" || s.Filter != "" || len(s.Recipients) != 5 {
		t.Errorf("%+v", s)
	}

	count := func(query string) int {
		var l struct{ Items []belfry.Subscription }
		h.want(200, "GET", "/v1/subscriptions?"+query, "").into(t, &l)
		return len(l.Items)
	}
	for query, want := range map[string]int{"": 1, "type=core.course_updated": 1, "type=core.user_created": 0, "object=course%2F41": 1, "object=category%2F2": 0, "type=core.course_x&object=course%2F41": 1} {
		if n := count(query); n != want {
			t.Errorf("?%s gives %d, want %d", query, n, want)
		}
	}
	var here struct{ Items []belfry.Subscription }
	h.want(200, "GET", "/v1/objects/course%2F41/subscriptions", "").into(t, &here)
	if len(here.Items) != 1 {
		t.Errorf("%+v", here)
	}

	h.want(200, "POST", item+"/pause", `{"because":"holidays"}`).into(t, &s)
	if s.State != "paused" || s.Because != "holidays" {
		t.Errorf("%+v", s)
	}
	h.want(200, "POST", item+"/resume", "").into(t, &s)
	h.want(200, "POST", item+"/pause", "").into(t, &s)
	if s.State != "paused" || s.Because == "" {
		t.Errorf("%+v", s)
	}

	h.want(201, "POST", item+"/members", `{"principal":"user/9","channels":["email"]}`)
	h.want(200, "POST", item+"/members:batch", `[{"principal":"user/8"},{"principal":"staff"}]`)
	var ms struct{ Items []belfry.Member }
	h.want(200, "GET", item+"/members", "").into(t, &ms)
	if len(ms.Items) != 3 {
		t.Errorf("%+v", ms)
	}
	h.wantFault(422, "/principal", "POST", item+"/members", `{"principal":"user/404"}`)
	h.wantFault(422, "/1/principal", "POST", item+"/members:batch", `[{"principal":"user/8"},{"principal":"user/404"}]`)
	h.wantFault(422, "/frequency/every", "POST", item+"/members", `{"principal":"user/8","frequency":"dayly"}`)
	h.want(204, "DELETE", item+"/members?principal=user%2F9", "")
	h.want(422, "DELETE", item+"/members", "").problem(t)

	h.want(204, "DELETE", item, "")
	h.want(200, "GET", item, "").into(t, &s)
	if s.State != "ended" || count("") != 0 {
		t.Errorf("%+v", s)
	}
	h.want(409, "POST", item+"/resume", "").problem(t)
	h.want(404, "GET", "/v1/subscriptions/sub_unknown", "").problem(t)
}

// feature: CPS-5, CPS-13
func TestObjectSettings(t *testing.T) {
	h := newHouse(t)
	h.people()
	const at = "/v1/objects/course%2F41/settings"
	if got := h.want(200, "GET", at, "").body; strings.TrimSpace(got) != "{}" {
		t.Errorf("before anything was set: %s", got)
	}
	const set = `{"lookup":"nearest","stop":true,"own_subscriptions":true,"flags":["notify_no_local","silent"]}`
	for _, path := range []string{at, "/v1/objects/root/settings"} {
		h.want(200, "PUT", path, set)
		if got := h.want(200, "GET", path, "").body; strings.TrimSpace(got) != set {
			t.Errorf("%s: %s", path, got)
		}
	}
	h.want(200, "PUT", "/v1/objects/course%2F41", `{"type":"course","title":"Put again"}`)
	if got := h.want(200, "GET", at, "").body; strings.TrimSpace(got) != set {
		t.Errorf("after the object was put again: %s", got)
	}
	h.wantFault(422, "/lookup", "PUT", at, `{"lookup":"closest"}`)
	h.wantFault(422, "/flags/0", "PUT", at, `{"flags":["anonymous"]}`)
	h.wantFault(422, "/policy", "PUT", at, `{"policy":"merge"}`)
	h.want(404, "PUT", "/v1/objects/nowhere/settings", `{}`).problem(t)
	h.want(404, "GET", "/v1/objects/nowhere/settings", "").problem(t)
}

// feature: S3-6
func TestFilters(t *testing.T) {
	h := newHouse(t)
	h.people()
	// In the dialects of CloudEvents, stored as CEL.
	var f belfry.SavedFilter
	h.want(201, "PUT", "/v1/filters/mine", `{"title":"Mine","filter":[{"exact":{"actor":"user/8"}},{"not":{"prefix":{"type":"core.user_"}}}]}`).into(t, &f)
	if f.Filter != `(event.actor == "user/8" && !(event.type.startsWith("core.user_")))` || f.Readable == "" {
		t.Errorf("%+v", f)
	}
	var s api.Stored
	h.want(201, "POST", "/v1/subscriptions", `{"types":["core.*"],"filter":{"exact":{"source":"/moodle"}},"filters":["mine"]}`).into(t, &s)
	if s.Filter != `event.source == "/moodle"` || !strings.Contains(s.Combined, "event.actor") || !strings.Contains(s.Combined, "/moodle") {
		t.Errorf("%+v", s)
	}
	item := "/v1/subscriptions/" + s.ID
	h.want(200, "PUT", item, h.want(200, "GET", item, "").body) // what was read can be put back
	s = api.Stored{}
	h.want(200, "PATCH", item, `{"filter":{"suffix":{"source":"dle"}}}`).into(t, &s)
	if s.Filter != `event.source.endsWith("dle")` {
		t.Errorf("%+v", s)
	}
	h.wantFault(422, "/filters/0", "POST", "/v1/subscriptions", `{"filters":["nobody's"]}`)
	h.wantFault(422, "/filter/not/exact", "POST", "/v1/subscriptions", `{"filter":{"not":{"exact":{"Type":"x"}}}}`)
	h.wantFault(422, "/filter", "POST", "/v1/subscriptions", `{"filter":{"sql":"x"}}`)
	h.wantFault(422, "/filter", "PUT", "/v1/filters/mine", `{"filter":"event.typ == 'x'"}`)
	h.wantFault(422, "/filter", "PUT", "/v1/filters/mine", `{}`)
	h.want(204, "DELETE", "/v1/filters/mine", "")
	h.want(200, "GET", item, "").into(t, &s)
	if s.State != "paused" || !strings.Contains(s.Because, "mine was deleted") {
		t.Errorf("%+v", s)
	}
	h.want(409, "POST", item+"/resume", "").problem(t)
	h.want(404, "GET", "/v1/filters/mine", "").problem(t)
	var l struct{ Items []belfry.SavedFilter }
	h.want(201, "PUT", "/v1/filters/mine", `{"filter":"event.actor == 'user/9'"}`).into(t, &f)
	h.want(200, "GET", "/v1/filters", "").into(t, &l)
	if len(l.Items) != 1 || l.Items[0].Readable == "" {
		t.Errorf("%+v", l)
	}
	h.want(200, "POST", item+"/resume", "").into(t, &s)
	if s.State != "active" || !strings.Contains(s.Combined, "user/9") {
		t.Errorf("%+v", s)
	}
}

func TestBadSubscriptions(t *testing.T) {
	h := newHouse(t)
	h.people()
	for _, c := range []struct{ body, pointer string }{
		{`{"filter":"event.data.x =="}`, "/filter"},
		{`{"filter":"evnt.type == 'a'"}`, "/filter"},
		{`{"filter":7}`, "/filter"},
		{`{"scop":{"object":"course/41"}}`, "/scop"},
		{`{"scope":{"object":"course/404"}}`, "/scope/object"},
		{`{"scope":{"object":"course/41","applies":"everything"}}`, "/scope/applies"},
		{`{"types":["core.*_x"]}`, "/types/0"},
		{`{"recipients":[{"workflow":{"origins":["contest"]}}]}`, "/recipients/0/workflow/origins/0"},
		{`{"recipients":[{"computed":{"expression":"event.x"}}]}`, "/recipients/0/computed/expression"},
		{`{"recipients":[{}]}`, "/recipients/0"},
		{`{"notify":[{"endpoint":"ep_unknown"}]}`, "/notify/0/endpoint"},
		{`{"notify":[{"channels":["pigeon"]}]}`, "/notify/0/channels/0"},
		{`{"notify":[{"script":"rm"}]}`, "/notify/0/script"},
		{`{"frequency":"dayly"}`, "/frequency/every"},
		{`{"frequency":{"every":"daily","at":"25:00"}}`, "/frequency/at"},
		{`{"condition":{"count":5}}`, "/condition/within"},
		{`{"joining":{"who":"roles"}}`, "/joining/roles"},
	} {
		h.wantFault(422, c.pointer, "POST", "/v1/subscriptions", c.body)
	}
	// People may come later than the subscription that names them.
	var s api.Stored
	h.want(201, "POST", "/v1/subscriptions", `{"recipients":[{"explicit":{"users":["user/404"],"groups":["nobody"]}}]}`).into(t, &s)
	if len(s.Warnings) != 2 || !strings.Contains(strings.Join(s.Warnings, " "), "user/404") {
		t.Errorf("%+v", s)
	}
	for _, body := range []string{`{`, ``, `[]x`, "{\"title\":\"\xff\"}"} {
		h.want(400, "POST", "/v1/subscriptions", body).problem(t)
	}
	h.want(413, "POST", "/v1/subscriptions", `{"title":"`+strings.Repeat("x", 10<<20)+`"}`).problem(t)
	h.want(415, "POST", "/v1/subscriptions", `title=x`, "Content-Type", "application/x-www-form-urlencoded").problem(t)
	h.want(415, "POST", "/v1/subscriptions", `{}`, "Content-Type", "application/json; charset=iso-8859-1").problem(t)
	h.want(413, "POST", "/v1/users:batch", `[`+strings.Repeat(`{"id":"a"},`, 10_000)+`{"id":"b"}]`).problem(t)
}

// feature: PEER-2 secrets that rotate.
func TestEndpoints(t *testing.T) {
	h := newHouse(t)
	a := h.want(201, "POST", "/v1/endpoints", `{"url":"https://hooks.example/x","format":"standard","headers":{"X-A":"b"},"rate_per_second":0,"ordered":"none","timeout":"15s"}`)
	var e api.IssuedEndpoint
	a.into(t, &e)
	if !strings.HasPrefix(e.ID, "ep_") || !strings.HasPrefix(e.Secret, "whsec_") || e.State != "active" {
		t.Fatalf("%s", a.body)
	}
	item := "/v1/endpoints/" + e.ID
	for _, path := range []string{item, "/v1/endpoints"} {
		if a := h.want(200, "GET", path, ""); strings.Contains(a.body, "whsec_") || strings.Contains(a.body, "sealed") {
			t.Errorf("%s shows a secret: %s", path, a.body)
		}
	}
	var rotated api.IssuedEndpoint
	h.want(200, "POST", item+"/rotate-secret", "").into(t, &rotated)
	if rotated.Secret == e.Secret || !strings.HasPrefix(rotated.Secret, "whsec_") {
		t.Errorf("%+v", rotated)
	}
	if a := h.want(200, "GET", item+"/status", ""); !strings.Contains(a.body, `"breaker":"closed"`) {
		t.Errorf("%s", a.body)
	}
	h.want(404, "GET", "/v1/endpoints/ep_unknown/status", "")
	h.want(200, "PATCH", item, `{"description":"Records","ordered":"object","concurrency":3}`)
	var p belfry.Endpoint
	h.want(200, "POST", item+"/pause", `{"because":"moving"}`).into(t, &p)
	if p.State != "paused" || p.Because != "moving" || p.Description != "Records" {
		t.Errorf("%+v", p)
	}
	h.want(200, "POST", item+"/resume", "")
	if a := h.want(200, "POST", item+"/test", ""); !strings.Contains(a.body, `"outcome":"delivered"`) {
		t.Errorf("%s", a.body)
	}
	for _, c := range []struct{ body, pointer string }{
		{`{"url":"ftp://x"}`, "/url"}, {`{}`, "/url"}, {`{"url":"https://x.example","ordered":"strict"}`, "/ordered"}, {`{"url":"https://x.example","timeout":"soon"}`, "/timeout"},
	} {
		h.wantFault(422, c.pointer, "POST", "/v1/endpoints", c.body)
	}
	// What will not work as things are is said whenever one is saved or read, and
	// is not a member of what is saved.
	warned := func(a answer, want int) {
		t.Helper()
		var got api.StoredEndpoint
		a.into(t, &got)
		if len(got.Warnings) != want || want > 0 && got.Warnings[0] != "nothing will arrive there: 10.0.0.1 is private" {
			t.Errorf("%q, want %d", got.Warnings, want)
		}
	}
	warned(a, 0)
	warned(h.want(201, "POST", "/v1/endpoints", `{"url":"http://10.0.0.1:8080/x"}`), 1)
	warned(h.want(200, "PUT", item, `{"url":"http://10.0.0.1/x"}`), 1)
	warned(h.want(200, "GET", item, ""), 1)
	warned(h.want(200, "PUT", item, `{"url":"https://hooks.example/x","warnings":["read back"]}`), 0)
	warned(h.want(200, "PATCH", item, `{"url":"http://10.0.0.1/x"}`), 1)
	h.want(204, "DELETE", item, "")
	h.want(404, "POST", item+"/test", "").problem(t)
}

func TestCatalogueTemplatesChannelsAndSources(t *testing.T) {
	h := newHouse(t)
	h.want(201, "PUT", "/v1/event-types/core.course_updated", `{"title":"Course changed","schema":{"type":"object","required":["shortname"]}}`)
	h.want(200, "PUT", "/v1/event-types/core.course_updated", `{"title":"Course changed","schema":{"type":"object","required":["shortname"]},"channels":{"default":["inbox"]}}`)
	p := h.want(422, "POST", "/v1/events", `{"type":"core.course_updated","data":{}}`).problem(t)
	if len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Pointer, "/data") {
		t.Errorf("%+v", p)
	}
	h.post(202, `{"type":"core.course_updated","data":{"shortname":"CPR"}}`)
	h.want(422, "PUT", "/v1/event-types/a.b", `{"schema":7}`).problem(t)
	var ts struct{ Items []belfry.EventType }
	h.want(200, "GET", "/v1/event-types", "").into(t, &ts)
	if len(ts.Items) != 1 {
		t.Errorf("%+v", ts)
	}
	// What was answered with warnings can be put back.
	h.want(201, "PUT", "/v1/users/user%2F8", `{"name":"Ada"}`)
	for path, body := range map[string]string{"/v1/event-types/a.b": `{"see_roles":["typed"]}`, "/v1/presets/p": `{"roles":["presetter"],"subscription":{"types":["*"],"notify":[{"channels":["inbox"]}]}}`} {
		role := map[bool]string{true: "presetter", false: "typed"}[strings.Contains(path, "preset")]
		warning := "nobody was given the role " + role + " yet"
		if a := h.want(201, "PUT", path, body); !strings.Contains(a.body, warning) {
			t.Errorf("%s: %s", path, a.body)
		}
		a := h.want(200, "GET", path, "")
		if !strings.Contains(a.body, warning) {
			t.Errorf("%s: %s", path, a.body)
		}
		h.want(200, "PUT", path, a.body)
		if a := h.want(200, "PATCH", path, `{"title":"T"}`, "Content-Type", "application/merge-patch+json"); !strings.Contains(a.body, warning) || !strings.Contains(a.body, `"T"`) {
			t.Errorf("%s: %s", path, a.body)
		}
		// A warning that is not true any more is no longer answered, whatever the
		// reader kept; an edit of what was stored is still one of that.
		tag := h.want(200, "GET", path, "").header.Get("ETag")
		h.want(304, "GET", path, "", "If-None-Match", tag)
		h.want(200, "PUT", "/v1/objects/root/grants", `[{"principal":"user/8","role":"`+role+`"}]`)
		if a := h.want(200, "GET", path, "", "If-None-Match", tag); strings.Contains(a.body, warning) || a.header.Get("ETag") == tag {
			t.Errorf("%s: %s %s", path, a.header.Get("ETag"), a.body)
		}
		h.want(200, "PATCH", path, `{"title":"U"}`, "Content-Type", "application/merge-patch+json", "If-Match", tag)
		h.want(412, "PATCH", path, `{"title":"V"}`, "Content-Type", "application/merge-patch+json", "If-Match", tag)
		h.want(204, "DELETE", path, "")
	}
	h.wantFault(422, "/name", "PUT", "/v1/event-types/belfry.course_updated", `{"title":"Mine"}`)
	if p := h.want(422, "PUT", "/v1/event-types/belfry.subscription_end", `{"title":"Mine"}`).problem(t); !strings.HasSuffix(p.Errors[0].Message, "did you mean belfry.subscription_ended?") {
		t.Errorf("%+v", p)
	}
	h.want(201, "PUT", "/v1/event-types/belfry.subscription_ended", `{"channels":{"default":["inbox"]}}`)
	h.want(204, "DELETE", "/v1/event-types/belfry.subscription_ended", "")
	h.want(204, "DELETE", "/v1/event-types/core.course_updated", "")

	h.want(201, "PUT", "/v1/templates/course", `{"subject":"News","body":"Something **changed**"}`)
	h.want(200, "GET", "/v1/templates", "")
	h.want(422, "PUT", "/v1/templates/bad", `{"subject":"{{#open}}","body":""}`).problem(t)
	if a := h.want(200, "POST", "/v1/templates/preview", `{"subject":"Hello","body":"x","sample":{"id":"","source":"","type":"a.b","time":"2026-05-09T09:31:16Z"}}`); !strings.Contains(a.body, `"title":"Hello"`) || !strings.Contains(a.body, "x a.b") {
		t.Errorf("%s", a.body)
	}
	h.wantFault(422, "/event", "POST", "/v1/templates/preview", `{"subject":"Hello","body":"x"}`)
	h.wantFault(422, "/event", "POST", "/v1/templates/preview", `{"subject":"Hello","body":"x","event":"evt_unknown"}`)
	h.wantFault(422, "/body", "POST", "/v1/templates/preview", `{"subject":"a","body":"{{nothing}}","sample":{"type":"a.b"}}`)

	for _, c := range []struct{ put, get string }{{"/v1/channels/email", "/v1/channels"}, {"", "/v1/sources"}} {
		body, item := `{"kind":"email","settings":{"host":"mail.example","password":"hunter2"}}`, c.put
		if c.put == "" {
			var s api.ConfiguredView
			h.want(201, "POST", "/v1/sources", `{"name":"school","kind":"moodle","settings":{"host":"db.example","password":"hunter2"}}`).into(t, &s)
			item = "/v1/sources/" + s.ID
			body = `{"name":"school","kind":"moodle","settings":{"host":"db2.example"}}`
			h.want(200, "PUT", item, body)
			if a := h.want(200, "GET", item+"/status", ""); a.body != "{\"state\":\"stopped\",\"lag_ms\":0}\n" {
				t.Errorf("%s", a.body)
			}
			h.want(404, "GET", "/v1/sources/src_unknown/status", "").problem(t)
			h.want(409, "POST", "/v1/sources", `{"name":"school","kind":"moodle","settings":{"host":"x"}}`).problem(t)
		} else {
			h.want(201, "PUT", item, body)
			h.wantFault(422, "/settings/host", "PUT", item, `{"kind":"email","settings":{}}`)
			h.wantFault(422, "/setings", "PUT", item, `{"kind":"email","setings":{}}`)
			h.want(404, "POST", "/v1/channels/pigeon/test", `{"address":"x"}`).problem(t)
		}
		var l api.ConfiguredList
		for _, path := range []string{item, c.get} {
			a := h.want(200, "GET", path, "")
			if strings.Contains(a.body, "hunter2") || !strings.Contains(a.body, `"secret":["password"]`) {
				t.Errorf("%s: %s", path, a.body)
			}
			a.into(t, &l)
		}
		if c.put != "" { // and one that is always there
			if n := len(l.Items); n != 2 || !l.Items[1].Builtin {
				t.Errorf("%+v", l)
			}
			l.Items = l.Items[:1]
		}
		if len(l.Kinds) != 1 || len(l.Kinds[0].Settings) != 2 || len(l.Items) != 1 || l.Items[0].Builtin {
			t.Errorf("%+v", l)
		}
		h.want(204, "DELETE", item, "")
	}
}

package manage

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

const manifestText = `{"belfry":1,"name":"paper",
 "event_types":[{"name":"paper.news","title":"News"}],
 "filters":[{"name":"front","filter":"event.data.page == 1"}],
 "templates":[{"name":"news","subject":"News","body":"Read it"},{"name":"news","object":"course/41","subject":"News of CPR","body":"Read it"}],
 "groups":[{"id":"desk","name":"Desk","members":["user/9","user/8"]}],
 "endpoints":[{"name":"press","url":"https://press.example/in","headers":{"X-Key":"1"}}],
 "presets":[{"name":"local","roles":["teacher"],"subscription":{"types":["paper.news"],"notify":[{"endpoint":"press"}]}}],
 "subscriptions":[{"name":"front-page","title":"Front page","types":["paper.news"],"filters":["front"],"recipients":[{"explicit":{"groups":["desk"]}}],"notify":[{"channels":["inbox"],"template":"news"},{"endpoint":"press"}]}],
 "settings":{"webhooks":"on","name":"The Paper"}}`

func manifestOf(t *testing.T, text string) (m Manifest) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (h *house) applies(file Manifest, o ApplyOptions) ManifestReport {
	h.t.Helper()
	r, err := h.ApplyManifest(h.ctx(), by, file, o)
	h.ok(err)
	return r
}

func actions(r ManifestReport) (list []string) {
	for _, c := range r.Changes {
		if c.Action != ManifestUnchanged {
			line := c.Action + " " + c.Kind + " " + c.Name
			for _, d := range c.Diff {
				line += " " + d.Pointer + ": " + string(d.Before) + " -> " + string(d.After)
			}
			list = append(list, line)
		}
	}
	return list
}

// A manifest is checked and shown by a dry run, applied, and applied again
// without a change; what it names by names of its own is found again; what
// others changed is shown as a difference and put back.
// feature: CPS-32
func TestManifest(t *testing.T) {
	h := open(t).school()
	file := manifestOf(t, manifestText)
	want := []string{"create event_types paper.news", "create filters front", "create templates news", "create templates news course/41", "create groups desk",
		"create endpoints press", "create presets local", "create subscriptions front-page"}
	dry := h.applies(file, ApplyOptions{DryRun: true})
	got := actions(dry)
	if len(got) != 9 || !strings.HasPrefix(got[8], "update settings tenant /name:") {
		t.Errorf("%q", got)
	}
	h.same("dry run", got[:8], want)
	if _, _, err := h.Filter(h.ctx(), by.Tenant, "front"); belfry.KindOf(err) != belfry.NotFound {
		t.Fatalf("a dry run did something: %v", err)
	}
	if ms, _, err := h.Manifests(h.ctx(), by.Tenant, "", 10); err != nil || len(ms) != 0 {
		t.Fatalf("%+v %v", ms, err)
	}
	done := h.applies(file, ApplyOptions{})
	h.same("applied", actions(done), got)
	secret := ""
	for _, c := range done.Changes {
		if c.Kind == partEndpoints {
			secret = c.Secret
		}
	}
	if !strings.HasPrefix(secret, "whsec_") {
		t.Errorf("secret %q", secret)
	}
	id := done.Changes[len(done.Changes)-2].ID
	s, err := h.Subscription(h.ctx(), by.Tenant, id)
	h.ok(err)
	if s.Origin != belfry.FromManifest || s.Combined == "" || !strings.HasPrefix(s.Notify[1].Endpoint, "ep_manifest") {
		t.Errorf("%+v", s.Subscription)
	}
	again := h.applies(file, ApplyOptions{Prune: true})
	if again.Unchanged != 9 || len(actions(again)) != 0 {
		t.Errorf("again: %q", actions(again))
	}
	if now, err := h.Subscription(h.ctx(), by.Tenant, id); err != nil || now.Version != s.Version {
		t.Errorf("applying again wrote it: %v %v", now.Version, err)
	}

	next := s.Subscription
	next.Title = "Mine"
	_, err = h.PutSubscription(h.ctx(), by, next, nil)
	h.ok(err)
	file.Filters[0].Filter = "event.data.page < 3"
	h.same("changed by others and in the file", actions(h.applies(file, ApplyOptions{})),
		[]string{`update filters front /filter: "event.data.page == 1" -> "event.data.page \u003c 3"`, `update subscriptions front-page /title: "Mine" -> "Front page"`})
	if s, err = h.Subscription(h.ctx(), by.Tenant, id); err != nil || s.Title != "Front page" || !strings.Contains(s.Combined, "< 3") {
		t.Errorf("%+v %v", s.Subscription, err)
	}
}

// Things that left a manifest stay until it is pruned; only what it made goes,
// of the parts it has, and not what another manifest keeps.
// feature: CPS-32
func TestManifestPrune(t *testing.T) {
	h := open(t).school()
	_, _, _, err := h.PutFilter(h.ctx(), by, belfry.SavedFilter{Name: "mine", Filter: "true"}, nil)
	h.ok(err)
	h.applies(manifestOf(t, `{"belfry":1,"name":"a","filters":[{"name":"mine","filter":"false"},{"name":"one","filter":"true"},{"name":"two","filter":"true"}],
		"templates":[{"name":"t","subject":"s","body":"b"}],"subscriptions":[{"name":"s","types":["a.b"],"filters":["one"]}]}`), ApplyOptions{})
	h.applies(manifestOf(t, `{"belfry":1,"name":"b","filters":[{"name":"two","filter":"true"}]}`), ApplyOptions{})
	rest := manifestOf(t, `{"belfry":1,"name":"a","filters":[],"subscriptions":[]}`)
	left := []string{"left subscriptions s", "left filters one"}
	h.same("not pruned", actions(h.applies(rest, ApplyOptions{})), left)
	h.same("not pruned, again", actions(h.applies(rest, ApplyOptions{})), left)
	gone := []string{"delete subscriptions s", "delete filters one"}
	h.same("would be pruned", actions(h.applies(rest, ApplyOptions{Prune: true, DryRun: true})), gone)
	h.same("pruned", actions(h.applies(rest, ApplyOptions{Prune: true})), gone)
	h.same("pruned, again", actions(h.applies(rest, ApplyOptions{Prune: true})), nil)
	fs, _, err := h.Filters(h.ctx(), by.Tenant, "", 10)
	h.ok(err)
	var names []string
	for _, f := range fs {
		names = append(names, f.Name)
	}
	h.same("filters", names, []string{"mine", "two"})
	if _, _, err := h.Template(h.ctx(), by.Tenant, "t", ""); err != nil {
		t.Errorf("a part that the manifest does not have: %v", err)
	}
	// It begins again under the same id.
	r := h.applies(manifestOf(t, `{"belfry":1,"name":"a","subscriptions":[{"name":"s","types":["a.b"]}]}`), ApplyOptions{})
	s, err := h.Subscription(h.ctx(), by.Tenant, r.Changes[0].ID)
	h.ok(err)
	if r.Created != 1 || s.State != belfry.SubscriptionActive {
		t.Errorf("%+v %+v", r, s.Subscription)
	}
}

// When something is wrong nothing is done, and every fault has its place.
// feature: CPS-32
func TestManifestRefused(t *testing.T) {
	h := open(t).school()
	for _, c := range []struct {
		text   string
		faults []string
	}{
		{`{"belfry":2,"name":"a b"}`, []string{"/belfry: write 1", "/name: letters"}},
		{`{"belfry":1,"filters":[{"name":"a","filter":"true"},{"name":"a","filter":"true"}]}`, []string{"/filters/1: comes twice"}},
		{`{"belfry":1,"subscriptions":[{"name":"s","state":"active"},{"title":"t"}]}`, []string{"/subscriptions/0: server's to say", "/subscriptions/1: has no name"}},
		{`{"belfry":1,"endpoints":[{"name":"e","url":"https://x.example","id":"ep_1"}]}`, []string{"/endpoints/0: server's to say"}},
		{`{"belfry":1,"filters":[{"name":"ok","filter":"true"},{"name":"bad","filter":"event.("}],"subscriptions":[{"name":"s","scope":{"object":"course/99"},"filters":["ok","none"]}],
		   "presets":[{"name":"p","subscription":{"notify":[{"template":"none"}]}}],"templates":[{"name":"t","object":"course/99","subject":"s","body":"b"}]}`,
			[]string{"/filters/1/filter: ", "/subscriptions/0/filters/1: no filter", "/presets/0/subscription/notify/0/template: no template", "/templates/0: no object"}},
	} {
		_, err := h.ApplyManifest(h.ctx(), by, manifestOf(t, c.text), ApplyOptions{})
		h.refused(err, belfry.Invalid, c.faults...)
	}
	if fs, _, err := h.Filters(h.ctx(), by.Tenant, "", 10); err != nil || len(fs) != 0 {
		t.Errorf("%+v %v", fs, err)
	}
	// A preset that is on somewhere is not pruned from under it.
	h.applies(manifestOf(t, `{"belfry":1,"presets":[{"name":"p","subscription":{"types":["a.b"]}}]}`), ApplyOptions{})
	_, _, err := h.SwitchPreset(h.ctx(), by, "p", "course/41", "", true)
	h.ok(err)
	_, err = h.ApplyManifest(h.ctx(), by, manifestOf(t, `{"belfry":1,"presets":[]}`), ApplyOptions{Prune: true})
	h.refused(err, belfry.Invalid, "/presets: is on at course/41")
}

// What is exported is the configuration: applied where it came from it changes
// nothing, and applied elsewhere it makes the same.
// feature: CPS-32
func TestConfigurationExport(t *testing.T) {
	h := open(t).school()
	h.applies(manifestOf(t, manifestText), ApplyOptions{})
	_, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: "By hand", Types: []string{"paper.news"}, Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"user/8"}}}}})
	h.ok(err)
	h.roles = rolesHeld{"user/8 at root": "student"}
	_, err = h.Subscribe(h.ctx(), by, "user/8", Wish{Types: []string{"paper.news"}})
	h.ok(err)
	_, _, err = h.SwitchPreset(h.ctx(), by, "local", "course/41", "", true)
	h.ok(err)
	h.ok(h.PutGroups(h.ctx(), By{Tenant: by.Tenant, Who: "moodle", Origin: "email/school"}, []belfry.Group{{ID: "cohort/1"}}))
	_, _, err = h.CreateSource(h.ctx(), by, ConfiguredDraft{Name: "school", Kind: "email", Settings: map[string]string{"url": "x"}})
	h.ok(err)
	file, err := h.Configuration(h.ctx(), by.Tenant)
	h.ok(err)
	count := []int{len(file.EventTypes), len(file.Filters), len(file.Templates), len(file.Groups), len(file.Endpoints), len(file.Presets), len(file.Subscriptions)}
	if !slices.Equal(count, []int{1, 1, 2, 3, 1, 1, 2}) || file.Settings == nil || file.Endpoints[0].Headers != nil {
		t.Errorf("%v %+v", count, file)
	}
	raw, err := json.Marshal(file)
	h.ok(err)
	for _, hidden := range []string{"whsec_", "X-Key", `"origin"`, `"state"`, "0001-01-01"} {
		if strings.Contains(string(raw), hidden) {
			t.Errorf("%s in %s", hidden, raw)
		}
	}
	read := manifestOf(t, string(raw))
	if got := actions(h.applies(read, ApplyOptions{DryRun: true})); len(got) != 0 {
		t.Errorf("applied where it came from: %q", got)
	}
	other := open(t).school()
	read = manifestOf(t, strings.ReplaceAll(string(raw), SecretKept, "x"))
	r := other.applies(read, ApplyOptions{})
	if r.Created != 11 { // but the groups that the school has
		t.Errorf("%+v", r)
	}
	back, err := other.Configuration(other.ctx(), by.Tenant)
	h.ok(err)
	titles := func(m Manifest) (list []string) {
		for _, s := range m.Subscriptions {
			list = append(list, s.Title+" "+string(mustJSON(s.Recipients))+string(mustJSON(s.Filters)))
		}
		slices.Sort(list)
		return list
	}
	if d := cmp.Diff(titles(file), titles(back)); d != "" {
		t.Error(d)
	}
	if r := other.applies(read, ApplyOptions{Prune: true}); r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("applied again: %q", actions(r))
	}
}

// Channels, sources and where presets are on are in a manifest as well: secrets
// never leave, and stay where the file says so; a channel that the file sets up
// may be named by what comes after it; what has left the file is switched off.
// feature: CPS-32, CPS-21
func TestManifestWays(t *testing.T) {
	h := open(t).school()
	const text = `{"belfry":1,"name":"w","channels":[{"name":"letters","kind":"email","settings":{"url":"smtp://u:hush@x"}}],
	 "presets":[{"name":"local","subscription":{"types":["paper.news"],"notify":[{"channels":["letters"]}]}}],
	 "sources":[{"name":"school","kind":"email","settings":{"url":"smtp://s:hush@x"},"state":"paused"}],
	 "presets_on":[{"preset":"local","object":"course/41"}]}`
	file := manifestOf(t, text)
	made := []string{"create channels letters", "create presets local", "create sources school", "create presets_on local at course/41"}
	h.same("dry run", actions(h.applies(file, ApplyOptions{DryRun: true})), made)
	if cs, err := h.Channels(h.ctx(), by.Tenant); err != nil || slices.ContainsFunc(cs, func(c ConfiguredView) bool { return c.Name == "letters" }) {
		t.Fatalf("a dry run did something: %+v %v", cs, err)
	}
	h.channels = channelNames{"inbox", "email", "webhook", "letters"} // as the server knows it once it is stored
	h.same("applied", actions(h.applies(file, ApplyOptions{})), made)
	h.same("again", actions(h.applies(file, ApplyOptions{Prune: true})), nil)

	out, err := h.Configuration(h.ctx(), by.Tenant)
	h.ok(err)
	raw := mustJSON(out)
	if strings.Contains(string(raw), "hush") || out.Channels[0].Settings["url"] != SecretKept || out.Sources[0].State != "paused" || len(out.PresetsOn) != 1 {
		t.Errorf("exported: %s", raw)
	}
	out.Name = "w"
	h.same("the export, where it came from", actions(h.applies(manifestOf(t, string(mustJSON(out))), ApplyOptions{Prune: true})), nil)
	c, err := h.configured(h.ctx(), by.Tenant, belfry.KindChannel, "letters")
	h.ok(err)
	if clear, err := c.Open(h.box, by.Tenant); err != nil || clear["url"] != "smtp://u:hush@x" {
		t.Errorf("kept: %v %v", clear, err)
	}

	// Elsewhere what is to be kept must be given first; then both are the same.
	other := open(t).school()
	_, err = other.ApplyManifest(other.ctx(), by, out, ApplyOptions{})
	other.refused(err, belfry.Invalid, "/channels/0/settings/url: none is stored", "/sources/0/settings/url: none is stored")
	given := manifestOf(t, strings.ReplaceAll(string(mustJSON(out)), SecretKept, "smtp://u:new@x"))
	other.channels = channelNames{"inbox", "email", "webhook", "letters"}
	other.applies(given, ApplyOptions{})
	back, err := other.Configuration(other.ctx(), by.Tenant)
	h.ok(err)
	back.Name = "w"
	if !sameConfiguration(t, raw, mustJSON(back)) {
		t.Errorf("exported from there: %s, want %s", mustJSON(back), raw)
	}
	other.same("another secret", actions(other.applies(manifestOf(t, text), ApplyOptions{})),
		[]string{`update channels letters /settings/url: "secret: kept" -> "secret: another"`, `update sources school /settings/url: "secret: kept" -> "secret: another"`})
	_, err = other.ApplyManifest(other.ctx(), by, manifestOf(t, `{"belfry":1,"sources":[{"name":"s","kind":"email","settings":{"url":"secret: env X"}}]}`), ApplyOptions{})
	other.refused(err, belfry.Invalid, "/sources/0/settings/url: belfry apply reads it")

	rest := manifestOf(t, `{"belfry":1,"name":"w","channels":[],"sources":[],"presets_on":[]}`)
	h.same("left", actions(h.applies(rest, ApplyOptions{})), []string{"left presets_on local at course/41", "left sources school", "left channels letters"})
	_, err = h.ApplyManifest(h.ctx(), by, manifestOf(t, `{"belfry":1,"name":"w","presets":[]}`), ApplyOptions{Prune: true})
	h.refused(err, belfry.Invalid, "/presets: is on at course/41")
	h.same("pruned", actions(h.applies(rest, ApplyOptions{Prune: true})), []string{"delete presets_on local at course/41", "delete sources school", "delete channels letters"})
	if places, _, err := h.PresetPlaces(h.ctx(), by.Tenant, "local", "", 10); err != nil || len(places) != 0 {
		t.Errorf("%+v %v", places, err)
	}
	h.same("on again", actions(h.applies(manifestOf(t, `{"belfry":1,"name":"w","presets_on":[{"preset":"local","object":"course/41"}]}`), ApplyOptions{})), []string{"create presets_on local at course/41"})
}

// sameConfiguration compares two exports, whatever they are called.
func sameConfiguration(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		t.Fatal("an export is not JSON")
	}
	delete(x, "name")
	delete(y, "name")
	return cmp.Equal(x, y)
}

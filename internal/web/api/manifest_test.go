package api_test

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
)

// feature: CPS-32
func TestConfigurationCalls(t *testing.T) {
	h := newHouse(t)
	const file = `{"belfry":1,"filters":[{"name":"front","filter":"event.data.page == 1"}],"subscriptions":[{"name":"s","types":["a.b"],"filters":["front"]}]}`
	var r manage.ManifestReport
	h.want(200, "POST", "/v1/configuration:apply?dry_run=true", file).into(t, &r)
	if r.Created != 2 || !r.DryRun || r.Name != "default" {
		t.Errorf("%+v", r)
	}
	h.want(404, "GET", "/v1/filters/front", "")
	h.want(200, "POST", "/v1/configuration:apply", file)
	r = manage.ManifestReport{}
	h.want(200, "POST", "/v1/configuration:apply", file).into(t, &r)
	if r.Unchanged != 2 || r.Created != 0 {
		t.Errorf("%+v", r)
	}
	var m manage.Manifest
	a := h.want(200, "GET", "/v1/configuration", "")
	a.into(t, &m)
	if len(m.Filters) != 1 || len(m.Subscriptions) != 1 || m.Settings != nil {
		t.Errorf("%+v", m)
	}
	r = manage.ManifestReport{}
	h.want(200, "POST", "/v1/configuration:apply?dry_run=true&prune=true", a.body).into(t, &r)
	if r.Unchanged != 2 || r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("%+v", r)
	}
	r = manage.ManifestReport{}
	h.want(200, "POST", "/v1/configuration:apply?prune=true", `{"belfry":1,"subscriptions":[]}`).into(t, &r)
	if r.Deleted != 1 {
		t.Errorf("%+v", r)
	}
	var list struct{ Items []belfry.AppliedManifest }
	h.want(200, "GET", "/v1/configuration/manifests", "").into(t, &list)
	if len(list.Items) != 1 || len(list.Items[0].Entries) != 1 || list.Items[0].Entries[0].Name != "front" {
		t.Errorf("%+v", list)
	}
	h.wantFault(422, "/filtrs", "POST", "/v1/configuration:apply", `{"belfry":1,"filtrs":[]}`)
	h.wantFault(422, "/subscriptions/0/typs", "POST", "/v1/configuration:apply", `{"belfry":1,"subscriptions":[{"name":"x","typs":[]}]}`)
	h.wantFault(422, "/filters/0/filter", "POST", "/v1/configuration:apply", `{"belfry":1,"filters":[{"name":"x","filter":"("}]}`)
	h.want(403, "POST", "/v1/configuration:apply", file, "Authorization", "Bearer "+h.key("default", "read"))
}

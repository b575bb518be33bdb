package manage

import (
	"encoding/json"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What a tenant may send in all is of channels that are shared and send to
// addresses, and the tenant sees it.
// feature: S3-20
func TestTenantLimits(t *testing.T) {
	h := open(t)
	h.refused(h.CheckTenantLimits(map[string]belfry.ChannelLimit{"inbox": {PerDay: 1}, "pigeon": {PerDay: 1}, "email": {}}), belfry.Invalid,
		`/limits/email: must be above 0`, `/limits/inbox: no channel "inbox"`, `/limits/pigeon: no channel "pigeon"`)
	h.refused(h.CheckTenantLimits(map[string]belfry.ChannelLimit{"email": {PerDay: 5, PerMinute: -1}}), belfry.Invalid, "/limits/email: must be above 0")
	limits := belfry.TenantLimits{Limits: map[string]belfry.ChannelLimit{"email": {PerMinute: 5, PerDay: 100}}}
	h.ok(h.CheckTenantLimits(limits.Limits))
	body, err := json.Marshal(limits)
	h.ok(err)
	_, err = h.db.Apply(h.ctx(), belfry.Changes{Tenant: belfry.AllTenants, Documents: []belfry.Document{{Kind: belfry.KindTenant, ID: by.Tenant, Body: body}}})
	h.ok(err)
	list, err := h.Channels(h.ctx(), by.Tenant)
	h.ok(err)
	for _, v := range list {
		if got := v.Limit; v.Name == "email" && (got == nil || *got != limits.Limits["email"]) || v.Name != "email" && got != nil {
			t.Errorf("%s: %+v", v.Name, got)
		}
	}
	if v, _, err := h.Channel(h.ctx(), by.Tenant, "email"); err != nil || v.Limit == nil || v.Limit.PerDay != 100 {
		t.Errorf("%+v, %v", v, err)
	}
	if v, _, err := h.Channel(h.ctx(), "another", "email"); err != nil || v.Limit != nil {
		t.Errorf("another tenant: %+v, %v", v, err)
	}
}

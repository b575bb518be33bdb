package manage

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

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
	now := time.Date(2026, 12, 9, 23, 58, 30, 0, time.UTC)
	h.now = now
	midnight := time.Date(2026, 12, 10, 0, 0, 0, 0, time.UTC)
	for _, p := range []belfry.Permits{{Span: time.Minute, Start: now.Truncate(time.Minute).Add(-time.Minute), Used: 5}, {Span: 24 * time.Hour, Start: midnight.Add(-24 * time.Hour), Used: 98}} {
		_, err := h.db.TakePermits(h.ctx(), by.Tenant, belfry.ShareOf("email"), p.Start, p.Span, 1000, p.Used)
		h.ok(err)
	}
	for _, ask := range []func() (*belfry.ChannelUsage, error){
		func() (*belfry.ChannelUsage, error) {
			v, _, err := h.Channel(h.ctx(), by.Tenant, "email")
			return v.Usage, err
		},
		func() (*belfry.ChannelUsage, error) {
			list, err := h.Channels(h.ctx(), by.Tenant)
			i := slices.IndexFunc(list, func(v ConfiguredView) bool { return v.Name == "email" })
			return list[i].Usage, err
		},
		func() (*belfry.ChannelUsage, error) {
			all, err := h.TenantUsage(h.ctx(), by.Tenant, limits.Limits)
			u := all["email"]
			return &u, err
		},
	} {
		u, err := ask()
		h.ok(err)
		if u == nil || *u.Minute != (belfry.WindowUsage{Remaining: 5, Frees: midnight.Add(-time.Minute)}) || *u.Day != (belfry.WindowUsage{Used: 98, Remaining: 2, Frees: midnight}) {
			t.Errorf("%+v %+v", u.Minute, u.Day)
		}
	}
	if v, _, err := h.Channel(h.ctx(), "another", "email"); err != nil || v.Limit != nil {
		t.Errorf("another tenant: %+v, %v", v, err)
	}
}

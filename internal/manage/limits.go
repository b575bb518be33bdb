package manage

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// Bounds of limits on what one person gets.
const (
	maxThrottle = 100
	maxPerDay   = 1000
	longestSpan = 90 * 24 * time.Hour
)

// throttle checks the throttle of a subscription.
func (f *faults) throttle(t *belfry.Throttle) {
	if t == nil {
		return
	}
	if t.Limit < 1 || t.Limit > maxThrottle {
		f.add("/throttle/limit", "must be from 1 to %d messages", maxThrottle)
	}
	f.span("/throttle/window", t.Window, time.Second, longestSpan, "1h")
	if t.Key != "" {
		if len(t.Key) > maxText {
			f.add("/throttle/key", "has %d bytes: at most %d are allowed", len(t.Key), maxText)
		} else {
			_, err := expr.CompileGroup(t.Key)
			f.source("/throttle/key", err)
		}
	}
}

// perDay checks how many messages a day somebody gets.
func (m *Manager) perDay(f *faults, tenant string, most map[string]int) {
	if len(most) > 50 {
		f.add("/max_per_day", "has %d entries: at most %d are allowed", len(most), 50)
		return
	}
	for channel, n := range most {
		p := "/max_per_day/" + escape(channel)
		switch {
		case channel == belfry.ChannelInbox || channel == belfry.ChannelWebhook:
			f.add(p, "is not limited: it holds up nobody")
		case !m.channels.Known(tenant, channel):
			f.add(p, "no channel %q is set up: GET /v1/channels lists those that are", channel)
		case n < 1 || n > maxPerDay:
			f.add(p, "must be from 1 to %d messages a day; leave it out for any number", maxPerDay)
		}
	}
}

// CheckTenantLimits checks what one tenant is allowed of the channels that all
// tenants share.
func (m *Manager) CheckTenantLimits(limits map[string]belfry.ChannelLimit) error {
	f := &faults{}
	kinds := m.channelKinds.Kinds()
	for _, channel := range slices.Sorted(maps.Keys(limits)) {
		p, l := "/limits/"+escape(channel), limits[channel]
		kind := m.channels.Builtin()[channel]
		sends := slices.ContainsFunc(kinds, func(k Kind) bool { return k.Name == kind && k.Contact != "" })
		switch {
		case !sends:
			f.add(p, "no channel %q of the server's configuration sends to addresses: only such are shared", channel)
		case l.PerMinute < 0 || l.PerDay < 0 || l == (belfry.ChannelLimit{}):
			f.add(p, "per_minute and per_day must be above 0; leave the channel out for any number")
		}
	}
	return f.err()
}

// tenantLimits are those of a tenant, by channel.
func (m *Manager) tenantLimits(ctx context.Context, tenant string) (map[string]belfry.ChannelLimit, error) {
	doc, found, err := m.store.Document(ctx, belfry.AllTenants, belfry.KindTenant, tenant)
	if err != nil || !found {
		return nil, err
	}
	var l belfry.TenantLimits
	if err := json.Unmarshal(doc.Body, &l); err != nil {
		return nil, belfry.Errorf(belfry.Internal, "tenant %s is stored in a form this version does not read: %w", tenant, err)
	}
	return l.Limits, nil
}

// TenantUsage is how much a tenant has used of its limits, by channel; nil
// without any.
func (m *Manager) TenantUsage(ctx context.Context, tenant string, limits map[string]belfry.ChannelLimit) (map[string]belfry.ChannelUsage, error) {
	if len(limits) == 0 {
		return nil, nil
	}
	taken, err := m.store.Permits(ctx, tenant)
	if err != nil {
		return nil, err
	}
	now := m.now()
	used := make(map[string]belfry.ChannelUsage, len(limits))
	for channel, l := range limits {
		used[channel] = l.Usage(channel, taken, now)
	}
	return used, nil
}

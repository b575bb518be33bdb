package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/outbound"
)

type ownChannel struct{}

func (ownChannel) Documents(_ context.Context, _, kind, _ string, _ int) ([]belfry.Document, error) {
	if kind == belfry.KindTenant {
		body := []byte(`{"title":"A school","limits":{"email":{"per_minute":5,"per_day":70}}}`)
		return []belfry.Document{{Kind: kind, ID: "own", Body: body}, {Kind: kind, ID: "school", Body: body}}, nil
	}
	body, err := json.Marshal(belfry.Configured{Kind: "email", Settings: map[string]string{"url": "smtp://own.example", "from": "b@own.example", "max_per_day": "7"}})
	return []belfry.Document{{Kind: belfry.KindChannel, ID: "email", Body: body}}, err
}

// The account of a channel of the configuration is the server's, whoever
// sends; that of a tenant's own is the tenant's.
// feature: S3-20
func TestAccountsOfChannels(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	guard := outbound.New(outbound.Options{})
	c, err := newChannels(Kinds(), map[string]map[string]string{"email": {"url": "smtp://mail.example", "from": "a@b.example", "max_per_second": "3", "max_per_day": "1000"}},
		channel.Deps{HTTP: guard.Client(), Dialer: guard.Dialer(), Log: log, Now: (&clock{}).now}, nil, ownChannel{}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.load(t.Context(), "own"); err != nil {
		t.Fatal(err)
	}
	if err := c.share(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := channel.Limits{PerSecond: 3, PerDay: 1000}
	for tenant, want := range map[string]struct {
		owner         string
		limits, share channel.Limits
	}{
		"any":    {belfry.AllTenants, all, channel.Limits{}},
		"school": {belfry.AllTenants, all, channel.Limits{PerMinute: 5, PerDay: 70}},
		"own":    {"own", channel.Limits{PerDay: 7}, channel.Limits{}}, // its own account is its own
	} {
		ch, ok := c.Channel(tenant, "email")
		if !ok || ch.Owner != want.owner || ch.Limits != want.limits || ch.Share != want.share {
			t.Errorf("%s: %+v", tenant, ch)
		}
	}
	if ch, _ := c.Channel("school", belfry.ChannelWebhook); ch.Limits != (channel.Limits{}) || ch.Share != (channel.Limits{}) {
		t.Errorf("webhook: %+v, %+v", ch.Limits, ch.Share)
	}
}

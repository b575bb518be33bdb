package app

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// asker asks endpoints by the way webhooks go.
type asker struct{ channels *channels }

// Ask posts a question to an endpoint, signed and guarded.
func (a asker) Ask(ctx context.Context, tenant string, target channel.Target, m *belfry.Message, most int64) ([]byte, belfry.Outcome) {
	ch, ok := a.channels.Channel(tenant, belfry.ChannelWebhook)
	if !ok {
		return nil, belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "webhooks are not set up"}
	}
	by, ok := ch.Sender.(interface {
		Ask(ctx context.Context, target channel.Target, m *belfry.Message, most int64) ([]byte, belfry.Outcome)
	})
	if !ok {
		return nil, belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "the channel of webhooks does not ask"}
	}
	return by.Ask(ctx, target, m, most)
}

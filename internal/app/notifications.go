package app

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/store"
)

// sendings carry out notifications by hand.
type sendings struct {
	app    *App
	stages *pipeline.Stages
}

// Reach says whom a subscription would tell of an event.
func (s sendings) Reach(ctx context.Context, tenant string, sub *belfry.Subscription, e *belfry.Event) (belfry.Reach, error) {
	return s.stages.Reach(ctx, tenant, sub, e, s.app.clock.now())
}

// Publish hands an event in.
func (s sendings) Publish(ctx context.Context, tenant string, e belfry.Event) (string, error) {
	result, err := s.app.ingest.Admit(ctx, ingest.Origin{Tenant: tenant, Key: belfry.OwnSource, Own: true}, []belfry.Event{e})
	if err != nil {
		return "", err
	}
	if fault := result.Faults[0]; fault != nil {
		return "", fault
	}
	return result.Receipts[0].EventID, nil
}

// Progress counts what became of an event's messages.
func (s sendings) Progress(ctx context.Context, tenant, event string) (p belfry.Progress, err error) {
	rows, err := s.app.db.Trace(ctx, tenant, event, "", store.TracePage{Limit: 1})
	if err != nil {
		return p, err
	}
	p.Planned = rows.Planned
	for state := belfry.Scheduled; state <= belfry.Cancelled; state++ {
		n, err := s.app.db.CountDeliveries(ctx, tenant, belfry.DeliverySelect{Event: event, State: &state})
		if err != nil {
			return p, err
		}
		switch {
		case state.Open():
			p.Open += n
		case state == belfry.Delivered:
			p.Delivered += n
		case state == belfry.Failed:
			p.Failed += n
		default:
			p.Not += n
		}
	}
	return p, nil
}

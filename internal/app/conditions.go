package app

import (
	"context"
	"maps"
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/pipeline"
)

// own makes events of the server itself: they take the way of all others.
type own struct{ app *App }

// Draft makes drafts of events.
func (o own) Draft(ctx context.Context, tenant string, events []belfry.Event) ([]belfry.Draft, error) {
	drafts, _, faults, err := o.app.ingest.Prepare(ctx, ingest.Origin{Tenant: tenant, Key: belfry.OwnSource, Own: true}, events)
	if err != nil {
		return nil, err
	}
	for _, i := range slices.Sorted(maps.Keys(faults)) {
		return nil, belfry.Errorf(belfry.Internal, "event %s of this server is not admitted: %w", events[i].ID, faults[i])
	}
	return drafts, nil
}

// Handover passes on what was accepted.
func (o own) Handover(accepted []belfry.Accepted) { o.app.backlog.Handover(accepted) }

// planPart is what works on plan shards: the planner, which must let go of what
// it has in memory, and conditions, of which nothing is.
type planPart struct {
	*pipeline.Planner
	conditions *pipeline.Conditions
}

// Gained makes both look.
func (p planPart) Gained(shards []int) {
	p.Planner.Gained(shards)
	p.conditions.LookAll()
}

// ended takes what was ended out of memory, here and on other nodes.
func (a *App) ended(tenant string, cancelled, events []string) {
	if len(cancelled) > 0 {
		a.dispatcher.Revoke(tenant, cancelled)
		a.publisher.peers.Tell(belfry.Wake{Tenant: tenant, Edited: true})
	}
	for _, id := range events { // whose plans may have to be ended
		a.planner.Wake(tenant, id)
		a.publisher.peers.Tell(belfry.Wake{Tenant: tenant, Event: id})
	}
}

// PutFollow notes that somebody follows a problem, and what that cancels is
// cancelled here and on other nodes.
func (p *publisher) PutFollow(ctx context.Context, tenant string, f belfry.Follow, source, problem string, audit belfry.AuditEntry) ([]string, error) {
	cancelled, err := p.DB.PutFollow(ctx, tenant, f, source, problem, audit)
	if len(cancelled) > 0 {
		p.dispatcher.Revoke(tenant, cancelled)
		p.peers.Tell(belfry.Wake{Tenant: tenant, Edited: true})
	}
	return cancelled, err
}

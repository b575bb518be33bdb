package app

import (
	"context"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/pipeline"
)

// newTimers wires what is done at a time.
func (a *App) newTimers(here place, facts *pipeline.Facts) *pipeline.Timers {
	now := a.clock.now
	escalations := &pipeline.Escalations{Subscriptions: a.subs, Now: now}
	reminders := &pipeline.Reminders{
		Facts: facts, Now: now,
		Admit: func(ctx context.Context, tenant string, e belfry.Event) error {
			_, err := a.ingest.Admit(ctx, ingest.Origin{Tenant: tenant, Key: "belfry", Own: true}, []belfry.Event{e})
			return err
		},
	}
	return &pipeline.Timers{
		Store: a.db, Shards: here, Ordered: alarm{a, here}.Replayed, Log: a.log, Now: now,
		Kinds: map[string]pipeline.TimerKind{
			belfry.TimerEscalation: escalations.Act,
			belfry.TimerMuteEnds:   reminders.Act,
		},
	}
}

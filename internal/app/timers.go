package app

import (
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/pipeline"
)

// newTimers wires what is done at a time.
func (a *App) newTimers(here place) *pipeline.Timers {
	now := a.clock.now
	escalations := &pipeline.Escalations{Subscriptions: a.subs, Now: now}
	return &pipeline.Timers{
		Store: a.db, Shards: here, Ordered: alarm{a, here}.Replayed, Log: a.log, Now: now,
		Kinds: map[string]pipeline.TimerKind{
			belfry.TimerEscalation: escalations.Act,
		},
	}
}

package app

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/jobs"
	"github.com/belfryhq/belfry/internal/pipeline"
)

// newJobs wires the kinds of long work there are.
func (a *App) newJobs(here place, backtests *pipeline.Backtester) *jobs.Runner {
	now := a.clock.now
	bulk := &pipeline.Bulk{Store: a.db, Alarm: alarm{a, here}, Now: now, Lost: jobs.ErrLost}
	return jobs.New(jobs.Options{
		Store: a.db, Owner: belfry.NewID("node_", now()), Log: a.log,
		Kinds: map[string]jobs.Kind{
			belfry.RetryJob:  bulk.Retry,
			belfry.CancelJob: bulk.Cancel,
			belfry.ReplayJob: bulk.Replay,

			belfry.BacktestJob: backtests.Job,
			belfry.EraseJob:    func(ctx context.Context, j *belfry.Job) (belfry.JobStep, error) { return a.manager.EraseStep(ctx, j) },
		},
	})
}

// alarm tells those who plan and send what was changed under them, here and on
// other nodes: what is due by a word, edits by the log of changes.
type alarm struct {
	app  *App
	here place
}

// Revoke takes cancelled deliveries out of memory. The edit that cancelled them
// takes the word to other nodes.
func (l alarm) Revoke(tenant string, ids []string) []bool {
	return l.app.dispatcher.Revoke(tenant, ids)
}

// Retried says that a delivery is due again. Whoever retries by hand believes
// that its destination is well.
func (l alarm) Retried(tenant, destination string, due time.Time) {
	l.app.dispatcher.Recovered(tenant, destination)
	l.due(tenant, due)
}

// Due says that deliveries are due again.
func (l alarm) Due(tenant string, due time.Time) { l.due(tenant, due) }

func (l alarm) due(tenant string, due time.Time) {
	l.app.dispatcher.Wake(tenant, due)
	l.here.Tell(belfry.Wake{Tenant: tenant, Due: due})
}

// Cancelled is Revoke for bulk work, whose edit told nobody yet.
func (l alarm) Cancelled(tenant string, ids []string) {
	l.app.dispatcher.Revoke(tenant, ids)
	l.here.Tell(belfry.Wake{Tenant: tenant, Edited: true})
}

// Replayed says that runs of planning were ordered.
func (l alarm) Replayed(tenant, first string) {
	l.app.planner.Wake(tenant, first)
	l.here.Tell(belfry.Wake{Tenant: tenant, Event: first})
}

// Ordered says that there is a job to be done.
func (l alarm) Ordered() { l.app.jobs.Poke() }

// Gathered says that a digest is due from a time on.
func (l alarm) Gathered(tenant string, due time.Time) {
	l.app.sealer.Expect(tenant, due)
	l.here.Tell(belfry.Wake{Tenant: tenant, Due: due})
}

package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/jobs"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/store"
)

// Held is what Hold did.
type Held struct {
	Cancelled int64 // deliveries
	Unplanned int64 // events that were accepted and not planned: they will be
}

// Hold cancels, with the reason, every delivery that is open in a database
// that no server works on: what was sent after a backup was taken is not
// sent again by a server that starts from it. It takes the way of POST
// /v1/deliveries:cancel, a job of each tenant, done here; whoever wants some of
// them sent retries those.
func Hold(ctx context.Context, url, because string) (h Held, err error) {
	now := (&clock{}).now
	db, err := store.Open(ctx, store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tenants, err := db.Tenants(ctx)
	if err != nil {
		return h, err
	}
	bulk := &pipeline.Bulk{Store: db, Alarm: nobody{}, Now: now, Lost: jobs.ErrLost}
	for _, tenant := range tenants {
		n, err := holdTenant(ctx, db, bulk, tenant, because, now())
		if err != nil {
			return h, err
		}
		h.Cancelled += n
		if n, err = db.PendingPlansOf(ctx, tenant); err != nil {
			return h, err
		}
		h.Unplanned += n
	}
	return h, nil
}

func holdTenant(ctx context.Context, db *store.DB, bulk *pipeline.Bulk, tenant, because string, at time.Time) (int64, error) {
	const who = "restore"
	params, err := json.Marshal(pipeline.CancelParams{Because: "by " + who + ": " + because})
	if err != nil {
		return 0, err
	}
	j := belfry.Job{Tenant: tenant, ID: belfry.NewID(belfry.JobPrefix, at), Kind: belfry.CancelJob, Params: params, Who: who, Created: at, Updated: at}
	if _, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Jobs: []belfry.Job{j},
		Audit: []belfry.AuditEntry{{At: at, Who: who, Action: belfry.CancelJob, Target: "all that was open", Detail: j.ID}}}); err != nil {
		return 0, err
	}
	j, ok, err := db.ClaimJob(ctx, tenant, j.ID, who, time.Hour)
	if err == nil && !ok {
		err = belfry.Errorf(belfry.Conflict, "another process works with the database: stop it first")
	}
	if err != nil {
		return 0, err
	}
	for {
		step, err := bulk.Cancel(ctx, &j)
		if err != nil {
			return 0, err
		}
		if step.State != belfry.JobRunning {
			var done struct{ Cancelled int64 }
			err := json.Unmarshal(step.Result, &done)
			return done.Cancelled, err
		}
		j.Cursor, j.Done, j.Total, j.Result = step.Cursor, step.Done, step.Total, step.Result
	}
}

// nobody is told while no server works.
type nobody struct{}

func (nobody) Due(string, time.Time)      {}
func (nobody) Cancelled(string, []string) {}
func (nobody) Replayed(string, string)    {}

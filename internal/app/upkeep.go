package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/upkeep"
	"github.com/belfryhq/belfry/internal/web/api"
)

// jobsKept is how long jobs can be asked for after their end.
const jobsKept = 30 * 24 * time.Hour

// newUpkeep makes what keeps the database from growing for ever.
func newUpkeep(r config.Retention, db *store.DB, surface *api.Server, gone upkeep.Chore, log *slog.Logger, now func() time.Time) *upkeep.Keeper {
	return upkeep.New(upkeep.Options{
		Store:     db,
		Retention: upkeep.Retention{Events: r.Events, Deliveries: r.Deliveries, Inbox: r.Inbox, Audit: r.Audit, Dedupe: r.Dedupe, Changes: r.Changes},
		Chores: []upkeep.Chore{
			{Name: "answers", Do: func(ctx context.Context, tenant string, _ time.Time) (int, error) {
				return surface.ForgetAnswers(ctx, tenant)
			}},
			{Name: "jobs", Do: func(ctx context.Context, tenant string, now time.Time) (rows int, err error) {
				for {
					n, err := db.PruneJobs(ctx, tenant, now.Add(-jobsKept))
					if rows += n; err != nil || n == 0 {
						return rows, err
					}
				}
			}},
			{Name: "quotas", Do: func(ctx context.Context, tenant string, now time.Time) (rows int, err error) {
				for {
					n, err := db.PruneQuotas(ctx, tenant, now)
					if rows += n; err != nil || n == 0 {
						return rows, err
					}
				}
			}},
			{Name: "asks", Do: func(ctx context.Context, tenant string, now time.Time) (rows int, err error) {
				for {
					n, err := db.PruneAsks(ctx, tenant, now)
					if rows += n; err != nil || n == 0 {
						return rows, err
					}
				}
			}},
			{Name: "acknowledgements", Do: func(ctx context.Context, tenant string, now time.Time) (rows int, err error) {
				for r.Events > 0 {
					n, err := db.PruneAcknowledgements(ctx, tenant, now.Add(-r.Events))
					if rows += n; err != nil || n == 0 {
						return rows, err
					}
				}
				return rows, nil
			}},
			clearDigests(db, r.Deliveries),
			gone,
		},
		Log: log, Now: now,
	})
}

// goneFor is how long ago an object was deleted when its subscriptions end: by
// then what happened to it before has been told, and it was not put back.
const goneFor = time.Hour

// endGone ends the subscriptions of objects that are gone and tells their
// owners and those who joined them by themselves.
func (a *App) endGone() upkeep.Chore {
	return upkeep.Chore{Name: "gone", Do: func(ctx context.Context, tenant string, now time.Time) (int, error) {
		by := manage.By{Tenant: tenant, Who: "belfry"}
		return a.manager.EndGone(ctx, by, now.Add(-goneFor), func(list []manage.GoneNotice) error {
			notices := make([]belfry.Event, len(list))
			for i := range list {
				notices[i] = goneNotice(&list[i])
			}
			_, err := a.ingest.Admit(ctx, ingest.Origin{Tenant: tenant, Key: "belfry", Own: true}, notices)
			return err
		})
	}}
}

// goneNotice is the event by which people hear of it. Its id says which deletion
// it is about: what is put back and deleted again is told again.
func goneNotice(g *manage.GoneNotice) belfry.Event {
	s, what := &g.Subscription, g.Object.Title
	if what == "" {
		what = g.Object.ID
	}
	because := what + " was deleted"
	if g.Others {
		because += "; what else you subscribed to there ended with it"
	}
	return belfry.Event{Source: belfry.OwnSource, Type: belfry.EventSubscriptionEnded, ID: g.Key(),
		Related: g.Who, Data: jsonObject("subscription", s.ID, "title", s.Title, "because", because)}
}

// digestsAtOnce is how many digests one piece of housekeeping removes.
const digestsAtOnce = 64

// clearDigests removes digests when deliveries are.
func clearDigests(db *store.DB, kept time.Duration) upkeep.Chore {
	return upkeep.Chore{Name: "digests", Do: func(ctx context.Context, tenant string, now time.Time) (rows int, err error) {
		for kept > 0 {
			n, err := db.ClearBundles(ctx, tenant, now.Add(-kept), digestsAtOnce)
			if rows += n; err != nil || n == 0 {
				return rows, err
			}
		}
		return 0, nil
	}}
}

// upkeepFigures are the figures of housekeeping and of the disk.
func (a *App) upkeepFigures(ctx context.Context, count, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	s := a.upkeep.Stats()
	count(desc("upkeep_rounds_total", "Rounds of housekeeping."), float64(s.Rounds))
	count(desc("upkeep_failures_total", "Rounds of housekeeping that met an error."), float64(s.Failed))
	gauge(desc("upkeep_waits", "1 while nothing is removed because the clock jumped or nobody kept house for a week."), bit(s.Waits))
	gauge(desc("upkeep_round_seconds", "Time the last round took."), s.Took.Seconds())
	gauge(desc("upkeep_chunk_seconds_max", "Longest time a chunk of removals took of the database's writer."), s.Longest.Seconds())
	if !s.Last.IsZero() {
		gauge(desc("upkeep_last_round_timestamp_seconds", "When the last round ended."), float64(s.Last.UnixMilli())/1e3)
	}
	removed := desc("upkeep_removed_rows_total", "Rows removed because they were old, by table.", "table")
	for table, n := range s.Rows {
		count(removed, float64(n), table)
	}
	dropped := desc("upkeep_dropped_partitions_total", "Partitions dropped because they were old.", "part")
	held := desc("upkeep_held_partitions", "Partitions that are old and hold what is still needed.", "part")
	for _, p := range belfry.Parts() {
		count(dropped, float64(s.Dropped[p]), string(p))
		gauge(held, float64(s.Held[p]), string(p))
	}
	storage, err := a.db.Storage(ctx)
	if err != nil {
		return
	}
	gauge(desc("database_free_bytes", "Room within the database file that is used before it grows (SQLite)."), float64(storage.Free))
	parts := desc("database_partitions", "Partitions of each part of the database (PostgreSQL).", "part")
	for part, n := range storage.Partitions {
		gauge(parts, float64(n), string(part))
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

package pipeline

import (
	"context"
	"encoding/json"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// BulkStore is what bulk work on deliveries and events needs of the store. The
// calls that change something record the job's step with it and answer false
// when the job is not ours any more.
type BulkStore interface {
	FindDeliveries(ctx context.Context, tenant string, f belfry.DeliverySelect, after string, limit int) (ids []string, next string, err error)
	CountDeliveries(ctx context.Context, tenant string, f belfry.DeliverySelect) (int64, error)
	RetryDeliveries(ctx context.Context, j *belfry.Job, ids []string, state belfry.State, due time.Time, step func(n int64) belfry.JobStep) (bool, error)
	CancelDeliveries(ctx context.Context, j *belfry.Job, ids []string, because belfry.Reason, step func(cancelled []string) belfry.JobStep) (bool, error)
	FindEvents(ctx context.Context, tenant string, f belfry.EventSelect, after string, limit int) ([]belfry.EventPlace, string, error)
	CountEvents(ctx context.Context, tenant string, f belfry.EventSelect) (int64, error)
	AddRuns(ctx context.Context, j *belfry.Job, terms belfry.Replay, events []belfry.EventPlace, step func(n int64) belfry.JobStep) (bool, error)
	PendingRuns(ctx context.Context, tenant string, run int64) (bool, error)
	PendingPlansOf(ctx context.Context, tenant string) (int64, error)
}

// Alarm tells those who plan and send what bulk work left for them, here and on
// other nodes.
type Alarm interface {
	Due(tenant string, from time.Time)     // deliveries are due from this time on
	Cancelled(tenant string, ids []string) // deliveries that may be in memory
	Replayed(tenant string, first string)  // runs of planning, from this event on
}

// Bulk does long work on deliveries and events, a step at a time.
type Bulk struct {
	Store BulkStore
	Alarm Alarm
	Now   func() time.Time
	Lost  error // answered when a job is not ours any more
}

// RetryParams are those of a job of kind belfry.RetryJob. Select.State is set.
type RetryParams struct {
	Select belfry.DeliverySelect `json:"select"`
}

// CancelParams are those of a job of kind belfry.CancelJob.
type CancelParams struct {
	Select  belfry.DeliverySelect `json:"select"`
	Because string                `json:"because"`
}

// ReplayParams are those of a job of kind belfry.ReplayJob.
type ReplayParams struct {
	Select belfry.EventSelect `json:"select"`
	Terms  belfry.Replay      `json:"terms"`
}

// Bounds of a step: pages small enough that others share the commit, a count
// that takes long is left out, and replays that wait while much is to be
// planned, for what happens now goes first.
const (
	bulkPage    = 500
	countWithin = 10 * time.Second
	replayPage  = 250
	replayAhead = 1000
	replayWait  = 100 * time.Millisecond
)

func params[P any](j *belfry.Job) (p P, err error) {
	if err := json.Unmarshal(j.Params, &p); err != nil {
		return p, belfry.Errorf(belfry.Internal, "the parameters of the job cannot be read: %w", err)
	}
	return p, nil
}

// total counts what a job will look at, once; 0 when that takes too long.
func total(ctx context.Context, j *belfry.Job, count func(context.Context) (int64, error)) int64 {
	if j.Total > 0 || j.Cursor != "" {
		return j.Total
	}
	short, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	n, err := count(short)
	if err != nil {
		return 0
	}
	return n
}

// plus adds to a number of a job's result.
func plus(j *belfry.Job, name string, n int64) []byte {
	was := map[string]int64{}
	_ = json.Unmarshal(j.Result, &was) // empty at first
	was[name] += n
	text, _ := json.Marshal(was) // numbers always marshal
	return text
}

// next is the step that goes on after looking at so many.
func next(j *belfry.Job, cursor string, looked int, total int64) belfry.JobStep {
	step := belfry.JobStep{Cursor: cursor, Done: j.Done + int64(looked), Total: total, State: belfry.JobRunning, Recorded: true}
	if cursor == "" {
		step.State, step.Total = belfry.JobDone, step.Done
	}
	step.Total = max(step.Total, step.Done)
	return step
}

// boundedBy bounds a range to what there was when the job was ordered.
func boundedBy(until, ordered time.Time) time.Time {
	if ordered = ordered.Add(time.Millisecond); until.IsZero() || until.After(ordered) {
		return ordered
	}
	return until
}

// Retry makes deliveries due again.
func (b *Bulk) Retry(ctx context.Context, j *belfry.Job) (step belfry.JobStep, err error) {
	p, err := params[RetryParams](j)
	if err != nil {
		return step, err
	}
	if p.Select.State == nil {
		return step, belfry.Errorf(belfry.Internal, "the job names no state")
	}
	p.Select.Until = boundedBy(p.Select.Until, j.Created)
	all := total(ctx, j, func(ctx context.Context) (int64, error) { return b.Store.CountDeliveries(ctx, j.Tenant, p.Select) })
	ids, cursor, err := b.Store.FindDeliveries(ctx, j.Tenant, p.Select, j.Cursor, bulkPage)
	if err != nil {
		return step, err
	}
	due := b.Now()
	ok, err := b.Store.RetryDeliveries(ctx, j, ids, *p.Select.State, due, func(n int64) belfry.JobStep {
		step = next(j, cursor, len(ids), all)
		step.Result = plus(j, "retried", n)
		return step
	})
	if err == nil && !ok {
		err = b.Lost
	}
	if err == nil && len(ids) > 0 {
		b.Alarm.Due(j.Tenant, due)
	}
	return step, err
}

// Cancel ends open deliveries.
func (b *Bulk) Cancel(ctx context.Context, j *belfry.Job) (step belfry.JobStep, err error) {
	p, err := params[CancelParams](j)
	if err != nil {
		return step, err
	}
	p.Select.Until, p.Select.Open = boundedBy(p.Select.Until, j.Created), true
	all := total(ctx, j, func(ctx context.Context) (int64, error) { return b.Store.CountDeliveries(ctx, j.Tenant, p.Select) })
	ids, cursor, err := b.Store.FindDeliveries(ctx, j.Tenant, p.Select, j.Cursor, bulkPage)
	if err != nil {
		return step, err
	}
	var cancelled []string
	ok, err := b.Store.CancelDeliveries(ctx, j, ids, belfry.Reason{Code: belfry.CancelledBy, Detail: p.Because}, func(gone []string) belfry.JobStep {
		cancelled = gone
		step = next(j, cursor, len(ids), all)
		step.Result = plus(j, "cancelled", int64(len(gone)))
		return step
	})
	if err == nil && !ok {
		err = b.Lost
	}
	if err == nil && len(cancelled) > 0 {
		b.Alarm.Cancelled(j.Tenant, cancelled)
	}
	return step, err
}

// planning is the cursor of a replay whose runs are all ordered.
const planning = "~planning"

// Replay orders runs of planning for events, few at a time, and ends when all
// are planned.
func (b *Bulk) Replay(ctx context.Context, j *belfry.Job) (step belfry.JobStep, err error) {
	p, err := params[ReplayParams](j)
	if err != nil {
		return step, err
	}
	step = belfry.JobStep{Cursor: j.Cursor, Done: j.Done, Total: j.Total, Result: j.Result, State: belfry.JobRunning}
	if j.Cursor == planning {
		pending, err := b.Store.PendingRuns(ctx, j.Tenant, j.Run)
		if err != nil {
			return step, err
		}
		if pending {
			step.Wait, step.Recorded = replayWait, true // nothing to record
		} else {
			step.Cursor, step.State, step.Total = "", belfry.JobDone, step.Done
		}
		return step, nil
	}
	backlog, err := b.Store.PendingPlansOf(ctx, j.Tenant)
	if err != nil {
		return step, err
	}
	if backlog >= replayAhead {
		step.Wait, step.Recorded = replayWait, true
		return step, nil
	}
	p.Select.Until = boundedBy(p.Select.Until, j.Created)
	all := total(ctx, j, func(ctx context.Context) (int64, error) { return b.Store.CountEvents(ctx, j.Tenant, p.Select) })
	events, cursor, err := b.Store.FindEvents(ctx, j.Tenant, p.Select, j.Cursor, replayPage)
	if err != nil {
		return step, err
	}
	if cursor == "" {
		cursor = planning
	}
	ok, err := b.Store.AddRuns(ctx, j, p.Terms, events, func(n int64) belfry.JobStep {
		step = next(j, cursor, len(events), all)
		step.Result = plus(j, "events", n)
		return step
	})
	if err == nil && !ok {
		err = b.Lost
	}
	if err == nil && len(events) > 0 {
		b.Alarm.Replayed(j.Tenant, events[0].EventID)
	}
	return step, err
}

package pipeline

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// TimerStore is what Timers need of the store.
type TimerStore interface {
	TimersDue(ctx context.Context, now time.Time) (tenants []string, err error)
	DueTimers(ctx context.Context, tenant string, now time.Time, shards []int, limit int) ([]belfry.Timer, error)
	// MoveTimer is all or nothing; false when the timer is not as it was read.
	MoveTimer(ctx context.Context, t belfry.Timer, next *belfry.Timer, runs []belfry.PlannedRun) (bool, error)
}

// Move is what becomes of a timer that was due: it ends, or is set to what comes
// Next, and runs of planning are ordered with that.
type Move struct {
	Next *belfry.Timer
	Runs []belfry.PlannedRun
}

// TimerKind decides about a timer that is due. It may be asked twice about one,
// when what it decided could not be recorded: what it does besides is to bear
// that. After an error of kind Unavailable or Overloaded it is asked again; any
// other ends the timer.
type TimerKind func(ctx context.Context, t *belfry.Timer) (Move, error)

// Timers acts on timers that are due. Each is acted on by the owner of its shard
// and moved on by compare-and-set, so that a step is taken once.
type Timers struct {
	Store  TimerStore
	Kinds  map[string]TimerKind
	Shards Shards
	// Ordered hears that runs of an event, and perhaps of later ones, wait.
	Ordered func(tenant, event string)
	Log     *slog.Logger
	Now     func() time.Time
	Poll    time.Duration
}

// timersPage is how many timers one look takes.
const timersPage = 256

// DefaultTimerPoll is how late a timer may be.
const DefaultTimerPoll = time.Second

// Run acts on timers until ctx ends.
func (t *Timers) Run(ctx context.Context) error {
	poll := t.Poll
	if poll == 0 {
		poll = DefaultTimerPoll
	}
	for {
		more, err := t.look(ctx)
		if err != nil && ctx.Err() == nil {
			t.Log.Error("looking for what is due", "error", err)
		}
		wait := poll
		if more && err == nil {
			wait = time.Millisecond
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// look acts on what is due; more when there may be more of it.
func (t *Timers) look(ctx context.Context) (more bool, err error) {
	tenants, err := t.Store.TimersDue(ctx, t.Now())
	if err != nil {
		return false, err
	}
	for _, tenant := range tenants { // one that must wait holds up no other
		again, fault := t.lookAt(ctx, tenant)
		more, err = more || again, firstError(err, fault)
	}
	return more, err
}

// lookAt is look for one tenant.
func (t *Timers) lookAt(ctx context.Context, tenant string) (more bool, err error) {
	due, err := t.Store.DueTimers(ctx, tenant, t.Now(), t.Shards.Mine(belfry.LeasePlan), timersPage)
	if err != nil {
		return false, err
	}
	moved := false
	for i := range due {
		timer := &due[i]
		kind := t.Kinds[timer.Kind]
		if kind == nil || !t.Shards.Has(belfry.LeasePlan, timer.Shard) {
			continue // a newer version's, or another process's by now
		}
		move, fault := kind(ctx, timer)
		switch why := belfry.KindOf(fault); {
		case fault != nil && ctx.Err() != nil:
			return false, fault
		case why == belfry.Unavailable || why == belfry.Overloaded: // it is due in the next look, too
			err = firstError(err, fault)
			continue
		case fault != nil:
			t.Log.Error("what was due ends", "tenant", timer.Tenant, "kind", timer.Kind, "timer", timer.ID, "error", fault)
			move = Move{}
		}
		ok, fault := t.Store.MoveTimer(ctx, *timer, move.Next, move.Runs)
		if fault != nil {
			return false, fault
		}
		moved = moved || ok
		if ok && len(move.Runs) > 0 {
			t.Ordered(timer.Tenant, move.Runs[0].EventID)
		}
	}
	return moved && len(due) == timersPage, err
}

// timerAt is a timer with its body, due at a time as it is stored.
func timerAt(t belfry.Timer, body any, due time.Time) belfry.Timer {
	t.Body, _ = json.Marshal(body) // bodies are structs of texts and numbers
	t.Due = due.Truncate(time.Microsecond)
	return t
}

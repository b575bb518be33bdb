package manage

import (
	"context"
	"errors"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Backtests does short backtests at once.
type Backtests interface {
	// Short is false when it takes too long for somebody to wait for it.
	Short(ctx context.Context, tenant string, ask *belfry.Backtest) (*belfry.BacktestReport, bool, error)
}

// noBacktests is a server that does none at once.
type noBacktests struct{}

func (noBacktests) Short(context.Context, string, *belfry.Backtest) (*belfry.BacktestReport, bool, error) {
	return nil, false, nil
}

// BacktestDraft says what is to be tested: a saved subscription by its id, or
// one that is only supposed; and on the events of which time.
type BacktestDraft struct {
	ID    string               // of a saved one
	Draft *belfry.Subscription // else
	Since time.Time            // zero = a week before Until
	Until time.Time            // zero = now
}

// maxBacktest is how far a backtest may reach.
const maxBacktest = 400 * 24 * time.Hour

// Backtest says what a subscription would have sent, at once when that is short
// work, else by a job. Nothing of it is stored but the job.
func (m *Manager) Backtest(ctx context.Context, by By, d BacktestDraft) (*belfry.BacktestReport, *belfry.Job, error) {
	f := &faults{}
	target := m.span(f, []string{reasonOr(d.ID, "a draft")}, d.Since, d.Until)
	if now := m.now(); d.Until.IsZero() || d.Until.After(now) {
		d.Until = now
	}
	if d.Since.IsZero() {
		d.Since = d.Until.Add(-7 * 24 * time.Hour)
	}
	switch {
	case !d.Since.Before(d.Until):
		f.add("/since", "must be before until, and in the past")
	case d.Until.Sub(d.Since) > maxBacktest:
		f.add("/since", "is more than %d days before until: ask in parts", int(maxBacktest.Hours()/24))
	}
	if (d.ID == "") == (d.Draft == nil) {
		f.add("/draft", "give either id, of a saved subscription, or draft, one that is not")
	}
	if err := f.err(); err != nil {
		return nil, nil, err
	}
	ask := belfry.Backtest{Since: d.Since.UTC(), Until: d.Until.UTC()}
	if d.Draft != nil {
		ask.Subscription = *d.Draft
		ask.Subscription.ID, ask.Subscription.Origin, ask.Subscription.Created = belfry.SupposedID, belfry.FromAdmin, m.now()
		if _, err := m.checkSubscription(ctx, by.Tenant, &ask.Subscription); err != nil {
			return nil, nil, under("/draft", err)
		}
	} else {
		s, ok, err := m.store.Subscription(ctx, by.Tenant, d.ID)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			return nil, nil, notFound("subscription", clipID(d.ID))
		}
		ask.Subscription = s
	}
	ask.Subscription.State, ask.Subscription.Because = belfry.SubscriptionActive, ""
	report, done, err := m.backtests.Short(ctx, by.Tenant, &ask)
	if err != nil || done {
		return report, nil, err
	}
	j, err := m.order(ctx, by, belfry.BacktestJob, target, ask)
	return nil, &j, err
}

// under puts faults under a pointer.
func under(pointer string, err error) error {
	var e *belfry.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 {
		return err
	}
	fields := make([]belfry.Field, len(e.Fields))
	for i, f := range e.Fields {
		fields[i] = belfry.Field{Pointer: pointer + f.Pointer, Message: f.Message}
	}
	return belfry.Faults(fields)
}

package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// FailingStore keeps since when endpoints have only failed.
type FailingStore interface {
	Failing(ctx context.Context, tenant, endpoint string) (belfry.Failing, bool, error)
	NoteFailing(ctx context.Context, tenant string, f belfry.Failing, clearedAt time.Time) error
	ClearFailing(ctx context.Context, tenant, endpoint string) error
}

// Failures follows which endpoints have only failed, and since when, over
// restarts: the table is written when that changes and once a minute.
type Failures struct {
	Store FailingStore
	Now   func() time.Time

	mu   sync.Mutex
	seen map[destKey]*failures
}

type failures struct {
	since time.Time // zero = it works
	noted time.Time
	clean time.Time // last success seen here
}

const (
	maxFailures = 65_536 // endpoints remembered; more are read again
	noteEvery   = time.Minute
)

// Note learns how a send to an endpoint ended, and gives since when it has only
// failed; zero = it works.
func (f *Failures) Note(ctx context.Context, d *belfry.Delivery, out belfry.Outcome) (since time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, now := keyOf(d), f.Now()
	r := f.seen[key]
	if r == nil {
		stored, _, err := f.Store.Failing(ctx, d.Tenant, d.Address)
		if err != nil {
			return since, err
		}
		if len(f.seen) >= maxFailures || f.seen == nil {
			f.seen = map[destKey]*failures{}
		}
		r = &failures{since: stored.Since}
		f.seen[key] = r
	}
	if out.Kind == belfry.OutcomeDelivered || out.Kind == belfry.OutcomeAccepted {
		r.clean = now
		if r.since.IsZero() {
			return since, nil
		}
		if err := f.Store.ClearFailing(ctx, d.Tenant, d.Address); err != nil {
			return since, err
		}
		r.since, r.noted = time.Time{}, time.Time{}
		return since, nil
	}
	if now.Sub(r.noted) >= noteEvery {
		first := r.since
		if first.IsZero() {
			first = now
		}
		if err := f.Store.NoteFailing(ctx, d.Tenant, belfry.Failing{Endpoint: d.Address, Since: first, Last: now, Detail: out.Detail}, r.clean); err != nil {
			return since, err
		}
		stored, _, err := f.Store.Failing(ctx, d.Tenant, d.Address)
		if err != nil {
			return since, err
		}
		r.since, r.noted = stored.Since, now
	}
	return r.since, nil
}

// FailedTooLong says why an endpoint that has only failed is to be disabled now;
// empty = not yet. Time before it was last resumed does not count; period is
// the server's, 0 = never, and the endpoint's own goes before it.
func FailedTooLong(e *belfry.Endpoint, since, now time.Time, period time.Duration) string {
	if own, ok := belfry.ParseSpan(e.DisableAfter); ok {
		period = own
	}
	if e.Resumed.After(since) {
		since = e.Resumed
	}
	if e.State != belfry.EndpointActive || period <= 0 || since.IsZero() || now.Sub(since) < period {
		return ""
	}
	return "every call has failed since " + since.UTC().Format(time.RFC3339)
}

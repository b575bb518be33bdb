package pipeline

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// FailingStore keeps since when endpoints have only failed.
type FailingStore interface {
	Failing(ctx context.Context, tenant string, endpoints []string) (map[string]belfry.Failing, error)
	NoteFailing(ctx context.Context, tenant string, changes []belfry.Failing) error
}

// Call is how a call of an endpoint ended.
type Call struct {
	Delivery *belfry.Delivery
	Outcome  belfry.Outcome
}

type followedKey struct{ tenant, endpoint string }

func (c *Call) key() followedKey { return followedKey{c.Delivery.Tenant, c.Delivery.Address} }

func (c *Call) works() bool {
	return c.Outcome.Kind == belfry.OutcomeDelivered || c.Outcome.Kind == belfry.OutcomeAccepted
}

// Failed is an endpoint that has only failed since a time, and its last call.
type Failed struct {
	Call
	Since time.Time
}

// Failures follows which endpoints have only failed, and since when, over
// restarts. The table has those that have failed for some moments, so that one
// that fails now and then costs it nothing: what is younger is lost if the
// process is killed, and counts from the next failure then.
type Failures struct {
	Store FailingStore
	Now   func() time.Time

	writing sync.Mutex // held by who writes the table, over what it decides to write

	mu    sync.Mutex
	seen  map[followedKey]*failures
	young []young // failing, and perhaps not in the table yet, the oldest first
}

// failures is what is known of an endpoint. The table has a row of it, or is
// about to have, when noted is set.
type failures struct {
	since  time.Time // zero = it works
	last   time.Time
	detail string
	noted  time.Time
	clean  time.Time // last success seen here
	stale  bool      // it has worked since it was noted, or what was written is not known
	young  bool      // it is among the young
	shard  int
}

type young struct {
	key followedKey
	at  time.Time
}

const (
	maxFailures = 65_536 // endpoints remembered; more are read again
	noteAfter   = 5 * time.Second
	noteEvery   = time.Minute
)

// due reports whether the table says something else than it should.
func (r *failures) due(now time.Time, settle bool) bool {
	if r.stale || r.since.IsZero() {
		return r.stale
	}
	return (settle || now.Sub(r.since) >= noteAfter) && (r.noted.IsZero() || now.Sub(r.noted) >= noteEvery)
}

// Note learns how calls of endpoints ended, in their order, and gives those that
// have only failed, each once.
func (f *Failures) Note(ctx context.Context, calls []Call) ([]Failed, error) {
	of, err := f.known(ctx, calls)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	now := f.Now()
	var failed []Failed
	at := map[followedKey]int{} // where in failed
	due := map[followedKey]*failures{}
	for i := range calls {
		c := &calls[i]
		key := c.key()
		r := of[key]
		if c.works() {
			r.since, r.clean = time.Time{}, now
			r.stale = r.stale || !r.noted.IsZero()
		} else {
			if r.since.IsZero() {
				r.since = now
			}
			r.last, r.detail = now, c.Outcome.Detail
			if !r.young && r.noted.IsZero() {
				r.young = true
				f.young = append(f.young, young{key, now})
			}
			if _, ok := at[key]; !ok {
				at[key] = len(failed)
				failed = append(failed, Failed{})
			}
			failed[at[key]] = Failed{*c, r.since}
		}
		if r.due(now, false) {
			due[key] = r
		}
	}
	f.grown(now, due)
	failed = slices.DeleteFunc(failed, func(x Failed) bool { return of[x.key()].since.IsZero() })
	f.mu.Unlock()
	return failed, f.write(ctx, due, false)
}

// Settle puts into the table what is not there yet for being young.
func (f *Failures) Settle(ctx context.Context) error {
	f.mu.Lock()
	due := make(map[followedKey]*failures, len(f.young))
	for _, y := range f.young {
		if r := f.seen[y.key]; r != nil {
			r.young, due[y.key] = false, r
		}
	}
	f.young = nil
	f.mu.Unlock()
	return f.write(ctx, due, true)
}

// Forget drops what is known of the endpoints of shards, which another process
// has followed meanwhile: the table says how they are.
func (f *Failures) Forget(shards []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.seen, func(_ followedKey, r *failures) bool { return slices.Contains(shards, r.shard) })
}

// known finds the records of all that were called; what the table has of
// others is read first.
func (f *Failures) known(ctx context.Context, calls []Call) (map[followedKey]*failures, error) {
	of := map[followedKey]*failures{}
	unknown := map[string][]string{} // by tenant
	f.mu.Lock()
	for i := range calls {
		key := calls[i].key()
		if _, ok := of[key]; ok {
			continue
		}
		if of[key] = f.seen[key]; of[key] == nil {
			unknown[key.tenant] = append(unknown[key.tenant], key.endpoint)
		}
	}
	f.mu.Unlock()
	if len(unknown) == 0 {
		return of, nil
	}
	stored := map[string]map[string]belfry.Failing{}
	for tenant, endpoints := range unknown {
		var err error
		if stored[tenant], err = f.Store.Failing(ctx, tenant, endpoints); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[followedKey]*failures{}
	}
	if len(f.seen)+len(of) > maxFailures {
		maps.DeleteFunc(f.seen, func(_ followedKey, r *failures) bool { return !r.stale && r.since.IsZero() == r.noted.IsZero() }) // the table has the same
	}
	for i := range calls {
		key := calls[i].key()
		if of[key] != nil {
			continue
		}
		if r := f.seen[key]; r != nil { // another call was faster
			of[key] = r
			continue
		}
		r := &failures{shard: calls[i].Delivery.Shard}
		if s, ok := stored[key.tenant][key.endpoint]; ok {
			r.since, r.last, r.detail, r.noted = s.Since, s.Last, s.Detail, s.Last
		}
		of[key], f.seen[key] = r, r
	}
	return of, nil
}

// grown takes from the young who is not any more, and adds to due whom the table
// is to have. f.mu is held.
func (f *Failures) grown(now time.Time, due map[followedKey]*failures) {
	for len(f.young) > 0 && now.Sub(f.young[0].at) >= noteAfter {
		key := f.young[0].key
		f.young = f.young[1:]
		r := f.seen[key]
		if r == nil {
			continue
		}
		if r.young = false; r.due(now, false) {
			due[key] = r
		} else if !r.since.IsZero() && r.noted.IsZero() { // it has worked meanwhile, and failed again
			r.young = true
			f.young = append(f.young, young{key, now})
		}
	}
}

// write brings the table to what is known by now of those that are due. Whoever
// learns something else meanwhile finds what is about to be noted as noted, and
// writes after this.
func (f *Failures) write(ctx context.Context, due map[followedKey]*failures, settle bool) error {
	if len(due) == 0 {
		return nil
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	now := f.Now()
	changes, by := map[string][]belfry.Failing{}, map[string][]*failures{}
	f.mu.Lock()
	for key, r := range due {
		if !r.due(now, settle) {
			continue
		}
		changes[key.tenant] = append(changes[key.tenant], belfry.Failing{Endpoint: key.endpoint, Since: r.since, Last: r.last, Detail: r.detail, Clean: r.clean})
		by[key.tenant] = append(by[key.tenant], r)
		if r.noted, r.stale = now, false; r.since.IsZero() {
			r.noted = time.Time{}
		}
	}
	f.mu.Unlock()
	var failure error
	for tenant, list := range changes {
		if err := f.Store.NoteFailing(ctx, tenant, list); err != nil {
			failure = errors.Join(failure, err)
			f.mu.Lock()
			for _, r := range by[tenant] {
				r.stale = true // its next call writes it, whatever is there
			}
			f.mu.Unlock()
		}
	}
	return failure
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

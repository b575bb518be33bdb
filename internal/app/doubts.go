package app

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// doubts are what edits touched that failed and may have been made all the
// same: the answer to their commit was lost, or what follows a commit could
// not be done.
type doubts struct {
	mu      sync.Mutex
	tenants map[string]*doubt
	wake    chan struct{}
}

// doubt is what is in doubt of one tenant.
type doubt struct {
	subs   map[string]struct{}
	docs   map[belfry.DocumentKey]struct{}
	all    bool // too many subscriptions to name: every one of them
	behind int  // edits that are known to be made, and were not put in force
}

// manyDoubts is how many subscriptions are named before all are read again.
const manyDoubts = 1000

func newDoubts() *doubts { return &doubts{tenants: map[string]*doubt{}, wake: make(chan struct{}, 1)} }

func newDoubt() *doubt {
	return &doubt{subs: map[string]struct{}{}, docs: map[belfry.DocumentKey]struct{}{}}
}

// of finds or begins what is in doubt of a tenant. d.mu is held.
func (d *doubts) of(tenant string) *doubt {
	t := d.tenants[tenant]
	if t == nil {
		t = newDoubt()
		d.tenants[tenant] = t
	}
	return t
}

// add notes what an edit touches; behind is 1 when it is known to be made and
// could not be put in force.
func (d *doubts) add(ch *belfry.Changes, behind int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.of(ch.Tenant)
	t.behind += behind
	for i := range ch.Subscriptions {
		t.subs[ch.Subscriptions[i].ID] = struct{}{}
	}
	for _, k := range touched(ch) {
		if slices.Contains(inMemory, k.Kind) {
			t.docs[k] = struct{}{}
		}
	}
	for _, id := range deliveriesOf(ch) {
		t.docs[belfry.DocumentKey{Kind: belfry.KindDelivery, ID: id}] = struct{}{}
	}
	t.bound()
	d.poke()
}

func (t *doubt) bound() {
	if len(t.subs) > manyDoubts {
		t.all, t.subs = true, map[string]struct{}{}
	}
}

func (d *doubts) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *doubts) take() map[string]*doubt {
	d.mu.Lock()
	defer d.mu.Unlock()
	tenants := d.tenants
	d.tenants = map[string]*doubt{}
	return tenants
}

// again puts back what could not be resolved.
func (d *doubts) again(tenant string, left *doubt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.of(tenant)
	t.all = t.all || left.all
	t.behind += left.behind
	maps.Copy(t.subs, left.subs)
	maps.Copy(t.docs, left.docs)
	t.bound()
}

// inMemory are the kinds of documents of which something is kept in memory.
var inMemory = []string{belfry.KindKey, belfry.KindTenant, belfry.KindTemplate, belfry.KindChannel, belfry.KindSource, belfry.KindEndpoint, belfry.KindSetting}

// resolve puts in force what was made of edits in doubt, as soon as the
// database can be asked, until ctx ends.
func (p *publisher) resolve(ctx context.Context, log *slog.Logger) error {
	const first, longest = 50 * time.Millisecond, time.Second
	retry := time.NewTimer(0)
	defer retry.Stop()
	for pause := first; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-p.doubts.wake:
		case <-retry.C:
		}
		failed := false
		for tenant, d := range p.doubts.take() {
			if err := p.asStored(ctx, tenant, d); err != nil {
				failed = true
				p.doubts.again(tenant, d)
				log.Warn("edits that failed may have been made; looking again", "tenant", tenant, "error", err)
			}
		}
		if !failed {
			pause = first
			continue
		}
		retry.Reset(pause)
		pause = min(2*pause, longest)
	}
}

// asStored makes indexes, caches, senders and sources follow what is stored of
// all that is in doubt.
func (p *publisher) asStored(ctx context.Context, tenant string, d *doubt) error {
	ch := belfry.Changes{Tenant: tenant, DropDocuments: slices.Collect(maps.Keys(d.docs))}
	l := p.lock(tenant)
	l.Lock()
	err := p.readBack(ctx, d, &ch)
	if err == nil {
		l.behind, d.behind = l.behind-d.behind, 0
	}
	l.Unlock()
	if err != nil {
		return err
	}
	return p.after(ctx, &ch)
}

// readBack is inForce for what is stored. The tenant's lock is held.
func (p *publisher) readBack(ctx context.Context, d *doubt, ch *belfry.Changes) error {
	// Read first: both indexes change at about one time.
	subs, err := p.SubscriptionsOf(ctx, ch.Tenant, slices.Collect(maps.Keys(d.subs)))
	if err != nil {
		return err
	}
	version, err := p.Version(ctx, ch.Tenant)
	if err != nil {
		return err
	}
	if _, err := p.dir.At(ctx, ch.Tenant, version); err != nil {
		return err // it follows the log of changes
	}
	if d.all {
		p.subs.Forget(ch.Tenant)
	}
	if err := p.subs.Publish(ctx, ch.Tenant, subs); err != nil {
		return err
	}
	if d.all {
		p.dispatcher.Edited(ch.Tenant)
	} else {
		p.release(ch.Tenant, subs)
	}
	p.forget(ch)
	return nil
}

package app

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/store"
)

// The directory finds these by looking: their signatures must not drift.
var (
	_ directory.OptOuts      = (*store.DB)(nil)
	_ directory.JoinedGroups = (*store.DB)(nil)
)

// publisher applies edits and puts them in force before they are answered.
//
// Edits of one tenant are applied one after the other, so that what is in
// memory follows the order of versions.
type publisher struct {
	*store.DB
	dir        *directory.Directory
	subs       *pipeline.Subscriptions
	auth       *auth.Authenticator
	channels   *channels
	sources    *sources
	templates  *templates
	dispatcher *pipeline.Dispatcher
	sealer     *pipeline.Sealer
	planner    ingest.Planner
	conditions *pipeline.Conditions
	doubts     *doubts
	now        func() time.Time
	follower   *follower // nil where nobody else edits
	peers      pipeline.Peers
	postman    *postman

	mu    sync.Mutex
	locks map[string]*editing
}

// editing is held while an edit of a tenant is made and put in force.
type editing struct {
	sync.Mutex
	behind int          // edits that were made and could not be put in force
	done   atomic.Int64 // every edit made here up to this version is in force
}

func (e *editing) reached(version int64) {
	for at := e.done.Load(); version > at && !e.done.CompareAndSwap(at, version); at = e.done.Load() {
	}
}

func (p *publisher) lock(tenant string) *editing {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.locks == nil {
		p.locks = map[string]*editing{}
	}
	l := p.locks[tenant]
	if l == nil {
		l = &editing{}
		p.locks[tenant] = l
	}
	return l
}

// alone brings everybody up to the edits of a process that shares its database
// with nobody.
type alone struct{ p *publisher }

// Reach waits for the edit that is being made. What is decided by an edit, as
// looks at digests are, can be found in the database as soon as that is
// committed, which is before it is in force. While one that was made could not be
// put in force, which needs a read of the database, nothing is decided.
func (a alone) Reach(_ context.Context, tenant string, version int64) error {
	l := a.p.lock(tenant)
	if l.done.Load() >= version {
		return nil
	}
	l.Lock()
	defer l.Unlock()
	if l.behind > 0 {
		return belfry.Errorf(belfry.Unavailable, "an edit is stored and not in force yet: it is read again")
	}
	l.reached(version)
	return nil
}

// Reached is a version up to which every edit is in force.
func (a alone) Reached(tenant string) int64 { return a.p.lock(tenant).done.Load() }

// Apply applies an edit and publishes it. Once it is made, it is put in force
// even if nobody waits for the answer any more.
func (p *publisher) Apply(ctx context.Context, ch belfry.Changes) (int64, error) {
	if p.follower != nil {
		p.follower.before(ctx, ch.Tenant)
	}
	l := p.lock(ch.Tenant)
	l.Lock()
	version, err := p.DB.Apply(ctx, ch)
	made, behind := err == nil, 0
	ctx = context.WithoutCancel(ctx)
	if made {
		if err = p.inForce(ctx, version, &ch); err != nil {
			behind = 1
		}
	}
	l.behind += behind
	l.Unlock()
	if err == nil {
		err = p.after(ctx, &ch)
	}
	if err != nil && (made || belfry.KindOf(err) == belfry.Unavailable) {
		p.doubts.add(&ch, behind)
	}
	return version, err
}

// source applies a batch of a source, publishes it and hands its events over.
func (p *publisher) source(ctx context.Context, key sourceKey, origin string, ch belfry.Changes, drafts []belfry.Draft, cursor []byte) error {
	l := p.lock(key.tenant)
	l.Lock()
	var receipts []belfry.Receipt
	var version int64
	var err error
	if ch.Documents, err = p.declared(ctx, key.tenant, origin, ch.Documents); err == nil {
		receipts, version, err = p.DB.CommitSource(ctx, key.tenant, key.id, ch, drafts, cursor)
	}
	if err == nil {
		err = p.inForce(ctx, version, &ch)
	}
	l.Unlock()
	if err != nil {
		return err
	}
	accepted := make([]belfry.Accepted, 0, len(drafts))
	for i, r := range receipts {
		if !r.Duplicate {
			accepted = append(accepted, belfry.Accepted{Tenant: key.tenant, EventID: r.EventID, At: r.At, AsOf: r.AsOf, Event: drafts[i].Event})
		}
	}
	if len(accepted) > 0 {
		p.planner.Handover(accepted)
	}
	return nil // sources bring no channels, endpoints or sources
}

// declared signs the event types that a source declares, and leaves out those
// that a person has declared: what an administrator said of a type stays when
// the source comes with a newer catalogue. The tenant's lock is held.
func (p *publisher) declared(ctx context.Context, tenant, origin string, docs []belfry.Document) ([]belfry.Document, error) {
	var kept []belfry.Document
	for _, d := range docs {
		if d.Kind == belfry.KindEventType {
			stored, found, err := p.DB.Document(ctx, tenant, d.Kind, d.ID)
			if err != nil {
				return nil, err
			}
			var was, t belfry.EventType
			if found {
				if err := json.Unmarshal(stored.Body, &was); err != nil {
					return nil, belfry.Errorf(belfry.Internal, "event type %s is stored in a form this version does not read: %w", d.ID, err)
				}
				if was.Origin == "" && !was.Discovered {
					continue
				}
			}
			if err := json.Unmarshal(d.Body, &t); err != nil {
				return nil, belfry.Errorf(belfry.Internal, "event type %s of source %s: %w", d.ID, origin, err)
			}
			t.Origin = origin
			if d.Body, err = json.Marshal(t); err != nil {
				return nil, err
			}
		}
		kept = append(kept, d)
	}
	return kept, nil
}

// inForce makes caches and indexes follow an edit. The tenant's lock is held.
func (p *publisher) inForce(ctx context.Context, version int64, ch *belfry.Changes) error {
	for i := range ch.Subscriptions {
		ch.Subscriptions[i].Version = version
	}
	err := p.subs.Publish(ctx, ch.Tenant, ch.Subscriptions)
	p.dir.Published(ch.Tenant, version, ch) // last: its version stands for all, see Stages.page
	if err != nil {
		return err
	}
	p.release(ch.Tenant, ch.Subscriptions)
	p.forget(ch)
	if len(ch.Subscriptions) > 0 { // they may have conditions
		p.conditions.Look(ch.Tenant)
	}
	if len(ch.Users)+len(ch.Settings)+len(ch.Preferences)+len(ch.Subscriptions)+len(ch.Members)+len(ch.Documents)+len(ch.DropDocuments) > 0 {
		p.sealer.Look()
	}
	if l := p.lock(ch.Tenant); l.behind == 0 {
		l.reached(version)
	}
	if p.follower != nil {
		p.follower.made(ch.Tenant, version)
		p.peers.Tell(belfry.Wake{Tenant: ch.Tenant, Edited: true, Counted: len(ch.Subscriptions) > 0})
	}
	return nil
}

// release has what waited for subscriptions tried again.
func (p *publisher) release(tenant string, edited []belfry.Subscription) {
	if len(edited) == 0 {
		return
	}
	ids := make([]string, len(edited))
	for i := range edited {
		ids[i] = edited[i].ID
	}
	p.dispatcher.Edited(tenant, ids...)
}

// forget drops what is remembered of the documents an edit touches.
func (p *publisher) forget(ch *belfry.Changes) {
	for _, d := range touched(ch) {
		switch d.Kind {
		case belfry.KindKey, belfry.KindTenant:
			p.auth.Forget(d.Kind, d.ID)
		case belfry.KindTemplate:
			p.templates.forget(ch.Tenant, d.ID)
		}
	}
}

// Ask stores that something was asked for, and has it looked at.
func (p *publisher) Ask(ctx context.Context, a belfry.Ask, counts []belfry.AskCount) error {
	err := p.DB.Ask(ctx, a, counts)
	p.postman.poke()
	return err
}

// after follows an edit where that takes longer: senders and sources.
func (p *publisher) after(ctx context.Context, ch *belfry.Changes) error {
	if len(ch.Asks)+len(ch.DropAsks) > 0 {
		p.postman.poke()
	}
	touched := touched(ch)
	has := func(kind string) bool {
		return slices.ContainsFunc(touched, func(d belfry.DocumentKey) bool { return d.Kind == kind })
	}
	if has(belfry.KindChannel) {
		if err := p.channels.load(ctx, ch.Tenant); err != nil {
			return err
		}
		p.dispatcher.Relimit(ch.Tenant)
	}
	if has(belfry.KindTenant) {
		if err := p.channels.share(ctx); err != nil {
			return err
		}
		for _, d := range touched {
			if d.Kind == belfry.KindTenant {
				p.dispatcher.Relimit(d.ID)
			}
		}
	}
	if has(belfry.KindSource) {
		if err := p.sources.load(ctx, ch.Tenant); err != nil {
			return err
		}
	}
	var deliveries []string
	for _, d := range touched {
		switch d.Kind {
		case belfry.KindEndpoint:
			p.dispatcher.Requeue(ch.Tenant, d.ID)
		case belfry.KindSetting:
			p.dispatcher.Resume(ch.Tenant)
		case belfry.KindDelivery: // edited elsewhere
			deliveries = append(deliveries, d.ID)
		}
	}
	if len(deliveries) > 0 {
		return p.changed(ctx, ch.Tenant, deliveries)
	}
	return nil
}

// changed follows deliveries that were cancelled or retried on another node, or
// by an edit in doubt.
func (p *publisher) changed(ctx context.Context, tenant string, ids []string) error {
	states, err := p.DeliveryStates(ctx, tenant, ids)
	if err != nil {
		return err
	}
	over := slices.DeleteFunc(ids, func(id string) bool { return states[id].Open() })
	p.dispatcher.Revoke(tenant, over)
	if len(over) < len(states) {
		p.dispatcher.Wake(tenant, p.now().Add(-time.Minute)) // due when it was retried
	}
	return nil
}

// deliveriesOf are the deliveries an edit touches.
func deliveriesOf(ch *belfry.Changes) (ids []string) {
	for i := range ch.Cancels {
		ids = append(ids, ch.Cancels[i].ID)
	}
	for i := range ch.Retries {
		ids = append(ids, ch.Retries[i].ID)
	}
	return ids
}

// touched are the documents an edit puts or drops.
func touched(ch *belfry.Changes) []belfry.DocumentKey {
	keys := slices.Clone(ch.DropDocuments)
	for _, d := range ch.Documents {
		keys = append(keys, belfry.DocumentKey{Kind: d.Kind, ID: d.ID})
	}
	return keys
}

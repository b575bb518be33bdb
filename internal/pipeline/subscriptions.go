package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/match"
)

// SubscriptionStore is what Subscriptions reads.
type SubscriptionStore interface {
	Subscriptions(ctx context.Context, tenant, after string, limit int) ([]belfry.Subscription, error)
}

// Subscriptions keeps the index of every tenant's active subscriptions, and why
// the others do not stand. An edit is published here before it is answered.
type Subscriptions struct {
	store SubscriptionStore
	log   faultLog

	mu      sync.Mutex // serialises loading
	tenants sync.Map   // tenant -> *tenantSubscriptions
}

// faultLog takes what cannot be returned to anybody.
type faultLog interface {
	Error(msg string, args ...any)
}

type tenantSubscriptions struct {
	index *match.Index
	idle  sync.Map // id -> belfry.Reason: paused or ended
}

// NewSubscriptions makes an empty set; tenants are loaded when first asked for.
func NewSubscriptions(store SubscriptionStore, log faultLog) *Subscriptions {
	return &Subscriptions{store: store, log: log}
}

// Load reads a tenant's subscriptions unless that was done.
func (s *Subscriptions) Load(ctx context.Context, tenant string) error {
	_, err := s.of(ctx, tenant)
	return err
}

const loadPage = 5000

func (s *Subscriptions) of(ctx context.Context, tenant string) (*tenantSubscriptions, error) {
	if t, ok := s.tenants.Load(tenant); ok {
		return t.(*tenantSubscriptions), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.tenants.Load(tenant); ok {
		return t.(*tenantSubscriptions), nil
	}
	t := &tenantSubscriptions{index: match.New()}
	t.put(s.log, notices())
	after := ""
	for {
		subs, err := s.store.Subscriptions(ctx, tenant, after, loadPage)
		if err != nil {
			return nil, err
		}
		t.load(s.log, subs)
		if len(subs) < loadPage {
			break
		}
		after = subs[len(subs)-1].ID
	}
	s.tenants.Store(tenant, t)
	return t, nil
}

// Publish makes an edit's subscriptions take effect. s.mu keeps it from racing
// with a load that read the table before the edit.
func (s *Subscriptions) Publish(ctx context.Context, tenant string, changed []belfry.Subscription) error {
	if len(changed) == 0 {
		return nil
	}
	t, err := s.of(ctx, tenant)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changed {
		t.put(s.log, &changed[i])
	}
	return nil
}

// Forget makes a tenant's subscriptions be read anew when next asked for: edits
// were made that were not published here.
func (s *Subscriptions) Forget(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants.Delete(tenant)
}

// load files a page of the table at once.
func (t *tenantSubscriptions) load(log faultLog, subs []belfry.Subscription) {
	active := make([]*belfry.Subscription, 0, len(subs))
	for i := range subs {
		if subs[i].State == belfry.SubscriptionActive {
			active = append(active, &subs[i])
		} else {
			t.put(log, &subs[i])
		}
	}
	if err := t.index.Edit(active, nil); err != nil {
		log.Error("filters of subscriptions are not valid", "error", err)
	}
}

func (t *tenantSubscriptions) put(log faultLog, sub *belfry.Subscription) {
	if sub.State != belfry.SubscriptionActive {
		t.index.Drop(sub.ID)
		t.idle.Store(sub.ID, belfry.Reason{Code: belfry.SubscriptionGone, Subscription: sub.ID, Detail: sub.Because})
		return
	}
	if err := t.index.Put(sub); err != nil {
		// It was valid when it was saved; a later version of the program may
		// see it otherwise. The index keeps it and explains; it matches nothing.
		log.Error("filter of a subscription is not valid", "subscription", sub.ID, "error", err)
	}
	t.idle.Delete(sub.ID)
}

// Snapshot is a tenant's index as of every edit that was answered.
func (s *Subscriptions) Snapshot(ctx context.Context, tenant string) (*match.Snapshot, error) {
	t, err := s.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return t.index.Snapshot(), nil
}

// Standing is the subscription as it is now when it is active, else why not.
func (s *Subscriptions) Standing(ctx context.Context, tenant, id string) (*belfry.Subscription, *belfry.Reason, error) {
	t, err := s.of(ctx, tenant)
	if err != nil {
		return nil, nil, err
	}
	if sub, ok := t.index.Snapshot().Get(id); ok {
		return sub, nil, nil
	}
	if r, ok := t.idle.Load(id); ok {
		reason := r.(belfry.Reason)
		return nil, &reason, nil
	}
	return nil, &belfry.Reason{Code: belfry.SubscriptionGone, Subscription: id}, nil
}

// NoticesID is the built-in subscription by which Belfry tells people about
// itself: an endpoint that was disabled, a subscription that ended.
const NoticesID = belfry.SubscriptionPrefix + "notices"

// NoticePrefix begins the types of Belfry's own events.
const NoticePrefix = "belfry."

func notices() *belfry.Subscription {
	no := false
	return &belfry.Subscription{
		ID: NoticesID, Title: "Notices of this service to the people they concern",
		Types: []string{NoticePrefix + "*"}, Recipients: []belfry.Rule{{Related: &belfry.RelatedRule{}}},
		ExcludeActor: &no, State: belfry.SubscriptionActive, Origin: belfry.FromBelfry, Created: time.Unix(0, 0).UTC(),
	}
}

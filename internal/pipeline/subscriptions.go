package pipeline

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/match"
)

// SubscriptionStore is what Subscriptions reads.
type SubscriptionStore interface {
	ActiveSubscriptions(ctx context.Context, tenant, after string, limit int) ([]belfry.Subscription, error)
	Subscription(ctx context.Context, tenant, id string) (belfry.Subscription, bool, error)
}

// Subscriptions keeps the index of every tenant's active subscriptions. An edit
// is published here before it is answered. Tenants do not wait for each other:
// one with a million subscriptions takes some seconds to be loaded.
type Subscriptions struct {
	store   SubscriptionStore
	log     faultLog
	tenants sync.Map // tenant -> *tenantSubscriptions
}

// faultLog takes what cannot be returned to anybody.
type faultLog interface {
	Error(msg string, args ...any)
}

type tenantSubscriptions struct {
	turn   chan struct{} // holds a value while somebody loads or edits
	loaded atomic.Bool
	index  *match.Index // set before loaded

	// idle remembers why subscriptions that were asked for do not stand. What
	// was read of the store is kept only if no edit came meanwhile.
	idle  *lru.Cache[string, idle]
	mu    sync.Mutex
	edits int

	follows   map[string]belfry.Subscription // active ones that people join by what they do
	following atomic.Int64                   // how many those are

	bounded   map[string]bool // active ones with a throttle
	throttles atomic.Int64    // how many those are
}

// idle is why a subscription does not stand, and what it is when it is paused.
type idle struct {
	paused *belfry.Subscription
	reason belfry.Reason
}

// maxIdle bounds what is remembered of subscriptions that do not stand: there
// may be any number of them.
const maxIdle = 2048

// NewSubscriptions makes an empty set; tenants are loaded when first asked for.
func NewSubscriptions(store SubscriptionStore, log faultLog) *Subscriptions {
	return &Subscriptions{store: store, log: log}
}

// Load reads a tenant's subscriptions unless that was done.
func (s *Subscriptions) Load(ctx context.Context, tenant string) error {
	_, err := s.of(ctx, tenant)
	return err
}

// loadPage is how many are read at once: while one page is filed, the next is
// read and a third may wait.
const loadPage = 2000

func (s *Subscriptions) of(ctx context.Context, tenant string) (*tenantSubscriptions, error) {
	for {
		v, ok := s.tenants.Load(tenant)
		if !ok {
			known, _ := lru.New[string, idle](maxIdle) // the size is positive, which is all New checks
			v, _ = s.tenants.LoadOrStore(tenant, &tenantSubscriptions{turn: make(chan struct{}, 1), idle: known})
		}
		t := v.(*tenantSubscriptions)
		if t.loaded.Load() {
			return t, nil
		}
		select {
		case t.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var err error
		if !t.loaded.Load() {
			err = t.load(ctx, s.store, s.log, tenant)
		}
		<-t.turn
		if err != nil {
			return nil, err
		}
		if v, ok := s.tenants.Load(tenant); ok && v == any(t) {
			return t, nil
		}
		// Forgotten while it was read: it is read anew.
	}
}

// load reads and files all active subscriptions of a tenant, a page while the
// page before is filed. The caller has the turn.
func (t *tenantSubscriptions) load(ctx context.Context, store SubscriptionStore, log faultLog, tenant string) error {
	index := match.New()
	file(index, log, tenant, []belfry.Subscription{notices(), confirmations(), reminders()})
	t.follows, t.bounded = map[string]belfry.Subscription{}, map[string]bool{}
	pages := make(chan []belfry.Subscription, 1)
	var failed error
	go func() {
		defer close(pages)
		after := ""
		for {
			subs, err := store.ActiveSubscriptions(ctx, tenant, after, loadPage)
			if err != nil {
				failed = err
				return
			}
			pages <- subs
			if len(subs) < loadPage {
				return
			}
			after = subs[len(subs)-1].ID
		}
	}()
	for subs := range pages {
		file(index, log, tenant, subs)
		t.follow(subs)
	}
	if failed != nil {
		return failed
	}
	t.index = index
	t.loaded.Store(true)
	return nil
}

// Publish makes an edit's subscriptions take effect. Having the turn keeps it
// from racing with a load that read the table before the edit.
func (s *Subscriptions) Publish(ctx context.Context, tenant string, changed []belfry.Subscription) error {
	if len(changed) == 0 {
		return nil
	}
	t, err := s.of(ctx, tenant)
	if err != nil {
		return err
	}
	t.turn <- struct{}{} // of somebody who edits: it is not long
	defer func() { <-t.turn }()
	file(t.index, s.log, tenant, changed)
	t.follow(changed)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.edits++
	for i := range changed {
		t.idle.Remove(changed[i].ID)
	}
	return nil
}

// Forget makes a tenant's subscriptions be read anew when next asked for: edits
// were made that were not published here.
func (s *Subscriptions) Forget(tenant string) { s.tenants.Delete(tenant) }

// file puts subscriptions into an index, and takes out those that are not
// active, all at once.
func file(index *match.Index, log faultLog, tenant string, subs []belfry.Subscription) {
	list := make([]*belfry.Subscription, len(subs))
	for i := range subs {
		list[i] = &subs[i]
	}
	if err := index.Edit(list, nil); err != nil {
		// They were valid when they were saved; a later version of the program
		// may see it otherwise. The index keeps them and explains; they match
		// nothing.
		faults := []error{err}
		if list, ok := err.(interface{ Unwrap() []error }); ok {
			faults = list.Unwrap()
		}
		log.Error("filters of subscriptions are not valid", "tenant", tenant, "subscriptions", len(faults), "first", faults[0])
	}
}

// Snapshot is a tenant's index as of every edit that was answered.
func (s *Subscriptions) Snapshot(ctx context.Context, tenant string) (*match.Snapshot, error) {
	t, err := s.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return t.index.Snapshot(), nil
}

// Crowd is match's, of what is loaded: nobody waits for a tenant to be loaded in
// order to be warned.
func (s *Subscriptions) Crowd(tenant string, sub *belfry.Subscription) int {
	v, ok := s.tenants.Load(tenant)
	if !ok || !v.(*tenantSubscriptions).loaded.Load() {
		return 0
	}
	return v.(*tenantSubscriptions).index.Snapshot().Crowd(sub)
}

// Totals are over all tenants that are loaded: active subscriptions, and those
// whose filter is evaluated for each event of their types.
func (s *Subscriptions) Totals() (active, evaluated int) {
	for _, v := range s.tenants.Range {
		if t := v.(*tenantSubscriptions); t.loaded.Load() {
			snap := t.index.Snapshot()
			active += snap.Len()
			evaluated += snap.Evaluated()
		}
	}
	return active, evaluated
}

// Standing is the subscription as it is now when it is active, else why not:
// of one that is paused both are given. Of one that is active and not known
// here yet the store is believed: another node has made it.
func (s *Subscriptions) Standing(ctx context.Context, tenant, id string) (*belfry.Subscription, *belfry.Reason, error) {
	t, err := s.of(ctx, tenant)
	if err != nil {
		return nil, nil, err
	}
	if sub, ok := t.index.Snapshot().Get(id); ok {
		return sub, nil, nil
	}
	if known, ok := t.idle.Get(id); ok {
		return known.paused, &known.reason, nil
	}
	t.mu.Lock()
	edits := t.edits
	t.mu.Unlock()
	stored, found, err := s.store.Subscription(ctx, tenant, id)
	if err != nil {
		return nil, nil, err
	}
	if found && stored.State == belfry.SubscriptionActive {
		return &stored, nil, nil
	}
	now := idle{reason: belfry.Reason{Code: belfry.SubscriptionGone, Subscription: id, Detail: stored.Because}}
	if found && stored.State == belfry.SubscriptionPaused {
		now.reason.Code, now.paused = belfry.SubscriptionWaits, &stored
	}
	t.mu.Lock()
	if t.edits == edits {
		t.idle.Add(id, now)
	}
	t.mu.Unlock()
	return now.paused, &now.reason, nil
}

// NoticesID is the built-in subscription by which Belfry tells people about
// itself: an endpoint that was disabled, a subscription that ended.
const NoticesID = belfry.SubscriptionPrefix + "notices"

// NoticePrefix begins the types of Belfry's own events.
const NoticePrefix = "belfry."

func notices() belfry.Subscription {
	no := false
	return belfry.Subscription{
		ID: NoticesID, Title: "Notices of this service to the people they concern",
		Types: []string{NoticePrefix + "*"}, Recipients: []belfry.Rule{{Related: &belfry.RelatedRule{}}},
		ExcludeActor: &no, State: belfry.SubscriptionActive, Origin: belfry.FromBelfry, Created: time.Unix(0, 0).UTC(),
	}
}

// follow keeps account of the subscriptions that people join by what they do,
// and of those with a throttle.
func (t *tenantSubscriptions) follow(changed []belfry.Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range changed {
		if s := &changed[i]; s.State == belfry.SubscriptionActive && len(s.Joining.Follow) > 0 {
			t.follows[s.ID] = *s
		} else {
			delete(t.follows, s.ID)
		}
		if s := &changed[i]; s.State == belfry.SubscriptionActive && s.Throttle != nil {
			t.bounded[s.ID] = true
		} else {
			delete(t.bounded, s.ID)
		}
	}
	t.following.Store(int64(len(t.follows)))
	t.throttles.Store(int64(len(t.bounded)))
}

// Throttles reports whether any active subscription has a throttle.
func (s *Subscriptions) Throttles(ctx context.Context, tenant string) (bool, error) {
	t, err := s.of(ctx, tenant)
	return err == nil && t.throttles.Load() > 0, err
}

// Following are the active subscriptions that people join, or leave, by events
// of a type.
func (s *Subscriptions) Following(ctx context.Context, tenant, typ string) ([]belfry.Subscription, error) {
	t, err := s.of(ctx, tenant)
	if err != nil || t.following.Load() == 0 {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []belfry.Subscription
	for _, sub := range t.follows {
		if slices.ContainsFunc(sub.Joining.Follow, func(f belfry.Participation) bool {
			return slices.ContainsFunc(f.Types, func(p string) bool { return belfry.TypeMatches(p, typ) })
		}) {
			list = append(list, sub)
		}
	}
	return list, nil
}

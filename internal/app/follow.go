package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// follower puts in force what other nodes edited: soon after they tell of it,
// within a second anyway, and before an event is planned that was accepted
// after the edit.
type follower struct {
	p   *publisher
	log *slog.Logger

	mu      sync.Mutex
	tenants map[string]*followed
	told    map[string]bool
	wake    chan struct{}
}

// followed is how far one tenant's edits are in force here.
type followed struct {
	following chan struct{} // holds a token of the one that reads the log of changes

	mu    sync.Mutex
	known bool
	at    int64          // every edit up to here is in force
	own   map[int64]bool // edits after it that were made here and are in force
}

func newFollower(p *publisher, log *slog.Logger) *follower {
	return &follower{p: p, log: log, tenants: map[string]*followed{}, told: map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (f *follower) of(tenant string) *followed {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tenants[tenant]
	if t == nil {
		t = &followed{following: make(chan struct{}, 1), own: map[int64]bool{}}
		f.tenants[tenant] = t
	}
	return t
}

// start says that what is loaded of a tenant from now on is of a version at
// least.
func (f *follower) start(tenant string, version int64) {
	t := f.of(tenant)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = true
	t.advance(version)
}

// made notes an edit that was made here and is in force.
func (f *follower) made(tenant string, version int64) {
	t := f.of(tenant)
	t.mu.Lock()
	defer t.mu.Unlock()
	if version > t.at && len(t.own) < 10_000 { // others are read back
		t.own[version] = true
		t.advance(t.at)
	}
}

// advance moves on to a version and over edits of our own. t.mu is held.
func (t *followed) advance(version int64) {
	t.at = max(t.at, version)
	for t.own[t.at+1] {
		t.at++
	}
	for v := range t.own {
		if v <= t.at {
			delete(t.own, v)
		}
	}
}

func (t *followed) state() (at int64, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at, t.known
}

// Reach returns when every edit up to version is in force.
func (f *follower) Reach(ctx context.Context, tenant string, version int64) error {
	t := f.of(tenant)
	if at, known := t.state(); known && at >= version {
		return nil
	}
	select {
	case t.following <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.following }()
	at, known := t.state()
	if known && at >= version {
		return nil
	}
	return f.follow(ctx, tenant, t, at, known)
}

// beforeAtMost is how long an edit waits for those before it.
const beforeAtMost = 5 * time.Second

// before puts in force what other nodes have answered, before an edit that is
// made here: what this one lets go must not go by less. What cannot be put in
// force, or not in time, keeps nobody from editing, who may be about to mend it.
// The batches of sources do not ask for it: they let nothing go, and whoever
// follows may be waiting for one of them to end.
func (f *follower) before(ctx context.Context, tenant string) {
	ctx, cancel := context.WithTimeout(ctx, beforeAtMost)
	defer cancel()
	version, err := f.p.Version(ctx, tenant)
	if err == nil {
		err = f.Reach(ctx, tenant, version)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		f.log.Warn("an edit comes before others that are not in force here", "tenant", tenant, "error", err)
	}
}

// Reached is the version up to which every edit is in force here.
func (f *follower) Reached(tenant string) int64 {
	at, _ := f.of(tenant).state()
	return at
}

// changesPage is how many rows of the log of changes are read at once.
const changesPage = 2000

// follow puts in force what the log of changes has after a version. What it
// does not know yet is of a tenant that another node made: then everything is
// loaded.
func (f *follower) follow(ctx context.Context, tenant string, t *followed, after int64, known bool) error {
	d := newDoubt()
	now, err := f.p.Version(ctx, tenant)
	if err != nil {
		return err
	}
	if !known {
		d.everything()
	}
	for known && after < now {
		rows, err := f.p.ChangesSince(ctx, tenant, after, changesPage)
		if err != nil {
			return err
		}
		t.mu.Lock()
		for i := range rows {
			if !t.own[rows[i].Version] || rows[i].Kind == belfry.KindEverything {
				d.note(&rows[i])
			}
		}
		t.mu.Unlock()
		if after = now; len(rows) >= changesPage { // pages end between edits
			after = rows[len(rows)-1].Version
		}
	}
	if err := f.p.asStored(ctx, tenant, d); err != nil {
		return err
	}
	f.start(tenant, now)
	f.p.sealer.Look()
	return nil
}

// note adds what one change touched.
func (d *doubt) note(c *belfry.Change) {
	switch c.Kind {
	case belfry.KindEverything: // what was before is not in the log any more
		d.everything()
	case belfry.KindSubscription:
		d.subs[c.Key] = struct{}{}
		d.bound()
	case belfry.KindKey, belfry.KindTenant, belfry.KindTemplate, belfry.KindChannel, belfry.KindSource, belfry.KindEndpoint,
		belfry.KindSetting, belfry.KindDelivery:
		d.docs[belfry.DocumentKey{Kind: c.Kind, ID: c.Key}] = struct{}{}
	}
}

// everything adds all there is.
func (d *doubt) everything() {
	d.all = true
	for _, kind := range inMemory {
		d.docs[belfry.DocumentKey{Kind: kind}] = struct{}{} // channels and sources are loaded whole
	}
}

// edited says that a tenant was edited elsewhere; "" that any may have been.
func (f *follower) edited(tenant string) {
	f.mu.Lock()
	f.told[tenant] = true
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// followEvery is how often a node looks for edits it was not told of.
const followEvery = time.Second

// Run follows until ctx ends.
func (f *follower) Run(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		case <-tick.C:
			all = true
		}
		f.mu.Lock()
		told := f.told
		f.told = map[string]bool{}
		f.mu.Unlock()
		if err := f.catchUp(ctx, told, all || told[""]); err != nil && ctx.Err() == nil {
			f.log.Warn("following the edits of other nodes", "error", err)
		}
	}
}

func (f *follower) catchUp(ctx context.Context, told map[string]bool, all bool) error {
	versions, err := f.p.TenantVersions(ctx)
	if err != nil {
		return err
	}
	for tenant, version := range versions {
		if all || told[tenant] {
			if err := f.Reach(ctx, tenant, version); err != nil {
				return err
			}
		}
	}
	return nil
}

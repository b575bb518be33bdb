package pipeline

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/route"
)

// SealStore is what the Sealer needs of the store.
type SealStore interface {
	DueBundles(ctx context.Context, tenant string, until time.Time, limit int, shards []int) ([]belfry.Bundle, error)
	NextBundle(ctx context.Context, tenant string, shards []int) (time.Time, bool, error)
	// NextBundles is NextBundle of all tenants that have one.
	NextBundles(ctx context.Context, shards []int) (map[string]time.Time, error)
	SealBundles(ctx context.Context, seals []belfry.Seal) ([]bool, error)

	// What is decided anew while digests gather: see regather.go.
	Looks(ctx context.Context, shards []int, limit int) ([]belfry.Look, error)
	OpenBundles(ctx context.Context, tenant string, who []string, after, until string, now time.Time, limit int) ([]belfry.Bundle, error)
	LastBundle(ctx context.Context, tenant string) (string, error)
	BundleItems(ctx context.Context, tenant string, bundles []string, limit int) (map[string][]belfry.BundleItem, error)
	// WaitingItems are those of a bundle that wait, after one, in the order of ids.
	WaitingItems(ctx context.Context, tenant, bundle, after string, limit int) ([]belfry.BundleItem, error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	DeliveryStates(ctx context.Context, tenant string, ids []string) (map[string]belfry.State, error)
	InboxEntries(ctx context.Context, tenant string, ids []string) (map[string]bool, error)
	Regather(ctx context.Context, list []belfry.Regather, looks []belfry.Look) error
}

// SealerOptions are the parts a Sealer works with; all are needed.
type SealerOptions struct {
	Store      SealStore
	Facts      *Facts
	Stages     *Stages
	Channels   ChannelList
	Dispatcher *Dispatcher
	Shards     Shards
	Peers      Peers
	Counters   *Counters
	Log        *slog.Logger
	Now        func() time.Time
	Poll       time.Duration // safety net: look for due digests at least so often
}

// Sealer ends the gathering of digests as they fall due: door 4 makes each a
// message with its items and id for good, and the Dispatcher sends it as any
// other. A digest belongs to the delivery shard of whom it is for; that two
// processes seal one is no harm, since only one finds it open.
type Sealer struct {
	o    SealerOptions
	part int // lookItems; tests have less

	mu   sync.Mutex
	next map[string]time.Time // by tenant: when something falls due
	wake chan struct{}
}

// NewSealer makes a Sealer; nothing is sealed before Run.
func NewSealer(o SealerOptions) *Sealer {
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	return &Sealer{o: o, part: lookItems, next: map[string]time.Time{}, wake: make(chan struct{}, 1)}
}

// Expect says that a digest of a tenant may fall due at a time.
func (s *Sealer) Expect(tenant string, due time.Time) {
	if !s.expect(tenant, due) {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Look makes the Sealer decide anew where something was edited that decides how
// and when digests are told.
func (s *Sealer) Look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// expect notes when to look; false when it is to be looked before.
func (s *Sealer) expect(tenant string, due time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next, known := s.next[tenant]; known && !due.Before(next) {
		return false
	}
	s.next[tenant] = due
	return true
}

// planned is Expect for the digests of a page, here and elsewhere.
func (s *Sealer) planned(page *belfry.PlanPage) {
	var least time.Time
	for i := range page.Deliveries {
		if b := page.Deliveries[i].Digest; b != nil && (least.IsZero() || b.Least().Before(least)) {
			least = b.Least()
		}
	}
	if least.IsZero() {
		return
	}
	s.Expect(page.Tenant, least)
	if s.o.Shards.Shared() {
		s.o.Peers.Tell(belfry.Wake{Tenant: page.Tenant, Due: least})
	}
}

// Run seals until ctx ends; the batch under way is finished.
func (s *Sealer) Run(ctx context.Context) error {
	poll := time.NewTicker(s.o.Poll)
	defer poll.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	s.survey(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-due.C:
		case <-poll.C:
			s.survey(ctx)
		}
		if err := s.looks(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Error("deciding anew about digests", "error", err)
		}
		due.Reset(s.round(ctx))
	}
}

// survey is the safety net: it learns when the next digest of each tenant falls
// due.
func (s *Sealer) survey(ctx context.Context) {
	next, err := s.o.Store.NextBundles(ctx, s.o.Shards.Mine(belfry.LeaseDelivery))
	if err != nil {
		if ctx.Err() == nil {
			s.o.Log.Error("looking for digests", "error", err)
		}
		return
	}
	for tenant, due := range next {
		s.expect(tenant, due)
	}
}

// round seals what is due and says how long there is nothing more to do.
func (s *Sealer) round(ctx context.Context) time.Duration {
	wait := time.Hour
	now := s.o.Now()
	var look []string
	s.mu.Lock()
	for tenant, next := range s.next {
		if next.After(now) {
			wait = min(wait, next.Sub(now))
		} else {
			look = append(look, tenant)
			delete(s.next, tenant) // what is told of from here on is not overlooked
		}
	}
	s.mu.Unlock()
	for _, tenant := range look {
		next, ok, err := s.tenant(ctx, tenant)
		if err != nil && ctx.Err() == nil {
			s.o.Log.Error("sealing digests", "tenant", tenant, "error", err)
			next, ok = s.o.Now().Add(time.Second), true
		}
		if ok {
			s.Expect(tenant, next)
			wait = min(wait, max(0, next.Sub(s.o.Now())))
		}
	}
	return wait
}

// sealPage is how many digests one call of door 4 carries.
const sealPage = 512

// tenant seals what is due of one tenant and says when the next one is.
func (s *Sealer) tenant(ctx context.Context, tenant string) (next time.Time, ok bool, err error) {
	shards := s.o.Shards.Mine(belfry.LeaseDelivery)
	for ctx.Err() == nil {
		now := s.o.Now()
		due, err := s.o.Store.DueBundles(ctx, tenant, now, sealPage, shards)
		if err != nil {
			return next, false, err
		}
		if len(due) == 0 {
			break
		}
		if err := s.seal(ctx, tenant, due, now); err != nil {
			return next, false, err
		}
		if len(due) < sealPage {
			break
		}
	}
	return s.o.Store.NextBundle(ctx, tenant, shards)
}

func (s *Sealer) seal(ctx context.Context, tenant string, due []belfry.Bundle, now time.Time) error {
	ids := make([]string, 0, len(due))
	for i := range due {
		if due[i].Principal != "" {
			ids = append(ids, due[i].Principal)
		}
	}
	view, err := s.o.Facts.Directory.At(ctx, tenant, 0)
	if err != nil {
		return err
	}
	people, err := view.Persons(ids)
	if err != nil {
		return err
	}
	despite, err := s.despite(ctx, tenant, due, people)
	if err != nil {
		return err
	}
	over, err := s.limits(ctx, tenant, ready(due, people, despite, now), people, now)
	if err != nil {
		return err
	}
	channels, _ := s.o.Channels.Routes(tenant)
	seals := make([]belfry.Seal, 0, len(due))
	var first time.Time
	for i := range due {
		b := &due[i]
		var ch *route.ChannelInfo
		for k := range channels {
			if channels[k].Name == b.Channel {
				ch = &channels[k]
			}
		}
		person := people[b.Principal]
		if p := despite[b.ID]; p != nil {
			person = p
		}
		address, why, until := route.Ready(b, person, ch, now)
		seal := belfry.Seal{Tenant: tenant, Bundle: b.ID, At: now}
		wait, waits := over[b.ID]
		switch {
		case !until.IsZero():
			if seal.Until = until; b.Asked() { // it goes then, whatever limits say
				seal.Drop = b.Because
			}
		case waits:
			seal.Until, seal.Drop, seal.Seen = wait.until, &wait.why, wait.seen
		case why != nil && b.Principal != "" && (why.Code == belfry.NoAddress || why.Code == belfry.NotVerified || why.Code == belfry.ContactDisabled || why.Code == belfry.ContactDead):
			// The send says so, and looks for another way.
			address = b.Address
			fallthrough
		case why == nil:
			seal.Message = messageOf(b, person, address, now)
			if first.IsZero() || b.Due.Before(first) {
				first = b.Due
			}
		default:
			seal.Drop = why
		}
		seals = append(seals, seal)
	}
	// What is begun here is ended: half a batch sealed is no harm, but whoever
	// waits for it would wait for the next look.
	applied, err := s.o.Store.SealBundles(context.WithoutCancel(ctx), seals)
	if !first.IsZero() {
		s.o.Dispatcher.Wake(tenant, first)
		if s.o.Shards.Shared() {
			s.o.Peers.Tell(belfry.Wake{Tenant: tenant, Due: first})
		}
	}
	for _, done := range applied {
		if done {
			s.o.Counters.Sealed.Add(1)
		}
	}
	return err
}

// ready are those of due digests that nothing but a limit holds back: what is not
// sent takes nothing of it.
func ready(due []belfry.Bundle, people, despite map[string]*belfry.Person, now time.Time) (out []belfry.Bundle) {
	for i := range due {
		person := people[due[i].Principal]
		if p := despite[due[i].ID]; p != nil {
			person = p
		}
		if _, why, until := route.Ready(&due[i], person, nil, now); why == nil && until.IsZero() {
			out = append(out, due[i])
		}
	}
	return out
}

// messageOf is the delivery a bundle becomes.
func messageOf(b *belfry.Bundle, person *belfry.Person, address string, now time.Time) *belfry.Delivery {
	d := &belfry.Delivery{
		Tenant: b.Tenant, ID: belfry.NewID(belfry.DeliveryPrefix, now), EventID: b.ID, Bundle: b.ID, Channel: b.Channel, Principal: b.Principal,
		Address: address, Destination: b.Destination, Shard: b.Shard, State: belfry.Scheduled, Due: b.Due, Priority: belfry.PriorityDigest, Locale: b.Locale,
		Because: []belfry.Reason{{Code: belfry.InDigest, Detail: b.Frequency.String()}},
	}
	if b.Held {
		d.Priority, d.Because = belfry.PriorityNormal, []belfry.Reason{{Code: belfry.InQuiet}}
	}
	if b.Asked() {
		d.Because = append(d.Because, *b.Because)
	}
	if person != nil {
		d.Locale = person.User.Locale
	}
	return d
}

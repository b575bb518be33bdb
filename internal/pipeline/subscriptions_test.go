package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/match"
	"github.com/belfryhq/belfry/internal/store"
)

// slowReads is a store whose reads of a tenant wait until they are let through.
type slowReads struct {
	*store.DB
	tenant string
	begun  chan string   // after of each page
	let    chan struct{} // closed: all through
}

func (g *slowReads) ActiveSubscriptions(ctx context.Context, tenant, after string, limit int) ([]belfry.Subscription, error) {
	list, err := g.DB.ActiveSubscriptions(ctx, tenant, after, limit)
	if tenant == g.tenant {
		g.begun <- after
		select {
		case <-g.let:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return list, err
}

func apply(t *testing.T, db *store.DB, tenant string, subs ...belfry.Subscription) {
	t.Helper()
	if _, err := db.Apply(t.Context(), belfry.Changes{Tenant: tenant, Subscriptions: subs}); err != nil {
		t.Fatal(err)
	}
}

func some(n int) []belfry.Subscription {
	subs := make([]belfry.Subscription, n)
	for i := range subs {
		subs[i] = belfry.Subscription{ID: fmt.Sprintf("sub_%05d", i), Types: []string{"a.b"}, State: belfry.SubscriptionActive, Filter: fmt.Sprintf("event.data.n == %d", i)}
	}
	return subs
}

func matching(t *testing.T, s *Subscriptions, tenant string, n int) []string {
	t.Helper()
	snap, err := s.Snapshot(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range snap.Match(&belfry.Event{Type: "a.b", Data: fmt.Appendf(nil, `{"n":%d}`, n)}, match.Facts{}) {
		ids = append(ids, m.Subscription.ID)
	}
	return ids
}

// Every page is filed, and only what is active.
func TestSubscriptionsAreLoaded(t *testing.T) {
	db := sqlite(t)
	subs := some(2*loadPage + 1)
	subs[1].State = belfry.SubscriptionPaused
	for from := 0; from < len(subs); from += 1000 {
		apply(t, db, "a", subs[from:min(from+1000, len(subs))]...)
	}
	s := NewSubscriptions(db, slog.New(slog.DiscardHandler))
	for _, i := range []int{0, 1, loadPage - 1, loadPage, 2*loadPage - 1, 2 * loadPage} {
		want := []string{subs[i].ID}
		if i == 1 {
			want = nil
		}
		if d := cmp.Diff(want, matching(t, s, "a", i)); d != "" {
			t.Errorf("%d (-want +got)\n%s", i, d)
		}
	}
	snap, err := s.Snapshot(t.Context(), "a")
	if want := len(subs) - 1 + BuiltIns(); err != nil || snap.Len() != want { // the paused one less, the built-in ones more
		t.Errorf("%d loaded, want %d; %v", snap.Len(), want, err)
	}
}

// A tenant that is being loaded delays nobody but those who ask for it, and
// those only as long as they like.
func TestLoadingDelaysOnlyItsTenant(t *testing.T) {
	g := &slowReads{DB: sqlite(t), tenant: "big", begun: make(chan string, 10), let: make(chan struct{})}
	apply(t, g.DB, "big", some(3)...)
	apply(t, g.DB, "small", some(2)...)
	s := NewSubscriptions(g, slog.New(slog.DiscardHandler))
	var loading sync.WaitGroup
	loading.Go(func() {
		if err := s.Load(context.Background(), "big"); err != nil {
			t.Error(err)
		}
	})
	<-g.begun
	if got := matching(t, s, "small", 1); len(got) != 1 {
		t.Errorf("small tenant: %v", got)
	}
	changed := some(1)
	changed[0].Filter = "event.data.n == 77"
	apply(t, g.DB, "small", changed...)
	if err := s.Publish(t.Context(), "small", changed); err != nil || len(matching(t, s, "small", 77)) != 1 {
		t.Errorf("the edit is not in force, %v", err)
	}
	soon, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Load(soon, "big"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want to wait no longer", err)
	}
	close(g.let)
	loading.Wait()
	if got := matching(t, s, "big", 2); len(got) != 1 {
		t.Errorf("big tenant: %v", got)
	}
}

// An edit that was made after a page was read, and published while the load
// goes on, is in force when it ends.
func TestPublishWhileLoading(t *testing.T) {
	g := &slowReads{DB: sqlite(t), tenant: "a", begun: make(chan string, 10), let: make(chan struct{})}
	apply(t, g.DB, "a", some(3)...)
	s := NewSubscriptions(g, slog.New(slog.DiscardHandler))
	var working sync.WaitGroup
	working.Go(func() {
		if err := s.Load(context.Background(), "a"); err != nil {
			t.Error(err)
		}
	})
	<-g.begun // the page has been read
	changed := some(2)
	changed[0].Filter = "event.data.n == 77"
	changed[1].State, changed[1].Because = belfry.SubscriptionEnded, "because"
	apply(t, g.DB, "a", changed...)
	working.Go(func() {
		if err := s.Publish(context.Background(), "a", changed); err != nil {
			t.Error(err)
		}
	})
	close(g.let)
	working.Wait()
	if a, b, c := matching(t, s, "a", 77), matching(t, s, "a", 0), matching(t, s, "a", 1); len(a) != 1 || len(b) != 0 || len(c) != 0 {
		t.Errorf("%v, %v, %v", a, b, c)
	}
}

// A load that was begun before a Forget is not what those who ask later get,
// and one that failed leaves nothing behind.
func TestForgetWhileLoading(t *testing.T) {
	g := &slowReads{DB: sqlite(t), tenant: "a", begun: make(chan string, 10), let: make(chan struct{})}
	apply(t, g.DB, "a", some(1)...)
	s := NewSubscriptions(g, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	loading.Go(func() {
		if err := s.Load(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want the load to be given up", err)
		}
	})
	<-g.begun
	cancel()
	loading.Wait()

	loading.Go(func() {
		if got := matching(t, s, "a", 77); len(got) != 1 {
			t.Errorf("an old view: %v", got)
		}
	})
	<-g.begun // the second load has read the page
	changed := some(1)
	changed[0].Filter = "event.data.n == 77"
	apply(t, g.DB, "a", changed...)
	s.Forget("a") // the edit was made somewhere else
	close(g.let)
	loading.Wait()
}

// feature: NEW-4
func TestStanding(t *testing.T) {
	db := sqlite(t)
	subs := some(4)
	subs[1].State, subs[1].Because = belfry.SubscriptionPaused, "paused by user/2"
	apply(t, db, "a", subs[:3]...)
	s := NewSubscriptions(db, slog.New(slog.DiscardHandler))
	standing := func(id string) string {
		t.Helper()
		sub, reason, err := s.Standing(t.Context(), "a", id)
		switch {
		case err != nil:
			return err.Error()
		case reason != nil:
			return reason.Code + ": " + reason.Detail
		}
		return sub.Filter
	}
	if got := standing(subs[0].ID); got != "event.data.n == 0" {
		t.Error(got)
	}
	for range 2 { // read, then remembered
		if got := standing(subs[1].ID); got != belfry.SubscriptionWaits+": paused by user/2" {
			t.Error(got)
		}
		if got := standing("sub_none"); got != belfry.SubscriptionGone+": " {
			t.Error(got)
		}
	}
	if got := standing(NoticesID); got != "" {
		t.Error(got)
	}
	apply(t, db, "a", subs[3]) // by another node, and not yet followed here
	if got := standing(subs[3].ID); got != "event.data.n == 3" {
		t.Error(got)
	}
	for _, c := range []struct{ state, because, want string }{
		{belfry.SubscriptionActive, "", "event.data.n == 1"},
		{belfry.SubscriptionEnded, "its object is gone", belfry.SubscriptionGone + ": its object is gone"},
	} {
		subs[1].State, subs[1].Because = c.state, c.because
		apply(t, db, "a", subs[1])
		if err := s.Publish(t.Context(), "a", subs[1:2]); err != nil {
			t.Fatal(err)
		}
		if got := standing(subs[1].ID); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// Nothing is remembered of a read that an edit overtook.
func TestStandingRemembersNothingStale(t *testing.T) {
	db := sqlite(t)
	subs := some(1)
	subs[0].State, subs[0].Because = belfry.SubscriptionPaused, "first"
	apply(t, db, "a", subs...)
	o := &overtaken{DB: db}
	s := NewSubscriptions(o, slog.New(slog.DiscardHandler))
	if err := s.Load(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	o.then = func() {
		o.then = nil
		subs[0].Because = "second"
		apply(t, db, "a", subs...)
		if err := s.Publish(t.Context(), "a", subs); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"first", "second"} {
		if _, r, err := s.Standing(t.Context(), "a", subs[0].ID); err != nil || r == nil || r.Detail != want {
			t.Errorf("%+v, %v, want %s", r, err, want)
		}
	}
}

type overtaken struct {
	*store.DB
	then func()
}

func (o *overtaken) Subscription(ctx context.Context, tenant, id string) (belfry.Subscription, bool, error) {
	sub, found, err := o.DB.Subscription(ctx, tenant, id)
	if o.then != nil {
		o.then()
	}
	return sub, found, err
}

// Filters that this version refuses are told once a page, and match nothing.
func TestInvalidFiltersAreTold(t *testing.T) {
	db := sqlite(t)
	subs := some(3)
	subs[0].Filter, subs[1].Filter = "event.data.n ==", "event.type == 5"
	apply(t, db, "a", subs...)
	var log strings.Builder
	s := NewSubscriptions(db, slog.New(slog.NewTextHandler(&log, nil)))
	if got := matching(t, s, "a", 2); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "subscriptions=2") || !strings.Contains(log.String(), subs[0].ID) {
		t.Errorf("log: %s", log.String())
	}
}

// BenchmarkLoad is what a start with so many subscriptions takes.
func BenchmarkLoad(b *testing.B) {
	db := sqlite(b)
	const n = 100_000
	for from := 0; from < n; from += 2000 {
		ch := belfry.Changes{Tenant: "a"}
		for i := from; i < from+2000; i++ {
			ch.Subscriptions = append(ch.Subscriptions, belfry.Subscription{
				ID: belfry.NewID(belfry.SubscriptionPrefix, time.UnixMilli(int64(i))), Title: fmt.Sprintf("Changes of course %d", i), Types: []string{"core.course_*"},
				Filter:     fmt.Sprintf("event.data.shortname == 'course-%d' && event.data.grade > %d.5", i, i),
				Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{fmt.Sprintf("user/%d", i)}}}},
				Owner:      fmt.Sprintf("user/%d", i), State: belfry.SubscriptionActive, Created: time.UnixMilli(int64(i)).UTC(),
			})
		}
		if _, err := db.Apply(b.Context(), ch); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := NewSubscriptions(db, slog.New(slog.DiscardHandler)).Load(b.Context(), "a"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/subscription")
}

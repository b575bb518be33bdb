package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// past is a store whose clock the test sets.
func past(t *testing.T) (*store.DB, *atomic.Int64) {
	t.Helper()
	at := &atomic.Int64{}
	db, err := store.Open(t.Context(), store.Options{URL: storetest.SQLitePlace(t), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.UnixMicro(at.Load()).UTC() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, at
}

// school are a course with two teachers, one of whom reads no mail.
func (h *house) school() {
	h.t.Helper()
	h.apply(belfry.Changes{
		Objects: []belfry.Object{{ID: "course/1", Type: "course", Title: "Physics"}},
		Users: []belfry.User{
			{ID: "user/1", Name: "Ada", State: belfry.UserActive, Email: "ada@example.org", Contacts: []belfry.Contact{{Kind: "email", Address: "ada@example.org", Verified: true}}},
			{ID: "user/2", Name: "Bob", State: belfry.UserActive},
			{ID: "user/3", Name: "Cy", State: belfry.UserSuspended},
		},
		Grants: []belfry.GrantSet{{Object: "course/1", Grants: []belfry.Grant{
			{Principal: "user/1", Role: "teacher"}, {Principal: "user/2", Role: "teacher"}, {Principal: "user/3", Role: "teacher"},
		}}},
	})
}

func teachers(id string) belfry.Subscription {
	return belfry.Subscription{ID: id, Title: "Teachers", Types: []string{"course.*"}, State: belfry.SubscriptionActive, Created: clock(),
		Filter: "event.data.n >= 2", Recipients: []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"teacher"}}}}}
}

// numbered accepts events whose data say their number.
func (h *house) numbered(typ string, from, to int) {
	h.t.Helper()
	for n := from; n < to; n++ {
		e := &belfry.Event{ID: fmt.Sprintf("%s-%d", typ, n), Source: "/test", Type: typ, Time: clock(), Object: "course/1", Data: fmt.Appendf(nil, `{"n":%d}`, n)}
		body, err := json.Marshal(e)
		if err != nil {
			h.t.Fatal(err)
		}
		if _, err := h.db.AcceptEvents(context.Background(), []belfry.Draft{{Tenant: belfry.DefaultTenant, Event: e, Body: body}}); err != nil {
			h.t.Fatal(err)
		}
	}
}

// feature: NEW-2 volume per person and week, per channel, reasons and samples,
// of a subscription that is saved nowhere; nothing is sent
// feature: PEER-14
func TestBacktest(t *testing.T) {
	db, at := past(t)
	h := newHouse(t, db, nil)
	h.school()
	since := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	at.Store(since.Add(-time.Hour).UnixMicro())
	h.numbered("course.updated", 100, 101) // before the range
	at.Store(since.Add(time.Hour).UnixMicro())
	h.numbered("course.updated", 0, 5) // two of them are filtered out
	h.numbered("forum.posted", 5, 9)
	at.Store(since.Add(8 * 24 * time.Hour).UnixMicro())
	h.numbered("course.deleted", 2, 3)
	at.Store(since.Add(14 * 24 * time.Hour).UnixMicro())
	h.numbered("course.updated", 200, 201) // after the range

	now := clock() // stands still: a busy machine makes nobody wait
	b := NewBacktester(h.ex.Stages, db, func() time.Time { return now })
	ask := belfry.Backtest{Subscription: teachers(belfry.SupposedID), Since: since, Until: since.Add(14 * 24 * time.Hour)}
	r, done, err := b.Short(t.Context(), belfry.DefaultTenant, &ask)
	if err != nil || !done {
		t.Fatalf("%v, %v", done, err)
	}
	// Ada hears by inbox and mail, Bob by inbox.
	if r.Events != 6 || r.Matched != 4 || r.People != 2 || r.Messages != 12 || r.Channels["inbox"] != 8 || r.Channels["email"] != 4 || r.AtLeast || r.Cut {
		t.Errorf("%+v", r)
	}
	if len(r.Weeks) != 2 || r.Weeks[0].Messages != 9 || r.Weeks[0].People != 2 || r.Weeks[1].Matched != 1 || !r.Weeks[1].Start.Equal(since.Add(week)) {
		t.Errorf("weeks %+v", r.Weeks)
	}
	if r.PerWeek.Mean != 3 || r.PerWeek.Most != 6 {
		t.Errorf("volume %+v", r.PerWeek)
	}
	if len(r.Most) != 2 || r.Most[0] != (belfry.BacktestPerson{Who: "user/1", Messages: 8, InAWeek: 6}) {
		t.Errorf("most %+v", r.Most)
	}
	if r.NotTold[belfry.UserIsSuspended] != 4 || r.NotTold[belfry.NoAddress] != 4 {
		t.Errorf("not told %+v", r.NotTold)
	}
	if len(r.Samples) != 4 || r.Samples[0].Type != "course.deleted" || r.Samples[0].Because[2].Code != belfry.FilterTrue || len(r.Samples[0].People) == 0 || len(r.Samples[0].People[0].Deliveries) != 0 {
		t.Errorf("samples %+v", r.Samples)
	}
	stats, err := db.Stats(t.Context())
	if err != nil || stats.Tenants[belfry.DefaultTenant].OpenDeliveries != 0 || stats.Tenants[belfry.DefaultTenant].PendingPlans != 12 {
		t.Errorf("a backtest changed something: %+v, %v", stats, err)
	}
	if _, known := must(h.subs.Snapshot(t.Context(), belfry.DefaultTenant)).Get(belfry.SupposedID); known {
		t.Error("what is only supposed is in the index")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A backtest says what planning did, as long as nothing was changed since.
func TestBacktestIsWhatHappened(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.school()
	h.apply(belfry.Changes{Subscriptions: []belfry.Subscription{teachers("sub_t")}})
	since := clock().Add(-time.Minute)
	h.numbered("course.updated", 0, 40)
	h.run()
	h.drained()
	ds, _, err := h.db.ListDeliveries(t.Context(), belfry.DefaultTenant, store.DeliveryFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	_, unread, _, err := h.db.Inbox(t.Context(), belfry.DefaultTenant, "user/1", store.InboxFilter{})
	if err != nil {
		t.Fatal(err)
	}
	now := clock() // it stands: a busy machine is not too long for somebody to wait for
	b := NewBacktester(h.ex.Stages, h.db, func() time.Time { return now })
	r, done, err := b.Short(t.Context(), belfry.DefaultTenant, &belfry.Backtest{Subscription: teachers("sub_t"), Since: since, Until: clock().Add(time.Second)})
	if err != nil || !done || r.Matched != 38 || r.Channels["email"] != int64(len(ds)) || r.Channels["inbox"] != 2*int64(unread) {
		t.Errorf("%+v, %v, %v; sent were %d mails and %d inbox entries to her", r, done, err, len(ds), unread)
	}
}

// The job tells how far it is, goes on in small steps, and another process that
// takes it up counts anew, so that nothing is counted twice.
func TestBacktestJob(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.school()
	since := clock().Add(-time.Minute)
	h.numbered("course.updated", 0, 250)
	h.run()
	h.drained() // a job waits while much is to be planned
	ask, err := json.Marshal(belfry.Backtest{Subscription: teachers(belfry.SupposedID), Since: since, Until: clock().Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	id := belfry.NewID(belfry.JobPrefix, clock())
	h.apply(belfry.Changes{Jobs: []belfry.Job{{ID: id, Kind: belfry.BacktestJob, Params: ask, Created: clock()}}})
	ctx := t.Context()
	work := func(b *Backtester, owner string, most int) (j belfry.Job) {
		j, ok, err := h.db.ClaimJob(ctx, belfry.DefaultTenant, id, owner, 0)
		if err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		for range most {
			step, err := b.Job(ctx, &j)
			if err != nil {
				t.Fatal(err)
			}
			if !step.Recorded {
				if ok, err := h.db.StepJob(ctx, &j, step); err != nil || !ok {
					t.Fatalf("%v, %v", ok, err)
				}
			}
			if j.Cursor, j.Done, j.Total, j.Result, j.State = step.Cursor, step.Done, step.Total, step.Result, step.State; !j.State.Open() {
				return j
			}
		}
		return j
	}
	// A clock that moves on by itself makes each step one event, and each second one told.
	var tick atomic.Int64
	slow := func() time.Time { return time.Unix(0, tick.Add(int64(11*time.Millisecond))) }
	if j := work(NewBacktester(h.ex.Stages, h.db, slow), "one", 120); !j.State.Open() || j.Done == 0 || j.Done > 120 || j.Total != 250 {
		t.Fatalf("in the middle: %+v", j)
	}
	j := work(NewBacktester(h.ex.Stages, h.db, slow), "two", 10_000)
	var r belfry.BacktestReport
	if err := json.Unmarshal(j.Result, &r); err != nil || j.State != belfry.JobDone || j.Done != 250 || r.Events != 250 || r.Matched != 248 || r.People != 2 {
		t.Errorf("%+v, %v, %+v", j.State, err, r)
	}
}

// What is counted is bounded, and the report says so.
func TestBacktestIsBounded(t *testing.T) {
	run := &backtest{people: map[string]*heard{}, sum: belfry.BacktestReport{Weeks: make([]belfry.BacktestWeek, 1), Channels: map[string]int64{}, NotTold: map[string]int64{}}}
	ds := make([]belfry.Delivery, backtestPeople+10)
	for i := range ds {
		ds[i] = belfry.Delivery{Channel: "email", Address: fmt.Sprintf("a%d@example.org", i)}
	}
	run.add(ds, nil, 0)
	if r := run.report(); r.People != backtestPeople || !r.AtLeast || r.Messages != int64(len(ds)) || len(r.Most) != backtestMost {
		t.Errorf("%d people, %v, %d messages, %d shown", r.People, r.AtLeast, r.Messages, len(r.Most))
	}
	// A second one does not wait for somebody's answer but becomes a job.
	b := NewBacktester(nil, nil, clock)
	b.turn <- struct{}{}
	if _, done, err := b.Short(t.Context(), "", nil); done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
}

package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// planned stores an event with n deliveries and gives their ids.
func planned(t testing.TB, db *store.DB, event string, n int) (ids []string) {
	t.Helper()
	id := acceptOne(t, db, event)
	page := belfry.PlanPage{Tenant: tenant, EventID: id, Last: true}
	for i := range n {
		d := delivery(id, "email", fmt.Sprint(i))
		page.Deliveries = append(page.Deliveries, d)
		ids = append(ids, d.ID)
	}
	commit(t, db, page)
	return ids
}

func attempt(id string, n int, state belfry.State, set ...func(*belfry.Attempt)) belfry.Attempt {
	a := belfry.Attempt{Tenant: tenant, DeliveryID: id, N: n, At: time.UnixMicro(1_800_000_000_000_001).UTC(), Took: 1500 * time.Microsecond, State: state,
		Outcome: belfry.Outcome{Kind: belfry.OutcomeDelivered, Status: 204}}
	for _, f := range set {
		f(&a)
	}
	return a
}

func testAttempts(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	ids := planned(t, db, "1", 4)
	read := func(id string) belfry.Delivery {
		t.Helper()
		d, ok, err := db.Delivery(ctx, tenant, id)
		if err != nil || !ok {
			t.Fatalf("delivery %s: %v, %v", id, ok, err)
		}
		return d
	}

	first := attempt(ids[0], 1, belfry.Delivered)
	same(t, "applied", record(t, db, first, attempt("dlv_unknown", 1, belfry.Delivered), attempt(ids[1], 2, belfry.Delivered)), []bool{true, false, false})
	if d := read(ids[0]); d.State != belfry.Delivered || d.Attempts != 1 {
		t.Errorf("after a delivery: %v, %d attempts", d.State, d.Attempts)
	}
	if d := read(ids[1]); d.State != belfry.Scheduled || d.Attempts != 0 {
		t.Errorf("an attempt out of turn changed the delivery: %v, %d attempts", d.State, d.Attempts)
	}
	same(t, "the attempt", must[[]belfry.Attempt](t)(db.Attempts(ctx, tenant, ids[0])), []belfry.Attempt{first})
	if last := must[map[string]belfry.Attempt](t)(db.LastAttempts(ctx, tenant, ids[:1])); len(last) != 0 {
		t.Errorf("a delivery that succeeded at once has attempts: %+v", last)
	}

	// A late answer, a zombie's repeat, a change of what is closed.
	same(t, "of a closed delivery", record(t, db, attempt(ids[0], 1, belfry.Failed), attempt(ids[0], 2, belfry.Failed), attempt(ids[0], 0, belfry.Cancelled)), []bool{false, false, false})
	if d := read(ids[0]); d.State != belfry.Delivered {
		t.Errorf("a closed delivery became %v", d.State)
	}

	// Two attempts of one delivery in one call, a repeat among them.
	due := time.UnixMicro(1_900_000_000_000_000).UTC()
	retry := attempt(ids[1], 1, belfry.Retrying, func(a *belfry.Attempt) {
		a.Due, a.Outcome = due, belfry.Outcome{Kind: belfry.OutcomeRetry, Status: 503, After: 7 * time.Second, Detail: "busy", Throttled: true}
	})
	gone := attempt(ids[1], 2, belfry.Failed, func(a *belfry.Attempt) {
		a.Outcome, a.Because = belfry.Outcome{Kind: belfry.OutcomeGone, Status: 410, Detail: "gone"}, &belfry.Reason{Code: belfry.ContactDead, Detail: "410"}
	})
	same(t, "in order", record(t, db, retry, retry, gone), []bool{true, false, true})
	same(t, "attempts", must[[]belfry.Attempt](t)(db.Attempts(ctx, tenant, ids[1])), []belfry.Attempt{retry, gone})
	d := read(ids[1])
	if d.State != belfry.Failed || d.Attempts != 2 || d.Because[len(d.Because)-1].Code != belfry.ContactDead {
		t.Errorf("after 410: %+v", d)
	}

	// No send: only the state changes.
	off := attempt(ids[2], 0, belfry.Cancelled, func(a *belfry.Attempt) { a.Because = &belfry.Reason{Code: belfry.SubscriptionGone} })
	later := attempt(ids[3], 0, belfry.Scheduled, func(a *belfry.Attempt) { a.Due = due })
	same(t, "without sends", record(t, db, off, later), []bool{true, true})
	d = read(ids[2])
	if d.State != belfry.Cancelled || d.Attempts != 0 || d.Because[len(d.Because)-1].Code != belfry.SubscriptionGone {
		t.Errorf("a cancelled delivery: %+v", d)
	}
	if d = read(ids[3]); !d.Due.Equal(due) || d.Attempts != 0 || d.State != belfry.Scheduled {
		t.Errorf("a postponed delivery: %+v", d)
	}
	if as := must[[]belfry.Attempt](t)(db.Attempts(ctx, tenant, ids[2])); len(as) != 0 {
		t.Errorf("no send left attempts: %+v", as)
	}
	if n := must[store.Stats](t)(db.Stats(ctx)).Tenants[tenant].OpenDeliveries; n != 1 {
		t.Errorf("%d open deliveries, want 1", n)
	}
	if applied, err := db.RecordAttempts(ctx, nil); err != nil || len(applied) != 0 {
		t.Errorf("no attempts: %v, %v", applied, err)
	}
}

func testRetries(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	id := planned(t, db, "1", 1)[0]
	if err := db.Park(ctx, tenant, []string{id}); err != nil {
		t.Fatal(err)
	}
	at := func(n int) time.Time { return time.Unix(int64(1_900_000_000+n), 0).UTC() }
	for n := 1; n <= 5; n++ {
		if !record(t, db, attempt(id, n, belfry.Retrying, func(a *belfry.Attempt) { a.Due = at(n) }))[0] {
			t.Fatalf("attempt %d was not applied", n)
		}
		due, ok, err := db.NextDue(ctx, tenant, at(0), nil)
		if err != nil || !ok || !due.Equal(at(n)) {
			t.Fatalf("due %v, %v, %v; want %v", due, ok, err, at(n))
		}
		if list := must[[]belfry.Delivery](t)(db.DueFor(ctx, tenant, "user/8", false, store.DueKey{}, at(n), 10)); len(list) != 1 || list[0].Attempts != n || list[0].State != belfry.Retrying {
			t.Fatalf("due: %+v", list)
		}
	}
	record(t, db, attempt(id, 6, belfry.Delivered))
	if list := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, store.DueKey{}, at(100), 10, nil)); len(list) != 0 {
		t.Errorf("a delivered one is due: %+v", list)
	}
	if as := must[[]belfry.Attempt](t)(db.Attempts(ctx, tenant, id)); len(as) != 6 || as[5].N != 6 || as[0].N != 1 {
		t.Errorf("attempts: %+v", as)
	}
}

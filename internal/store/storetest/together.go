package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// doorTables are what must be locked to hold the door of events.
var doorTables = []string{"dedupe", "versions", "plans", "deliveries"}

// together makes n calls while the writers are held, and lets them go when all
// of them wait. The writer may have taken the first alone.
func together(t testing.TB, db *store.DB, i intruder, n int, call func(n int)) {
	t.Helper()
	release := i.hold(t, doorTables...)
	var wait sync.WaitGroup
	for n := range n {
		wait.Go(func() { call(n) })
	}
	func() {
		defer release()
		await(t, db, "all at the doors", func(waiting, committing int) bool { return waiting+committing == n })
	}()
	wait.Wait()
}

func testGroupCommit(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := Open(t, url)
	acceptOne(t, db, "first")
	before := must[store.Stats](t)(db.Stats(context.Background()))
	const n = 64
	receipts := make([]belfry.Receipt, n)
	together(t, db, intrude(t, url), n, func(i int) {
		rs, err := db.AcceptEvents(context.Background(), []belfry.Draft{event(fmt.Sprint(i % (n / 2)))}) // each id from two callers
		if err != nil {
			t.Error(err)
			return
		}
		receipts[i] = rs[0]
	})
	after := must[store.Stats](t)(db.Stats(context.Background()))
	if commits, jobs := after.Commits-before.Commits, after.Jobs-before.Jobs; commits > 2 || jobs != n {
		t.Errorf("%d calls took %d commits (%d jobs), want at most 2", n, commits, jobs)
	}
	for i := range n / 2 {
		a, b := receipts[i], receipts[i+n/2]
		if a.EventID != b.EventID || a.Duplicate == b.Duplicate {
			t.Errorf("two callers with one event got %+v and %+v", a, b)
		}
	}
}

func testCulprit(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := Open(t, url)
	apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "o"}}})
	before := must[store.Stats](t)(db.Stats(context.Background()))
	const n = 32
	errs := make([]error, n)
	versions := make([]int64, n)
	together(t, db, intrude(t, url), n, func(i int) {
		ch := belfry.Changes{Tenant: tenant, Objects: []belfry.Object{{ID: fmt.Sprint(i)}}}
		if i%8 == 3 {
			ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindObject, Key: "o", Version: 99}}
		}
		versions[i], errs[i] = db.Apply(context.Background(), ch)
	})
	var got []int64
	for i, err := range errs {
		if i%8 == 3 {
			kind(t, err, belfry.Stale)
			continue
		}
		if err != nil {
			t.Errorf("edit %d: %v", i, err)
		}
		got = append(got, versions[i])
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != 28 || got[0] != 2 || got[27] != 29 {
		t.Errorf("versions %v, want 2 to 29, each once", got)
	}
	if commits := must[store.Stats](t)(db.Stats(context.Background())).Commits - before.Commits; commits > 2 {
		t.Errorf("it took %d commits, want at most 2", commits)
	}
}

// testPoison has rows the database itself refuses, which the store cannot know
// beforehand: their callers fail, and nobody else.
func testPoison(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := Open(t, url)
	ctx := context.Background()
	i := intrude(t, url)
	i.poison(t)
	const n = 40
	errs := make([]error, n)
	together(t, db, i, n, func(n int) {
		_, errs[n] = db.AcceptEvents(ctx, []belfry.Draft{event(fmt.Sprint("a", n)), event(fmt.Sprint("b", n), func(d *belfry.Draft) {
			if n%17 == 5 {
				d.Event.Type = "poison"
			}
		})})
	})
	for n, err := range errs {
		if poisoned := n%17 == 5; poisoned != (err != nil) {
			t.Errorf("call %d: %v", n, err)
		} else if poisoned && !strings.Contains(err.Error(), "poison") {
			t.Errorf("call %d failed with %v, want the database's own words", n, err)
		}
	}
	if p := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 1000, nil)); len(p) != 2*(n-3) {
		t.Errorf("%d events are stored, want %d", len(p), 2*(n-3))
	}

	// Within one call pages stand for themselves, and so do attempts.
	var pages []belfry.PlanPage
	for n, r := range accept(t, db, event("1"), event("2"), event("3")) {
		d := delivery(r.EventID, []string{"email", "poison", "sms"}[n], "x")
		pages = append(pages, belfry.PlanPage{Tenant: tenant, EventID: r.EventID, Last: true, Deliveries: []belfry.Delivery{d}})
	}
	got := commitPages(t, db, pages...)
	if got[0] != nil || got[1] == nil || errors.Is(got[1], store.ErrCursorMoved) || got[2] != nil {
		t.Errorf("pages: %v, want only the second refused", got)
	}
	ids := planned(t, db, "4", 5)
	var attempts []belfry.Attempt
	for n, id := range ids {
		attempts = append(attempts, attempt(id, 1, belfry.Failed, func(a *belfry.Attempt) {
			if n == 3 {
				a.Outcome.Detail = "poison"
			}
		}))
	}
	applied, err := db.RecordAttempts(ctx, attempts)
	if err == nil {
		t.Error("the poisoned attempt made no error")
	}
	same(t, "attempts applied", applied, []bool{true, true, true, false, true})
	if due := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, store.DueKey{}, time.Now(), 100, nil)); len(due) != 3 {
		t.Errorf("%d deliveries are open, want 3", len(due))
	}
	if n := must[store.Stats](t)(db.Stats(ctx)).Tenants[tenant]; n.OpenDeliveries != 3 || n.PendingPlans != 2*(40-3)+1 {
		t.Errorf("stats: %+v", n)
	}
}

func testWithdrawn(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := Open(t, url)
	i := intrude(t, url)
	release := i.hold(t, doorTables...)
	var wait sync.WaitGroup
	var errs [2]error
	gone, cancel := context.WithCancel(context.Background())
	wait.Go(func() { _, errs[0] = db.AcceptEvents(context.Background(), []belfry.Draft{event("1")}) })
	// The writer takes the first alone when it comes; the next two wait behind it.
	await(t, db, "one being committed", func(waiting, committing int) bool { return waiting == 0 && committing == 1 })
	withdrawn := make(chan error)
	wait.Go(func() { _, errs[1] = db.AcceptEvents(context.Background(), []belfry.Draft{event("2")}) })
	go func() {
		_, err := db.AcceptEvents(gone, []belfry.Draft{event("3")})
		withdrawn <- err
	}()
	await(t, db, "two waiting", func(waiting, _ int) bool { return waiting == 2 })
	cancel()
	if err := <-withdrawn; !errors.Is(err, context.Canceled) {
		t.Errorf("the withdrawn call: %v", err)
	}
	release()
	wait.Wait()
	if errs[0] != nil || errs[1] != nil {
		t.Errorf("the others: %v", errs)
	}
	if rs := accept(t, db, event("1"), event("2"), event("3")); !rs[0].Duplicate || !rs[1].Duplicate || rs[2].Duplicate {
		t.Errorf("stored: %+v, want all but the withdrawn one", rs)
	}
}

func testClosing(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := Open(t, url)
	ctx := context.Background()
	if err := db.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	running := make(chan error, 1)
	go func() { running <- db.Run(ctx) }()
	i := intrude(t, url)
	release := i.hold(t, doorTables...)
	var wait sync.WaitGroup
	errs := make([]error, 8)
	for n := range errs {
		wait.Go(func() { _, errs[n] = db.AcceptEvents(ctx, []belfry.Draft{event(fmt.Sprint(n))}) })
	}
	await(t, db, "all at the doors", func(waiting, committing int) bool { return waiting+committing == len(errs) })
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	if err := <-running; err != nil {
		t.Errorf("Run: %v", err)
	}
	release()
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	wait.Wait()
	for n, err := range errs {
		if err != nil {
			t.Errorf("call %d, which waited when the store was closed: %v", n, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	_, err := db.AcceptEvents(ctx, []belfry.Draft{event("late")})
	kind(t, err, belfry.Unavailable)
	if err := db.Ping(ctx); err == nil {
		t.Error("a closed store answers")
	}
	db = Open(t, url)
	for n, err := range errs {
		if rs := accept(t, db, event(fmt.Sprint(n))); rs[0].Duplicate != (err == nil) {
			t.Errorf("call %d answered %v, and its event is stored: %v", n, err, rs[0].Duplicate)
		}
	}
}

func testOneProcess(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := Open(t, url)
	if db.Clustered() { // many may
		acceptOne(t, Open(t, url), "by a second process")
		acceptOne(t, db, "by the first")
		return
	}
	_, err := store.Open(context.Background(), store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	kind(t, err, belfry.Conflict)
	if !strings.Contains(err.Error(), "another Belfry process") {
		t.Errorf("the refusal says: %v", err)
	}
	acceptOne(t, db, "still works")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	acceptOne(t, Open(t, url), "after the first has gone")
}

func testNewerSchema(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	if err := Open(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	i := intrude(t, url)
	yes := "true"
	if i.sqlite {
		yes = "1"
	}
	i.exec(t, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, "+yes+")")
	_, err := store.Open(context.Background(), store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	kind(t, err, belfry.Conflict)
	if !strings.Contains(err.Error(), "newer Belfry") || !strings.Contains(err.Error(), "99999") {
		t.Errorf("the refusal says: %v", err)
	}
	i.exec(t, "DELETE FROM goose_db_version WHERE version_id = 99999")
	acceptOne(t, Open(t, url), "the refusal let go of the database")
}

func testReopened(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := Open(t, url)
	ctx := context.Background()
	first := acceptOne(t, db, "1")
	ids := planned(t, db, "2", 3)
	record(t, db, attempt(ids[0], 1, belfry.Delivered))
	v := apply(t, db, belfry.Changes{Users: []belfry.User{{ID: "u"}}})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = Open(t, url)
	if r := accept(t, db, event("1"))[0]; !r.Duplicate || r.EventID != first {
		t.Errorf("after a restart a repeat got %+v", r)
	}
	if p := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 10, nil)); len(p) != 1 || p[0].Accepted.EventID != first {
		t.Errorf("pending after a restart: %+v", p)
	}
	if due := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, store.DueKey{}, time.Now(), 10, nil)); len(due) != 2 {
		t.Errorf("%d due after a restart, want 2", len(due))
	}
	if n := must[store.Stats](t)(db.Stats(ctx)).Tenants[tenant]; n != (store.TenantStats{PendingPlans: 1, OpenDeliveries: 2, Version: v}) {
		t.Errorf("stats after a restart: %+v", n)
	}
}

// testConcurrent has all doors and reads at work at once.
func testConcurrent(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	const callers, rounds = 8, 15
	var wait sync.WaitGroup
	for c := range callers {
		wait.Go(func() {
			for r := range rounds {
				rs, err := db.AcceptEvents(ctx, []belfry.Draft{event(fmt.Sprintf("%d-%d", c, r), func(d *belfry.Draft) { d.Implied = []string{fmt.Sprint("o", r)} })})
				if err != nil {
					t.Error(err)
					return
				}
				id := rs[0].EventID
				page := belfry.PlanPage{Tenant: tenant, EventID: id, Last: true, Deliveries: []belfry.Delivery{delivery(id, "email", "x"), delivery(id, belfry.ChannelInbox, "user/8")}}
				if errs, err := db.CommitPlans(ctx, []belfry.PlanPage{page, page}); err != nil || errs[0] != nil || !errors.Is(errs[1], store.ErrCursorMoved) {
					t.Error(errs, err)
				}
				if ok, err := db.RecordAttempts(ctx, []belfry.Attempt{attempt(page.Deliveries[0].ID, 1, belfry.Delivered)}); err != nil || !ok[0] {
					t.Error(ok, err)
				}
				v, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Users: []belfry.User{{ID: fmt.Sprint("u", c)}}, Objects: []belfry.Object{{ID: fmt.Sprint("o", r), Type: "x"}}})
				if err != nil {
					t.Error(err)
				}
				if now, err := db.Version(ctx, tenant); err != nil || now < v {
					t.Errorf("version %d after edit %d (%v)", now, v, err)
				}
				if _, _, err := db.CommitSource(ctx, tenant, fmt.Sprint("s", c), belfry.Changes{Groups: []belfry.Group{{ID: fmt.Sprint("g", c)}}}, nil, []byte{byte(r)}); err != nil {
					t.Error(err)
				}
				if _, err := db.Trace(ctx, tenant, id, "", store.TracePage{}); err != nil {
					t.Error(err)
				}
				yes := true
				if n, err := db.MarkInbox(ctx, tenant, "user/8", []string{page.Deliveries[1].ID}, store.InboxMark{Read: &yes}); err != nil || n != 1 {
					t.Error(n, err)
				}
			}
		})
	}
	wait.Wait()
	stats := must[store.Stats](t)(db.Stats(ctx))
	if n := stats.Tenants[tenant]; n.PendingPlans != 0 || n.OpenDeliveries != 0 || n.Version < 2*callers*rounds {
		t.Errorf("stats: %+v", n)
	}
	changes := must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, 0, 1_000_000))
	seen := map[int64]bool{}
	for _, c := range changes {
		seen[c.Version] = true
	}
	if v := stats.Tenants[tenant].Version; int64(len(seen)) != v {
		t.Errorf("%d versions in the change log of %d", len(seen), v)
	}
	t.Logf("%d calls in %d commits", stats.Jobs, stats.Commits)
}

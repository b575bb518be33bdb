package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

const jobLease = time.Minute

// takeJob orders a job and takes it up.
func takeJob(t testing.TB, db *store.DB, kind string) belfry.Job {
	t.Helper()
	id := belfry.NewID(belfry.JobPrefix, time.Now())
	apply(t, db, belfry.Changes{Jobs: []belfry.Job{{ID: id, Kind: kind, Params: []byte(`{}`), Who: "tests", Created: time.Now()}}})
	j, ok, err := db.ClaimJob(context.Background(), tenant, id, "a node", jobLease)
	if err != nil || !ok {
		t.Fatalf("the job cannot be taken up: %v, %v", ok, err)
	}
	return j
}

// orderRun asks for a run of events, as a replay does.
func orderRun(t testing.TB, db *store.DB, run int64, terms belfry.Replay, events ...string) {
	t.Helper()
	j := takeJob(t, db, belfry.ReplayJob)
	j.Run = run
	var places []store.EventPlace
	for _, id := range events {
		places = append(places, store.EventPlace{EventID: id, Object: "course/41"})
	}
	ok, err := db.AddRuns(context.Background(), &j, terms, places, func(n int64) belfry.JobStep {
		return belfry.JobStep{State: belfry.JobDone, Done: n}
	})
	if err != nil || !ok {
		t.Fatalf("the run was not ordered: %v, %v", ok, err)
	}
}

// inState commits a delivery and brings it to a state, after one attempt where
// a send decides.
func inState(t testing.TB, db *store.DB, eventID, address string, state belfry.State) belfry.Delivery {
	t.Helper()
	d := delivery(eventID, "email", address)
	commit(t, db, belfry.PlanPage{Tenant: tenant, EventID: eventID, Last: true, Deliveries: []belfry.Delivery{d}})
	bring(t, db, d, state)
	return d
}

// bring takes a delivery to a state.
func bring(t testing.TB, db *store.DB, d belfry.Delivery, state belfry.State) {
	t.Helper()
	at := time.UnixMicro(2_000_000).UTC()
	switch state {
	case belfry.Scheduled:
	case belfry.Suppressed:
		record(t, db, belfry.Attempt{Tenant: tenant, DeliveryID: d.ID, At: at, State: state, Because: &belfry.Reason{Code: belfry.NoAddress}})
	case belfry.Cancelled:
		apply(t, db, belfry.Changes{Cancels: []belfry.DeliveryCancel{{ID: d.ID, Because: belfry.Reason{Code: belfry.CancelledBy, Detail: "by ops"}}}})
	default:
		record(t, db, belfry.Attempt{Tenant: tenant, DeliveryID: d.ID, N: 1, At: at, State: state, Due: at.Add(time.Hour), Outcome: belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "no answer"}})
	}
}

func find(t testing.TB, db *store.DB, id string) belfry.Delivery {
	t.Helper()
	d, ok, err := db.Delivery(context.Background(), tenant, id)
	if err != nil || !ok {
		t.Fatalf("delivery %s: %v, %v", id, ok, err)
	}
	return d
}

func open(t testing.TB, db *store.DB, want int64) {
	t.Helper()
	if got := must[store.Stats](t)(db.Stats(context.Background())).Tenants[tenant].OpenDeliveries; got != want {
		t.Errorf("%d deliveries are open, want %d", got, want)
	}
}

// feature: PEER-4, S3-17, NEW-16
func testCancelRetry(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	due := time.UnixMicro(9_000_000).UTC()
	for state, want := range map[belfry.State]struct{ cancel, retry, resend bool }{
		belfry.Scheduled:  {true, true, true},
		belfry.Retrying:   {true, true, true},
		belfry.Delivered:  {false, false, true},
		belfry.Failed:     {false, true, true},
		belfry.Suppressed: {false, true, true},
		belfry.Cancelled:  {false, true, true},
	} {
		t.Run(state.String(), func(t *testing.T) {
			id := acceptOne(t, db, "cancel "+state.String())
			d := inState(t, db, id, "a@example.org", state)
			_, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Cancels: []belfry.DeliveryCancel{{ID: d.ID, Because: belfry.Reason{Code: belfry.CancelledBy, Detail: "by ops"}}}})
			if (err == nil) != want.cancel {
				t.Errorf("cancel: %v, want done %v", err, want.cancel)
			}
			if want.cancel {
				got := find(t, db, d.ID)
				if last := got.Because[len(got.Because)-1]; got.State != belfry.Cancelled || last.Code != belfry.CancelledBy || last.Detail != "by ops" {
					t.Errorf("after the cancel: %s, %+v", got.State, got.Because)
				}
			} else if err != nil {
				kind(t, err, belfry.Conflict)
			}
			for _, resend := range []bool{false, true} {
				id := acceptOne(t, db, fmt.Sprint("retry ", state, resend))
				d := inState(t, db, id, "a@example.org", state)
				before := find(t, db, d.ID)
				_, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Retries: []belfry.DeliveryRetry{{ID: d.ID, Due: due, Resend: resend}}})
				allowed := want.retry || resend && want.resend
				if (err == nil) != allowed {
					t.Errorf("retry with resend %v: %v, want done %v", resend, err, allowed)
				}
				if !allowed {
					kind(t, err, belfry.Conflict)
					continue
				}
				got := find(t, db, d.ID)
				if got.State != belfry.Scheduled || !got.Due.Equal(due) || got.Attempts != before.Attempts || got.Base != before.Attempts || len(got.Because) != 1 {
					t.Errorf("after the retry: %+v", got)
				}
				// Attempts go on where they were.
				if ok := record(t, db, belfry.Attempt{Tenant: tenant, DeliveryID: d.ID, N: got.Attempts + 1, At: due, State: belfry.Delivered}); !ok[0] {
					t.Error("the next attempt was not taken")
				}
			}
		})
	}
	if _, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Cancels: []belfry.DeliveryCancel{{ID: "dlv_none"}}}); err == nil {
		t.Error("what does not exist was cancelled")
	}

	// What went out while it was cancelled is noted, and changes nothing.
	before := must[store.Stats](t)(db.Stats(ctx)).Tenants[tenant].OpenDeliveries
	id := acceptOne(t, db, "late")
	d := inState(t, db, id, "a@example.org", belfry.Cancelled)
	for i, want := range []int{1, 1} { // a second record of it is none
		if ok := record(t, db, belfry.Attempt{Tenant: tenant, DeliveryID: d.ID, N: 1, At: due, State: belfry.Delivered}); ok[0] {
			t.Error("a cancelled delivery was moved on")
		}
		as := must[[]belfry.Attempt](t)(db.Attempts(ctx, tenant, d.ID))
		if got := find(t, db, d.ID); got.State != belfry.Cancelled || got.Attempts != want || len(as) != want || as[0].State != belfry.Cancelled {
			t.Errorf("after %d late answers: %s with %d attempts, %+v", i+1, got.State, got.Attempts, as)
		}
	}
	open(t, db, before)
	// The change log tells other nodes.
	v := apply(t, db, belfry.Changes{Retries: []belfry.DeliveryRetry{{ID: d.ID, Due: due}}})
	same(t, "change", must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, v-1, 10)), []belfry.Change{{Version: v, Kind: belfry.KindDelivery, Key: d.ID}})
}

// feature: PEER-4
func testBulkRetry(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	var failed, others []string
	for i := range 30 {
		id := acceptOne(t, db, fmt.Sprint(i))
		state := belfry.Failed
		if i%3 == 0 {
			state = belfry.Delivered
		}
		d := inState(t, db, id, fmt.Sprintf("a%d@example.org", i), state)
		if state == belfry.Failed {
			failed = append(failed, d.ID)
		} else {
			others = append(others, d.ID)
		}
	}
	state := belfry.Failed
	sel := belfry.DeliverySelect{State: &state, Channel: "email", Subscription: "sub_1"}
	if n := must[int64](t)(db.CountDeliveries(ctx, tenant, sel)); n != int64(len(failed)) {
		t.Errorf("%d are counted, want %d", n, len(failed))
	}
	j := takeJob(t, db, belfry.RetryJob)
	due := time.UnixMicro(9_000_000).UTC()
	var got []string
	for {
		ids, next, err := db.FindDeliveries(ctx, tenant, sel, j.Cursor, 7)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids...)
		old := j
		// Those that were delivered meanwhile are left alone.
		ok, err := db.RetryDeliveries(ctx, &j, append(ids, others[0]), belfry.Failed, due, func(n int64) belfry.JobStep {
			if n != int64(len(ids)) {
				t.Errorf("%d of %d made due", n, len(ids))
			}
			return belfry.JobStep{Cursor: next, Done: j.Done + n, State: belfry.JobRunning}
		})
		if err != nil || !ok {
			t.Fatalf("a step was not made: %v, %v", ok, err)
		}
		if next == "" {
			break
		}
		j.Cursor, j.Done = next, j.Done+int64(len(ids))
		// The same step again, as a zombie would do it, does nothing.
		if ok, err := db.RetryDeliveries(ctx, &old, ids, belfry.Scheduled, due.Add(time.Hour), func(int64) belfry.JobStep {
			t.Error("a step was made twice")
			return belfry.JobStep{}
		}); err != nil || ok {
			t.Fatalf("the step of a zombie: %v, %v", ok, err)
		}
	}
	same(t, "made due", got, failed)
	for _, id := range failed {
		if d := find(t, db, id); d.State != belfry.Scheduled || !d.Due.Equal(due) || d.Base != 1 {
			t.Fatalf("after the retry: %+v", d)
		}
	}
	if d := find(t, db, others[0]); d.State != belfry.Delivered {
		t.Errorf("what was delivered is %s", d.State)
	}
	open(t, db, int64(len(failed)))

	// A job that somebody cancelled makes no step any more.
	j = takeJob(t, db, belfry.RetryJob)
	apply(t, db, belfry.Changes{CancelJobs: []belfry.JobCancel{{ID: j.ID, Because: belfry.Reason{Detail: "cancelled by ops"}}}})
	if ok, err := db.RetryDeliveries(ctx, &j, others, belfry.Delivered, due, func(int64) belfry.JobStep { return belfry.JobStep{} }); err != nil || ok {
		t.Errorf("a step of a cancelled job: %v, %v", ok, err)
	}
	if d := find(t, db, others[0]); d.State != belfry.Delivered {
		t.Errorf("a cancelled job made a delivery %s", d.State)
	}
}

// feature: NEW-16
func testBulkCancel(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	var ids []string
	for i, state := range []belfry.State{belfry.Scheduled, belfry.Retrying, belfry.Delivered, belfry.Failed} {
		ids = append(ids, inState(t, db, acceptOne(t, db, fmt.Sprint(i)), "a@example.org", state).ID)
	}
	j := takeJob(t, db, belfry.CancelJob)
	var cancelled []string
	ok, err := db.CancelDeliveries(ctx, &j, ids, belfry.Reason{Code: belfry.CancelledBy, Detail: "by ops"}, func(got []string) belfry.JobStep {
		cancelled = got
		return belfry.JobStep{State: belfry.JobDone, Done: int64(len(got))}
	})
	if err != nil || !ok || len(cancelled) != 2 {
		t.Fatalf("cancelled %v, %v, %v", cancelled, ok, err)
	}
	for i, want := range []belfry.State{belfry.Cancelled, belfry.Cancelled, belfry.Delivered, belfry.Failed} {
		if d := find(t, db, ids[i]); d.State != want {
			t.Errorf("delivery %d is %s, want %s", i, d.State, want)
		}
	}
	open(t, db, 0)
	if got, _, err := db.Job(ctx, tenant, j.ID); err != nil || got.State != belfry.JobDone || got.Ended.IsZero() || got.Done != 2 {
		t.Errorf("the job: %+v, %v", got, err)
	}
}

// A run that somebody ordered finds what is there under the same ids.
//
// feature: PEER-4, NEW-10
func testReplay(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	states := []belfry.State{belfry.Scheduled, belfry.Retrying, belfry.Delivered, belfry.Failed, belfry.Suppressed, belfry.Cancelled}
	for n, resend := range []bool{false, true} {
		id := acceptOne(t, db, fmt.Sprint("replayed ", resend))
		var page belfry.PlanPage
		var known []belfry.Delivery
		for _, state := range states {
			known = append(known, delivery(id, "email", state.String()))
		}
		commit(t, db, belfry.PlanPage{Tenant: tenant, EventID: id, Last: true, Deliveries: known})
		for i, state := range states {
			bring(t, db, known[i], state)
		}
		before := must[store.Stats](t)(db.Stats(ctx)).Tenants[tenant]
		run := int64(7 + n)
		orderRun(t, db, run, belfry.Replay{Recipient: "user/8", Resend: resend}, id)
		p := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 10, nil))
		if len(p) != 1 || p[0].Run != int(run) || p[0].Terms != (belfry.Replay{Recipient: "user/8", Resend: resend}) || p[0].Accepted.AsOf < run {
			t.Fatalf("pending: %+v", p)
		}
		if pending := must[bool](t)(db.PendingRuns(ctx, tenant, run)); !pending {
			t.Error("the run is not pending")
		}
		due := time.UnixMicro(5_000_000).UTC()
		page = belfry.PlanPage{Tenant: tenant, EventID: id, Run: int(run), Last: true, Resend: resend}
		for i := range known {
			d := known[i]
			d.Run, d.Due, d.Because, d.Locale, d.Subscription = int(run), due, []belfry.Reason{{Code: belfry.NamedMember}}, "fr", "sub_2"
			page.Deliveries = append(page.Deliveries, d)
		}
		fresh := delivery(id, "email", "new")
		fresh.Run, fresh.Due = int(run), due
		page.Deliveries = append(page.Deliveries, fresh)
		commit(t, db, page)
		again := int64(1) // the new one
		for i, state := range states {
			got := find(t, db, known[i].ID)
			goes := state > belfry.Delivered || state == belfry.Delivered && resend
			if goes {
				again++
				if got.State != belfry.Scheduled || !got.Due.Equal(due) || got.Run != int(run) || got.Base != got.Attempts || got.Locale != "fr" ||
					got.Subscription != "sub_2" || got.Because[0].Code != belfry.NamedMember || len(got.Because) != 1 {
					t.Errorf("resend %v: %s goes again as %+v", resend, state, got)
				}
			} else if got.State != state || got.Run != 0 || got.Locale != "pt-BR" {
				t.Errorf("resend %v: %s was touched: %+v", resend, state, got)
			}
		}
		after := must[store.Stats](t)(db.Stats(ctx)).Tenants[tenant]
		if after.OpenDeliveries-before.OpenDeliveries != again || after.PendingPlans != 0 {
			t.Errorf("resend %v: %d more are open, want %d; %d plans pending", resend, after.OpenDeliveries-before.OpenDeliveries, again, after.PendingPlans)
		}
		if pending := must[bool](t)(db.PendingRuns(ctx, tenant, run)); pending {
			t.Error("the run is still pending")
		}
		// What is counted in memory is what is in the table.
		states := must[map[string]belfry.State](t)(db.DeliveryStates(ctx, tenant, []string{known[0].ID, fresh.ID, "dlv_none"}))
		same(t, "states", states, map[string]belfry.State{known[0].ID: belfry.Scheduled, fresh.ID: belfry.Scheduled})
	}
}

func testFindEvents(t *testing.T, place func(testing.TB) string) {
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	start := clock
	db := openAt(t, place(t), func() time.Time { return clock })
	ctx := context.Background()
	var ids []string
	for i := range 6 {
		ids = append(ids, accept(t, db, event(fmt.Sprint(i), func(d *belfry.Draft) {
			if i%2 == 1 {
				d.Event.Type, d.Event.Object = "mod_forum.post_created", "forum/3"
			}
		}))[0].EventID)
		clock = clock.Add(time.Minute)
	}
	for _, c := range []struct {
		name string
		sel  belfry.EventSelect
		want []int
	}{
		{"all", belfry.EventSelect{}, []int{0, 1, 2, 3, 4, 5}},
		{"one", belfry.EventSelect{Event: ids[2]}, []int{2}},
		{"none", belfry.EventSelect{Event: "evt_none"}, nil},
		{"of a type", belfry.EventSelect{Type: "mod_forum.post_created"}, []int{1, 3, 5}},
		{"of a prefix", belfry.EventSelect{Type: "core.*"}, []int{0, 2, 4}},
		{"of an object", belfry.EventSelect{Object: "forum/3"}, []int{1, 3, 5}},
		{"since", belfry.EventSelect{Since: start.Add(2 * time.Minute)}, []int{2, 3, 4, 5}},
		{"until", belfry.EventSelect{Until: start.Add(2 * time.Minute)}, []int{0, 1}},
		{"between, of a type", belfry.EventSelect{Since: start.Add(time.Minute), Until: start.Add(4 * time.Minute), Type: "mod_*"}, []int{1, 3}},
		{"a huge range", belfry.EventSelect{Since: time.Unix(0, 0), Until: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, []int{0, 1, 2, 3, 4, 5}},
	} {
		for _, limit := range []int{1, 2, 100} {
			var got []string
			for after, n := "", 0; n < 20; n++ {
				list, next, err := db.FindEvents(ctx, tenant, c.sel, after, limit)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range list {
					got = append(got, e.EventID)
				}
				if after = next; after == "" {
					break
				}
			}
			var want []string
			for _, i := range c.want {
				want = append(want, ids[i])
			}
			same(t, fmt.Sprint(c.name, " by ", limit), got, want)
		}
		if n := must[int64](t)(db.CountEvents(ctx, tenant, c.sel)); n != int64(len(c.want)) {
			t.Errorf("%s: %d counted, want %d", c.name, n, len(c.want))
		}
	}
}

func testJobs(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	a, b := takeJob(t, db, belfry.RetryJob), takeJob(t, db, belfry.ReplayJob)
	if a.Run == 0 || b.Run <= a.Run || a.State != belfry.JobRunning || a.Epoch != 1 || a.Who != "tests" || string(a.Params) != `{}` {
		t.Errorf("jobs %+v and %+v", a, b)
	}
	step := belfry.JobStep{Cursor: "x", Done: 3, Total: 10, Result: []byte(`{"retried":3}`), State: belfry.JobRunning}
	if ok, err := db.StepJob(ctx, &a, step); err != nil || !ok {
		t.Fatalf("a step: %v, %v", ok, err)
	}
	if ok, err := db.StepJob(ctx, &a, step); err != nil || ok {
		t.Fatalf("the step again: %v, %v", ok, err)
	}
	got, ok, err := db.Job(ctx, tenant, a.ID)
	if err != nil || !ok || got.Cursor != "x" || got.Done != 3 || got.Total != 10 || string(got.Result) != `{"retried":3}` || !got.Ended.IsZero() {
		t.Errorf("after a step: %+v, %v, %v", got, ok, err)
	}
	if ok, err := db.StepJob(ctx, &got, belfry.JobStep{Cursor: "x", Done: 3, Total: 10, State: belfry.JobFailed, Error: "it broke"}); err != nil || !ok {
		t.Fatalf("failing: %v, %v", ok, err)
	}
	_, err = db.Apply(ctx, belfry.Changes{Tenant: tenant, CancelJobs: []belfry.JobCancel{{ID: a.ID}}})
	kind(t, err, belfry.Conflict)
	apply(t, db, belfry.Changes{CancelJobs: []belfry.JobCancel{{ID: b.ID, Because: belfry.Reason{Detail: "cancelled by ops"}}}})
	failed := belfry.JobFailed
	for _, c := range []struct {
		filter store.JobFilter
		want   []string
	}{
		{store.JobFilter{}, []string{b.ID, a.ID}},
		{store.JobFilter{State: &failed}, []string{a.ID}},
		{store.JobFilter{Kind: belfry.ReplayJob}, []string{b.ID}},
		{store.JobFilter{Before: b.ID}, []string{a.ID}},
	} {
		list, _, err := db.Jobs(ctx, tenant, c.filter)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, j := range list {
			ids = append(ids, j.ID)
		}
		same(t, fmt.Sprintf("%+v", c.filter), ids, c.want)
	}
	if list, _, err := db.Jobs(ctx, "other", store.JobFilter{}); err != nil || len(list) != 0 {
		t.Errorf("another tenant sees %d jobs, %v", len(list), err)
	}
	if n := must[int](t)(db.PruneJobs(ctx, tenant, time.Now().Add(-time.Hour))); n != 0 {
		t.Errorf("%d young jobs were pruned", n)
	}
	if n := must[int](t)(db.PruneJobs(ctx, tenant, time.Now().Add(time.Hour))); n != 2 {
		t.Errorf("%d old jobs were pruned, want 2", n)
	}
}

// A tenant has a bounded number of open jobs; what is over counts no more.
func testJobBound(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	order := func(n int, of string) ([]string, error) {
		ch := belfry.Changes{Tenant: of}
		ids := make([]string, n)
		for i := range ids {
			ids[i] = belfry.NewID(belfry.JobPrefix, time.Now())
			ch.Jobs = append(ch.Jobs, belfry.Job{ID: ids[i], Kind: belfry.RetryJob, Params: []byte(`{}`), Created: time.Now()})
		}
		_, err := db.Apply(context.Background(), ch)
		return ids, err
	}
	ids, err := order(belfry.MaxOpenJobs, tenant)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := order(1, tenant); belfry.KindOf(err) != belfry.Conflict {
		t.Errorf("one too many: %v, want a conflict", err)
	}
	if _, err := order(1, "other"); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	apply(t, db, belfry.Changes{CancelJobs: []belfry.JobCancel{{ID: ids[0]}}})
	if _, err := order(1, tenant); err != nil {
		t.Errorf("after one was cancelled: %v", err)
	}
}

// A job has one node at a time; when that dies another takes over, and what the
// dead one still writes counts for nothing.
func testJobLease(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	const lease = 300 * time.Millisecond
	id := belfry.NewID(belfry.JobPrefix, time.Now())
	apply(t, db, belfry.Changes{Jobs: []belfry.Job{{ID: id, Kind: belfry.RetryJob, Params: []byte(`{}`), Created: time.Now()}}})
	if list := must[[]belfry.Job](t)(db.OpenJobs(ctx)); len(list) != 1 || list[0].ID != id || list[0].Tenant != tenant || list[0].Kind != belfry.RetryJob {
		t.Fatalf("open jobs: %+v", list)
	}
	first, ok, err := db.ClaimJob(ctx, tenant, id, "one", lease)
	if err != nil || !ok {
		t.Fatalf("claim: %v, %v", ok, err)
	}
	if _, ok, err := db.ClaimJob(ctx, tenant, id, "two", lease); err != nil || ok {
		t.Fatalf("claimed by two: %v, %v", ok, err)
	}
	if ok, err := db.RenewJob(ctx, &first, lease); err != nil || !ok {
		t.Fatalf("renewal: %v, %v", ok, err)
	}
	if list := must[[]belfry.Job](t)(db.OpenJobs(ctx)); len(list) != 0 {
		t.Errorf("a held job is offered: %+v", list)
	}
	var second belfry.Job
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		if second, ok, err = db.ClaimJob(ctx, tenant, id, "two", time.Minute); err != nil {
			t.Fatal(err)
		}
		if ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody could take over from a dead node")
		}
	}
	if second.Epoch != first.Epoch+1 {
		t.Errorf("epoch %d after %d", second.Epoch, first.Epoch)
	}
	if ok, err := db.RenewJob(ctx, &first, lease); err != nil || ok {
		t.Errorf("the zombie renewed: %v, %v", ok, err)
	}
	if ok, err := db.StepJob(ctx, &first, belfry.JobStep{Cursor: "z", State: belfry.JobDone}); err != nil || ok {
		t.Errorf("the zombie made a step: %v, %v", ok, err)
	}
	if ok, err := db.RenewJob(ctx, &second, 0); err != nil || !ok { // given back
		t.Errorf("giving back: %v, %v", ok, err)
	}
	third, ok, err := db.ClaimJob(ctx, tenant, id, "three", time.Minute)
	if err != nil || !ok {
		t.Fatalf("a job given back cannot be taken: %v, %v", ok, err)
	}
	if ok, err := db.StepJob(ctx, &third, belfry.JobStep{State: belfry.JobDone}); err != nil || !ok {
		t.Errorf("the last step: %v, %v", ok, err)
	}
	if _, ok, err := db.ClaimJob(ctx, tenant, id, "four", lease); err != nil || ok {
		t.Errorf("a job that is done was claimed: %v, %v", ok, err)
	}
}

// feature: PEER-5
func testFailing(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	at := func(n int64) time.Time { return time.UnixMicro(n * 1_000_000).UTC() }
	note := func(changes ...belfry.Failing) {
		t.Helper()
		if err := db.NoteFailing(ctx, tenant, changes); err != nil {
			t.Fatal(err)
		}
	}
	fails := func(endpoint string, n, clean int64) belfry.Failing {
		return belfry.Failing{Endpoint: endpoint, Since: at(n), Last: at(n), Detail: fmt.Sprint("fault ", n), Clean: at(clean)}
	}
	works := func(endpoint string) belfry.Failing { return belfry.Failing{Endpoint: endpoint} }
	is := func(endpoint string, since, last int64) belfry.Failing {
		return belfry.Failing{Endpoint: endpoint, Since: at(since), Last: at(last), Detail: fmt.Sprint("fault ", last)}
	}
	check := func(want ...belfry.Failing) {
		t.Helper()
		got, err := db.Failing(ctx, tenant, []string{"ep_1", "ep_2", "ep_3", "ep_4"})
		if err != nil {
			t.Fatal(err)
		}
		whole := map[string]belfry.Failing{}
		for _, f := range want {
			whole[f.Endpoint] = f
		}
		same(t, "failing", got, whole)
	}
	check()
	note(fails("ep_2", 11, 0), fails("ep_1", 10, 0), works("ep_3"))
	check(is("ep_1", 10, 10), is("ep_2", 11, 11))
	note(fails("ep_1", 20, 5)) // a success before the first failure
	check(is("ep_1", 10, 20), is("ep_2", 11, 11))
	note(fails("ep_1", 30, 15), fails("ep_3", 31, 0), works("ep_2")) // a success that another node saw in between
	check(is("ep_1", 30, 30), is("ep_3", 31, 31))
	if err := db.NoteFailing(ctx, "other", []belfry.Failing{works("ep_1"), fails("ep_4", 1, 0)}); err != nil {
		t.Fatal(err)
	}
	check(is("ep_1", 30, 30), is("ep_3", 31, 31)) // a tenant's are its own
	note(works("ep_1"), works("ep_3"), works("ep_4"))
	check()
	if err := db.NoteFailing(ctx, tenant, nil); err != nil {
		t.Error(err)
	}
}

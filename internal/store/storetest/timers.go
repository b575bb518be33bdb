package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// feature: NEW-17 a step is taken once, whoever takes it
func testTimers(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	event := acceptOne(t, db, "1")
	at := time.Date(2026, 5, 9, 12, 0, 0, 0, time.UTC)
	timer := func(id string, shard int, due time.Time) belfry.Timer {
		return belfry.Timer{Tenant: tenant, Kind: belfry.TimerEscalation, ID: id, Shard: shard, Due: due, Body: []byte(`{"step":1}`)}
	}
	late, soon, far := timer(event+"/sub_2", 2, at.Add(time.Second)), timer(event+"/sub_1", 1, at), timer("evt_x/sub_1", 1, at.Add(time.Hour))
	apply(t, db, belfry.Changes{Timers: []belfry.Timer{late, soon, far}})
	due := func(now time.Time, shards []int, limit int) []belfry.Timer {
		return must[[]belfry.Timer](t)(db.DueTimers(ctx, tenant, now, shards, limit))
	}
	same(t, "nothing yet", len(due(at.Add(-time.Microsecond), nil, 10)), 0)
	same(t, "what is due longest first", due(at.Add(time.Minute), nil, 10), []belfry.Timer{soon, late})
	same(t, "a page", due(at.Add(time.Minute), nil, 1), []belfry.Timer{soon})
	same(t, "of some shards", due(at.Add(time.Minute), []int{2, 3}, 10), []belfry.Timer{late})
	same(t, "of an event", must[[]belfry.Timer](t)(db.TimersOf(ctx, tenant, belfry.TimerEscalation, event+"/", 10)), []belfry.Timer{soon, late})

	tenants := func(now time.Time) []string { return must[[]string](t)(db.TimersDue(ctx, now)) }
	if _, err := db.Apply(ctx, belfry.Changes{Tenant: "other", Timers: []belfry.Timer{{Tenant: "other", Kind: belfry.TimerMuteEnds, ID: "ada", Due: at.Add(time.Minute), Body: []byte(`{}`)}}}); err != nil {
		t.Fatal(err)
	}
	same(t, "no tenant yet", tenants(at.Add(-time.Microsecond)), []string(nil))
	same(t, "a tenant", tenants(at), []string{tenant})
	same(t, "tenants", tenants(at.Add(time.Minute)), []string{tenant, "other"})

	next := timer(soon.ID, 1, at.Add(2*time.Minute))
	next.Body = []byte(`{"step":2}`)
	run := []belfry.PlannedRun{{EventPlace: belfry.EventPlace{EventID: event}, Terms: belfry.Replay{Escalation: &belfry.Escalation{Subscription: "sub_1", Step: 1}}}}
	move := func(from belfry.Timer, next *belfry.Timer, runs []belfry.PlannedRun) bool {
		return must[bool](t)(db.MoveTimer(ctx, from, next, runs))
	}
	if !move(soon, &next, run) || move(soon, &next, run) {
		t.Error("a step is taken by two, or by nobody")
	}
	same(t, "moved on", due(at.Add(time.Hour-time.Second), []int{1}, 10), []belfry.Timer{next})
	plans := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 10, nil))
	runs := 0
	for _, p := range plans {
		if p.Run > 0 {
			runs++
			same(t, "the run's terms", p.Terms, run[0].Terms)
		}
	}
	same(t, "runs", runs, 1)
	if !move(next, nil, nil) || move(next, nil, nil) {
		t.Error("a timer ends twice, or never")
	}
	apply(t, db, belfry.Changes{DropTimers: []belfry.TimerKey{{Kind: belfry.TimerEscalation, ID: "evt_x/sub_1"}}})
	same(t, "dropped", due(at.Add(2*time.Hour), nil, 10), []belfry.Timer{late})
}

// feature: NEW-17, S3-28
func testAcknowledgements(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	event, other := acceptOne(t, db, "1"), acceptOne(t, db, "2")
	for _, id := range []string{event, other} {
		page := belfry.PlanPage{Tenant: tenant, EventID: id, Last: true, Timers: []belfry.Timer{{Tenant: tenant, Kind: belfry.TimerEscalation, ID: id + "/sub_1", Due: time.Now()}}}
		for _, to := range []struct{ channel, who, address string }{
			{"inbox", "ada", "ada"}, {"email", "ada", "a@x.org"}, {"sms", "ada", "+1"}, {"email", "ben", "b@x.org"}, {"email", "", "c@x.org"}} {
			d := delivery(id, to.channel, to.address)
			d.Principal, d.Destination, d.Subscription = to.who, to.who, "sub_1"
			if to.who == "" {
				d.Destination = to.address
			}
			if to.channel == "inbox" {
				d.State = belfry.Delivered
			}
			page.Deliveries = append(page.Deliveries, d)
		}
		if errs, err := db.CommitPlans(ctx, []belfry.PlanPage{page}); err != nil || errs[0] != nil {
			t.Fatal(err, errs)
		}
	}
	sms := belfry.DeliveryID(event, 0, "sms", "+1")
	if ok, err := db.RecordAttempts(ctx, []belfry.Attempt{{Tenant: tenant, DeliveryID: sms, N: 1, At: time.Now(), State: belfry.Delivered}}); err != nil || !ok[0] {
		t.Fatal(err, ok)
	}
	told := func(who string, want bool) {
		t.Helper()
		same(t, who+" was told", must[bool](t)(db.WasTold(ctx, tenant, event, who)), want)
	}
	told("ada", true)
	told("c@x.org", true)
	told("eve", false)
	same(t, "open", must[[]string](t)(db.OpenOf(ctx, tenant, "ada", event, 10)), []string{belfry.DeliveryID(event, 0, "email", "a@x.org")})
	same(t, "told by it", must[[]string](t)(db.ToldBy(ctx, tenant, event, "sub_1", 10)), []string{"ada", "ben"})
	same(t, "told by another", len(must[[]string](t)(db.ToldBy(ctx, tenant, event, "sub_2", 10))), 0)
	inbox := belfry.DeliveryID(event, 0, "inbox", "ada")
	same(t, "events of entries", must[map[string]string](t)(db.InboxEvents(ctx, tenant, "ada", []string{inbox, "dlv_x"})), map[string]string{inbox: event})
	same(t, "of nobody else", len(must[map[string]string](t)(db.InboxEvents(ctx, tenant, "ben", []string{inbox}))), 0)

	at := time.Date(2026, 5, 9, 12, 0, 0, 0, time.UTC)
	ack := belfry.Acknowledgement{EventID: event, Who: "ada", At: at, How: belfry.ByInbox}
	apply(t, db, belfry.Changes{Acknowledgements: []belfry.Acknowledgement{ack}})
	again := ack
	again.At, again.How = at.Add(time.Hour), belfry.ByLink
	apply(t, db, belfry.Changes{Acknowledgements: []belfry.Acknowledgement{again, {EventID: event, Who: "c@x.org", At: at, How: belfry.ByLink}}})
	same(t, "the first counts", must[[]belfry.Acknowledgement](t)(db.Acknowledgements(ctx, tenant, event, 10)),
		[]belfry.Acknowledgement{ack, {EventID: event, Who: "c@x.org", At: at, How: belfry.ByLink}})
	for who, want := range map[string]bool{"": true, "ada": true, "ben": false} {
		same(t, who+" acknowledged", must[bool](t)(db.Acknowledged(ctx, tenant, event, who)), want)
	}
	same(t, "another event", must[bool](t)(db.Acknowledged(ctx, tenant, other, "")), false)
	is := func(event, channel, address string, want belfry.State) {
		t.Helper()
		d, ok, err := db.Delivery(ctx, tenant, belfry.DeliveryID(event, 0, channel, address))
		if err != nil || !ok || d.State != want {
			t.Errorf("%s is %s, %v, %v; want %s", address, d.State, ok, err, want)
		}
	}
	is(event, "email", "a@x.org", belfry.Cancelled)
	is(event, "sms", "+1", belfry.Delivered) // it arrived
	is(event, "email", "b@x.org", belfry.Scheduled)
	is(event, "email", "c@x.org", belfry.Cancelled)
	is(other, "email", "a@x.org", belfry.Scheduled)
	_, unread, _, err := db.Inbox(ctx, tenant, "ada", store.InboxFilter{})
	if err != nil || unread != 1 {
		t.Errorf("%d unread: %v", unread, err)
	}
	left := must[[]belfry.Timer](t)(db.TimersOf(ctx, tenant, belfry.TimerEscalation, "", 10))
	if len(left) != 1 || left[0].ID != other+"/sub_1" {
		t.Errorf("escalations left: %+v", left)
	}
	stats, err := db.Stats(ctx)
	if err != nil || stats.Tenants[tenant].OpenDeliveries != 5 {
		t.Errorf("open deliveries %+v: %v", stats.Tenants[tenant], err)
	}
	same(t, "too young to go", must[int](t)(db.PruneAcknowledgements(ctx, tenant, time.Now().Add(-time.Hour))), 0)
	same(t, "old ones", must[int](t)(db.PruneAcknowledgements(ctx, tenant, time.Now().Add(time.Hour))), 2)
}

// feature: PEER-12, S3-19 what is told instead is planned with the failure, once
func testInstead(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	event := acceptOne(t, db, "1")
	d := delivery(event, "email", "a@x.org")
	commit(t, db, belfry.PlanPage{Tenant: tenant, EventID: event, Last: true, Deliveries: []belfry.Delivery{d}})
	then, entry := delivery(event, "email", "b@x.org"), delivery(event, belfry.ChannelInbox, "user/8")
	then.Line, then.Because = 0, []belfry.Reason{{Code: belfry.FellBack, Detail: "email to a@x.org: 550"}}
	entry.State = belfry.Delivered
	failed := belfry.Attempt{Tenant: tenant, DeliveryID: d.ID, N: 1, At: time.Now(), State: belfry.Failed, Outcome: belfry.Outcome{Kind: belfry.OutcomeRefused}, Then: &then}
	same(t, "recorded", record(t, db, failed), []bool{true})
	same(t, "again", record(t, db, failed), []bool{false})
	open := func(want int64) {
		t.Helper()
		st, err := db.Stats(ctx)
		if err != nil || st.Tenants[tenant].OpenDeliveries != want {
			t.Errorf("%d open, want %d: %v", st.Tenants[tenant].OpenDeliveries, want, err)
		}
	}
	open(1)
	got, ok, err := db.Delivery(ctx, tenant, then.ID)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	same(t, "what is told instead", got, then)
	same(t, "nothing of what was not applied", record(t, db, belfry.Attempt{Tenant: tenant, DeliveryID: then.ID, N: 7, State: belfry.Failed, Then: &entry}), []bool{false})
	_, unread, _, err := db.Inbox(ctx, tenant, "user/8", store.InboxFilter{})
	if err != nil || unread != 0 {
		t.Errorf("%d unread, %v", unread, err)
	}
	same(t, "the last way", record(t, db, belfry.Attempt{Tenant: tenant, DeliveryID: then.ID, N: 0, State: belfry.Suppressed, Because: &belfry.Reason{Code: belfry.ContactDead}, Then: &entry}), []bool{true})
	if _, unread, _, err = db.Inbox(ctx, tenant, "user/8", store.InboxFilter{}); err != nil || unread != 1 {
		t.Errorf("%d unread, %v", unread, err)
	}
	open(0)
}

// feature: PEER-10, S3-20 many at once never get more than there is, and who asks
// again for the same gets it again
func testQuotas(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	at := time.Date(2026, 5, 9, 12, 0, 0, 0, time.UTC)
	use := func(who, grant string) belfry.QuotaUse {
		return belfry.QuotaUse{Principal: who, Name: "q", Grant: grant, Limit: 2, Until: at.Add(time.Hour)}
	}
	take := func(now time.Time, want []bool, uses ...belfry.QuotaUse) {
		t.Helper()
		got := make([]bool, len(uses))
		for i, from := range must[[]time.Time](t)(db.TakeQuotas(ctx, tenant, now, uses)) {
			got[i] = from.Equal(now)
		}
		same(t, "granted", got, want)
	}
	take(at, []bool{true, true, true}, use("ada", "1"), use("ben", "1"), use("ada", "2"))
	take(at, []bool{true, false, true}, use("ada", "1"), use("ada", "3"), use("ben", "2"))
	take(at.Add(59*time.Minute), []bool{false}, use("ada", "3"))
	other := use("ada", "3")
	other.Name = "r"
	take(at, []bool{true}, other)
	later := func(grant string) belfry.QuotaUse {
		u := use("ada", grant)
		u.Until = at.Add(2 * time.Hour)
		return u
	}
	take(at.Add(time.Hour), []bool{true, true, false}, later("3"), later("4"), later("5"))

	var all atomic.Int64
	var takers sync.WaitGroup
	for i := range 8 {
		takers.Go(func() {
			for k := range 10 {
				u := use("eve", fmt.Sprint(i, "/", k))
				u.Limit, u.Until = 20, at.Add(100*time.Hour)
				got, err := db.TakeQuotas(ctx, tenant, at, []belfry.QuotaUse{u})
				if err != nil {
					t.Error(err)
				} else if !got[0].IsZero() {
					all.Add(1)
				}
			}
		})
	}
	takers.Wait()
	if n := all.Load(); n != 20 {
		t.Errorf("%d were granted of 20", n)
	}
	same(t, "pruned", must[int](t)(db.PruneQuotas(ctx, tenant, at.Add(10*time.Hour))), 3)

	// What is forced takes its place whatever there is, and gives back the one that
	// was kept for it in another quota of that kind.
	day := func(grant, name string, force bool) belfry.QuotaUse {
		return belfry.QuotaUse{Principal: "gus", Name: "day/" + name, Grant: grant, Limit: 1, Until: at.Add(100 * time.Hour), Force: force, Instead: "day/"}
	}
	take(at, []bool{true, true, true}, day("1", "mon", false), day("2", "tue", false), day("3", "wed", false))
	take(at, []bool{true}, day("2", "mon", true))
	take(at, []bool{false, true, false}, day("4", "mon", false), day("4", "tue", false), day("5", "wed", false))
	forced := belfry.QuotaUse{Principal: "hal", Name: "q", Limit: 1, Span: time.Hour, Wait: true}
	for i, c := range []struct {
		grant string
		force bool
		want  time.Duration
	}{{"1", false, 0}, {"2", false, time.Hour}, {"2", true, 0}, {"3", false, time.Hour}} {
		forced.Grant, forced.Force = c.grant, c.force
		if from := must[[]time.Time](t)(db.TakeQuotas(ctx, tenant, at, []belfry.QuotaUse{forced}))[0]; from.Sub(at) != c.want {
			t.Errorf("step %d: from %v, want %v", i, from.Sub(at), c.want)
		}
	}

	// Those that may wait have their turns, one after the other, and keep them.
	wait := func(now time.Time, grant string, waits bool) time.Duration {
		t.Helper()
		u := belfry.QuotaUse{Principal: "flo", Name: "q", Grant: grant, Limit: 1, Span: time.Hour, Wait: waits}
		from := must[[]time.Time](t)(db.TakeQuotas(ctx, tenant, now, []belfry.QuotaUse{u}))[0]
		if from.IsZero() {
			return -1
		}
		return from.Sub(at)
	}
	for i, c := range []struct {
		now   time.Duration
		grant string
		waits bool
		want  time.Duration
	}{
		{0, "1", false, 0},
		{time.Minute, "2", false, -1},
		{time.Minute, "2", true, time.Hour},
		{time.Minute, "3", true, 2 * time.Hour},
		{2 * time.Minute, "2", true, time.Hour},      // asked again it keeps its turn
		{2 * time.Minute, "2", false, time.Hour},     // and is told of it
		{time.Hour, "4", false, -1},                  // which nobody takes
		{time.Hour, "2", false, time.Hour},           //
		{90 * time.Minute, "1", true, 3 * time.Hour}, // what is over is asked for anew
		{2 * time.Hour, "3", false, 2 * time.Hour},
		{10 * time.Hour, "3", false, 10 * time.Hour},
	} {
		if got := wait(at.Add(c.now), c.grant, c.waits); got != c.want {
			t.Errorf("step %d: %s may be used from %v, want %v", i, c.grant, got, c.want)
		}
	}
}

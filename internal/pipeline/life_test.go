package pipeline

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testdb"
)

// replay orders a run of planning of events, as a job does.
func (h *house) replay(terms belfry.Replay, ids ...string) {
	h.t.Helper()
	ctx := context.Background()
	id := belfry.NewID(belfry.JobPrefix, clock())
	h.apply(belfry.Changes{Jobs: []belfry.Job{{ID: id, Kind: belfry.ReplayJob, Params: []byte(`{}`), Created: clock()}}})
	j, ok, err := h.db.ClaimJob(ctx, belfry.DefaultTenant, id, "tests", time.Minute)
	if err != nil || !ok {
		h.t.Fatalf("%v, %v", ok, err)
	}
	var places []belfry.EventPlace
	for _, id := range ids {
		places = append(places, belfry.EventPlace{EventID: id, Object: "course/1"})
	}
	ok, err = h.db.AddRuns(ctx, &j, terms, places, func(int64) belfry.JobStep { return belfry.JobStep{State: belfry.JobDone} })
	if err != nil || !ok {
		h.t.Fatalf("%v, %v", ok, err)
	}
	h.plan.Wake(belfry.DefaultTenant, slices.Min(ids))
}

// everythingPlanned waits until no plan is pending.
func (h *house) everythingPlanned() {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		st, err := h.db.Stats(context.Background())
		if err != nil || time.Now().After(deadline) {
			h.t.Fatalf("plans are pending: %v", err)
		}
		if st.Tenants[belfry.DefaultTenant].PendingPlans == 0 {
			return
		}
	}
}

func (r *receiver) times(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[id]
}

func (h *house) delivery(id string) belfry.Delivery {
	h.t.Helper()
	d, ok, err := h.db.Delivery(context.Background(), belfry.DefaultTenant, id)
	if err != nil || !ok {
		h.t.Fatalf("delivery %s: %v, %v", id, ok, err)
	}
	return d
}

// A replay tells whom today's subscriptions name, leaves alone what succeeded
// unless it is asked to resend, and then sends it under its own id.
//
// feature: PEER-4, NEW-10
func TestReplay(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.endpoints(2, "course.*")
	h.run()
	event := h.accept(1, "course.updated")[0]
	h.r.wait(t, 2)
	h.drained()
	hook := func(ep string) string { return belfry.DeliveryID(event, 0, belfry.ChannelWebhook, ep) }

	h.endpoints(3, "course.*") // one more since
	h.replay(belfry.Replay{}, event)
	h.r.wait(t, 3)
	h.everythingPlanned()
	h.drained()
	for ep, want := range map[string]int{"ep_000": 1, "ep_001": 1, "ep_002": 1} {
		if n := h.r.times(hook(ep)); n != want {
			t.Errorf("%s was called %d times, want %d", ep, n, want)
		}
	}
	tr, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: event})
	if err != nil {
		t.Fatal(err)
	}
	told, left := 0, 0
	for _, p := range tr.People {
		switch last := p.Because[len(p.Because)-1].Code; {
		case p.Outcome == belfry.Told:
			told++
		case last == belfry.ReplayDelivered:
			left++
		default:
			t.Errorf("%+v", p)
		}
	}
	if told != 3 || left != 2 {
		t.Errorf("%d told and %d left alone, want 3 and 2", told, left)
	}

	// Only one endpoint, and again.
	h.replay(belfry.Replay{Endpoint: "ep_001", Resend: true}, event)
	h.everythingPlanned()
	h.drained()
	for ep, want := range map[string]int{"ep_000": 1, "ep_001": 2, "ep_002": 1} {
		if n := h.r.times(hook(ep)); n != want {
			t.Errorf("after the replay to ep_001, %s was called %d times, want %d", ep, n, want)
		}
	}
	if d := h.delivery(hook("ep_001")); d.State != belfry.Delivered || d.Attempts != 2 || d.Base != 1 {
		t.Errorf("sent again: %+v", d)
	}
}

// A replay makes no second inbox entry, also of a subscription that is kept
// apart, and tells nobody but whom it is for.
//
// feature: PEER-4, PEER-7
func TestReplayToOnePerson(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	apart := false
	sub := belfry.Subscription{ID: "sub_1", Types: []string{"course.*"}, State: belfry.SubscriptionActive, Created: clock(), Merge: &apart,
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"user/1", "user/10", "user/2"}}}}}
	h.apply(belfry.Changes{Users: []belfry.User{{ID: "user/1", Email: "one@example.org"}, {ID: "user/10", Email: "ten@example.org"}, {ID: "user/2", Email: "two@example.org"}},
		Subscriptions: []belfry.Subscription{sub}})
	h.run()
	event := h.accept(1, "course.updated")[0]
	h.r.wait(t, 3)
	h.drained()
	mail := func(address string) string { return belfry.DeliveryID(event, 0, "email\x00sub_1", address) }
	h.replay(belfry.Replay{Recipient: "user/1", Resend: true}, event)
	h.everythingPlanned()
	h.drained()
	for address, want := range map[string]int{"one@example.org": 2, "ten@example.org": 1, "two@example.org": 1} {
		if n := h.r.times(mail(address)); n != want {
			t.Errorf("%s got %d, want %d", address, n, want)
		}
	}
	for _, who := range []string{"user/1", "user/10", "user/2"} {
		rows, _, _, err := h.db.Inbox(context.Background(), belfry.DefaultTenant, who, store.InboxFilter{})
		if err != nil || len(rows) != 1 {
			t.Errorf("%s has %d inbox entries, %v", who, len(rows), err)
		}
	}
}

func TestReplayed(t *testing.T) {
	all := []belfry.State{belfry.Scheduled, belfry.Retrying, belfry.Held, belfry.Delivered, belfry.Failed, belfry.Suppressed, belfry.Cancelled}
	for _, c := range []struct {
		resend bool
		want   []string
	}{
		{false, []string{"failed", "suppressed", "cancelled", "new"}},
		{true, []string{"delivered", "failed", "suppressed", "cancelled", "new"}},
	} {
		page := belfry.PlanPage{Resend: c.resend, Deliveries: []belfry.Delivery{{ID: "new"}}}
		states := map[string]belfry.State{}
		for _, s := range all {
			page.Deliveries = append(page.Deliveries, belfry.Delivery{ID: s.String(), Channel: "email", Address: "a", Because: []belfry.Reason{{Code: belfry.NamedUser}}})
			states[s.String()] = s
		}
		replayed(&page, states)
		var got []string
		for _, d := range page.Deliveries {
			got = append(got, d.ID)
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("resend %v: %v go again, want %v", c.resend, got, c.want)
		}
		if len(page.Suppressions)+len(page.Deliveries) != len(all)+1 {
			t.Errorf("resend %v: %d suppressions", c.resend, len(page.Suppressions))
		}
		for _, s := range page.Suppressions {
			if len(s.Because) != 2 || s.Because[0].Code != belfry.NamedUser {
				t.Errorf("a suppression without its reasons: %+v", s)
			}
		}
	}
}

// cancel does what the app does.
func (h *house) cancel(id string) (inFlight bool) {
	h.t.Helper()
	h.apply(belfry.Changes{Cancels: []belfry.DeliveryCancel{{ID: id, Because: belfry.Reason{Code: belfry.CancelledBy, Detail: "by ops"}}}})
	return h.send.Revoke(belfry.DefaultTenant, []string{id})[0]
}

// One send blocks the endpoint; what waits behind it is cancelled and never
// sent; what is being sent is in flight, and stays cancelled however it ends.
//
// feature: NEW-16
func TestCancelReachesWhatIsInMemory(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	entered, letGo := make(chan string, 100), make(chan struct{})
	var known atomic.Bool
	h.r.respond = func(_ context.Context, _ channel.Target, m *belfry.Message) belfry.Outcome {
		if !known.Swap(true) { // before one has answered, others wait
			return belfry.Outcome{Kind: belfry.OutcomeDelivered, Status: 200}
		}
		entered <- m.ID
		<-letGo
		return belfry.Outcome{Kind: belfry.OutcomeDelivered, Status: 200}
	}
	h.endpoints(1, "course.*")
	h.run()
	release := sync.OnceFunc(func() { close(letGo) })
	t.Cleanup(release) // before the house is left, which waits for its sends
	h.accept(1, "course.updated")
	h.drained()
	events := h.accept(20, "course.updated")
	inFlight := map[string]bool{}
	for range firstConcurrency + 1 {
		inFlight[<-entered] = true
	}
	h.everythingPlanned() // what is not planned cannot be cancelled
	for _, e := range events {
		id := belfry.DeliveryID(e, 0, belfry.ChannelWebhook, "ep_000")
		if got := h.cancel(id); got != inFlight[id] {
			t.Errorf("%s: in flight %v, want %v", id, got, inFlight[id])
		}
	}
	release()
	h.drained()
	h.settled()
	if len(entered) > 0 {
		t.Errorf("%d cancelled deliveries were sent", len(entered))
	}
	for _, e := range events {
		d := h.delivery(belfry.DeliveryID(e, 0, belfry.ChannelWebhook, "ep_000"))
		if d.State != belfry.Cancelled || d.Because[len(d.Because)-1].Detail != "by ops" {
			t.Errorf("%s is %s", d.ID, d.State)
		}
		if want := map[bool]int{true: 1}[inFlight[d.ID]]; d.Attempts != want {
			t.Errorf("%s has %d attempts, want %d: what went out is noted", d.ID, d.Attempts, want)
		}
	}
	// Memory is free again, and new events go.
	h.r.respond = nil
	h.accept(1, "course.updated")
	h.drained()
}

// settled waits until nothing is in memory.
func (h *house) settled() {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); h.send.InFlight() > 0; <-tick.C {
		if time.Now().After(deadline) {
			h.t.Fatalf("%d deliveries stay in memory", h.send.InFlight())
		}
	}
	h.send.mu.Lock()
	defer h.send.mu.Unlock()
	if len(h.send.revoked) != 0 || len(h.send.seen) != 0 || h.send.revocations.Load() != 0 {
		h.t.Errorf("memory of %d cancelled and %d seen deliveries stays", len(h.send.revoked), len(h.send.seen))
	}
}

// What is cancelled and retried at once, over and over, while it is sent, ends
// delivered: no order of the three loses it.
//
// feature: PEER-4, NEW-16
func TestCancelAndRetryRacingSends(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	h.endpoints(4, "course.*")
	h.run()
	var ids []string
	for range 10 {
		for _, e := range h.accept(10, "course.updated") {
			for _, ep := range []string{"ep_000", "ep_001", "ep_002", "ep_003"} {
				ids = append(ids, belfry.DeliveryID(e, 0, belfry.ChannelWebhook, ep))
			}
		}
		for _, id := range ids[len(ids)-20:] {
			due := clock()
			ch := belfry.Changes{Tenant: belfry.DefaultTenant, Cancels: []belfry.DeliveryCancel{{ID: id, Because: belfry.Reason{Code: belfry.CancelledBy}}}}
			if v, err := h.db.Apply(context.Background(), ch); err == nil {
				h.dir.Published(ch.Tenant, v, &ch)
				h.send.Revoke(belfry.DefaultTenant, []string{id})
			}
			ch = belfry.Changes{Tenant: belfry.DefaultTenant, Retries: []belfry.DeliveryRetry{{ID: id, Due: due, Resend: true}}}
			v, err := h.db.Apply(context.Background(), ch)
			if err != nil {
				if belfry.KindOf(err) == belfry.Conflict { // not planned yet
					continue
				}
				t.Fatal(err)
			}
			h.dir.Published(ch.Tenant, v, &ch)
			h.send.Wake(belfry.DefaultTenant, due)
		}
	}
	h.drained()
	h.settled()
	for _, id := range ids {
		if d := h.delivery(id); d.State != belfry.Delivered || h.r.times(id) == 0 {
			t.Errorf("%s is %s after %d attempts and %d arrivals", id, d.State, d.Attempts, h.r.times(id))
		}
	}
}

// A row that is read while its delivery leaves memory is old news and not taken
// again; one that was changed meanwhile, by a retry, is looked at once more.
//
// feature: PEER-7
func TestRetryIsSeenWhileWhatWasCancelledLeaves(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	d := h.send
	p := NewPayload(&belfry.Accepted{Tenant: belfry.DefaultTenant, EventID: "evt_1", Event: &belfry.Event{ID: "1"}})
	dv := belfry.Delivery{Tenant: belfry.DefaultTenant, ID: "dlv_1", EventID: "evt_1", Channel: belfry.ChannelWebhook, Destination: "ep_1", Due: clock()}
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.backlogOf(dv.Tenant)
	b.cursor = belfry.DueKey{Due: dv.Due.Add(time.Hour)}
	look := func(row belfry.Delivery) (again bool) {
		d.hold(b, &dv, 1)
		d.reading, b.asked = true, nil
		d.release(b, &dv, 1)
		if got := d.offer(row, p); got != taken || len(d.held) != 0 {
			t.Fatalf("offered: %v, %d held", got, len(d.held))
		}
		return b.asked != nil && *b.asked == keyBefore(&row)
	}
	if look(dv) {
		t.Error("a row that is as it was is read again")
	}
	retried := dv
	retried.Due = dv.Due.Add(time.Second)
	if !look(retried) {
		t.Error("a row that was retried meanwhile is forgotten")
	}
}

// A row that is read while its delivery is in memory is compared with it when it
// leaves, also where nothing else of its event is read: one that was retried
// meanwhile is read once more.
//
// feature: PEER-7
func TestRetryIsSeenOfWhatIsInMemory(t *testing.T) {
	p := newPost(t, sqlite(t))
	p.start()
	p.stop()
	d := p.d
	id := p.plan("t", true, letter{dest: "ep_1"})[0]
	rows, err := p.db.DueDeliveries(t.Context(), "t", belfry.DueKey{}, clock(), page, nil)
	if err != nil || len(rows) != 1 || rows[0].ID != id {
		t.Fatalf("%v, %v", rows, err)
	}
	row := rows[0]
	for name, c := range map[string]struct {
		inMemory belfry.Delivery
		again    bool
	}{
		"as it was":         {row, false},
		"retried meanwhile": {func(old belfry.Delivery) belfry.Delivery { old.Due = old.Due.Add(-time.Second); return old }(row), true},
	} {
		d.mu.Lock()
		b := d.backlogOf("t")
		b.cursor = belfry.DueKey{}
		d.hold(b, &c.inMemory, 1)
		d.mu.Unlock()
		if n, err := d.scanPage(t.Context(), b, belfry.DueKey{}, clock()); n != 1 || err != nil {
			t.Fatalf("%s: %d rows, %v", name, n, err)
		}
		d.mu.Lock()
		if keyLess(b.cursor, belfry.DueKey{Due: row.Due, ID: row.ID}) {
			t.Errorf("%s: the row was read and is to be read again at once", name)
		}
		d.drop(&item{d: c.inMemory, size: 1})
		if again := keyLess(b.cursor, belfry.DueKey{Due: row.Due, ID: row.ID}); again != c.again {
			t.Errorf("%s: read once more: %v, want %v", name, again, c.again)
		}
		d.mu.Unlock()
	}
}

// Whoever opts out while a message waits does not get it.
//
// feature: PEER-7
func TestOptingOutReachesWhatWaits(t *testing.T) {
	h := newHouse(t, sqlite(t), nil)
	sub := belfry.Subscription{ID: "sub_1", Types: []string{"course.*"}, State: belfry.SubscriptionActive, Created: clock(),
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"user/1", "user/2"}}}}}
	h.apply(belfry.Changes{Users: []belfry.User{{ID: "user/1", Email: "one@example.org"}, {ID: "user/2", Email: "two@example.org"}}, Subscriptions: []belfry.Subscription{sub}})
	var refuse atomic.Bool
	refuse.Store(true)
	tried := make(chan struct{}, 100)
	h.r.respond = func(context.Context, channel.Target, *belfry.Message) belfry.Outcome {
		out := belfry.Outcome{Kind: belfry.OutcomeDelivered}
		if refuse.Load() {
			out = belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "not now"}
		}
		tried <- struct{}{} // when it is decided: the test goes on then
		return out
	}
	h.run()
	event := h.accept(1, "course.updated")[0]
	<-tried
	<-tried
	h.apply(belfry.Changes{OptOuts: []belfry.OptOut{{Subscription: "sub_1", Who: "user/1", Since: clock()}}})
	refuse.Store(false)
	h.drained() // the schedule's first wait is 5 s
	one, two := h.delivery(belfry.DeliveryID(event, 0, "email", "one@example.org")), h.delivery(belfry.DeliveryID(event, 0, "email", "two@example.org"))
	if one.State != belfry.Suppressed || one.Because[len(one.Because)-1].Code != belfry.OptedOut {
		t.Errorf("who opted out: %s, %+v", one.State, one.Because)
	}
	if two.State != belfry.Delivered {
		t.Errorf("who did not: %s", two.State)
	}
}

// While all webhooks are off, or an endpoint is disabled, what is planned waits
// and nothing is lost.
//
// feature: PEER-5
func TestSwitchedOffWebhooksWait(t *testing.T) {
	for _, c := range []struct {
		name    string
		off, on func(*house)
	}{
		{"all of the tenant", func(h *house) {
			h.apply(belfry.Changes{Documents: []belfry.Document{{Kind: belfry.KindSetting, ID: belfry.TenantSettingsID, Body: []byte(`{"webhooks":"off"}`)}}})
		}, func(h *house) {
			h.apply(belfry.Changes{DropDocuments: []belfry.DocumentKey{{Kind: belfry.KindSetting, ID: belfry.TenantSettingsID}}})
			h.send.Resume(belfry.DefaultTenant)
		}},
		{"one that was disabled after planning", func(h *house) {
			h.apply(belfry.Changes{Documents: []belfry.Document{h.endpoint("ep_000", belfry.EndpointDisabled, nil)}})
		}, func(h *house) {
			h.apply(belfry.Changes{Documents: []belfry.Document{h.endpoint("ep_000", belfry.EndpointActive, nil)}})
			h.send.Requeue(belfry.DefaultTenant, "ep_000")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, sqlite(t), func(_ *PlannerOptions, d *DispatcherOptions) { d.Queue = 8 })
			h.endpoints(1, "course.*")
			ctx, stopPlanning := context.WithCancel(context.Background())
			planned := make(chan struct{})
			go func() { defer close(planned); _ = h.plan.Run(ctx) }()
			h.accept(50, "course.updated")
			h.everythingPlanned()
			stopPlanning()
			<-planned
			c.off(h)
			ctx, stopSending := context.WithCancel(context.Background())
			sent := make(chan struct{})
			go func() { defer close(sent); _ = h.send.Run(ctx) }()
			h.paused("ep_000")
			if n := len(h.r.got); n != 0 {
				t.Errorf("%d were sent while it was off", n)
			}
			c.on(h)
			h.r.wait(t, 50)
			h.drained()
			h.r.once(t)
			stopSending()
			<-sent
		})
	}
}

// paused waits until a destination is.
func (h *house) paused(name string) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		h.send.mu.Lock()
		ds := h.send.dests[destKey{belfry.DefaultTenant, belfry.ChannelWebhook, name}]
		is := ds != nil && ds.paused
		h.send.mu.Unlock()
		if is {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s is never paused", name)
		}
	}
}

// What is delivered at the first try, as nearly everything is, is one row: its
// attempt, with all there is to say of it, and when it was due stay in it.
//
// feature: PEER-3
func TestWhatIsDeliveredAtOnceIsOneRow(t *testing.T) {
	for name, place := range map[string]string{"SQLite": "sqlite:" + t.TempDir(), "PostgreSQL": testdb.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, storetest.Open(t, place), nil)
			h.endpoints(5, "course.*")
			h.run()
			h.accept(20, "course.updated")
			h.r.wait(t, 100)
			h.drained()
			h.stop()
			rows := map[string]int{}
			for _, row := range storetest.Dump(t, place) {
				table, _, _ := strings.Cut(row, ":")
				rows[table]++
			}
			if rows["deliveries"]+rows["deliveries_head"] < 100 || rows["attempts"] != 0 {
				t.Errorf("%d rows of deliveries and %d of attempts, want 100 and none", rows["deliveries"], rows["attempts"])
			}
			for id := range h.r.got {
				as, err := h.db.Attempts(t.Context(), belfry.DefaultTenant, id)
				if err != nil || len(as) != 1 || as[0].Outcome.Status != 200 || as[0].At.IsZero() {
					t.Fatalf("attempts of %s: %+v, %v", id, as, err)
				}
				if d, _, err := h.db.Delivery(t.Context(), belfry.DefaultTenant, id); err != nil || d.Due.IsZero() {
					t.Fatalf("%s was due %v, %v", id, d.Due, err)
				}
			}
		})
	}
}

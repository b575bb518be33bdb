package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// alerts subscribes ada and ben to alerts, by mail.
func (w *tower) alerts() {
	w.t.Helper()
	w.apply(belfry.Changes{
		Users: []belfry.User{
			{ID: "ada", State: belfry.UserActive, Email: "ada@example.org", Contacts: []belfry.Contact{{Kind: "email", Address: "ada@example.org", Verified: true}}},
			{ID: "ben", State: belfry.UserActive, Email: "ben@example.org", Contacts: []belfry.Contact{{Kind: "email", Address: "ben@example.org", Verified: true}}},
		},
		Subscriptions: []belfry.Subscription{{ID: "sub_alerts", Types: []string{"disk.*"}, State: belfry.SubscriptionActive, Created: w.now(),
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada", "ben"}}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}},
	})
}

// fates are what became of an event for each person: a state, or why she is
// not told.
func (w *tower) fates(event string) string {
	w.t.Helper()
	tr, err := w.db.Trace(context.Background(), belfry.DefaultTenant, event, "", store.TracePage{})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, d := range tr.Deliveries {
		out = append(out, d.Principal+" "+d.State.String()+" "+d.Because[len(d.Because)-1].Code)
	}
	for _, s := range tr.Suppressions {
		out = append(out, s.Principal+" "+s.Because[len(s.Because)-1].Code)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (w *tower) follow(user, event string, mute, tell bool) {
	w.t.Helper()
	events, err := w.db.Events(context.Background(), belfry.DefaultTenant, []string{event})
	if err != nil {
		w.t.Fatal(err)
	}
	e := events[event].Event
	if _, err := w.db.PutFollow(context.Background(), belfry.DefaultTenant, belfry.Follow{User: user, Event: event, Mute: mute, Tell: tell, Since: w.now()}, e.Source, e.ProblemName(), belfry.AuditEntry{}); err != nil {
		w.t.Fatal(err)
	}
}

// feature: NEW-13 what is resolved is not told any more, by the id of the event
// or by its problem; whoever muted it until then hears of it again; whoever asked
// is told that it is over.
func TestResolved(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := newTower(t, url)
		w.alerts()
		const waiting = "ada scheduled by_subscription, ben scheduled by_subscription"
		const cancelled = "ada cancelled resolved, ben cancelled resolved"
		full := func(problem string) belfry.Event { return belfry.Event{Type: "disk.full", Problem: problem} }

		// By id.
		byID := w.happen(belfry.Event{ID: "alert-1", Type: "disk.full"})[0]
		other := w.happen(belfry.Event{ID: "alert-1", Source: "/other", Type: "disk.full"})[0]
		if got := w.fates(byID); got != waiting {
			t.Fatalf("told: %s", got)
		}
		w.happen(belfry.Event{Type: "fine", Resolves: "alert-1"})
		if got := w.fates(byID); got != cancelled || w.cancelled != 2 {
			t.Errorf("after it was resolved by id: %s, %d cancelled", got, w.cancelled)
		}
		if got := w.fates(other); got != waiting {
			t.Errorf("of another source: %s", got)
		}

		// By problem: all that raised it, but not what happened afterwards.
		w.pass(time.Minute)
		first, second := w.happen(full("web"))[0], w.happen(full("web"))[0]
		db := w.happen(full("db"))[0]
		w.pass(time.Minute)
		again := w.happen(belfry.Event{Type: "disk.full", Problem: "web", Time: w.now().Add(time.Minute)})[0]
		w.happen(belfry.Event{Type: "fine", Resolves: "web"})
		for id, want := range map[string]string{first: cancelled, second: cancelled, db: waiting, again: waiting} {
			if got := w.fates(id); got != want {
				t.Errorf("after it was resolved by problem: %s, want %s", got, want)
			}
		}
		// What was raised before and comes later is told to nobody.
		late := w.happen(belfry.Event{Type: "disk.full", Problem: "web", Time: w.now().Add(-30 * time.Second)})[0]
		if got := w.fates(late); got != " resolved" {
			t.Errorf("late: %s", got)
		}
		answer, err := w.ex.Explain(context.Background(), belfry.DefaultTenant, &belfry.Event{Source: "/test", Type: "disk.full", Problem: "web", Time: w.now().Add(-time.Second)})
		if err != nil || len(answer.People) != 1 || answer.People[0].Because[0].Code != belfry.Resolved {
			t.Errorf("explained: %+v, %v", answer, err)
		}

		// Accepted, and not planned yet: the plan is ended.
		early := w.accept(full("cpu"))[0]
		rows, err := w.db.PendingPlans(context.Background(), belfry.DefaultTenant, "", 10, nil)
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		page, err := w.stages.page(context.Background(), &rows[0].Accepted, part{}, w.now()) // by one who is slow
		if err != nil || len(page.Deliveries) != 2 {
			t.Fatal(page, err)
		}
		by := w.accept(belfry.Event{Type: "fine", Resolves: "cpu"})[0]
		events, err := w.db.Events(context.Background(), belfry.DefaultTenant, []string{by})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // interrupted and done again
			if err := w.endings().end(context.Background(), events[by]); err != nil {
				t.Fatal(err)
			}
		}
		if errs, err := w.db.CommitPlans(context.Background(), []belfry.PlanPage{page}); err != nil || errs[0] == nil {
			t.Errorf("a page of a plan that was ended: %v %v", errs, err)
		}
		w.settle()
		if got := w.fates(early); got != " resolved" {
			t.Errorf("ended before it was planned: %s", got)
		}

		// Muted until it is resolved; the other is told when it is.
		w.pass(time.Minute)
		raised := w.happen(full("net"))[0]
		w.follow("ada", raised, true, true)
		w.follow("ben", raised, false, true)
		if got := w.fates(raised); got != "ada cancelled muted_until_resolved, ben scheduled by_subscription" {
			t.Errorf("muted: %s", got)
		}
		if got := w.fates(w.happen(full("net"))[0]); got != "ada muted_until_resolved, ben scheduled by_subscription" {
			t.Errorf("the next one: %s", got)
		}
		if got := w.fates(w.happen(full("web"))[0]); got != waiting {
			t.Errorf("another problem: %s", got)
		}
		before := len(w.met())
		w.pass(time.Minute)
		w.happen(belfry.Event{Type: "fine", Resolves: "net"})
		met := w.met()
		if len(met) != before+1 || met[before].Event.Type != belfry.ProblemResolved || !slices.Equal(met[before].Event.Related, []string{"ada", "ben"}) {
			t.Fatalf("told that it is over: %+v", met[before:])
		}
		if got := w.fates(met[before].EventID); !strings.Contains(got, "ada scheduled") || !strings.Contains(got, "ben scheduled") {
			t.Errorf("told that it is over: %s", got)
		}
		w.pass(time.Minute)
		if got := w.fates(w.happen(full("net"))[0]); got != waiting {
			t.Errorf("raised again: %s", got)
		}
		w.happen(belfry.Event{Type: "fine", Resolves: "net"})
		if len(w.met()) != before+1 {
			t.Error("told again that it is over, though nobody follows it any more")
		}
	})
}

// feature: NEW-13 very many followers, and very many deliveries to cancel, are
// done in pieces.
func TestResolvedMany(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	const people = 4500
	var ch belfry.Changes
	var who []string
	for i := range people {
		id := fmt.Sprintf("u%05d", i)
		who = append(who, id)
		ch.Users = append(ch.Users, belfry.User{ID: id, State: belfry.UserActive, Contacts: []belfry.Contact{{Kind: "email", Address: id + "@example.org", Verified: true}}})
	}
	ch.Subscriptions = []belfry.Subscription{{ID: "sub_alerts", Types: []string{"disk.*"}, State: belfry.SubscriptionActive, Created: w.now(),
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: who}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}}
	w.apply(ch)
	id := w.happen(belfry.Event{Type: "disk.full", Problem: "disk"})[0]
	for i := range 250 {
		w.follow(who[i*7], id, false, true)
	}
	w.happen(belfry.Event{Type: "fine", Resolves: "disk"})
	if w.cancelled != people {
		t.Errorf("%d of %d deliveries were cancelled", w.cancelled, people)
	}
	told := map[string]int{}
	for _, acc := range w.met() {
		for _, r := range acc.Event.Related {
			told[r]++
		}
	}
	if len(told) != 250 || len(w.met()) != 3 {
		t.Errorf("%d people in %d events", len(told), len(w.met()))
	}
}

// feature: NEW-13 on the running pipeline: what waits for a slow receiver is
// taken out of memory too.
func TestResolvedInMemory(t *testing.T) {
	var once bool
	began, release := make(chan struct{}), make(chan struct{})
	h := newHouse(t, sqlite(t), nil)
	h.r.respond = func(ctx context.Context, _ channel.Target, _ *belfry.Message) belfry.Outcome {
		if !once {
			once = true
			close(began)
			<-release
		}
		return belfry.Outcome{Kind: belfry.OutcomeDelivered}
	}
	body, err := belfry.EncodeEndpoint(belfry.Endpoint{ID: "ep_slow", URL: "https://slow.example", State: belfry.EndpointActive, Concurrency: 1, Created: clock()})
	if err != nil {
		t.Fatal(err)
	}
	h.apply(belfry.Changes{
		Documents:     []belfry.Document{{Kind: belfry.KindEndpoint, ID: "ep_slow", Body: body}},
		Subscriptions: []belfry.Subscription{{ID: "sub_slow", Types: []string{"disk.full"}, State: belfry.SubscriptionActive, Notify: []belfry.Notify{{Endpoint: "ep_slow"}}, Created: clock()}},
	})
	h.run()
	send := func(e belfry.Event) string {
		t.Helper()
		e.ID, e.Source, e.Time = belfry.NewID("", clock()), "/test", clock()
		drafts, err := drafter{h}.Draft(context.Background(), belfry.DefaultTenant, []belfry.Event{e})
		if err != nil {
			t.Fatal(err)
		}
		rs, err := h.db.AcceptEvents(context.Background(), drafts)
		if err != nil {
			t.Fatal(err)
		}
		h.plan.Handover([]belfry.Accepted{{Tenant: belfry.DefaultTenant, EventID: rs[0].EventID, At: rs[0].At, AsOf: rs[0].AsOf, Event: drafts[0].Event, Body: drafts[0].Body}})
		h.planned(rs[0].EventID)
		return rs[0].EventID
	}
	send(belfry.Event{Type: "disk.full", Problem: "other"})
	<-began
	waits := send(belfry.Event{Type: "disk.full", Problem: "web"})
	send(belfry.Event{Type: "fine", Resolves: "web"})
	close(release)
	h.drained()
	d, _, err := h.db.Delivery(context.Background(), belfry.DefaultTenant, belfry.DeliveryID(waits, 0, belfry.ChannelWebhook, "ep_slow"))
	if err != nil || d.State != belfry.Cancelled || d.Because[len(d.Because)-1].Code != belfry.Resolved {
		t.Errorf("%+v, %v", d, err)
	}
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	if h.r.total != 1 {
		t.Errorf("%d were sent, one was not resolved", h.r.total)
	}
}

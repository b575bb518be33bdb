package upkeep_test

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
	"github.com/belfryhq/belfry/internal/testdb"
	"github.com/belfryhq/belfry/internal/upkeep"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// life is a real store whose clock a test moves, with a keeper.
type life struct {
	*store.DB
	t      *testing.T
	at     atomic.Int64
	keeper *upkeep.Keeper
}

var dawn = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func (l *life) now() time.Time { return dawn.Add(time.Duration(l.at.Load())) }

func live(t *testing.T, url string, r upkeep.Retention) *life {
	l := &life{t: t}
	log := slog.New(slog.DiscardHandler)
	var err error
	if l.DB, err = store.Open(t.Context(), store.Options{URL: url, Log: log, Now: l.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	l.keeper = upkeep.New(upkeep.Options{Store: l.DB, Retention: r, Log: log, Now: l.now})
	return l
}

// keep lets days pass, with a round each.
func (l *life) keep(days int) {
	l.t.Helper()
	for range days {
		l.at.Add(int64(day))
		if err := l.keeper.Keep(context.Background()); err != nil {
			l.t.Fatal(err)
		}
	}
}

// event accepts one, planned with an inbox entry and an open webhook delivery.
func (l *life) event(id, typ string, planned bool) (event, delivery string) {
	l.t.Helper()
	ctx := context.Background()
	e := &belfry.Event{ID: id, Source: "/s", Type: typ, Object: "o"}
	body, err := json.Marshal(e)
	if err != nil {
		l.t.Fatal(err)
	}
	rs, err := l.AcceptEvents(ctx, []belfry.Draft{{Tenant: "t", Event: e, Body: body}})
	if err != nil {
		l.t.Fatal(err)
	}
	event = rs[0].EventID
	delivery = belfry.DeliveryID(event, 0, "webhook", "ep")
	if planned {
		l.plan(event, delivery)
	}
	return event, delivery
}

func (l *life) plan(event, delivery string) {
	l.t.Helper()
	errs, err := l.CommitPlans(context.Background(), []belfry.PlanPage{{Tenant: "t", EventID: event, Last: true, Matches: []belfry.MatchNote{{Subscription: "s"}},
		Deliveries: []belfry.Delivery{
			{Tenant: "t", ID: delivery, EventID: event, Channel: "webhook", Address: "ep", Destination: "ep", Due: l.now()},
			{Tenant: "t", ID: belfry.DeliveryID(event, 0, belfry.ChannelInbox, "u"), EventID: event, Channel: belfry.ChannelInbox, Principal: "u", Address: "u"},
		}, Suppressions: []belfry.Suppression{{Principal: "v", Channel: "email"}}}})
	if err != nil || errs[0] != nil {
		l.t.Fatal(err, errs)
	}
}

func (l *life) close(delivery string) {
	l.t.Helper()
	ok, err := l.RecordAttempts(context.Background(), []belfry.Attempt{{Tenant: "t", DeliveryID: delivery, N: 1, At: l.now(), State: belfry.Delivered}})
	if err != nil || !ok[0] {
		l.t.Fatal(ok, err)
	}
}

// there says whether an event, its delivery and its inbox entry are stored.
func (l *life) there(event, delivery string) string {
	l.t.Helper()
	ctx := context.Background()
	events, err := l.Events(ctx, "t", []string{event})
	if err != nil {
		l.t.Fatal(err)
	}
	_, d, err := l.Delivery(ctx, "t", delivery)
	if err != nil {
		l.t.Fatal(err)
	}
	_, i, err := l.Delivery(ctx, "t", belfry.DeliveryID(event, 0, belfry.ChannelInbox, "u"))
	if err != nil {
		l.t.Fatal(err)
	}
	return fmt.Sprint(len(events), d, i)
}

func engines(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, storetest.SQLitePlace(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, storetest.PostgresPlace(t)) })
}

// Everything goes in its time and no sooner; a partition goes at most its span
// later.
func TestLifeOfRows(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		l := live(t, url, upkeep.Retention{Events: 20 * day, Deliveries: 10 * day, Inbox: 30 * day, Audit: 5 * day, Changes: 2 * day})
		ctx := t.Context()
		if err := l.keeper.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Apply(ctx, belfry.Changes{Tenant: "t", Documents: []belfry.Document{
			{Kind: belfry.KindEventType, ID: "login", Body: []byte(`{"name":"login","retention":"3d"}`)},
			{Kind: belfry.KindEventType, ID: "exam", Body: []byte(`{"name":"exam","retention":"0d"}`)},
		}, Audit: []belfry.AuditEntry{{Who: "k", Action: "event_type.put"}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Apply(ctx, belfry.Changes{Tenant: "t", Objects: []belfry.Object{{ID: "o"}}}); err != nil {
			t.Fatal(err)
		}
		plain, plainDelivery := l.event("plain", "post", true)
		login, loginDelivery := l.event("login", "login", true)
		exam, examDelivery := l.event("exam", "exam", true)
		for _, d := range []string{plainDelivery, loginDelivery, examDelivery} {
			l.close(d)
		}
		l.keep(3)
		if got := l.there(login, loginDelivery); got != "1 true true" {
			t.Errorf("a login after 3 days to the second: %s", got)
		}
		l.keep(2)
		if got := l.there(login, loginDelivery); got != "0 false false" {
			t.Errorf("a login after 5 days: %s", got)
		}
		l.keep(4)
		if got := l.there(plain, plainDelivery); got != "1 true true" {
			t.Errorf("after 9 days: %s", got)
		}
		l.keep(3)
		if got := l.there(plain, plainDelivery); got != "1 false true" {
			t.Errorf("after 12 days: %s", got)
		}
		l.keep(10)
		if got := l.there(plain, plainDelivery); got != "1 false true" {
			t.Errorf("after 22 days, with an inbox entry: %s", got)
		}
		l.keep(12)
		if got := l.there(plain, plainDelivery); got != "0 false false" {
			t.Errorf("after 34 days: %s", got)
		}
		if got := l.there(exam, examDelivery); got != "1 true true" {
			t.Errorf("an exam after 34 days: %s", got)
		}
		if rows, err := l.Audit(ctx, "t", "", 10); err != nil || len(rows) != 0 {
			t.Errorf("audit: %+v, %v", rows, err)
		}
		if log, err := l.ChangesSince(ctx, "t", 0, 10); err != nil || len(log) == 0 || log[0] != (belfry.Change{Version: 2, Kind: belfry.KindEverything}) {
			t.Errorf("change log: %+v, %v", log, err)
		}
		rs, err := l.AcceptEvents(ctx, []belfry.Draft{{Tenant: "t", Event: &belfry.Event{ID: "plain", Source: "/s", Type: "post"}, Body: []byte("{}")}})
		if err != nil || rs[0].Duplicate {
			t.Errorf("a repeat after the window: %+v, %v", rs, err)
		}
		if s := l.keeper.Stats(); s.Failed != 0 || s.Waits {
			t.Errorf("%+v", s)
		}
	})
}

// A retention shorter than the work takes ends nothing that is open.
func TestShorterThanTheWork(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		l := live(t, url, upkeep.Retention{Events: time.Hour, Deliveries: time.Hour, Inbox: time.Hour})
		if err := l.keeper.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		open, openDelivery := l.event("open", "post", true)
		waiting, waitingDelivery := l.event("waiting", "post", false)
		l.keep(5)
		if got := l.there(open, openDelivery); got != "1 true false" {
			t.Errorf("open: %s", got)
		}
		if got := l.there(waiting, waitingDelivery); got != "1 false false" {
			t.Errorf("waiting: %s", got)
		}
		due, err := l.DueDeliveries(t.Context(), "t", belfry.DueKey{}, l.now(), 10, nil)
		if err != nil || len(due) != 1 {
			t.Errorf("%d are due: %v", len(due), err)
		}
		plans, err := l.PendingPlans(t.Context(), "t", "", 10, nil)
		if err != nil || len(plans) != 1 {
			t.Errorf("%d wait: %v", len(plans), err)
		}
		l.plan(waiting, waitingDelivery)
		l.close(openDelivery)
		l.close(waitingDelivery)
		l.keep(3)
		for id, delivery := range map[string]string{open: openDelivery, waiting: waitingDelivery} {
			if got := l.there(id, delivery); got != "0 false false" {
				t.Errorf("closed: %s", got)
			}
		}
	})
}

package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

const tenant = belfry.DefaultTenant

// event makes a draft of an event with an id of its own.
func event(t testing.TB, id string, set func(*belfry.Draft)) belfry.Draft {
	t.Helper()
	e := &belfry.Event{ID: id, Source: "/test", Type: "core.course_updated", Time: time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC),
		Object: "course/41", Actor: "user/8", Data: json.RawMessage(`{"shortname":"CPR"}`)}
	d := belfry.Draft{Tenant: tenant, Event: e}
	if set != nil {
		set(&d)
	}
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	d.Body = body
	return d
}

// Run runs the suite. place gives the URL of an empty database.
func Run(t *testing.T, place func(testing.TB) string) {
	for _, c := range []struct {
		name string
		test func(*testing.T, func(testing.TB) string)
	}{
		{"Smoke", testSmoke},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, place) })
	}
}

func testSmoke(t *testing.T, place func(testing.TB) string) {
	ctx := context.Background()
	db := Open(t, place(t))
	rs, err := db.AcceptEvents(ctx, []belfry.Draft{event(t, "1", nil), event(t, "1", nil), event(t, "2", func(d *belfry.Draft) {
		d.Implied = []string{"course/41"}
		d.Discovered = true
		d.Event.Transition = "publish"
	})})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(rs)
	rs2, err := db.AcceptEvents(ctx, []belfry.Draft{event(t, "1", nil), event(t, "3", nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(rs2)
	pp, err := db.PendingPlans(ctx, tenant, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(len(pp))
	var pages []belfry.PlanPage
	for _, p := range pp {
		pg := belfry.PlanPage{Tenant: tenant, EventID: p.Accepted.EventID, Last: true, Matches: []belfry.MatchNote{{Subscription: "sub_1", Because: []belfry.Reason{{Code: belfry.ScopeMatched}}}}}
		for i := range 3 {
			ch := []string{"inbox", "email", "webhook"}[i]
			pg.Deliveries = append(pg.Deliveries, belfry.Delivery{Tenant: tenant, ID: belfry.DeliveryID(p.Accepted.EventID, 0, ch, "x"), EventID: p.Accepted.EventID,
				Channel: ch, Principal: "user/8", Address: "x", Destination: "user/8", Due: time.Now()})
		}
		pg.Suppressions = []belfry.Suppression{{Principal: "user/9", Because: []belfry.Reason{{Code: belfry.Muted, Detail: "\"x\""}}}}
		pages = append(pages, pg)
	}
	pages = append(pages, pages[0])
	errs, err := db.CommitPlans(ctx, pages)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(errs)
	due, err := db.DueDeliveries(ctx, tenant, struct {
		Due time.Time
		ID  string
	}{}, time.Now(), 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(len(due))
	var as []belfry.Attempt
	for _, d := range due {
		as = append(as, belfry.Attempt{Tenant: tenant, DeliveryID: d.ID, N: 1, At: time.Now(), State: belfry.Delivered, Took: time.Second})
	}
	as = append(as, as[0])
	ok, err := db.RecordAttempts(ctx, as)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(ok)
	v, err := db.Apply(ctx, belfry.Changes{Tenant: tenant,
		Objects: []belfry.Object{{ID: "course/41", Type: "course"}, {ID: "forum/1", Type: "forum", Parent: "course/41"}},
		Users:   []belfry.User{{ID: "user/8", Name: "Ada", Email: "Ada@Example.org", Origin: "k"}},
		Groups:  []belfry.Group{{ID: "staff", Members: []string{"user/8"}}},
		Grants:  []belfry.GrantSet{{Object: "course/41", Grants: []belfry.Grant{{Principal: "user/8", Role: "teacher"}}}}, DeleteObjects: []string{"course/41"},
		Audit: []belfry.AuditEntry{{Who: "x"}}, Members: []belfry.Member{{Subscription: "s", Principal: "user/8"}}, Subscriptions: []belfry.Subscription{{ID: "s"}},
		Documents: []belfry.Document{{Kind: "endpoint", ID: "e", Body: []byte("{}")}}, Settings: []belfry.UserSettings{{User: "user/8", Settings: belfry.Settings{Stop: true}}},
		History: []belfry.HistoryEntry{{Object: "course/41", Transition: "x", Time: time.Now()}}})
	t.Log(v, err)
	fmt.Println(db.Persons(ctx, tenant, []string{"user/8"}))
	t.Log(db.ChangesSince(ctx, tenant, 0, 3))
	t.Log(db.Stats(ctx))
	t.Log(db.Inbox(ctx, tenant, "user/8", struct {
		Before   string
		Limit    int
		Unread   bool
		Archived bool
	}{}))
	t.Log(db.Trace(ctx, tenant, pp[0].Accepted.EventID, "", struct {
		After string
		Limit int
	}{Limit: 3}))
	t.Log(db.ListEvents(ctx, tenant, struct {
		Type   string
		Object string
		Since  time.Time
		Before string
		Limit  int
	}{Type: "core*", Limit: 2}))
	t.Log(db.Attempts(ctx, tenant, due[0].ID))
	t.Log(db.History(ctx, tenant, "course/41", "", 1))
}

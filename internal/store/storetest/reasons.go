package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// manyReasons are as many as hundred subscriptions give.
func manyReasons(group string) (list []belfry.Reason) {
	for i := range 100 {
		list = append(list, belfry.Reason{Code: belfry.NamedGroup, Subscription: fmt.Sprintf("sub_06gzsmwvmc001zs72t8phwq%03d", i), Rule: 1 + i%10, Group: group})
	}
	return list
}

// Many reasons stand once for all rows of an event that have them, are read
// with each of them by every way to read it, and go when nothing has them.
//
// feature: PEER-5
func testManyReasons(t *testing.T, place func(testing.TB) string) {
	a := ageing(t, place(t))
	ctx := context.Background()
	event, other := acceptOne(t, a.DB, "1"), acceptOne(t, a.DB, "2")
	staff, pupils := manyReasons("staff"), manyReasons("pupils")
	of := func(event, channel, address string, because []belfry.Reason) belfry.Delivery {
		d := delivery(event, channel, address)
		d.Because = because
		return d
	}
	open := of(event, "sms", "+1", pupils)
	ended := of(event, "webhook", "ep_1", staff)
	inbox := of(event, belfry.ChannelInbox, "user/8", staff)
	digested := item(event, "user/9", "daily", dayOf(32))
	digested.Because = pupils
	held := of(event, belfry.ChannelInbox, "user/10", pupils)
	held.State, held.Principal, held.Due = belfry.Held, "user/10", dayOf(1)
	page := belfry.PlanPage{Tenant: tenant, EventID: event, Last: true, Deliveries: []belfry.Delivery{open, ended, inbox, digested, held},
		Suppressions: []belfry.Suppression{{Principal: "user/11", Channel: "email", Because: pupils}}}
	commit(t, a.DB, page, belfry.PlanPage{Tenant: tenant, EventID: other, Last: true, Deliveries: []belfry.Delivery{of(other, "webhook", "ep_1", staff)}})
	a.close(event)

	rows := func() (n int) {
		t.Helper()
		if err := intrude(t, a.url).QueryRow("SELECT count(*) FROM reasons").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := rows(); n != 3 {
		t.Fatalf("%d lists are stored for two of one event and one of another", n)
	}
	var bytes int
	if err := intrude(t, a.url).QueryRow("SELECT max(length(because)) FROM deliveries").Scan(&bytes); err != nil || bytes > 32 {
		t.Errorf("a delivery holds %d bytes of reasons, %v", bytes, err)
	}

	trace := must[store.EventTrace](t)(a.Trace(ctx, tenant, event, "", store.TracePage{}))
	got := map[string][]belfry.Reason{}
	for _, d := range trace.Deliveries {
		got[d.ID] = d.Because
		one, ok, err := a.Delivery(ctx, tenant, d.ID)
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", d.ID, ok, err)
		}
		same(t, "alone, "+d.ID, one.Because, d.Because)
	}
	same(t, "the trace", got, map[string][]belfry.Reason{open.ID: pupils, ended.ID: staff, inbox.ID: staff, digested.ID: pupils, held.ID: pupils})
	same(t, "the suppression", trace.Suppressions[0].Because, pupils)
	list, _, err := a.ListDeliveries(ctx, tenant, store.DeliveryFilter{Event: event})
	if err != nil || len(list) != 3 {
		t.Fatalf("%d listed, %v", len(list), err)
	}
	for _, d := range list {
		same(t, "listed, "+d.ID, d.Because, got[d.ID])
	}
	for _, d := range must[[]belfry.Delivery](t)(a.DueDeliveries(ctx, tenant, belfry.DueKey{}, dayOf(1), 10, nil)) {
		if d.EventID == event {
			same(t, "due, "+d.ID, d.Because, got[d.ID])
		}
	}
	entries, _, _, err := a.Inbox(ctx, tenant, "user/8", store.InboxFilter{})
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	same(t, "the inbox", entries[0].Because, staff)
	bundle := must[[]belfry.Bundle](t)(a.DueBundles(ctx, tenant, dayOf(33), 10, nil))[0].ID
	same(t, "the digest", must[map[string][]belfry.BundleItem](t)(a.BundleItems(ctx, tenant, []string{bundle}, 0))[bundle][0].Because, pupils)

	// They go after all that has them, and after the event.
	clear := func() {
		t.Helper()
		for place := ""; ; {
			c := must[belfry.Cleared](t)(a.ClearReasons(ctx, tenant, a.day(100), place, 1))
			if place = c.Next; place == "" {
				return
			}
		}
	}
	db := intrude(t, a.url)
	for _, has := range []string{"inbox WHERE event_id", "deliveries WHERE event_id", "bundle_items WHERE event_id", "suppressions WHERE event_id", "events WHERE id"} {
		clear()
		if n := rows(); n != 3 {
			t.Fatalf("%d lists are left before these went: %s", n, has)
		}
		db.exec(t, "DELETE FROM "+has+" = '"+event+"'")
	}
	clear()
	if n := rows(); n != 1 {
		t.Errorf("%d lists are left, want that of the other event", n)
	}
}

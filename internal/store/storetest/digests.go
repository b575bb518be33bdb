package storetest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// dayOf are times of a day, some hours in.
func dayOf(hours float64) time.Time {
	return time.Date(2026, 5, 9, 0, 0, 0, 0, time.UTC).Add(time.Duration(hours * float64(time.Hour)))
}

// item makes what waits for a digest of a user.
func item(eventID, user, key string, due time.Time) belfry.Delivery {
	d := delivery(eventID, "email", user+"@example.org")
	d.Principal, d.Destination, d.Shard = user, user, belfry.Shard(tenant, user)
	d.Priority, d.Line = 0, 0
	d.Digest = &belfry.Bundling{Key: key, Due: due, Frequency: belfry.Frequency{Every: belfry.Daily, At: "08:00"}}
	return d
}

// planItems plans an event with items.
func planItems(t testing.TB, db *store.DB, id string, items func(eventID string) []belfry.Delivery) string {
	t.Helper()
	event := acceptOne(t, db, id)
	commit(t, db, belfry.PlanPage{Tenant: tenant, EventID: event, Last: true, Deliveries: items(event)})
	return event
}

// sealAll seals what is due and gives the bundles.
func sealAll(t testing.TB, db *store.DB, now time.Time) []belfry.Bundle {
	t.Helper()
	due := must[[]belfry.Bundle](t)(db.DueBundles(context.Background(), tenant, now, 1000, nil))
	applied := must[[]bool](t)(db.SealBundles(context.Background(), sealsOf(due, now)))
	for i := range due {
		if !applied[i] {
			t.Fatalf("%s was not open", due[i].ID)
		}
	}
	return due
}

func sealsOf(due []belfry.Bundle, now time.Time) []belfry.Seal {
	seals := make([]belfry.Seal, len(due))
	for i, b := range due {
		seals[i] = belfry.Seal{Tenant: tenant, Bundle: b.ID, At: now, Message: &belfry.Delivery{ID: belfry.NewID(belfry.DeliveryPrefix, now), Channel: b.Channel,
			Principal: b.Principal, Address: b.Address, Destination: b.Destination, Shard: b.Shard, Due: b.Due, Priority: belfry.PriorityDigest, Locale: b.Locale}}
	}
	return seals
}

func itemsOf(t testing.TB, db *store.DB, bundle string) (ids []string) {
	t.Helper()
	for _, it := range must[map[string][]belfry.BundleItem](t)(db.BundleItems(context.Background(), tenant, []string{bundle}, 0))[bundle] {
		ids = append(ids, it.ID)
	}
	return ids
}

// What waits gathers in one open bundle of a person, channel and key, is
// frozen with the message's id, and what comes later goes into the next.
//
// feature: NEW-11, PEER-9
func testDigests(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	both := func(e string) []belfry.Delivery {
		return []belfry.Delivery{item(e, "user/8", "daily", dayOf(32)), item(e, "user/9", "daily", dayOf(30)), item(e, "user/8", "weekly", dayOf(100))}[:2]
	}
	one := planItems(t, db, "1", both)
	two := planItems(t, db, "2", func(e string) []belfry.Delivery { return []belfry.Delivery{item(e, "user/8", "daily", dayOf(32))} })
	planItems(t, db, "3", func(e string) []belfry.Delivery { return []belfry.Delivery{item(e, "user/8", "weekly", dayOf(100))} })

	same(t, "the next of each tenant", must[map[string]time.Time](t)(db.NextBundles(ctx, nil)), map[string]time.Time{tenant: dayOf(30)})
	if at, ok, err := db.NextBundle(ctx, tenant, nil); err != nil || !ok || !at.Equal(dayOf(30)) {
		t.Fatalf("the next is due %s (%v, %v)", at, ok, err)
	}
	if due := must[[]belfry.Bundle](t)(db.DueBundles(ctx, tenant, dayOf(32), 10, []int{belfry.Shard(tenant, "user/9")})); len(due) != 1 || due[0].Principal != "user/9" {
		t.Errorf("due in the shard of user/9: %+v", due)
	}
	if stats := must[store.Stats](t)(db.Stats(ctx)); stats.Tenants[tenant].OpenDeliveries != 0 {
		t.Errorf("what waits for a digest counts as an open delivery: %+v", stats.Tenants)
	}
	due := sealAll(t, db, dayOf(32))
	if len(due) != 2 || due[0].Principal != "user/9" || due[1].Principal != "user/8" {
		t.Fatalf("sealed %+v", due)
	}
	eight := due[1]
	want := []string{belfry.DeliveryID(one, 0, "email", "user/8@example.org"), belfry.DeliveryID(two, 0, "email", "user/8@example.org")}
	same(t, "items of user/8", itemsOf(t, db, eight.ID), want)
	if eight.Frequency != (belfry.Frequency{Every: belfry.Daily, At: "08:00"}) || eight.Key != "daily" || eight.Locale != "pt-BR" {
		t.Errorf("read back as %+v", eight)
	}
	again := must[[]bool](t)(db.SealBundles(ctx, sealsOf(due, dayOf(33))))
	same(t, "sealing again", again, []bool{false, false})

	open := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, belfry.DueKey{}, dayOf(32), 10, nil))
	if len(open) != 2 || open[1].Bundle != eight.ID || open[1].EventID != eight.ID || open[1].Priority != belfry.PriorityDigest || open[1].Principal != "user/8" {
		t.Fatalf("open deliveries %+v", open)
	}
	if stats := must[store.Stats](t)(db.Stats(ctx)); stats.Tenants[tenant].OpenDeliveries != 2 {
		t.Errorf("%+v", stats.Tenants)
	}
	planItems(t, db, "4", func(e string) []belfry.Delivery { return []belfry.Delivery{item(e, "user/8", "daily", dayOf(56))} })
	same(t, "items after the seal", itemsOf(t, db, eight.ID), want)
	if due := must[[]belfry.Bundle](t)(db.DueBundles(ctx, tenant, dayOf(57), 10, nil)); len(due) != 1 || due[0].ID == eight.ID {
		t.Errorf("the next is %+v", due)
	}

	// A trace shows each as what became of it.
	state := func(event, user string) belfry.State {
		t.Helper()
		tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, event, user, store.TracePage{}))
		if len(tr.Deliveries) != 1 {
			t.Fatalf("%d deliveries of %s to %s", len(tr.Deliveries), event, user)
		}
		d, ok, err := db.Delivery(ctx, tenant, tr.Deliveries[0].ID)
		if err != nil || !ok || d.State != tr.Deliveries[0].State || d.EventID != event {
			t.Fatalf("asked for alone: %+v, %v, %v", d, ok, err)
		}
		states := must[map[string]belfry.State](t)(db.DeliveryStates(ctx, tenant, []string{d.ID, "dlv_unknown"}))
		same(t, "its state", states, map[string]belfry.State{d.ID: d.State})
		return d.State
	}
	if s := state(one, "user/8"); s != belfry.Scheduled {
		t.Errorf("sealed and not sent: %s", s)
	}
	drop := belfry.Reason{Code: belfry.MayNotSee, Object: "course/41"}
	record(t, db, belfry.Attempt{Tenant: tenant, DeliveryID: open[1].ID, N: 1, At: dayOf(32), State: belfry.Delivered, Bundle: eight.ID,
		Dropped: []belfry.ItemDrop{{ID: want[1], Because: drop}}})
	if s := state(one, "user/8"); s != belfry.Delivered {
		t.Errorf("sent: %s", s)
	}
	if s := state(two, "user/8"); s != belfry.Suppressed {
		t.Errorf("left out: %s", s)
	}
	if s := state(one, "user/9"); s != belfry.Scheduled {
		t.Errorf("of another digest: %s", s)
	}
	left, _, _ := db.Delivery(ctx, tenant, want[1])
	if last := left.Because[len(left.Because)-1]; last != drop {
		t.Errorf("left out because %+v", last)
	}
	b, items, ok, err := db.Bundle(ctx, tenant, eight.ID, "", 0)
	if err != nil || !ok || b.State != belfry.BundleSent || b.Items != 2 || b.Message != open[1].ID || len(items) != 2 || !b.Ended.Equal(dayOf(32)) {
		t.Errorf("%+v with %d items, %v, %v", b, len(items), ok, err)
	}

	state1 := belfry.BundleOpen
	list, _, err := db.ListBundles(ctx, tenant, store.BundleFilter{Recipient: "user/8", State: &state1})
	if err != nil || len(list) != 2 || list[0].Items != 1 {
		t.Errorf("open ones of user/8: %+v, %v", list, err)
	}

	// An item can be taken out while its bundle is open.
	id := belfry.DeliveryID(one, 0, "email", "user/8@example.org")
	_, err = db.Apply(ctx, belfry.Changes{Tenant: tenant, Cancels: []belfry.DeliveryCancel{{ID: id}}})
	kind(t, err, belfry.Conflict)
	_, items, _, _ = db.Bundle(ctx, tenant, list[0].ID, "", 0)
	apply(t, db, belfry.Changes{Cancels: []belfry.DeliveryCancel{{ID: items[0].ID, Because: belfry.Reason{Code: belfry.CancelledBy, Detail: "by key"}}}})
	if d, _, _ := db.Delivery(ctx, tenant, items[0].ID); d.State != belfry.Cancelled {
		t.Errorf("cancelled: %+v", d)
	}
}

// What is to wait waits for what was seen of it; an item that came since has it
// looked at again.
//
// feature: S3-20
func testDigestsWait(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	plan := func(id string) {
		planItems(t, db, id, func(e string) []belfry.Delivery { return []belfry.Delivery{item(e, "user/8", "daily", dayOf(3))} })
	}
	plan("1")
	b := must[[]belfry.Bundle](t)(db.DueBundles(ctx, tenant, dayOf(4), 10, nil))[0]
	wait := func(seen int) bool {
		t.Helper()
		why := belfry.Reason{Code: belfry.OverDailyLimit}
		return must[[]bool](t)(db.SealBundles(ctx, []belfry.Seal{{Tenant: tenant, Bundle: b.ID, At: dayOf(4), Until: dayOf(9), Drop: &why, Seen: seen}}))[0]
	}
	due := func() time.Time {
		t.Helper()
		at, _, err := db.NextBundle(ctx, tenant, nil)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	plan("2") // before it is stored that the one waits
	if wait(1) || !due().Equal(dayOf(3)) {
		t.Errorf("it waits, due %v, for what was decided of the first item alone", due())
	}
	if !wait(2) || !due().Equal(dayOf(9)) {
		t.Errorf("it does not wait, but is due %v", due())
	}
	plan("3")
	if !due().Equal(dayOf(3)) {
		t.Errorf("due %v, though an item came that is due before", due())
	}
	if !wait(0) || !due().Equal(dayOf(9)) {
		t.Errorf("it does not wait, whatever its items, but is due %v", due())
	}
}

// When the last message went decides when the next one does.
//
// feature: S3-8, PEER-9
func testDigestsCount(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	n := 0
	plan := func(now time.Time, b belfry.Bundling) {
		n++
		planItems(t, db, strconv.Itoa(n), func(e string) []belfry.Delivery {
			d := item(e, "user/8", "elapsed", time.Time{})
			d.Digest = &b
			b.Key = "elapsed"
			return []belfry.Delivery{d}
		})
	}
	day := 24 * time.Hour
	at := func(now time.Time) belfry.Bundling {
		return belfry.Bundling{Early: now, Since: now.Add(-day), Wait: day}
	}
	due := func() time.Time {
		t.Helper()
		d, ok, err := db.NextBundle(context.Background(), tenant, nil)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return d
	}
	plan(dayOf(0), at(dayOf(0)))
	if d := due(); !d.Equal(dayOf(0)) {
		t.Fatalf("the very first is due %s", d)
	}
	sealAll(t, db, dayOf(0))
	plan(dayOf(1), at(dayOf(1)))
	plan(dayOf(2), at(dayOf(2)))
	if d := due(); !d.Equal(dayOf(24)) {
		t.Fatalf("after the first: %s", d)
	}
	if b := sealAll(t, db, dayOf(24)); len(b) != 1 || len(itemsOf(t, db, b[0].ID)) != 2 {
		t.Fatalf("%+v", b)
	}
	plan(dayOf(72), at(dayOf(72)))
	if d := due(); !d.Equal(dayOf(72)) {
		t.Fatalf("after a quiet time: %s", d)
	}
	sealAll(t, db, dayOf(72))
	plan(dayOf(73), belfry.Bundling{Early: dayOf(73), Since: dayOf(56), Due: dayOf(80)}) // leading, by the calendar
	if d := due(); !d.Equal(dayOf(80)) {
		t.Fatalf("a leading one after another: %s", d)
	}
}

// Every item is in exactly one bundle, whoever seals while others join.
//
// feature: NEW-11
func testDigestsTogether(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := Open(t, url)
	ctx := context.Background()
	const planners, events, users = 3, 40, 5
	want := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	done := make(chan struct{})
	for p := range planners {
		wg.Go(func() {
			for n := range events {
				event := accept(t, db, event(fmt.Sprintf("%d-%d", p, n)))[0].EventID
				page := belfry.PlanPage{Tenant: tenant, EventID: event, Last: true}
				for u := range users {
					page.Deliveries = append(page.Deliveries, item(event, "user/"+strconv.Itoa((u+n)%users), "daily", dayOf(1)))
				}
				if errs, err := db.CommitPlans(ctx, []belfry.PlanPage{page}); err != nil || errs[0] != nil {
					t.Error(errs, err)
				}
				mu.Lock()
				for i := range page.Deliveries {
					want[page.Deliveries[i].ID] = true
				}
				mu.Unlock()
			}
		})
	}
	var sealed []string
	var sealers sync.WaitGroup
	for range 2 {
		sealers.Go(func() {
			for last := false; ; {
				due, err := db.DueBundles(ctx, tenant, dayOf(2), 100, nil)
				if err != nil {
					t.Error(err)
					return
				}
				applied, err := db.SealBundles(ctx, sealsOf(due, dayOf(2)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for i := range due {
					if applied[i] {
						sealed = append(sealed, due[i].ID)
					}
				}
				mu.Unlock()
				if last {
					return
				}
				select {
				case <-done:
					last = true // once more, for what came last
				default:
				}
			}
		})
	}
	wg.Wait()
	close(done)
	sealers.Wait()
	got := map[string]bool{}
	for chunk := range slices.Chunk(sealed, 100) {
		for bundle, items := range must[map[string][]belfry.BundleItem](t)(db.BundleItems(ctx, tenant, chunk, 0)) {
			for _, it := range items {
				if got[it.ID] {
					t.Errorf("%s is in two bundles, one of them %s", it.ID, bundle)
				}
				got[it.ID] = true
			}
		}
	}
	same(t, "items of sealed bundles", got, want)
	open := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, belfry.DueKey{}, dayOf(2), 10_000, nil))
	byBundle := map[string]int{}
	for _, d := range open {
		byBundle[d.Bundle]++
	}
	for _, id := range sealed {
		if byBundle[id] != 1 {
			t.Errorf("bundle %s became %d messages", id, byBundle[id])
		}
	}
}

// What is decided anew of all digests moves page by page, with how far it is in
// the same transaction; an edit meanwhile begins it again, and only the one that
// was begun last ends it.
//
// feature: NEW-11, CPS-23
func testDigestsMove(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	setting := func(every string) {
		t.Helper()
		body := []byte(`{"frequency": {"every": "` + every + `"}}`)
		if _, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Documents: []belfry.Document{{Kind: belfry.KindSetting, ID: belfry.TenantSettingsID, Body: body}}}); err != nil {
			t.Fatal(err)
		}
	}
	look := func() belfry.Look {
		t.Helper()
		list := must[[]belfry.Look](t)(db.Looks(ctx, nil, 10))
		if len(list) != 1 || list[0].What != belfry.LookAll {
			t.Fatalf("looks: %+v", list)
		}
		return list[0]
	}
	setting(belfry.Weekly)
	if last := must[string](t)(db.LastBundle(ctx, tenant)); last != "" {
		t.Errorf("the last digest of none is %q", last)
	}
	const users = 10
	event := acceptOne(t, db, "1")
	commit(t, db, belfry.PlanPage{Tenant: tenant, EventID: event, Last: true, Decided: 1, Deliveries: func() (items []belfry.Delivery) {
		for i := range users {
			items = append(items, item(event, "user/"+strconv.Itoa(i), "weekly", dayOf(40)))
		}
		return items
	}()})
	setting(belfry.Daily)
	l := look()
	if l.After != "" || l.Until != "" {
		t.Errorf("one that was not begun: %+v", l)
	}
	until := must[string](t)(db.LastBundle(ctx, tenant))
	items := map[string]bool{}
	page := func(l belfry.Look) (after string, list []belfry.Regather) {
		t.Helper()
		bundles := must[[]belfry.Bundle](t)(db.OpenBundles(ctx, tenant, nil, l.After, until, dayOf(1), 4))
		for i := range bundles {
			b := &bundles[i]
			r := belfry.Regather{Tenant: tenant, Bundle: b.ID, Seen: 1, At: dayOf(1), Slot: &belfry.Delivery{Principal: b.Principal, Address: b.Address, Channel: b.Channel, Digest: &belfry.Bundling{Key: b.Key}}}
			for _, it := range must[map[string][]belfry.BundleItem](t)(db.BundleItems(ctx, tenant, []string{b.ID}, 0))[b.ID] {
				to := item(it.EventID, b.Principal, "daily", dayOf(20))
				to.ID = it.ID
				r.Moves = append(r.Moves, belfry.ItemMove{Item: it.ID, To: &to})
				items[it.ID] = true
			}
			list, after = append(list, r), b.ID
		}
		return after, list
	}
	after, list := page(l)
	to := l
	to.After, to.Until = after, until
	if err := db.Regather(ctx, list, []belfry.Look{to}); err != nil {
		t.Fatal(err)
	}
	if got := look(); got != to {
		t.Errorf("it is at %+v, want %+v", got, to)
	}
	setting(belfry.Monthly)
	again := look()
	if again.After != "" || again.Until != "" || again.Version <= l.Version {
		t.Errorf("after another edit it is at %+v", again)
	}
	// Whoever is late with the old one neither ends the new one nor moves it on.
	for _, late := range []belfry.Look{l, to} {
		if err := db.Regather(ctx, nil, []belfry.Look{late}); err != nil {
			t.Fatal(err)
		}
		if got := look(); got != again {
			t.Errorf("it is at %+v, want %+v", got, again)
		}
	}
	setting(belfry.Daily)
	l = look()
	for range 5 {
		after, list := page(l)
		on := l
		if on.After, on.Until = after, until; len(list) < 4 {
			on.After = ""
		}
		if err := db.Regather(ctx, list, []belfry.Look{on}); err != nil {
			t.Fatal(err)
		}
		if on.After == "" {
			break
		}
		l = look()
	}
	if left := must[[]belfry.Look](t)(db.Looks(ctx, nil, 10)); len(left) != 0 {
		t.Errorf("looks are left: %+v", left)
	}
	due := sealAll(t, db, dayOf(30))
	got := map[string]bool{}
	for _, b := range due {
		for _, id := range itemsOf(t, db, b.ID) {
			got[id] = true
		}
		if b.Key != "daily" {
			t.Errorf("%s waits by %q", b.Principal, b.Key)
		}
	}
	same(t, "digests", len(due), users)
	same(t, "items", got, items)
}

// A bundle may be over without a message, or wait longer; old ones go, and the
// events of those that were not sent stay.
func testDigestsEnd(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	event := planItems(t, db, "1", func(e string) []belfry.Delivery {
		return []belfry.Delivery{item(e, "user/7", "daily", dayOf(1)), item(e, "user/8", "daily", dayOf(2)), item(e, "user/9", "daily", dayOf(3))}
	})
	due := must[[]belfry.Bundle](t)(db.DueBundles(ctx, tenant, dayOf(4), 10, nil))
	seals := sealsOf(due, dayOf(4))
	reason := belfry.Reason{Code: belfry.NoAddress}
	seals[0].Message, seals[0].Drop = nil, &reason
	seals[1].Message, seals[1].Until = nil, dayOf(9)
	same(t, "applied", must[[]bool](t)(db.SealBundles(ctx, seals)), []bool{true, true, true})
	b, items, _, err := db.Bundle(ctx, tenant, due[0].ID, "", 0)
	if err != nil || b.State != belfry.BundleOver || *b.Because != reason || items[0].State != belfry.Suppressed || items[0].Because[len(items[0].Because)-1] != reason {
		t.Errorf("%+v, %+v, %v", b, items, err)
	}
	if at, _, _ := db.NextBundle(ctx, tenant, nil); !at.Equal(dayOf(9)) {
		t.Errorf("the one that waits is due %s", at)
	}
	left := func() bool {
		t.Helper()
		_, err := db.Clear(ctx, belfry.Walk{Tenant: tenant, Table: "events", Before: time.Now().Add(time.Hour)}, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(must[map[string]*belfry.Accepted](t)(db.Events(ctx, tenant, []string{event}))) == 1
	}
	if !left() {
		t.Fatal("an event went that a digest speaks of")
	}
	// The one that became a message is cancelled by hand, the other is told.
	apply(t, db, belfry.Changes{Cancels: []belfry.DeliveryCancel{{ID: seals[2].Message.ID}}})
	last := sealAll(t, db, dayOf(9))
	open := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, belfry.DueKey{}, dayOf(9), 10, nil))
	record(t, db, belfry.Attempt{Tenant: tenant, DeliveryID: open[0].ID, N: 1, At: dayOf(9), State: belfry.Failed, Bundle: last[0].ID})
	if b, _, _, _ := db.Bundle(ctx, tenant, last[0].ID, "", 0); b.State != belfry.BundleOver {
		t.Errorf("failed: %s", b.State)
	}
	if n := must[int](t)(db.ClearBundles(ctx, tenant, dayOf(0), 100)); n != 0 {
		t.Errorf("%d rows went that are not old", n)
	}
	if b, _, _, _ := db.Bundle(ctx, tenant, due[2].ID, "", 0); b.State != belfry.BundleOver {
		t.Errorf("cancelled: %s", b.State)
	}
	if n := must[int](t)(db.ClearBundles(ctx, tenant, time.Now().Add(time.Hour), 100)); n != 6 {
		t.Errorf("%d rows went, want three bundles and their items", n)
	}
	if left() {
		t.Error("an event stayed that nothing needs")
	}
}

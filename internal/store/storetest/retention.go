package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// aged is a store with a clock that tests move by days.
type aged struct {
	*store.DB
	t   testing.TB
	url string
	at  atomic.Int64
}

var dawn = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) // a Monday

func ageing(t testing.TB, url string) *aged {
	a := &aged{t: t, url: url}
	a.DB = openAt(t, url, a.now)
	return a
}

func (a *aged) now() time.Time { return dawn.Add(time.Duration(a.at.Load())) }

func (a *aged) day(n float64) time.Time { return dawn.Add(time.Duration(n * 24 * float64(time.Hour))) }

func (a *aged) goTo(n float64) { a.at.Store(int64(n * 24 * float64(time.Hour))) }

// told accepts an event and plans it: one webhook delivery that is delivered at
// once unless open, one suppression, and an inbox entry for each reader.
func (a *aged) told(id string, open bool, readers ...string) string {
	a.t.Helper()
	event := acceptOne(a.t, a.DB, id)
	a.plan(event, open, readers...)
	return event
}

func (a *aged) plan(event string, open bool, readers ...string) {
	a.t.Helper()
	d := delivery(event, "webhook", "ep_1")
	page := belfry.PlanPage{Tenant: tenant, EventID: event, Last: true, Matches: []belfry.MatchNote{{Subscription: "sub_1"}}, Deliveries: []belfry.Delivery{d},
		Suppressions: []belfry.Suppression{{Principal: "user/9", Channel: "email", Because: []belfry.Reason{{Code: belfry.Muted}}}}}
	for _, r := range readers {
		row := delivery(event, belfry.ChannelInbox, r)
		row.Principal = r
		page.Deliveries = append(page.Deliveries, row)
	}
	commit(a.t, a.DB, page)
	if !open {
		a.close(event)
	}
}

func (a *aged) close(event string) {
	a.t.Helper()
	id := belfry.DeliveryID(event, 0, "webhook", "ep_1")
	if !record(a.t, a.DB, belfry.Attempt{Tenant: tenant, DeliveryID: id, N: 1, At: a.now(), State: belfry.Delivered})[0] {
		a.t.Fatalf("the attempt of %s was not applied", event)
	}
}

var walked = []string{"deliveries", "suppressions", "plan_matches", "inbox", "events"}

// clear walks a table to its end in chunks of n.
func (a *aged) clear(table string, before time.Time, keep map[string]time.Time, n int) (rows int) {
	a.t.Helper()
	place := ""
	for range 1000 {
		c, err := a.Clear(context.Background(), belfry.Walk{Tenant: tenant, Table: table, Before: before, Keep: keep}, place, n)
		if err != nil {
			a.t.Fatalf("clearing %s: %v", table, err)
		}
		rows += c.Rows
		if place = c.Next; place == "" {
			return rows
		}
	}
	a.t.Fatalf("clearing %s does not come to an end", table)
	return 0
}

// left says what is stored of an event: e(vent), d(elivery), a(ttempt),
// s(uppression), m(atch), i(nbox).
func (a *aged) left(event string) string {
	a.t.Helper()
	ctx := context.Background()
	out := ""
	if len(must[map[string]*belfry.Accepted](a.t)(a.Events(ctx, tenant, []string{event}))) > 0 {
		out += "e"
	}
	id := belfry.DeliveryID(event, 0, "webhook", "ep_1")
	if _, ok, err := a.Delivery(ctx, tenant, id); err != nil {
		a.t.Fatal(err)
	} else if ok {
		out += "d"
	}
	if len(must[[]belfry.Attempt](a.t)(a.Attempts(ctx, tenant, id))) > 0 {
		out += "a"
	}
	db := intrude(a.t, a.url)
	for _, c := range []struct{ letter, table string }{{"s", "suppressions"}, {"m", "plan_matches"}, {"i", "inbox"}} {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM "+c.table+" WHERE event_id = $1", event).Scan(&n); err != nil {
			a.t.Fatal(err)
		}
		if n > 0 {
			out += c.letter
		}
	}
	return out
}

func (a *aged) expect(when string, want map[string]string, ids map[string]string) {
	a.t.Helper()
	for name, w := range want {
		if got := a.left(ids[name]); got != w {
			a.t.Errorf("%s, of %s is left %q, want %q", when, name, got, w)
		}
	}
}

// What is too old goes; what is open, or needed by what is open, stays.
func testClear(t *testing.T, place func(testing.TB) string) {
	a := ageing(t, place(t))
	ids := map[string]string{}
	ids["closed"] = a.told("closed", false)
	ids["open"] = a.told("open", true)
	ids["unplanned"] = acceptOne(t, a.DB, "unplanned")
	ids["read"] = a.told("read", false, "user/1", "user/2")
	ids["kept type"] = accept(t, a.DB, event("kept", func(d *belfry.Draft) { d.Event.Type = "exam.result" }))[0].EventID
	a.plan(ids["kept type"], false, "user/1")
	a.goTo(50)
	ids["young"] = a.told("young", false, "user/1")
	a.goTo(100)
	keep := map[string]time.Time{"exam.result": {}}
	all := map[string]string{"closed": "edasm", "open": "edsm", "unplanned": "e", "read": "edasmi", "kept type": "edasmi", "young": "edasmi"}
	a.expect("before", all, ids)

	// Nothing is as old as that, or older than the beginning.
	for _, table := range walked {
		if n := a.clear(table, a.day(-1), keep, 100); n != 0 {
			t.Errorf("%d rows of %s went before their time", n, table)
		}
	}
	a.expect("still", all, ids)

	for _, table := range walked {
		a.clear(table, a.day(10), keep, 2)
	}
	a.expect("after", map[string]string{"closed": "", "open": "ed", "unplanned": "e", "read": "", "kept type": "edasmi", "young": "edasmi"}, ids)

	// Inbox entries that live longer keep their event, and nothing else.
	for _, table := range walked {
		if table != "inbox" {
			a.clear(table, a.day(60), keep, 3)
		}
	}
	a.expect("with a longer inbox", map[string]string{"open": "ed", "young": "ei"}, ids)

	// What was open is closed, what was not planned is planned.
	a.close(ids["open"])
	a.plan(ids["unplanned"], false)
	for _, table := range walked {
		a.clear(table, a.day(60), nil, 100)
	}
	for name := range all {
		a.expect("at the end", map[string]string{name: ""}, ids)
	}
	stats := must[store.Stats](t)(a.Stats(context.Background()))
	same(t, "counts", [2]int64{stats.Tenants[tenant].PendingPlans, stats.Tenants[tenant].OpenDeliveries}, [2]int64{})
}

// A type with a shorter life takes along all that hangs on its events.
func testClearTypes(t *testing.T, place func(testing.TB) string) {
	a := ageing(t, place(t))
	ctx := context.Background()
	login := func(id string, n int) string {
		e := accept(t, a.DB, event(id, func(d *belfry.Draft) { d.Event.Type = "user.login" }))[0].EventID
		if n < 0 {
			return e
		}
		p := belfry.PlanPage{Tenant: tenant, EventID: e, Last: true, Matches: []belfry.MatchNote{{Subscription: "sub_1"}}}
		for i := range n {
			who := fmt.Sprintf("user/%03d", i)
			row := delivery(e, belfry.ChannelInbox, who)
			row.Principal = who
			p.Deliveries = append(p.Deliveries, row)
			p.Suppressions = append(p.Suppressions, belfry.Suppression{Principal: who, Channel: "email", Because: []belfry.Reason{{Code: belfry.Muted}}})
		}
		p.Deliveries = append(p.Deliveries, delivery(e, "webhook", "ep_1"))
		commit(t, a.DB, p)
		return e
	}
	ids := map[string]string{"other": a.told("other", false, "user/1")}
	ids["big"] = login("big", 50)
	a.close(ids["big"])
	ids["open"] = login("open", 1)
	ids["unplanned"] = login("unplanned", -1)
	ids["small"] = login("small", 0)
	a.close(ids["small"])
	a.goTo(5)
	ids["young"] = login("young", 1)
	a.close(ids["young"])
	rows, calls := 0, 0
	for at := ""; ; calls++ {
		c := must[belfry.Cleared](t)(a.ClearTypes(ctx, tenant, []string{"user.login", "never.seen"}, a.day(1), at, 7))
		if c.Rows > 16 { // 7 ids and their attempts
			t.Errorf("%d rows in one transaction", c.Rows)
		}
		rows += c.Rows
		if at = c.Next; at == "" {
			break
		}
		if calls > 100 {
			t.Fatal("no end")
		}
	}
	a.expect("after", map[string]string{"other": "edasmi", "big": "", "open": "edsmi", "unplanned": "e", "small": "", "young": "edasmi"}, ids)
	if want := 50 + 50 + 4 + 5; rows < want-4 || calls < 10 {
		t.Errorf("%d rows in %d calls, want about %d", rows, calls, want)
	}
}

// feature: NEW-10
func testClearOthers(t *testing.T, place func(testing.TB) string) {
	a := ageing(t, place(t))
	ctx := context.Background()
	for d := range 30 {
		a.goTo(float64(d))
		acceptOne(t, a.DB, fmt.Sprint("e", d))
		apply(t, a.DB, belfry.Changes{Objects: []belfry.Object{{ID: fmt.Sprint("o", d)}, {ID: "x"}}, Audit: []belfry.AuditEntry{{Who: "key", Action: "object.put", Target: fmt.Sprint("o", d)}}})
	}
	walk := func(f func(place string) (belfry.Cleared, error)) (rows int) {
		t.Helper()
		for place := ""; ; {
			c := must[belfry.Cleared](t)(f(place))
			rows += c.Rows
			if place = c.Next; place == "" {
				return rows
			}
		}
	}
	if n := walk(func(p string) (belfry.Cleared, error) { return a.ClearDedupe(ctx, tenant, a.day(20), p, 4) }); n != 20 {
		t.Errorf("%d identities went, want 20", n)
	}
	// A repeat within the window is one, a repeat after it is a new event.
	if r := accept(t, a.DB, event("e25"), event("e3")); !r[0].Duplicate || r[1].Duplicate {
		t.Errorf("%+v", r)
	}
	if n := walk(func(string) (belfry.Cleared, error) { return a.ClearAudit(ctx, tenant, a.day(10), 3) }); n != 10 {
		t.Errorf("%d edits left the audit, want 10", n)
	}
	if rows := must[[]store.AuditRow](t)(a.Audit(ctx, tenant, "", 100)); len(rows) != 20 || rows[19].Target != "o10" {
		t.Errorf("%d edits are left, the last %+v", len(rows), rows[len(rows)-1])
	}

	// Whoever comes from before the cut learns it; whoever is beyond does not.
	cut := must[int64](t)(a.Version(ctx, tenant)) - 5
	n := walk(func(string) (belfry.Cleared, error) { return a.ClearChanges(ctx, tenant, cut, 7) })
	if n < 40 {
		t.Errorf("%d rows left the change log", n)
	}
	from := must[[]belfry.Change](t)(a.ChangesSince(ctx, tenant, 1, 3))
	same(t, "the first after the cut", from[0], belfry.Change{Version: cut, Kind: belfry.KindEverything})
	for _, c := range must[[]belfry.Change](t)(a.ChangesSince(ctx, tenant, cut, 100)) {
		if c.Kind == belfry.KindEverything || c.Version <= cut {
			t.Errorf("%+v after the cut", c)
		}
	}
	if n := walk(func(string) (belfry.Cleared, error) { return a.ClearChanges(ctx, tenant, cut, 7) }); n != 0 {
		t.Errorf("%d rows went the second time", n)
	}

	m := belfry.Mark{Place: "here", At: a.day(3)}
	for _, want := range []belfry.Mark{m, {Place: "there", At: a.day(4)}} {
		if err := a.SetMark(ctx, tenant, "task", want); err != nil {
			t.Fatal(err)
		}
		same(t, "mark", must[map[string]belfry.Mark](t)(a.Marks(ctx, tenant)), map[string]belfry.Mark{"task": want})
	}
	if s := must[store.Storage](t)(a.Storage(ctx)); s.Size == 0 || s.Free < 0 {
		t.Errorf("%+v", s)
	}
}

const week = 7 * 24 * time.Hour

// layout lists the partitions of a table as name: from-to in days of the
// test; it is nil on SQLite.
func (a *aged) layout(table string) []string {
	a.t.Helper()
	db := intrude(a.t, a.url)
	rows, err := db.Query("SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)", table)
	if err != nil {
		a.t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var name, bound string
		if err := rows.Scan(&name, &bound); err != nil {
			a.t.Fatal(err)
		}
		var ends []string
		for _, word := range strings.Fields(bound) {
			if id := strings.Trim(word, "()'"); strings.Contains(id, "_") {
				at, err := belfry.IDTime(id)
				if err != nil {
					a.t.Fatal(err)
				}
				ends = append(ends, at.Format("0102"))
			} else if id == "MINVALUE" || id == "MAXVALUE" {
				ends = append(ends, "")
			}
		}
		out = append(out, strings.Join(ends, "-")+" "+name)
	}
	slices.Sort(out)
	return out
}

func (a *aged) make(span time.Duration) {
	a.t.Helper()
	for _, p := range belfry.Parts() {
		if _, err := a.MakePartitions(context.Background(), p, a.now(), span); err != nil {
			a.t.Fatalf("partitions of %s: %v", p, err)
		}
	}
}

func (a *aged) drop(before time.Time, empty bool) map[belfry.Part]belfry.Pruned {
	a.t.Helper()
	out := map[belfry.Part]belfry.Pruned{}
	for _, p := range belfry.Parts() {
		out[p] = must[belfry.Pruned](a.t)(a.DropPartitions(context.Background(), p, before, empty))
	}
	return out
}

// Partitions are made ahead, without end, and dropped when they are too old
// and nothing in them is needed.
func testPartitions(t *testing.T, place func(testing.TB) string) {
	a := ageing(t, place(t))
	a.make(week)
	if intrude(t, a.url).sqlite {
		if d := a.drop(a.day(3), false)[belfry.PartEvents]; d.Dropped != 0 || !d.Until.Equal(a.day(3)) {
			t.Errorf("%+v", d)
		}
		return
	}
	first := []string{"-0302 events_head", "0302-0309 events_20260302", "0309-0316 events_20260309", "0316-0323 events_20260316", "0323-0330 events_20260323", "0330- events_tail"}
	same(t, "the first layout", a.layout("events"), first)
	a.make(week)
	same(t, "nothing to do", a.layout("events"), first)
	ids := map[string]string{"read": a.told("read", false, "user/1"), "open": a.told("open", true)}
	a.goTo(7)
	ids["second"] = a.told("second", false)
	a.make(week)
	same(t, "a week later", a.layout("events"), append(first[:5:5], "0330-0406 events_20260330", "0406- events_tail"))
	same(t, "the other tables", len(a.layout("attempts")), 7)
	a.goTo(14)
	ids["third"] = a.told("third", false)

	// The second week goes, its gap stays covered; the first is held by what is open.
	d := a.drop(a.day(14), false)
	if got := d[belfry.PartDeliveries]; got.Dropped != 1 || got.Held != 1 {
		t.Errorf("deliveries: %+v", got)
	}
	if got := d[belfry.PartEvents]; got.Dropped != 1 || got.Held != 1 {
		t.Errorf("events: %+v", got)
	}
	a.expect("after the first drop", map[string]string{"read": "edasm", "open": "edsm", "second": "", "third": "edasm"}, ids)
	if d := a.drop(a.day(14), false)[belfry.PartDeliveries]; d.Dropped != 0 || d.Held != 1 {
		t.Errorf("dropped again: %+v", d)
	}
	a.expectCovered(ids["second"])
	// What is not needed of a held partition goes row by row.
	until := d[belfry.PartEvents].Until
	for _, table := range walked {
		a.clear(table, until, nil, 2)
	}
	a.expect("after the walk", map[string]string{"read": "", "open": "ed", "third": "edasm"}, ids)

	// Closed, it goes, and the head takes its range.
	a.close(ids["open"])
	d = a.drop(a.day(14), false)
	if got := d[belfry.PartEvents]; got.Dropped == 0 || got.Held != 0 {
		t.Errorf("events: %+v", got)
	}
	a.expect("at the end", map[string]string{"open": "", "third": "edasm"}, ids)
	a.drop(a.day(14), false)
	if l := a.layout("events"); l[0] != "-0316 events_head" {
		t.Errorf("the head is %q", l[0])
	}
	a.expectCovered(ids["open"])

	// For tenants that keep some rows longer, only what is empty goes.
	a.goTo(40)
	a.make(week)
	if got := a.drop(a.day(28), true); got[belfry.PartEvents].Held != 1 || got[belfry.PartDeliveries].Held != 1 {
		t.Errorf("rows that may be needed were dropped: %+v", got)
	}
	for _, table := range walked {
		a.clear(table, a.day(28), nil, 2)
	}
	if got := a.drop(a.day(28), true); got[belfry.PartEvents].Held != 0 || got[belfry.PartEvents].Dropped == 0 {
		t.Errorf("empty ones stay: %+v", got)
	}
	same(t, "the end", a.layout("events")[0], "-0330 events_head")
	if s := must[store.Storage](t)(a.Storage(context.Background())); s.Partitions[belfry.PartEvents] != len(a.layout("events")) {
		t.Errorf("%+v", s)
	}
}

// expectCovered expects that a row of an old event finds a partition, and is
// cleared like any other.
func (a *aged) expectCovered(event string) {
	a.t.Helper()
	db := intrude(a.t, a.url)
	db.exec(a.t, fmt.Sprintf("INSERT INTO plan_matches (tenant, event_id, run, matches) VALUES ('default', '%s', 9, '[]')", event),
		fmt.Sprintf("INSERT INTO events (tenant, id, at, as_of, type, object, body) VALUES ('default', '%s', 0, 0, 'x', '', '{}')", event),
		fmt.Sprintf("DELETE FROM plan_matches WHERE event_id = '%s' AND run = 9", event), fmt.Sprintf("DELETE FROM events WHERE id = '%s' AND at = 0", event))
}

// Nobody makes partitions for a long time, or the clock is ahead: rows have
// their place all the same, and the tail becomes a partition as it is.
func testPartitionsLate(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	if intrude(t, url).sqlite {
		return // it has no partitions
	}
	a := ageing(t, url)
	ids := map[string]string{"first": a.told("first", false, "user/1")}
	a.make(week) // there were rows: the one table is cut behind them
	same(t, "cut", a.layout("events"), []string{"-0330 events_first", "0330- events_tail"})
	a.goTo(70) // 11 May
	ids["late"] = a.told("late", false)
	a.make(week)
	same(t, "late", a.layout("events"), []string{"-0330 events_first", "0330-0608 events_20260330", "0608- events_tail"})
	a.goTo(3 * 365) // the clock is wrong
	ids["ahead"] = a.told("ahead", true)
	a.goTo(71)
	ids["back"] = a.told("back", false)
	a.make(week)
	if at, err := belfry.IDTime(ids["back"]); err != nil || at.Before(a.day(1000)) {
		t.Errorf("ids fell back with the clock: %v, %v", at, err)
	}
	a.expect("all of it", map[string]string{"first": "edasmi", "late": "edasm", "ahead": "edsm", "back": "edasm"}, ids)
	a.goTo(100)
	a.make(week)
	if l := a.layout("events"); len(l) != 4 || !slices.Contains(l, "0608-0326 events_20260608") { // of 2029
		t.Errorf("layout: %v", l)
	}
	// The first table goes as a whole, later.
	a.goTo(120)
	if d := a.drop(a.day(60), false); d[belfry.PartDeliveries].Dropped != 1 || d[belfry.PartEvents].Dropped != 1 {
		t.Errorf("%+v", d)
	}
	a.expect("then", map[string]string{"first": "", "late": "edasm"}, ids)

	// Whoever was killed in the middle leaves a bound behind: it goes.
	intrude(t, url).exec(t, "ALTER TABLE events_tail ADD CONSTRAINT belfry_until_events CHECK (id < 'evt_0') NOT VALID")
	a.make(week)
	a.goTo(4 * 365)
	a.told("beyond", false)
}

// Two nodes keep house at once, while events come in.
func testPartitionsTogether(t *testing.T, place func(testing.TB) string) {
	a := ageing(t, place(t))
	ctx := context.Background()
	stop := make(chan struct{})
	var doors sync.WaitGroup
	doors.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				a.told(fmt.Sprint("e", n), false, "user/1")
			}
		}
	})
	for d := range 6 {
		a.goTo(float64(8 * d))
		var nodes sync.WaitGroup
		for range 2 {
			nodes.Go(func() {
				for _, p := range belfry.Parts() {
					if _, err := a.MakePartitions(ctx, p, a.now(), week); err != nil && !errors.Is(err, store.ErrElsewhere) {
						t.Error(err)
					}
					if _, err := a.DropPartitions(ctx, p, a.now().Add(-week), false); err != nil && !errors.Is(err, store.ErrElsewhere) {
						t.Error(err)
					}
					for _, table := range walked {
						if _, err := a.Clear(ctx, belfry.Walk{Tenant: tenant, Table: table, Before: a.now().Add(-week)}, "", 50); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		nodes.Wait()
	}
	close(stop)
	doors.Wait()
}

// A reader that holds its lock for long keeps housekeeping waiting, not the doors.
func testPartitionsReader(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db := intrude(t, url)
	if db.sqlite {
		return // it has no partitions
	}
	a := ageing(t, url)
	a.make(week)
	old := a.told("old", false)
	a.goTo(14)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec("SELECT count(*) FROM deliveries"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := a.DropPartitions(context.Background(), belfry.PartDeliveries, a.day(7), false)
		done <- err
	}()
	slowest := time.Duration(0)
	for n := 0; ; n++ {
		start := time.Now()
		a.told(fmt.Sprint("e", n), false)
		slowest = max(slowest, time.Since(start))
		select {
		case err = <-done:
		default:
			continue
		}
		break
	}
	kind(t, err, belfry.Conflict)
	if slowest > 10*time.Second { // without a time-out it would be for as long as the reader stays
		t.Errorf("an event took %s while a partition could not be dropped", slowest)
	}
	if got := a.left(old); got != "edasm" {
		t.Errorf("%q is left of the old event", got)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if d := a.drop(a.day(7), false); d[belfry.PartDeliveries].Dropped != 1 {
		t.Errorf("with the reader gone: %+v", d)
	}
}

// Whatever is cleared in whatever order, nothing open is lost: every open
// delivery and every plan to complete has its event, every inbox entry too.
func testClearAnything(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	a := ageing(t, url)
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(7, 11))
	day := 0.0
	open, unplanned := map[string]bool{}, map[string]bool{}
	pick := func(of map[string]bool) string {
		ids := slices.Sorted(maps.Keys(of))
		return ids[rnd.IntN(len(ids))]
	}
	for n := range 120 {
		day += rnd.Float64() * 2
		a.goTo(day)
		switch op := rnd.IntN(10); {
		case op < 4:
			typ := []string{"plain", "short", "long"}[rnd.IntN(3)]
			id := accept(t, a.DB, event(fmt.Sprint("e", n), func(d *belfry.Draft) { d.Event.Type = typ }))[0].EventID
			if unplanned[id] = true; rnd.IntN(3) == 0 {
				break
			}
			delete(unplanned, id)
			a.plan(id, true, []string{"user/1", "user/2"}[:rnd.IntN(3)]...)
			open[id] = true
		case op < 5 && len(open) > 0:
			id := pick(open)
			a.close(id)
			delete(open, id)
		case op < 6 && len(unplanned) > 0:
			id := pick(unplanned)
			a.plan(id, true, "user/1")
			delete(unplanned, id)
			open[id] = true
		case op < 7:
			a.make([]time.Duration{week, 24 * time.Hour}[rnd.IntN(2)])
			for _, p := range belfry.Parts() {
				must[belfry.Pruned](t)(a.DropPartitions(ctx, p, a.day(day-rnd.Float64()*20), rnd.IntN(2) == 0))
			}
		case op < 8:
			must[belfry.Cleared](t)(a.ClearTypes(ctx, tenant, []string{"short"}, a.day(day-rnd.Float64()*5), "", 1+rnd.IntN(20)))
		default:
			a.clear(walked[rnd.IntN(len(walked))], a.day(day-rnd.Float64()*10), map[string]time.Time{"long": a.day(day - 30)}, 1+rnd.IntN(20))
		}
		if n%10 != 9 {
			continue
		}
		db := intrude(t, url)
		for what, query := range map[string]string{
			"open deliveries": "SELECT count(*) FROM deliveries d WHERE state < 3 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.id = d.event_id)",
			"plans":           "SELECT count(*) FROM plans p WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.id = p.event_id)",
			"inbox entries":   "SELECT count(*) FROM inbox i WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.id = i.event_id)",
		} {
			var lost int
			if err := db.QueryRow(query).Scan(&lost); err != nil {
				t.Fatal(err)
			}
			if lost > 0 {
				t.Fatalf("after step %d %d %s have lost their event", n, lost, what)
			}
		}
		stats := must[store.Stats](t)(a.Stats(ctx))
		same(t, fmt.Sprint("what is open after step ", n), [2]int64{stats.Tenants[tenant].OpenDeliveries, stats.Tenants[tenant].PendingPlans}, [2]int64{int64(len(open)), int64(len(unplanned))})
		var left int
		if err := db.QueryRow("SELECT count(*) FROM deliveries WHERE state < 3").Scan(&left); err != nil || left != len(open) {
			t.Fatalf("after step %d %d deliveries are open, want %d: %v", n, left, len(open), err)
		}
	}
}

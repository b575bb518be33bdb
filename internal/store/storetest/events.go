package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

func testEvents(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	before := time.Now().Add(-time.Millisecond)
	rs := accept(t, db, event("1"), event("2"), event("1"), event("1", func(d *belfry.Draft) { d.Event.Source = "/other" }))
	if rs[0].Duplicate || rs[1].Duplicate || !rs[2].Duplicate || rs[3].Duplicate {
		t.Fatalf("duplicates: %+v, want only the third", rs)
	}
	same(t, "the duplicate's receipt", rs[2], belfry.Receipt{EventID: rs[0].EventID, Duplicate: true, At: rs[0].At, AsOf: rs[0].AsOf})
	if ids := []string{rs[0].EventID, rs[1].EventID, rs[3].EventID}; !slices.IsSorted(ids) || slices.Compact(slices.Clone(ids))[2] == "" {
		t.Errorf("ids do not rise: %v", ids)
	}
	if at := rs[0].At; at.Before(before) || at.After(time.Now()) || at.Nanosecond()%1000 != 0 || at.Location() != time.UTC {
		t.Errorf("accepted at %v, want now, in UTC microseconds", at)
	}

	again := accept(t, db, event("3"), event("2"))
	same(t, "a repeat in a later call", again[1], belfry.Receipt{EventID: rs[1].EventID, Duplicate: true, At: rs[1].At, AsOf: rs[1].AsOf})

	v := apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "a", Type: "x"}}})
	if got := accept(t, db, event("4"))[0].AsOf; got != v {
		t.Errorf("as of %d after edit %d", got, v)
	}

	events := must[map[string]*belfry.Accepted](t)(db.Events(ctx, tenant, []string{rs[0].EventID, rs[1].EventID, "evt_unknown"}))
	if len(events) != 2 {
		t.Fatalf("%d events read, want 2", len(events))
	}
	same(t, "the stored event", events[rs[0].EventID], &belfry.Accepted{Tenant: tenant, EventID: rs[0].EventID, At: rs[0].At, AsOf: rs[0].AsOf, Event: event("1").Event, Body: event("1").Body})

	pending := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 100, nil))
	var ids []string
	for _, p := range pending {
		ids = append(ids, p.Accepted.EventID)
	}
	same(t, "pending plans, in order", ids, []string{rs[0].EventID, rs[1].EventID, rs[3].EventID, again[0].EventID, ids[len(ids)-1]})
	rest := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, ids[1], 2, nil))
	if len(rest) != 2 || rest[0].Accepted.EventID != ids[2] || rest[1].Accepted.EventID != ids[3] {
		t.Errorf("pending after the second: %+v", rest)
	}
	same(t, "a pending plan", pending[0], store.PendingPlan{Accepted: *events[rs[0].EventID]})

	if rs, err := db.AcceptEvents(ctx, nil); err != nil || len(rs) != 0 {
		t.Errorf("no drafts: %v, %v", rs, err)
	}
}

func testLearning(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	apply(t, db, belfry.Changes{Objects: []belfry.Object{{ID: "course/41", Type: "course", Title: "CPR", Document: "doc/1"}},
		Documents: []belfry.Document{{Kind: belfry.KindEventType, ID: "known", Body: []byte(`{"name":"known","title":"Known"}`)}}})
	teach := func(d *belfry.Draft) {
		d.Implied = []string{"course/41", "forum/9"}
		d.Discovered = true
		d.Event.Transition, d.Event.Comment, d.Event.Variables = "publish", "at last", json.RawMessage(`{"reviewer":"user/9"}`)
	}
	rs := accept(t, db, event("1", teach), event("2", func(d *belfry.Draft) { d.Discovered = true; d.Event.Type = "known" }))
	if rs[0].AsOf != 2 || rs[1].AsOf != 2 {
		t.Fatalf("as of %d and %d, want 2: what an event implies is an edit it is bound to", rs[0].AsOf, rs[1].AsOf)
	}
	objects := must[map[string]belfry.Object](t)(db.Objects(ctx, tenant, []string{"course/41", "forum/9"}))
	same(t, "objects", objects, map[string]belfry.Object{
		"course/41": {ID: "course/41", Type: "course", Title: "CPR", Document: "doc/1"}, "forum/9": {ID: "forum/9", Implied: true}})
	children := must[[]belfry.Object](t)(db.Children(ctx, tenant, belfry.RootObject, "", 10))
	if len(children) != 2 {
		t.Errorf("the root has %d children, want both objects", len(children))
	}
	types := must[[]belfry.Document](t)(db.Documents(ctx, tenant, belfry.KindEventType, "", 10))
	if len(types) != 2 || types[0].ID != "core.course_updated" || types[0].Version != 2 || types[1].Version != 1 {
		t.Fatalf("catalogue: %+v", types)
	}
	var learned belfry.EventType
	if err := json.Unmarshal(types[0].Body, &learned); err != nil {
		t.Fatal(err)
	}
	same(t, "the learned type", learned, belfry.EventType{Name: "core.course_updated", Discovered: true})
	history, next, err := db.History(ctx, tenant, "course/41", "", 10)
	if err != nil || next != "" {
		t.Fatal(err, next)
	}
	same(t, "history", history, []belfry.HistoryEntry{{Object: "course/41", Document: "doc/1", Transition: "publish", Actor: "user/8",
		Time: event("").Event.Time, Comment: "at last", Variables: json.RawMessage(`{"reviewer":"user/9"}`)}})
	changes := must[[]belfry.Change](t)(db.ChangesSince(ctx, tenant, 1, 0))
	same(t, "changes", changes, []belfry.Change{{Version: 2, Kind: belfry.KindEventType, Key: "core.course_updated"}, {Version: 2, Kind: belfry.KindHistory, Key: "course/41"},
		{Version: 2, Kind: belfry.KindObject, Key: "forum/9"}})

	// Nothing new: no edit.
	if got := accept(t, db, event("3", func(d *belfry.Draft) { d.Implied = []string{"forum/9"}; d.Discovered = true }))[0].AsOf; got != 2 {
		t.Errorf("an event that implies nothing new has as of %d, want 2", got)
	}
	// A repeat teaches nothing.
	accept(t, db, event("1", func(d *belfry.Draft) { d.Implied = []string{"forum/10"} }))
	if got := must[map[string]belfry.Object](t)(db.Objects(ctx, tenant, []string{"forum/10"})); len(got) != 0 {
		t.Errorf("a repeated event made an object: %v", got)
	}
}

func testIDsRise(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	db := openAt(t, url, func() time.Time { return clock })
	var ids []string
	var last time.Time
	take := func(n int) {
		t.Helper()
		var drafts []belfry.Draft
		for range n {
			drafts = append(drafts, event(fmt.Sprint(len(ids)+len(drafts))))
		}
		for _, r := range accept(t, db, drafts...) {
			ids = append(ids, r.EventID)
			if r.At.Before(last) {
				t.Fatalf("accepted at %v after %v", r.At, last)
			}
			last = r.At
		}
	}
	take(3)
	clock = clock.Add(-24 * time.Hour) // somebody sets the clock back
	take(3)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(-24 * time.Hour) // and again while the program is down
	db = openAt(t, url, func() time.Time { return clock })
	take(3)
	clock = clock.Add(72 * time.Hour)
	take(3)
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("ids do not rise:\n%v", ids)
	}
}

func testListEvents(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	var drafts []belfry.Draft
	for i := range 7 {
		drafts = append(drafts, event(fmt.Sprint(i), func(d *belfry.Draft) {
			d.Event.Type = []string{"core.a", "core.b", "mod_é.c"}[i%3]
			d.Event.Object = []string{"course/1", "course/2"}[i%2]
		}))
	}
	rs := accept(t, db, drafts...)
	list := func(f store.EventFilter) (got []string, next string) {
		t.Helper()
		events, next, err := db.ListEvents(ctx, tenant, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			got = append(got, e.Event.ID)
		}
		return got, next
	}
	for _, c := range []struct {
		name   string
		filter store.EventFilter
		want   []string
	}{
		{"all, newest first", store.EventFilter{}, []string{"6", "5", "4", "3", "2", "1", "0"}},
		{"of a type", store.EventFilter{Type: "core.a"}, []string{"6", "3", "0"}},
		{"of types", store.EventFilter{Type: "core.*"}, []string{"6", "4", "3", "1", "0"}},
		{"of types not in ASCII", store.EventFilter{Type: "mod_é*"}, []string{"5", "2"}},
		{"of every type", store.EventFilter{Type: "*"}, []string{"6", "5", "4", "3", "2", "1", "0"}},
		{"on an object", store.EventFilter{Object: "course/2"}, []string{"5", "3", "1"}},
		{"on an object, of a type", store.EventFilter{Object: "course/2", Type: "core.a"}, []string{"3"}},
		{"since the future", store.EventFilter{Since: time.Now().Add(time.Hour)}, nil},
		{"since the past", store.EventFilter{Since: time.Now().Add(-time.Hour), Type: "core.b"}, []string{"4", "1"}},
		{"before one", store.EventFilter{Before: rs[2].EventID}, []string{"1", "0"}},
	} {
		got, next := list(c.filter)
		same(t, c.name, got, c.want)
		if next != "" {
			t.Errorf("%s: goes on at %q", c.name, next)
		}
	}
	var all []string
	for f := (store.EventFilter{Limit: 3}); ; {
		got, next := list(f)
		all = append(all, got...)
		if next == "" {
			break
		}
		f.Before = next
	}
	same(t, "page by page", all, []string{"6", "5", "4", "3", "2", "1", "0"})
}

func testSources(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	if cursor := must[[]byte](t)(db.SourceCursor(ctx, tenant, "src_1")); cursor != nil {
		t.Fatalf("a new source has the cursor %q", cursor)
	}
	ch := belfry.Changes{Objects: []belfry.Object{{ID: "course/41", Type: "course"}}}
	rs, version, err := db.CommitSource(ctx, tenant, "src_1", ch, []belfry.Draft{event("1"), event("2", func(d *belfry.Draft) { d.Implied = []string{"course/41"} })}, []byte("12"))
	if err != nil {
		t.Fatal(err)
	}
	if version != 1 || rs[0].AsOf != 1 || rs[1].AsOf != 1 || rs[0].EventID >= rs[1].EventID {
		t.Fatalf("version %d, receipts %+v: want the directory first, and events bound to it", version, rs)
	}
	if cursor := must[[]byte](t)(db.SourceCursor(ctx, tenant, "src_1")); string(cursor) != "12" {
		t.Errorf("cursor %q, want 12", cursor)
	}
	if o := must[map[string]belfry.Object](t)(db.Objects(ctx, tenant, []string{"course/41"}))["course/41"]; o.Implied {
		t.Error("the declared object was taken for an implied one")
	}

	// The same batch again, as after a crash: events once, cursor forward.
	again, version, err := db.CommitSource(ctx, tenant, "src_1", belfry.Changes{}, []belfry.Draft{event("1"), event("3")}, []byte{0, 255})
	if err != nil {
		t.Fatal(err)
	}
	if !again[0].Duplicate || again[0].EventID != rs[0].EventID || again[1].Duplicate || version != 1 {
		t.Errorf("version %d, receipts %+v", version, again)
	}
	if cursor := must[[]byte](t)(db.SourceCursor(ctx, tenant, "src_1")); string(cursor) != "\x00\xff" {
		t.Errorf("cursor %q, want the bytes as they were given", cursor)
	}

	// All or nothing.
	_, _, err = db.CommitSource(ctx, tenant, "src_1", belfry.Changes{Settings: []belfry.UserSettings{{User: "nobody"}}}, []belfry.Draft{event("4")}, []byte("99"))
	kind(t, err, belfry.NotFound)
	if rs := accept(t, db, event("4")); rs[0].Duplicate {
		t.Error("a refused batch left an event")
	}
	if cursor := must[[]byte](t)(db.SourceCursor(ctx, tenant, "src_1")); string(cursor) != "\x00\xff" {
		t.Errorf("a refused batch moved the cursor to %q", cursor)
	}

	// A batch without events or cursor is an edit.
	rs, version, err = db.CommitSource(ctx, tenant, "src_1", ch, nil, nil)
	if err != nil || len(rs) != 0 || version != 2 {
		t.Errorf("an edit alone: %v, version %d, %v", rs, version, err)
	}
	// A source's first batch may be empty.
	if _, version, err := db.CommitSource(ctx, "fresh", "src_2", belfry.Changes{}, nil, []byte("0")); err != nil || version != 0 {
		t.Errorf("an empty first batch: version %d, %v", version, err)
	}
	_, _, err = db.CommitSource(ctx, tenant, "src_1", belfry.Changes{}, []belfry.Draft{event("5", func(d *belfry.Draft) { d.Tenant = "other" })}, nil)
	if err == nil {
		t.Error("a source handed over an event of another tenant")
	}
}

func testTenants(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	ours := accept(t, db, event("1"), event("1", func(d *belfry.Draft) { d.Tenant = "b" }), event("2", func(d *belfry.Draft) { d.Tenant = "b" }))
	if ours[1].Duplicate {
		t.Error("two tenants' events are one")
	}
	if v := apply(t, db, belfry.Changes{Tenant: "c", Users: []belfry.User{{ID: "u"}}}); v != 1 {
		t.Errorf("the first edit of a tenant has version %d", v)
	}
	same(t, "tenants", must[[]string](t)(db.Tenants(ctx)), []string{"b", "c", tenant})
	if got := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, "b", "", 10, nil)); len(got) != 2 {
		t.Errorf("%d pending plans of b, want 2", len(got))
	}
	if got := must[map[string]*belfry.Accepted](t)(db.Events(ctx, "b", []string{ours[0].EventID})); len(got) != 0 {
		t.Error("another tenant's event can be read")
	}
	if got := must[map[string]*belfry.Person](t)(db.Persons(ctx, tenant, []string{"u"})); len(got) != 0 {
		t.Error("another tenant's user can be read")
	}
	stats := must[store.Stats](t)(db.Stats(ctx))
	same(t, "stats", stats.Tenants, map[string]store.TenantStats{tenant: {PendingPlans: 1}, "b": {PendingPlans: 2}, "c": {Version: 1}})
	same(t, "pending of all", must[int64](t)(db.Pending(ctx)), int64(3))
	if stats.Size == 0 || stats.Commits == 0 || stats.Jobs < stats.Commits {
		t.Errorf("stats: %+v", stats)
	}
}

func testBadText(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	good := acceptOne(t, db, "good")
	for name, bad := range map[string]string{"NUL": "a\x00b", "broken UTF-8": "a\xff"} {
		t.Run(name, func(t *testing.T) {
			for field, set := range map[string]func(*belfry.Draft){
				"id": func(d *belfry.Draft) { d.Event.ID = bad }, "type": func(d *belfry.Draft) { d.Event.Type = bad },
				"object": func(d *belfry.Draft) { d.Event.Object = bad }, "implied": func(d *belfry.Draft) { d.Implied = []string{bad} },
			} {
				d := event("x")
				set(&d)
				_, err := db.AcceptEvents(ctx, []belfry.Draft{event("y"), d})
				if belfry.KindOf(err) != belfry.Invalid {
					t.Errorf("%s: %v, want Invalid", field, err)
				}
			}
			for what, err := range map[string]error{
				"people":        second(db.Persons(ctx, tenant, []string{bad})),
				"members after": second(db.Members(ctx, tenant, "sub_1", bad, 10)),
				"joins":         third(db.JoinsOf(ctx, tenant, "sub_1", bad)),
				"asks after":    second(db.Asks(ctx, tenant, "sub_1", bad, time.Now(), 10)),
				"told":          second(db.WasTold(ctx, tenant, good, bad)),
				"events":        second(db.Events(ctx, tenant, []string{bad})),
			} {
				if err != nil && belfry.KindOf(err) != belfry.Invalid {
					t.Errorf("asked for %s: %v, want nothing, or Invalid", what, err)
				}
			}
			page := belfry.PlanPage{Tenant: tenant, EventID: good, Last: true, Deliveries: []belfry.Delivery{delivery(good, "email", bad)}}
			if errs := commitPages(t, db, page); belfry.KindOf(errs[0]) != belfry.Invalid {
				t.Errorf("a delivery: %v, want Invalid", errs[0])
			}
			if _, err := db.RecordAttempts(ctx, []belfry.Attempt{{Tenant: tenant, DeliveryID: bad, N: 1}}); belfry.KindOf(err) != belfry.Invalid {
				t.Errorf("an attempt: %v, want Invalid", err)
			}
			if _, err := db.Apply(ctx, belfry.Changes{Tenant: tenant, Objects: []belfry.Object{{ID: bad}}}); belfry.KindOf(err) != belfry.Invalid {
				t.Errorf("an object: %v, want Invalid", err)
			}
		})
	}
	if rs := accept(t, db, event("y")); rs[0].Duplicate {
		t.Error("a refused call left an event")
	}
	// Payloads are bytes: they may hold anything.
	d := event("payload", func(d *belfry.Draft) { d.Event.Data = json.RawMessage(`"\u0000 ü"`) })
	id := accept(t, db, d)[0].EventID
	if got := must[map[string]*belfry.Accepted](t)(db.Events(ctx, tenant, []string{id}))[id]; string(got.Event.Data) != `"\u0000 ü"` {
		t.Errorf("data came back as %s", got.Event.Data)
	}
	// So may reasons.
	page := belfry.PlanPage{Tenant: tenant, EventID: good, Last: true, Suppressions: []belfry.Suppression{{Principal: "u", Because: []belfry.Reason{{Code: belfry.FilterFault, Detail: "a\x00b\xff"}}}}}
	commit(t, db, page)
	if tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, good, "", store.TracePage{})); len(tr.Suppressions) != 1 || tr.Suppressions[0].Because[0].Detail != "a\x00b\ufffd" {
		t.Errorf("the reason came back as %+v", tr.Suppressions)
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

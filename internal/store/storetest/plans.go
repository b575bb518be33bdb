package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// feature: NEW-10
func testPlans(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	one, two := acceptOne(t, db, "1"), acceptOne(t, db, "2")
	page := belfry.PlanPage{
		Tenant: tenant, EventID: one, Last: true,
		Matches: []belfry.MatchNote{{Subscription: "sub_1", Because: []belfry.Reason{{Code: belfry.ScopeMatched, Object: "course/41"}, {Code: belfry.FilterTrue}}},
			{Subscription: "sub_2"}},
		Deliveries: []belfry.Delivery{delivery(one, "email", "a@example.org"), delivery(one, "sms", "+1"), delivery(one, belfry.ChannelInbox, "user/8"),
			delivery(one, "email", "a@example.org")},
		Suppressions: []belfry.Suppression{{Principal: "user/9", Channel: "email", Because: []belfry.Reason{{Code: belfry.NamedGroup, Group: "staff"}, {Code: belfry.Muted}}},
			{Principal: "user/9", Channel: "sms", Because: []belfry.Reason{{Code: belfry.Muted}}}, {Address: "x@example.org", Because: []belfry.Reason{{Code: belfry.Blacklisted}}}},
	}
	if tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, one, "", store.TracePage{})); tr.Planned {
		t.Error("planned before the plan was committed")
	}
	commit(t, db, page)

	tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, one, "", store.TracePage{}))
	if !tr.Planned || tr.Next != "" {
		t.Errorf("planned %v, next %q", tr.Planned, tr.Next)
	}
	matches := page.Matches
	matches[1].Because = nil
	same(t, "matches", tr.Matches, []store.RunMatches{{Run: 0, Matches: matches}})
	slices.SortFunc(page.Suppressions, func(a, b belfry.Suppression) int { return len(a.Principal) - len(b.Principal) })
	same(t, "suppressions", tr.Suppressions, page.Suppressions)
	got := map[string]belfry.Delivery{}
	for _, d := range tr.Deliveries {
		got[d.Channel] = d
	}
	if len(tr.Deliveries) != 3 {
		t.Fatalf("%d deliveries, want 3: one a channel and address", len(tr.Deliveries))
	}
	mail := delivery(one, "email", "a@example.org")
	mail.Parked = true // as all that is in a line
	same(t, "the e-mail", got["email"], mail)
	inbox := delivery(one, belfry.ChannelInbox, "user/8")
	inbox.State, inbox.Priority, inbox.Line, inbox.Due = belfry.Delivered, 0, 0, got[belfry.ChannelInbox].Due
	same(t, "the inbox row as a delivery", got[belfry.ChannelInbox], inbox)

	// The same page again is a no-op, as is a page of an event nobody knows.
	page.Deliveries = append(page.Deliveries, delivery(one, "email", "late@example.org"))
	errs := commitPages(t, db, page, belfry.PlanPage{Tenant: tenant, EventID: two, Last: true}, belfry.PlanPage{Tenant: tenant, EventID: "evt_unknown", Last: true})
	if !errors.Is(errs[0], store.ErrCursorMoved) || errs[1] != nil || !errors.Is(errs[2], store.ErrCursorMoved) {
		t.Errorf("answers %v, want moved, applied, moved", errs)
	}
	if n := len(must[store.EventTrace](t)(db.Trace(ctx, tenant, one, "", store.TracePage{})).Deliveries); n != 3 {
		t.Errorf("a repeated page left %d deliveries, want 3", n)
	}
	if left := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 10, nil)); len(left) != 0 {
		t.Errorf("pending: %+v", left)
	}
	stats := must[store.Stats](t)(db.Stats(ctx))
	same(t, "stats", stats.Tenants[tenant], store.TenantStats{OpenDeliveries: 2})

	for principal, want := range map[string][2]int{"user/8": {3, 0}, "user/9": {0, 2}, "x@example.org": {0, 1}, "user/10": {0, 0}} {
		tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, one, principal, store.TracePage{}))
		if got := [2]int{len(tr.Deliveries), len(tr.Suppressions)}; got != want {
			t.Errorf("trace of %s: %v deliveries and suppressions, want %v", principal, got, want)
		}
	}
	if tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, "evt_unknown", "", store.TracePage{})); tr.Planned {
		t.Error("an unknown event is planned")
	}
}

// Deliveries of the usual form of first pages are written without looking
// whether they are there. What is named twice all the same, or stored, is one row,
// and the pages beside it are written as ever.
func testFirstPagesThatRepeat(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	plain := func(event, who string) belfry.Delivery {
		return belfry.Delivery{Tenant: tenant, ID: belfry.DeliveryID(event, 0, belfry.ChannelWebhook, who), EventID: event, Subscription: "sub_1", Channel: belfry.ChannelWebhook,
			Address: who, Destination: who, State: belfry.Scheduled, Due: time.UnixMicro(1_800_000_000_000_000).UTC(), Because: []belfry.Reason{{Code: belfry.NamedEndpoint}}}
	}
	one, two := acceptOne(t, db, "1"), acceptOne(t, db, "2")
	errs := commitPages(t, db,
		belfry.PlanPage{Tenant: tenant, EventID: one, To: "b", Deliveries: []belfry.Delivery{plain(one, "ep_a"), plain(one, "ep_b"), plain(one, "ep_a")}},
		belfry.PlanPage{Tenant: tenant, EventID: two, Last: true, Deliveries: []belfry.Delivery{plain(two, "ep_a")}})
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	commit(t, db, belfry.PlanPage{Tenant: tenant, EventID: one, From: "b", Last: true, Deliveries: []belfry.Delivery{plain(one, "ep_b"), plain(one, "ep_d")}})
	for event, want := range map[string]int{one: 3, two: 1} {
		got := must[store.EventTrace](t)(db.Trace(ctx, tenant, event, "", store.TracePage{}))
		if len(got.Deliveries) != want || !got.Planned {
			t.Errorf("%s has %d deliveries, want %d; planned %v", event, len(got.Deliveries), want, got.Planned)
		}
	}
	if n := must[store.Stats](t)(db.Stats(ctx)).Tenants[tenant]; n.OpenDeliveries != 4 || n.PendingPlans != 0 {
		t.Errorf("%+v", n)
	}
}

func testPlanPages(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	id := acceptOne(t, db, "1")
	page := func(from, to string, last bool) belfry.PlanPage {
		return belfry.PlanPage{Tenant: tenant, EventID: id, From: from, To: to, Last: last, Deliveries: []belfry.Delivery{delivery(id, "email", from+"@example.org")}}
	}
	cursor := func() string {
		t.Helper()
		p := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 10, nil))
		if len(p) != 1 {
			t.Fatalf("%d pending plans, want 1", len(p))
		}
		return p[0].Cursor
	}
	commit(t, db, page("", "f", false))
	if c := cursor(); c != "f" {
		t.Fatalf("cursor %q, want f", c)
	}
	// A zombie that begins where the plan was, one that is ahead, one that ends it too early.
	for _, p := range []belfry.PlanPage{page("", "f", false), page("m", "z", false), page("", "", true)} {
		if errs := commitPages(t, db, p); !errors.Is(errs[0], store.ErrCursorMoved) {
			t.Errorf("page from %q: %v, want moved", p.From, errs[0])
		}
	}
	// Several pages of one event in one call follow each other.
	errs := commitPages(t, db, page("f", "m", false), page("f", "m", false), page("m", "s", false))
	if errs[0] != nil || !errors.Is(errs[1], store.ErrCursorMoved) || errs[2] != nil {
		t.Errorf("answers %v, want applied, moved, applied", errs)
	}
	if c := cursor(); c != "s" {
		t.Fatalf("cursor %q, want s", c)
	}
	commit(t, db, page("s", "", true))
	tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, id, "", store.TracePage{}))
	if !tr.Planned || len(tr.Deliveries) != 4 {
		t.Errorf("planned %v with %d deliveries, want 4", tr.Planned, len(tr.Deliveries))
	}
}

// feature: PEER-7
func testInboxOnce(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	id := acceptOne(t, db, "1")
	run := func(n int, people ...string) {
		t.Helper()
		page := belfry.PlanPage{Tenant: tenant, EventID: id, Run: n, Last: true}
		for _, p := range people {
			d := delivery(id, belfry.ChannelInbox, p)
			d.Run, d.Principal = n, p
			e := delivery(id, "email", p+"@example.org")
			e.Run, e.Principal = n, p
			page.Deliveries = append(page.Deliveries, d, e)
		}
		commit(t, db, page)
	}
	run(0, "user/8")
	for range 2 { // asking twice is one run
		orderRun(t, db, 1, belfry.Replay{}, id)
	}
	p := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 10, nil))
	if len(p) != 1 || p[0].Run != 1 || p[0].Cursor != "" {
		t.Fatalf("pending after a replay: %+v", p)
	}
	run(1, "user/8", "user/9")
	for _, who := range []string{"user/8", "user/9"} {
		rows, unread, _, err := db.Inbox(ctx, tenant, who, store.InboxFilter{})
		if err != nil || len(rows) != 1 || unread != 1 {
			t.Errorf("%s has %d rows, %d unread (%v), want 1", who, len(rows), unread, err)
		}
	}
	tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, id, "", store.TracePage{}))
	if len(tr.Deliveries) != 4 { // 2 mails, 2 inbox rows
		t.Errorf("%d deliveries in the trace, want 4", len(tr.Deliveries))
	}

	// All runs of an event come together, whatever the limit.
	other := acceptOne(t, db, "2")
	for n := range 3 {
		orderRun(t, db, int64(n+2), belfry.Replay{}, id, "evt_unknown")
	}
	p = must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 1, nil))
	if len(p) != 3 || p[2].Run != 4 {
		t.Errorf("pending: %+v, want the three runs of the first event", p)
	}
	if p = must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, id, 1, nil)); len(p) != 1 || p[0].Accepted.EventID != other {
		t.Errorf("pending after it: %+v, want the other event", p)
	}
}

// feature: PEER-7
func testInbox(t *testing.T, place func(testing.TB) string) {
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	db := openAt(t, place(t), func() time.Time { return clock })
	ctx := context.Background()
	var ids []string // of inbox rows, oldest first
	for i := range 5 {
		id := acceptOne(t, db, fmt.Sprint(i))
		page := belfry.PlanPage{Tenant: tenant, EventID: id, Last: true}
		for _, p := range []string{"user/8", "user/9"} {
			d := delivery(id, belfry.ChannelInbox, p)
			d.Principal = p
			page.Deliveries = append(page.Deliveries, d)
		}
		commit(t, db, page)
		ids = append(ids, page.Deliveries[0].ID)
		clock = clock.Add(time.Second)
	}
	check := func(what string, f store.InboxFilter, wantUnread int, want ...int) []store.InboxRow {
		t.Helper()
		rows, unread, _, err := db.Inbox(ctx, tenant, "user/8", f)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, r := range rows {
			got = append(got, slices.Index(ids, r.ID))
		}
		same(t, what, got, want)
		if unread != wantUnread {
			t.Errorf("%s: %d unread, want %d", what, unread, wantUnread)
		}
		return rows
	}
	rows := check("all", store.InboxFilter{}, 5, 4, 3, 2, 1, 0)
	d := delivery(rows[0].EventID, "", "")
	same(t, "a row", rows[0], store.InboxRow{ID: ids[4], EventID: rows[0].EventID, Principal: "user/8", Subscription: "sub_1", Locale: "pt-BR", Template: "t1", Because: d.Because})

	mark := func(ids []string, set store.InboxMark, want int) {
		t.Helper()
		if n := must[int](t)(db.MarkInbox(ctx, tenant, "user/8", ids, set)); n != want {
			t.Errorf("marking changed %d rows, want %d", n, want)
		}
	}
	yes, no := true, false
	mark([]string{ids[0], ids[1], "dlv_unknown"}, store.InboxMark{Read: &yes}, 2)
	mark([]string{ids[0]}, store.InboxMark{Read: &yes}, 0)
	check("unread", store.InboxFilter{Unread: true}, 3, 4, 3, 2)
	mark([]string{ids[0]}, store.InboxMark{Read: &no}, 1)
	mark([]string{ids[4]}, store.InboxMark{Archived: &yes, Read: &yes}, 1)
	check("without archived ones", store.InboxFilter{}, 3, 3, 2, 1, 0)
	check("archived", store.InboxFilter{Archived: true}, 3, 4)
	mark([]string{ids[4]}, store.InboxMark{Archived: &no}, 1)
	later := clock.Add(time.Hour)
	mark([]string{ids[3]}, store.InboxMark{Snooze: &later}, 1)
	check("without snoozed ones", store.InboxFilter{}, 2, 4, 2, 1, 0)
	clock = later
	rows = check("when the snooze is over", store.InboxFilter{}, 3, 4, 3, 2, 1, 0)
	if !rows[1].SnoozedUntil.Equal(later) || !rows[0].Read || rows[1].Read {
		t.Errorf("rows: %+v", rows)
	}
	mark([]string{ids[3]}, store.InboxMark{Snooze: new(time.Time)}, 1)
	mark(nil, store.InboxMark{Read: &yes}, 3)
	check("after all were read", store.InboxFilter{}, 0, 4, 3, 2, 1, 0)

	// Another person's rows are out of reach.
	if n := must[int](t)(db.MarkInbox(ctx, tenant, "user/7", ids, store.InboxMark{Read: &no})); n != 0 {
		t.Errorf("somebody marked %d rows of another person", n)
	}
	if _, unread, _, _ := db.Inbox(ctx, tenant, "user/9", store.InboxFilter{}); unread != 5 {
		t.Errorf("user/9 has %d unread, want 5", unread)
	}

	var got []string
	for f := (store.InboxFilter{Limit: 2}); ; {
		rows, _, next, err := db.Inbox(ctx, tenant, "user/8", f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			got = append(got, r.ID)
		}
		if next == "" {
			break
		}
		f.Before = next
	}
	slices.Reverse(got)
	same(t, "page by page", got, ids)

	if d, ok, err := db.Delivery(ctx, tenant, ids[0]); err != nil || !ok || d.Channel != belfry.ChannelInbox {
		t.Errorf("an inbox row read as a delivery: %+v, %v, %v", d, ok, err)
	}
}

func testDue(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	id := acceptOne(t, db, "1")
	at := func(s int) time.Time { return time.Unix(int64(1_800_000_000+s), 0).UTC() }
	page := belfry.PlanPage{Tenant: tenant, EventID: id, Last: true}
	names := map[string]string{}
	for i, d := range []struct {
		due         int
		destination string
		state       belfry.State
	}{{5, "a", 0}, {1, "b", 0}, {3, "a", 0}, {3, "b", belfry.Retrying}, {2, "a", belfry.Cancelled}, {9, "a", 0}} {
		x := delivery(id, "email", fmt.Sprint(i))
		x.Due, x.Destination, x.State, x.Line = at(d.due), d.destination, d.state, 0
		names[x.ID] = fmt.Sprint(i)
		page.Deliveries = append(page.Deliveries, x)
	}
	commit(t, db, page)
	named := func(list []belfry.Delivery) (out []string) {
		for _, d := range list {
			out = append(out, names[d.ID])
		}
		return out
	}
	thirds := []string{"2", "3"} // due at 3 both: by id
	if page.Deliveries[2].ID > page.Deliveries[3].ID {
		thirds = []string{"3", "2"}
	}
	all := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, store.DueKey{}, at(5), 10, nil))
	same(t, "due by 5", named(all), []string{"1", thirds[0], thirds[1], "0"})
	same(t, "a due delivery", all[0], page.Deliveries[1])
	var stepped []string
	for key := (store.DueKey{}); ; {
		next := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, key, at(5), 1, nil))
		if len(next) == 0 {
			break
		}
		stepped = append(stepped, named(next)...)
		key = store.DueKey{Due: next[0].Due, ID: next[0].ID}
	}
	same(t, "one by one", stepped, named(all))
	dueForA := func() []string {
		return named(must[[]belfry.Delivery](t)(db.DueFor(ctx, tenant, "a", false, store.DueKey{}, at(5), 10)))
	}
	same(t, "due for a, not parked", len(dueForA()), 0)
	var ids []string
	for i := range page.Deliveries {
		ids = append(ids, page.Deliveries[i].ID)
	}
	for range 2 {
		if err := db.Park(ctx, tenant, append(ids, "dlv_unknown")); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, store.DueKey{}, at(5), 10, nil)) {
		same(t, "parked", d.Parked, true)
	}
	same(t, "due for a", named(must[[]belfry.Delivery](t)(db.DueFor(ctx, tenant, "a", false, store.DueKey{}, at(5), 10))), []string{"2", "0"})
	same(t, "due for a, after the first", named(must[[]belfry.Delivery](t)(db.DueFor(ctx, tenant, "a", false, store.DueKey{Due: at(3), ID: page.Deliveries[2].ID}, at(100), 10))), []string{"0", "5"})
	line := belfry.PlanPage{Tenant: tenant, EventID: acceptOne(t, db, "2"), Last: true}
	var inLine []string
	for i, key := range []int64{7, 7, -7, 7} {
		x := delivery(line.EventID, "webhook", fmt.Sprint(i))
		x.Due, x.Destination, x.Line = at(1000-i), "ep", key
		line.Deliveries = append(line.Deliveries, x)
		if key == 7 {
			inLine = append(inLine, x.ID)
		}
	}
	line.Deliveries[3].State = belfry.Failed
	slices.Sort(inLine)
	inLine = slices.DeleteFunc(inLine, func(id string) bool { return id == line.Deliveries[3].ID })
	commit(t, db, line)
	for limit := range 3 {
		list := must[[]belfry.Delivery](t)(db.InLine(ctx, tenant, "ep", 7, limit+1))
		var got []string
		for _, d := range list {
			got = append(got, d.ID)
		}
		same(t, "open in line, by id", got, inLine[:min(limit+1, 2)])
	}
	ofEp := must[[]belfry.Delivery](t)(db.DueFor(ctx, tenant, "ep", true, store.DueKey{}, at(2000), 10))
	same(t, "urgent, in lines", len(ofEp), 0)
	ofA := must[[]belfry.Delivery](t)(db.DueFor(ctx, tenant, "a", true, store.DueKey{}, at(5), 10))
	same(t, "urgent", named(ofA), []string{"2", "0"})
	for after, want := range map[int]int{0: 1, 1: 3, 5: 9} {
		got, ok, err := db.NextDue(ctx, tenant, at(after), nil)
		if err != nil || !ok || !got.Equal(at(want)) {
			t.Errorf("next due after %d: %v, %v, %v; want %v", after, got, ok, err, at(want))
		}
	}
	if _, ok, err := db.NextDue(ctx, tenant, at(1000), nil); err != nil || ok {
		t.Errorf("something is due after the last: %v", err)
	}
}

func testTracePages(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	// Two events of one millisecond or nearly: their ids may share a range.
	rs := accept(t, db, event("1"), event("2"))
	want := map[string]int{}
	for _, r := range rs {
		page := belfry.PlanPage{Tenant: tenant, EventID: r.EventID, Last: true}
		for i := range 5 {
			p := fmt.Sprint("user/", i)
			in, mail := delivery(r.EventID, belfry.ChannelInbox, p), delivery(r.EventID, "email", p)
			in.Principal, mail.Principal = p, p
			page.Deliveries = append(page.Deliveries, in, mail)
			page.Suppressions = append(page.Suppressions, belfry.Suppression{Principal: p, Channel: "sms"}, belfry.Suppression{Address: p})
			if r == rs[0] {
				want["email "+p], want["inbox "+p], want["no sms "+p], want["no  "+p] = 1, 1, 1, 1
			}
		}
		commit(t, db, page)
	}
	for _, limit := range []int{1, 3, 5, 10, 20, 100} {
		got := map[string]int{}
		pages := 0
		for page := (store.TracePage{Limit: limit}); ; pages++ {
			tr := must[store.EventTrace](t)(db.Trace(ctx, tenant, rs[0].EventID, "", page))
			if n := len(tr.Deliveries) + len(tr.Suppressions); n > limit {
				t.Errorf("%d rows in a page of %d", n, limit)
			}
			for _, d := range tr.Deliveries {
				got[d.Channel+" "+d.Principal]++
			}
			for _, s := range tr.Suppressions {
				got["no "+s.Channel+" "+s.Principal+s.Address]++
			}
			if tr.Next == "" || pages > 40 {
				break
			}
			page.After = tr.Next
		}
		same(t, fmt.Sprintf("in pages of %d", limit), got, want)
	}
	_, err := db.Trace(ctx, tenant, rs[0].EventID, "", store.TracePage{After: "!"})
	kind(t, err, belfry.Invalid)
}

func testListDeliveries(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	apply(t, db, belfry.Changes{Users: []belfry.User{{ID: "user/8"}, {ID: "user/9"}}})
	names := map[string]string{}
	var events []string
	for e := range 3 {
		id := acceptOne(t, db, fmt.Sprint(e))
		events = append(events, id)
		page := belfry.PlanPage{Tenant: tenant, EventID: id, Last: true}
		for _, d := range []struct{ principal, channel, address string }{{"user/8", "email", "a"}, {"user/9", "sms", "b"}, {"", "webhook", "ep_1"}} {
			x := delivery(id, d.channel, d.address)
			x.Principal = d.principal
			if e == 0 {
				x.State = belfry.Failed
			}
			names[x.ID] = fmt.Sprint(e, d.channel)
			page.Deliveries = append(page.Deliveries, x)
		}
		commit(t, db, page)
	}
	failed := belfry.Failed
	for _, c := range []struct {
		name   string
		filter store.DeliveryFilter
		want   []string
	}{
		{"of a state", store.DeliveryFilter{State: &failed}, []string{"0email", "0sms", "0webhook"}},
		{"of a user", store.DeliveryFilter{Recipient: "user/8"}, []string{"0email", "1email", "2email"}},
		{"of a user, on another channel", store.DeliveryFilter{Recipient: "user/8", Channel: "sms"}, nil},
		{"of an endpoint", store.DeliveryFilter{Recipient: "ep_1", State: &failed}, []string{"0webhook"}},
		{"of an event", store.DeliveryFilter{Event: events[1]}, []string{"1email", "1sms", "1webhook"}},
		{"of an event and a channel", store.DeliveryFilter{Event: events[1], Channel: "sms"}, []string{"1sms"}},
		{"of no event", store.DeliveryFilter{Event: "nonsense"}, nil},
		{"since later", store.DeliveryFilter{Since: time.Now().Add(time.Hour)}, nil},
		{"of nobody", store.DeliveryFilter{Recipient: "user/10"}, nil},
	} {
		list, next, err := db.ListDeliveries(ctx, tenant, c.filter)
		if err != nil || next != "" {
			t.Fatalf("%s: %v, next %q", c.name, err, next)
		}
		var got []string
		for _, d := range list {
			got = append(got, names[d.ID])
		}
		slices.Sort(got)
		same(t, c.name, got, c.want)
	}
	var all []string
	for f := (store.DeliveryFilter{Limit: 4}); ; {
		list, next, err := db.ListDeliveries(ctx, tenant, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			all = append(all, d.ID)
		}
		if next == "" {
			break
		}
		f.Before = next
	}
	if len(all) != 9 || !slices.IsSortedFunc(all, func(a, b string) int { return -1 * cmpStrings(a, b) }) {
		t.Errorf("page by page: %v", all)
	}
}

func cmpStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// What a long page stores is the same whether its deliveries are alike in most or
// not, and a page that comes again stores nothing.
func testLongPages(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	all := map[string]belfry.Delivery{}
	open := int64(0)
	for name, vary := range map[string]func(i int, d *belfry.Delivery){
		"alike":        func(int, *belfry.Delivery) {},
		"held":         func(_ int, d *belfry.Delivery) { d.State = belfry.Held },
		"languages":    func(i int, d *belfry.Delivery) { d.Locale = []string{"de", "fr"}[i%2] },
		"one template": func(i int, d *belfry.Delivery) { d.Template = map[bool]string{true: "t2"}[i == 300] },
		"one later":    func(i int, d *belfry.Delivery) { d.Due = d.Due.Add(time.Duration(i/400) * time.Hour) },
		"an entry each": func(i int, d *belfry.Delivery) {
			if i%2 == 1 {
				d.Channel, d.ID = belfry.ChannelInbox, belfry.DeliveryID(d.EventID, 0, belfry.ChannelInbox, d.Principal)
			}
		},
	} {
		event := acceptOne(t, db, name)
		page := belfry.PlanPage{Tenant: tenant, EventID: event, To: "people/x"}
		for i := range 500 {
			who := fmt.Sprintf("user/%d", i)
			d := delivery(event, "email", who+"@example.org")
			d.Principal, d.Destination, d.Shard, d.Priority, d.Line, d.Template = who, who, belfry.Shard(tenant, who), 0, 0, ""
			d.Because = []belfry.Reason{{Code: belfry.NamedGroup, Subscription: "sub_1", Group: fmt.Sprint("part", i%3)}}
			vary(i, &d)
			page.Deliveries = append(page.Deliveries, d)
			if d.Channel != belfry.ChannelInbox {
				all[d.ID] = d
				open++
			}
		}
		commit(t, db, page)
		again := page
		again.From, again.To, again.Last = page.To, "~end", true
		commit(t, db, again)
	}
	for id, want := range all {
		got, ok, err := db.Delivery(ctx, tenant, id)
		if err != nil || !ok {
			t.Fatalf("%+v is not there: %v", want, err)
		}
		if got.Principal != want.Principal || got.Address != want.Address || got.Destination != want.Destination || got.Shard != want.Shard || got.State != want.State || !got.Due.Equal(want.Due) ||
			got.EventID != want.EventID || got.Subscription != want.Subscription || got.Channel != want.Channel || got.Locale != want.Locale || got.Template != want.Template || !slices.Equal(got.Because, want.Because) {
			t.Fatalf("%+v is stored, want %+v", got, want)
		}
	}
	same(t, "open deliveries", must[store.Stats](t)(db.Stats(ctx)).Tenants[tenant].OpenDeliveries, open)
}

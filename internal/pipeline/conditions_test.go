package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// tower is a house whose clock stands still until somebody turns it, and where
// nothing runs by itself: planning and looks are made when the test says so.
type tower struct {
	t       testing.TB
	url     string
	db      *store.DB
	mu      sync.Mutex
	time    time.Time
	dir     *directory.Directory
	subs    *Subscriptions
	stages  *Stages
	watches []*Conditions // one a process
	ex      *Explainer
	edits   edits
	handed  []belfry.Accepted
	// cancelled are deliveries that endings cancelled.
	cancelled int
	events    int
}

var founded = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

func (w *tower) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *tower) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

func newTower(t testing.TB, url string) *tower {
	w := &tower{t: t, url: url, time: founded}
	w.open()
	t.Cleanup(func() { _ = w.db.Close() })
	w.apply(belfry.Changes{Users: []belfry.User{{ID: "ada", State: belfry.UserActive}, {ID: "ben", State: belfry.UserActive}}})
	return w
}

// open starts a process on the database: nothing is in memory.
func (w *tower) open() {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	var err error
	w.db, err = store.Open(context.Background(), store.Options{URL: w.url, Log: log, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.dir = directory.New(directory.Options{Store: w.db})
	w.subs = NewSubscriptions(w.db, log)
	w.stages = &Stages{Directory: w.dir, Subscriptions: w.subs, Channels: oneChannel{newReceiver()}, Acts: w.db, Acks: w.db, Groups: NewGroups(w.db), Problems: w.db, In: &w.edits}
	w.watches = []*Conditions{w.watch()}
	w.ex = &Explainer{Stages: w.stages, Store: traceRows{w.db}, Now: w.now}
}

func (w *tower) watch() *Conditions {
	return NewConditions(ConditionsOptions{Store: w.db, Subscriptions: w.subs, Directory: w.dir, In: &w.edits, Events: w, Shards: Alone{}, Counters: NewCounters(),
		Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)), Now: w.now})
}

func (w *tower) restart() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// Draft makes drafts as ingest does.
func (w *tower) Draft(_ context.Context, tenant string, events []belfry.Event) (drafts []belfry.Draft, err error) {
	for i := range events {
		body, err := json.Marshal(&events[i])
		if err != nil {
			return nil, err
		}
		drafts = append(drafts, belfry.Draft{Tenant: tenant, Event: &events[i], Body: body})
	}
	return drafts, nil
}

func (w *tower) Handover(accepted []belfry.Accepted) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handed = append(w.handed, accepted...)
}

func (w *tower) apply(ch belfry.Changes) {
	w.t.Helper()
	ch.Tenant = belfry.DefaultTenant
	w.edits.Lock()
	defer w.edits.Unlock()
	v, err := w.db.Apply(context.Background(), ch)
	if err != nil {
		w.t.Fatal(err)
	}
	w.dir.Published(ch.Tenant, v, &ch)
	if err := w.subs.Publish(context.Background(), ch.Tenant, ch.Subscriptions); err != nil {
		w.t.Fatal(err)
	}
}

// watched makes a subscription with a condition, told to ada.
func (w *tower) watched(c belfry.Condition, set ...func(*belfry.Subscription)) string {
	w.t.Helper()
	sub := belfry.Subscription{ID: "sub_watch", Title: "Watch", Types: []string{"failed"}, State: belfry.SubscriptionActive, Created: w.now(), Condition: &c,
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada"}}}}, Notify: []belfry.Notify{{Channels: []string{belfry.ChannelInbox}}}}
	for _, f := range set {
		f(&sub)
	}
	w.apply(belfry.Changes{Subscriptions: []belfry.Subscription{sub}})
	return sub.ID
}

// happen accepts events, plans them and lets conditions be looked at until
// nothing more comes of it; it gives the events' ids.
func (w *tower) happen(events ...belfry.Event) (ids []string) {
	w.t.Helper()
	ids = w.accept(events...)
	w.settle()
	return ids
}

func (w *tower) accept(events ...belfry.Event) (ids []string) {
	w.t.Helper()
	for i := range events {
		e := &events[i]
		if e.ID == "" {
			w.events++
			e.ID = fmt.Sprint("e", w.events)
		}
		if e.Source == "" {
			e.Source = "/test"
		}
		if e.Type == "" {
			e.Type = "failed"
		}
		if e.Time.IsZero() {
			e.Time = w.now()
		}
	}
	drafts, err := w.Draft(context.Background(), belfry.DefaultTenant, events)
	if err != nil {
		w.t.Fatal(err)
	}
	receipts, err := w.db.AcceptEvents(context.Background(), drafts)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range receipts {
		ids = append(ids, r.EventID)
	}
	return ids
}

// settle plans what is to be planned and looks at what is to be looked at.
func (w *tower) settle() {
	w.t.Helper()
	for w.plan() || w.look() {
	}
}

// plan plans all events there are, and says whether there were any.
func (w *tower) plan() (some bool) {
	w.t.Helper()
	ctx := context.Background()
	for {
		rows, err := w.db.PendingPlans(ctx, belfry.DefaultTenant, "", 1000, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(rows) == 0 {
			return some
		}
		some = true
		for i := range rows {
			r := &rows[i]
			if r.Accepted.Event.Resolves != "" && r.Run == 0 && r.Cursor == "" {
				if err := w.endings().end(ctx, &r.Accepted); err != nil {
					w.t.Fatal(err)
				}
			}
			page, err := w.stages.page(ctx, &r.Accepted, part{run: r.Run, cursor: r.Cursor, terms: r.Terms}, w.now())
			if err != nil {
				w.t.Fatal(err)
			}
			errs, err := w.db.CommitPlans(ctx, []belfry.PlanPage{page})
			if err != nil || errs[0] != nil && !errors.Is(errs[0], store.ErrCursorMoved) {
				w.t.Fatal(err, errs)
			}
		}
	}
}

func (w *tower) endings() *Endings {
	return &Endings{Store: w.db, Events: w, Ended: func(_ string, cancelled, _ []string) { w.cancelled += len(cancelled) }}
}

// look lets every process look, all at once, and says whether it found
// anything.
func (w *tower) look() bool {
	w.t.Helper()
	before := len(w.met())
	var wg sync.WaitGroup
	for _, c := range w.watches {
		wg.Go(func() {
			c.LookAll()
			c.round(context.Background())
		})
	}
	wg.Wait()
	return len(w.met()) > before
}

// met are the events that conditions made, the oldest first.
func (w *tower) met() (list []belfry.Accepted) {
	w.t.Helper()
	all, _, err := w.db.ListEvents(context.Background(), belfry.DefaultTenant, store.EventFilter{Type: NoticePrefix + "*", Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(all)
	return all
}

func dataOf(t testing.TB, acc *belfry.Accepted) (d belfry.ConditionData) {
	t.Helper()
	if err := json.Unmarshal(acc.Event.Data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// story is what conditions told, in short: 1:3 of web in the minute 2.
func (w *tower) story() (lines []string) {
	w.t.Helper()
	for _, acc := range w.met() {
		d := dataOf(w.t, &acc)
		line := fmt.Sprintf("%d:%d %s@%v", d.Firing, d.Count, d.Group, acc.Event.Time.Sub(founded))
		if acc.Event.Type == belfry.ConditionResolved {
			line += " over"
		}
		lines = append(lines, line)
	}
	return lines
}

func (w *tower) tells(want ...string) {
	w.t.Helper()
	if got := w.story(); !slices.Equal(got, want) {
		w.t.Fatalf("conditions told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// inbox is how many entries somebody has.
func (w *tower) inbox(who string) int {
	w.t.Helper()
	_, unread, _, err := w.db.Inbox(context.Background(), belfry.DefaultTenant, who, store.InboxFilter{})
	if err != nil {
		w.t.Fatal(err)
	}
	return unread
}

// reasons are the codes of a trace for the one subscription of a test.
func (w *tower) reasons(event string) (codes []string, at *belfry.ConditionView) {
	w.t.Helper()
	a, err := w.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: event})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range a.Subscriptions {
		if s.ID == "sub_watch" {
			for _, r := range s.Because {
				codes = append(codes, r.Code)
			}
			return codes, s.Condition
		}
	}
	return nil, nil
}

func engines(t *testing.T, test func(t *testing.T, url string)) {
	for name, place := range map[string]func(testing.TB) string{"SQLite": storetest.SQLitePlace, "PostgreSQL": storetest.PostgresPlace} {
		t.Run(name, func(t *testing.T) { test(t, place(t)) })
	}
}

// feature: NEW-6, MDL-23, NEW-10 three failures within ten minutes are told
// once, to those who are to hear of it and nobody else.
func TestConditionCount(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := newTower(t, url)
		w.apply(belfry.Changes{Users: []belfry.User{{ID: "web-owner", State: belfry.UserActive}}})
		w.watched(belfry.Condition{Count: 3, Within: "10m", GroupBy: "event.data.host"})
		host := func(h string) belfry.Event {
			return belfry.Event{Object: "site", Actor: "ben", Related: []string{h + "-owner"}, Data: json.RawMessage(`{"host":"` + h + `","port":22}`)}
		}
		first := w.happen(host("web"))[0]
		codes, view := w.reasons(first)
		if want := []string{belfry.ScopeMatched, belfry.TypeMatched, belfry.ConditionCounted}; !slices.Equal(codes, want) || view == nil || view.Text != "1 of 3 in 10 minutes: 2 more needed" {
			t.Errorf("after the first: %v, %+v", codes, view)
		}
		w.pass(time.Minute)
		second := w.happen(host("web"), host("db"))[0]
		w.tells()
		w.restart() // between two events, and nothing is in memory
		again := host("web")
		again.ID = "e2"
		w.happen(again) // a repeat is none
		w.tells()
		w.pass(time.Minute)
		third := w.happen(host("web"))[0]
		w.tells("1:3 web@2m0s")
		if n, others := w.inbox("ada"), w.inbox("web-owner")+w.inbox("ben"); n != 1 || others != 0 {
			t.Errorf("%d entries in the inbox, %d in those of others", n, others)
		}
		met := w.met()[0]
		d := dataOf(t, &met)
		if !slices.Equal(d.Events, []string{first, second, third}) || d.Needed != 3 || d.Within != "10 minutes" || d.Title != "Watch" ||
			!d.First.Equal(founded) || !d.Last.Equal(founded.Add(2*time.Minute)) || d.Event.Type != "failed" || d.Event.Data["host"] != "web" {
			t.Errorf("data of the event: %+v %+v", d, d.Event)
		}
		if e := met.Event; e.Object != "site" || e.Actor != "ben" || !slices.Equal(e.Related, []string{"web-owner"}) {
			t.Errorf("the event: %+v", e)
		}
		codes, view = w.reasons(met.EventID)
		if !slices.Equal(codes, []string{belfry.ConditionIsMet}) || view == nil || view.Firings != 1 {
			t.Errorf("the trace of the event: %v, %+v", codes, view)
		}
		// The counter begins anew; the other group has one still.
		w.happen(host("web"), host("web"), host("db"))
		w.tells("1:3 web@2m0s")
		w.happen(host("web"))
		w.happen(host("db"))
		w.tells("1:3 web@2m0s", "2:3 web@2m0s", "1:3 db@2m0s")
		if _, view = w.reasons(first); view == nil || view.Text != "0 of 3 in 10 minutes: 3 more needed" || view.Firings != 2 {
			t.Errorf("afterwards: %+v", view)
		}
		list, next, err := w.ex.Conditions(context.Background(), belfry.DefaultTenant, "sub_watch", "", 1)
		if err != nil || len(list) != 1 || list[0].Group != "db" || next != "db" {
			t.Errorf("listed: %+v %q %v", list, next, err)
		}
	})
}

// feature: NEW-6, NEW-12 several processes look at the same groups at once:
// each firing is told once.
func TestConditionTogether(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := newTower(t, url)
		w.watched(belfry.Condition{Count: 2, Within: "10m", GroupBy: "event.data.n"})
		for range 3 {
			w.watches = append(w.watches, w.watch())
		}
		const groups, each = 40, 6
		for i := range each {
			var events []belfry.Event
			for g := range groups {
				events = append(events, belfry.Event{Data: fmt.Appendf(nil, `{"n":%d}`, g)})
			}
			w.accept(events...)
			w.plan()
			w.look()
			if i%2 == 0 {
				w.restartWatches()
			}
		}
		w.settle()
		seen := map[string]int{}
		for _, acc := range w.met() {
			d := dataOf(t, &acc)
			if d.Count != 2 {
				t.Errorf("group %s: %+v", d.Group, d)
			}
			for _, e := range d.Events {
				if seen[e]++; seen[e] > 1 {
					t.Errorf("event %s counts twice", e)
				}
			}
		}
		if len(seen) != groups*each {
			t.Errorf("%d of %d events were told of", len(seen), groups*each)
		}
		if n := w.inbox("ada"); n != groups*each/2 {
			t.Errorf("%d entries in the inbox, want %d", n, groups*each/2)
		}
	})
}

func (w *tower) restartWatches() {
	for i := range w.watches {
		w.watches[i] = w.watch()
	}
}

// feature: NEW-6 nothing comes for 26 hours: told once, then when it is over.
// Restarts, pauses and edits of the subscription, a hidden object.
func TestConditionAbsence(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := newTower(t, url)
		w.apply(belfry.Changes{Objects: []belfry.Object{{ID: "farm"}, {ID: "host", Parent: "farm"}}})
		c := belfry.Condition{Absence: "26h", Resolved: true}
		at := func(s *belfry.Subscription) { s.Scope.Object, s.Types = "host", []string{"backup"} }
		w.watched(c, at)
		w.settle()
		backup := belfry.Event{Type: "backup", Object: "host"}
		w.pass(25 * time.Hour)
		w.settle()
		w.tells()
		w.happen(backup)
		w.pass(26*time.Hour - time.Second)
		w.settle()
		w.tells()
		w.pass(time.Second)
		w.accept(belfry.Event{Type: "backup", Object: "host", Time: w.now().Add(-time.Hour)}) // accepted, and not planned yet
		w.look()
		w.tells() // it may be what was waited for
		w.plan()
		w.settle()
		w.tells()
		w.pass(25 * time.Hour)
		w.restart()
		w.settle()
		w.tells("1:0 @76h0m0s")
		if n := w.inbox("ada"); n != 1 {
			t.Errorf("%d entries in the inbox", n)
		}
		w.pass(100 * time.Hour)
		w.settle()
		w.tells("1:0 @76h0m0s") // once, however long it lasts
		list, _, err := w.ex.Conditions(context.Background(), belfry.DefaultTenant, "sub_watch", "", 10)
		if err != nil || len(list) != 1 || !list[0].Open || list[0].Firings != 1 {
			t.Errorf("where it stands: %+v, %v", list, err)
		}
		w.happen(backup)
		w.tells("1:0 @76h0m0s", "1:0 @176h0m0s over")
		if n := w.inbox("ada"); n != 2 {
			t.Errorf("%d entries in the inbox, that it is over too", n)
		}
		met := w.met()
		if met[1].Event.Resolves != met[0].Event.ID {
			t.Errorf("the end resolves %q, not %q", met[1].Event.Resolves, met[0].Event.ID)
		}

		// Edited to less: the time is up already.
		w.pass(3 * time.Hour)
		c.Absence = "2h"
		w.watched(c, at)
		w.settle()
		w.tells("1:0 @76h0m0s", "1:0 @176h0m0s over", "2:0 @178h0m0s")
		w.happen(backup)
		told := w.story()

		// While the object is hidden nothing is expected; afterwards it begins anew.
		w.apply(belfry.Changes{Objects: []belfry.Object{{ID: "farm", Hidden: true}, {ID: "host", Parent: "farm"}}})
		for range 30 {
			w.pass(10 * time.Minute)
			w.settle()
		}
		w.apply(belfry.Changes{Objects: []belfry.Object{{ID: "farm"}, {ID: "host", Parent: "farm"}}})
		w.pass(time.Hour)
		w.settle()
		w.tells(told...)
		w.pass(2 * time.Hour)
		w.settle()
		if got := w.story(); len(got) != len(told)+1 {
			t.Errorf("after it was shown again: %v", got)
		}
		w.happen(backup)
		told = w.story()

		// Paused it watches nothing, and nothing is kept of it.
		w.watched(c, at, func(s *belfry.Subscription) { s.State = belfry.SubscriptionPaused })
		w.settle()
		w.pass(100 * time.Hour)
		w.settle()
		w.tells(told...)
		if rows, err := w.db.ConditionGroups(context.Background(), belfry.DefaultTenant, "sub_watch", "", nil, 10); err != nil || len(rows) > 0 {
			t.Errorf("paused: %+v, %v", rows, err)
		}
		w.watched(c, at) // resumed
		w.settle()
		w.pass(119 * time.Minute)
		w.settle()
		w.tells(told...)
		w.pass(time.Minute)
		w.settle()
		if got := w.story(); len(got) != len(told)+1 {
			t.Errorf("after it was resumed: %v", got)
		}

		// The condition is taken off: then each event is told.
		w.watched(c, at, func(s *belfry.Subscription) { s.Condition = nil })
		told = w.story()
		before := w.inbox("ada")
		w.happen(backup)
		w.tells(told...)
		if n := w.inbox("ada"); n != before+1 {
			t.Errorf("without the condition: %d more entries", n-before)
		}
	})
}

// feature: NEW-6 each group of an absence is watched from its first event on.
func TestConditionAbsenceOfGroups(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	w.watched(belfry.Condition{Absence: "1h", GroupBy: "object", Cooldown: "3h"})
	w.settle()
	w.pass(5 * time.Hour)
	w.settle()
	w.tells() // there is no group yet
	w.happen(belfry.Event{Object: "a"})
	w.pass(30 * time.Minute)
	w.happen(belfry.Event{Object: "b"})
	w.pass(45 * time.Minute)
	w.settle()
	w.tells("1:0 a@6h0m0s")
	w.happen(belfry.Event{Object: "a"})
	w.pass(2 * time.Hour)
	w.settle()
	w.tells("1:0 a@6h0m0s", "1:0 a@6h15m0s over", "1:0 b@6h30m0s")
	w.pass(time.Hour) // the quiet of a is over, and it is silent still
	w.settle()
	w.tells("1:0 a@6h0m0s", "1:0 a@6h15m0s over", "1:0 b@6h30m0s", "2:0 a@9h0m0s")
	w.pass(31 * 24 * time.Hour) // long silent ones are forgotten
	w.settle()
	rows, err := w.db.ConditionGroups(context.Background(), belfry.DefaultTenant, "sub_watch", "", nil, 10)
	if err != nil || len(rows) != 0 {
		t.Errorf("groups: %+v, %v", rows, err)
	}
	if got := w.story(); len(got) != 4 {
		t.Errorf("told: %v", got)
	}
}

// feature: NEW-6, NEW-10 what does not count is recorded with why: too late,
// silent, no group, no room, the service's own.
func TestConditionOddEvents(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	w.watched(belfry.Condition{Count: 2, Within: "10m", GroupBy: "event.data.host", Groups: 2}, func(s *belfry.Subscription) { s.Types = nil })
	w.settle()
	w.apply(belfry.Changes{Objects: []belfry.Object{{ID: "quiet"}}, Places: []belfry.Place{{Object: "quiet", Settings: belfry.ObjectSettings{Flags: []string{belfry.FlagSilent}}}}})
	on := func(h string, set ...func(*belfry.Event)) belfry.Event {
		e := belfry.Event{Data: json.RawMessage(`{"host":"` + h + `"}`)}
		for _, f := range set {
			f(&e)
		}
		return e
	}
	when := func(t time.Time) func(*belfry.Event) { return func(e *belfry.Event) { e.Time = t } }
	for _, c := range []struct {
		name string
		e    belfry.Event
		code string
	}{
		{"last year's", on("a", when(founded.AddDate(-1, 0, 0))), belfry.ConditionLate},
		{"next year's", on("a", when(founded.AddDate(1, 0, 0))), belfry.ConditionFuture},
		{"just late enough", on("b", when(founded.Add(-time.Hour))), belfry.ConditionCounted},
		{"silent", on("a", func(e *belfry.Event) { e.Flags = []string{belfry.FlagSilent} }), belfry.EventIsSilent},
		{"where nobody is told", on("a", func(e *belfry.Event) { e.Object = "quiet" }), belfry.PlaceIsSilent},
		{"without a group", belfry.Event{Data: json.RawMessage(`{}`)}, belfry.ConditionFault},
		{"with a list for a group", belfry.Event{Data: json.RawMessage(`{"host":["a"]}`)}, belfry.ConditionFault},
		{"a third group", on("c"), belfry.ConditionFull},
		{"a long name", on(strings.Repeat("x", 300)), belfry.ConditionFault},
		{"our own", belfry.Event{Source: belfry.OwnSource, Type: NoticePrefix + "test", Data: json.RawMessage(`{"host":"a"}`)}, belfry.ConditionFault},
	} {
		id := w.happen(c.e)[0]
		if codes, _ := w.reasons(id); len(codes) == 0 || codes[len(codes)-1] != c.code {
			t.Errorf("%s: %v, want %s", c.name, codes, c.code)
		}
	}
	if n := w.inbox("ada"); n != 0 {
		t.Errorf("%d entries in the inbox", n)
	}
	// The one of next year counts as of now.
	w.happen(on("a"))
	if got := w.story(); len(got) != 2 || !strings.HasPrefix(got[1], "1:2 a@0s") { // the first is our own test
		t.Errorf("told %v", got)
	}
}

// feature: NEW-6 what is out of reach is forgotten: groups, and observations of
// those that stay.
func TestConditionForgets(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	w.watched(belfry.Condition{Count: 3, Within: "10m", GroupBy: "event.actor", Late: "5m"})
	var events []belfry.Event
	for i := range 200 {
		events = append(events, belfry.Event{Actor: fmt.Sprint("user/", i%50)})
	}
	w.happen(events...)
	if got := w.story(); len(got) != 50 {
		t.Errorf("%d groups told", len(got))
	}
	w.pass(16 * time.Minute)
	w.settle()
	rows, err := w.db.ConditionGroups(context.Background(), belfry.DefaultTenant, "sub_watch", "", nil, 100)
	if err != nil || len(rows) != 0 {
		t.Errorf("%d groups are kept: %v", len(rows), err)
	}
	left := func() (n int) {
		for i := range 50 {
			g := belfry.ConditionGroup{Tenant: belfry.DefaultTenant, Subscription: "sub_watch", Group: fmt.Sprint("user/", i)}
			list, err := w.db.Observations(context.Background(), &g, time.Time{}.AddDate(1970, 0, 0), 1000)
			if err != nil {
				t.Fatal(err)
			}
			n += len(list)
		}
		return n
	}
	if n := left(); n != 0 {
		t.Errorf("%d observations are kept", n)
	}
	// One group that goes on for hours keeps no more than its reach.
	for range 90 {
		w.pass(time.Minute)
		w.happen(belfry.Event{Actor: "user/1"})
	}
	if n := left(); n > 40 {
		t.Errorf("%d observations are kept of a group that goes on", n)
	}
	if got := w.story(); len(got) != 80 || got[50] == got[0] {
		t.Errorf("%d firings, the first of the group made anew is %s", len(got), got[50])
	}
}

// feature: NEW-6 a replay counts nothing and fires nothing; that of a derived
// event tells again whom it told.
func TestConditionReplay(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	w.watched(belfry.Condition{Count: 2, Within: "10m"})
	ids := w.happen(belfry.Event{}, belfry.Event{}, belfry.Event{})
	w.tells("1:2 @0s")
	for run, id := range []string{ids[0], ids[2], w.met()[0].EventID} {
		acc, err := w.db.Events(context.Background(), belfry.DefaultTenant, []string{id})
		if err != nil {
			t.Fatal(err)
		}
		page, err := w.stages.page(context.Background(), acc[id], part{run: run + 7}, w.now())
		if err != nil || len(page.Observations) > 0 || len(page.Matches) == 0 {
			t.Errorf("%s planned again: %+v, %v", id, page, err)
		}
		last := page.Matches[0].Because[len(page.Matches[0].Because)-1].Code
		if run < 2 && (last != belfry.ConditionReplay || len(page.Deliveries) > 0) {
			t.Errorf("%s planned again: %s, %d deliveries", id, last, len(page.Deliveries))
		}
		if run == 2 && (last != belfry.ConditionIsMet || len(page.Deliveries) != 1) {
			t.Errorf("the derived event planned again: %s, %d deliveries", last, len(page.Deliveries))
		}
	}
}

// feature: NEW-6, MDL-23 rights and identity: who may not see what counted is
// not told that it counted; who did all of it is left out; what was anonymous
// stays so.
func TestConditionRights(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	typ, err := json.Marshal(belfry.EventType{Name: "failed", SeeRoles: []string{"admin"}})
	if err != nil {
		t.Fatal(err)
	}
	w.apply(belfry.Changes{
		Documents: []belfry.Document{{Kind: belfry.KindEventType, ID: "failed", Body: typ}},
		Objects:   []belfry.Object{{ID: "site"}},
		Users:     []belfry.User{{ID: "cleo", State: belfry.UserActive}},
		Grants: []belfry.GrantSet{{Object: "site", Grants: []belfry.Grant{
			{Principal: "ben", Role: "admin"}, {Principal: "cleo", Role: "admin"}}}},
	})
	w.watched(belfry.Condition{Count: 2, Within: "10m", GroupBy: "event.actor"}, func(s *belfry.Subscription) {
		s.Recipients = []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada", "ben", "cleo"}}}}
	})
	for range 2 {
		w.happen(belfry.Event{Object: "site", Actor: "cleo"})
	}
	a, err := w.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: w.met()[0].EventID})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range a.People {
		got[p.Principal] = p.Because[len(p.Because)-1].Code
		if p.Outcome == belfry.Told {
			got[p.Principal] = p.Outcome
		}
	}
	if want := map[string]string{"ada": belfry.MayNotSee, "ben": belfry.Told, "cleo": belfry.IsActor}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told: %v, want %v", got, want)
	}
	for range 2 {
		w.happen(belfry.Event{Object: "site", Actor: "cleo", Flags: []string{belfry.FlagAnonymous}})
	}
	met := w.met()
	last := met[len(met)-1].Event
	if len(met) != 2 || last.Actor != "" || !last.Has(belfry.FlagAnonymous) || strings.Contains(string(last.Data), "cleo") {
		t.Errorf("anonymous: %+v %s", last, last.Data)
	}
}

// feature: NEW-6 the same stages say beforehand what an event would do.
func TestConditionExplained(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	w.watched(belfry.Condition{Count: 2, Within: "10m", GroupBy: "event.data.host"})
	e := belfry.Event{Source: "/test", ID: "x", Type: "failed", Time: w.now(), Data: json.RawMessage(`{"host":"web"}`)}
	explain := func() (string, []belfry.AnswerPerson) {
		t.Helper()
		a, err := w.ex.Explain(context.Background(), belfry.DefaultTenant, &e)
		if err != nil || len(a.Subscriptions) != 1 {
			t.Fatalf("%+v, %v", a, err)
		}
		s := a.Subscriptions[0]
		return s.Because[len(s.Because)-1].Code + " " + s.Condition.Text, a.People
	}
	if got, people := explain(); got != "condition_counted 1 of 2 in 10 minutes: 1 more needed" || len(people) != 0 {
		t.Errorf("%s %+v", got, people)
	}
	w.happen(belfry.Event{Data: json.RawMessage(`{"host":"web"}`)}, belfry.Event{Data: json.RawMessage(`{"host":"db"}`)})
	if got, people := explain(); got != "condition_met 0 of 2 in 10 minutes: 2 more needed" || len(people) != 1 || people[0].Principal != "ada" || people[0].Outcome != belfry.Told {
		t.Errorf("%s %+v", got, people)
	}
	w.tells() // nothing was stored
	if got, _ := explain(); !strings.HasPrefix(got, belfry.ConditionIsMet) {
		t.Errorf("asked again: %s", got)
	}
}

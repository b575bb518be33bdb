package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// changed is what changes were told of, in short.
func (w *tower) changed() (lines []string) {
	w.t.Helper()
	for _, acc := range w.met() {
		d := dataOf(w.t, &acc)
		before := "-"
		if d.Before != nil {
			before = *d.Before
		}
		line := fmt.Sprintf("%s: %s>%s", d.Group, before, *d.After)
		if d.Limit != nil {
			line += fmt.Sprintf(" %s %v", d.Crossed, *d.Limit)
		}
		lines = append(lines, line)
	}
	return lines
}

func (w *tower) changes(want ...string) {
	w.t.Helper()
	if got := w.changed(); !slices.Equal(got, want) {
		w.t.Fatalf("changes told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func ticket(object, state string) belfry.Event {
	return belfry.Event{Object: object, Actor: "ben", Data: json.RawMessage(`{"state":` + state + `}`)}
}

// feature: NEW-6, NEW-10 a value that is not what it was at the event before of
// its group is told once, with what it was, over restarts; the first value, a
// repeat and an event without a value tell nothing.
func TestConditionChange(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := newTower(t, url)
		w.watched(belfry.Condition{Change: "event.data.state", GroupBy: "event.object", Wait: "10s"})
		first := w.happen(ticket("t/1", `"open"`), ticket("t/2", `"open"`))[0]
		w.pass(10 * time.Second)
		w.settle()
		w.changes()
		codes, view := w.reasons(first)
		if want := []string{belfry.ScopeMatched, belfry.TypeMatched, belfry.ConditionCounted}; !slices.Equal(codes, want) || view.Value == nil || *view.Value != "open" || view.Within != "" {
			t.Errorf("after the first: %v, %+v", codes, view)
		}
		w.restart()
		// They come in another order than they happened in.
		late := ticket("t/1", `"closed"`)
		late.Time = w.now().Add(-5 * time.Second)
		closed := w.happen(ticket("t/1", `"reopened"`), late)[1]
		w.changes()
		w.pass(10 * time.Second)
		w.settle()
		w.changes("t/1: open>closed", "t/1: closed>reopened")
		if n := w.inbox("ada"); n != 2 {
			t.Errorf("%d entries in the inbox", n)
		}
		met := w.met()[0]
		d := dataOf(t, &met)
		if e := met.Event; e.Object != "t/1" || e.Actor != "ben" || !slices.Equal(d.Events, []string{closed}) || d.Event.Data["state"] != "closed" || d.Within != "" || d.Count != 0 {
			t.Errorf("the event: %+v, %+v", e, d)
		}
		a, err := w.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: met.EventID})
		if err != nil || len(a.Subscriptions) != 1 || a.Subscriptions[0].Because[0].Detail != `from "open" to "closed"` {
			t.Errorf("its trace: %+v %v", a.Subscriptions, err)
		}
		w.restart()
		none := w.happen(belfry.Event{Object: "t/2", Data: json.RawMessage(`{"state":{"id":1}}`)}, ticket("t/2", `"open"`))[0]
		w.pass(10 * time.Second)
		w.settle()
		w.changes("t/1: open>closed", "t/1: closed>reopened")
		if codes, _ := w.reasons(none); codes[2] != belfry.ConditionNoValue {
			t.Errorf("an event without a value: %v", codes)
		}
		// What the expression gave before it was edited is not compared.
		w.watched(belfry.Condition{Change: "string(event.data.state) + '!'", GroupBy: "event.object", Wait: "10s"})
		w.happen(ticket("t/1", `"done"`))
		w.pass(10 * time.Second)
		w.settle()
		w.changes("t/1: open>closed", "t/1: closed>reopened")
		// A group of which nothing comes for long is let go.
		w.watched(belfry.Condition{Change: "event.data.state", GroupBy: "event.object", Within: "1h", Late: "1m"})
		w.happen(ticket("t/3", "1"))
		w.pass(2 * time.Hour)
		w.settle()
		if n, err := w.db.CountGroups(context.Background(), belfry.DefaultTenant, "sub_watch", 100); err != nil || n != 1 {
			t.Errorf("%d groups are left: %v", n, err)
		}
		w.happen(ticket("t/3", "2"))
		w.changes("t/1: open>closed", "t/1: closed>reopened")
	})
}

// feature: NEW-6, NEW-12 several processes look at the same groups at once, and
// die between looks: each change is told once.
func TestConditionChangeTogether(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := newTower(t, url)
		w.watched(belfry.Condition{Change: "event.data.state", GroupBy: "event.object"})
		for range 3 {
			w.watches = append(w.watches, w.watch())
		}
		const groups, each = 30, 6
		var want []string
		for i := range each {
			var events []belfry.Event
			for g := range groups {
				events = append(events, ticket(fmt.Sprint("t/", g), fmt.Sprint(i/2))) // twice the same
				if i > 0 && i%2 == 0 {
					want = append(want, fmt.Sprintf("t/%d: %d>%d", g, i/2-1, i/2))
				}
			}
			w.accept(events...)
			w.plan()
			w.look()
			w.restartWatches()
			w.pass(time.Second)
		}
		w.settle()
		got := w.changed()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("changes told\n%s\nwant\n%s", got, want)
		}
		if n := w.inbox("ada"); n != len(want) {
			t.Errorf("%d entries in the inbox, want %d", n, len(want))
		}
	})
}

// feature: NEW-3, NEW-6 limits; what one event more would do; and a backtest
// finds what happened.
func TestConditionLimits(t *testing.T) {
	w := newTower(t, storetest.SQLitePlace(t))
	above, below := 30.0, 28.0
	c := belfry.Condition{Change: "event.data.state", GroupBy: "event.object", Above: &above, Below: &below}
	w.watched(c)
	for _, n := range []string{"29", "27.5", "29", "31", "29", "28", "27", "30"} {
		w.happen(ticket("room/1", n))
		w.pass(time.Minute)
	}
	w.changes("room/1: 29>31 above 30", "room/1: 28>27 below 28")
	supposed := func(n string) belfry.AnswerSubscription {
		t.Helper()
		e := ticket("room/1", n)
		e.Source, e.Type, e.Time = "/test", "failed", w.now()
		a, err := w.ex.Explain(context.Background(), belfry.DefaultTenant, &e)
		if err != nil || len(a.Subscriptions) != 1 {
			t.Fatal(a, err)
		}
		return a.Subscriptions[0]
	}
	if a := supposed("30"); a.Because[len(a.Because)-1].Code != belfry.ConditionCounted || *a.Condition.Value != "30" {
		t.Errorf("within the limits: %+v", a)
	}
	if a := supposed("30.1"); a.Because[len(a.Because)-1].Code != belfry.ConditionIsMet || !strings.HasSuffix(a.Condition.Text, "above the limit") {
		t.Errorf("above: %+v", a)
	}
	if a := supposed(`"warm"`); a.Because[len(a.Because)-1].Code != belfry.ConditionNoValue {
		t.Errorf("no number: %+v", a)
	}
	sub := belfry.Subscription{ID: "sub_supposed", Title: "Draft", Types: []string{"failed"}, State: belfry.SubscriptionActive, Condition: &c,
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"ada"}}}}, Notify: []belfry.Notify{{Channels: []string{belfry.ChannelInbox}}}}
	r, done, err := NewBacktester(w.stages, w.db, w.now).Short(t.Context(), belfry.DefaultTenant,
		&belfry.Backtest{Subscription: sub, Since: founded.Add(-time.Hour), Until: w.now().Add(time.Hour)})
	if err != nil || !done || r.Matched != 8 || r.Messages != 2 {
		t.Errorf("a backtest: %+v, %v, %v", r, done, err)
	}
}

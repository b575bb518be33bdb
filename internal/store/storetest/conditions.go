package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// feature: NEW-6 observations come with the page of a plan, once; a look counts
// if nobody has looked since, and brings its events with it or nothing.
func testConditions(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	now := time.Now().UTC().Truncate(time.Second)
	groups := func(after string) []belfry.ConditionGroup {
		t.Helper()
		return must[[]belfry.ConditionGroup](t)(db.ConditionGroups(ctx, tenant, "sub_1", after, nil, 100))
	}
	group := func(name string) *belfry.ConditionGroup {
		t.Helper()
		list := must[[]belfry.ConditionGroup](t)(db.ConditionGroups(ctx, tenant, "sub_1", "", &name, 1))
		if len(list) == 0 {
			return nil
		}
		return &list[0]
	}
	due := func(at time.Time) (names []string) {
		t.Helper()
		for _, g := range must[[]belfry.ConditionGroup](t)(db.DueGroups(ctx, tenant, at, nil, 100)) {
			names = append(names, g.Subscription+" "+g.Group)
		}
		return names
	}

	// A subscription with a condition has a group, due at once.
	sub := belfry.Subscription{ID: "sub_1", State: belfry.SubscriptionActive, Condition: &belfry.Condition{Count: 2, Within: "1m"}}
	version := apply(t, db, belfry.Changes{Subscriptions: []belfry.Subscription{sub, {ID: "sub_plain", State: belfry.SubscriptionActive}}})
	same(t, "due after saving", due(time.Now()), []string{"sub_1 "})
	if g := group(""); g.AsOf != version || !g.Low.IsZero() || len(g.State) != 0 || g.Mark != 1 {
		t.Errorf("the group of a fresh subscription: %+v", g)
	}
	sub.Condition = nil
	apply(t, db, belfry.Changes{Subscriptions: []belfry.Subscription{sub}})
	if g := group(""); g.Mark != 2 || g.AsOf != version+1 {
		t.Errorf("after the condition was taken off: %+v", g)
	}

	// Pages bring observations; one that was not applied brings none.
	rs := accept(t, db, event("1"), event("2"), event("3"))
	page := func(i int, from string, obs ...belfry.Observation) belfry.PlanPage {
		return belfry.PlanPage{Tenant: tenant, EventID: rs[i].EventID, From: from, To: from, Last: true, Observations: obs}
	}
	saw := func(name string, at, look time.Time) belfry.Observation {
		return belfry.Observation{Subscription: "sub_1", Group: name, At: at, Look: look, AsOf: version}
	}
	valued := saw("a", now, now)
	valued.Value = "0123abcdopen"
	errs := must[[]error](t)(db.CommitPlans(ctx, []belfry.PlanPage{
		page(0, "", valued, saw("b", now, now.Add(time.Hour))),
		page(1, "elsewhere", saw("c", now, now)),
		page(2, "", saw("a", now.Add(-time.Minute), now), saw("é\u4e16", now, now)),
	}))
	if errs[0] != nil || errs[1] == nil || errs[2] != nil {
		t.Fatal(errs)
	}
	same(t, "groups", len(groups("")), 3)
	same(t, "groups after one", len(groups("a")), 2)
	same(t, "counted", must[int](t)(db.CountGroups(ctx, tenant, "sub_1", 100)), 4)
	same(t, "counted as far as asked", must[int](t)(db.CountGroups(ctx, tenant, "sub_1", 2)), 2)
	a := group("a")
	if !a.Low.Equal(now.Add(-time.Minute)) || !a.Due.Equal(now) || a.AsOf != version {
		t.Errorf("group a: %+v", a)
	}
	same(t, "observations", must[[]belfry.Observed](t)(db.Observations(ctx, a, now.Add(-time.Hour), 10)),
		[]belfry.Observed{{At: now.Add(-time.Minute), EventID: rs[2].EventID}, {At: now, EventID: rs[0].EventID, Value: "0123abcdopen"}})
	same(t, "from a time on", len(must[[]belfry.Observed](t)(db.Observations(ctx, a, now, 10))), 1)
	same(t, "before", must[[]belfry.Observed](t)(db.ObservationsBefore(ctx, a, now.Add(-time.Hour), now.Add(time.Second), 1)), []belfry.Observed{{At: now, EventID: rs[0].EventID, Value: "0123abcdopen"}})
	if next := must[time.Time](t)(db.NextLook(ctx, tenant, nil)); next.After(now.Add(time.Second)) {
		t.Errorf("the next look is at %v", next)
	}
	if looks := must[map[string]time.Time](t)(db.NextLooks(ctx, nil)); len(looks) != 1 || !looks[tenant].Equal(must[time.Time](t)(db.NextLook(ctx, tenant, nil))) {
		t.Errorf("the next looks of all tenants: %v", looks)
	}
	for shard := range belfry.Shards {
		next, looks := must[time.Time](t)(db.NextLook(ctx, tenant, []int{shard})), must[map[string]time.Time](t)(db.NextLooks(ctx, []int{shard}))
		if at, any := looks[tenant]; any == next.IsZero() || !at.Equal(next) {
			t.Errorf("shard %d: %v of all, %v of the tenant", shard, looks, next)
		}
	}
	if next := must[time.Time](t)(db.NextLook(ctx, "another", nil)); !next.IsZero() {
		t.Errorf("another tenant's next look is at %v", next)
	}
	if _, err := db.CommitPlans(ctx, []belfry.PlanPage{{Tenant: tenant, EventID: rs[1].EventID, Last: true, Observations: []belfry.Observation{saw("a\x00", now, now)}}}); err != nil {
		t.Errorf("a page with NUL is refused alone: %v", err)
	}
	same(t, "NUL", len(groups("")), 3)

	// A look that somebody was faster with does not count, nor do its events.
	step := func(of *belfry.ConditionGroup, state string, ids ...string) belfry.ConditionStep {
		s := belfry.ConditionStep{Of: *of, State: []byte(state), Due: now.Add(2 * time.Hour)}
		for _, id := range ids {
			s.Drafts = append(s.Drafts, event(id))
		}
		return s
	}
	receipts, applied, err := db.StepConditions(ctx, []belfry.ConditionStep{step(a, "one", "met-1"), step(group("b"), "b")})
	if err != nil || !applied[0] || !applied[1] || receipts[0][0].EventID == "" || receipts[0][0].Duplicate {
		t.Fatal(receipts, applied, err)
	}
	_, applied, err = db.StepConditions(ctx, []belfry.ConditionStep{step(a, "two", "met-2"), step(group("b"), "b2", "met-b")})
	if err != nil || applied[0] || !applied[1] {
		t.Fatal(applied, err)
	}
	stored := 0
	for _, id := range []string{"met-1", "met-2", "met-b"} {
		if r := accept(t, db, event(id))[0]; r.Duplicate {
			stored++
		} else if id != "met-2" {
			t.Errorf("%s is not stored", id)
		}
	}
	same(t, "events stored with looks", stored, 2)
	if g := group("a"); string(g.State) != "one" || !g.Low.IsZero() || !g.Due.Equal(now.Add(2*time.Hour)) || g.Version != 1 {
		t.Errorf("after a look: %+v", g)
	}

	// What comes while somebody looks is looked at again.
	read := group("a")
	r := accept(t, db, event("late"))[0]
	if errs := must[[]error](t)(db.CommitPlans(ctx, []belfry.PlanPage{{Tenant: tenant, EventID: r.EventID, Last: true, Observations: []belfry.Observation{saw("a", now.Add(-time.Second), now)}}})); errs[0] != nil {
		t.Fatal(errs)
	}
	drop := step(read, "")
	drop.Drop = true
	if _, applied, err = db.StepConditions(ctx, []belfry.ConditionStep{drop}); err != nil || applied[0] {
		t.Fatal("a group was dropped in which something came:", err)
	}
	if _, applied, err = db.StepConditions(ctx, []belfry.ConditionStep{step(read, "three")}); err != nil || !applied[0] {
		t.Fatal(applied, err)
	}
	if g := group("a"); string(g.State) != "three" || !g.Low.Equal(now.Add(-time.Second)) || !g.Due.Equal(now) {
		t.Errorf("after a look that missed something: %+v", g)
	}

	// An edit of the condition makes all groups be looked at.
	if err := db.LookAgain(ctx, tenant, "sub_1", version+5); err != nil {
		t.Fatal(err)
	}
	same(t, "due after an edit", len(due(time.Now().Add(time.Second))), 4)
	if g := group("b"); g.AsOf != version+5 {
		t.Errorf("after an edit: %+v", g)
	}

	// What is old goes, and in the end everything.
	same(t, "dropped", must[int](t)(db.DropObservations(ctx, group("a"), now, 1)), 1)
	same(t, "dropped the rest", must[int](t)(db.DropObservations(ctx, group("a"), now, 10)), 1)
	same(t, "left", len(must[[]belfry.Observed](t)(db.Observations(ctx, group("a"), now.Add(-time.Hour), 10))), 1)
	root := group("")
	apply(t, db, belfry.Changes{Subscriptions: []belfry.Subscription{sub}}) // an edit in between
	for more := true; more; {
		more = must[bool](t)(db.DropCondition(ctx, root, 2))
	}
	same(t, "groups of one that is gone", len(groups("")), 0)
	if group("") == nil {
		t.Error("the group of an edit nobody has looked at is gone")
	}
	if must[bool](t)(db.DropCondition(ctx, group(""), 2)); group("") != nil {
		t.Error("the last group stays")
	}
	if at := must[time.Time](t)(db.OldestPlan(ctx, tenant)); at.IsZero() { // met-2 and so on
		t.Error("no plan is open")
	}
	if at := must[time.Time](t)(db.OldestPlan(ctx, "another")); !at.IsZero() {
		t.Errorf("another tenant's oldest plan is of %v", at)
	}
}

// feature: NEW-6, NEW-12 looks and pages of many at once, none lost.
func testConditionsTogether(t *testing.T, place func(testing.TB) string) {
	db := Open(t, place(t))
	ctx := context.Background()
	const events, lookers, names = 120, 3, 4
	now := time.Now().UTC().Truncate(time.Microsecond)
	var drafts []belfry.Draft
	for i := range events {
		drafts = append(drafts, event(fmt.Sprint("e", i)))
	}
	rs := accept(t, db, drafts...)
	var planning, looking sync.WaitGroup
	for part := range 4 {
		planning.Go(func() {
			for i := part; i < events; i += 4 {
				o := belfry.Observation{Subscription: "sub_1", Group: fmt.Sprint("g", i%names), At: now.Add(time.Duration(i) * time.Millisecond), Look: now}
				errs, err := db.CommitPlans(ctx, []belfry.PlanPage{{Tenant: tenant, EventID: rs[i].EventID, Last: true, Observations: []belfry.Observation{o}}})
				if err != nil || errs[0] != nil {
					t.Error(err, errs)
				}
			}
		})
	}
	// Whoever looks takes over all there is since Low, and counts it.
	var mu sync.Mutex
	counted := map[string]int{}
	done := make(chan struct{})
	look := func() {
		list, err := db.DueGroups(ctx, tenant, now.Add(time.Hour), nil, 100)
		if err != nil {
			t.Error(err)
			return
		}
		var steps []belfry.ConditionStep
		var seen [][]belfry.Observed
		for _, g := range list {
			if g.Low.IsZero() {
				continue
			}
			obs, err := db.Observations(ctx, &g, g.Low, 1000)
			if err != nil {
				t.Error(err)
			}
			last := obs[len(obs)-1].EventID
			steps = append(steps, belfry.ConditionStep{Of: g, State: append(g.State, '.'), Drafts: []belfry.Draft{event(fmt.Sprint("look of ", g.Group, g.Version, last))}})
			seen = append(seen, obs)
		}
		_, applied, err := db.StepConditions(ctx, steps)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for i := range applied {
			if applied[i] {
				for _, o := range seen[i] {
					counted[o.EventID]++
				}
			}
		}
	}
	for range lookers {
		looking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					look()
				}
			}
		})
	}
	planning.Wait()
	close(done)
	looking.Wait()
	look()
	look()
	if len(counted) != events {
		t.Errorf("%d of %d observations were looked at", len(counted), events)
	}
	looks := 0
	for i := range names {
		name := fmt.Sprint("g", i)
		g := must[[]belfry.ConditionGroup](t)(db.ConditionGroups(ctx, tenant, "sub_1", "", &name, 1))[0]
		looks += int(g.Version)
		if len(g.State) != int(g.Version) {
			t.Errorf("%d looks left %d marks", g.Version, len(g.State))
		}
	}
	list, _, err := db.ListEvents(ctx, tenant, store.EventFilter{Limit: 10_000})
	if err != nil || len(list) != events+looks {
		t.Errorf("%d events are stored beside %d of looks, want %d: %v", len(list)-looks, looks, events, err)
	}
}

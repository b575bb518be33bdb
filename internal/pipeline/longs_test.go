package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// gated is a store whose door 2 asks before a page and tells after it.
type gated struct {
	*store.DB
	before func(*belfry.PlanPage) error // an error keeps the call from the door
	after  func(*belfry.PlanPage) error // an error loses its answer

	mu    sync.Mutex
	pages []belfry.PlanPage // committed, in order
}

func (g *gated) CommitPlans(ctx context.Context, pages []belfry.PlanPage) ([]error, error) {
	for i := range pages {
		if g.before != nil {
			if err := g.before(&pages[i]); err != nil {
				return nil, err
			}
		}
	}
	errs, err := g.DB.CommitPlans(ctx, pages)
	if err != nil {
		return errs, err
	}
	for i := range pages {
		if errs[i] != nil {
			continue
		}
		g.mu.Lock()
		g.pages = append(g.pages, pages[i])
		g.mu.Unlock()
		if g.after != nil {
			if err := g.after(&pages[i]); err != nil {
				return nil, err
			}
		}
	}
	return errs, nil
}

// order is the events whose pages were committed, each as often as it had one.
func (g *gated) order() (ids []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.pages {
		ids = append(ids, g.pages[i].EventID)
	}
	return ids
}

func person(n int) string { return fmt.Sprintf("user/%05d", n) }

// forum makes people and a subscription to typ that they joined.
func (h *house) forum(id, typ string, people ...int) {
	h.t.Helper()
	ch := belfry.Changes{Subscriptions: []belfry.Subscription{{ID: id, Types: []string{typ}, State: belfry.SubscriptionActive, Created: clock(),
		Notify: []belfry.Notify{{Channels: []string{belfry.ChannelInbox}}}}}}
	for _, n := range people {
		ch.Users = append(ch.Users, belfry.User{ID: person(n), State: belfry.UserActive})
		ch.Members = append(ch.Members, belfry.Member{Subscription: id, Principal: person(n), Since: clock()})
	}
	h.apply(ch)
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// told is who has an inbox row of an event, each as often as it is there.
func (h *house) told(eventID string) (people []string) {
	h.t.Helper()
	for after := ""; ; {
		tr, err := h.db.Trace(context.Background(), belfry.DefaultTenant, eventID, "", store.TracePage{After: after, Limit: 500})
		if err != nil {
			h.t.Fatal(err)
		}
		for i := range tr.Deliveries {
			people = append(people, tr.Deliveries[i].Principal)
		}
		if after = tr.Next; after == "" {
			slices.Sort(people)
			return people
		}
	}
}

// acceptAt is accept for one event on an object.
func (h *house) acceptAt(object, typ string) string {
	h.t.Helper()
	e := &belfry.Event{ID: belfry.NewID("", clock()), Source: "/test", Type: typ, Time: clock(), Object: object}
	body := fmt.Appendf(nil, `{"id":%q,"source":"/test","type":%q,"time":%q,"object":%q}`, e.ID, typ, e.Time.Format(time.RFC3339Nano), object)
	receipts, err := h.db.AcceptEvents(context.Background(), []belfry.Draft{{Tenant: belfry.DefaultTenant, Event: e, Body: body}})
	if err != nil {
		h.t.Fatal(err)
	}
	r := receipts[0]
	h.plan.Handover([]belfry.Accepted{{Tenant: belfry.DefaultTenant, EventID: r.EventID, At: r.At, AsOf: r.AsOf, Event: e, Body: body}})
	return r.EventID
}

// planned waits until an event's plan is complete.
func (h *house) planned(ids ...string) {
	h.t.Helper()
	late := time.Now().Add(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for _, id := range ids {
		for {
			tr, err := h.db.Trace(context.Background(), belfry.DefaultTenant, id, "", store.TracePage{Limit: 1})
			if err != nil {
				h.t.Fatal(err)
			}
			if tr.Planned {
				break
			}
			if time.Now().After(late) {
				h.t.Fatalf("%s was not planned within a minute", id)
			}
			<-tick.C
		}
	}
}

func paged(first, following int, db PlanStore) func(*PlannerOptions, *DispatcherOptions) {
	return func(p *PlannerOptions, _ *DispatcherOptions) {
		p.Page, p.LongPage, p.LonePage, p.Poll = first, following, first, 10*time.Millisecond
		if db != nil {
			p.Store = db
		}
	}
}

// Whatever page a process ends at, before its commit or after it, and whatever
// the sizes of pages before and after, the next one goes on there: everybody is
// told once.
// feature: NEW-10
func TestLongPlansContinueAtAnyPage(t *testing.T) {
	db := sqlite(t)
	const people = 23
	newHouse(t, db, nil).forum("sub_forum", "forum.*", upTo(people)...)
	var everybody []string
	for n := range people {
		everybody = append(everybody, person(n))
	}
	resumed := 0
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, people+1)
		lost := rapid.Bool().Draw(rt, "committed before the end")
		left := rapid.IntRange(1, people).Draw(rt, "pages before the end")
		g := &gated{DB: db}
		growing := func(then func(*PlannerOptions, *DispatcherOptions)) func(*PlannerOptions, *DispatcherOptions) {
			lone := size.Draw(rt, "page when alone")
			return func(p *PlannerOptions, d *DispatcherOptions) { then(p, d); p.LonePage = lone }
		}
		h := newHouse(t, db, growing(paged(size.Draw(rt, "first page"), size.Draw(rt, "page"), g)))
		ended := make(chan struct{})
		end := func(*belfry.PlanPage) error {
			if left--; left > 0 {
				return nil
			}
			if left == 0 {
				close(ended)
			}
			return errLost
		}
		if lost {
			g.after = end
		} else {
			g.before = end
		}
		h.run()
		id := h.acceptAt("forum/1", "forum.post")
		finished := make(chan struct{})
		go func() { h.planned(id); close(finished) }()
		select {
		case <-ended:
			h.stop()
			resumed++
		case <-finished:
			h.stop()
		}
		again := newHouse(t, db, growing(paged(size.Draw(rt, "first page afterwards"), size.Draw(rt, "page afterwards"), nil)))
		again.run()
		again.planned(id)
		again.stop()
		<-finished
		if diff := cmp.Diff(everybody, again.told(id)); diff != "" {
			rt.Fatalf("told (-want +got):\n%s", diff)
		}
	})
	if resumed < 10 {
		t.Errorf("only %d plans were interrupted", resumed)
	}
}

// While the workers have nothing else to plan, each page is twice as long as the
// one before, from the first one on, up to the longest.
func TestLonePlansGrow(t *testing.T) {
	g := &gated{DB: sqlite(t)}
	h := newHouse(t, g.DB, func(p *PlannerOptions, d *DispatcherOptions) {
		paged(4, 1, g)(p, d)
		p.LonePage = 16
	})
	h.forum("sub_forum", "forum.*", upTo(50)...)
	h.run()
	id := h.acceptAt("forum/1", "forum.post")
	h.planned(id)
	h.stop()
	var sizes []int
	for i := range g.pages {
		sizes = append(sizes, len(g.pages[i].Deliveries))
	}
	if want := []int{4, 8, 16, 16, 6}; !slices.Equal(sizes, want) {
		t.Errorf("pages of %d, want %d", sizes, want)
	}
}

// again orders a run of an event, as a replay does.
func (h *house) again(eventID, object string) {
	h.t.Helper()
	job := belfry.Job{ID: belfry.NewID(belfry.JobPrefix, clock()), Kind: belfry.ReplayJob, Params: []byte(`{}`), Who: "tests", Created: clock()}
	h.apply(belfry.Changes{Jobs: []belfry.Job{job}})
	job, ok, err := h.db.ClaimJob(context.Background(), belfry.DefaultTenant, job.ID, "tests", time.Minute)
	if err != nil || !ok {
		h.t.Fatalf("the job cannot be taken up: %v, %v", ok, err)
	}
	job.Run = 1
	ok, err = h.db.AddRuns(context.Background(), &job, belfry.Replay{}, []belfry.EventPlace{{EventID: eventID, Object: object}},
		func(n int64) belfry.JobStep { return belfry.JobStep{State: belfry.JobDone, Done: n} })
	if err != nil || !ok {
		h.t.Fatalf("the run was not ordered: %v, %v", ok, err)
	}
	h.plan.Requeue()
}

// A replay of a long plan puts nothing into an inbox twice, and finds who
// joined since.
func TestReplayOfALongPlan(t *testing.T) {
	h := newHouse(t, sqlite(t), paged(4, 3, nil))
	h.forum("sub_forum", "forum.*", upTo(20)...)
	h.run()
	id := h.acceptAt("forum/1", "forum.post")
	h.planned(id)
	h.forum("sub_forum", "forum.*", 100)
	h.again(id, "forum/1")
	h.planned(id)
	want := append(upTo(20), 100)
	got := h.told(id)
	for i, n := range want {
		want := person(n)
		if len(got) <= i || got[i] != want {
			t.Fatalf("told %v", got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d rows for %d people", len(got), len(want))
	}
}

// The busier the machine, the longer a long plan steps back, within bounds; with
// nobody to step back for it goes on at once, and where several wait they make
// haste.
func TestLongPlansRestBesideOthers(t *testing.T) {
	for _, c := range []struct {
		beside     bool
		plans      int
		took, want time.Duration
	}{
		{false, 1, time.Second, 0},
		{true, 1, 4 * time.Millisecond, 12 * time.Millisecond},
		{true, 6, 4 * time.Millisecond, 2 * time.Millisecond},
		{true, 1, time.Minute, 50 * time.Millisecond},
		{true, 50, time.Minute, time.Millisecond},
		{true, 1, -time.Hour, 0},
	} {
		if got := rest(c.beside, c.plans, c.took); got != c.want {
			t.Errorf("beside others %v, %d plans, a page of %v: a rest of %v, want %v", c.beside, c.plans, c.took, got, c.want)
		}
	}
}

// While a long plan runs, events of other objects are planned between its
// pages, and those of its own object wait for its end.
func TestLongPlansDelayNobodyElse(t *testing.T) {
	g := &gated{DB: sqlite(t)}
	h := newHouse(t, g.DB, func(p *PlannerOptions, d *DispatcherOptions) {
		paged(2, 2, g)(p, d)
		p.Workers = 1 // all objects have the same worker
	})
	h.forum("sub_forum", "forum.*", upTo(12)...)
	h.forum("sub_small", "course.*", 1)
	second, between := make(chan struct{}), make(chan struct{})
	pages := 0
	var long string
	g.before = func(p *belfry.PlanPage) error {
		if p.EventID == long && p.From != "" {
			if pages++; pages == 2 {
				close(second)
				<-between
			}
		}
		return nil
	}
	hold := make(chan struct{})
	holding := g.before
	g.before = func(p *belfry.PlanPage) error { <-hold; return holding(p) } // until long is known
	h.run()
	long = h.acceptAt("forum/1", "forum.post")
	close(hold)
	<-second
	own := h.acceptAt("forum/1", "course.updated")
	other := h.acceptAt("forum/2", "course.updated")
	h.planned(other)
	if got := h.told(own); len(got) != 0 {
		t.Errorf("an event went past the long plan of its object")
	}
	close(between)
	h.planned(long, own)
	h.stop()
	order := g.order()
	if at, last := slices.Index(order, own), len(order)-1; at != last || len(h.told(own)) != 1 {
		t.Errorf("the pages of %s (long), %s (its object's), %s (another's) came in the order %v", long, own, other, order)
	}
	if len(h.told(long)) != 12 {
		t.Errorf("told %v", h.told(long))
	}
}

// Two events of one object that are taken together keep their order when the
// first turns out to be a long one.
func TestOrderHoldsWithinABatch(t *testing.T) {
	g := &gated{DB: sqlite(t)}
	h := newHouse(t, g.DB, paged(2, 3, g))
	h.forum("sub_forum", "forum.*", upTo(9)...)
	h.forum("sub_small", "course.*", 1)
	var want []string
	for range 5 { // before it runs: read from the table at once
		want = append(want, h.acceptAt("forum/1", "forum.post"), h.acceptAt("forum/1", "course.updated"))
	}
	h.run()
	h.planned(want...)
	h.stop()
	if got := slices.Compact(g.order()); !slices.Equal(got, want) {
		t.Errorf("planned in the order %v\nwant %v", got, want)
	}
}

// Who joins or leaves while a long plan runs is told or not by what is known
// when her page is made, and nobody is told twice.
func TestMembersComeAndGoWhileALongPlanRuns(t *testing.T) {
	g := &gated{DB: sqlite(t)}
	h := newHouse(t, g.DB, paged(5, 5, g))
	var even []int
	for n := range 20 {
		even = append(even, 2*n)
	}
	h.forum("sub_forum", "forum.*", even...)
	h.forum("sub_other", "other", 7, 31) // people
	pages := 0
	changed := false
	g.after = func(p *belfry.PlanPage) error {
		if pages++; pages != 2 {
			return nil
		}
		changed = true
		// Pages of 5 were made up to the third at most, user/00028.
		leave := func(n int) belfry.Member { return belfry.Member{Subscription: "sub_forum", Principal: person(n)} }
		h.apply(belfry.Changes{
			Members:     []belfry.Member{{Subscription: "sub_forum", Principal: person(7), Since: clock()}, {Subscription: "sub_forum", Principal: person(31), Since: clock()}},
			DropMembers: []belfry.Member{leave(2), leave(36)},
		})
		return nil
	}
	h.run()
	id := h.acceptAt("forum/1", "forum.post")
	h.planned(id)
	if !changed {
		t.Fatal("the plan had no second page")
	}
	var want []string
	for _, n := range even {
		if n != 36 { // left before her page was made
			want = append(want, person(n))
		}
		if n == 30 {
			want = append(want, person(31)) // joined before hers was
		}
	}
	if diff := cmp.Diff(want, h.told(id)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// However many events wait for a long plan, memory holds no more of them than
// two queues, and the rest is found in the table.
func TestWaitingForALongPlanIsBounded(t *testing.T) {
	g := &gated{DB: sqlite(t)}
	h := newHouse(t, g.DB, func(p *PlannerOptions, d *DispatcherOptions) {
		paged(2, 2, g)(p, d)
		p.Workers, p.Queue = 1, 8
	})
	h.forum("sub_forum", "forum.*", upTo(7)...)
	h.forum("sub_small", "course.*", 1)
	release := make(chan struct{})
	started := make(chan struct{})
	g.before = func(p *belfry.PlanPage) error {
		if p.From != "" {
			select {
			case <-started:
			default:
				close(started)
			}
			<-release
		}
		return nil
	}
	h.run()
	ids := []string{h.acceptAt("forum/1", "forum.post")}
	<-started
	for range 40 {
		ids = append(ids, h.acceptAt("forum/1", "course.updated"))
	}
	h.plan.mu.Lock()
	held := len(h.plan.held)
	h.plan.mu.Unlock()
	if held > 1+2*8 {
		t.Errorf("%d events are in memory", held)
	}
	close(release)
	h.planned(ids...)
	h.stop()
	if got := slices.Compact(g.order()); !slices.Equal(got, ids) {
		t.Errorf("planned in the order %v\nwant %v", got, ids)
	}
}

package pipeline

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// settable is a clock that a test sets.
type settable struct {
	mu sync.Mutex
	at time.Time
}

func (s *settable) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *settable) set(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
}

// mailbox keeps the messages of digests by address.
type mailbox struct {
	mu   sync.Mutex
	got  map[string][]*belfry.Message
	fail int // so many sends fail first
}

func (b *mailbox) respond(_ context.Context, t channel.Target, m *belfry.Message) belfry.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail > 0 {
		b.fail--
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "not now"}
	}
	b.got[t.Address] = append(b.got[t.Address], m)
	return belfry.Outcome{Kind: belfry.OutcomeDelivered}
}

func (b *mailbox) of(address string) []*belfry.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got[address])
}

// postHouse is a house whose clock is set and whose mail is kept.
func postHouse(t *testing.T, db *store.DB) (*house, *settable, *mailbox) {
	t.Helper()
	c := &settable{at: time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC)} // a Saturday
	box := &mailbox{got: map[string][]*belfry.Message{}}
	h := newHouse(t, db, func(p *PlannerOptions, d *DispatcherOptions) {
		p.Now, d.Now = c.now, c.now
		d.Composer.(*Messages).now = c.now
	})
	h.r.respond = box.respond
	return h, c, box
}

// join makes a subscription to a type that users joined, each with a frequency.
func (h *house) join(typ string, frequency *belfry.Frequency, users ...string) string {
	id := "sub_" + strings.ReplaceAll(typ, ".", "_")
	ch := belfry.Changes{Subscriptions: []belfry.Subscription{{ID: id, Title: "News of " + typ, Types: []string{typ}, State: belfry.SubscriptionActive, Created: clock(),
		Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{}}}, Notify: []belfry.Notify{{Channels: []string{"email"}}}}}}
	for _, u := range users {
		ch.Members = append(ch.Members, belfry.Member{Subscription: id, Principal: u, Frequency: frequency, Since: clock()})
	}
	h.apply(ch)
	return id
}

func (h *house) people(users ...belfry.User) {
	for i := range users {
		users[i].State = belfry.UserActive
		if users[i].Email == "" {
			users[i].Email = strings.ReplaceAll(users[i].ID, "/", "") + "@example.org"
		}
	}
	h.apply(belfry.Changes{Users: users})
}

// allPlanned waits until nothing is pending to be planned.
func (h *house) allPlanned() {
	h.t.Helper()
	h.until("everything is planned", func() bool {
		st, err := h.db.Stats(context.Background())
		return err == nil && st.Tenants[belfry.DefaultTenant].PendingPlans == 0
	})
}

func (h *house) until(what string, holds func() bool) {
	h.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			h.t.Fatal("not within half a minute: " + what)
		}
	}
}

// Weekly digest of a course for a user in São Paulo, on Monday at eight.
//
// feature: CPS-23, S3-4, S3-9, S3-12, PEER-9
func TestDigestWeekly(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u12", TimeZone: "America/Sao_Paulo"}, belfry.User{ID: "u13"})
	weekly := &belfry.Frequency{Every: belfry.Weekly, Weekday: "monday", At: "08:00"}
	h.apply(belfry.Changes{Objects: []belfry.Object{{ID: "course/1", Type: "course", Title: "PHY101"}}})
	id := h.join("course.*", weekly, "u12", "u13")
	h.run()
	h.accept(2, "course.updated")
	h.accept(1, "course.created")
	h.allPlanned()
	c.set(time.Date(2026, 5, 11, 10, 59, 59, 0, time.UTC)) // u13, in UTC, is due
	h.until("u13 is told", func() bool { return len(box.of("u13@example.org")) == 1 })
	if n := len(box.of("u12@example.org")); n != 0 {
		t.Fatalf("u12 is told before eight o'clock, %d times", n)
	}
	c.set(time.Date(2026, 5, 11, 11, 0, 0, 0, time.UTC))
	h.until("u12 is told", func() bool { return len(box.of("u12@example.org")) == 1 })
	h.drained()
	m := box.of("u12@example.org")[0]
	if m.Subject != "News of course.* · Weekly digest: 1 new, 2 updated" || m.ListID != id+".x.example" || !strings.Contains(m.Unsubscribe, "u12") {
		t.Errorf("subject %q, list %q, unsubscribe %q", m.Subject, m.ListID, m.Unsubscribe)
	}
	for _, part := range []string{"New\n---\n", "Updated\n-------\n", "PHY101"} {
		if !strings.Contains(m.Text, part) {
			t.Errorf("without %q:\n%s", part, m.Text)
		}
	}
	if n := strings.Count(m.HTML, "<section"); n != 3 {
		t.Errorf("%d entries:\n%s", n, m.HTML)
	}
	// No news, no message.
	c.set(time.Date(2026, 5, 25, 12, 0, 0, 0, time.UTC))
	h.drained()
	if _, ok, err := h.db.NextBundle(context.Background(), belfry.DefaultTenant, nil); ok || err != nil {
		t.Errorf("something is due without news: %v, %v", ok, err)
	}
	if n := len(box.of("u12@example.org")); n != 1 {
		t.Errorf("u12 is told %d times", n)
	}
}

// What quiet hours hold is told in one message when they end, what is urgent at
// once; one thing alone is told as ever.
//
// feature: NEW-5
func TestQuietHours(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1", TimeZone: "Europe/Lisbon"}, belfry.User{ID: "u2", TimeZone: "Europe/Lisbon"})
	night := belfry.Settings{Quiet: &belfry.Window{From: "22:00", To: "07:00"}}
	h.apply(belfry.Changes{Settings: []belfry.UserSettings{{User: "u1", Settings: night}, {User: "u2", Settings: night}},
		Documents: []belfry.Document{{Kind: belfry.KindEventType, ID: "alarm.raised", Body: []byte(`{"name":"alarm.raised","urgent":true}`)}}})
	h.join("course.updated", nil, "u1", "u2")
	h.join("alarm.raised", nil, "u1")
	h.join("post.created", nil, "u1")
	c.set(time.Date(2026, 5, 9, 22, 30, 0, 0, time.UTC))
	h.run()
	h.accept(1, "course.updated")
	h.accept(1, "post.created")
	h.accept(1, "alarm.raised")
	h.allPlanned()
	h.until("the alarm is told", func() bool { return len(box.of("u1@example.org")) == 1 })
	if s := box.of("u1@example.org")[0].Subject; !strings.Contains(s, "Alarm") && !strings.Contains(s, "alarm") {
		t.Errorf("told in quiet hours: %q", s)
	}
	c.set(time.Date(2026, 5, 10, 6, 0, 0, 0, time.UTC))
	h.until("the night is over", func() bool { return len(box.of("u1@example.org")) == 2 && len(box.of("u2@example.org")) == 1 })
	h.drained()
	if s := box.of("u1@example.org")[1].Subject; s != "While you were away: 1 new, 1 updated" {
		t.Errorf("what was held: %q", s)
	}
	if s := box.of("u2@example.org")[0].Subject; strings.Contains(s, "away") {
		t.Errorf("one thing alone: %q", s)
	}
}

// Each item is looked at again as it is sent; what is left out has its reason,
// and where nothing is left nothing is sent.
//
// feature: S3-11, S3-18, NEW-4, S3-9
func TestDigestRechecks(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1"}, belfry.User{ID: "u2"})
	daily := &belfry.Frequency{Every: belfry.Daily}
	ended := h.join("course.updated", daily, "u1", "u2")
	h.join("post.created", daily, "u1")
	h.run()
	course := h.accept(1, "course.updated")[0]
	post := h.accept(1, "post.created")[0]
	h.allPlanned()
	h.apply(belfry.Changes{OptOuts: []belfry.OptOut{{Subscription: ended, Who: "u1", Since: clock()}, {Subscription: ended, Who: "u2", Since: clock()}}})
	c.set(c.now().Add(24 * time.Hour))
	h.until("u1 is told of the rest", func() bool { return len(box.of("u1@example.org")) == 1 })
	h.drained()
	if s := box.of("u1@example.org")[0].Subject; !strings.Contains(s, "post.created · Daily digest") {
		t.Errorf("subject %q", s)
	}
	if n := len(box.of("u2@example.org")); n != 0 {
		t.Errorf("u2 is told %d times of nothing", n)
	}
	answer := func(event, user string) belfry.AnswerPerson {
		t.Helper()
		a, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: event, Principal: user})
		if err != nil || len(a.People) != 1 {
			t.Fatalf("%+v, %v", a.People, err)
		}
		return a.People[0]
	}
	if p := answer(course, "u1"); p.Outcome != belfry.NotTold || p.Because[len(p.Because)-1].Code != belfry.OptedOut {
		t.Errorf("left out: %+v", p)
	}
	if p := answer(course, "u2"); p.Outcome != belfry.NotTold {
		t.Errorf("nothing left: %+v", p)
	}
	p := answer(post, "u1")
	if last := p.Because[len(p.Because)-1]; p.Outcome != belfry.Told || last.Code != belfry.InDigest || !strings.Contains(last.Detail, "daily at 08:00, chosen when joining") {
		t.Errorf("told: %+v", p)
	}
}

// What may be seen is asked for each place and type of what is in a digest, not
// once for all of it.
//
// feature: S3-18, NEW-4
func TestDigestSeesEachPlaceAndType(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1"})
	daily := &belfry.Frequency{Every: belfry.Daily}
	h.join("course.updated", daily, "u1")
	h.join("post.created", daily, "u1")
	h.run()
	want := map[string]string{
		h.acceptAt("course/1", "course.updated"): belfry.InDigest,
		h.acceptAt("course/2", "course.updated"): belfry.ObjectHidden,
		h.acceptAt("course/1", "post.created"):   belfry.MayNotSee,
		h.acceptAt("course/3", "course.updated"): belfry.InDigest,
	}
	h.allPlanned()
	h.apply(belfry.Changes{Objects: []belfry.Object{{ID: "course/2", Type: "course", Hidden: true}}})
	h.setting(belfry.KindEventType, "post.created", belfry.EventType{Name: "post.created", SeeRoles: []string{"teacher"}})
	c.set(c.now().Add(24 * time.Hour))
	h.until("u1 is told of what she may see", func() bool { return len(box.of("u1@example.org")) == 1 })
	h.drained()
	for event, code := range want {
		a, err := h.ex.Trace(context.Background(), belfry.DefaultTenant, belfry.TraceQuery{EventID: event, Principal: "u1"})
		if err != nil || len(a.People) != 1 {
			t.Fatalf("%+v, %v", a.People, err)
		}
		because := a.People[0].Because
		if last := because[len(because)-1]; last.Code != code {
			t.Errorf("of %s %s: %+v, want %s", a.Event.Type, a.Event.Object, last, code)
		}
	}
}

// A send that fails is tried again under the same id with the same items.
//
// feature: NEW-11, CPS-23
func TestDigestRetries(t *testing.T) {
	h, c, box := postHouse(t, sqlite(t))
	h.people(belfry.User{ID: "u1"})
	h.join("course.updated", &belfry.Frequency{Every: belfry.Daily, Clock: belfry.ClockElapsed}, "u1")
	h.run()
	h.accept(1, "course.updated")
	h.until("the first goes at once", func() bool { return len(box.of("u1@example.org")) == 1 })
	h.drained()
	h.accept(2, "course.updated")
	h.allPlanned()
	box.mu.Lock()
	box.fail = 1
	box.mu.Unlock()
	c.set(c.now().Add(24 * time.Hour))
	var id string
	h.until("the send fails", func() bool {
		list, _, err := h.db.ListDeliveries(context.Background(), belfry.DefaultTenant, store.DeliveryFilter{})
		for _, d := range list {
			if d.State == belfry.Retrying {
				id = d.ID
			}
		}
		return err == nil && id != ""
	})
	h.accept(1, "course.updated") // goes into the next
	h.allPlanned()
	c.set(c.now().Add(time.Minute))
	h.until("it is tried again", func() bool { return len(box.of("u1@example.org")) == 2 })
	h.drained()
	m := box.of("u1@example.org")[1]
	if m.ID != id || !strings.Contains(m.Subject, "2 updated") {
		t.Errorf("sent as %s, want %s: %q", m.ID, id, m.Subject)
	}
}

// dying is a store on which the process dies at one of its calls: before it is
// done, or after.
type dying struct {
	*store.DB
	mu    sync.Mutex
	calls int
	at    int // dies at this call; 0 = never
	after bool
	dead  chan struct{}
	once  sync.Once
}

var errDead = belfry.Errorf(belfry.Conflict, "the process is dead")

// step counts a call; false = the process is dead.
func (d *dying) step() (ok, dies bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	return d.at == 0 || d.calls < d.at || d.after && d.calls == d.at, d.at != 0 && d.calls >= d.at
}

func die[T any](d *dying, call func() (T, error)) (T, error) {
	ok, dies := d.step()
	var v T
	err := error(errDead)
	if ok {
		v, err = call()
	}
	if dies {
		d.once.Do(func() { close(d.dead) })
		var none T
		return none, errDead
	}
	return v, err
}

func (d *dying) CommitPlans(ctx context.Context, pages []belfry.PlanPage) ([]error, error) {
	return die(d, func() ([]error, error) { return d.DB.CommitPlans(ctx, pages) })
}

func (d *dying) SealBundles(ctx context.Context, seals []belfry.Seal) ([]bool, error) {
	return die(d, func() ([]bool, error) { return d.DB.SealBundles(ctx, seals) })
}

func (d *dying) Regather(ctx context.Context, list []belfry.Regather, done []belfry.Look) error {
	_, err := die(d, func() (bool, error) { return true, d.DB.Regather(ctx, list, done) })
	return err
}

func (d *dying) RecordAttempts(ctx context.Context, as []belfry.Attempt) ([]bool, error) {
	return die(d, func() ([]bool, error) { return d.DB.RecordAttempts(ctx, as) })
}

// Whenever the process dies, and whatever people choose while it plans, decides
// anew and seals, each item is in exactly one sealed digest, and the only repeat
// is the same items under the same id.
//
// feature: NEW-11, CPS-23
func TestDigestsSurviveDeath(t *testing.T) {
	for _, engine := range []struct {
		name string
		open func(testing.TB) *store.DB
		at   []int // which call it dies at
	}{
		{"SQLite", storetest.SQLite, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		{"PostgreSQL", storetest.Postgres, []int{2, 3, 4}},
	} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			for _, at := range engine.at {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("%d after=%v", at, after), func(t *testing.T) { surviveDeath(t, engine.open(t), at, after) })
				}
			}
		})
	}
}

func surviveDeath(t *testing.T, db *store.DB, at int, after bool) {
	const users, rounds = 3, 3
	c := &settable{at: time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC)}
	var mu sync.Mutex
	got := map[string]string{} // message id -> what it said
	times := regexp.MustCompile(`\d+ \w+ \d{4}, \d+:\d+ \S+`)
	start := func(at int) (*house, *dying) {
		dy := &dying{DB: db, at: at, after: after, dead: make(chan struct{})}
		h := newHouse(t, db, func(p *PlannerOptions, d *DispatcherOptions) {
			p.Store, d.Store = dy, dy
			p.Now, d.Now = c.now, c.now
			d.Composer.(*Messages).now = c.now
			d.Grace = time.Millisecond
		})
		h.seal.o.Store = dy
		h.r.respond = func(_ context.Context, tg channel.Target, m *belfry.Message) belfry.Outcome {
			mu.Lock()
			defer mu.Unlock()
			said := times.ReplaceAllString(m.Text, "at some time") // her zone may have changed between
			if text, again := got[m.ID]; again && text != said {
				t.Errorf("%s was sent as\n%s\nand then as\n%s", m.ID, text, said)
			}
			got[m.ID] = said
			return belfry.Outcome{Kind: belfry.OutcomeDelivered}
		}
		return h, dy
	}
	h, dy := start(at)
	if h.subs.Load(context.Background(), belfry.DefaultTenant) != nil {
		t.Fatal("subscriptions cannot be loaded")
	}
	names := []string{}
	var people []belfry.User
	for u := range users {
		id := fmt.Sprintf("u%d", u)
		names = append(names, id)
		people = append(people, belfry.User{ID: id})
	}
	h.people(people...)
	id := h.join("course.updated", &belfry.Frequency{Every: belfry.Daily}, names...)
	chosen := []belfry.Frequency{{Every: belfry.Hourly}, {Every: belfry.Weekly}, {Every: belfry.Daily, Clock: belfry.ClockElapsed}, {Every: belfry.Monthly}, {Every: belfry.Daily, At: "12:00"}}
	// choose lets everybody choose anew, in several edits.
	choose := func(round int) {
		for u, name := range names {
			f := &chosen[(round*users+u)%len(chosen)]
			h.apply(belfry.Changes{Members: []belfry.Member{{Subscription: id, Principal: name, Frequency: f, Since: clock()}}})
		}
		who := names[round%users]
		h.apply(belfry.Changes{Users: []belfry.User{{ID: who, Email: who + "@example.org", State: belfry.UserActive, TimeZone: []string{"Asia/Kathmandu", "America/Sao_Paulo"}[round%2]}}})
		h.apply(belfry.Changes{Settings: []belfry.UserSettings{{User: who, Settings: belfry.Settings{DigestAt: "07:15", Quiet: &belfry.Window{From: "22:00", To: "07:00"}}}}})
	}
	revive := func() {
		select {
		case <-dy.dead:
			h.stop()
			h, dy = start(0)
			if err := h.subs.Load(context.Background(), belfry.DefaultTenant); err != nil {
				t.Fatal(err)
			}
			h.run()
		default:
		}
	}
	h.run()
	var last []belfry.Bundle // as the test saw them
	t.Cleanup(func() {
		for _, b := range last {
			if t.Failed() && b.State != belfry.BundleSent {
				t.Logf("at %v: %+v", c.now(), b)
			}
		}
	})
	var events []string
	for round := range rounds {
		events = append(events, h.accept(2, "course.updated")...)
		choose(round) // while it is planned
		settle := func(what string, holds func() bool) {
			h.until(what, func() bool { revive(); return holds() })
		}
		settle("planned", func() bool {
			st, err := db.Stats(context.Background())
			return err == nil && st.Tenants[belfry.DefaultTenant].PendingPlans == 0
		})
		choose(round + 1) // while it waits
		c.set(c.now().Add(40 * 24 * time.Hour))
		choose(round + 2) // while it falls due
		settle("sent", func() bool {
			c.set(c.now().Add(25 * time.Hour)) // months end, and quiet hours, which move through the day
			// Read of the table: figures in memory follow a commit a moment later.
			list, _, err := db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{Limit: 1000})
			last = list
			return err == nil && len(list) > 0 && !slices.ContainsFunc(list, func(b belfry.Bundle) bool { return b.State != belfry.BundleSent })
		})
		revive()
	}
	h.stop()
	list, _, err := db.ListBundles(context.Background(), belfry.DefaultTenant, store.BundleFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	messages := map[string]bool{}
	for _, b := range list {
		if b.State != belfry.BundleSent {
			t.Errorf("bundle %s is %s", b.ID, b.State)
		}
		messages[b.Message] = true
		items, err := db.BundleItems(context.Background(), belfry.DefaultTenant, []string{b.ID}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items[b.ID] {
			seen[it.EventID]++
		}
	}
	for _, e := range events {
		if seen[e] != users {
			t.Errorf("%s is in %d digests, want one of each of %d people", e, seen[e], users)
		}
	}
	for id := range got {
		if !messages[id] {
			t.Errorf("%s was sent and is no digest's", id)
		}
	}
	if len(got) != len(messages) {
		t.Errorf("%d messages went, of %d digests", len(got), len(messages))
	}
}

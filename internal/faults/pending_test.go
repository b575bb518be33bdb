//go:build linux

package faults_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/belfryhq/belfry/internal/testdb"
)

// Killed at any moment while much is pending, every digest has its items under
// one Message-ID for good, however often those it is for choose to be told,
// conditions are met as often as they are and each
// time is told once, each step of an escalation is taken once, a throttle lets
// through what it is to and no more, who cannot be told by one channel is told
// once by another, and a paused subscription stays paused and keeps what waited
// for it.
// feature: NEW-10, NEW-11, NEW-6, NEW-12, CPS-23
func TestKilledWithMuchPending(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 20*time.Millisecond)
		h := newHome(t, mailed(office)...)
		pendingRounds(t, h, office, 1, 10)
		sound(t, filepath.Join(h.dir, "belfry.db"))
	})
	t.Run("two nodes", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 20*time.Millisecond)
		h := newHome(t, append(append(onPostgres(testdb.Postgres(t)), mailed(office)...), "BELFRY_NODES_LEASE="+lease.String())...)
		pendingRounds(t, h, office, 2, 4)
	})
}

func mailed(o *postOffice) []string {
	return []string{"BELFRY_CHANNELS_EMAIL_URL=" + o.url, "BELFRY_CHANNELS_EMAIL_FROM=belfry@example.org"}
}

// digestsDue makes an hour pass for the digests that are open. Of SQLite it is
// asked while the program is dead.
func (h *home) digestsDue() {
	h.t.Helper()
	dsn := h.dsn
	if h.driver == "sqlite" {
		dsn = "file:" + filepath.Join(h.dir, "belfry.db") + "?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(h.driver, dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	// The program works on some of them meanwhile, in an order that this knows
	// nothing of: PostgreSQL may have it give way.
	for tries := 0; ; tries++ {
		_, err := db.Exec("UPDATE bundles SET due = $1 WHERE state = 0", time.Now().UnixMicro())
		if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "40P01" && tries < 10 {
			continue
		}
		if err != nil {
			h.t.Fatal(err)
		}
		return
	}
}

// none waits until a count of the database is zero.
func (p *process) none(what, query string) {
	p.t.Helper()
	db, err := sql.Open(p.home.driver, p.home.dsn)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	await(p.t, patience, "without "+what, func() (bool, string) {
		p.alive()
		var n int
		if err := db.QueryRow(query).Scan(&n); err != nil {
			return false, err.Error()
		}
		return n == 0, fmt.Sprintf("%d %s", n, what)
	})
}

const (
	needed  = 5 // events to meet the condition
	windows = 3 // groups of it
)

func pendingRounds(t *testing.T, h *home, office *postOffice, nodes, short int) {
	f := newFleet(t, h, nodes)
	p, l, chance := f.ps[0], f.l, f.chance
	people := []string{"gus", "hilda", "jon", "kim", "lea", "max", "nat"}
	for _, id := range people {
		p.call(http.MethodPut, "/v1/users/"+id, map[string]string{"name": id, "email": id + "@example.org"}, nil)
	}
	p.call(http.MethodPut, "/v1/templates/words", map[string]string{"subject": "It", "body": tokenTemplate}, nil)
	subscribe := func(sub map[string]any, channels []string, users ...string) (id string) {
		t.Helper()
		if users != nil {
			sub["recipients"] = []any{map[string]any{"explicit": map[string]any{"users": users}}}
			sub["notify"] = []any{map[string]any{"channels": channels, "template": "words"}}
		}
		var made struct{ ID string }
		p.call(http.MethodPost, "/v1/subscriptions", sub, &made)
		return made.ID
	}
	subscribe(map[string]any{"types": []string{"news"}, "frequency": "hourly"}, []string{"email"}, "gus", "hilda")
	counts := map[string]any{"count": needed, "within": "24h", "group_by": "event.object"}
	if nodes > 1 {
		// What one node accepted is overtaken by what another did, when that one
		// plans both and has not heard of the first yet, or never does: its node
		// died. A look at the table finds it, every five seconds.
		counts["wait"] = "10s"
	}
	watch := subscribe(map[string]any{"types": []string{"tick"}, "condition": counts}, []string{"inbox"}, "jon")
	subscribe(map[string]any{"types": []string{"alarm"}, "acknowledge": map[string]any{"escalate": []any{
		map[string]any{"after": "1s", "users": []string{"lea"}, "channels": []string{"inbox"}},
		map[string]any{"after": "1s", "users": []string{"max"}, "channels": []string{"inbox", "email"}},
	}}}, []string{"inbox"}, "kim")
	p.call(http.MethodPut, "/v1/users/oto", map[string]string{"name": "oto", "email": refusedFor + "oto@example.org"}, nil)
	subscribe(map[string]any{"types": []string{"chat"}, "throttle": map[string]any{"limit": 1, "window": "24h", "key": "event.object"}}, []string{"inbox", "email"}, "nat")
	subscribe(map[string]any{"types": []string{"chat"}, "fallback": []string{"inbox"}}, []string{"email"}, "oto")
	r := newReceiver(t, "paused", flaky)
	var ep struct{ ID string }
	p.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": r.URL, "rate_per_second": 50, "schedule": slices.Repeat([]string{"300ms"}, 10)}, &ep)
	noted := subscribe(map[string]any{"types": []string{"note"}, "notify": []any{map[string]any{"endpoint": ep.ID}}}, nil)

	one := func(object string) func(int) string { return func(int) string { return object } }
	many := func(n int) string { return "o/" + itoa(n%7) }
	// Of more than 500 items a digest says how many more there are.
	news := []*stream{{typ: "news", object: many, pace: 80 * time.Millisecond}, {typ: "news", object: many, pace: 80 * time.Millisecond}}
	var ticks []*stream
	for i := range windows {
		ticks = append(ticks, &stream{typ: "tick", object: one("w/" + itoa(i)), pace: 20 * time.Millisecond})
	}
	alarms := &stream{typ: "alarm", object: many, pace: 80 * time.Millisecond}
	notes := &stream{typ: "note", object: many, pace: 12 * time.Millisecond}
	chats := &stream{typ: "chat", object: func(n int) string { return "c/" + itoa(n/3) }, pace: 70 * time.Millisecond}
	end := f.send(append(append(slices.Clone(news), ticks...), alarms, notes, chats)...)

	// spans of a pause: asked for and answered, and its end likewise.
	type span struct{ from, paused, resumed, to time.Time }
	var pauses []span
	paused := func() bool { return len(pauses) > 0 && pauses[len(pauses)-1].to.IsZero() }
	toggle := func(p *process) {
		t.Helper()
		// What is accepted and not planned at such a moment, as when the node that
		// had it has just died, goes by what holds when it is planned: what is
		// accepted from here until the answer is of neither side.
		at := time.Now()
		if all := notes.all(); len(all) > 0 {
			p.none("plans of before the pause or its end", "SELECT count(*) FROM plans WHERE event_id <= '"+all[len(all)-1].evt+"'")
		}
		if !paused() {
			p.call(http.MethodPost, "/v1/subscriptions/"+noted+"/pause", nil, nil)
			pauses = append(pauses, span{from: at, paused: time.Now()})
			return
		}
		p.call(http.MethodPost, "/v1/subscriptions/"+noted+"/resume", nil, nil)
		pauses[len(pauses)-1].resumed, pauses[len(pauses)-1].to = at, time.Now()
	}
	// choose has somebody told in another way from now on, also of what waits.
	choose := func(p *process, who string, round int, sure bool) {
		body, err := json.Marshal([]any{map[string]any{"type": "news", "frequency": []string{"daily", "immediate", "weekly", "hourly", "monthly"}[round%5]}})
		if err != nil {
			t.Error(err)
			return
		}
		// While it dies the answer may be lost.
		a, err := do(&http.Client{Timeout: 10 * time.Second}, http.MethodPut, p.url+"/v1/users/"+who+"/preferences", "application/json", bytes.NewReader(body))
		if sure && (err != nil || a.status != http.StatusOK) {
			t.Errorf("choosing anew: %v, %v", a, err)
		}
	}
	for round := range rounds(t, short) {
		choose(f.ps[0], "gus", round, true)
		if round%2 == 1 { // a pause begins in one of these and ends in the next
			toggle(f.ps[0])
		}
		if h.driver != "sqlite" {
			h.digestsDue()
		}
		if round%2 == 0 { // while a letter is on its way, or was just taken
			office.comes(7 * time.Second)
			<-time.After(time.Duration(chance.Int64N(int64(2 * office.takes))))
		} else {
			<-time.After(time.Duration(chance.Int64N(int64(900 * time.Millisecond))))
		}
		var choosing sync.WaitGroup
		f.die(func(p *process) { choosing.Go(func() { choose(p, "hilda", round, false) }) }, func() {
			choosing.Wait()
			if h.driver == "sqlite" {
				h.digestsDue()
			}
		})
	}
	end()
	p = f.ps[0]
	if paused() {
		toggle(p)
	}
	p.idle()
	p.none("looks at conditions", "SELECT count(*) FROM condition_groups WHERE low < 9223372036854775807")
	p.none("steps of escalations", "SELECT count(*) FROM timers")
	p.none("plans", "SELECT count(*) FROM plans")
	p.none("digests to be decided anew", "SELECT count(*) FROM bundle_looks")
	if h.driver == "sqlite" {
		f.die(nil, h.digestsDue)
		p = f.ps[0]
	} else {
		h.digestsDue()
	}
	p.none("open digests", "SELECT count(*) FROM bundles WHERE state = 0")
	p.none("digests to send", "SELECT count(*) FROM bundles WHERE state = 1")
	p.idle()
	deaths := f.deaths

	var wrong faultList
	// Digests.
	var items []string
	for _, s := range news {
		items = append(items, ids(s.all())...)
	}
	digests, again := 0, 0
	for _, who := range []string{"gus", "hilda"} {
		n, r := office.once(&wrong, who+"@example.org", items, deaths)
		digests, again = digests+n, again+r
	}
	// Conditions: every fifth of a group meets it.
	type met struct {
		EventID string `json:"event_id"`
		Data    struct {
			Subscription, Group string
			Firing, Count       int
			Events              []string
		}
	}
	firings := map[string]map[int]met{}
	fired := map[string]int{} // by the event that says so
	for _, m := range list[met](p, "/v1/events?type=belfry.condition_met") {
		if m.Data.Subscription != watch {
			continue
		}
		if firings[m.Data.Group] == nil {
			firings[m.Data.Group] = map[int]met{}
		}
		if _, twice := firings[m.Data.Group][m.Data.Firing]; twice {
			wrong.add("group %s was met twice for time %d", m.Data.Group, m.Data.Firing)
		}
		firings[m.Data.Group][m.Data.Firing] = m
		fired[m.EventID] = 0
	}
	counted := 0
	for _, s := range ticks {
		all := s.all()
		counted += len(all)
		of := firings[all[0].object]
		if len(of) != len(all)/needed {
			wrong.add("group %s was met %d times by %d events, want %d", all[0].object, len(of), len(all), len(all)/needed)
		}
		for n := range len(all) / needed {
			var want []string
			for _, e := range all[n*needed : (n+1)*needed] {
				want = append(want, e.evt)
			}
			if got := of[n+1].Data.Events; !slices.Equal(got, want) {
				wrong.add("group %s was met for time %d by %v, want %v", all[0].object, n+1, got, want)
			}
		}
	}
	for _, row := range list[struct{ Event string }](p, "/v1/users/jon/inbox") {
		fired[row.Event]++
	}
	for evt, n := range fired {
		if n != 1 {
			wrong.add("jon was told %d times of the firing %s", n, evt)
		}
	}
	// Escalations.
	inbox := func(who string, events []told) {
		t.Helper()
		rows := map[string]int{}
		for _, row := range list[struct{ Event string }](p, "/v1/users/"+who+"/inbox") {
			rows[row.Event]++
		}
		for _, e := range events {
			if rows[e.evt] != 1 {
				wrong.add("%s has %d inbox rows of %s (%s)", who, rows[e.evt], e.id, e.evt)
			}
			delete(rows, e.evt)
		}
		if len(rows) > 0 {
			wrong.add("%s was told of what is not for them: %v", who, rows)
		}
	}
	for _, who := range []string{"kim", "lea", "max"} {
		inbox(who, alarms.all())
	}
	_, called := office.once(&wrong, "max@example.org", ids(alarms.all()), deaths)
	// The throttle and the other way: of three at a place one is mailed.
	for _, who := range []string{"nat", "oto"} {
		inbox(who, chats.all())
	}
	mailed := map[string]bool{}
	for _, letter := range office.to("nat@example.org") {
		for _, id := range letter.events() {
			mailed[id] = true
		}
	}
	var through []string
	for three := range slices.Chunk(ids(chats.all()), 3) {
		// Of several nodes' it may be another: see the condition above.
		if i := slices.IndexFunc(three, func(id string) bool { return mailed[id] }); nodes > 1 && i > 0 {
			three = three[i:]
		}
		through = append(through, three[0])
	}
	_, chatted := office.once(&wrong, "nat@example.org", through, deaths)
	// The pause.
	got := r.received()
	apart := 0 // events that are certainly within or without a pause
	for _, e := range notes.all() {
		in, out := false, true
		for _, s := range pauses {
			in = in || e.asked.After(s.paused) && e.answered.Before(s.resumed)
			out = out && (e.answered.Before(s.from) || e.asked.After(s.to))
		}
		switch n := got[e.id]; {
		case in && n != 0:
			wrong.add("note %s came %d times, and was accepted during the pause", e.id, n)
		case out && n != 1:
			wrong.add("note %s came under %d webhook-ids, want one", e.id, n)
		case n > 1:
			wrong.add("note %s came under %d webhook-ids", e.id, n)
		}
		if in || out {
			apart++
		}
	}
	repeated := 0
	for _, again := range r.repeats() {
		if repeated++; excuse(deaths, again) < 0 {
			wrong.add("note %s came at %v and at %v, and nobody had died between", again.event, again.first.at, again.second.at)
		}
	}
	r.mu.Lock()
	for id, hit := range r.hits {
		for _, a := range hit.arrivals {
			for _, s := range pauses {
				// What was being sent, or on another node had been looked at.
				if a.at.After(s.paused.Add(500*time.Millisecond)) && a.at.Before(s.resumed) {
					wrong.add("note %s (%s) came %v into a pause", hit.event, id, a.at.Sub(s.paused))
				}
			}
		}
	}
	r.mu.Unlock()
	wrong.tell(t)
	t.Logf("%d deaths; %d items in %d digests of two people, %d sent again; %d ticks, %d firings; %d alarms of two steps, %d mails again; %d chats, %d mails again; %d notes (%d beyond doubt) and %d pauses, %d webhooks again; %d letters torn; %s",
		len(deaths), len(items), digests, again, counted, len(fired), len(alarms.all()), called, len(chats.all()), chatted, len(notes.all()), apart, len(pauses), repeated, office.torn, l.summary())
}

func itoa(n int) string { return strconv.Itoa(n) }

// insist posts an event to one of the processes, and gives its id when it was
// accepted.
func (l *load) insist(c *http.Client, event any) string {
	raw, err := json.Marshal(event)
	if err != nil {
		l.t.Error(err)
		return ""
	}
	urls := l.url.Load().([]string)
	a, err := do(c, http.MethodPost, urls[rand.IntN(len(urls))]+"/v1/events", "application/json", bytes.NewReader(raw))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.cut++
		return ""
	}
	l.statuses[a.status]++
	var receipt struct{ IDs []string }
	switch {
	case a.status == http.StatusAccepted:
		if err := json.Unmarshal(a.body, &receipt); err != nil || len(receipt.IDs) != 1 {
			l.t.Errorf("receipt for an event: %s", a.body)
			return ""
		}
		return receipt.IDs[0]
	case a.status != http.StatusServiceUnavailable && a.status != http.StatusTooManyRequests:
		l.t.Errorf("a good event was answered %d: %s", a.status, a.body)
	}
	return ""
}

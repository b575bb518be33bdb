//go:build linux

package faults_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// Killed at any moment, a digest that waits for another day, or for its turn by a
// throttle, tells all it holds once when it may; one that a contact refuses goes on
// with the same items by the next contact, or in the inbox, once.
// feature: NEW-11, S3-20, PEER-10, PEER-12
func TestKilledWithDigestsOverLimits(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 20*time.Millisecond)
		overRounds(t, newHome(t, mailed(office)...), office, 1, 6)
	})
	t.Run("two nodes", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 20*time.Millisecond)
		overRounds(t, newHome(t, append(append(onPostgres(testdb.Postgres(t)), mailed(office)...), "BELFRY_NODES_LEASE="+lease.String())...), office, 2, 4)
	})
}

func overRounds(t *testing.T, h *home, office *postOffice, nodes, short int) {
	f := newFleet(t, h, nodes)
	p := f.ps[0]
	const mostADay = 1
	mail := func(name string) string { return name + "@example.org" }
	p.call(http.MethodPut, "/v1/users/gus", map[string]any{"name": "gus", "email": mail("gus")}, nil)
	p.call(http.MethodPut, "/v1/users/gus/settings", map[string]any{"max_per_day": map[string]int{"email": mostADay}}, nil)
	p.call(http.MethodPut, "/v1/users/nat", map[string]any{"name": "nat", "email": mail("nat")}, nil)
	p.call(http.MethodPut, "/v1/users/oto", map[string]any{"name": "oto", "email": refusedFor + mail("oto")}, nil)
	p.call(http.MethodPut, "/v1/users/pia", map[string]any{"name": "pia", "email": refusedFor + mail("pia"),
		"contacts": []any{map[string]any{"kind": "email", "address": mail("pia"), "priority": 2, "verified": true}}}, nil)
	p.call(http.MethodPut, "/v1/templates/words", map[string]string{"subject": "It", "body": tokenTemplate}, nil)
	subscribe := func(more map[string]any, users ...string) (id string) {
		t.Helper()
		sub := map[string]any{"types": []string{"news"}, "frequency": "hourly", "recipients": []any{map[string]any{"explicit": map[string]any{"users": users}}},
			"notify": []any{map[string]any{"channels": []string{"email"}, "template": "words"}}}
		for k, v := range more {
			sub[k] = v
		}
		var made struct{ ID string }
		p.call(http.MethodPost, "/v1/subscriptions", sub, &made)
		return made.ID
	}
	subscribe(map[string]any{"fallback": []string{"inbox"}}, "gus", "oto", "pia")
	throttle := map[string]any{"throttle": map[string]any{"limit": 1, "window": "24h"}}
	throttled := subscribe(throttle, "nat")
	news := &stream{typ: "news", object: func(n int) string { return "o/" + itoa(n%7) }, pace: 60 * time.Millisecond}
	end := f.send(news)
	due := func(dying bool) {
		if dying == (h.driver == "sqlite") {
			h.digestsDue()
		}
	}
	for round := range rounds(t, short) {
		due(false)
		if round%2 == 0 { // while a letter is on its way, or was just taken
			office.comes(7 * time.Second)
			<-time.After(time.Duration(f.chance.Int64N(int64(2 * office.takes))))
		} else {
			<-time.After(time.Duration(f.chance.Int64N(int64(900 * time.Millisecond))))
		}
		f.die(nil, func() { due(true) })
	}
	// How many messages somebody has had, by day.
	apart := func(who string) (n int) {
		ids := map[string]bool{}
		for _, l := range office.to(mail(who)) {
			ids[l.id+l.at.UTC().Format(time.DateOnly)] = true
		}
		return len(ids)
	}
	// A shard that changed hands in every round has told nobody yet. Both who have
	// limits are told before the last events come, so that there is what waits.
	for begun := time.Now(); apart("gus") == 0 || apart("nat") == 0; office.comes(lease) {
		if time.Since(begun) > patience {
			t.Fatalf("within %v gus has had %d messages, nat %d", patience, apart("gus"), apart("nat"))
		}
		if h.driver == "sqlite" {
			f.die(nil, h.digestsDue)
		} else {
			h.digestsDue()
		}
	}
	before := len(news.all())
	await(t, patience, "more news", func() (bool, string) { n := len(news.all()); return n > before+1, fmt.Sprint(n - before) })
	end()
	settle := func(what string) {
		t.Helper()
		f.ps[0].none("plans", "SELECT count(*) FROM plans")
		due(false)
		if h.driver == "sqlite" {
			f.die(nil, h.digestsDue)
		}
		f.ps[0].none("digests that are due "+what, fmt.Sprintf("SELECT count(*) FROM bundles WHERE state = 0 AND due < %d", time.Now().Add(time.Minute).UnixMicro()))
		f.ps[0].idle()
	}
	settle("within the limits")
	var wrong faultList
	// What is over a limit waits, and says why.
	if n := apart("gus"); n < mostADay || n > 2*mostADay { // of two days, at midnight
		wrong.add("gus has had %d messages, want %d a day", n, mostADay)
	}
	if n := apart("nat"); n != 1 {
		wrong.add("nat has had %d messages, want 1", n)
	}
	for who, code := range map[string]string{"gus": "daily_limit", "nat": "throttle_waits"} {
		type digest struct {
			Items   int
			Because *struct{ Code string }
		}
		waits := list[digest](f.ps[0], "/v1/digests?state=open&recipient="+who)
		if len(waits) != 1 || waits[0].Because == nil || waits[0].Because.Code != code {
			wrong.add("%s: %+v waits, want one for %s", who, waits, code)
		}
	}
	p = f.ps[0]
	p.call(http.MethodPut, "/v1/users/gus/settings", map[string]any{}, nil)
	p.call(http.MethodPatch, "/v1/subscriptions/"+throttled, map[string]any{"throttle": nil}, nil)
	p.none("digests to be decided anew", "SELECT count(*) FROM bundle_looks")
	settle("without limits")
	p = f.ps[0]
	p.none("open digests", "SELECT count(*) FROM bundles WHERE state = 0")
	p.none("digests to send", "SELECT count(*) FROM bundles WHERE state = 1")

	items := ids(news.all())
	var digests, again int
	for _, who := range []string{"gus", "nat", "pia"} {
		n, r := office.once(&wrong, mail(who), items, f.deaths)
		digests, again = digests+n, again+r
	}
	rows := map[string]int{}
	for _, row := range list[struct{ Event string }](p, "/v1/users/oto/inbox") {
		rows[row.Event]++
	}
	for _, e := range news.all() {
		if rows[e.evt] != 1 {
			wrong.add("oto has %d inbox rows of %s", rows[e.evt], e.id)
		}
		delete(rows, e.evt)
	}
	if len(rows) > 0 {
		wrong.add("oto was told of what is not for them: %v", rows)
	}
	wrong.tell(t)
	t.Logf("%d deaths; %d items, %d digests of three people, %d sent again; %d letters torn; %s", len(f.deaths), len(items), digests, again, office.torn, f.l.summary())
}

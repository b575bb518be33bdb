//go:build linux

package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// Killed at any moment, Belfry asks every address that was to be asked whether
// it joins, in one message, and ends the long work that was ordered: who is to
// be erased is gone everywhere, and a backtest counts everything once.
// feature: NEW-10, NEW-12
func TestKilledAmongOrders(t *testing.T) {
	t.Parallel()
	more := "BELFRY_JOINING_PER_TENANT=1000000"
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 5*time.Millisecond)
		orderRounds(t, newHome(t, append(mailed(office), more)...), office, 1, 6)
	})
	t.Run("two nodes", func(t *testing.T) {
		t.Parallel()
		office := newPostOffice(t, 5*time.Millisecond)
		orderRounds(t, newHome(t, append(append(onPostgres(testdb.Postgres(t)), mailed(office)...), more, "BELFRY_NODES_LEASE="+lease.String())...), office, 2, 3)
	})
}

func orderRounds(t *testing.T, h *home, office *postOffice, nodes, short int) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	ps := make([]*process, nodes)
	for i := range ps {
		ps[i] = h.start()
	}
	p := ps[0]
	if nodes > 1 {
		divided(t, p, nodes)
	}
	var open struct{ ID string }
	p.call(http.MethodPost, "/v1/subscriptions", map[string]any{"title": "Open", "types": []string{"open"}, "joining": map[string]string{"who": "anyone"}}, &open)
	const past, leavers = 4000, 8
	for i := range leavers {
		p.call(http.MethodPut, fmt.Sprintf("/v1/users/leaver-%d", i), map[string]string{"name": fmt.Sprint("Lee Aver ", i), "email": fmt.Sprintf("leaver-%d@example.org", i)}, nil)
	}
	for from := 0; from < past; from += 500 {
		batch := make([]map[string]any, 500)
		for i := range batch {
			batch[i] = map[string]any{"id": fmt.Sprint("p", from+i), "source": "/past", "type": "past", "actor": fmt.Sprintf("leaver-%d", (from+i)%leavers), "object": fmt.Sprint("o/", i%50)}
		}
		p.call(http.MethodPost, "/v1/events", batch, nil)
	}
	p.idle()

	l := newLoad(t, p)
	l.to(ps...)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	end := func() { stop(); wg.Wait() }
	t.Cleanup(end)
	var asked []string
	wg.Go(func() { // one address after the other; one that got no answer asks again
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil || len(asked) < n; <-tick.C {
			if n == len(asked) {
				n++
			}
			if l.asks(open.ID, n) {
				asked = append(asked, fmt.Sprintf("reader-%d@example.org", n))
			} else if ctx.Err() != nil && t.Failed() {
				return
			}
		}
	})

	draft, _ := json.Marshal(map[string]any{"draft": map[string]any{
		"types": []string{"past"}, "recipients": []any{map[string]any{"explicit": map[string]any{"users": []string{"stays"}}}},
		"notify": []any{map[string]any{"channels": []string{"inbox"}}},
	}})
	p.call(http.MethodPut, "/v1/users/stays", map[string]string{"name": "Stays"}, nil)
	type report struct{ Matched, Messages int }
	var wrong faultList
	var deaths []death
	var erasing, testing []string
	atOnce := 0
	counts := func(r report) {
		if r.Matched != past || r.Messages != past {
			wrong.add("a backtest over %d events: %+v", past, r)
		}
	}
	for round := range rounds(t, short) {
		if round < leavers {
			var job struct{ ID string }
			ps[0].call(http.MethodPost, fmt.Sprintf("/v1/users/leaver-%d/erase", round), nil, &job)
			erasing = append(erasing, job.ID)
		}
		a, err := do(client, http.MethodPost, ps[nodes-1].url+"/v1/subscriptions/backtest", "application/json", bytes.NewReader(draft))
		switch {
		case err != nil:
			t.Fatal(err)
		case a.status == http.StatusOK:
			var r report
			if err := json.Unmarshal(a.body, &r); err != nil {
				t.Fatal(err)
			}
			atOnce++
			counts(r)
		case a.status == http.StatusAccepted:
			var job struct{ ID string }
			if err := json.Unmarshal(a.body, &job); err != nil || job.ID == "" {
				t.Fatalf("no job: %s", a.body)
			}
			testing = append(testing, job.ID)
		default:
			t.Fatalf("a backtest is answered %d: %s", a.status, a.body)
		}
		<-time.After(time.Duration(chance.Int64N(int64(300 * time.Millisecond))))
		chance.Shuffle(nodes, func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
		n := 1 + chance.IntN(nodes)
		d := death{sent: time.Now()}
		for _, p := range ps[:n] {
			p.alive()
			p.kill()
		}
		d.dead = time.Now()
		deaths = append(deaths, d)
		for i := range n {
			ps[i] = h.start()
		}
		l.to(ps...)
	}
	end()
	p = ps[0]
	for i, id := range append(erasing, testing...) {
		var job struct {
			State, Error string
			Asked        json.RawMessage
			Result       report
		}
		await(t, patience, "done: "+id, func() (bool, string) {
			p.alive()
			p.call(http.MethodGet, "/v1/jobs/"+id, nil, &job)
			return job.State == "done", fmt.Sprintf("%+v", job)
		})
		if i >= len(erasing) {
			counts(job.Result)
		} else if bytes.Contains(job.Asked, []byte("leaver")) || bytes.Contains(job.Asked, []byte("Aver")) {
			wrong.add("the job that erased names whom: %s", job.Asked)
		}
	}
	p.none("messages about joining to send", "SELECT count(*) FROM asks WHERE due > 0")
	p.idle()
	again := 0
	for _, to := range asked {
		of := map[string]arrival{}
		for _, letter := range office.to(to) {
			before, twice := of[letter.id]
			if of[letter.id] = letter.arrival; !twice {
				continue
			}
			if again++; excuse(deaths, repeat{to, before, letter.arrival}) < 0 {
				wrong.add("%s was sent to %s at %v and at %v, and nobody had died between", letter.id, to, before.answered, letter.at)
			}
		}
		if len(of) != 1 {
			wrong.add("%s was asked in %d messages, want one", to, len(of))
		}
	}
	gone := map[string]bool{}
	for i := range erasing {
		who := fmt.Sprintf("leaver-%d", i)
		gone[who] = true
		if a, err := do(client, http.MethodGet, p.url+"/v1/users/"+who, "", nil); err != nil || a.status != http.StatusNotFound {
			wrong.add("%s was erased, and is there: %v, %v", who, a, err)
		}
	}
	events := list[struct{ ID, Actor string }](p, "/v1/events?type=past")
	for _, e := range events {
		if gone[e.Actor] || len(erasing) < leavers && !strings.HasPrefix(e.Actor, "leaver-") && !strings.HasPrefix(e.Actor, "erased_") {
			wrong.add("event %s was done by %q", e.ID, e.Actor)
		}
	}
	if len(events) != past {
		wrong.add("%d events are left of %d", len(events), past)
	}
	wrong.tell(t)
	t.Logf("%d deaths; %d addresses asked, %d mails again; %d people erased, %d backtests by jobs and %d at once; %s", len(deaths), len(asked), again, len(erasing), len(testing), atOnce, l.summary())
}

// asks asks for the n-th address to join, and reports whether that was answered.
func (l *load) asks(subscription string, n int) bool {
	body := fmt.Sprintf(`{"email":"reader-%d@example.org","client":"client-%d"}`, n, n)
	urls := l.url.Load().([]string)
	a, err := do(client, http.MethodPost, urls[rand.IntN(len(urls))]+"/v1/subscriptions/"+subscription+"/join", "application/json", strings.NewReader(body))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.cut++
		return false
	}
	if l.statuses[a.status]++; a.status != http.StatusAccepted && a.status != http.StatusServiceUnavailable {
		l.t.Errorf("an address that asks to join is answered %d: %s", a.status, a.body)
	}
	return a.status == http.StatusAccepted
}

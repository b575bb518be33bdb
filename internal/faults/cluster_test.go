//go:build linux

package faults_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// nodesOn is a home whose processes share a database, with a lease short enough
// to wait for.
func nodesOn(t *testing.T, settings ...string) *home {
	return newHome(t, append(append(onPostgres(testdb.Postgres(t)), "BELFRY_NODES_LEASE="+lease.String()), settings...)...)
}

const lease = 2 * time.Second

// Nodes join and leave in order under load: nothing is lost, and nothing is
// sent twice.
// feature: NEW-12, NEW-10
func TestNodesJoinAndLeave(t *testing.T) {
	for name, settings := range map[string][]string{
		"telling each other": nil,
		"not telling":        {"BELFRY_NODES_NOTIFY=false"},
	} {
		t.Run(name, func(t *testing.T) {
			h := nodesOn(t, settings...)
			first := h.start()
			a := furnish(t, first)
			l := newLoad(t, first)
			l.begin(2, 2, 20)
			for range rounds(t, 1) {
				l.grows(first, 60)
				second, third := h.start(), h.start()
				l.to(first, second, third)
				l.grows(first, 100)
				divided(t, first, 3)
				l.grows(second, 100)
				// The first, which had everything, leaves, and then another.
				for i, leaver := range []*process{first, second} {
					l.to([]*process{second, third}[i:]...)
					leaver.signal(syscall.SIGTERM)
					if code := leaver.exit(); code != 0 {
						t.Errorf("exit code %d", code)
					}
					l.grows(third, 100)
					divided(t, third, 2-i)
				}
				first = third
			}
			l.end()
			l.settle(first, a)
			l.noRepeats(a)
		})
	}
}

// divided waits until n nodes share all shards, each its part.
func divided(t *testing.T, p *process, n int) {
	t.Helper()
	await(t, patience, fmt.Sprintf("divided among %d nodes", n), func() (bool, string) {
		var table struct {
			Nodes []struct {
				ID     string
				Alive  bool
				Shards map[string]int
			}
		}
		p.call(http.MethodGet, "/v1/nodes", nil, &table)
		total := map[string]int{}
		fair := len(table.Nodes) == n
		for _, node := range table.Nodes {
			for kind, count := range node.Shards {
				total[kind] += count
				fair = fair && count >= 256/n && count <= 256/n+1
			}
		}
		return fair && total["plan"] == 256 && total["delivery"] == 256 && total["source"] == 256, fmt.Sprintf("%+v", table)
	})
}

// Any node is killed at any moment: others take over, nothing that was
// answered 202 is lost, inboxes are told once, and only webhooks that were in
// flight are repeated.
// feature: NEW-10, NEW-12
func TestNodesKilled(t *testing.T) {
	h := nodesOn(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	ps := []*process{h.start(), h.start(), h.start()}
	a := furnish(t, ps[0])
	l := newLoad(t, ps[0])
	l.to(ps...)
	l.begin(2, 2, 20)
	var deaths []death
	for range rounds(t, 4) {
		<-time.After(time.Duration(chance.Int64N(int64(2 * lease))))
		// One, or two at once.
		chance.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
		n := 1 + chance.IntN(2)
		d := death{sent: time.Now()}
		for _, p := range ps[:n] {
			p.signal(syscall.SIGKILL)
		}
		for _, p := range ps[:n] {
			p.exit()
		}
		d.dead = time.Now()
		deaths = append(deaths, d)
		l.to(ps[n:]...)
		l.grows(ps[n], 40)
		for i := range n {
			ps[i] = h.start()
		}
		l.to(ps...)
	}
	l.end()
	l.settle(ps[0], a)
	l.excused(a, deaths)
}

// A node that joins under load gets its part of what there is to do, although
// something is under way to every destination at every moment, and takes longer
// than the nodes wait for each other at once.
// feature: NEW-12
func TestJoiningNodeGetsBusyShards(t *testing.T) {
	t.Parallel()
	h := nodesOn(t)
	first := h.start()
	crowd := newReceiver(t, "crowd", func(string, int) (int, time.Duration) { return http.StatusOK, lease * 2 / 5 })
	for range crowded {
		first.subscribe(crowd.URL, []string{"load.b"})
	}
	l := newLoad(t, first)
	l.begin(1, 0, 0)
	await(t, patience, "sending to all", func() (bool, string) { _, flying := first.sends(); return flying >= crowded, fmt.Sprint(flying) })
	second := h.start()
	await(t, patience, "sending too", func() (bool, string) { n, _ := second.sends(); return n > 0, fmt.Sprint(n) })
	divided(t, first, 2)
	l.end()
	first.idle()
	if again := crowd.repeats(); len(again) > 0 {
		t.Errorf("%d events were sent twice in a hand-over in order", len(again))
	}
}

// excused holds when every repeat is of a send that a death left in flight.
func (l *load) excused(a *audience, deaths []death) {
	l.t.Helper()
	per := make([]int, len(deaths))
	for _, r := range a.receivers() {
		for _, again := range r.repeats() {
			i := excuse(deaths, again)
			if i < 0 {
				l.t.Errorf("%s got event %s twice (%v, %v) and nobody had died between them, soon after the first", r.name, again.event, again.first.at, again.second.at)
				continue
			}
			per[i]++
		}
	}
	for i, n := range per {
		if n > inFlight {
			l.t.Errorf("death %d was followed by %d repeats, and only %d sends can have been in flight", i, n, inFlight)
		}
	}
	l.t.Logf("%d deaths, repeats by death: %v", len(deaths), per)
}

// A node that is halted beyond its lease wakes up when others have its work: it
// stores nothing of what it had, sends nothing more of it than was on its way, and
// joins anew.
// feature: NEW-10, NEW-12
func TestZombieNode(t *testing.T) {
	h := nodesOn(t)
	zombie, other := h.start(), h.start()
	a := furnish(t, other)
	l := newLoad(t, other)
	l.begin(2, 2, 20)
	l.grows(other, 60)
	divided(t, other, 2)
	var halts []death
	for range rounds(t, 1) {
		d := death{sent: time.Now()}
		zombie.signal(syscall.SIGSTOP)
		divided(t, other, 1)
		l.grows(other, 40)
		woken := time.Now() // before the signal: it may send sooner than we go on
		zombie.signal(syscall.SIGCONT)
		d.dead = time.Now()
		// What was on its way when it was halted goes out when it wakes, and
		// the other node has sent it meanwhile: that belongs to the wake.
		halts = append(halts, d, death{sent: woken, dead: d.dead})
		divided(t, other, 2)
		l.grows(other, 40)
	}
	if !strings.Contains(zombie.logged(), "taken for dead") {
		t.Error("the node does not say that it was taken for dead")
	}
	l.to(zombie, other)
	l.grows(zombie, 40)
	l.end()
	l.settle(other, a)
	l.excused(a, halts)
}

// What one node answered holds for whatever any node accepts after it.
// feature: NEW-12
func TestEditsHoldOnEveryNode(t *testing.T) {
	t.Parallel()
	h := nodesOn(t)
	ps := []*process{h.start(), h.start()}
	divided(t, ps[0], 2)
	const n = 30
	for i := range n {
		here, there := ps[i%2], ps[1-i%2]
		user, typ := fmt.Sprint("u", i), fmt.Sprint("t.", i)
		here.call(http.MethodPut, "/v1/users/"+user, map[string]string{"name": user}, nil)
		here.call(http.MethodPost, "/v1/subscriptions", map[string]any{
			"types": []string{typ}, "recipients": []any{map[string]any{"explicit": map[string]any{"users": []string{user}}}},
		}, nil)
		there.call(http.MethodPost, "/v1/events", map[string]string{"source": "s", "type": typ, "object": fmt.Sprint("o/", i)}, nil)
	}
	ps[0].idle()
	for i := range n {
		if rows := list[struct{ Event string }](ps[i%2], fmt.Sprint("/v1/users/u", i, "/inbox")); len(rows) != 1 {
			t.Errorf("u%d was told %d times", i, len(rows))
		}
	}
	// A key that is taken back on one node soon opens nothing on another.
	var key struct{ ID, Key string }
	ps[0].call(http.MethodPost, "/v1/keys", map[string]any{"name": "short", "permissions": []string{"read"}}, &key)
	ask := func(p *process) int {
		r, _ := http.NewRequest(http.MethodGet, p.url+"/v1/events", bytes.NewReader(nil))
		r.Header.Set("Authorization", "Bearer "+key.Key)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if s := ask(ps[1]); s != 200 {
		t.Errorf("a new key is answered %d on the other node", s)
	}
	ps[0].call(http.MethodDelete, "/v1/keys/"+key.ID, nil, nil)
	await(t, 5*time.Second, "refused", func() (bool, string) { s := ask(ps[1]); return s == 401, fmt.Sprint(s) })
}

// Each role on a process of its own: what one accepts another plans, a third
// sends.
func TestRolesApart(t *testing.T) {
	h := nodesOn(t)
	api, plan := h.start("--roles", "api"), h.start("--roles", "plan")
	deliver := h.start("--roles", "deliver,source")
	a := furnish(t, api)
	l := newLoad(t, api)
	l.begin(1, 1, 20)
	l.grows(api, 100)
	l.end()
	l.settle(api, a)
	l.noRepeats(a)
	if got, err := do(client, http.MethodGet, plan.url+"/v1/events", "", nil); err != nil || got.status != http.StatusMisdirectedRequest {
		t.Errorf("a node without the role api answers %v, %v", got, err)
	}
	if got, err := do(client, http.MethodGet, deliver.url+"/readyz", "", nil); err != nil || got.status != http.StatusOK {
		t.Errorf("/readyz of a node without the role api: %v, %v", got, err)
	}
}

// Behind a pooler that pools transactions, which carries no LISTEN and gives
// every transaction another connection, nodes work as ever.
// feature: NEW-12
func TestNodesBehindPooler(t *testing.T) {
	direct := testdb.Postgres(t)
	h := newHome(t, append(onPostgres(testdb.Pooler(t, direct)), "BELFRY_NODES_LEASE="+lease.String(), "BELFRY_NODES_NOTIFY=false")...)
	h.dsn = direct
	first, second := h.start(), h.start()
	a := furnish(t, first)
	divided(t, first, 2)
	l := newLoad(t, first)
	l.to(first, second)
	l.begin(2, 2, 20)
	l.grows(first, 200)
	l.to(second)
	first.signal(syscall.SIGTERM)
	if code := first.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	l.grows(second, 100)
	l.end()
	l.settle(second, a)
	l.noRepeats(a)
}

//go:build linux

package faults_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// Killed at any moment, whoever took part in something has joined once and is
// told of it from that event on, who was taken out stays out however often a
// plan is made again, and who left everything is not joined any more.
// feature: NEW-12, PEER-3
func TestKilledWhileJoining(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		joinRounds(t, h, 1, 6)
		sound(t, filepath.Join(h.dir, "belfry.db"))
	})
	t.Run("two nodes", func(t *testing.T) {
		t.Parallel()
		joinRounds(t, newHome(t, append(onPostgres(testdb.Postgres(t)), "BELFRY_NODES_LEASE="+lease.String())...), 2, 3)
	})
}

func joinRounds(t *testing.T, h *home, nodes, short int) {
	f := newFleet(t, h, nodes)
	p := f.ps[0]
	people := []string{"ada", "ben", "cleo", "dora"}
	const quits = "dora"
	for _, id := range people {
		p.call(http.MethodPut, "/v1/users/"+id, map[string]string{"name": id}, nil)
	}
	var sub struct{ ID string }
	p.call(http.MethodPost, "/v1/subscriptions", map[string]any{
		"types": []string{"task.*"}, "notify": []any{map[string]any{"channels": []string{"inbox"}}}, "exclude_actor": false,
		"joining": map[string]any{"follow": []any{
			map[string]any{"types": []string{"task.created", "task.commented"}},
			map[string]any{"types": []string{"task.assigned"}, "who": "assignee"},
			map[string]any{"types": []string{"task.unassigned"}, "who": "assignee", "leave": true},
		}},
	}, &sub)
	// Four events of each object.
	doing := func(n int) (typ, actor, assignee string) {
		k := n / 4
		switch n % 4 {
		case 0:
			return "task.created", people[k%4], ""
		case 1:
			return "task.assigned", people[k%4], people[(k+1)%4]
		case 2:
			return "task.commented", people[k%4], ""
		}
		if k%3 == 0 {
			return "task.unassigned", people[k%4], people[(k+1)%4]
		}
		return "task.commented", people[(k+2)%4], ""
	}
	tasks := &stream{typ: "task", object: func(n int) string { return "t/" + itoa(n/4) }, pace: 15 * time.Millisecond}
	tasks.more = func(n int) map[string]any {
		typ, actor, assignee := doing(n)
		more := map[string]any{"type": typ, "actor": actor}
		if assignee != "" {
			more["data"] = map[string]string{"assignee": assignee}
		}
		return more
	}
	end := f.send(tasks)
	type membership struct{ Principal, Object, By string }
	members := func(p *process) []membership { return list[membership](p, "/v1/subscriptions/"+sub.ID+"/members") }
	await(t, patience, "joined by all", func() (bool, string) {
		joined := map[string]bool{}
		for _, m := range members(f.ps[0]) {
			joined[m.Principal] = true
		}
		return len(joined) == len(people), fmt.Sprint(joined)
	})
	for round := range rounds(t, short) {
		if round == 1 {
			f.ps[0].call(http.MethodPost, "/v1/subscriptions/"+sub.ID+"/leave", map[string]string{"user": quits}, nil)
		}
		<-time.After(time.Duration(f.chance.Int64N(int64(700 * time.Millisecond))))
		f.die(nil, nil)
	}
	end()
	p = f.ps[0]
	p.idle()

	var wrong faultList
	want := map[membership]bool{}
	out := map[membership]bool{} // taken out, and of two nodes perhaps before they had joined
	rows := map[string]map[string]int{}
	for _, who := range people {
		rows[who] = map[string]int{}
		for _, row := range list[struct{ Event string }](p, "/v1/users/"+who+"/inbox") {
			if rows[who][row.Event]++; rows[who][row.Event] > 1 {
				wrong.add("%s has event %s twice", who, row.Event)
			}
		}
	}
	told, events := 0, tasks.all()
	for n, e := range events {
		typ, actor, assignee := doing(n)
		m := membership{actor, e.object, "participation"}
		if assignee != "" {
			m.Principal = assignee
		}
		if typ == "task.unassigned" {
			delete(want, m)
			out[m] = true
			if nodes == 1 && rows[assignee][e.evt] != 0 {
				wrong.add("%s was told of %s, which took them out before", assignee, e.id)
			}
			continue
		}
		if m.Principal == quits {
			continue
		}
		want[m] = true
		if told++; rows[m.Principal][e.evt] != 1 {
			wrong.add("%s has %d rows of %s, by which they joined", m.Principal, rows[m.Principal][e.evt], e.id)
		}
	}
	joined := members(p)
	for _, m := range joined {
		switch {
		case m.Principal == quits:
			wrong.add("%s left everything and is a member at %s", quits, m.Object)
		case want[m]:
			delete(want, m) // another of the same is wrong
		case nodes > 1 && out[m]:
			delete(out, m)
		default:
			wrong.add("%+v is a member and should not be, or is twice", m)
		}
	}
	for m := range want {
		wrong.add("%s took part at %s and is no member", m.Principal, m.Object)
	}
	// Whoever quits may have been told until then.
	for _, row := range list[struct{ Event string }](p, "/v1/users/"+quits+"/inbox") {
		if row.Event == events[len(events)-1].evt {
			wrong.add("%s was told of the last event, long after leaving", quits)
		}
	}
	wrong.tell(t)
	t.Logf("%d deaths; %d events, %d by which somebody joined, %d memberships; %s", len(f.deaths), len(events), told, len(joined), f.l.summary())
}

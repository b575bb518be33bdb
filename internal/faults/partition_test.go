//go:build linux

package faults_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// sends is how many sends a process has ended, and how many are under way.
func (p *process) sends() (ended, flying float64) {
	p.t.Helper()
	a, err := do(client, http.MethodGet, p.url+"/metrics", "", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(a.body)) {
		n := &ended
		if strings.HasPrefix(line, "belfry_sends_in_flight ") {
			n = &flying
		} else if !strings.HasPrefix(line, "belfry_sends_total{") {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			p.t.Fatal(err)
		}
		*n += v
	}
	return ended, flying
}

// One node is cut off from the database while the others are not: it sends
// nothing after its lease, the others do its work, and when the line is back it
// joins anew.
// feature: NEW-10, NEW-12
func TestNodeCutOff(t *testing.T) {
	direct := testdb.Postgres(t)
	target, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, target.Host)
	target.Host = w.Addr().String()
	settings := []string{"BELFRY_NODES_LEASE=" + lease.String()}
	h := newHome(t, append(onPostgres(direct), settings...)...)
	lone := newHome(t, append(onPostgres(target.String()), settings...)...).start()
	ps := []*process{h.start(), h.start()}
	a := furnish(t, ps[0])
	a.gather(t, ps[0])
	l := newLoad(t, ps[0])
	l.to(ps...)
	l.begin(1, 1, 5) // of which many are told
	var cuts []death
	for range rounds(t, 1) {
		for _, way := range []struct {
			name string
			cut  func()
		}{{"refused", w.refuse}, {"stalled", w.stall}} {
			divided(t, ps[0], 3)
			from, _ := lone.sends()
			await(t, patience, "sending", func() (bool, string) { n, _ := lone.sends(); return n > from, fmt.Sprint(n) })
			said := strings.Count(lone.logged(), "taken for dead")
			d := death{sent: time.Now()}
			way.cut()
			<-time.After(lease)           // its lease was renewed before that
			ended, flying := lone.sends() // what is under way may have begun before, and may end
			divided(t, ps[0], 2)
			l.grows(ps[0], 60)
			if n, _ := lone.sends(); n > ended+flying {
				t.Errorf("%s: a node that is cut off has begun %v sends after its lease", way.name, n-ended-flying)
			}
			lone.alive()
			if got, err := do(client, http.MethodGet, lone.url+"/healthz", "", nil); err != nil || got.status != http.StatusOK {
				t.Errorf("%s: /healthz: %v, %v", way.name, got, err)
			}
			if way.name == "refused" { // stalled, it waits for its answer as long as for a connection
				if got, err := do(client, http.MethodGet, lone.url+"/readyz", "", nil); err != nil || got.status != http.StatusServiceUnavailable {
					t.Errorf("/readyz: %v, %v", got, err)
				}
			}
			w.heal()
			d.dead = time.Now()
			d.until = d.sent.Add(lease) // its last sends
			cuts = append(cuts, d)
			divided(t, ps[0], 3)
			if strings.Count(lone.logged(), "taken for dead") == said {
				t.Errorf("%s: the node does not say that it was taken for dead", way.name)
			}
		}
		l.to(append(ps[:2:2], lone)...)
		l.grows(lone, 60)
		l.to(ps...)
	}
	l.end()
	l.settle(ps[1], a)
	// Where a commit takes a second a lease ends without a cut too.
	l.excused(a, append(cuts, buried(ps...)...))
}

const died = `msg="a node has died`

var burial = regexp.MustCompile(`time=(\S+) .*` + died + `.* last_seen=(\S+)`)

// buried are the deaths that nodes tell of: a node that did not renew its lease
// is dead for all anybody can see, whatever kept it from it.
func buried(ps ...*process) (deaths []death) {
	for _, p := range ps {
		log := p.logged()
		found := burial.FindAllStringSubmatch(log, -1)
		if n := strings.Count(log, died); len(found) != n {
			p.t.Errorf("%d deaths are told of, %d understood", n, len(found))
		}
		for _, m := range found {
			dead, err1 := time.Parse(time.RFC3339, m[1])
			seen, err2 := time.Parse(time.RFC3339, m[2])
			if err1 != nil || err2 != nil {
				p.t.Errorf("times not understood: %s", m[0])
			}
			deaths = append(deaths, death{sent: seen, dead: dead, until: seen.Add(lease)})
		}
	}
	return deaths
}

// The database of several nodes goes away for longer than a lease and comes
// back: all go on with what they had, none takes another for dead only because
// it looks first, nothing is lost and nothing is sent twice.
// feature: NEW-10, NEW-12
func TestDatabaseOfNodesGoesAway(t *testing.T) {
	server := testdb.NewPostgres(t)
	h := newHome(t, append(onPostgres(server.Database(t)), "BELFRY_NODES_LEASE="+lease.String())...)
	ps := []*process{h.start(), h.start(), h.start()}
	a := furnish(t, ps[0])
	l := newLoad(t, ps[0])
	l.to(ps...)
	l.begin(2, 2, 20)
	l.grows(ps[0], 60)
	divided(t, ps[0], 3)
	var times []death
	for range rounds(t, 1) {
		for _, away := range []struct {
			name string
			stop func() (back func())
		}{
			{"restarted", func() func() { server.Stop(); return func() { server.Start(t) } }},
			{"crashed", func() func() { server.Crash(); return func() { server.Start(t) } }},
			{"frozen", func() func() { return freeze(t, server.URL("postgres")) }},
		} {
			d := death{sent: time.Now()}
			back := away.stop()
			<-time.After(lease * 3 / 2)
			for _, p := range ps {
				p.alive()
			}
			back()
			d.dead = time.Now()
			d.until = d.sent.Add(lease)
			times = append(times, d)
			divided(t, ps[1], 3)
			for _, p := range ps {
				l.to(p)
				l.grows(p, 30)
			}
			l.to(ps...)
		}
	}
	l.end()
	l.settle(ps[2], a)
	buried := 0
	for _, p := range ps {
		buried += strings.Count(p.logged(), "taken for dead")
	}
	if buried == 0 {
		l.noRepeats(a)
		return
	}
	// A machine that is busy with other things wakes some long after others:
	// those were dead for all anybody could see.
	t.Logf("%d times a node came back so late that it was taken for dead", buried)
	l.excused(a, times)
}

// All nodes are killed at once, several times: whoever starts first does all
// of it.
// feature: NEW-10, NEW-12
func TestAllNodesKilled(t *testing.T) {
	h := nodesOn(t)
	ps := []*process{h.start(), h.start()}
	a := furnish(t, ps[0])
	l := newLoad(t, ps[0])
	l.to(ps...)
	l.begin(2, 2, 20)
	var deaths []death
	for range rounds(t, 1) {
		l.grows(ps[0], 60)
		d := death{sent: time.Now()}
		for _, p := range ps {
			p.signal(syscall.SIGKILL)
		}
		for _, p := range ps {
			p.exit()
		}
		d.dead = time.Now()
		deaths = append(deaths, d)
		for i := range ps {
			ps[i] = h.start()
		}
		l.to(ps...)
		divided(t, ps[0], 2)
	}
	l.grows(ps[0], 60)
	l.end()
	l.settle(ps[0], a)
	l.excused(a, deaths)
}

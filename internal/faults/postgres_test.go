//go:build linux

package faults_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// PostgreSQL goes away in three ways and comes back: producers get 503 or an
// answer, everything goes on by itself, nothing is lost and nothing repeated.
// feature: NEW-10, NEW-12
func TestPostgresGoesAway(t *testing.T) {
	t.Parallel()
	server := testdb.NewPostgres(t)
	h := newHome(t, onPostgres(server.Database(t))...)
	p := h.start()
	a := furnish(t, p)
	l := newLoad(t, p)
	l.begin(2, 2, 20)
	l.grows(p, 100)

	for range rounds(t, 1) {
		for _, away := range []struct {
			name string
			stop func()
		}{{"stopped", server.Stop}, {"crashed", server.Crash}} {
			before := p.logged()
			away.stop()
			n := l.refused()
			await(t, patience, "refused while the database is "+away.name, func() (bool, string) { return l.refused() > n+5, l.summary() })
			p.alive()
			if got, err := do(client, "GET", p.url+"/healthz", "", nil); err != nil || got.status != 200 {
				t.Errorf("/healthz: %v %v: the process is well, its database is not", got, err)
			}
			got, err := do(client, "GET", p.url+"/readyz", "", nil)
			if err != nil || got.status != 503 {
				t.Errorf("/readyz: %v %v", got, err)
			}
			server.Start(t)
			l.grows(p, 100)
			await(t, patience, "told in the log that it is back", func() (bool, string) {
				return strings.Contains(strings.TrimPrefix(p.logged(), before), "the database answers again"), last(p.logged(), 3000)
			})
			said := strings.TrimPrefix(p.logged(), before)
			if errors := strings.Count(said, "level=ERROR") + strings.Count(said, "level=WARN"); errors > 3 {
				t.Errorf("%d lines of trouble in the log while the database was %s, want one that it is, and few of other things:\n%s", errors, away.name, last(said, 5000))
			} else {
				t.Logf("%s: %d lines of trouble", away.name, errors)
			}
		}

		// Frozen: connections stand and nobody answers.
		thaw := freeze(t, server.URL("postgres"))
		<-time.After(1500 * time.Millisecond)
		p.alive()
		thaw()
		l.grows(p, 100)
	}
	l.end()
	l.settle(p, a)
	l.noRepeats(a)
}

// The network between Belfry and PostgreSQL breaks again and again, in the
// middle of commits whose fate is then unknown.
// feature: NEW-10, NEW-12
func TestPostgresConnectionsBreak(t *testing.T) {
	t.Parallel()
	direct := testdb.Postgres(t)
	target, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, target.Host)
	target.Host = w.Addr().String()
	h := newHome(t, onPostgres(target.String())...)
	h.dsn = direct
	p := h.start()
	a := furnish(t, p)
	l := newLoad(t, p)
	l.begin(2, 2, 20)
	for range rounds(t, 8) {
		l.grows(p, 40)
		w.cut()
	}
	l.grows(p, 40)
	l.end()
	l.settle(p, a)
	l.noRepeats(a)
	t.Logf("%d connections were cut", w.cuts)
}

// grows waits until n more events were answered 202.
func (l *load) grows(p *process, n int) {
	l.t.Helper()
	from := l.answered()
	await(l.t, patience, fmt.Sprintf("%d events on", n), func() (bool, string) {
		p.alive()
		return l.answered() >= from+n, fmt.Sprintf("%d then, %d now; %s", from, l.answered(), l.summary())
	})
}

func (l *load) refused() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.statuses[503]
}

// noRepeats holds when the process lived all the time: it knows what it sent.
func (l *load) noRepeats(a *audience) {
	for _, r := range a.receivers() {
		for _, again := range r.repeats() {
			l.t.Errorf("%s got event %s twice, at %v and %v", r.name, again.event, again.first.at, again.second.at)
		}
	}
}

// freeze stops every process of a PostgreSQL server, as a machine that hangs
// would; thaw lets them go on.
func freeze(t *testing.T, dsn string) (thaw func()) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var dir string
	if err := db.QueryRow("SHOW data_directory").Scan(&dir); err != nil {
		t.Fatal(err)
	}
	rows, err := db.Query("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var pids []int
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	pids = append(pids, postmaster)
	all := func(s syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, s) // one may have ended meanwhile
		}
	}
	var once sync.Once
	thaw = func() { once.Do(func() { all(syscall.SIGCONT) }) }
	t.Cleanup(thaw)
	all(syscall.SIGSTOP)
	return thaw
}

// wire is a network that can break.
type wire struct {
	net.Listener
	to string

	mu      sync.Mutex
	mute    bool          // what the server says is lost
	refuses bool          // connections end at once
	stalled chan struct{} // closed when it flows again; nil = it flows
	conns   map[net.Conn]struct{}
	cuts    int
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, to: to, conns: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.heal()
		w.drop()
		wg.Wait()
	})
	return w
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	w.mu.Lock()
	refuses := w.refuses
	w.mu.Unlock()
	if refuses {
		_ = c.(*net.TCPConn).SetLinger(0)
		return
	}
	s, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer s.Close()
	w.mu.Lock()
	if w.refuses { // since it was looked at: refuse has not seen this one
		w.mu.Unlock()
		_ = c.(*net.TCPConn).SetLinger(0)
		return
	}
	w.conns[c], w.conns[s] = struct{}{}, struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.conns, c)
		delete(w.conns, s)
		w.mu.Unlock()
	}()
	var there sync.WaitGroup
	there.Go(func() {
		_, _ = io.Copy(asking{w, s}, c)
		_ = s.Close()
	})
	_, _ = io.Copy(deaf{w, c}, s)
	_ = c.Close()
	there.Wait()
}

// deaf loses what the server says while the wire is mute.
type deaf struct {
	w *wire
	c net.Conn
}

func (d deaf) Write(p []byte) (int, error) {
	if d.w.pass() {
		return len(p), nil
	}
	return d.c.Write(p)
}

// asking carries to the server.
type asking struct {
	w *wire
	s net.Conn
}

func (a asking) Write(p []byte) (int, error) {
	a.w.pass()
	return a.s.Write(p)
}

// pass waits while the wire is stalled.
func (w *wire) pass() (mute bool) {
	w.mu.Lock()
	mute, stalled := w.mute, w.stalled
	w.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
	return mute
}

// refuse ends all connections, and new ones at once, until heal.
func (w *wire) refuse() {
	w.mu.Lock()
	w.refuses = true
	w.mu.Unlock()
	w.drop()
}

// stall holds everything back, as a network does whose route is lost, until
// heal.
func (w *wire) stall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stalled == nil {
		w.stalled = make(chan struct{})
	}
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuses = false
	if w.stalled != nil {
		close(w.stalled)
		w.stalled = nil
	}
}

// cut lets what was asked still reach the server, and the answers not come
// back: commits are made that look as if they had failed.
func (w *wire) cut() {
	w.mu.Lock()
	w.mute = true
	w.mu.Unlock()
	<-time.After(50 * time.Millisecond)
	w.drop()
	w.mu.Lock()
	w.mute = false
	w.mu.Unlock()
}

func (w *wire) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cuts += len(w.conns) / 2
	for c := range w.conns {
		_ = c.Close()
	}
}

// A connection that is cut while nothing is asked of it costs nobody an answer:
// nothing was done on it that could be in doubt.
//
// feature: NEW-10
func TestConnectionsCutWhileIdle(t *testing.T) {
	t.Parallel()
	direct := testdb.Postgres(t)
	target, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, target.Host)
	target.Host = w.Addr().String()
	h := newHome(t, onPostgres(target.String())...)
	h.dsn = direct
	p := h.start()
	for i := range 5 {
		event := []map[string]string{{"id": fmt.Sprint(i), "source": "/x", "type": "t.idle"}}
		p.call("POST", "/v1/events", event, nil)
		p.call("PUT", "/v1/users/u1", map[string]any{"name": fmt.Sprint("before ", i)}, nil)
		p.idle()
		w.drop()
		event[0]["source"] = "/y"
		p.call("POST", "/v1/events", event, nil)
		p.call("PUT", "/v1/users/u1", map[string]any{"name": fmt.Sprint("after ", i)}, nil)
		p.call("GET", "/v1/events", nil, nil)
	}
	if w.cuts == 0 {
		t.Error("no connection was cut")
	}
}

// An edit whose commit is in doubt is answered 503. If it was made after all,
// it is in force without anybody's doing: what the API shows is what happens.
// feature: NEW-10
func TestEditsInDoubtTakeEffect(t *testing.T) {
	t.Parallel()
	direct := testdb.Postgres(t)
	target, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, target.Host)
	target.Host = w.Addr().String()
	h := newHome(t, onPostgres(target.String())...)
	h.dsn = direct
	p := h.start()
	r := newReceiver(t, "receiver", prompt)
	var ep struct{ ID string }
	p.call("POST", "/v1/endpoints", map[string]any{"url": r.URL}, &ep)

	// Subscriptions are made, and every second one paused.
	type subscription struct {
		ID    string
		Types []string
		State string
	}
	stop := make(chan struct{})
	var editing sync.WaitGroup
	made, doubts := 0, 0
	editing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			body := fmt.Sprintf(`{"types":["t.n%d"],"notify":[{"endpoint":%q}]}`, i, ep.ID)
			a, err := do(client, "POST", p.url+"/v1/subscriptions", "application/json", strings.NewReader(body))
			if err == nil && a.status == 201 && i%2 == 0 {
				var sub subscription
				if err = json.Unmarshal(a.body, &sub); err == nil {
					a, err = do(client, "POST", p.url+"/v1/subscriptions/"+sub.ID+"/pause", "", nil)
				}
			}
			switch {
			case err != nil:
				t.Error(err)
				return
			case a.status < 300:
				made++
			case a.status == 503:
				a.problem(t)
				doubts++
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		}
	})
	for range rounds(t, 12) {
		<-time.After(120 * time.Millisecond)
		w.cut()
	}
	close(stop)
	editing.Wait()
	await(t, patience, "ready", func() (bool, string) {
		a, err := do(client, "GET", p.url+"/readyz", "", nil)
		return err == nil && a.status == 200, fmt.Sprint(a, err)
	})
	shown := list[subscription](p, "/v1/subscriptions")
	active := map[string]bool{}
	var events []map[string]string
	for _, s := range shown {
		active[s.Types[0]] = s.State == "active"
		events = append(events, map[string]string{"id": s.Types[0], "source": "/x", "type": s.Types[0]})
	}
	await(t, patience, "in force", func() (bool, string) {
		p.call("POST", "/v1/events", events, nil)
		p.idle()
		got, wrong := r.received(), ""
		for typ, is := range active {
			if (got[typ] > 0) != is {
				wrong += fmt.Sprintf("%s active %v, told %d; ", typ, is, got[typ])
			}
		}
		for i := range events { // asked again, they are other events
			events[i]["source"] += "x"
		}
		r.forget()
		return wrong == "", wrong
	})
	t.Logf("%d edits made, %d answered 503, %d subscriptions", made, doubts, len(shown))
}

func (r *receiver) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.hits)
}

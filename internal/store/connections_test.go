package store

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testdb"
)

// What is read at once keeps its connections for the next time: to make one costs
// the server a process, and us every statement anew.
func TestConnectionsStay(t *testing.T) {
	db, err := Open(t.Context(), Options{URL: testdb.Postgres(t), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	// all are the server's processes of as many connections as there may be.
	all := func() (pids []int) {
		var conns []*sql.Conn
		for range db.read.Stats().MaxOpenConnections {
			c, err := db.read.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			var pid int
			if err := c.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		slices.Sort(pids)
		return pids
	}
	first := all()
	if then := all(); len(first) < 2 || !slices.Equal(then, first) {
		t.Errorf("processes %v, and then %v", first, then)
	}
}

// gate is a way to a server that lets nothing through until it is opened.
type gate struct {
	net.Listener
	to     string
	opened chan struct{}
	taken  atomic.Int64
	refuse atomic.Bool
	halted atomic.Bool                   // nothing more is asked, and nothing ends
	asked  atomic.Int64                  // how often something was asked while halted
	later  atomic.Pointer[chan struct{}] // closed when connections that are made from now on may go through; nil = they may

	mu    sync.Mutex
	conns []net.Conn
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: l, to: to, opened: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.taken.Add(1)
			wg.Go(func() { g.carry(t.Context(), c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); g.drop(); wg.Wait() })
	return g
}

func (g *gate) carry(ctx context.Context, c net.Conn) {
	defer c.Close()
	if g.refuse.Load() {
		return
	}
	g.mu.Lock()
	g.conns = append(g.conns, c)
	g.mu.Unlock()
	select {
	case <-g.opened:
	case <-ctx.Done():
		return
	}
	if later := g.later.Load(); later != nil {
		<-*later
	}
	s, err := net.Dial("tcp", g.to)
	if err != nil {
		return
	}
	defer s.Close()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(c, s); _ = c.Close() })
	_, _ = io.Copy(s, halting{c, g, ctx})
	_ = s.Close()
	back.Wait()
}

// halting reads from one who may be halted.
type halting struct {
	io.Reader
	g   *gate
	ctx context.Context
}

func (h halting) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if h.g.halted.Load() {
		h.g.asked.Add(1)
		<-h.ctx.Done()
	}
	return n, err
}

func (g *gate) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

// through is a connector to a server, by way of a gate.
func through(t *testing.T, url string) (*connector, *gate) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))))
	config.Host, config.Port = "127.0.0.1", uint16(g.Addr().(*net.TCPAddr).Port)
	return newConnector(stdlib.GetConnector(*config)), g
}

// A connection that takes longer to make than any caller waits is made
// nevertheless, once, and is whoever's comes next.
func TestConnectingGoesOn(t *testing.T) {
	c, g := through(t, testdb.Postgres(t))
	db := sql.OpenDB(c)
	defer func() { _ = db.Close() }()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := db.PingContext(ctx); !errors.Is(err, context.DeadlineExceeded) || !Away(fault(err)) {
			t.Errorf("nothing comes through, and: %v", err)
		}
		cancel()
	}
	close(g.opened)
	first, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := g.taken.Load(); n != 1 {
		t.Errorf("%d connections were begun", n)
	}
	if err := db.PingContext(t.Context()); err != nil || g.taken.Load() != 2 { // the first is in use
		t.Errorf("%v, %d connections", err, g.taken.Load())
	}
	_ = first.Close()
}

// A connection that nobody waited for, and that has ended since or was never
// made, is nobody's.
func TestConnectionsMadeForNobody(t *testing.T) {
	c, g := through(t, testdb.Postgres(t))
	close(g.opened)
	db := sql.OpenDB(c)
	defer func() { _ = db.Close() }()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, made := range []bool{true, false} {
		g.refuse.Store(!made)
		if _, err := c.Connect(ended); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		<-c.left[0].done
		if (c.left[0].err == nil) != made {
			t.Fatal(c.left[0].err)
		}
		g.refuse.Store(false)
		g.drop()
		db.SetMaxIdleConns(0)
		if err := db.PingContext(t.Context()); err != nil {
			t.Errorf("made %v: %v", made, err)
		}
	}
}

// A connection that nobody waited for, on which the server is silent by now, is
// waited for by the one who got it: others have as long as they give themselves.
func TestSilentConnectionHoldsUpOne(t *testing.T) {
	c, g := through(t, testdb.Postgres(t))
	close(g.opened)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Connect(ended); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	left := c.left[0]
	if <-left.done; left.err != nil {
		t.Fatal(left.err)
	}
	g.halted.Store(true)
	waits, giveUp := context.WithCancel(t.Context())
	one := make(chan error)
	go func() { _, err := c.Connect(waits); one <- err }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for g.asked.Load() == 0 { // whether it is there
		<-tick.C
	}
	other := make(chan error, 1)
	go func() {
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := c.Connect(short)
		other <- err
	}()
	select {
	case err := <-other:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the other: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the other waits for the one")
	}
	giveUp()
	if err := <-one; !errors.Is(err, context.Canceled) {
		t.Errorf("the one: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Whoever closes waits for nothing that is under way, and leaves nothing.
func TestCloseWhileConnecting(t *testing.T) {
	c, _ := through(t, "postgres://nobody@127.0.0.1:1/none?sslmode=disable")
	db := sql.OpenDB(c)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := db.PingContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	left := c.left[0]
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-left.done:
	default:
		t.Error("a connection is being made after the end")
	}
	if _, err := c.Connect(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("connecting after the end: %v", err)
	}
}

// Whoever closes sees to it that what was given up is cancelled on the server:
// when the process ends behind it, nothing says so any more.
func TestCloseWaitsForCancels(t *testing.T) {
	place := testdb.Postgres(t)
	c, g := through(t, place)
	close(g.opened)
	db := sql.OpenDB(c)
	aside, err := sql.Open("pgx", place)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = aside.Close() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	sleepers := func(want int) {
		t.Helper()
		begun := time.Now()
		for n := -1; n != want; <-tick.C {
			if err := aside.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").Scan(&n); err != nil {
				t.Fatal(err)
			}
			if time.Since(begun) > time.Minute {
				t.Fatalf("%d sleep, want %d", n, want)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := db.ExecContext(ctx, "SELECT pg_sleep(600)"); err == nil {
			t.Error("it slept to the end")
		}
	}()
	sleepers(1)
	later := make(chan struct{})
	g.later.Store(&later)
	cancel()
	<-ended
	for g.taken.Load() < 2 { // the word to the server is on its way
		<-tick.C
	}
	var through atomic.Bool
	time.AfterFunc(100*time.Millisecond, func() { through.Store(true); close(later) })
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if !through.Load() {
		t.Error("closed before what was given up was cancelled")
	}
	sleepers(0)
}

// Who gives up in the moment of the end leaves no connection behind.
func TestGiveUpAtTheEnd(t *testing.T) {
	c, g := through(t, testdb.Postgres(t))
	close(g.opened)
	n, err := c.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-n.done
	if n.err != nil {
		t.Fatal(n.err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	c.leave(n)
	if !n.conn.(*stdlib.Conn).Conn().IsClosed() {
		t.Error("the connection is open still")
	}
}

// Who is halted while it buries a node keeps others from it for moments only.
func TestHaltedWhileBurying(t *testing.T) {
	haltedWhile(t, "DELETE", func(halted *DB) {
		if ok, err := halted.bury(t.Context(), "a"); ok || err == nil {
			t.Errorf("the halted one heard that it was done: %v, %v", ok, err)
		}
	})
}

// Who is cut off while it renews its lease is buried as any other: it holds no
// lock that waits for its next word.
// feature: NEW-12
func TestHaltedWhileRenewing(t *testing.T) {
	haltedWhile(t, "UPDATE", func(halted *DB) {
		_ = halted.RenewNode(t.Context(), "a", 0) // it had asked for all of it before, and may hear of it
	})
}

// A lease is prolonged without a wait for the disk, whoever is slow to write;
// what decides who has what is on disk first.
// feature: NEW-12
func TestWhatOfNodesWaitsForTheDisk(t *testing.T) {
	place, ctx := testdb.Postgres(t), t.Context()
	db, err := Open(ctx, Options{URL: place, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, ddl := range []string{
		"CREATE TABLE noted (how text)",
		"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO noted SELECT current_setting('synchronous_commit'); RETURN NULL; END $$",
		"CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON nodes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()",
		"CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON leases DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()",
	} {
		if _, err := db.write.ExecContext(ctx, ddl); err != nil {
			t.Fatal(err)
		}
	}
	db.write.SetMaxOpenConns(1) // what one statement sets must not last
	for _, c := range []struct {
		name string
		do   func() error
		want string
	}{
		{"join", func() error { return db.JoinNode(ctx, belfry.Node{ID: "a", Roles: belfry.Roles}, 0) }, "off"},
		{"renew", func() error { return db.RenewNode(ctx, "a", 0) }, "off"},
		{"claim", func() error { _, err := db.ClaimShards(ctx, "a", belfry.LeasePlan, []int{1, 2}); return err }, "on"},
		{"renew anew", func() error { return db.RenewNode(ctx, "a", 0) }, "off"},
		{"release", func() error { return db.ReleaseShards(ctx, "a", belfry.LeasePlan, []int{1}) }, "on"},
		{"bury", func() error { _, err := db.BuryNode(ctx, "a"); return err }, "on"},
	} {
		if err := c.do(); err != nil {
			t.Fatal(c.name, err)
		}
		rows, err := db.write.QueryContext(ctx, "DELETE FROM noted RETURNING how")
		n := 0
		err = each(rows, err, func(rows *sql.Rows) error {
			n++
			var how string
			err := rows.Scan(&how)
			if how != c.want {
				t.Errorf("%s commits with synchronous_commit = %s, want %s", c.name, how, c.want)
			}
			return err
		})
		if err != nil || n == 0 {
			t.Errorf("%s: %d commits noted, %v", c.name, n, err)
		}
	}
}

// haltedWhile has a node cut off from the database while the row of node a is
// changed for it, and another bury that node.
func haltedWhile(t *testing.T, change string, does func(halted *DB)) {
	t.Helper()
	place := testdb.Postgres(t)
	open := func(url string) *DB {
		db, err := Open(t.Context(), Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open(place)
	defer func() { _ = db.Close() }()
	if err := db.JoinNode(t.Context(), belfry.Node{ID: "a", Roles: belfry.Roles}, 0); err != nil {
		t.Fatal(err)
	}
	for _, ddl := range []string{
		"CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN COALESCE(NEW, OLD); END $$",
		"CREATE TRIGGER slowly BEFORE " + change + " ON nodes FOR EACH ROW EXECUTE FUNCTION slowly()",
	} {
		if _, err := db.write.ExecContext(t.Context(), ddl); err != nil {
			t.Fatal(err)
		}
	}
	c, g := through(t, place)
	close(g.opened)
	halted := &DB{write: sql.OpenDB(c), pg: true}
	defer func() { _ = halted.write.Close() }()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		does(halted)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; n == 0; <-tick.C { // it is in the middle of it
		if err := db.write.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	g.halted.Store(true)
	begun, buried := time.Now(), false
	for ; !buried && time.Since(begun) < 20*time.Second; <-tick.C {
		buried, _ = db.BuryNode(t.Context(), "a") // as at each beat
	}
	if !buried {
		t.Error("nobody else buries it")
	}
	g.drop()
	<-ended
}

package storetest

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// testShards asks for the work of some shards only.
func testShards(t *testing.T, place func(testing.TB) string) {
	db, ctx := Open(t, place(t)), context.Background()
	id := acceptOne(t, db, "1")
	all := must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 10, nil))
	mine := belfry.Shard(tenant, all[0].Accepted.Event.ObjectOrRoot())
	other := (mine + 1) % belfry.Shards
	count := func(shards []int) int {
		return len(must[[]store.PendingPlan](t)(db.PendingPlans(ctx, tenant, "", 10, shards)))
	}
	if a, b, c, d := count(nil), count([]int{mine}), count([]int{other, mine}), count([]int{other}); a != 1 || b != 1 || c != 1 || d != 0 {
		t.Errorf("pending plans of all shards %d, of the event's %d, of it and another %d, of another %d", a, b, c, d)
	}
	if n := count([]int{}); n != 0 {
		t.Errorf("no shards have %d pending plans", n)
	}
	d := delivery(id, "email", "a@x.example")
	p := belfry.PlanPage{Tenant: tenant, EventID: id, Last: true, Deliveries: []belfry.Delivery{d}}
	if errs := must[[]error](t)(db.CommitPlans(ctx, []belfry.PlanPage{p})); errs[0] != nil {
		t.Fatal(errs[0])
	}
	for _, c := range []struct {
		shards []int
		want   int
	}{{nil, 1}, {[]int{d.Shard}, 1}, {[]int{(d.Shard + 1) % belfry.Shards}, 0}} {
		if got := must[[]belfry.Delivery](t)(db.DueDeliveries(ctx, tenant, store.DueKey{}, time.Unix(1000, 0), 10, c.shards)); len(got) != c.want {
			t.Errorf("shards %v have %d due deliveries, want %d", c.shards, len(got), c.want)
		}
		if _, ok, err := db.NextDue(ctx, tenant, time.Time{}, c.shards); err != nil || ok != (c.want == 1) {
			t.Errorf("shards %v have a next one: %v, %v", c.shards, ok, err)
		}
	}
}

func join(t *testing.T, db *store.DB, id string, lease time.Duration) {
	t.Helper()
	if err := db.JoinNode(context.Background(), belfry.Node{ID: id, Name: "host-" + id, Address: "127.0.0.1:1", Roles: belfry.Roles, Version: "test"}, lease); err != nil {
		t.Fatal(err)
	}
}

// testNodes walks through the life of two nodes.
func testNodes(t *testing.T, place func(testing.TB) string) {
	db, ctx := Open(t, place(t)), context.Background()
	if !db.Clustered() {
		if table := must[belfry.NodeTable](t)(db.Nodes(ctx)); len(table.Nodes)+len(table.Leases) != 0 {
			t.Errorf("a store that one process has alone knows nodes: %+v", table)
		}
		return
	}
	join(t, db, "a", time.Hour)
	join(t, db, "b", 0)
	if err := db.RenewNode(ctx, "a", time.Hour); err != nil {
		t.Fatal(err)
	}
	table := must[belfry.NodeTable](t)(db.Nodes(ctx))
	if len(table.Nodes) != 2 || len(table.Leases) != 3*belfry.Shards || !table.Nodes[1].Until.Before(table.Clock) || !table.Nodes[0].Until.After(table.Clock) ||
		!slices.Equal(table.Nodes[0].Roles, belfry.Roles) {
		t.Fatalf("the table: %v, %d leases, at %v", table.Nodes, len(table.Leases), table.Clock)
	}
	if got := must[[]int](t)(db.ClaimShards(ctx, "a", belfry.LeasePlan, []int{7, 3, 5})); !slices.Equal(got, []int{3, 5, 7}) {
		t.Errorf("claimed %v", got)
	}
	if got := must[[]int](t)(db.ClaimShards(ctx, "b", belfry.LeasePlan, []int{5, 6})); !slices.Equal(got, []int{6}) {
		t.Errorf("the other claimed %v", got)
	}
	owners := func() map[int]string {
		got := map[int]string{}
		for _, l := range must[belfry.NodeTable](t)(db.Nodes(ctx)).Leases {
			if l.Kind == belfry.LeasePlan && l.Owner != "" {
				got[l.Shard] = l.Owner
			}
		}
		return got
	}
	if err := db.ReleaseShards(ctx, "a", belfry.LeasePlan, []int{3, 6}); err != nil {
		t.Fatal(err)
	}
	if got := owners(); len(got) != 3 || got[5] != "a" || got[6] != "b" || got[7] != "a" {
		t.Errorf("owners %v", got)
	}
	if ok := must[bool](t)(db.BuryNode(ctx, "a")); ok {
		t.Error("a living node was buried")
	}
	if ok := must[bool](t)(db.BuryNode(ctx, "b")); !ok {
		t.Error("a dead node was not buried")
	}
	if ok := must[bool](t)(db.BuryNode(ctx, "b")); ok {
		t.Error("it was buried twice")
	}
	if got := owners(); len(got) != 2 || got[6] != "" {
		t.Errorf("owners after a death %v", got)
	}
	if err := db.RenewNode(ctx, "b", time.Hour); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a dead node renews: %v", err)
	}
	if _, err := db.ClaimShards(ctx, "b", belfry.LeasePlan, []int{6}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a dead node claims: %v", err)
	}
	if err := db.LeaveNode(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if got := owners(); len(got) != 0 {
		t.Errorf("owners when all have left %v", got)
	}
}

// testFence: nothing of a node that was declared dead is stored, but events
// are accepted by anybody.
func testFence(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db, ctx := Open(t, url), context.Background()
	if !db.Clustered() {
		return
	}
	join(t, db, "a", 0)
	db.FenceAs("a")
	first, second := acceptOne(t, db, "1"), acceptOne(t, db, "2")
	plan := func(id string) error {
		d := delivery(id, "email", "a@x.example")
		return must[[]error](t)(db.CommitPlans(ctx, []belfry.PlanPage{{Tenant: tenant, EventID: id, Last: true, Deliveries: []belfry.Delivery{d}}}))[0]
	}
	if err := plan(first); err != nil {
		t.Fatal(err)
	}
	other := Open(t, url)
	if ok := must[bool](t)(other.BuryNode(ctx, "a")); !ok {
		t.Fatal("not buried")
	}
	if err := plan(second); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a dead node plans: %v", err)
	}
	sent := belfry.Attempt{Tenant: tenant, DeliveryID: delivery(first, "email", "a@x.example").ID, N: 1, State: belfry.Delivered}
	if _, err := db.RecordAttempts(ctx, []belfry.Attempt{sent}); !errors.Is(err, store.ErrFenced) || belfry.KindOf(err) != belfry.Conflict {
		t.Errorf("a dead node records: %v", err)
	}
	if _, _, err := db.CommitSource(ctx, tenant, "s", belfry.Changes{}, nil, []byte("x")); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a dead node's source commits: %v", err)
	}
	if c := must[[]byte](t)(db.SourceCursor(ctx, tenant, "s")); c != nil {
		t.Errorf("its cursor was stored: %q", c)
	}
	acceptOne(t, db, "3")
	if ok := must[[]bool](t)(other.RecordAttempts(ctx, []belfry.Attempt{sent})); !ok[0] {
		t.Error("the living one cannot record")
	}
	join(t, db, "a2", time.Hour)
	db.FenceAs("a2")
	if err := plan(second); err != nil {
		t.Errorf("after it joined anew: %v", err)
	}
}

// testTell passes words between two processes.
func testTell(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	a := Open(t, url)
	if !a.Clustered() {
		return
	}
	b := Open(t, url)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready, heard, ended := make(chan struct{}), make(chan string, 8), make(chan error, 1)
	go func() { ended <- b.Listen(ctx, func() { close(ready) }, func(words string) { heard <- words }) }()
	<-ready
	if err := a.Tell(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "one" {
		t.Errorf("heard %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("listening ended with %v", err)
	}
}

// testHaltedNode: a node that hangs in mid-transaction is buried in the time of
// a keeper's beat, a short one too, and its transaction ended.
func testHaltedNode(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	db, ctx := Open(t, url), context.Background()
	if !db.Clustered() {
		return
	}
	join(t, db, "a", 0)
	halted := must[*sql.DB](t)(sql.Open("pgx", url))
	defer func() { _ = halted.Close() }()
	tx := must[*sql.Tx](t)(halted.BeginTx(ctx, nil))
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, "SELECT belfry_fence('a')"); err != nil {
		t.Fatal(err)
	}
	buried := false
	for beat := 0; !buried && beat < 5; beat++ {
		short, cancel := context.WithTimeout(ctx, 700*time.Millisecond)
		buried, _ = db.BuryNode(short, "a") // tried again at the next beat
		cancel()
	}
	if !buried {
		t.Error("it was not buried in five beats of 700 ms")
	}
	if _, err := tx.ExecContext(ctx, "SELECT 1"); err == nil {
		t.Error("its transaction goes on")
	}
}

// testBuriedByTwo: two that bury a node at once do not end each other, however
// long it takes.
func testBuriedByTwo(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	one, ctx := Open(t, url), context.Background()
	if !one.Clustered() {
		return
	}
	other := Open(t, url)
	join(t, one, "a", 0)
	raw := must[*sql.DB](t)(sql.Open("pgx", url))
	defer func() { _ = raw.Close() }()
	for _, ddl := range []string{
		"CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN OLD; END $$",
		"CREATE TRIGGER slowly BEFORE DELETE ON nodes FOR EACH ROW EXECUTE FUNCTION slowly()",
	} {
		if _, err := raw.ExecContext(ctx, ddl); err != nil {
			t.Fatal(err)
		}
	}
	var buried atomic.Int32
	var wg sync.WaitGroup
	for _, db := range []*store.DB{one, other} {
		wg.Go(func() {
			ok, err := db.BuryNode(ctx, "a")
			if err != nil {
				t.Error(err)
			}
			if ok {
				buried.Add(1)
			}
		})
	}
	wg.Wait()
	if buried.Load() != 1 {
		t.Errorf("buried %d times", buried.Load())
	}
}

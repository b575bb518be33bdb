package storetest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

const tenant = belfry.DefaultTenant

// Run runs the suite. place gives the URL of an empty database of the engine.
func Run(t *testing.T, place func(testing.TB) string) {
	for _, c := range []struct {
		name string
		test func(*testing.T, func(testing.TB) string)
	}{
		{"events", testEvents},
		{"events that teach", testLearning},
		{"ids rise", testIDsRise},
		{"events are found", testListEvents},
		{"plans", testPlans},
		{"long pages", testLongPages},
		{"plan pages", testPlanPages},
		{"first pages that repeat", testFirstPagesThatRepeat},
		{"one inbox row", testInboxOnce},
		{"inbox", testInbox},
		{"digests", testDigests},
		{"digests that count from the last", testDigestsCount},
		{"digests wait", testDigestsWait},
		{"digests sealed while others join them", testDigestsTogether},
		{"digests moved page by page", testDigestsMove},
		{"digests end", testDigestsEnd},
		{"due deliveries", testDue},
		{"attempts", testAttempts},
		{"retries", testRetries},
		{"lists of deliveries", testListDeliveries},
		{"trace in pages", testTracePages},
		{"cancel and retry", testCancelRetry},
		{"bulk retry", testBulkRetry},
		{"bulk cancel", testBulkCancel},
		{"replay", testReplay},
		{"events of a replay", testFindEvents},
		{"jobs", testJobs},
		{"one node works on a job", testJobLease},
		{"open jobs are bounded", testJobBound},
		{"failing endpoints", testFailing},
		{"permits", testPermits},
		{"timers", testTimers},
		{"acknowledgements", testAcknowledgements},
		{"told instead", testInstead},
		{"quotas", testQuotas},
		{"versions and changes", testVersions},
		{"objects", testObjects},
		{"users", testUsers},
		{"groups", testGroups},
		{"grants", testGrants},
		{"history", testHistory},
		{"steps", testSteps},
		{"places", testPlaces},
		{"acts of the platform", testCommits},
		{"conditions", testConditions},
		{"conditions of many at once", testConditionsTogether},
		{"subscriptions and members", testSubscriptions},
		{"opt-outs", testOptOuts},
		{"asks", testAsks},
		{"dead contacts", testDeadContacts},
		{"documents and audit", testDocuments},
		{"edits are all or nothing", testEditsAtomic},
		{"sources", testSources},
		{"tenants apart", testTenants},
		{"bad text", testBadText},
		{"shards apart", testShards},
		{"nodes", testNodes},
		{"the fence", testFence},
		{"a node halted in mid-transaction", testHaltedNode},
		{"a node buried by two at once", testBuriedByTwo},
		{"nodes tell each other", testTell},
		{"group commit", testGroupCommit},
		{"one culprit", testCulprit},
		{"one poisoned row", testPoison},
		{"withdrawn calls", testWithdrawn},
		{"closing", testClosing},
		{"one process", testOneProcess},
		{"newer schema", testNewerSchema},
		{"reopened", testReopened},
		{"concurrent use", testConcurrent},
		{"many reasons", testManyReasons},
		{"old rows", testClear},
		{"old rows of types", testClearTypes},
		{"old rows in any order", testClearAnything},
		{"old rows of other tables", testClearOthers},
		{"partitions", testPartitions},
		{"partitions made late", testPartitionsLate},
		{"partitions by two nodes", testPartitionsTogether},
		{"partitions and a reader", testPartitionsReader},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, place)
		})
	}
}

// event makes a draft of an event with an id of its own.
func event(id string, set ...func(*belfry.Draft)) belfry.Draft {
	e := &belfry.Event{ID: id, Source: "/test", Type: "core.course_updated", Time: time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC),
		Object: "course/41", Actor: "user/8", Data: json.RawMessage(`{"shortname":"CPR"}`)}
	d := belfry.Draft{Tenant: tenant, Event: e}
	for _, f := range set {
		f(&d)
	}
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // a test's own event
	}
	d.Body = body
	return d
}

func accept(t testing.TB, db *store.DB, drafts ...belfry.Draft) []belfry.Receipt {
	t.Helper()
	rs, err := db.AcceptEvents(context.Background(), drafts)
	if err != nil {
		t.Fatal(err)
	}
	if len(rs) != len(drafts) {
		t.Fatalf("%d receipts for %d drafts", len(rs), len(drafts))
	}
	return rs
}

func acceptOne(t testing.TB, db *store.DB, id string) string {
	t.Helper()
	return accept(t, db, event(id))[0].EventID
}

// apply applies an edit of the default tenant.
func apply(t testing.TB, db *store.DB, ch belfry.Changes) int64 {
	t.Helper()
	if ch.Tenant == "" {
		ch.Tenant = tenant
	}
	v, err := db.Apply(context.Background(), ch)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// delivery makes a delivery of an event to an address.
func delivery(eventID, channel, address string) belfry.Delivery {
	return belfry.Delivery{
		Tenant: tenant, ID: belfry.DeliveryID(eventID, 0, channel, address), EventID: eventID, Subscription: "sub_1", Channel: channel,
		Principal: "user/8", Address: address, Destination: "user/8", Shard: belfry.Shard(tenant, "user/8"), Due: time.UnixMicro(1_000_000).UTC(),
		Priority: 2, Line: -7, Locale: "pt-BR", Template: "t1", Because: []belfry.Reason{{Code: belfry.NamedRole, Rule: 1, Role: "teacher \"x\" <é>", Object: "course/41"}},
	}
}

// commit commits pages and expects them applied.
func commit(t testing.TB, db *store.DB, pages ...belfry.PlanPage) {
	t.Helper()
	for i, err := range commitPages(t, db, pages...) {
		if err != nil {
			t.Fatalf("page %d: %v", i, err)
		}
	}
}

func commitPages(t testing.TB, db *store.DB, pages ...belfry.PlanPage) []error {
	t.Helper()
	errs, err := db.CommitPlans(context.Background(), pages)
	if err != nil {
		t.Fatal(err)
	}
	if len(errs) != len(pages) {
		t.Fatalf("%d answers for %d pages", len(errs), len(pages))
	}
	return errs
}

func record(t testing.TB, db *store.DB, attempts ...belfry.Attempt) []bool {
	t.Helper()
	applied, err := db.RecordAttempts(context.Background(), attempts)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

func kind(t testing.TB, err error, want belfry.Kind) {
	t.Helper()
	var e *belfry.Error
	if !errors.As(err, &e) || e.Kind != want {
		t.Fatalf("error %v, want one of kind %d", err, want)
	}
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateErrors()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// must gives the value of a call that has to succeed.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// openAt opens a store with a clock of the test's.
func openAt(t testing.TB, url string, now func() time.Time) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// intruder is a connection to the store's database that is not the store's.
type intruder struct {
	*sql.DB
	sqlite bool
}

func intrude(t testing.TB, place string) intruder {
	t.Helper()
	path, lite := strings.CutPrefix(place, "sqlite:")
	driver, name := "pgx", place
	if lite {
		u := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(path, "belfry.db")), RawQuery: "_pragma=busy_timeout(10000)"}
		driver, name = "sqlite", u.String()
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return intruder{db, lite}
}

func (i intruder) exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := i.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// hold keeps the store's writers from committing until the returned function
// is called.
func (i intruder) hold(t testing.TB, tables ...string) (release func()) {
	t.Helper()
	ctx := context.Background()
	conn, err := i.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	begin := []string{"BEGIN IMMEDIATE"}
	if !i.sqlite {
		begin = []string{"BEGIN"}
		for _, table := range tables {
			begin = append(begin, "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
		}
	}
	for _, s := range begin {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return func() {
		if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	}
}

// poison makes the database refuse events of type poison, deliveries on the
// channel poison and attempts whose detail is poison.
func (i intruder) poison(t testing.TB) {
	t.Helper()
	for table, condition := range map[string]string{"events": "NEW.type = 'poison'", "deliveries": "NEW.channel = 'poison'", "attempts": "NEW.detail = 'poison'"} {
		if i.sqlite {
			i.exec(t, fmt.Sprintf("CREATE TRIGGER poison_%s BEFORE INSERT ON %s WHEN %s BEGIN SELECT RAISE(ABORT, 'poison'); END", table, table, condition))
			continue
		}
		i.exec(t,
			fmt.Sprintf("CREATE FUNCTION poison_%s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF %s THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW; END $$", table, condition),
			fmt.Sprintf("CREATE TRIGGER poison BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION poison_%s()", table, table))
	}
}

// await waits until what is asked for holds of the calls at the doors.
func await(t testing.TB, db *store.DB, what string, holds func(waiting, committing int) bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !holds(db.Calls()) {
		select {
		case <-again.C:
		case <-deadline.C:
			waiting, committing := db.Calls()
			t.Fatalf("%d calls wait and %d are being committed, want %s", waiting, committing, what)
		}
	}
}

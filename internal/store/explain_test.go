package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testdb"
)

// spy hears from PostgreSQL how each statement of a store was carried out: its
// text and its plan with what was really done.
type spy struct {
	mu   sync.Mutex
	seen []carried
}

type carried struct {
	Text string `json:"Query Text"`
	Plan node
}

type node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Loops    float64 `json:"Actual Loops"`
	Rows     float64 `json:"Actual Rows"`
	Refused  float64 `json:"Rows Removed by Filter"`
	Plans    []node
}

func (n *node) each(f func(*node)) {
	f(n)
	for i := range n.Plans {
		n.Plans[i].each(f)
	}
}

func (s *spy) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	_, text, ok := strings.Cut(n.Message, "plan:\n")
	if !ok {
		return
	}
	var c carried
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, c)
}

// during gives what was carried out while f ran.
func (s *spy) during(t *testing.T, f func() error) []carried {
	t.Helper()
	s.mu.Lock()
	s.seen = nil
	s.mu.Unlock()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// openSpied opens a store whose connections tell the spy all they do.
func openSpied(t *testing.T, now func() time.Time) (*DB, *spy) {
	t.Helper()
	place := testdb.Postgres(t)
	db, err := Open(t.Context(), Options{URL: place, Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := &spy{}
	config, err := pgx.ParseConfig(place)
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = s.notice
	config.RuntimeParams["options"] = "-c session_preload_libraries=auto_explain -c client_min_messages=log"
	after := stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sessionSettings+`, set_config('auto_explain.log_analyze', 'on', false), set_config('auto_explain.log_timing', 'off', false),
			set_config('auto_explain.log_format', 'json', false), set_config('auto_explain.log_min_duration', '0', false)`)
		return err
	})
	// Before the writers connect for the first time.
	for _, pool := range []**sql.DB{&db.read, &db.write} {
		old := *pool
		*pool = sql.OpenDB(stdlib.GetConnector(*config, after))
		t.Cleanup(func() { _ = old.Close() })
	}
	return db, s
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// twelve is a store with twelve weeks of work in partitions of a week, and the
// events of each week.
func twelve(t *testing.T) (*DB, *spy, [][]string) {
	t.Helper()
	start := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	c := &clock{at: start}
	db, s := openSpied(t, c.now)
	var ids [][]string
	for week := range 12 {
		c.set(start.Add(time.Duration(week) * 7 * 24 * time.Hour))
		for _, p := range belfry.Parts() {
			if _, err := db.MakePartitions(t.Context(), p, c.now(), 7*24*time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		ids = append(ids, write(t, db, fmt.Sprintf("w%d-", week), 12))
	}
	return db, s, ids
}

var partitionName = regexp.MustCompile(`^(events|deliveries|attempts|suppressions|plan_matches|inbox)_(head|tail|\d{8})$`)

// touched counts, by table, the partitions in which something was looked for,
// and reports reading without an index.
func touched(t *testing.T, what string, list []carried) map[string]int {
	t.Helper()
	out := map[string]map[string]bool{}
	for i := range list {
		list[i].Plan.each(func(n *node) {
			m := partitionName.FindStringSubmatch(n.Relation)
			if n.Type == "Seq Scan" && (m != nil || n.Relation != "") {
				t.Errorf("%s reads all of %s:\n%s", what, n.Relation, list[i].Text)
			}
			if m == nil || n.Loops == 0 || n.Type == "ModifyTable" {
				return
			}
			if out[m[1]] == nil {
				out[m[1]] = map[string]bool{}
			}
			out[m[1]][n.Relation] = true
		})
	}
	counts := map[string]int{}
	for table, names := range out {
		counts[table] = len(names)
	}
	return counts
}

// Statements that know what they look for touch the partition it is in; those
// that cannot know it are a probe of an index in each. Plans are by the sixth
// time, when PostgreSQL may keep one for all: of an unanalysed database, as one
// is that just began, and of one whose tables were found to be small, in which
// they would be kept while the tables grow.
func TestPlansOfPartitions(t *testing.T) {
	t.Run("unanalysed", func(t *testing.T) { plansOfPartitions(t, "") })
	t.Run("analysed", func(t *testing.T) { plansOfPartitions(t, "ANALYZE") })
	// The server looks at one table after the other, at the busy ones first.
	t.Run("plans analysed", func(t *testing.T) { plansOfPartitions(t, "ANALYZE plans") })
	t.Run("deliveries analysed", func(t *testing.T) { plansOfPartitions(t, "ANALYZE deliveries") })
}

func plansOfPartitions(t *testing.T, analyse string) {
	db, s, ids := twelve(t)
	ctx := t.Context()
	if _, err := db.write.ExecContext(ctx, analyse); err != nil {
		t.Fatal(err)
	}
	old := ids[3]
	oldDelivery := belfry.DeliveryID(old[1], 0, "webhook", "ep_1")
	at, err := belfry.IDTime(old[0])
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range []struct {
		name string
		run  func() error
		want map[string]int // most partitions of a table
	}{
		{"an event", func() error { _, err := db.Events(ctx, "t", old[:1]); return err }, map[string]int{"events": 1}},
		{"events of two weeks", func() error { _, err := db.Events(ctx, "t", []string{old[0], ids[5][0]}); return err }, map[string]int{"events": 2}},
		{"a delivery", func() error { _, _, err := db.Delivery(ctx, "t", oldDelivery); return err }, map[string]int{"deliveries": 1}},
		{"attempts", func() error { _, err := db.Attempts(ctx, "t", oldDelivery); return err }, map[string]int{"attempts": 1}},
		{"a trace", func() error { _, err := db.Trace(ctx, "t", old[0], "", TracePage{}); return err },
			map[string]int{"events": 1, "deliveries": 1, "inbox": 1, "suppressions": 1, "plan_matches": 1}},
		{"pending plans", func() error { _, err := db.PendingPlans(ctx, "t", old[0], 2, nil); return err }, map[string]int{"events": 2}},
		{"newest events", func() error { _, _, err := db.ListEvents(ctx, "t", EventFilter{Limit: 5}); return err }, nil},
		{"newest deliveries", func() error { _, _, err := db.ListDeliveries(ctx, "t", DeliveryFilter{Limit: 5}); return err }, nil},
		{"deliveries of an event", func() error { _, _, err := db.ListDeliveries(ctx, "t", DeliveryFilter{Event: old[0]}); return err }, map[string]int{"deliveries": 1}},
		{"a full page of an inbox", func() error { _, _, _, err := db.Inbox(ctx, "t", "user/8", InboxFilter{Limit: 5}); return err }, nil},
		{"marks", func() error {
			yes := true
			_, err := db.MarkInbox(ctx, "t", "user/8", []string{belfry.DeliveryID(old[0], 0, belfry.ChannelInbox, "user/8")}, InboxMark{Read: &yes})
			return err
		}, map[string]int{"inbox": 1}},
		{"due", func() error { _, err := db.DueDeliveries(ctx, "t", DueKey{}, at.AddDate(1, 0, 0), 10, nil); return err }, nil},
		{"planned by others", func() error { _, err := db.PlannedDeliveries(ctx, "t", old, at.AddDate(1, 0, 0), nil); return err }, nil},
		{"due for", func() error {
			_, err := db.DueFor(ctx, "t", "ep_1", false, DueKey{}, at.AddDate(1, 0, 0), 10)
			return err
		}, nil},
		{"urgent for", func() error {
			_, err := db.DueFor(ctx, "t", "ep_1", true, DueKey{}, at.AddDate(1, 0, 0), 10)
			return err
		}, nil},
		{"in line", func() error { _, err := db.InLine(ctx, "t", "ep_1", 7, 10); return err }, nil},
		{"to be parked", func() error { return db.Park(ctx, "t", []string{oldDelivery}) }, map[string]int{"deliveries": 1}},
		{"open to somebody", func() error { _, err := db.OpenOf(ctx, "t", "user/8", old[0], 10); return err }, map[string]int{"deliveries": 1}},
		{"told to somebody", func() error { _, err := db.WasTold(ctx, "t", old[0], "nobody"); return err }, map[string]int{"deliveries": 1, "inbox": 1}},
		{"next due", func() error { _, _, err := db.NextDue(ctx, "t", at, nil); return err }, nil},
		{"a send", func() error {
			n++
			_, err := db.RecordAttempts(ctx, []belfry.Attempt{{Tenant: "t", DeliveryID: oldDelivery, N: n, At: at, State: belfry.Retrying, Due: at}})
			return err
		}, map[string]int{"deliveries": 1}},
		{"old events", func() error {
			_, err := db.Clear(ctx, belfry.Walk{Tenant: "t", Table: "events", Before: at.Add(-8 * 24 * time.Hour)}, "", 100)
			return err
		}, nil},
	} {
		for range 6 {
			if err := c.run(); err != nil {
				t.Fatal(c.name, err)
			}
		}
		list := s.during(t, c.run)
		got := touched(t, c.name, list)
		for table, most := range c.want {
			if got[table] > most || got[table] == 0 {
				t.Errorf("%s looks into %d partitions of %s, want at most %d", c.name, got[table], table, most)
				show(t, list)
			}
		}
		if len(list) == 0 {
			t.Errorf("%s: nothing was heard of it", c.name)
		}
	}
}

func show(t *testing.T, list []carried) {
	for _, c := range list {
		t.Log(c.Text)
		var walk func(n *node, depth int)
		walk = func(n *node, depth int) {
			t.Log(strings.Repeat("  ", depth), n.Type, n.Relation, n.Index, "loops", n.Loops, "rows", n.Rows)
			for i := range n.Plans {
				walk(&n.Plans[i], depth+1)
			}
		}
		walk(&c.Plan, 1)
	}
}

// Some of very many digests that gather are found, filled and moved without a look
// at the others, also on a database that was never analysed, where PostgreSQL
// takes an index of those that gather for empty.
//
// feature: CPS-23
func TestPlansOfDigests(t *testing.T) {
	c := &clock{at: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)}
	db, s := openSpied(t, c.now)
	ctx := t.Context()
	const people, some, most = 3000, 10, 10 * 10
	var names []string
	ch := belfry.Changes{Tenant: "t"}
	for i := range people {
		names = append(names, fmt.Sprintf("u%d", i))
		ch.Members = append(ch.Members, belfry.Member{Subscription: "sub_1", Principal: names[i]})
		ch.OptOuts = append(ch.OptOuts, belfry.OptOut{Subscription: "sub_2", Who: names[i]})
	}
	if _, err := db.Apply(ctx, ch); err != nil {
		t.Fatal(err)
	}
	n := 0
	put := func(names []string) error {
		n++
		e := &belfry.Event{ID: fmt.Sprint(n), Source: "/s", Type: "x"}
		rs, err := db.AcceptEvents(ctx, []belfry.Draft{{Tenant: "t", Event: e, Body: []byte("{}")}})
		if err != nil {
			return err
		}
		page := belfry.PlanPage{Tenant: "t", EventID: rs[0].EventID, Last: true, Decided: 1}
		for _, u := range names {
			page.Deliveries = append(page.Deliveries, belfry.Delivery{Tenant: "t", ID: belfry.DeliveryID(page.EventID, 0, "email", u), EventID: page.EventID, Channel: "email", Principal: u,
				Address: u, Destination: u, Digest: &belfry.Bundling{Key: "daily", Due: c.now().Add(time.Hour)}})
		}
		errs, err := db.CommitPlans(ctx, []belfry.PlanPage{page})
		if err == nil {
			err = errs[0]
		}
		return err
	}
	if err := put(names); err != nil {
		t.Fatal(err)
	}
	key := "daily"
	// move gives some digests another key: those of people to whose slot nobody
	// has gone yet, or, before the first, items to digests that are there.
	move := func(first int, to string) error {
		bundles, err := db.OpenBundles(ctx, "t", nil, "", "", c.now(), 2*people) // and those of others, in any order
		if err != nil {
			return err
		}
		var list []belfry.Regather
		for i := range bundles {
			b := &bundles[i]
			if !slices.Contains(names[first:first+some], b.Principal) || b.Key == to {
				continue
			}
			items, err := db.BundleItems(ctx, "t", []string{b.ID}, 0)
			if err != nil {
				return err
			}
			r := belfry.Regather{Tenant: "t", Bundle: b.ID, Seen: len(items[b.ID]), At: c.now(), Slot: &belfry.Delivery{Principal: b.Principal, Channel: b.Channel, Digest: &belfry.Bundling{Key: b.Key}}}
			for _, it := range items[b.ID] {
				r.Moves = append(r.Moves, belfry.ItemMove{Item: it.ID, To: &belfry.Delivery{Tenant: "t", ID: it.ID, EventID: it.EventID, Channel: "email", Principal: b.Principal,
					Address: b.Address, Destination: b.Destination, Digest: &belfry.Bundling{Key: to, Due: c.now().Add(2 * time.Hour)}}})
			}
			list = append(list, r)
		}
		if len(list) != some {
			return fmt.Errorf("%d digests are to be moved to %s", len(list), to)
		}
		s.mu.Lock()
		s.seen = nil // what found them was to read all
		s.mu.Unlock()
		return db.Regather(ctx, list, nil)
	}
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"more comes", func() error { return put(names[:some]) }},
		{"others begin", func() error { return put([]string{fmt.Sprint("v", n), fmt.Sprint("w", n)}) }},
		{"all of them moves", func() error {
			key += "+"
			return move(some, key)
		}},
		{"they are read", func() error {
			bundles, err := db.OpenBundles(ctx, "t", nil, belfry.MinID(belfry.BundlePrefix, c.now()), "", c.now(), some)
			if err != nil {
				return err
			}
			var ids []string
			for i := range bundles {
				ids = append(ids, bundles[i].ID)
			}
			_, err = db.BundleItems(ctx, "t", ids, 0)
			return err
		}},
		{"the last", func() error { _, err := db.LastBundle(ctx, "t"); return err }},
		{"members", func() error { _, err := db.MembersAmong(ctx, "t", "sub_1", names[:some]); return err }},
		{"opt-outs", func() error { _, err := db.OptOutsAmong(ctx, "t", "sub_2", names[:some]); return err }},
	} {
		for range 6 {
			if err := c.run(); err != nil {
				t.Fatal(c.name, err)
			}
		}
		list := s.during(t, c.run)
		if len(list) == 0 {
			t.Errorf("%s: nothing was heard of it", c.name)
		}
		for i := range list {
			list[i].Plan.each(func(n *node) {
				if read := (n.Rows + n.Refused) * max(n.Loops, 1); n.Relation != "" && read > most {
					t.Errorf("%s: %v rows of %s are read", c.name, read, n.Relation)
					show(t, list[i:i+1])
				}
			})
		}
	}
}

// A tail that is too large to be read under a lock is proven while the server
// works; nothing of the proof stays.
func TestProvenTail(t *testing.T) {
	db, _ := openSpied(t, time.Now)
	ctx := t.Context()
	ids := write(t, db, "e", 4)
	_, err := db.write.ExecContext(ctx, `INSERT INTO events (tenant, id, at, as_of, type, object, body)
		SELECT 't', left($1, 14) || lpad(n::text, 16, '0'), 0, 0, 'x', '', convert_to(repeat('x', 1200), 'UTF8') FROM generate_series(1, 8000) n`, ids[0])
	if err != nil {
		t.Fatal(err)
	}
	list, err := partitions(ctx, db.read, "events")
	if err != nil || list[0].bytes < smallTail {
		t.Fatalf("%+v: %v", list, err)
	}
	if made, err := db.MakePartitions(ctx, belfry.PartEvents, time.Now(), 24*time.Hour); err != nil || made != 1 {
		t.Fatal(made, err)
	}
	if list, err = partitions(ctx, db.read, "events"); err != nil || len(list) != 2 || list[0].bytes < smallTail || list[1].bytes != 0 {
		t.Errorf("%+v: %v", list, err)
	}
	var left int
	if err := db.read.QueryRowContext(ctx, "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'belfry_until%'").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d constraints are left: %v", left, err)
	}
	write(t, db, "more", 4)
}

// What a PostgreSQL that keeps each tenant on one machine can do (see
// docs/scale.md): every key begins with the tenant, and every statement of
// daily work names it.
func TestTenantsCanBeSpread(t *testing.T) {
	db, s := openSpied(t, time.Now)
	ctx := t.Context()
	// Tables that belong to no tenant: they are small and stay on one machine.
	shared := []string{"goose_db_version", "nodes", "leases"}
	rows, err := db.read.QueryContext(ctx, `SELECT t.relname, i.relname, coalesce((SELECT a.attname FROM pg_attribute a WHERE a.attrelid = i.oid AND a.attnum = 1), '')
		FROM pg_class t JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
		WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') ORDER BY 1, 2`)
	indexes := 0
	err = each(rows, err, func(rows *sql.Rows) error {
		var table, index, first string
		if err := rows.Scan(&table, &index, &first); err != nil {
			return err
		}
		if indexes++; first != "tenant" && !slices.Contains(shared, table) {
			t.Errorf("index %s of %s begins with %s, not with the tenant", index, table, first)
		}
		return nil
	})
	if err != nil || indexes < 40 {
		t.Fatal(indexes, err)
	}
	// The page that says how to lay them out names every one.
	page, err := os.ReadFile("../../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	_, layout, _ := strings.Cut(string(page), "create_distributed_table('versions'")
	rows, err = db.read.QueryContext(ctx, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition")
	err = each(rows, err, func(rows *sql.Rows) error {
		var table string
		err := rows.Scan(&table)
		if table != "versions" && !strings.Contains(layout, "'"+table+"'") && !strings.Contains(layout, "`"+table+"`") {
			t.Errorf("docs/scale.md does not say where table %s belongs", table)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	list := s.during(t, func() error {
		ids := write(t, db, "e", 12)
		readBack(t, db, ids)
		ch := belfry.Changes{Tenant: "t",
			Objects: []belfry.Object{{ID: "o", Type: "course"}, {ID: "p", Parent: "o"}}, Users: []belfry.User{{ID: "user/8", State: belfry.UserActive, Email: "a@example.org"}},
			Groups: []belfry.Group{{ID: "g", Members: []string{"user/8"}}}, Grants: []belfry.GrantSet{{Object: "o", Origin: "k", Grants: []belfry.Grant{{Principal: "user/8", Role: "r"}}}},
			Subscriptions: []belfry.Subscription{{ID: "sub_1", State: belfry.SubscriptionActive}}, Members: []belfry.Member{{Subscription: "sub_1", Principal: "user/8"}},
			Documents: []belfry.Document{{Kind: "template", ID: "x", Body: []byte("{}")}}, Audit: []belfry.AuditEntry{{Who: "k"}},
		}
		if _, err := db.Apply(ctx, ch); err != nil {
			return err
		}
		drop := belfry.Changes{Tenant: "t", DeleteObjects: []string{"o"}, DeleteUsers: []string{"user/8"}, DropGroups: []string{"g"},
			DropMembers: []belfry.Member{{Subscription: "sub_1", Principal: "user/8"}}, DropDocuments: []belfry.DocumentKey{{Kind: "template", ID: "x"}}}
		if _, err := db.Apply(ctx, drop); err != nil {
			return err
		}
		later := time.Now().Add(time.Hour)
		for _, table := range []string{"deliveries", "suppressions", "plan_matches", "inbox", "events"} {
			if _, err := db.Clear(ctx, belfry.Walk{Tenant: "t", Table: table, Before: later, Keep: map[string]time.Time{"y": {}}}, "", 100); err != nil {
				return err
			}
		}
		for _, f := range []func() error{
			func() error { _, err := db.ClearDedupe(ctx, "t", later, "", 100); return err },
			func() error { _, err := db.ClearAudit(ctx, "t", later, 100); return err },
			func() error { _, err := db.ClearChanges(ctx, "t", 3, 100); return err },
			func() error { _, err := db.PendingPlans(ctx, "t", "", 10, nil); return err },
			func() error { _, err := db.DueDeliveries(ctx, "t", DueKey{}, later, 10, nil); return err },
			func() error { _, err := db.PlannedDeliveries(ctx, "t", ids, later, []int{1}); return err },
			func() error { _, err := db.HeldTenants(ctx, later); return err },
			func() error { _, err := db.DueFor(ctx, "t", "ep_1", false, DueKey{}, later, 10); return err },
			func() error { _, err := db.DueFor(ctx, "t", "ep_1", true, DueKey{}, later, 10); return err },
			func() error { _, err := db.InLine(ctx, "t", "ep_1", 7, 10); return err },
			func() error { return db.Park(ctx, "t", ids) },
			func() error { _, err := db.OpenOf(ctx, "t", "user/8", ids[0], 10); return err },
			func() error { _, err := db.WasTold(ctx, "t", ids[0], "user/8"); return err },
			func() error { _, err := db.ChangesSince(ctx, "t", 0, 10); return err },
			func() error { _, _, err := db.FindDeliveries(ctx, "t", belfry.DeliverySelect{}, "", 10); return err },
			func() error { _, err := db.LastAttempts(ctx, "t", ids); return err },
		} {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	})
	// Statements about all tenants: counted once a start, listed, or made over
	// the few rows that say how far each tenant is.
	all := []string{"FROM versions WHERE tenant = ANY", "SELECT tenant, version FROM versions", "SELECT tenant, count(*)", "pg_database_size"}
	named := regexp.MustCompile(`tenant = (\$\d|a\.tenant|v\.tenant)|\(tenant, |\(tenant\)`)
	for _, c := range list {
		known := named.MatchString(c.Text)
		for _, a := range all {
			known = known || strings.Contains(c.Text, a)
		}
		if !known {
			t.Errorf("this names no tenant:\n%s", c.Text)
		}
	}
	if len(list) < 60 {
		t.Errorf("only %d statements were heard of", len(list))
	}
}

// What another node planned is found by its ids, not among all that is open or
// ended lately, whatever the statistics take the table for.
func TestPlansOfWhatOthersPlanned(t *testing.T) {
	c := &clock{at: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)}
	db, s := openSpied(t, c.now)
	ctx := t.Context()
	for _, p := range belfry.Parts() {
		if _, err := db.MakePartitions(ctx, p, c.now(), 7*24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	ids := write(t, db, "a-", 1000)
	var shards []int
	for i := range belfry.Shards / 2 {
		shards = append(shards, 2*i)
	}
	read := func() error {
		_, err := db.PlannedDeliveries(ctx, "t", ids[500:510], c.now().Add(time.Hour), shards)
		return err
	}
	for _, analysed := range []bool{false, true} {
		for range 6 {
			if err := read(); err != nil {
				t.Fatal(err)
			}
		}
		list := s.during(t, read)
		looked := 0
		for i := range list {
			list[i].Plan.each(func(n *node) {
				if m := partitionName.FindStringSubmatch(n.Relation); m == nil || m[1] != "deliveries" || n.Loops == 0 {
					return
				}
				if looked++; !strings.HasSuffix(n.Index, "_pkey") {
					t.Errorf("analysed %v: %s is read by %q", analysed, n.Relation, n.Index)
					show(t, list[i:i+1])
				}
			})
		}
		if looked == 0 {
			t.Error("nothing was looked for")
		}
		if _, err := db.write.ExecContext(ctx, "ANALYZE deliveries"); err != nil {
			t.Fatal(err)
		}
	}
}

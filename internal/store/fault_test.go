package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testdb"
)

// childURL makes this test binary the victim of TestKilled: see victim.
const childURL = "BELFRY_TEST_STORE_VICTIM"

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		if err := victim(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	verify(m)
}

// victim does all kinds of work on a store as fast as it can and prints what
// was acknowledged, until it is killed.
func victim(url string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	errs := make(chan error)
	say := func(word, id string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(word, id)
	}
	for c := range 8 {
		go func() {
			errs <- func() error {
				for n := 0; ; n++ {
					rs, err := db.AcceptEvents(ctx, []belfry.Draft{simple(fmt.Sprintf("%d-%d-%d", os.Getpid(), c, n))})
					if err != nil {
						return err
					}
					id := rs[0].EventID
					say("accepted", id)
					p := page(id, 2)
					p.Deliveries = append(p.Deliveries, belfry.Delivery{Tenant: belfry.DefaultTenant, ID: belfry.DeliveryID(id, 0, belfry.ChannelInbox, "u"), EventID: id,
						Channel: belfry.ChannelInbox, Principal: "u", Address: "u", Destination: "u"})
					if pages, err := db.CommitPlans(ctx, []belfry.PlanPage{p}); err != nil || pages[0] != nil {
						return errors.Join(err, pages[0])
					}
					say("planned", id)
					ok, err := db.RecordAttempts(ctx, []belfry.Attempt{{Tenant: belfry.DefaultTenant, DeliveryID: p.Deliveries[0].ID, N: 1, State: belfry.Delivered}})
					if err != nil || !ok[0] {
						return errors.Join(err, errors.New("not applied"))
					}
					say("recorded", p.Deliveries[0].ID)
				}
			}()
		}()
	}
	return <-errs
}

func simple(id string) belfry.Draft {
	e := &belfry.Event{ID: id, Source: "/test", Type: "t", Time: time.Unix(1, 0).UTC()}
	return belfry.Draft{Tenant: belfry.DefaultTenant, Event: e, Body: []byte(fmt.Sprintf(`{"id":%q,"source":"/test","type":"t","time":"1970-01-01T00:00:01Z"}`, id))}
}

// What a store acknowledged is there after kill -9 in the middle of its work,
// and the next process gets the database at once. feature: NEW-10, NEW-12
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]func(testing.TB) string{"sqlite": storetest.SQLitePlace, "postgres": testdb.Postgres} {
		t.Run(name, func(t *testing.T) {
			url := place(t)
			said := map[string][]string{}
			for range 3 {
				cmd := exec.Command(self, "-test.run=^$")
				cmd.Env = append(os.Environ(), childURL+"="+url)
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				// A line is counted only when it is whole: the last may be cut.
				lines := bufio.NewReader(out)
				for n := 0; ; n++ {
					line, err := lines.ReadString('\n')
					if err != nil {
						break
					}
					word, id, _ := strings.Cut(strings.TrimSpace(line), " ")
					said[word] = append(said[word], id)
					if n == 400 {
						if err := cmd.Process.Kill(); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() == 1 {
					t.Fatalf("the victim ended by itself: %v", err)
				}
			}
			db := storetest.Open(t, url)
			ctx := context.Background()
			if len(said["accepted"]) < 100 || len(said["planned"]) < 100 || len(said["recorded"]) < 100 {
				t.Fatalf("the victims did too little: %d accepted, %d planned, %d recorded", len(said["accepted"]), len(said["planned"]), len(said["recorded"]))
			}
			events, err := db.Events(ctx, belfry.DefaultTenant, said["accepted"])
			if err != nil || len(events) != len(said["accepted"]) {
				t.Errorf("%d of %d acknowledged events are there (%v)", len(events), len(said["accepted"]), err)
			}
			for _, id := range said["planned"] {
				tr, err := db.Trace(ctx, belfry.DefaultTenant, id, "", store.TracePage{})
				if err != nil || !tr.Planned || len(tr.Deliveries) != 3 || len(tr.Matches) != 1 {
					t.Errorf("the plan of %s: planned %v, %d deliveries, %d runs with matches (%v)", id, tr.Planned, len(tr.Deliveries), len(tr.Matches), err)
				}
			}
			for _, id := range said["recorded"] {
				d, ok, err := db.Delivery(ctx, belfry.DefaultTenant, id)
				if err != nil || !ok || d.State != belfry.Delivered || d.Attempts != 1 {
					t.Errorf("the recorded delivery %s: %v, %d attempts (%v)", id, d.State, d.Attempts, err)
				}
			}
		})
	}
}

// A PostgreSQL that crashes makes calls fail as Unavailable, and all works
// again when it is back, without anybody reopening the store.
func TestPostgresGoesAwayAndComesBack(t *testing.T) {
	server := testdb.NewPostgres(t)
	url := server.Database(t)
	db := storetest.Open(t, url)
	ctx := context.Background()
	if _, err := db.AcceptEvents(ctx, []belfry.Draft{simple("before")}); err != nil {
		t.Fatal(err)
	}
	for round, stop := range []func(){server.Crash, server.Stop} {
		stop()
		calls := map[string]func() error{
			"accept": func() error {
				_, err := db.AcceptEvents(ctx, []belfry.Draft{simple(fmt.Sprint("during", round))})
				return err
			},
			"plan": func() error { _, err := db.CommitPlans(ctx, []belfry.PlanPage{page("evt_x", 1)}); return err },
			"record": func() error {
				_, err := db.RecordAttempts(ctx, []belfry.Attempt{{Tenant: "t", DeliveryID: "d", N: 1}})
				return err
			},
			"apply": func() error { _, err := db.Apply(ctx, belfry.Changes{Tenant: belfry.DefaultTenant}); return err },
			"source": func() error {
				_, _, err := db.CommitSource(ctx, "t", "s", belfry.Changes{}, nil, []byte("x"))
				return err
			},
			"inbox": func() error {
				_, err := db.MarkInbox(ctx, "t", "p", nil, store.InboxMark{Snooze: new(time.Time)})
				return err
			},
			"version": func() error { _, err := db.Version(ctx, belfry.DefaultTenant); return err },
			"ping":    func() error { return db.Ping(ctx) },
		}
		for name, call := range calls {
			for try := range 2 { // the first meets a dead connection, the second none at all
				if err := call(); belfry.KindOf(err) != belfry.Unavailable {
					t.Errorf("round %d, %s, try %d: %v, want Unavailable", round, name, try, err)
				}
			}
		}
		server.Start(t)
		for name, call := range calls {
			// A pooled connection to the old server may be met once more.
			err := call()
			for range 8 {
				if belfry.KindOf(err) == belfry.Unavailable {
					err = call()
				}
			}
			if err != nil {
				t.Errorf("round %d, %s after the return: %v", round, name, err)
			}
		}
		rs, err := db.AcceptEvents(ctx, []belfry.Draft{simple("before"), simple(fmt.Sprint("after", round))})
		if err != nil || !rs[0].Duplicate || rs[1].Duplicate {
			t.Fatalf("round %d: %+v, %v", round, rs, err)
		}
	}
	stats, err := db.Stats(ctx)
	if err != nil || stats.Tenants[belfry.DefaultTenant].PendingPlans < 3 {
		t.Errorf("stats after all: %+v, %v", stats, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/file"
	if err := os.WriteFile(file, []byte("this is no database, whatever its name says; it is long enough to be looked at"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := dir + "/damaged.db"
	if err := os.Rename(file, damaged); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"":                              "must be sqlite:<folder> or postgres://",
		"mysql://x":                     "must be sqlite:<folder> or postgres://",
		"sqlite:":                       "needs the path",
		"sqlite:" + file + "/data":      "data folder cannot be made",
		"sqlite:" + damaged:             "damaged",
		"postgres://%zz":                "not understood",
		"postgres://127.0.0.1:1/belfry": "cannot be reached",
	} {
		_, err := store.Open(t.Context(), store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want words like %q", url, err, want)
		}
	}
}

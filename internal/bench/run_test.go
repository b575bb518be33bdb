package bench_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/bench"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/testdb"
)

// The test binary is the program of its own child processes.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		if err := serve(); err != nil {
			slog.Error(err.Error())
			os.Exit(1)
		}
		return
	}
	testdb.Main(m)
}

func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := config.Load(config.Sources{Environ: os.Environ()})
	if err != nil {
		return err
	}
	a, err := app.New(ctx, app.Options{Config: c, Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)), Version: "test"})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// A run too short for its figures to mean anything, on real parts.
// feature: NEW-18
func TestRun(t *testing.T) {
	plotted := []string{"million", "announcement", "hostile", "growth", "hanging"}
	for _, c := range []struct {
		name, database string
		only, plotted  []string
	}{
		{"sqlite", "", append([]string{"match", "load", "disk", "ceiling", "fanout", "single", "latency", "ingest", "inbox", "start", "backlog", "plan", "roles", "digests"}, plotted...), plotted},
		{"postgres", testdb.Postgres(t), []string{"fanout", "ingest", "inbox", "start", "load", "plan", "roles", "digests", "million", "nodes", "failover"}, []string{"million", "failover"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			temporary, plots := t.TempDir(), t.TempDir()
			t.Setenv("TMPDIR", temporary)
			var progress strings.Builder
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute) // bounds one that hangs
			defer cancel()
			report, err := bench.Run(ctx, bench.Options{
				Size: bench.Size{
					Quick: true, Rounds: 1, Window: 250 * time.Millisecond, Latency: time.Second, Endpoints: 5, Outstanding: 512, InboxEvents: 20, People: 50,
					Backlog: 500, Match: []int{100}, Load: 100, Starts: 1, Fsyncs: 5, Settle: 50 * time.Millisecond,
					Hanging:  bench.Hanging{Endpoints: 4, Hang: 1, Pause: 400 * time.Millisecond, PerSecond: 80, Window: time.Second, Rounds: 1},
					Crowd:    bench.Crowd{Members: 300, Stored: 1, Events: 1},
					Growth:   bench.Growth{Stored: []int{100, 500}, Window: 100 * time.Millisecond, Limit: time.Minute},
					Failover: bench.Failover{Nodes: 2, Endpoints: 2, People: 2, PerSecond: 60, Window: 5 * time.Second, KillAfter: time.Second, Lease: 2 * time.Second},
					Hostile:  bench.Hostile{Members: 300, Endpoints: 5, PerSecond: 80, Small: 80, Idle: 500 * time.Millisecond},
					Planning: bench.Planning{People: 60, Subscriptions: 3, Rules: 4, Each: 2, Events: 1},
					Roles:    bench.Roles{Objects: 200, Grants: 4, People: 50, Events: 40, Edits: 2},
					Digests:  bench.Digests{People: 40, Group: 10, Items: 4},
				},
				Only: c.only, Plots: plots,
				Database: c.database, Program: []string{os.Args[0], "serve"}, Progress: &progress,
				Start: func(ctx context.Context, c config.Config, with bench.Parts) (bench.Server, error) {
					return app.New(ctx, app.Options{Config: c, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "test", Kinds: with.Kinds, Ahead: with.Ahead})
				},
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, progress.String())
			}
			t.Log(progress.String())
			raw, err := json.Marshal(report)
			if err != nil {
				t.Fatal(err)
			}
			var figures map[string]any
			if err := json.Unmarshal(raw, &figures); err != nil {
				t.Fatal(err)
			}
			for key, v := range figures {
				if n, ok := v.(float64); ok && n <= 0 {
					t.Errorf("%s is %v", key, n)
				}
			}
			if figures["database"] != c.name {
				t.Errorf("measured on %v", figures["database"])
			}
			for _, name := range c.plotted {
				if text, err := os.ReadFile(filepath.Join(plots, name+".svg")); err != nil || !strings.Contains(string(text), "<polyline") {
					t.Errorf("plot %s: %v", name, err)
				}
			}
			left, err := os.ReadDir(temporary)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

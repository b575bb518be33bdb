package doctest_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/doctest"
)

// The examples of docs/api.md, as written, against the real program.
func TestAPIExamples(t *testing.T) { runDocument(t, "../../docs/api.md", nil) }

// runDocument runs a document's examples against a program of their own.
func runDocument(t *testing.T, file string, vars map[string]string) {
	t.Helper()
	cfg := config.Default()
	cfg.Listen = "127.0.0.1:0"
	cfg.DataDir = t.TempDir()
	// A channel that all tenants share, which nobody is told by unasked.
	cfg.Channels = map[string]map[string]string{"letters": {"kind": "email", "url": "smtp://127.0.0.1:1", "from": "school@example.org"}}
	cfg.BootstrapKey = "root-key-of-the-documentation-0123"
	a, err := app.New(t.Context(), app.Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Version: "docs"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	doctest.Run(t, file, a.URL(), string(cfg.BootstrapKey), vars)
}

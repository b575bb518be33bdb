package app_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// An examination beside a running server finds what is set up in its database,
// what of that does not work, and whether the key opens it.
func TestExamine(t *testing.T) {
	moodle := testdb.MoodlePostgres(t)
	var cfg config.Config
	w := open(t, func(c *config.Config) { cfg = *c })
	fresh := cfg
	fresh.DataDir = t.TempDir()
	if _, err := app.Examine(t.Context(), &fresh); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a database that is not there: %v", err)
	}
	settings := func(dsn string) map[string]any {
		return map[string]any{"dsn": dsn, "prefix": "mdl_", "wwwroot": "https://school.example", "start": "now"}
	}
	w.call("POST", "/v1/sources", map[string]any{"name": "school", "kind": "moodle", "settings": settings(moodle)}, nil)
	w.call("POST", "/v1/sources", map[string]any{"name": "lost", "kind": "moodle", "settings": settings("postgres://u:hunter2@127.0.0.1:1/x?sslmode=disable")}, nil)
	w.call("POST", "/v1/endpoints", map[string]any{"url": "https://records.example/hook"}, nil)
	e, err := app.Examine(t.Context(), &cfg)
	if err != nil || e.Version != e.Newest || !e.InUse || e.Shared || e.Size == 0 || e.Sealed != 1 || e.Unopened != 0 || len(e.Channels) != 0 || len(e.Sources) != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	slices.SortFunc(e.Sources, func(a, b app.SourceFound) int { return strings.Compare(a.Source, b.Source) })
	for i, want := range []struct{ source, severity, what string }{{"default/lost", "error", "does not answer"}, {"default/school", "ok", "can be read"}} {
		if s := e.Sources[i]; s.Source != want.source || len(s.Found) == 0 || s.Found[0].Severity != want.severity || !strings.Contains(s.Found[0].What, want.what) || strings.Contains(s.Found[0].What, "hunter2") {
			t.Errorf("%+v, want %+v", s, want)
		}
	}

	// Another key opens nothing of it, and the sources say so.
	cfg.SecretKey = []config.Secret{"b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb28="}
	e, err = app.Examine(t.Context(), &cfg)
	if err != nil || e.Unopened != 1 || len(e.Sources) != 2 || e.Sources[0].Found[0].Do != "set its secrets anew" {
		t.Errorf("with another key: %+v, %v", e, err)
	}
}

// A test mail goes the way all others go.
func TestSendTest(t *testing.T) {
	var cfg config.Config
	w := open(t, func(c *config.Config) { cfg = *c })
	if err := app.SendTest(context.Background(), &cfg, "test", "email", "ada@example.org"); err != nil {
		t.Fatal(err)
	}
	cfg.Channels = map[string]map[string]string{"email": {"url": "smtp://127.0.0.1:1", "from": "belfry@example.org"}}
	if err := app.SendTest(context.Background(), &cfg, "test", "email", "ada@example.org"); belfry.KindOf(err) != belfry.Unavailable {
		t.Errorf("by a relay that is away: %v", err)
	}
	if m := w.mail(1); !strings.Contains(m.Text, "test message from Belfry") {
		t.Errorf("%+v", m)
	}
	if err := app.SendTest(context.Background(), &cfg, "test", "webhook", "x"); belfry.KindOf(err) != belfry.NotFound {
		t.Errorf("by a channel without addresses: %v", err)
	}
}

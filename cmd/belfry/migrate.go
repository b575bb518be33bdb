package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/store"
)

type migrateCmd struct {
	settings
	form
}

// Help is the long help.
func (migrateCmd) Help() string {
	return "Starting the server does the same. Use it to see an upgrade through before the servers start, with the servers stopped."
}

// Run migrates.
func (m *migrateCmd) Run(ctx context.Context, w world) error {
	cfg, err := m.load(w)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Options{URL: cfg.DatabaseURL(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: now})
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	where := config.URL(cfg.DatabaseURL()).String()
	if m.JSON {
		return m.out(w).Value(map[string]string{"database": where, "schema": "current"})
	}
	return m.out(w).Line("%s has this program's schema", where)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

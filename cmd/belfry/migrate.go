package main

import (
	"context"

	"github.com/belfryhq/belfry/internal/config"
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
	if _, _, err := open(ctx, &cfg); err != nil {
		return err
	}
	where := config.URL(cfg.DatabaseURL()).String()
	if m.JSON {
		return m.out(w).Value(map[string]string{"database": where, "schema": "current"})
	}
	return m.out(w).Line("%s has this program's schema", where)
}

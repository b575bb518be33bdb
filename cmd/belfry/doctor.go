package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/cli"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/store"
)

type doctorCmd struct {
	settings
	form
}

// Run examines.
func (d *doctorCmd) Run(ctx context.Context, w world) error {
	cfg, err := d.load(w)
	if err != nil {
		return err
	}
	findings := cli.Doctor(ctx, cli.Patient{Config: cfg, Now: time.Now, Channels: app.CheckChannels(&cfg), Open: func(ctx context.Context) error { return open(ctx, &cfg) }})
	sound, err := cli.Diagnosis(d.out(w), &cfg, findings)
	if err == nil && !sound {
		err = errSilent
	}
	return err
}

// open opens the database, which brings its schema up to date, and closes it.
func open(ctx context.Context, cfg *config.Config) error {
	db, err := store.Open(ctx, store.Options{URL: cfg.DatabaseURL(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: now})
	if err != nil {
		return err
	}
	return db.Close()
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

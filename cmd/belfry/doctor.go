package main

import (
	"context"
	"errors"
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

// Help is the long help.
func (doctorCmd) Help() string {
	return "It changes nothing but the schema of a database that no server works on, which it brings up to date as starting the server would. Exit code 1 when something must be mended."
}

// Run examines.
func (d *doctorCmd) Run(ctx context.Context, w world) error {
	cfg, err := d.load(w)
	if err != nil {
		return err
	}
	findings := cli.Doctor(ctx, cli.Patient{Config: cfg, Now: time.Now, Channels: app.CheckChannels(&cfg), Room: room,
		Open: func(ctx context.Context) (int64, int64, error) { return open(ctx, &cfg) }})
	sound, err := cli.Diagnosis(d.out(w), &cfg, findings)
	if err == nil && !sound {
		err = errSilent
	}
	return err
}

// open opens the database, which brings its schema up to date, measures it and
// closes it.
func open(ctx context.Context, cfg *config.Config) (size, free int64, err error) {
	db, err := store.Open(ctx, store.Options{URL: cfg.DatabaseURL(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: now})
	if err != nil {
		return 0, 0, err
	}
	storage, err := db.Storage(ctx)
	return storage.Size, storage.Free, errors.Join(err, db.Close())
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

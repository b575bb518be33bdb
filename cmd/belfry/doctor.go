package main

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/cli"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/store"
)

type doctorCmd struct {
	settings
	SendTo string `placeholder:"ADDRESS" help:"Send a test mail there by the channel email of the configuration."`
	form
}

// Help is the long help.
func (doctorCmd) Help() string {
	return "It only looks, also beside a running server: nothing is made, written or brought up to date, and nothing is sent without --send-to. Exit code 1 when something must be mended."
}

// Run examines.
func (d *doctorCmd) Run(ctx context.Context, w world) error {
	cfg, err := d.load(w)
	if err != nil {
		return err
	}
	findings := cli.Doctor(ctx, cli.Patient{
		Config: cfg, Now: time.Now, Channels: app.CheckChannels(&cfg), Room: store.Room,
		Database: func(ctx context.Context) (cli.Database, error) { return lookAt(ctx, &cfg) },
		SendTo:   d.SendTo,
		Send:     func(ctx context.Context, to string) error { return app.SendTest(ctx, &cfg, version(), "email", to) },
	})
	sound, err := cli.Diagnosis(d.out(w), &cfg, findings)
	if err == nil && !sound {
		err = errSilent
	}
	return err
}

// lookAt looks at the database of a configuration.
func lookAt(ctx context.Context, cfg *config.Config) (cli.Database, error) {
	e, err := app.Examine(ctx, cfg)
	db := cli.Database{
		Version: e.Version, Newest: e.Newest, InUse: e.InUse, Size: e.Size, Free: e.Free, Shared: e.Shared, Ahead: e.Ahead, Within: e.Within,
		Sealed: e.Sealed, Unopened: e.Unopened, Channels: e.Channels,
	}
	states := map[string]string{connector.SeverityOK: cli.OK, connector.SeverityWarning: cli.Warning, connector.SeverityError: cli.Fault}
	for _, s := range e.Sources {
		if s.Paused {
			db.Sources = append(db.Sources, cli.Finding{Check: "source " + s.Source, State: cli.OK, Detail: "it is paused"})
		}
		for _, f := range s.Found {
			detail := f.What
			if f.Do != "" {
				detail += ": " + f.Do
			}
			db.Sources = append(db.Sources, cli.Finding{Check: "source " + s.Source, State: states[f.Severity], Detail: detail})
		}
	}
	return db, err
}

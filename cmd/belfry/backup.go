package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/backup"
	"github.com/belfryhq/belfry/internal/cli"
	"github.com/belfryhq/belfry/internal/config"
)

type backupCmd struct {
	settings
	form
	File string `arg:"" help:"File to write, like belfry-2026-11-26.tar.gz; it must not be there yet."`
}

// Help is the long help.
func (backupCmd) Help() string {
	return "It copies the SQLite database as it is at one moment, while the server runs, with the secret key of the data folder, into one file with checksums that only you may read. " +
		"It needs room for the database beside the file. A PostgreSQL database is backed up by pg_dump: the answer is the command."
}

// Run backs up.
func (b *backupCmd) Run(ctx context.Context, w world) error {
	cfg, err := b.load(w)
	if err != nil {
		return err
	}
	if cfg.OnPostgres() {
		return fmt.Errorf("nothing was backed up: a PostgreSQL database has tools of its own, also while servers run:\n\n    %s\n\nKeep secret_key with it, which is in the configuration; or archive the log, for any point in time", backup.Dump(cfg.DatabaseURL(), b.File))
	}
	m, err := backup.Write(ctx, place(&cfg), b.File, version(), now)
	if err != nil {
		return err
	}
	return cli.BackedUp(b.out(w), b.File, m.Taken, m.Schema, m.HasKey(), len(cfg.SecretKey) > 0, m)
}

// place is where a configuration has its data.
func place(cfg *config.Config) backup.Place {
	return backup.Place{URL: cfg.DatabaseURL(), Key: filepath.Join(cfg.DataDir, "secret.key")}
}

type restoreCmd struct {
	settings
	form
	File  string `arg:"" optional:"" help:"Backup to bring back; may be left out with --hold, for a database that was brought back otherwise."`
	Force bool   `help:"Restore over what is there: it is moved into a folder beside."`
	Hold  bool   `help:"Cancel the deliveries that were open when the backup was taken, so that nothing of it is sent again."`
}

// Help is the long help.
func (restoreCmd) Help() string {
	return "It brings a backup back into an empty data folder, with no server running, after it has held every file to its checksum. " +
		"A server that starts from it goes on from the moment of the backup: what was open then is sent, also what was sent since. " +
		"With --hold it is cancelled instead, with the reason, and `belfry deliveries retry --state cancelled` sends what you choose."
}

// Run restores.
func (r *restoreCmd) Run(ctx context.Context, w world) error {
	cfg, err := r.load(w)
	if err != nil {
		return err
	}
	switch {
	case r.File == "" && !r.Hold:
		return usage{errors.New("which backup? Name its file")}
	case r.File != "" && cfg.OnPostgres():
		return fmt.Errorf("nothing was restored: a PostgreSQL database has tools of its own. With all servers stopped, into an empty database:\n\n    %s\n\n"+
			"Then `belfry restore --hold` cancels what was open in it, if it is not to be sent again", backup.Undump(cfg.DatabaseURL(), r.File))
	case r.File == "":
		held, err := app.Hold(ctx, cfg.DatabaseURL(), "open in a database that was brought back, and held by --hold")
		if err != nil {
			return err
		}
		return cli.HeldBack(r.out(w), held.Cancelled, held.Unplanned)
	}
	var held app.Held
	terms := backup.Restore{Archive: r.File, To: place(&cfg), Force: r.Force, Now: now}
	if r.Hold {
		terms.Prepare = func(ctx context.Context, url string, m *backup.Manifest) (err error) {
			held, err = app.Hold(ctx, url, "open in the backup of "+m.Taken.Format("2006-01-02T15:04:05Z")+", and held by --hold")
			return err
		}
	}
	done, err := terms.Run(ctx)
	if err != nil {
		return err
	}
	found, err := app.Examine(ctx, &cfg)
	if err != nil {
		return err
	}
	return cli.BroughtBack(r.out(w), cli.Restored{
		Database: done.Database, Key: done.Key, Aside: done.Aside, Taken: done.Manifest.Taken, Schema: done.Manifest.Schema, Program: done.Manifest.Program,
		Held: r.Hold, Cancelled: held.Cancelled, Unplanned: held.Unplanned, Sealed: found.Sealed, Unopened: found.Unopened, KeyConfigured: len(cfg.SecretKey) > 0,
	})
}

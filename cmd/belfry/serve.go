package main

import (
	"context"
	"fmt"
	"os"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/cli"
)

type serveCmd struct {
	settings
}

// Help is the long help.
func (serveCmd) Help() string {
	return "Without flags it keeps everything in ./belfry-data and listens on 127.0.0.1:8420. The first start prints a key once. " +
		"Stop it with SIGTERM or Ctrl-C: it ends what it has begun; a second one stops it at once."
}

// Run serves until a signal.
func (s *serveCmd) Run(ctx context.Context, w world) error {
	cfg, err := s.load(w)
	if err != nil {
		return err
	}
	a, err := app.New(ctx, app.Options{Config: cfg, Log: logger(&cfg, w.err), Version: version()})
	if err != nil {
		return err
	}
	if cfg.BootstrapKey == "" {
		key, err := cli.FirstKey(ctx, a.Auth())
		if err != nil {
			_ = a.Close()
			return err
		}
		if key != "" {
			_, _ = fmt.Fprintf(w.out, "This server had no key yet. This one may do everything; it is shown only now:\n\n    %s\n\nTry it in another window:\n\n    export BELFRY_KEY=%s BELFRY_SERVER=%s\n    %[4]s publish --type hello.world && %[4]s tail\n\n", key, key, a.URL(), os.Args[0])
		}
	}
	return a.Run(ctx)
}

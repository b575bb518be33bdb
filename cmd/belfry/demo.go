package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/demo"
	"github.com/belfryhq/belfry/internal/secret"
)

type demoCmd struct {
	Listen   string `placeholder:"HOST:PORT" help:"Address of the page; left out: 127.0.0.1:8420, or a free port when that is taken."`
	LogLevel string `default:"warn" placeholder:"LEVEL" help:"debug, info, warn or error."`
}

// Help is the long help.
func (demoCmd) Help() string {
	return "A school with teachers, students and a records system, a mail server and a webhook receiver that keep what they get, and a page " +
		"on which you let things happen and see who hears of them, how and why. Everything is temporary and stays on this machine."
}

// Run shows the school until a signal.
func (d *demoCmd) Run(ctx context.Context, w world) error {
	folder, err := os.MkdirTemp("", "belfry-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	cfg := config.Default()
	cfg.Log.Level = d.LogLevel
	log := logger(&cfg, w.err)
	clock := func() time.Time { return time.Now().UTC() }
	show, err := demo.NewShow(log, clock)
	if err != nil {
		return err
	}
	key := secret.MakeToken("bfy_")
	cfg.Listen, cfg.DataDir = d.Listen, folder
	cfg.BootstrapKey = config.Secret(key)
	cfg.OutboundAllow = []string{"127.0.0.0/8"}
	cfg.Channels = map[string]map[string]string{"email": {"url": show.MailURL(), "from": demo.From}}
	options := app.Options{Config: cfg, Log: log, Version: version(), Pages: show}
	if d.Listen == "" {
		options.Config.Listen = config.Default().Listen
	}
	a, err := app.New(ctx, options)
	if d.Listen == "" && errors.Is(err, syscall.EADDRINUSE) {
		options.Config.Listen = "127.0.0.1:0"
		a, err = app.New(ctx, options)
	}
	if err != nil {
		return err
	}
	api, err := client.New(a.URL(), key, "")
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.Run(ctx) })
	g.Go(func() error { return show.Run(ctx, api) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-show.Ready():
			_, _ = fmt.Fprintf(w.out, "The school is open: %s%s\n\n  API         %s/docs   (key %s)\n  mail        %s\n  webhooks    %s\n\nStop it with Ctrl-C; nothing is kept.\n",
				a.URL(), demo.Path, a.URL(), key, show.MailURL(), show.HookURL())
		}
		return nil
	})
	return g.Wait()
}

package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/belfryhq/belfry/internal/cli"
)

type applyCmd struct {
	File   string `short:"f" required:"" placeholder:"FILE" help:"The manifest, YAML or JSON; - for standard input."`
	DryRun bool   `help:"Show what would change, and change nothing."`
	Prune  bool   `help:"Remove what the manifest made before and does not hold any more, of the parts it has."`
	remote
}

// Run applies a manifest.
func (a *applyCmd) Run(ctx context.Context, w world) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	return cli.Apply(ctx, c, a.out(w), a.File, w.in, a.DryRun, a.Prune)
}

type exportCmd struct {
	Output string `short:"o" placeholder:"FILE" help:"Write to this file instead of standard output."`
	Name   string `placeholder:"NAME" help:"Name of the manifest, under which what it makes is remembered."`
	remote
}

// Run exports.
func (e *exportCmd) Run(ctx context.Context, w world) (err error) {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out io.Writer = w.out
	if e.Output != "" {
		f, err := os.OpenFile(e.Output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	return cli.ExportConfiguration(ctx, c, cli.Out{Writer: out, JSON: e.JSON}, e.Name)
}

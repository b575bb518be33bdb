package main

import (
	"context"
	"errors"

	"github.com/belfryhq/belfry/internal/cli"
)

type backtestCmd struct {
	ID    string `arg:"" optional:"" placeholder:"SUBSCRIPTION" help:"Id of a saved subscription (sub_...). Without it, -f gives one that is not saved."`
	File  string `short:"f" placeholder:"FILE" help:"Read a subscription as JSON, as POST /v1/subscriptions takes it; - is standard input."`
	Since string `placeholder:"TIME" help:"Events accepted at or after this time (RFC 3339); a week before --until when left out."`
	Until string `placeholder:"TIME" help:"Events accepted before this time; now when left out."`
	remote
}

// Run tests a subscription on past events.
func (b *backtestCmd) Run(ctx context.Context, w world) error {
	if (b.ID == "") == (b.File == "") {
		return usage{errors.New("which subscription? Give the id of a saved one (sub_...), or a draft with -f")}
	}
	c, err := b.client()
	if err != nil {
		return err
	}
	return cli.BacktestNow(ctx, c, b.out(w), cli.BacktestOf{ID: b.ID, File: b.File, In: w.in, Since: b.Since, Until: b.Until}, progress(w))
}

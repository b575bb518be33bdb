package main

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/cli"
)

type tailCmd struct {
	Type   string        `short:"t" placeholder:"TYPE" help:"Only of this type; a prefix may end in *."`
	Object string        `short:"o" placeholder:"ID" help:"Only at this object."`
	Last   int           `short:"n" default:"10" help:"How many of the past (${default})."`
	Follow bool          `short:"f" help:"Go on with new ones until Ctrl-C."`
	Every  time.Duration `default:"1s" help:"With -f: time between looks (${default})."`
	remote
}

// Run shows events.
func (t *tailCmd) Run(ctx context.Context, w world) error {
	c, err := t.client()
	if err != nil {
		return err
	}
	return cli.Tail(ctx, c, t.out(w), cli.Watch{Type: t.Type, Object: t.Object, Last: max(t.Last, 0), Follow: t.Follow, Every: max(t.Every, 100*time.Millisecond)})
}

package main

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"

	"github.com/belfryhq/belfry/internal/cli"
)

type usersCmd struct {
	Export exportUserCmd `cmd:"" help:"Write all that is held about a person, as lines of JSON."`
	Erase  eraseUserCmd  `cmd:"" help:"Erase a person everywhere."`
}

type exportUserCmd struct {
	ID     string `arg:"" name:"id" help:"Id of the user, or an address that no user has."`
	Output string `short:"o" placeholder:"FILE" help:"Write to this file instead of standard output."`
	Zip    bool   `help:"As an archive; needs -o."`
	remote
}

// Run exports.
func (e *exportUserCmd) Run(ctx context.Context, w world) (err error) {
	if e.Zip && e.Output == "" {
		return usage{errors.New("where to? Name a file with -o for an archive")}
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var out io.Writer = w.out
	if e.Output != "" {
		f, err := os.OpenFile(e.Output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // what is in it is nobody else's business
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	return cli.ExportUser(ctx, c, out, e.ID, e.Zip)
}

type eraseUserCmd struct {
	ID string `arg:"" name:"id" help:"Id of the user, or an address that no user has."`
	waiting
	remote
}

// Run erases.
func (e *eraseUserCmd) Run(ctx context.Context, w world) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	return cli.Order(ctx, c, e.out(w), "/v1/users/"+url.PathEscape(e.ID)+"/erase", map[string]any{}, !e.NoWait, progress(w))
}

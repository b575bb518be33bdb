package main

import (
	"context"

	"github.com/belfryhq/belfry/internal/cli"
)

type digestsCmd struct {
	List listDigestsCmd `cmd:"" help:"List digests, newest first; --state open lists what gathers."`
	Show showDigestCmd  `cmd:"" help:"Show one digest and what it tells."`
	Send sendDigestCmd  `cmd:"" help:"Send one that gathers now, with what it has."`
}

type listDigestsCmd struct {
	State     string `placeholder:"STATE" help:"open, sealed, sent or over."`
	Recipient string `placeholder:"ID" help:"For this user or address."`
	Last      int    `short:"n" default:"50" help:"How many at most (${default})."`
	remote
}

// Run lists digests.
func (l *listDigestsCmd) Run(ctx context.Context, w world) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	return cli.ListDigests(ctx, c, l.out(w), map[string]string{"state": l.State, "recipient": l.Recipient}, l.Last)
}

type showDigestCmd struct {
	ID string `arg:"" name:"id" help:"Id of the digest (bnd_...)."`
	remote
}

// Run shows a digest.
func (s *showDigestCmd) Run(ctx context.Context, w world) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return cli.OneDigest(ctx, c, s.out(w), s.ID, false)
}

type sendDigestCmd struct {
	ID string `arg:"" name:"id" help:"Id of the digest (bnd_...)."`
	remote
}

// Run sends a digest.
func (s *sendDigestCmd) Run(ctx context.Context, w world) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return cli.OneDigest(ctx, c, s.out(w), s.ID, true)
}

package main

import (
	"context"
	"errors"

	"github.com/belfryhq/belfry/internal/cli"
)

var errNoEvent = errors.New("say what happened: --type core.course_updated, or -f with a file of events")

type explainCmd struct {
	EventID   string `arg:"" optional:"" placeholder:"EVENT" help:"Id of a stored event (evt_...). Without it, the flags describe an event that did not happen: nothing is stored, nothing sent."`
	Principal string `short:"p" placeholder:"ID" help:"Only what becomes of this person, address or endpoint."`
	event
	remote
}

// Run explains.
func (e *explainCmd) Run(ctx context.Context, w world) error {
	described := e.File != "" || e.Type != ""
	if e.EventID == "" && !described {
		return usage{errors.New("of which event? Give an id (evt_...), or describe one with --type")}
	}
	if e.EventID != "" && described {
		return usage{errors.New("give the id of a stored event or describe one, not both")}
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	return cli.Explain(ctx, c, e.out(w), cli.Question{EventID: e.EventID, Principal: e.Principal, Suppose: e.draft(w)})
}

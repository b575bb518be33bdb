package main

import (
	"context"

	"github.com/belfryhq/belfry/internal/cli"
)

// event are the flags that describe an event.
type event struct {
	File        string   `short:"f" placeholder:"FILE" help:"Read one event or an array of them, as JSON; - is standard input."`
	Type        string   `short:"t" placeholder:"TYPE" help:"What happened, like core.course_updated."`
	Object      string   `short:"o" placeholder:"ID" help:"Where, like course/41."`
	Actor       string   `short:"a" placeholder:"ID" help:"Who did it, like user/8."`
	Related     []string `short:"r" placeholder:"ID" help:"Whom it is about; may be repeated."`
	Destination string   `placeholder:"ID" help:"The second object of a copy or move."`
	Data        string   `short:"d" placeholder:"JSON" help:"What there is to say about it."`
	Record      string   `placeholder:"JSON" help:"The row as it is now, or false when it is gone."`
	Flags       []string `name:"flag" placeholder:"FLAG" help:"silent, anonymous, notify_local_only or notify_no_local; may be repeated."`
	ID          string   `name:"id" placeholder:"ID" help:"Its id: a repeat with the same source and id is ignored."`
	Source      string   `placeholder:"URI" help:"Who says so; the key's name when left out."`
	Subject     string   `placeholder:"TEXT" help:"Subject attribute of CloudEvents."`
	Time        string   `placeholder:"TIME" help:"When, RFC 3339; now when left out."`
}

func (e *event) draft(w world) cli.Draft {
	return cli.Draft{
		File: e.File, In: w.in, ID: e.ID, Source: e.Source, Type: e.Type, Object: e.Object, Actor: e.Actor, Destination: e.Destination, Subject: e.Subject,
		Time: e.Time, Related: e.Related, Flags: e.Flags, Data: e.Data, Record: e.Record,
	}
}

type publishCmd struct {
	event
	remote
}

// Run publishes.
func (p *publishCmd) Run(ctx context.Context, w world) error {
	if p.File == "" && p.Type == "" {
		return usage{errNoEvent}
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	return cli.Publish(ctx, c, p.out(w), p.draft(w))
}

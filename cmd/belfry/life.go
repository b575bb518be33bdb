package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/belfryhq/belfry/internal/cli"
)

type deliveriesCmd struct {
	List   listDeliveriesCmd `cmd:"" help:"List deliveries, newest first; --state failed lists the dead letters."`
	Show   showDeliveryCmd   `cmd:"" help:"Show one delivery; --json with every attempt."`
	Retry  retryCmd          `cmd:"" help:"Send one again now, or all that filters choose."`
	Cancel cancelCmd         `cmd:"" help:"Cancel one, or all that filters choose."`
}

// choosing are the filters of deliveries.
type choosing struct {
	State        string `placeholder:"STATE" help:"scheduled, retrying, delivered, failed, suppressed or cancelled."`
	Recipient    string `placeholder:"ID" help:"To this user or address."`
	Event        string `placeholder:"ID" help:"Of this event."`
	Channel      string `placeholder:"NAME" help:"By this channel."`
	Endpoint     string `placeholder:"ID" help:"To this endpoint."`
	Subscription string `placeholder:"ID" help:"By this subscription."`
	Since        string `placeholder:"TIME" help:"Of events accepted at or after this time (RFC 3339)."`
	Until        string `placeholder:"TIME" help:"Of events accepted before this time."`
}

func (f *choosing) choice() map[string]string {
	return map[string]string{"state": f.State, "recipient": f.Recipient, "event": f.Event, "channel": f.Channel,
		"endpoint": f.Endpoint, "subscription": f.Subscription, "since": f.Since, "until": f.Until}
}

// waiting says whether a command waits for its job.
type waiting struct {
	NoWait bool `help:"Do not wait for the job's end."`
}

// progress is where progress is shown: a terminal, or nowhere.
func progress(w world) io.Writer {
	if f, ok := w.err.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return f
		}
	}
	return nil
}

type listDeliveriesCmd struct {
	choosing
	Last int `short:"n" default:"50" help:"How many at most (${default})."`
	remote
}

// Run lists deliveries.
func (l *listDeliveriesCmd) Run(ctx context.Context, w world) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	return cli.ListDeliveries(ctx, c, l.out(w), l.choice(), l.Last)
}

type showDeliveryCmd struct {
	ID string `arg:"" name:"id" help:"Id of the delivery (dlv_...)."`
	remote
}

// Run shows a delivery.
func (s *showDeliveryCmd) Run(ctx context.Context, w world) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return cli.OneDelivery(ctx, c, s.out(w), s.ID, "", nil)
}

type retryCmd struct {
	ID     string `arg:"" optional:"" name:"id" help:"Id of the delivery (dlv_...); else filters choose."`
	Resend bool   `help:"Also what was delivered, under its own id."`
	choosing
	waiting
	remote
}

// Run retries.
func (r *retryCmd) Run(ctx context.Context, w world) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	more := map[string]any{"resend": r.Resend}
	if r.ID != "" {
		return cli.OneDelivery(ctx, c, r.out(w), r.ID, "retry", more)
	}
	if r.choosing == (choosing{}) {
		return usage{errors.New("which? Name a delivery, or filters such as --state failed")}
	}
	return cli.Order(ctx, c, r.out(w), "/v1/deliveries:retry", cli.Given(r.choice(), more), !r.NoWait, progress(w))
}

type cancelCmd struct {
	ID      string `arg:"" optional:"" name:"id" help:"Id of the delivery (dlv_...); else filters choose."`
	Because string `help:"Why, for whoever asks."`
	choosing
	waiting
	remote
}

// Run cancels.
func (r *cancelCmd) Run(ctx context.Context, w world) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	more := map[string]any{"because": r.Because}
	if r.ID != "" {
		return cli.OneDelivery(ctx, c, r.out(w), r.ID, "cancel", more)
	}
	return cli.Order(ctx, c, r.out(w), "/v1/deliveries:cancel", cli.Given(r.choice(), more), !r.NoWait, progress(w))
}

type replayCmd struct {
	Event     string `arg:"" optional:"" name:"event" help:"Id of the event (evt_...); else --since and the others choose."`
	Type      string `short:"t" placeholder:"TYPE" help:"Only of this type; a prefix may end in *."`
	Object    string `short:"o" placeholder:"ID" help:"Only at this object."`
	Since     string `placeholder:"TIME" help:"Accepted at or after this time (RFC 3339)."`
	Until     string `placeholder:"TIME" help:"Accepted before this time."`
	Recipient string `placeholder:"ID" help:"Tell only this user or address."`
	Endpoint  string `placeholder:"ID" help:"Tell only this endpoint."`
	Resend    bool   `help:"Also what was delivered, under its own id."`
	waiting
	remote
}

// Run replays.
func (r *replayCmd) Run(ctx context.Context, w world) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	order := cli.Given(map[string]string{"event": r.Event, "type": r.Type, "object": r.Object, "since": r.Since, "until": r.Until,
		"recipient": r.Recipient, "endpoint": r.Endpoint}, map[string]any{"resend": r.Resend})
	return cli.Order(ctx, c, r.out(w), "/v1/events:replay", order, !r.NoWait, progress(w))
}

type jobsCmd struct {
	List   listJobsCmd `cmd:"" help:"List long work, newest first."`
	Show   oneJobCmd   `cmd:"" help:"Say how far one is."`
	Cancel endJobCmd   `cmd:"" help:"End one; what it did stays done."`
}

type listJobsCmd struct {
	State string `placeholder:"STATE" help:"waiting, running, done, failed or cancelled."`
	Kind  string `placeholder:"KIND" help:"Like events.replay."`
	Last  int    `short:"n" default:"50" help:"How many at most (${default})."`
	remote
}

// Run lists jobs.
func (l *listJobsCmd) Run(ctx context.Context, w world) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	return cli.ListJobs(ctx, c, l.out(w), l.State, l.Kind, l.Last)
}

type oneJobCmd struct {
	ID string `arg:"" name:"id" help:"Id of the job (job_...)."`
	remote
}

// Run shows a job.
func (o *oneJobCmd) Run(ctx context.Context, w world) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	return cli.OneJob(ctx, c, o.out(w), o.ID, false)
}

type endJobCmd struct {
	ID string `arg:"" name:"id" help:"Id of the job (job_...)."`
	remote
}

// Run ends a job.
func (o *endJobCmd) Run(ctx context.Context, w world) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	return cli.OneJob(ctx, c, o.out(w), o.ID, true)
}

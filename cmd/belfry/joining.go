package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/belfryhq/belfry/internal/cli"
)

type subscriptionsCmd struct {
	List   listSubscriptionsCmd   `cmd:"" help:"List subscriptions; --user, what one person joined."`
	Show   showSubscriptionCmd    `cmd:"" help:"Say one in words; --json, all of it."`
	Pause  stateSubscriptionCmd   `cmd:"" help:"Stop one from matching until it is resumed."`
	Resume resumeSubscriptionCmd  `cmd:"" help:"Let a paused one match again."`
	End    endSubscriptionCmd     `cmd:"" help:"End one for good."`
	Import importSubscriptionsCmd `cmd:"" help:"Subscribe people out of a CSV table; --dry-run says what would happen, row by row."`
	Export exportSubscriptionsCmd `cmd:"" help:"Write who joined which subscription as a CSV table."`
}

type membersCmd struct {
	List    listMembersCmd   `cmd:"" help:"List who joined a subscription."`
	Add     addMembersCmd    `cmd:"" help:"Add users, groups and addresses, as an administrator."`
	Drop    dropMembersCmd   `cmd:"" help:"Take members out."`
	Pending pendingCmd       `cmd:"" help:"List invitations and requests that wait for an answer by mail."`
	Import  importMembersCmd `cmd:"" help:"Add members out of a CSV table, or a list of addresses, one a line."`
	Export  exportMembersCmd `cmd:"" help:"Write who joined as a CSV table."`
}

type listSubscriptionsCmd struct {
	Type   string `short:"t" placeholder:"TYPE" help:"Those that ask for this event type."`
	Object string `short:"o" placeholder:"ID" help:"Those whose scope holds this object."`
	User   string `short:"u" placeholder:"ID" help:"Those that this user joined."`
	remote
}

// Run lists subscriptions.
func (l *listSubscriptionsCmd) Run(ctx context.Context, w world) error {
	if l.User != "" && l.Type+l.Object != "" {
		return usage{errors.New("--user goes without --type and --object: belfry members list says who joined one")}
	}
	c, err := l.client()
	if err != nil {
		return err
	}
	if l.User != "" {
		return cli.ListMemberships(ctx, c, l.out(w), l.User)
	}
	return cli.ListSubscriptions(ctx, c, l.out(w), l.Type, l.Object)
}

type showSubscriptionCmd struct {
	ID string `arg:"" name:"id" help:"Id of the subscription (sub_...)."`
	remote
}

// Run shows a subscription.
func (s *showSubscriptionCmd) Run(ctx context.Context, w world) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return cli.OneSubscription(ctx, c, s.out(w), s.ID, "", "")
}

type stateSubscriptionCmd struct {
	ID      string `arg:"" name:"id" help:"Id of the subscription (sub_...)."`
	Because string `help:"Why, for whoever asks."`
	remote
}

// Run pauses a subscription.
func (s *stateSubscriptionCmd) Run(ctx context.Context, w world) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return cli.OneSubscription(ctx, c, s.out(w), s.ID, "pause", s.Because)
}

type resumeSubscriptionCmd struct {
	ID string `arg:"" name:"id" help:"Id of the subscription (sub_...)."`
	remote
}

// Run resumes a subscription.
func (s *resumeSubscriptionCmd) Run(ctx context.Context, w world) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return cli.OneSubscription(ctx, c, s.out(w), s.ID, "resume", "")
}

type endSubscriptionCmd struct {
	ID string `arg:"" name:"id" help:"Id of the subscription (sub_...)."`
	remote
}

// Run ends a subscription.
func (s *endSubscriptionCmd) Run(ctx context.Context, w world) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return cli.EndSubscription(ctx, c, s.out(w), s.ID)
}

// choice is how somebody wants to hear of a subscription.
type choice struct {
	Channels  []string `short:"c" name:"channel" placeholder:"NAME" help:"By this channel; may be repeated. None: by her own choice."`
	Frequency string   `placeholder:"WORD" help:"immediate, hourly, daily, weekly, monthly or never."`
}

type subscribeCmd struct {
	User    string   `arg:"" name:"user" help:"Id of the user."`
	Types   []string `short:"t" name:"type" required:"" placeholder:"TYPE" help:"Event type she wants to hear of; may be repeated."`
	Object  string   `short:"o" placeholder:"ID" help:"Where; everywhere without it."`
	Applies string   `placeholder:"HOW" help:"subtree (default), self or children."`
	Filter  string   `placeholder:"CEL" help:"Only events of which this is true."`
	choice
	remote
}

// Run subscribes a user.
func (s *subscribeCmd) Run(ctx context.Context, w world) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return cli.Subscribe(ctx, c, s.out(w), s.User, cli.Wish{Types: s.Types, Object: s.Object, Applies: s.Applies, Filter: s.Filter, Channels: s.Channels, Frequency: cli.Often(s.Frequency)})
}

// joiner is who joins or leaves what.
type joiner struct {
	ID     string `arg:"" name:"subscription" help:"Id of the subscription (sub_...)."`
	User   string `short:"u" placeholder:"ID" help:"The user who asks for it."`
	Email  string `placeholder:"ADDRESS" help:"Or the address, which is asked by mail."`
	Object string `short:"o" placeholder:"ID" help:"For this part of the scope; without it, for all."`
}

func (j *joiner) check() error {
	if (j.User == "") == (j.Email == "") {
		return usage{errors.New("who? Give --user or --email")}
	}
	return nil
}

type joinCmd struct {
	joiner
	choice
	remote
}

// Run lets somebody join.
func (j *joinCmd) Run(ctx context.Context, w world) error {
	if err := j.check(); err != nil {
		return err
	}
	c, err := j.client()
	if err != nil {
		return err
	}
	return cli.Join(ctx, c, j.out(w), j.ID, "join", cli.Joiner{User: j.User, Email: j.Email, Object: j.Object, Channels: j.Channels, Frequency: cli.Often(j.Frequency)})
}

type leaveCmd struct {
	joiner
	remote
}

// Run lets somebody leave.
func (l *leaveCmd) Run(ctx context.Context, w world) error {
	if err := l.check(); err != nil {
		return err
	}
	c, err := l.client()
	if err != nil {
		return err
	}
	return cli.Join(ctx, c, l.out(w), l.ID, "leave", cli.Joiner{User: l.User, Email: l.Email, Object: l.Object})
}

type inviteCmd struct {
	ID     string   `arg:"" name:"subscription" help:"Id of the subscription (sub_...)."`
	Users  []string `short:"u" name:"user" placeholder:"ID" help:"A user to ask; may be repeated."`
	Emails []string `name:"email" placeholder:"ADDRESS" help:"An address to ask; may be repeated."`
	Object string   `short:"o" placeholder:"ID" help:"To this part of the scope; without it, to all."`
	remote
}

// Run invites.
func (i *inviteCmd) Run(ctx context.Context, w world) error {
	if len(i.Users)+len(i.Emails) == 0 {
		return usage{errors.New("whom? Give --user or --email")}
	}
	c, err := i.client()
	if err != nil {
		return err
	}
	return cli.Invite(ctx, c, i.out(w), i.ID, i.Users, i.Emails, i.Object)
}

type listMembersCmd struct {
	ID string `arg:"" name:"subscription" help:"Id of the subscription (sub_...)."`
	remote
}

// Run lists members.
func (l *listMembersCmd) Run(ctx context.Context, w world) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	return cli.ListMembers(ctx, c, l.out(w), l.ID)
}

type addMembersCmd struct {
	ID     string   `arg:"" name:"subscription" help:"Id of the subscription (sub_...)."`
	Who    []string `arg:"" name:"who" help:"Users, groups and addresses."`
	Object string   `short:"o" placeholder:"ID" help:"For this part of the scope; without it, for all."`
	choice
	remote
}

// Run adds members.
func (a *addMembersCmd) Run(ctx context.Context, w world) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	ms := make([]cli.Member, len(a.Who))
	for i, who := range a.Who {
		ms[i] = cli.Member{Principal: who, Object: a.Object, Channels: a.Channels, Frequency: cli.Often(a.Frequency)}
	}
	return cli.AddMembers(ctx, c, a.out(w), a.ID, ms)
}

type dropMembersCmd struct {
	ID     string   `arg:"" name:"subscription" help:"Id of the subscription (sub_...)."`
	Who    []string `arg:"" name:"who" help:"Users, groups and addresses."`
	Object string   `short:"o" placeholder:"ID" help:"What they joined at this object; without it, at the whole scope."`
	remote
}

// Run drops members.
func (d *dropMembersCmd) Run(ctx context.Context, w world) error {
	c, err := d.client()
	if err != nil {
		return err
	}
	return cli.DropMembers(ctx, c, d.out(w), d.ID, d.Object, d.Who)
}

type pendingCmd struct {
	ID string `arg:"" name:"subscription" help:"Id of the subscription (sub_...)."`
	remote
}

// Run lists what waits for an answer.
func (p *pendingCmd) Run(ctx context.Context, w world) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	return cli.PendingJoins(ctx, c, p.out(w), p.ID)
}

// importing is a table and what is done with it.
type importing struct {
	File   string `arg:"" name:"file" help:"The table, CSV in UTF-8 with a head; - for standard input."`
	DryRun bool   `help:"Say of each row what would become of it, and do nothing."`
	Ask    bool   `help:"Invite whom the rows name, instead of adding them."`
	All    bool   `short:"a" help:"Name every row, not only those that were refused."`
	remote
}

func (i *importing) run(ctx context.Context, w world, subscription string) error {
	c, err := i.client()
	if err != nil {
		return err
	}
	return cli.ImportMembers(ctx, c, i.out(w), cli.Table{File: i.File, Subscription: subscription, DryRun: i.DryRun, Ask: i.Ask, All: i.All}, w.in, progress(w))
}

type importSubscriptionsCmd struct{ importing }

// Run imports.
func (i *importSubscriptionsCmd) Run(ctx context.Context, w world) error { return i.run(ctx, w, "") }

type importMembersCmd struct {
	ID string `arg:"" name:"subscription" help:"Id of the subscription (sub_...)."`
	importing
}

// Run imports.
func (i *importMembersCmd) Run(ctx context.Context, w world) error { return i.run(ctx, w, i.ID) }

// exporting is where a table goes.
type exporting struct {
	Output string `short:"o" placeholder:"FILE" help:"Write to this file instead of standard output."`
	remote
}

func (e *exporting) run(ctx context.Context, w world, subscription string) (err error) {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out io.Writer = w.out
	if e.Output != "" {
		f, err := os.OpenFile(e.Output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // addresses are in it
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	return cli.ExportMembers(ctx, c, out, subscription)
}

type exportSubscriptionsCmd struct{ exporting }

// Run exports.
func (e *exportSubscriptionsCmd) Run(ctx context.Context, w world) error { return e.run(ctx, w, "") }

type exportMembersCmd struct {
	ID string `arg:"" name:"subscription" help:"Id of the subscription (sub_...)."`
	exporting
}

// Run exports.
func (e *exportMembersCmd) Run(ctx context.Context, w world) error { return e.run(ctx, w, e.ID) }

package pipeline

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/match"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/route"
)

// ChannelList gives a tenant's channels as route knows them, and the channels
// used when nobody says otherwise.
type ChannelList interface {
	Routes(tenant string) (channels []route.ChannelInfo, defaults []string)
}

// Acts tells which events of one act of the platform (belfry.Event.Commit) were
// accepted.
type Acts interface {
	// Siblings gives the first accepted event of a type on each of the objects.
	Siblings(ctx context.Context, tenant string, e *belfry.Event, objects []string) (first map[string]string, err error)
}

// Stages are match, resolve and route in their order, on facts of one version.
type Stages struct {
	Directory     *directory.Directory
	Subscriptions *Subscriptions
	Channels      ChannelList
	Acts          Acts
	Acks          Acks
	Quotas        Quotas
	Groups        *Groups
	Problems      Problems
	In            In
	Gate          *Gate // nil = no platform is ever asked
}

// view is what one pass over an event works on.
type view struct {
	dir       *directory.View
	ancestors []belfry.Object
	typ       belfry.EventType
	actor     *belfry.User // once facts were asked for; nil = none, or not known
}

func (s *Stages) view(ctx context.Context, acc *belfry.Accepted) (*view, error) {
	dir, err := s.Directory.At(ctx, acc.Tenant, acc.AsOf)
	if err != nil {
		return nil, err
	}
	v := &view{dir: dir}
	if v.ancestors, err = dir.Ancestors(acc.Event.ObjectOrRoot()); err != nil {
		return nil, err
	}
	v.typ, _, err = s.Directory.EventType(ctx, acc.Tenant, acc.Event.Type)
	return v, err
}

func (v *view) facts(e *belfry.Event, now time.Time) (match.Facts, error) {
	f := match.Facts{Ancestors: v.ancestors, Now: now}
	if e.Actor != "" {
		p, err := v.dir.Person(e.Actor)
		if err != nil {
			return f, err
		}
		if p != nil {
			f.Actor, v.actor = &p.User, &p.User
		}
	}
	return f, nil
}

// part says which page of a plan is wanted.
type part struct {
	run     int
	cursor  string        // where it begins
	limit   int           // of people, addresses and endpoints; 0 = as many as a page may have
	passing bool          // one of very many: what is read of its people is not kept
	terms   belfry.Replay // of a run that somebody ordered
}

// page makes a page of an event's plan.
func (s *Stages) page(ctx context.Context, acc *belfry.Accepted, of part, now time.Time) (belfry.PlanPage, error) {
	page := belfry.PlanPage{Tenant: acc.Tenant, EventID: acc.EventID, Run: of.run, Resend: of.terms.Resend, From: of.cursor, To: of.cursor, Last: true}
	if over := ended(of.cursor); over != nil {
		page.Suppressions = []belfry.Suppression{{Because: []belfry.Reason{*over}}}
		return page, nil
	}
	if err := s.In.Reach(ctx, acc.Tenant, acc.AsOf); err != nil {
		return page, err
	}
	var err error
	if page.Decided, err = s.inForce(ctx, acc.Tenant); err != nil { // before anything is looked at
		return page, err
	}
	snapshot, err := s.Subscriptions.Snapshot(ctx, acc.Tenant)
	if err != nil {
		return page, err
	}
	v, err := s.view(ctx, acc)
	if err != nil {
		return page, err
	}
	if of.terms.Escalation != nil {
		return s.escalate(ctx, acc, of, v, page, now)
	}
	if of.cursor == "" { // what a plan has begun it ends
		reason, err := s.collapsed(ctx, acc, v)
		if err == nil && reason == nil && of.run == 0 {
			reason, err = s.resolved(ctx, acc)
		}
		if err != nil {
			return page, err
		}
		if reason != nil {
			page.Suppressions = []belfry.Suppression{{Because: []belfry.Reason{*reason}}}
			return page, nil
		}
	}
	facts, err := v.facts(acc.Event, now)
	if err != nil {
		return page, err
	}
	matches := snapshot.Match(acc.Event, facts)
	if acc.Event.FromConditions() {
		if matches, err = s.made(ctx, acc, v, snapshot, matches); err != nil {
			return page, err
		}
	}
	if len(matches) == 0 {
		return page, nil
	}
	if of.cursor == "" {
		page.Matches = notesOf(matches)
	}
	if conditional(matches) {
		if matches, err = s.observe(ctx, acc, v, facts, matches, of, &page); err != nil || len(matches) == 0 {
			return page, err
		}
	}
	dir := v.dir
	if of.passing {
		dir = dir.Passing()
	}
	var result resolve.PageResult
	if of.terms.Only() {
		result, err = resolve.Only(dir, acc, matches, v.typ, now, &of.terms)
	} else {
		result, err = resolve.Page(dir, acc, matches, v.typ, now, of.cursor, of.limit)
	}
	if err != nil {
		return page, err
	}
	page.Deliveries, page.Suppressions, err = s.within(ctx, acc, of.run, v, &result, now)
	if err != nil {
		return page, err
	}
	if s.Gate != nil {
		if err := s.Gate.hold(ctx, acc, &page); err != nil {
			return page, err
		}
	}
	page.To, page.Last = result.Next, result.Last
	if of.cursor == "" && of.run == 0 {
		page.Timers = escalations(acc, matches, now)
	}
	return page, nil
}

// inForce is a version that whatever is looked at from now on is of, or later.
func (s *Stages) inForce(ctx context.Context, tenant string) (int64, error) {
	dir, err := s.Directory.At(ctx, tenant, 0)
	if err != nil {
		return 0, err
	}
	return min(dir.Version(), s.In.Reached(tenant)), nil
}

func notesOf(matches []belfry.Match) []belfry.MatchNote {
	notes := make([]belfry.MatchNote, len(matches))
	for i := range matches {
		notes[i] = belfry.MatchNote{Subscription: matches[i].Subscription.ID, Because: matches[i].Because}
	}
	return notes
}

// collapsed is why an event is not told because another one of its act is.
func (s *Stages) collapsed(ctx context.Context, acc *belfry.Accepted, v *view) (*belfry.Reason, error) {
	if acc.Event.Commit == "" {
		return nil, nil
	}
	objects, parent := []string{acc.Event.ObjectOrRoot()}, ""
	if len(v.ancestors) > 1 {
		parent = v.ancestors[1].ID
		objects = append(objects, parent)
	}
	first, err := s.Acts.Siblings(ctx, acc.Tenant, acc.Event, objects)
	if err != nil {
		return nil, err
	}
	return match.Collapse(acc, parent, first), nil
}

// route routes a page as it would be without limits.
func (s *Stages) route(ctx context.Context, acc *belfry.Accepted, run int, v *view, r *resolve.PageResult, now time.Time) ([]belfry.Delivery, []belfry.Suppression, error) {
	in, _, err := s.input(ctx, acc, run, v, r, now)
	if err != nil {
		return nil, nil, err
	}
	ds, sups := route.Plan(in)
	return ds, sups, nil
}

// within routes a page within the limits there are, and takes what it needs of
// them.
func (s *Stages) within(ctx context.Context, acc *belfry.Accepted, run int, v *view, r *resolve.PageResult, now time.Time) ([]belfry.Delivery, []belfry.Suppression, error) {
	in, most, err := s.input(ctx, acc, run, v, r, now)
	if err != nil {
		return nil, nil, err
	}
	return s.plan(ctx, &in, most)
}

// input is what a page is routed with, and how many messages a day people get.
func (s *Stages) input(ctx context.Context, acc *belfry.Accepted, run int, v *view, r *resolve.PageResult, now time.Time) (route.Input, map[string]int, error) {
	if err := s.hush(ctx, acc, run, r); err != nil {
		return route.Input{}, nil, err
	}
	endpoints, err := s.endpoints(ctx, acc.Tenant, r.Recipients)
	if err != nil {
		return route.Input{}, nil, err
	}
	channels, settings, err := s.defaults(ctx, acc.Tenant)
	if err != nil {
		return route.Input{}, nil, err
	}
	return route.Input{
		Event: acc, Run: run, Recipients: r.Recipients, Dropped: r.Dropped, Persons: r.Persons,
		Channels: channels, Type: v.typ, Defaults: settings.Channels, Often: settings.Frequency, Fallback: settings.Fallback, Ancestors: r.Ancestors, Endpoints: endpoints, Actor: v.actor, Now: now,
	}, settings.MaxPerDay, nil
}

// defaults are a tenant's channels, and what the tenant says where nobody else
// speaks.
func (s *Stages) defaults(ctx context.Context, tenant string) ([]route.ChannelInfo, belfry.TenantSettings, error) {
	channels, names := s.Channels.Routes(tenant)
	var said belfry.TenantSettings
	settings, err := s.Directory.TenantSettings(ctx, tenant)
	if settings != nil {
		said = *settings
	}
	if len(said.Channels) == 0 {
		said.Channels = names
	}
	return channels, said, err
}

func (s *Stages) endpoints(ctx context.Context, tenant string, rs []belfry.Recipient) (map[string]*belfry.Endpoint, error) {
	var ids []string
	for i := range rs {
		if id := rs[i].Endpoint; id != "" {
			if ids == nil {
				ids = make([]string, 0, len(rs)-i)
			}
			ids = append(ids, id)
		}
	}
	if ids == nil {
		return nil, nil
	}
	return s.Directory.Endpoints(ctx, tenant, ids)
}

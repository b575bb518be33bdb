package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
)

// Problems tells what is known of problems that events raise and resolve.
type Problems interface {
	// ResolvedBy is the event that resolved a problem at or after a time.
	ResolvedBy(ctx context.Context, tenant, source, problem string, since time.Time) (string, error)
	// Followers are users who follow a problem, after one of them: those who
	// mute it, or those who want to be told.
	Followers(ctx context.Context, tenant, source, problem, after string, mute bool, limit int) ([]string, error)
}

// EndingStore is what Endings works on.
type EndingStore interface {
	Raised(ctx context.Context, tenant, source, problem string, limit int) ([]string, error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	Followers(ctx context.Context, tenant, source, problem, after string, mute bool, limit int) ([]string, error)
	End(ctx context.Context, end belfry.Ending, n int) (cancelled []string, more bool, err error)
	AcceptEvents(ctx context.Context, drafts []belfry.Draft) ([]belfry.Receipt, error)
}

// Endings ends what was told of a problem when an event resolves it: whoever
// was not told yet is not told any more, and whoever asked is told that it is
// over. It is done before the event itself is planned, and again if that is
// interrupted: doing it twice does no more.
type Endings struct {
	Store  EndingStore
	Events Drafter
	// Ended hears of deliveries that were cancelled, and of the events that
	// were ended.
	Ended func(tenant string, cancelled, events []string)
}

// Bounds of an ending.
const (
	endedEvents    = 1000
	endedAtOnce    = 2000 // deliveries
	followersATime = 100
	mutedAtMost    = 10_000
)

// end does what an event does that resolves a problem.
func (x *Endings) end(ctx context.Context, acc *belfry.Accepted) error {
	e := acc.Event
	ids, err := x.Store.Raised(ctx, acc.Tenant, e.Source, e.Resolves, endedEvents)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == acc.EventID })
	events, err := x.Store.Events(ctx, acc.Tenant, ids)
	if err != nil {
		return err
	}
	var over []string
	for _, id := range ids { // what happened afterwards is not resolved
		if o := events[id]; o != nil && !o.Event.Time.After(e.Time) {
			over = append(over, id)
		}
	}
	if err := x.tell(ctx, acc, over, events); err != nil {
		return err
	}
	end := belfry.Ending{Tenant: acc.Tenant, By: acc.EventID, At: e.Time, Source: e.Source, Problem: e.Resolves, Events: over}
	for more := true; more; {
		var cancelled []string
		if cancelled, more, err = x.Store.End(ctx, end, endedAtOnce); err != nil {
			return err
		}
		x.Ended(acc.Tenant, cancelled, over)
	}
	return nil
}

// tell accepts the events that tell followers, some people each.
func (x *Endings) tell(ctx context.Context, acc *belfry.Accepted, over []string, events map[string]*belfry.Accepted) error {
	e := acc.Event
	after := ""
	for n := 1; ; n++ {
		who, err := x.Store.Followers(ctx, acc.Tenant, e.Source, e.Resolves, after, false, followersATime)
		if err != nil || len(who) == 0 {
			return err
		}
		after = who[len(who)-1]
		told := belfry.Event{Source: belfry.OwnSource, Type: belfry.ProblemResolved, ID: fmt.Sprintf("resolved/%s/%d", acc.EventID, n), Time: e.Time, Object: e.Object, Related: who}
		data := map[string]any{"problem": e.Resolves, "by": acc.EventID, "type": e.Type}
		if len(over) > 0 {
			last := events[over[len(over)-1]]
			told.Object = last.Event.Object
			data["event"], data["of"], data["since"] = last.EventID, last.Event.Type, last.Event.Time
		}
		if told.Data, err = json.Marshal(data); err != nil {
			return err
		}
		drafts, err := x.Events.Draft(ctx, acc.Tenant, []belfry.Event{told})
		if err != nil {
			return err
		}
		receipts, err := x.Store.AcceptEvents(ctx, drafts)
		if err != nil {
			return err
		}
		if r := receipts[0]; !r.Duplicate {
			x.Events.Handover([]belfry.Accepted{{Tenant: acc.Tenant, EventID: r.EventID, At: r.At, AsOf: r.AsOf, Event: drafts[0].Event, Body: drafts[0].Body}})
		}
		if len(who) < followersATime {
			return nil
		}
	}
}

// ended is why a plan whose cursor says that it was ended goes no further.
func ended(cursor string) *belfry.Reason {
	rest, was := strings.CutPrefix(cursor, belfry.EndedCursor)
	if !was {
		return nil
	}
	by, _, _ := strings.Cut(rest, "/")
	return &belfry.Reason{Code: belfry.Resolved, Detail: "by " + by}
}

// resolved is why an event is not told that raises a problem: it was resolved
// since, and the event came late.
func (s *Stages) resolved(ctx context.Context, acc *belfry.Accepted) (*belfry.Reason, error) {
	e := acc.Event
	if e.Problem == "" || e.Resolves != "" {
		return nil, nil
	}
	by, err := s.Problems.ResolvedBy(ctx, acc.Tenant, e.Source, e.Problem, e.Time)
	if err != nil || by == "" {
		return nil, err
	}
	return &belfry.Reason{Code: belfry.Resolved, Detail: "by " + by}, nil
}

// hush takes those out of a page who have muted the event's problem until it is
// resolved. An event without a problem is looked at only when it is told again.
func (s *Stages) hush(ctx context.Context, acc *belfry.Accepted, run int, r *resolve.PageResult) error {
	e := acc.Event
	if e.Problem == "" && run == 0 {
		return nil
	}
	muted, err := s.Problems.Followers(ctx, acc.Tenant, e.Source, e.ProblemName(), "", true, mutedAtMost)
	if err != nil || len(muted) == 0 {
		return err
	}
	r.Recipients = slices.DeleteFunc(r.Recipients, func(one belfry.Recipient) bool {
		if one.Principal == "" {
			return false
		}
		if _, is := slices.BinarySearch(muted, one.Principal); !is {
			return false
		}
		var because []belfry.Reason
		for i := range one.Via {
			because = append(because, one.Via[i].Because...)
		}
		r.Dropped = append(r.Dropped, belfry.Dropped{Principal: one.Principal, Because: append(because, belfry.Reason{Code: belfry.MutedUntilResolved})})
		return true
	})
	return nil
}

package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
)

// Acks tells who has taken notice of an event, and whom a subscription told.
type Acks interface {
	// Acknowledged: without a name, whether anybody has.
	Acknowledged(ctx context.Context, tenant, eventID, who string) (bool, error)
	ToldBy(ctx context.Context, tenant, eventID, subscription string, limit int) ([]string, error)
}

// toldAgain bounds how many people a step tells again.
const toldAgain = 10_000

// pending is the body of an escalation's timer: the step that comes next.
type pending struct {
	Subscription string `json:"subscription"`
	Object       string `json:"object"`
	Step         int    `json:"step"` // 1-based
}

// escalations are the timers of the subscriptions that want to be acknowledged
// by somebody.
func escalations(acc *belfry.Accepted, matches []belfry.Match, now time.Time) []belfry.Timer {
	var out []belfry.Timer
	for i := range matches {
		sub := matches[i].Subscription
		if sub.Acknowledge == nil || len(sub.Acknowledge.Escalate) == 0 {
			continue
		}
		t := belfry.Timer{Tenant: acc.Tenant, Kind: belfry.TimerEscalation, ID: belfry.EscalationTimer(acc.EventID, sub.ID), Shard: belfry.Shard(acc.Tenant, acc.Event.ObjectOrRoot())}
		out = append(out, timerAt(t, pending{sub.ID, acc.Event.ObjectOrRoot(), 1}, now.Add(sub.Acknowledge.Escalate[0].Wait())))
	}
	return out
}

// Escalations acts on the timers of escalations: each step is a run of planning
// of its own.
type Escalations struct {
	Subscriptions *Subscriptions
	Now           func() time.Time
}

// Act orders the step that is due, and sets the timer to the next. A subscription
// that ended, paused or has no such step any more ends the escalation.
func (e *Escalations) Act(ctx context.Context, t *belfry.Timer) (Move, error) {
	var p pending
	if err := json.Unmarshal(t.Body, &p); err != nil {
		return Move{}, fmt.Errorf("the timer %s is stored in a form this version does not read: %w", t.ID, err)
	}
	sub, _, err := e.Subscriptions.Standing(ctx, t.Tenant, p.Subscription)
	if err != nil || stepOf(sub, p.Step) == nil {
		return Move{}, err
	}
	event, _, _ := strings.Cut(t.ID, "/")
	move := Move{Runs: []belfry.PlannedRun{{
		EventPlace: belfry.EventPlace{EventID: event, Object: p.Object},
		Terms:      belfry.Replay{Escalation: &belfry.Escalation{Subscription: p.Subscription, Step: p.Step}},
	}}}
	if then := stepOf(sub, p.Step+1); then != nil {
		next := timerAt(*t, pending{p.Subscription, p.Object, p.Step + 1}, e.Now().Add(then.Wait()))
		move.Next = &next
	}
	return move, nil
}

// stepOf is a step of a subscription's escalation; nil when it has none.
func stepOf(sub *belfry.Subscription, n int) *belfry.EscalationStep {
	if sub == nil || sub.Acknowledge == nil || n < 1 || n > len(sub.Acknowledge.Escalate) {
		return nil
	}
	return &sub.Acknowledge.Escalate[n-1]
}

// strangers is a directory in which nobody has joined: a step names whom it
// means.
type strangers struct{ resolve.Directory }

func (strangers) Members(string, string, int) ([]belfry.Member, error) { return nil, nil }
func (strangers) JoinedGroups(string) ([]belfry.Member, error)         { return nil, nil }

// escalate makes a page of a step: whom it names is told as the subscription
// tells, unless somebody has acknowledged since. That the step was taken, or why
// not, is recorded with the event.
func (s *Stages) escalate(ctx context.Context, acc *belfry.Accepted, of part, v *view, page belfry.PlanPage, now time.Time) (belfry.PlanPage, error) {
	terms := of.terms.Escalation
	because := belfry.Reason{Code: belfry.Escalated, Subscription: terms.Subscription, Detail: fmt.Sprintf("step %d", terms.Step)}
	over := func(why belfry.Reason) (belfry.PlanPage, error) {
		page.Suppressions = []belfry.Suppression{{Because: []belfry.Reason{because, why}}}
		return page, nil
	}
	sub, gone, err := s.Subscriptions.Standing(ctx, acc.Tenant, terms.Subscription)
	if err != nil {
		return page, err
	}
	step := stepOf(sub, terms.Step)
	if step == nil {
		if gone == nil {
			gone = &belfry.Reason{Code: belfry.SubscriptionGone, Subscription: terms.Subscription, Detail: "it has no such step any more"}
		}
		return over(*gone)
	}
	because.Detail += ", after " + step.After
	if of.cursor == "" {
		acknowledged, err := s.Acks.Acknowledged(ctx, acc.Tenant, acc.EventID, "")
		if err != nil {
			return page, err
		}
		if acknowledged {
			return over(belfry.Reason{Code: belfry.Acknowledged})
		}
	}
	users := step.Users
	if step.Again() {
		if users, err = s.Acks.ToldBy(ctx, acc.Tenant, acc.EventID, sub.ID, toldAgain); err != nil {
			return page, err
		}
	}
	as := *sub
	as.Recipients = []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: users, Groups: step.Groups}}}
	as.Notify = []belfry.Notify{{Channels: step.Channels}}
	for i := range sub.Notify {
		if n := &sub.Notify[i]; n.Endpoint == "" && n.Template != "" {
			as.Notify[0].Template = n.Template
			break
		}
	}
	matches := []belfry.Match{{Subscription: &as, Escalation: terms.Step, Because: []belfry.Reason{because}}}
	result, err := resolve.Page(strangers{v.dir}, acc, matches, v.typ, now, of.cursor, of.limit)
	if err != nil {
		return page, err
	}
	if page.Deliveries, page.Suppressions, err = s.route(ctx, acc, of.run, v, &result, now); err != nil {
		return page, err
	}
	page.To, page.Last = result.Next, result.Last
	if of.cursor == "" {
		page.Matches = []belfry.MatchNote{{Subscription: sub.ID, Because: matches[0].Because}}
		if len(page.Deliveries)+len(page.Suppressions) == 0 && page.Last {
			return over(belfry.Reason{Code: belfry.NobodyNamed})
		}
	}
	return page, nil
}

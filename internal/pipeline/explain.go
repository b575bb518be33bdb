package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
)

// explainLimit bounds the people an explanation works out: a page of them.
const explainLimit = 1000

// nearMisses bounds the subscriptions shown that almost wanted an event.
const nearMisses = 100

// TraceStore is what Trace reads.
type TraceStore interface {
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	Version(ctx context.Context, tenant string) (int64, error)
	Trace(ctx context.Context, tenant string, q belfry.TraceQuery) (belfry.TraceRows, error)
	Documents(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, error)
	// Joined and OptedOut are what one principal, or address, did.
	Joined(ctx context.Context, tenant, principal string, limit int) ([]belfry.Member, error)
	OptedOut(ctx context.Context, tenant, who string, limit int) ([]belfry.OptOut, error)
	// Message is a delivery or an inbox entry.
	Message(ctx context.Context, tenant, id string) (belfry.Delivery, bool, error)
	Attempts(ctx context.Context, tenant, deliveryID string) ([]belfry.Attempt, error)
	Acknowledgements(ctx context.Context, tenant, eventID string, limit int) ([]belfry.Acknowledgement, error)
	TimersOf(ctx context.Context, tenant, kind, prefix string, limit int) ([]belfry.Timer, error)
	GroupReader
}

// Explainer answers why: of what happened from what was stored, of what might
// happen from the same stages without door 2.
type Explainer struct {
	Stages *Stages
	Store  TraceStore
	Links  Unsubscriber // nil = no links
	Now    func() time.Time
}

// Explain says who would be told of an event that is not stored, and why;
// nothing is sent. It answers for the first page of people.
func (x *Explainer) Explain(ctx context.Context, tenant string, e *belfry.Event) (belfry.Answer, error) {
	version, err := x.Store.Version(ctx, tenant)
	if err != nil {
		return belfry.Answer{}, err
	}
	now := x.Now()
	acc := &belfry.Accepted{Tenant: tenant, EventID: belfry.EventID(now, 0, 0), At: now, AsOf: version, Event: e}
	answer, err := x.compute(ctx, acc, belfry.TraceQuery{}, now)
	answer.Event = belfry.EventView{Event: *e}
	return answer, err
}

// compute runs the stages on today's facts.
func (x *Explainer) compute(ctx context.Context, acc *belfry.Accepted, q belfry.TraceQuery, now time.Time) (belfry.Answer, error) {
	answer := belfry.Answer{Event: acc.View(), Planned: true, Computed: true, Subscriptions: []belfry.AnswerSubscription{}, People: []belfry.AnswerPerson{}}
	snapshot, err := x.Stages.Subscriptions.Snapshot(ctx, acc.Tenant)
	if err != nil {
		return answer, err
	}
	v, err := x.Stages.view(ctx, acc)
	if err != nil {
		return answer, err
	}
	reason, err := x.Stages.collapsed(ctx, acc, v)
	if err == nil && reason == nil {
		reason, err = x.Stages.resolved(ctx, acc)
	}
	if err != nil {
		return answer, err
	}
	if reason != nil {
		answer.People = peopleOf(nil, []belfry.Suppression{{Because: []belfry.Reason{*reason}}})
		return answer, nil
	}
	facts, err := v.facts(acc.Event, now)
	if err != nil {
		return answer, err
	}
	matches, misses := snapshot.Explain(acc.Event, facts, nearMisses)
	if acc.Event.FromConditions() {
		if matches, err = x.Stages.made(ctx, acc, v, snapshot, matches); err != nil {
			return answer, err
		}
	}
	matches, would, err := x.conditions(ctx, acc, v, facts, matches, q.EventID == "", now, &answer)
	if err != nil {
		return answer, err
	}
	for i := range misses {
		answer.Subscriptions = append(answer.Subscriptions, subscriptionAnswer(&misses[i], false))
	}
	if q.EventID == "" { // of a stored event, timers say what comes
		for i := range matches {
			if sub := matches[i].Subscription; stepOf(sub, 1) != nil {
				next := belfry.AnswerEscalation{Subscription: sub.ID, Step: 1, Due: now.Add(stepOf(sub, 1).Wait())}
				next.Fill(sub)
				answer.Escalation = append(answer.Escalation, next)
			}
		}
	}
	if err := x.wouldTell(ctx, would, q, now, &answer); err != nil {
		return answer, err
	}
	if len(matches) == 0 && len(answer.People) > 0 {
		return answer, nil
	}
	err = x.people(ctx, acc, v, matches, q, now, &answer)
	return answer, err
}

// people works out what becomes of whom the matches name: a page of them, or
// the one that is asked for.
func (x *Explainer) people(ctx context.Context, acc *belfry.Accepted, v *view, matches []belfry.Match, q belfry.TraceQuery, now time.Time, answer *belfry.Answer) error {
	cursor := q.After
	for {
		result, err := resolve.Page(v.dir, acc, matches, v.typ, now, cursor, limitOf(q))
		if err != nil {
			return err
		}
		ds, sups, err := x.Stages.route(ctx, acc, 0, v, &result, now)
		if err != nil {
			return err
		}
		for i := range ds {
			ds[i].ID = "" // nothing is sent
		}
		people := peopleOf(ds, sups)
		if q.Principal != "" {
			people = slices.DeleteFunc(people, func(p belfry.AnswerPerson) bool { return !speaksOf(&p, q.Principal) })
		}
		answer.People = append(answer.People, people...)
		if result.Last {
			break
		}
		cursor = result.Next
		if q.Principal == "" {
			answer.Next = result.Next
			break
		}
	}
	if q.Principal != "" && len(answer.People) == 0 {
		answer.People = append(answer.People, belfry.AnswerPerson{
			Principal: q.Principal, Outcome: belfry.NotTold, Deliveries: []string{},
			Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.NobodyNamed}}),
		})
	}
	return nil
}

func limitOf(q belfry.TraceQuery) int {
	if q.Limit <= 0 || q.Limit > explainLimit {
		return explainLimit
	}
	return q.Limit
}

func subscriptionAnswer(m *belfry.Match, matched bool) belfry.AnswerSubscription {
	return belfry.AnswerSubscription{
		ID: m.Subscription.ID, Title: m.Subscription.Title, Matched: matched, Because: belfry.ViewReasons(m.Because),
	}
}

func speaksOf(p *belfry.AnswerPerson, who string) bool {
	return p.Principal == who || p.Address == who || p.Endpoint == who
}

// Trace says what became of a stored event, from what was stored with it. For
// somebody no rule named the answer is computed with today's facts, and says so.
func (x *Explainer) Trace(ctx context.Context, tenant string, q belfry.TraceQuery) (belfry.Answer, error) {
	events, err := x.Store.Events(ctx, tenant, []string{q.EventID})
	if err != nil {
		return belfry.Answer{}, err
	}
	acc := events[q.EventID]
	if acc == nil {
		return belfry.Answer{}, belfry.Errorf(belfry.NotFound, "there is no event %s", q.EventID)
	}
	q.Limit = limitOf(q)
	rows, err := x.Store.Trace(ctx, tenant, q)
	if err != nil {
		return belfry.Answer{}, err
	}
	if q.Principal != "" && rows.Planned && len(rows.Deliveries) == 0 && len(rows.Suppressions) == 0 {
		return x.compute(ctx, acc, q, x.Now())
	}
	answer := belfry.Answer{Event: acc.View(), Planned: rows.Planned, Subscriptions: []belfry.AnswerSubscription{}, Next: rows.Next}
	for _, m := range rows.Matches {
		title := ""
		s, _, err := x.Stages.Subscriptions.Standing(ctx, tenant, m.Subscription)
		if err != nil {
			return answer, err
		}
		if s != nil {
			title = s.Title
		}
		a := belfry.AnswerSubscription{ID: m.Subscription, Title: title, Matched: true, Because: belfry.ViewReasons(m.Because)}
		if s != nil && s.Condition != nil {
			if a.Condition, err = x.now(ctx, tenant, s, m.Because); err != nil {
				return answer, err
			}
		}
		answer.Subscriptions = append(answer.Subscriptions, a)
	}
	answer.People = peopleOf(rows.Deliveries, rows.Suppressions)
	return answer, x.notice(ctx, acc, &answer)
}

// notice adds who has taken notice of an event, and what comes next if nobody
// does.
func (x *Explainer) notice(ctx context.Context, acc *belfry.Accepted, answer *belfry.Answer) (err error) {
	if answer.Acknowledged, err = x.Store.Acknowledgements(ctx, acc.Tenant, acc.EventID, explainLimit); err != nil {
		return err
	}
	for i := range answer.Acknowledged {
		answer.Acknowledged[i].EventID = ""
	}
	timers, err := x.Store.TimersOf(ctx, acc.Tenant, belfry.TimerEscalation, belfry.EscalationTimer(acc.EventID, ""), explainLimit)
	if err != nil {
		return err
	}
	for i := range timers {
		var p pending
		if err := json.Unmarshal(timers[i].Body, &p); err != nil {
			return belfry.Errorf(belfry.Internal, "the timer %s is stored in a form this version does not read: %w", timers[i].ID, err)
		}
		next := belfry.AnswerEscalation{Subscription: p.Subscription, Step: p.Step, Due: timers[i].Due}
		sub, _, err := x.Stages.Subscriptions.Standing(ctx, acc.Tenant, p.Subscription)
		if err != nil {
			return err
		}
		next.Fill(sub)
		answer.Escalation = append(answer.Escalation, next)
	}
	return nil
}

// peopleOf puts together what became of each person, address and endpoint:
// one line for what they are told, with what decided each way of it, and one for
// each channel or reason they are not. Sorted by who.
func peopleOf(ds []belfry.Delivery, sups []belfry.Suppression) []belfry.AnswerPerson {
	people := make([]belfry.AnswerPerson, 0, len(ds)+len(sups))
	told := map[string]int{}
	for i := range ds {
		d := &ds[i]
		p := belfry.AnswerPerson{Principal: d.Principal, Outcome: belfry.Told, Deliveries: []string{}}
		switch {
		case d.Channel == belfry.ChannelWebhook:
			p.Endpoint = d.Address
		case d.Principal == "":
			p.Address = d.Address
		}
		switch d.State {
		case belfry.Suppressed, belfry.Cancelled, belfry.Held:
			p.Outcome, p.Channel = belfry.NotTold, d.Channel
			p.Because = belfry.ViewReasons(d.Because)
			if d.State == belfry.Held { // not yet
				p.Because = append(p.Because, belfry.ViewReasons([]belfry.Reason{{Code: belfry.AwaitsAuthoriser}})...)
			}
			p.Deliveries = append(p.Deliveries, d.ID)
			people = append(people, p)
			continue
		}
		key := p.Principal + "\x00" + p.Endpoint + "\x00" + p.Address
		at, seen := told[key]
		if !seen {
			at = len(people)
			told[key] = at
			p.Because = belfry.ViewReasons(d.Because)
			people = append(people, p)
		} else { // what decided another channel
			for _, r := range d.Because {
				if !slices.ContainsFunc(people[at].Because, func(v belfry.ReasonView) bool { return v.Reason == r }) {
					people[at].Because = append(people[at].Because, belfry.ReasonView{Reason: r, Text: r.Text()})
				}
			}
		}
		if d.ID != "" {
			people[at].Deliveries = append(people[at].Deliveries, d.ID)
		}
	}
	for i := range sups {
		s := &sups[i]
		p := belfry.AnswerPerson{Principal: s.Principal, Channel: s.Channel, Outcome: belfry.NotTold, Because: belfry.ViewReasons(s.Because), Deliveries: []string{}}
		if s.Channel == belfry.ChannelWebhook {
			p.Endpoint = s.Address
		} else if s.Principal == "" {
			p.Address = s.Address
		}
		people = append(people, p)
	}
	slices.SortStableFunc(people, func(a, b belfry.AnswerPerson) int {
		return cmp.Or(cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Address, b.Address),
			-cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Channel, b.Channel))
	})
	return people
}

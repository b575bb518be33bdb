package pipeline

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
)

// Bounds of what is counted before a send.
const (
	reachPeople  = 200_000
	reachSamples = 50
)

// Reach says whom a subscription would tell of an event, neither of which need
// be there: the stages run on today's facts, page by page, and nothing is kept.
func (s *Stages) Reach(ctx context.Context, tenant string, sub *belfry.Subscription, e *belfry.Event, now time.Time) (belfry.Reach, error) {
	out := belfry.Reach{Channels: map[string]int64{}, Reasons: map[string]int64{}}
	acc := &belfry.Accepted{Tenant: tenant, At: now, Event: e}
	v, err := s.view(ctx, acc)
	if err != nil {
		return out, err
	}
	if _, err := v.facts(e, now); err != nil { // who did it, for expressions
		return out, err
	}
	match := belfry.Match{Subscription: sub, Scope: e.ObjectOrRoot(), Pattern: e.Type}
	dir := v.dir.Passing() // nobody else asks for all of these
	for seen, cursor := int64(0), ""; ; {
		result, err := resolve.Page(dir, acc, []belfry.Match{match}, v.typ, now, cursor, explainLimit)
		if err != nil {
			return out, err
		}
		ds, sups, err := s.route(ctx, acc, 0, v, &result, now)
		if err != nil {
			return out, err
		}
		reached(&out, ds, sups)
		if result.Last {
			return out, nil
		}
		cursor = result.Next
		if seen += int64(len(result.Recipients) + len(result.Dropped)); seen >= reachPeople {
			out.AtLeast = true
			return out, nil
		}
	}
}

// reached counts a page. Everything about one person is in one page.
func reached(out *belfry.Reach, ds []belfry.Delivery, sups []belfry.Suppression) {
	told := map[string]bool{}
	for i := range ds {
		d := &ds[i]
		out.Messages++
		out.Channels[d.Channel]++
		switch who := "u" + d.Principal; {
		case d.Principal == "" && !told["a"+d.Address]:
			told["a"+d.Address] = true
			out.Addresses++
		case d.Principal != "" && !told[who]:
			told[who] = true
			out.People++
		}
	}
	left := map[string]bool{}
	for i := range sups {
		sup := &sups[i]
		if n := len(sup.Because); n > 0 {
			out.Reasons[sup.Because[n-1].Code]++
		}
		who := "u" + sup.Principal
		if sup.Principal == "" {
			who = "a" + sup.Address
		}
		if told[who] || left[who] {
			continue // told otherwise, or counted
		}
		left[who] = true
		out.LeftOut++
		if len(out.Samples) < reachSamples {
			out.Samples = append(out.Samples, peopleOf(nil, sups[i:i+1])...)
		}
	}
}

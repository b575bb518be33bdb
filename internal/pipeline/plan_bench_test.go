package pipeline

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// lastPages tells of each plan whose last page was committed.
type lastPages struct {
	PlanStore
	planned chan struct{}
}

func (l lastPages) CommitPlans(ctx context.Context, pages []belfry.PlanPage) ([]error, error) {
	errs, err := l.PlanStore.CommitPlans(ctx, pages)
	for i := range pages {
		if err == nil && errs[i] == nil && pages[i].Last {
			l.planned <- struct{}{}
		}
	}
	return errs, err
}

// BenchmarkPlan matches, resolves, routes and commits an event that 100
// subscriptions of ten rules want, for 10,000 people, each of whom so many of
// them name; nothing is sent. One event an iteration.
func BenchmarkPlan(b *testing.B) {
	for _, channel := range []string{"email", "inbox"} {
		for _, each := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("%s/each=%d", channel, each), func(b *testing.B) { benchmarkPlan(b, channel, each) })
		}
	}
}

func benchmarkPlan(b *testing.B, channel string, each int) {
	const people, subscriptions, rules = 10_000, 100, 10
	planned := make(chan struct{}, 16)
	h := newHouse(b, sqlite(b), func(p *PlannerOptions, _ *DispatcherOptions) { p.Store = lastPages{p.Store, planned} })
	parts := make([][]string, subscriptions*rules/each)
	ch := belfry.Changes{Objects: []belfry.Object{{ID: "school"}, {ID: "course/1", Parent: "school"}}}
	grants := belfry.GrantSet{Object: "school"}
	for i := range people {
		id, part := fmt.Sprintf("user/%06d", i), i%len(parts)
		ch.Users = append(ch.Users, belfry.User{ID: id, State: belfry.UserActive, Email: fmt.Sprintf("u%d@example.org", i)})
		parts[part] = append(parts[part], id)
		grants.Grants = append(grants.Grants, belfry.Grant{Principal: id, Role: "role" + strconv.Itoa(part)})
	}
	ch.Grants = []belfry.GrantSet{grants}
	for i, ids := range parts {
		ch.Groups = append(ch.Groups, belfry.Group{ID: "part" + strconv.Itoa(i), Members: ids})
	}
	for s := range subscriptions {
		sub := belfry.Subscription{ID: fmt.Sprintf("sub_0123456789abcdefghj%06d", s), Types: []string{"course.updated"}, State: belfry.SubscriptionActive, Created: clock(), Notify: []belfry.Notify{{Channels: []string{channel}}}}
		for i := range rules {
			part := (s*rules + i) % len(parts)
			name := strconv.Itoa(part)
			rule := belfry.Rule{Explicit: &belfry.ExplicitRule{Groups: []string{"part" + name}}}
			switch {
			case i == rules-1 && len(parts[part]) <= 100:
				rule = belfry.Rule{Explicit: &belfry.ExplicitRule{Users: parts[part]}}
			case i%2 == 1:
				rule = belfry.Rule{Role: &belfry.RoleRule{Roles: []string{"role" + name}}}
			}
			sub.Recipients = append(sub.Recipients, rule)
		}
		ch.Subscriptions = append(ch.Subscriptions, sub)
	}
	h.apply(ch)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.plan.Run(ctx) }()
	defer func() { stop(); <-ended }()
	h.accept(1, "course.updated") // fills the caches
	<-planned
	b.ReportAllocs()
	for b.Loop() {
		h.accept(1, "course.updated")
		<-planned
	}
}

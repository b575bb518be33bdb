package pipeline

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/directory"
	"github.com/belfryhq/belfry/internal/store"
)

// asked counts how often people are read.
type asked struct {
	*store.DB
	times atomic.Int64
}

func (a *asked) Persons(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Person, error) {
	a.times.Add(1)
	return a.DB.Persons(ctx, tenant, ids)
}

// Of whom many messages on disk are for, a page is read at once, by whoever has
// started and knows nobody.
// feature: NEW-10
func TestPeopleOfABacklogAreReadManyAtOnce(t *testing.T) {
	const people = 600
	db := sqlite(t)
	h := newHouse(t, db, nil)
	ch := belfry.Changes{Subscriptions: []belfry.Subscription{{ID: "sub_1", Types: []string{"course.updated"}, State: belfry.SubscriptionActive, Created: clock(),
		Notify: []belfry.Notify{{Channels: []string{"email"}}}}}}
	for i := range people {
		id := fmt.Sprintf("u%d", i)
		ch.Users = append(ch.Users, belfry.User{ID: id, State: belfry.UserActive, Email: id + "@example.org"})
		ch.Members = append(ch.Members, belfry.Member{Subscription: "sub_1", Principal: id, Since: clock()})
	}
	h.apply(ch)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.plan.Run(ctx) }()
	h.accept(1, "course.updated")
	h.everythingPlanned()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	read := &asked{DB: db}
	later := newHouse(t, db, func(_ *PlannerOptions, d *DispatcherOptions) {
		d.Composer.(*Messages).facts.Directory = directory.New(directory.Options{Store: read})
	})
	if err := later.subs.Load(t.Context(), belfry.DefaultTenant); err != nil {
		t.Fatal(err)
	}
	later.run()
	later.r.wait(t, people)
	if n := read.times.Load(); n > people/page+1 {
		t.Errorf("people were read %d times for %d messages", n, people)
	}
}

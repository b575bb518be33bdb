package manage

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// GoneNotice tells some people that a subscription ends because its object was
// deleted.
type GoneNotice struct {
	belfry.Gone
	// Who are its owner and those who joined it by themselves, without those who
	// were told of the same deletion already; more of them may be in notices of
	// other parts. Part 0 is always there, whoever is told.
	Who  []string
	Part int
	// Others says that more ends for the same deletion: whoever is told of one
	// hears of no other.
	Others bool
}

// Bounds of EndGone: subscriptions at a time, people of one notice, people of
// whom it is known that they were told of a deletion (of one that concerns more,
// some hear twice), and people who are told at once.
const (
	gonePage   = 500
	goneWho    = 200
	goneKnown  = 100_000
	goneAtOnce = 2000
)

// EndGone ends the subscriptions whose object was deleted before a time, with
// the reason, and gives how many. tell is told of each before it is ended, so
// that a crash in between tells again and never not at all. An edit that comes
// in between leaves a subscription to the next time.
//
// What is deleted together, a course with its forums, is one deletion: whoever
// subscribed to several things there hears once. Who was put on a subscription
// by somebody else asked for nothing and hears nothing; groups do not either.
func (m *Manager) EndGone(ctx context.Context, by By, before time.Time, tell func([]GoneNotice) error) (n int, err error) {
	told := map[string]bool{} // of the deletion at hand
	var deletion time.Time
	for after := (belfry.GonePlace{}); ; {
		page, err := m.store.Gone(ctx, by.Tenant, before, after, gonePage)
		if err != nil || len(page) == 0 {
			return n, err
		}
		for i := range page {
			g := &page[i]
			if !g.Object.Deleted.Equal(deletion) {
				deletion = *g.Object.Deleted
				clear(told)
			}
			others := i > 0 && page[i-1].Object.Deleted.Equal(deletion) || i+1 < len(page) && page[i+1].Object.Deleted.Equal(deletion) || after.Deleted.Equal(deletion)
			if err := m.tellGone(ctx, by.Tenant, g, others, told, tell); err != nil {
				return n, err
			}
			switch _, err := m.setState(ctx, by, g.Subscription.ID, belfry.SubscriptionEnded, g.Object.ID+" was deleted", &g.Subscription.Version); belfry.KindOf(err) {
			case belfry.Stale, belfry.NotFound:
			default:
				if err != nil {
					return n, err
				}
				n++
			}
		}
		after = page[len(page)-1].Place()
	}
}

// tellGone tells those whom the end of one subscription concerns, page by page.
func (m *Manager) tellGone(ctx context.Context, tenant string, g *belfry.Gone, others bool, told map[string]bool, tell func([]GoneNotice) error) error {
	var notices []GoneNotice
	part, waiting := 0, 0
	next := GoneNotice{Gone: *g, Others: others}
	add := func(who string) {
		if who == "" || told[who] {
			return
		}
		if len(told) < goneKnown {
			told[who] = true
		}
		if next.Who = append(next.Who, who); len(next.Who) == goneWho {
			notices = append(notices, next)
			part, waiting = part+1, waiting+goneWho
			next = GoneNotice{Gone: *g, Others: others, Part: part}
		}
	}
	add(g.Subscription.Owner)
	for after := ""; ; {
		members, err := m.store.Members(ctx, tenant, g.Subscription.ID, after, gonePage)
		if err != nil {
			return err
		}
		for i := range members {
			if mb := &members[i]; mb.By == "" && (i == 0 || mb.Principal != members[i-1].Principal) {
				add(mb.Principal)
			}
		}
		if len(members) < gonePage {
			break
		}
		after = members[len(members)-1].Principal
		if waiting >= goneAtOnce {
			if err := tell(notices); err != nil {
				return err
			}
			notices, waiting = nil, 0
		}
	}
	if part == 0 || len(next.Who) > 0 {
		notices = append(notices, next)
	}
	if len(notices) == 0 {
		return nil
	}
	return tell(notices)
}

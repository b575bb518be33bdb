package manage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
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

// Key names a notice: the same for the same part of the same deletion, told to the
// same people, so that one that is told again after a crash is known.
func (g *GoneNotice) Key() string {
	sum := sha256.New()
	for _, who := range g.Who {
		_, _ = io.WriteString(sum, who+"\x00")
	}
	return fmt.Sprintf("gone-%s-%d-%d-%x", g.Subscription.ID, g.Object.Deleted.UnixMicro(), g.Part, sum.Sum(nil)[:8])
}

// Bounds of EndGone: subscriptions read at a time and ended together, people of
// one notice, people of whom it is known that they were told of a deletion, and
// people who are told at once.
const (
	gonePage     = 500
	goneTogether = 1000
	goneWho      = 200
	goneKnown    = 100_000
	goneAtOnce   = 2000
)

// EndGone ends the subscriptions whose object was deleted before a time, with
// the reason, and gives how many. tell is told of all that ends by one deletion
// before any of it is ended, and then it is ended from its end to its beginning.
// So a crash at any moment leaves a beginning, whose notices do not depend on what
// came after it: it is told again under the same keys, and never not at all. An
// edit that comes in between leaves a subscription, and what is before it, to the
// next time.
//
// What is deleted together, a course with its forums, is one deletion: whoever
// subscribed to several things there hears once. Who was put on a subscription
// by somebody else asked for nothing and hears nothing; groups do not either.
// Memory is bounded, and so of a deletion that concerns more than goneKnown people
// some of those beyond hear of several subscriptions.
func (m *Manager) EndGone(ctx context.Context, by By, before time.Time, tell func([]GoneNotice) error) (n int, err error) {
	told := map[string]bool{} // of the deletion at hand
	var deletion time.Time
	var version int64 // before anybody was told of it
	for after := (belfry.GonePlace{}); ; {
		now, err := m.store.Version(ctx, by.Tenant)
		if err != nil {
			return n, err
		}
		page, err := m.store.Gone(ctx, by.Tenant, before, after, gonePage)
		if err != nil {
			return n, err
		}
		for i := range page {
			g := &page[i]
			if !g.Object.Deleted.Equal(deletion) {
				ended, err := m.endDeletion(ctx, by, deletion, version)
				if n += ended; err != nil {
					return n, err
				}
				deletion, version = *g.Object.Deleted, now
				clear(told)
			}
			others := i > 0 && page[i-1].Object.Deleted.Equal(deletion) || i+1 < len(page) && page[i+1].Object.Deleted.Equal(deletion) || after.Deleted.Equal(deletion)
			if err := m.tellGone(ctx, by.Tenant, g, others, told, tell); err != nil {
				return n, err
			}
		}
		if len(page) == 0 {
			ended, err := m.endDeletion(ctx, by, deletion, version)
			return n + ended, err
		}
		after = page[len(page)-1].Place()
	}
}

// endDeletion ends the subscriptions of one deletion, the last first, as far as
// they are as they were at a version.
func (m *Manager) endDeletion(ctx context.Context, by By, deletion time.Time, version int64) (n int, err error) {
	for !deletion.IsZero() {
		list, err := m.store.GoneLast(ctx, by.Tenant, deletion, goneTogether)
		if err != nil {
			return n, err
		}
		edited := slices.IndexFunc(list, func(g belfry.Gone) bool { return g.Subscription.Version > version })
		if edited >= 0 {
			list = list[:edited]
		}
		if len(list) == 0 {
			return n, nil
		}
		ch := belfry.Changes{Tenant: by.Tenant}
		for i := range list {
			s := list[i].Subscription
			ch.IfMatch = append(ch.IfMatch, belfry.Expectation{Kind: belfry.KindSubscription, Key: s.ID, Version: s.Version})
			s.State, s.Because = belfry.SubscriptionEnded, list[i].Object.ID+" was deleted"
			ch.Subscriptions = append(ch.Subscriptions, s)
			ch.Audit = append(ch.Audit, belfry.AuditEntry{At: m.now(), Who: by.Who, Action: stateActions[belfry.SubscriptionEnded], Target: s.ID, Detail: s.Title})
		}
		switch _, err := m.store.Apply(ctx, ch); belfry.KindOf(err) {
		case belfry.Stale, belfry.NotFound: // one was edited, or removed, at this moment
		default:
			if err != nil {
				return n, err
			}
			n += len(list)
		}
	}
	return n, nil
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

package manage

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// FollowStore keeps who follows which problem.
type FollowStore interface {
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
	ResolvedBy(ctx context.Context, tenant, source, problem string, since time.Time) (string, error)
	PutFollow(ctx context.Context, tenant string, f belfry.Follow, source, problem string, audit belfry.AuditEntry) (cancelled []string, err error)
	DropFollow(ctx context.Context, tenant, user, event string, audit belfry.AuditEntry) (bool, error)
	Follows(ctx context.Context, tenant, user, after string, limit int) ([]belfry.Follow, error)
}

// Follows lists what a user follows, in the order of the events.
func (m *Manager) Follows(ctx context.Context, tenant, user, after string, limit int) ([]belfry.Follow, string, error) {
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	if err := m.present(ctx, tenant, user); err != nil {
		return nil, "", err
	}
	list, err := m.store.Follows(ctx, tenant, user, after, limit)
	next := ""
	if len(list) == limit {
		next = list[limit-1].Event
	}
	return list, next, err
}

// Follow lets a user hear nothing more of an event's problem until it is
// resolved, or be told when it is.
func (m *Manager) Follow(ctx context.Context, by By, f belfry.Follow) (belfry.Follow, error) {
	if !f.Mute && !f.Tell {
		return f, belfry.Faults([]belfry.Field{{Pointer: "", Message: "asks for neither mute nor tell: delete it to follow no more"}})
	}
	if err := m.present(ctx, by.Tenant, f.User); err != nil {
		return f, err
	}
	events, err := m.store.Events(ctx, by.Tenant, []string{f.Event})
	if err != nil {
		return f, err
	}
	acc := events[f.Event]
	if acc == nil {
		return f, notFound("event", f.Event)
	}
	e := acc.Event
	done, err := m.store.ResolvedBy(ctx, by.Tenant, e.Source, e.ProblemName(), e.Time)
	if err != nil {
		return f, err
	}
	if done != "" {
		return f, belfry.Errorf(belfry.Conflict, "the problem of event %s is resolved already, by event %s", f.Event, done)
	}
	f.Since = m.now()
	entry := m.change(by, "follow.put", f.User).Audit[0]
	entry.Detail = f.Event + followed(f)
	_, err = m.store.PutFollow(ctx, by.Tenant, f, e.Source, e.ProblemName(), entry)
	return f, err
}

// followed is how, for the audit.
func followed(f belfry.Follow) string {
	how := ""
	if f.Mute {
		how += ", mute"
	}
	if f.Tell {
		how += ", tell"
	}
	return how
}

// Unfollow ends that.
func (m *Manager) Unfollow(ctx context.Context, by By, user, event string) error {
	entry := m.change(by, "follow.delete", user).Audit[0]
	entry.Detail = event
	was, err := m.store.DropFollow(ctx, by.Tenant, user, event, entry)
	if err == nil && !was {
		return notFound("follow of event", event)
	}
	return err
}

// present refuses a user who is not there.
func (m *Manager) present(ctx context.Context, tenant, user string) error {
	people, err := m.store.Persons(ctx, tenant, []string{user})
	if err != nil {
		return err
	}
	if p := people[user]; p == nil || p.User.State == belfry.UserDeleted {
		return notFound("user", user)
	}
	return nil
}

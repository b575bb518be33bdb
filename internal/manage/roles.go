package manage

import (
	"context"
	"fmt"
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

// maxRoles bounds the roles a name is held against: platforms have a few dozen.
const maxRoles = 1000

// rolesOf are the roles a subscription names: of its rules, and of who may join.
func rolesOf(s *belfry.Subscription) []string {
	out := slices.Clone(s.Joining.Roles)
	for _, r := range s.Recipients {
		if r.Role != nil {
			out = append(out, r.Role.Roles...)
		}
	}
	return distinct(out)
}

// EventTypeWarnings say what is allowed but perhaps not meant: roles that nobody
// was ever given, by which nobody sees or subscribes to a type.
func (m *Manager) EventTypeWarnings(ctx context.Context, tenant string, t *belfry.EventType) ([]string, error) {
	return m.strangeRoles(ctx, tenant, distinct(slices.Concat(t.SeeRoles, t.Subscribe.Roles)))
}

// PresetWarnings are those of its subscription, as it would be at the root, and of
// the roles whose holders may switch it on.
func (m *Manager) PresetWarnings(ctx context.Context, tenant string, p *belfry.Preset) ([]string, error) {
	s, err := m.describe(ctx, tenant, p.Subscription.Subscription)
	if err != nil {
		return nil, err
	}
	strange, err := m.strangeRoles(ctx, tenant, distinct(p.Roles))
	return distinct(append(s.Warnings, strange...)), err
}

// strangeRoles warns of roles that nobody was ever given here, each with the one
// that may be meant. It is no fault: a role may be given later.
func (m *Manager) strangeRoles(ctx context.Context, tenant string, roles []string) (out []string, err error) {
	roles = slices.DeleteFunc(roles, func(r string) bool { return r == "*" })
	if len(roles) == 0 {
		return nil, nil
	}
	known, err := m.store.Roles(ctx, tenant, maxRoles)
	if err != nil || len(known) == maxRoles {
		return nil, err
	}
	for _, r := range roles {
		switch near := belfry.Nearest(r, known); {
		case slices.Contains(known, r):
		case near != "":
			out = append(out, fmt.Sprintf("nobody was ever given the role %s: did you mean %s?", r, near))
		default:
			out = append(out, fmt.Sprintf("nobody was given the role %s yet", r))
		}
	}
	return out, nil
}

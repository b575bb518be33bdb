package resolve

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// sight decides who may be told: when the event's object or one above it is
// hidden, only who holds an active merged role there (any role); when the
// event's type lists roles, only who holds one of those. Bare addresses hold
// no role unless they stand for a group that does. Endpoints are outside:
// whoever set them up decided.
type sight struct {
	hidden   string   // the hidden object; empty = none
	roles    []string // of the type; empty = none needed
	levels   []sightLevel
	everyone [2]bool // a pseudo group holds: [0] any role, [1] one of roles
}

// sightLevel is what is granted at one object of the chain.
type sightLevel struct {
	object string
	below  []belfry.Object
	users  []belfry.Grant
	groups []sightGroup
}

type sightGroup struct {
	listed bool // the role is one of the type's
	flat   *flatGroup
}

// hiddenAt is the closest of the objects that is hidden, empty = none.
func hiddenAt(chain []belfry.Object) string {
	for i := range chain {
		if chain[i].Hidden {
			return chain[i].ID
		}
	}
	return ""
}

// seesByRole reports whether it takes a role to be told of events of a type at the
// first of the objects, the others of which are above it.
func seesByRole(typ *belfry.EventType, chain []belfry.Object) bool {
	return len(typ.SeeRoles) > 0 || hiddenAt(chain) != ""
}

func (r *run) seesByRole() bool { return seesByRole(&r.typ, r.chain) }

func (s *sight) prepare(r *run) {
	if !r.seesByRole() {
		return
	}
	s.hidden, s.roles = hiddenAt(r.chain), r.typ.SeeRoles
	for i := range r.chain {
		level := sightLevel{object: r.chain[i].ID, below: r.chain[:i], users: r.grants[r.chain[i].ID].Users}
		for _, g := range r.grants[level.object].Groups {
			if g.InactiveAt(r.now) != "" || blockedBy(level.below, g.Role) != nil {
				continue
			}
			flat := r.flatten(g.Principal, false)
			listed := s.lists(g.Role)
			if flat.everyone {
				s.everyone[0] = true
				s.everyone[1] = s.everyone[1] || listed
			}
			level.groups = append(level.groups, sightGroup{listed, flat})
		}
		s.levels = append(s.levels, level)
	}
}

func (s *sight) lists(role string) bool {
	return slices.Contains(s.roles, role) || slices.Contains(s.roles, anyRole)
}

// refuse is why principal (a user, or a group that stands behind an address;
// empty for an address alone) may not be told; nil when it may.
func (s *sight) refuse(r *run, principal string) *belfry.Reason {
	if s.hidden == "" && len(s.roles) == 0 {
		return nil
	}
	anyHeld, listed, inactive := false, false, ""
	if principal != "" {
		anyHeld, listed, inactive = s.holds(r, principal)
	}
	if s.hidden != "" && !anyHeld {
		return &belfry.Reason{Code: belfry.ObjectHidden, Object: s.hidden, Detail: inactive}
	}
	if len(s.roles) > 0 && !listed {
		detail := inactive
		if detail == "" {
			detail = "needs a role: " + strings.Join(s.roles, ", ")
		}
		return &belfry.Reason{Code: belfry.MayNotSee, Object: r.chain[0].ID, Detail: detail}
	}
	return nil
}

// holds tells whether principal holds any active merged role, and one of the
// type's; and if not the latter, the first inactive one that would have done.
func (s *sight) holds(r *run, principal string) (anyHeld, listed bool, inactive string) {
	anyHeld, listed = s.everyone[0], s.everyone[1]
	for i := range s.levels {
		level := &s.levels[i]
		at := sort.Search(len(level.users), func(i int) bool { return level.users[i].Principal >= principal })
		for ; at < len(level.users) && level.users[at].Principal == principal; at++ {
			g := &level.users[at]
			if blockedBy(level.below, g.Role) != nil {
				continue
			}
			if why := g.InactiveAt(r.now); why != "" {
				if inactive == "" && (len(s.roles) == 0 || s.lists(g.Role)) {
					inactive = fmt.Sprintf("role %s at %s: %s", g.Role, level.object, why)
				}
				continue
			}
			anyHeld = true
			listed = listed || s.lists(g.Role)
		}
		for _, g := range level.groups {
			if (!anyHeld || !listed && g.listed) && g.flat.contains(principal) {
				anyHeld = true
				listed = listed || g.listed
			}
		}
		if anyHeld && (listed || len(s.roles) == 0) {
			break
		}
	}
	return anyHeld, listed, inactive
}

// contains reports whether id is a user in the group, or a group of it.
func (f *flatGroup) contains(id string) bool {
	for i := range f.parts {
		if f.parts[i].ID == id {
			return true
		}
		if _, ok := slices.BinarySearch(f.parts[i].Users, id); ok {
			return true
		}
	}
	return false
}

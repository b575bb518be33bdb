package resolve

import (
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

type roleRule struct {
	match, rule int
	role        *belfry.RoleRule
}

// anyRole in a role rule or in an event type's see_roles stands for every role.
const anyRole = "*"

// base is the chain a role rule looks along: of the event's object, of its
// parent, or of the destination. Nil when the event has no such place.
func (r *run) base(on string, destination []belfry.Object) []belfry.Object {
	switch on {
	case "", belfry.OnObject:
		return r.chain
	case belfry.OnContainer:
		return r.chain[1:]
	case belfry.OnDestination:
		return destination
	}
	return nil
}

// loadGrants reads the grants of every object that a role rule or visibility
// looks at, at once.
func (r *run) loadGrants(rules []roleRule) error {
	var objects []string
	seen := map[string]bool{}
	want := func(chain []belfry.Object) {
		for i := range chain {
			if id := chain[i].ID; !seen[id] {
				seen[id] = true
				objects = append(objects, id)
			}
		}
	}
	if r.seesByRole() {
		want(r.chain)
	}
	for i := range rules {
		if rules[i].role.On == belfry.OnDestination {
			if r.e.Destination == "" {
				continue
			}
			chain, err := ancestors(r.dir, r.e.Destination)
			if err != nil {
				return err
			}
			want(chain)
			continue
		}
		want(r.chain)
	}
	if len(objects) == 0 {
		return nil
	}
	var err error
	r.grants, err = r.dir.Grants(objects)
	return err
}

// nameRoles lays the role rules over the grants. Users with grants become
// streams; grants to groups become requests.
func (r *run) nameRoles(rules []roleRule) ([]request, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	var destination []belfry.Object
	if r.e.Destination != "" {
		for i := range rules {
			if rules[i].role.On == belfry.OnDestination {
				var err error
				if destination, err = ancestors(r.dir, r.e.Destination); err != nil {
					return nil, err
				}
				break
			}
		}
	}
	byObject := map[string]*grantStream{}
	var requests []request
	for _, rule := range rules {
		chain := r.base(rule.role.On, destination)
		if len(chain) == 0 {
			continue
		}
		for _, reach := range r.reaches(chain, rule.role) {
			requests = r.nameHolders(rule, reach, byObject, requests)
		}
	}
	return requests, nil
}

// reach is one origin of a role rule: the objects it looks at, the nearest
// first, below which nothing blocks.
type reach struct {
	levels []belfry.Object
	above  int // how far the first is above where the rule looks from
}

// reaches are what the origins of a rule come to on a chain. An origin that
// holds another one's objects with the same blocking below stands for both.
func (r *run) reaches(chain []belfry.Object, rule *belfry.RoleRule) []reach {
	var local, merged, ancestorLocal, ancestorMerged bool
	for _, o := range rule.Origins {
		local = local || o == belfry.OriginLocal
		merged = merged || o == belfry.OriginMerged
		ancestorLocal = ancestorLocal || o == belfry.OriginAncestorLocal
		ancestorMerged = ancestorMerged || o == belfry.OriginAncestorMerged
	}
	var out []reach
	switch {
	case merged || len(rule.Origins) == 0:
		out = append(out, reach{levels: chain})
	case local:
		out = append(out, reach{levels: chain[:1]})
	}
	if !ancestorLocal && !ancestorMerged {
		return out
	}
	at := closest(chain, rule.AncestorTypes)
	if at < 0 {
		return out
	}
	levels := chain[at:]
	if !ancestorMerged {
		levels = levels[:1]
	}
	return append(out, reach{levels: levels, above: at})
}

// closest is the position in a chain of the closest strict ancestor of one of
// the types, -1 when there is none. A farther one is never tried.
func closest(chain []belfry.Object, types []string) int {
	for i := 1; i < len(chain); i++ {
		if slices.Contains(types, chain[i].Type) {
			return i
		}
	}
	return -1
}

// nameHolders lays one origin of a role rule over the grants.
func (r *run) nameHolders(rule roleRule, in reach, byObject map[string]*grantStream, requests []request) []request {
	for i := range in.levels {
		object := in.levels[i].ID
		grants := r.grants[object]
		for _, role := range rolesOf(rule.role.Roles, grants) {
			u := &roleUse{match: rule.match, rule: rule.rule, object: object, role: role, level: in.above + i, source: -1,
				deny: r.denyRole(in.levels[:i], role, i > 0, rule.match)}
			if len(grants.Users) > 0 {
				st := byObject[object]
				if st == nil {
					st = &grantStream{object: object, grants: grants.Users, roles: map[string][]*roleUse{}}
					byObject[object] = st
					r.streams = append(r.streams, st)
				}
				st.roles[role] = append(st.roles[role], u)
			}
			granted := map[[2]string]bool{} // by several origins: once
			for k := range grants.Groups {
				g := &grants.Groups[k]
				inactive := g.InactiveAt(r.now)
				if g.Role != role || granted[[2]string{g.Principal, inactive}] {
					continue
				}
				granted[[2]string{g.Principal, inactive}] = true
				requests = append(requests, request{g.Principal, r.newRoleSource(u, g.Principal, inactive)})
			}
		}
	}
	return requests
}

// rolesOf are the rule's roles, each once; * is every role granted here.
func rolesOf(roles []string, grants Grants) []string {
	if !slices.Contains(roles, anyRole) {
		if len(roles) < 2 {
			return roles
		}
		roles = slices.Clone(roles)
		slices.Sort(roles)
		return slices.Compact(roles)
	}
	seen := map[string]bool{}
	var all []string
	for _, part := range [][]belfry.Grant{grants.Users, grants.Groups} {
		for i := range part {
			if role := part[i].Role; !seen[role] {
				seen[role] = true
				all = append(all, role)
			}
		}
	}
	slices.Sort(all)
	return all
}

// blockedBy is the object among below (nearest first) that does not inherit
// role from above it; nil when all do.
func blockedBy(below []belfry.Object, role string) *belfry.Object {
	for i := range below {
		if len(below[i].Blocks) > 0 && below[i].BlocksRole(role) {
			return &below[i]
		}
	}
	return nil
}

// denyRole is why a role granted above the objects below does not count for a
// rule of match mi; nil when it does.
func (r *run) denyRole(below []belfry.Object, role string, inherited bool, mi int) *belfry.Reason {
	id := r.matches[mi].Subscription.ID
	if o := blockedBy(below, role); o != nil {
		return &belfry.Reason{Code: belfry.GrantBlocked, Subscription: id, Object: o.ID, Role: role}
	}
	deny := r.flags.noRoles
	if deny == nil && inherited {
		deny = r.flags.onlyLocal
	}
	if deny != nil {
		reason := *deny
		reason.Subscription = id
		return &reason
	}
	return nil
}

// roleSource is the source of users who hold the role by a grant that is
// inactive for the reason given, or active when it is empty.
func (r *run) roleSource(u *roleUse, inactive string) int32 {
	if inactive == "" {
		if u.source < 0 {
			u.source = r.add(r.newRoleSource(u, "", ""))
		}
		return u.source
	}
	n, ok := u.inactive[inactive]
	if !ok {
		n = r.add(r.newRoleSource(u, "", inactive))
		if u.inactive == nil {
			u.inactive = map[string]int32{}
		}
		u.inactive[inactive] = n
	}
	return n
}

// newRoleSource is the same for those who hold it through group, too. That a
// grant is inactive decides before blocking and flags do: it would not have
// counted anyway.
func (r *run) newRoleSource(u *roleUse, group, inactive string) source {
	id := r.matches[u.match].Subscription.ID
	s := source{match: u.match, deny: u.deny, level: u.level,
		reason: belfry.Reason{Code: belfry.NamedRole, Subscription: id, Rule: u.rule, Object: u.object, Role: u.role, Group: group}}
	if inactive != "" {
		s.deny = &belfry.Reason{Code: belfry.GrantInactive, Subscription: id, Object: u.object, Role: u.role, Detail: inactive}
	}
	return s
}

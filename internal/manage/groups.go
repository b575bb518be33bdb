package manage

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Group is a group with its direct members of all origins, and its version.
func (m *Manager) Group(ctx context.Context, tenant, id string) (belfry.Group, int64, error) {
	groups, err := m.store.Groups(ctx, tenant, []string{id})
	if err != nil {
		return belfry.Group{}, 0, err
	}
	g, ok := groups[id]
	if !ok {
		return belfry.Group{}, 0, notFound("group", id)
	}
	version, err := m.version(ctx, tenant, belfry.KindGroup, id)
	return g, version, err
}

// PutGroup stores one group. Nil Members are untouched, others replace those
// of by's origin.
func (m *Manager) PutGroup(ctx context.Context, by By, g belfry.Group, match Expect) (stored belfry.Group, version int64, created bool, err error) {
	before, err := m.version(ctx, by.Tenant, belfry.KindGroup, g.ID)
	if err != nil {
		return stored, 0, false, err
	}
	if err := m.putGroups(ctx, by, []belfry.Group{g}, false, match); err != nil {
		return stored, 0, false, err
	}
	stored, version, err = m.Group(ctx, by.Tenant, g.ID)
	return stored, version, before == 0, err
}

// PutGroups stores all of them or none; a group may hold one that follows.
func (m *Manager) PutGroups(ctx context.Context, by By, gs []belfry.Group) error {
	return m.putGroups(ctx, by, gs, true, nil)
}

// maxMembers bounds what one group is given in one edit.
const maxMembers = 1_000_000

func (m *Manager) putGroups(ctx context.Context, by By, gs []belfry.Group, batch bool, match Expect) error {
	if len(gs) == 0 {
		return nil
	}
	f := &faults{}
	f.size(len(gs))
	if err := f.err(); err != nil {
		return err
	}
	gs = slices.Clone(gs)
	ids := make([]string, len(gs))
	for i := range gs {
		g := &gs[i]
		ids[i] = g.ID
		g.Origin = by.Origin
		g.Address = strings.TrimSpace(g.Address)
		checkGroup(f, at(batch, i), g)
	}
	duplicates(f, batch, gs, func(g *belfry.Group) string { return g.ID })
	if err := f.err(); err != nil {
		return err
	}
	persons, err := m.store.Persons(ctx, by.Tenant, ids)
	if err != nil {
		return err
	}
	if err := clash(batch, ids, func(id string) bool { return persons[id] != nil }, "a user"); err != nil {
		return err
	}
	defer m.lock(by.Tenant)()
	if err := m.checkMembers(ctx, f, by, gs, batch); err != nil {
		return err
	}
	target, detail := batchTarget(gs, func(g *belfry.Group) string { return g.ID })
	ch := m.change(by, "group.put", target)
	ch.Audit[0].Detail = detail
	ch.Groups = gs
	_, err = m.apply(ctx, ch, belfry.KindGroup, gs[0].ID, match)
	return err
}

func checkGroup(f *faults, p string, g *belfry.Group) {
	checkPrincipalID(f, p, g.ID)
	f.line(p+"/name", g.Name, maxName)
	if g.Address != "" {
		f.email(p+"/address", g.Address)
	}
	if len(g.Members) > maxMembers {
		f.add(p+"/members", "has %d entries: at most %d are allowed", len(g.Members), maxMembers)
		return
	}
	for i, id := range g.Members {
		mp := p + "/members/" + strconv.Itoa(i)
		if f.key(mp, id, maxID) && pseudo(id) {
			f.add(mp, "%q stands for many people and cannot be a member", id)
		}
	}
}

// checkMembers refuses members that are not there, and groups that would hold
// themselves.
func (m *Manager) checkMembers(ctx context.Context, f *faults, by By, gs []belfry.Group, batch bool) error {
	inBatch := make(map[string]bool, len(gs))
	var members []string
	for i := range gs {
		inBatch[gs[i].ID] = true
		members = append(members, gs[i].Members...)
	}
	var outside []string
	for _, id := range distinct(members) {
		if !inBatch[id] {
			outside = append(outside, id)
		}
	}
	known, err := m.principals(ctx, by.Tenant, outside)
	if err != nil {
		return err
	}
	for i := range gs {
		for n, id := range gs[i].Members {
			if !inBatch[id] && !known[id] {
				f.add(at(batch, i)+"/members/"+strconv.Itoa(n), "there is no user or group %q", id)
			}
		}
	}
	if err := f.err(); err != nil {
		return err
	}
	holds, err := m.holds(ctx, by, gs)
	if err != nil {
		return err
	}
	ids := make([]string, len(gs))
	for i := range gs {
		ids[i] = gs[i].ID
	}
	found := loops(holds, ids)
	for i := range gs {
		if way := found[gs[i].ID]; way != nil {
			f.add(at(batch, i)+"/members", "makes a cycle: %s", strings.Join(way, " holds "))
		}
	}
	return f.err()
}

// holds is which groups hold which after the edit, for all that can be reached
// from the groups of the batch.
func (m *Manager) holds(ctx context.Context, by By, gs []belfry.Group) (map[string][]string, error) {
	holds := map[string][]string{}
	ids := make([]string, len(gs))
	for i := range gs {
		ids[i] = gs[i].ID
	}
	stored, err := m.groups(ctx, by.Tenant, ids)
	if err != nil {
		return nil, err
	}
	var next []string
	for i := range gs {
		members := gs[i].Members
		// What others wrote stays: the members of a group last written by
		// another origin are kept in the picture. The store does not say
		// which member is whose, so this may see one that is about to go.
		if old, ok := stored[gs[i].ID]; ok && (members == nil || old.Origin != by.Origin) {
			members = append(slices.Clone(members), old.Members...)
		}
		holds[gs[i].ID] = members
		next = append(next, members...)
	}
	for {
		var unseen []string
		for _, id := range distinct(next) {
			if _, ok := holds[id]; !ok {
				unseen = append(unseen, id)
			}
		}
		if len(unseen) == 0 {
			return holds, nil
		}
		found, err := m.groups(ctx, by.Tenant, unseen)
		if err != nil {
			return nil, err
		}
		next = nil
		for _, id := range unseen {
			holds[id] = found[id].Members // none of a user
			next = append(next, found[id].Members...)
		}
	}
}

// groups is the store's Groups for any number of ids.
func (m *Manager) groups(ctx context.Context, tenant string, ids []string) (map[string]belfry.Group, error) {
	all := map[string]belfry.Group{}
	for chunk := range slices.Chunk(ids, MaxBatch) {
		found, err := m.store.Groups(ctx, tenant, chunk)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, found)
	}
	return all, nil
}

// loops walks down from each group once and gives, for each group of ids that
// is found to hold itself, the way down to itself. A loop is given once.
func loops(holds map[string][]string, ids []string) map[string][]string {
	const (
		walking = 1
		done    = 2
	)
	type step struct {
		id   string
		next int // member to look at
	}
	state := make(map[string]int, len(holds))
	out := map[string][]string{}
	for _, from := range ids {
		if state[from] != 0 {
			continue
		}
		state[from] = walking
		path := []step{{id: from}}
		for len(path) > 0 {
			top := &path[len(path)-1]
			if top.next == len(holds[top.id]) {
				state[top.id] = done
				path = path[:len(path)-1]
				continue
			}
			held := holds[top.id][top.next]
			top.next++
			switch state[held] {
			case 0:
				state[held] = walking
				path = append(path, step{id: held})
			case walking:
				start := slices.IndexFunc(path, func(s step) bool { return s.id == held })
				var way []string
				for _, s := range path[start:] {
					way = append(way, s.id)
				}
				if i := slices.IndexFunc(way, func(id string) bool { return slices.Contains(ids, id) }); i >= 0 {
					way = append(slices.Clone(way[i:]), way[:i+1]...)
					out[way[0]] = way
				}
			}
		}
	}
	return out
}

// DeleteGroup drops a group; its members stay who they are.
func (m *Manager) DeleteGroup(ctx context.Context, by By, id string, match Expect) error {
	if _, _, err := m.Group(ctx, by.Tenant, id); err != nil {
		return err
	}
	ch := m.change(by, "group.delete", id)
	ch.DropGroups = []string{id}
	_, err := m.apply(ctx, ch, belfry.KindGroup, id, match)
	return err
}

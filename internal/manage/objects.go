package manage

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// maxLevels bounds the depth of a tree: every event walks up all levels.
const maxLevels = 64

// Object is an object that is not deleted, with its version.
func (m *Manager) Object(ctx context.Context, tenant, id string) (belfry.Object, int64, error) {
	objects, err := m.store.Objects(ctx, tenant, []string{id})
	if err != nil {
		return belfry.Object{}, 0, err
	}
	o, ok := objects[id]
	if !ok || o.Deleted != nil {
		return belfry.Object{}, 0, notFound("object", id)
	}
	version, err := m.version(ctx, tenant, belfry.KindObject, id)
	return o, version, err
}

// PutObject stores one object; created tells whether it is new.
func (m *Manager) PutObject(ctx context.Context, by By, o belfry.Object, match Expect) (stored belfry.Object, version int64, created bool, err error) {
	before, err := m.version(ctx, by.Tenant, belfry.KindObject, o.ID)
	if err != nil {
		return stored, 0, false, err
	}
	if err := m.putObjects(ctx, by, []belfry.Object{o}, false, match); err != nil {
		return stored, 0, false, err
	}
	stored, version, err = m.Object(ctx, by.Tenant, o.ID)
	return stored, version, before == 0, err
}

// PutObjects stores all of them or none; parents may follow children.
func (m *Manager) PutObjects(ctx context.Context, by By, os []belfry.Object) error {
	return m.putObjects(ctx, by, os, true, nil)
}

func (m *Manager) putObjects(ctx context.Context, by By, os []belfry.Object, batch bool, match Expect) error {
	if len(os) == 0 {
		return nil
	}
	f := &faults{}
	f.size(len(os))
	if err := f.err(); err != nil {
		return err
	}
	os = slices.Clone(os)
	for i := range os {
		checkObject(f, at(batch, i), &os[i])
		// What only the server says is not believed of others.
		os[i].Implied, os[i].Deleted, os[i].Origin = false, nil, by.Origin
		os[i].Attributes = orNothing(os[i].Attributes)
		if os[i].Parent == belfry.RootObject {
			os[i].Parent = ""
		}
	}
	duplicates(f, batch, os, func(o *belfry.Object) string { return o.ID })
	if err := f.err(); err != nil {
		return err
	}
	defer m.lock(by.Tenant)()
	if err := m.checkTree(ctx, f, by.Tenant, os, batch); err != nil {
		return err
	}
	target, detail := batchTarget(os, func(o *belfry.Object) string { return o.ID })
	ch := m.change(by, "object.put", target)
	ch.Audit[0].Detail = detail
	ch.Objects = os
	_, err := m.apply(ctx, ch, belfry.KindObject, os[0].ID, match)
	return err
}

func checkObject(f *faults, p string, o *belfry.Object) {
	if f.key(p+"/id", o.ID, maxID) && o.ID == belfry.RootObject {
		f.add(p+"/id", "%q is the root of the tree, which is always there", belfry.RootObject)
	}
	f.key(p+"/type", o.Type, 100)
	f.line(p+"/parent", o.Parent, maxID)
	f.line(p+"/title", o.Title, maxName)
	f.url(p+"/url", o.URL)
	f.line(p+"/document", o.Document, maxID)
	f.object(p+"/attributes", o.Attributes)
	for i, role := range o.Blocks {
		f.key(p+"/blocks/"+strconv.Itoa(i), role, 100)
	}
}

// checkTree refuses parents that are not there, and cycles. It reads the
// ancestors of what is put, level by level.
func (m *Manager) checkTree(ctx context.Context, f *faults, tenant string, os []belfry.Object, batch bool) error {
	parent := make(map[string]string, 2*len(os)) // of the batch and of what is above it
	for i := range os {
		parent[os[i].ID] = os[i].Parent
	}
	known := map[string]belfry.Object{}
	var missing []string
	frontier := func(from []string) []string {
		var out []string
		for _, id := range distinct(from) {
			if _, ok := parent[id]; !ok && id != belfry.RootObject {
				out = append(out, id)
			}
		}
		return out
	}
	direct := make([]string, 0, len(os))
	for i := range os {
		direct = append(direct, os[i].Parent)
	}
	for next := frontier(direct); len(next) > 0; {
		found, err := m.store.Objects(ctx, tenant, next)
		if err != nil {
			return err
		}
		var above []string
		for _, id := range next {
			o, ok := found[id]
			if !ok || o.Deleted != nil {
				missing = append(missing, id)
				parent[id] = ""
			} else {
				known[id] = o
				parent[id] = o.Parent
				above = append(above, o.Parent)
			}
		}
		next = frontier(above)
	}
	for i := range os {
		if p := os[i].Parent; slices.Contains(missing, p) {
			f.add(at(batch, i)+"/parent", "there is no object %q: put it first, or in the same batch", p)
		}
	}
	for _, c := range cycles(os, parent) {
		f.add(at(batch, c.index)+"/parent", "makes a cycle: %s", strings.Join(c.ids, " is in "))
	}
	if err := f.err(); err != nil {
		return err
	}
	for i := range os {
		level := 0
		for id := os[i].ID; id != "" && id != belfry.RootObject && level <= maxLevels; id = parent[id] {
			level++
		}
		if level > maxLevels {
			f.add(at(batch, i)+"/parent", "is more than %d levels below the root", maxLevels)
		}
	}
	return f.err()
}

type cycle struct {
	index int // of the first of os that is in it
	ids   []string
}

// cycles walks up from each object; a walk that meets itself is a cycle. Each
// is reported once.
func cycles(os []belfry.Object, parent map[string]string) []cycle {
	const (
		walking = 1
		done    = 2
	)
	state := make(map[string]int, len(parent))
	var out []cycle
	for i := range os {
		var path []string
		id := os[i].ID
		for id != "" && id != belfry.RootObject && state[id] == 0 {
			state[id] = walking
			path = append(path, id)
			id = parent[id]
		}
		if from := slices.Index(path, id); from >= 0 {
			ids := append(slices.Clone(path[from:]), id)
			out = append(out, cycle{indexOf(os, path[from:], i), ids})
		}
		for _, id := range path {
			state[id] = done
		}
	}
	return out
}

// indexOf is the first of os that is among ids.
func indexOf(os []belfry.Object, ids []string, or int) int {
	for i := range os {
		if slices.Contains(ids, os[i].ID) {
			return i
		}
	}
	return or
}

// DeleteObject puts a tombstone on an object and on everything under it.
func (m *Manager) DeleteObject(ctx context.Context, by By, id string, match Expect) error {
	if _, _, err := m.Object(ctx, by.Tenant, id); err != nil {
		return err
	}
	ch := m.change(by, "object.delete", id)
	ch.DeleteObjects = []string{id}
	_, err := m.apply(ctx, ch, belfry.KindObject, id, match)
	return err
}

// Grants are those on an object itself, of all origins.
func (m *Manager) Grants(ctx context.Context, tenant, object string) ([]belfry.Grant, error) {
	if err := m.objectKnown(ctx, tenant, object); err != nil {
		return nil, err
	}
	grants, err := m.store.GrantsOn(ctx, tenant, []string{object})
	return grants[object], err
}

// objectKnown is nil for the root and for objects that are there.
func (m *Manager) objectKnown(ctx context.Context, tenant, id string) error {
	if id == belfry.RootObject {
		return nil
	}
	_, _, err := m.Object(ctx, tenant, id)
	return err
}

// PutGrants replaces the grants of by's origin on each object of sets; with a
// Principal, only that principal's. Pointers are /<set>/grants/<n>/…, or
// /<n>/… for a single set.
func (m *Manager) PutGrants(ctx context.Context, by By, sets []belfry.GrantSet) error {
	if len(sets) == 0 {
		return nil
	}
	f := &faults{}
	total := 0
	var objects, principals []string
	sets = slices.Clone(sets)
	for i := range sets {
		s := &sets[i]
		s.Origin = by.Origin
		s.Grants = slices.Clone(s.Grants)
		total += len(s.Grants)
		objects = append(objects, s.Object)
		for n := range s.Grants {
			g := &s.Grants[n]
			g.Object, g.Origin = s.Object, by.Origin
			principals = append(principals, g.Principal)
		}
	}
	f.size(max(total, len(sets)))
	if err := f.err(); err != nil {
		return err
	}
	known, err := m.store.Objects(ctx, by.Tenant, distinct(objects))
	if err != nil {
		return err
	}
	who, err := m.principals(ctx, by.Tenant, principals)
	if err != nil {
		return err
	}
	for i := range sets {
		p := ""
		if len(sets) > 1 {
			p = at(true, i) + "/grants"
		}
		s := &sets[i]
		if o, ok := known[s.Object]; s.Object != belfry.RootObject && (!ok || o.Deleted != nil) {
			if len(sets) == 1 {
				return notFound("object", s.Object)
			}
			f.add(at(true, i)+"/object", "there is no object %q", s.Object)
		}
		for n := range s.Grants {
			g := &s.Grants[n]
			gp := p + "/" + strconv.Itoa(n)
			f.key(gp+"/role", g.Role, 100)
			f.line(gp+"/inactive", g.Inactive, maxName)
			if f.key(gp+"/principal", g.Principal, maxID) && !who[g.Principal] && !pseudo(g.Principal) {
				f.add(gp+"/principal", "there is no user or group %q", g.Principal)
			}
			if s.Principal != "" && g.Principal != s.Principal {
				f.add(gp+"/principal", "must be %q, whose grants are replaced", s.Principal)
			}
			if g.From != nil && g.Until != nil && !g.From.Before(*g.Until) {
				f.add(gp+"/until", "must be after from")
			}
		}
	}
	if err := f.err(); err != nil {
		return err
	}
	target, detail := batchTarget(sets, func(s *belfry.GrantSet) string { return s.Object })
	ch := m.change(by, "grants.put", target)
	ch.Audit[0].Detail = detail
	ch.Grants = sets
	_, err = m.store.Apply(ctx, ch)
	return err
}

// History lists the workflow steps of an object, oldest first.
func (m *Manager) History(ctx context.Context, tenant, object, after string, limit int) ([]belfry.HistoryEntry, string, error) {
	if err := m.objectKnown(ctx, tenant, object); err != nil {
		return nil, "", err
	}
	return m.store.History(ctx, tenant, object, after, limit)
}

// AddHistory appends workflow steps. A step without a time happened now; one
// without a document is of its object's.
func (m *Manager) AddHistory(ctx context.Context, by By, entries []belfry.HistoryEntry) error {
	if len(entries) == 0 {
		return nil
	}
	f := &faults{}
	f.size(len(entries))
	if err := f.err(); err != nil {
		return err
	}
	entries = slices.Clone(entries)
	var objects []string
	for i := range entries {
		objects = append(objects, entries[i].Object)
	}
	known, err := m.store.Objects(ctx, by.Tenant, distinct(objects))
	if err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		p := at(true, i)
		if o, ok := known[e.Object]; f.key(p+"/object", e.Object, maxID) && e.Object != belfry.RootObject && (!ok || o.Deleted != nil) {
			f.add(p+"/object", "there is no object %q", e.Object)
		} else if e.Document == "" {
			e.Document = o.Document
		}
		f.key(p+"/transition", e.Transition, maxType)
		f.line(p+"/actor", e.Actor, maxID)
		f.line(p+"/document", e.Document, maxID)
		f.text(p+"/comment", e.Comment, maxText)
		f.object(p+"/variables", e.Variables)
		e.Variables = orNothing(e.Variables)
		if e.Time.IsZero() {
			e.Time = m.now()
		} else if y := e.Time.Year(); y < 1970 || y > 9999 {
			f.add(p+"/time", "is in the year %d: it must be from 1970 to 9999", y)
		}
		e.Time = e.Time.UTC().Truncate(time.Microsecond)
	}
	if err := f.err(); err != nil {
		return err
	}
	target, detail := batchTarget(entries, func(e *belfry.HistoryEntry) string { return e.Object })
	ch := m.change(by, "history.add", target)
	ch.Audit[0].Detail = detail
	ch.History = entries
	_, err = m.store.Apply(ctx, ch)
	return err
}

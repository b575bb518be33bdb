package directory

import (
	"context"
	"sync"

	"github.com/belfryhq/belfry/internal/belfry"
)

// tenantState is how far the caches of one tenant have followed its edits.
type tenantState struct {
	name string

	following sync.Mutex // one reader of the change log at a time

	mu      sync.Mutex
	known   bool               // applied says something
	applied int64              // every edit up to here is out of the caches
	ahead   map[int64]struct{} // edits beyond applied that are, too
	groups  ring               // changes of groups
	users   uint64             // number of changes of users
}

// ring remembers which keys changed lately. A stamp is the number of changes
// seen; what was computed at a stamp can ask what changed since.
type ring struct {
	stamp uint64
	last  []string
}

const ringSize = 512

func (r *ring) add(id string) {
	r.stamp++
	if len(r.last) == ringSize {
		copy(r.last, r.last[1:])
		r.last = r.last[:ringSize-1]
	}
	r.last = append(r.last, id)
}

// lost makes everything computed before unanswerable.
func (r *ring) lost() {
	r.stamp += ringSize + 1
	r.last = nil
}

// since gives the keys changed after stamp; ok is false when that is too long
// ago to say.
func (r *ring) since(stamp uint64) (keys []string, ok bool) {
	n := r.stamp - stamp
	if n > uint64(len(r.last)) {
		return nil, false
	}
	return append(keys, r.last[uint64(len(r.last))-n:]...), true
}

// groupStamp is taken before groups are looked up, so that a change in between
// makes what was computed look old, never new.
func (t *tenantState) groupStamp() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.groups.stamp
}

func (t *tenantState) groupsSince(stamp uint64) (keys []string, now uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys, ok = t.groups.since(stamp)
	return keys, t.groups.stamp, ok
}

func (t *tenantState) userStamp() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.users
}

func (d *Directory) tenant(name string) *tenantState {
	if t, ok := d.tenants.Load(name); ok {
		return t.(*tenantState)
	}
	t, _ := d.tenants.LoadOrStore(name, &tenantState{name: name})
	return t.(*tenantState)
}

// ready gives the tenant's state once applied is known: the version is read
// before anything is cached, so nothing cached is older.
func (d *Directory) ready(ctx context.Context, name string) (*tenantState, error) {
	t := d.tenant(name)
	t.mu.Lock()
	known := t.known
	t.mu.Unlock()
	if known {
		return t, nil
	}
	t.following.Lock()
	defer t.following.Unlock()
	t.mu.Lock()
	known = t.known
	t.mu.Unlock()
	if known {
		return t, nil
	}
	version, err := d.store.Version(ctx, name)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = true
	t.advance(version)
	return t, nil
}

// advance moves applied to version and past edits that were published ahead of
// it. t.mu is held.
func (t *tenantState) advance(version int64) {
	t.applied = max(t.applied, version)
	for {
		if _, ok := t.ahead[t.applied+1]; !ok {
			break
		}
		t.applied++
	}
	for v := range t.ahead {
		if v <= t.applied {
			delete(t.ahead, v)
		}
	}
}

const (
	logPage    = 1000   // rows of the change log read at once
	tooFar     = 20_000 // edits behind which forgetting all is cheaper
	aheadLimit = 4096
)

// follow makes the caches follow the change log up to asOf at least.
func (d *Directory) follow(ctx context.Context, t *tenantState, asOf int64) error {
	t.mu.Lock()
	applied := t.applied
	t.mu.Unlock()
	if applied >= asOf {
		return nil
	}
	t.following.Lock()
	defer t.following.Unlock()
	t.mu.Lock()
	applied = t.applied
	t.mu.Unlock()
	if asOf-applied > d.tooFar {
		version, err := d.store.Version(ctx, t.name)
		if err != nil {
			return err
		}
		if version >= asOf {
			d.forget(t)
			t.mu.Lock()
			t.advance(version)
			t.mu.Unlock()
			return nil
		}
	}
	limit := d.logPage
	for applied < asOf {
		rows, err := d.store.ChangesSince(ctx, t.name, applied, limit)
		if err != nil {
			return err
		}
		for i := range rows {
			d.invalidate(t, rows[i].Kind, rows[i].Key)
		}
		if len(rows) >= limit {
			// The page may end within an edit: only those before it are done.
			done := rows[len(rows)-1].Version - 1
			if done <= applied {
				limit *= 2 // one edit fills the page
				continue
			}
			applied = done
		} else {
			if len(rows) > 0 {
				applied = max(applied, rows[len(rows)-1].Version)
			}
			if applied < asOf { // edits without rows leave gaps in the log
				version, err := d.store.Version(ctx, t.name)
				if err != nil {
					return err
				}
				if version < asOf {
					return belfry.Errorf(belfry.Unavailable, "the database is at version %d of tenant %s, the event at %d: try again", version, t.name, asOf)
				}
				applied = asOf
			}
		}
		t.mu.Lock()
		t.advance(applied)
		applied = t.applied
		t.mu.Unlock()
	}
	return nil
}

// Published tells that an edit was committed as a version of the tenant: what
// it touched is out of the caches when Published returns. It never waits for
// the database.
func (d *Directory) Published(tenant string, version int64, ch *belfry.Changes) {
	t := d.tenant(tenant)
	for i := range ch.Objects {
		d.invalidate(t, belfry.KindObject, ch.Objects[i].ID)
	}
	for i := range ch.Places {
		d.invalidate(t, belfry.KindObject, ch.Places[i].Object)
	}
	if len(ch.DeleteObjects) > 0 {
		// What stood below is known to the store only.
		d.objects.dropAll(tenant)
	}
	for i := range ch.Users {
		d.invalidate(t, belfry.KindUser, ch.Users[i].ID)
	}
	for _, id := range ch.DeleteUsers {
		d.invalidate(t, belfry.KindUser, id)
	}
	for i := range ch.Settings {
		d.invalidate(t, belfry.KindUser, ch.Settings[i].User)
	}
	for i := range ch.Preferences {
		d.invalidate(t, belfry.KindUser, ch.Preferences[i].User)
	}
	for i := range ch.Groups {
		d.invalidate(t, belfry.KindGroup, ch.Groups[i].ID)
	}
	for _, id := range ch.DropGroups {
		d.invalidate(t, belfry.KindGroup, id)
	}
	for _, id := range ch.EraseUsers {
		d.invalidate(t, belfry.KindUser, id)
	}
	for _, m := range ch.DropGroupMembers {
		d.invalidate(t, belfry.KindGroup, m.Group)
	}
	for i := range ch.Grants {
		d.invalidate(t, belfry.KindGrants, ch.Grants[i].Object)
	}
	for i := range ch.Members {
		d.invalidate(t, belfry.KindMembers, ch.Members[i].Subscription)
	}
	for i := range ch.DropMembers {
		d.invalidate(t, belfry.KindMembers, ch.DropMembers[i].Subscription)
	}
	for i := range ch.OptOuts {
		d.invalidate(t, belfry.KindMembers, ch.OptOuts[i].Subscription)
	}
	for i := range ch.DropOptOuts {
		d.invalidate(t, belfry.KindMembers, ch.DropOptOuts[i].Subscription)
	}
	for i := range ch.DeadContacts {
		d.invalidate(t, belfry.KindUser, ch.DeadContacts[i].User)
	}
	for i := range ch.Documents {
		d.invalidate(t, ch.Documents[i].Kind, ch.Documents[i].ID)
	}
	for _, k := range ch.DropDocuments {
		d.invalidate(t, k.Kind, k.ID)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known || version <= t.applied {
		return
	}
	// An edit made elsewhere (an accepted event may make one) can be missing
	// in between: only what is contiguous counts, the log fills the rest.
	if t.ahead == nil {
		t.ahead = map[int64]struct{}{}
	}
	if len(t.ahead) < aheadLimit {
		t.ahead[version] = struct{}{}
	}
	t.advance(t.applied)
}

// invalidate takes one changed thing out of the caches.
func (d *Directory) invalidate(t *tenantState, kind, id string) {
	switch kind {
	case belfry.KindEverything: // the log was cut off here
		d.forget(t)
	case belfry.KindObject:
		d.objects.drop(t.name, id)
	case belfry.KindUser:
		d.persons.drop(t.name, id)
		t.mu.Lock()
		t.users++ // after the drop: see groupStamp
		t.mu.Unlock()
	case belfry.KindGroup:
		d.groups.drop(t.name, id)
		t.mu.Lock()
		t.groups.add(id)
		t.mu.Unlock()
	case belfry.KindGrants:
		d.grants.drop(t.name, id)
	case belfry.KindMembers:
		d.members.drop(t.name, id)
		d.outs.drop(t.name, id)
	case belfry.KindEventType:
		d.types.drop(t.name, id)
	case belfry.KindEndpoint:
		d.endpoints.drop(t.name, id)
	case belfry.KindSetting:
		d.settings.drop(t.name, id)
	}
}

// forget empties the caches of a tenant.
func (d *Directory) forget(t *tenantState) {
	d.objects.dropAll(t.name)
	d.persons.dropAll(t.name)
	d.groups.dropAll(t.name)
	d.grants.dropAll(t.name)
	d.members.dropAll(t.name)
	d.outs.dropAll(t.name)
	d.types.dropAll(t.name)
	d.endpoints.dropAll(t.name)
	d.settings.dropAll(t.name)
	t.mu.Lock()
	t.users++
	t.groups.lost()
	t.mu.Unlock()
}

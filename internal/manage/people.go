package manage

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// pseudo reports whether id is a reserved principal that stands for many.
func pseudo(id string) bool { return id == belfry.GroupAuthenticated || id == belfry.GroupAnyone }

// principals says which ids are users (not deleted ones) or groups.
func (m *Manager) principals(ctx context.Context, tenant string, ids []string) (map[string]bool, error) {
	ids = distinct(ids)
	known := make(map[string]bool, len(ids))
	for chunk := range slices.Chunk(ids, MaxBatch) {
		persons, err := m.store.Persons(ctx, tenant, chunk)
		if err != nil {
			return nil, err
		}
		var rest []string
		for _, id := range chunk {
			if p := persons[id]; p == nil {
				rest = append(rest, id)
			} else if p.User.State != belfry.UserDeleted {
				known[id] = true
			}
		}
		if len(rest) == 0 {
			continue
		}
		groups, err := m.store.Groups(ctx, tenant, rest)
		if err != nil {
			return nil, err
		}
		for id := range groups {
			known[id] = true
		}
	}
	return known, nil
}

func (m *Manager) person(ctx context.Context, tenant, id string) (*belfry.Person, error) {
	persons, err := m.store.Persons(ctx, tenant, []string{id})
	if err != nil {
		return nil, err
	}
	p := persons[id]
	if p == nil || p.User.State == belfry.UserDeleted {
		return nil, notFound("user", id)
	}
	return p, nil
}

// User is a user who is not deleted, with the version.
func (m *Manager) User(ctx context.Context, tenant, id string) (belfry.User, int64, error) {
	p, err := m.person(ctx, tenant, id)
	if err != nil {
		return belfry.User{}, 0, err
	}
	version, err := m.version(ctx, tenant, belfry.KindUser, id)
	return p.User, version, err
}

// PutUser stores one user. Nil Contacts are untouched, others replace those of
// by's origin.
func (m *Manager) PutUser(ctx context.Context, by By, u belfry.User, match Expect) (stored belfry.User, version int64, created bool, err error) {
	before, err := m.version(ctx, by.Tenant, belfry.KindUser, u.ID)
	if err != nil {
		return stored, 0, false, err
	}
	if err := m.putUsers(ctx, by, []belfry.User{u}, false, match); err != nil {
		return stored, 0, false, err
	}
	if u.State == belfry.UserDeleted {
		u.Contacts = nil
		version, err = m.version(ctx, by.Tenant, belfry.KindUser, u.ID)
		return u, version, false, err
	}
	stored, version, err = m.User(ctx, by.Tenant, u.ID)
	return stored, version, before == 0, err
}

// PutUsers stores all of them or none.
func (m *Manager) PutUsers(ctx context.Context, by By, us []belfry.User) error {
	return m.putUsers(ctx, by, us, true, nil)
}

func (m *Manager) putUsers(ctx context.Context, by By, us []belfry.User, batch bool, match Expect) error {
	if len(us) == 0 {
		return nil
	}
	f := &faults{}
	f.size(len(us))
	if err := f.err(); err != nil {
		return err
	}
	us = slices.Clone(us)
	ids := make([]string, len(us))
	for i := range us {
		u := &us[i]
		ids[i] = u.ID
		u.Email = strings.TrimSpace(u.Email)
		if u.State == "" {
			u.State = belfry.UserActive
		}
		u.Origin = by.Origin
		u.Attributes = orNothing(u.Attributes)
		u.Contacts = slices.Clone(u.Contacts)
		checkUser(f, at(batch, i), u)
		for n := range u.Contacts {
			// Who wrote a contact, and that it is dead, is the server's to say.
			u.Contacts[n].Origin, u.Contacts[n].Dead, u.Contacts[n].DeadAt = by.Origin, "", nil
		}
	}
	duplicates(f, batch, us, func(u *belfry.User) string { return u.ID })
	if err := f.err(); err != nil {
		return err
	}
	groups, err := m.store.Groups(ctx, by.Tenant, ids)
	if err != nil {
		return err
	}
	if err := clash(batch, ids, func(id string) bool { _, taken := groups[id]; return taken }, "a group"); err != nil {
		return err
	}
	target, detail := batchTarget(us, func(u *belfry.User) string { return u.ID })
	ch := m.change(by, "user.put", target)
	ch.Audit[0].Detail = detail
	ch.Users = us
	_, err = m.apply(ctx, ch, belfry.KindUser, us[0].ID, match)
	return err
}

// clash is a Conflict when ids are taken by the other kind of principal.
func clash(batch bool, ids []string, taken func(string) bool, what string) error {
	f := &faults{}
	for i, id := range ids {
		if taken(id) {
			f.add(at(batch, i)+"/id", "%q is the id of %s: users and groups share their ids", id, what)
		}
	}
	err := f.err()
	if err != nil {
		return &belfry.Error{Kind: belfry.Conflict, Msg: err.Error(), Fields: f.list}
	}
	return nil
}

func checkPrincipalID(f *faults, p, id string) {
	if f.key(p+"/id", id, maxID) && pseudo(id) {
		f.add(p+"/id", "%q is reserved: it stands for many people", id)
	}
}

// warnedKinds is how many kinds of contacts are warned of: a batch has many users,
// and each may have kinds of her own.
const warnedKinds = 20

// ContactWarnings say what of users' contacts is allowed but perhaps not meant:
// kinds that no channel sends to, warnedKinds of them. It is no fault: one may come
// later.
func (m *Manager) ContactWarnings(us ...belfry.User) (out []string) {
	var known []string
	for _, k := range m.channelKinds.Kinds() {
		if k.Contact != "" {
			known = append(known, k.Contact)
		}
	}
	warned := map[string]bool{}
	for i := range us {
		for _, c := range us[i].Contacts {
			if warned[c.Kind] || slices.Contains(known, c.Kind) {
				continue
			}
			warned[c.Kind] = true
			if len(out) == warnedKinds {
				return append(out, "no channel sends to contacts of other kinds either: these were the first")
			}
			if near := belfry.Nearest(c.Kind, known); near != "" {
				out = append(out, fmt.Sprintf("no channel sends to contacts of the kind %s: did you mean %s?", c.Kind, near))
			} else {
				out = append(out, fmt.Sprintf("no channel sends to contacts of the kind %s yet", c.Kind))
			}
		}
	}
	return out
}

// maxContacts bounds the devices and mailboxes of one user.
const maxContacts = 100

func checkUser(f *faults, p string, u *belfry.User) {
	checkPrincipalID(f, p, u.ID)
	f.line(p+"/name", u.Name, maxName)
	if u.Email != "" {
		f.email(p+"/email", u.Email)
	}
	f.locale(p+"/locale", u.Locale)
	f.zone(p+"/time_zone", u.TimeZone)
	f.choice(p+"/state", u.State, belfry.UserActive, belfry.UserSuspended, belfry.UserDeleted)
	f.object(p+"/attributes", u.Attributes)
	if len(u.Contacts) > maxContacts {
		f.add(p+"/contacts", "has %d entries: at most %d are allowed", len(u.Contacts), maxContacts)
		return
	}
	for i := range u.Contacts {
		c := &u.Contacts[i]
		cp := p + "/contacts/" + strconv.Itoa(i)
		if !names.MatchString(c.Kind) {
			f.add(cp+"/kind", "names the kind of channel, such as email or sms")
		}
		c.Address = strings.TrimSpace(c.Address)
		if f.key(cp+"/address", c.Address, maxURL) && c.Kind == "email" {
			f.email(cp+"/address", c.Address)
		}
		f.line(cp+"/label", c.Label, 100)
		if c.Priority < 0 || c.Priority > 1000 {
			f.add(cp+"/priority", "must be from 1, the first to be tried, to 1000")
		}
		if len(c.Keys) > 20 {
			f.add(cp+"/keys", "has %d entries: at most 20 are allowed", len(c.Keys))
		}
		for k, v := range c.Keys {
			f.line(cp+"/keys/"+escape(k), k, 100)
			f.line(cp+"/keys/"+escape(k), v, maxURL)
		}
		for n := range i {
			if u.Contacts[n].Kind == c.Kind && strings.EqualFold(u.Contacts[n].Address, c.Address) {
				f.add(cp+"/address", "comes twice")
			}
		}
	}
}

// escape writes a member's name as part of a JSON pointer.
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// DeleteUser marks a user deleted: told nothing from now on, and still named
// in traces.
func (m *Manager) DeleteUser(ctx context.Context, by By, id string, match Expect) error {
	if _, err := m.person(ctx, by.Tenant, id); err != nil {
		return err
	}
	ch := m.change(by, "user.delete", id)
	ch.DeleteUsers = []string{id}
	_, err := m.apply(ctx, ch, belfry.KindUser, id, match)
	return err
}

// knownObjects answers whether ids (empty and root included) are there.
func (m *Manager) knownObjects(ctx context.Context, tenant string, ids []string) (func(string) bool, error) {
	ids = distinct(ids)
	objects := map[string]belfry.Object{}
	if len(ids) > 0 {
		var err error
		if objects, err = m.store.Objects(ctx, tenant, ids); err != nil {
			return nil, err
		}
	}
	return func(id string) bool {
		o, ok := objects[id]
		return id == "" || id == belfry.RootObject || ok && o.Deleted == nil
	}, nil
}

// checkChannels refuses names of channels that are not set up.
func (m *Manager) checkChannels(f *faults, tenant, pointer string, list []string) {
	if len(list) > 50 {
		f.add(pointer, "has %d entries: at most 50 are allowed", len(list))
		return
	}
	for i, name := range list {
		switch {
		case name == belfry.ChannelWebhook:
			f.add(pointer+"/"+strconv.Itoa(i), "webhooks go to endpoints, not to people: name one as {\"endpoint\":\"ep_…\"}")
		case !m.channels.Known(tenant, name):
			f.add(pointer+"/"+strconv.Itoa(i), "no channel %q is set up: GET /v1/channels lists those that are, PUT /v1/channels/%s sets it up for this tenant, the server's configuration for all", name, url.PathEscape(name))
		case slices.Contains(list[:i], name):
			f.add(pointer+"/"+strconv.Itoa(i), "comes twice")
		}
	}
}

// Settings are what a person chose for everywhere.
func (m *Manager) Settings(ctx context.Context, tenant, user string) (belfry.Settings, error) {
	p, err := m.person(ctx, tenant, user)
	if err != nil {
		return belfry.Settings{}, err
	}
	return p.Settings, nil
}

// PutSettings sets them.
func (m *Manager) PutSettings(ctx context.Context, by By, user string, s belfry.Settings) (belfry.Settings, error) {
	if _, err := m.person(ctx, by.Tenant, user); err != nil {
		return belfry.Settings{}, err
	}
	f := &faults{}
	f.settings(&s)
	m.perDay(f, by.Tenant, s.MaxPerDay)
	if err := f.err(); err != nil {
		return belfry.Settings{}, err
	}
	ch := m.change(by, "settings.put", user)
	ch.Settings = []belfry.UserSettings{{User: user, Settings: s}}
	_, err := m.store.Apply(ctx, ch)
	return s, err
}

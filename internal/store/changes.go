package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

// editing is the payload of the door of edits.
type editing struct {
	changes *belfry.Changes
	version int64
}

// Apply stores an edit in one transaction under the tenant's next version,
// which it returns. Errors: Stale when an expectation of IfMatch does not hold,
// Conflict when a user and a group would share an id, NotFound when settings
// or preferences name a user who is not known, Invalid for text that cannot be
// stored. Then nothing is applied.
func (db *DB) Apply(ctx context.Context, ch belfry.Changes) (int64, error) {
	if err := checkChanges(&ch); err != nil {
		return 0, err
	}
	e := &editing{changes: &ch}
	if err := db.doors.edit.do(ctx, &job{weight: weightOf(&ch), data: e}); err != nil {
		return 0, err
	}
	return e.version, nil
}

// commitEdits does the jobs of the edit door: edits, and small writes that are
// functions of the session.
func commitEdits(s *session, jobs []*job) error {
	for _, j := range jobs {
		var err error
		switch d := j.data.(type) {
		case *editing:
			d.version, err = s.apply(d.changes)
		case func(*session) error:
			err = d(s)
		}
		if err = fault(err); err != nil {
			if transient(err) || unavailable(err) {
				return err
			}
			return &culprit{j, err}
		}
	}
	return nil
}

func weightOf(ch *belfry.Changes) int {
	n := 1 + len(ch.Objects) + len(ch.DeleteObjects) + len(ch.Places) + len(ch.Users) + len(ch.DeleteUsers) + len(ch.Groups) + len(ch.DropGroups) + len(ch.EraseUsers) + len(ch.DropGroupMembers) + len(ch.Grants) +
		len(ch.History) + len(ch.Settings) + len(ch.Preferences) + len(ch.Subscriptions) + len(ch.Members) + len(ch.DropMembers) + len(ch.Documents) +
		len(ch.DropDocuments) + len(ch.Audit) + len(ch.OptOuts) + len(ch.DropOptOuts) + len(ch.DeadContacts) +
		len(ch.Acknowledgements) + len(ch.Timers) + len(ch.DropTimers) + len(ch.Asks) + len(ch.DropAsks) + len(ch.Cancels) + len(ch.Retries) + len(ch.SendDigests) + len(ch.Jobs) + len(ch.CancelJobs)
	for i := range ch.Groups {
		n += len(ch.Groups[i].Members)
	}
	for i := range ch.Grants {
		n += len(ch.Grants[i].Grants)
	}
	return n
}

func empty(ch *belfry.Changes) bool { return weightOf(ch) == 1 && len(ch.IfMatch) == 0 }

// checkChanges refuses keys the database cannot keep.
func checkChanges(ch *belfry.Changes) error {
	texts := []string{ch.Tenant}
	add := func(t ...string) { texts = append(texts, t...) }
	add(ch.DeleteObjects...)
	add(ch.DeleteUsers...)
	add(ch.DropGroups...)
	add(ch.EraseUsers...)
	for _, m := range ch.DropGroupMembers {
		add(m.Group, m.Principal)
	}
	for i := range ch.Objects {
		if ch.Objects[i].ID == "" {
			return belfry.Errorf(belfry.Invalid, "an object needs an id")
		}
		add(ch.Objects[i].ID, ch.Objects[i].Parent)
	}
	for i := range ch.Users {
		if ch.Users[i].ID == "" {
			return belfry.Errorf(belfry.Invalid, "a user needs an id")
		}
		add(ch.Users[i].ID, ch.Users[i].Email, ch.Users[i].State)
		for _, c := range ch.Users[i].Contacts {
			add(c.Address)
		}
	}
	for i := range ch.Groups {
		g := &ch.Groups[i]
		if g.ID == "" {
			return belfry.Errorf(belfry.Invalid, "a group needs an id")
		}
		add(g.ID, g.Name, g.Address, g.Origin)
		add(g.Members...)
	}
	for i := range ch.Places {
		add(ch.Places[i].Object)
	}
	for i := range ch.Grants {
		add(ch.Grants[i].Object, ch.Grants[i].Origin, ch.Grants[i].Principal)
		for _, g := range ch.Grants[i].Grants {
			add(g.Principal, g.Role, g.Inactive)
		}
	}
	for i := range ch.History {
		h := &ch.History[i]
		add(h.Object, h.Document, h.Transition, h.Actor, h.Comment)
	}
	for i := range ch.Settings {
		add(ch.Settings[i].User)
	}
	for i := range ch.Preferences {
		add(ch.Preferences[i].User)
	}
	for i := range ch.Subscriptions {
		add(ch.Subscriptions[i].ID, ch.Subscriptions[i].State)
	}
	for _, m := range slices.Concat(ch.Members, ch.DropMembers) {
		add(m.Subscription, m.Principal, m.Object)
		add(m.Channels...)
	}
	for _, o := range slices.Concat(ch.OptOuts, ch.DropOptOuts) {
		add(o.Subscription, o.Who)
	}
	for _, a := range slices.Concat(ch.Asks, ch.DropAsks) {
		add(a.Who, a.Subscription, a.Object, a.ID, a.By)
	}
	for _, c := range ch.DeadContacts {
		add(c.User, c.Kind, c.Address, c.Reason)
	}
	for i := range ch.Documents {
		add(ch.Documents[i].Kind, ch.Documents[i].ID)
	}
	for _, d := range ch.DropDocuments {
		add(d.Kind, d.ID)
	}
	for i := range ch.Acknowledgements {
		add(ch.Acknowledgements[i].EventID, ch.Acknowledgements[i].Who, ch.Acknowledgements[i].How)
	}
	for i := range ch.Timers {
		ch.Timers[i].Tenant = ch.Tenant
		add(ch.Timers[i].Kind, ch.Timers[i].ID)
	}
	for i := range ch.DropTimers {
		add(ch.DropTimers[i].Kind, ch.DropTimers[i].ID)
	}
	for i := range ch.Cancels {
		add(ch.Cancels[i].ID)
	}
	for i := range ch.Retries {
		add(ch.Retries[i].ID)
	}
	for i := range ch.SendDigests {
		add(ch.SendDigests[i].ID)
	}
	for i := range ch.Jobs {
		add(ch.Jobs[i].ID, ch.Jobs[i].Kind, ch.Jobs[i].Who)
	}
	for i := range ch.CancelJobs {
		add(ch.CancelJobs[i].ID, ch.CancelJobs[i].Because.Detail)
	}
	for _, a := range ch.Audit {
		add(a.Who, a.Action, a.Target, a.Detail)
	}
	return clean(texts...)
}

type changeRow struct {
	tenant     string
	version    int64
	kind, item string
}

// change notes a row of the change log.
func (s *session) change(tenant string, version int64, kind, item string) {
	s.changed = append(s.changed, changeRow{tenant, version, kind, item})
}

var insertChange = insert("changes", "tenant:t version:n kind:t item:t", "ON CONFLICT DO NOTHING")

func (s *session) flushChanges() error {
	if len(s.changed) == 0 {
		return nil
	}
	rows := s.rows(insertChange)
	for _, c := range s.changed {
		rows.text(c.tenant).num(c.version).text(c.kind).text(c.item)
	}
	_, err := rows.flush()
	return err
}

// edit is one Changes being applied at a version.
type edit struct {
	*session
	ch      *belfry.Changes
	tenant  string
	version int64

	// What is to be decided anew of digests that gather.
	people  []string // whose
	looks   []belfry.Look
	gathers *bool // once it was asked
}

// apply stores an edit within the session's transaction.
func (s *session) apply(ch *belfry.Changes) (int64, error) {
	// The version's row is taken first: on PostgreSQL it is the lock that
	// keeps what IfMatch finds true until the commit.
	version, err := s.bump(ch.Tenant)
	if err != nil {
		return 0, err
	}
	e := &edit{session: s, ch: ch, tenant: ch.Tenant, version: version}
	for _, step := range []func() error{
		e.expect, e.objects, e.deleteObjects, e.places, e.users, e.deleteUsers, e.groups, e.dropGroups, e.eraseUsers, e.dropGroupMembers, e.grants, e.history,
		e.settings, e.preferences, e.subscriptions, e.conditions, e.dropAsks, e.members, e.dropMembers, e.optOuts, e.dropOptOuts, e.asks, e.deadContacts, e.documents, e.dropDocuments,
		e.acknowledgements, e.timers,
		e.cancels, e.retries, e.sendDigests, e.jobs, e.cancelJobs, e.lookAgain, e.audit,
	} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	return version, nil
}

func (e *edit) note(kind, item string) { e.change(e.tenant, e.version, kind, item) }

// expect checks IfMatch.
func (e *edit) expect() error {
	for _, x := range e.ch.IfMatch {
		versions := map[string]int64{}
		text, args, ok := versionQuery(x.Kind, e.tenant)
		if !ok {
			return belfry.Errorf(belfry.Invalid, "things of kind %s have no version of their own", x.Kind)
		}
		if err := queryIn(e.session, scanVersions(versions), text, []string{x.Key}, args...); err != nil {
			return err
		}
		if have := versions[x.Key]; have != x.Version {
			return belfry.Errorf(belfry.Stale, "%s %s was changed meanwhile: read it again and repeat the edit", x.Kind, x.Key)
		}
	}
	return nil
}

// versionQuery is the query for the versions of living things of a kind.
func versionQuery(kind, tenant string) (text string, args []any, ok bool) {
	switch kind {
	case belfry.KindObject:
		return "SELECT id, version FROM objects WHERE tenant = $1 AND deleted = 0 AND id IN_LIST", []any{tenant}, true
	case belfry.KindUser:
		return "SELECT id, version FROM users WHERE tenant = $1 AND state <> 'deleted' AND id IN_LIST", []any{tenant}, true
	case belfry.KindGroup:
		return "SELECT id, version FROM groups WHERE tenant = $1 AND id IN_LIST", []any{tenant}, true
	case belfry.KindSubscription:
		return "SELECT id, version FROM subscriptions WHERE tenant = $1 AND id IN_LIST", []any{tenant}, true
	case belfry.KindGrants, belfry.KindHistory, belfry.KindMembers:
		return "", nil, false
	}
	return "SELECT id, version FROM documents WHERE tenant = $1 AND kind = $2 AND id IN_LIST", []any{tenant, kind}, true
}

func scanVersions(into map[string]int64) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		var id string
		var version int64
		err := rows.Scan(&id, &version)
		into[id] = version
		return err
	}
}

var (
	putObject = insert("objects", "tenant:t id:t parent:t deleted:n version:n body:b",
		"ON CONFLICT (tenant, id) DO UPDATE SET parent = excluded.parent, deleted = excluded.deleted, version = excluded.version, body = excluded.body")
	putUser = insert("users", "tenant:t id:t state:t version:n profile:b settings:b preferences:b",
		"ON CONFLICT (tenant, id) DO UPDATE SET state = excluded.state, version = excluded.version, profile = excluded.profile")
	insertEmail = insert("user_emails", "tenant:t email:t user_id:t", "ON CONFLICT DO NOTHING")
	dropEmail   = with("tenant:t email:t user_id:t",
		"DELETE FROM user_emails WHERE (tenant, email, user_id) IN (SELECT tenant, email, user_id FROM a)")
	putGroup = insert("groups", "tenant:t id:t version:n name:t address:t origin:t",
		"ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version, name = excluded.name, address = excluded.address, origin = excluded.origin")
	insertGroupMember = insert("group_members", "tenant:t group_id:t principal:t origin:t", "ON CONFLICT DO NOTHING")
	insertRole        = insert("roles", "tenant:t role:t", "ON CONFLICT DO NOTHING")
	insertGrant       = insert("grants", "tenant:t object:t origin:t principal:t role:t seq:n from_at:n until_at:n inactive:t", "ON CONFLICT DO NOTHING")
	putSubscription   = insert("subscriptions", "tenant:t id:t state:t version:n body:b scope:t",
		"ON CONFLICT (tenant, id) DO UPDATE SET state = excluded.state, version = excluded.version, body = excluded.body, scope = excluded.scope")
	putMember = insert("members", "tenant:t subscription:t principal:t object:t channels:t since:n",
		"ON CONFLICT (tenant, subscription, principal, object) DO UPDATE SET channels = excluded.channels") // since when she is one stays
	dropMember = with("tenant:t subscription:t principal:t object:t",
		"DELETE FROM members WHERE (tenant, subscription, principal, object) IN (SELECT tenant, subscription, principal, object FROM a)")
	putDocument = insert("documents", "tenant:t kind:t id:t version:n body:b",
		"ON CONFLICT (tenant, kind, id) DO UPDATE SET version = excluded.version, body = excluded.body")
	insertAudit = insert("audit", "tenant:t id:t at:n who:t action:t target:t detail:t", "")
)

// last keeps the last of several entries with one key, in the order of the
// keys: a statement may not put one row twice.
func last[T any](list []T, key func(*T) string) []*T {
	byKey := make(map[string]*T, len(list))
	for i := range list {
		byKey[key(&list[i])] = &list[i]
	}
	ids := slices.Sorted(maps.Keys(byKey))
	out := make([]*T, len(ids))
	for i, id := range ids {
		out[i] = byKey[id]
	}
	return out
}

func (e *edit) objects() error {
	if len(e.ch.Objects) == 0 {
		return nil
	}
	rows := e.rows(putObject)
	for _, o := range last(e.ch.Objects, func(o *belfry.Object) string { return o.ID }) {
		stored := *o
		stored.Deleted = nil // a column of its own
		body, err := json.Marshal(&stored)
		if err != nil {
			return belfry.Errorf(belfry.Invalid, "object %s: %w", o.ID, err)
		}
		parent := o.Parent
		if parent == belfry.RootObject {
			parent = ""
		}
		rows.text(e.tenant).text(o.ID).text(parent).num(microsOf(o.Deleted)).num(e.version).blob(body)
		e.note(belfry.KindObject, o.ID)
	}
	_, err := rows.flush()
	return err
}

// deleteObjects tombstones objects and all under them. UNION, not UNION ALL:
// the walk ends also where the tree has a loop.
func (e *edit) deleteObjects() error {
	now := micros(e.db.now())
	for _, id := range e.ch.DeleteObjects {
		err := e.query(func(rows *sql.Rows) error {
			var gone string
			err := rows.Scan(&gone)
			e.note(belfry.KindObject, gone)
			return err
		}, `WITH RECURSIVE below (id) AS (
				SELECT id FROM objects WHERE tenant = $1 AND id = $2 UNION SELECT o.id FROM objects o JOIN below ON o.parent = below.id WHERE o.tenant = $1
			) UPDATE objects SET deleted = $3, version = $4 WHERE tenant = $1 AND deleted = 0 AND id IN (SELECT id FROM below) RETURNING id`,
			e.tenant, id, now, e.version)
		if err != nil {
			return err
		}
	}
	return nil
}

// places set the settings of objects, which must be known; the root is.
func (e *edit) places() error {
	for i := range e.ch.Places {
		p := &e.ch.Places[i]
		settings := []byte{}
		if !p.Settings.Empty() {
			var err error
			if settings, err = json.Marshal(&p.Settings); err != nil {
				return belfry.Errorf(belfry.Invalid, "settings of %s: %w", p.Object, err)
			}
		}
		if p.Object == belfry.RootObject {
			body, err := json.Marshal(belfry.Object{ID: p.Object})
			if err != nil {
				return err
			}
			rows := e.rows(insertImplied)
			rows.text(e.tenant).text(p.Object).text("").num(0).num(e.version).blob(body)
			if _, err := rows.flush(); err != nil {
				return err
			}
		}
		n, err := e.exec("UPDATE objects SET settings = $3, version = $4 WHERE tenant = $1 AND id = $2 AND deleted = 0", e.tenant, p.Object, settings, e.version)
		if err == nil && n == 0 {
			err = belfry.Errorf(belfry.NotFound, "there is no object %q", p.Object)
		}
		if err != nil {
			return err
		}
		e.note(belfry.KindObject, p.Object)
	}
	return nil
}

func (e *edit) users() error {
	if len(e.ch.Users) == 0 {
		return nil
	}
	users := last(e.ch.Users, func(u *belfry.User) string { return u.ID })
	ids := make([]string, len(users))
	for i, u := range users {
		ids[i] = u.ID
	}
	if err := e.clash("SELECT id FROM groups WHERE tenant = $1 AND id IN_LIST", ids, "a group"); err != nil {
		return err
	}
	have, err := e.profiles(ids)
	if err != nil {
		return err
	}
	put := e.rows(putUser)
	gained, lost := map[string][]string{}, map[string][]string{}
	for _, u := range users {
		old := have[u.ID]
		stored := mergeUser(old, u)
		body, err := json.Marshal(stored)
		if err != nil {
			return belfry.Errorf(belfry.Invalid, "user %s: %w", u.ID, err)
		}
		put.text(e.tenant).text(u.ID).text(stored.State).num(e.version).blob(body).blob(nil).blob(nil)
		before, after := emailsOf(old), emailsOf(stored)
		if old != nil && old.TimeZone != stored.TimeZone {
			e.people = append(e.people, u.ID)
		}
		gained[u.ID], lost[u.ID] = without(after, before), without(before, after)
		e.note(belfry.KindUser, u.ID)
	}
	if _, err := put.flush(); err != nil {
		return err
	}
	return e.moveEmails(gained, lost)
}

// profiles loads users as they are stored.
func (e *edit) profiles(ids []string) (map[string]*belfry.User, error) {
	have := make(map[string]*belfry.User, len(ids))
	err := queryIn(e.session, func(rows *sql.Rows) error {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return err
		}
		u := new(belfry.User)
		if err := json.Unmarshal(body, u); err != nil {
			return err
		}
		have[u.ID] = u
		return nil
	}, "SELECT profile FROM users WHERE tenant = $1 AND id IN_LIST", ids, e.tenant)
	return have, err
}

func (e *edit) moveEmails(gained, lost map[string][]string) error {
	for _, move := range []struct {
		shape *shape
		by    map[string][]string
	}{{dropEmail, lost}, {insertEmail, gained}} {
		rows := e.rows(move.shape)
		for user, emails := range move.by {
			for _, email := range emails {
				rows.text(e.tenant).text(email).text(user)
			}
		}
		if _, err := rows.flush(); err != nil {
			return err
		}
	}
	return nil
}

// clash refuses ids that are taken by the other kind of principal.
func (e *edit) clash(text string, ids []string, by string) error {
	var taken []string
	err := queryIn(e.session, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		taken = append(taken, id)
		return err
	}, text, ids, e.tenant)
	if err == nil && len(taken) > 0 {
		return belfry.Errorf(belfry.Conflict, "the id %s belongs to %s: users and groups share their ids", taken[0], by)
	}
	return err
}

// kindEmail is the kind of contact a User's Email becomes.
const kindEmail = "email"

// mergeUser is u as it is stored, given what was stored before (or nil):
// contacts of other origins stay, those of u's origin are replaced when u has
// any list of them, and u.Email becomes a contact. A contact the provider
// declared dead stays dead until it is removed.
func mergeUser(old, u *belfry.User) *belfry.User {
	out := *u
	if out.State == "" {
		out.State = belfry.UserActive
	}
	var before []belfry.Contact
	if old != nil {
		before = old.Contacts
	}
	var contacts []belfry.Contact
	for _, c := range before {
		replaced := u.Contacts != nil && c.Origin == u.Origin
		// The contact that was made of the former Email goes with it.
		formerEmail := old.Email != "" && c.Kind == kindEmail && c.Origin == u.Origin && sameAddress(c.Address, old.Email)
		if replaced || formerEmail && !sameAddress(c.Address, u.Email) {
			continue
		}
		contacts = append(contacts, c)
	}
	for _, c := range u.Contacts {
		if c.Origin == "" {
			c.Origin = u.Origin
		}
		contacts = putContact(contacts, before, c)
	}
	if u.Email != "" && !slices.ContainsFunc(contacts, func(c belfry.Contact) bool { return c.Kind == kindEmail && sameAddress(c.Address, u.Email) }) {
		contacts = putContact(contacts, before, belfry.Contact{Kind: kindEmail, Address: u.Email, Verified: true, Origin: u.Origin})
	}
	out.Contacts = contacts
	return &out
}

// putContact adds c, or replaces the entry of the same kind and address.
func putContact(list, before []belfry.Contact, c belfry.Contact) []belfry.Contact {
	same := func(o belfry.Contact) bool { return o.Kind == c.Kind && sameAddress(o.Address, c.Address) }
	if i := slices.IndexFunc(before, same); i >= 0 && c.Dead == "" {
		c.Dead, c.DeadAt = before[i].Dead, before[i].DeadAt
	}
	if i := slices.IndexFunc(list, same); i >= 0 {
		list[i] = c
		return list
	}
	return append(list, c)
}

func sameAddress(a, b string) bool { return belfry.NormaliseEmail(a) == belfry.NormaliseEmail(b) }

// emailsOf are the normalised addresses by which a living user is recognised.
func emailsOf(u *belfry.User) []string {
	if u == nil || u.State == belfry.UserDeleted {
		return nil
	}
	var out []string
	for _, c := range u.Contacts {
		if c.Kind == kindEmail && c.Address != "" {
			out = append(out, belfry.NormaliseEmail(c.Address))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// without gives those of a that are not in b.
func without(a, b []string) []string {
	var out []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

// deleteUsers marks users deleted; what refers to them stays, so that a trace
// can say why they are not told.
func (e *edit) deleteUsers() error {
	if len(e.ch.DeleteUsers) == 0 {
		return nil
	}
	have, err := e.profiles(e.ch.DeleteUsers)
	if err != nil {
		return err
	}
	put, lost := e.rows(putUser), map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(have)) {
		u := have[id]
		lost[id] = emailsOf(u)
		u.State = belfry.UserDeleted
		body, err := json.Marshal(u)
		if err != nil {
			return err
		}
		put.text(e.tenant).text(id).text(u.State).num(e.version).blob(body).blob(nil).blob(nil)
		e.note(belfry.KindUser, id)
	}
	if _, err := put.flush(); err != nil {
		return err
	}
	return e.moveEmails(nil, lost)
}

func (e *edit) groups() error {
	if len(e.ch.Groups) == 0 {
		return nil
	}
	groups := last(e.ch.Groups, func(g *belfry.Group) string { return g.ID })
	ids := make([]string, len(groups))
	for i, g := range groups {
		ids[i] = g.ID
	}
	if err := e.clash("SELECT id FROM users WHERE tenant = $1 AND id IN_LIST", ids, "a user"); err != nil {
		return err
	}
	put := e.rows(putGroup)
	for _, g := range groups {
		put.text(e.tenant).text(g.ID).num(e.version).text(g.Name).text(g.Address).text(g.Origin)
		e.note(belfry.KindGroup, g.ID)
	}
	if _, err := put.flush(); err != nil {
		return err
	}
	members := e.rows(insertGroupMember)
	for _, g := range groups {
		if g.Members == nil {
			continue
		}
		if _, err := e.exec("DELETE FROM group_members WHERE tenant = $1 AND group_id = $2 AND origin = $3", e.tenant, g.ID, g.Origin); err != nil {
			return err
		}
		for _, m := range g.Members {
			members.text(e.tenant).text(g.ID).text(m).text(g.Origin)
		}
	}
	_, err := members.flush()
	return err
}

func (e *edit) dropGroups() error {
	for _, id := range e.ch.DropGroups {
		if _, err := e.exec("DELETE FROM group_members WHERE tenant = $1 AND group_id = $2", e.tenant, id); err != nil {
			return err
		}
		if _, err := e.exec("DELETE FROM groups WHERE tenant = $1 AND id = $2", e.tenant, id); err != nil {
			return err
		}
		e.note(belfry.KindGroup, id)
	}
	return nil
}

func (e *edit) grants() error {
	given := map[string]bool{}
	for i := range e.ch.Grants {
		set := &e.ch.Grants[i]
		var err error
		if set.Principal == "" {
			_, err = e.exec("DELETE FROM grants WHERE tenant = $1 AND object = $2 AND origin = $3", e.tenant, set.Object, set.Origin)
		} else {
			_, err = e.exec("DELETE FROM grants WHERE tenant = $1 AND object = $2 AND origin = $3 AND principal = $4", e.tenant, set.Object, set.Origin, set.Principal)
		}
		if err != nil {
			return err
		}
		rows := e.rows(insertGrant)
		for seq, g := range set.Grants {
			principal := g.Principal
			if principal == "" {
				principal = set.Principal
			}
			if set.Principal != "" && principal != set.Principal {
				return belfry.Errorf(belfry.Invalid, "a set of grants for %s names %s", set.Principal, principal)
			}
			given[g.Role] = true
			rows.text(e.tenant).text(set.Object).text(set.Origin).text(principal).text(g.Role).num(int64(seq)).num(microsOf(g.From)).num(microsOf(g.Until)).text(g.Inactive)
		}
		if _, err := rows.flush(); err != nil {
			return err
		}
		e.note(belfry.KindGrants, set.Object)
	}
	if len(given) == 0 {
		return nil
	}
	rows := e.rows(insertRole)
	for _, role := range slices.Sorted(maps.Keys(given)) {
		rows.text(e.tenant).text(role)
	}
	_, err := rows.flush()
	return err
}

func (e *edit) history() error {
	if len(e.ch.History) == 0 {
		return nil
	}
	rows := e.rows(insertHistory)
	for i := range e.ch.History {
		h := e.ch.History[i]
		if h.Object == "" {
			h.Object = belfry.RootObject
		}
		if err := e.putHistory(rows, e.tenant, fmt.Sprintf("%s_%06d", editStep(e.version), i), &h); err != nil {
			return err
		}
		e.note(belfry.KindHistory, h.Object)
	}
	_, err := rows.flush()
	return err
}

func (e *edit) settings() error {
	for i := range e.ch.Settings {
		set := &e.ch.Settings[i]
		if err := e.setUser("settings", set.User, set.Settings); err != nil {
			return err
		}
	}
	return nil
}

func (e *edit) preferences() error {
	for i := range e.ch.Preferences {
		set := &e.ch.Preferences[i]
		if err := e.setUser("preferences", set.User, set.Preferences); err != nil {
			return err
		}
	}
	return nil
}

// setUser writes one column of a user, who must be known.
func (e *edit) setUser(column, id string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return belfry.Errorf(belfry.Invalid, "%s of %s: %w", column, id, err)
	}
	n, err := e.exec("UPDATE users SET "+column+" = $3, version = $4 WHERE tenant = $1 AND id = $2", e.tenant, id, body, e.version)
	if err == nil && n == 0 {
		return belfry.Errorf(belfry.NotFound, "no user %s", id)
	}
	e.note(belfry.KindUser, id)
	return err
}

func (e *edit) subscriptions() error {
	if len(e.ch.Subscriptions) == 0 {
		return nil
	}
	rows, bodies := e.rows(putSubscription), map[string][]byte{}
	for _, sub := range last(e.ch.Subscriptions, func(s *belfry.Subscription) string { return s.ID }) {
		stored := *sub
		stored.Version = e.version
		body, err := json.Marshal(&stored)
		if err != nil {
			return belfry.Errorf(belfry.Invalid, "subscription %s: %w", sub.ID, err)
		}
		rows.text(e.tenant).text(sub.ID).text(sub.State).num(e.version).blob(body).text(sub.Scope.Object)
		bodies[sub.ID] = body
		e.note(belfry.KindSubscription, sub.ID)
	}
	if err := e.lookAtSubscriptions(bodies); err != nil {
		return err
	}
	_, err := rows.flush()
	return err
}

func (e *edit) members() error {
	if len(e.ch.Members) == 0 {
		return nil
	}
	rows := e.rows(putMember)
	list := last(e.ch.Members, func(m *belfry.Member) string { return m.Subscription + "\x00" + m.Principal + "\x00" + m.Object })
	list, err := e.withoutOptedOut(list)
	if err != nil {
		return err
	}
	if err := e.lookAtMembers(list); err != nil {
		return err
	}
	for _, m := range list {
		choice, err := memberChoice(m)
		if err != nil {
			return err
		}
		rows.text(e.tenant).text(m.Subscription).text(m.Principal).text(m.Object).text(choice).num(micros(m.Since))
		e.note(belfry.KindMembers, m.Subscription)
	}
	_, err = rows.flush()
	return err
}

func (e *edit) dropMembers() error {
	if len(e.ch.DropMembers) == 0 {
		return nil
	}
	rows := e.rows(dropMember)
	if err := e.lookAtLeaving(); err != nil {
		return err
	}
	for _, m := range e.ch.DropMembers {
		rows.text(e.tenant).text(m.Subscription).text(m.Principal).text(m.Object)
		e.note(belfry.KindMembers, m.Subscription)
	}
	_, err := rows.flush()
	return err
}

func (e *edit) documents() error {
	if len(e.ch.Documents) == 0 {
		return nil
	}
	rows, bodies := e.rows(putDocument), map[string]map[string][]byte{}
	for _, d := range last(e.ch.Documents, func(d *belfry.Document) string { return d.Kind + "\x00" + d.ID }) {
		rows.text(e.tenant).text(d.Kind).text(d.ID).num(e.version).blob(d.Body)
		if bodies[d.Kind] == nil {
			bodies[d.Kind] = map[string][]byte{}
		}
		bodies[d.Kind][d.ID] = d.Body
		e.note(d.Kind, d.ID)
	}
	for _, kind := range slices.Sorted(maps.Keys(bodies)) {
		if err := e.lookAtDocuments(kind, bodies[kind]); err != nil {
			return err
		}
	}
	_, err := rows.flush()
	return err
}

func (e *edit) dropDocuments() error {
	for _, d := range e.ch.DropDocuments {
		if err := e.lookAtDocuments(d.Kind, map[string][]byte{d.ID: nil}); err != nil {
			return err
		}
		if _, err := e.exec("DELETE FROM documents WHERE tenant = $1 AND kind = $2 AND id = $3", e.tenant, d.Kind, d.ID); err != nil {
			return err
		}
		e.note(d.Kind, d.ID)
	}
	return nil
}

func (e *edit) audit() error {
	if len(e.ch.Audit) == 0 {
		return nil
	}
	return e.session.audit(e.tenant, e.version, e.ch.Audit)
}

// audit says who made the version of a tenant.
func (s *session) audit(tenant string, version int64, entries []belfry.AuditEntry) error {
	rows := s.rows(insertAudit)
	for i, a := range entries {
		at := a.At
		if at.IsZero() {
			at = s.db.now()
		}
		// By version, so in the order of the edits whatever the clock did.
		rows.text(tenant).text(fmt.Sprintf("%016x_%06d", version, i)).num(micros(at)).text(a.Who).text(a.Action).text(a.Target).text(a.Detail)
	}
	_, err := rows.flush()
	return err
}

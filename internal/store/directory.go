package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Version is the number of the tenant's last edit, 0 before the first.
func (db *DB) Version(ctx context.Context, tenant string) (version int64, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&version) }, "SELECT version FROM versions WHERE tenant = $1", tenant)
	return version, err
}

// TenantVersions gives every tenant's current version.
func (db *DB) TenantVersions(ctx context.Context) (map[string]int64, error) {
	out := map[string]int64{}
	return out, db.query(ctx, func(rows *sql.Rows) error {
		var tenant string
		var version int64
		err := rows.Scan(&tenant, &version)
		out[tenant] = version
		return err
	}, "SELECT tenant, version FROM versions")
}

// ChangesSince lists the change log after a version, in order; about limit
// rows, but never part of a version.
func (db *DB) ChangesSince(ctx context.Context, tenant string, version int64, limit int) (list []belfry.Change, err error) {
	const text = "SELECT version, kind, item FROM changes WHERE tenant = $1 AND "
	scan := func(rows *sql.Rows) error {
		var c belfry.Change
		err := rows.Scan(&c.Version, &c.Kind, &c.Key)
		list = append(list, c)
		return err
	}
	limit = orDefault(limit, 1000)
	err = db.query(ctx, scan, text+"version > $2 ORDER BY version, kind, item LIMIT $3", tenant, version, limit)
	if err != nil || len(list) < limit {
		return list, err
	}
	end := list[len(list)-1]
	err = db.query(ctx, scan, text+"version = $2 AND (kind, item) > ($3, $4) ORDER BY kind, item", tenant, end.Version, end.Kind, end.Key)
	return list, err
}

// Versions gives the version of the last edit of each living thing of a kind,
// for Expectation; what does not exist is absent. Grants, history and members
// have none.
func (db *DB) Versions(ctx context.Context, tenant, kind string, keys []string) (map[string]int64, error) {
	text, args, ok := versionQuery(kind, tenant)
	if !ok {
		return nil, belfry.Errorf(belfry.Invalid, "things of kind %s have no version of their own", kind)
	}
	out := make(map[string]int64, len(keys))
	return out, queryRead(ctx, db, scanVersions(out), text, keys, args...)
}

func scanObject(rows *sql.Rows) (o belfry.Object, err error) {
	var deleted int64
	var body, settings []byte
	if err := rows.Scan(&o.ID, &deleted, &body, &settings); err != nil {
		return o, err
	}
	err = json.Unmarshal(body, &o)
	if len(settings) > 0 && err == nil {
		o.Settings = new(belfry.ObjectSettings)
		err = json.Unmarshal(settings, o.Settings)
	}
	o.Deleted = timeOf(deleted)
	return o, err
}

// Objects reads objects by id, tombstones too.
func (db *DB) Objects(ctx context.Context, tenant string, ids []string) (map[string]belfry.Object, error) {
	out := make(map[string]belfry.Object, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		o, err := scanObject(rows)
		out[o.ID] = o
		return err
	}, "SELECT id, deleted, body, settings FROM objects WHERE tenant = $1 AND id IN_LIST", ids, tenant)
	return out, err
}

// Children lists the living children of an object after an id, in the order of
// ids. Objects without a parent are the root's.
func (db *DB) Children(ctx context.Context, tenant, parent, after string, limit int) (list []belfry.Object, err error) {
	if parent == belfry.RootObject {
		parent = ""
	}
	err = db.query(ctx, func(rows *sql.Rows) error {
		o, err := scanObject(rows)
		list = append(list, o)
		return err
	}, "SELECT id, deleted, body, settings FROM objects WHERE tenant = $1 AND parent = $2 AND id > $3 AND deleted = 0 AND id <> 'root' ORDER BY id LIMIT $4",
		tenant, parent, after, orDefault(limit, 100))
	return list, err
}

// Groups reads groups by id with their direct members, sorted.
func (db *DB) Groups(ctx context.Context, tenant string, ids []string) (map[string]belfry.Group, error) {
	out := make(map[string]belfry.Group, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		var g belfry.Group
		err := rows.Scan(&g.ID, &g.Name, &g.Address, &g.Origin)
		out[g.ID] = g
		return err
	}, "SELECT id, name, address, origin FROM groups WHERE tenant = $1 AND id IN_LIST", ids, tenant)
	if err != nil {
		return nil, err
	}
	err = queryRead(ctx, db, func(rows *sql.Rows) error {
		var group, member string
		err := rows.Scan(&group, &member)
		if g, ok := out[group]; ok {
			g.Members = append(g.Members, member)
			out[group] = g
		}
		return err
	}, "SELECT DISTINCT group_id, principal FROM group_members WHERE tenant = $1 AND group_id IN_LIST ORDER BY group_id, principal", ids, tenant)
	return out, err
}

// GroupIDs lists groups after an id, in the order of ids.
func (db *DB) GroupIDs(ctx context.Context, tenant, after string, limit int) ([]string, error) {
	return db.strings(ctx, "SELECT id FROM groups WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3", tenant, after, orDefault(limit, 100))
}

// Persons reads people by id, deleted ones too (User.State says so).
func (db *DB) Persons(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Person, error) {
	out := make(map[string]*belfry.Person, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		var profile, settings, preferences sql.RawBytes
		if err := rows.Scan(&profile, &settings, &preferences); err != nil {
			return err
		}
		p, err := readPerson(profile, settings, preferences)
		if err != nil {
			return err
		}
		out[p.User.ID] = p
		return nil
	}, "SELECT profile, settings, preferences FROM users WHERE tenant = $1 AND id IN_LIST", ids, tenant)
	return out, err
}

// PersonsByEmail finds living users by addresses in NormalEmail's form. Of
// several users with one address it gives the first by id.
func (db *DB) PersonsByEmail(ctx context.Context, tenant string, emails []string) (map[string]string, error) {
	out := make(map[string]string, len(emails))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		var email, id string
		err := rows.Scan(&email, &id)
		if have, ok := out[email]; !ok || id < have {
			out[email] = id
		}
		return err
	}, "SELECT email, user_id FROM user_emails WHERE tenant = $1 AND email IN_LIST", emails, tenant)
	return out, err
}

// UserIDs lists active users after an id, in the order of ids.
func (db *DB) UserIDs(ctx context.Context, tenant, after string, limit int) ([]string, error) {
	return db.strings(ctx, "SELECT id FROM users WHERE tenant = $1 AND id > $2 AND state = 'active' ORDER BY id LIMIT $3", tenant, after, orDefault(limit, 100))
}

func (db *DB) strings(ctx context.Context, text string, args ...any) (list []string, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var v string
		err := rows.Scan(&v)
		list = append(list, v)
		return err
	}, text, args...)
	return list, err
}

// Roles lists roles that were ever given to somebody of a tenant, in order.
func (db *DB) Roles(ctx context.Context, tenant string, limit int) (list []string, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var role string
		err := rows.Scan(&role)
		list = append(list, role)
		return err
	}, "SELECT role FROM roles WHERE tenant = $1 ORDER BY role LIMIT $2", tenant, limit)
	return list, err
}

// GrantsOn reads the grants on objects, of all origins, in the order of
// principals; objects without any are absent.
func (db *DB) GrantsOn(ctx context.Context, tenant string, objects []string) (map[string][]belfry.Grant, error) {
	out := make(map[string][]belfry.Grant, len(objects))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		var g belfry.Grant
		var from, until int64
		err := rows.Scan(&g.Object, &g.Origin, &g.Principal, &g.Role, &from, &until, &g.Inactive)
		g.From, g.Until = timeOf(from), timeOf(until)
		out[g.Object] = append(out[g.Object], g)
		return err
	}, `SELECT object, origin, principal, role, from_at, until_at, inactive FROM grants WHERE tenant = $1 AND object IN_LIST
		ORDER BY object, principal, role, origin, seq`, objects, tenant)
	return out, err
}

// History lists the steps of an object's workflow, oldest first, after a place
// that a former call gave; next is empty at the end.
func (db *DB) History(ctx context.Context, tenant, object, after string, limit int) (list []belfry.HistoryEntry, next string, err error) {
	var afterAt int64
	var afterID string
	if after != "" {
		at, id, ok := strings.Cut(after, ".")
		if afterAt, err = strconv.ParseInt(at, 10, 64); err != nil || !ok {
			return nil, "", belfry.Errorf(belfry.Invalid, "not a place in a history: %q", short(after))
		}
		afterID = id
	} else {
		afterAt = -1 << 62
	}
	if object == "" {
		object = belfry.RootObject
	}
	limit = orDefault(limit, 100)
	var places []string
	err = db.query(ctx, func(rows *sql.Rows) error {
		h := belfry.HistoryEntry{Object: object}
		var at int64
		var id string
		var variables []byte
		if err := rows.Scan(&at, &id, &h.Document, &h.Transition, &h.Actor, &h.Comment, &variables); err != nil {
			return err
		}
		h.Time = fromMicros(at)
		if len(variables) > 0 {
			h.Variables = variables
		}
		list = append(list, h)
		places = append(places, strconv.FormatInt(at, 10)+"."+id)
		return nil
	}, `SELECT at, id, document, transition, actor, comment, variables FROM history
		WHERE tenant = $1 AND object = $2 AND (at, id) > ($3, $4) ORDER BY at, id LIMIT $5`, tenant, object, afterAt, afterID, limit+1)
	if len(list) > limit {
		list, next = list[:limit], places[limit-1]
	}
	return list, next, err
}

// Steps lists steps of workflows, the latest first; next continues, empty at
// the end. A step belongs to the event that brought it (its id is the event's)
// or to the edit that added it.
func (db *DB) Steps(ctx context.Context, tenant string, q belfry.StepQuery) (list []belfry.HistoryEntry, next string, err error) {
	beforeAt, beforeID := int64(math.MaxInt64), ""
	if q.Before != "" {
		at, id, ok := strings.Cut(q.Before, ".")
		if beforeAt, err = strconv.ParseInt(at, 10, 64); err != nil || !ok {
			return nil, "", belfry.Errorf(belfry.Invalid, "not a place in a history: %q", short(q.Before))
		}
		beforeID = id
	}
	limit := orDefault(q.Limit, 100)
	var places []string
	scan := func(rows *sql.Rows) error {
		var h belfry.HistoryEntry
		var at int64
		var id string
		var variables []byte
		if err := rows.Scan(&h.Object, &at, &id, &h.Document, &h.Transition, &h.Actor, &h.Comment, &variables); err != nil {
			return err
		}
		h.Time = fromMicros(at)
		if len(variables) > 0 {
			h.Variables = variables
		}
		list = append(list, h)
		places = append(places, strconv.FormatInt(at, 10)+"."+id)
		return nil
	}
	const what, order = "SELECT object, at, id, document, transition, actor, comment, variables FROM history WHERE tenant = $1 AND ",
		" AND (at, id) < ($3, $4) AND (id < $5 OR (id >= 'evt_' AND id < $6)) ORDER BY at DESC, id DESC LIMIT $7"
	text, of := what+"object = $2"+order, q.Object
	if q.Document != "" {
		text, of = what+"document = $2 AND document <> ''"+order, q.Document
	}
	err = db.query(ctx, scan, text, tenant, of, beforeAt, beforeID, editStep(q.AsOf+1), q.Event, limit+1)
	if len(list) > limit {
		list, next = list[:limit], places[limit-1]
	}
	return list, next, err
}

// editStep begins the ids of the steps that the edit with a version added; they
// sort before those of events.
func editStep(version int64) string { return fmt.Sprintf("edit_%016x", version) }

// Members lists who joined a subscription after a principal, in the order of
// principals; about limit rows, but all joins of one principal together.
func (db *DB) Members(ctx context.Context, tenant, subscription, after string, limit int) ([]belfry.Member, error) {
	return db.joins(ctx, "subscription", "principal", func(m *belfry.Member) string { return m.Principal }, tenant, subscription, after, limit)
}

// MembersAmong lists those members of a subscription who are asked for, in order.
func (db *DB) MembersAmong(ctx context.Context, tenant, subscription string, who []string) (list []belfry.Member, err error) {
	err = db.queryEach(ctx, membersInto(&list), "SELECT "+memberCols+" FROM members WHERE tenant = $1 AND subscription = $2 AND principal IN_LIST", distinct(who), tenant, subscription)
	slices.SortFunc(list, func(a, b belfry.Member) int {
		return cmp.Or(strings.Compare(a.Principal, b.Principal), strings.Compare(a.Object, b.Object))
	})
	return list, err
}

// distinct is each of names once, in order.
func distinct(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

const memberCols = "subscription, principal, object, channels, since"

func scanMember(rows *sql.Rows) (m belfry.Member, err error) {
	var channels string
	var since int64
	if err := rows.Scan(&m.Subscription, &m.Principal, &m.Object, &channels, &since); err != nil {
		return m, err
	}
	m.Since = fromMicros(since)
	return m, readChoice(channels, &m)
}

// membersInto reads rows of memberCols.
func membersInto(list *[]belfry.Member) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		m, err := scanMember(rows)
		*list = append(*list, m)
		return err
	}
}

// Memberships lists what a principal joined, after a subscription's id; about
// limit rows, but all joins of one subscription together.
func (db *DB) Memberships(ctx context.Context, tenant, principal, after string, limit int) ([]belfry.Member, error) {
	return db.joins(ctx, "principal", "subscription", func(m *belfry.Member) string { return m.Subscription }, tenant, principal, after, limit)
}

// joins lists members with one value in a column, in the order of another, after
// a value there; about limit rows, but all of one value there together.
func (db *DB) joins(ctx context.Context, of, by string, key func(*belfry.Member) string, tenant, whose, after string, limit int) (list []belfry.Member, err error) {
	text := "SELECT " + memberCols + " FROM members WHERE tenant = $1 AND " + of + " = $2 AND " + by
	scan := membersInto(&list)
	limit = orDefault(limit, 1000)
	err = db.query(ctx, scan, text+" > $3 ORDER BY "+by+", object LIMIT $4", tenant, whose, after, limit)
	if err != nil || len(list) < limit {
		return list, err
	}
	end := &list[len(list)-1]
	err = db.query(ctx, scan, text+" = $3 AND object > $4 ORDER BY object", tenant, whose, key(end), end.Object)
	return list, err
}

func scanSubscription(rows *sql.Rows) (s belfry.Subscription, err error) {
	var body []byte
	if err := rows.Scan(&body); err != nil {
		return s, err
	}
	return s, json.Unmarshal(body, &s)
}

// Subscriptions lists subscriptions in any state after an id, in the order of ids.
func (db *DB) Subscriptions(ctx context.Context, tenant, after string, limit int) (list []belfry.Subscription, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		s, err := scanSubscription(rows)
		list = append(list, s)
		return err
	}, "SELECT body FROM subscriptions WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3", tenant, after, orDefault(limit, 1000))
	return list, err
}

// Gone lists subscriptions that have not ended at objects that were deleted
// before a time, after a place.
func (db *DB) Gone(ctx context.Context, tenant string, before time.Time, after belfry.GonePlace, limit int) ([]belfry.Gone, error) {
	at := int64(0)
	if !after.Deleted.IsZero() {
		at = micros(after.Deleted)
	}
	return db.gone(ctx, "o.deleted >= $2 AND o.deleted < $3 AND (o.deleted, o.id, s.id) > ($2, $4, $5) ORDER BY o.deleted, o.id, s.id LIMIT $6",
		tenant, at, micros(before), after.Object, after.Subscription, orDefault(limit, 1000))
}

// GoneLast lists the last subscriptions, of those that Gone lists, of what was
// deleted at a time, the very last first.
func (db *DB) GoneLast(ctx context.Context, tenant string, deleted time.Time, limit int) ([]belfry.Gone, error) {
	return db.gone(ctx, "o.deleted = $2 ORDER BY o.id DESC, s.id DESC LIMIT $3", tenant, micros(deleted), orDefault(limit, 1000))
}

func (db *DB) gone(ctx context.Context, text string, args ...any) (list []belfry.Gone, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		var g belfry.Gone
		var deleted int64
		var object, sub []byte
		if err := rows.Scan(&g.Object.ID, &deleted, &object, &sub); err != nil {
			return err
		}
		err := errors.Join(json.Unmarshal(object, &g.Object), json.Unmarshal(sub, &g.Subscription))
		g.Object.Deleted = timeOf(deleted)
		list = append(list, g)
		return err
	}, `SELECT o.id, o.deleted, o.body, s.body FROM objects o JOIN subscriptions s ON s.tenant = o.tenant AND s.scope = o.id AND s.scope <> '' AND s.state <> 'ended'
		WHERE o.tenant = $1 AND o.deleted > 0 AND `+text, args...)
	return list, err
}

// ActiveSubscriptions lists the active subscriptions after an id, in the order
// of ids.
func (db *DB) ActiveSubscriptions(ctx context.Context, tenant, after string, limit int) ([]belfry.Subscription, error) {
	limit = orDefault(limit, 1000)
	list := make([]belfry.Subscription, 0, min(limit, 4096))
	err := db.query(ctx, func(rows *sql.Rows) error {
		var body sql.RawBytes // decoded at once: what is read is not kept
		if err := rows.Scan(&body); err != nil {
			return err
		}
		list = append(list, belfry.Subscription{})
		return json.Unmarshal(body, &list[len(list)-1])
	}, "SELECT body FROM subscriptions WHERE tenant = $1 AND id > $2 AND state = 'active' ORDER BY id LIMIT $3", tenant, after, limit)
	return list, err
}

// Subscription reads one subscription, false when there is none.
func (db *DB) Subscription(ctx context.Context, tenant, id string) (s belfry.Subscription, ok bool, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		ok = true
		s, err = scanSubscription(rows)
		return err
	}, "SELECT body FROM subscriptions WHERE tenant = $1 AND id = $2", tenant, id)
	return s, ok, err
}

// SubscriptionsOf reads subscriptions by id; ids of which there is none are left
// out.
func (db *DB) SubscriptionsOf(ctx context.Context, tenant string, ids []string) (list []belfry.Subscription, err error) {
	err = queryRead(ctx, db, func(rows *sql.Rows) error {
		s, err := scanSubscription(rows)
		list = append(list, s)
		return err
	}, "SELECT body FROM subscriptions WHERE tenant = $1 AND id IN_LIST", ids, tenant)
	return list, err
}

// Documents lists the documents of a kind after an id, in the order of ids.
func (db *DB) Documents(ctx context.Context, tenant, kind, after string, limit int) (list []belfry.Document, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		d := belfry.Document{Kind: kind}
		err := rows.Scan(&d.ID, &d.Version, &d.Body)
		list = append(list, d)
		return err
	}, "SELECT id, version, body FROM documents WHERE tenant = $1 AND kind = $2 AND id > $3 ORDER BY id LIMIT $4", tenant, kind, after, orDefault(limit, 1000))
	return list, err
}

// DocumentsOf reads documents by id; ids of which there is none are left out.
func (db *DB) DocumentsOf(ctx context.Context, tenant, kind string, ids []string) (map[string]belfry.Document, error) {
	out := make(map[string]belfry.Document, len(ids))
	err := queryRead(ctx, db, func(rows *sql.Rows) error {
		d := belfry.Document{Kind: kind}
		err := rows.Scan(&d.ID, &d.Version, &d.Body)
		out[d.ID] = d
		return err
	}, "SELECT id, version, body FROM documents WHERE tenant = $1 AND kind = $2 AND id IN_LIST", ids, tenant, kind)
	return out, err
}

// Document reads one document, false when there is none.
func (db *DB) Document(ctx context.Context, tenant, kind, id string) (d belfry.Document, ok bool, err error) {
	err = db.query(ctx, func(rows *sql.Rows) error {
		ok = true
		d.Kind, d.ID = kind, id
		return rows.Scan(&d.Version, &d.Body)
	}, "SELECT version, body FROM documents WHERE tenant = $1 AND kind = $2 AND id = $3", tenant, kind, id)
	return d, ok, err
}

package moodle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// kind is a sort of directory row that is synced by id.
type kind int

// Kinds, in the order they are synced; the numbers are in cursors.
const (
	kindCategory   kind = 0
	kindCourse     kind = 1
	kindModule     kind = 2
	kindDiscussion kind = 3
	kindUser       kind = 4
	kindGroup      kind = 5
	kindCohort     kind = 6
	kindGrants     kind = 7 // by context id
	kinds               = 8
)

// unit is what one row of a kind becomes in Belfry's directory.
type unit struct {
	id     int64
	object *belfry.Object
	ghost  bool // object is put and tombstoned at once: a deleted user's profile
	user   *belfry.User
	stop   bool // the user wants no messages at all
	group  *belfry.Group
	grants *belfry.GrantSet
}

// hash is a short digest of a unit; never 0. Two states of one row collide
// once in four thousand million times, and then until the row changes again.
func (u *unit) hash() (uint32, error) {
	raw, err := json.Marshal([]any{u.object, u.ghost, u.user, u.stop, u.group, u.grants})
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(raw)
	return max(1, binary.LittleEndian.Uint32(sum[:4])), nil
}

// site reads a Moodle site's tables into units. It holds what changes rarely:
// the names of modules and roles, and a few settings of the site.
type site struct {
	db     *sqlread.DB
	links  links
	origin string
	now    func() time.Time

	modules map[int64]string // name by id
	forum   int64            // id of the module forum, 0 = none
	roles   map[int64]string // shortname by id
	config  map[string]string
	absent  map[string]bool // tables of modules that cannot be read
}

// load reads what changes rarely.
func (s *site) load(ctx context.Context) error {
	type pair struct {
		id    int64
		value string
	}
	pairs := func(rows *sql.Rows) (pair, error) {
		var p pair
		return p, rows.Scan(&p.id, &p.value)
	}
	modules, err := sqlread.Select(ctx, s.db, "SELECT id, name FROM {modules}", nil, pairs)
	if err != nil {
		return err
	}
	roles, err := sqlread.Select(ctx, s.db, "SELECT id, shortname FROM {role}", nil, pairs)
	if err != nil {
		return err
	}
	settings, err := sqlread.Select(ctx, s.db, "SELECT name, value FROM {config} WHERE name IN ('siteadmins', 'siteguest', 'defaultuserroleid', 'defaultfrontpageroleid', 'lang', 'release', 'timezone', 'forcetimezone')", nil,
		func(rows *sql.Rows) (p [2]string, err error) { return p, rows.Scan(&p[0], &p[1]) })
	if err != nil {
		return err
	}
	s.modules, s.roles, s.config, s.forum, s.absent = map[int64]string{}, map[int64]string{}, map[string]string{}, 0, map[string]bool{}
	for _, m := range modules {
		if moduleName(m.value) {
			s.modules[m.id] = m.value
			if m.value == "forum" {
				s.forum = m.id
			}
		}
	}
	for _, r := range roles {
		s.roles[r.id] = r.value
	}
	for _, c := range settings {
		s.config[c[0]] = c[1]
	}
	return nil
}

func (s *site) moduleNames() []string { return sortedValues(s.modules) }

func sortedValues(m map[int64]string) []string {
	out := make([]string, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// setRole is the shortname of the role that a setting of the site names, empty
// when it names none.
func (s *site) setRole(setting string) string {
	id, _ := strconv.ParseInt(s.config[setting], 10, 64)
	return s.roles[id]
}

// blocks keeps the roles that everybody has from being a reason to see: that of
// all users stays on the site, that of the front page off what is hidden there.
func (s *site) blocks(o *belfry.Object) {
	if role := s.setRole("defaultuserroleid"); role != "" && (o.Parent == SiteObject || o.Hidden) {
		o.Blocks = append(o.Blocks, role)
	}
	if role := s.setRole("defaultfrontpageroleid"); role != "" && o.Hidden {
		o.Blocks = append(o.Blocks, role)
	}
}

// siteObject is the object above all others of the site.
func (s *site) siteObject(ctx context.Context) (belfry.Object, error) {
	names, err := sqlread.Select(ctx, s.db, "SELECT fullname FROM {course} WHERE category = 0 ORDER BY id LIMIT 1", nil, sqlread.Text)
	if err != nil {
		return belfry.Object{}, err
	}
	o := belfry.Object{ID: SiteObject, Type: TypeSite, Title: "Moodle", URL: s.links.root + "/", Origin: s.origin}
	if len(names) > 0 && names[0] != "" {
		o.Title = names[0]
	}
	return o, nil
}

// pages of the kinds: rows a query.
const pageSize = 500

// byID gives the units of a kind with the given ids, those that exist.
func (s *site) byID(ctx context.Context, k kind, ids []int64) ([]unit, error) {
	var out []unit
	for chunk := range slices.Chunk(ids, pageSize) {
		units, err := s.reader(k)(ctx, &where{ids: chunk})
		if err != nil {
			return nil, err
		}
		out = append(out, units...)
	}
	return out, nil
}

// page gives a page of the units of a kind in the order of ids, and the id to
// go on after; 0 = there are no more.
func (s *site) page(ctx context.Context, k kind, after int64) (units []unit, next int64, err error) {
	w := where{after: after}
	units, err = s.reader(k)(ctx, &w)
	if w.next == 0 && len(units) >= pageSize {
		w.next = units[len(units)-1].id
	}
	return units, w.next, err
}

func (s *site) reader(k kind) func(context.Context, *where) ([]unit, error) {
	return [kinds]func(context.Context, *where) ([]unit, error){s.categories, s.courses, s.courseModules, s.discussions, s.users, s.groups, s.cohorts, s.grants}[k]
}

// where limits a query to ids or to the page after an id.
type where struct {
	ids   []int64
	after int64
	next  int64 // set by readers whose pages are not made of their own rows
}

// sql gives the end of a query whose id column is col, and its arguments.
func (w *where) sql(col string) (string, []any) {
	if w.ids != nil {
		return col + " IN " + sqlread.In(len(w.ids)) + " ORDER BY " + col, sqlread.Args(w.ids)
	}
	return col + " > ? ORDER BY " + col + " LIMIT " + strconv.Itoa(pageSize), []any{w.after}
}

func attributes(pairs ...any) json.RawMessage {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		switch v := pairs[i+1].(type) {
		case []string:
			if len(v) > 0 {
				m[pairs[i].(string)] = v
			}
		default:
			if v != "" && v != int64(0) {
				m[pairs[i].(string)] = v
			}
		}
	}
	if len(m) == 0 {
		return nil
	}
	out, _ := json.Marshal(m) // texts and numbers never fail
	return out
}

func (s *site) categories(ctx context.Context, w *where) ([]unit, error) {
	end, args := w.sql("id")
	return sqlread.Select(ctx, s.db, "SELECT id, name, idnumber, parent, visible FROM {course_categories} WHERE "+end, args, func(rows *sql.Rows) (unit, error) {
		var id, parent, visible int64
		var name string
		var idnumber sql.NullString
		if err := rows.Scan(&id, &name, &idnumber, &parent, &visible); err != nil {
			return unit{}, err
		}
		o := belfry.Object{ID: categoryID(id), Type: TypeCategory, Parent: SiteObject, Title: name, URL: s.links.category(id), Hidden: visible == 0,
			Attributes: attributes("idnumber", idnumber.String), Origin: s.origin}
		if parent != 0 {
			o.Parent = categoryID(parent)
		}
		s.blocks(&o)
		return unit{id: id, object: &o}, nil
	})
}

func (s *site) courses(ctx context.Context, w *where) ([]unit, error) {
	end, args := w.sql("id")
	return sqlread.Select(ctx, s.db, "SELECT id, category, fullname, shortname, idnumber, visible, startdate, enddate, format FROM {course} WHERE "+end, args, func(rows *sql.Rows) (unit, error) {
		var id, category, visible, start, end int64
		var full, short, idnumber, format string
		if err := rows.Scan(&id, &category, &full, &short, &idnumber, &visible, &start, &end, &format); err != nil {
			return unit{}, err
		}
		o := belfry.Object{ID: courseID(id), Type: TypeCourse, Parent: SiteObject, Title: full, URL: s.links.course(id), Hidden: visible == 0,
			Attributes: attributes("shortname", short, "idnumber", idnumber, "format", format, "startdate", start, "enddate", end), Origin: s.origin}
		if category != 0 { // the front page has none
			o.Parent = categoryID(category)
		}
		s.blocks(&o)
		return unit{id: id, object: &o}, nil
	})
}

func (s *site) courseModules(ctx context.Context, w *where) ([]unit, error) {
	type row struct {
		id, course, module, instance, visible, deleting int64
		idnumber                                        sql.NullString
	}
	end, args := w.sql("id")
	rows, err := sqlread.Select(ctx, s.db, "SELECT id, course, module, instance, idnumber, visible, deletioninprogress FROM {course_modules} WHERE "+end, args, func(rows *sql.Rows) (r row, err error) {
		return r, rows.Scan(&r.id, &r.course, &r.module, &r.instance, &r.idnumber, &r.visible, &r.deleting)
	})
	if err != nil {
		return nil, err
	}
	instances := map[string][]int64{}
	for _, r := range rows {
		if name := s.modules[r.module]; name != "" {
			instances[name] = append(instances[name], r.instance)
		}
	}
	titles := map[string]map[int64]string{}
	for name, ids := range instances {
		if titles[name], err = s.instanceNames(ctx, name, ids); err != nil {
			return nil, err
		}
	}
	drafts, err := s.drafts(ctx, instances["assign"])
	if err != nil {
		return nil, err
	}
	out := make([]unit, 0, len(rows))
	for _, r := range rows {
		name := s.modules[r.module]
		var open *draftList
		if name == "assign" {
			open = drafts[r.instance]
		}
		o := belfry.Object{ID: moduleID(r.id), Type: name, Parent: courseID(r.course), Title: titles[name][r.instance], URL: s.links.module(name, r.id), Hidden: r.visible == 0 || r.deleting != 0,
			Attributes: attributes("module", name, "instance", r.instance, "idnumber", r.idnumber.String, "drafts", open.names(), "drafts_left_out", open.leftOut()), Origin: s.origin}
		if name == "" { // its plug-in was taken away
			o.Type, o.URL = "module", ""
		}
		if o.Title == "" {
			o.Title = fmt.Sprintf("%s %d", o.Type, r.instance)
		}
		s.blocks(&o)
		out = append(out, unit{id: r.id, object: &o})
	}
	return out, nil
}

// instanceNames reads the names of activities, which only the module's own
// table has. A table that is not there, or has no name, gives none.
func (s *site) instanceNames(ctx context.Context, module string, ids []int64) (map[int64]string, error) {
	if s.absent[module] {
		return nil, nil
	}
	out := map[int64]string{}
	_, err := sqlread.Select(ctx, s.db, "SELECT id, name FROM {"+module+"} WHERE id IN "+sqlread.In(len(ids)), sqlread.Args(ids), func(rows *sql.Rows) (struct{}, error) {
		var id int64
		var name string
		err := rows.Scan(&id, &name)
		out[id] = name
		return struct{}{}, err
	})
	switch sqlread.Classify(err) {
	case sqlread.NoTable, sqlread.NoColumn, sqlread.NoRight:
		s.absent[module] = true
		return nil, nil
	case sqlread.Other, sqlread.Unreachable, sqlread.LoginRefused, sqlread.NoDatabase, sqlread.TooSlow, sqlread.WriteRefused:
	}
	return out, err
}

// maxDrafts bounds the names that an assignment carries, so that its attributes
// stay as small as everybody's must.
const maxDrafts = 3000

// draftList is who has a submission of an assignment that is not handed in:
// users, and groups where groups hand in together. more counts those for whom
// there is no room.
type draftList struct {
	who  []string
	more int64
}

func (d *draftList) names() []string {
	if d == nil {
		return nil
	}
	return d.who
}

func (d *draftList) leftOut() int64 {
	if d == nil {
		return 0
	}
	return d.more
}

// drafts reads who is still at work on the latest submission of assignments, so
// that a rule can name them. Who may not read the table does without.
func (s *site) drafts(ctx context.Context, assignments []int64) (map[int64]*draftList, error) {
	if len(assignments) == 0 || s.absent["assign_submission"] {
		return nil, nil
	}
	out := map[int64]*draftList{}
	_, err := sqlread.Select(ctx, s.db, "SELECT assignment, userid, groupid FROM {assign_submission} WHERE assignment IN "+sqlread.In(len(assignments))+
		" AND status = 'draft' AND latest = 1 ORDER BY 1, 2, 3", sqlread.Args(assignments), func(rows *sql.Rows) (struct{}, error) {
		var assignment, user, group int64
		err := rows.Scan(&assignment, &user, &group)
		d := out[assignment]
		if d == nil {
			d = &draftList{}
			out[assignment] = d
		}
		switch {
		case len(d.who) == maxDrafts:
			d.more++
		case user != 0:
			d.who = append(d.who, userID(user))
		case group != 0:
			d.who = append(d.who, groupID(group))
		}
		return struct{}{}, err
	})
	switch sqlread.Classify(err) {
	case sqlread.NoTable, sqlread.NoColumn, sqlread.NoRight:
		s.absent["assign_submission"] = true
		return nil, nil
	case sqlread.Other, sqlread.Unreachable, sqlread.LoginRefused, sqlread.NoDatabase, sqlread.TooSlow, sqlread.WriteRefused:
	}
	return out, err
}

func (s *site) discussions(ctx context.Context, w *where) ([]unit, error) {
	if s.forum == 0 || s.absent["forum_discussions"] {
		return nil, nil
	}
	end, args := w.sql("d.id")
	out, err := sqlread.Select(ctx, s.db, "SELECT d.id, d.name, d.course, cm.id FROM {forum_discussions} d LEFT JOIN {course_modules} cm ON cm.instance = d.forum AND cm.course = d.course AND cm.module = "+
		strconv.FormatInt(s.forum, 10)+" WHERE "+end, args, func(rows *sql.Rows) (unit, error) {
		var id, course int64
		var cm sql.NullInt64
		var name string
		if err := rows.Scan(&id, &name, &course, &cm); err != nil {
			return unit{}, err
		}
		o := belfry.Object{ID: discussionID(id), Type: TypeDiscussion, Parent: courseID(course), Title: name, URL: s.links.discussion(id), Origin: s.origin}
		if cm.Valid {
			o.Parent = moduleID(cm.Int64)
		}
		return unit{id: id, object: &o}, nil
	})
	switch sqlread.Classify(err) {
	case sqlread.NoTable, sqlread.NoRight:
		s.absent["forum_discussions"] = true
		return nil, nil
	case sqlread.Other, sqlread.Unreachable, sqlread.LoginRefused, sqlread.NoDatabase, sqlread.NoColumn, sqlread.TooSlow, sqlread.WriteRefused:
	}
	return out, err
}

func (s *site) users(ctx context.Context, w *where) ([]unit, error) {
	guest, _ := strconv.ParseInt(s.config["siteguest"], 10, 64)
	end, args := w.sql("id")
	return sqlread.Select(ctx, s.db, "SELECT id, auth, confirmed, deleted, suspended, username, idnumber, firstname, lastname, email, emailstop, lang, timezone FROM {user} WHERE "+end, args, func(rows *sql.Rows) (unit, error) {
		var id, confirmed, deleted, suspended, emailstop int64
		var auth, username, idnumber, first, last, email, lang, zone string
		if err := rows.Scan(&id, &auth, &confirmed, &deleted, &suspended, &username, &idnumber, &first, &last, &email, &emailstop, &lang, &zone); err != nil {
			return unit{}, err
		}
		name := strings.Join(strings.Fields(first+" "+last), " ")
		u := belfry.User{ID: userID(id), Name: name, State: belfry.UserActive, Locale: locale(lang), TimeZone: s.zoneOf(zone), Contacts: []belfry.Contact{}, Origin: s.origin}
		o := belfry.Object{ID: profileID(id), Type: TypeProfile, Parent: SiteObject, Title: name, URL: s.links.profile(id), Origin: s.origin}
		s.blocks(&o)
		switch {
		case deleted != 0:
			// Moodle mangles the row: its address is a digest, never to be used.
			u.State, u.Locale, u.TimeZone = belfry.UserDeleted, "", ""
			return unit{id: id, user: &u, object: &o, ghost: true}, nil
		case suspended != 0, auth == "nologin", id == guest:
			u.State = belfry.UserSuspended
		}
		u.Attributes = attributes("username", username, "idnumber", idnumber, "auth", auth)
		if id != guest && strings.Contains(email, "@") {
			u.Email = email
			u.Contacts = append(u.Contacts, belfry.Contact{Kind: "email", Address: email, Priority: 1, Verified: confirmed != 0, Origin: s.origin})
		}
		return unit{id: id, user: &u, object: &o, stop: emailstop != 0}, nil
	})
}

// locale makes a BCP 47 tag of Moodle's language pack: pt_br is pt-BR. A
// pack's variant (de_kids, en_us_k12) is left off.
func locale(lang string) string {
	parts := strings.Split(lang, "_")
	if parts[0] == "" || len(parts[0]) > 3 {
		return ""
	}
	if len(parts) > 1 && len(parts[1]) == 2 {
		return strings.ToLower(parts[0]) + "-" + strings.ToUpper(parts[1])
	}
	return strings.ToLower(parts[0])
}

// zoneOf is the zone of a user who has this one in the profile: the site's when
// it forces one, or when the profile leaves it to the site (99).
func (s *site) zoneOf(profile string) string {
	zone := cmp.Or(timeZone(s.config["forcetimezone"]), timeZone(profile))
	if zone == "" && s.config["timezone"] != "UTC" { // which holds without one
		zone = timeZone(s.config["timezone"])
	}
	return zone
}

// timeZone keeps a zone that is known by name. 99 means another's; old sites
// have numbers, which say nothing of summer time.
func timeZone(zone string) string {
	if zone == "" || zone == "Local" || strings.Trim(zone, "-+.0123456789") == "" {
		return ""
	}
	if _, err := time.LoadLocation(zone); err != nil {
		return ""
	}
	return zone
}

func (s *site) groups(ctx context.Context, w *where) ([]unit, error) {
	return s.membersOf(ctx, w, "groups", "groups_members", "groupid", groupID)
}

func (s *site) cohorts(ctx context.Context, w *where) ([]unit, error) {
	return s.membersOf(ctx, w, "cohort", "cohort_members", "cohortid", cohortID)
}

func (s *site) membersOf(ctx context.Context, w *where, table, members, column string, name func(int64) string) ([]unit, error) {
	end, args := w.sql("id")
	out, err := sqlread.Select(ctx, s.db, "SELECT id, name FROM {"+table+"} WHERE "+end, args, func(rows *sql.Rows) (unit, error) {
		g := belfry.Group{Members: []string{}, Origin: s.origin}
		var id int64
		if err := rows.Scan(&id, &g.Name); err != nil {
			return unit{}, err
		}
		g.ID = name(id)
		return unit{id: id, group: &g}, nil
	})
	if err != nil || len(out) == 0 {
		return nil, err
	}
	at := make(map[int64]*belfry.Group, len(out))
	ids := make([]int64, 0, len(out))
	for _, u := range out {
		at[u.id] = u.group
		ids = append(ids, u.id)
	}
	_, err = sqlread.Select(ctx, s.db, "SELECT DISTINCT "+column+", userid FROM {"+members+"} WHERE "+column+" IN "+sqlread.In(len(ids))+" ORDER BY 1, 2", sqlread.Args(ids), func(rows *sql.Rows) (struct{}, error) {
		var group, user int64
		err := rows.Scan(&group, &user)
		if g := at[group]; g != nil {
			g.Members = append(g.Members, userID(user))
		}
		return struct{}{}, err
	})
	return out, err
}

package moodle

import (
	"context"
	"database/sql"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// Reasons of grants that do not count.
const (
	inactiveSuspended = "suspended enrolment"
	inactiveMethod    = "enrolment method is switched off"
	inactiveNone      = "no enrolment in the course"
)

// noEnd is the end that Moodle's database gives enrolments without one.
const noEnd = 2147483647

// assignment is one role of one user in one context.
type assignment struct {
	role, user int64
	context    int64
	level      int64
	instance   int64
	path       sql.NullString
}

// grants reads the role grants of contexts: one GrantSet for each. Contexts
// without any are there too when they are asked for by id. Contexts of levels
// that have no object (blocks) are left out.
func (s *site) grants(ctx context.Context, w *where) ([]unit, error) {
	ids := w.ids
	if ids == nil {
		var err error
		ids, err = sqlread.Select(ctx, s.db, "SELECT DISTINCT contextid FROM {role_assignments} WHERE contextid > ? ORDER BY contextid LIMIT 100", []any{w.after}, sqlread.Int64)
		if err != nil {
			return nil, err
		}
		// The site and its front page have grants that are settings, not rows.
		special, err := sqlread.Select(ctx, s.db, "SELECT id FROM {context} WHERE contextlevel = 10 OR (contextlevel = 50 AND instanceid IN (SELECT id FROM {course} WHERE category = 0))", nil, sqlread.Int64)
		if err != nil {
			return nil, err
		}
		last := int64(1) << 62
		if len(ids) == 100 {
			last = ids[len(ids)-1]
			w.next = last
		}
		for _, id := range special {
			if id > w.after && id <= last && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	contexts, err := sqlread.Select(ctx, s.db, "SELECT id, contextlevel, instanceid, path FROM {context} WHERE id IN "+sqlread.In(len(ids))+" ORDER BY id", sqlread.Args(ids), func(rows *sql.Rows) (a assignment, err error) {
		return a, rows.Scan(&a.context, &a.level, &a.instance, &a.path)
	})
	if err != nil {
		return nil, err
	}
	rows, err := s.assignments(ctx, "ra.contextid IN "+sqlread.In(len(ids)), sqlread.Args(ids))
	if err != nil {
		return nil, err
	}
	sets, err := s.grantSets(ctx, contexts, rows)
	if err != nil {
		return nil, err
	}
	out := make([]unit, 0, len(sets))
	for i, c := range contexts {
		out = append(out, unit{id: c.context, grants: sets[i]})
	}
	return out, nil
}

func (s *site) assignments(ctx context.Context, condition string, args []any) ([]assignment, error) {
	return sqlread.Select(ctx, s.db, "SELECT DISTINCT ra.roleid, ra.userid, ra.contextid, c.contextlevel, c.instanceid, c.path FROM {role_assignments} ra JOIN {context} c ON c.id = ra.contextid WHERE "+condition, args,
		func(rows *sql.Rows) (a assignment, err error) {
			return a, rows.Scan(&a.role, &a.user, &a.context, &a.level, &a.instance, &a.path)
		})
}

// objectOf is the object of a context, empty when it has none.
func objectOf(level, instance int64) string {
	switch level {
	case levelSystem:
		return SiteObject
	case levelUser:
		return profileID(instance)
	case levelCategory:
		return categoryID(instance)
	case levelCourse:
		return courseID(instance)
	case levelModule:
		return moduleID(instance)
	}
	return ""
}

// grantSets makes the grant set of every context (nil for one without object)
// of the assignments there.
func (s *site) grantSets(ctx context.Context, contexts, rows []assignment) ([]*belfry.GrantSet, error) {
	courses, err := s.coursesOf(ctx, contexts)
	if err != nil {
		return nil, err
	}
	var need []int64 // courses whose enrolments count
	for _, a := range rows {
		if c := courses[a.context]; c.id != 0 && !c.frontPage && !slices.Contains(need, c.id) {
			need = append(need, c.id)
		}
	}
	enrolled, err := s.enrolments(ctx, need, 0)
	if err != nil {
		return nil, err
	}
	by := map[int64][]assignment{}
	for _, a := range rows {
		by[a.context] = append(by[a.context], a)
	}
	out := make([]*belfry.GrantSet, len(contexts))
	for i, c := range contexts {
		object := objectOf(c.level, c.instance)
		if object == "" {
			continue
		}
		set := &belfry.GrantSet{Object: object, Origin: s.origin, Grants: []belfry.Grant{}}
		for _, a := range by[c.context] {
			if g, ok := s.grant(object, a, courses[c.context], enrolled); ok {
				set.Grants = append(set.Grants, g)
			}
		}
		set.Grants = append(set.Grants, s.specialGrants(c.level, courses[c.context])...)
		sortGrants(set.Grants)
		out[i] = set
	}
	return out, nil
}

func sortGrants(g []belfry.Grant) {
	sort.Slice(g, func(i, j int) bool {
		if g[i].Principal != g[j].Principal {
			return g[i].Principal < g[j].Principal
		}
		return g[i].Role < g[j].Role
	})
}

func (s *site) grant(object string, a assignment, course courseRef, enrolled map[enrolKey]enrolment) (belfry.Grant, bool) {
	role := s.roles[a.role]
	if role == "" {
		return belfry.Grant{}, false
	}
	g := belfry.Grant{Principal: userID(a.user), Role: role, Object: object, Origin: s.origin}
	// Above courses, and on the front page, nobody is enrolled.
	if course.id != 0 && !course.frontPage {
		e, ok := enrolled[enrolKey{course.id, a.user}]
		if !ok {
			e.inactive = inactiveNone
		}
		g.Inactive, g.From, g.Until = e.inactive, e.from, e.until
	}
	return g, true
}

// specialGrants are those without role assignment: administrators, and the
// roles that everybody has.
func (s *site) specialGrants(level int64, course courseRef) []belfry.Grant {
	var out []belfry.Grant
	everybody := func(object, setting string) {
		if role := s.setRole(setting); role != "" {
			out = append(out, belfry.Grant{Principal: belfry.GroupAuthenticated, Role: role, Object: object, Origin: s.origin})
		}
	}
	switch {
	case level == levelSystem:
		for _, text := range strings.Split(s.config["siteadmins"], ",") {
			if id, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil && id > 0 {
				out = append(out, belfry.Grant{Principal: userID(id), Role: RoleSiteAdmin, Object: SiteObject, Origin: s.origin})
			}
		}
		everybody(SiteObject, "defaultuserroleid")
	case level == levelCourse && course.frontPage:
		everybody(courseID(course.id), "defaultfrontpageroleid")
	}
	return out
}

// courseRef is the course that a context is in; id 0 = it is above courses.
type courseRef struct {
	id        int64
	frontPage bool
}

// coursesOf finds the course of every context at or below course level, by the
// tables for modules and by the context's path for other levels.
func (s *site) coursesOf(ctx context.Context, contexts []assignment) (map[int64]courseRef, error) {
	out := map[int64]courseRef{}
	var modules []int64
	for _, c := range contexts {
		switch c.level {
		case levelCourse:
			out[c.context] = courseRef{id: c.instance}
		case levelModule:
			modules = append(modules, c.instance)
		}
	}
	course := map[int64]int64{}
	if len(modules) > 0 {
		_, err := sqlread.Select(ctx, s.db, "SELECT id, course FROM {course_modules} WHERE id IN "+sqlread.In(len(modules)), sqlread.Args(modules), func(rows *sql.Rows) (struct{}, error) {
			var id, in int64
			err := rows.Scan(&id, &in)
			course[id] = in
			return struct{}{}, err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, c := range contexts {
		if c.level == levelModule {
			out[c.context] = courseRef{id: course[c.instance]}
		}
	}
	front, err := sqlread.Select(ctx, s.db, "SELECT id FROM {course} WHERE category = 0", nil, sqlread.Int64)
	if err != nil {
		return nil, err
	}
	for id, c := range out {
		c.frontPage = slices.Contains(front, c.id)
		out[id] = c
	}
	return out, nil
}

type enrolKey struct{ course, user int64 }

// enrolment is what all enrolments of a user in a course come to.
type enrolment struct {
	inactive    string
	from, until *time.Time
	rank        int
	end         int64
}

// enrolments reads the enrolments of courses, of one user when user is not 0.
func (s *site) enrolments(ctx context.Context, courses []int64, user int64) (map[enrolKey]enrolment, error) {
	out := map[enrolKey]enrolment{}
	if len(courses) == 0 {
		return out, nil
	}
	query, args := "SELECT e.courseid, ue.userid, ue.status, e.status, ue.timestart, ue.timeend FROM {enrol} e JOIN {user_enrolments} ue ON ue.enrolid = e.id WHERE e.courseid IN "+sqlread.In(len(courses)), sqlread.Args(courses)
	if user != 0 {
		query, args = query+" AND ue.userid = ?", append(args, user)
	}
	now := s.now().Unix()
	_, err := sqlread.Select(ctx, s.db, query, args, func(rows *sql.Rows) (struct{}, error) {
		var k enrolKey
		var status, method, start, end int64
		if err := rows.Scan(&k.course, &k.user, &status, &method, &start, &end); err != nil {
			return struct{}{}, err
		}
		next := enrolmentOf(status, method, start, end, now)
		if have, ok := out[k]; !ok || next.rank > have.rank || next.rank == have.rank && next.end > have.end {
			out[k] = next
		}
		return struct{}{}, nil
	})
	return out, err
}

// enrolmentOf weighs one enrolment: one that counts now beats one that will,
// that beats one that did, and so on; among equals the one that ends last.
// Windows become a grant's own, so that time passing needs no new sync.
func enrolmentOf(status, method, start, end, now int64) enrolment {
	e := enrolment{end: end}
	if end == 0 || end >= noEnd {
		e.end = noEnd
	} else {
		until := time.Unix(end, 0).UTC()
		e.until = &until
	}
	if start > 0 {
		from := time.Unix(start, 0).UTC()
		e.from = &from
	}
	switch {
	case status != 0:
		e.inactive, e.rank = inactiveSuspended, 0
	case method != 0:
		e.inactive, e.rank = inactiveMethod, 1
	case e.end <= now:
		e.rank = 2
	case start > now:
		e.rank, e.end = 3, -start // the next one to begin
	default:
		e.rank = 4
	}
	return e
}

// personGrants reads the grants of one user in one context, or, with below, in
// it and everywhere under it: one GrantSet of the person for each context
// where she holds a role, and for the context itself in any case. ok is false
// when the context is gone: then what was known of it is left as it is, since
// events about its deletion resolve against that.
func (s *site) personGrants(ctx context.Context, contextID, user int64, below bool) (sets []personSet, ok bool, err error) {
	own, err := sqlread.Select(ctx, s.db, "SELECT id, contextlevel, instanceid, path FROM {context} WHERE id = ?", []any{contextID}, func(rows *sql.Rows) (a assignment, err error) {
		return a, rows.Scan(&a.context, &a.level, &a.instance, &a.path)
	})
	if err != nil || len(own) == 0 {
		return nil, false, err
	}
	condition, args := "ra.userid = ? AND ra.contextid = ?", []any{user, contextID}
	if below && own[0].path.String != "" {
		// A path holds digits and slashes only, so it has no wildcard of LIKE.
		condition, args = "ra.userid = ? AND (ra.contextid = ? OR c.path LIKE ?)", append(args, own[0].path.String+"/%")
	}
	rows, err := s.assignments(ctx, condition, args)
	if err != nil {
		return nil, false, err
	}
	contexts := own
	for _, a := range rows {
		if !slices.ContainsFunc(contexts, func(c assignment) bool { return c.context == a.context }) {
			contexts = append(contexts, a)
		}
	}
	courses, err := s.coursesOf(ctx, contexts)
	if err != nil {
		return nil, false, err
	}
	var need []int64
	for _, c := range courses {
		if !c.frontPage && !slices.Contains(need, c.id) {
			need = append(need, c.id)
		}
	}
	enrolled, err := s.enrolments(ctx, need, user)
	if err != nil {
		return nil, false, err
	}
	for _, c := range contexts {
		object := objectOf(c.level, c.instance)
		if object == "" {
			continue
		}
		set := belfry.GrantSet{Object: object, Origin: s.origin, Principal: userID(user), Grants: []belfry.Grant{}}
		for _, a := range rows {
			if a.context != c.context {
				continue
			}
			if g, ok := s.grant(object, a, courses[c.context], enrolled); ok {
				set.Grants = append(set.Grants, g)
			}
		}
		for _, g := range s.specialGrants(c.level, courses[c.context]) {
			if g.Principal == set.Principal {
				set.Grants = append(set.Grants, g)
			}
		}
		sortGrants(set.Grants)
		sets = append(sets, personSet{c.context, set})
	}
	return sets, true, nil
}

// personSet is the grants of one person in one context.
type personSet struct {
	context int64
	set     belfry.GrantSet
}

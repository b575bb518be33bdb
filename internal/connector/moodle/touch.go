package moodle

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// touched is what the rows of the log say must be read again.
type touched struct {
	ids      [kinds]map[int64]bool
	people   map[[2]int64]bool // (context, user) -> also everywhere below the context
	subtrees map[int64]bool    // categories with everything under them
	courses  map[int64]bool    // courses with everything in them
	roles    bool              // the list of roles
	config   bool              // settings of the site
}

func newTouched() *touched {
	t := &touched{people: map[[2]int64]bool{}, subtrees: map[int64]bool{}, courses: map[int64]bool{}}
	for k := range t.ids {
		t.ids[k] = map[int64]bool{}
	}
	return t
}

func (t *touched) add(k kind, id int64) {
	if id > 0 {
		t.ids[k][id] = true
	}
}

// row notes what an event changed in the directory. The log says only what
// happened to what; how it is now is read from the tables.
func (t *touched) row(r *logRow, typ string, other otherFields) {
	id := r.ObjectID.Int64
	component, name, _ := strings.Cut(typ, ".")
	if component == "mod_forum" {
		t.add(kindDiscussion, forumDiscussion(r, other))
		return
	}
	if r.ObjectTable.String == "assign_submission" || strings.HasPrefix(component, "assignsubmission_") {
		if r.ContextLevel == 70 { // who is still at work on it may have changed
			t.add(kindModule, r.InstanceID)
		}
		return
	}
	if component != "core" {
		return
	}
	switch name {
	case "user_created", "user_updated", "user_deleted":
		t.add(kindUser, id)
	case "role_assigned", "role_unassigned":
		if key := [2]int64{r.ContextID, r.RelatedID.Int64}; !t.people[key] {
			t.people[key] = false
		}
	case "user_enrolment_created", "user_enrolment_updated", "user_enrolment_deleted":
		t.people[[2]int64{r.ContextID, r.RelatedID.Int64}] = true
	case "enrol_instance_created", "enrol_instance_updated", "enrol_instance_deleted", "course_restored", "course_reset_ended", "course_section_updated", "course_section_deleted":
		t.courses[r.CourseID.Int64] = true
	case "course_created", "course_updated", "course_deleted":
		t.add(kindCourse, id)
	case "course_category_created":
		t.add(kindCategory, id)
	case "course_category_updated":
		// Hiding and moving change everything below, and no event says so.
		t.add(kindCategory, id)
		t.subtrees[id] = true
	case "course_category_deleted":
		t.add(kindCategory, id)
		if to := other.number("contentmovedcategoryid"); to > 0 {
			t.subtrees[to] = true
		}
	case "course_module_created", "course_module_updated", "course_module_deleted":
		t.add(kindModule, id)
	case "group_created", "group_updated", "group_deleted", "group_member_added", "group_member_removed":
		t.add(kindGroup, id)
	case "cohort_created", "cohort_updated", "cohort_deleted", "cohort_member_added", "cohort_member_removed":
		t.add(kindCohort, id)
	case "role_created", "role_updated", "role_deleted":
		t.roles = true
	case "config_log_created":
		switch other.text("name") {
		case "siteadmins", "siteguest", "defaultuserroleid", "defaultfrontpageroleid":
			t.config = true
		}
	}
}

// forumDiscussion is the discussion that an event of the forum is about, 0 =
// none.
func forumDiscussion(r *logRow, other otherFields) int64 {
	if r.ObjectTable.String == "forum_discussions" {
		return r.ObjectID.Int64
	}
	return max(other.number("discussionid"), other.number("discussion"))
}

// expand turns subtrees and whole courses into ids.
func (t *touched) expand(ctx context.Context, s *site) error {
	for _, id := range slices.Sorted(maps.Keys(t.subtrees)) {
		paths, err := sqlread.Select(ctx, s.db, "SELECT path FROM {course_categories} WHERE id = ? AND path IS NOT NULL", []any{id}, sqlread.Text)
		if err != nil {
			return err
		}
		for _, path := range paths {
			below := []any{path, path + "/%"} // digits and slashes: no wildcards
			if err := t.query(ctx, s, kindCategory, "SELECT id FROM {course_categories} WHERE path = ? OR path LIKE ?", below); err != nil {
				return err
			}
			if err := t.query(ctx, s, kindCourse, "SELECT c.id FROM {course} c JOIN {course_categories} g ON g.id = c.category WHERE g.path = ? OR g.path LIKE ?", below); err != nil {
				return err
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.courses)) {
		t.add(kindCourse, id)
		if err := t.query(ctx, s, kindModule, "SELECT id FROM {course_modules} WHERE course = ?", []any{id}); err != nil {
			return err
		}
		if err := t.query(ctx, s, kindGroup, "SELECT id FROM {groups} WHERE courseid = ?", []any{id}); err != nil {
			return err
		}
		if s.forum != 0 && !s.absent["forum_discussions"] {
			if err := t.query(ctx, s, kindDiscussion, "SELECT id FROM {forum_discussions} WHERE course = ?", []any{id}); err != nil {
				return err
			}
		}
		paths, err := sqlread.Select(ctx, s.db, "SELECT path FROM {context} WHERE contextlevel = 50 AND instanceid = ? AND path IS NOT NULL", []any{id}, sqlread.Text)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := t.query(ctx, s, kindGrants, "SELECT DISTINCT ra.contextid FROM {context} c JOIN {role_assignments} ra ON ra.contextid = c.id WHERE c.path = ? OR c.path LIKE ?", []any{path, path + "/%"}); err != nil {
				return err
			}
			if err := t.query(ctx, s, kindGrants, "SELECT id FROM {context} WHERE path = ?", []any{path}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *touched) query(ctx context.Context, s *site, k kind, query string, args []any) error {
	ids, err := sqlread.Select(ctx, s.db, query, args, sqlread.Int64)
	for _, id := range ids {
		t.add(k, id)
	}
	return err
}

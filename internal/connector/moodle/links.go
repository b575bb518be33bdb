package moodle

import (
	"encoding/json"
	"net/url"
	"strconv"
)

// links builds the addresses of what events speak of, under the site's
// address (without a slash at its end). Moodle keeps none of them in its log.
type links struct{ root string }

func (l links) at(path string, pairs ...any) string {
	out := l.root + path
	for i := 0; i+1 < len(pairs); i += 2 {
		sep := "?"
		if i > 0 {
			sep = "&"
		}
		value := ""
		switch v := pairs[i+1].(type) {
		case int64:
			value = strconv.FormatInt(v, 10)
		case string:
			value = url.QueryEscape(v)
		}
		out += sep + pairs[i].(string) + "=" + value
	}
	return out
}

func (l links) category(id int64) string { return l.at("/course/index.php", "categoryid", id) }
func (l links) course(id int64) string   { return l.at("/course/view.php", "id", id) }
func (l links) module(name string, cm int64) string {
	return l.at("/mod/"+name+"/view.php", "id", cm)
}
func (l links) discussion(id int64) string { return l.at("/mod/forum/discuss.php", "d", id) }
func (l links) profile(id int64) string    { return l.at("/user/profile.php", "id", id) }

// event is the address of the page that shows what the event speaks of; empty
// when there is none. module is the name of the activity module of the event's
// context, empty when it has none or is not known.
func (l links) event(r *logRow, typ string, other otherFields, module string) string {
	id := r.ObjectID.Int64
	switch typ {
	case "core.course_deleted", "core.course_content_deleted", "core.course_category_deleted", "core.user_deleted":
		return ""
	case "core.course_created":
		return l.course(id)
	case "core.course_updated":
		return l.at("/course/edit.php", "id", id)
	case "core.course_category_created":
		return l.at("/course/management.php", "categoryid", id)
	case "core.course_category_updated":
		return l.at("/course/editcategory.php", "id", id)
	case "core.user_enrolment_created", "core.user_enrolment_deleted":
		return l.at("/user/index.php", "id", r.CourseID.Int64)
	case "core.user_enrolment_updated":
		return l.at("/enrol/editenrolment.php", "ue", id)
	case "core.course_completed":
		return l.at("/report/completion/index.php", "course", r.CourseID.Int64)
	case "core.course_module_completion_updated":
		return l.at("/report/progress/index.php", "course", r.CourseID.Int64)
	case "core.course_module_created", "core.course_module_updated":
		if name := other.text("modulename"); moduleName(name) {
			return l.module(name, id)
		}
	case "core.course_module_deleted":
		return l.course(r.CourseID.Int64)
	case "core.user_created", "core.user_updated":
		return l.at("/user/view.php", "id", id)
	case "core.role_assigned", "core.role_unassigned":
		return l.at("/admin/roles/assign.php", "contextid", r.ContextID, "roleid", id)
	case "core.notification_sent":
		return l.at("/message/output/popup/notifications.php", "notificationid", id)
	case "mod_forum.discussion_created", "mod_forum.discussion_updated", "mod_forum.discussion_viewed":
		return l.discussion(id)
	case "mod_forum.post_created", "mod_forum.post_updated":
		if other.text("forumtype") == "single" {
			return l.at("/mod/forum/view.php", "f", other.number("forumid"))
		}
		return l.discussion(other.number("discussionid")) + "#p" + strconv.FormatInt(id, 10)
	case "mod_forum.assessable_uploaded":
		if d := other.number("discussionid"); d > 0 {
			return l.discussion(d) + "#p" + strconv.FormatInt(id, 10)
		}
	case "mod_quiz.attempt_submitted":
		return l.at("/mod/quiz/review.php", "attempt", id)
	}
	switch r.ContextLevel {
	case levelModule:
		if module == "" && r.Target == "course_module" && r.Action == "viewed" && moduleName(r.ObjectTable.String) {
			module = r.ObjectTable.String
		}
		if module != "" {
			return l.module(module, r.InstanceID)
		}
		return l.course(r.CourseID.Int64)
	case levelCourse:
		return l.course(r.InstanceID)
	case levelUser:
		return l.profile(r.InstanceID)
	case levelCategory:
		return l.category(r.InstanceID)
	}
	return ""
}

// otherFields is the decoded column other, when it is an object. Moodle writes
// a number now as a number, now as a string.
type otherFields map[string]json.RawMessage

func fieldsOf(other json.RawMessage) otherFields {
	var out otherFields
	if json.Unmarshal(other, &out) != nil {
		return nil
	}
	return out
}

func (o otherFields) text(name string) string {
	var s string
	if json.Unmarshal(o[name], &s) != nil {
		return ""
	}
	return s
}

// number reads a whole number, also from a string; 0 when it is none.
func (o otherFields) number(name string) int64 {
	raw := string(o[name])
	if s := o.text(name); s != "" {
		raw = s
	}
	n, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// moduleName reports whether s can be the name of an activity module, which is
// also the name of its table.
func moduleName(s string) bool {
	if s == "" || len(s) > 50 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

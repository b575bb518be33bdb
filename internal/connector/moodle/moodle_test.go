package moodle_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/connector/connectortest"
	"github.com/belfryhq/belfry/internal/connector/moodle"
	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

const wwwroot = "https://school.example/moodle"

// engine is one of the two dumps; facts that differ are fields.
type engine struct {
	name    string
	load    func(testing.TB) string
	rows    int
	sent    int   // notification_sent
	php     int64 // first id of the 12 PHP-serialized rows
	unorder int64 // the id whose time is before the row's before it
}

var engines = []engine{
	{"PostgreSQL", testdb.MoodlePostgres, 872, 211, 743, 756},
	{"MariaDB", testdb.MoodleMariaDB, 873, 212, 753, 766},
}

func onBoth(t *testing.T, test func(t *testing.T, e engine, s *school)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, e, newSchool(t, e.load(t))) })
	}
}

// school is a Moodle database with hands to change it, as Moodle would.
type school struct {
	t   *testing.T
	dsn string
	db  *sql.DB
}

func newSchool(t *testing.T, dsn string) *school {
	return &school{t: t, dsn: dsn, db: testdb.Open(t, dsn)}
}

func (s *school) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.db.Exec(s.sql(query), args...); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

// together runs statements in one transaction.
func (s *school) together(statements ...string) {
	s.t.Helper()
	tx, err := s.db.Begin()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, q := range statements {
		if _, err := tx.Exec(q); err != nil {
			s.t.Fatalf("%s: %v", q, err)
		}
	}
	if err := tx.Commit(); err != nil {
		s.t.Fatal(err)
	}
}

// sql writes $n for PostgreSQL.
func (s *school) sql(query string) string {
	if strings.HasPrefix(s.dsn, "mysql") {
		return query
	}
	var b strings.Builder
	n := 0
	for _, c := range query {
		if c == '?' {
			n++
			b.WriteString("$" + strconv.Itoa(n))
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (s *school) number(query string, args ...any) int64 {
	s.t.Helper()
	var n int64
	if err := s.db.QueryRow(s.sql(query), args...).Scan(&n); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (s *school) top() int64 { return s.number("SELECT max(id) FROM mdl_logstore_standard_log") }

// row is a log row to write; zero fields get likely values.
type row struct {
	id                       int64 // 0 = the next
	event                    string
	table                    string
	object                   int64
	crud                     string
	context, level, instance int64
	user, course, related    int64
	other                    string
	created                  int64
}

// log writes a row as Moodle does and gives its event's id.
func (s *school) log(r row) string {
	s.t.Helper()
	if r.id == 0 {
		r.id = s.top() + 1
	}
	if r.created == 0 {
		r.created = time.Now().Unix()
	}
	if r.crud == "" {
		r.crud = "u"
	}
	if r.other == "" {
		r.other = "null"
	}
	if r.context == 0 && r.level == 0 {
		r.context, r.level, r.instance, r.course = 57, 50, 2, 2
	}
	parts := strings.Split(r.event, `\`)
	last := parts[3]
	i := strings.LastIndexByte(last, '_')
	null := func(n int64) any {
		if n == 0 {
			return nil
		}
		return n
	}
	var table any
	if r.table != "" {
		table = r.table
	}
	s.exec(`INSERT INTO mdl_logstore_standard_log (id, eventname, component, action, target, objecttable, objectid, crud, edulevel, contextid, contextlevel, contextinstanceid, userid, courseid, relateduserid, anonymous, other, timecreated, origin, ip, realuserid)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, 0, ?, ?, 'web', '192.0.2.7', 987654)`,
		r.id, r.event, parts[1], last[i+1:], last[:i], table, null(r.object), r.crud, r.context, r.level, r.instance, r.user, r.course, null(r.related), r.other, r.created)
	return fmt.Sprintf("%d-%d", r.id, r.created)
}

var viewed = row{event: `\core\event\course_viewed`, crud: "r", user: 14}

// source makes a source of the school.
func (s *school) source(settings ...string) connector.Source {
	s.t.Helper()
	src, err := moodle.Kind().New(deps(s.t), s.settings(settings...))
	if err != nil {
		s.t.Fatal(err)
	}
	return src
}

func (s *school) settings(pairs ...string) map[string]string {
	out := map[string]string{"dsn": s.dsn, "wwwroot": wwwroot + "/", "poll": "20ms"}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

func deps(t *testing.T) connector.Deps {
	return connector.Deps{Name: "school", Kind: "moodle", Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now}
}

// start runs a source from now on and waits for its first sync.
func (s *school) start(settings ...string) (*connectortest.Recorder, func()) {
	s.t.Helper()
	sink := connectortest.NewRecorder()
	stop := connectortest.Start(s.t, s.source(settings...), sink)
	sink.Await(s.t, "the first sync", tailing)
	return sink, stop
}

func tailing(r *connectortest.Recorded) bool {
	return r.Status.State == connector.StateTailing && r.Cursor != nil
}

func has(ids ...string) func(*connectortest.Recorded) bool {
	return func(r *connectortest.Recorded) bool {
		for _, id := range ids {
			if _, ok := r.ByID[id]; !ok {
				return false
			}
		}
		return true
	}
}

// fields are those of an event's data.
func fields(t *testing.T, e belfry.Event) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(e.Data, &out); err != nil {
		t.Fatalf("data of %s: %v", e.ID, err)
	}
	return out
}

func users(numbers ...int) []string {
	var out []string
	for _, n := range numbers { // uNN has the id NN+2
		out = append(out, "user/"+strconv.Itoa(n+2))
	}
	slices.Sort(out)
	return out
}

func byLogID(r *connectortest.Recorded, id int64) belfry.Event {
	for _, e := range r.Events {
		if strings.HasPrefix(e.ID, strconv.FormatInt(id, 10)+"-") {
			return e
		}
	}
	return belfry.Event{}
}

// feature: MDL-13
// feature: MDL-15
// feature: MDL-17
func TestTheWholeSiteFromTheBeginning(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		sink, stop := s.start("start", "beginning")
		sink.Await(t, "all rows", func(r *connectortest.Recorded) bool { return len(r.Events) >= e.rows })
		stop()
		sink.Look(func(r *connectortest.Recorded) {
			t.Run("events", func(t *testing.T) { wholeLog(t, e, r) })
			t.Run("tree", func(t *testing.T) { wholeTree(t, r) })
			t.Run("people", func(t *testing.T) { wholePeople(t, r) })
			t.Run("roles", func(t *testing.T) { wholeRoles(t, r) })
			t.Run("groups", func(t *testing.T) { wholeGroups(t, r) })
			t.Run("catalogue", func(t *testing.T) { wholeCatalogue(t, r) })
			t.Run("rows", func(t *testing.T) { oddRows(t, e, r) })
		})
	})
}

// counts are the README's, the same on both engines but for notification_sent.
const counts = `assignsubmission_onlinetext.assessable_uploaded 8, assignsubmission_onlinetext.submission_created 8, core.calendar_event_created 2, core.capability_assigned 2,
core.cohort_created 2, core.cohort_member_added 6, core.cohort_member_removed 1, core.course_backup_created 2, core.course_category_created 6, core.course_category_deleted 2,
core.course_category_updated 4, core.course_category_viewed 1, core.course_completed 4, core.course_completion_updated 2, core.course_content_deleted 2, core.course_created 9,
core.course_deleted 2, core.course_module_completion_updated 30, core.course_module_created 11, core.course_module_deleted 1, core.course_module_updated 2, core.course_reset_ended 1,
core.course_reset_started 1, core.course_section_created 9, core.course_updated 5, core.course_viewed 15, core.dashboard_viewed 7, core.enrol_instance_created 28, core.enrol_instance_deleted 6,
core.enrol_instance_updated 1, core.grade_deleted 5, core.grade_item_created 8, core.grade_item_deleted 3, core.grade_item_updated 18, core.group_created 3, core.group_deleted 1,
core.group_member_added 6, core.group_member_removed 1, core.message_contact_added 1, core.message_sent 11, core.message_viewed 1, core.notification_viewed 1, core.question_created 1,
core.role_assigned 85, core.role_created 3, core.role_deleted 1, core.role_unassigned 17, core.url_blocked 1, core.user_created 40, core.user_deleted 1, core.user_enrolment_created 74,
core.user_enrolment_deleted 15, core.user_enrolment_updated 2, core.user_graded 10, core.user_list_viewed 2, core.user_loggedin 5, core.user_loggedinas 1, core.user_loggedout 3,
core.user_login_failed 10, core.user_password_updated 41, core.user_profile_viewed 2, core.user_updated 3, core.webservice_function_called 19, core.webservice_login_failed 1,
core.webservice_token_created 4, core.webservice_token_sent 4, gradereport_grader.grade_report_viewed 1, gradereport_user.grade_report_viewed 1, mod_assign.assessable_submitted 7,
mod_assign.course_module_viewed 3, mod_assign.extension_granted 1, mod_assign.feedback_viewed 1, mod_assign.grading_table_viewed 1, mod_assign.statement_accepted 5,
mod_assign.submission_graded 5, mod_assign.submission_status_updated 1, mod_assign.submission_status_viewed 1, mod_feedback.response_submitted 1, mod_forum.assessable_uploaded 11,
mod_forum.course_module_viewed 2, mod_forum.discussion_created 7, mod_forum.discussion_deleted 1, mod_forum.discussion_lock_updated 1, mod_forum.discussion_subscription_created 2,
mod_forum.discussion_viewed 2, mod_forum.post_created 3, mod_forum.post_deleted 2, mod_forum.post_updated 1, mod_page.course_module_viewed 10, mod_quiz.attempt_started 2,
mod_quiz.attempt_submitted 1, mod_quiz.slot_created 1, tool_recyclebin.category_bin_item_created 2, tool_recyclebin.course_bin_item_created 1`

func wholeLog(t *testing.T, e engine, r *connectortest.Recorded) {
	want := map[string]int{"core.notification_sent": e.sent}
	for _, part := range strings.Split(counts, ",") {
		f := strings.Fields(part)
		want[f[0]], _ = strconv.Atoi(f[1])
	}
	got := map[string]int{}
	nobody, system := 0, 0
	for i, ev := range r.Events {
		got[ev.Type]++
		if ev.Source != "moodle/school" {
			t.Errorf("%s has the source %q", ev.ID, ev.Source)
		}
		if want := fmt.Sprintf("%d-%d", i+1, ev.Time.Unix()); ev.ID != want {
			t.Errorf("event %d has the id %s, want %s", i, ev.ID, want)
		}
		data := fields(t, ev)
		for _, never := range []string{"realuserid", "ip", "sessionid"} {
			if _, there := data[never]; there || strings.Contains(string(ev.Data), `"sessionid"`) {
				t.Errorf("%s tells %s", ev.ID, never)
			}
		}
		switch data["userid"] {
		case 0.0:
			nobody++
			if ev.Actor != "" {
				t.Errorf("%s has the actor %s", ev.ID, ev.Actor)
			}
		case -1.0:
			system++
			if ev.Actor != "" {
				t.Errorf("%s has the actor %s", ev.ID, ev.Actor)
			}
		}
		if _, ok := r.Objects[ev.Object]; !ok {
			t.Errorf("%s %s is on %s, which is not in the tree", ev.ID, ev.Type, ev.Object)
		}
		if last := r.Ancestors(ev.Object); last[len(last)-1] != "site" {
			t.Errorf("%s %s is on %s, outside the site", ev.ID, ev.Type, ev.Object)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events by type (-want +got):\n%s", diff)
	}
	// MariaDB's one more notification is cron's.
	if want := 29 + e.sent - 211; nobody != want || system != 5 {
		t.Errorf("%d by nobody, %d by the system; want %d and 5", nobody, system, want)
	}
	if n := r.Status.Counters["restored_rows_dropped"]; n != 0 {
		t.Errorf("%d rows were taken for restored ones", n)
	}
}

func wholeTree(t *testing.T, r *connectortest.Recorded) {
	for id, want := range map[string]string{
		"category/1": "Category 1 < site", "category/2": "Science < site", "category/3": "Physics < category/2", "category/4": "Quantum physics < category/2", "category/5": "Humanities & Arts < site",
		"course/1": "Testbed Moodle < site", "site": "Testbed Moodle < ", "course/2": "Classical mechanics < category/3", "course/3": `Quantum mechanics: "spin" & O'Brien's claim < category/4`,
		"course/4": "Chimie générale — 化学 🧪 (2e éd.) < category/2", "course/5": "History of ideas < category/5", "course/6": "English composition (renamed) < category/5",
		"course/8": "Old project course < category/5", "course/10": "Optics lab < category/4",
		"module/1": "Announcements < course/2", "module/10": "Announcements < course/2", "module/11": "General discussion < course/2", "module/12": "Read me first (v2) < course/2",
		"module/14": "Problem set 1: <i>pendulum</i> & friends < course/2", "module/3": "Announcements < course/4", "module/9": "Announcements < course/10",
		"module/16": "Q&A < course/3", "module/17": "Essay < course/3", "module/19": "Anonymous opinion < course/5",
		"discussion/1": "Welcome to PHY101 < module/10", "discussion/2": `How heavy is "g" & is 5 > 3? < module/11`, "discussion/4": "Cat status? < module/16", "discussion/7": "Sérialisé < module/11",
		"profile/14": "Łukasz Nowak < site",
	} {
		o := r.Objects[id]
		if got := o.Title + " < " + o.Parent; got != want || o.Deleted != nil {
			t.Errorf("%s is %q (deleted: %v), want %q", id, got, o.Deleted != nil, want)
		}
	}
	for id, want := range map[string]string{
		"site": wwwroot + "/", "category/2": wwwroot + "/course/index.php?categoryid=2", "course/2": wwwroot + "/course/view.php?id=2", "module/14": wwwroot + "/mod/assign/view.php?id=14",
		"discussion/2": wwwroot + "/mod/forum/discuss.php?d=2", "profile/14": wwwroot + "/user/profile.php?id=14",
	} {
		if got := r.Objects[id].URL; got != want {
			t.Errorf("%s is at %s, want %s", id, got, want)
		}
	}
	for id, want := range map[string]string{"module/11": "forum", "module/14": "assign", "module/20": "quiz", "module/13": "label", "module/19": "feedback", "course/2": "course", "site": "site"} {
		if got := r.Objects[id].Type; got != want {
			t.Errorf("%s is of type %q, want %q", id, got, want)
		}
	}
	for id, want := range map[string]string{"category/6": "Old projects", "category/7": "Trash", "course/7": "Temporary course", "course/9": "Trash course", "module/15": "Problem set 2 (deleted later)", "profile/42": "Olga Ladyzhenskaya"} {
		if o := r.Objects[id]; o.Deleted == nil || o.Title != want {
			t.Errorf("%s is %q, deleted %v; want %q, deleted", id, o.Title, o.Deleted != nil, want)
		}
	}
	if o := r.Objects["module/15"]; o.Parent != "course/2" || o.Type != "assign" {
		t.Errorf("the deleted assignment is a %s below %s", o.Type, o.Parent)
	}
}

func wholePeople(t *testing.T, r *connectortest.Recorded) {
	if len(r.Users) != 42 {
		t.Errorf("%d users, want 42", len(r.Users))
	}
	states := map[string][]string{}
	for id, u := range r.Users {
		if u.State != belfry.UserActive {
			states[u.State] = append(states[u.State], id)
		}
		reachable := u.Email != "" && len(u.Contacts) == 1 && u.Contacts[0].Address == u.Email && u.Contacts[0].Kind == "email" && u.Contacts[0].Verified
		if want := id != "user/42" && id != "user/1"; reachable != want {
			t.Errorf("%s is reachable: %v (%q, %v)", id, reachable, u.Email, u.Contacts)
		}
	}
	for _, ids := range states {
		slices.Sort(ids)
	}
	if diff := cmp.Diff(map[string][]string{"suspended": {"user/1", "user/41"}, "deleted": {"user/42"}}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	u := r.Users["user/25"]
	if u.Name != "Wang 李" || u.Locale != "en" || u.TimeZone != "" || u.Email != "u23@example.org" {
		t.Errorf("u23 is %+v", u)
	}
	if !strings.Contains(string(u.Attributes), `"idnumber":"ID1023"`) {
		t.Errorf("u23 has the attributes %s", u.Attributes)
	}
	if len(r.Settings) != 0 {
		t.Errorf("settings %v, want none", r.Settings)
	}
}

func wholeRoles(t *testing.T, r *connectortest.Recorded) {
	now := time.Now()
	for _, tc := range []struct {
		object string
		roles  []string
		want   []string
	}{
		{"course/2", []string{"editingteacher"}, users(4, 5)},
		{"course/2", []string{"editingteacher", "teacher"}, users(4, 5, 6, 10)}, // u10 by category 3
		{"module/11", []string{"editingteacher", "teacher"}, users(4, 5, 6, 10)},
		{"course/2", []string{"manager"}, users(1, 11)},
		{"course/3", []string{"manager"}, users(1, 2, 11)},
		{"course/10", []string{"manager"}, users(1, 2, 11)},
		{"course/2", []string{"student"}, users(12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)},
		{"course/3", []string{"student"}, users(20, 21, 22, 23, 24, 25, 26, 27, 28, 29)},
		{"course/3", []string{"teacher"}, users(20)},
		{"module/16", []string{"teacher"}, users(20, 27)},
		{"course/4", []string{"labassistant"}, users(33)},
		{"course/5", []string{"teacher"}, users(6, 10)},
		{"course/6", []string{"student"}, users(16, 17, 18)},
		{"course/8", []string{"editingteacher"}, users(9)},
		{"course/8", []string{"student"}, users(12, 13)},
		{"profile/14", []string{"parent"}, users(34)},
		{"category/2", []string{"coursecreator"}, nil},
		{"course/2", []string{"siteadmin"}, []string{"user/2"}},
		{"site", []string{"user"}, []string{"authenticated"}},
		{"course/1", []string{"frontpage"}, []string{"authenticated"}},
		{"course/2", []string{"frontpage"}, nil},
	} {
		if diff := cmp.Diff(tc.want, r.Holders(tc.object, now, false, tc.roles...)); diff != "" {
			t.Errorf("%v of %s (-want +got):\n%s", tc.roles, tc.object, diff)
		}
	}
	// What everybody has is no reason to see: it ends at the site.
	for id, o := range r.Objects {
		if o.Parent == "site" && o.Deleted == nil && !o.BlocksRole("user") {
			t.Errorf("%s inherits the role of all users", id)
		}
	}
	// feature: MDL-16
	if diff := cmp.Diff(users(24, 25), r.Holders("course/2", now, true, "student")); diff != "" {
		t.Errorf("students of PHY101 that do not count (-want +got):\n%s", diff)
	}
	for _, g := range r.Grants["course/2"] {
		why := g.InactiveAt(now)
		switch g.Principal {
		case "user/26":
			if !strings.HasPrefix(why, "expired on ") || g.Until == nil {
				t.Errorf("u24 is inactive: %q", why)
			}
		case "user/27":
			if why != "suspended enrolment" {
				t.Errorf("u25 is inactive: %q", why)
			}
		}
	}
	rows := 0
	for _, grants := range r.Grants {
		for _, g := range grants {
			if g.Role != "siteadmin" && g.Principal != "authenticated" {
				rows++
			}
		}
	}
	if rows != 68 {
		t.Errorf("%d role grants, want 68", rows)
	}
}

func wholeGroups(t *testing.T, r *connectortest.Recorded) {
	got := map[string]string{}
	for id, g := range r.Groups {
		got[id] = g.Name + ": " + strings.Join(g.Members, " ")
	}
	want := map[string]string{
		"group/1": "Lab A: " + strings.Join(users(12, 13), " "), "group/2": "Lab B: " + strings.Join(users(15, 16, 17), " "),
		"cohort/1": "First years: " + strings.Join(users(16, 17, 18), " "), "cohort/2": "Science club: " + strings.Join(users(27, 28), " "),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

func wholeCatalogue(t *testing.T, r *connectortest.Recorded) {
	for _, e := range r.Events {
		if tt, ok := r.Types[e.Type]; !ok || tt.Title == "" || strings.Contains(tt.Title, ": ") {
			t.Errorf("%s is titled %q", e.Type, tt.Title)
		}
	}
	for typ, want := range map[string]string{
		"core.course_updated": "Course updated", "core.user_enrolment_created": "User enrolled in course", "mod_assign.assessable_submitted": "A submission has been submitted",
		"core.user_loggedin": "User has logged in", "core.course_module_completion_updated": "Activity completion updated", "mod_quiz.attempt_submitted": "Attempt submitted",
	} {
		if got := r.Types[typ].Title; got != want {
			t.Errorf("%s is titled %q, want %q", typ, got, want)
		}
	}
	post := r.Types["mod_forum.post_created"]
	if !slices.Equal(post.ObjectTypes, []string{"forum", "discussion"}) {
		t.Errorf("posts happen on %v", post.ObjectTypes)
	}
	if !slices.Equal(post.SeeRoles, []string{"*"}) { // an active role there or above
		t.Errorf("posts are seen by %v", post.SeeRoles)
	}
	for _, free := range []string{"core.user_enrolment_deleted", "core.user_loggedin", "core.course_category_updated"} {
		if got := r.Types[free].SeeRoles; got != nil {
			t.Errorf("%s needs the roles %v", free, got)
		}
	}
}

// oddRows are those that the README says a reader trips over.
func oddRows(t *testing.T, e engine, r *connectortest.Recorded) {
	// PHP-serialized: twelve rows.
	wantOther := []string{`{"courseid":1}`,
		`{"shortname":"CHE101","fullname":"Chimie générale — 化学 🧪 (2e éd.)","updatedfields":{"fullname":"Chimie générale — 化学 🧪 (2e éd.)"}}`,
		`{"enrol":"manual"}`, `{"id":85,"component":"","itemid":0}`, `{"courseid":"4"}`, `{"id":"85","component":"","itemid":"0"}`, "",
		`{"username":"o'hack\"; drop--","reason":1}`,
		`{"content":"<p>é ünï 🚀</p>","pathnamehashes":[],"discussionid":7,"triggeredfrom":"forum_add_discussion"}`, `{"forumid":"11"}`,
		`{"relateduserid":"18","overrideby":null,"completionstate":1}`, `null`}
	for i, want := range wantOther {
		ev := byLogID(r, e.php+int64(i))
		var d struct {
			Other json.RawMessage `json:"other"`
		}
		if err := json.Unmarshal(ev.Data, &d); err != nil {
			t.Fatal(err)
		}
		if want != "" && string(d.Other) != want {
			t.Errorf("other of %s is %s, want %s", ev.ID, d.Other, want)
		}
	}
	// Out of order in time, in order of ids.
	a, b := byLogID(r, e.unorder-1), byLogID(r, e.unorder)
	if a.Time.Before(b.Time) || a.Time.Equal(b.Time) {
		t.Errorf("%s is not before %s", b.ID, a.ID)
	}
	// Anonymous: nobody may learn of user 33.
	anon := byLogID(r, 543)
	raw, err := json.Marshal(anon)
	if err != nil {
		t.Fatal(err)
	}
	if anon.Type != "mod_feedback.response_submitted" || !anon.Has(belfry.FlagAnonymous) || anon.Actor != "" || anon.Related != nil || anon.Record != nil || strings.Contains(string(raw), "33") {
		t.Errorf("the anonymous event is %s", raw)
	}
	if d := fields(t, anon); d["userid"] != nil || d["relateduserid"] != nil || d["objectid"] != nil || d["other"] != nil || anon.Object != "module/19" {
		t.Errorf("the anonymous event is on %s and says %v", anon.Object, d)
	}
	// The admin as the actor of cron's completion.
	found := false
	for _, ev := range r.Events {
		if ev.Type == "core.course_completed" && ev.Actor == "user/2" {
			found = slices.Equal(ev.Related, []string{"user/32"})
		}
	}
	if !found {
		t.Error("no course_completed by the admin for user 32")
	}
	// The 17 fields come first, in Moodle's order.
	updated := byLogID(r, 140)
	wantData := `{"eventname":"\\core\\event\\course_updated","component":"core","action":"updated","target":"course","objecttable":"course","objectid":6,"crud":"u","edulevel":1,"contextid":61,"contextlevel":50,"contextinstanceid":6,"userid":2,"courseid":6,"relateduserid":null,"anonymous":0,"other":{"shortname":"ENG101","fullname":"English composition (renamed)","updatedfields":{"fullname":"English composition (renamed)","visible":0}},"timecreated":` +
		strconv.FormatInt(updated.Time.Unix(), 10) + `,"origin":"cli","link":"` + wwwroot + `/course/edit.php?id=6"}`
	if string(updated.Data) != wantData {
		t.Errorf("data\n got %s\nwant %s", updated.Data, wantData)
	}
	if updated.Actor != "user/2" || updated.Object != "course/6" || updated.Subject != "English composition (renamed)" || !strings.HasPrefix(string(updated.Record), `{"id":6,"category":5,"sortorder":`) {
		t.Errorf("event %+v", updated)
	}
	// Rows that are gone have no record; a deleted user's is a short list.
	for _, ev := range r.Events {
		switch ev.Type {
		case "core.course_deleted", "core.course_category_deleted":
			if string(ev.Record) != "false" {
				t.Errorf("%s has the record %s", ev.Type, ev.Record)
			}
			if d := fields(t, ev); d["link"] != nil {
				t.Errorf("%s links to %v", ev.Type, d["link"])
			}
		case "core.webservice_token_created", "core.message_sent", "core.capability_assigned":
			if ev.Type != "core.capability_assigned" && ev.Record != nil {
				t.Errorf("%s has the record %s", ev.Type, ev.Record)
			}
		case "core.user_created", "core.user_deleted":
			for _, never := range []string{"password", "secret", "lastip", "description"} {
				if strings.Contains(string(ev.Record), never) {
					t.Errorf("%s has %s in its record", ev.Type, never)
				}
			}
			if !strings.Contains(string(ev.Record), `"username":`) {
				t.Errorf("%s has the record %s", ev.Type, ev.Record)
			}
		case "core.enrol_instance_created":
			if strings.Contains(string(ev.Record), "password") {
				t.Errorf("%s has the enrolment key's column in its record", ev.Type)
			}
		}
	}
	// Forum events happen on the discussion where there is one still.
	for id, want := range map[int64]string{409: "discussion/2", 412: "discussion/2", 406: "discussion/1", 429: "module/11", 431: "module/11", 410: "module/11", 543: "module/19"} {
		if got := byLogID(r, id).Object; got != want {
			t.Errorf("row %d happened on %s, want %s", id, got, want)
		}
	}
	for id, want := range map[int64]string{
		412: "/mod/forum/discuss.php?d=2#p3", 409: "/mod/forum/discuss.php?d=2", 406: "/mod/forum/discuss.php?d=1#p1", 143: "/user/index.php?id=2", 375: "/mod/forum/view.php?id=10",
		466: "/mod/assign/view.php?id=14", 438: "/mod/page/view.php?id=12", 410: "/report/progress/index.php?course=2", 467: "/report/completion/index.php?course=2",
		3: "/user/view.php?id=3", 2: "/user/profile.php?id=3", 82: "/course/management.php?categoryid=2", 88: "/course/editcategory.php?id=5", 645: "/course/index.php?categoryid=2",
		437: "/course/view.php?id=2", 570: "/enrol/editenrolment.php?ue=24",
	} {
		if got := fields(t, byLogID(r, id))["link"]; got != wwwroot+want {
			t.Errorf("row %d links to %v, want %s", id, got, want)
		}
	}
}

// feature: MDL-12
func TestTheSourceNeedsNoMoreThanSelect(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		grants := []string{}
		for _, table := range strings.Fields("logstore_standard_log context course course_categories course_modules modules user role role_assignments enrol user_enrolments groups groups_members cohort cohort_members config forum forum_discussions assign") {
			grants = append(grants, "SELECT ON mdl_"+table)
		}
		reader := &school{t: t, dsn: testdb.Login(t, s.dsn, "belfry_reader", grants...), db: s.db}
		sink, _ := reader.start("start", "beginning")
		sink.Await(t, "all rows", func(r *connectortest.Recorded) bool { return len(r.Events) >= e.rows })
		sink.Look(func(r *connectortest.Recorded) {
			if o := r.Objects["module/12"]; o.Title != "page 1" { // its table may not be read
				t.Errorf("the page is titled %q", o.Title)
			}
			if ev := byLogID(r, 412); ev.Record != nil { // forum_posts may not be read
				t.Errorf("the post has the record %s", ev.Record)
			}
		})
		id := s.log(viewed)
		sink.Await(t, "a new row", has(id))
	})
}

// feature: MDL-13
func TestRowsOutOfIDOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		sink, stop := s.start("gap", "1h")
		top := s.top()
		at := func(n int64) row { r := viewed; r.id = top + n; return r }
		ids := []string{s.log(at(1)), s.log(at(5))}
		sink.Await(t, "both sides of a gap", has(ids...))
		ids = append(ids, s.log(at(3))) // splits it
		sink.Await(t, "a row in the gap", has(ids...))
		ids = append(ids, s.log(at(2)), s.log(at(6)))
		sink.Await(t, "the row below and one at the end", has(ids...))
		// A restart keeps waiting for what is missing, and hands nothing again;
		// from here on, not for long.
		stop()
		ids = append(ids, s.log(at(4)), s.log(at(9)))
		stop = connectortest.Start(t, s.source("gap", "300ms"), sink)
		sink.Await(t, "the last of the gap, after a restart", has(ids...))
		sink.Await(t, "the end of the wait for 7 and 8", func(r *connectortest.Recorded) bool { return !strings.Contains(r.Status.Position, "missing") })
		late := s.log(at(7))
		last := s.log(at(10))
		sink.Await(t, "a row after it", has(last))
		stop()
		sink.Look(func(r *connectortest.Recorded) {
			if has(late)(r) {
				t.Error("a row came although its gap was given up")
			}
			if len(r.Repeats) > 0 || len(r.Events) != len(ids)+1 {
				t.Errorf("%d events, repeats %v; want %d and none", len(r.Events), r.Repeats, len(ids)+1)
			}
		})
	})
}

// A transaction that began before the source did and commits afterwards.
func TestARowBelowTheStart(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		top := s.top()
		r := viewed
		r.id = top + 2
		old := s.log(r)
		sink, _ := s.start("gap", "1h")
		r.id = top + 1
		late := s.log(r)
		sink.Await(t, "the late row", has(late))
		sink.Look(func(r *connectortest.Recorded) {
			if has(old)(r) || len(r.Events) != 1 {
				t.Errorf("%d events; the row before the start is among them: %v", len(r.Events), has(old)(r))
			}
		})
	})
}

// feature: MDL-13
func TestRestoredRowsAreDroppedAndCounted(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		sink, _ := s.start()
		old, recent := viewed, viewed
		first := s.log(viewed)
		old.created = time.Now().Add(-61 * time.Minute).Unix()
		recent.created = time.Now().Add(-59 * time.Minute).Unix() // a long cron job's
		a, b := s.log(old), s.log(recent)
		future := viewed
		future.created = time.Now().Add(72 * time.Hour).Unix() // a clock that is wrong must not make all else old
		c := s.log(future)
		d := s.log(viewed)
		sink.Await(t, "the rows that are news", has(first, b, c, d))
		sink.Await(t, "the count", func(r *connectortest.Recorded) bool { return r.Status.Counters["restored_rows_dropped"] == 1 })
		sink.Look(func(r *connectortest.Recorded) {
			if has(a)(r) {
				t.Error("a restored row was handed")
			}
		})
	})
}

// feature: MDL-13
func TestAWipedLogIsAnErrorAndNoReplay(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		sink, stop := s.start()
		id := s.log(viewed)
		sink.Await(t, "a row", has(id))
		high := s.top()
		stop()
		s.exec("DELETE FROM mdl_logstore_standard_log")
		r := viewed
		r.id = 5
		s.log(r)
		stop = connectortest.Start(t, s.source(), sink)
		sink.Await(t, "the alarm", func(r *connectortest.Recorded) bool {
			return strings.Contains(r.Status.Error, "emptied or rebuilt") && strings.Contains(r.Status.Error, "highest id is 5") && strings.Contains(r.Status.Error, strconv.FormatInt(high, 10))
		})
		s.exec("DELETE FROM mdl_logstore_standard_log")
		sink.Await(t, "the alarm for an empty log", func(r *connectortest.Recorded) bool { return strings.Contains(r.Status.Error, "no rows") })
		sink.Look(func(r *connectortest.Recorded) {
			if len(r.Events) != 1 {
				t.Errorf("%d events, want the one from before", len(r.Events))
			}
		})
		r.id = high + 1 // the numbers went on after all
		id = s.log(r)
		sink.Await(t, "reading goes on", has(id))
		sink.Await(t, "the end of the alarm", func(r *connectortest.Recorded) bool { return r.Status.Error == "" })
		stop()
	})
}

func TestStartAtALogID(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		sink, _ := s.start("start", "850")
		sink.Await(t, "the end of the log", func(r *connectortest.Recorded) bool { return len(r.Events) >= e.rows-849 })
		sink.Look(func(r *connectortest.Recorded) {
			if len(r.Events) != e.rows-849 || !strings.HasPrefix(r.Events[0].ID, "850-") {
				t.Errorf("%d events, the first %s", len(r.Events), r.Events[0].ID)
			}
		})
	})
}

// Who leaves the zone to the site, as nearly everybody does, has the site's; and
// everybody has it when the site forces one.
func TestTheSitesTimeZone(t *testing.T) {
	onBoth(t, func(t *testing.T, _ engine, s *school) {
		zones := func(want14, want15 string) {
			t.Helper()
			sink, stop := s.start()
			sink.Look(func(r *connectortest.Recorded) {
				if got14, got15 := r.Users["user/14"].TimeZone, r.Users["user/15"].TimeZone; got14 != want14 || got15 != want15 {
					t.Errorf("zones are %q and %q, want %q and %q", got14, got15, want14, want15)
				}
			})
			stop()
		}
		s.exec("UPDATE mdl_user SET timezone = 'Asia/Taipei' WHERE id = 15")
		zones("", "Asia/Taipei") // the site's is UTC
		s.exec("UPDATE mdl_config SET value = 'America/Sao_Paulo' WHERE name = 'timezone'")
		zones("America/Sao_Paulo", "Asia/Taipei")
		s.exec("UPDATE mdl_config SET value = '99' WHERE name = 'timezone'") // the web server's, which only it knows
		zones("", "Asia/Taipei")
		s.exec("INSERT INTO mdl_config (id, name, value) VALUES (9000, 'forcetimezone', 'Europe/Lisbon')")
		zones("Europe/Lisbon", "Europe/Lisbon")
	})
}

// What the log says has changed is read anew and handed with the event.
//
// feature: MDL-15
func TestTheDirectoryFollowsTheLog(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		sink, stop := s.start()
		now := time.Now()
		// Every step changes the tables, writes Moodle's row, and looks at the
		// directory at the moment the event is there.
		step := func(what string, r row, check func(r *connectortest.Recorded) bool) {
			t.Helper()
			id := s.log(r)
			sink.Await(t, what, has(id))
			sink.Look(func(r *connectortest.Recorded) {
				if !check(r) {
					t.Errorf("%s: the event came before its directory change, or the change is wrong", what)
				}
			})
		}
		s.exec("INSERT INTO mdl_user (id, auth, confirmed, username, firstname, lastname, email, lang, timezone) VALUES (50, 'manual', 1, 'u50', 'Chien-Shiung', 'Wu', 'u50@example.org', 'zh_tw', 'Asia/Taipei')")
		s.exec("INSERT INTO mdl_context (id, contextlevel, instanceid, path, depth) VALUES (500, 30, 50, '/1/500', 2)")
		step("a new user", row{event: `\core\event\user_created`, table: "user", object: 50, crud: "c", context: 500, level: 30, instance: 50, user: 2, related: 50}, func(r *connectortest.Recorded) bool {
			u := r.Users["user/50"]
			return u.Name == "Chien-Shiung Wu" && u.Locale == "zh-TW" && u.TimeZone == "Asia/Taipei" && r.Objects["profile/50"].Parent == "site"
		})
		s.exec("INSERT INTO mdl_enrol (id, enrol, status, courseid) VALUES (900, 'manual', 0, 10)")
		step("a new enrolment method", row{event: `\core\event\enrol_instance_created`, table: "enrol", object: 900, crud: "c", context: 65, level: 50, instance: 10, user: 2, course: 10, other: `{"enrol":"manual"}`},
			func(r *connectortest.Recorded) bool { return true })
		s.exec("INSERT INTO mdl_role_assignments (roleid, contextid, userid) VALUES (5, 65, 50)")
		step("a role without enrolment", row{event: `\core\event\role_assigned`, table: "role", object: 5, crud: "c", context: 65, level: 50, instance: 10, user: 2, course: 10, related: 50, other: `{"id":900,"component":"","itemid":0}`},
			func(r *connectortest.Recorded) bool {
				g := r.Grants["course/10"]
				return len(g) == 1 && g[0].Principal == "user/50" && g[0].Role == "student" && g[0].Inactive == "no enrolment in the course"
			})
		end := now.Add(24 * time.Hour).Unix()
		s.exec("INSERT INTO mdl_user_enrolments (id, status, enrolid, userid, timestart, timeend) VALUES (900, 0, 900, 50, 0, ?)", end)
		enrolment := row{event: `\core\event\user_enrolment_created`, table: "user_enrolments", object: 900, crud: "c", context: 65, level: 50, instance: 10, user: 2, course: 10, related: 50, other: `{"enrol":"manual"}`}
		step("an enrolment with an end", enrolment, func(r *connectortest.Recorded) bool {
			g := r.Grants["course/10"]
			return len(g) == 1 && g[0].InactiveAt(now) == "" && g[0].Until != nil && g[0].Until.Unix() == end && g[0].InactiveAt(now.Add(25*time.Hour)) != ""
		})
		s.exec("UPDATE mdl_user_enrolments SET timestart = ?, timeend = 2147483647 WHERE id = 900", end)
		enrolment.event, enrolment.crud = `\core\event\user_enrolment_updated`, "u"
		step("an enrolment that begins later", enrolment, func(r *connectortest.Recorded) bool {
			g := r.Grants["course/10"]
			return len(g) == 1 && g[0].InactiveAt(now) != "" && g[0].InactiveAt(now.Add(25*time.Hour)) == ""
		})
		s.exec("UPDATE mdl_enrol SET status = 1 WHERE id = 900")
		step("a method that is switched off", row{event: `\core\event\enrol_instance_updated`, table: "enrol", object: 900, context: 65, level: 50, instance: 10, user: 2, course: 10, other: `{"enrol":"manual"}`},
			func(r *connectortest.Recorded) bool {
				g := r.Grants["course/10"]
				return len(g) == 1 && g[0].Inactive == "enrolment method is switched off"
			})
		s.exec("DELETE FROM mdl_role_assignments WHERE contextid = 65 AND userid = 50")
		step("a role that is taken away", row{event: `\core\event\role_unassigned`, table: "role", object: 5, crud: "d", context: 65, level: 50, instance: 10, user: 2, course: 10, related: 50, other: `{"id":"900","component":"","itemid":"0"}`},
			func(r *connectortest.Recorded) bool { return len(r.Grants["course/10"]) == 0 })

		s.exec("UPDATE mdl_user SET suspended = 1, emailstop = 1 WHERE id = 14")
		update := row{event: `\core\event\user_updated`, table: "user", object: 14, context: 22, level: 30, instance: 14, user: 2, related: 14}
		step("a suspended user", update, func(r *connectortest.Recorded) bool {
			return r.Users["user/14"].State == "suspended" && r.Settings["user/14"].Stop
		})
		s.exec("UPDATE mdl_user SET suspended = 0, emailstop = 0, lastname = 'Nowak-Curie' WHERE id = 14")
		step("a user who is back", update, func(r *connectortest.Recorded) bool {
			return r.Users["user/14"].State == "active" && !r.Settings["user/14"].Stop && r.Users["user/14"].Name == "Łukasz Nowak-Curie" && r.Objects["profile/14"].Title == "Łukasz Nowak-Curie"
		})

		// Moving a category moves all below; hiding it hides them, without an event each.
		s.exec("UPDATE mdl_course_categories SET parent = 5, path = '/5/3', visible = 0 WHERE id = 3")
		s.exec("UPDATE mdl_course SET visible = 0 WHERE category = 3")
		step("a category that is moved and hidden", row{event: `\core\event\course_category_updated`, table: "course_categories", object: 3, context: 52, level: 40, instance: 3, user: 2}, func(r *connectortest.Recorded) bool {
			return slices.Equal(r.Ancestors("module/11"), []string{"module/11", "course/2", "category/3", "category/5", "site"}) && r.Objects["category/3"].Hidden && r.Objects["course/2"].Hidden
		})
		s.exec("UPDATE mdl_course SET category = 2, fullname = 'Mechanics', visible = 1 WHERE id = 2")
		step("a course that is moved", row{event: `\core\event\course_updated`, table: "course", object: 2, user: 2, other: `{"shortname":"PHY101","fullname":"Mechanics","updatedfields":{"category":"2"}}`}, func(r *connectortest.Recorded) bool {
			o := r.Objects["course/2"]
			return o.Parent == "category/2" && o.Title == "Mechanics" && !o.Hidden
		})

		s.exec("INSERT INTO mdl_assign (id, course, name, intro) VALUES (70, 2, 'Late work 🕰', '')")
		s.exec("INSERT INTO mdl_course_modules (id, course, module, instance, section, visible) VALUES (70, 2, 1, 70, 1, 0)")
		s.exec("INSERT INTO mdl_context (id, contextlevel, instanceid, path, depth) VALUES (570, 70, 70, '/1/51/57/570', 4)")
		step("a new activity", row{event: `\core\event\course_module_created`, table: "course_modules", object: 70, crud: "c", context: 570, level: 70, instance: 70, user: 6, course: 2, other: `{"modulename":"assign","instanceid":70,"name":"Late work"}`},
			func(r *connectortest.Recorded) bool {
				o := r.Objects["module/70"]
				return o.Title == "Late work 🕰" && o.Type == "assign" && o.Parent == "course/2" && o.Hidden && o.BlocksRole("frontpage")
			})
		s.exec("UPDATE mdl_course_modules SET visible = 1 WHERE id = 70")
		step("a section that is shown", row{event: `\core\event\course_section_updated`, user: 6}, func(r *connectortest.Recorded) bool { return !r.Objects["module/70"].Hidden })
		s.exec("DELETE FROM mdl_course_modules WHERE id = 70")
		s.exec("DELETE FROM mdl_context WHERE id = 570")
		step("an activity that is deleted", row{event: `\core\event\course_module_deleted`, table: "course_modules", object: 70, crud: "d", context: 570, level: 70, instance: 70, user: 6, course: 2, other: `{"modulename":"assign","instanceid":"70"}`},
			func(r *connectortest.Recorded) bool {
				return r.Objects["module/70"].Deleted != nil && r.Objects["module/70"].Parent == "course/2"
			})

		// Who is still at work on an assignment.
		drafts := func(r *connectortest.Recorded) (who []string) {
			var a struct{ Drafts []string }
			if err := json.Unmarshal(r.Objects["module/14"].Attributes, &a); err != nil {
				t.Error(err)
			}
			return a.Drafts
		}
		submission := row{event: `\mod_assign\event\assessable_submitted`, table: "assign_submission", object: 5, context: 71, level: 70, instance: 14, user: 18, course: 2, other: `{"submission_editable":false}`}
		sink.Look(func(r *connectortest.Recorded) {
			if got := drafts(r); !slices.Equal(got, []string{"user/17", "user/18"}) {
				t.Errorf("assignment 1 has drafts of %v", got)
			}
		})
		s.exec("UPDATE mdl_assign_submission SET status = 'submitted' WHERE assignment = 1 AND userid = 18")
		step("a submission handed in", submission, func(r *connectortest.Recorded) bool { return slices.Equal(drafts(r), []string{"user/17"}) })
		s.exec("UPDATE mdl_assign_submission SET status = 'draft' WHERE assignment = 1 AND userid = 14")
		submission.event, submission.object, submission.user, submission.related, submission.other = `\mod_assign\event\submission_status_updated`, 1, 6, 14, `{"newstatus":"draft"}`
		step("a submission given back", submission, func(r *connectortest.Recorded) bool {
			return slices.Equal(drafts(r), []string{"user/14", "user/17"})
		})
		s.exec("INSERT INTO mdl_assign_submission (id, assignment, userid, timecreated, timemodified, status, groupid, attemptnumber, latest) VALUES (90, 1, 0, 1, 1, 'draft', 1, 0, 1), (91, 1, 15, 1, 1, 'draft', 0, 1, 0)")
		step("a group's draft, and an attempt that is not the latest", row{event: `\assignsubmission_onlinetext\event\submission_created`, table: "assignsubmission_onlinetext", object: 90, crud: "c", context: 71, level: 70, instance: 14, user: 14, course: 2},
			func(r *connectortest.Recorded) bool {
				return slices.Equal(drafts(r), []string{"group/1", "user/14", "user/17"})
			})
		s.exec("INSERT INTO mdl_assign_submission (id, assignment, userid, timecreated, timemodified, status, groupid, attemptnumber, latest) VALUES (1000, 1, 1000, 1, 1, 'draft', 0, 0, 1)")
		for n := int64(1); n < 4096; n *= 2 {
			s.exec("INSERT INTO mdl_assign_submission (id, assignment, userid, timecreated, timemodified, status, groupid, attemptnumber, latest) SELECT id + ?, 1, userid + ?, 1, 1, 'draft', 0, 0, 1 FROM mdl_assign_submission WHERE id >= 1000", n, n)
		}
		step("more drafts than there is room for", submission, func(r *connectortest.Recorded) bool {
			return len(drafts(r)) == 3000 && strings.Contains(string(r.Objects["module/14"].Attributes), `"drafts_left_out":1099`) // 4,096 and the three
		})

		s.exec("INSERT INTO mdl_forum_discussions (id, course, forum, name, firstpost, userid) VALUES (80, 2, 11, 'New thread', 90, 14)")
		step("a new discussion", row{event: `\mod_forum\event\discussion_created`, table: "forum_discussions", object: 80, crud: "c", context: 68, level: 70, instance: 11, user: 14, course: 2, other: `{"forumid":"11"}`},
			func(r *connectortest.Recorded) bool {
				return r.Objects["discussion/80"].Parent == "module/11" && r.Events[len(r.Events)-1].Object == "discussion/80"
			})
		s.exec("DELETE FROM mdl_forum_discussions WHERE id = 80")
		step("a discussion that is deleted", row{event: `\mod_forum\event\discussion_deleted`, table: "forum_discussions", object: 80, crud: "d", context: 68, level: 70, instance: 11, user: 6, course: 2, other: `{"forumid":11}`},
			func(r *connectortest.Recorded) bool {
				last := r.Events[len(r.Events)-1]
				return r.Objects["discussion/80"].Deleted != nil && last.Object == "discussion/80" && strings.Contains(string(last.Record), "New thread")
			})

		s.exec("INSERT INTO mdl_groups_members (groupid, userid) VALUES (1, 16)")
		step("a new member of a group", row{event: `\core\event\group_member_added`, table: "groups", object: 1, user: 6, related: 16}, func(r *connectortest.Recorded) bool { return len(r.Groups["group/1"].Members) == 3 })
		s.exec("DELETE FROM mdl_groups WHERE id = 2")
		step("a group that is deleted", row{event: `\core\event\group_deleted`, table: "groups", object: 2, crud: "d", user: 6}, func(r *connectortest.Recorded) bool { _, ok := r.Groups["group/2"]; return !ok })
		s.exec("DELETE FROM mdl_cohort_members WHERE cohortid = 2 AND userid = 29")
		step("a member who left a cohort", row{event: `\core\event\cohort_member_removed`, table: "cohort", object: 2, crud: "d", context: 51, level: 40, instance: 2, user: 2, related: 29}, func(r *connectortest.Recorded) bool {
			return slices.Equal(r.Groups["cohort/2"].Members, []string{"user/30"})
		})

		s.exec("UPDATE mdl_config SET value = '2,13' WHERE name = 'siteadmins'")
		step("a new administrator", row{event: `\core\event\config_log_created`, table: "config_log", object: 1, crud: "c", context: 1, level: 10, user: 2, other: `{"name":"siteadmins","oldvalue":"2","value":"2,13","plugin":"core"}`},
			func(r *connectortest.Recorded) bool {
				return slices.Equal(r.Holders("course/2", now, false, "siteadmin"), []string{"user/13", "user/2"})
			})
		s.exec("INSERT INTO mdl_role (id, name, shortname, description, sortorder) VALUES (30, '', 'mentor', '', 30)")
		step("a new role", row{event: `\core\event\role_created`, table: "role", object: 30, crud: "c", context: 1, level: 10, user: 2, other: `{"shortname":"mentor"}`}, func(r *connectortest.Recorded) bool { return true })
		s.exec("INSERT INTO mdl_role_assignments (roleid, contextid, userid) VALUES (30, 51, 20)")
		step("a grant of it", row{event: `\core\event\role_assigned`, table: "role", object: 30, crud: "c", context: 51, level: 40, instance: 2, user: 2, related: 20, other: `{"id":901,"component":"","itemid":0}`},
			func(r *connectortest.Recorded) bool {
				return slices.Equal(r.Holders("course/4", now, false, "mentor"), []string{"user/20"})
			})

		// A deleted course: the tree and the grants of its last moment stay
		// for the events about it, and the record is its last copy.
		s.together("DELETE FROM mdl_role_assignments WHERE contextid = 59", "DELETE FROM mdl_context WHERE id = 59", "DELETE FROM mdl_course WHERE id = 4")
		step("a course that is deleted", row{event: `\core\event\course_deleted`, table: "course", object: 4, crud: "d", context: 59, level: 50, instance: 4, user: 2, course: 4, other: `{"shortname":"CHE101","fullname":"Chimie","idnumber":""}`},
			func(r *connectortest.Recorded) bool {
				last, o := r.Events[len(r.Events)-1], r.Objects["course/4"]
				return o.Deleted != nil && o.Parent == "category/2" && strings.HasPrefix(o.Title, "Chimie générale") && r.Objects["module/3"].Deleted != nil &&
					len(r.Holders("course/4", now, false, "editingteacher")) == 1 && strings.Contains(string(last.Record), `"shortname":"CHE101"`)
			})
		// An unknown class of a plug-in is learned.
		step("a plug-in's event", row{event: `\local_bells\event\bell_rung`, user: 14}, func(r *connectortest.Recorded) bool {
			return r.Types["local_bells.bell_rung"].Title == "local_bells: bell rung"
		})
		stop()
		sink.Look(func(r *connectortest.Recorded) {
			for _, ev := range r.Events {
				if raw := string(ev.Data); strings.Contains(raw, "987654") || strings.Contains(raw, "192.0.2.7") {
					t.Errorf("%s tells who was behind it, or an address: %s", ev.ID, raw)
				}
			}
		})
	})
}

// Changes that leave no event are found by the full comparison, and by a
// restart; both hand only what differs.
//
// feature: MDL-15
func TestFullComparisonHandsOnlyDifferences(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		sink, stop := s.start("compare", "100ms")
		rows := func(r *connectortest.Recorded, from int) []string {
			var out []string
			for _, b := range r.Batches[from:] {
				for _, o := range b.Changes.Objects {
					out = append(out, o.ID)
				}
				for _, u := range b.Changes.Users {
					out = append(out, u.ID)
				}
				for _, g := range b.Changes.Groups {
					out = append(out, g.ID)
				}
				for _, g := range b.Changes.Grants {
					out = append(out, "grants "+g.Object)
				}
				for _, id := range slices.Concat(b.Changes.DeleteObjects, b.Changes.DropGroups) {
					out = append(out, "gone "+id)
				}
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		compares := func() int64 {
			var n int64
			sink.Look(func(r *connectortest.Recorded) { n = r.Status.Counters["full_compares"] })
			return n
		}
		wait := func(more int64) {
			t.Helper()
			n := compares()
			sink.Await(t, "a full comparison", func(r *connectortest.Recorded) bool { return r.Status.Counters["full_compares"] >= n+more })
		}
		batches := func() (n int) {
			sink.Look(func(r *connectortest.Recorded) { n = len(r.Batches) })
			return n
		}
		wait(2)
		quiet := batches()
		wait(2)
		if n := batches(); n != quiet {
			t.Fatalf("comparisons without a difference handed %d batches", n-quiet)
		}
		s.exec("UPDATE mdl_user SET firstname = 'Nils' WHERE id = 16")
		s.exec("UPDATE mdl_course SET fullname = 'Optics' WHERE id = 10")
		s.exec("DELETE FROM mdl_forum_discussions WHERE id = 6")
		s.exec("DELETE FROM mdl_groups WHERE id = 1")
		s.exec("DELETE FROM mdl_role_assignments WHERE contextid = 22")
		s.exec("DELETE FROM mdl_role_assignments WHERE contextid = 57 AND userid = 14")
		wait(2)
		want := []string{"course/10", "gone discussion/6", "gone group/1", "grants course/2", "grants profile/14", "profile/16", "user/16"}
		sink.Look(func(r *connectortest.Recorded) {
			if diff := cmp.Diff(want, rows(r, quiet)); diff != "" {
				t.Errorf("handed by the comparison (-want +got):\n%s", diff)
			}
			if len(r.Grants["profile/14"]) != 0 {
				t.Errorf("grants on profile/14 are still %v", r.Grants["profile/14"])
			}
		})
		stop()

		// A restart without changes hands nothing at all.
		quiet = batches()
		stop = connectortest.Start(t, s.source(), sink)
		id := s.log(viewed)
		sink.Await(t, "a row after the restart", has(id))
		stop()
		sink.Look(func(r *connectortest.Recorded) {
			if got := rows(r, quiet); len(got) > 0 || len(r.Batches) != quiet+1 {
				t.Errorf("the restart handed %d batches, %v", len(r.Batches)-quiet, got)
			}
		})

		// What changed without an event while nobody watched.
		s.exec("UPDATE mdl_course_categories SET name = 'Arts' WHERE id = 5")
		s.exec("DELETE FROM mdl_course WHERE id = 8")
		s.exec("DELETE FROM mdl_role_assignments WHERE contextid = 73")
		s.exec("UPDATE mdl_cohort SET name = 'Freshers' WHERE id = 1")
		stop = connectortest.Start(t, s.source(), sink)
		sink.Await(t, "the changes", func(r *connectortest.Recorded) bool {
			return r.Objects["category/5"].Title == "Arts" && r.Objects["course/8"].Deleted != nil && r.Objects["course/8"].Parent == "category/5" && len(r.Grants["module/16"]) == 0 && r.Groups["cohort/1"].Name == "Freshers"
		})
		stop()
	})
}

func TestSitesBiggerThanAPage(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		var values, members, roles []string
		for i := range 1300 {
			id := 10_000 + i
			values = append(values, fmt.Sprintf("(%d, 'manual', 1, 'x%d', 'X', 'Y%d', 'x%d@example.org')", id, id, id, id))
			members = append(members, fmt.Sprintf("(1, %d, 0)", id))
			roles = append(roles, fmt.Sprintf("(5, %d, 3)", 20_000+i))
		}
		var contexts []string
		for i := range 1300 {
			contexts = append(contexts, fmt.Sprintf("(%d, 30, %d, '/1/%d', 2)", 20_000+i, 10_000+i, 20_000+i))
		}
		s.exec("INSERT INTO mdl_user (id, auth, confirmed, username, firstname, lastname, email) VALUES " + strings.Join(values, ", "))
		s.exec("INSERT INTO mdl_cohort_members (cohortid, userid, timeadded) VALUES " + strings.Join(members, ", "))
		s.exec("INSERT INTO mdl_context (id, contextlevel, instanceid, path, depth) VALUES " + strings.Join(contexts, ", "))
		s.exec("INSERT INTO mdl_role_assignments (roleid, contextid, userid) VALUES " + strings.Join(roles, ", "))
		sink, stop := s.start("start", "beginning")
		sink.Await(t, "all rows", func(r *connectortest.Recorded) bool { return len(r.Events) >= e.rows })
		stop()
		sink.Look(func(r *connectortest.Recorded) {
			if len(r.Users) != 1342 || len(r.Groups["cohort/1"].Members) != 1303 {
				t.Errorf("%d users, %d in the cohort", len(r.Users), len(r.Groups["cohort/1"].Members))
			}
			for i := range 1300 {
				id := "profile/" + strconv.Itoa(10_000+i)
				if g := r.Grants[id]; len(g) != 1 || g[0].Principal != "user/3" || r.Objects[id].Type != "profile" {
					t.Fatalf("%s has the grants %v", id, g)
				}
			}
			for i, b := range r.Batches {
				if n := len(b.Changes.Objects) + len(b.Changes.Users) + len(b.Changes.Grants); n > connector.MaxBatch {
					t.Errorf("batch %d has %d rows", i, n)
				}
			}
		})
	})
}

// feature: MDL-13
func TestWrongSettingsInClearWords(t *testing.T) {
	onBoth(t, func(t *testing.T, e engine, s *school) {
		bad := func(change func(*url.URL)) string {
			u, err := url.Parse(s.dsn)
			if err != nil {
				t.Fatal(err)
			}
			change(u)
			return u.String()
		}
		half := testdb.Login(t, s.dsn, "half_reader", "SELECT ON mdl_logstore_standard_log", "SELECT ON mdl_context", "SELECT ON mdl_course")
		empty := map[string]func(testing.TB) string{"PostgreSQL": testdb.Postgres, "MariaDB": testdb.MariaDB}[e.name](t)
		for name, tc := range map[string]struct {
			settings []string
			want     []string
		}{
			"prefix":         {[]string{"prefix", "moodle_"}, []string{"moodle_logstore_standard_log", `the prefix "moodle_" is wrong`, `under the prefix "mdl_"`}},
			"rights":         {[]string{"dsn", half}, []string{"may not read the table mdl_course_categories", "GRANT SELECT ON"}},
			"empty database": {[]string{"dsn", empty}, []string{"no table mdl_logstore_standard_log", "another database"}},
			"database":       {[]string{"dsn", bad(func(u *url.URL) { u.Path = "/nothere" })}, []string{"no such database"}},
			"server":         {[]string{"dsn", bad(func(u *url.URL) { u.Host = "127.0.0.1:1" })}, []string{"does not answer", "check the host and port"}},
		} {
			t.Run(name, func(t *testing.T) {
				findings := moodle.Kind().Check(t.Context(), deps(t), s.settings(tc.settings...))
				if len(findings) == 0 || findings[0].Severity != connector.SeverityError || findings[0].Do == "" {
					t.Fatalf("findings %+v", findings)
				}
				sink := connectortest.NewRecorder()
				stop := connectortest.Start(t, s.source(tc.settings...), sink)
				sink.Await(t, "the error", func(r *connectortest.Recorded) bool { return r.Status.State == connector.StateFailing })
				stop()
				sink.Look(func(r *connectortest.Recorded) {
					for _, want := range tc.want {
						if !strings.Contains(r.Status.Error, want) {
							t.Errorf("said %q, want %q in it", r.Status.Error, want)
						}
						if all := findings[0].What + "; " + findings[0].Do; !strings.Contains(all, want) {
							t.Errorf("found %q, want %q in it", all, want)
						}
					}
					if len(r.Batches) > 0 {
						t.Errorf("%d batches were handed", len(r.Batches))
					}
				})
			})
		}
		t.Run("all well", func(t *testing.T) {
			findings := moodle.Kind().Check(t.Context(), deps(t), s.settings())
			want := []connector.Finding{{Severity: connector.SeverityOK, What: fmt.Sprintf("Moodle 4.5.6 (Build: 20250811) on %s can be read; the log is at id %d", map[string]string{"PostgreSQL": "PostgreSQL", "MariaDB": "MySQL"}[e.name], e.rows)}}
			if diff := cmp.Diff(want, findings); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
		t.Run("log switched off", func(t *testing.T) {
			s.exec("UPDATE mdl_config_plugins SET value = 'logstore_database' WHERE plugin = 'tool_log' AND name = 'enabled_stores'")
			s.exec("DELETE FROM mdl_forum_discussions")
			s.exec("DROP TABLE mdl_forum_discussions")
			findings := moodle.Kind().Check(t.Context(), deps(t), s.settings())
			if len(findings) != 3 || findings[0].Severity != connector.SeverityError || !strings.Contains(findings[0].What, "does not write its standard log") || findings[1].Severity != connector.SeverityWarning || findings[2].Severity != connector.SeverityOK {
				t.Errorf("findings %+v", findings)
			}
		})
	})
}

func TestSettingsAreChecked(t *testing.T) {
	good := map[string]string{"dsn": "postgres://h/db", "wwwroot": "https://a.example"}
	for name, tc := range map[string]struct {
		key, value string
		pointer    string
	}{
		"prefix":  {"prefix", "mdl_; DROP", "/settings/prefix"},
		"start":   {"start", "yesterday", "/settings/start"},
		"poll":    {"poll", "0s", "/settings/poll"},
		"wwwroot": {"wwwroot", "a.example", "/settings/wwwroot"},
		"unknown": {"polll", "1s", "/settings/polll"},
		"none":    {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			given := maps.Clone(good)
			if tc.key != "" {
				given[tc.key] = tc.value
			}
			_, err := moodle.Kind().New(deps(t), given)
			if tc.pointer == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			be, ok := err.(*belfry.Error)
			if !ok || be.Kind != belfry.Invalid || len(be.Fields) != 1 || be.Fields[0].Pointer != tc.pointer {
				t.Errorf("error %v, want one at %s", err, tc.pointer)
			}
		})
	}
	if _, err := moodle.Kind().New(deps(t), map[string]string{"dsn": "oracle://u:hunter2@h/db", "wwwroot": "https://a.example"}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an Oracle address: %v", err)
	}
}

// feature: MDL-12
func TestOneQueryAPoll(t *testing.T) {
	s := newSchool(t, testdb.MoodleMariaDB(t))
	sink, _ := s.start("poll", "10ms")
	statements := func() int64 {
		return s.number("SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'QUESTIONS'")
	}
	var at int
	sink.Look(func(r *connectortest.Recorded) { at = r.Reports })
	before := statements()
	sink.Await(t, "200 polls", func(r *connectortest.Recorded) bool { return r.Reports >= at+200 })
	after := statements()
	var polls int64
	sink.Look(func(r *connectortest.Recorded) { polls = int64(r.Reports - at) })
	// One poll may be on its way at either end; reading the number counts too.
	if n := after - before; n > polls+3 {
		t.Errorf("%d statements for %d polls", n, polls)
	}
}

func TestConformanceOnPostgreSQL(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Harness { return conform(newSchool(t, testdb.MoodlePostgres(t))) })
}

func TestConformanceOnMariaDB(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Harness { return conform(newSchool(t, testdb.MoodleMariaDB(t))) })
}

func TestAnOutageOfTheDatabase(t *testing.T) {
	t.Run("PostgreSQL", func(t *testing.T) {
		server := testdb.NewPostgres(t)
		outage(t, newSchool(t, server.Moodle(t)), server.Crash, func() { server.Start(t) })
	})
	t.Run("MariaDB", func(t *testing.T) {
		server := testdb.NewMariaDB(t)
		outage(t, newSchool(t, server.Moodle(t)), server.Stop, func() { server.Start(t) })
	})
}

func outage(t *testing.T, s *school, stop, start func()) {
	sink, end := s.start()
	first := s.log(viewed)
	sink.Await(t, "a row", has(first))
	stop()
	sink.Await(t, "a report of the outage", func(r *connectortest.Recorded) bool {
		return r.Status.State == connector.StateFailing && strings.Contains(r.Status.Error, "does not answer") && !r.Status.ErrorAt.IsZero()
	})
	start()
	s.db = testdb.Open(t, s.dsn) // the old connections are dead
	second := s.log(viewed)
	sink.Await(t, "a row after the outage", has(second))
	sink.Await(t, "a report without error", func(r *connectortest.Recorded) bool {
		return r.Status.Error == "" && r.Status.State == connector.StateTailing
	})
	end()
	sink.Look(func(r *connectortest.Recorded) {
		if len(r.Events) != 2 || len(r.Repeats) > 0 {
			t.Errorf("%d events, repeats %v", len(r.Events), r.Repeats)
		}
	})
}

func conform(s *school) connectortest.Harness {
	var n atomic.Int64
	return connectortest.Harness{
		Origin: "moodle/school",
		Source: func(t *testing.T) connector.Source { return s.source() },
		Emit: func(t *testing.T, count int) []string {
			var ids []string
			for range count {
				r := viewed
				r.user = 3 + n.Add(1)%30
				ids = append(ids, s.log(r))
			}
			return ids
		},
		Break: func(t *testing.T) func() {
			s.exec("ALTER TABLE mdl_context RENAME TO mdl_context_away")
			s.exec("ALTER TABLE mdl_logstore_standard_log RENAME TO mdl_log_away")
			return func() {
				s.exec("ALTER TABLE mdl_context_away RENAME TO mdl_context")
				s.exec("ALTER TABLE mdl_log_away RENAME TO mdl_logstore_standard_log")
			}
		},
	}
}

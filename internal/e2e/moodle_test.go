package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testdb"
)

// nosey are the events of nosey_notifications with the rows they have on both
// engines (the README's table).
var nosey = map[string]int{
	"core.user_enrolment_created": 74, "core.user_enrolment_deleted": 15, "core.course_module_completion_updated": 30, "core.course_completed": 4,
	"core.course_created": 9, "core.course_updated": 5, "core.course_deleted": 2,
	"core.course_category_created": 6, "core.course_category_updated": 4, "core.course_category_deleted": 2,
}

// uNN of the README has the id NN+2.
func u(n int) string { return fmt.Sprintf("user/%d", n+2) }

func mailbox(n int) string { return fmt.Sprintf("u%02d@example.org", n) }

// walk is the way of one Moodle through a whole Belfry; its steps are tests of
// their own, in order.
type walk struct {
	*house
	outer    *testing.T // of the whole walk
	school   *school
	engine   engine
	source   string
	nosey    string // endpoints
	records  string
	subs     map[string]string // ids by what they are for
	stopDB   func()
	startDB  func()
	before   map[string]belfry.EventView // events of the past
	settings map[string]string
}

// TestMoodle: what happens in a real Moodle's database reaches the right people
// by inbox, e-mail and signed webhook, nobody else, and everybody can learn why.
func TestMoodle(t *testing.T) {
	t.Parallel()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			dsn, stopDB, startDB := e.serve(t)
			w := &walk{outer: t, house: newHouse(t, e.store), engine: e, stopDB: stopDB, startDB: startDB, subs: map[string]string{}}
			w.school = &school{t: t, dsn: dsn, db: testdb.Open(t, dsn)}
			w.settings = map[string]string{
				"dsn": testdb.Login(t, dsn, "belfry_reader", e.mayRead(dsn)), "prefix": "mdl_", "wwwroot": wwwroot,
				"poll": poll.String(), "start": "now", "gap": "5m", // a slow machine must not close a gap
			}
			for _, step := range []struct {
				name string
				do   func(*walk)
			}{
				{"a fresh source knows the school", (*walk).connect},
				{"subscriptions", (*walk).subscribeAll},
				{"the past is told", (*walk).past},
				{"teachers get everything of their course", (*walk).teachers},
				{"managers get the course changes of their part of the school", (*walk).managers},
				{"one student gets the discussions of a forum", (*walk).student},
				{"whoever is not told can learn why", (*walk).untold},
				{"students who left the course are not told", (*walk).students},
				{"cohorts are told as far as they may see it", (*walk).cohorts},
				{"the ten events of nosey", (*walk).noseyEvents},
				{"an anonymous answer stays anonymous", (*walk).anonymous},
				{"new rows arrive within a second", (*walk).live},
				{"failed logins are told to administrators once", (*walk).failedLogins},
				{"rows out of order arrive, restored ones do not", (*walk).order},
				{"both codecs arrive the same", (*walk).codecs},
				{"a discussion with its words", (*walk).discussion},
				{"one click ends one subscription", (*walk).oneClick},
				{"a week of a course in one letter on Monday at 08:00", (*walk).weekly},
				{"those whose submission is a draft are reminded", (*walk).drafts},
				{"a course that moves is told to those of its new place", (*walk).moved},
				{"a change of roles counts from the next event", (*walk).roles},
				{"a course that is deleted tells those who had it", (*walk).deletion},
				{"wrong settings are explained", (*walk).mistakes},
				{"an outage of the database loses and repeats nothing", (*walk).outage},
				{"a restart of Belfry loses and repeats nothing", (*walk).restart},
			} {
				ok := t.Run(step.name, func(inner *testing.T) {
					w.t, w.school.t = inner, inner // the hands work for whoever runs
					defer func() { w.t, w.school.t = t, t }()
					step.do(w)
				})
				if !ok && w.before == nil {
					break // there is nothing to ask about
				}
			}
		})
	}
}

// A subscription needs its object, so that a slip of the pen is noticed. Who
// connects a school from now on has the whole tree a moment later.
func (w *walk) connect() {
	err := w.api.Call(w.t.Context(), http.MethodPost, "/v1/subscriptions", subscriptionBody{Title: "too early", Scope: belfry.Scope{Object: "course/2"}}, nil)
	if err == nil || !strings.Contains(err.Error(), `there is no object "course/2"`) {
		w.t.Errorf("a subscription before the source: %v", err)
	}
	w.source = w.house.source("school", w.settings)
	w.tailing(w.source, w.engine.rows)
	if n := len(w.events()); n != 0 {
		w.t.Errorf("a source that starts now told %d events of the past", n)
	}
	var made map[string]any
	w.call(http.MethodGet, "/v1/sources/"+w.source, nil, &made)
	if raw, _ := json.Marshal(made); strings.Contains(string(raw), "belfry_reader") || !strings.Contains(string(raw), `"secret":["dsn"]`) {
		w.t.Errorf("the source is shown as %s", raw)
	}
}

func (w *walk) subscribeAll() {
	w.call(http.MethodPut, "/v1/templates/forum", map[string]string{
		"subject": "{{record.name}}{{record.subject}}", "body": "{{actor.name}}: {{content}}\n\n{{link}}",
	}, nil)
	// An administrator's word on a type of the source.
	w.call(http.MethodPut, "/v1/event-types/mod_feedback.response_submitted", map[string]any{"title": "Opinion given", "see_roles": []string{"*"}, "object_types": []string{"feedback"}}, nil)
	w.nosey, w.records = w.endpoint("nosey"), w.endpoint("records")
	roles := func(names ...string) []belfry.Rule {
		return []belfry.Rule{{Role: &belfry.RoleRule{Roles: names, Origins: []string{belfry.OriginMerged}}}}
	}
	users := func(ids ...string) []belfry.Rule { return []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: ids}}} }
	calls := func(endpoint string) []belfry.Notify { return []belfry.Notify{{Endpoint: endpoint}} }
	for name, s := range map[string]belfry.Subscription{
		"teachers": {Title: "Everything in PHY101", Scope: belfry.Scope{Object: "course/2"}, Recipients: roles("editingteacher", "teacher")},
		"managers": {Title: "Course changes in Science", Scope: belfry.Scope{Object: "category/2"}, ObjectTypes: []string{"course"},
			Types: []string{"core.course_created", "core.course_updated", "core.course_deleted"}, Recipients: roles("manager")},
		"student": {Title: "General discussion", Scope: belfry.Scope{Object: "module/11"}, Types: []string{"mod_forum.discussion_created", "mod_forum.post_created"},
			Recipients: users(u(12)), Notify: []belfry.Notify{{Channels: []string{"inbox", "email"}, Template: "forum"}}},
		"named": {Title: "General discussion, by name", Scope: belfry.Scope{Object: "module/11"}, Types: []string{"mod_forum.discussion_created"},
			Recipients: users(u(24), u(25), u(26), u(39), u(40), "user/999")},
		"students": {Title: "Announcements of PHY101", Scope: belfry.Scope{Object: "module/10"}, Types: []string{"mod_forum.discussion_created"}, Recipients: roles("student")},
		"feedback": {Title: "Opinions", Scope: belfry.Scope{Object: "module/19"}, Types: []string{"mod_feedback.*"}, Recipients: roles("editingteacher", "teacher")},
		"nosey":    {Title: "Student records", Types: slices.Sorted(maps.Keys(nosey)), Notify: calls(w.nosey)},
		"records":  {Title: "All of PHY101", Scope: belfry.Scope{Object: "course/2"}, Notify: calls(w.records)},
		"opinions": {Title: "Opinions, elsewhere", Scope: belfry.Scope{Object: "module/19"}, Types: []string{"mod_feedback.*"}, Notify: calls(w.records)},
		"cohorts": {Title: "Changes of ENG101", Scope: belfry.Scope{Object: "course/6"}, Types: []string{"core.course_updated"},
			Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Groups: []string{"cohort/1", "cohort/2"}}}}},
		"completed": {Title: "Completions of HIS101", Scope: belfry.Scope{Object: "course/5"}, Types: []string{"core.course_completed"}, Recipients: []belfry.Rule{{Related: &belfry.RelatedRule{}}, {Explicit: &belfry.ExplicitRule{Users: []string{"user/2"}}}}},
	} {
		var warnings, want []string
		if w.subs[name], warnings = w.subscribe(s); name == "named" {
			want = []string{"user user/42 is deleted", "user user/999 is not known yet"}
		}
		if diff := cmp.Diff(want, warnings); diff != "" {
			w.t.Errorf("warnings of %s (-want +got):\n%s", name, diff)
		}
	}
}

// The past is told by a source that begins at the beginning: the one that came
// first is taken away, the tree and the subscriptions stay.
func (w *walk) past() {
	w.call(http.MethodDelete, "/v1/sources/"+w.source, nil, nil)
	w.settings["start"] = "beginning"
	w.source = w.house.source("school", w.settings)
	w.tailing(w.source, w.engine.rows)
	w.quiet()
	w.before = w.events()
	want := w.school.ids("id > 0")
	if diff := cmp.Diff(want, slices.SortedFunc(maps.Keys(w.before), byLogID)); diff != "" {
		w.t.Errorf("events (-log +stored):\n%s", diff)
	}
	if n := int64(len(want)); n != w.engine.rows {
		w.t.Errorf("the log has %d rows, the README says %d", n, w.engine.rows)
	}
	for name, want := range map[string]string{"mod_feedback.response_submitted": "Opinion given  * feedback", "mod_forum.post_created": "Post created moodle/school * forum,discussion"} {
		var typ belfry.EventType
		w.call(http.MethodGet, "/v1/event-types/"+name, nil, &typ)
		if got := strings.Join([]string{typ.Title, typ.Origin, strings.Join(typ.SeeRoles, ","), strings.Join(typ.ObjectTypes, ",")}, " "); got != want {
			w.t.Errorf("after the source came again, the type %s is %q, want %q", name, got, want)
		}
	}
	st := w.status(w.source)
	if st.Counters["events"] != w.engine.rows || st.Counters["restored_rows_dropped"] != 0 || st.Counters["unreadable_rows"] != 0 {
		w.t.Errorf("the source counts %v", st.Counters)
	}
}

func byLogID(a, b string) int {
	var x, y int64
	_, _ = fmt.Sscan(strings.Split(a, "-")[0], &x)
	_, _ = fmt.Sscan(strings.Split(b, "-")[0], &y)
	return int(x - y)
}

// evt is Belfry's id of the one event of a condition on the log.
func (w *walk) evt(condition string, args ...any) string {
	w.t.Helper()
	e, ok := w.before[w.school.id(condition, args...)]
	if !ok {
		w.t.Fatalf("the event where %s is not stored", condition)
	}
	return e.EventID
}

// sorted are the ids of events in the log's order.
func sorted(ids []string) []string {
	slices.SortFunc(ids, byLogID)
	return ids
}

// inInbox are those of events in somebody's inbox because of a subscription (of
// any when it is empty).
func (w *walk) inInbox(user, sub string, events map[string]belfry.EventView) []string {
	w.t.Helper()
	by := map[string]string{}
	for id, e := range events {
		by[e.EventID] = id
	}
	var ids []string
	for _, entry := range w.inbox(user) {
		if id, ok := by[entry.Event]; ok && (sub == "" || entry.Subscription == sub) {
			ids = append(ids, id)
		}
	}
	return sorted(ids)
}

// delivery is one of GET /v1/deliveries.
type delivery struct {
	ID, Event, Subscription, Recipient, Channel, Address, State string
}

// mailed are those of events that somebody's letters tell, by the ids the
// letters have; all of them must be known to Belfry as delivered, once.
func (w *walk) mailed(n int, sub string, events map[string]belfry.EventView) []string {
	w.t.Helper()
	by := map[string]string{}
	for id, e := range events {
		by[e.EventID] = id
	}
	known := map[string]delivery{}
	for _, d := range all[delivery](w.house, "/v1/deliveries?channel=email&recipient="+url.QueryEscape(u(n))+"&") {
		if d.State != "delivered" || d.Address != mailbox(n) {
			w.t.Errorf("%s has %+v", u(n), d)
		}
		known[d.ID] = d
	}
	letters := w.mail.to(mailbox(n))
	if len(letters) != len(known) {
		w.t.Errorf("%d letters to %s, and %d deliveries", len(letters), mailbox(n), len(known))
	}
	var ids []string
	for _, l := range letters {
		id, err := l.head.MessageID()
		d, ok := known[strings.TrimSuffix(id, "@school.example")]
		if err != nil || !ok {
			w.t.Errorf("a letter to %s has the id %q (%v), which is no delivery's", mailbox(n), id, err)
			continue
		}
		if id, ok := by[d.Event]; ok && (sub == "" || d.Subscription == sub) {
			ids = append(ids, id)
		}
	}
	return sorted(ids)
}

// same compares lists of events.
func (w *walk) same(what string, want, got []string) {
	w.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// everything that happened in PHY101: its course and its activities, those
// that are gone included.
const inPHY101 = "courseid = 2 AND contextlevel IN (50, 70) AND anonymous = 0"

// feature: MDL-15
// feature: CPS-11
func (w *walk) teachers() {
	names := map[int]string{4: "Dorothy Hodgkin", 5: "Émilie du Châtelet", 6: "Fabiola Gianotti", 10: "Jocelyn Bell Burnell"}
	for n, name := range names {
		want := w.school.ids(inPHY101+" AND userid <> ?", n+2) // not what they did themselves
		if len(want) < 100 {
			w.t.Errorf("only %d events in PHY101", len(want))
		}
		w.same("inbox of "+name, want, w.inInbox(u(n), w.subs["teachers"], w.before))
		w.same("letters to "+name, want, w.mailed(n, w.subs["teachers"], w.before))
		for _, l := range w.mail.to(mailbox(n)) {
			if len(l.to) != 1 || l.to[0].Address != mailbox(n) || l.to[0].Name != name || len(l.envelope) != 1 || l.from != "belfry@school.example" {
				w.t.Errorf("a letter goes from %s to %v, with To: %v", l.from, l.envelope, l.to)
			}
		}
	}
	var told []string
	for _, h := range w.hook.hooks("records") {
		if h.Data.Subscription == w.subs["records"] {
			told = append(told, h.Data.ID)
		}
	}
	w.same("webhooks of PHY101", w.school.ids(inPHY101), sorted(told))

	// What people read says who, whom and where, and nothing of the machine.
	enrolled := w.evt(`eventname = ? AND courseid = 2 AND relateduserid = 14`, `\core\event\user_enrolment_created`)
	for _, entry := range w.inbox(u(4)) {
		if entry.Event == enrolled && (entry.Title != "User enrolled in course: Classical mechanics" || !strings.Contains(entry.Text, ", by Admin User, about Łukasz Nowak") ||
			!strings.Contains(entry.Text, "Enrol: manual") || !strings.Contains(entry.Text, "Testbed Moodle › Science › Physics") || strings.Contains(strings.ToLower(entry.Text), "eventname")) {
			w.t.Errorf("an enrolment reads %q: %q", entry.Title, entry.Text)
		}
	}
	// Why: by a role in the course, and by one in the category above.
	for who, want := range map[string]string{u(4): "editingteacher at course/2", u(6): "teacher at course/2", u(10): "teacher at category/3"} {
		a := w.trace(w.evt(`eventname LIKE '%course_completed' AND userid = 14`), who)
		if len(a.People) != 1 || a.People[0].Outcome != belfry.Told || a.Computed || len(a.People[0].Deliveries) != 2 {
			w.t.Errorf("%s: %+v", who, a.People)
			continue
		}
		if r := a.People[0].Because[0]; r.Code != belfry.NamedRole || r.Role+" at "+r.Object != want || r.Subscription != w.subs["teachers"] || r.Text == "" {
			w.t.Errorf("%s is told because %+v, want %s", who, r, want)
		}
	}
}

func (w *walk) managers() {
	const changes = `eventname IN (?, ?, ?)`
	names := []any{`\core\event\course_created`, `\core\event\course_updated`, `\core\event\course_deleted`}
	for n, want := range map[int][]string{
		11: w.school.ids(changes+" AND courseid IN (2, 3, 4, 10)", names...),                 // manager of the site
		1:  w.school.ids(changes+" AND courseid IN (2, 3, 4, 10) AND userid <> 3", names...), // of Science; made OPT150 herself
		2:  w.school.ids(changes+" AND courseid IN (3, 10)", names...),                       // of Quantum physics only
		3:  nil,                                                                              // was course creator there
		9:  nil,                                                                              // teaches in Humanities & Arts
	} {
		w.same("inbox of "+u(n), want, w.inInbox(u(n), w.subs["managers"], w.before))
		w.same("letters to "+mailbox(n), want, w.mailed(n, w.subs["managers"], w.before))
	}
	if got := fates(w.trace(w.evt(`eventname = ? AND objectid = 10`, names[0]), ""))[u(1)]; got != "named_role is_actor" {
		w.t.Errorf("who made OPT150: %s", got)
	}
	subjects := map[string]int{}
	for _, l := range w.mail.to(mailbox(11)) {
		subjects[l.subject]++
		if !strings.Contains(l.text, wwwroot+"/course/view.php?id=") || !strings.Contains(l.html, "<html") {
			w.t.Errorf("%s has the text %q", l.subject, l.text)
		}
	}
	want := map[string]int{
		"Course created: Classical mechanics": 1, `Course created: Quantum mechanics: "spin" & O'Brien's claim`: 1, "Course created: Chimie générale — 化学 🧪 (2e éd.)": 1,
		"Course created: Optics lab": 1, "Course updated: Optics lab": 1, "Course updated: Chimie générale — 化学 🧪 (2e éd.)": 1,
	}
	if diff := cmp.Diff(want, subjects); diff != "" {
		w.t.Errorf("subjects (-want +got):\n%s", diff)
	}
	// The courses that are gone were in no part of the school that is left.
	for _, course := range []int{7, 9} {
		evt := w.evt("eventname = ? AND objectid = ?", names[2], course)
		if got := fates(w.trace(evt, "")); !maps.Equal(got, map[string]string{w.nosey: belfry.Told}) {
			w.t.Errorf("the deletion of course %d: %v", course, got)
		}
		if a := w.trace(evt, u(1)); !a.Computed || fates(a)[u(1)] != belfry.NobodyNamed {
			w.t.Errorf("the deletion of course %d for %s: %+v", course, u(1), a)
		}
	}
}

func (w *walk) student() {
	want := w.school.ids(`contextlevel = 70 AND contextinstanceid = 11 AND eventname IN (?, ?) AND userid <> 14`, `\mod_forum\event\discussion_created`, `\mod_forum\event\post_created`)
	if len(want) != 7 {
		w.t.Errorf("%d posts and discussions by others, want 7", len(want))
	}
	w.same("inbox of u12", want, w.inInbox(u(12), w.subs["student"], w.before))
	w.same("letters to u12", want, w.mailed(12, w.subs["student"], w.before))
	own := w.evt("eventname LIKE '%discussion_created' AND objectid = 2")
	if got := fates(w.trace(own, u(12)))[u(12)]; got != "named_user is_actor" {
		w.t.Errorf("u12's own discussion: %s", got)
	}
	// The words of the post are in the letter.
	found := false
	for _, l := range w.mail.to(mailbox(12)) {
		if l.subject == "Re: How heavy" {
			found = strings.Contains(l.text, "Émilie du Châtelet: m/s² please\n") && strings.Contains(l.text, wwwroot+"/mod/forum/discuss.php?d=2")
			if !found {
				w.t.Errorf("the letter says %q", l.text)
			}
			if to := l.head.Get("To"); len(l.to) != 1 || l.to[0].Name != "Łukasz Nowak" {
				w.t.Errorf("To: %s", to)
			}
		}
	}
	if !found {
		w.t.Error("no letter with the words of the post")
	}
}

// feature: NEW-1
func (w *walk) untold() {
	a := w.trace(w.evt("eventname LIKE '%discussion_created' AND objectid = 7"), "")
	got := fates(a)
	want := map[string]string{
		u(4): "told", u(5): "told", u(6): "told", u(10): "told", u(12): "told", w.records: "told",
		u(24): "named_user may_not_see", u(25): "named_user may_not_see", // inactive enrolments
		u(26): "named_user may_not_see", // left the course
		u(39): "named_user user_suspended", u(40): "named_user user_deleted", "user/999": "named_user user_unknown",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("a discussion (-want +got):\n%s", diff)
	}
	if !a.Planned || a.Computed {
		w.t.Error("the trace was not read from what was decided")
	}
	details := map[string]string{}
	for _, p := range a.People {
		details[p.Principal] = p.Because[len(p.Because)-1].Text
	}
	for who, want := range map[string]string{u(24): "role student at course/2: expired on ", u(25): "role student at course/2: suspended enrolment", u(26): "needs a role", u(39): "the user is suspended", u(40): "the user is deleted"} {
		if !strings.Contains(details[who], want) {
			w.t.Errorf("%s reads %q, want %q in it", who, details[who], want)
		}
	}
	for _, n := range []int{24, 25, 26, 39, 40} {
		if got := w.inInbox(u(n), "", w.before); len(got) > 0 {
			w.t.Errorf("%s has %v in the inbox", u(n), got)
		}
		if got := w.mail.to(mailbox(n)); len(got) > 0 {
			w.t.Errorf("%s has %d letters", mailbox(n), len(got))
		}
	}
}

func (w *walk) students() {
	a := w.trace(w.evt("eventname LIKE '%discussion_created' AND objectid = 1"), "")
	want := map[string]string{u(4): "named_role is_actor", u(5): "told", u(6): "told", u(10): "told", w.records: "told",
		u(24): "named_role grant_inactive", u(25): "named_role grant_inactive"}
	for n := 12; n <= 23; n++ {
		want[u(n)] = "told"
	}
	if diff := cmp.Diff(want, fates(a)); diff != "" {
		w.t.Errorf("an announcement (-want +got):\n%s", diff)
	}
	for _, p := range a.People {
		last := p.Because[len(p.Because)-1]
		if p.Principal == u(24) && !strings.HasPrefix(last.Detail, "expired on 20") || p.Principal == u(25) && last.Detail != "suspended enrolment" {
			w.t.Errorf("%s: %+v", p.Principal, last)
		}
	}
	// u26 was in the course once: no rule names her now.
	if b := w.trace(a.Event.EventID, u(26)); !b.Computed || fates(b)[u(26)] != belfry.NobodyNamed {
		w.t.Errorf("%+v", b.People)
	}
}

// feature: S3-1
func (w *walk) cohorts() {
	want := map[string]string{u(16): "told", u(17): "told", u(18): "told", // First years, enrolled by their cohort
		u(27): "named_group may_not_see", u(28): "named_group may_not_see", w.nosey: "told"} // the Science club is not
	for _, id := range w.school.ids(`eventname = ? AND courseid = 6`, `\core\event\course_updated`) {
		if diff := cmp.Diff(want, fates(w.trace(w.before[id].EventID, ""))); diff != "" {
			w.t.Errorf("a change of ENG101 (-want +got):\n%s", diff)
		}
	}
}

// fields are the names of a JSON object's members in their order.
func fields(t *testing.T, raw json.RawMessage) []string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(raw)))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("no object: %s", raw)
	}
	var out []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, name.(string))
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

var seventeen = strings.Fields("eventname component action target objecttable objectid crud edulevel contextid contextlevel contextinstanceid userid courseid relateduserid anonymous other timecreated")

// feature: NSY-1
func (w *walk) noseyEvents() {
	counts, seen := map[string]int{}, map[string]bool{}
	for _, h := range w.hook.hooks("nosey") {
		counts[h.Type]++
		if seen[h.id] || seen[h.Data.ID] {
			w.t.Errorf("%s (%s) came twice", h.id, h.Data.ID)
		}
		seen[h.id], seen[h.Data.ID] = true, true
		names := fields(w.t, h.Data.Data)
		if len(names) < 17 || !slices.Equal(names[:17], seventeen) {
			w.t.Errorf("%s has the fields %v", h.Data.ID, names)
		}
		if e := w.before[h.Data.ID]; e.Type != h.Type || h.Data.Type != h.Type || !h.Time.Equal(e.Time) || h.Data.Source != "moodle/school" || h.Data.Subscription != w.subs["nosey"] || h.Data.Recipient != "" {
			w.t.Errorf("%s: %s", h.Data.ID, h.raw)
		}
		var data struct{ ObjectID, TimeCreated int64 }
		if err := json.Unmarshal(h.Data.Data, &data); err != nil || !strings.HasSuffix(h.Data.ID, fmt.Sprintf("-%d", data.TimeCreated)) {
			w.t.Errorf("%s: %v", h.Data.ID, err)
		}
		record := string(h.Data.Record)
		switch {
		case strings.HasSuffix(h.Type, "_deleted"), h.Type == "core.course_created" && (data.ObjectID == 7 || data.ObjectID == 9), h.Type == "core.course_category_created" && data.ObjectID > 5:
			if record != "false" {
				w.t.Errorf("%s of what is gone has the record %s", h.Type, record)
			}
		case h.Type == "core.course_created" && data.ObjectID == 4:
			if !strings.HasPrefix(record, `{"id":4,"category":2,`) || !strings.Contains(record, "化学 🧪") {
				w.t.Errorf("CHE101 has the record %s", record)
			}
		}
	}
	if diff := cmp.Diff(nosey, counts); diff != "" {
		w.t.Errorf("webhooks (-README +got):\n%s", diff)
	}
	// Cron completed the course as the administrator, for u30.
	byCron := w.school.id("eventname LIKE '%course_completed' AND userid = 2")
	if h, ok := w.hook.got("nosey", byCron); !ok || h.Data.Actor != "user/2" || !slices.Equal(h.Data.Related, []string{u(30)}) {
		w.t.Errorf("cron's completion is %s", h.raw)
	}
	want := map[string]string{w.nosey: "told", u(30): "told", "user/2": "named_user is_actor"}
	if diff := cmp.Diff(want, fates(w.trace(w.before[byCron].EventID, ""))); diff != "" {
		w.t.Errorf("cron's completion (-want +got):\n%s", diff)
	}
}

// feature: MDL-13
func (w *walk) anonymous() {
	id := w.school.id("anonymous = 1")
	evt := w.before[id].EventID
	if who := w.school.number("SELECT userid FROM mdl_logstore_standard_log WHERE anonymous = 1"); who != 33 {
		w.t.Errorf("the row has user %d, the README says 33", who)
	}
	hidden := func(where, text string) {
		w.t.Helper()
		for _, trait := range []string{"user/33", "profile/33", `":33`, `"33"`, "Eoin", "Walsh", "u31"} {
			if strings.Contains(text, trait) {
				w.t.Errorf("%s says %q: %s", where, trait, text)
			}
		}
	}
	h, ok := w.hook.got("records", id)
	if !ok || !slices.Equal(h.Data.Flags, []string{belfry.FlagAnonymous}) {
		w.t.Fatalf("the webhook is %s", h.raw)
	}
	hidden("the webhook", h.raw)
	var data map[string]any
	if err := json.Unmarshal(h.Data.Data, &data); err != nil || data["userid"] != nil || data["relateduserid"] != nil || data["anonymous"] != 1.0 {
		w.t.Errorf("the webhook's data is %s", h.Data.Data)
	}
	told := map[string]string{u(6): "told", u(8): "told", u(9): "told", u(10): "told", w.records: "told"}
	a := w.trace(evt, "")
	if diff := cmp.Diff(told, fates(a)); diff != "" {
		w.t.Errorf("an anonymous answer (-want +got):\n%s", diff)
	}
	for _, call := range []string{"/v1/events/" + evt, "/v1/events/" + evt + "/trace", "/v1/deliveries?event=" + evt} {
		var raw json.RawMessage
		w.call(http.MethodGet, call, nil, &raw)
		hidden(call, string(raw))
	}
	for _, n := range []int{6, 8, 9, 10} {
		found := 0
		for _, entry := range w.inbox(u(n)) {
			if entry.Event == evt {
				found++
				hidden("the inbox of "+u(n), fmt.Sprintf("%+v", entry))
				if entry.Title != "Opinion given: Anonymous opinion" {
					w.t.Errorf("%s reads %q", u(n), entry.Title)
				}
			}
		}
		for _, l := range w.mail.to(mailbox(n)) {
			if l.subject == "Opinion given: Anonymous opinion" {
				found++
				hidden("the letter to "+mailbox(n), l.text+l.html+fmt.Sprint(l.head.Map()))
			}
		}
		if found != 2 {
			w.t.Errorf("%s has %d messages, want an entry and a letter", u(n), found)
		}
	}
	// Nobody was left out as the actor: that would name them.
	if b := w.trace(evt, u(31)); fates(b)[u(31)] != belfry.NobodyNamed {
		w.t.Errorf("u31: %+v", b.People)
	}
}

// told waits until the records endpoint has an event and gives its webhook.
func (w *walk) told(event string) webhook {
	w.t.Helper()
	var h webhook
	w.await("the webhook of "+event, func() (missing string) {
		var ok bool
		if h, ok = w.hook.got("records", event); !ok {
			return "it has not come"
		}
		return ""
	})
	return h
}

// poll is the setting; a second more is what is promised.
const poll = 200 * time.Millisecond

// feature: MDL-12
// feature: MDL-13
func (w *walk) live() {
	// The machine is shared with other tests: one of a few must be in time.
	best := time.Hour
	for range 5 {
		looked := viewed(14)
		looked.realuser = 987654
		event := w.school.log(looked)
		committed := time.Now()
		h := w.told(event)
		best = min(best, h.at.Sub(committed))
		if strings.Contains(h.raw, "987654") || strings.Contains(h.raw, "192.0.2.7") {
			w.t.Errorf("who is behind a log-in-as, or where from, is told: %s", h.raw)
		}
		if best <= poll+time.Second {
			break
		}
	}
	w.t.Logf("a row was told after %v", best)
	if best > poll+time.Second {
		w.t.Errorf("the fastest of five rows took %v, with a poll of %v", best, poll)
	}
}

// feature: MDL-13
func (w *walk) order() {
	top := w.school.top()
	at := func(n int64) row { r := viewed(14); r.id = top + n; return r }
	first, third := w.school.log(at(1)), w.school.log(at(4))
	w.told(first)
	w.told(third)
	// Another request's transaction commits later, with ids from before.
	w.told(w.school.log(at(3)))
	second := w.school.log(at(2))
	w.told(second)
	restored := at(5)
	restored.created = time.Now().Add(-2 * time.Hour).Unix()
	old := w.school.log(restored)
	w.told(w.school.log(at(6)))
	if _, ok := w.hook.got("records", old); ok {
		w.t.Error("a row of a restored course was told")
	}
	if n := w.status(w.source).Counters["restored_rows_dropped"]; n != 1 {
		w.t.Errorf("%d restored rows are counted, want 1", n)
	}
	if _, ok := w.events()[old]; ok {
		w.t.Error("a row of a restored course is stored")
	}
}

// feature: MDL-13
func (w *walk) codecs() {
	updated := row{event: `\core\event\course_updated`, table: "course", object: 2, user: 2}
	updated.other = `a:3:{s:9:"shortname";s:6:"PHY101";s:8:"fullname";s:14:"Mécanique 力";s:13:"updatedfields";a:1:{s:9:"startdate";i:0;}}`
	serialized := w.told(w.school.log(updated))
	updated.other = `{"shortname":"PHY101","fullname":"M\u00e9canique \u529b","updatedfields":{"startdate":0}}`
	encoded := w.told(w.school.log(updated))
	var a, b struct{ Other any }
	for _, x := range []struct {
		h    webhook
		into any
	}{{serialized, &a}, {encoded, &b}} {
		if err := json.Unmarshal(x.h.Data.Data, x.into); err != nil {
			w.t.Fatal(err)
		}
	}
	want := map[string]any{"shortname": "PHY101", "fullname": "Mécanique 力", "updatedfields": map[string]any{"startdate": 0.0}}
	if diff := cmp.Diff(any(want), a.Other); diff != "" {
		w.t.Errorf("PHP-serialized (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(any(want), b.Other); diff != "" {
		w.t.Errorf("JSON (-want +got):\n%s", diff)
	}
	for _, h := range []webhook{serialized, encoded} {
		if !strings.HasPrefix(string(h.Data.Record), `{"id":2,"category":3,`) {
			w.t.Errorf("the record is %s", h.Data.Record)
		}
	}
}

// feature: MDL-17
// feature: MDL-18
func (w *walk) discussion() {
	s := w.school
	now := time.Now().Unix()
	const title, words = `"Quotes", O'Neil's <b>5 > 3</b> & 化学 🧪`, `<p>Why is <b>g</b> 9.81 &amp; not 10? — 引力</p>`
	s.exec(`INSERT INTO mdl_forum_discussions (id, course, forum, name, firstpost, userid, groupid, assessed, timemodified, usermodified) VALUES (8, 2, 11, ?, 11, 15, -1, 0, ?, 15)`, title, now)
	post := func(id, parent, user int64, subject, message string) {
		s.exec(`INSERT INTO mdl_forum_posts (id, discussion, parent, userid, created, modified, subject, message, messageformat) VALUES (?, 8, ?, ?, ?, ?, ?, ?, 1)`, id, parent, user, now, now, subject, message)
	}
	post(11, 0, 15, title, words)
	uploaded := s.log(row{event: `\mod_forum\event\assessable_uploaded`, table: "forum_posts", object: 11, at: forum11, user: 15,
		other: `{"content":"<p>Why is <b>g<\/b> 9.81 &amp; not 10?<\/p>","pathnamehashes":[],"discussionid":8,"triggeredfrom":"forum_add_discussion"}`})
	created := s.log(row{event: `\mod_forum\event\discussion_created`, table: "forum_discussions", object: 8, at: forum11, user: 15, other: `{"forumid":"11"}`})
	w.told(uploaded)
	h := w.told(created)
	if h.Data.Object != "discussion/8" || h.Data.Actor != "user/15" || h.Data.Subject != title {
		w.t.Errorf("the webhook is %s", h.raw)
	}
	var record struct {
		ID, Forum int64
		Name      string
	}
	if err := json.Unmarshal(h.Data.Record, &record); err != nil || record.Name != title || record.ID != 8 || record.Forum != 11 {
		w.t.Errorf("the record is %s", h.Data.Record)
	}
	post(12, 11, 16, "Re: "+title, "<p>Because of the Earth.</p>")
	answered := s.log(row{event: `\mod_forum\event\post_created`, table: "forum_posts", object: 12, at: forum11, user: 16, other: `{"discussionid":8,"forumid":11,"forumtype":"general"}`})
	if h := w.told(answered); h.Data.Object != "discussion/8" || !strings.Contains(string(h.Data.Record), "Because of the Earth.") {
		w.t.Errorf("the webhook is %s", h.raw)
	}
	w.quiet()
	w.same("letters to u12", []string{created, answered}, w.mailed(12, w.subs["student"], w.onlyNew()))

	// u12's letters: subjects in full, one thread, no way to be taken for mail
	// of a person, and out by one click.
	letters := w.mail.to(mailbox(12))
	first, second := letters[len(letters)-2], letters[len(letters)-1]
	if first.subject != title || second.subject != "Re: "+title {
		w.t.Errorf("subjects %q and %q", first.subject, second.subject)
	}
	if !strings.Contains(second.text, "Niels Bohr: Because of the Earth.\n") || !strings.Contains(second.text, wwwroot+"/mod/forum/discuss.php?d=8") {
		w.t.Errorf("the answer reads %q", second.text)
	}
	thread := func(l letter) string { return l.head.Get("References") }
	if thread(first) == "" || thread(first) != thread(second) || first.head.Get("In-Reply-To") != thread(first) || first.head.Get("Message-Id") == second.head.Get("Message-Id") {
		w.t.Errorf("threads %q and %q, in reply to %q", thread(first), thread(second), first.head.Get("In-Reply-To"))
	}
	for _, l := range letters[:len(letters)-2] {
		if thread(l) == thread(first) {
			w.t.Errorf("%q is in the thread of %q", l.subject, first.subject)
		}
	}
	for name, want := range map[string]string{"Auto-Submitted": "auto-generated", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		"List-Id": "<" + strings.ReplaceAll(w.subs["student"], "_", "-") + ".127.0.0.1>", "From": `"Belfry" <belfry@school.example>`} {
		if got := first.head.Get(name); got != want {
			w.t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	// The teachers have no template: the built-in one has the words, too.
	for _, want := range [][2]string{{"Discussion created: " + title, "by Mária Telkes"}, {"Some content has been posted: " + title, "> Why is g 9.81 & not 10?"}, {"Post created: " + title, "> Because of the Earth."}} {
		if !slices.ContainsFunc(w.mail.to(mailbox(4)), func(l letter) bool {
			return l.subject == want[0] && strings.Contains(l.text, want[1]) && strings.Contains(l.text, "Physics › Classical mechanics › General discussion")
		}) {
			w.t.Errorf("the teachers have no letter %q", want)
		}
	}
}

// onlyNew are the events that came since the past was told.
func (w *walk) onlyNew() map[string]belfry.EventView {
	w.t.Helper()
	events := w.events()
	for id := range w.before {
		delete(events, id)
	}
	return events
}

// One click in a letter, as a mail program makes it (RFC 8058).
func (w *walk) oneClick() {
	letters := w.mail.to(mailbox(12))
	link := strings.Trim(letters[len(letters)-1].head.Get("List-Unsubscribe"), "<>")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.PostForm(link, url.Values{"List-Unsubscribe": {"One-Click"}})
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s answers %s", link, resp.Status)
	}
	again := w.school.log(row{event: `\mod_forum\event\post_created`, table: "forum_posts", object: 12, at: forum11, user: 16, other: `{"discussionid":8,"forumid":11,"forumtype":"general"}`})
	w.told(again)
	w.quiet()
	if got := fates(w.trace(w.events()[again].EventID, ""))[u(12)]; got != "named_user opted_out" {
		w.t.Errorf("after the click: %s", got)
	}
	if n := len(w.mail.to(mailbox(12))); n != len(letters) {
		w.t.Errorf("%d letters after the click, %d before", n, len(letters))
	}
	// The other subscriptions stay: an announcement still comes.
	announced := w.school.log(row{event: `\mod_forum\event\discussion_created`, table: "forum_discussions", object: 1, at: place{66, 70, 10, 2}, user: 6, other: `{"forumid":"10"}`})
	w.told(announced)
	w.quiet()
	if got := fates(w.trace(w.events()[announced].EventID, ""))[u(12)]; got != "told" {
		w.t.Errorf("an announcement after the click: %s", got)
	}
}

// feature: MDL-15
func (w *walk) roles() {
	s := w.school
	now := time.Now().Unix()
	fate := func(event string, n int) string {
		w.t.Helper()
		w.told(event)
		return fates(w.trace(w.events()[event].EventID, u(n)))[u(n)]
	}
	expect := func(what, want, got string) {
		w.t.Helper()
		if got != want {
			w.t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	assigned := func(event string, at place, user, role int64) string {
		return s.log(row{event: `\core\event\` + event, table: "role", object: role, at: at, user: 2, related: user, other: `{"id":9001,"component":"","itemid":0}`})
	}
	expect("before", belfry.NobodyNamed, fate(s.log(viewed(14)), 3))

	// u03 gets a role in the category above: nobody enrols there.
	s.exec(`INSERT INTO mdl_role_assignments (id, roleid, contextid, userid, timemodified, modifierid) VALUES (9001, 4, 52, 5, ?, 2)`, now)
	assigned("role_assigned", place{52, 40, 3, 0}, 5, 4)
	expect("a teacher by the category", "told", fate(s.log(viewed(14)), 3))
	s.exec(`DELETE FROM mdl_role_assignments WHERE id = 9001`)
	assigned("role_unassigned", place{52, 40, 3, 0}, 5, 4)
	expect("not any more", belfry.NobodyNamed, fate(s.log(viewed(14)), 3))

	// u26 gets a role in the course, but is not enrolled at first.
	s.exec(`INSERT INTO mdl_role_assignments (id, roleid, contextid, userid, timemodified, modifierid) VALUES (9002, 3, 57, 28, ?, 2)`, now)
	assigned("role_assigned", phy101, 28, 3)
	expect("a teacher who is not enrolled", "named_role grant_inactive", fate(s.log(viewed(14)), 26))
	s.exec(`INSERT INTO mdl_user_enrolments (id, status, enrolid, userid, timestart, timeend, modifierid, timecreated, timemodified) VALUES (9002, 0, 1, 28, 0, 0, 2, ?, ?)`, now, now)
	s.log(row{event: `\core\event\user_enrolment_created`, table: "user_enrolments", object: 9002, user: 2, related: 28, other: `{"enrol":"manual"}`})
	expect("enrolled", "told", fate(s.log(viewed(14)), 26))
	s.exec(`UPDATE mdl_user_enrolments SET status = 1 WHERE id = 9002`)
	s.log(row{event: `\core\event\user_enrolment_updated`, table: "user_enrolments", object: 9002, user: 2, related: 28, other: `{"enrol":"manual"}`})
	expect("enrolment suspended", "named_role grant_inactive", fate(s.log(viewed(14)), 26))

	// u06 is suspended, and comes back.
	s.exec(`UPDATE mdl_user SET suspended = 1 WHERE id = 8`)
	s.log(row{event: `\core\event\user_updated`, table: "user", object: 8, at: place{21, 30, 8, 0}, user: 2, related: 8})
	expect("suspended", "named_role user_suspended", fate(s.log(viewed(14)), 6))
	s.exec(`UPDATE mdl_user SET suspended = 0 WHERE id = 8`)
	s.log(row{event: `\core\event\user_updated`, table: "user", object: 8, at: place{21, 30, 8, 0}, user: 2, related: 8})
	expect("back again", "told", fate(s.log(viewed(14)), 6))
}

func (w *walk) deletion() {
	s := w.school
	s.exec(`DELETE FROM mdl_course_modules WHERE course = 10`)
	s.exec(`DELETE FROM mdl_enrol WHERE courseid = 10`)
	s.exec(`DELETE FROM mdl_context WHERE id = 65 OR path LIKE '/1/51/53/65/%'`)
	s.exec(`DELETE FROM mdl_course WHERE id = 10`)
	event := s.log(row{event: `\core\event\course_deleted`, table: "course", object: 10, at: opt150, user: 2, other: `{"shortname":"OPT150","fullname":"Optics lab","idnumber":""}`})
	w.await("the webhook of the deletion", func() string {
		if _, ok := w.hook.got("nosey", event); !ok {
			return "it has not come"
		}
		return ""
	})
	h, _ := w.hook.got("nosey", event)
	if !strings.HasPrefix(string(h.Data.Record), `{"id":10,"category":4,`) {
		w.t.Errorf("the deleted course has the record %s", h.Data.Record)
	}
	w.quiet()
	want := map[string]string{u(1): "told", u(2): "told", u(11): "told", w.nosey: "told"}
	if diff := cmp.Diff(want, fates(w.trace(w.events()[event].EventID, ""))); diff != "" {
		w.t.Errorf("the deletion of a course (-want +got):\n%s", diff)
	}
	letters := w.mail.to(mailbox(2))
	if got := letters[len(letters)-1].subject; got != "Course deleted: Optics lab" {
		w.t.Errorf("u02's letter is %q", got)
	}
}

func (w *walk) mistakes() {
	reader := testdb.Login(w.t, w.school.dsn, "half_reader", "SELECT ON mdl_logstore_standard_log", "SELECT ON mdl_context", "SELECT ON mdl_course")
	with := func(name, value string) map[string]string {
		out := maps.Clone(w.settings)
		out[name] = value
		return out
	}
	for name, tc := range map[string]struct {
		settings map[string]string
		want     []string
	}{
		"prefix": {with("prefix", "moodle_"), []string{"moodle_logstore_standard_log", `the prefix "moodle_" is wrong`, `under the prefix "mdl_"`}},
		"rights": {with("dsn", reader), []string{"may not read the table mdl_course_categories", "GRANT SELECT ON"}},
	} {
		id := w.house.source("wrong-"+name, tc.settings)
		w.await("the error of a wrong "+name, func() string {
			st := w.status(id)
			for _, want := range tc.want {
				if st.State != "failing" || !strings.Contains(st.Error, want) {
					return fmt.Sprintf("%+v, want %q in it", st, want)
				}
			}
			return ""
		})
		// It is set right without starting anew.
		w.call(http.MethodPut, "/v1/sources/"+id, map[string]any{"settings": with("start", "now")}, nil)
		w.tailing(id, w.school.top())
		w.call(http.MethodDelete, "/v1/sources/"+id, nil, nil)
	}
	for name, tc := range map[string]struct{ setting, value, want string }{
		"no database":    {"dsn", "", "dsn"},
		"not a duration": {"poll", "soon", "poll"},
		"nonsense":       {"pol", "1s", "pol"},
	} {
		err := w.api.Call(w.t.Context(), http.MethodPost, "/v1/sources", map[string]any{"name": "wrong", "kind": "moodle", "settings": with(tc.setting, tc.value)}, nil)
		if err == nil || !strings.Contains(err.Error(), "(422)") || !strings.Contains(err.Error(), tc.want) {
			w.t.Errorf("%s: %v", name, err)
		}
	}
}

// feature: MDL-13
func (w *walk) outage() {
	top := w.school.top()
	w.told(w.school.log(viewed(14)))
	w.stopDB()
	w.await("the outage to be reported", func() string {
		if st := w.status(w.source); st.State != "failing" || !strings.Contains(st.Error, "does not answer") {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
	w.startDB()
	w.school.db = testdb.Open(w.outer, w.school.dsn) // the old connections are dead
	for range 3 {
		w.told(w.school.log(viewed(15)))
	}
	w.tailing(w.source, top+4)
	w.once()
}

func (w *walk) restart() {
	w.quiet()
	w.stop()
	var ids []string
	for range 3 {
		ids = append(ids, w.school.log(viewed(16)))
	}
	w.start()
	for _, id := range ids {
		w.told(id)
	}
	w.once()
}

// once checks that nothing was told twice and that all rows of the log but the
// restored one are stored.
func (w *walk) once() {
	w.t.Helper()
	w.quiet()
	events := w.events()
	maps.DeleteFunc(events, func(_ string, e belfry.EventView) bool { return e.Source == belfry.OwnSource }) // not of the log
	if want := len(w.school.ids("id > 0")) - 1; len(events) != want {
		w.t.Errorf("%d events are stored, want %d", len(events), want)
	}
	seen := map[string]bool{}
	for _, name := range []string{"nosey", "records"} {
		for _, h := range w.hook.hooks(name) {
			if key := name + " " + h.Data.Subscription + " " + h.Data.ID; seen[h.id] || seen[key] {
				w.t.Errorf("%s came twice", key)
			} else {
				seen[h.id], seen[key] = true, true
			}
		}
	}
	for _, l := range w.mail.letters() {
		if id := l.head.Get("Message-Id"); seen[id] {
			w.t.Errorf("letter %s (%s) came twice", id, l.subject)
		} else {
			seen[id] = true
		}
	}
	w.same("inbox of u04", w.school.ids(inPHY101+" AND userid <> 6 AND timecreated > ?", time.Now().Add(-time.Hour).Unix()), w.inInbox(u(4), w.subs["teachers"], w.onlyNew()))
}

package e2e_test

import (
	"database/sql"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // to turn a Monday forward in Belfry's own database

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testdb"
)

var (
	assignment1 = place{71, 70, 14, 2}
	che101      = place{59, 50, 4, 4}
)

// hasten makes an open digest due, in Belfry's own database: no test waits for
// a Monday.
func (h *house) hasten(digest string) {
	h.t.Helper()
	var db *sql.DB
	if url := h.cfg.Database; url != "" {
		db = testdb.Open(h.t, string(url))
	} else {
		var err error
		if db, err = sql.Open("sqlite", "file:"+filepath.Join(h.cfg.DataDir, "belfry.db")+"?_pragma=busy_timeout(10000)"); err != nil {
			h.t.Fatal(err)
		}
		defer db.Close()
	}
	res, err := db.Exec("UPDATE bundles SET due = $1 WHERE id = $2 AND state = 0", time.Now().UnixMicro(), digest)
	if err != nil {
		h.t.Fatal(err)
	}
	if n, err := res.RowsAffected(); n != 1 || err != nil {
		h.t.Fatalf("%d digests are due, %v", n, err)
	}
}

// A weekly digest of PHY101 for u12 in São Paulo, on Monday at 08:00: each thing
// once, nothing of her own, nothing before the time, and what comes after goes
// into the next.
//
// feature: CPS-23, NEW-11, MDL-15
func (w *walk) weekly() {
	const zone = "America/Sao_Paulo"
	w.school.exec("UPDATE mdl_user SET timezone = ? WHERE id = 14", zone)
	w.school.log(row{event: `\core\event\user_updated`, table: "user", object: 14, at: place{22, 30, 14, 0}, user: 2, related: 14})
	var made struct{ ID string }
	w.call(http.MethodPost, "/v1/subscriptions", map[string]any{
		"title": "PHY101 every week", "scope": belfry.Scope{Object: "course/2"}, "types": []string{"core.course_viewed"},
		"recipients": []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{u(12)}}}},
		"notify":     []belfry.Notify{{Channels: []string{"email"}}},
		"frequency":  map[string]any{"every": "weekly", "at": "08:00", "weekday": "monday"},
	}, &made)
	before := len(w.mail.to(mailbox(12)))
	began := time.Now()
	for _, who := range []int64{15, 14, 16} { // the second is her own look
		w.told(w.school.log(viewed(who)))
	}
	w.quiet()
	open := w.digestsOf(u(12), "open")
	if len(open) != 1 || open[0].Items != 2 || open[0].Frequency.Every != "weekly" {
		w.t.Fatalf("u12's open digests: %+v", open)
	}
	here, err := time.LoadLocation(zone)
	if err != nil {
		w.t.Fatal(err)
	}
	var mondays []time.Time // from before and from after: the test may run over one
	for _, t := range []time.Time{began, time.Now()} {
		day := t.In(here)
		at := time.Date(day.Year(), day.Month(), day.Day(), 8, 0, 0, 0, here)
		for at.Weekday() != time.Monday || !at.After(t) {
			at = at.AddDate(0, 0, 1)
		}
		mondays = append(mondays, at)
	}
	if !slices.ContainsFunc(mondays, open[0].Due.Equal) {
		w.t.Errorf("the digest is due %v, want Monday, %v", open[0].Due.In(here), mondays)
	}
	if n := len(w.mail.to(mailbox(12))); n != before {
		w.t.Errorf("%d letters before it is Monday", n-before)
	}
	w.hasten(open[0].ID)
	w.await("the digest", func() string {
		if n := len(w.mail.to(mailbox(12))); n == before {
			return "no letter"
		}
		return ""
	})
	w.told(w.school.log(viewed(15)))
	w.quiet()
	letters := w.mail.to(mailbox(12))[before:]
	if len(letters) != 1 {
		w.t.Fatalf("%d letters", len(letters))
	}
	if text := letters[0].text; strings.Count(text, "Course viewed") != 2 || !strings.Contains(text, "Mária Telkes") || !strings.Contains(text, "Niels Bohr") || strings.Contains(text, "by Łukasz Nowak") {
		w.t.Errorf("the digest %q reads %s", letters[0].subject, text)
	}
	if sent := w.digestsOf(u(12), "sent"); len(sent) != 1 || sent[0].ID != open[0].ID || sent[0].Items != 2 {
		w.t.Errorf("digests that were sent: %+v", sent)
	}
	if next := w.digestsOf(u(12), "open"); len(next) != 1 || next[0].Items != 1 || next[0].ID == open[0].ID || !slices.ContainsFunc(mondays, next[0].Due.Equal) {
		w.t.Errorf("the next digest: %+v", next)
	}
	w.call(http.MethodDelete, "/v1/subscriptions/"+made.ID, nil, nil)
	w.quiet()
}

// Those whose submission of assignment 1 is still a draft are told when it
// changes, by a rule that is computed, and nobody else of the course.
//
// feature: CPS-15
func (w *walk) drafts() {
	var made struct{ ID string }
	w.call(http.MethodPost, "/v1/subscriptions", map[string]any{
		"title": "Not handed in yet", "scope": belfry.Scope{Object: "module/14"}, "types": []string{"core.course_module_updated"},
		"recipients": []belfry.Rule{{Computed: &belfry.ComputedRule{Expression: "object.attributes.drafts"}}},
		"notify":     []belfry.Notify{{Channels: []string{"inbox", "email"}}},
	}, &made)
	reminded := func(want ...int) {
		w.t.Helper()
		before := map[int]int{}
		for n := 12; n <= 25; n++ {
			before[n] = len(w.mail.to(mailbox(n)))
		}
		event := w.school.log(row{event: `\core\event\course_module_updated`, table: "course_modules", object: 14, at: assignment1, user: 6,
			other: `{"modulename":"assign","instanceid":1,"name":"Pendulum"}`})
		w.told(event)
		w.quiet()
		wanted := map[string]string{}
		for _, n := range want {
			wanted[u(n)] = belfry.Told
		}
		for _, teacher := range []int{5, 6, 10} {
			wanted[u(teacher)] = belfry.Told
		}
		wanted[u(4)], wanted[w.records] = "named_role is_actor", belfry.Told
		if diff := cmp.Diff(wanted, fates(w.trace(w.events()[event].EventID, ""))); diff != "" {
			w.t.Errorf("who is reminded (-want +got):\n%s", diff)
		}
		for n := 12; n <= 25; n++ {
			more := 0
			if slices.Contains(want, n) {
				more = 1
			}
			if got := len(w.mail.to(mailbox(n))) - before[n]; got != more {
				w.t.Errorf("%d letters to u%d, want %d", got, n, more)
			}
		}
	}
	submission := func(event string, object, user, related int64, other string) {
		w.told(w.school.log(row{event: `\mod_assign\event\` + event, table: "assign_submission", object: object, at: assignment1, user: user, related: related, other: other}))
	}
	reminded(15, 16)
	w.school.exec("UPDATE mdl_assign_submission SET status = 'submitted' WHERE assignment = 1 AND userid = 18")
	submission("assessable_submitted", 5, 18, 0, `{"submission_editable":false}`)
	reminded(15)
	w.school.exec("UPDATE mdl_assign_submission SET status = 'draft' WHERE assignment = 1 AND userid = 14")
	submission("submission_status_updated", 1, 6, 14, `{"newstatus":"draft"}`)
	reminded(12, 15)
	w.call(http.MethodDelete, "/v1/subscriptions/"+made.ID, nil, nil)
}

// A course that moves to another category is told to those of its new place,
// from the event of the move on; whoever has a role in the course itself stays.
//
// feature: MDL-15, CPS-11
func (w *walk) moved() {
	s := w.school
	var made struct{ ID string }
	w.call(http.MethodPost, "/v1/subscriptions", map[string]any{
		"title": "Looks at courses", "types": []string{"core.course_viewed"}, "object_types": []string{"course"},
		"filter":     "event.object == 'course/4'",
		"recipients": []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"manager", "editingteacher"}, Origins: []string{belfry.OriginMerged}}}},
		"notify":     []belfry.Notify{{Channels: []string{"inbox"}}},
	}, &made)
	told := func(what string, r row, want map[string]string) {
		w.t.Helper()
		id := s.log(r)
		w.await("the event of "+what, func() string {
			if e, ok := w.events()[id]; !ok || !w.trace(e.EventID, "").Planned {
				return "it is not planned"
			}
			return ""
		})
		got := fates(w.trace(w.events()[id].EventID, ""))
		maps.DeleteFunc(got, func(who, _ string) bool { return who == w.nosey })
		if diff := cmp.Diff(want, got); diff != "" {
			w.t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	look := row{event: `\core\event\course_viewed`, at: che101, user: 14}
	// u01 manages Science, u11 the whole site, u07 teaches CHE101 itself.
	told("a look while it is in Science", look, map[string]string{u(1): belfry.Told, u(7): belfry.Told, u(11): belfry.Told})
	s.exec("UPDATE mdl_course SET category = 5 WHERE id = 4")
	s.exec("UPDATE mdl_context SET path = '/1/54/59' WHERE id = 59")
	s.exec("UPDATE mdl_context SET path = " + s.concat("'/1/54/59'", "substr(path, 10)") + " WHERE path LIKE '/1/51/59/%'")
	told("the move", row{event: `\core\event\course_updated`, table: "course", object: 4, at: che101, user: 2,
		other: `{"shortname":"CHE101","fullname":"Chimie","updatedfields":{"category":"5"}}`}, map[string]string{}) // no more below Science, for whose managers there is a subscription
	// u09 teaches by Humanities & Arts.
	told("a look from then on", look, map[string]string{u(7): belfry.Told, u(9): belfry.Told, u(11): belfry.Told})
	w.call(http.MethodDelete, "/v1/subscriptions/"+made.ID, nil, nil)
	w.quiet()
	for n, want := range map[int]int{1: 1, 7: 2, 9: 1, 11: 2} {
		if got := w.inInbox(u(n), made.ID, w.onlyNew()); len(got) != want {
			w.t.Errorf("u%02d has %d entries, want %d", n, len(got), want)
		}
	}
}

// concat puts two texts together in SQL.
func (s *school) concat(a, b string) string {
	if strings.HasPrefix(s.dsn, "mysql") {
		return fmt.Sprintf("CONCAT(%s, %s)", a, b)
	}
	return a + " || " + b
}

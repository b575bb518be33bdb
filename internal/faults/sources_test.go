//go:build linux

package faults_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// One node at a time reads a platform; when it dies another goes on where it
// was, and every row of the platform's log is one event.
// feature: MDL-13, NEW-12
func TestSourceRunsOnOneNode(t *testing.T) {
	t.Parallel()
	site := testdb.MoodlePostgres(t)
	moodle := testdb.Open(t, site)
	h := nodesOn(t)
	ps := []*process{h.start(), h.start()}
	divided(t, ps[0], 2)
	var source struct{ ID string }
	ps[0].call(http.MethodPost, "/v1/sources", map[string]any{"name": "school", "kind": "moodle", "settings": map[string]string{
		"dsn": site, "prefix": "mdl_", "wwwroot": "https://school.example", "poll": "200ms", "start": "now",
	}}, &source)
	states := func(of ...*process) (list []string) {
		for _, p := range of {
			var st struct{ State, Position, Error string }
			p.call(http.MethodGet, "/v1/sources/"+source.ID+"/status", nil, &st)
			list = append(list, st.State)
			if st.Error != "" {
				t.Fatalf("the source says: %s", st.Error)
			}
		}
		return list
	}
	reader := -1
	await(t, patience, "read by one node", func() (bool, string) {
		got := states(ps...)
		for i := range ps {
			if got[i] == "tailing" && got[1-i] == "elsewhere" {
				reader = i
			}
		}
		return reader >= 0, fmt.Sprint(got)
	})
	view := func() {
		_, err := moodle.Exec(`INSERT INTO mdl_logstore_standard_log (id, eventname, component, action, target, crud, edulevel, contextid, contextlevel, contextinstanceid, userid, courseid, anonymous, other, timecreated, origin, ip)
			SELECT max(id) + 1, '\core\event\course_viewed', 'core', 'viewed', 'course', 'r', 0, 57, 50, 2, 5, 2, 0, 'null', $1, 'web', '192.0.2.7' FROM mdl_logstore_standard_log`, time.Now().Unix())
		if err != nil {
			t.Fatal(err)
		}
	}
	arrived := func(p *process, n int) {
		t.Helper()
		await(t, patience, fmt.Sprintf("%d events", n), func() (bool, string) {
			got := list[stored](p, "/v1/events?type=core.course_viewed")
			return len(got) >= n, fmt.Sprintf("%d: %v", len(got), states(p))
		})
	}
	other := ps[1-reader]
	for n := range 3 {
		view()
		arrived(other, n+1)
	}
	ps[reader].kill()
	view()
	await(t, patience, "taken over", func() (bool, string) { got := states(other); return got[0] == "tailing", fmt.Sprint(got) })
	view()
	arrived(other, 5)
	other.idle()
	if got := list[stored](other, "/v1/events?type=core.course_viewed"); len(got) != 5 {
		t.Errorf("5 rows became %d events", len(got))
	}
}

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/belfryhq/belfry/internal/belfry"
)

// system is Moodle's context of the whole site.
var system = place{1, 10, 0, 0}

// feature: MDL-23, NEW-6 more than three failed logins in ten minutes are told
// to the site's administrators once, and the log's user who failed does not
// matter to whom.
func (w *walk) failedLogins() {
	var made struct{ ID, Readable string }
	w.call(http.MethodPost, "/v1/subscriptions", map[string]any{
		"title": "Failed logins", "types": []string{"core.user_login_failed"},
		"condition":  map[string]any{"count": 4, "within": "10m", "cooldown": "1h"},
		"recipients": []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"siteadmin"}}}},
		"notify":     []belfry.Notify{{Channels: []string{"inbox"}}},
	}, &made)
	if want := "When core.user_login_failed happens anywhere, 4 times in 10 minutes, then quiet for 1 hour: tell whoever is siteadmin there and those who joined, by inbox"; made.Readable != want {
		w.t.Errorf("in words: %s", made.Readable)
	}
	fail := func() string {
		return w.school.log(row{event: `\core\event\user_login_failed`, at: system, other: `{"username":"u12","reason":3}`})
	}
	told := func() (list []entry) {
		for _, e := range w.inbox("user/2") {
			if e.Type == belfry.ConditionMet {
				list = append(list, e)
			}
		}
		return list
	}
	stands := func(want int, firings int) {
		w.t.Helper()
		w.await(fmt.Sprintf("%d failed logins to count", want), func() string {
			var groups struct{ Items []belfry.ConditionView }
			w.call(http.MethodGet, "/v1/subscriptions/"+made.ID+"/condition", nil, &groups)
			if len(groups.Items) == 1 && groups.Items[0].Count == want && groups.Items[0].Firings == firings {
				return ""
			}
			return fmt.Sprintf("%+v", groups.Items)
		})
	}
	var failed []string
	for range 3 {
		failed = append(failed, fail())
	}
	stands(3, 0)
	if list := told(); len(list) != 0 {
		w.t.Errorf("three were told: %+v", list)
	}
	failed = append(failed, fail())
	w.await("the administrator to be told", func() string {
		if len(told()) == 1 {
			return ""
		}
		return "nothing in the inbox"
	})
	for range 5 {
		fail()
	}
	stands(5, 1)
	w.quiet()
	list := told()
	if len(list) != 1 || list[0].Title != "Failed logins: Testbed Moodle" {
		w.t.Fatalf("told: %+v", list)
	}
	events := w.events()
	var names []string
	for _, id := range failed {
		names = append(names, events[id].EventID)
	}
	var data belfry.ConditionData
	for _, e := range events {
		if e.EventID == list[0].Event {
			if err := json.Unmarshal(e.Data, &data); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if data.Count != 4 || fmt.Sprint(data.Events) != fmt.Sprint(names) || data.Event == nil || data.Event.Type != "core.user_login_failed" {
		w.t.Errorf("told of %+v, logged were %v", data, names)
	}
	for who, fate := range fates(w.trace(list[0].Event, "")) {
		if who != "user/2" || fate != belfry.Told {
			w.t.Errorf("%s: %s", who, fate)
		}
	}
	w.call(http.MethodDelete, "/v1/subscriptions/"+made.ID, nil, nil)
}

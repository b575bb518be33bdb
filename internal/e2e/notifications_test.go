package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/config"
)

// A message about an object by hand: its reach before anything is sent, the
// send, and pausing and cancelling it on its way.
// feature: CPS-29, CPS-27, NEW-16, CPS-20
func TestNotifications(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(*testing.T, *config.Config) {})
	h.call(http.MethodPut, "/v1/objects/hall", m{"type": "room", "title": "Hall"}, nil)
	for _, id := range []string{"ada", "ben", "cy", "dan", "eve"} {
		u := m{"name": strings.ToUpper(id[:1]) + id[1:]}
		if id != "dan" {
			u["email"] = id + "@example.org"
		}
		if id == "eve" {
			u["state"] = "suspended"
		}
		h.call(http.MethodPut, "/v1/users/"+id, u, nil)
	}
	h.call(http.MethodPut, "/v1/users/cy/preferences", []m{{"level": "none"}}, nil)
	h.call(http.MethodPut, "/v1/groups/board", m{"name": "Board", "members": []string{"ben"}, "address": "board@example.org"}, nil)
	h.call(http.MethodPut, "/v1/objects/hall/grants", []m{{"principal": "ada", "role": "keeper"}}, nil)
	draft := m{"object": "hall", "subject": "{{object.title}} is closed", "body": "Dear {{recipient.name}}, **not** today.", "from": "ben", "channels": []string{"email"},
		"recipients": []m{{"role": m{"roles": []string{"keeper"}}}, {"explicit": m{"users": []string{"ben", "cy", "dan", "eve"}, "groups": []string{"board"}, "emails": []string{"x@example.org"}}}}}

	var reach belfry.Reach
	h.call(http.MethodPost, "/v1/notifications/reach", draft, &reach)
	if got := fmt.Sprint(reach.People, reach.Addresses, reach.Messages, reach.Channels, reach.LeftOut, reach.Reasons, len(reach.Samples)); got != "2 2 4 map[email:4] 3 map[level_none:1 no_address:1 user_suspended:1] 3" {
		t.Errorf("reach %s: %+v", got, reach)
	}
	if len(h.mail.letters()) != 0 || len(h.events()) != 0 {
		t.Fatal("asking for the reach sent something")
	}

	var n belfry.Notification
	h.call(http.MethodPost, "/v1/notifications", draft, &n)
	h.quiet()
	h.call(http.MethodGet, "/v1/notifications/"+n.ID, nil, &n)
	if n.State != belfry.NotificationSent || n.Progress == nil || n.Progress.Delivered != 4 || n.Who == "" || !strings.HasPrefix(n.Event, "evt_") {
		t.Errorf("%+v %+v", n, n.Progress)
	}
	letters := h.mail.to("ada@example.org")
	if len(letters) != 1 || letters[0].subject != "Hall is closed" || !strings.Contains(letters[0].text, "Dear Ada, not today.") || letters[0].head.Get("Reply-To") != `"Ben" <ben@example.org>` {
		t.Errorf("ada's: %+v", letters)
	}
	if len(h.mail.to("board@example.org")) != 1 || len(h.mail.to("x@example.org")) != 1 || len(h.mail.letters()) != 4 {
		t.Errorf("%d letters", len(h.mail.letters()))
	}
	if got := fates(h.trace(n.Event, "cy")); got["cy"] != "named_user level_none" {
		t.Errorf("cy: %v", got)
	}

	// A message that somebody stops on its way: paused before it is planned or
	// sent, it reaches those who had none when it is resumed, each once.
	var crowd []m
	var ids []string
	for i := range 300 {
		id := fmt.Sprintf("u%03d", i)
		ids = append(ids, id)
		crowd = append(crowd, m{"id": id, "email": id + "@crowd.example"})
	}
	h.call(http.MethodPost, "/v1/users:batch", crowd, nil)
	many := m{"object": "hall", "body": "Hello", "channels": []string{"email"}, "recipients": []m{{"explicit": m{"users": ids}}}}
	arrived := func() map[string]int {
		got := map[string]int{}
		for _, l := range h.mail.letters() {
			for _, a := range l.envelope {
				if strings.HasSuffix(a, "@crowd.example") {
					got[a]++
				}
			}
		}
		return got
	}
	h.call(http.MethodPost, "/v1/notifications", many, &n)
	h.call(http.MethodPost, "/v1/notifications/"+n.ID+"/pause", m{"because": "a mistake?"}, &n)
	if n.State != belfry.NotificationPaused {
		t.Errorf("%+v", n)
	}
	h.call(http.MethodPost, "/v1/notifications/"+n.ID+"/resume", nil, &n)
	h.await("all 300 to be told", func() string {
		if got := len(arrived()); got != 300 {
			return fmt.Sprintf("%d are", got)
		}
		return ""
	})
	h.quiet()
	for a, times := range arrived() {
		if times != 1 {
			t.Errorf("%s was told %d times", a, times)
		}
	}

	h.call(http.MethodPost, "/v1/notifications", many, &n)
	h.call(http.MethodPost, "/v1/notifications/"+n.ID+"/pause", nil, nil)
	h.call(http.MethodPost, "/v1/notifications/"+n.ID+"/cancel", nil, &n)
	h.quiet()
	h.call(http.MethodGet, "/v1/notifications/"+n.ID, nil, &n)
	told := 0
	for _, times := range arrived() {
		told += times
	}
	if n.State != belfry.NotificationCancelled || n.Progress.Open != 0 || int64(told-300) != n.Progress.Delivered {
		t.Errorf("%d were told again: %+v %+v", told-300, n, n.Progress)
	}

	for body, want := range map[string]m{
		"/recipients": {"body": "x"},
		"/body":       {"recipients": draft["recipients"]},
		"/subject":    {"recipients": draft["recipients"], "body": "x", "subject": "{{nothing}}"},
		"/from":       {"recipients": draft["recipients"], "body": "x", "from": "nobody"},
		"/object":     {"recipients": draft["recipients"], "body": "x", "object": "nowhere"},
		"/channels/0": {"recipients": draft["recipients"], "body": "x", "channels": []string{"pigeon"}},
		"/template":   {"recipients": draft["recipients"], "template": "none"},
	} {
		if err := h.api.Call(t.Context(), http.MethodPost, "/v1/notifications", want, nil); err == nil || !strings.Contains(err.Error(), body) {
			t.Errorf("%v: %v, want a fault at %s", want, err, body)
		}
	}
	if list := all[belfry.Notification](h, "/v1/notifications?"); len(list) != 3 {
		t.Errorf("%d notifications", len(list))
	}
	audit := all[struct{ Action, Target string }](h, "/v1/audit?")
	sent := 0
	for _, a := range audit {
		if a.Action == "notification.send" {
			sent++
		}
	}
	if sent != 3 {
		t.Errorf("%d sends in the audit", sent)
	}
}

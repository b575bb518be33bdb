package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/config"
)

// What somebody subscribes to in Sahana Eden: several resources with one filter,
// what is new, what is updated, or both, by several methods of which each succeeds
// or fails by itself, and several such subscriptions beside each other.
//
// feature: S3-2, S3-3, S3-5, S3-9
func TestSubscriptionsOfSahana(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(*testing.T, *config.Config) {})
	h.mail.refuses = "ada@relief.example"
	h.call(http.MethodPost, "/v1/users:batch", []m{{"id": "ada", "email": "ada@relief.example"}, {"id": "ben", "email": "ben@relief.example"}}, nil)
	subscribe := func(s m) { h.call(http.MethodPost, "/v1/subscriptions", s, nil) }
	told := func(users ...string) []m { return []m{{"explicit": m{"users": users}}} }
	subscribe(m{"title": "The north", "types": []string{"case.*", "shelter.*"}, "filter": "event.data.region == \"north\"",
		"recipients": told("ada", "ben"), "notify": []m{{"channels": []string{"inbox", "email"}}}})
	subscribe(m{"title": "Shelters that change", "types": []string{"shelter.updated"}, "frequency": "daily", "recipients": told("ben"),
		"notify": []m{{"channels": []string{"email"}}}})
	event := func(id, typ, region string) {
		h.call(http.MethodPost, "/v1/events", m{"id": id, "source": "/eden", "type": typ, "object": "o/" + id, "data": m{"region": region}}, nil)
	}
	event("1", "case.created", "north")
	h.await("it to be known that there is no mailbox of ada", func() string {
		var list struct{ Items []struct{ Dead string } }
		h.call(http.MethodGet, "/v1/users/ada/contacts", nil, &list)
		if len(list.Items) != 1 || list.Items[0].Dead == "" {
			return fmt.Sprintf("%+v", list)
		}
		return ""
	})
	event("2", "shelter.created", "north") // from here on nothing is sent to her
	event("3", "shelter.created", "south") // another region
	event("4", "task.created", "north")    // another resource
	h.quiet()
	if list := h.digestsOf("ben", "open"); len(list) != 0 {
		t.Fatalf("there are only new shelters, and %d messages of updated ones to come", len(list))
	}
	event("5", "shelter.updated", "south")
	event("6", "shelter.updated", "north")
	h.await("the digest of what was updated", func() string {
		if list := h.digestsOf("ben", "open"); len(list) != 1 || list[0].Items != 1 { // of the other he is told at once, by the first
			return fmt.Sprintf("%+v", list)
		}
		return ""
	})
	h.hasten(h.digestsOf("ben", "open")[0].ID)
	h.await("it to be sent", func() string {
		list := h.digestsOf("ben", "sealed")
		if n := len(h.mail.to("ben@relief.example")); n != 4 { // and three of the north
			return fmt.Sprintf("%d letters, %+v", n, list)
		}
		return ""
	})
	h.quiet()

	// Each method has an outcome of its own: no mailbox keeps nobody from the inbox.
	type delivery struct{ Address, Channel, State string }
	mails := map[string]map[string]bool{}
	for _, d := range all[delivery](h, "/v1/deliveries?channel=email&") {
		if mails[d.Address] == nil {
			mails[d.Address] = map[string]bool{}
		}
		mails[d.Address][d.State] = true
	}
	for _, who := range []string{"ada", "ben"} {
		var types []string
		for _, e := range h.inbox(who) {
			types = append(types, e.Type)
		}
		slices.Sort(types)
		if diff := cmp.Diff([]string{"case.created", "shelter.created", "shelter.updated"}, types); diff != "" {
			t.Errorf("the inbox of %s (-want +got):\n%s", who, diff)
		}
	}
	if diff := cmp.Diff(map[string]map[string]bool{"ada@relief.example": {"failed": true}, "ben@relief.example": {"delivered": true}}, mails); diff != "" {
		t.Errorf("what became of the mails (-want +got):\n%s", diff)
	}
}

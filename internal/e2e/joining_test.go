package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/testdb"
)

var confirmLink = regexp.MustCompile(`http://[^\s"<>)\]]+/confirm/[A-Za-z0-9_-]+`)

// link is the one of a letter that asks.
func (l *letter) link(t *testing.T) string {
	t.Helper()
	link := confirmLink.FindString(l.text)
	if link == "" || !strings.Contains(l.html, link) {
		t.Fatalf("no link in %s\n%s", l.subject, l.text)
	}
	return link
}

// follow sends a request as a browser or a mail scanner does, and gives the page.
func (h *house) follow(method, link string) string {
	h.t.Helper()
	q, err := http.NewRequest(method, link, strings.NewReader(""))
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := h.api.HTTP.Do(q)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %d %v", link, resp.StatusCode, err)
	}
	return string(body)
}

// nth waits for the n-th letter to an address.
func (h *house) nth(address string, n int, subject string) letter {
	h.t.Helper()
	var l letter
	h.await(fmt.Sprintf("letter %d to %s", n, address), func() string {
		ls := h.mail.to(address)
		if len(ls) < n {
			return fmt.Sprintf("there are %d", len(ls))
		}
		l = ls[n-1]
		return ""
	})
	if l.subject != subject {
		h.t.Errorf("letter %d to %s is %q, want %q\n%s", n, address, l.subject, subject, l.text)
	}
	return l
}

func (h *house) event(typ string) {
	h.t.Helper()
	h.call(http.MethodPost, "/v1/events", map[string]any{"source": "/paper", "type": typ, "object": "paper"}, nil)
}

// An address joins by the link of a mail and leaves by another; mail scanners
// confirm nothing; what is asked for before the program stops is asked after it
// starts; it is so for an address that a user has, whatever she prefers.
// feature: CPS-10, CPS-26, S3-26
func TestAddressesJoinByMail(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(*testing.T, *config.Config){
		"sqlite": func(*testing.T, *config.Config) {},
		"postgres": func(t *testing.T, c *config.Config) {
			c.Database = config.URL(testdb.Postgres(t))
			c.SecretKey = []config.Secret{"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, place)
			h.call(http.MethodPut, "/v1/objects/paper", map[string]any{"type": "section", "title": "The Paper"}, nil)
			h.call(http.MethodPut, "/v1/users/eve", map[string]any{"name": "Eve", "email": "eve@example.org"}, nil)
			h.call(http.MethodPut, "/v1/users/eve/preferences", []map[string]any{{"level": "none"}}, nil)
			var sub struct{ ID string }
			h.call(http.MethodPost, "/v1/subscriptions", map[string]any{"title": "Front page", "types": []string{"page.set"}, "joining": map[string]any{"who": "anyone"}}, &sub)
			ask := func(what, email string) {
				h.call(http.MethodPost, "/v1/subscriptions/"+sub.ID+"/"+what, map[string]string{"email": email, "client": "203.0.113.7"}, nil)
			}
			members := func() (list []string) {
				var ms struct{ Items []struct{ Principal string } }
				h.call(http.MethodGet, "/v1/subscriptions/"+sub.ID+"/members", nil, &ms)
				for _, m := range ms.Items {
					list = append(list, m.Principal)
				}
				return list
			}
			const x = "x@example.org"
			h.event("page.set") // before anybody joined
			ask("join", "X@Example.org")
			ask("join", "X@Example.org")
			h.stop() // whatever was answered 202 is done after the start
			h.cfg.PublicURL = ""
			h.start()
			mail := h.nth(x, 1, "Please confirm: Front page")
			// The address of the server has changed: the token is what counts.
			link := h.api.Server + mail.link(t)[strings.Index(mail.link(t), "/confirm/"):]
			for range 3 {
				if page := h.follow(http.MethodGet, link); !strings.Contains(page, "Get these messages?") || !strings.Contains(page, x) {
					t.Error(page)
				}
			}
			if ms := members(); len(ms) != 0 {
				t.Errorf("looking joined %v", ms)
			}
			for range 2 {
				if page := h.follow(http.MethodPost, link); !strings.Contains(page, "You joined") {
					t.Error(page)
				}
			}
			welcome := h.nth(x, 2, "Welcome: Front page")
			if welcome.head.Get("List-Unsubscribe") == "" {
				t.Error("the welcome does not say how to leave")
			}
			h.event("page.set")
			h.nth(x, 3, "Page set: The Paper")

			ask("leave", x)
			ask("leave", "stranger@example.org")
			bye := h.nth(x, 4, "Please confirm that you leave: Front page")
			if page := h.follow(http.MethodPost, bye.link(t)); !strings.Contains(page, "Messages stopped") {
				t.Error(page)
			}
			h.nth(x, 5, "Goodbye: Front page")
			h.event("page.set")

			// A user who wants nothing at all is asked all the same.
			ask("join", "eve@example.org")
			asked := h.nth("eve@example.org", 1, "Please confirm: Front page")
			h.follow(http.MethodPost, asked.link(t))
			if ms := members(); len(ms) != 1 || ms[0] != "eve@example.org" {
				t.Errorf("members: %v", ms)
			}
			h.event("page.set")
			h.await("the last event", func() string {
				for _, l := range h.mail.to("eve@example.org") {
					if l.subject == "Page set: The Paper" {
						return ""
					}
				}
				return "not there"
			})
			if n := len(h.mail.to(x)); n != 5 {
				t.Errorf("%d letters to who left, want 5: no backlog, no news", n)
			}
			if n := len(h.mail.to("stranger@example.org")); n != 0 {
				t.Errorf("%d letters to a stranger", n)
			}
			if page := h.follow(http.MethodGet, h.api.Server+"/confirm/nonsense"); !strings.Contains(page, "not valid") {
				t.Error(page)
			}
		})
	}
}

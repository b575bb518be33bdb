package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/config"
)

type m = map[string]any

// What messages say: templates at objects and in languages, words of a
// notification, computed ones, senders, and records as attachments, through the
// whole program to a mail server.
// feature: CPS-16, CPS-18, CPS-19, CPS-28, S3-16, S3-13
func TestMessages(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(_ *testing.T, cfg *config.Config) {
		cfg.Channels["email"]["from_domains"] = "library.example"
	})
	h.call(http.MethodPut, "/v1/settings", m{"name": "The School", "url": "https://school.example", "locale": "fr", "sender": m{"reply_to": "office@school.example"}}, nil)
	for id, locale := range map[string]string{"ada": "de-AT", "ben": "pt-BR", "cy": "", "dan": "en"} {
		h.call(http.MethodPut, "/v1/users/"+id, m{"name": strings.ToUpper(id[:1]) + id[1:], "email": id + "@example.org", "locale": locale, "time_zone": "Europe/Berlin"}, nil)
	}
	h.call(http.MethodPut, "/v1/objects/library", m{"type": "place", "title": "Library"}, nil)
	h.call(http.MethodPut, "/v1/objects/desk", m{"type": "place", "title": "Desk", "parent": "library"}, nil)
	h.call(http.MethodPut, "/v1/objects/library/settings", m{"sender": m{"from": "Library <library@library.example>"}}, nil)
	h.call(http.MethodPut, "/v1/templates/due", m{"subject": "Due: {{record.title}}", "body": "{{record.title}} by {{#as.date}}{{record.due}}{{/as.date}}. {{site.name}}",
		"locales": m{"de": m{"subject": "Fällig: {{record.title}}", "body": "{{record.title}} bis {{#as.date}}{{record.due}}{{/as.date}}"}, "pt": m{"subject": "", "body": "{{record.title}} até {{#as.date}}{{record.due}}{{/as.date}}"}}}, nil)
	h.call(http.MethodPut, "/v1/objects/desk/templates/due", m{"subject": "At the desk: {{record.title}}", "body": "Come to {{object.title}}."}, nil)
	everybody := []m{{"explicit": m{"users": []string{"ada", "ben", "cy", "dan"}}}}
	h.call(http.MethodPost, "/v1/subscriptions", m{"title": "Due", "types": []string{"book.due"}, "recipients": everybody,
		"notify": []m{{"channels": []string{"email"}, "template": "due", "attach": "csv"}}}, nil)
	h.call(http.MethodPost, "/v1/subscriptions", m{"title": "Fines", "types": []string{"fine.made"}, "recipients": everybody, "sender": m{"from": "Evil <ceo@bank.example>"},
		"notify": []m{
			{"channels": []string{"email"}, "message": `recipient.id == "ada" ? {"subject": "Pay, " + recipient.name, "body": "<b>" + string(event.data.sum) + "</b>\n[now](https://x.example)"} : {"body": ""}`},
			{"channels": []string{"email"}, "message": `recipient.id == "dan" ? false : true`, "subject": "A fine for {{actor.name}}", "body": "It is **{{#as.number}}{{event.data.sum}}{{/as.number}}**."},
		}}, nil)
	h.call(http.MethodPost, "/v1/subscriptions", m{"title": "Notes", "types": []string{"note.left"}, "recipients": everybody, "sender": m{"actor": true},
		"notify": []m{{"channels": []string{"email", "inbox"}, "message": `recipient.id in ["cy", "ada"] ? "For you" : ""`}}}, nil)

	post := func(e m) string {
		t.Helper()
		e["source"] = "/library"
		var r struct{ IDs []string }
		h.call(http.MethodPost, "/v1/events", e, &r)
		return r.IDs[0]
	}
	post(m{"type": "book.due", "object": "library", "record": m{"title": "=HYPERLINK(\"http://x\")", "due": "2026-12-01", "n": -5}})
	h.quiet()
	post(m{"type": "book.due", "object": "desk", "record": m{"title": "Atlas"}})
	h.quiet()
	fine := post(m{"type": "fine.made", "actor": "cy", "object": "library", "data": m{"sum": 1234.5}})
	h.quiet()
	note := post(m{"type": "note.left", "actor": "ben", "object": "desk"})
	h.quiet()
	secret := post(m{"type": "note.left", "actor": "ben", "object": "desk", "flags": []string{"anonymous"}})
	h.quiet()

	letters := map[string][]letter{}
	for _, who := range []string{"ada", "ben", "cy", "dan"} {
		letters[who] = h.mail.to(who + "@example.org")
	}
	check := func(who string, n int, want ...string) letter {
		t.Helper()
		if len(letters[who]) <= n {
			t.Fatalf("%s has %d letters, not %d", who, len(letters[who]), n+1)
		}
		l := letters[who][n]
		all := fmt.Sprintf("From: %s\nReply-To: %s\nSubject: %s\n%s", l.head.Get("From"), l.head.Get("Reply-To"), l.subject, l.text)
		for _, part := range want {
			if not, ok := strings.CutPrefix(part, "!"); ok && strings.Contains(all, not) || !ok && !strings.Contains(all, part) {
				t.Errorf("letter %d of %s: %q is wrong in\n%s", n, who, part, all)
			}
		}
		return l
	}
	const bad = `=HYPERLINK("http://x")`
	l := check("ada", 0, `From: "Library" <library@library.example>`, "Reply-To: <office@school.example>", "Subject: Fällig: "+bad, bad+" bis 1. Dezember 2026", "Sie erhalten diese Nachricht")
	if table, want := l.files["records.csv"], "time,type,object,due,n,title\r\n"; !strings.Contains(table, want) || !strings.Contains(table, `book.due,library,2026-12-01,-5,"'=HYPERLINK(""http://x"")"`+"\r\n") {
		t.Errorf("records.csv is %q", table)
	}
	check("ben", 0, "Subject: Due: "+bad, bad+" até 1 de dezembro de 2026", "Vous recevez ce message") // what Belfry says: no Portuguese, so the tenant's
	check("cy", 0, bad+" by 1 décembre 2026. The School")
	check("dan", 0, bad+" by 1 December 2026. The School")
	for _, who := range []string{"ada", "dan"} {
		check(who, 1, "Subject: At the desk: Atlas", "Come to Desk.", `"Library" <library@library.example>`)
	}

	check("ada", 2, `From: "Evil" <belfry@school.example>`, "Subject: Pay, Ada", "<b>1234.5</b>\n[now](https://x.example)")
	if html := letters["ada"][2].html; strings.Contains(html, "<b>1234") || strings.Contains(html, `href="https://x.example`) {
		t.Errorf("a computed message is markup:\n%s", html)
	}
	check("ben", 2, "Subject: A fine for Cy", "It is 1.234,5.")
	if len(letters["cy"]) != 4 || len(letters["dan"]) != 2 { // without the fine: she is its actor, he has no message of it
		t.Errorf("cy has %d letters, dan %d", len(letters["cy"]), len(letters["dan"]))
	}

	check("cy", 2, `From: "Ben" <belfry@school.example>`, `Reply-To: "Ben" <ben@example.org>`, "For you")
	check("ada", 4, `!Ben`, `From: "Library" <library@library.example>`, "Reply-To: <office@school.example>", "!ben@example.org")
	for _, event := range []string{fine, note, secret} {
		if got := fates(h.trace(event, "dan")); got["dan"] != "named_user message_none" {
			t.Errorf("dan, for whom there is no message of %s: %v", event, got)
		}
	}
	if e := h.inbox("cy"); len(e) == 0 || e[0].Text != "For you" {
		t.Errorf("cy's inbox: %+v", e)
	}
	if e := h.inbox("dan"); len(e) != 0 {
		t.Errorf("dan's inbox: %+v", e)
	}
}

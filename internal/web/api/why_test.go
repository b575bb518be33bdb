package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

func someWhy(id string) belfry.Why {
	return belfry.Why{
		Delivery: id, Outcome: belfry.Told, State: "delivered", Event: belfry.WhyEvent{ID: "evt_1", Type: "core.x", Title: "Course <b>changed</b>"},
		Subscription: belfry.WhySubscription{ID: "sub_1", Title: "Teachers"}, Contact: belfry.WhyContact{Channel: "email", Address: "ada@example.org"}, Locale: "de",
		Named:   belfry.ViewReasons([]belfry.Reason{{Code: belfry.NamedMember, Subscription: "sub_1"}}),
		Decided: belfry.ViewReasons([]belfry.Reason{{Code: belfry.ByTenant}}), Planned: time.Unix(0, 0).UTC(),
		Attempts: []belfry.WhyAttempt{{At: time.Unix(1, 0).UTC(), Outcome: "accepted"}},
		Change:   []belfry.WhyChange{{Code: belfry.ChangeLeave, URL: "https://belfry.example/u/x"}},
	}
}

func (e *explainer) Why(_ context.Context, _, id string) (belfry.Why, error) {
	if id == "dlv_404" {
		return belfry.Why{}, belfry.Errorf(belfry.NotFound, "there is no delivery")
	}
	return someWhy(id), nil
}

func (l *links) Why(_ context.Context, token string) (belfry.Why, error) {
	if l.fail != nil {
		return belfry.Why{}, l.fail
	}
	if token != "good" {
		return belfry.Why{}, belfry.Errorf(belfry.NotFound, "this link is not valid: %s", token)
	}
	return someWhy("dlv_1"), nil
}

// feature: NEW-1 why did I get this: for whoever has a key, and for whoever has
// the link of the message, in her language and without an account
func TestWhy(t *testing.T) {
	h := newHouse(t)
	has := func(body string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(body, p) {
				t.Errorf("%s is not in %s", p, body)
			}
		}
	}
	has(h.want(200, "GET", "/v1/deliveries/dlv_1/why", "").body, `"text":"joined the subscription"`, `"text":"Leave the subscription, which you joined"`, `"delivery":"dlv_1"`)
	has(h.want(200, "GET", "/v1/deliveries/dlv_1/why", "", "Accept-Language", "fr-CA, en;q=0.5").body, `"text":"Quitter l’abonnement`)
	h.want(404, "GET", "/v1/deliveries/dlv_404/why", "").problem(t)
	h.want(403, "GET", "/v1/deliveries/dlv_1/why", "", "Authorization", "Bearer "+h.key("default", "publish")).problem(t)

	page := h.want(200, "GET", "/why/good", "", "Authorization", "")
	has(page.body, "Warum Sie diese Nachricht erhalten haben", "dem Abonnement beigetreten", `<a href="https://belfry.example/u/x">`, "Course &lt;b&gt;changed", "ada@example.org", `lang="de"`)
	if page.header.Get("X-Robots-Tag") != "noindex" || !strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'none'") || page.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", page.header)
	}
	for language, outcome := range map[string]string{"de": "zur Zustellung angenommen", "en": "taken on, to be delivered", "es": "aceptado para su entrega", "fr": "pris en charge pour être remis"} {
		for _, accept := range []string{"text/html", "application/json"} {
			has(h.want(200, "GET", "/why/good", "", "Authorization", "", "Accept-Language", language, "Accept", accept).body, outcome)
		}
	}
	has(h.want(200, "GET", "/why/good", "", "Authorization", "", "Accept-Language", "en").body, "Why you got this message")
	has(h.want(200, "GET", "/why/good", "", "Authorization", "", "Accept", "application/json").body, `"delivery":"dlv_1"`, "dem Abonnement beigetreten")
	bad, worse := h.want(200, "GET", "/why/bad", "", "Authorization", ""), h.want(200, "GET", "/why/worse", "", "Authorization", "")
	if bad.body != worse.body || !strings.Contains(bad.body, "This link is not valid") || strings.Contains(bad.body, "ada") {
		t.Errorf("%s", bad.body)
	}
	h.want(404, "GET", "/why/bad", "", "Authorization", "", "Accept", "application/json").problem(t)
	h.public.fail = belfry.Errorf(belfry.Unavailable, "the database is away")
	h.want(503, "GET", "/why/good", "", "Authorization", "").problem(t)
}

package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// feature: NEW-1 answers say their sentences in the language of Accept-Language,
// codes and details stay as they are; without it in English.
func TestSentencesInTheReadersLanguage(t *testing.T) {
	h := newHouse(t)
	open := "open"
	explain := func(headers ...string) answer {
		// Sentences are said again where they are: nobody else may hold the answer.
		h.explain.answer = belfry.Answer{
			Subscriptions: []belfry.AnswerSubscription{{ID: "sub_1", Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.ConditionCounted, Group: "t/1"}}),
				Condition: &belfry.ConditionView{Group: "t/1", Value: &open, Text: "?"}}},
			People: []belfry.AnswerPerson{{Principal: "ada", Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.Muted, Object: "course/41", Detail: "until 2026"}})}},
		}
		return h.want(200, "POST", "/v1/explain", `{"source":"/x","type":"a.b"}`, headers...)
	}
	for language, want := range map[string][]string{
		"en":           {`"code":"muted"`, `"text":"muted, at course/41: until 2026"`},
		"de-CH, en":    {`"code":"muted"`, `"text":"stummgeschaltet, bei course/41: until 2026"`, `"text":"es zählt für die Bedingung, die meldet, wenn sie erfüllt ist, Gruppe t/1"`, `es war \"open\" am`},
		"pt, fr;q=0.5": {`"code":"muted"`, `c’était \"open\" le`},
		"es":           {`era \"open\" el`},
		"pt":           {`"text":"muted, at course/41: until 2026"`},
	} {
		a := explain("Accept-Language", language)
		for _, part := range want {
			if !strings.Contains(a.body, part) {
				t.Errorf("%s: %s is not in %s", language, part, a.body)
			}
		}
		if !strings.Contains(strings.Join(a.header.Values("Vary"), ","), "Accept-Language") {
			t.Errorf("%s: the answer may be taken for one in another language: %v", language, a.header)
		}
	}
	if body := explain().body; !strings.Contains(body, `"text":"muted, at course/41: until 2026"`) {
		t.Errorf("nothing asked: %s", body)
	}
	// Rules, when they are saved and read, alone and listed.
	a := h.want(201, "POST", "/v1/subscriptions", `{"types":["a.b"],"condition":{"absence":"26h"}}`, "Accept-Language", "fr")
	if part := `"readable":"Quand pendant 26 heures aucun a.b ne se produit n’importe où : prévenir ceux qui se sont inscrits, comme ils préfèrent"`; !strings.Contains(a.body, part) {
		t.Errorf("%s is not in %s", part, a.body)
	}
	if body := h.want(200, "GET", a.header.Get("Location"), "", "Accept-Language", "de").body; !strings.Contains(body, `"readable":"Wenn binnen 26 Stunden kein a.b irgendwo geschieht`) {
		t.Errorf("in German: %s", body)
	}
	if body := h.want(201, "PUT", "/v1/filters/exams", `{"filter":"event.data.kind == 'exam'"}`, "Accept-Language", "es").body; !strings.Contains(body, `"readable":"kind es \"exam\""`) {
		t.Errorf("a filter in Spanish: %s", body)
	}
	if body := h.want(200, "GET", "/v1/subscriptions/sub_1/condition", "", "Accept-Language", "es").body; !strings.Contains(body, `de 3 en 10 minutos`) {
		t.Errorf("where a condition stands, in Spanish: %s", body)
	}
}

// Awaits says of every delivery that it waits.
func (e *explainer) Awaits(_ context.Context, _ string, ds []belfry.Delivery) (map[string]belfry.ReasonView, error) {
	out := map[string]belfry.ReasonView{}
	for i := range ds {
		out[ds[i].ID] = belfry.ViewReasons([]belfry.Reason{{Code: belfry.SubscriptionWaits, Subscription: "sub_1"}})[0]
	}
	return out, nil
}

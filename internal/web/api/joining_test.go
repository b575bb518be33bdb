package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/web/api"
)

func (l *links) Asked(_ context.Context, token string) (api.JoinOffer, error) {
	if l.fail != nil {
		return api.JoinOffer{}, l.fail
	}
	offers := map[string]api.JoinOffer{
		"good":   {State: "open", Title: "Course <b>changes</b>", Place: "Forum <3>", Who: "ada@example.org"},
		"leave":  {State: "open", Leave: true, Title: "Course changes", Who: "ada@example.org"},
		"closed": {State: "closed", Title: "Course changes"},
	}
	o, ok := offers[token]
	if !ok {
		return o, belfry.Errorf(belfry.NotFound, "this link is not valid: %s", token)
	}
	return o, nil
}

func (l *links) Answer(ctx context.Context, token string) (api.JoinOffer, error) {
	o, err := l.Asked(ctx, token)
	if err == nil && o.State == "open" {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended++
		o.State = "done"
	}
	return o, err
}

// Looking confirms nothing, as mail scanners do; what is shown is escaped; all
// links that are not valid are answered alike.
// feature: CPS-10
func TestConfirmPage(t *testing.T) {
	h := newHouse(t)
	page := h.want(200, "GET", "/confirm/good", "", "Authorization", "")
	if !strings.Contains(page.body, "Course &lt;b&gt;changes&lt;/b&gt;") || !strings.Contains(page.body, "Forum &lt;3&gt;") || !strings.Contains(page.body, `<form method="post">`) || strings.Contains(page.body, "<script") {
		t.Error(page.body)
	}
	if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Error(csp)
	}
	if h.send("HEAD", "/confirm/good", "", "Authorization", "").status != 200 || h.public.ended != 0 {
		t.Error("looking confirmed it")
	}
	for token, want := range map[string]string{"good": "You joined", "leave": "Messages stopped", "closed": "Closed for now"} {
		if a := h.want(200, "POST", "/confirm/"+token, "", "Authorization", ""); !strings.Contains(a.body, "<h1>"+want+"</h1>") {
			t.Error(token, a.body)
		}
	}
	if h.public.ended != 2 {
		t.Errorf("%d were confirmed", h.public.ended)
	}
	gone := h.want(200, "GET", "/confirm/unknown", "", "Authorization", "")
	for _, method := range []string{"GET", "POST"} {
		if a := h.want(200, method, "/confirm/other", "", "Authorization", ""); a.body != gone.body || !strings.Contains(a.body, "not valid") {
			t.Error(a.body)
		}
	}
	h.public.fail = belfry.Errorf(belfry.Unavailable, "the database is away")
	h.want(503, "POST", "/confirm/good", "", "Authorization", "").problem(t)
}

// feature: CPS-9, CPS-10
func TestJoiningCalls(t *testing.T) {
	h := newHouse(t)
	h.want(201, "PUT", "/v1/users/user%2F8", `{"name":"Ada"}`)
	var s struct{ ID string }
	h.want(201, "POST", "/v1/subscriptions", `{"title":"News","joining":{"who":"anyone"}}`).into(t, &s)
	at := "/v1/subscriptions/" + s.ID
	var a struct {
		State  string
		Member struct{ Principal, By string }
	}
	h.want(201, "POST", at+"/join", `{"user":"user/8"}`).into(t, &a)
	if a.State != "joined" || a.Member.Principal != "user/8" || a.Member.By != "" {
		t.Errorf("%+v", a)
	}
	// The same answer, to the byte, for whoever is known and whoever is not.
	h.want(201, "POST", at+"/members", `{"principal":"known@example.org"}`)
	for _, call := range []string{"/join", "/leave"} {
		known, unknown := h.want(202, "POST", at+call, `{"email":"known@example.org"}`), h.want(202, "POST", at+call, `{"email":"unknown@example.org"}`)
		if known.body != unknown.body || strings.TrimSpace(known.body) != `{"state":"asked"}` {
			t.Errorf("%s: %s and %s", call, known.body, unknown.body)
		}
	}
	h.want(202, "POST", at+"/invite", `{"users":["user/8"],"emails":["z@example.org"]}`)
	var pending struct{ Items []struct{ Who, For string } }
	h.want(200, "GET", at+"/pending", "").into(t, &pending)
	if len(pending.Items) != 6 {
		t.Errorf("%+v", pending)
	}
	h.want(200, "POST", at+"/leave", `{"user":"user/8"}`)
	h.want(422, "POST", at+"/join", `{}`).problem(t)
	h.want(422, "POST", at+"/join", `{"email":"x@example.org","channels":["inbox"]}`).problem(t)
	h.want(404, "POST", "/v1/subscriptions/sub_none/join", `{"user":"user/8"}`).problem(t)
	h.want(422, "POST", "/v1/subscriptions", `{"joining":{"who":"roles"}}`).problem(t)
	h.want(422, "POST", "/v1/subscriptions", `{"joining":{"who":"anybody"}}`).problem(t)
	h.want(422, "POST", "/v1/events", `{"type":"belfry.joining_confirm","source":"belfry"}`).problem(t)
}

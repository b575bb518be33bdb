package ui_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/web/ui"
)

type site struct {
	*httptest.Server
	demo    *ui.Demo
	house   *house
	catcher *catcher
	client  *http.Client // follows no redirect
}

func serve(t *testing.T) *site {
	t.Helper()
	s := &site{house: newHouse(), catcher: newCatcher()}
	s.demo = ui.NewDemo(ui.DemoOptions{
		House: s.house, Catcher: s.catcher,
		Scenes: []ui.Scene{
			{Key: "course", Title: "Henrik moves the exam", Text: "Teachers hear of it.", Event: belfry.Event{Source: "/s", Type: "core.course_updated", Object: "course/1", Actor: "user/9"}},
			{Key: "other", Title: "Something <else>", Text: "Nobody hears of it.", Event: belfry.Event{Source: "/s", Type: "t", Object: "course/1"}},
		},
		People: []ui.Person{{ID: "user/1", Name: "Ada Byron", Address: "ada@school.example", Note: "teaches"}, {ID: "ep_1", Name: "Student records"}},
		Places: map[string]string{"course/1": "Mechanics"},
		Log:    slog.New(slog.DiscardHandler),
		Now:    time.Now,
	})
	s.Server = httptest.NewServer(s.demo)
	t.Cleanup(s.Server.Close)
	s.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s
}

func (s *site) get(t *testing.T, path string) (int, http.Header, string) {
	t.Helper()
	return s.do(t, http.MethodGet, path, nil, nil)
}

func (s *site) do(t *testing.T, method, path string, form url.Values, head map[string]string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range head {
		req.Header.Set(k, v)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// press presses a button and gives the event that is shown then.
func (s *site) press(t *testing.T, scene string) (id, to string) {
	t.Helper()
	code, head, body := s.do(t, http.MethodPost, "/demo/emit", url.Values{"scene": {scene}}, nil)
	if code != http.StatusSeeOther {
		t.Fatalf("pressing %s: %d %s", scene, code, body)
	}
	u, err := url.Parse(head.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("event"), u.RequestURI()
}

// The page works without a script: press, reload, read.
func TestWithoutScript(t *testing.T) {
	s := serve(t)
	code, head, page := s.get(t, "/demo/")
	if code != http.StatusOK || !strings.Contains(page, "It is quiet") || !strings.Contains(page, "Something &lt;else&gt;") {
		t.Fatalf("%d\n%s", code, page)
	}
	policy := head.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	id, to := s.press(t, "course")
	if e := s.house.newest(); e.ID == "" || e.Time.IsZero() || eventID(e) != id || e.Actor != "user/9" {
		t.Errorf("published %+v", e)
	}
	_, _, page = s.get(t, to)
	if !strings.Contains(page, "still under way") || !strings.Contains(page, `<noscript><meta http-equiv="refresh"`) {
		t.Errorf("not shown as under way:\n%s", page)
	}
	s.house.plan(id)
	s.catcher.get([]ui.Mail{mailOf(id, 1), mailOf("evt_other", 2)}, []ui.Hook{hookOf(id, 3, 503), hookOf(id, 4, 204), hookOf("evt_other", 5, 204)})
	_, _, page = s.get(t, "/demo/") // the newest event
	text := words(page)
	for _, want := range []string{
		"Henrik moves the exam",
		"2 recipients told, 2 not; 1 inbox entry, 1 mail, 2 webhook requests.",
		"Ada Byron inbox delivered email delivered Holds a role the subscription names, role teacher, at Mechanics",
		"user/2 not told Holds a role the subscription names, role teacher, at Mechanics Muted, at Mechanics",
		"user/3<b> not told by email The address is not verified: <script>alert(1)</script>",
		"Matched: Everything to teachers",
		"Ada Byron unread Title of course-", "Course changed in Mechanics",
		"Ada Byron Course changed: Mechanics ada@school.example",
		"Auto-Submitted auto-generated",
		"Student records signature verified answered 204 try 2",
		"signature verified answered 503 try 1",
		`"object": "course/1"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not on the page: %s", want)
		}
	}
	if strings.Contains(page, "<script>alert") || strings.Contains(page, "still under way") {
		t.Error("unescaped, or still under way")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// The page and its reasons are in the reader's language.
func TestInLanguages(t *testing.T) {
	s := serve(t)
	id, to := s.press(t, "course")
	s.house.plan(id)
	for language, want := range map[string][]string{
		"de-AT":      {`<html lang="de">`, "Wer benachrichtigt wurde, wer nicht, und warum", "2 Empfänger benachrichtigt, 2 nicht; 1 Eintrag in Posteingängen", "Hat eine Rolle, die das Abonnement nennt, Rolle teacher, bei Mechanics"},
		"fr, en":     {`<html lang="fr">`, "2 destinataires prévenus, 2 non ; 1 entrée en boîte", ", rôle teacher, "},
		"es":         {`<html lang="es">`, "2 destinatarios avisados, 2 no; 1 entrada en bandejas"},
		"pt, en;q=0": {`<html lang="en">`, "2 recipients told, 2 not; 1 inbox entry"},
	} {
		_, head, page := s.do(t, http.MethodGet, to, nil, map[string]string{"Accept-Language": language})
		for _, part := range want {
			if !strings.Contains(page, part) {
				t.Errorf("%s: %s is not on the page", language, part)
			}
		}
		if head.Get("Vary") != "Accept-Language" {
			t.Errorf("%s: %v", language, head)
		}
	}
}

// words are the words of a page as a reader sees them.
func words(page string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return strings.Join(strings.Fields(b.String()), " ")
		case html.TextToken:
			b.Write(z.Text())
			b.WriteByte(' ')
		}
	}
}

func TestSameEventAgain(t *testing.T) {
	s := serve(t)
	if code, _, _ := s.do(t, http.MethodPost, "/demo/emit", url.Values{"scene": {"again"}}, nil); code != http.StatusUnprocessableEntity {
		t.Errorf("again before anything happened: %d", code)
	}
	id, _ := s.press(t, "course")
	again, to := s.press(t, "again")
	if again != id || len(s.house.events) != 1 {
		t.Errorf("shows %s after %s; %d events", again, id, len(s.house.events))
	}
	if _, _, page := s.get(t, to); !strings.Contains(page, "told nobody twice") {
		t.Error("the page does not say so")
	}
	if other, _ := s.press(t, "other"); other == id {
		t.Error("another scene has the same id")
	}
}

func TestRefusals(t *testing.T) {
	s := serve(t)
	s.press(t, "course")
	for _, c := range []struct {
		name, method, path string
		form               url.Values
		head               map[string]string
		want               int
	}{
		{"unknown scene", "POST", "/demo/emit", url.Values{"scene": {"<nope>"}}, nil, 422},
		{"another site's form", "POST", "/demo/emit", url.Values{"scene": {"course"}}, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"another site's form, old browser", "POST", "/demo/receiver", url.Values{"refuse": {"1"}}, map[string]string{"Origin": "https://evil.example"}, 403},
		{"large form", "POST", "/demo/emit", url.Values{"scene": {strings.Repeat("x", 10<<10)}}, nil, 422},
		{"unknown event", "GET", "/demo/?event=evt_x", nil, nil, 404},
		{"unknown mail", "GET", "/demo/mail/7", nil, nil, 404},
		{"mail of no number", "GET", "/demo/mail/x", nil, nil, 404},
		{"stream of nothing", "GET", "/demo/live", nil, nil, 400},
		{"emit by GET", "GET", "/demo/emit", nil, nil, 405},
		{"elsewhere", "GET", "/demo/x", nil, nil, 404},
		{"outside the assets", "GET", "/demo/static/../demo.html", nil, nil, 404},
	} {
		code, _, body := s.do(t, c.method, c.path, c.form, c.head)
		if code != c.want && !(c.name == "outside the assets" && code >= 300) {
			t.Errorf("%s: %d, want %d: %s", c.name, code, c.want, body)
		}
	}
	s.house.down = errors.New("429 Too Many Requests: try again in 2 s")
	if code, _, body := s.do(t, "POST", "/demo/emit", url.Values{"scene": {"course"}}, nil); code != http.StatusBadGateway || !strings.Contains(body, "try again in 2 s") {
		t.Errorf("Belfry refuses: %d %s", code, body)
	}
}

func TestReceiverCanBeTakenDown(t *testing.T) {
	s := serve(t)
	for _, down := range []string{"1", "0"} {
		s.do(t, "POST", "/demo/receiver", url.Values{"refuse": {down}, "event": {"evt_1"}}, nil)
		if s.catcher.Refusing() != (down == "1") {
			t.Errorf("refuse=%s: refusing %v", down, s.catcher.Refusing())
		}
	}
}

// A mail is shown under a policy that lets it do nothing.
func TestMailIsBoxed(t *testing.T) {
	s := serve(t)
	s.catcher.get([]ui.Mail{mailOf("evt_1", 8)}, nil)
	code, head, body := s.get(t, "/demo/mail/8")
	policy := head.Get("Content-Security-Policy")
	if code != 200 || !strings.Contains(body, "id=inside") || !strings.Contains(policy, "sandbox") || strings.Contains(policy, "script-src") {
		t.Errorf("%d %q", code, policy)
	}
}

// Nothing on the page is loaded from elsewhere, and nothing is inline that the
// policy would refuse.
func TestPageKeepsItsPolicy(t *testing.T) {
	s := serve(t)
	id, to := s.press(t, "course")
	s.house.plan(id)
	s.catcher.get([]ui.Mail{mailOf(id, 1)}, []ui.Hook{hookOf(id, 2, 204)})
	_, _, page := s.get(t, to)
	for _, bad := range []string{` style="`, ` onclick=`, "<style", "javascript:"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q on the page", bad)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[1], "/demo/") && !strings.HasPrefix(m[1], "#") {
			t.Errorf("leads elsewhere: %s", m[1])
		}
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] {
			t.Errorf("two elements have the id %s", m[1])
		}
		ids[m[1]] = true
	}
	for _, asset := range []string{"demo.css", "demo.js", "bell.svg"} {
		if code, _, _ := s.get(t, "/demo/static/"+asset); code != 200 {
			t.Errorf("%s: %d", asset, code)
		}
	}
}

// The stream tells the story as it unfolds, and what arrives is told at once.
func TestLive(t *testing.T) {
	s := serve(t)
	id, _ := s.press(t, "course")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/demo/live?event="+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("content type %q", ct)
	}
	stories := stream(t, resp.Body)
	next := func(want string) {
		t.Helper()
		for story := range stories {
			if strings.Contains(words(story), want) {
				return
			}
		}
		t.Fatalf("the stream ended without %q", want)
	}
	next("still under way")
	s.house.plan(id)
	next("2 recipients told, 2 not; 1 inbox entry, 0 mails, 0 webhook requests.")
	s.catcher.get([]ui.Mail{mailOf(id, 1)}, nil)
	next("1 mail, 0 webhook requests")
	s.catcher.get(nil, []ui.Hook{hookOf(id, 2, 204)})
	next("1 mail, 1 webhook request.")
	s.demo.Drain()
	s.demo.Drain()
	for range stories { // ends, since the server said so
	}
	if ctx.Err() != nil {
		t.Error("draining did not end the stream")
	}
}

// stream reads the stories of a stream.
func stream(t *testing.T, r io.Reader) <-chan string {
	out := make(chan string)
	go func() {
		defer close(out)
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			var story string
			if err := json.Unmarshal([]byte(data), &story); err != nil {
				t.Error(err)
				return
			}
			select {
			case out <- story:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return out
}

// The number of streams is bounded, and one that ends makes room.
func TestStreamsAreBounded(t *testing.T) {
	s := serve(t)
	id, _ := s.press(t, "course")
	s.house.plan(id)
	open := func(ctx context.Context) *http.Response {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/demo/live?event="+id, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 32 {
		resp := open(ctx)
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	over := open(t.Context())
	over.Body.Close()
	if over.StatusCode != http.StatusServiceUnavailable || over.Header.Get("Retry-After") == "" {
		t.Errorf("33rd stream: %s", over.Status)
	}
	cancel()
	deadline, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	for {
		resp := open(deadline)
		resp.Body.Close()
		if resp.StatusCode == 200 {
			return
		}
	}
}

package app_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/demo"
	"github.com/belfryhq/belfry/internal/web/ui"
)

// whole is the program with a mail server that catches what it sends.
type whole struct {
	t     *testing.T
	app   *app.App
	mails *demo.Catcher
	api   *client.Client
}

func open(t *testing.T, tune ...func(*config.Config)) *whole {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w := &whole{t: t}
	var err error
	if w.mails, err = demo.NewCatcher(log, time.Now); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Listen, cfg.DataDir, cfg.BootstrapKey = "127.0.0.1:0", t.TempDir(), "root-key-of-the-whole-program-0123"
	cfg.Channels = map[string]map[string]string{"email": {"url": w.mails.MailURL(), "from": "belfry@example.org"}}
	cfg.OutboundAllow = []string{"127.0.0.0/8"}
	for _, f := range tune {
		f(&cfg)
	}
	if w.app, err = app.New(t.Context(), app.Options{Config: cfg, Log: log, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- w.app.Run(ctx) }()
	go func() { ended <- w.mails.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	if w.api, err = client.New(w.app.URL(), string(cfg.BootstrapKey), ""); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *whole) call(method, path string, in, out any) {
	w.t.Helper()
	if err := w.api.Call(context.Background(), method, path, in, out); err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// mail waits for the n-th mail.
func (w *whole) mail(n int) ui.Mail {
	w.t.Helper()
	late := time.After(30 * time.Second)
	for {
		changed := w.mails.Changed()
		if got := w.mails.Mails(); len(got) >= n {
			return got[n-1]
		}
		select {
		case <-changed:
		case <-late:
			w.t.Fatalf("mail %d did not come: %d did", n, len(w.mails.Mails()))
		}
	}
}

// publish publishes an event and gives its id.
func (w *whole) publish(event map[string]any) string {
	w.t.Helper()
	var receipt struct{ IDs []string }
	w.call("POST", "/v1/events", event, &receipt)
	return receipt.IDs[0]
}

func (w *whole) trace(event string) (a belfry.Answer) {
	w.t.Helper()
	w.call("GET", "/v1/events/"+event+"/trace", nil, &a)
	return a
}

// follow asks for an address as a browser does, or a scanner.
func follow(t *testing.T, method, url string) string {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%s %s: %d, %v", method, url, res.StatusCode, err)
	}
	return string(body)
}

// feature: NEW-17, S3-28 from the mail to the trace
func TestAcknowledgeByMail(t *testing.T) {
	w := open(t)
	w.call("PUT", "/v1/users/ada", map[string]any{"id": "ada", "name": "Ada", "email": "ada@example.org"}, nil)
	w.call("POST", "/v1/subscriptions", map[string]any{"title": "Alarms", "types": []string{"alarm.fire"},
		"recipients":  []any{map[string]any{"explicit": map[string]any{"users": []string{"ada"}, "emails": []string{"porter@example.org"}}}},
		"acknowledge": map[string]any{"escalate": []any{map[string]any{"after": "1h"}}}}, nil)
	event := w.publish(map[string]any{"source": "/house", "type": "alarm.fire", "data": map[string]any{"floor": 3}})
	w.mail(2)
	links := map[string]string{}
	for _, m := range w.mails.Mails() {
		link := regexp.MustCompile(w.app.URL() + `/a/[^\s"]+`)
		links[m.To] = link.FindString(m.Text)
		if links[m.To] == "" || !link.MatchString(m.HTML) {
			t.Fatalf("no link in\n%s", m.Text)
		}
	}
	ada, porter := links["ada@example.org"], links["porter@example.org"]

	// Looking is nothing, for browsers and for scanners of mail.
	if page := follow(t, "GET", ada); !strings.Contains(page, "Ada") || !strings.Contains(page, `<form method="post">`) {
		t.Errorf("the page:\n%s", page)
	}
	follow(t, "HEAD", ada)
	if a := w.trace(event); len(a.Acknowledged) != 0 || len(a.Escalation) != 1 {
		t.Fatalf("by looking: %+v", a)
	}
	// A link is for one purpose.
	token := ada[strings.LastIndex(ada, "/")+1:]
	if page := follow(t, "POST", w.app.URL()+"/u/"+token); !strings.Contains(page, "not valid") {
		t.Errorf("the link unsubscribes:\n%s", page)
	}
	unsubscribe := regexp.MustCompile(`/u/([^\s"]+)`).FindStringSubmatch(w.mail(1).Text)[1]
	if page := follow(t, "POST", w.app.URL()+"/a/"+unsubscribe); !strings.Contains(page, "not valid") {
		t.Errorf("an unsubscribing link acknowledges:\n%s", page)
	}

	var inbox struct {
		Items []struct {
			ID                        string
			Acknowledge, Acknowledged bool
		}
		Unread int
	}
	w.call("GET", "/v1/users/ada/inbox", nil, &inbox)
	if inbox.Unread != 1 || !inbox.Items[0].Acknowledge || inbox.Items[0].Acknowledged {
		t.Errorf("before: %+v", inbox)
	}
	if page := follow(t, "POST", ada); !strings.Contains(page, "Acknowledged") {
		t.Errorf("the button:\n%s", page)
	}
	follow(t, "POST", ada)
	if page := follow(t, "GET", ada); strings.Contains(page, "<form") {
		t.Errorf("it is asked for again:\n%s", page)
	}
	a := w.trace(event)
	if len(a.Acknowledged) != 1 || a.Acknowledged[0].Who != "ada" || a.Acknowledged[0].How != "link" || len(a.Escalation) != 0 {
		t.Errorf("after: %+v", a)
	}
	w.call("GET", "/v1/users/ada/inbox", nil, &inbox)
	if inbox.Unread != 0 || !inbox.Items[0].Acknowledged {
		t.Errorf("after: %+v", inbox)
	}
	follow(t, "POST", porter)
	var marked struct{ Changed, Unread int }
	w.call("POST", "/v1/users/ada/inbox/acknowledge", map[string]any{"ids": []string{inbox.Items[0].ID, "dlv_x"}}, &marked)
	if a = w.trace(event); len(a.Acknowledged) != 2 || a.Acknowledged[1].Who != "porter@example.org" || marked.Changed != 1 {
		t.Errorf("an address: %+v, %+v", a.Acknowledged, marked)
	}
}

// feature: NEW-13, PEER-13 she is told before a mute ends, although it mutes all
func TestReminderOfAMute(t *testing.T) {
	w := open(t)
	w.call("PUT", "/v1/users/ada", map[string]any{"id": "ada", "name": "Ada", "email": "ada@example.org"}, nil)
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	w.call("PUT", "/v1/users/ada/preferences", []any{map[string]any{"mute_until": ends, "remind": "59m59s", "because": "at sea"}}, nil)
	m := w.mail(1)
	if m.To != "ada@example.org" || !strings.Contains(m.Text, "at sea") || strings.Contains(m.Text, "/u/") {
		t.Errorf("%+v", m)
	}
	var events struct{ Items []struct{ Type string } }
	w.call("GET", "/v1/events?type="+belfry.MuteEnding, nil, &events)
	if len(events.Items) != 1 {
		t.Errorf("%+v", events)
	}
}

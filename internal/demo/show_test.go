package demo_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/belfryhq/belfry/internal/app"
	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/demo"
)

// school starts a whole Belfry with the show and gives its address.
func school(t *testing.T) (*demo.Show, string) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	show, err := demo.NewShow(log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Listen, cfg.DataDir = "127.0.0.1:0", t.TempDir()
	cfg.BootstrapKey = "the-key-of-this-one-test"
	cfg.OutboundAllow = []string{"127.0.0.0/8"}
	cfg.Channels = map[string]map[string]string{"email": {"url": show.MailURL(), "from": demo.From}}
	a, err := app.New(t.Context(), app.Options{Config: cfg, Log: log, Version: "test", Pages: show})
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.New(a.URL(), string(cfg.BootstrapKey), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 2)
	go func() { failed <- a.Run(ctx) }()
	go func() { failed <- show.Run(ctx, api) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})
	select {
	case <-show.Ready():
	case err := <-failed:
		failed <- nil
		t.Fatal(err)
	}
	return show, a.URL()
}

// testLog makes log lines the test's.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// press presses a button and reads the page until it says all of want.
func press(t *testing.T, show *demo.Show, server, scene string, want ...string) (text, event string) {
	t.Helper()
	resp, err := http.PostForm(server+"/demo/emit", url.Values{"scene": {scene}}) // follows to the page
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	at := resp.Request.URL
	return read(t, show, at.String(), want...), at.Query().Get("event")
}

// read reads a page until it says all of want.
func read(t *testing.T, show *demo.Show, page string, want ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		changed := show.Changed()
		resp, err := http.Get(page)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status, err, string(body))
		}
		text := words(string(body))
		var missing []string
		for _, w := range want {
			if !strings.Contains(text, w) {
				missing = append(missing, w)
			}
		}
		if len(missing) == 0 {
			return text
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not say %q, but:\n%s", page, missing, text)
		case <-changed:
		case <-time.After(50 * time.Millisecond): // states change without an arrival too
		}
	}
}

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

// Everything the show promises, on a whole Belfry: who is told, who is not, and
// why. feature: NEW-1, NEW-10, CPS-11, S3-1
func TestShow(t *testing.T) {
	show, server := school(t)

	for _, c := range []struct {
		scene string
		want  []string
		never []string
	}{
		{"discussion", []string{
			"4 recipients told, 4 not; 4 inbox entries, 2 mails, 0 webhook requests.",
			"Henrik Solberg inbox delivered email delivered Holds a role the subscription names, role editingteacher, at Classical mechanics",
			"Amara Okafor inbox delivered email delivered Holds a role the subscription names, role teacher, at Science",
			"Grace Osei inbox delivered", "Grace Osei not told by email", "The address is not verified",
			"Priya Nair inbox delivered Joined the subscription Chosen when joining",
			"Tomás Rivera not told Joined the subscription Did it themselves",
			"Yuki Tanaka not told Joined the subscription Muted, at Classical mechanics: until",
			"Lena Fischer not told Joined the subscription Stopped all messages",
			"The role is not active, role teacher, at Classical mechanics: suspended enrolment",
			"Subject: Why does the mass not matter? Message: A heavy bob",
			"Auto-Submitted auto-generated", "List-Unsubscribe-Post List-Unsubscribe=One-Click",
		}, nil},
		{"course", []string{
			"4 recipients told, 2 not; 3 inbox entries, 2 mails, 1 webhook request.",
			"Student records webhook delivered", "signature verified answered 204 try 1",
			"Olga Brandt inbox delivered email delivered Holds a role the subscription names, role manager, at Science",
			`"type": "core.course_updated", "timestamp":`, `"subscription": "sub_`,
		}, nil},
		{"mark", []string{"Tomás Rivera inbox delivered email delivered The event is about them"}, nil},
		{"anonymous", []string{"3 inbox entries, 2 mails", "Feedback given: Your opinion of this course"}, []string{"by Priya", "user/9 Priya"}},
		{"completed", []string{"signature verified answered 204"}, []string{"Lena Fischer inbox"}},
		{"backup", []string{"0 recipients told, 5 not; 0 inbox entries, 0 mails, 0 webhook requests.", "The event is marked silent"}, nil},
		{"again", []string{"told nobody twice", "0 recipients told"}, nil},
	} {
		text, _ := press(t, show, server, c.scene, c.want...)
		for _, never := range c.never {
			if strings.Contains(text, never) {
				t.Errorf("%s: the page says %q", c.scene, never)
			}
		}
	}
}

// What a receiver that is away does not take is tried again until it does.
// feature: PEER-3
func TestShowTriesAgain(t *testing.T) {
	show, server := school(t)
	show.Refuse(true)
	_, event := press(t, show, server, "completed", "Student records webhook retrying", "answered 503 try 1", "still under way")
	show.Refuse(false)
	read(t, show, server+"/demo/?event="+event, "Student records webhook delivered", "answered 204 try 2")
}

// A page that follows live does not hold up the server that stops.
func TestShowStops(t *testing.T) {
	stopped := make(chan time.Duration, 1)
	var stream io.Closer // stays open until the server has stopped
	t.Run("a school", func(t *testing.T) {
		var begun time.Time
		t.Cleanup(func() { stopped <- time.Since(begun) })
		show, server := school(t)
		_, event := press(t, show, server, "backup", "0 recipients told")
		resp, err := http.Get(server + "/demo/live?event=" + event)
		if err != nil {
			t.Fatal(err)
		}
		stream = resp.Body
		if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		begun = time.Now()
	})
	if stream != nil {
		_ = stream.Close()
	}
	if took := <-stopped; took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

package demo_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"net/url"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/demo"
)

var at = time.Date(2026, 3, 4, 9, 10, 11, 0, time.UTC)

func catch(t *testing.T) *demo.Catcher {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	c, err := demo.NewCatcher(slog.New(slog.DiscardHandler), func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
		// net/http lets a connection whose body it refused linger half a second.
		goleak.VerifyNone(t, leaks, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
	})
	return c
}

func mailAddress(t *testing.T, c *demo.Catcher) string {
	t.Helper()
	u, err := url.Parse(c.MailURL())
	if err != nil || u.Scheme != "smtp" {
		t.Fatal(c.MailURL(), err)
	}
	return u.Host
}

const message = "From: Belfry <belfry@school.example>\r\nTo: =?utf-8?q?Tom=C3=A1s?= <tomas@school.example>\r\n" +
	"Subject: =?utf-8?q?Work_marked=3A_The_p=C3=A9ndulum?=\r\nMessage-ID: <dlv_1.1@belfry.example>\r\n" +
	"List-Unsubscribe:\r\n <https://belfry.example/u/x>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nCaf=C3=A9\r\nline two\r\n" +
	"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPHA+Q2Fmw6k8L3A+\r\n--b--\r\n"

func TestMailIsCaught(t *testing.T) {
	c := catch(t)
	changed := c.Changed()
	if err := smtp.SendMail(mailAddress(t, c), nil, "bounce@school.example", []string{"tomas@school.example"}, []byte(message)); err != nil {
		t.Fatal(err)
	}
	<-changed
	mails := c.Mails()
	if len(mails) != 1 {
		t.Fatalf("%d mails", len(mails))
	}
	m := mails[0]
	if m.From != "bounce@school.example" || m.To != "tomas@school.example" || m.Subject != "Work marked: The péndulum" ||
		m.MessageID != "dlv_1.1@belfry.example" || strings.TrimSpace(m.Text) != "Café\nline two" || m.HTML != "<p>Café</p>" || !m.At.Equal(at) {
		t.Errorf("caught %+v", m)
	}
	heads := fmt.Sprint(m.Headers)
	if !strings.Contains(heads, "{List-Unsubscribe <https://belfry.example/u/x>}") || !strings.Contains(heads, "Tomás") {
		t.Errorf("head %s", heads)
	}
}

func TestMailThatIsNoneIsRefused(t *testing.T) {
	c := catch(t)
	err := smtp.SendMail(mailAddress(t, c), nil, "a@school.example", []string{"b@school.example"}, []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nbroken"))
	if err == nil && len(c.Mails()) == 0 {
		t.Error("taken and lost")
	}
	err = smtp.SendMail(mailAddress(t, c), nil, "a@school.example", []string{"b@school.example"}, bytes.Repeat([]byte("x: y\r\n"), 200_000))
	if err == nil || !strings.Contains(err.Error(), "552") {
		t.Errorf("a mail over the bound: %v", err)
	}
}

// What is kept is bounded: the newest stay.
func TestMemoryIsBounded(t *testing.T) {
	c := catch(t)
	for i := range 130 {
		post(t, c, []byte(fmt.Sprintf(`{"n":%d}`, i)), nil)
	}
	hooks := c.Hooks()
	if len(hooks) != 100 || !bytes.Contains(hooks[99].Body, []byte("129")) {
		t.Errorf("%d kept, the newest is %s", len(hooks), hooks[len(hooks)-1].Body)
	}
}

func post(t *testing.T, c *demo.Catcher, body []byte, head http.Header) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.HookURL(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range head {
		req.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// feature: PEER-2
func TestWebhooksAreVerified(t *testing.T) {
	c := catch(t)
	key := []byte("0123456789abcdef0123456789abcdef")
	signer, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"type":"core.course_updated"}`)
	now := time.Now()
	signed := func() http.Header {
		sig, err := signer.Sign("dlv_7", now, body)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		h.Set("webhook-id", "dlv_7")
		h.Set("webhook-timestamp", fmt.Sprint(now.Unix()))
		h.Set("webhook-signature", sig)
		return h
	}
	if code := post(t, c, body, signed()); code != http.StatusUnauthorized {
		t.Errorf("before there is a key: %d", code)
	}
	if err := c.Trust("whsec_" + base64.StdEncoding.EncodeToString(key)); err != nil {
		t.Fatal(err)
	}
	if err := c.Trust("whsec_*"); err == nil {
		t.Error("trusts nonsense")
	}
	if code := post(t, c, body, signed()); code != http.StatusNoContent {
		t.Errorf("rightly signed: %d", code)
	}
	if code := post(t, c, append(body, ' '), signed()); code != http.StatusUnauthorized {
		t.Errorf("changed: %d", code)
	}
	if code := post(t, c, body, nil); code != http.StatusUnauthorized {
		t.Errorf("not signed: %d", code)
	}
	c.Refuse(true)
	if code := post(t, c, body, signed()); code != http.StatusServiceUnavailable || !c.Refusing() {
		t.Errorf("taken down: %d", code)
	}
	c.Refuse(false)
	if code := post(t, c, body, signed()); code != http.StatusNoContent {
		t.Errorf("back: %d", code)
	}
	hooks := c.Hooks()
	if len(hooks) != 6 || !hooks[1].Verified || hooks[1].Delivery != "dlv_7" || hooks[2].Verified || hooks[2].Problem == "" || hooks[4].Status != 503 {
		t.Errorf("caught %+v", hooks)
	}
	if code := post(t, c, bytes.Repeat([]byte("x"), 600<<10), nil); code != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", code)
	}
	resp, err := http.Get(c.HookURL())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %s", resp.Status)
	}
}

// Stopping before serving leaves nothing behind.
func TestStopAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c, err := demo.NewCatcher(slog.New(slog.DiscardHandler), func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(c.MailURL(), "smtp://")); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

// The client makes the documented calls.
func TestClientSpeaksTheAPI(t *testing.T) {
	var asked []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization"))
		switch {
		case r.URL.Path == "/v1/events":
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, `{"accepted":0,"duplicates":1,"ids":["evt_1"]}`)
		case strings.HasSuffix(r.URL.Path, "/trace"):
			fmt.Fprint(w, `{"event":{"event_id":"evt_1","type":"t"},"subscriptions":[],"people":[{"principal":"user/1","outcome":"told","because":[{"code":"named_role","text":"x"}],"deliveries":["dlv_1"]}],"planned":true}`)
		case r.URL.Path == "/v1/deliveries":
			fmt.Fprint(w, `{"items":[{"id":"dlv_1","channel":"email","state":"delivered"}]}`)
		default:
			fmt.Fprint(w, `{"items":[{"id":"i","event":"evt_1","title":"T","reason":{"code":"named_role","text":"x"}}],"unread":1}`)
		}
	}))
	defer api.Close()
	house := demo.Client{API: &client.Client{Server: api.URL, Key: "k", HTTP: api.Client()}}
	r, err := house.Publish(t.Context(), demo.Scenes()[0].Event)
	if err != nil || r.EventID != "evt_1" || !r.Duplicate {
		t.Errorf("%+v %v", r, err)
	}
	a, err := house.Trace(t.Context(), "evt_1")
	if err != nil || !a.Planned || a.People[0].Because[0].Text != "x" || a.Event.Type != "t" {
		t.Errorf("%+v %v", a, err)
	}
	d, err := house.Deliveries(t.Context(), "evt_1")
	if err != nil || d[0].Channel != "email" {
		t.Errorf("%+v %v", d, err)
	}
	i, err := house.Inbox(t.Context(), "user/1")
	if err != nil || i[0].Title != "T" || i[0].Reason.Code != "named_role" {
		t.Errorf("%+v %v", i, err)
	}
	want := "POST /v1/events Bearer k\nGET /v1/events/evt_1/trace Bearer k\nGET /v1/deliveries?event=evt_1 Bearer k\nGET /v1/users/~dXNlci8x/inbox Bearer k"
	if got := strings.Join(asked, "\n"); got != want {
		t.Errorf("asked\n%s\nwant\n%s", got, want)
	}
}

package webhook_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/channel/channeltest"
	"github.com/belfryhq/belfry/internal/channel/webhook"
	"github.com/belfryhq/belfry/internal/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	keyA = []byte("0123456789abcdef0123456789abcdeA")
	keyB = []byte("0123456789abcdef0123456789abcdeB")
)

func deps(t testing.TB, allow ...string) channel.Deps {
	t.Helper()
	var prefixes []netip.Prefix
	for _, a := range allow {
		prefixes = append(prefixes, netip.MustParsePrefix(a))
	}
	g := outbound.New(outbound.Options{Allow: prefixes})
	t.Cleanup(g.Close)
	return channel.Deps{HTTP: g.Client(), Dialer: g.Dialer(), Log: slog.New(slog.DiscardHandler), Now: time.Now, Version: "1.2.3"}
}

func open(t testing.TB, d channel.Deps) channel.Sender {
	t.Helper()
	s, err := webhook.Kind().New(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func endpoint(url string) *belfry.Endpoint {
	return &belfry.Endpoint{ID: "ep_1", URL: url, State: belfry.EndpointActive}
}

func message() *belfry.Message {
	return &belfry.Message{
		ID: "dlv_0123456789abcdefghjkmnpqrs", ContentType: "application/json",
		Body: []byte(`{"type":"core.course_updated","timestamp":"2016-05-09T09:31:16Z","data":{"id":"41-1462786276","object":"course/41"}}`),
	}
}

type seen struct {
	header http.Header
	method string
	path   string
	body   []byte
}

// receiver answers with status and keeps what it got.
func receiver(t testing.TB, status int) (string, chan seen) {
	t.Helper()
	got := make(chan seen, 1024)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.Header.Clone(), r.Method, r.URL.RequestURI(), body}
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, got
}

// feature: PEER-2
func TestSignaturesVerifyWithEveryValidKey(t *testing.T) {
	url, got := receiver(t, http.StatusNoContent)
	s := open(t, deps(t, "127.0.0.0/8"))
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw25519 := append([]byte("whsk_"), priv.Seed()...)
	for name, keys := range map[string][][]byte{
		"one key":            {keyA},
		"rotation":           {keyB, keyA},
		"hmac and ed25519":   {keyA, raw25519},
		"ed25519 alone":      {raw25519},
		"no key, no headers": nil,
	} {
		m := message()
		out := s.Send(t.Context(), channel.Target{Endpoint: endpoint(url), Secrets: keys}, m)
		if out.Kind != belfry.OutcomeDelivered || out.Status != 204 {
			t.Fatalf("%s: %+v", name, out)
		}
		r := <-got
		if r.method != "POST" || string(r.body) != string(m.Body) {
			t.Fatalf("%s: %s %q", name, r.method, r.body)
		}
		sigs := strings.Fields(r.header.Get("webhook-signature"))
		if len(sigs) != len(keys) {
			t.Fatalf("%s: %d signatures for %d keys", name, len(sigs), len(keys))
		}
		for i, key := range keys {
			if string(key) == string(raw25519) {
				sig, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sigs[i], "v1a,"))
				text := r.header.Get("webhook-id") + "." + r.header.Get("webhook-timestamp") + "." + string(r.body)
				if err != nil || !ed25519.Verify(pub, []byte(text), sig) {
					t.Errorf("%s: the ed25519 signature is wrong (%v)", name, err)
				}
				continue
			}
			// The oracle: the reference library.
			oracle, err := standard.NewWebhookRaw(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := oracle.Verify(r.body, r.header); err != nil {
				t.Errorf("%s: key %d: %v", name, i, err)
			}
		}
		if other, err := standard.NewWebhookRaw([]byte("another key, another key")); err != nil || other.Verify(r.body, r.header) == nil {
			t.Errorf("%s: verifies with a key that did not sign (%v)", name, err)
		}
		if id := r.header.Get("webhook-id"); id != m.ID {
			t.Errorf("%s: webhook-id %q", name, id)
		}
		ts, err := strconv.ParseInt(r.header.Get("webhook-timestamp"), 10, 64)
		if err != nil || time.Since(time.Unix(ts, 0)).Abs() > time.Minute {
			t.Errorf("%s: timestamp %q", name, r.header.Get("webhook-timestamp"))
		}
		if ua := r.header.Get("User-Agent"); ua != "Belfry/1.2.3" {
			t.Errorf("%s: user agent %q", name, ua)
		}
	}
}

// A key or header that changes counts from the next send on.
func TestEditsOfAnEndpointCountAtOnce(t *testing.T) {
	url, got := receiver(t, 200)
	s := open(t, deps(t, "127.0.0.0/8"))
	send := func(ep *belfry.Endpoint, key []byte) seen {
		t.Helper()
		if out := s.Send(t.Context(), channel.Target{Endpoint: ep, Secrets: [][]byte{key}}, message()); out.Kind != belfry.OutcomeDelivered {
			t.Fatalf("%+v", out)
		}
		return <-got
	}
	verify := func(r seen, key []byte) {
		t.Helper()
		oracle, err := standard.NewWebhookRaw(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := oracle.Verify(r.body, r.header); err != nil {
			t.Error(err)
		}
	}
	ep := endpoint(url + "/a")
	verify(send(ep, keyA), keyA)
	verify(send(ep, keyB), keyB)
	changed := *ep
	changed.Headers = map[string]string{"X-Team": "blue"}
	if r := send(&changed, keyB); r.header.Get("X-Team") != "blue" {
		t.Error("the new header is missing")
	}
	changed2 := changed
	changed2.Headers = map[string]string{"X-Team": "red"}
	if r := send(&changed2, keyB); r.header.Get("X-Team") != "red" {
		t.Error("the changed header is old")
	}
	changed2.URL = url + "/b"
	if r := send(&changed2, keyB); r.path != "/b" {
		t.Errorf("sent to %s", r.path)
	}
}

func TestHeadersOfTheEndpointNeverReplaceOurs(t *testing.T) {
	url, got := receiver(t, 200)
	s := open(t, deps(t, "127.0.0.0/8"))
	ep := endpoint(strings.Replace(url, "http://", "http://ada:geheim123@", 1) + "/hook?x=1")
	ep.Headers = map[string]string{
		"X-Api-Key": "k", "webhook-id": "forged", "WEBHOOK-SIGNATURE": "v1,forged", "content-type": "text/evil", "User-Agent": "evil",
		"Host": "evil.example.org", "Content-Length": "1", "Transfer-Encoding": "chunked", "Connection": "close", "X-Bad": "a\r\nInjected: yes", "X Y": "z",
	}
	if out := s.Send(t.Context(), channel.Target{Endpoint: ep, Secrets: [][]byte{keyA}}, message()); out.Kind != belfry.OutcomeDelivered {
		t.Fatalf("%+v", out)
	}
	r := <-got
	oracle, err := standard.NewWebhookRaw(keyA)
	if err != nil {
		t.Fatal(err)
	}
	if err := oracle.Verify(r.body, r.header); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{
		"X-Api-Key": "k", "Content-Type": "application/json", "User-Agent": "Belfry/1.2.3", "Injected": "", "X-Bad": "", "Connection": "",
		"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("ada:geheim123")), "Idempotency-Key": "",
	} {
		if v := r.header.Values(name); strings.Join(v, "|") != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if r.path != "/hook?x=1" {
		t.Errorf("path %q", r.path)
	}
}

// feature: PEER-3 (what each answer means; 410, 429, Retry-After)
func TestAnswers(t *testing.T) {
	now := time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)
	type want struct {
		kind      belfry.OutcomeKind
		after     time.Duration
		throttled bool
	}
	for _, tc := range []struct {
		status int
		after  string
		want   want
	}{
		{200, "", want{belfry.OutcomeDelivered, 0, false}},
		{201, "", want{belfry.OutcomeDelivered, 0, false}},
		{202, "9", want{belfry.OutcomeDelivered, 0, false}},
		{204, "", want{belfry.OutcomeDelivered, 0, false}},
		{299, "", want{belfry.OutcomeDelivered, 0, false}},
		{300, "", want{belfry.OutcomeRetry, 0, false}},
		{301, "", want{belfry.OutcomeRetry, 0, false}},
		{302, "", want{belfry.OutcomeRetry, 0, false}},
		{304, "", want{belfry.OutcomeRetry, 0, false}},
		{307, "60", want{belfry.OutcomeRetry, 0, false}},
		{308, "", want{belfry.OutcomeRetry, 0, false}},
		{400, "", want{belfry.OutcomeRetry, 0, false}},
		{401, "", want{belfry.OutcomeRetry, 0, false}},
		{403, "", want{belfry.OutcomeRetry, 0, false}},
		{404, "", want{belfry.OutcomeRetry, 0, false}},
		{408, "", want{belfry.OutcomeRetry, 0, false}},
		{410, "", want{belfry.OutcomeGone, 0, false}},
		{413, "", want{belfry.OutcomeRetry, 0, false}},
		{429, "", want{belfry.OutcomeRetry, 0, true}},
		{429, "120", want{belfry.OutcomeRetry, 2 * time.Minute, true}},
		{429, "Sat, 21 Nov 2026 06:10:00 GMT", want{belfry.OutcomeRetry, 10 * time.Minute, true}},
		{429, "99999999999999999999", want{belfry.OutcomeRetry, 24 * time.Hour, true}},
		{500, "", want{belfry.OutcomeRetry, 0, false}},
		{502, "", want{belfry.OutcomeRetry, 0, false}},
		{503, "3", want{belfry.OutcomeRetry, 3 * time.Second, true}},
		{503, "soon", want{belfry.OutcomeRetry, 0, true}},
		{504, "", want{belfry.OutcomeRetry, 0, false}},
		{599, "", want{belfry.OutcomeRetry, 0, false}},
		{999, "", want{belfry.OutcomeRetry, 0, false}},
	} {
		t.Run(fmt.Sprintf("%d %s", tc.status, tc.after), func(t *testing.T) {
			var hits atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				hits.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				if tc.after != "" {
					w.Header().Set("Retry-After", tc.after)
				}
				if tc.status >= 300 && tc.status < 400 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(tc.status)
				if tc.status >= 400 {
					_, _ = io.WriteString(w, "database\r\nis   down")
				}
			}))
			defer srv.Close()
			d := deps(t, "127.0.0.0/8")
			d.Now = func() time.Time { return now }
			out := open(t, d).Send(t.Context(), channel.Target{Endpoint: endpoint(srv.URL), Secrets: [][]byte{keyA}}, message())
			if got := (want{out.Kind, out.After, out.Throttled}); got != tc.want || out.Status != tc.status {
				t.Errorf("got %+v status %d, want %+v", got, out.Status, tc.want)
			}
			if hits.Load() != 1 {
				t.Errorf("%d requests: a redirect was followed, or a send repeated", hits.Load())
			}
			if tc.status >= 400 && !strings.HasSuffix(out.Detail, ": database is down") {
				t.Errorf("detail %q", out.Detail)
			}
			if tc.status >= 300 && tc.status < 400 && !strings.Contains(out.Detail, "redirects are not followed") {
				t.Errorf("detail %q", out.Detail)
			}
		})
	}
}

func TestInnerAddressesAreRefused(t *testing.T) {
	url, got := receiver(t, 200)
	out := open(t, deps(t)).Send(t.Context(), channel.Target{Endpoint: endpoint(url), Secrets: [][]byte{keyA}}, message())
	if out.Kind != belfry.OutcomeRetry || !strings.Contains(out.Detail, "BELFRY_OUTBOUND_ALLOW") || !strings.HasPrefix(out.Detail, "connecting to 127.0.0.1 is refused") {
		t.Errorf("%+v", out)
	}
	if len(got) != 0 {
		t.Error("it was reached")
	}
}

// Endless, huge and slow answers cost a bounded time and never undo a 2xx.
func TestAnswersAreReadWithinBounds(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			w.WriteHeader(500)
			for {
				if _, err := io.WriteString(w, strings.Repeat("no ", 4096)); err != nil {
					return
				}
			}
		case "/slow":
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	}))
	defer srv.Close()
	defer close(release)
	s := open(t, deps(t, "127.0.0.0/8"))
	out := s.Send(t.Context(), channel.Target{Endpoint: endpoint(srv.URL + "/endless")}, message())
	if out.Kind != belfry.OutcomeRetry || out.Status != 500 || len(out.Detail) > channel.MaxDetail {
		t.Errorf("endless: %+v", out)
	}
	ep := endpoint(srv.URL + "/slow")
	ep.Timeout = "200ms"
	start := time.Now()
	out = s.Send(t.Context(), channel.Target{Endpoint: ep}, message())
	if out.Kind != belfry.OutcomeDelivered || time.Since(start) > 3*time.Second {
		t.Errorf("slow: %+v after %v", out, time.Since(start))
	}
}

func TestTimeoutOfTheEndpoint(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
	}))
	defer srv.Close()
	defer close(release)
	ep := endpoint(srv.URL)
	ep.Timeout = "100ms"
	start := time.Now()
	out := open(t, deps(t, "127.0.0.0/8")).Send(t.Context(), channel.Target{Endpoint: ep}, message())
	if out.Kind != belfry.OutcomeRetry || out.Detail != "no answer within 100ms" || time.Since(start) > 3*time.Second {
		t.Errorf("%+v after %v", out, time.Since(start))
	}
}

// A kept connection that the peer has closed is no failed try: the request
// goes out again at once, under the same id.
func TestStaleConnectionsDoNotFailASend(t *testing.T) {
	var conns atomic.Int32
	got := make(chan string, 16)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n := conns.Add(1)
		if n == 2 { // the second request, on the kept connection: hang up unanswered
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = c.Close()
			}
			return
		}
		got <- r.Header.Get("webhook-id")
	})
	srv.Start()
	defer srv.Close()
	s := open(t, deps(t, "127.0.0.0/8"))
	for i := range 2 {
		if out := s.Send(t.Context(), channel.Target{Endpoint: endpoint(srv.URL), Secrets: [][]byte{keyA}}, message()); out.Kind != belfry.OutcomeDelivered {
			t.Fatalf("send %d: %+v", i, out)
		}
	}
	if a, b := <-got, <-got; a != b || a != message().ID {
		t.Errorf("ids %q %q", a, b)
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestTLSFaultsAreExplained(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of the handshakes that fail
	srv.StartTLS()
	defer srv.Close()
	plain, _ := receiver(t, 200)
	s := open(t, deps(t, "127.0.0.0/8"))
	for url, says := range map[string]string{
		srv.URL: "certificate is not accepted",
		strings.Replace(plain, "http://", "https://", 1): "does not speak TLS",
		"https://no-such-host.invalid/":                  "host name",
		"ftp://example.org/":                             "must begin with https://",
		"https://":                                       "names no host",
		"http://[::1":                                    "not a URL",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		out := s.Send(ctx, channel.Target{Endpoint: endpoint(url)}, message())
		cancel()
		if out.Kind != belfry.OutcomeRetry || !strings.Contains(out.Detail, says) {
			t.Errorf("%s: %+v, want %q", url, out, says)
		}
	}
}

func TestHTTP2OverTLS(t *testing.T) {
	proto := make(chan string, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		proto <- r.Proto + " " + r.Header.Get("webhook-id") + " " + strconv.Itoa(len(body))
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	cfg := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	g := outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, TLS: cfg})
	defer g.Close()
	d := deps(t)
	d.HTTP = g.Client()
	s := open(t, d)
	m := message()
	for range 2 {
		if out := s.Send(t.Context(), channel.Target{Endpoint: endpoint(srv.URL), Secrets: [][]byte{keyA}}, m); out.Kind != belfry.OutcomeDelivered {
			t.Fatalf("%+v", out)
		}
		if got, want := <-proto, fmt.Sprintf("HTTP/2.0 %s %d", m.ID, len(m.Body)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestConformance(t *testing.T) {
	const bearer, password, token = "tok-3f9a8c7d6e5b", "pass-9f8e7d6c5b", "T0K3N-in-the-query"
	secrets := [][]byte{keyA, append([]byte("whsk_"), keyB...)}
	channeltest.Run(t, channeltest.Subject{
		Open: func(t *testing.T, address string) (channel.Sender, channel.Target) {
			s, err := webhook.Kind().New(deps(t, "127.0.0.0/8"), nil)
			if err != nil {
				t.Fatal(err)
			}
			ep := endpoint("http://ada:" + password + "@" + address + "/hook?token=" + token)
			ep.Headers = map[string]string{"X-Auth": "Bearer " + bearer}
			return s, channel.Target{Endpoint: ep, Secrets: secrets}
		},
		Accepting: func(t *testing.T) (string, func() int) {
			var n atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if r.Header.Get("Injected") != "" {
					t.Error("a header was injected")
				}
				n.Add(1)
			}))
			t.Cleanup(srv.Close)
			return srv.Listener.Addr().String(), func() int { return int(n.Load()) }
		},
		Echoing: func(t *testing.T) string {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				user, pass, _ := r.BasicAuth()
				fmt.Fprintln(w, user, pass, r.URL.RawQuery, r.Header.Get("X-Auth"), r.Header.Get("Authorization"),
					"whsec_"+base64.StdEncoding.EncodeToString(keyA), base64.StdEncoding.EncodeToString(keyB))
			}))
			t.Cleanup(srv.Close)
			return srv.Listener.Addr().String()
		},
		Secrets: []string{
			bearer, password, token, base64.StdEncoding.EncodeToString([]byte("ada:" + password)), string(keyA),
			base64.RawStdEncoding.EncodeToString(keyA), base64.RawStdEncoding.EncodeToString(keyB),
		},
		Message: *message(),
	})
}

func TestSettings(t *testing.T) {
	if _, err := webhook.Kind().New(deps(t), map[string]string{"url": "x"}); belfry.KindOf(err) != belfry.Invalid {
		t.Errorf("%v", err)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "1", "-1", "1.5", "120", "  7\t", "00000000000000000012", "99999999999999999999999", "Sat, 21 Nov 2026 06:10:00 GMT", "Saturday, 21-Nov-26 06:10:00 GMT", "Sat Nov 21 06:10:00 2026", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "١٢"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		got := webhook.RetryAfter(value, now)
		if got < 0 || got > webhook.MaxRetryAfter {
			t.Fatalf("%q: %v", value, got)
		}
		// The naive reading, where it is defined.
		if n, err := strconv.ParseUint(value, 10, 32); err == nil {
			if want := min(time.Duration(n)*time.Second, webhook.MaxRetryAfter); got != want {
				t.Fatalf("%q: %v, want %v", value, got, want)
			}
		}
	})
}

package outbound_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/belfryhq/belfry/internal/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func prefixes(t *testing.T, list string) []netip.Prefix {
	t.Helper()
	p, err := outbound.ParseAllow(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every spelling of an inner address is refused before a packet leaves, and
// the error says why and which setting allows it.
func TestRefusesInnerAddresses(t *testing.T) {
	g := outbound.New(outbound.Options{})
	defer g.Close()
	for _, tc := range []struct{ host, says string }{
		{"127.0.0.1", "loopback"},
		{"127.8.8.8", "loopback"},
		{"localhost", "loopback"},
		{"0.0.0.0", "this machine"},
		{"10.1.2.3", "private"},
		{"172.16.0.1", "private"},
		{"192.168.1.1", "private"},
		{"100.64.0.1", "not a public"},
		{"169.254.1.1", "link-local"},
		{"169.254.169.254", "metadata"},
		{"224.0.0.1", "multicast"},
		{"255.255.255.255", "not a public"},
		{"192.0.2.1", "not a public"},
		{"[::1]", "loopback"},
		{"[::]", "this machine"},
		{"[::ffff:127.0.0.1]", "loopback"},
		{"[::ffff:10.0.0.1]", "private"},
		{"[::ffff:169.254.169.254]", "metadata"},
		{"[fd00:ec2::254]", "metadata"},
		{"[fc00::1]", "private"},
		{"[fe80::1]", "link-local"},
		{"[ff02::1]", "multicast"},
		{"[64:ff9b::7f00:1]", "not a public"},
		{"[2002:7f00:1::]", "not a public"},
		{"[2001:db8::1]", "not a public"},
	} {
		for _, scheme := range []string{"http", "https"} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+tc.host+":8099/", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := g.Client().Do(req)
			cancel()
			if err == nil {
				_ = resp.Body.Close()
				t.Errorf("%s: was answered", tc.host)
				continue
			}
			var refused *outbound.Refused
			if !errors.As(err, &refused) {
				t.Errorf("%s: %v, want a refusal", tc.host, err)
				continue
			}
			if !strings.Contains(refused.Error(), tc.says) || !strings.Contains(refused.Error(), "BELFRY_OUTBOUND_ALLOW") {
				t.Errorf("%s: %q does not say %q and the setting", tc.host, refused, tc.says)
			}
		}
	}
}

// The Dialer refuses as the client does, for protocols that are not HTTP.
func TestDialerRefuses(t *testing.T) {
	g := outbound.New(outbound.Options{})
	for _, network := range []string{"tcp", "udp"} {
		_, err := g.Dialer().DialContext(t.Context(), network, "127.0.0.1:25")
		if refused := (*outbound.Refused)(nil); !errors.As(err, &refused) {
			t.Errorf("%s: %v, want a refusal", network, err)
		}
	}
}

func TestAllowedNetworksAreReached(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer srv.Close()
	for _, allow := range []string{"127.0.0.0/8", "127.0.0.1", "10.0.0.0/8, 127.0.0.1/32", "::ffff:127.0.0.0/104"} {
		g := outbound.New(outbound.Options{Allow: prefixes(t, allow)})
		resp, err := g.Client().Get(srv.URL)
		if err != nil {
			t.Fatalf("%s: %v", allow, err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(body) != "hello" {
			t.Errorf("%s: %q", allow, body)
		}
		// One allowed network opens no other.
		_, err = g.Client().Get("http://192.168.7.7/")
		if refused := (*outbound.Refused)(nil); !errors.As(err, &refused) {
			t.Errorf("%s: %v", allow, err)
		}
		g.Close()
	}
}

// A name that resolves to a public address when it is looked at and to an
// inner one when it is dialled does not get through: what is dialled is what is
// checked.
func TestRebindingIsRefused(t *testing.T) {
	var asked atomic.Int32
	resolver, stop := dnsServer(t, func(name string) netip.Addr {
		if strings.HasPrefix(name, "rebind.") && asked.Add(1) == 1 {
			return netip.MustParseAddr("93.184.215.14")
		}
		return netip.MustParseAddr("127.0.0.1")
	})
	defer stop()
	reached := make(chan struct{}, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	// What a check before the request would have seen.
	first, err := resolver.LookupNetIP(t.Context(), "ip4", "rebind.example.org.")
	if err != nil || len(first) != 1 || first[0].String() != "93.184.215.14" {
		t.Fatalf("lookup: %v %v", first, err)
	}
	g := outbound.New(outbound.Options{Resolver: resolver})
	defer g.Close()
	_, err = g.Client().Get("http://rebind.example.org.:" + port + "/")
	if refused := (*outbound.Refused)(nil); !errors.As(err, &refused) {
		t.Fatalf("%v, want a refusal", err)
	}
	select {
	case <-reached:
		t.Fatal("the inner server was reached")
	default:
	}

	// The same name gets through where the operator allows the network.
	open := outbound.New(outbound.Options{Resolver: resolver, Allow: prefixes(t, "127.0.0.0/8")})
	defer open.Close()
	resp, err := open.Client().Get("http://rebind.example.org.:" + port + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	<-reached
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var hits atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
	}))
	defer srv.Close()
	g := outbound.New(outbound.Options{Allow: prefixes(t, "127.0.0.0/8")})
	defer g.Close()
	resp, err := g.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusFound || hits.Load() != 1 {
		t.Errorf("status %d after %d requests", resp.StatusCode, hits.Load())
	}
}

func TestProxyOfTheEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	g := outbound.New(outbound.Options{Allow: prefixes(t, "127.0.0.0/8")})
	defer g.Close()
	resp, err := g.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// A peer that never answers, or answers with endless headers, is let go.
func TestHangingAndFloodingPeersAreLetGo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 1<<10)
				n, _ := c.Read(buf)
				if strings.Contains(string(buf[:n]), "/flood") {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
					for {
						if _, err := io.WriteString(c, "X-Filler: "+strings.Repeat("a", 1<<10)+"\r\n"); err != nil {
							return
						}
					}
				}
				_, _ = c.Read(buf) // until the other side gives up
			}()
		}
	}()
	defer func() { _ = ln.Close(); <-done }()
	g := outbound.New(outbound.Options{Allow: prefixes(t, "127.0.0.0/8"), ResponseTimeout: 100 * time.Millisecond, TLSTimeout: 100 * time.Millisecond})
	defer g.Close()
	for _, url := range []string{"http://" + ln.Addr().String() + "/", "https://" + ln.Addr().String() + "/", "http://" + ln.Addr().String() + "/flood"} {
		start := time.Now()
		resp, err := g.Client().Get(url)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: answered", url)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: took %v", url, took)
		}
	}
}

func TestParseAllow(t *testing.T) {
	for _, bad := range []string{"10.0.0.0/33", "localhost", "fe80::1%eth0", "10.0.0/8"} {
		if _, err := outbound.ParseAllow(bad); err == nil || !strings.Contains(err.Error(), "BELFRY_OUTBOUND_ALLOW") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	got, err := outbound.ParseAllow(" 10.1.2.3/8,::1 ")
	if err != nil || len(got) != 2 || got[0].String() != "10.0.0.0/8" || got[1].String() != "::1/128" {
		t.Errorf("%v %v", got, err)
	}
	if got, err := outbound.ParseAllow(""); err != nil || len(got) != 0 {
		t.Errorf("%v %v", got, err)
	}
}

// dnsServer answers A queries over UDP with what answer says.
func dnsServer(t *testing.T, answer func(name string) netip.Addr) (*net.Resolver, func()) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(buf[:n]) != nil || len(q.Questions) != 1 {
				continue
			}
			r := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
			if q.Questions[0].Type == dnsmessage.TypeA {
				r.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.AResource{A: answer(q.Questions[0].Name.String()).As4()},
				}}
			}
			if out, err := r.Pack(); err == nil {
				_, _ = pc.WriteTo(out, from)
			}
		}
	}()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	return resolver, func() { _ = pc.Close(); <-done }
}

// What connecting would say is known before of addresses, and of no name.
func TestJudge(t *testing.T) {
	g := outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("::1/128")}})
	for host, want := range map[string]string{
		"192.0.78.9": "", "10.1.2.3": "", "[::1]": "", "::ffff:10.1.2.3": "", "example.org": "", "intranet": "", "10.2.0.1.example.org": "", "localhost.example.org": "",
		"10.2.0.1":  "connecting to 10.2.0.1 is refused: it is a private address; an operator can allow it with BELFRY_OUTBOUND_ALLOW",
		"localhost": "it is a loopback address", "LocalHost.": "it is a loopback address", "api.localhost": "it is a loopback address", "127.8.9.1": "it is a loopback address",
		"169.254.169.254": "it is a cloud metadata address", "fe80::1%eth0": "it is a link-local address", "::ffff:192.168.0.1": "it is a private address", "0.0.0.0": "this machine",
	} {
		err := g.Judge(host)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
}

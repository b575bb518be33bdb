package email_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/channel/email"
)

// received is a mail as the relay got it.
type received struct {
	from, to string
	utf8     bool
	tls      bool
	user     string
	data     []byte
}

// relay is a real SMTP server that keeps what it gets.
type relay struct {
	address string
	pem     string // its certificate

	user, password string // "" = no log-in offered
	mechanisms     []string
	utf8           bool

	onRcpt func(to string) error
	onMail func(from string) error
	onData func(data []byte) error

	mu       sync.Mutex
	mails    []received
	sessions int
	server   *smtp.Server
}

func (r *relay) got() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.mails...)
}

func (r *relay) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions
}

// Ways a relay speaks TLS.
const (
	plain    = "plain"
	starttls = "starttls"
	implicit = "implicit"
)

func startRelay(t testing.TB, mode string, set func(*relay)) *relay {
	t.Helper()
	r := &relay{mechanisms: []string{"PLAIN", "LOGIN"}}
	if set != nil {
		set(r)
	}
	r.server = smtp.NewServer(r)
	r.server.ErrorLog = log.New(io.Discard, "", 0)
	r.server.AllowInsecureAuth = true
	r.server.EnableSMTPUTF8 = r.utf8
	r.server.Domain = "relay.example"
	r.server.MaxMessageBytes = 4 << 20
	cert, certPEM := certificate(t)
	r.pem = certPEM
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = ln.Addr().String()
	switch mode {
	case implicit:
		ln = tls.NewListener(ln, cfg)
	case starttls:
		r.server.TLSConfig = cfg
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = r.server.Close()
		_ = ln.Close() // Serve may not have begun
		<-done
	})
	return r
}

func (r *relay) NewSession(c *smtp.Conn) (smtp.Session, error) {
	r.mu.Lock()
	r.sessions++
	r.mu.Unlock()
	return &session{r: r, c: c}, nil
}

type session struct {
	r    *relay
	c    *smtp.Conn
	user string
	mail received
}

func (s *session) AuthMechanisms() []string {
	if s.r.user == "" {
		return nil
	}
	return s.r.mechanisms
}

func (s *session) Auth(mech string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user != s.r.user || password != s.r.password {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}
	switch mech {
	case sasl.Plain:
		return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
	case "LOGIN":
		return &loginServer{check: check}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// loginServer is the LOGIN mechanism, which go-sasl has for clients only.
type loginServer struct {
	check func(user, password string) error
	user  string
	step  int
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}

func (s *session) Reset() { s.mail = received{} }

func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, o *smtp.MailOptions) error {
	if s.r.user != "" && s.user == "" {
		return smtp.ErrAuthRequired
	}
	if s.r.onMail != nil {
		if err := s.r.onMail(from); err != nil {
			return err
		}
	}
	_, encrypted := s.c.TLSConnectionState()
	s.mail = received{from: from, utf8: o.UTF8, tls: encrypted, user: s.user}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.r.onRcpt != nil {
		if err := s.r.onRcpt(to); err != nil {
			return err
		}
	}
	if s.mail.to != "" {
		return errors.New("one recipient only")
	}
	s.mail.to = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.r.onData != nil {
		if err := s.r.onData(data); err != nil {
			return err
		}
	}
	s.mail.data = data
	s.r.mu.Lock()
	s.r.mails = append(s.r.mails, s.mail)
	s.r.mu.Unlock()
	return nil
}

var (
	certOnce sync.Once
	certPair tls.Certificate
	certText string
)

// certificate is a self-made one for 127.0.0.1, its own authority.
func certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	certOnce.Do(func() {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.example"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		certPair = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
		certText = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	})
	return certPair, certText
}

func deps() channel.Deps {
	return channel.Deps{Dialer: &net.Dialer{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, Version: "1.2.3"}
}

// open makes a sender; settings are name, value pairs.
func open(t testing.TB, url string, settings ...string) channel.Sender {
	t.Helper()
	values := map[string]string{"url": url, "from": `"Belfry School" <notices@school.example>`}
	for i := 0; i < len(settings); i += 2 {
		values[settings[i]] = settings[i+1]
	}
	s, err := email.Kind().New(deps(), values)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// dialogue is a relay of the test's own words: answer gets each line and says
// what to reply ("" hangs up; "-" says nothing).
func dialogue(t testing.TB, answer func(conn int, line string) string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for n := 1; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				in := bufio.NewScanner(c)
				in.Buffer(nil, 4<<20)
				line := "CONNECT"
				for {
					switch a := answer(n, line); a {
					case "":
						return
					case "-":
					default:
						fmt.Fprintf(c, "%s\r\n", strings.ReplaceAll(a, "\n", "\r\n"))
					}
					if line == "DATA" {
						for in.Scan() && in.Text() != "." {
						}
						line = "."
						continue
					}
					if !in.Scan() {
						return
					}
					line = in.Text()
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// polite answers as a relay that takes everything.
func polite(line string) string {
	verb, _, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "CONNECT":
		return "220 ready"
	case "DATA":
		return "354 go on"
	case "QUIT":
		return "221 bye"
	}
	return "250 ok"
}

func header(data []byte) string {
	head, _, _ := bytes.Cut(data, []byte("\r\n\r\n"))
	return string(head)
}

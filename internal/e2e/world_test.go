package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// letter is a mail that arrived, taken apart as a mail program does.
type letter struct {
	at       time.Time
	envelope []string // RCPT TO
	from     string   // MAIL FROM
	head     mail.Header
	subject  string
	to       []*mail.Address
	text     string
	html     string
	files    map[string]string // attachments by name
	raw      string
}

// postOffice is a mail server that keeps all it gets.
type postOffice struct {
	addr    string
	refuses string // an address there is no mailbox for
	mu      sync.Mutex
	all     []letter
}

func newPostOffice(t *testing.T) *postOffice {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &postOffice{addr: l.Addr().String()}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{office: p}, nil }))
	s.Domain = "mx.school.example"
	s.MaxMessageBytes = 1 << 20
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			t.Error(err)
		}
	})
	return p
}

// URL is what the e-mail channel is told.
func (p *postOffice) URL() string { return "smtp://" + p.addr }

// letters are those that arrived so far, oldest first.
func (p *postOffice) letters() []letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

// to are those that arrived for an address.
func (p *postOffice) to(address string) []letter {
	return slices.DeleteFunc(p.letters(), func(l letter) bool { return !slices.Contains(l.envelope, address) })
}

type session struct {
	office *postOffice
	from   string
	to     []string
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to == s.office.refuses {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	l, err := open(raw)
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: err.Error()}
	}
	l.at, l.from, l.envelope = time.Now(), s.from, slices.Clone(s.to)
	s.office.mu.Lock()
	defer s.office.mu.Unlock()
	s.office.all = append(s.office.all, l)
	return nil
}

func open(raw []byte) (letter, error) {
	m, err := mail.CreateReader(bytes.NewReader(raw))
	if err != nil {
		return letter{}, err
	}
	defer m.Close()
	l := letter{head: m.Header, raw: string(raw)}
	if l.subject, err = m.Header.Subject(); err != nil {
		return l, err
	}
	if l.to, err = m.Header.AddressList("To"); err != nil {
		return l, err
	}
	for {
		p, err := m.NextPart()
		if errors.Is(err, io.EOF) {
			return l, nil
		}
		if err != nil {
			return l, err
		}
		body, err := io.ReadAll(p.Body)
		if err != nil {
			return l, err
		}
		if a, ok := p.Header.(*mail.AttachmentHeader); ok {
			name, err := a.Filename()
			if err != nil {
				return l, err
			}
			if l.files == nil {
				l.files = map[string]string{}
			}
			l.files[name] = string(body)
			continue
		}
		h := p.Header.(*mail.InlineHeader)
		kind, _, err := h.ContentType()
		if err != nil {
			return l, err
		}
		switch kind {
		case "text/plain":
			l.text = strings.ReplaceAll(string(body), "\r\n", "\n")
		case "text/html":
			l.html = string(body)
		}
	}
}

// webhook is a call that arrived and whose signature is right.
type webhook struct {
	at   time.Time
	id   string
	raw  string
	Type string
	Time time.Time `json:"timestamp"`
	Data hookEvent
}

// hookEvent is the event in a webhook of the standard format.
type hookEvent struct {
	ID, Source, Type, Object, Actor, Subject string
	Related, Flags                           []string
	Data                                     json.RawMessage
	Record                                   json.RawMessage
	Subscription, Recipient                  string
}

// receiver takes webhooks: each endpoint has its own path and secret.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	keys   map[string]*standardwebhooks.Webhook
	all    map[string][]webhook
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, keys: map[string]*standardwebhooks.Webhook{}, all: map[string][]webhook{}}
	r.server = httptest.NewServer(http.HandlerFunc(r.receive))
	t.Cleanup(r.server.Close)
	return r
}

// URL is the address of an endpoint.
func (r *receiver) URL(name string) string { return r.server.URL + "/" + name }

func (r *receiver) trust(name, secret string) {
	r.t.Helper()
	key, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		r.t.Fatalf("the secret of %s: %v", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[name] = key
}

func (r *receiver) receive(w http.ResponseWriter, req *http.Request) {
	name := strings.TrimPrefix(req.URL.Path, "/")
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the connection broke
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	hook := webhook{at: time.Now(), id: req.Header.Get("webhook-id"), raw: string(body)}
	switch key := r.keys[name]; {
	case key == nil:
		err = errors.New("there is no such endpoint")
	default:
		if err = key.Verify(body, req.Header); err == nil {
			err = json.Unmarshal(body, &hook)
		}
	}
	if err != nil || req.Method != http.MethodPost || !strings.HasPrefix(req.Header.Get("Content-Type"), "application/json") {
		r.t.Errorf("%s %s with %v: %v: %s", req.Method, name, req.Header, err, body)
		http.Error(w, "not as agreed", http.StatusBadRequest)
		return
	}
	r.all[name] = append(r.all[name], hook)
	w.WriteHeader(http.StatusNoContent)
}

// hooks are those an endpoint got so far, oldest first.
func (r *receiver) hooks(name string) []webhook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all[name])
}

// got finds the webhook of an event.
func (r *receiver) got(name, event string) (webhook, bool) {
	for _, h := range r.hooks(name) {
		if h.Data.ID == event {
			return h, true
		}
	}
	return webhook{}, false
}

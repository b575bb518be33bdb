package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/sync/errgroup"

	"github.com/belfryhq/belfry/internal/web/ui"
)

// Bounds of what is kept: at most keep messages of each sort, the newest.
const (
	keep         = 100
	maxMailBytes = 512 << 10
	maxHookBytes = 512 << 10
)

// Catcher is a mail server and a webhook receiver. Make it with NewCatcher.
type Catcher struct {
	log      *slog.Logger
	now      func() time.Time
	mailAt   net.Listener
	hooksAt  net.Listener
	mu       sync.Mutex
	key      *standardwebhooks.Webhook // verifies; nil = none can be verified yet
	refusing bool
	mails    []ui.Mail
	hooks    []ui.Hook
	count    int
	changed  chan struct{} // closed and replaced at each change
}

// NewCatcher binds both servers to free ports of the loopback interface; Run
// serves them. now is the clock.
func NewCatcher(log *slog.Logger, now func() time.Time) (*Catcher, error) {
	c := &Catcher{log: log, now: now, changed: make(chan struct{})}
	var err error
	if c.mailAt, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("mail catcher: %w", err)
	}
	if c.hooksAt, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(fmt.Errorf("webhook receiver: %w", err), c.mailAt.Close())
	}
	return c, nil
}

// MailURL is the address of the mail server, for the e-mail channel.
func (c *Catcher) MailURL() string { return "smtp://" + c.mailAt.Addr().String() }

// HookURL is the address of the webhook receiver, for an endpoint.
func (c *Catcher) HookURL() string { return "http://" + c.hooksAt.Addr().String() + "/records" }

// Trust sets the secret (whsec_…) that webhooks must be signed with.
func (c *Catcher) Trust(secret string) error {
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("webhook receiver: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key = wh
	return nil
}

// Refuse makes the webhook receiver answer 503, or well again.
func (c *Catcher) Refuse(refuse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusing = refuse
	c.tell()
}

// Refusing reports whether the webhook receiver answers 503.
func (c *Catcher) Refusing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusing
}

// Mails are those caught, oldest first. The caller does not change them.
func (c *Catcher) Mails() []ui.Mail {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mails)
}

// Hooks are the webhooks caught, oldest first. The caller does not change them.
func (c *Catcher) Hooks() []ui.Hook {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.hooks)
}

// Changed gives a channel that is closed at the next arrival.
func (c *Catcher) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// tell wakes whoever waits; mu is held.
func (c *Catcher) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Run serves until ctx ends. It may be called once.
func (c *Catcher) Run(ctx context.Context) error {
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{catcher: c}, nil }))
	s.Domain = "catcher.localhost"
	s.MaxMessageBytes = maxMailBytes
	s.MaxRecipients = 50
	s.ReadTimeout, s.WriteTimeout = time.Minute, time.Minute
	s.ErrorLog = slog.NewLogLogger(c.log.Handler(), slog.LevelDebug)
	h := &http.Server{
		Handler:           http.HandlerFunc(c.receive),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.Serve(c.mailAt); err != nil && !errors.Is(err, smtp.ErrServerClosed) && ctx.Err() == nil {
			return fmt.Errorf("mail catcher: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := h.Serve(c.hooksAt); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
			return fmt.Errorf("webhook receiver: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		// Both may not have begun to serve: the listeners are closed here so
		// that they do not begin after this.
		return errors.Join(quiet(s.Close()), quiet(h.Close()), quiet(c.mailAt.Close()), quiet(c.hooksAt.Close()))
	})
	return g.Wait()
}

// quiet drops the errors of closing what is closed already.
func quiet(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	return err
}

// receive takes a webhook, verifies it and keeps it.
func (c *Catcher) receive(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "webhooks are posted", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHookBytes))
	if err != nil {
		http.Error(w, "the body is too large or broken off", http.StatusRequestEntityTooLarge)
		return
	}
	hook := ui.Hook{At: c.now(), Delivery: r.Header.Get("webhook-id"), Head: r.Header.Clone(), Body: body}
	c.mu.Lock()
	key := c.key
	c.mu.Unlock()
	hook.Verified, hook.Problem = verify(key, body, r.Header)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.refusing:
		hook.Status = http.StatusServiceUnavailable
	case !hook.Verified:
		hook.Status = http.StatusUnauthorized
	default:
		hook.Status = http.StatusNoContent
	}
	c.count++
	hook.ID = c.count
	c.hooks = kept(append(c.hooks, hook))
	c.tell()
	w.WriteHeader(hook.Status)
}

func verify(key *standardwebhooks.Webhook, body []byte, head http.Header) (bool, string) {
	if key == nil {
		return false, "the receiver has no key yet"
	}
	if err := key.Verify(body, head); err != nil {
		return false, strings.TrimPrefix(err.Error(), "unable to verify payload, err: ")
	}
	return true, ""
}

func kept[T any](list []T) []T {
	if over := len(list) - keep; over > 0 {
		clear(list[:over])
		return list[over:]
	}
	return list
}

// session is one SMTP conversation.
type session struct {
	catcher *Catcher
	from    string
	to      []string
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	m, err := read(r)
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "the message cannot be read: " + err.Error()}
	}
	c := s.catcher
	m.At, m.From, m.To = c.now(), s.from, strings.Join(s.to, ", ")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	m.ID = c.count
	c.mails = kept(append(c.mails, m))
	c.tell()
	return nil
}

// read takes a message apart: its head, and the first text and HTML parts.
func read(r io.Reader) (ui.Mail, error) {
	mr, err := mail.CreateReader(r)
	if err != nil {
		return ui.Mail{}, err
	}
	defer mr.Close()
	var m ui.Mail
	if m.Subject, err = mr.Header.Subject(); err != nil {
		m.Subject = mr.Header.Get("Subject")
	}
	m.MessageID = strings.Trim(mr.Header.Get("Message-Id"), "<> ")
	for f := mr.Header.Fields(); f.Next(); {
		v, err := f.Text()
		if err != nil {
			v = f.Value()
		}
		m.Headers = append(m.Headers, ui.Header{Name: f.Key(), Value: strings.Join(strings.Fields(v), " ")})
	}
	for {
		p, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		h, ok := p.Header.(*mail.InlineHeader)
		if !ok {
			continue
		}
		kind, _, err := h.ContentType()
		if err != nil {
			continue
		}
		body, err := io.ReadAll(p.Body)
		if err != nil {
			return m, err
		}
		switch {
		case kind == "text/plain" && m.Text == "":
			m.Text = strings.ReplaceAll(string(body), "\r\n", "\n")
		case kind == "text/html" && m.HTML == "":
			m.HTML = string(body)
		}
	}
}

var _ ui.Catcher = (*Catcher)(nil)

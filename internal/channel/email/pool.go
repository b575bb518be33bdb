package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"github.com/belfryhq/belfry/internal/channel"
)

// maxReplies bounds what a relay may say in one transaction, in bytes.
const maxReplies = 256 << 10

// A kept connection is trusted unasked for restFor; then it is asked, and has
// checkTime to answer.
const (
	restFor   = time.Second
	checkTime = 5 * time.Second
)

// pool keeps connections to one relay.
type pool struct {
	cfg    *config
	dialer channel.Dialer
	slots  chan struct{} // one for each connection that is in use

	mu     sync.Mutex
	idle   []*conn // the last one was used last
	closed bool
	quits  sync.WaitGroup // polite goodbyes on their way
}

func newPool(cfg *config, dialer channel.Dialer) *pool {
	return &pool{cfg: cfg, dialer: dialer, slots: make(chan struct{}, cfg.connections)}
}

// conn is a session with the relay. One goroutine uses it at a time.
type conn struct {
	wire  *wire
	smtp  *smtp.Client
	sent  int
	since time.Time   // when it was put back
	timer *time.Timer // closes it when idle
	clean bool        // the last transaction ended well: nothing to reset
}

// wire is the connection below TLS: deadlines are set and replies are counted
// there.
type wire struct {
	net.Conn
	left   int
	spoilt bool // a context ended during a step: nobody knows where the session stands
}

func (w *wire) Read(p []byte) (int, error) {
	if w.left <= 0 {
		return 0, errors.New("the relay says too much")
	}
	if len(p) > w.left {
		p = p[:w.left]
	}
	n, err := w.Conn.Read(p)
	w.left -= n
	return n, err
}

// errClosed is the error of everything after close.
var errClosed = errors.New("the channel is closed")

// errBusy is acquire's error when no connection became free in time.
var errBusy = errors.New("all connections to the relay stayed busy for the time given")

// acquire takes a slot, and gives it back with release.
func (p *pool) acquire(ctx context.Context) error {
	if p.isClosed() {
		return errClosed
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errBusy
	}
}

func (p *pool) release() { <-p.slots }

func (p *pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// kept takes an idle connection that still answers; nil when there is none.
func (p *pool) kept(ctx context.Context) *conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 || p.closed {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		c.timer.Stop()
		p.mu.Unlock()
		if c.clean && time.Since(c.since) < restFor {
			return c
		}
		check, cancel := context.WithTimeout(ctx, checkTime)
		err := c.during(check, c.smtp.Reset)
		cancel()
		if err == nil && !c.wire.spoilt {
			return c
		}
		c.drop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// put keeps c for the next message, or lets it go.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed || c.wire.spoilt:
		c.drop()
	case c.sent >= p.cfg.perConn:
		p.part(c)
	default:
		c.since = time.Now()
		c.timer = time.AfterFunc(p.cfg.idle, func() { p.expire(c) })
		p.idle = append(p.idle, c)
	}
}

// expire closes c if it is still idle.
func (p *pool) expire(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return // close has seen to it
	}
	for i, other := range p.idle {
		if other == c {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			p.part(c)
			return
		}
	}
}

// part says goodbye aside: the relay may take its time. p.mu is held.
func (p *pool) part(c *conn) { p.quits.Go(c.quit) }

// close closes what is idle; connections in use go when their sends end.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.idle {
		c.timer.Stop()
		p.part(c)
	}
	p.idle = nil
	p.mu.Unlock()
	p.quits.Wait()
}

// quitTime bounds a polite goodbye.
const quitTime = time.Second

func (c *conn) quit() {
	ctx, cancel := context.WithTimeout(context.Background(), quitTime)
	defer cancel()
	_ = c.during(ctx, c.smtp.Quit)
	c.drop()
}

func (c *conn) drop() { _ = c.wire.Close() }

// during runs a step of the session within ctx. When ctx ends meanwhile, the
// step is cut short and the connection is spoilt, even when the step won.
func (c *conn) during(ctx context.Context, step func() error) error {
	w := c.wire
	deadline, _ := ctx.Deadline() // none = the zero time, which is no deadline
	if err := w.SetDeadline(deadline); err != nil {
		return err
	}
	w.left = maxReplies
	stop := context.AfterFunc(ctx, func() { _ = w.SetDeadline(time.Unix(1, 0)) })
	err := step()
	if !stop() {
		w.spoilt = true
	}
	var reply *textproto.Error
	if err != nil && ctx.Err() != nil && !errors.As(err, &reply) {
		err = fmt.Errorf("%w (%v)", ctx.Err(), err)
	}
	return err
}

// dial opens a session: connection, TLS, greeting, log-in.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	if p.isClosed() {
		return nil, errClosed
	}
	raw, err := p.dialer.DialContext(ctx, "tcp", p.cfg.address)
	if err != nil {
		return nil, err
	}
	c := &conn{wire: &wire{Conn: raw}, clean: true}
	if err := c.during(ctx, func() error { return c.begin(ctx, p.cfg) }); err != nil {
		c.drop()
		return nil, err
	}
	return c, nil
}

func (c *conn) begin(ctx context.Context, cfg *config) error {
	var under net.Conn = c.wire
	if cfg.implicitTLS {
		t := tls.Client(c.wire, cfg.tlsConfig(true))
		if err := t.HandshakeContext(ctx); err != nil {
			return tlsFault(err)
		}
		under = t
	}
	var err error
	if c.smtp, err = smtp.NewClient(under, cfg.host); err != nil {
		return sessionFault("the relay does not want to talk", err)
	}
	if err = c.smtp.Hello(cfg.hello); err != nil {
		return sessionFault("the relay refuses the greeting", err)
	}
	encrypted := cfg.implicitTLS
	offered, _ := c.smtp.Extension("STARTTLS")
	switch {
	case encrypted, cfg.tls == tlsNone:
	case offered:
		// Encryption to an unproven relay is better than none, but a password is
		// only for the proven one.
		if err = c.smtp.StartTLS(cfg.tlsConfig(cfg.tls == tlsRequired || cfg.user != "")); err != nil {
			return tlsFault(err)
		}
		encrypted = true
	case cfg.tls == tlsRequired:
		return errors.New("the relay offers no STARTTLS, and ?tls=required insists on it")
	}
	if cfg.user == "" {
		return nil
	}
	if !encrypted && cfg.tls != tlsNone && !isLoopback(c.wire.RemoteAddr()) {
		return errors.New("the relay offers no TLS, and the password is not sent in the clear: set ?tls=none to allow it")
	}
	return c.logIn(cfg)
}

// logIn uses the strongest mechanism that the relay offers. PLAIN goes before
// CRAM-MD5, which many relays offer and cannot do.
func (c *conn) logIn(cfg *config) error {
	has, list := c.smtp.Extension("AUTH")
	if !has {
		return errors.New("the relay offers no log-in, but a user is set")
	}
	offered := map[string]bool{}
	for _, m := range strings.Fields(strings.ToUpper(list)) {
		offered[m] = true
	}
	var auth smtp.Auth
	switch {
	case offered["SCRAM-SHA-256"]:
		auth = smtp.ScramSHA256Auth(cfg.user, cfg.password)
	case offered["SCRAM-SHA-1"]:
		auth = smtp.ScramSHA1Auth(cfg.user, cfg.password)
	case offered["PLAIN"]:
		auth = smtp.PlainAuth("", cfg.user, cfg.password, cfg.host, true) // begin has decided about TLS
	case offered["LOGIN"]:
		auth = smtp.LoginAuth(cfg.user, cfg.password, cfg.host, true)
	case offered["CRAM-MD5"]:
		auth = smtp.CRAMMD5Auth(cfg.user, cfg.password)
	default:
		return errors.New("the relay offers no way to log in that is known here: " + list)
	}
	if err := c.smtp.Auth(auth); err != nil {
		return sessionFault("the relay refuses user or password", err)
	}
	return nil
}

func (cfg *config) tlsConfig(verify bool) *tls.Config {
	return &tls.Config{ServerName: cfg.host, RootCAs: cfg.roots, InsecureSkipVerify: !verify, MinVersion: tls.VersionTLS12}
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// sessionError is a reply that speaks of the session, not of a message.
type sessionError struct {
	what string
	err  error
}

func (e *sessionError) Error() string { return e.what + ": " + e.err.Error() }
func (e *sessionError) Unwrap() error { return e.err }

func sessionFault(what string, err error) error { return &sessionError{what, err} }

func tlsFault(err error) error {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return sessionFault("the relay's certificate is not accepted (its authority can be given as the setting "+settingCA+")", cert.Err)
	}
	return sessionFault("TLS with the relay fails", err)
}

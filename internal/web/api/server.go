package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Options are the parts of a Server; all are needed but the last block.
type Options struct {
	Auth      Authenticator
	Ingest    Ingester
	Manage    Manager
	Running   Running
	Nodes     Nodes
	Preview   Previewer
	Explain   Explainer
	Events    EventReader
	Delivery  DeliveryReader
	Digests   DigestReader
	Jobs      JobReader
	Inbox     Inbox
	Documents Documents
	Public    Public
	Notices   Notices
	Asking    Asking
	Health    Health
	Metrics   http.Handler // serves GET /metrics
	Seal      Sealer
	Log       *slog.Logger
	Now       func() time.Time // UTC
	Version   string
	PublicURL string // where people reach the server, without a slash at the end

	Heartbeat time.Duration // of streams; 0 = 15s
}

// Server answers the calls of api.md. It is an http.Handler.
type Server struct {
	Options
	mux  *http.ServeMux
	huma huma.API
	once sync.Once
	done chan struct{} // closed by Drain
	idem *idempotency
	spec []byte // the OpenAPI document
	away away
}

// away keeps the log readable, and its disk from filling, while a part of the
// service is away and every request ends alike.
type away struct {
	mu       sync.Mutex
	text     string
	logged   time.Time
	unlogged int
}

// quiet reports whether a request that ended so goes without a line: one with
// the same words was logged within the last second. Else it gives how many did.
func (a *away) quiet(text string, now time.Time) (unlogged int, quiet bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if since := now.Sub(a.logged); text == a.text && since >= 0 && since < time.Second {
		a.unlogged++
		return 0, true
	}
	unlogged = a.unlogged
	a.text, a.logged, a.unlogged = text, now, 0
	return unlogged, false
}

// New makes a Server. It panics when two routes contradict each other, which a
// test would have shown.
func New(o Options) *Server {
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	s := &Server{Options: o, mux: http.NewServeMux(), done: make(chan struct{})}
	s.idem = newIdempotency(o.Documents, o.Seal, o.Now)
	s.huma = humago.New(s.mux, description(o.Version))
	s.eventRoutes()
	s.objectRoutes()
	s.peopleRoutes()
	s.inboxRoutes()
	s.acknowledgeRoutes()
	s.subscriptionRoutes()
	s.answerRoutes()
	s.backtestRoutes()
	s.notificationRoutes()
	s.personRoutes()
	s.whyRoutes()
	s.deliveryRoutes()
	s.digestRoutes()
	s.lifeRoutes()
	s.catalogueRoutes()
	s.keyRoutes()
	s.nodeRoutes()
	s.publicRoutes()
	s.confirmRoutes()
	s.docsRoutes()
	return s
}

// Drain ends the streams, so that a graceful shutdown need not wait for their
// readers. Idempotent.
func (s *Server) Drain() { s.once.Do(func() { close(s.done) }) }

// ServeHTTP is the edge: it names the request, guards the headers, recovers,
// authenticates what lies under /v1, and logs.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.Now()
	c := &call{id: requestID(r, start), r: r}
	out := &recorder{ResponseWriter: w}
	s.guard(out.Header(), c.id)
	pattern := ""
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { // the documented way to cut a connection
				panic(v)
			}
			c.err = fmt.Errorf("panic: %v", v)
			c.note(slog.String("stack", string(debug.Stack())))
			if out.status == 0 {
				p := newProblem(http.StatusInternalServerError, "the cause is in the server's log under this request id")
				p.Request = c.id
				p.write(out)
			}
			out.panicked = true
		}
		s.log(r.Context(), c, out, pattern, s.Now().Sub(start))
	}()
	pattern = s.serve(out, r, c)
}

// serve authenticates and dispatches; it gives the pattern that matched.
func (s *Server) serve(w *recorder, r *http.Request, c *call) string {
	if under(r.URL.Path, "/v1") {
		who, err := s.Auth.Authenticate(r.Context(), r.Header.Get("Authorization"), r.Header.Get("Belfry-Tenant"), remoteAddr(r))
		if err != nil {
			c.fail(w, err)
			return ""
		}
		c.who = who
		// The hot path: no context value, no second look at the routes.
		if r.URL.Path == "/v1/events" && r.Method == http.MethodPost {
			s.postEvents(w, r, c)
			return "POST /v1/events"
		}
	}
	_, pattern := s.mux.Handler(r)
	if pattern == "" {
		s.unmatched(w, r, c)
		return ""
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	c.r = r
	if key := r.Header.Get("Idempotency-Key"); key != "" && r.Method == http.MethodPost && under(r.URL.Path, "/v1") {
		s.idem.serve(w, c, key, s.mux)
		return pattern
	}
	s.mux.ServeHTTP(w, r)
	return pattern
}

// unmatched answers a path or method nothing is registered for as a problem.
func (s *Server) unmatched(w http.ResponseWriter, r *http.Request, c *call) {
	probe := &probe{header: http.Header{}}
	s.mux.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		p := newProblem(http.StatusMethodNotAllowed, "this address answers "+probe.header.Get("Allow"))
		p.allow = probe.header.Get("Allow")
		c.fail(w, p)
		return
	}
	c.fail(w, newProblem(http.StatusNotFound, "no call has this address: /docs lists them all"))
}

// probe learns what the mux would answer.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// guard sets the headers every answer has; pages of ours loosen them.
func (s *Server) guard(h http.Header, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if strings.HasPrefix(s.PublicURL, "https://") {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// log writes the line of a request. Paths are logged as patterns: ids are
// people's, and the tokens of public links are secrets. Health checks and
// accepted events are unremarkable: events have lines of their own.
func (s *Server) log(ctx context.Context, c *call, out *recorder, pattern string, took time.Duration) {
	level := slog.LevelInfo
	switch {
	case out.status >= 500 || out.panicked:
		level = slog.LevelError
	case out.status < 400 && (pattern == "POST /v1/events" || !under(c.r.URL.Path, "/v1")):
		level = slog.LevelDebug
	}
	if !s.Log.Enabled(ctx, level) {
		return
	}
	if out.status == http.StatusServiceUnavailable && c.err != nil && !out.panicked {
		unlogged, quiet := s.away.quiet(c.err.Error(), s.Now())
		if quiet {
			return
		}
		if unlogged > 0 {
			c.note(slog.Int("unlogged", unlogged))
		}
	}
	attrs := make([]slog.Attr, 0, 12+len(c.details))
	attrs = append(attrs, slog.String("request_id", c.id), slog.String("method", c.r.Method), slog.String("route", pattern),
		slog.Int("status", out.status), slog.Int64("bytes", out.bytes), slog.Duration("took", took), slog.String("remote", c.r.RemoteAddr))
	if c.who.Key != "" {
		attrs = append(attrs, slog.String("tenant", c.who.Tenant), slog.String("key", c.who.Key))
	}
	if c.err != nil {
		attrs = append(attrs, slog.Any("error", clipped{c.err}))
	}
	s.Log.LogAttrs(ctx, level, "request", append(attrs, c.details...)...)
}

// clipped is an error in few words, for whoever reads the log and for whoever
// asks what it is.
type clipped struct{ error }

func (c clipped) Error() string { return clip(c.error.Error(), maxDetail) }
func (c clipped) Unwrap() error { return c.error }

// requestID takes the caller's id when it is harmless, else draws one.
func requestID(r *http.Request, now time.Time) string {
	id := r.Header.Get("X-Request-Id")
	ok := len(id) >= 8 && len(id) <= 64
	for i := 0; i < len(id) && ok; i++ {
		c := id[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
	}
	if ok {
		return id
	}
	return belfry.NewID("req_", now)
}

// remoteAddr is who failed attempts are counted against.
func remoteAddr(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, _ := netip.ParseAddr(host) // the zero Addr stands for those without one, as on a Unix socket
	return addr
}

func under(path, base string) bool {
	return path == base || strings.HasPrefix(path, base+"/")
}

// recorder sees what is answered.
type recorder struct {
	http.ResponseWriter
	status   int
	bytes    int64
	panicked bool
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// digest is a short fingerprint of text.
func digest(parts ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write([]byte(p))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

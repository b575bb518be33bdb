package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/outbound"
)

// Kind describes the channel. It has no settings: all there is to set belongs
// to each endpoint.
func Kind() channel.Kind {
	return channel.Kind{
		Name:  belfry.ChannelWebhook,
		Title: "Webhook",
		Help:  "Signed HTTP requests to endpoints, by the Standard Webhooks rules.",
		New: func(d channel.Deps, values map[string]string) (channel.Sender, error) {
			if err := channel.Validate(nil, values); err != nil {
				return nil, err
			}
			return New(d), nil
		},
	}
}

// Bounds of a send.
const (
	DefaultTimeout = 15 * time.Second
	MaxTimeout     = time.Minute // below the guarded client's own backstop
	excerpt        = 4 << 10     // bytes of an answer that are looked at
	drain          = 64 << 10    // bytes of an answer that are read to keep the connection
	maxPrepared    = 8192        // endpoints kept ready
)

// Sender posts messages to endpoints.
type Sender struct {
	transport http.RoundTripper
	now       func() time.Time
	agent     string
	closed    atomic.Bool

	mu       sync.RWMutex
	prepared map[string]*prepared // by endpoint id
}

// New makes a Sender.
func New(d channel.Deps) *Sender {
	transport := d.HTTP.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &Sender{
		transport: transport,
		now:       d.Now,
		agent:     "Belfry/" + d.Version,
		prepared:  map[string]*prepared{},
	}
}

// Close makes later sends fail. Connections belong to the client and stay.
func (s *Sender) Close() error {
	s.closed.Store(true)
	s.mu.Lock()
	clear(s.prepared)
	s.mu.Unlock()
	return nil
}

// Send posts m.Body to target.Endpoint.
func (s *Sender) Send(ctx context.Context, target channel.Target, m *belfry.Message) belfry.Outcome {
	switch {
	case s.closed.Load():
		return retry("the channel is closed")
	case target.Endpoint == nil:
		return belfry.Outcome{Kind: belfry.OutcomeRefused, Detail: "no endpoint is given"}
	case !idIsSafe(m.ID):
		return belfry.Outcome{Kind: belfry.OutcomeRefused, Detail: "the message has no usable id"}
	}
	p, err := s.prepare(target.Endpoint, target.Secrets)
	if err != nil {
		return retry(err.Error())
	}
	resp, err := outbound.Within(s.transport, p.request(ctx, m, s.now()), p.timeout)
	if err != nil {
		return retry(p.explain(ctx, err))
	}
	return p.judge(resp, s.now)
}

func retry(detail string) belfry.Outcome {
	return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: channel.Detail(detail)}
}

// idIsSafe reports whether id can stand in a header and in the signed text,
// where a dot ends it.
func idIsSafe(id string) bool {
	for i := 0; i < len(id); i++ {
		if c := id[i]; c <= ' ' || c > '~' || c == '.' {
			return false
		}
	}
	return id != ""
}

// prepare finds or makes what all sends to ep have in common.
func (s *Sender) prepare(ep *belfry.Endpoint, secrets [][]byte) (*prepared, error) {
	s.mu.RLock()
	p := s.prepared[ep.ID]
	s.mu.RUnlock()
	if p != nil && p.fits(ep, secrets) {
		return p, nil
	}
	p, err := newPrepared(ep, secrets, s.agent)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return p, nil
	}
	// Making them anew is cheap, so that forgetting all is a good enough bound.
	if _, ok := s.prepared[ep.ID]; !ok && len(s.prepared) >= maxPrepared {
		clear(s.prepared)
	}
	s.prepared[ep.ID] = p
	return p, nil
}

// prepared is what all sends to one endpoint in one configuration share. It is
// immutable but for its pools.
type prepared struct {
	url      string
	timeText string
	custom   map[string]string
	timeout  time.Duration
	base     *http.Request // without context and body
	header   http.Header   // what every request carries; values are shared, never changed
	signers  []*signer
	hide     []string // never shown in a Detail
}

func newPrepared(ep *belfry.Endpoint, secrets [][]byte, agent string) (*prepared, error) {
	u, err := parseURL(ep.URL)
	if err != nil {
		return nil, err
	}
	p := &prepared{
		url:      ep.URL,
		timeText: ep.Timeout,
		custom:   maps.Clone(ep.Headers),
		timeout:  timeout(ep.Timeout),
		header:   http.Header{"User-Agent": {agent}},
	}
	for name, value := range ep.Headers {
		p.hide = append(p.hide, value)
		if _, credential, ok := strings.Cut(value, " "); ok {
			p.hide = append(p.hide, credential) // of "Bearer <credential>"
		}
		if key := http.CanonicalHeaderKey(name); checkHeader(name, value) == "" {
			p.header[key] = []string{value}
		}
	}
	if u.User != nil {
		password, _ := u.User.Password()
		p.hide = append(p.hide, password, u.User.String())
		if _, ok := p.header["Authorization"]; !ok {
			basic := basicAuth(u.User.Username(), password)
			p.hide = append(p.hide, basic)
			p.header["Authorization"] = []string{"Basic " + basic}
		}
		u.User = nil
	}
	p.hide = append(p.hide, urlSecrets(u)...)
	// The receiver knows a repeat by webhook-id, so that the transport may send
	// again when a kept connection was closed by the other side. The key tells
	// it so; without a value it does not go out.
	if _, ok := p.header["Idempotency-Key"]; !ok {
		p.header["Idempotency-Key"] = nil
	}
	for _, key := range secrets {
		sg := newSigner(key)
		p.signers = append(p.signers, sg)
		p.hide = append(p.hide, sg.shown()...)
	}
	p.base = &http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	return p, nil
}

// fits reports whether p was made of this very configuration.
func (p *prepared) fits(ep *belfry.Endpoint, secrets [][]byte) bool {
	if p.url != ep.URL || p.timeText != ep.Timeout || len(p.signers) != len(secrets) {
		return false
	}
	for i, sg := range p.signers {
		if !bytes.Equal(sg.key, secrets[i]) {
			return false
		}
	}
	return len(p.custom) == len(ep.Headers) && (len(p.custom) == 0 || maps.Equal(p.custom, ep.Headers))
}

const defaultContentType = "application/json"

// jsonType is shared by most requests.
var jsonType = []string{defaultContentType}

// request makes the request of one try.
func (p *prepared) request(ctx context.Context, m *belfry.Message, now time.Time) *http.Request {
	req := p.base.WithContext(ctx)
	// One array backs the values of the three headers that differ.
	values := &[3]string{0: m.ID, 1: strconv.FormatInt(now.Unix(), 10)}
	h := make(http.Header, len(p.header)+4)
	for k, v := range p.header {
		h[k] = v
	}
	h["webhook-id"] = values[0:1:1]
	h["webhook-timestamp"] = values[1:2:2]
	if len(p.signers) > 0 {
		values[2] = p.sign(values[0], values[1], m.Body)
		h["webhook-signature"] = values[2:3:3]
	}
	if m.ContentType == "" || m.ContentType == defaultContentType {
		h["Content-Type"] = jsonType
	} else {
		h["Content-Type"] = []string{m.ContentType}
	}
	req.Header = h
	body := m.Body
	req.ContentLength = int64(len(body))
	if len(body) == 0 {
		req.Body = http.NoBody
		return req
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return req
}

var buffers = sync.Pool{New: func() any { return new([excerpt]byte) }}

// judge says what an answer means and lets the connection go.
func (p *prepared) judge(resp *http.Response, now func() time.Time) belfry.Outcome {
	defer resp.Body.Close()
	out := belfry.Outcome{Status: resp.StatusCode}
	var seen []byte
	if resp.ContentLength != 0 {
		buf := buffers.Get().(*[excerpt]byte)
		defer buffers.Put(buf)
		seen = readAnswer(resp.Body, buf[:])
	}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		out.Kind = belfry.OutcomeDelivered
		return out
	case code == http.StatusGone:
		out.Kind = belfry.OutcomeGone
	case code >= 400:
		out.Kind = belfry.OutcomeRetry
		out.Throttled = code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable
		if v := resp.Header.Get("Retry-After"); v != "" {
			out.After = RetryAfter(v, now())
		}
	default:
		out.Kind = belfry.OutcomeRetry
	}
	out.Detail = p.detail(resp, seen)
	return out
}

// detail is the status in words and what the peer said.
func (p *prepared) detail(resp *http.Response, seen []byte) string {
	text := "HTTP " + strconv.Itoa(resp.StatusCode)
	if name := http.StatusText(resp.StatusCode); name != "" {
		text += " " + name
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		text += ": redirects are not followed, the endpoint must be the final address"
		if to := resp.Header.Get("Location"); to != "" {
			text += " (it points to " + to + ")"
		}
	}
	if len(seen) > 0 {
		text += ": " + string(seen)
	}
	return channel.Detail(text, p.hide...)
}

// readAnswer reads the beginning of an answer into buf, and on to its end, if
// that is near, so that the connection can be used again.
func readAnswer(r io.Reader, buf []byte) []byte {
	n, total := 0, 0
	var scrap [512]byte
	for total < drain {
		into := buf[n:]
		if len(into) == 0 {
			into = scrap[:]
		}
		k, err := r.Read(into)
		total += k
		if n < len(buf) {
			n += k
		}
		if err != nil {
			break
		}
	}
	return buf[:n]
}

// explain says in words for the endpoint's owner why no answer came.
func (p *prepared) explain(parent context.Context, err error) string {
	var refused *outbound.Refused
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	text := ""
	switch {
	case errors.Is(parent.Err(), context.Canceled):
		text = "the send was interrupted"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		text = fmt.Sprintf("no answer within %v", p.timeout)
		if parent.Err() != nil {
			text = "no answer in the time given"
		}
	case errors.As(err, &refused):
		text = refused.Error()
	case errors.As(err, &dns) && dns.IsNotFound:
		text = "the host name " + dns.Name + " is not known"
	case errors.As(err, &dns):
		text = "the host name could not be looked up: " + dns.Err
	case errors.As(err, &cert):
		text = "its certificate is not accepted: " + cert.Err.Error()
	case errors.As(err, &record):
		text = "it does not speak TLS on this port"
	case errors.Is(err, syscall.ECONNREFUSED):
		text = "connection refused: nothing listens there"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		text = "the connection was closed before an answer came"
	default:
		text = err.Error()
	}
	return channel.Detail(text, p.hide...)
}

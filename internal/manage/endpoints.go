package manage

import (
	"context"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/secret"
)

// Overlap is how long a secret signs beside the one that took its place.
const Overlap = 24 * time.Hour

// maxSecrets bounds how many secrets sign at once.
const maxSecrets = 5

// Endpoint is one webhook target.
func (m *Manager) Endpoint(ctx context.Context, tenant, id string) (belfry.Endpoint, error) {
	doc, ok, err := m.store.Document(ctx, tenant, belfry.KindEndpoint, id)
	if err != nil {
		return belfry.Endpoint{}, err
	}
	if !ok {
		return belfry.Endpoint{}, notFound("endpoint", id)
	}
	return belfry.DecodeEndpoint(doc)
}

// Endpoints lists them by id.
func (m *Manager) Endpoints(ctx context.Context, tenant, after string, limit int) ([]belfry.Endpoint, string, error) {
	docs, next, err := m.page(ctx, tenant, belfry.KindEndpoint, after, limit)
	if err != nil {
		return nil, "", err
	}
	out := make([]belfry.Endpoint, 0, len(docs))
	for _, d := range docs {
		e, err := belfry.DecodeEndpoint(d)
		if err != nil {
			return nil, "", err
		}
		out = append(out, e)
	}
	return out, next, nil
}

// page lists documents of a kind; next continues, empty = the end.
func (m *Manager) page(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, string, error) {
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	docs, err := m.store.Documents(ctx, tenant, kind, after, limit+1)
	if err != nil || len(docs) <= limit {
		return docs, "", err
	}
	return docs[:limit], docs[limit-1].ID, nil
}

// CreateEndpoint stores a new one and gives the secret it signs with, which is
// shown this once.
func (m *Manager) CreateEndpoint(ctx context.Context, by By, e belfry.Endpoint) (stored belfry.Endpoint, shown string, err error) {
	e.ID = belfry.NewID(belfry.EndpointPrefix, m.now())
	return m.createEndpoint(ctx, by, e)
}

// createEndpoint stores a new one under its id.
func (m *Manager) createEndpoint(ctx context.Context, by By, e belfry.Endpoint) (stored belfry.Endpoint, shown string, err error) {
	if err := checkEndpoint(&e); err != nil {
		return e, "", err
	}
	now := m.now()
	e.State, e.Because, e.Created, e.Version, e.Resumed = belfry.EndpointActive, "", now, 0, time.Time{}
	key, shown := secret.MakeWebhookSecret()
	e.Secrets = []belfry.EndpointSecret{{Sealed: m.box.Seal(key, belfry.EndpointSecretContext(by.Tenant, e.ID))}}
	stored, err = m.saveEndpoint(ctx, by, "endpoint.create", e, 0)
	if err != nil {
		return stored, "", err
	}
	return stored, shown, nil
}

// EndpointWarnings say what is allowed but will not work as things are.
func (m *Manager) EndpointWarnings(e *belfry.Endpoint) []string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil // not of ours
	}
	if err := m.outbound.Judge(u.Hostname()); err != nil {
		return []string{"nothing will arrive there: " + err.Error()}
	}
	return nil
}

// everywhere can be sent to.
type everywhere struct{}

func (everywhere) Judge(string) error { return nil }

// PutEndpoint replaces what is given by people; id, state, secrets and creation
// stay.
func (m *Manager) PutEndpoint(ctx context.Context, by By, e belfry.Endpoint, match Expect) (belfry.Endpoint, error) {
	if err := checkEndpoint(&e); err != nil {
		return e, err
	}
	return m.editEndpoint(ctx, by, "endpoint.put", e.ID, match, func(old *belfry.Endpoint) error {
		if e.State != "" && e.State != old.State {
			return belfry.Faults([]belfry.Field{{Pointer: "/state", Message: "is changed by /pause and /resume, not here"}})
		}
		next := e
		next.State, next.Because, next.Created, next.Secrets, next.Resumed = old.State, old.Because, old.Created, old.Secrets, old.Resumed
		*old = next
		return nil
	})
}

// editEndpoint reads, changes and writes one.
func (m *Manager) editEndpoint(ctx context.Context, by By, action, id string, match Expect, change func(*belfry.Endpoint) error) (belfry.Endpoint, error) {
	return retry(match, func() (belfry.Endpoint, error) {
		e, err := m.Endpoint(ctx, by.Tenant, id)
		if err != nil {
			return e, err
		}
		version := e.Version
		if match != nil && *match != version {
			return e, belfry.Errorf(belfry.Stale, "endpoint %s was changed meanwhile: read it again and repeat the edit", id)
		}
		if err := change(&e); err != nil {
			return e, err
		}
		return m.saveEndpoint(ctx, by, action, e, version)
	})
}

func (m *Manager) saveEndpoint(ctx context.Context, by By, action string, e belfry.Endpoint, version int64) (belfry.Endpoint, error) {
	body, err := belfry.EncodeEndpoint(e)
	if err != nil {
		return e, err
	}
	ch := m.change(by, action, e.ID)
	ch.Audit[0].Detail = e.URL
	ch.Documents = []belfry.Document{{Kind: belfry.KindEndpoint, ID: e.ID, Body: body}}
	ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindEndpoint, Key: e.ID, Version: version}}
	e.Version, err = m.store.Apply(ctx, ch)
	return e, err
}

// PauseEndpoint holds its deliveries until it is resumed.
func (m *Manager) PauseEndpoint(ctx context.Context, by By, id, because string) (belfry.Endpoint, error) {
	f := &faults{}
	f.line("/because", because, maxName)
	if err := f.err(); err != nil {
		return belfry.Endpoint{}, err
	}
	return m.editEndpoint(ctx, by, "endpoint.pause", id, nil, func(e *belfry.Endpoint) error {
		e.State, e.Because = belfry.EndpointPaused, reasonOr(because, "paused by "+by.Who)
		return nil
	})
}

// ResumeEndpoint makes a paused or disabled endpoint active again.
func (m *Manager) ResumeEndpoint(ctx context.Context, by By, id string) (belfry.Endpoint, error) {
	return m.editEndpoint(ctx, by, "endpoint.resume", id, nil, func(e *belfry.Endpoint) error {
		e.State, e.Because, e.Resumed = belfry.EndpointActive, "", m.now()
		return nil
	})
}

// RotateSecret gives the endpoint a new secret, shown this once. The former
// ones sign beside it for Overlap.
func (m *Manager) RotateSecret(ctx context.Context, by By, id string) (stored belfry.Endpoint, shown string, err error) {
	key, shown := secret.MakeWebhookSecret()
	stored, err = m.editEndpoint(ctx, by, "endpoint.rotate_secret", id, nil, func(e *belfry.Endpoint) error {
		now := m.now()
		end := now.Add(Overlap)
		secrets := []belfry.EndpointSecret{{Sealed: m.box.Seal(key, belfry.EndpointSecretContext(by.Tenant, id))}}
		for _, s := range e.Secrets {
			if s.Until == nil || s.Until.After(end) {
				s.Until = &end
			}
			if s.Until.After(now) && len(secrets) < maxSecrets {
				secrets = append(secrets, s)
			}
		}
		e.Secrets = secrets
		return nil
	})
	if err != nil {
		return stored, "", err
	}
	return stored, shown, nil
}

// DeleteEndpoint drops an endpoint: what is still to be sent to it is given up
// with that reason, and subscriptions that name it warn.
func (m *Manager) DeleteEndpoint(ctx context.Context, by By, id string, match Expect) error {
	e, err := m.Endpoint(ctx, by.Tenant, id)
	if err != nil {
		return err
	}
	if err := m.asksNobody(ctx, by.Tenant, id); err != nil {
		return err
	}
	ch := m.change(by, "endpoint.delete", id)
	ch.Audit[0].Detail = e.URL
	ch.DropDocuments = []belfry.DocumentKey{{Kind: belfry.KindEndpoint, ID: id}}
	_, err = m.apply(ctx, ch, belfry.KindEndpoint, id, match)
	return err
}

// Bounds of an endpoint.
const (
	maxHeaders  = 50
	maxSchedule = 30
	// maxConcurrency is what the dispatcher grants at most.
	maxConcurrency = 64
	maxTimeout     = time.Minute // what the webhook channel waits at most
	maxWait        = 30 * 24 * time.Hour
)

// formats that this version sends.
const formatStandard = "standard"

func checkEndpoint(e *belfry.Endpoint) error {
	f := &faults{}
	if e.URL == "" {
		f.add("/url", "is required")
	}
	if u := f.url("/url", e.URL); u != nil && u.Fragment != "" {
		f.add("/url", "must not have a fragment (#…)")
	}
	f.line("/description", e.Description, maxName)
	f.line("/owner", e.Owner, maxID)
	switch e.Format {
	case "":
		e.Format = formatStandard
	case formatStandard:
	case "cloudevents", "nosey", "nosey-faithful":
		f.add("/format", "%q is not available in this version: there is %s", e.Format, formatStandard)
	default:
		f.choice("/format", e.Format, formatStandard)
	}
	checkHeaders(f, e.Headers)
	if e.RatePerSecond < 0 || e.RatePerSecond > 100_000 {
		f.add("/rate_per_second", "must be from 0 (no limit) to 100000")
	}
	if e.Concurrency < 0 || e.Concurrency > maxConcurrency {
		f.add("/concurrency", "must be from 0 (as many as it bears) to %d", maxConcurrency)
	}
	if e.Ordered != "" {
		f.choice("/ordered", e.Ordered, belfry.OrderedNone, belfry.OrderedObject, belfry.OrderedEndpoint)
	}
	if e.Timeout != "" {
		f.span("/timeout", e.Timeout, 100*time.Millisecond, maxTimeout, "15s")
	}
	if e.DisableAfter != "" {
		if d, ok := belfry.ParseSpan(e.DisableAfter); !ok || d < 0 || d > 365*24*time.Hour {
			f.add("/disable_after", "must be a length of time from 0s (never) to 365d, such as 5d")
		}
	}
	if len(e.Schedule) > maxSchedule {
		f.add("/schedule", "has %d entries: at most %d are allowed", len(e.Schedule), maxSchedule)
	}
	for i, wait := range e.Schedule {
		f.span("/schedule/"+strconv.Itoa(i), wait, time.Millisecond, maxWait, "5m")
	}
	return f.err()
}

// ours are headers that the sender sets itself.
var ours = []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Proxy-Authorization", "User-Agent", "Expect"}

func checkHeaders(f *faults, headers map[string]string) {
	if len(headers) > maxHeaders {
		f.add("/headers", "has %d entries: at most %d are allowed", len(headers), maxHeaders)
		return
	}
	for name, value := range headers {
		p := "/headers/" + escape(name)
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !token(name):
			f.add(p, "is not the name of a header")
		case slices.Contains(ours, canonical) || strings.HasPrefix(canonical, "Webhook-"):
			f.add(p, "is set by Belfry: leave it out")
		case strings.ContainsAny(value, "\r\n\x00"):
			f.add(p, "must be one line")
		default:
			f.line(p, value, 4096)
		}
	}
}

// token reports whether s can be the name of a header (RFC 9110).
func token(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return true
}

package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/belfryhq/belfry/internal/secret"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/web/api"
)

const rootKey = "root-key-of-the-tests-0123456789"

// house is a server on a real socket over a real SQLite store, with real keys,
// ingest and sealing. What belongs to later stages (planning, rendering) is
// stood in for by values the test sets.
type house struct {
	t      *testing.T
	url    string
	server *api.Server
	db     *store.DB
	auth   *auth.Authenticator
	log    *lines

	handed  handover
	inbox   *inboxes
	explain *explainer
	public  *links
	ready   error
	metrics http.HandlerFunc
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func newHouse(t *testing.T, change ...func(*api.Options)) *house {
	t.Helper()
	logs := &lines{}
	log := slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db, err := store.Open(t.Context(), store.Options{URL: storetest.SQLitePlace(t), Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	box, err := secret.New([]string{secret.MakeKey()})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, db: db, log: logs, explain: &explainer{db: db}, public: &links{}, inbox: &inboxes{db: db, watch: map[string]chan struct{}{}}}
	h.metrics = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "belfry_up 1\n") }
	h.auth = auth.New(auth.Options{Store: db, Bootstrap: rootKey, Now: now})
	in, err := ingest.New(ingest.Options{Store: db, Catalogue: catalogue{db}, Planner: &h.handed, Now: now, Limits: ingest.Limits{Pending: 100}})
	if err != nil {
		t.Fatal(err)
	}
	o := api.Options{Auth: h.auth, Ingest: in, Manage: manager(t, db, box), Running: running{}, Nodes: nodes{}, Explain: h.explain, Events: reads{db}, Delivery: reads{db}, Digests: reads{db}, Jobs: reads{db},
		Inbox: h.inbox, Documents: documents{db}, Public: h.public, Asking: h.public, Notices: h.public, Health: h, Seal: box, Log: log, Now: now, Version: "test", PublicURL: "https://belfry.example",
		Preview: previews{}, Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.metrics(w, r) })}
	for _, f := range change {
		f(&o)
	}
	h.server = api.New(o)
	srv := httptest.NewServer(h.server)
	t.Cleanup(func() {
		h.server.Drain()
		srv.Close()
		if n := h.inbox.watchers.Load(); n != 0 {
			t.Errorf("%d streams were never let go", n)
		}
	})
	h.url = srv.URL
	return h
}

func (h *house) Ready(context.Context) error { return h.ready }

// lines are the log lines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// find gives the line of a request.
func (l *lines) find(requestID string) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		var v map[string]any
		if json.Unmarshal([]byte(line), &v) == nil && v["request_id"] == requestID {
			return v
		}
	}
	return nil
}

type catalogue struct{ db *store.DB }

func (c catalogue) EventType(ctx context.Context, tenant, name string) (t belfry.EventType, ok bool, err error) {
	doc, ok, err := c.db.Document(ctx, tenant, belfry.KindEventType, name)
	if err == nil && ok {
		err = json.Unmarshal(doc.Body, &t)
	}
	return t, ok, err
}

func (c catalogue) UnknownObjects(ctx context.Context, tenant string, ids []string) ([]string, error) {
	known, err := c.db.Objects(ctx, tenant, ids)
	var unknown []string
	for _, id := range ids {
		if _, ok := known[id]; !ok {
			unknown = append(unknown, id)
		}
	}
	return unknown, err
}

// handover is a planner that keeps what it is given.
type handover struct {
	mu       sync.Mutex
	accepted []belfry.Accepted
	pending  int
}

func (p *handover) Handover(as []belfry.Accepted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted = append(p.accepted, as...)
}

func (p *handover) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending
}

type reads struct{ *store.DB }

func (r reads) ListEvents(ctx context.Context, tenant string, q api.EventQuery) ([]belfry.Accepted, string, error) {
	return r.DB.ListEvents(ctx, tenant, store.EventFilter(q))
}

func (r reads) ListDeliveries(ctx context.Context, tenant string, q api.DeliveryQuery) ([]belfry.Delivery, string, error) {
	return r.DB.ListDeliveries(ctx, tenant, store.DeliveryFilter(q))
}

// ListBundles lists digests, newest first.
func (r reads) ListBundles(ctx context.Context, tenant string, q api.DigestQuery) ([]belfry.Bundle, string, error) {
	return r.DB.ListBundles(ctx, tenant, store.BundleFilter{State: q.State, Recipient: q.Recipient, Before: q.Before, Limit: q.Limit})
}

func (r reads) ListJobs(ctx context.Context, tenant string, q api.JobQuery) ([]belfry.Job, string, error) {
	return r.DB.Jobs(ctx, tenant, store.JobFilter(q))
}

type documents struct{ *store.DB }

func (d documents) Audit(ctx context.Context, tenant, before string, limit int) ([]belfry.AuditEntry, string, error) {
	rows, err := d.DB.Audit(ctx, tenant, before, limit+1)
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].ID
	}
	entries := make([]belfry.AuditEntry, 0, len(rows))
	for _, r := range rows {
		entries = append(entries, r.AuditEntry)
	}
	return entries, next, err
}

// inboxes renders titles of the events' types.
type inboxes struct {
	db    *store.DB
	mu    sync.Mutex
	watch map[string]chan struct{}

	watchers atomic.Int32
}

func (b *inboxes) Items(ctx context.Context, tenant, principal string, q api.InboxQuery) (api.InboxPage, error) {
	rows, unread, next, err := b.db.Inbox(ctx, tenant, principal, store.InboxFilter(q))
	p := api.InboxPage{Unread: unread, Next: next}
	for _, r := range rows {
		at, _ := belfry.IDTime(r.ID)
		p.Items = append(p.Items, api.InboxItem{ID: r.ID, Event: r.EventID, Title: "Title of " + r.EventID, Read: r.Read, Archived: r.Archived, Created: at})
	}
	return p, err
}

func (b *inboxes) Mark(ctx context.Context, tenant, principal string, ids []string, mark api.InboxMark) (int, error) {
	yes, no := true, false
	n, err := b.db.MarkInbox(ctx, tenant, principal, ids, map[api.InboxMark]store.InboxMark{api.MarkRead: {Read: &yes}, api.MarkUnread: {Read: &no},
		api.MarkArchive: {Archived: &yes}, api.MarkUnarchive: {Archived: &no}}[mark])
	b.wake(tenant, principal)
	return n, err
}

func (b *inboxes) channel(tenant, principal string) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := tenant + "\x00" + principal
	if b.watch[key] == nil {
		b.watch[key] = make(chan struct{}, 1)
	}
	return b.watch[key]
}

func (b *inboxes) Watch(tenant, principal string) (<-chan struct{}, func()) {
	b.watchers.Add(1)
	return b.channel(tenant, principal), func() { b.watchers.Add(-1) }
}

func (b *inboxes) wake(tenant, principal string) {
	select {
	case b.channel(tenant, principal) <- struct{}{}:
	default:
	}
}

// explainer answers with what it was asked.
type explainer struct {
	db     *store.DB
	answer belfry.Answer
	asked  belfry.TraceQuery
}

func (e *explainer) Explain(_ context.Context, _ string, ev *belfry.Event) (belfry.Answer, error) {
	a := e.answer
	a.Event.Event = *ev
	return a, nil
}

func (e *explainer) Trace(ctx context.Context, tenant string, q belfry.TraceQuery) (belfry.Answer, error) {
	e.asked = q
	found, err := e.db.Events(ctx, tenant, []string{q.EventID})
	if err != nil {
		return belfry.Answer{}, err
	}
	ev := found[q.EventID]
	if ev == nil {
		return belfry.Answer{}, belfry.Errorf(belfry.NotFound, "there is no event %s", q.EventID)
	}
	a := e.answer
	a.Event = ev.View()
	return a, nil
}

type running struct{}

func (running) TestEndpoint(context.Context, string, string) (belfry.Outcome, error) {
	return belfry.Outcome{Kind: belfry.OutcomeDelivered, Status: 200}, nil
}

func (running) TestChannel(_ context.Context, _, name, _ string) (belfry.Outcome, error) {
	return belfry.Outcome{}, belfry.Errorf(belfry.NotFound, "there is no channel %s", name)
}

func (running) EndpointStatus(string, string) api.EndpointStatus {
	return api.EndpointStatus{Breaker: "closed"}
}

func (running) SourceStatus(string, string) (api.SourceStatus, bool) {
	return api.SourceStatus{}, false
}

type nodes struct{}

func (nodes) Nodes(context.Context) ([]api.NodeView, error) {
	return []api.NodeView{{Name: "here", Alive: true, Self: true, Roles: belfry.Roles, Shards: map[string]int{"plan": 256}}}, nil
}

type previews struct{}

func (previews) Preview(_ context.Context, _ string, d *api.PreviewDraft, e *belfry.Accepted) (api.Preview, error) {
	if strings.Contains(d.Body, "{{nothing}}") {
		return api.Preview{}, belfry.Faults([]belfry.Field{{Pointer: "/body", Message: "there is no value nothing"}})
	}
	return api.Preview{Title: d.Subject, Text: d.Body + " " + e.Event.Type}, nil
}

// links hold one good token.
type links struct {
	mu             sync.Mutex
	ended, noticed int
	fail           error
}

func (l *links) Offered(_ context.Context, token string) (api.Offer, error) {
	if l.fail != nil {
		return api.Offer{}, l.fail
	}
	if token != "good" {
		return api.Offer{}, belfry.Errorf(belfry.NotFound, "this link is not valid: %s", token)
	}
	return api.Offer{Title: "Course <b>changes</b>", Who: "ada@example.org"}, nil
}

func (l *links) Unsubscribe(context.Context, string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended++
	return nil
}

func (l *links) Noticed(_ context.Context, token string) (api.Notice, error) {
	o, err := l.Offered(context.Background(), token)
	return api.Notice{Title: o.Title, Who: o.Who}, err
}

func (l *links) Acknowledge(context.Context, string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noticed++
	return nil
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// problem reads a problem document and checks its form.
func (a answer) problem(t *testing.T) api.Problem {
	t.Helper()
	var p api.Problem
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("status %d with Content-Type %q: %s", a.status, got, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if p.Status != a.status || !strings.Contains(p.Type, "docs/errors.md#") || p.Title == "" || p.Request == "" || p.Request != a.header.Get("X-Request-Id") {
		t.Fatalf("not a whole problem: %s", a.body)
	}
	return p
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// send makes a request; headers come as pairs. The key is the root key unless
// headers say otherwise.
func (h *house) send(method, path, body string, headers ...string) answer {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+rootKey)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 30 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		h.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// want sends and checks the status.
func (h *house) want(status int, method, path, body string, headers ...string) answer {
	h.t.Helper()
	a := h.send(method, path, body, headers...)
	if a.status != status {
		h.t.Fatalf("%s %s answered %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

// key issues a key and gives its token.
func (h *house) key(tenant string, permissions ...string) string {
	h.t.Helper()
	text, err := json.Marshal(permissions)
	if err != nil {
		h.t.Fatal(err)
	}
	a := h.want(http.StatusCreated, "POST", "/v1/keys", `{"name":"k`+strings.Join(permissions, "-")+`","permissions":`+string(text)+`}`, "Belfry-Tenant", tenant)
	var k auth.IssuedKey
	a.into(h.t, &k)
	return k.Token
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

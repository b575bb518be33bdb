package api

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// kindIdempotency is the kind of document an answer is kept as, by the digest
// of (key that asked, Idempotency-Key).
const kindIdempotency = "idempotency"

// Bounds of what is kept.
const (
	keepAnswers    = 24 * time.Hour
	maxAnswers     = 10_000  // of a tenant; the oldest go first
	maxAnswerBytes = 1 << 20 // larger answers are not kept: the repeat runs again
	pruneAnswers   = time.Hour
)

// idempotency gives a repeated POST the first answer. Only successes are kept:
// what failed did nothing, and its repeat may succeed. Answers are sealed,
// since some hold a secret that is shown once. A process that dies between the
// edit and the keeping of its answer leaves a repeat that runs again
// (docs/api.md says so).
type idempotency struct {
	docs Documents
	seal Sealer
	now  func() time.Time

	mu     sync.Mutex
	busy   map[string]chan struct{} // by tenant and id: closed when the one at work is done
	pruned map[string]time.Time     // by tenant
}

// keptAnswer is the body of the document.
type keptAnswer struct {
	At      time.Time `json:"at"`
	Request []byte    `json:"request"` // digest of method, address and body
	Answer  []byte    `json:"answer"`  // sealed wireAnswer
}

type wireAnswer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

func newIdempotency(docs Documents, seal Sealer, now func() time.Time) *idempotency {
	return &idempotency{docs: docs, seal: seal, now: now, busy: map[string]chan struct{}{}, pruned: map[string]time.Time{}}
}

// serve answers a POST that carries key: from what is kept, else by next.
func (i *idempotency) serve(w http.ResponseWriter, c *call, key string, next http.Handler) {
	if p := checkIdempotencyKey(key); p != nil {
		c.fail(w, p)
		return
	}
	raw, err := readAll(c.r, maxBatchBytes)
	if err != nil {
		c.fail(w, err)
		return
	}
	request := digest(c.r.Method, c.r.URL.RequestURI(), string(raw))
	sum := digest(c.who.Key, key)
	id := hex.EncodeToString(sum[:16])
	release, err := i.turn(c.r.Context(), c.tenant()+" "+id)
	if err != nil {
		return // the client is gone
	}
	defer release()
	kept, found, err := i.kept(c.r.Context(), c.tenant(), id)
	if err != nil {
		c.fail(w, err)
		return
	}
	if found {
		if !bytes.Equal(kept.Request, request[:]) {
			c.fail(w, newProblem(http.StatusUnprocessableEntity, "this Idempotency-Key was used with another request: use a new key for a new request",
				Fault{Parameter: "Idempotency-Key", Message: "was used with another request"}))
			return
		}
		i.replay(w, c, id, kept)
		return
	}
	c.r.Body = io.NopCloser(bytes.NewReader(raw))
	c.r.ContentLength = int64(len(raw))
	copied := &copier{ResponseWriter: w}
	next.ServeHTTP(copied, c.r)
	if copied.status < 200 || copied.status > 299 || copied.over {
		return
	}
	// The answer is out; keeping it must not be lost to a client that hung up.
	ctx := context.WithoutCancel(c.r.Context())
	if err := i.keep(ctx, c, id, request[:], copied); err != nil {
		c.note(slog.String("idempotency_error", err.Error()))
	}
}

func checkIdempotencyKey(key string) *Problem {
	ok := len(key) <= 255
	for k := 0; k < len(key) && ok; k++ {
		ok = key[k] > ' ' && key[k] < 0x7f
	}
	if !ok {
		return newProblem(http.StatusBadRequest, "an Idempotency-Key has 1 to 255 printable ASCII characters without spaces",
			Fault{Parameter: "Idempotency-Key", Message: "has 1 to 255 printable ASCII characters without spaces"})
	}
	return nil
}

// turn waits until no other request of this process is at work on name.
func (i *idempotency) turn(ctx context.Context, name string) (release func(), err error) {
	for {
		i.mu.Lock()
		other, taken := i.busy[name]
		if !taken {
			mine := make(chan struct{})
			i.busy[name] = mine
			i.mu.Unlock()
			return func() {
				i.mu.Lock()
				delete(i.busy, name)
				i.mu.Unlock()
				close(mine)
			}, nil
		}
		i.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (i *idempotency) kept(ctx context.Context, tenant, id string) (keptAnswer, bool, error) {
	doc, found, err := i.docs.Document(ctx, tenant, kindIdempotency, id)
	if err != nil || !found {
		return keptAnswer{}, false, err
	}
	var k keptAnswer
	if err := json.Unmarshal(doc.Body, &k); err != nil {
		return keptAnswer{}, false, belfry.Errorf(belfry.Internal, "kept answer %s cannot be read: %w", id, err)
	}
	return k, i.now().Sub(k.At) < keepAnswers, nil
}

func (i *idempotency) replay(w http.ResponseWriter, c *call, id string, k keptAnswer) {
	clear, err := i.seal.Open(k.Answer, []byte(id))
	if err != nil {
		c.fail(w, belfry.Errorf(belfry.Internal, "kept answer %s cannot be opened: %w", id, err))
		return
	}
	var a wireAnswer
	if err := json.Unmarshal(clear, &a); err != nil {
		c.fail(w, belfry.Errorf(belfry.Internal, "kept answer %s cannot be read: %w", id, err))
		return
	}
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
}

func (i *idempotency) keep(ctx context.Context, c *call, id string, request []byte, a *copier) error {
	header := http.Header{}
	for _, name := range []string{"Content-Type", "Etag", "Location"} {
		if v := a.Header().Values(name); len(v) > 0 {
			header[name] = v
		}
	}
	clear, err := json.Marshal(wireAnswer{Status: a.status, Header: header, Body: a.body.Bytes()})
	if err != nil {
		return err
	}
	body, err := json.Marshal(keptAnswer{At: i.now(), Request: request, Answer: i.seal.Seal(clear, []byte(id))})
	if err != nil {
		return err
	}
	ch := belfry.Changes{Tenant: c.tenant(), Documents: []belfry.Document{{Kind: kindIdempotency, ID: id, Body: body}}}
	if ch.DropDocuments, err = i.stale(ctx, c.tenant()); err != nil {
		return err
	}
	_, err = i.docs.Apply(ctx, ch)
	return err
}

// forgetAtOnce is how many answers one edit forgets.
const forgetAtOnce = 1000

// ForgetAnswers forgets the answers of a tenant that were kept long enough, for
// tenants that ask for nothing any more.
func (s *Server) ForgetAnswers(ctx context.Context, tenant string) (int, error) {
	drop, err := s.idem.stale(ctx, tenant)
	for part := range slices.Chunk(drop, forgetAtOnce) {
		if _, err := s.idem.docs.Apply(ctx, belfry.Changes{Tenant: tenant, DropDocuments: part}); err != nil {
			return 0, err
		}
	}
	return len(drop), err
}

// stale gives, once in a while, the answers of a tenant that need not be kept
// any longer.
func (i *idempotency) stale(ctx context.Context, tenant string) ([]belfry.DocumentKey, error) {
	now := i.now()
	i.mu.Lock()
	last := i.pruned[tenant]
	due := now.Sub(last) >= pruneAnswers
	if due {
		i.pruned[tenant] = now
	}
	i.mu.Unlock()
	if !due {
		return nil, nil
	}
	type aged struct {
		id string
		at time.Time
	}
	var all []aged
	for after := ""; ; {
		docs, err := i.docs.Documents(ctx, tenant, kindIdempotency, after, 500)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			var k struct {
				At time.Time `json:"at"`
			}
			_ = json.Unmarshal(d.Body, &k) // an unreadable one counts as ancient
			all = append(all, aged{d.ID, k.At})
			after = d.ID
		}
		if len(docs) < 500 {
			break
		}
	}
	slices.SortFunc(all, func(a, b aged) int { return b.at.Compare(a.at) }) // newest first
	var drop []belfry.DocumentKey
	for n, a := range all {
		if n >= maxAnswers || now.Sub(a.at) >= keepAnswers {
			drop = append(drop, belfry.DocumentKey{Kind: kindIdempotency, ID: a.id})
		}
	}
	return drop, nil
}

// copier passes an answer on and keeps a copy.
type copier struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
	over   bool // too large to be kept
}

func (w *copier) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *copier) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.body.Len()+len(b) > maxAnswerBytes {
		w.over = true
	} else {
		w.body.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *copier) Unwrap() http.ResponseWriter { return w.ResponseWriter }

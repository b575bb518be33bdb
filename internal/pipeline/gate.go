package pipeline

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/directory"
)

// HeldStore is what a Gate needs of the store.
type HeldStore interface {
	// HeldTenants are the tenants that have held deliveries due by until.
	HeldTenants(ctx context.Context, until time.Time) ([]string, error)
	HeldDeliveries(ctx context.Context, tenant string, after belfry.DueKey, until time.Time, limit int, shards []int) ([]belfry.Delivery, error)
	SettleHeld(ctx context.Context, tenant string, allowed []string, denied []belfry.DeliveryCancel, due time.Time) (released []string, err error)
	Events(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Accepted, error)
}

// Asker posts a signed question to an endpoint and gives the answer.
type Asker interface {
	Ask(ctx context.Context, tenant string, target channel.Target, m *belfry.Message, most int64) ([]byte, belfry.Outcome)
}

// GateOptions are the parts of a Gate; all are needed.
type GateOptions struct {
	Store     HeldStore
	Directory *directory.Directory
	Messages  *Messages // opens the secrets of endpoints
	Asker     Asker
	Shards    Shards
	Wake      func(tenant string, due time.Time) // deliveries are due
	Watch     *Watch
	Log       *slog.Logger
	Now       func() time.Time
	Poll      time.Duration // safety net: look for held deliveries at least so often
	First     time.Duration // how long a platform that does not answer is left alone at first
}

// Gate lets nobody be told of what the platform did not say they may see. Where
// a tenant has an authoriser, planning commits what is for people as held,
// unless an answer is remembered; the Gate asks in batches, and releases or
// suppresses. Planning and sending never wait for an answer.
//
// It works on the deliveries of this process's shards. Without an answer they
// stay held, and it asks again, less and less often.
type Gate struct {
	o       GateOptions
	answers *lru.Cache[question, verdict]
	wake    chan struct{}

	mu      sync.Mutex
	busy    map[string]bool
	backoff map[string]backoff // by tenant
	swept   time.Time
}

// question is what the platform is asked: may they be told of a type on an
// object.
type question struct {
	tenant, endpoint  string
	principal         string
	address           string // of whom nothing else is known
	object, eventType string
}

// verdict is an answer that holds until a time.
type verdict struct {
	allow   bool
	because string
	until   time.Time
}

// backoff is how long a platform that does not answer is left alone.
type backoff struct {
	wait  time.Duration
	until time.Time
}

// Bounds of a Gate.
const (
	gateBatch    = 500 // held deliveries looked at, and questions asked, at once
	gateAnswers  = 100_000
	gateAnswer   = 1 << 20 // bytes of an answer
	gatePoll     = time.Second
	gateSweep    = 30 * time.Second // for tenants that have no authoriser any more
	gateFirst    = time.Second
	gateLongest  = 5 * time.Minute
	gateBecause  = 200 // bytes of a platform's reason
	gateGathers  = 5 * time.Millisecond
	authoriseAsk = "belfry.authorise"
)

// NewGate makes a Gate; nothing is asked before Run.
func NewGate(o GateOptions) *Gate {
	if o.Poll == 0 {
		o.Poll = gatePoll
	}
	if o.First == 0 {
		o.First = gateFirst
	}
	answers, _ := lru.New[question, verdict](gateAnswers) // the size is positive, which is all New checks
	return &Gate{o: o, answers: answers, wake: make(chan struct{}, 1), busy: map[string]bool{}, backoff: map[string]backoff{}}
}

// authoriser is a tenant's, nil when it has none.
func (g *Gate) authoriser(ctx context.Context, tenant string) (*belfry.Authoriser, error) {
	s, err := g.o.Directory.TenantSettings(ctx, tenant)
	if err != nil || s == nil {
		return nil, err
	}
	return s.Authoriser, nil
}

// known is an answer that still holds.
func (g *Gate) known(q question) (verdict, bool) {
	v, ok := g.answers.Get(q)
	return v, ok && g.o.Now().Before(v.until)
}

func questionOf(a *belfry.Authoriser, d *belfry.Delivery, e *belfry.Event) question {
	q := question{tenant: d.Tenant, endpoint: a.Endpoint, principal: d.Principal, object: e.ObjectOrRoot(), eventType: e.Type}
	if q.principal == "" {
		q.address = d.Address
	}
	return q
}

func (v *verdict) reason() belfry.Reason {
	return belfry.Reason{Code: belfry.NotAuthorised, Detail: v.because}
}

// hold holds what is for people, on a page that was just planned: by answers
// that are remembered they are told or not, and the others wait.
func (g *Gate) hold(ctx context.Context, acc *belfry.Accepted, page *belfry.PlanPage) error {
	a, err := g.authoriser(ctx, acc.Tenant)
	if err != nil || a == nil {
		return err
	}
	kept, held := page.Deliveries[:0], false
	for _, d := range page.Deliveries {
		if d.Channel == belfry.ChannelWebhook || d.Digest != nil { // what is in a digest is looked at when that is sent
			kept = append(kept, d)
			continue
		}
		v, known := g.known(questionOf(a, &d, acc.Event))
		switch {
		case known && !v.allow:
			because := append(append(make([]belfry.Reason, 0, len(d.Because)+1), d.Because...), v.reason())
			page.Suppressions = append(page.Suppressions, belfry.Suppression{Principal: d.Principal, Channel: d.Channel, Address: d.Address, Because: because})
			continue
		case !known || d.Due.After(g.o.Now().Add(a.Holds())): // the answer would be too old then
			d.State, held = belfry.Held, true
		}
		kept = append(kept, d)
	}
	clear(page.Deliveries[len(kept):])
	page.Deliveries = kept
	if held {
		g.look()
	}
	return nil
}

// recheck is asked right before a send: nil and false when it may go, the
// reason when it may not, and true when the platform must be asked (again)
// first.
func (g *Gate) recheck(ctx context.Context, d *belfry.Delivery, e *belfry.Event) (*belfry.Reason, bool, error) {
	a, err := g.authoriser(ctx, d.Tenant)
	if err != nil || a == nil {
		return nil, false, err
	}
	v, known := g.known(questionOf(a, d, e))
	switch {
	case known && v.allow:
		return nil, false, nil
	case known:
		reason := v.reason()
		return &reason, false, nil
	case d.Attempts == d.Base && g.o.Now().Sub(d.Due) < a.Holds():
		return nil, false, nil // it was due when it was allowed
	}
	g.look()
	return nil, true, nil
}

// look makes the Gate look for what is held, soon.
func (g *Gate) look() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Run asks until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	poll := time.NewTicker(g.o.Poll)
	defer poll.Stop()
	soon := time.NewTimer(0)
	defer soon.Stop()
	for {
		if err := g.round(ctx, &asking); err != nil && ctx.Err() == nil {
			g.o.Log.Error("looking for held deliveries", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-soon.C:
		case <-g.wake:
			// What was held is committed in a moment.
			if !sleep(ctx, gateGathers) {
				return nil
			}
			soon.Reset(10 * gateGathers)
		}
	}
}

// round begins to ask for every tenant that has something to ask and is not
// left alone at present.
func (g *Gate) round(ctx context.Context, asking *sync.WaitGroup) error {
	now := g.o.Now()
	tenants, err := g.o.Store.HeldTenants(ctx, now)
	if err != nil {
		return err
	}
	g.mu.Lock()
	sweep := now.Sub(g.swept) >= gateSweep
	if sweep {
		g.swept = now
	}
	g.mu.Unlock()
	for _, tenant := range tenants {
		a, err := g.authoriser(ctx, tenant)
		if err != nil {
			return err
		}
		if a == nil && !sweep || !g.begin(tenant, now) {
			continue
		}
		asking.Go(func() {
			err := g.pass(ctx, tenant, a)
			if err != nil && ctx.Err() == nil {
				g.o.Log.Warn("people wait for the platform to say what they may see", "tenant", tenant, "error", err)
			}
			g.end(tenant, err)
		})
	}
	return nil
}

func (g *Gate) begin(tenant string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[tenant] || now.Before(g.backoff[tenant].until) {
		return false
	}
	g.busy[tenant] = true
	return true
}

func (g *Gate) end(tenant string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.busy, tenant)
	if err == nil {
		delete(g.backoff, tenant)
		return
	}
	b := g.backoff[tenant]
	b.wait = min(max(2*b.wait, g.o.First), gateLongest)
	b.until = g.o.Now().Add(b.wait)
	g.backoff[tenant] = b
}

// errSilence is a pass in which something was not answered.
var errSilence = belfry.Errorf(belfry.Unavailable, "the authoriser left questions unanswered")

// pass goes once through what is held of a tenant.
func (g *Gate) pass(ctx context.Context, tenant string, a *belfry.Authoriser) error {
	silent := error(nil)
	for after := (belfry.DueKey{}); ; {
		held, err := g.o.Store.HeldDeliveries(ctx, tenant, after, g.o.Now(), gateBatch, g.o.Shards.Mine(belfry.LeaseDelivery))
		if err != nil || len(held) == 0 {
			return firstError(err, silent)
		}
		last := &held[len(held)-1]
		after = belfry.DueKey{Due: last.Due, ID: last.ID}
		if err := g.settle(ctx, tenant, a, held); err != nil {
			if belfry.KindOf(err) != belfry.Unavailable || ctx.Err() != nil {
				return err
			}
			silent = err
			if err != errSilence { // nobody answers: the rest waits, but not for ever
				return g.expire(ctx, tenant, a, after, err)
			}
		}
		if len(held) < gateBatch {
			return silent
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// expire gives up what has waited too long, beyond the page at hand.
func (g *Gate) expire(ctx context.Context, tenant string, a *belfry.Authoriser, after belfry.DueKey, why error) error {
	for {
		until := g.o.Now().Add(-a.Patience())
		held, err := g.o.Store.HeldDeliveries(ctx, tenant, after, until, gateBatch, g.o.Shards.Mine(belfry.LeaseDelivery))
		if err != nil || len(held) == 0 {
			return firstError(err, why)
		}
		after = belfry.DueKey{Due: held[len(held)-1].Due, ID: held[len(held)-1].ID}
		if err := g.apply(ctx, tenant, held, nil, g.late(a, held)); err != nil {
			return err
		}
	}
}

// late are those that have waited too long.
func (g *Gate) late(a *belfry.Authoriser, held []belfry.Delivery) (out []belfry.DeliveryCancel) {
	for i := range held {
		if g.o.Now().Sub(held[i].Due) >= a.Patience() {
			out = append(out, belfry.DeliveryCancel{ID: held[i].ID, Because: belfry.Reason{Code: belfry.AuthoriserSilent, Detail: "for " + a.Patience().String()}})
		}
	}
	return out
}

// settle decides about held deliveries, as far as answers come.
func (g *Gate) settle(ctx context.Context, tenant string, a *belfry.Authoriser, held []belfry.Delivery) error {
	if a == nil { // nobody is to be asked any more
		ids := make([]string, len(held))
		for i := range held {
			ids[i] = held[i].ID
		}
		return g.apply(ctx, tenant, held, ids, nil)
	}
	ids := make([]string, 0, len(held))
	for i := range held {
		ids = append(ids, held[i].EventID)
	}
	events, err := g.o.Store.Events(ctx, tenant, ids)
	if err != nil {
		return err
	}
	asked := make([]question, len(held))
	at := map[question]int{}
	var list []question
	for i := range held {
		e := events[held[i].EventID]
		if e == nil {
			continue // was removed meanwhile, and the delivery with it
		}
		q := questionOf(a, &held[i], e.Event)
		asked[i] = q
		if _, known := g.known(q); known {
			continue
		}
		if _, again := at[q]; !again {
			at[q] = len(list)
			list = append(list, q)
		}
	}
	silent := error(nil)
	if len(list) > 0 {
		silent = g.ask(ctx, tenant, a, list)
	}
	var allowed []string
	var denied []belfry.DeliveryCancel
	var open []belfry.Delivery
	for i := range held {
		v, known := g.known(asked[i])
		switch {
		case asked[i] == question{}:
		case !known:
			open = append(open, held[i])
		case v.allow:
			allowed = append(allowed, held[i].ID)
		default:
			denied = append(denied, belfry.DeliveryCancel{ID: held[i].ID, Because: v.reason()})
		}
	}
	if len(open) > 0 && silent == nil {
		silent = errSilence
	}
	return firstError(g.apply(ctx, tenant, held, allowed, append(denied, g.late(a, open)...)), silent)
}

// apply carries out what was decided, and tells those who send and show.
func (g *Gate) apply(ctx context.Context, tenant string, held []belfry.Delivery, allowed []string, denied []belfry.DeliveryCancel) error {
	if len(allowed)+len(denied) == 0 {
		return nil
	}
	due := g.o.Now()
	released, err := g.o.Store.SettleHeld(ctx, tenant, allowed, denied, due)
	if err != nil || len(released) == 0 {
		return err
	}
	g.o.Wake(tenant, due)
	let := make(map[string]bool, len(released))
	for _, id := range released {
		let[id] = true
	}
	var shown []belfry.Delivery
	for i := range held {
		if held[i].Channel == belfry.ChannelInbox && let[held[i].ID] {
			shown = append(shown, held[i])
		}
	}
	g.o.Watch.notify(tenant, shown)
	return nil
}

// The forms of question and answer; docs/authoriser.md.
type (
	asking struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      struct {
			Questions []askedOf `json:"questions"`
		} `json:"data"`
	}
	askedOf struct {
		Principal string `json:"principal,omitempty"`
		Address   string `json:"address,omitempty"`
		Object    string `json:"object"`
		Type      string `json:"type"`
	}
	answering struct {
		Answers []*struct {
			Allow   *bool  `json:"allow"`
			Because string `json:"because"`
		} `json:"answers"`
	}
)

// ask asks the platform and remembers the answers. The error says why there is
// none; single questions may stay unanswered.
func (g *Gate) ask(ctx context.Context, tenant string, a *belfry.Authoriser, list []question) error {
	e, found, err := g.o.Directory.Endpoint(ctx, tenant, a.Endpoint)
	if err != nil {
		return err
	}
	if !found || e.State != belfry.EndpointActive {
		return belfry.Errorf(belfry.Unavailable, "the authoriser's endpoint %s is not active", a.Endpoint)
	}
	parts, err := g.o.Messages.partsOf(tenant, e)
	if err != nil {
		return err
	}
	now := g.o.Now()
	body := asking{Type: authoriseAsk, Timestamp: now}
	for _, q := range list {
		body.Data.Questions = append(body.Data.Questions, askedOf{q.principal, q.address, q.object, q.eventType})
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	raw, out := g.o.Asker.Ask(ctx, tenant, channel.Target{Endpoint: e, Secrets: parts.valid(now)}, &belfry.Message{ID: belfry.NewID("ask_", now), Time: now, Body: text}, gateAnswer)
	if out.Kind != belfry.OutcomeDelivered {
		return belfry.Errorf(belfry.Unavailable, "the authoriser does not answer: %s", out.Detail)
	}
	var got answering
	if err := json.Unmarshal(raw, &got); err != nil { // all of it: what is followed by something else is no answer
		return belfry.Errorf(belfry.Unavailable, "the authoriser's answer is not the JSON expected: %w", err)
	}
	if len(got.Answers) != len(list) {
		return belfry.Errorf(belfry.Unavailable, "the authoriser gave %d answers to %d questions", len(got.Answers), len(list))
	}
	until := now.Add(a.Holds())
	for i, v := range got.Answers {
		if v != nil && v.Allow != nil {
			g.answers.Add(list[i], verdict{allow: *v.Allow, because: sentence(v.Because), until: until})
		}
	}
	return nil
}

// sentence is a platform's reason as it is kept: one line, not long.
func sentence(text string) string {
	text = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text), "")
	if len(text) > gateBecause {
		text = strings.ToValidUTF8(text[:gateBecause], "") + "…"
	}
	return strings.TrimSpace(text)
}

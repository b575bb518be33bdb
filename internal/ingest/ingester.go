package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Store is door 1: it blocks until the drafts are committed and answers in
// their order.
type Store interface {
	AcceptEvents(ctx context.Context, drafts []belfry.Draft) ([]belfry.Receipt, error)
}

// Catalogue is what ingest must know of a tenant; both are asked once a
// request for each name in it and must be quick (from a cache).
type Catalogue interface {
	// EventType is the catalogue's entry of a type; false when there is none,
	// not even a discovered one.
	EventType(ctx context.Context, tenant, name string) (belfry.EventType, bool, error)
	// UnknownObjects gives those of ids that no object has, tombstones counted
	// as objects.
	UnknownObjects(ctx context.Context, tenant string, ids []string) ([]string, error)
}

// Planner takes over what was accepted.
type Planner interface {
	// Handover offers committed events in accept order. It must not block: an
	// event it drops is found in the store again.
	Handover(accepted []belfry.Accepted)
	// Pending is about how many accepted events wait to be planned.
	Pending() int
}

// Options of an Ingester; all but Limits, RefuseUnknownTypes and RetryAfter
// must be set.
type Options struct {
	Store     Store
	Catalogue Catalogue
	Planner   Planner
	Now       func() time.Time
	Limits    Limits
	// RefuseUnknownTypes answers Invalid to an event whose type is not in the
	// catalogue; else it is accepted and listed as discovered.
	RefuseUnknownTypes bool
	RetryAfter         time.Duration // told to whom we cannot take more from; 0 = 1s
}

// Ingester admits events. Its methods may be called from many goroutines.
type Ingester struct {
	Options
	schemas *schemas
}

// New makes an Ingester.
func New(o Options) (*Ingester, error) {
	if o.Store == nil || o.Catalogue == nil || o.Planner == nil || o.Now == nil {
		return nil, errors.New("ingest: Store, Catalogue, Planner and Now must be set")
	}
	o.Limits = o.Limits.orDefault()
	if o.RetryAfter <= 0 {
		o.RetryAfter = time.Second
	}
	return &Ingester{Options: o, schemas: newSchemas()}, nil
}

// Origin says for whom and by whom events are admitted.
type Origin struct {
	Tenant string
	// Key is the name of the application key or of the source: an event
	// without a source gets "/" and it.
	Key string
	// IdempotencyKey makes the ids of events that have none, together with Key
	// and the event's index, so that a repeated request repeats no event.
	IdempotencyKey string
	// Partial admits the sound events of a request that has others, too.
	Partial bool
	// CloudEvents says that data.record is the row for types that declare it.
	CloudEvents bool
	// Own says that the server made the events itself: they have its source,
	// which nobody else may name, and types that nobody declares.
	Own bool
}

// Result is the answer for each event of a request, by its index: a receipt,
// or, with Origin.Partial, a fault and a zero receipt.
type Result struct {
	Receipts []belfry.Receipt
	Faults   map[int]*belfry.Error
}

// Accepted is how many events were accepted, repeats included, and how many of
// those were repeats.
func (r *Result) Accepted() (accepted, duplicates int) {
	for i := range r.Receipts {
		if r.Faults[i] != nil {
			continue
		}
		accepted++
		if r.Receipts[i].Duplicate {
			duplicates++
		}
	}
	return accepted, duplicates
}

// Receive admits the events of an HTTP request: Decode and Admit in one.
func (g *Ingester) Receive(ctx context.Context, o Origin, h http.Header, body []byte) (Result, error) {
	if err := g.room(); err != nil {
		return Result{}, err // before any work is done for it
	}
	p, err := parse(h, body, g.Limits)
	if err != nil {
		return Result{}, err
	}
	o.CloudEvents = p.form != Own
	return g.admit(ctx, o, &p, true)
}

// Admit checks the events, fills in what they lack, stores them and offers
// them to the planner. It owns the events from then on. Errors are
// *belfry.Error: Invalid with pointers ("/3/type"; without the index when there
// is one event), Overloaded with RetryAfter, or the store's.
func (g *Ingester) Admit(ctx context.Context, o Origin, events []belfry.Event) (Result, error) {
	if err := g.room(); err != nil {
		return Result{}, err
	}
	p := parsed{lim: g.Limits, events: events, array: len(events) > 1}
	return g.admit(ctx, o, &p, false)
}

// Prepare makes drafts of events for a caller that has a door of its own (a
// source commits its cursor with them; explain commits nothing). drafts and
// places run in step: places[k] is the index of the event drafts[k] is of.
// Faulty events have no draft but a fault.
func (g *Ingester) Prepare(ctx context.Context, o Origin, events []belfry.Event) (drafts []belfry.Draft, places []int, faults map[int]*belfry.Error, err error) {
	p := parsed{lim: g.Limits, events: events, array: len(events) > 1}
	drafts, places, err = g.drafts(ctx, o, &p, false)
	return drafts, places, p.faults, err
}

// room refuses when the planner is too far behind.
func (g *Ingester) room() error {
	n := g.Planner.Pending()
	if n <= g.Limits.Pending {
		return nil
	}
	err := belfry.Errorf(belfry.Overloaded, "%d events wait to be planned, more than the bound of %d: try again after %s", n, g.Limits.Pending, g.RetryAfter)
	err.RetryAfter = g.RetryAfter
	return err
}

func (g *Ingester) admit(ctx context.Context, o Origin, p *parsed, scanned bool) (Result, error) {
	drafts, places, err := g.drafts(ctx, o, p, scanned)
	if err != nil {
		return Result{}, err
	}
	if len(p.faults) > 0 && !o.Partial {
		return Result{}, p.err()
	}
	result := Result{Receipts: make([]belfry.Receipt, len(p.events)), Faults: p.faults}
	if len(drafts) == 0 {
		return result, nil
	}
	receipts, err := g.Store.AcceptEvents(ctx, drafts)
	if err != nil {
		return Result{}, err
	}
	fresh := make([]belfry.Accepted, 0, len(receipts))
	for k, r := range receipts {
		result.Receipts[places[k]] = r
		if !r.Duplicate {
			fresh = append(fresh, belfry.Accepted{Tenant: o.Tenant, EventID: r.EventID, At: r.At, AsOf: r.AsOf, Event: drafts[k].Event, Body: drafts[k].Body})
		}
	}
	if len(fresh) > 0 {
		g.Planner.Handover(fresh)
	}
	return result, nil
}

// drafts turns the sound events of p into drafts and adds the faults of the
// others to p.
func (g *Ingester) drafts(ctx context.Context, o Origin, p *parsed, scanned bool) ([]belfry.Draft, []int, error) {
	know := knowledge{g: g, ctx: ctx, tenant: o.Tenant}
	if err := know.objects(p); err != nil {
		return nil, nil, err
	}
	now := g.Now().UTC()
	drafts := make([]belfry.Draft, 0, len(p.events))
	places := make([]int, 0, len(p.events))
	for i := range p.events {
		e := &p.events[i]
		if p.faults[i] != nil {
			continue // its shape is wrong already
		}
		if fields := check(e, p.lim, scanned); len(fields) > 0 {
			p.add(i, fields)
			continue
		}
		if e.Source == belfry.OwnSource && !o.Own {
			p.add(i, []belfry.Field{{Pointer: "/source", Message: "belfry is the source of the server's own events: name your own"}})
			continue
		}
		if strings.HasPrefix(e.Type, belfry.OwnTypes) && !o.Own {
			p.add(i, []belfry.Field{{Pointer: "/type", Message: "begins with belfry., as the server's own types do: name it otherwise"}})
			continue
		}
		typ, err := know.eventType(e.Type)
		if err != nil {
			return nil, nil, err
		}
		if !typ.known && g.RefuseUnknownTypes && !o.Own {
			p.add(i, []belfry.Field{{Pointer: "/type", Message: "is not in the catalogue: declare it with PUT /v1/event-types/" + e.Type + " first"}})
			continue
		}
		g.fill(e, &o, i, now)
		if o.CloudEvents && typ.Record {
			takeRecord(e)
		}
		if fields := typ.schema.check(e.Data); len(fields) > 0 {
			p.add(i, fields)
			continue
		}
		d := belfry.Draft{Tenant: o.Tenant, Event: e, Body: body(e), Discovered: !typ.known && !o.Own, Implied: know.implied(e)}
		if len(d.Body) > p.lim.EventBytes+1024 { // what came was bounded already; defaults add a little
			p.fail(i, belfry.TooLarge, []belfry.Field{{Message: "is too large: keep large content where it is and send its address"}})
			continue
		}
		drafts = append(drafts, d)
		places = append(places, i)
	}
	return drafts, places, nil
}

// fill sets what an event may leave out and hides what it asks to hide.
func (g *Ingester) fill(e *belfry.Event, o *Origin, index int, now time.Time) {
	if e.Source == "" {
		e.Source = (&url.URL{Path: "/" + o.Key}).EscapedPath() // a source is a URI reference; names have spaces
	}
	if e.ID == "" {
		if o.IdempotencyKey != "" {
			e.ID = derivedID(o.Key, o.IdempotencyKey, index)
		} else {
			e.ID = belfry.NewID("", now)
		}
	}
	if e.Time.IsZero() {
		e.Time = now
	}
	if len(e.Flags) > 0 && e.Has(belfry.FlagAnonymous) {
		e.Actor = "" // before it is stored, so nobody can ever learn it
	}
	if len(e.Related) > 1 {
		e.Related = distinct(e.Related)
	}
}

func derivedID(key, idempotencyKey string, index int) string {
	h := sha256.New()
	for _, part := range [...]string{key, idempotencyKey} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part)))
		_, _ = h.Write([]byte(part))
	}
	_ = binary.Write(h, binary.BigEndian, uint64(index))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func distinct(list []string) []string {
	seen := make(map[string]struct{}, len(list))
	return slices.DeleteFunc(list, func(s string) bool {
		_, twice := seen[s]
		seen[s] = struct{}{}
		return twice
	})
}

// takeRecord moves data.record to record: CloudEvents have no place of their
// own for the row.
func takeRecord(e *belfry.Event) {
	if e.Record != nil || len(e.Data) == 0 || e.Data[0] != '{' {
		return
	}
	s := scanner{src: e.Data, depth: len(e.Data)}
	rest := append(make([]byte, 0, len(e.Data)), '{')
	if s.open('{', "") != nil {
		return
	}
	for first := true; ; first = false {
		more, err := s.more('}', first)
		if err != nil {
			return
		}
		if !more {
			break
		}
		from := s.at
		name, err := s.name()
		if err != nil {
			return
		}
		value, err := s.value()
		if err != nil {
			return
		}
		if string(name) == "record" && (value[0] == '{' || string(value) == "false") {
			e.Record = json.RawMessage(value)
			continue
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		rest = append(rest, s.src[from:s.at]...)
	}
	if e.Record != nil {
		e.Data = append(rest, '}')
	}
}

// knowledge asks the catalogue once a request for each name.
type knowledge struct {
	g       *Ingester
	ctx     context.Context
	tenant  string
	last    string // the type asked for last: most requests have one
	lastHit *typeEntry
	types   map[string]*typeEntry
	unknown []string // objects nobody declared
}

type typeEntry struct {
	belfry.EventType
	known  bool            // in the catalogue
	schema *compiledSchema // of its data; nil = any
}

func (k *knowledge) eventType(name string) (*typeEntry, error) {
	if k.lastHit != nil && k.last == name {
		return k.lastHit, nil
	}
	entry := k.types[name]
	if entry == nil {
		t, known, err := k.g.Catalogue.EventType(k.ctx, k.tenant, name)
		if err != nil {
			return nil, err
		}
		entry = &typeEntry{EventType: t, known: known, schema: k.g.schemas.of(&t)}
		if k.types == nil {
			k.types = make(map[string]*typeEntry)
		}
		k.types[name] = entry
	}
	k.last, k.lastHit = name, entry
	return entry, nil
}

// objects finds which objects the events speak of nobody declared.
func (k *knowledge) objects(p *parsed) error {
	var ids []string
	last := ""
	add := func(id string) {
		if id != "" && id != last && id != belfry.RootObject && len(id) <= p.lim.NameBytes {
			ids = append(ids, id)
			last = id
		}
	}
	for i := range p.events {
		if p.faults[i] == nil {
			add(p.events[i].Object)
			add(p.events[i].Destination)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	unknown, err := k.g.Catalogue.UnknownObjects(k.ctx, k.tenant, slices.Compact(ids))
	k.unknown = unknown
	return err
}

func (k *knowledge) implied(e *belfry.Event) []string {
	if len(k.unknown) == 0 {
		return nil
	}
	var list []string
	for _, id := range [...]string{e.Object, e.Destination} {
		if id != "" && slices.Contains(k.unknown, id) && !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list
}

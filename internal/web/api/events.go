package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/ingest"
	"github.com/danielgtaylor/huma/v2"
)

// Receipt is the answer to posted events.
type Receipt struct {
	Accepted   int       `json:"accepted" doc:"Events that are now stored, repeats included"`
	Duplicates int       `json:"duplicates" doc:"Those of them that were stored before"`
	IDs        []*string `json:"ids" doc:"Ids in the order of the request; null for a refused one (only with partial)"`
	Errors     []Fault   `json:"errors,omitempty" doc:"Faults of refused events (only with partial)"`
}

type listEvents struct {
	Paging
	Type   string    `query:"type" doc:"Exact type, or a prefix with *" maxLength:"255"`
	Object string    `query:"object" maxLength:"512"`
	Since  time.Time `query:"since" doc:"Accepted at or after this time"`
}

type oneEvent struct {
	ID string `path:"id" doc:"evt_..."`
}

type traceEvent struct {
	Paging
	ID        string `path:"id" doc:"evt_..."`
	Principal string `query:"principal" doc:"What became of this person only; computed when no rule named them" maxLength:"512"`
}

func (s *Server) eventRoutes() {
	s.describePostEvents()
	// Answered before the routes are looked at; here so that Allow names it.
	s.mux.HandleFunc("POST /v1/events", func(w http.ResponseWriter, r *http.Request) { s.postEvents(w, r, callOf(r.Context())) })
	route(s, spec{id: "listEvents", method: http.MethodGet, path: "/v1/events", tag: "Events", may: auth.Read,
		summary: "List events, newest first"},
		func(ctx context.Context, c *call, in *listEvents) (*reply[list[belfry.EventView]], error) {
			events, next, err := s.Events.ListEvents(ctx, c.tenant(), EventQuery{Type: in.Type, Object: in.Object, Since: in.Since, Before: in.After, Limit: in.Limit})
			if err != nil {
				return nil, err
			}
			views := make([]belfry.EventView, 0, len(events))
			for i := range events {
				views = append(views, events[i].View())
			}
			return listOf(views, next), nil
		})
	route(s, spec{id: "getEvent", method: http.MethodGet, path: "/v1/events/{id}", tag: "Events", may: auth.Read,
		summary: "Get one event"},
		func(ctx context.Context, c *call, in *oneEvent) (*reply[belfry.EventView], error) {
			found, err := s.Events.Events(ctx, c.tenant(), []string{in.ID})
			if err != nil {
				return nil, err
			}
			e := found[in.ID]
			if e == nil {
				return nil, noEvent(in.ID)
			}
			return &reply[belfry.EventView]{Status: http.StatusOK, ETag: `"` + e.EventID + `"`, Body: e.View()}, nil
		})
	route(s, spec{id: "traceEvent", method: http.MethodGet, path: "/v1/events/{id}/trace", tag: "Events", may: auth.Read,
		summary: "Say why each person was or was not told",
		detail:  "Read from the reasons stored when the event was planned. For a principal no rule named, the answer is computed with today's data and marked computed."},
		func(ctx context.Context, c *call, in *traceEvent) (*reply[belfry.Answer], error) {
			a, err := s.Explain.Trace(ctx, c.tenant(), belfry.TraceQuery{EventID: in.ID, Principal: in.Principal, After: in.After, Limit: in.Limit})
			if err != nil {
				return nil, err
			}
			return &reply[belfry.Answer]{Status: http.StatusOK, Body: whole(a)}, nil
		})
	s.explainRoute()
}

func noEvent(id string) error {
	return belfry.Errorf(belfry.NotFound, "there is no event %s", clip(id, 64))
}

// whole makes nil lists empty ones, so that readers need not tell them apart.
func whole(a belfry.Answer) belfry.Answer {
	if a.Subscriptions == nil {
		a.Subscriptions = []belfry.AnswerSubscription{}
	}
	for i := range a.Subscriptions {
		if a.Subscriptions[i].Because == nil {
			a.Subscriptions[i].Because = []belfry.ReasonView{}
		}
	}
	if a.People == nil {
		a.People = []belfry.AnswerPerson{}
	}
	for i := range a.People {
		if a.People[i].Because == nil {
			a.People[i].Because = []belfry.ReasonView{}
		}
		if a.People[i].Deliveries == nil {
			a.People[i].Deliveries = []string{}
		}
	}
	return a
}

// postEvents answers POST /v1/events: plain net/http, since this is the call
// that everything is measured by.
func (s *Server) postEvents(w http.ResponseWriter, r *http.Request, c *call) {
	if p := c.allowed(spec{may: auth.Publish}); p != nil {
		c.fail(w, p)
		return
	}
	origin := ingest.Origin{Tenant: c.who.Tenant, Key: c.who.Origin(), IdempotencyKey: r.Header.Get("Idempotency-Key")}
	if origin.IdempotencyKey != "" {
		if p := checkIdempotencyKey(origin.IdempotencyKey); p != nil {
			c.fail(w, p)
			return
		}
	}
	if r.URL.RawQuery != "" {
		partial, p := partialOf(r.URL.RawQuery)
		if p != nil {
			c.fail(w, p)
			return
		}
		origin.Partial = partial
	}
	raw, err := readEvents(r)
	if err != nil {
		c.fail(w, err)
		return
	}
	result, err := s.Ingest.Receive(r.Context(), origin, r.Header, raw)
	if err != nil {
		c.fail(w, err)
		return
	}
	accepted, duplicates := result.Accepted()
	c.note(slog.Int("accepted", accepted), slog.Int("duplicates", duplicates))
	if origin.IdempotencyKey != "" && duplicates > 0 {
		if err := s.sameEvents(r, c, origin, raw, &result); err != nil {
			c.fail(w, err)
			return
		}
	}
	if accepted == 0 && len(result.Faults) > 0 {
		// Nothing came of it: then it is a refusal, partial or not.
		p := newProblem(http.StatusUnprocessableEntity, "none of the events could be accepted", faultsOf(&result)...)
		c.fail(w, p)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(receiptJSON(&result, accepted, duplicates)) // the client is gone if this fails
}

// readEvents reads the body into one piece of its own: events keep parts of it.
func readEvents(r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n >= 0 && n <= maxBatchBytes {
		raw := make([]byte, n)
		if _, err := io.ReadFull(r.Body, raw); err != nil {
			return nil, belfry.Errorf(belfry.Malformed, "the body ended before the length it was said to have: %w", err)
		}
		return raw, nil
	}
	return readAll(r, maxBatchBytes)
}

func partialOf(query string) (bool, *Problem) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return false, newProblem(http.StatusBadRequest, "the query cannot be read: "+err.Error())
	}
	v := q.Get("partial")
	if v == "" {
		return false, nil
	}
	partial, err := strconv.ParseBool(v)
	if err != nil {
		return false, newProblem(http.StatusUnprocessableEntity, "partial is true or false", Fault{Parameter: "partial", Message: "is true or false"})
	}
	return partial, nil
}

// receiptJSON writes a Receipt. Ids are plain ASCII and need no escaping.
func receiptJSON(r *ingest.Result, accepted, duplicates int) []byte {
	b := make([]byte, 0, 64+34*len(r.Receipts))
	b = append(b, `{"accepted":`...)
	b = strconv.AppendInt(b, int64(accepted), 10)
	b = append(b, `,"duplicates":`...)
	b = strconv.AppendInt(b, int64(duplicates), 10)
	b = append(b, `,"ids":[`...)
	for i := range r.Receipts {
		if i > 0 {
			b = append(b, ',')
		}
		if r.Faults[i] != nil {
			b = append(b, "null"...)
			continue
		}
		b = append(b, '"')
		b = append(b, r.Receipts[i].EventID...)
		b = append(b, '"')
	}
	b = append(b, ']')
	if len(r.Faults) > 0 {
		b = append(b, `,"errors":`...)
		faults, _ := json.Marshal(faultsOf(r)) // strings always marshal
		b = append(b, faults...)
	}
	return append(b, '}', '\n')
}

func faultsOf(r *ingest.Result) []Fault {
	faults := []Fault{}
	for i := range r.Receipts {
		if e := r.Faults[i]; e != nil {
			for _, f := range e.Fields {
				if len(faults) < maxFaults {
					faults = append(faults, Fault{Pointer: f.Pointer, Message: f.Message})
				}
			}
		}
	}
	return faults
}

// sameEvents refuses a repeat under an Idempotency-Key that says something
// else than the first request did. Events whose ids were derived from the key
// are compared with what is stored under those ids; events that brought ids of
// their own are repeats by their own right.
func (s *Server) sameEvents(r *http.Request, c *call, o ingest.Origin, raw []byte, result *ingest.Result) error {
	events, _, err := ingest.Decode(r.Header, raw, ingest.Limits{})
	if err != nil && !o.Partial {
		return err
	}
	var derived []int
	var ids []string
	for i := range events {
		if i < len(result.Receipts) && result.Receipts[i].Duplicate && events[i].ID == "" {
			derived = append(derived, i)
			ids = append(ids, result.Receipts[i].EventID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	stored, err := s.Events.Events(r.Context(), c.tenant(), ids)
	if err != nil {
		return err
	}
	for k, i := range derived {
		first := stored[ids[k]]
		if first == nil {
			continue // past its retention: nothing to compare with
		}
		if !sameEvent(&events[i], first.Event) {
			return newProblem(http.StatusUnprocessableEntity, "this Idempotency-Key was used with other events: use a new key for new events",
				Fault{Parameter: "Idempotency-Key", Message: "was used with other events"})
		}
	}
	return nil
}

// sameEvent reports whether sent, as decoded, is what kept was made of; what
// sent leaves out was filled in.
func sameEvent(sent, kept *belfry.Event) bool {
	a, b := *sent, *kept
	a.ID = b.ID
	if a.Source == "" {
		a.Source = b.Source
	}
	if a.Time.IsZero() {
		a.Time = b.Time
	}
	if a.Has(belfry.FlagAnonymous) {
		a.Actor = b.Actor
	}
	if a.Record == nil {
		// The row may have been moved out of a CloudEvent's data.
		a.Record = b.Record
		if b.Record != nil {
			a.Data, b.Data = nil, nil
		}
	}
	return reflect.DeepEqual(plainJSON(&a), plainJSON(&b))
}

func plainJSON(e *belfry.Event) any {
	e.Related = nil // made distinct on the way in
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	text, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	_ = dec.Decode(&v) // of what Marshal just wrote
	return v
}

// describePostEvents adds the one call that is not registered with huma to the
// description.
func (s *Server) describePostEvents() {
	doc := s.huma.OpenAPI()
	registry := doc.Components.Schemas
	event := registry.Schema(reflect.TypeFor[belfry.Event](), true, "")
	cloud := &huma.Schema{Type: huma.TypeObject, Description: "A CloudEvent 1.0; attributes object, actor, related (comma list), destination, flags (comma list) and transition carry ours; any other attribute is kept.",
		Required: []string{"specversion", "id", "source", "type"},
		Properties: map[string]*huma.Schema{
			"specversion": {Type: huma.TypeString, Enum: []any{"1.0"}},
			"id":          {Type: huma.TypeString}, "source": {Type: huma.TypeString}, "type": {Type: huma.TypeString},
			"time": {Type: huma.TypeString, Format: "date-time"}, "data": {},
		}, AdditionalProperties: true}
	responses := problemResponses(registry)
	responses["202"] = &huma.Response{Description: "Stored: nothing of it can be lost any more",
		Content: map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(reflect.TypeFor[Receipt](), true, "")}}}
	doc.AddOperation(&huma.Operation{
		OperationID: "postEvents", Method: http.MethodPost, Path: "/v1/events", Tags: []string{"Events"},
		Summary: "Publish one event or many",
		Description: "Answers after the commit. Repeats (same source and id) are accepted and ignored, and answered with the first one's id. " +
			"A request with the header ce-specversion is a CloudEvent in binary mode. In an array one bad event refuses the whole, unless partial is true. " +
			"An event may have 256 KiB, a request 16 MiB and 10,000 events.\n\nNeeds the permission publish.",
		Security: []map[string][]string{{"key": {}}},
		Parameters: []*huma.Param{
			{Name: "partial", In: "query", Description: "Accept the sound events of an array that has bad ones", Schema: &huma.Schema{Type: huma.TypeBoolean}},
			{Name: "Idempotency-Key", In: "header", Description: "Gives events without an id one that a repeat of the request has again", Schema: &huma.Schema{Type: huma.TypeString}},
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json":                   {Schema: &huma.Schema{OneOf: []*huma.Schema{event, {Type: huma.TypeArray, Items: event}}}},
			"application/cloudevents+json":       {Schema: cloud},
			"application/cloudevents-batch+json": {Schema: &huma.Schema{Type: huma.TypeArray, Items: cloud}},
		}},
		Responses: responses,
	})
}

// explainRoute takes the same forms as POST /v1/events, so its body is read
// here too.
func (s *Server) explainRoute() {
	route(s, spec{id: "explain", method: http.MethodPost, path: "/v1/explain", tag: "Events", may: auth.Read, max: maxEventBytes + 4096,
		summary: "Say who would be told of an event, and why",
		detail:  "Takes one event in any form POST /v1/events takes. Nothing is stored and nothing sent; the answer has the form of a trace."},
		func(ctx context.Context, c *call, _ *struct{ Keyed }) (*reply[belfry.Answer], error) {
			e, err := s.supposed(ctx, c)
			if err != nil {
				return nil, err
			}
			a, err := s.Explain.Explain(ctx, c.tenant(), e)
			if err != nil {
				return nil, err
			}
			a = whole(a)
			a.Planned, a.Computed = true, true
			return &reply[belfry.Answer]{Status: http.StatusOK, Body: a}, nil
		})
	s.takesEvent("/v1/explain")
}

// supposed reads the one event of a question, in any form POST /v1/events takes.
func (s *Server) supposed(ctx context.Context, c *call) (*belfry.Event, error) {
	raw, err := readAll(c.r, maxEventBytes+4096)
	if err != nil {
		return nil, err
	}
	events, form, err := ingest.Decode(c.r.Header, raw, ingest.Limits{})
	if err != nil {
		return nil, err
	}
	if len(events) != 1 {
		return nil, belfry.Errorf(belfry.Invalid, "this takes one event, not %d", len(events))
	}
	drafts, _, faults, err := s.Ingest.Prepare(ctx, ingest.Origin{Tenant: c.tenant(), Key: c.who.Origin(), CloudEvents: form != ingest.Own}, events)
	if err != nil {
		return nil, err
	}
	if f := faults[0]; f != nil {
		return nil, f
	}
	return drafts[0].Event, nil
}

// takesEvent describes the body of a call that takes one event.
func (s *Server) takesEvent(path string) {
	post := operationAt(s.huma.OpenAPI(), http.MethodPost, "/v1/events")
	operationAt(s.huma.OpenAPI(), http.MethodPost, path).RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json":             {Schema: s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[belfry.Event](), true, "")},
		"application/cloudevents+json": post.RequestBody.Content["application/cloudevents+json"],
	}}
}

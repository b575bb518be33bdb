package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Bounds of request bodies (docs/api.md, "Limits").
const (
	maxEventBytes   = 256 << 10
	maxRequestBytes = 1 << 20
	maxBatchBytes   = 16 << 20
)

// spec is what a route says of itself.
type spec struct {
	id      string // operation id
	method  string
	path    string
	tag     string
	summary string
	detail  string
	may     auth.Permission // needed; empty = any valid key
	root    bool            // only root keys
	status  int             // of success; 0 = 200, or 204 without an answer
	max     int64           // bytes of the body; 0 = maxRequestBytes
}

// body is embedded in the input of operations that take JSON.
type body[T any] struct{ Value T }

func (b *body[T]) target() any            { return &b.Value }
func (b *body[T]) bodyType() reflect.Type { return reflect.TypeFor[T]() }

type bodied interface {
	target() any
	bodyType() reflect.Type
}

// reply is the usual output: a JSON body.
type reply[T any] struct {
	Status   int    `json:"-"`
	ETag     string `header:"ETag" doc:"Version of the thing as it is answered, for If-Match and If-None-Match"`
	Location string `header:"Location" doc:"Address of what was created"`
	Body     T
}

// list is a page of things. Next continues it; empty = the end.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Give it as ?after= to get the next page; absent at the end"`
}

func listOf[T any](items []T, next string) *reply[list[T]] {
	if items == nil {
		items = []T{}
	}
	return &reply[list[T]]{Status: http.StatusOK, Body: list[T]{Items: items, Next: next}}
}

// Paging are the parameters of every list.
type Paging struct {
	After string `query:"after" doc:"next of the page before" maxLength:"1024"`
	Limit int    `query:"limit" doc:"Most items on a page" minimum:"1" maximum:"1000" default:"100"`
}

// Matching are the conditional headers of calls about one thing.
type Matching struct {
	IfMatch     string `header:"If-Match" doc:"Do it only while the thing still has this ETag, else 412"`
	IfNoneMatch string `header:"If-None-Match" doc:"On GET: 304 while the thing still has this ETag. On PUT: * = only when there is none yet"`
}

// Keyed is the header that makes repeats of a POST harmless.
type Keyed struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"A repeat with the same key within 24 hours gets the first answer and does nothing again; another body under the same key is 422"`
}

// route registers an operation: once for serving, and by that for the
// description. Faults of the input are answered before h is called.
func route[I, O any](s *Server, sp spec, h func(ctx context.Context, c *call, in *I) (*O, error)) {
	registry := s.huma.OpenAPI().Components.Schemas
	op := huma.Operation{
		OperationID: sp.id, Method: sp.method, Path: sp.path, Tags: []string{sp.tag},
		Summary: sp.summary, Description: sp.detail, DefaultStatus: sp.status,
		Security: []map[string][]string{{"key": {}}},
		Metadata: map[string]any{},
	}
	op.Responses = problemResponses(registry)
	switch {
	case sp.root:
		op.Description = strings.TrimSpace(op.Description + "\n\nNeeds a root key.")
	case sp.may != "":
		op.Description = strings.TrimSpace(op.Description + "\n\nNeeds the permission " + string(sp.may) + ".")
	}
	limit := sp.max
	if limit == 0 {
		limit = maxRequestBytes
	}
	spoken := speaks(reflect.TypeFor[O](), map[reflect.Type]bool{})
	if spoken && !reads(reflect.TypeFor[I](), "Accept-Language") {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "Accept-Language", In: "header", Description: readersLanguage, Schema: &huma.Schema{Type: huma.TypeString}})
	}
	var zero I
	takes, hasBody := any(&zero).(bodied)
	ids := pathIDs(reflect.TypeFor[I]())
	// Permission comes before anything the request says is looked at, so that
	// who may not do it learns nothing from the faults.
	op.Middlewares = huma.Middlewares{func(hc huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(hc)
		c := callOf(r.Context())
		if p := c.allowed(sp); p != nil {
			c.fail(w, p)
			return
		}
		if spoken {
			w.Header().Add("Vary", "Accept-Language")
		}
		next(hc)
	}}
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		c := callOf(ctx)
		out, err := func() (*O, error) {
			for _, at := range ids {
				f := reflect.ValueOf(in).Elem().FieldByIndex(at)
				id, p := decodePathID(f.String())
				if p != nil {
					return nil, p
				}
				f.SetString(id)
			}
			if b, ok := any(in).(bodied); ok {
				raw, err := c.readBody(limit)
				if err != nil {
					return nil, err
				}
				if _, may := any(in).(interface{ optional() }); may && len(bytes.TrimSpace(raw)) == 0 {
					return h(ctx, c, in)
				}
				if err := decodeStrict(raw, b.target()); err != nil {
					return nil, err
				}
			}
			return h(ctx, c, in)
		}()
		if err != nil {
			return nil, c.problem(err)
		}
		if language := c.r.Header.Get("Accept-Language"); spoken && language != "" && out != nil {
			say(out, words.Accepting(language, "en"))
		}
		return out, nil
	})
	// The body is read by the operation itself, so huma is told of it only now.
	registered := operationAt(s.huma.OpenAPI(), sp.method, sp.path)
	if hasBody {
		_, may := any(&zero).(interface{ optional() })
		registered.RequestBody = &huma.RequestBody{Required: !may, Content: map[string]*huma.MediaType{
			"application/json": {Schema: registry.Schema(takes.bodyType(), true, sp.id+"Request")}}}
	}
}

// problemResponses describes the answers that are not a success, the same for
// every operation.
func problemResponses(registry huma.Registry) map[string]*huma.Response {
	return map[string]*huma.Response{"default": {Description: "A problem; its type says which (docs/errors.md)",
		Content: map[string]*huma.MediaType{"application/problem+json": {Schema: registry.Schema(reflect.TypeFor[Problem](), true, "")}}}}
}

// operationAt finds a registered operation; nil when there is none.
func operationAt(doc *huma.OpenAPI, method, path string) *huma.Operation {
	item := doc.Paths[path]
	if item == nil {
		return nil
	}
	switch method {
	case http.MethodGet:
		return item.Get
	case http.MethodPut:
		return item.Put
	case http.MethodPost:
		return item.Post
	case http.MethodPatch:
		return item.Patch
	case http.MethodDelete:
		return item.Delete
	}
	return nil
}

// reads reports whether an input has a field for a header.
func reads(t reflect.Type, header string) bool {
	return slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Tag.Get("header") == header })
}

// pathIDs finds the fields of type PathID.
func pathIDs(t reflect.Type) [][]int {
	var at [][]int
	for _, f := range reflect.VisibleFields(t) {
		if f.Type == reflect.TypeFor[PathID]() {
			at = append(at, f.Index)
		}
	}
	return at
}

// readBody reads the whole body, at most limit bytes of JSON.
func (c *call) readBody(limit int64) ([]byte, error) {
	if p := jsonMediaType(c.r.Header.Get("Content-Type")); p != nil {
		return nil, p
	}
	return readAll(c.r, limit)
}

func readAll(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLargeProblem(limit)
	}
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if err != nil {
		if p := problemOf(err); p.Status == http.StatusRequestEntityTooLarge {
			return nil, p
		}
		return nil, belfry.Errorf(belfry.Malformed, "the body could not be read to its end: %w", err)
	}
	return raw, nil
}

// jsonMediaType refuses bodies that say they are something else.
func jsonMediaType(contentType string) *Problem {
	media, params, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	ok := media == "" || media == "application/json" || media == "application/merge-patch+json" ||
		strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")
	if !ok {
		return newProblem(http.StatusUnsupportedMediaType, fmt.Sprintf("the body is %s: send application/json", strconv.Quote(clip(media, 80))))
	}
	if name, charset, found := strings.Cut(strings.ToLower(params), "="); found && strings.TrimSpace(name) == "charset" {
		if v := strings.Trim(strings.TrimSpace(charset), `"`); v != "utf-8" && v != "utf8" {
			return newProblem(http.StatusUnsupportedMediaType, "the body's charset is not UTF-8: send UTF-8")
		}
	}
	return nil
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

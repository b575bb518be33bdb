package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/danielgtaylor/huma/v2"
)

// problemBase begins every problem type; what follows is a heading of
// docs/errors.md. Clients compare types, so they never change.
const problemBase = "https://github.com/belfryhq/belfry/blob/main/docs/errors.md#"

// Problem is an error answer (RFC 9457).
type Problem struct {
	Type   string  `json:"type" format:"uri" doc:"Stable name of the sort of problem; leads to its documentation"`
	Title  string  `json:"title" doc:"The sort of problem in words"`
	Status int     `json:"status"`
	Detail string  `json:"detail,omitempty" doc:"What is wrong with this request and what to do about it"`
	Errors []Fault `json:"errors,omitempty" doc:"One entry for each fault"`
	// Request is the id of the request, to be named when asking for help.
	Request string `json:"request_id,omitempty"`

	retryAfter time.Duration
	allow      string
}

// Fault is one thing wrong at one place of the request.
type Fault struct {
	Pointer   string `json:"pointer,omitempty" doc:"JSON Pointer (RFC 6901) into the body"`
	Parameter string `json:"parameter,omitempty" doc:"Name of the path, query or header parameter"`
	Message   string `json:"message"`
}

// problemTypes gives each status its slug and title.
var problemTypes = map[int][2]string{
	http.StatusBadRequest:            {"malformed", "The request is malformed"},
	http.StatusUnauthorized:          {"unauthorised", "A valid key is needed"},
	http.StatusForbidden:             {"forbidden", "The key may not do this"},
	http.StatusNotFound:              {"not-found", "There is no such thing"},
	http.StatusMethodNotAllowed:      {"method-not-allowed", "This address does not answer that method"},
	http.StatusConflict:              {"conflict", "It contradicts what is there"},
	http.StatusPreconditionFailed:    {"changed-meanwhile", "It was changed meanwhile"},
	http.StatusRequestEntityTooLarge: {"too-large", "The request is too large"},
	http.StatusUnsupportedMediaType:  {"media-type", "This media type is not read here"},
	http.StatusUnprocessableEntity:   {"invalid", "The request is well-formed but wrong"},
	http.StatusTooManyRequests:       {"overloaded", "Too much at once"},
	http.StatusInternalServerError:   {"internal", "Something is broken here"},
	http.StatusServiceUnavailable:    {"unavailable", "A part of the service is away"},
}

var statusOfKind = map[belfry.Kind]int{
	belfry.Internal:     http.StatusInternalServerError,
	belfry.Invalid:      http.StatusUnprocessableEntity,
	belfry.Malformed:    http.StatusBadRequest,
	belfry.NotFound:     http.StatusNotFound,
	belfry.Conflict:     http.StatusConflict,
	belfry.Stale:        http.StatusPreconditionFailed,
	belfry.TooLarge:     http.StatusRequestEntityTooLarge,
	belfry.Unauthorised: http.StatusUnauthorized,
	belfry.Forbidden:    http.StatusForbidden,
	belfry.Overloaded:   http.StatusTooManyRequests,
	belfry.Unavailable:  http.StatusServiceUnavailable,
	belfry.MediaType:    http.StatusUnsupportedMediaType,
}

// newProblem makes the problem of a status.
func newProblem(status int, detail string, faults ...Fault) *Problem {
	t, ok := problemTypes[status]
	if !ok {
		t = [2]string{"other", http.StatusText(status)}
	}
	return &Problem{Type: problemBase + t[0], Title: t[1], Status: status, Detail: detail, Errors: faults}
}

// problemOf is what a caller may know of err: the words of a belfry.Error of a
// caller's fault, and nothing of what broke inside.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return tooLargeProblem(tooLarge.Limit)
	}
	var e *belfry.Error
	if !errors.As(err, &e) {
		return newProblem(http.StatusInternalServerError, "the cause is in the server's log under this request id")
	}
	status, ok := statusOfKind[e.Kind]
	if !ok {
		status = http.StatusInternalServerError
	}
	detail := e.Msg
	switch status {
	case http.StatusInternalServerError:
		detail = "the cause is in the server's log under this request id"
	case http.StatusServiceUnavailable:
		detail = "a part of the service is away for the moment: try again"
	}
	p = newProblem(status, detail)
	p.retryAfter = e.RetryAfter
	if p.retryAfter <= 0 && (e.Kind == belfry.Overloaded || e.Kind == belfry.Unavailable) {
		p.retryAfter = time.Second
	}
	for _, f := range e.Fields {
		p.Errors = append(p.Errors, Fault{Pointer: f.Pointer, Message: f.Message})
	}
	return p
}

func tooLargeProblem(limit int64) *Problem {
	return newProblem(http.StatusRequestEntityTooLarge, "the body is larger than the "+sizeText(limit)+" that are taken here: send it in parts")
}

func sizeText(n int64) string {
	if n >= 1<<20 {
		return strconv.FormatInt(n>>20, 10) + " MiB"
	}
	return strconv.FormatInt(n>>10, 10) + " KiB"
}

// Bounds of an answer that says what is wrong: it names what was sent, which
// may be anything.
const (
	maxDetail  = 4 << 10
	maxMessage = 1 << 10
)

// bounded is p without what is beyond the bounds.
func (p *Problem) bounded() *Problem {
	b := *p
	b.Detail = clip(p.Detail, maxDetail)
	b.Errors = slices.Clone(p.Errors[:min(len(p.Errors), maxFaults)])
	for i := range b.Errors {
		f := &b.Errors[i]
		f.Pointer, f.Message = clip(f.Pointer, maxMessage), clip(f.Message, maxMessage)
	}
	return &b
}

// Error gives the detail.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// GetStatus makes a Problem a huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes a Problem a huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders makes a Problem a huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="belfry"`)
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	return h
}

// write answers with the problem, when nothing was answered yet.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range p.GetHeaders() {
		h[k] = v
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(p) // the client is gone if this fails
}

// unknownParameter says which one of an operation may be meant.
func unknownParameter(op *huma.Operation, name string) string {
	var known []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	slices.Sort(known)
	switch near := belfry.Nearest(name, known); {
	case near != "":
		return fmt.Sprintf("unknown parameter: did you mean %q?", near)
	case len(known) == 0:
		return "unknown parameter: this call has none"
	}
	return "unknown parameter: known here are " + strings.Join(known, ", ")
}

// humaProblem turns an error huma made itself (parameters that cannot be
// read) into a Problem; anything else stays.
func humaProblem(hc huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(m.Status, m.Detail)
	for _, d := range m.Errors {
		if d == nil {
			continue
		}
		f := Fault{Message: d.Message}
		in, name, _ := strings.Cut(d.Location, ".")
		switch in {
		case "query", "path", "header":
			f.Parameter = name
		}
		switch {
		case d.Message == "unknown query parameter":
			f.Message = unknownParameter(hc.Operation(), name)
		case strings.HasPrefix(d.Message, "invalid date/time"):
			f.Message = timeText
		}
		p.Errors = append(p.Errors, f)
	}
	if len(p.Errors) > 0 {
		var words []string
		for _, f := range p.Errors {
			words = append(words, strings.TrimPrefix(f.Parameter+": "+f.Message, ": "))
		}
		p.Detail = strings.Join(words, "; ")
	}
	return callOf(hc.Context()).problem(p), nil
}

package api

import (
	"embed"
	"html/template"
	"io"
	"net/http"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
	"github.com/danielgtaylor/huma/v2"
)

//go:embed pages/*
var pages embed.FS

var unsubscribePage = template.Must(template.ParseFS(pages, "pages/unsubscribe.html"))

// unsubscribeView is what the page shows.
type unsubscribeView struct {
	State string // offer | done | gone
	Offer Offer
	*words.Printer
}

// publicRoutes serve those without a key: health, and people who hold a link.
func (s *Server) publicRoutes() {
	doc := s.huma.OpenAPI()
	plain := func(id, path, summary string, h http.HandlerFunc, answers map[string]string) {
		s.mux.HandleFunc("GET "+path, h)
		responses := map[string]*huma.Response{}
		for status, description := range answers {
			responses[status] = &huma.Response{Description: description}
		}
		doc.AddOperation(&huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{"Health"}, Summary: summary, Responses: responses})
	}
	plain("alive", "/healthz", "Is the process alive?", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{\"status\":\"alive\"}\n")
	}, map[string]string{"200": "It is"})
	plain("ready", "/readyz", "Can it do its work?", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Health.Ready(r.Context()); err != nil {
			c := callOf(r.Context())
			c.err = err
			p := newProblem(http.StatusServiceUnavailable, "not ready: the server's log says why under this request id")
			p.Request = c.id
			p.write(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{\"status\":\"ready\"}\n")
	}, map[string]string{"200": "It can", "503": "Not now"})
	plain("metrics", "/metrics", "Figures for Prometheus", s.Metrics.ServeHTTP, map[string]string{"200": "Prometheus text format"})

	s.mux.HandleFunc("GET /u/{token}", s.showUnsubscribe)
	s.mux.HandleFunc("POST /u/{token}", s.unsubscribe)
	token := []*huma.Param{{Name: "token", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}}
	html := func(description string) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"text/html": {Schema: &huma.Schema{Type: huma.TypeString}}}}
	}
	doc.AddOperation(&huma.Operation{OperationID: "showUnsubscribe", Method: http.MethodGet, Path: "/u/{token}", Tags: []string{"Public"}, Parameters: token,
		Summary: "A page that offers to end one subscription", Description: "The link of a message leads here. Nothing is ended by looking.",
		Responses: map[string]*huma.Response{"200": html("The page, also for links that are not valid")}})
	doc.AddOperation(&huma.Operation{OperationID: "unsubscribe", Method: http.MethodPost, Path: "/u/{token}", Tags: []string{"Public"}, Parameters: token,
		Summary: "End one subscription for one recipient", Description: "RFC 8058 one-click: mail programs POST List-Unsubscribe=One-Click here; the page's button does too. Repeating it changes nothing.",
		Responses: map[string]*huma.Response{"200": html("A page that says it is done")}})
}

// showUnsubscribe never ends anything: mail scanners follow links.
func (s *Server) showUnsubscribe(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	offer, err := s.Public.Offered(r.Context(), r.PathValue("token"))
	s.page(w, r, c, unsubscribeView{State: "offer", Offer: offer}, err)
}

func (s *Server) unsubscribe(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	if _, err := readAll(r, 64<<10); err != nil { // RFC 8058 says what is in it; nothing of it is needed
		c.fail(w, err)
		return
	}
	offer, err := s.Public.Offered(r.Context(), r.PathValue("token"))
	if err == nil {
		err = s.Public.Unsubscribe(r.Context(), r.PathValue("token"))
	}
	s.page(w, r, c, unsubscribeView{State: "done", Offer: offer}, err)
}

// page answers alike for every link that is not valid, whatever the cause, so
// that nobody can learn from it who subscribes to what. It is in the language
// that the browser asks for, else in that of the person's profile.
func (s *Server) page(w http.ResponseWriter, r *http.Request, c *call, v unsubscribeView, err error) {
	if err != nil && invalidLink(err) {
		c.err, err, v = err, nil, unsubscribeView{State: "gone"}
	}
	if err != nil {
		c.fail(w, err)
		return
	}
	publicHead(w.Header())
	w.Header().Set("Vary", "Accept-Language")
	v.Printer = words.Accepting(r.Header.Get("Accept-Language"), v.Offer.Locale)
	w.Header().Set("Content-Language", v.Language())
	if err := unsubscribePage.Execute(w, v); err != nil {
		c.err = err
	}
}

// invalidLink reports whether an error is of a link that is not valid.
func invalidLink(err error) bool {
	switch belfry.KindOf(err) {
	case belfry.NotFound, belfry.Invalid, belfry.Malformed, belfry.Unauthorised, belfry.Forbidden:
		return true
	}
	return false
}

// publicHead are the headers of pages for those who hold a link.
func publicHead(h http.Header) {
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Robots-Tag", "noindex")
}

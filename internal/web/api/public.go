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

// Pages for those who hold a link.
var (
	unsubscribePage = linkPage("unsubscribe.html")
	acknowledgePage = linkPage("acknowledge.html")
	confirmPage     = linkPage("confirm.html")
	whyPage         = linkPage("why.html")
)

// linkPage is the layout with the heading and the text of one page.
func linkPage(name string) *template.Template {
	return template.Must(template.ParseFS(pages, "pages/layout.html", "pages/"+name))
}

// linkView is what such a page shows.
type linkView struct {
	*words.Printer
	State  string // what its link would do, or did; gone = it is not valid
	About  any
	Locale string // of the person's profile; empty = not known
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

	s.linked(spec{id: "showUnsubscribe", method: http.MethodGet, path: "/u/{token}", summary: "A page that offers to end one subscription",
		detail: "The link of a message leads here. Nothing is ended by looking."}, s.showUnsubscribe)
	s.linked(spec{id: "unsubscribe", method: http.MethodPost, path: "/u/{token}", summary: "End one subscription for one recipient",
		detail: "RFC 8058 one-click: mail programs POST List-Unsubscribe=One-Click here; the page's button does too. Repeating it changes nothing."}, s.unsubscribe)
}

// linked serves those who hold a link and describes it. Looking at a page does
// nothing, for mail scanners follow links: its button posts.
func (s *Server) linked(o spec, serve http.HandlerFunc) *huma.Operation {
	answer := "The page, also for links that are not valid"
	if o.method == http.MethodPost {
		answer = "A page that says it is done"
	}
	s.mux.HandleFunc(o.method+" "+o.path, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if _, err := readAll(r, 64<<10); err != nil { // nothing of it is needed
				callOf(r.Context()).fail(w, err)
				return
			}
		}
		serve(w, r)
	})
	text := &huma.Schema{Type: huma.TypeString}
	op := &huma.Operation{OperationID: o.id, Method: o.method, Path: o.path, Tags: []string{"Public"}, Summary: o.summary, Description: o.detail,
		Parameters: []*huma.Param{{Name: "token", In: "path", Required: true, Schema: text}},
		Responses:  map[string]*huma.Response{"200": {Description: answer, Content: map[string]*huma.MediaType{"text/html": {Schema: text}}}}}
	s.huma.OpenAPI().AddOperation(op)
	return op
}

func (s *Server) showUnsubscribe(w http.ResponseWriter, r *http.Request) {
	offer, err := s.Public.Offered(r.Context(), r.PathValue("token"))
	page(w, r, unsubscribePage, linkView{State: "offer", About: offer, Locale: offer.Locale}, err)
}

func (s *Server) unsubscribe(w http.ResponseWriter, r *http.Request) {
	offer, err := s.Public.Offered(r.Context(), r.PathValue("token"))
	if err == nil {
		err = s.Public.Unsubscribe(r.Context(), r.PathValue("token"))
	}
	page(w, r, unsubscribePage, linkView{State: "done", About: offer, Locale: offer.Locale}, err)
}

// page answers alike for every link that is not valid, whatever the cause, so
// that nobody can learn from it who subscribes to what. It is in the language
// that the browser asks for, else in that of the person's profile.
func page(w http.ResponseWriter, r *http.Request, t *template.Template, v linkView, err error) {
	c := callOf(r.Context())
	if err != nil && invalidLink(err) {
		c.err, err, v = err, nil, linkView{State: "gone"}
	}
	if err != nil {
		c.fail(w, err)
		return
	}
	v.Printer = words.Accepting(r.Header.Get("Accept-Language"), v.Locale)
	publicHead(w.Header(), v.Printer)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	if err := t.Execute(w, v); err != nil {
		c.err = err
	}
}

// publicHead are the headers of answers to those who hold a link, in a language.
func publicHead(h http.Header, p *words.Printer) {
	h.Set("Content-Language", p.Language())
	h.Add("Vary", "Accept-Language")
	h.Set("X-Robots-Tag", "noindex")
}

// invalidLink reports whether an error is of a link that is not valid.
func invalidLink(err error) bool {
	switch belfry.KindOf(err) {
	case belfry.NotFound, belfry.Invalid, belfry.Malformed, belfry.Unauthorised, belfry.Forbidden:
		return true
	}
	return false
}

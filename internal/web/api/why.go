package api

import (
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

var whyPage = template.Must(template.ParseFS(pages, "pages/why.html"))

// whyView is what the page shows; without Why, that a link is not good.
type whyView struct {
	Why *belfry.Why
	*words.Printer
}

type askWhy struct {
	ThingPath
	Language string `header:"Accept-Language" doc:"Of the texts: English, Spanish, French or German"`
}

// whyRoutes say why one message came, or did not.
func (s *Server) whyRoutes() {
	route(s, spec{id: "whyMessage", method: http.MethodGet, path: "/v1/deliveries/{id}/why", tag: "Deliveries", may: auth.Read, summary: "Say all about one message",
		detail: "Of a delivery, or an inbox entry: what happened, which subscription and rule named the recipient, what decided the channel, when and where it went, how the sends ended, and how the recipient changes it, with links that work for her."},
		func(ctx context.Context, c *call, in *askWhy) (*reply[belfry.Why], error) {
			w, err := s.Explain.Why(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			say(&w, words.Accepting(in.Language, "en"))
			return &reply[belfry.Why]{Status: http.StatusOK, Body: w}, nil
		})
	s.mux.HandleFunc("GET /why/{token}", s.showWhy)
	doc := s.huma.OpenAPI()
	text := &huma.Schema{Type: huma.TypeString}
	doc.AddOperation(&huma.Operation{OperationID: "showWhy", Method: http.MethodGet, Path: "/why/{token}", Tags: []string{"Public"},
		Parameters: []*huma.Param{{Name: "token", In: "path", Required: true, Schema: text}},
		Summary:    "Say why a message came", Description: "The link of a message leads here; it shows what is about its recipient, and nothing else. A page, or JSON where that is accepted.",
		Responses: map[string]*huma.Response{"200": {Description: "The page, also for links that are not valid", Content: map[string]*huma.MediaType{
			"text/html": {Schema: text}, "application/json": {Schema: doc.Components.Schemas.Schema(reflect.TypeFor[belfry.Why](), true, "")}}}}})
}

// say puts the texts of an answer into a reader's language.
func say(w *belfry.Why, p *words.Printer) {
	for _, list := range [][]belfry.ReasonView{w.Named, w.Decided} {
		for i := range list {
			list[i].Text = p.Reason(list[i].Reason)
		}
	}
	if g := w.Subscription.Gone; g != nil {
		g.Text = p.Reason(g.Reason)
	}
	for i := range w.Change {
		w.Change[i].Text = p.Say("why." + w.Change[i].Code)
	}
}

// showWhy answers alike for every link that is not valid, as the page that ends
// subscriptions does.
func (s *Server) showWhy(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	found, err := s.Public.Why(r.Context(), r.PathValue("token"))
	v := whyView{Why: &found}
	if err != nil {
		switch belfry.KindOf(err) {
		case belfry.NotFound, belfry.Invalid, belfry.Malformed, belfry.Unauthorised, belfry.Forbidden:
			c.err = err
			v.Why = nil
		default:
			c.fail(w, err)
			return
		}
	}
	v.Printer = words.Accepting(r.Header.Get("Accept-Language"), found.Locale)
	say(&found, v.Printer)
	h := w.Header()
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Vary", "Accept, Accept-Language")
	h.Set("Content-Language", v.Language())
	if accept := r.Header.Get("Accept"); strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html") {
		if v.Why == nil {
			c.fail(w, belfry.Errorf(belfry.NotFound, "this link is not valid, or no longer"))
			return
		}
		h.Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v.Why); err != nil {
			c.err = err
		}
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	if err := whyPage.Execute(w, v); err != nil {
		c.err = err
	}
}

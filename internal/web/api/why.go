package api

import (
	"context"
	"encoding/json"

	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

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
	op := s.linked(spec{id: "showWhy", method: http.MethodGet, path: "/why/{token}", summary: "Say why a message came",
		detail: "The link of a message leads here; it shows what is about its recipient, and nothing else. A page, or JSON where that is accepted."}, s.showWhy)
	op.Responses["200"].Content["application/json"] = &huma.MediaType{Schema: s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[belfry.Why](), true, "")}
}

func (s *Server) showWhy(w http.ResponseWriter, r *http.Request) {
	found, err := s.Public.Why(r.Context(), r.PathValue("token"))
	reader := words.Accepting(r.Header.Get("Accept-Language"), found.Locale)
	say(&found, reader)
	w.Header().Set("Vary", "Accept")
	if accept := r.Header.Get("Accept"); !strings.Contains(accept, "application/json") || strings.Contains(accept, "text/html") {
		page(w, r, whyPage, linkView{State: "open", About: found, Locale: found.Locale}, err)
		return
	}
	c := callOf(r.Context())
	if err != nil {
		if invalidLink(err) {
			err = belfry.Errorf(belfry.NotFound, "this link is not valid, or no longer")
		}
		c.fail(w, err)
		return
	}
	publicHead(w.Header(), reader)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(found); err != nil {
		c.err = err
	}
}

package api

import (
	"encoding/json"
	"io/fs"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui/v5emb"
)

// description configures huma: no page of its own (it loads scripts from a
// public server), no $schema links in answers (they repeat the Host header),
// parameters nobody knows are refused, and errors become problems.
func description(version string) huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "Belfry", Version: version,
				Description: "What happens on a platform reaches the right people, and every decision can be explained. Errors are problems (RFC 9457) whose types lead to their documentation; lists are paged by `next` and `?after=`; unknown fields and parameters are refused by name.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}},
			Components: &huma.Components{Schemas: registry, SecuritySchemes: map[string]*huma.SecurityScheme{
				"key": {Type: "http", Scheme: "bearer", Description: "A key (bfy_...). Root keys name the tenant by the header Belfry-Tenant."}}},
			Tags: []*huma.Tag{
				{Name: "Events"}, {Name: "Catalogue", Description: "Event types"}, {Name: "Objects"}, {Name: "People"}, {Name: "Inbox"}, {Name: "Subscriptions"}, {Name: "Presets", Description: "Subscriptions predefined for those who administer a part of the tree"}, {Name: "Notifications", Description: "Messages about objects, sent by hand"},
				{Name: "Deliveries"}, {Name: "Jobs"}, {Name: "Channels"}, {Name: "Endpoints"}, {Name: "Sources"}, {Name: "Templates"}, {Name: "Keys"}, {Name: "Tenants"}, {Name: "Nodes"}, {Name: "Settings"}, {Name: "Configuration", Description: "All of it as one file"}, {Name: "Audit"},
				{Name: "Public", Description: "For people who hold a link"}, {Name: "Health"}},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{humaProblem},
	}
}

// docsRoutes serve the description and its browser, all from this binary.
// They come last: the description is written once, when it is complete.
func (s *Server) docsRoutes() {
	doc := s.huma.OpenAPI()
	for _, p := range []struct{ id, path, summary string }{
		{"openapi", "/openapi.json", "This description"}, {"docs", "/docs", "This description, to be read and tried"},
	} {
		doc.AddOperation(&huma.Operation{OperationID: p.id, Method: http.MethodGet, Path: p.path, Tags: []string{"Health"}, Summary: p.summary,
			Responses: map[string]*huma.Response{"200": {Description: "It"}}})
	}
	delete(doc.Components.Schemas.Map(), "ErrorModel") // huma's own; answers are Problems
	delete(doc.Components.Schemas.Map(), "ErrorDetail")
	for t := range shortForms {
		if s := doc.Components.Schemas.Map()[t.Name()]; s != nil {
			long := *s
			*s = huma.Schema{Description: "The word alone, or the whole form.", OneOf: []*huma.Schema{{Type: huma.TypeString}, &long}}
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic("the OpenAPI description cannot be written: " + err.Error())
	}
	s.spec = text
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(s.spec)
	})
	assets := v5emb.New("Belfry API", "/openapi.json", "/docs/")
	page := func(name, media, csp string) http.HandlerFunc {
		text, err := fs.ReadFile(pages, "pages/"+name)
		if err != nil {
			panic("an embedded page is missing: " + err.Error())
		}
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			if csp != "" {
				w.Header().Set("Content-Security-Policy", csp)
			}
			_, _ = w.Write(text)
		}
	}
	// Swagger UI sets styles on elements and draws data: images; scripts are
	// files only.
	const csp = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	s.mux.HandleFunc("GET /docs", page("docs.html", "text/html; charset=utf-8", csp))
	s.mux.HandleFunc("GET /docs/start.js", page("start.js", "text/javascript; charset=utf-8", ""))
	s.mux.HandleFunc("GET /u/page.css", page("page.css", "text/css; charset=utf-8", ""))
	s.mux.HandleFunc("GET /docs/{file}", func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("file") {
		case "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png":
			w.Header().Set("Cache-Control", "public, max-age=86400")
			assets.ServeHTTP(w, r)
		default:
			callOf(r.Context()).fail(w, newProblem(http.StatusNotFound, "there is no such page: see /docs"))
		}
	})
}

package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/manage"
)

// Importer takes and gives tables of who joined what.
type Importer interface {
	// ImportMembers finds faults of the whole table; running what it gives does
	// the work.
	ImportMembers(ctx context.Context, by By, in io.Reader, o manage.ImportOptions) (*manage.Import, error)
	ExportMembers(ctx context.Context, tenant, subscription string, out io.Writer) error
}

// Imported is the answer to an import.
type Imported struct {
	DryRun bool                 `json:"dry_run,omitempty" doc:"Nothing was done"`
	Items  []manage.ImportedRow `json:"items" doc:"In the order of the rows"`
	Totals manage.ImportTotals  `json:"totals"`
	Error  string               `json:"error,omitempty" doc:"Why it ended early: the rows that are listed are done"`
}

// Importing is how an import is asked for.
type Importing struct {
	DryRun bool `query:"dry_run" doc:"Say of each row what would become of it, and do nothing"`
	Ask    bool `query:"ask" doc:"Invite whom the rows name, instead of adding them"`
}

const importDetail = "A CSV table in UTF-8 whose first row names the columns, or a list of addresses, one a line. Each row is carried out by itself; rows that are refused say why, and sending the whole again changes nothing of the others. " +
	"Who left by herself is not joined again by a list, and what somebody chose who joined by herself stays. "

func (s *Server) importRoutes() {
	const all, one = "/v1/subscriptions", "/v1/subscriptions/{id}/members"
	s.importRoute(spec{id: "importSubscriptions", method: http.MethodPost, path: all + ":import", tag: "Subscriptions", may: auth.Admin, summary: "Subscribe people out of a table",
		detail: importDetail + "Columns: user or email; types, object, applies, object_types and filter, or subscription; joined_at, channels, frequency. Rows of the same criteria share one subscription."})
	s.exportRoute(spec{id: "exportSubscriptions", method: http.MethodGet, path: all + ":export", tag: "Subscriptions", may: auth.Admin, summary: "Write who joined which subscription as a table",
		detail: "A row a member, in the columns that the import takes. What a spreadsheet would compute begins with an apostrophe, which the import takes off."}, "subscriptions.csv")
	s.importRoute(spec{id: "importMembers", method: http.MethodPost, path: one + ":import", tag: "Subscriptions", may: auth.Admin, summary: "Add members out of a table",
		detail: importDetail + "Columns: user or email; joined_at, channels, frequency."})
	s.exportRoute(spec{id: "exportMembers", method: http.MethodGet, path: one + ":export", tag: "Subscriptions", may: auth.Admin, summary: "Write who joined as a table",
		detail: "In the columns that the import takes."}, "members.csv")
}

func (s *Server) importRoute(sp spec) {
	imports := func(ctx context.Context, c *call, subscription string, in Importing) (*huma.StreamResponse, error) {
		if p := tableMediaType(c.r.Header.Get("Content-Type")); p != nil {
			return nil, p
		}
		// Read to its end before anything is answered: a client that sends all
		// and then reads would else wait for a server that waits for it.
		raw, err := readAll(c.r, maxBatchBytes)
		if err != nil {
			return nil, err
		}
		run, err := s.Manage.ImportMembers(ctx, c.by(), bytes.NewReader(raw), manage.ImportOptions{Subscription: subscription, DryRun: in.DryRun, Ask: in.Ask})
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			hc.SetHeader("Content-Type", "application/json")
			hc.SetStatus(http.StatusOK)
			w := hc.BodyWriter().(http.ResponseWriter)
			out := bufio.NewWriterSize(patient{w, http.NewResponseController(w)}, 64<<10)
			if err := writeImport(hc.Context(), c, run, in.DryRun, out); err != nil {
				c.err = err
				panic(http.ErrAbortHandler) // an answer that is not whole must not look whole
			}
		}}, nil
	}
	if sp.path == "/v1/subscriptions:import" {
		route(s, sp, func(ctx context.Context, c *call, in *struct {
			Keyed
			Importing
		}) (*huma.StreamResponse, error) {
			return imports(ctx, c, "", in.Importing)
		})
	} else {
		route(s, sp, func(ctx context.Context, c *call, in *struct {
			ThingPath
			Keyed
			Importing
		}) (*huma.StreamResponse, error) {
			return imports(ctx, c, string(in.ID), in.Importing)
		})
	}
	op := operationAt(s.huma.OpenAPI(), sp.method, sp.path)
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"text/csv": text}}
	registry := s.huma.OpenAPI().Components.Schemas
	op.Responses["200"] = &huma.Response{Description: "What became of each row", Content: map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(reflect.TypeFor[Imported](), true, "")}}}
}

// writeImport runs an import and writes an Imported as it goes, so that neither
// side holds it all.
func writeImport(ctx context.Context, c *call, run *manage.Import, dry bool, out *bufio.Writer) error {
	_, _ = out.WriteString(`{"dry_run":` + strconv.FormatBool(dry) + `,"items":[`) // a bufio.Writer keeps its first error
	between := ""
	totals, failed := run.Run(ctx, func(r manage.ImportedRow) error {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, _ = out.WriteString(between)
		between = ",\n"
		_, err = out.Write(line)
		return err
	})
	rest, err := json.Marshal(totals)
	if err != nil {
		return err
	}
	_, _ = out.WriteString(`],"totals":` + string(rest))
	if failed != nil {
		why, err := json.Marshal(c.problem(failed).Detail)
		if err != nil {
			return err
		}
		_, _ = out.WriteString(`,"error":` + string(why))
	}
	_, _ = out.WriteString("}\n")
	return out.Flush()
}

func (s *Server) exportRoute(sp spec, file string) {
	exports := func(c *call, subscription string) (*huma.StreamResponse, error) {
		if subscription != "" { // before the answer begins
			if _, err := s.Manage.Subscription(c.r.Context(), c.tenant(), subscription); err != nil {
				return nil, err
			}
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			hc.SetHeader("Content-Type", "text/csv; charset=utf-8")
			hc.SetHeader("Content-Disposition", `attachment; filename="`+file+`"`)
			hc.SetStatus(http.StatusOK)
			w := hc.BodyWriter().(http.ResponseWriter)
			out := bufio.NewWriterSize(patient{w, http.NewResponseController(w)}, 64<<10)
			err := s.Manage.ExportMembers(hc.Context(), c.tenant(), subscription, out)
			if err == nil {
				err = out.Flush()
			}
			if err != nil {
				c.err = err
				panic(http.ErrAbortHandler) // an answer that is not whole must not look whole
			}
		}}, nil
	}
	if sp.path == "/v1/subscriptions:export" {
		route(s, sp, func(_ context.Context, c *call, _ *struct{}) (*huma.StreamResponse, error) { return exports(c, "") })
	} else {
		route(s, sp, func(_ context.Context, c *call, in *ThingPath) (*huma.StreamResponse, error) {
			return exports(c, string(in.ID))
		})
	}
	op := operationAt(s.huma.OpenAPI(), sp.method, sp.path)
	op.Responses["200"] = &huma.Response{Description: "A table with a head", Content: map[string]*huma.MediaType{"text/csv": {Schema: &huma.Schema{Type: huma.TypeString}}}}
}

// tableMediaType refuses bodies that say they are no table.
func tableMediaType(contentType string) *Problem {
	media, params, err := mime.ParseMediaType(contentType)
	switch {
	case contentType == "":
	case err != nil || media != "text/csv" && media != "text/plain":
		return newProblem(http.StatusUnsupportedMediaType, "the body is "+strconv.Quote(clip(contentType, 80))+": send text/csv")
	case params["charset"] != "" && params["charset"] != "utf-8" && params["charset"] != "UTF-8":
		return newProblem(http.StatusUnsupportedMediaType, "the body's charset is not UTF-8: save the table as UTF-8")
	}
	return nil
}

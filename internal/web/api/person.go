package api

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// PersonManager gives out and erases all that is held about a person;
// *manage.Manager does.
type PersonManager interface {
	Export(ctx context.Context, by By, id string, put func(part string, value any) error) error
	EraseUser(ctx context.Context, by By, id string) (belfry.Job, error)
}

// Exported is a line of an export.
type Exported struct {
	Part  string `json:"part" doc:"user, settings, preferences, membership, opt_out, groups, grants, subscriptions, documents, deliveries and mails (each followed by its attempts), inbox, suppressions, history, events, audit, jobs; end is the last line"`
	Value any    `json:"value"`
}

// personRoutes are the calls about all that is held about a person.
func (s *Server) personRoutes() {
	type exporting struct {
		UserID
		Format string `query:"format" enum:"jsonl,zip" default:"jsonl" doc:"jsonl: a line each; zip: those lines as the file export.jsonl of an archive"`
	}
	const path = "/v1/users/{id}/export"
	route(s, spec{id: "exportUser", method: http.MethodGet, path: path, tag: "People", may: auth.Admin, summary: "Give out all that is held about a person",
		detail: "Profile, contacts (without their keys), settings, preferences, memberships, opt-outs, groups, roles, subscriptions and configuration that name her, deliveries with attempts, inbox, what she was not told and why, " +
			"workflow steps, events that name her, audit entries and jobs. Of a bare address, when the id is one that no user has. A line each, streamed; the last one is {\"part\":\"end\"}: without it the answer is not whole."},
		func(_ context.Context, c *call, in *exporting) (*huma.StreamResponse, error) {
			id := string(in.ID)
			ready := make(chan error, 1) // faults are answered as problems only before the stream begins
			lines := make(chan []byte, 64)
			failed := make(chan error, 1)
			ctx, stop := context.WithCancel(c.r.Context())
			go func() {
				defer close(lines)
				begun := false
				put := func(part string, value any) error {
					line, err := json.Marshal(Exported{part, value})
					if err != nil {
						return err
					}
					if !begun {
						begun = true
						ready <- nil
					}
					select {
					case lines <- append(line, '\n'):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				err := s.export(ctx, c, id, put)
				if err == nil {
					err = put("end", nil)
				}
				if !begun {
					ready <- err
				}
				failed <- err
			}()
			if err := <-ready; err != nil {
				stop()
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				defer stop()
				name, media := "export.jsonl", "application/jsonl"
				if in.Format == "zip" {
					name, media = "export.zip", "application/zip"
				}
				hc.SetHeader("Content-Type", media)
				hc.SetHeader("Content-Disposition", `attachment; filename="`+name+`"`)
				hc.SetStatus(http.StatusOK)
				w := hc.BodyWriter().(http.ResponseWriter)
				out := bufio.NewWriterSize(patient{w, http.NewResponseController(w)}, 64<<10)
				err := writeExport(out, in.Format == "zip", lines)
				if err == nil {
					err = <-failed
				}
				if err == nil {
					err = out.Flush()
				}
				if err != nil {
					c.err = err
					stop()
					for range lines { // whoever writes them sees the end
					}
					panic(http.ErrAbortHandler) // an answer that is not whole must not look whole
				}
			}}, nil
		})
	op := operationAt(s.huma.OpenAPI(), http.MethodGet, path)
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	op.Responses["200"] = &huma.Response{Description: "A JSON object a line", Content: map[string]*huma.MediaType{"application/jsonl": text, "application/zip": text}}

	type erasing struct {
		UserID
		Keyed
	}
	route(s, spec{id: "eraseUser", method: http.MethodPost, path: "/v1/users/{id}/erase", tag: "People", may: auth.Admin, status: http.StatusAccepted,
		summary: "Erase a person everywhere",
		detail: "What an export shows goes, or stays without her: profile, contacts, memberships, opt-outs, groups, roles and inbox are removed; in deliveries, reasons, workflow steps, events, audit and jobs something else stands for her " +
			"(erased_...), the same everywhere. What is on its way to her is cancelled. Answers with a job that goes on after a crash; ordering it again is harmless. Of a bare address, when the id is one that no user has. " +
			"Put the person again only when the job is done: she then starts anew."},
		func(ctx context.Context, c *call, in *erasing) (*reply[JobView], error) {
			return ordered(s.Manage.EraseUser(ctx, c.by(), string(in.ID)))
		})
}

// export ends a panic as the edge does, which does not see this goroutine.
func (s *Server) export(ctx context.Context, c *call, id string, put func(part string, value any) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return s.Manage.Export(ctx, c.by(), id, put)
}

// exportWrite is how long a reader of an export may take for 64 KiB; whoever
// takes nothing for so long is gone, and holds nothing any more.
const exportWrite = time.Minute

// patient gives each piece a time of its own, so that a long answer may take
// long but a reader who stopped does not keep it for ever.
type patient struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(exportWrite)) // not every writer has deadlines
	n, err := p.w.Write(b)
	if err == nil {
		_ = p.rc.SetWriteDeadline(time.Time{}) // the connection may serve another call
	}
	return n, err
}

// writeExport writes lines as they come.
func writeExport(out *bufio.Writer, zipped bool, lines <-chan []byte) error {
	var into io.Writer = out
	var archive *zip.Writer
	if zipped {
		archive = zip.NewWriter(out)
		var err error
		if into, err = archive.Create("export.jsonl"); err != nil {
			return err
		}
	}
	for line := range lines {
		if _, err := into.Write(line); err != nil {
			return err
		}
	}
	if archive != nil {
		return archive.Close()
	}
	return nil
}

package api

import (
	"context"
	"html/template"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// AckManager notes that people have taken notice of events.
type AckManager interface {
	// Acknowledge is NotFound for whoever was not told of the event.
	Acknowledge(ctx context.Context, by By, eventID, who, how string) error
	AcknowledgeInbox(ctx context.Context, by By, user string, ids []string) (int, error)
}

// Notice is what an acknowledging link is about.
type Notice struct {
	Title string // of the event, in words
	Who   string // the address or name it was made for
	Done  bool   // it was acknowledged before

	Locale string // of her profile
}

// Notices serves those who hold an acknowledging link.
type Notices interface {
	// Noticed says what the token is about; NotFound for tokens that are
	// unknown, expired, or of something that is gone.
	Noticed(ctx context.Context, token string) (Notice, error)
	// Acknowledge takes it; repeating it changes nothing. NotFound as Noticed.
	Acknowledge(ctx context.Context, token string) error
}

var acknowledgePage = template.Must(template.ParseFS(pages, "pages/acknowledge.html"))

// noticeView is what the page shows.
type noticeView struct {
	*words.Printer
	State  string // offer | done | gone
	Notice Notice
}

// Noticing names who has taken notice.
type Noticing struct {
	Who string `json:"who" doc:"A user, or an address that was told" maxLength:"512"`
}

func (s *Server) acknowledgeRoutes() {
	route(s, spec{id: "acknowledgeInbox", method: http.MethodPost, path: "/v1/users/{id}/inbox/acknowledge", tag: "Inbox", may: auth.Admin,
		summary: "Acknowledge entries", detail: "The user has taken notice of what the entries are about: they are marked read, what else was to be sent to her of it is cancelled, and nobody else is called."},
		func(ctx context.Context, c *call, in *struct {
			UserID
			Keyed
			body[Marking]
		}) (*reply[Marked], error) {
			switch {
			case in.Value.All || len(in.Value.IDs) == 0:
				return nil, belfry.Faults([]belfry.Field{{Pointer: "/ids", Message: "names the entries: nobody takes notice of all there are"}})
			case len(in.Value.IDs) > 100:
				return nil, belfry.Faults([]belfry.Field{{Pointer: "/ids", Message: "has at most 100 entries"}})
			}
			n, err := s.Manage.AcknowledgeInbox(ctx, c.by(), string(in.ID), in.Value.IDs)
			if err != nil {
				return nil, err
			}
			p, err := s.Inbox.Items(ctx, c.tenant(), string(in.ID), InboxQuery{Limit: 1})
			if err != nil {
				return nil, err
			}
			return &reply[Marked]{Status: http.StatusOK, Body: Marked{Changed: n, Unread: p.Unread}}, nil
		})
	route(s, spec{id: "acknowledgeEvent", method: http.MethodPost, path: "/v1/events/{id}/acknowledge", tag: "Events", may: auth.Admin,
		summary: "Acknowledge an event for somebody", detail: "As the link in her message does: her inbox entries are marked read, what else was to be sent to her is cancelled, and nobody else is called. Who was not told of the event is 404."},
		func(ctx context.Context, c *call, in *struct {
			ThingPath
			Keyed
			body[Noticing]
		}) (*nothing, error) {
			if in.Value.Who == "" {
				return nil, belfry.Faults([]belfry.Field{{Pointer: "/who", Message: "is required: a user, or an address that was told"}})
			}
			return &nothing{}, s.Manage.Acknowledge(ctx, c.by(), string(in.ID), in.Value.Who, belfry.ByAPI)
		})

	s.mux.HandleFunc("GET /a/{token}", s.showNotice)
	s.mux.HandleFunc("POST /a/{token}", s.takeNotice)
	doc := s.huma.OpenAPI()
	token := []*huma.Param{{Name: "token", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}}
	html := func(description string) map[string]*huma.Response {
		return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{"text/html": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	}
	doc.AddOperation(&huma.Operation{OperationID: "showNotice", Method: http.MethodGet, Path: "/a/{token}", Tags: []string{"Public"}, Parameters: token,
		Summary: "A page that offers to acknowledge", Description: "The link of a message leads here. Nothing is acknowledged by looking: mail scanners follow links.",
		Responses: html("The page, also for links that are not valid")})
	doc.AddOperation(&huma.Operation{OperationID: "takeNotice", Method: http.MethodPost, Path: "/a/{token}", Tags: []string{"Public"}, Parameters: token,
		Summary: "Acknowledge an event", Description: "The page's button. Repeating it changes nothing.",
		Responses: html("A page that says it is done")})
}

func (s *Server) showNotice(w http.ResponseWriter, r *http.Request) {
	n, err := s.Notices.Noticed(r.Context(), r.PathValue("token"))
	v := noticeView{State: "offer", Notice: n}
	if n.Done {
		v.State = "done"
	}
	s.noticePage(w, r, callOf(r.Context()), v, err)
}

func (s *Server) takeNotice(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	if _, err := readAll(r, 64<<10); err != nil { // nothing of it is needed
		c.fail(w, err)
		return
	}
	n, err := s.Notices.Noticed(r.Context(), r.PathValue("token"))
	if err == nil && !n.Done {
		err = s.Notices.Acknowledge(r.Context(), r.PathValue("token"))
	}
	s.noticePage(w, r, c, noticeView{State: "done", Notice: n}, err)
}

// noticePage answers alike for every link that is not valid, as page does.
func (s *Server) noticePage(w http.ResponseWriter, r *http.Request, c *call, v noticeView, err error) {
	if err != nil && invalidLink(err) {
		c.err, err, v = err, nil, noticeView{State: "gone"}
	}
	if err != nil {
		c.fail(w, err)
		return
	}
	publicHead(w.Header())
	w.Header().Set("Vary", "Accept-Language")
	v.Printer = words.Accepting(r.Header.Get("Accept-Language"), v.Notice.Locale)
	w.Header().Set("Content-Language", v.Language())
	if err := acknowledgePage.Execute(w, v); err != nil {
		c.err = err
	}
}

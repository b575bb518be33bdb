package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
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
			return s.marked(ctx, c, string(in.ID), n)
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

	s.linked(spec{id: "showNotice", method: http.MethodGet, path: "/a/{token}", summary: "A page that offers to acknowledge",
		detail: "The link of a message leads here. Nothing is acknowledged by looking: mail scanners follow links."}, s.showNotice)
	s.linked(spec{id: "takeNotice", method: http.MethodPost, path: "/a/{token}", summary: "Acknowledge an event",
		detail: "The page's button. Repeating it changes nothing."}, s.takeNotice)
}

func (s *Server) showNotice(w http.ResponseWriter, r *http.Request) {
	n, err := s.Notices.Noticed(r.Context(), r.PathValue("token"))
	v := linkView{State: "offer", About: n, Locale: n.Locale}
	if n.Done {
		v.State = "done"
	}
	page(w, r, acknowledgePage, v, err)
}

func (s *Server) takeNotice(w http.ResponseWriter, r *http.Request) {
	n, err := s.Notices.Noticed(r.Context(), r.PathValue("token"))
	if err == nil && !n.Done {
		err = s.Notices.Acknowledge(r.Context(), r.PathValue("token"))
	}
	page(w, r, acknowledgePage, linkView{State: "done", About: n, Locale: n.Locale}, err)
}

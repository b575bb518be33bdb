package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// TemplateManager keeps templates. An empty object means everywhere.
type TemplateManager interface {
	Templates(ctx context.Context, tenant, object, after string, limit int) ([]belfry.Template, string, error)
	Template(ctx context.Context, tenant, name, object string) (belfry.Template, int64, error)
	PutTemplate(ctx context.Context, by By, t belfry.Template, match Expect) (stored belfry.Template, version int64, created bool, err error)
	DeleteTemplate(ctx context.Context, by By, name, object string, match Expect) error
}

// Previewer renders drafts of templates.
type Previewer interface {
	// Preview renders a draft for an event, stored (with its EventID) or only
	// supposed. Invalid with pointers such as /subject and /body when it does not
	// compile.
	Preview(ctx context.Context, tenant string, d *PreviewDraft, e *belfry.Accepted) (Preview, error)
}

// PreviewDraft is a template to be tried, or the name of one that is stored.
type PreviewDraft struct {
	Subject   string                         `json:"subject,omitempty"`
	Body      string                         `json:"body,omitempty"`
	Locales   map[string]belfry.Words        `json:"locales,omitempty"`
	Channels  map[string]belfry.ChannelWords `json:"channels,omitempty"`
	Template  string                         `json:"template,omitempty" doc:"The name of a stored one instead: the closest to the event's object"`
	Event     string                         `json:"event,omitempty" doc:"evt_..., a stored event"`
	Sample    *belfry.Event                  `json:"sample,omitempty" doc:"An event that need not exist"`
	Recipient string                         `json:"recipient,omitempty" doc:"The user who reads it: name, language and time zone"`
	Locale    string                         `json:"locale,omitempty" doc:"Another language than the recipient's (BCP 47)"`
	Channel   string                         `json:"channel,omitempty" doc:"As on this channel; with mail when it is not the inbox"`
}

// Preview is what a template makes of an event.
type Preview struct {
	Title string       `json:"title"`
	Text  string       `json:"text"`
	HTML  string       `json:"html"`
	Mail  *PreviewMail `json:"mail,omitempty" doc:"The whole message as it would be sent, but for its links"`
}

// PreviewMail is the whole message.
type PreviewMail struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
	HTML    string `json:"html"`
}

const templateDetail = "subject is one line, body is Markdown; both with mustache values of the event. locales are the same in other languages, channels what is said otherwise on one of them; " +
	"what is empty is taken from the next less special wording. Unknown values are refused with their place."

func (s *Server) templateRoutes() {
	route(s, spec{id: "listTemplates", method: http.MethodGet, path: "/v1/templates", tag: "Templates", may: auth.Read, summary: "List templates",
		detail: "All of them, those at objects too; with object, those at that object."},
		func(ctx context.Context, c *call, in *struct {
			Paging
			Object string `query:"object" maxLength:"1000"`
		}) (*reply[list[belfry.Template]], error) {
			ts, next, err := s.Manage.Templates(ctx, c.tenant(), in.Object, in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ts, next), nil
		})
	crud[belfry.Template]{name: "template", path: "/v1/templates", tag: "Templates",
		idOf: func(t *belfry.Template) *string { return &t.Name }, pointer: "/name",
		get: func(ctx context.Context, tenant, name string) (belfry.Template, int64, error) {
			return s.Manage.Template(ctx, tenant, name, "")
		},
		put: func(ctx context.Context, by By, t belfry.Template, match Expect) (belfry.Template, int64, bool, error) {
			if t.Object != "" {
				return t, 0, false, belfry.Faults([]belfry.Field{{Pointer: "/object", Message: "a template at an object is put with PUT /v1/objects/{id}/templates/{name}"}})
			}
			return s.Manage.PutTemplate(ctx, by, t, match)
		},
		drop: func(ctx context.Context, by By, name string, match Expect) error {
			return s.Manage.DeleteTemplate(ctx, by, name, "", match)
		},
		detail: templateDetail}.routes(s)
	s.localTemplateRoutes()
	route(s, spec{id: "previewTemplate", method: http.MethodPost, path: "/v1/templates/preview", tag: "Templates", may: auth.Read, summary: "Show what a draft makes of an event",
		detail: "Names a stored event by event, or brings one by sample. Nothing is stored or sent."},
		func(ctx context.Context, c *call, in *struct{ body[PreviewDraft] }) (*reply[Preview], error) {
			if d := &in.Value; d.Template != "" && (d.Subject != "" || d.Body != "" || len(d.Locales) > 0 || len(d.Channels) > 0) {
				return nil, belfry.Faults([]belfry.Field{{Pointer: "/template", Message: "either names a stored template or brings the words of a draft"}})
			}
			sample, err := s.sample(ctx, c, &in.Value)
			if err != nil {
				return nil, err
			}
			p, err := s.Preview.Preview(ctx, c.tenant(), &in.Value, sample)
			return &reply[Preview]{Status: http.StatusOK, Body: p}, err
		})
}

// LocalTemplate names a template at an object.
type LocalTemplate struct {
	ID   PathID `path:"id"`
	Name string `path:"name" maxLength:"100"`
	Matching
}

func (s *Server) localTemplateRoutes() {
	const item = "/v1/objects/{id}/templates/{name}"
	route(s, spec{id: "getObjectTemplate", method: http.MethodGet, path: item, tag: "Templates", may: auth.Read, summary: "Get one that holds at an object and below it"},
		func(ctx context.Context, c *call, in *LocalTemplate) (*reply[belfry.Template], error) {
			t, version, err := s.Manage.Template(ctx, c.tenant(), in.Name, string(in.ID))
			if err != nil {
				return nil, err
			}
			return found(&in.Matching, version, t), nil
		})
	route(s, spec{id: "putObjectTemplate", method: http.MethodPut, path: item, tag: "Templates", may: auth.Admin, summary: "Create or replace one that holds at an object and below it",
		detail: "Of the templates of one name the closest to an event's object counts, as a whole. " + templateDetail},
		func(ctx context.Context, c *call, in *struct {
			LocalTemplate
			body[belfry.Template]
		}) (*reply[belfry.Template], error) {
			if err := sameID(&in.Value.Name, in.Name, "/name"); err != nil {
				return nil, err
			}
			if err := sameID(&in.Value.Object, string(in.ID), "/object"); err != nil {
				return nil, err
			}
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			t, version, created, err := s.Manage.PutTemplate(ctx, c.by(), in.Value, match)
			if err != nil {
				return nil, err
			}
			return stored(version, created, "/v1/objects/"+encodePathID(string(in.ID))+"/templates/"+t.Name, t), nil
		})
	route(s, spec{id: "deleteObjectTemplate", method: http.MethodDelete, path: item, tag: "Templates", may: auth.Admin, summary: "Delete one that holds at an object"},
		func(ctx context.Context, c *call, in *LocalTemplate) (*nothing, error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.Manage.DeleteTemplate(ctx, c.by(), in.Name, string(in.ID), match)
		})
}

// sample finds the event of a preview.
func (s *Server) sample(ctx context.Context, c *call, d *PreviewDraft) (*belfry.Accepted, error) {
	switch {
	case d.Event != "" && d.Sample != nil:
		return nil, belfry.Faults([]belfry.Field{{Pointer: "/sample", Message: "goes without event"}})
	case d.Sample != nil:
		return &belfry.Accepted{Tenant: c.tenant(), At: s.Now(), Event: d.Sample}, nil
	case d.Event == "":
		return nil, belfry.Faults([]belfry.Field{{Pointer: "/event", Message: "name a stored event here, or bring one as sample"}})
	}
	events, err := s.Events.Events(ctx, c.tenant(), []string{d.Event})
	if err != nil {
		return nil, err
	}
	if e := events[d.Event]; e != nil {
		return e, nil
	}
	return nil, belfry.Faults([]belfry.Field{{Pointer: "/event", Message: "there is no such event"}})
}

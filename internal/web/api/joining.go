package api

import (
	"context"
	"html/template"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/words"
)

// Values of package manage as the calls use them.
type (
	Joiner      = manage.Joiner
	JoinAnswer  = manage.JoinAnswer
	Invitation  = manage.Invitation
	PendingJoin = manage.PendingJoin
	JoinOffer   = manage.JoinOffer
	Wish        = manage.Wish
	Subscribed  = manage.Subscribed
	Membership  = manage.Membership
)

// JoiningManager lets people join and leave by themselves.
type JoiningManager interface {
	Join(ctx context.Context, by By, subscription string, j Joiner) (JoinAnswer, error)
	Leave(ctx context.Context, by By, subscription string, j Joiner) (JoinAnswer, error)
	Invite(ctx context.Context, by By, subscription string, v Invitation) (invited int, err error)
	// Subscribe makes a user a member of the one subscription for her wish.
	Subscribe(ctx context.Context, by By, user string, w Wish) (Subscribed, error)
	Memberships(ctx context.Context, tenant, user, after string, limit int) ([]Membership, string, error)
	PendingJoins(ctx context.Context, tenant, subscription, after string, limit int) ([]PendingJoin, string, error)
}

// Asking serves those who hold a link that asks them something; NotFound for
// links that are unknown, over or used for something that is gone.
type Asking interface {
	Asked(ctx context.Context, token string) (JoinOffer, error)
	Answer(ctx context.Context, token string) (JoinOffer, error)
}

// Invited says how many were asked.
type Invited struct {
	Invited int `json:"invited" doc:"Who is a member already is not asked"`
}

type joiningIn struct {
	ThingPath
	Keyed
	body[Joiner]
}

func (s *Server) joiningRoutes() {
	s.wishRoutes()
	const item = "/v1/subscriptions/{id}"
	answered := func(a JoinAnswer, err error, done int) (*reply[JoinAnswer], error) {
		if err != nil {
			return nil, err
		}
		status := done
		if a.State == manage.Asked {
			status = http.StatusAccepted
		}
		return &reply[JoinAnswer]{Status: status, Body: a}, nil
	}
	route(s, spec{id: "joinSubscription", method: http.MethodPost, path: item + "/join", tag: "Subscriptions", may: auth.Admin, status: http.StatusCreated,
		summary: "Let a user or an address join by themselves",
		detail: "If joining of the subscription lets them; members are added by administrators with /members. An address is answered 202 and asked by mail to confirm: " +
			"the answer is the same whether it is known or not. One such message at a time waits for an address's answer; more are sent when it came."},
		func(ctx context.Context, c *call, in *joiningIn) (*reply[JoinAnswer], error) {
			a, err := s.Manage.Join(ctx, c.by(), string(in.ID), in.Value)
			return answered(a, err, http.StatusCreated)
		})
	route(s, spec{id: "leaveSubscription", method: http.MethodPost, path: item + "/leave", tag: "Subscriptions", may: auth.Admin, summary: "Let a user or an address leave by themselves",
		detail: "With an object, of the join there; without, of the whole subscription, whatever else names them. An address is answered 202 and asked by mail to confirm, if it gets anything."},
		func(ctx context.Context, c *call, in *joiningIn) (*reply[JoinAnswer], error) {
			a, err := s.Manage.Leave(ctx, c.by(), string(in.ID), in.Value)
			return answered(a, err, http.StatusOK)
		})
	route(s, spec{id: "inviteToSubscription", method: http.MethodPost, path: item + "/invite", tag: "Subscriptions", may: auth.Admin, status: http.StatusAccepted,
		summary: "Ask users and addresses whether they want to join", detail: "Each gets a message with a link; who says yes joins, whoever may join by themselves."},
		func(ctx context.Context, c *call, in *struct {
			ThingPath
			Keyed
			body[Invitation]
		}) (*reply[Invited], error) {
			n, err := s.Manage.Invite(ctx, c.by(), string(in.ID), in.Value)
			if err != nil {
				return nil, err
			}
			return &reply[Invited]{Status: http.StatusAccepted, Body: Invited{n}}, nil
		})
	route(s, spec{id: "listPendingJoins", method: http.MethodGet, path: item + "/pending", tag: "Subscriptions", may: auth.Admin, summary: "List what waits for an answer by mail"},
		func(ctx context.Context, c *call, in *struct {
			ThingPath
			Paging
		}) (*reply[list[PendingJoin]], error) {
			ps, next, err := s.Manage.PendingJoins(ctx, c.tenant(), string(in.ID), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ps, next), nil
		})
}

func (s *Server) wishRoutes() {
	const path = "/v1/users/{id}/subscriptions"
	route(s, spec{id: "listUserSubscriptions", method: http.MethodGet, path: path, tag: "People", may: auth.Read, summary: "List what a user joined, everywhere",
		detail: "by says who added her; without it she joined by herself."},
		func(ctx context.Context, c *call, in *struct {
			ThingPath
			Paging
		}) (*reply[list[Membership]], error) {
			ms, next, err := s.Manage.Memberships(ctx, c.tenant(), string(in.ID), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ms, next), nil
		})
	route(s, spec{id: "subscribeUser", method: http.MethodPost, path: path, tag: "People", may: auth.Admin, status: http.StatusCreated, summary: "Subscribe a user to types of events at an object",
		detail: "She joins the one subscription for these criteria, which others share who want the same; it is made when there is none. What she leaves is " +
			"left with POST /v1/subscriptions/{id}/leave."},
		func(ctx context.Context, c *call, in *struct {
			ThingPath
			Keyed
			body[Wish]
		}) (*reply[Subscribed], error) {
			v, err := s.Manage.Subscribe(ctx, c.by(), string(in.ID), in.Value)
			if err != nil {
				return nil, err
			}
			return &reply[Subscribed]{Status: http.StatusCreated, Body: v}, nil
		})
}

var confirmPage = template.Must(template.ParseFS(pages, "pages/confirm.html"))

// confirmRoutes serve those who hold a link of a message that asks them.
func (s *Server) confirmRoutes() {
	s.mux.HandleFunc("GET /confirm/{token}", s.showConfirm)
	s.mux.HandleFunc("POST /confirm/{token}", s.confirm)
	doc := s.huma.OpenAPI()
	token := []*huma.Param{{Name: "token", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}}
	html := func(description string) map[string]*huma.Response {
		return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{"text/html": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	}
	doc.AddOperation(&huma.Operation{OperationID: "showConfirm", Method: http.MethodGet, Path: "/confirm/{token}", Tags: []string{"Public"}, Parameters: token,
		Summary: "A page that asks whether an address joins or leaves", Description: "The link of a message leads here. Nothing is confirmed by looking.",
		Responses: html("The page, also for links that are not valid")})
	doc.AddOperation(&huma.Operation{OperationID: "confirm", Method: http.MethodPost, Path: "/confirm/{token}", Tags: []string{"Public"}, Parameters: token,
		Summary: "Confirm that an address joins or leaves", Description: "The page's button does this. Repeating it changes nothing.",
		Responses: html("A page that says it is done")})
}

// confirmView is what the page shows.
type confirmView struct {
	Offer JoinOffer
	*words.Printer
}

// Heading is the page's title.
func (v confirmView) Heading() string {
	switch {
	case v.Offer.State == manage.OfferOpen && v.Offer.Leave:
		return v.Say("stop.title")
	case v.Offer.State == manage.OfferOpen:
		return v.Say("join.title")
	case v.Offer.State == manage.OfferDone && v.Offer.Leave:
		return v.Say("stop.done")
	case v.Offer.State == manage.OfferDone:
		return v.Say("join.done")
	case v.Offer.State == manage.OfferClosed:
		return v.Say("join.closed")
	}
	return v.Say("link.bad")
}

// Place says where it is joined; nothing for the whole scope.
func (v confirmView) Place() string {
	if v.Offer.Place == "" {
		return ""
	}
	return v.Say("joining.place", "Place", v.Offer.Place)
}

// showConfirm never confirms anything: mail scanners follow links.
func (s *Server) showConfirm(w http.ResponseWriter, r *http.Request) {
	offer, err := s.Asking.Asked(r.Context(), r.PathValue("token"))
	s.confirmation(w, r, offer, err)
}

func (s *Server) confirm(w http.ResponseWriter, r *http.Request) {
	if _, err := readAll(r, 64<<10); err != nil { // nothing of it is needed
		callOf(r.Context()).fail(w, err)
		return
	}
	offer, err := s.Asking.Answer(r.Context(), r.PathValue("token"))
	s.confirmation(w, r, offer, err)
}

// confirmation answers alike for every link that is not valid.
func (s *Server) confirmation(w http.ResponseWriter, r *http.Request, o JoinOffer, err error) {
	c := callOf(r.Context())
	if err != nil && invalidLink(err) {
		c.err, err, o = err, nil, JoinOffer{}
	}
	if err != nil {
		c.fail(w, err)
		return
	}
	v := confirmView{o, words.Accepting(r.Header.Get("Accept-Language"))}
	publicHead(w.Header())
	w.Header().Set("Vary", "Accept-Language")
	w.Header().Set("Content-Language", v.Language())
	if err := confirmPage.Execute(w, v); err != nil {
		c.err = err
	}
}

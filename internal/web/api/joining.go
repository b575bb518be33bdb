package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/manage"
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

// confirmRoutes serve those who hold a link of a message that asks them.
func (s *Server) confirmRoutes() {
	s.linked(spec{id: "showConfirm", method: http.MethodGet, path: "/confirm/{token}", summary: "A page that asks whether an address joins or leaves",
		detail: "The link of a message leads here. Nothing is confirmed by looking."}, confirmation(s.Asking.Asked))
	s.linked(spec{id: "confirm", method: http.MethodPost, path: "/confirm/{token}", summary: "Confirm that an address joins or leaves",
		detail: "The page's button does this. Repeating it changes nothing."}, confirmation(s.Asking.Answer))
}

func confirmation(offered func(context.Context, string) (JoinOffer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		offer, err := offered(r.Context(), r.PathValue("token"))
		page(w, r, confirmPage, linkView{State: offer.State, About: offer}, err)
	}
}

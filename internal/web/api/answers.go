package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// Interest says whether a subscription wants an event.
type Interest struct {
	Interested bool `json:"interested"`
	belfry.AnswerSubscription
}

// answerRoutes answer who gets what, where and why.
func (s *Server) answerRoutes() {
	type asking struct {
		ThingPath
		Keyed
	}
	const interested = "/v1/subscriptions/{id}/interested"
	route(s, spec{id: "isInterested", method: http.MethodPost, path: interested, tag: "Subscriptions", may: auth.Read, max: maxEventBytes + 4096,
		summary: "Say whether a subscription wants an event", detail: "Takes one event in any form POST /v1/events takes; nothing is stored. The last reason decides."},
		func(ctx context.Context, c *call, in *asking) (*reply[Interest], error) {
			e, err := s.supposed(ctx, c)
			if err != nil {
				return nil, err
			}
			a, err := s.Explain.Interested(ctx, c.tenant(), string(in.ID), e)
			return &reply[Interest]{Status: http.StatusOK, Body: Interest{a.Matched, a}}, err
		})
	s.takesEvent(interested)
	type recipients struct {
		ThingPath
		Paging
		Event  string `query:"event" doc:"A stored event (evt_...); without it, one of type at object is supposed" maxLength:"64"`
		Type   string `query:"type" maxLength:"255"`
		Object string `query:"object" maxLength:"512"`
	}
	route(s, spec{id: "listRecipients", method: http.MethodGet, path: "/v1/subscriptions/{id}/recipients", tag: "Subscriptions", may: auth.Read,
		summary: "List whom a subscription would tell", detail: "By today's rules and people, whether or not its filter wants the event; the answer has the form of a trace, and nothing is sent."},
		func(ctx context.Context, c *call, in *recipients) (*reply[belfry.Answer], error) {
			if in.Event != "" && (in.Type != "" || in.Object != "") {
				return nil, belfry.Faults([]belfry.Field{{Pointer: "/event", Message: "goes without type and object: the event has its own"}})
			}
			a, err := s.Explain.Recipients(ctx, c.tenant(), string(in.ID), in.Event, &belfry.Event{Type: in.Type, Object: in.Object}, belfry.TraceQuery{After: in.After, Limit: in.Limit})
			if err != nil {
				return nil, err
			}
			return &reply[belfry.Answer]{Status: http.StatusOK, Body: whole(a)}, nil
		})
	type here struct {
		ThingPath
		Paging
		Type string `query:"type" doc:"Only this event type" maxLength:"255"`
	}
	route(s, spec{id: "whoGetsWhat", method: http.MethodGet, path: "/v1/objects/{id}/recipients", tag: "Objects", may: auth.Read,
		summary: "Say who gets what at an object", detail: "For each event type of the catalogue that happens on objects of its type and that somebody subscribed to, or for the one named: the subscriptions looked up there, whatever their filters say, and who would be told, counted by how they are named. At most 100 people of a type are shown; /v1/subscriptions/{id}/recipients lists all."},
		func(ctx context.Context, c *call, in *here) (*reply[list[belfry.HereAnswer]], error) {
			answers, next, err := s.Explain.WhoGetsWhat(ctx, c.tenant(), string(in.ID), in.Type, in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(answers, next), nil
		})
	type generators struct {
		Paging
		Object string `query:"object" required:"true" doc:"root = the whole site" maxLength:"512"`
		User   string `query:"user" doc:"Whether she may see it, and what she joined" maxLength:"512"`
	}
	route(s, spec{id: "listGenerators", method: http.MethodGet, path: "/v1/generators", tag: "Catalogue", may: auth.Read,
		summary: "List what can be subscribed to at an object", detail: "Event types of the catalogue that happen on objects of its type, with the subscriptions that are looked up for them there. Types that were only seen, and deprecated ones, are not offered."},
		func(ctx context.Context, c *call, in *generators) (*reply[list[belfry.Generator]], error) {
			gs, next, err := s.Explain.Generators(ctx, c.tenant(), in.Object, in.User, in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(gs, next), nil
		})
	type effective struct {
		ThingPath
		Object       string `query:"object" doc:"Empty = everywhere" maxLength:"512"`
		Type         string `query:"type" required:"true" maxLength:"255"`
		Subscription string `query:"subscription" doc:"By which she would be told; empty = by one that leaves all to her" maxLength:"64"`
	}
	route(s, spec{id: "getEffective", method: http.MethodGet, path: "/v1/users/{id}/effective", tag: "People", may: auth.Read,
		summary: "Say what holds for a user", detail: "For an event type at an object: the global stop, the level, a mute, the channels and the frequency by which she would be told, and what is mandatory, forced and forbidden, each with what it comes from. Who speaks first decides: the administrator, a mandatory notice, the global stop, how she joined, her preferences, the subscription, the type, the tenant."},
		func(ctx context.Context, c *call, in *effective) (*reply[list[belfry.EffectiveSetting]], error) {
			es, err := s.Explain.Effective(ctx, c.tenant(), string(in.ID), in.Object, in.Type, in.Subscription)
			if err != nil {
				return nil, err
			}
			return listOf(es, ""), nil
		})
}

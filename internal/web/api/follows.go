package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// Following says how a user follows a problem.
type Following struct {
	Mute bool `json:"mute,omitempty" doc:"Hear nothing more of it until it is resolved"`
	Tell bool `json:"tell,omitempty" doc:"Be told when it is resolved"`
}

// FollowPath names what a user follows in a path.
type FollowPath struct {
	ThingPath
	Event string `path:"event" doc:"evt_..., by which the problem is known"`
}

func (s *Server) followRoutes() {
	const base = "/v1/users/{id}/follows"
	type listing struct {
		ThingPath
		Paging
	}
	route(s, spec{id: "listFollows", method: http.MethodGet, path: base, tag: "People", may: auth.Read, summary: "List the problems a user follows"},
		func(ctx context.Context, c *call, in *listing) (*reply[list[belfry.Follow]], error) {
			fs, next, err := s.Manage.Follows(ctx, c.tenant(), string(in.ID), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(fs, next), nil
		})
	route(s, spec{id: "putFollow", method: http.MethodPut, path: base + "/{event}", tag: "People", may: auth.Admin, summary: "Follow a problem until it is resolved",
		detail: "An event's problem is what its problem names, or the event alone. It is resolved by an event of the same source whose resolves names it. What is not sent yet of a problem that is muted is cancelled."},
		func(ctx context.Context, c *call, in *struct {
			FollowPath
			body[Following]
		}) (*reply[belfry.Follow], error) {
			f, err := s.Manage.Follow(ctx, c.by(), belfry.Follow{User: string(in.ID), Event: in.Event, Mute: in.Value.Mute, Tell: in.Value.Tell})
			if err != nil {
				return nil, err
			}
			return &reply[belfry.Follow]{Status: http.StatusOK, Body: f}, nil
		})
	route(s, spec{id: "dropFollow", method: http.MethodDelete, path: base + "/{event}", tag: "People", may: auth.Admin, summary: "Follow it no more"},
		func(ctx context.Context, c *call, in *FollowPath) (*nothing, error) {
			return &nothing{}, s.Manage.Unfollow(ctx, c.by(), string(in.ID), in.Event)
		})
}

// FollowManager lets users follow problems.
type FollowManager interface {
	Follows(ctx context.Context, tenant, user, after string, limit int) ([]belfry.Follow, string, error)
	Follow(ctx context.Context, by By, f belfry.Follow) (belfry.Follow, error)
	Unfollow(ctx context.Context, by By, user, event string) error
}

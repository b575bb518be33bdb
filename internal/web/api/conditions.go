package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

func (s *Server) conditionRoutes() {
	type listing struct {
		ThingPath
		Paging
	}
	route(s, spec{id: "listConditionGroups", method: http.MethodGet, path: "/v1/subscriptions/{id}/condition", tag: "Subscriptions", may: auth.Read,
		summary: "Say where its condition stands, in each group",
		detail:  "How many events count now and how many are needed, or when an absence is met; how often it was met; and until when it is quiet. A condition without group_by has one group, with an empty name."},
		func(ctx context.Context, c *call, in *listing) (*reply[list[belfry.ConditionView]], error) {
			views, next, err := s.Explain.Conditions(ctx, c.tenant(), string(in.ID), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(views, next), nil
		})
}

package api

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
)

// BacktestManager runs subscriptions over stored events; *manage.Manager does.
type BacktestManager interface {
	// Backtest gives the report, or the job that makes it.
	Backtest(ctx context.Context, by By, d manage.BacktestDraft) (*belfry.BacktestReport, *belfry.Job, error)
}

// BacktestOrder says which subscription is tested on the events of which time.
type BacktestOrder struct {
	ID    string               `json:"id,omitempty" doc:"A saved one (sub_...), in any state"`
	Draft *belfry.Subscription `json:"draft,omitempty" doc:"Or one that is not saved, as POST /v1/subscriptions takes it"`
	Since time.Time            `json:"since,omitzero" doc:"Events accepted at or after this time; absent = a week before until"`
	Until time.Time            `json:"until,omitzero" doc:"Events accepted before this time; absent = now"`
}

// backtestRoutes are the calls about what a subscription would have done.
func (s *Server) backtestRoutes() {
	const path = "/v1/subscriptions/backtest"
	route(s, spec{id: "backtest", method: http.MethodPost, path: path, tag: "Subscriptions", may: auth.Read, summary: "Say what a subscription would have sent",
		detail: "Runs a subscription, saved or only supposed, alone over the stored events of a time (at most 400 days, a million events), by today's people and preferences: how many messages, " +
			"to how many people, how much for one of them in a week, by which channels, with the latest events it wants and why. Nothing is sent. " +
			"Answers 200 with the report when that is short work, else 202 with a job whose result is the report; what happens now goes first."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[BacktestOrder]
		}) (*reply[any], error) {
			o := &in.Value
			report, j, err := s.Manage.Backtest(ctx, c.by(), manage.BacktestDraft{ID: o.ID, Draft: o.Draft, Since: o.Since, Until: o.Until})
			if err != nil {
				return nil, err
			}
			if j != nil {
				return &reply[any]{Status: http.StatusAccepted, Location: "/v1/jobs/" + j.ID, Body: viewJob(j)}, nil
			}
			return &reply[any]{Status: http.StatusOK, Body: report}, nil
		})
	op := operationAt(s.huma.OpenAPI(), http.MethodPost, path)
	schemas := s.huma.OpenAPI().Components.Schemas
	answer := func(description string, t reflect.Type) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(t, true, "")}}}
	}
	op.Responses["200"] = answer("The report", reflect.TypeFor[belfry.BacktestReport]())
	op.Responses["202"] = answer("A job; its result will be the report", reflect.TypeFor[JobView]())
}

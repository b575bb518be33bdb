package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// LifeManager changes what becomes of deliveries, and orders long work; all of
// it is in *manage.Manager.
type LifeManager interface {
	RetryDelivery(ctx context.Context, by By, id string, resend bool) (belfry.Delivery, error)
	// CancelDelivery answers cancelled or in_flight.
	CancelDelivery(ctx context.Context, by By, id, because string) (string, error)
	SendDigest(ctx context.Context, by By, id string) error
	RetryDeliveries(ctx context.Context, by By, s belfry.DeliverySelect, resend bool) (belfry.Job, error)
	CancelDeliveries(ctx context.Context, by By, s belfry.DeliverySelect, because string) (belfry.Job, error)
	ReplayEvents(ctx context.Context, by By, s belfry.EventSelect, terms belfry.Replay) (belfry.Job, error)
	Job(ctx context.Context, tenant, id string) (belfry.Job, error)
	CancelJob(ctx context.Context, by By, id string) (belfry.Job, error)
	TenantSettings(ctx context.Context, tenant string) (belfry.TenantSettings, int64, error)
	PutTenantSettings(ctx context.Context, by By, s belfry.TenantSettings, match Expect) (belfry.TenantSettings, int64, error)
	CheckTenantLimits(limits map[string]belfry.ChannelLimit) error
	TenantUsage(ctx context.Context, tenant string, limits map[string]belfry.ChannelLimit) (map[string]belfry.ChannelUsage, error)
}

// JobQuery selects jobs, newest first.
type JobQuery struct {
	State  *belfry.JobState // nil = any
	Kind   string
	Before string // job id the page before ended with
	Limit  int
}

// JobReader lists jobs.
type JobReader interface {
	ListJobs(ctx context.Context, tenant string, q JobQuery) (jobs []belfry.Job, next string, err error)
}

// JobView is a job as it is shown.
type JobView struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind" doc:"deliveries.retry, deliveries.cancel, events.replay, subscriptions.backtest, users.erase"`
	State    string          `json:"state" enum:"waiting,running,done,failed,cancelled"`
	Progress JobProgress     `json:"progress"`
	Asked    json.RawMessage `json:"asked" doc:"What was asked for"`
	Result   json.RawMessage `json:"result,omitempty" doc:"What was done so far, by the kind"`
	Error    string          `json:"error,omitempty" doc:"Why it failed, or who cancelled it"`
	By       string          `json:"by,omitempty"`
	Created  time.Time       `json:"created"`
	Updated  time.Time       `json:"updated"`
	Ended    *time.Time      `json:"ended,omitempty"`
}

// JobProgress is how far a job is.
type JobProgress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total" doc:"0 while it is not known"`
}

// asked is what was asked for, without what makes an erasure one: who has the salt
// can try addresses against what stands for them.
func asked(j *belfry.Job) json.RawMessage {
	var s belfry.Subject
	if j.Kind != belfry.EraseJob || json.Unmarshal(j.Params, &s) != nil {
		return j.Params
	}
	s.Salt = ""
	params, err := json.Marshal(s)
	if err != nil {
		return nil // texts can be written, so this is out of reach
	}
	return params
}

func viewJob(j *belfry.Job) JobView {
	v := JobView{ID: j.ID, Kind: j.Kind, State: j.State.String(), Progress: JobProgress{Done: j.Done, Total: j.Total}, Asked: asked(j),
		Error: j.Error, By: j.Who, Created: j.Created.UTC(), Updated: j.Updated.UTC()}
	if len(j.Result) > 0 {
		v.Result = j.Result
	}
	if !j.Ended.IsZero() {
		ended := j.Ended.UTC()
		v.Ended = &ended
	}
	return v
}

// ordered answers with a job that was ordered, and where to watch it.
func ordered(j belfry.Job, err error) (*reply[JobView], error) {
	if err != nil {
		return nil, err
	}
	return &reply[JobView]{Status: http.StatusAccepted, Location: "/v1/jobs/" + j.ID, Body: viewJob(&j)}, nil
}

// Retrying says how one delivery is retried.
type Retrying struct {
	Resend bool `json:"resend,omitempty" doc:"Send again what was delivered, under its own id"`
}

// Cancelling says why.
type Cancelling struct {
	Because string `json:"because,omitempty"`
}

// CancelAnswer says whether the cancel came in time.
type CancelAnswer struct {
	Result string `json:"result" enum:"cancelled,in_flight" doc:"in_flight: a send is under way and may still arrive; no other follows"`
}

// Choice chooses deliveries for bulk work; what is left out chooses all.
type Choice struct {
	State        string    `json:"state,omitempty" enum:"scheduled,retrying,delivered,failed,suppressed,cancelled"`
	Recipient    string    `json:"recipient,omitempty" doc:"A principal or an address"`
	Event        string    `json:"event,omitempty" doc:"evt_..."`
	Channel      string    `json:"channel,omitempty"`
	Endpoint     string    `json:"endpoint,omitempty" doc:"ep_..."`
	Subscription string    `json:"subscription,omitempty" doc:"sub_..., the leading one"`
	Since        time.Time `json:"since,omitzero" doc:"Of events accepted at or after this time"`
	Until        time.Time `json:"until,omitzero" doc:"Of events accepted before this time"`
}

func (c *Choice) selects() (belfry.DeliverySelect, error) {
	s := belfry.DeliverySelect{Recipient: c.Recipient, Event: c.Event, Channel: c.Channel, Endpoint: c.Endpoint, Subscription: c.Subscription, Since: c.Since, Until: c.Until}
	if c.State != "" {
		state, ok := belfry.ParseState(c.State)
		if !ok {
			return s, belfry.Faults([]belfry.Field{{Pointer: "/state", Message: "there is no such state"}})
		}
		s.State = &state
	}
	return s, nil
}

// RetryMany chooses deliveries to be sent again.
type RetryMany struct {
	Choice
	Resend bool `json:"resend,omitempty" doc:"Needed to send again what was delivered"`
}

// CancelMany chooses deliveries to be cancelled.
type CancelMany struct {
	Choice
	Because string `json:"because,omitempty"`
}

// ReplayOrder chooses events to be planned anew.
type ReplayOrder struct {
	Event     string    `json:"event,omitempty" doc:"evt_..., only this one"`
	Type      string    `json:"type,omitempty" doc:"Exact, or a prefix with *"`
	Object    string    `json:"object,omitempty"`
	Since     time.Time `json:"since,omitzero" doc:"Accepted at or after this time"`
	Until     time.Time `json:"until,omitzero" doc:"Accepted before this time"`
	Recipient string    `json:"recipient,omitempty" doc:"Tell only this user or bare address"`
	Endpoint  string    `json:"endpoint,omitempty" doc:"Tell only this endpoint"`
	Resend    bool      `json:"resend,omitempty" doc:"Also what was delivered, under its own id"`
}

type retryOne struct {
	ThingPath
	Keyed
	body[Retrying]
}

func (*retryOne) optional() {}

type cancelOne struct {
	ThingPath
	Keyed
	body[Cancelling]
}

func (*cancelOne) optional() {}

func (s *Server) lifeRoutes() {
	const item = "/v1/deliveries/{id}"
	route(s, spec{id: "retryDelivery", method: http.MethodPost, path: item + "/retry", tag: "Deliveries", may: auth.Admin, summary: "Send one again now",
		detail: "Whatever ended it, or if it waits; its schedule of retries starts over and its attempts count on. What was delivered goes again, under its own id, only with resend."},
		func(ctx context.Context, c *call, in *retryOne) (*reply[DeliveryView], error) {
			d, err := s.Manage.RetryDelivery(ctx, c.by(), string(in.ID), in.Value.Resend)
			if err != nil {
				return nil, err
			}
			return &reply[DeliveryView]{Status: http.StatusOK, Body: viewDelivery(&d)}, nil
		})
	route(s, spec{id: "cancelDelivery", method: http.MethodPost, path: item + "/cancel", tag: "Deliveries", may: auth.Admin, summary: "Cancel one",
		detail: "It is never tried again. One that is being sent at this moment may still arrive; then its attempts say so."},
		func(ctx context.Context, c *call, in *cancelOne) (*reply[CancelAnswer], error) {
			result, err := s.Manage.CancelDelivery(ctx, c.by(), string(in.ID), in.Value.Because)
			if err != nil {
				return nil, err
			}
			return &reply[CancelAnswer]{Status: http.StatusOK, Body: CancelAnswer{Result: result}}, nil
		})
	route(s, spec{id: "retryDeliveries", method: http.MethodPost, path: "/v1/deliveries:retry", tag: "Deliveries", may: auth.Admin, status: http.StatusAccepted,
		summary: "Send many again", detail: "Those of a state (failed when none is named) that are chosen, of events accepted until now. Answers with a job."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[RetryMany]
		}) (*reply[JobView], error) {
			sel, err := in.Value.selects()
			if err != nil {
				return nil, err
			}
			return ordered(s.Manage.RetryDeliveries(ctx, c.by(), sel, in.Value.Resend))
		})
	route(s, spec{id: "cancelDeliveries", method: http.MethodPost, path: "/v1/deliveries:cancel", tag: "Deliveries", may: auth.Admin, status: http.StatusAccepted,
		summary: "Cancel many", detail: "All open ones that are chosen, of events accepted until now; something must be chosen. Answers with a job."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[CancelMany]
		}) (*reply[JobView], error) {
			sel, err := in.Value.selects()
			if err != nil {
				return nil, err
			}
			return ordered(s.Manage.CancelDeliveries(ctx, c.by(), sel, in.Value.Because))
		})
	route(s, spec{id: "replayEvents", method: http.MethodPost, path: "/v1/events:replay", tag: "Events", may: auth.Admin, status: http.StatusAccepted,
		summary: "Plan stored events anew",
		detail: "With today's subscriptions and people. Nobody gets a second inbox entry; what was delivered is left alone unless resend is true, and then goes again under its own id. " +
			"Names one event, or those accepted since a time. Answers with a job."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[ReplayOrder]
		}) (*reply[JobView], error) {
			o := &in.Value
			return ordered(s.Manage.ReplayEvents(ctx, c.by(),
				belfry.EventSelect{Event: o.Event, Type: o.Type, Object: o.Object, Since: o.Since, Until: o.Until},
				belfry.Replay{Recipient: o.Recipient, Endpoint: o.Endpoint, Resend: o.Resend}))
		})
	s.jobRoutes()
	s.settingsRoutes()
}

type listJobs struct {
	Paging
	State string `query:"state" enum:"waiting,running,done,failed,cancelled"`
	Kind  string `query:"kind" maxLength:"100"`
}

func (s *Server) jobRoutes() {
	const base, item = "/v1/jobs", "/v1/jobs/{id}"
	route(s, spec{id: "listJobs", method: http.MethodGet, path: base, tag: "Jobs", may: auth.Read, summary: "List long work, newest first",
		detail: "Jobs that ended are kept for 30 days."},
		func(ctx context.Context, c *call, in *listJobs) (*reply[list[JobView]], error) {
			q := JobQuery{Kind: in.Kind, Before: in.After, Limit: in.Limit}
			if in.State != "" {
				state, ok := belfry.ParseJobState(in.State)
				if !ok {
					return nil, newProblem(http.StatusUnprocessableEntity, "there is no such state", Fault{Parameter: "state", Message: "there is no such state"})
				}
				q.State = &state
			}
			jobs, next, err := s.Jobs.ListJobs(ctx, c.tenant(), q)
			if err != nil {
				return nil, err
			}
			views := make([]JobView, 0, len(jobs))
			for i := range jobs {
				views = append(views, viewJob(&jobs[i]))
			}
			return listOf(views, next), nil
		})
	route(s, spec{id: "getJob", method: http.MethodGet, path: item, tag: "Jobs", may: auth.Read, summary: "Say how far one is"},
		func(ctx context.Context, c *call, in *ThingPath) (*reply[JobView], error) {
			j, err := s.Manage.Job(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			return &reply[JobView]{Status: http.StatusOK, Body: viewJob(&j)}, nil
		})
	route(s, spec{id: "cancelJob", method: http.MethodPost, path: item + "/cancel", tag: "Jobs", may: auth.Admin, summary: "End one", detail: "What it did stays done."},
		func(ctx context.Context, c *call, in *resuming) (*reply[JobView], error) {
			j, err := s.Manage.CancelJob(ctx, c.by(), string(in.ID))
			if err != nil {
				return nil, err
			}
			return &reply[JobView]{Status: http.StatusOK, Body: viewJob(&j)}, nil
		})
}

func (s *Server) settingsRoutes() {
	const path = "/v1/settings"
	route(s, spec{id: "getTenantSettings", method: http.MethodGet, path: path, tag: "Settings", may: auth.Read, summary: "Get the tenant's settings"},
		func(ctx context.Context, c *call, in *struct{ Matching }) (*reply[belfry.TenantSettings], error) {
			v, version, err := s.Manage.TenantSettings(ctx, c.tenant())
			if err != nil {
				return nil, err
			}
			return found(&in.Matching, version, v), nil
		})
	route(s, spec{id: "putTenantSettings", method: http.MethodPut, path: path, tag: "Settings", may: auth.Admin, summary: "Set the tenant's settings",
		detail: "webhooks off makes all deliveries to endpoints wait until it is on again. channels and frequency are for whom nothing else decides them. authoriser names the endpoint where the platform says who may be told (docs/authoriser.md). Fields not given are reset."},
		func(ctx context.Context, c *call, in *struct {
			Matching
			body[belfry.TenantSettings]
		}) (*reply[belfry.TenantSettings], error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			v, version, err := s.Manage.PutTenantSettings(ctx, c.by(), in.Value, match)
			if err != nil {
				return nil, err
			}
			return stored(version, false, "", v), nil
		})
}

package api

import (
	"context"
	"net/http"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// DeliveryView is a delivery as it is shown.
type DeliveryView struct {
	ID           string              `json:"id"`
	Event        string              `json:"event,omitempty" doc:"Absent of a digest, which tells several"`
	Digest       string              `json:"digest,omitempty" doc:"bnd_...: the digest it is, or that tells it"`
	Run          int                 `json:"run,omitempty" doc:"0 = the first planning; replays count up"`
	Subscription string              `json:"subscription,omitempty" doc:"The leading one: it gives template and unsubscribe link"`
	Recipient    string              `json:"recipient,omitempty" doc:"The user; absent for bare addresses and endpoints"`
	Channel      string              `json:"channel"`
	Address      string              `json:"address"`
	State        string              `json:"state" enum:"scheduled,retrying,held,delivered,failed,suppressed,cancelled"`
	Due          *time.Time          `json:"due,omitempty" doc:"When the next send is tried; absent when it is over"`
	Waits        *belfry.ReasonView  `json:"waits,omitempty" doc:"It is not sent until the paused subscription that is named is resumed"`
	Tries        int                 `json:"tries" doc:"Sends so far"`
	Last         *AttemptView        `json:"last_attempt,omitempty" doc:"The newest send of one that is retried or has failed; in lists"`
	Attempts     []AttemptView       `json:"attempts,omitempty" doc:"Each send; only when one delivery is asked for"`
	Because      []belfry.ReasonView `json:"because"`
}

// AttemptView is one send.
type AttemptView struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome" enum:"delivered,accepted,retry,refused,gone"`
	Status  int       `json:"status,omitempty" doc:"The protocol's own code"`
	TookMS  float64   `json:"took_ms"`
	Detail  string    `json:"detail,omitempty" doc:"Safe excerpt of the answer"`
}

type listDeliveries struct {
	Paging
	State     string    `query:"state" enum:"scheduled,retrying,held,delivered,failed,suppressed,cancelled"`
	Recipient string    `query:"recipient" doc:"A principal or an address" maxLength:"512"`
	Event     string    `query:"event" doc:"evt_..." maxLength:"64"`
	Channel   string    `query:"channel" maxLength:"100"`
	Endpoint  string    `query:"endpoint" doc:"ep_..." maxLength:"64"`
	Sub       string    `query:"subscription" doc:"sub_..., the leading one" maxLength:"64"`
	Since     time.Time `query:"since" doc:"Of events accepted at or after this time"`
	Until     time.Time `query:"until" doc:"Of events accepted before this time"`
}

type oneDelivery struct {
	ID string `path:"id" doc:"dlv_..."`
}

func viewDelivery(d *belfry.Delivery) DeliveryView {
	v := DeliveryView{ID: d.ID, Event: d.EventID, Run: d.Run, Subscription: d.Subscription, Recipient: d.Principal, Channel: d.Channel,
		Address: d.Address, State: d.State.String(), Tries: d.Attempts, Because: belfry.ViewReasons(d.Because)}
	if d.State.Open() {
		due := d.Due.UTC()
		v.Due = &due
	}
	if v.Digest = d.Bundle; d.EventID == d.Bundle {
		v.Event = ""
	}
	return v
}

func viewAttempts(as []belfry.Attempt) []AttemptView {
	views := make([]AttemptView, 0, len(as))
	for _, a := range as {
		views = append(views, AttemptView{At: a.At.UTC(), Outcome: a.Outcome.Kind.String(), Status: a.Outcome.Status,
			TookMS: float64(a.Took.Microseconds()) / 1000, Detail: a.Outcome.Detail})
	}
	return views
}

// deliveryViews are the views of a list: what is retried or has failed with why.
func (s *Server) deliveryViews(ctx context.Context, tenant string, ds []belfry.Delivery) ([]DeliveryView, error) {
	var failing []string
	for i := range ds {
		if ds[i].State == belfry.Failed || ds[i].State == belfry.Retrying {
			failing = append(failing, ds[i].ID)
		}
	}
	last := map[string]belfry.Attempt{}
	if len(failing) > 0 {
		var err error
		if last, err = s.Delivery.LastAttempts(ctx, tenant, failing); err != nil {
			return nil, err
		}
	}
	waits, err := s.Explain.Awaits(ctx, tenant, ds)
	if err != nil {
		return nil, err
	}
	views := make([]DeliveryView, 0, len(ds))
	for i := range ds {
		v := viewDelivery(&ds[i])
		if w, ok := waits[ds[i].ID]; ok {
			v.Waits = &w
		}
		if a, ok := last[ds[i].ID]; ok {
			v.Last = &viewAttempts([]belfry.Attempt{a})[0]
		}
		views = append(views, v)
	}
	return views, nil
}

func (s *Server) deliveryRoutes() {
	route(s, spec{id: "listDeliveries", method: http.MethodGet, path: "/v1/deliveries", tag: "Deliveries", may: auth.Read,
		summary: "List deliveries, newest first",
		detail:  "Failed ones (state=failed) are the dead letters, each with its last attempt. Inbox entries are in the inbox."},
		func(ctx context.Context, c *call, in *listDeliveries) (*reply[list[DeliveryView]], error) {
			q := DeliveryQuery{Recipient: in.Recipient, Event: in.Event, Channel: in.Channel, Endpoint: in.Endpoint,
				Subscription: in.Sub, Since: in.Since, Until: in.Until, Before: in.After, Limit: in.Limit}
			if in.State != "" {
				state, ok := belfry.ParseState(in.State)
				if !ok {
					return nil, newProblem(http.StatusUnprocessableEntity, "there is no such state", Fault{Parameter: "state", Message: "there is no such state"})
				}
				q.State = &state
			}
			ds, next, err := s.Delivery.ListDeliveries(ctx, c.tenant(), q)
			if err != nil {
				return nil, err
			}
			views, err := s.deliveryViews(ctx, c.tenant(), ds)
			if err != nil {
				return nil, err
			}
			return listOf(views, next), nil
		})
	route(s, spec{id: "getDelivery", method: http.MethodGet, path: "/v1/deliveries/{id}", tag: "Deliveries", may: auth.Read,
		summary: "Get one delivery with its attempts"},
		func(ctx context.Context, c *call, in *oneDelivery) (*reply[DeliveryView], error) {
			d, found, err := s.Delivery.Delivery(ctx, c.tenant(), in.ID)
			if err != nil {
				return nil, err
			}
			if !found {
				return nil, belfry.Errorf(belfry.NotFound, "there is no delivery %s", clip(in.ID, 64))
			}
			attempts, err := s.Delivery.Attempts(ctx, c.tenant(), in.ID)
			if err != nil {
				return nil, err
			}
			waits, err := s.Explain.Awaits(ctx, c.tenant(), []belfry.Delivery{d})
			if err != nil {
				return nil, err
			}
			v := viewDelivery(&d)
			if w, ok := waits[d.ID]; ok {
				v.Waits = &w
			}
			v.Attempts = viewAttempts(attempts)
			return &reply[DeliveryView]{Status: http.StatusOK, Body: v}, nil
		})
}

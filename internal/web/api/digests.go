package api

import (
	"context"
	"net/http"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// DigestQuery selects digests, newest first.
type DigestQuery struct {
	State     *belfry.BundleState
	Recipient string // a principal or a bare address
	Before    string
	Limit     int
}

// DigestReader reads digests.
type DigestReader interface {
	ListBundles(ctx context.Context, tenant string, q DigestQuery) (bs []belfry.Bundle, next string, err error)
	// Bundle is one digest with some of its items, after one of them.
	Bundle(ctx context.Context, tenant, id, after string, limit int) (b belfry.Bundle, items []belfry.Delivery, ok bool, err error)
}

// DigestView is what gathers, or gathered, to be told to one person in one
// message.
type DigestView struct {
	ID        string             `json:"id"`
	Recipient string             `json:"recipient,omitempty" doc:"The user; absent for a bare address"`
	Channel   string             `json:"channel"`
	Address   string             `json:"address" doc:"Where it would go as of its first item; it goes to what is good when it is sealed"`
	State     string             `json:"state" enum:"open,sealed,sent,over" doc:"open takes items; sealed is a message with these items for good; sent; over = it failed, was cancelled or had nothing to say"`
	Frequency *belfry.Frequency  `json:"frequency,omitempty" doc:"Absent for what quiet hours hold"`
	Quiet     bool               `json:"quiet,omitempty" doc:"Held by quiet hours"`
	Due       *time.Time         `json:"due,omitempty" doc:"When it is sealed; of one that is open"`
	Opened    time.Time          `json:"opened"`
	Sealed    *time.Time         `json:"sealed,omitempty"`
	Ended     *time.Time         `json:"ended,omitempty"`
	Delivery  string             `json:"delivery,omitempty" doc:"The message it became (dlv_...)"`
	Items     int                `json:"items" doc:"How many things it tells"`
	Because   *belfry.ReasonView `json:"because,omitempty" doc:"Why it is over, where no send decided; why it waits or went another way"`
	Told      []DeliveryView     `json:"told,omitempty" doc:"What it tells, each as the delivery it would be alone; only when one digest is asked for"`
	Next      string             `json:"next,omitempty" doc:"Continues told"`
}

func viewDigest(b *belfry.Bundle) DigestView {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	v := DigestView{ID: b.ID, Recipient: b.Principal, Channel: b.Channel, Address: b.Address, State: b.State.String(), Quiet: b.Held,
		Opened: b.Opened, Sealed: at(b.Sealed), Ended: at(b.Ended), Delivery: b.Message, Items: b.Items}
	if !b.Held {
		f := b.Frequency
		v.Frequency = &f
	}
	if b.State == belfry.BundleOpen {
		v.Due = at(b.Due)
	}
	if b.Because != nil {
		v.Because = &belfry.ReasonView{Reason: *b.Because, Text: b.Because.Text()}
	}
	return v
}

func (s *Server) digestRoutes() {
	type listing struct {
		Paging
		State     string `query:"state" enum:"open,sealed,sent,over"`
		Recipient string `query:"recipient" doc:"A principal or a bare address" maxLength:"512"`
	}
	route(s, spec{id: "listDigests", method: http.MethodGet, path: "/v1/digests", tag: "Deliveries", may: auth.Read,
		summary: "List digests, newest first",
		detail:  "What waits to be told together, and what was. A digest that is sealed is a delivery, with attempts, retries and cancelling as any."},
		func(ctx context.Context, c *call, in *listing) (*reply[list[DigestView]], error) {
			q := DigestQuery{Recipient: in.Recipient, Before: in.After, Limit: in.Limit}
			if in.State != "" {
				q.State = new(belfry.BundleState)
				if err := q.State.UnmarshalText([]byte(in.State)); err != nil {
					return nil, err
				}
			}
			bs, next, err := s.Digests.ListBundles(ctx, c.tenant(), q)
			if err != nil {
				return nil, err
			}
			views := make([]DigestView, len(bs))
			for i := range bs {
				views[i] = viewDigest(&bs[i])
			}
			return listOf(views, next), nil
		})
	type one struct {
		ID string `path:"id" doc:"bnd_..."`
		Paging
	}
	route(s, spec{id: "getDigest", method: http.MethodGet, path: "/v1/digests/{id}", tag: "Deliveries", may: auth.Read,
		summary: "Get one digest with what it tells"},
		func(ctx context.Context, c *call, in *one) (*reply[DigestView], error) {
			b, items, found, err := s.Digests.Bundle(ctx, c.tenant(), in.ID, in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			if !found {
				return nil, belfry.Errorf(belfry.NotFound, "there is no digest %s", clip(in.ID, 64))
			}
			v := viewDigest(&b)
			for i := range items {
				v.Told = append(v.Told, viewDelivery(&items[i]))
			}
			if in.Limit > 0 && len(items) == in.Limit {
				v.Next = items[len(items)-1].ID
			}
			return &reply[DigestView]{Status: http.StatusOK, Body: v}, nil
		})
	route(s, spec{id: "sendDigest", method: http.MethodPost, path: "/v1/digests/{id}/send", tag: "Deliveries", may: auth.Admin,
		summary: "Send one that gathers now, with what it has",
		detail:  "What comes later goes into the next. Daily limits and throttles do not hold it, and it takes its part of them; quiet hours do."},
		func(ctx context.Context, c *call, in *struct {
			ThingPath
			Keyed
		}) (*reply[DigestView], error) {
			if err := s.Manage.SendDigest(ctx, c.by(), string(in.ID)); err != nil {
				return nil, err
			}
			b, _, found, err := s.Digests.Bundle(ctx, c.tenant(), string(in.ID), "", 1)
			if err == nil && !found {
				err = belfry.Errorf(belfry.NotFound, "there is no digest %s", clip(string(in.ID), 64))
			}
			if err != nil {
				return nil, err
			}
			return &reply[DigestView]{Status: http.StatusOK, Body: viewDigest(&b)}, nil
		})
}

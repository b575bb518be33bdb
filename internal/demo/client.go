package demo

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/web/ui"
)

// Client is the page's house: every call is one of the public API, made over
// HTTP with a key that may publish, read and administer.
type Client struct{ API *client.Client }

var _ ui.House = Client{}

// Publish posts an event.
func (c Client) Publish(ctx context.Context, e belfry.Event) (belfry.Receipt, error) {
	var answer struct {
		Duplicates int      `json:"duplicates"`
		IDs        []string `json:"ids"`
	}
	if err := c.API.Call(ctx, http.MethodPost, "/v1/events", e, &answer); err != nil {
		return belfry.Receipt{}, err
	}
	if len(answer.IDs) != 1 {
		return belfry.Receipt{}, fmt.Errorf("POST /v1/events answered %d ids for one event", len(answer.IDs))
	}
	return belfry.Receipt{EventID: answer.IDs[0], Duplicate: answer.Duplicates > 0}, nil
}

// Trace reads who was told of an event and why.
func (c Client) Trace(ctx context.Context, eventID string) (belfry.Answer, error) {
	var a belfry.Answer
	err := c.API.Call(ctx, http.MethodGet, "/v1/events/"+url.PathEscape(eventID)+"/trace", nil, &a)
	return a, err
}

// Deliveries reads the deliveries of an event.
func (c Client) Deliveries(ctx context.Context, eventID string) ([]ui.Delivery, error) {
	var page struct {
		Items []ui.Delivery `json:"items"`
	}
	err := c.API.Call(ctx, http.MethodGet, "/v1/deliveries?event="+url.QueryEscape(eventID), nil, &page)
	return page.Items, err
}

// Inbox reads a user's newest inbox entries.
func (c Client) Inbox(ctx context.Context, user string) ([]ui.InboxItem, error) {
	var page struct {
		Items []ui.InboxItem `json:"items"`
	}
	err := c.API.Call(ctx, http.MethodGet, "/v1/users/"+pathID(user)+"/inbox", nil, &page)
	return page.Items, err
}

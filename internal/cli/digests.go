package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
)

// ListDigests prints digests that are chosen, newest first.
func ListDigests(ctx context.Context, c *client.Client, out Out, choose map[string]string, most int) error {
	return listed(ctx, c, out, "/v1/digests", choose, most, printDigest)
}

func printDigest(out Out, raw json.RawMessage) error {
	if out.JSON {
		return out.Value(raw)
	}
	var d struct {
		ID, Recipient, Channel, Address, State string
		Frequency                              *belfry.Frequency
		Due                                    *time.Time
		Items                                  int
		Because                                *belfry.ReasonView
		Told                                   []json.RawMessage
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	often := "quiet hours"
	if d.Frequency != nil {
		often = d.Frequency.String()
	}
	line := fmt.Sprintf("%s  %-6s  %s to %s  %d items  %s", d.ID, d.State, clean(d.Channel), clean(d.Address), d.Items, often)
	if d.Due != nil {
		line += "  due " + stamp(*d.Due)
	}
	if d.Because != nil {
		line += "  " + clean(d.Because.Text)
	}
	if err := out.Line("%s", line); err != nil {
		return err
	}
	for _, item := range d.Told {
		if err := printDelivery(out, item); err != nil {
			return err
		}
	}
	return nil
}

// OneDigest prints a digest and what it tells, or sends it now.
func OneDigest(ctx context.Context, c *client.Client, out Out, id string, send bool) error {
	method, path := http.MethodGet, "/v1/digests/"+url.PathEscape(id)
	if send {
		method, path = http.MethodPost, path+"/send"
	}
	var raw json.RawMessage
	if err := c.Call(ctx, method, path, nil, &raw); err != nil {
		return err
	}
	return printDigest(out, raw)
}

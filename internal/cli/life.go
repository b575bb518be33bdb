package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
)

// Job is long work as the API shows it.
type Job struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	State    string `json:"state"`
	Progress struct {
		Done  int64 `json:"done"`
		Total int64 `json:"total"`
	} `json:"progress"`
	Asked   json.RawMessage `json:"asked,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   string          `json:"error,omitempty"`
	By      string          `json:"by,omitempty"`
	Created time.Time       `json:"created"`
	Updated time.Time       `json:"updated"`
	Ended   *time.Time      `json:"ended,omitempty"`
}

func (j *Job) print(out Out) error {
	if out.JSON {
		return out.Value(j)
	}
	line := fmt.Sprintf("%s  %s  %-9s  %s  %d of %d", j.ID, stamp(j.Created), j.State, j.Kind, j.Progress.Done, j.Progress.Total)
	if j.Error != "" {
		line += "  " + clean(j.Error)
	}
	return out.Line("%s", line)
}

// Order posts what makes a job, and waits for its end unless it is told not to;
// progress, when not nil, is told how far it is.
func Order(ctx context.Context, c *client.Client, out Out, path string, body any, wait bool, progress io.Writer) error {
	var j Job
	if err := c.Call(ctx, http.MethodPost, path, body, &j); err != nil {
		return err
	}
	if wait {
		if err := j.follow(ctx, c, progress); err != nil {
			return err
		}
	}
	if err := j.print(out); err != nil {
		return err
	}
	return j.ended()
}

// follow reads a job until it is over; progress, when not nil, is told how far
// it is.
func (j *Job) follow(ctx context.Context, c *client.Client, progress io.Writer) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for j.Ended == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not waiting any more; the job goes on: belfry jobs show %s", j.ID)
		case <-tick.C:
		}
		var now Job
		if err := c.Call(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(j.ID), nil, &now); err != nil {
			return err
		}
		*j = now
		if progress != nil {
			_, _ = fmt.Fprintf(progress, "\r%s: %d of %d ", j.State, j.Progress.Done, j.Progress.Total) // a terminal that is gone shows nothing
		}
	}
	if progress != nil {
		_, _ = fmt.Fprintln(progress)
	}
	return nil
}

// ended is nil for a job that did all its work, or is still at it.
func (j *Job) ended() error {
	if j.State == "failed" || j.State == "cancelled" {
		return fmt.Errorf("the job %s is %s: %s", j.ID, j.State, clean(j.Error))
	}
	return nil
}

// ListJobs prints jobs, newest first.
func ListJobs(ctx context.Context, c *client.Client, out Out, state, kind string, most int) error {
	for next := ""; most > 0; {
		var page struct {
			Items []Job  `json:"items"`
			Next  string `json:"next"`
		}
		q := query{"state": state, "kind": kind, "after": next, "limit": fmt.Sprint(min(most, 1000))}
		if err := c.Call(ctx, http.MethodGet, "/v1/jobs"+q.String(), nil, &page); err != nil {
			return err
		}
		for i := range page.Items {
			if err := page.Items[i].print(out); err != nil {
				return err
			}
		}
		most -= len(page.Items)
		if next = page.Next; next == "" {
			return nil
		}
	}
	return nil
}

// OneJob prints a job, after it was cancelled when that is asked.
func OneJob(ctx context.Context, c *client.Client, out Out, id string, cancel bool) error {
	method, path := http.MethodGet, "/v1/jobs/"+url.PathEscape(id)
	if cancel {
		method, path = http.MethodPost, path+"/cancel"
	}
	var j Job
	if err := c.Call(ctx, method, path, nil, &j); err != nil {
		return err
	}
	return j.print(out)
}

// ListDeliveries prints deliveries that are chosen, newest first.
func ListDeliveries(ctx context.Context, c *client.Client, out Out, choose map[string]string, most int) error {
	return listed(ctx, c, out, "/v1/deliveries", choose, most, printDelivery)
}

// listed prints, at most so many, what a path lists of what is chosen.
func listed(ctx context.Context, c *client.Client, out Out, path string, choose map[string]string, most int, show func(Out, json.RawMessage) error) error {
	for next := ""; most > 0; {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		q := query{"after": next, "limit": fmt.Sprint(min(most, 1000))}
		for name, value := range choose {
			q[name] = value
		}
		if err := c.Call(ctx, http.MethodGet, path+q.String(), nil, &page); err != nil {
			return err
		}
		for _, raw := range page.Items {
			if err := show(out, raw); err != nil {
				return err
			}
		}
		most -= len(page.Items)
		if next = page.Next; next == "" {
			return nil
		}
	}
	return nil
}

func printDelivery(out Out, raw json.RawMessage) error {
	if out.JSON {
		return out.Value(raw)
	}
	var d struct {
		ID, Event, Digest, Channel, Address, State string
		Tries                                      int
		Last                                       *struct{ Detail string } `json:"last_attempt"`
		Because                                    []belfry.ReasonView
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	why := reasons(d.Because)
	if d.Last != nil {
		why = clean(d.Last.Detail)
	}
	tries := "tries"
	if d.Tries == 1 {
		tries = "try"
	}
	return out.Line("%s  %-10s  %s  %s to %s  %d %s  %s", d.ID, d.State, cmp.Or(d.Event, d.Digest), clean(d.Channel), clean(d.Address), d.Tries, tries, why)
}

// OneDelivery gets, retries or cancels a delivery and prints the answer.
func OneDelivery(ctx context.Context, c *client.Client, out Out, id, action string, body any) error {
	method, path := http.MethodGet, "/v1/deliveries/"+url.PathEscape(id)
	if action != "" {
		method, path = http.MethodPost, path+"/"+action
	}
	var raw json.RawMessage
	if err := c.Call(ctx, method, path, body, &raw); err != nil {
		return err
	}
	if action != "cancel" || out.JSON {
		return printDelivery(out, raw)
	}
	var answer struct{ Result string }
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	return out.Line("%s", answer.Result)
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
)

// Draft is an event as flags or a file give it.
type Draft struct {
	File string // "-" = In; else the flags below make one event
	In   io.Reader

	ID, Source, Type, Object, Actor, Destination, Subject string
	Time                                                  string // RFC 3339; empty = now
	Related, Flags                                        []string
	Data, Record                                          string // JSON
}

// body is the request: the file as it is, or the flags as our event form.
func (d *Draft) body() ([]byte, error) {
	if d.File != "" {
		return d.read()
	}
	if d.Type == "" {
		return nil, errors.New("say what happened: --type core.course_updated, or -f with a file of events")
	}
	e := Given(map[string]string{"id": d.ID, "source": d.Source, "object": d.Object, "actor": d.Actor, "destination": d.Destination, "subject": d.Subject, "time": d.Time},
		map[string]any{"type": d.Type})
	if len(d.Related) > 0 {
		e["related"] = d.Related
	}
	if len(d.Flags) > 0 {
		e["flags"] = d.Flags
	}
	for name, text := range map[string]string{"data": d.Data, "record": d.Record} {
		if text == "" {
			continue
		}
		if !json.Valid([]byte(text)) {
			return nil, fmt.Errorf("--%s is not JSON: %s", name, text)
		}
		e[name] = json.RawMessage(text)
	}
	return json.Marshal(e)
}

func (d *Draft) read() ([]byte, error) {
	raw, err := readFile(d.File, d.In, "events", "publish it in parts")
	if err == nil && len(bytes.TrimSpace(raw)) == 0 {
		err = fmt.Errorf("%s is empty: it must hold one event or an array of them", d.File)
	}
	return raw, err
}

// Receipt is the answer to published events.
type Receipt struct {
	Accepted   int            `json:"accepted"`
	Duplicates int            `json:"duplicates"`
	IDs        []*string      `json:"ids"`
	Errors     []client.Fault `json:"errors,omitempty"`
}

// Publish posts events and prints their ids, one a line.
func Publish(ctx context.Context, c *client.Client, out Out, d Draft) error {
	body, err := d.body()
	if err != nil {
		return err
	}
	var r Receipt
	if err := c.Call(ctx, http.MethodPost, "/v1/events", json.RawMessage(body), &r); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(r)
	}
	for _, id := range r.IDs {
		if id == nil {
			continue
		}
		if err := out.Line("%s", *id); err != nil {
			return err
		}
	}
	if r.Duplicates > 0 {
		return out.Line("%d of %d were there already", r.Duplicates, r.Accepted)
	}
	return nil
}

// Watch says which events Tail shows.
type Watch struct {
	Type, Object string
	Since        time.Time
	Last         int           // how many of the past
	Follow       bool          // go on until ctx ends
	Every        time.Duration // between looks
}

// Tail prints events, oldest first.
func Tail(ctx context.Context, c *client.Client, out Out, w Watch) error {
	first := out
	if w.Last == 0 { // what there is is not shown, but what comes after it is
		w.Last, first.Writer = 1, io.Discard
	}
	seen, err := tailOnce(ctx, c, first, w, "", w.Last)
	if err != nil || !w.Follow {
		return err
	}
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if seen != "" {
			if at, err := belfry.IDTime(seen); err == nil {
				w.Since = at
			}
		}
		newer, err := tailOnce(ctx, c, out, w, seen, 100_000)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if newer != "" {
			seen = newer
		}
	}
}

// tailOnce prints the events after an id, at most so many, and gives the last
// id.
func tailOnce(ctx context.Context, c *client.Client, out Out, w Watch, after string, most int) (string, error) {
	var list []json.RawMessage
	next := ""
	for len(list) < most {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		q := query{"type": w.Type, "object": w.Object, "after": next, "limit": fmt.Sprint(min(most-len(list), 1000))}
		if !w.Since.IsZero() {
			q["since"] = w.Since.UTC().Format(time.RFC3339Nano)
		}
		if err := c.Call(ctx, http.MethodGet, "/v1/events"+q.String(), nil, &page); err != nil {
			return "", err
		}
		for _, raw := range page.Items {
			var e belfry.EventView
			if err := json.Unmarshal(raw, &e); err != nil {
				return "", err
			}
			if e.EventID <= after {
				page.Next = ""
				break
			}
			list = append(list, raw)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	last := ""
	for i := len(list) - 1; i >= 0; i-- {
		var e belfry.EventView
		if err := json.Unmarshal(list[i], &e); err != nil {
			return "", err
		}
		last = e.EventID
		var err error
		if out.JSON {
			err = out.Value(list[i])
		} else {
			err = out.Line("%s  %s  %s", stamp(*e.Accepted), e.EventID, subject(&e.Event))
		}
		if err != nil {
			return "", err
		}
	}
	return last, nil
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
)

// BacktestOf says which subscription is tested on the events of which time.
type BacktestOf struct {
	ID           string // of a saved one
	File         string // else a draft; "-" = In
	In           io.Reader
	Since, Until string // RFC 3339; empty = the server's choice
}

func (q *BacktestOf) body() (map[string]any, error) {
	body := Given(map[string]string{"id": q.ID, "since": q.Since, "until": q.Until}, map[string]any{})
	if q.File == "" {
		return body, nil
	}
	raw, err := readFile(q.File, q.In, "draft", "that is no subscription")
	switch {
	case err != nil:
		return nil, err
	case !json.Valid(raw):
		return nil, errors.New("the draft is not JSON: write it as POST /v1/subscriptions takes it")
	}
	body["draft"] = json.RawMessage(raw)
	return body, nil
}

// BacktestNow prints what a subscription would have sent; progress, when not
// nil, is told how far a long one is.
func BacktestNow(ctx context.Context, c *client.Client, out Out, q BacktestOf, progress io.Writer) error {
	body, err := q.body()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := c.Send(ctx, http.MethodPost, "/v1/subscriptions/backtest", "application/json", bytes.NewReader(raw))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxFile))
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusAccepted {
		var j Job
		if err := json.Unmarshal(answer, &j); err != nil {
			return err
		}
		if err := errors.Join(j.follow(ctx, c, progress), j.ended()); err != nil {
			return err
		}
		answer = j.Result
	}
	if out.JSON {
		return out.Value(json.RawMessage(answer))
	}
	var r belfry.BacktestReport
	if err := json.Unmarshal(answer, &r); err != nil {
		return err
	}
	return writeBacktest(out, &r)
}

func writeBacktest(out Out, r *belfry.BacktestReport) error {
	var b strings.Builder
	more := ""
	if r.AtLeast {
		more = "at least "
	}
	fmt.Fprintf(&b, "from %s to %s: %d events, %d wanted; %s%d messages to %s%d people\n", stamp(r.Since), stamp(r.Until), r.Events, r.Matched, more, r.Messages, more, r.People)
	if r.Cut {
		b.WriteString("there were more events than are looked at: ask again from where this ended\n")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Channels)) {
		fmt.Fprintf(&b, "  by %s: %d\n", clean(name), r.Channels[name])
	}
	if r.People > 0 {
		fmt.Fprintf(&b, "to one person in a week: %.2f in the mean, %d at most\n", r.PerWeek.Mean, r.PerWeek.Most)
	}
	b.WriteString("\nweeks\n")
	for _, w := range r.Weeks {
		fmt.Fprintf(&b, "  %s  %d wanted, %d messages to %d people\n", stamp(w.Start), w.Matched, w.Messages, w.People)
	}
	if len(r.Most) > 0 {
		b.WriteString("\nwho would have heard most\n")
		for _, p := range r.Most {
			fmt.Fprintf(&b, "  %s  %d messages, %d in one week\n", clean(p.Who), p.Messages, p.InAWeek)
		}
	}
	if len(r.NotTold) > 0 {
		b.WriteString("\nnot told\n")
		for _, code := range slices.Sorted(maps.Keys(r.NotTold)) {
			fmt.Fprintf(&b, "  %d times: %s\n", r.NotTold[code], clean(belfry.Reason{Code: code}.Text()))
		}
	}
	if len(r.Samples) > 0 {
		b.WriteString("\nthe latest it wants\n")
		for _, s := range r.Samples {
			fmt.Fprintf(&b, "  %s  %s  %s %s: %s\n", stamp(s.At), clean(s.Event), clean(s.Type), clean(s.Object), reasons(s.Because))
		}
	}
	_, err := out.Write([]byte(b.String()))
	return err
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Crowd says how a subscription of many members is measured.
type Crowd struct {
	Members int
	Stored  int // rows of each member's inbox before it counts
	Events  int // that count
}

const crowdType = "bench.crowd"

func crowdUser(i int) string { return "user/" + strconv.Itoa(1_000_000+i) }

// gather declares a subscription with many members that fills their inboxes.
func (r *rig) gather(ctx context.Context, members int, step func(done int)) error {
	var sub struct{ ID string }
	err := r.api.Call(ctx, http.MethodPost, "/v1/subscriptions", map[string]any{
		"types": []string{crowdType}, "notify": []any{map[string]any{"channels": []string{"inbox"}}},
	}, &sub)
	if err != nil {
		return err
	}
	const batch = 10_000
	for from := 0; from < members; from += batch {
		n := min(batch, members-from)
		users, joins := make([]map[string]any, n), make([]map[string]any, n)
		for i := range n {
			users[i] = map[string]any{"id": crowdUser(from + i), "name": "Bench " + strconv.Itoa(from+i), "state": "active"}
			joins[i] = map[string]any{"principal": crowdUser(from + i)}
		}
		if err := r.api.Call(ctx, http.MethodPost, "/v1/users:batch", users, nil); err != nil {
			return err
		}
		if err := r.api.Call(ctx, http.MethodPost, "/v1/subscriptions/"+url.PathEscape(sub.ID)+"/members:batch", joins, nil); err != nil {
			return err
		}
		step(from + n)
	}
	return nil
}

// tell publishes one event to the crowd and waits until it is planned to its
// last page; it gives the moments at which it was sent and seen to be planned.
func (r *rig) tell(ctx context.Context, object string, wait time.Duration) (sent, planned time.Time, err error) {
	seq := r.seq.Add(1) - 1
	event := map[string]any{"source": "/bench", "type": crowdType, "object": object, "data": map[string]any{"seq": seq, "summary": filling}}
	var receipt ids
	sent = time.Now()
	if err = r.api.Call(ctx, http.MethodPost, "/v1/events", event, &receipt); err != nil {
		return sent, planned, err
	}
	if len(receipt.IDs) != 1 {
		return sent, planned, errors.New("the server gave no id for an event")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("waited %v", wait))
	defer cancel()
	err = r.isPlanned(ctx, receipt.IDs[0])
	return sent, time.Now(), err
}

// crowdHas checks a sample of the crowd: each has as many entries as there were
// events, no more and no less.
func (r *rig) crowdHas(ctx context.Context, members, events int) error {
	for i := range 50 {
		who := crowdUser(i * (members - 1) / 49)
		var counts struct{ Unread int }
		if err := r.api.Call(ctx, http.MethodGet, "/v1/users/"+url.PathEscape(who)+"/inbox/counts", nil, &counts); err != nil {
			return err
		}
		if counts.Unread != events {
			return fmt.Errorf("the inbox of %s has %d entries after %d events", who, counts.Unread, events)
		}
	}
	return nil
}

// counted waits for a figure to be a number: figures follow a commit a moment
// later.
func (r *rig) counted(ctx context.Context, name string, want float64) error {
	const patience = 10 * time.Second
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		got, err := figure(ctx, r.api, name)
		if err != nil || got == want {
			return err
		}
		if got > want || time.Now().After(deadline) {
			return fmt.Errorf("%s is %.0f, not %.0f", name, got, want)
		}
	}
}

// million measures events to the inboxes of many members who have entries
// already.
func (r *run) million(ctx context.Context) error {
	return r.serving(ctx, func(ctx context.Context, rig *rig) error {
		c := r.Size.Crowd
		err := rig.gather(ctx, c.Members, func(done int) { r.progress.step("%s of %s members", thousands(done), thousands(c.Members)) })
		if err != nil {
			return err
		}
		before, err := figure(ctx, rig.api, "belfry_deliveries_planned_total")
		if err != nil {
			return err
		}
		var rates []float64
		line := series{name: "rows a second", dots: true}
		events := c.Stored + c.Events
		for i := range events {
			r.progress.step("event %d of %d", i+1, events)
			sent, planned, err := rig.tell(ctx, "hall", 10*time.Minute)
			if err != nil {
				return err
			}
			got := rate(int64(c.Members), planned.Sub(sent))
			line.points = append(line.points, point{float64(i), got})
			if i >= c.Stored {
				rates = append(rates, got)
			}
		}
		if err := rig.counted(ctx, "belfry_deliveries_planned_total", before+float64(c.Members*events)); err != nil {
			return err
		}
		if err := rig.crowdHas(ctx, c.Members, events); err != nil {
			return err
		}
		r.report.CrowdRows = rounded(median(rates))
		r.report.notes.crowd = c
		r.plots = append(r.plots, plot{
			name: "million", title: "Inbox rows a second of one event to " + thousands(c.Members) + " members",
			about: fmt.Sprintf("%s rows a second with %d rows a member stored.", thousands(int(r.report.CrowdRows)), c.Stored),
			x:     axis{label: "rows stored of each member before the event"}, y: axis{label: "rows a second"},
			series: []series{line},
		})
		return nil
	})
}

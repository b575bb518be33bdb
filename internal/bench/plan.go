package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Planning says how one event for many people is measured that many
// subscriptions want. Every rule of each of them names a part of the people: by
// a group, by a role, or the last one, one by one.
type Planning struct {
	People, Subscriptions, Rules int
	Each                         int // subscriptions that name a person
	Events                       int // of which the median counts
}

// PlanningReport is what planning such an event takes, resolution and commit
// included: processor time of the whole process, and time on the clock.
type PlanningReport struct {
	Email PlanningTimes `json:"email"` // one delivery a person
	Both  PlanningTimes `json:"both"`  // and an inbox entry
}

// PlanningTimes are milliseconds of an event.
type PlanningTimes struct {
	CPU  float64 `json:"cpu_ms,omitempty"` // left out where it cannot be told
	Wall float64 `json:"wall_ms"`
}

const planType = "bench.plan."

// planning measures one event at a time, with people, groups and grants in the
// caches. Mail is planned and committed, and waits at the channel until that is
// done: what reading them for the send and sending cost is not in the figures.
func (r *run) planning(ctx context.Context) error {
	pl, err := r.places.next(ctx)
	if err != nil {
		return err
	}
	defer r.places.empty(pl)
	p := newPostbox()
	c := p.config(pl.config(r.key))
	c.Limits.Window = 64 // what waits to be sent stays where it was committed, and is not read meanwhile
	return r.servingAt(ctx, c, Parts{Kinds: p.kinds()}, func(ctx context.Context, rig *rig) error {
		n := r.Size.Planning
		r.progress.step("people and subscriptions")
		rig.asks = 50 * time.Millisecond // answering costs, too
		if err := rig.wanted(ctx, n); err != nil {
			return err
		}
		var out PlanningReport
		for _, c := range []struct {
			name  string
			rows  int // of a person
			times *PlanningTimes
		}{{"email", 1, &out.Email}, {"both", 2, &out.Both}} {
			var cpu, wall []float64
			for i := range n.Events + 1 {
				r.progress.step("%s, event %d of %d", c.name, i, n.Events)
				stop := func() {}
				if i > 0 { // the first fills the caches
					if stop, err = r.profile(); err != nil {
						return err
					}
				}
				defer stop()
				t, err := rig.plan(ctx, n, c.name, c.rows, p)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				if i > 0 {
					cpu, wall = append(cpu, t.CPU), append(wall, t.Wall)
				}
			}
			*c.times = PlanningTimes{CPU: rounded(median(cpu)), Wall: rounded(median(wall))}
		}
		r.report.Planning, r.report.notes.planning = &out, n
		return nil
	})
}

// wanted declares the people and what names them. They are in parts; each rule
// names one, by a group of its people, by a role they have at the site, or one by
// one, and each part is named by n.Each subscriptions.
func (r *rig) wanted(ctx context.Context, n Planning) error {
	parts := make([][]string, n.Subscriptions*n.Rules/n.Each)
	users := make([]map[string]any, n.People)
	var sets []map[string]any
	for i := range n.People {
		id, part := crowdUser(i), i%len(parts)
		users[i] = map[string]any{"id": id, "name": "Bench " + strconv.Itoa(i), "state": "active", "email": mailOf(i)}
		parts[part] = append(parts[part], id)
		sets = append(sets, map[string]any{"object": "school", "principal": id, "grants": []map[string]any{{"principal": id, "role": "role" + strconv.Itoa(part)}}})
	}
	objects := []map[string]any{{"id": "school", "type": "site"}, {"id": "hall", "type": "course", "parent": "school"}}
	if err := r.api.Call(ctx, http.MethodPost, "/v1/objects:batch", objects, nil); err != nil {
		return err
	}
	for from := 0; from < n.People; from += 5000 {
		to := min(from+5000, n.People)
		if err := r.api.Call(ctx, http.MethodPost, "/v1/users:batch", users[from:to], nil); err != nil {
			return err
		}
		if err := r.api.Call(ctx, http.MethodPost, "/v1/grants:batch", sets[from:to], nil); err != nil {
			return err
		}
	}
	for i, ids := range parts {
		name := strconv.Itoa(i)
		if err := r.api.Call(ctx, http.MethodPut, "/v1/groups/part"+name, map[string]any{"name": "Part " + name, "members": ids}, nil); err != nil {
			return err
		}
	}
	for name, channels := range map[string][]string{"email": {"email"}, "both": {"email", "inbox"}} {
		for s := range n.Subscriptions {
			var rules []any
			for i := range n.Rules {
				part := (s*n.Rules + i) % len(parts)
				of := strconv.Itoa(part)
				switch {
				case i == n.Rules-1 && len(parts[part]) <= 100:
					rules = append(rules, map[string]any{"explicit": map[string]any{"users": parts[part]}})
				case i%2 == 0:
					rules = append(rules, map[string]any{"explicit": map[string]any{"groups": []string{"part" + of}}})
				default:
					rules = append(rules, map[string]any{"role": map[string]any{"roles": []string{"role" + of}}})
				}
			}
			if err := r.subscribe(ctx, planType+name, map[string]any{"channels": channels}, rules...); err != nil {
				return err
			}
		}
	}
	return nil
}

// plan publishes one event, waits until it is planned and counts who is told.
func (r *rig) plan(ctx context.Context, n Planning, name string, rows int, p *postbox) (t PlanningTimes, err error) {
	body := appendEvent(nil, planType+name, r.seq.Add(1)-1)
	body = []byte(strings.Replace(string(body), `"object":"course/`, `"object":"hall","subject":"course/`, 1))
	before, err := figure(ctx, r.api, "belfry_deliveries_planned_total")
	if err != nil {
		return t, err
	}
	p.begin(func(address string, _ *belfry.Message) error { _, err := personOf(address); return err })
	var answer bytes.Buffer
	start, worked := time.Now(), processorTime()
	if err = r.publish(ctx, body, &answer); err == nil {
		err = settle(ctx, r.asks) // nothing is planned at once, and to ask costs
	}
	if err == nil {
		err = r.planned(ctx, answer.Bytes())
	}
	t = PlanningTimes{CPU: milliseconds(processorTime() - worked), Wall: milliseconds(time.Since(start))}
	p.release()
	if err != nil {
		return t, err
	}
	if err := r.counted(ctx, "belfry_deliveries_planned_total", before+float64(rows*n.People)); err != nil {
		return t, err
	}
	if err := p.wait(ctx, n.People, 2*time.Minute); err != nil {
		return t, err
	}
	for { // what became of them is recorded, and in nobody else's time
		open, err := figure(ctx, r.api, "belfry_deliveries_open")
		if err != nil || open == 0 {
			return t, err
		}
		if err := settle(ctx, 20*time.Millisecond); err != nil {
			return t, err
		}
	}
}

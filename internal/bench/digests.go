package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Digests says how a run of digests is measured: each of Items events for each
// of People, who are in groups of Group that share their events.
type Digests struct {
	People, Group, Items int
}

// DigestsReport is what digests take that fall due at once.
type DigestsReport struct {
	Shared   DigestsRun `json:"shared"`   // each event is in the digests of a whole group
	Distinct DigestsRun `json:"distinct"` // each event is in one digest
}

// DigestsRun is the figures of one run.
type DigestsRun struct {
	Digests float64 `json:"digests_per_s"`
	CPU     float64 `json:"cpu_us,omitempty"` // of a digest, the whole process; left out where it cannot be told
	Items   int     `json:"items"`
	Events  int     `json:"events"`
}

const digestType = "bench.digest"

// digests measures digests that fall due: read, sealed, checked, rendered, handed
// to the channel and recorded.
func (r *run) digests(ctx context.Context) error {
	var out DigestsReport
	var err error
	if out.Shared, err = r.digestsOf(ctx, true); err != nil {
		return err
	}
	if out.Distinct, err = r.digestsOf(ctx, false); err != nil {
		return err
	}
	r.report.Digests, r.report.notes.digests = &out, r.Size.Digests
	return nil
}

func (r *run) digestsOf(ctx context.Context, shared bool) (out DigestsRun, err error) {
	n := r.Size.Digests
	name := "distinct events"
	if shared {
		name = "shared events"
	}
	pl, err := r.places.next(ctx)
	if err != nil {
		return out, err
	}
	defer r.places.empty(pl)
	p := newPostbox()
	var ahead atomic.Int64
	with := Parts{Kinds: p.kinds(), Ahead: func() time.Duration { return time.Duration(ahead.Load()) }}
	err = r.servingAt(ctx, p.config(pl.config(r.key)), with, func(ctx context.Context, rig *rig) error {
		step := func(what string, done, of int) {
			r.progress.step("%s, %s %s of %s", name, what, thousands(done), thousands(of))
		}
		if err := rig.readers(ctx, n, shared, step); err != nil {
			return err
		}
		events := n.People * n.Items
		if shared {
			events /= n.Group
		}
		if err := rig.gatherItems(ctx, events, n, shared, step); err != nil {
			return err
		}
		p.begin(n.check(shared))
		p.release()
		r.progress.step("%s, %s digests", name, thousands(n.People))
		stop, err := r.profile()
		if err != nil {
			return err
		}
		defer stop()
		worked := processorTime()
		ahead.Store(int64(49 * time.Hour)) // past the next morning everywhere
		if err := p.wait(ctx, n.People, 10*time.Minute); err != nil {
			return err
		}
		out = DigestsRun{Digests: rounded(rate(int64(n.People-1), p.span())), CPU: rounded(micros(processorTime()-worked) / float64(n.People)), Items: n.People * n.Items, Events: events}
		return nil
	})
	return out, err
}

// readers declares the people with their groups, and what they are told of day
// by day.
func (r *rig) readers(ctx context.Context, n Digests, shared bool, step func(what string, done, of int)) error {
	words := map[string]any{"subject": "{{event.data.fullname}} was changed", "body": "Change no. {{event.data.seq}} of {{event.data.shortname}} by {{actor.name}}."}
	if err := r.api.Call(ctx, http.MethodPut, "/v1/templates/default", words, nil); err != nil {
		return err
	}
	for from := 0; from < n.People; from += n.Group {
		people := min(n.Group, n.People-from)
		users, ids := make([]map[string]any, people), make([]string, people)
		for i := range people {
			ids[i] = crowdUser(from + i)
			users[i] = map[string]any{"id": ids[i], "name": "Bench " + strconv.Itoa(from+i), "state": "active", "email": mailOf(from + i)}
		}
		if err := r.api.Call(ctx, http.MethodPost, "/v1/users:batch", users, nil); err != nil {
			return err
		}
		group := "readers/" + strconv.Itoa(from/n.Group)
		if err := r.api.Call(ctx, http.MethodPut, "/v1/groups/"+strings.ReplaceAll(group, "/", "%2F"), map[string]any{"name": group, "members": ids}, nil); err != nil {
			return err
		}
		if shared {
			if err := r.daily(ctx, digestType+strconv.Itoa(from/n.Group), map[string]any{"explicit": map[string]any{"groups": []string{group}}}); err != nil {
				return err
			}
		}
		step("people", from+people, n.People)
	}
	if shared {
		return nil
	}
	return r.daily(ctx, digestType, map[string]any{"related": map[string]any{}})
}

func (r *rig) daily(ctx context.Context, typ string, rule any) error {
	return r.api.Call(ctx, http.MethodPost, "/v1/subscriptions", map[string]any{
		"title": "Changes of courses", "types": []string{typ}, "notify": []any{map[string]any{"channels": []string{"email"}}},
		"recipients": []any{rule}, "frequency": map[string]any{"every": "daily"},
	}, nil)
}

// gatherItems publishes the events and waits until all are planned. Event i is
// for group or person i modulo their number, and names itself by i.
func (r *rig) gatherItems(ctx context.Context, events int, n Digests, shared bool, step func(what string, done, of int)) error {
	before, err := r.plannedEvents(ctx)
	if err != nil {
		return err
	}
	const batch = 100
	var body []byte
	for from := 0; from < events; from += batch {
		body = append(body[:0], '[')
		for i := from; i < min(from+batch, events); i++ {
			if i > from {
				body = append(body, ',')
			}
			if shared {
				body = appendEvent(body, digestType+strconv.Itoa(i%(n.People/n.Group)), int64(i))
			} else {
				body = appendEvent(body, digestType, int64(i))
				body = append(body[:len(body)-1], `,"related":["`+crowdUser(i%n.People)+`"]}`...)
			}
		}
		if err := r.publish(ctx, append(body, ']'), nil); err != nil {
			return err
		}
		if from/batch%50 == 0 {
			step("events", from, events)
		}
	}
	patience := time.Now().Add(20 * time.Minute)
	for {
		planned, err := r.plannedEvents(ctx)
		if err != nil {
			return err
		}
		if done := int(planned - before); done >= events {
			return nil
		} else if step("planned", done, events); time.Now().After(patience) {
			return errors.New("the events were not planned within 20 minutes")
		}
		if err := settle(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// checked is how many digests share one look into one.
const checked = 16

// check looks whether a digest speaks of every event that is for its reader and
// of no other.
func (n Digests) check(shared bool) func(address string, m *belfry.Message) error {
	return func(address string, m *belfry.Message) error {
		who, err := personOf(address)
		if err != nil || who%checked != 0 {
			return err
		}
		first, every := who, n.People
		if shared {
			first, every = who/n.Group, n.People/n.Group
		}
		for k := range n.Items {
			seq := strconv.Itoa(first + k*every)
			for _, text := range []string{m.Text, m.HTML} {
				if got := strings.Count(text, "Change no. "+seq+" of "); got != 1 {
					return fmt.Errorf("change no. %s is in it %d times", seq, got)
				}
			}
		}
		if got := bytes.Count([]byte(m.Text), []byte("Change no. ")); got != n.Items {
			return fmt.Errorf("it has %d items, not %d", got, n.Items)
		}
		return nil
	}
}

package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/client"
)

// answered is an answer with another status than expected.
type answered struct {
	status int
	retry  string
	text   string
}

func (a *answered) Error() string {
	return fmt.Sprintf("the server answered %d: %s", a.status, strings.TrimSpace(a.text))
}

// filling makes an event about 600 bytes long, like those of a platform.
var filling = strings.Repeat("Introduction to field operations, ", 13)

// appendEvent appends an event in our form with a sequence number.
func appendEvent(b []byte, typ string, seq int64) []byte {
	b = append(b, `{"source":"/bench","type":"`...)
	b = append(b, typ...)
	b = append(b, `","object":"course/`...)
	b = strconv.AppendInt(b, seq%500, 10)
	b = append(b, `","actor":"user/8","data":{"seq":`...)
	b = strconv.AppendInt(b, seq, 10)
	b = append(b, `,"shortname":"CPR","fullname":"Cardiopulmonary Resuscitation","summary":"`...)
	b = append(b, filling...)
	return append(b, `"}}`...)
}

// appendEvents appends an array of n events.
func appendEvents(b []byte, typ string, seq int64, n int) []byte {
	b = append(b, '[')
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendEvent(b, typ, seq+int64(i))
	}
	return append(b, ']')
}

// rig is a server under test, or several of one database, with sink and
// generator.
type rig struct {
	api   *client.Client   // the first of them
	nodes []*client.Client // all of them: load takes turns over them
	turn  atomic.Uint64
	// stubborn repeats what was not answered at the next server; its events
	// need ids.
	stubborn bool

	load *http.Client
	sink *sink
	seq  atomic.Int64  // next free sequence number
	asks time.Duration // between two questions whether an event is planned; 0 = 10 ms

	fan       int // endpoints told of every bench.fanout event
	endpoints []string
}

func newRig(url, key string, s *sink, others ...string) (*rig, error) {
	r := &rig{load: loadClient(), sink: s}
	for _, u := range append([]string{url}, others...) {
		api, err := client.New(u, key, "")
		if err != nil {
			return nil, err
		}
		r.nodes = append(r.nodes, api)
	}
	r.api = r.nodes[0]
	return r, nil
}

// next is the server whose turn it is.
func (r *rig) next() *client.Client {
	return r.nodes[r.turn.Add(1)%uint64(len(r.nodes))]
}

func (r *rig) close() { r.load.CloseIdleConnections() }

// publish posts events; when the server asks to wait, it waits. A stubborn one
// ends only with the context.
func (r *rig) publish(ctx context.Context, body []byte, out *bytes.Buffer) error {
	for {
		node := r.next()
		err := post(ctx, r.load, node.Server+"/v1/events", node.Key, body, http.StatusAccepted, out)
		wait := 20 * time.Millisecond
		var a *answered
		switch {
		case errors.As(err, &a) && a.status == http.StatusTooManyRequests:
			seconds, _ := strconv.Atoi(a.retry)
			wait = time.Duration(max(seconds, 1)) * time.Second
		case err == nil, !r.stubborn, a != nil && a.status < 500, ctx.Err() != nil:
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// setUp declares endpoints and subscriptions: fan endpoints that each hear of
// bench.fanout, the first also of bench.single.
func (r *rig) setUp(ctx context.Context, fan int) error {
	r.fan = fan
	for i := range fan {
		id, err := r.endpoint(ctx, i)
		if err != nil {
			return err
		}
		if err := r.subscribe(ctx, "bench.fanout", map[string]any{"endpoint": id}); err != nil {
			return err
		}
	}
	return r.subscribe(ctx, "bench.single", map[string]any{"endpoint": r.endpoints[0]})
}

func (r *rig) subscribe(ctx context.Context, typ string, notify map[string]any, recipients ...any) error {
	s := map[string]any{"types": []string{typ}, "notify": []any{notify}}
	if len(recipients) > 0 {
		s["recipients"] = recipients
	}
	return r.api.Call(ctx, http.MethodPost, "/v1/subscriptions", s, nil)
}

func (r *rig) begin(events int64, fan int, latencies bool) *track {
	t := newTrack(r.seq.Add(events)-events, events, fan, latencies)
	r.sink.track.Store(t)
	return t
}

// tally is what a round of deliveries came to.
type tally struct {
	rate      float64
	delivered int64 // in all, not only within the window
	repeated  int64
	checked   int64
}

// maxEvents bounds a round's events, so that its bit sets stay small.
const maxEvents = 1 << 18

// fanout publishes events to all endpoints as fast as they are delivered and
// gives deliveries a second. The generator keeps outstanding events on their
// way, no more: what is measured is a steady state, not how fast a queue fills.
func (r *rig) fanout(ctx context.Context, window time.Duration, outstanding int64) (tally, error) {
	t := r.begin(maxEvents, r.fan, false)
	return r.steady(ctx, t, window, func(ctx context.Context) (int64, error) {
		var sent int64
		var body []byte
		const batch = 10
		for ctx.Err() == nil && sent+batch <= t.events {
			if sent*int64(t.fan)-t.received.Load() > (outstanding-batch)*int64(t.fan) {
				select {
				case <-t.step:
				case <-ctx.Done():
				}
				continue
			}
			body = appendEvents(body[:0], "bench.fanout", t.base+sent, batch)
			// Not ctx: what is begun is ended, else it could not be counted.
			if err := r.publish(context.WithoutCancel(ctx), body, nil); err != nil {
				return sent * int64(t.fan), err
			}
			sent += batch
		}
		return sent * int64(t.fan), nil
	})
}

// single posts one event a request from many connections; each goes to one
// endpoint. The rate is of delivered webhooks.
func (r *rig) single(ctx context.Context, window time.Duration, outstanding int64) (tally, error) {
	t := r.begin(maxEvents, 1, false)
	return r.steady(ctx, t, window, func(ctx context.Context) (int64, error) {
		var sent, taken atomic.Int64
		var group sync.WaitGroup
		failed := make(chan error, workers)
		for range workers {
			group.Go(func() {
				var body []byte
				for ctx.Err() == nil {
					n := taken.Add(1) - 1
					if n >= t.events {
						return
					}
					for n-t.received.Load() >= outstanding {
						select {
						case <-t.step:
						case <-ctx.Done():
							return
						}
					}
					body = appendEvent(body[:0], "bench.single", t.base+n)
					if err := r.publish(context.WithoutCancel(ctx), body, nil); err != nil {
						failed <- err
						return
					}
					sent.Add(1)
				}
			})
		}
		group.Wait()
		select {
		case err := <-failed:
			return sent.Load(), err
		default:
			return sent.Load(), nil
		}
	})
}

// steady runs a generator, measures the rate of deliveries within the window
// after a warm-up, stops it and waits until all it sent has arrived.
func (r *rig) steady(ctx context.Context, t *track, window time.Duration, generate func(context.Context) (int64, error)) (tally, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	sent := make(chan int64, 1)
	go func() {
		n, err := generate(running)
		if err != nil {
			failed <- err
		}
		sent <- n
	}()
	result, err := windowed(ctx, &t.received, window/3, window, failed)
	stop()
	n := <-sent
	if err != nil {
		return tally{}, err
	}
	select {
	case err := <-failed:
		return tally{}, err
	default:
	}
	drain, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("waited 30 s"))
	defer cancel()
	if err := t.wait(drain, n); err != nil {
		return tally{}, err
	}
	return tally{rate: result, delivered: n, repeated: t.repeated.Load(), checked: t.checked.Load()}, t.sound()
}

// latency publishes perSecond events a second, each at its time whether or not
// those before were answered, and measures from the moment a request is sent
// to the receipt of its webhook.
func (r *rig) latency(ctx context.Context, perSecond int, window time.Duration) ([]time.Duration, error) {
	const warm = 50 // events that open connections and fill caches
	events := int64(perSecond)*int64(window/time.Second) + warm
	t := r.begin(events, 1, true)
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	var group sync.WaitGroup
	failed := make(chan error, 1)
	for i := range events {
		group.Go(func() {
			body := appendEvent(nil, "bench.single", t.base+i)
			t.sent[i].Store(time.Since(t.began).Nanoseconds())
			if err := r.publish(ctx, body, nil); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	group.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	drain, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("waited 15 s"))
	defer cancel()
	if err := t.wait(drain, events); err != nil {
		return nil, err
	}
	var list []time.Duration
	for i := warm; i < len(t.latencies); i++ {
		list = append(list, time.Duration(t.latencies[i].Load()))
	}
	slices.Sort(list)
	return list, t.sound()
}

// ids is the part of an answer to posted events that is read.
type ids struct {
	IDs []string `json:"ids"`
}

// posters is how many connections post batches at once.
const posters = 8

// ingest posts batches of events that nobody subscribed to from a few
// connections and gives events accepted a second and how many were accepted.
// It ends when all are planned.
func (r *rig) ingest(ctx context.Context, window time.Duration, batch int) (accepted float64, events int64, err error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	body := appendEvents(nil, "bench.ingest", 0, batch)
	var count, total atomic.Int64
	failed := make(chan error, posters)
	last := make([]bytes.Buffer, posters)
	var group sync.WaitGroup
	for i := range posters {
		group.Go(func() {
			for running.Err() == nil {
				if err := r.publish(context.WithoutCancel(running), body, &last[i]); err != nil {
					failed <- err
					return
				}
				count.Add(int64(batch))
				total.Add(int64(batch))
			}
		})
	}
	accepted, err = windowed(ctx, &count, window/4, window, failed)
	stop()
	group.Wait()
	if err != nil {
		return 0, 0, err
	}
	for i := range last {
		if err = r.planned(ctx, last[i].Bytes()); err != nil {
			return 0, 0, err
		}
	}
	return accepted, total.Load(), nil
}

// planned waits until every event of an answer to POST /v1/events is planned.
func (r *rig) planned(ctx context.Context, answer []byte) error {
	var receipt ids
	if err := json.Unmarshal(answer, &receipt); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("waited two minutes"))
	defer cancel()
	for _, id := range receipt.IDs {
		if err := r.isPlanned(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// isPlanned waits until an event is planned.
func (r *rig) isPlanned(ctx context.Context, id string) error {
	tick := time.NewTicker(cmp.Or(r.asks, 10*time.Millisecond))
	defer tick.Stop()
	for {
		var trace struct{ Planned bool }
		if err := r.api.Call(ctx, http.MethodGet, "/v1/events/"+id+"/trace?limit=1", nil, &trace); err != nil {
			return err
		}
		if trace.Planned {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("event %s was not planned: %w", id, context.Cause(ctx))
		}
	}
}

// inbox gives rows a second that reach inboxes: events to a group of people.
func (r *rig) inbox(ctx context.Context, people, events int) (float64, error) {
	users := make([]map[string]any, 0, people)
	members := make([]string, 0, people)
	for i := range people {
		id := "user/" + strconv.Itoa(100_000+i)
		users = append(users, map[string]any{"id": id, "name": "Bench " + strconv.Itoa(i), "state": "active"})
		members = append(members, id)
	}
	if err := r.api.Call(ctx, http.MethodPost, "/v1/users:batch", users, nil); err != nil {
		return 0, err
	}
	if err := r.api.Call(ctx, http.MethodPut, "/v1/groups/bench", map[string]any{"name": "Bench", "members": members}, nil); err != nil {
		return 0, err
	}
	group := map[string]any{"explicit": map[string]any{"groups": []string{"bench"}}}
	if err := r.subscribe(ctx, "bench.inbox", map[string]any{"channels": []string{"inbox"}}, group); err != nil {
		return 0, err
	}
	if err := r.fill(ctx, 0, 10); err != nil { // caches of people and groups, too
		return 0, err
	}
	start := time.Now()
	if err := r.fill(ctx, 10, events); err != nil {
		return 0, err
	}
	return rate(int64(people*events), time.Since(start)), nil
}

// fill publishes n events to the group and waits until one of its people, who
// had so many entries, has them all: a page of a plan is committed whole.
func (r *rig) fill(ctx context.Context, had, n int) error {
	for sent := 0; sent < n; {
		batch := min(10, n-sent)
		body := appendEvents(nil, "bench.inbox", r.seq.Add(int64(batch))-int64(batch), batch)
		if err := r.publish(ctx, body, nil); err != nil {
			return err
		}
		sent += batch
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("waited a minute"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var counts struct{ Unread int }
		if err := r.api.Call(ctx, http.MethodGet, "/v1/users/user%2F100000/inbox/counts", nil, &counts); err != nil {
			return err
		}
		switch {
		case counts.Unread == had+n:
			return nil
		case counts.Unread > had+n:
			return fmt.Errorf("an inbox has %d entries after %d events", counts.Unread, had+n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("an inbox has %d entries after %d events: %w", counts.Unread, had+n, context.Cause(ctx))
		}
	}
}

// backlog pauses every endpoint and publishes events until deliveries are due
// and wait.
func (r *rig) backlog(ctx context.Context, deliveries int) error {
	for _, id := range r.endpoints {
		if err := r.api.Call(ctx, http.MethodPost, "/v1/endpoints/"+id+"/pause", struct{}{}, nil); err != nil {
			return err
		}
	}
	const batch = 10
	var answer bytes.Buffer
	for sent := 0; sent < deliveries; sent += batch * r.fan {
		body := appendEvents(nil, "bench.fanout", r.seq.Add(batch)-batch, batch)
		if err := r.publish(ctx, body, &answer); err != nil {
			return err
		}
		if sent%(50*batch*r.fan) == 0 { // planning keeps up: the backlog is of deliveries
			if err := r.planned(ctx, answer.Bytes()); err != nil {
				return err
			}
		}
	}
	return r.planned(ctx, answer.Bytes())
}

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

// Failover says how the loss of a node is measured.
type Failover struct {
	Nodes     int // unless the run names another number
	Endpoints int
	People    int // who have each event in their inbox, too
	PerSecond int // events
	Window    time.Duration
	KillAfter time.Duration
	Lease     time.Duration
}

// FailoverReport is the account of a run in which a node was killed.
type FailoverReport struct {
	Nodes      int     `json:"nodes"`
	Accepted   int64   `json:"accepted"`   // events, each answered 202
	Deliveries int64   `json:"deliveries"` // that the events are for, inbox rows included
	Delivered  int64   `json:"delivered"`  // each once
	Duplicates int64   `json:"duplicates"` // webhooks that came again
	Lost       int64   `json:"lost"`
	Longest    float64 `json:"longest_s"` // from the moment an event was due to its last webhook
}

const (
	failoverType = "bench.fanout"
	failoverTime = 2 * time.Minute
)

// failover kills one of several nodes under load, as kill -9 does, and accounts
// for every event. The producer does what a careful one does: it gives each
// event an id, and repeats at another node what was not answered.
func (r *run) failover(ctx context.Context) error {
	f := r.Size.Failover
	if r.Options.Nodes > 0 {
		f.Nodes = r.Options.Nodes
	}
	var settings []string
	if f.Lease > 0 {
		settings = append(settings, "BELFRY_NODES_LEASE="+f.Lease.String())
	}
	s, err := r.service(ctx, f.Nodes, settings...)
	if err != nil {
		return err
	}
	defer s.close()
	for i, c := range s.nodes {
		r.progress.say("node %d is process %d, %s", i+1, c.cmd.Process.Pid, c.url)
	}
	rig := s.rig
	rig.stubborn = true
	if err := rig.setUp(ctx, f.Endpoints); err != nil {
		return s.words(err)
	}
	group := map[string]any{"explicit": map[string]any{"users": people(f.People)}}
	if err := rig.know(ctx, f.People); err != nil {
		return s.words(err)
	}
	if err := rig.subscribe(ctx, failoverType, map[string]any{"channels": []string{"inbox"}}, group); err != nil {
		return s.words(err)
	}
	load := &stream{name: "events", rig: rig, perSecond: float64(f.PerSecond), events: int64(float64(f.PerSecond) * f.Window.Seconds()), fan: f.Endpoints,
		event: func(b []byte, seq int64) []byte { return appendNamed(b, failoverType, seq) }}
	flowing, stop := context.WithCancel(ctx)
	defer stop()
	start := time.Now().Add(20 * time.Millisecond)
	answered := make(chan error, 1)
	go func() { answered <- flow(flowing, start, []*stream{load}) }()

	var flowed error
	var killed time.Duration
	timer := time.NewTimer(time.Until(start.Add(f.KillAfter)))
	defer timer.Stop()
	select {
	case flowed = <-answered:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.words(fmt.Errorf("the load ended before a node was killed: %w", flowed))
	case <-timer.C:
	}
	victim := s.nodes[len(s.nodes)-1]
	victim.kill()
	killed = time.Since(start)
	r.progress.say("node %d, process %d, was killed under load after %.1f s", len(s.nodes), victim.cmd.Process.Pid, killed.Seconds())
	if flowed = <-answered; flowed != nil {
		return s.words(flowed)
	}
	r.progress.say("all %s events are accepted; waiting until everything is settled", thousands(int(load.events)))
	lost := arrived(ctx, []*stream{load}, failoverTime)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if lost == nil {
		lost = rig.settled(ctx)
	}
	rows, twice, err := rig.inboxes(ctx, f.People, int(load.events))
	if err != nil {
		return s.words(err)
	}
	out := FailoverReport{Nodes: f.Nodes, Accepted: load.events, Deliveries: load.events * int64(f.Endpoints+f.People),
		Delivered: load.track.received.Load() + rows, Duplicates: load.track.repeated.Load()}
	out.Lost = out.Deliveries - out.Delivered
	r.count(load.tally())
	samples := load.samples()
	for _, x := range samples {
		out.Longest = max(out.Longest, rounded(x.took.Seconds()))
	}
	r.report.Failover = &out
	r.progress.say("%s", out.account())
	step := max(f.Window/60, 100*time.Millisecond)
	r.plots = append(r.plots, plot{
		name: "failover", title: fmt.Sprintf("Latency while one of %d nodes is killed", f.Nodes), about: out.account(),
		x: axis{label: "seconds, by the time the event was due"}, y: axis{label: "milliseconds from event to webhook", log: true},
		bands:  []band{{killed.Seconds(), killed.Seconds(), "kill -9"}},
		series: []series{{name: "max", color: 1, points: overTime(samples, step, 100)}, {name: "p99", points: overTime(samples, step, 99)}, {name: "p50", dashed: true, points: overTime(samples, step, 50)}},
	})
	switch {
	case twice > 0:
		lost = errors.Join(lost, fmt.Errorf("%d inbox entries are there twice", twice))
	case out.Lost > 0 && lost == nil:
		lost = fmt.Errorf("%d deliveries were lost", out.Lost)
	}
	if lost != nil {
		return s.words(fmt.Errorf("%s: %w", out.account(), lost))
	}
	return nil
}

// account is the report in a line.
func (f *FailoverReport) account() string {
	return fmt.Sprintf("accepted %s events, delivered %s of %s, duplicates %s, lost = %s", thousands(int(f.Accepted)), thousands(int(f.Delivered)),
		thousands(int(f.Deliveries)), thousands(int(f.Duplicates)), thousands(int(f.Lost)))
}

// appendNamed is appendEvent with an id, so that the event can be repeated.
func appendNamed(b []byte, typ string, seq int64) []byte {
	b = append(b, `{"id":"`...)
	b = strconv.AppendInt(b, seq, 10)
	b = append(b, `",`...)
	n := len(b)
	b = appendEvent(b, typ, seq)
	return append(b[:n], b[n+1:]...) // without its brace
}

func people(n int) []string {
	list := make([]string, 0, n)
	for i := range n {
		list = append(list, crowdUser(i))
	}
	return list
}

// know declares people.
func (r *rig) know(ctx context.Context, n int) error {
	users := make([]map[string]any, 0, n)
	for _, id := range people(n) {
		users = append(users, map[string]any{"id": id, "name": id, "state": "active"})
	}
	return r.api.Call(ctx, http.MethodPost, "/v1/users:batch", users, nil)
}

// settled waits until no delivery wants a send any more. It asks for them, for
// the figures of one of several nodes are only now and then counted.
func (r *rig) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, failoverTime, fmt.Errorf("waited %v", failoverTime))
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		open := 0
		for _, state := range []string{"scheduled", "retrying"} {
			var list struct{ Items []struct{ ID string } }
			if err := r.api.Call(ctx, http.MethodGet, "/v1/deliveries?limit=1&state="+state, nil, &list); err != nil {
				return err
			}
			open += len(list.Items)
		}
		if open == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("deliveries are still open: %w", context.Cause(ctx))
		}
	}
}

// inboxes counts the entries of people who should have one an event, and those
// that are more than that.
func (r *rig) inboxes(ctx context.Context, n, events int) (rows, twice int64, err error) {
	for _, id := range people(n) {
		var counts struct{ Unread int }
		if err := r.api.Call(ctx, http.MethodGet, "/v1/users/"+url.PathEscape(id)+"/inbox/counts", nil, &counts); err != nil {
			return 0, 0, err
		}
		rows += int64(min(counts.Unread, events))
		twice += int64(max(0, counts.Unread-events))
	}
	return rows, twice, nil
}

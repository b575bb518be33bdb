package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// NodesReport compares several servers on one database to one server.
type NodesReport struct {
	Nodes      int     `json:"nodes"`
	One        float64 `json:"one_deliveries_per_s"`
	Many       float64 `json:"deliveries_per_s"`
	Loss       float64 `json:"loss"` // part of one's rate; below 0 = many were faster
	Duplicates int64   `json:"duplicates"`
	Lost       int64   `json:"lost"` // a run with any fails
}

// nodesOrTwo is how many servers share a database.
func (o *Options) nodesOrTwo() int { return max(o.Nodes, 2) }

// service is servers in processes of their own on one database, with a sink.
type service struct {
	rig   *rig
	nodes []*child
	close func()
}

// service starts n servers and waits until they share the work.
func (r *run) service(ctx context.Context, n int, settings ...string) (_ *service, err error) {
	s := &service{close: func() {}}
	onClose := func(f func()) { before := s.close; s.close = func() { f(); before() } }
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	sink, err := startSink()
	if err != nil {
		return nil, err
	}
	onClose(sink.close)
	pl, err := r.places.next(ctx)
	if err != nil {
		return nil, err
	}
	onClose(func() { r.places.empty(pl) })
	var urls []string
	for i := range n {
		dir := filepath.Join(pl.dir, fmt.Sprint("node-", i+1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		c, err := startChild(ctx, r.Program[0], r.Program[1:], append(pl.environ(r.key), append([]string{"BELFRY_DATA_DIR=" + dir}, settings...)...))
		if err != nil {
			return nil, fmt.Errorf("node %d: %w", i+1, err)
		}
		onClose(c.stop)
		s.nodes, urls = append(s.nodes, c), append(urls, c.url)
	}
	if s.rig, err = newRig(urls[0], r.key, sink, urls[1:]...); err != nil {
		return nil, err
	}
	onClose(s.rig.close)
	return s, s.rig.divided(ctx, n)
}

// words are the last of each process, for an error that is not an end asked
// for.
func (s *service) words(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	for i, c := range s.nodes {
		if text := c.tail.String(); text != "" {
			err = fmt.Errorf("%w\nlast words of node %d:\n%s", err, i+1, text)
		}
	}
	return err
}

// divided waits until n living nodes have their parts of the work.
func (r *rig) divided(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("waited a minute"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var table struct {
			Nodes []struct {
				Alive  bool
				Shards map[string]int
			}
		}
		if err := r.api.Call(ctx, http.MethodGet, "/v1/nodes", nil, &table); err != nil {
			return err
		}
		fair, total := 0, map[string]int{}
		for _, node := range table.Nodes {
			plan, deliver := node.Shards["plan"], node.Shards["delivery"]
			total["plan"] += plan
			total["delivery"] += deliver
			if node.Alive && min(plan, deliver) >= 256/n {
				fair++
			}
		}
		if fair == n && total["plan"] == 256 && total["delivery"] == 256 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d nodes did not share the work (%d have their part): %w", n, fair, context.Cause(ctx))
		}
	}
}

// severalNodes measures fan-out with one server on one database and several on
// another, in turn.
func (r *run) severalNodes(ctx context.Context) error {
	n := r.nodesOrTwo()
	one, err := r.service(ctx, 1)
	if err != nil {
		return err
	}
	defer one.close()
	many, err := r.service(ctx, n)
	if err != nil {
		return err
	}
	defer many.close()
	out := NodesReport{Nodes: n}
	rates := map[*service][]float64{}
	for _, s := range []*service{one, many} {
		if err := s.rig.setUp(ctx, r.Size.Endpoints); err != nil {
			return s.words(err)
		}
	}
	for i := range r.Size.Rounds + 1 {
		order := []*service{one, many}
		if i%2 == 1 { // so that neither always follows the other
			order[0], order[1] = order[1], order[0]
		}
		for _, s := range order {
			r.progress.step("round %d of %d, %d nodes", i, r.Size.Rounds, len(s.nodes))
			t, err := s.rig.fanout(ctx, r.Size.Window, r.Size.Outstanding/16)
			if err != nil {
				return s.words(fmt.Errorf("%d nodes: %w", len(s.nodes), err))
			}
			r.count(t)
			out.Duplicates += t.repeated
			if i > 0 {
				rates[s] = append(rates[s], t.rate)
			}
		}
	}
	out.One, out.Many = rounded(median(rates[one])), rounded(median(rates[many]))
	out.Loss = rounded(1 - out.Many/out.One)
	r.report.Nodes = &out
	return nil
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfryhq/belfry/internal/client"
)

// figure reads one of a server's metrics.
func figure(ctx context.Context, api *client.Client, name string) (float64, error) {
	resp, err := api.Send(ctx, http.MethodGet, "/metrics", "", nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// maxUnplanned is how many events may be accepted and not yet planned while
// both are measured at once: enough for full batches everywhere, a fraction of
// a second of work.
const maxUnplanned = 20_000

// ingestPlanned posts batches of events that nobody subscribed to, and holds
// back while too many wait to be planned. It gives the events planned a second
// in the window, which are those accepted a second, for their difference is
// bounded.
func (r *rig) ingestPlanned(ctx context.Context, window time.Duration, batch int) (float64, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	before, err := r.plannedEvents(ctx)
	if err != nil {
		return 0, err
	}
	body := appendEvents(nil, "bench.ingest", 0, batch)
	var sent, planned atomic.Int64
	planned.Store(before)
	failed := make(chan error, posters)
	more := make(chan struct{}, posters)
	var group sync.WaitGroup
	for range posters {
		group.Go(func() {
			for running.Err() == nil {
				if sent.Load()+before-planned.Load() > maxUnplanned {
					select {
					case <-more:
					case <-running.Done():
					}
					continue
				}
				sent.Add(int64(batch))
				if err := r.publish(context.WithoutCancel(running), body, nil); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	// look reads the counter of planned events and the time it was read.
	look := func() (int64, time.Time, error) {
		n, err := r.plannedEvents(ctx)
		now := time.Now()
		planned.Store(n)
		for range posters {
			select {
			case more <- struct{}{}:
			default:
			}
		}
		return n, now, err
	}
	follow := func(until func(n int64, at time.Time) bool) (int64, time.Time, error) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			n, at, err := look()
			if err != nil || until(n, at) {
				return n, at, err
			}
			select {
			case <-tick.C:
			case err := <-failed:
				return n, at, err
			case <-ctx.Done():
				return n, at, context.Cause(ctx)
			}
		}
	}
	begin := time.Now()
	from, start, err := follow(func(_ int64, at time.Time) bool { return at.Sub(begin) >= window/3 })
	to, end := from, start
	if err == nil {
		to, end, err = follow(func(n int64, at time.Time) bool {
			took := at.Sub(start)
			return took >= window && n > from || took >= 20*window // as windowed does
		})
	}
	stop()
	group.Wait()
	if err != nil {
		return 0, err
	}
	select {
	case err = <-failed:
		return 0, err
	default:
	}
	// All that was accepted is planned, else the rate was that of something lost.
	patience := time.Now().Add(time.Minute)
	late := false
	n, _, err := follow(func(n int64, at time.Time) bool {
		late = at.After(patience)
		return late || n >= before+sent.Load()
	})
	switch {
	case err != nil:
		return 0, err
	case late:
		return 0, fmt.Errorf("%d of %d accepted events were not planned within a minute", before+sent.Load()-n, sent.Load())
	case to == from:
		return 0, errors.New("nothing was planned within the window")
	}
	return rate(to-from, end.Sub(start)), nil
}

// plannedEvents is how many events the servers have planned since they began.
func (r *rig) plannedEvents(ctx context.Context) (int64, error) {
	var sum int64
	for _, api := range r.nodes {
		n, err := figure(ctx, api, "belfry_events_planned_total")
		if err != nil {
			return 0, err
		}
		sum += int64(n)
	}
	return sum, nil
}

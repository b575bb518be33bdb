package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Hanging says how endpoints that hang are measured.
type Hanging struct {
	Endpoints int           // in all
	Hang      int           // of them, the last
	Pause     time.Duration // before each of their answers
	PerSecond int           // deliveries to all
	Window    time.Duration // of a round, longer than Pause
	Rounds    int           // with and without in turn
}

// HangingReport is the latency of healthy endpoints beside a run without the
// hanging ones, in milliseconds from the time an event was due to be sent.
type HangingReport struct {
	Without Latency `json:"without"`
	With    Latency `json:"with"`
	Ratio   float64 `json:"p99_ratio"`
}

const hangingType = "bench.to."

// hanging publishes events to one endpoint each, in turn. In every second round
// those to the hanging endpoints are left out; the healthy ones get the same
// load at the same times in all rounds.
func (r *run) hanging(ctx context.Context) error {
	return r.serving(ctx, func(ctx context.Context, rig *rig) error {
		h := r.Size.Hanging
		if err := rig.endpointEach(ctx, h.Endpoints, hangingType); err != nil {
			return err
		}
		healthy := h.Endpoints - h.Hang
		var with, without, before, after []sample
		for round := range 2*h.Rounds + 1 { // the first opens connections and fills caches
			r.progress.step("round %d of %d", round, 2*h.Rounds)
			hangs := round > 0 && round%2 == 0
			window := h.Window
			if round == 0 {
				window = min(window, 2*time.Second)
			}
			list, err := r.hangingRound(ctx, rig, h, window, hangs)
			if err != nil {
				return err
			}
			switch {
			case round == 0:
			case hangs:
				with, after = append(with, list...), list
			default:
				without, before = append(without, list...), list
			}
		}
		out := HangingReport{Without: latencyOf(between(without, 0, h.Window)), With: latencyOf(between(with, 0, h.Window))}
		out.Ratio = rounded(out.With.P99 / out.Without.P99)
		r.report.Hanging = &out
		r.report.notes.hanging = h
		step := max(h.Window/30, 200*time.Millisecond)
		r.plots = append(r.plots, plot{
			name: "hanging", title: fmt.Sprintf("Latency of %d healthy endpoints beside %d that hang for %v", healthy, h.Hang, h.Pause),
			about: fmt.Sprintf("p99 %.2f ms without and %.2f ms with the hanging endpoints, %.2f times as much.", out.Without.P99, out.With.P99, out.Ratio),
			x:     axis{label: "seconds"}, y: axis{label: "milliseconds from event to webhook", log: true},
			series: []series{
				{name: "without, p99", points: overTime(before, step, 99)}, {name: "without, p50", dashed: true, points: overTime(before, step, 50)},
				{name: "with, p99", color: 1, points: overTime(after, step, 99)}, {name: "with, p50", color: 1, dashed: true, points: overTime(after, step, 50)},
			},
		})
		return nil
	})
}

// hangingRound gives the healthy endpoints' deliveries.
func (r *run) hangingRound(ctx context.Context, rig *rig, h Hanging, window time.Duration, hangs bool) ([]sample, error) {
	healthy := h.Endpoints - h.Hang
	per := float64(h.PerSecond) / float64(h.Endpoints)
	main := &stream{name: "healthy endpoints", rig: rig, perSecond: per * float64(healthy), fan: 1, endpoints: healthy}
	main.events = int64(main.perSecond * window.Seconds())
	main.event = func(b []byte, seq int64) []byte {
		return appendEvent(b, hangingType+strconv.FormatInt(seq%int64(healthy), 10), seq)
	}
	streams := []*stream{main}
	release := func() {}
	if hangs {
		hung := &hang{from: healthy, pause: h.Pause, release: make(chan struct{})}
		release = sync.OnceFunc(func() { rig.sink.hang.Store(nil); close(hung.release) })
		defer release() // else the server's stop would wait for its sends
		rig.sink.hang.Store(hung)
		slow := &stream{name: "hanging endpoints", rig: rig, perSecond: per * float64(h.Hang), fan: 1, endpoints: h.Endpoints}
		slow.events = int64(slow.perSecond * window.Seconds())
		slow.event = func(b []byte, seq int64) []byte {
			return appendEvent(b, hangingType+strconv.Itoa(healthy+int(seq%int64(h.Hang))), seq)
		}
		streams = append(streams, slow)
	}
	if err := flow(ctx, time.Now().Add(20*time.Millisecond), streams); err != nil {
		return nil, err
	}
	release()
	if err := arrived(ctx, streams, time.Minute); err != nil {
		return nil, err
	}
	for _, s := range streams {
		r.count(s.tally())
	}
	return slices.Clip(main.samples()), nil
}

// endpointEach declares n endpoints, each told of events of a type of its own.
func (r *rig) endpointEach(ctx context.Context, n int, prefix string) error {
	for i := range n {
		id, err := r.endpoint(ctx, i)
		if err != nil {
			return err
		}
		if err := r.subscribe(ctx, prefix+strconv.Itoa(i), map[string]any{"endpoint": id}); err != nil {
			return err
		}
	}
	return nil
}

// endpoint declares endpoint n of the sink.
func (r *rig) endpoint(ctx context.Context, n int) (string, error) {
	var endpoint struct{ ID, Secret string }
	if err := r.api.Call(ctx, http.MethodPost, "/v1/endpoints", map[string]any{"url": r.sink.url + "/" + strconv.Itoa(n)}, &endpoint); err != nil {
		return "", err
	}
	r.endpoints = append(r.endpoints, endpoint.ID)
	return endpoint.ID, r.sink.keep(n, endpoint.Secret)
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// stream is a flow of events at fixed times, whatever becomes of those before:
// event n is due n/perSecond after the start. Latencies count from then, so
// that time lost in waiting for a slow server is seen and not left out.
type stream struct {
	name      string
	rig       *rig
	perSecond float64
	events    int64         // in all
	after     time.Duration // of the start of all
	fan       int           // deliveries of one event
	endpoints int           // of the sink; 0 = fan
	event     func(b []byte, seq int64) []byte

	track *track
}

// connections of a stream: more requests than these are not under way at once.
const streamWorkers = 24

// sample is one delivery: when its event was due, counted from the start of
// all, and how long later it was received.
type sample struct{ due, took time.Duration }

// flow runs streams side by side from a start on until all their events were answered. Streams
// of one sink must be of one rig, which numbers their events. It does not wait
// for deliveries.
func flow(ctx context.Context, start time.Time, streams []*stream) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	var mu sync.Mutex
	var first error
	heads := map[*sink]*track{}
	for _, s := range streams {
		if s.endpoints == 0 {
			s.endpoints = s.fan
		}
		s.track = newTrack(s.rig.seq.Add(s.events)-s.events, s.events, s.endpoints, false)
		s.track.measure(s.fan, start)
		for i := range s.track.sent {
			s.track.sent[i].Store(s.due(int64(i)).Nanoseconds())
		}
		if head := heads[s.rig.sink]; head != nil {
			head.also = append(head.also, s.track)
		} else {
			heads[s.rig.sink] = s.track
		}
	}
	for sink, head := range heads {
		sink.track.Store(head)
	}
	for _, s := range streams {
		var taken atomic.Int64
		for range streamWorkers {
			group.Go(func() {
				if err := s.work(ctx, start, &taken); err != nil {
					mu.Lock()
					defer mu.Unlock()
					if first == nil {
						first = fmt.Errorf("%s: %w", s.name, err)
						stop()
					}
				}
			})
		}
	}
	group.Wait()
	return first
}

// due is when event i is to be sent, after the start of all.
func (s *stream) due(i int64) time.Duration {
	return s.after + time.Duration(float64(i)/s.perSecond*float64(time.Second))
}

func (s *stream) work(ctx context.Context, start time.Time, taken *atomic.Int64) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var body []byte
	for {
		i := taken.Add(1) - 1
		if i >= s.events {
			return nil
		}
		timer.Reset(time.Until(start.Add(s.due(i))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		body = s.event(body[:0], s.track.base+i)
		if err := s.rig.publish(ctx, body, nil); err != nil {
			return err
		}
	}
}

// arrived waits until all deliveries of the streams are in, and says which
// stream lacks some.
func arrived(ctx context.Context, streams []*stream, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %v", patience))
	defer cancel()
	var errs []error
	for _, s := range streams {
		if err := s.track.wait(ctx, s.events*int64(s.fan)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
		} else if err := s.track.sound(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

// samples are the deliveries of a stream that all arrived, by the time they
// were due.
func (s *stream) samples() []sample {
	list := make([]sample, 0, len(s.track.latencies))
	for i := range s.track.latencies {
		if took := time.Duration(s.track.latencies[i].Load()); took > 0 {
			list = append(list, sample{due: s.due(int64(i / s.fan)), took: took})
		}
	}
	return list
}

// tally is what is counted of a stream.
func (s *stream) tally() tally {
	return tally{repeated: s.track.repeated.Load(), checked: s.track.checked.Load()}
}

// between are the sorted times of the deliveries due in [from, to).
func between(list []sample, from, to time.Duration) []time.Duration {
	var out []time.Duration
	for _, s := range list {
		if s.due >= from && s.due < to {
			out = append(out, s.took)
		}
	}
	slices.Sort(out)
	return out
}

// overTime is a percentile in milliseconds for each step of time in which
// something was due, at the middle of the step in seconds.
func overTime(list []sample, step time.Duration, p float64) []point {
	by := map[int64][]time.Duration{}
	for _, s := range list {
		by[int64(s.due/step)] = append(by[int64(s.due/step)], s.took)
	}
	out := make([]point, 0, len(by))
	for i, times := range by {
		slices.Sort(times)
		out = append(out, point{x: (float64(i) + 0.5) * step.Seconds(), y: milliseconds(percentile(times, p))})
	}
	slices.SortFunc(out, func(a, b point) int { return int(a.x*1000 - b.x*1000) })
	return out
}

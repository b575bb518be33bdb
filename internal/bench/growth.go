package bench

import (
	"context"
	"fmt"
	"time"
)

// Growth says at how many stored deliveries the cost of new ones is measured.
type Growth struct {
	Stored []int         // rising
	Window time.Duration // of a round, shorter while there is little
	Limit  time.Duration // when it is over, the last is measured with what is stored then
}

// GrowthPoint is the cost of a delivery and of an event with so many deliveries
// stored, all delivered and recorded.
type GrowthPoint struct {
	Stored   int     `json:"stored_deliveries"`
	Delivery float64 `json:"delivery_us"` // of an event to many endpoints: its share of accepting, planning, sending and recording
	Event    float64 `json:"event_us"`    // to one endpoint, the request included
}

// growth fills the database with deliveries by delivering them, and measures
// on the way: what fills it is what is measured.
func (r *run) growth(ctx context.Context) error {
	return r.serving(ctx, func(ctx context.Context, rig *rig) error {
		g := r.Size.Growth
		if err := rig.setUp(ctx, r.Size.Endpoints); err != nil {
			return err
		}
		began := time.Now()
		stored, speed := 0, 0.0
		way := series{name: "on the way"}
		// fanout is a round of fan-out; all of it is stored afterwards.
		fanout := func(window time.Duration) (float64, error) {
			t, err := rig.fanout(ctx, window, r.Size.Outstanding/16)
			if err != nil {
				return 0, err
			}
			r.count(t)
			stored += int(t.delivered)
			speed = t.rate
			way.points = append(way.points, point{float64(stored), microseconds(t.rate)})
			r.progress.step("%s of %s deliveries, %s", thousands(stored), thousands(g.Stored[len(g.Stored)-1]), perSecond(t.rate))
			return t.rate, nil
		}
		if _, err := fanout(min(g.Window, 100*time.Millisecond)); err != nil { // opens connections
			return err
		}
		way.points = nil
		for _, target := range g.Stored {
			for stored < target && time.Since(began) < g.Limit {
				// A round takes a third more than its window.
				missing := time.Duration(float64(target-stored) / speed * 0.7 * float64(time.Second))
				if _, err := fanout(max(min(missing, 10*time.Second), 50*time.Millisecond)); err != nil {
					return err
				}
			}
			p := GrowthPoint{Stored: stored}
			// What is measured with little stored must not store much.
			window := max(min(g.Window, time.Duration(float64(stored)/speed/4*float64(time.Second))), 100*time.Millisecond)
			rate, err := r.middle(func() (float64, error) { return fanout(window) })
			if err != nil {
				return err
			}
			p.Delivery = rounded(microseconds(rate))
			rate, err = r.middle(func() (float64, error) {
				t, err := rig.single(ctx, window, r.Size.Outstanding)
				r.count(t)
				stored += int(t.delivered)
				return t.rate, err
			})
			if err != nil {
				return fmt.Errorf("single: %w", err)
			}
			p.Event = rounded(microseconds(rate))
			r.report.Growth = append(r.report.Growth, p)
			if time.Since(began) >= g.Limit {
				break
			}
		}
		r.growthPlot(way)
		return nil
	})
}

// middle is the median of three rounds.
func (r *run) middle(measure func() (float64, error)) (float64, error) {
	var rates []float64
	for range 3 {
		rate, err := measure()
		if err != nil {
			return 0, err
		}
		rates = append(rates, rate)
	}
	return median(rates), nil
}

// microseconds is the time of one at a rate.
func microseconds(rate float64) float64 { return 1e6 / rate }

func (r *run) growthPlot(way series) {
	delivery, event := series{name: "a delivery of many", dots: true}, series{name: "an event to one", color: 1, dots: true}
	for _, p := range r.report.Growth {
		delivery.points = append(delivery.points, point{float64(p.Stored), p.Delivery})
		event.points = append(event.points, point{float64(p.Stored), p.Event})
	}
	way.color, way.dashed = 5, true
	first, last := r.report.Growth[0], r.report.Growth[len(r.report.Growth)-1]
	r.report.GrowthRatio = rounded(last.Delivery / first.Delivery)
	r.plots = append(r.plots, plot{
		name: "growth", title: "Cost with deliveries stored, " + r.report.Database,
		about: fmt.Sprintf("A delivery takes %.1f us with %s stored and %.1f us with %s.", first.Delivery, thousands(first.Stored), last.Delivery, thousands(last.Stored)),
		x:     axis{label: "deliveries stored", log: true}, y: axis{label: "microseconds, receiver and generator included"},
		series: []series{delivery, event, way},
	})
}

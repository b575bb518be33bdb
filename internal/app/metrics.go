package app

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/belfryhq/belfry/internal/connector"
)

// metrics serves the program's figures for Prometheus. Nothing is labelled by
// tenant, destination or event type: such series have no bound.
func (a *App) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{app: a})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorLog: nil, Timeout: 10 * time.Second})
}

// collector reads counters when asked, so counting costs the hot paths nothing
// but an addition.
type collector struct{ app *App }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("belfry_"+name, help, labels, nil)
}

// Describe describes nothing, which makes the collector unchecked: its series
// depend on the channels that are set up.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect gives the figures of now.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	n := c.app.counters
	f := c.app.dispatcher.Figures() // first: a send that ends meanwhile is counted as both, and not as neither
	count(desc("events_planned_total", "Events whose plan was committed."), float64(n.Planned.Load()))
	count(desc("deliveries_planned_total", "Deliveries committed, inbox entries included."), float64(n.Deliveries.Load()))
	count(desc("suppressions_total", "Recipients that were named and not told, with reasons."), float64(n.Suppressed.Load()))
	count(desc("conditions_met_total", "Events by which conditions of subscriptions told, those that are over included."), float64(n.ConditionsMet.Load()))
	count(desc("plan_faults_total", "Events whose planning failed for good."), float64(n.PlanFaults.Load()))
	count(desc("deliveries_postponed_total", "Deliveries put off by a limit of their channel (max_per_second, max_per_day), each time."), float64(n.Postponed.Load()))
	sends := desc("sends_total", "Sends by channel and outcome.", "channel", "outcome")
	took := desc("send_seconds_total", "Time spent in sends by channel and outcome.", "channel", "outcome")
	for k, v := range n.Attempts() {
		count(sends, float64(v.N), k.Channel, k.Outcome)
		count(took, v.Took.Seconds(), k.Channel, k.Outcome)
	}
	active, evaluated := c.app.subs.Totals()
	gauge(desc("subscriptions", "Active subscriptions in this process's indexes."), float64(active))
	gauge(desc("subscriptions_evaluated", "Those whose filter has no equality to be looked up by, and is evaluated for each event of its types where it sits."), float64(evaluated))
	gauge(desc("deliveries_in_memory", "Deliveries in the dispatcher's window."), float64(c.app.dispatcher.InFlight()))
	gauge(desc("destinations", "Destinations known in memory."), float64(f.Destinations))
	gauge(desc("destinations_broken", "Destinations that are left alone for failing, or being probed."), float64(f.Broken))
	gauge(desc("destinations_slow", "Destinations whose sends take long; they have senders of their own."), float64(f.Slow))
	gauge(desc("destinations_paused", "Destinations whose endpoint is paused."), float64(f.Paused))
	gauge(desc("channels_used_up", "Channels whose limit of the day (max_per_day) is used up."), float64(f.UsedUp))
	gauge(desc("tenant_limits_used_up", "Limits of tenants on channels that all share (per_day) that are used up for today."), float64(f.SharesUsedUp))
	gauge(desc("sends_in_flight", "Sends under way."), float64(f.Sending))
	gauge(desc("deliveries_queued", "Deliveries in memory that wait for a sender."), float64(f.Queued))

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stats, err := c.app.db.Stats(ctx)
	if err == nil {
		err = c.app.db.Ping(ctx)
	}
	gauge(desc("database_up", "1 while the database answers; what is asked of it is left out of this page otherwise."), bit(err == nil))
	gauge(desc("clock_off_seconds", "How far this server's time is ahead of this machine's time of day, which was set or differs from the database's."), c.app.clock.off().Seconds())
	if room := c.app.db.Room(); room >= 0 {
		gauge(desc("disk_room_bytes", "What the disk of the database still takes (SQLite)."), float64(room))
	}
	if err == nil {
		var pending, open int64
		for _, t := range stats.Tenants {
			pending += t.PendingPlans
			open += t.OpenDeliveries
		}
		gauge(desc("events_pending", "Accepted events that wait to be planned."), float64(pending))
		gauge(desc("deliveries_open", "Deliveries that still want a send."), float64(open))
		gauge(desc("database_bytes", "Size of the database with its log."), float64(stats.Size))
		count(desc("database_commits_total", "Transactions committed by the doors."), float64(stats.Commits))
		count(desc("database_calls_total", "Calls those transactions served."), float64(stats.Jobs))
	}
	c.app.upkeepFigures(ctx, count, gauge)
	lag := desc("source_lag_seconds", "How far a source is behind its platform.", "source")
	failing := desc("source_failing", "1 while a source reports an error.", "source")
	for name, st := range c.app.sources.all() {
		gauge(lag, st.Lag.Seconds(), name)
		bad := 0.0
		if st.State == connector.StateFailing {
			bad = 1
		}
		gauge(failing, bad, name)
	}
}

// jsonObject makes an object of pairs of names and texts.
func jsonObject(pairs ...string) json.RawMessage {
	m := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil // texts always marshal
	}
	return raw
}

package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run measured; its JSON form is the documented one
// (docs/bench.md). What was not measured is left out.
type Report struct {
	CeilingPosts   float64                 `json:"ceiling_posts_per_s,omitempty"`
	Fanout         float64                 `json:"fanout_deliveries_per_s,omitempty"`
	FanoutRatio    float64                 `json:"fanout_ratio,omitempty"`
	Single         float64                 `json:"single_events_per_s,omitempty"`
	SingleRatio    float64                 `json:"single_ratio,omitempty"`
	IngestBatch    float64                 `json:"ingest_batch_events_per_s,omitempty"`
	IngestPlanned  float64                 `json:"ingest_planned_events_per_s,omitempty"` // accepted and planned, in a steady state
	Latency        *Latency                `json:"latency_ms,omitempty"`
	MatchNS        map[string]float64      `json:"match_ns,omitempty"` // by number of subscriptions
	BytesPerSub    float64                 `json:"bytes_per_subscription,omitempty"`
	Matching       map[string]*MatchReport `json:"matching,omitempty"` // by number of subscriptions
	Load           *LoadReport             `json:"load,omitempty"`
	InboxRows      float64                 `json:"inbox_rows_per_s,omitempty"`
	IdleRSS        int64                   `json:"idle_rss_bytes,omitempty"`
	BacklogRSS     int64                   `json:"backlog_rss_bytes,omitempty"` // with the backlog, idle memory included
	DiskPerMillion int64                   `json:"disk_bytes_per_million_events,omitempty"`
	Fsync          float64                 `json:"fsync_us,omitempty"`
	StartMS        float64                 `json:"start_ms,omitempty"`
	CrowdRows      float64                 `json:"inbox_million_rows_per_s,omitempty"`
	Hanging        *HangingReport          `json:"hanging,omitempty"`
	Announcement   *HostileReport          `json:"announcement,omitempty"`
	Hostile        *HostileReport          `json:"hostile,omitempty"`
	Growth         []GrowthPoint           `json:"growth,omitempty"`
	GrowthRatio    float64                 `json:"growth_ratio,omitempty"` // of a delivery's cost, last to first
	Nodes          *NodesReport            `json:"nodes,omitempty"`
	Failover       *FailoverReport         `json:"failover,omitempty"`
	Planning       *PlanningReport         `json:"planning,omitempty"`
	Digests        *DigestsReport          `json:"digests,omitempty"`
	Roles          *RolesReport            `json:"roles,omitempty"`
	Database       string                  `json:"database"` // sqlite or postgres

	notes notes
}

// Latency is from the request with an event to the receipt of its webhook, in
// milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// latencyOf sums up sorted times.
func latencyOf(sorted []time.Duration) Latency {
	return Latency{P50: milliseconds(percentile(sorted, 50)), P99: milliseconds(percentile(sorted, 99)), Max: milliseconds(percentile(sorted, 100))}
}

// String is for the table.
func (l Latency) String() string { return fmt.Sprintf("%.2f / %.2f / %.2f ms", l.P50, l.P99, l.Max) }

// notes are what the table says and the JSON form has no key for.
type notes struct {
	quick     bool
	repeated  int64
	checked   int64
	backlog   int // deliveries due
	endpoints int
	people    int
	hanging   Hanging
	crowd     Crowd
	planning  Planning
	digests   Digests
}

// Write prints a table for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(what, value, note string) { _, _ = fmt.Fprintf(t, "  %s\t%s\t%s\n", what, value, note) }
	of := func(v float64) string { return fmt.Sprintf("%.2f of the ceiling", v) }

	sharing := "load generator and receivers share its processors with the server"
	if r.Database != "sqlite" {
		sharing = "load generator, receivers and PostgreSQL share its processors with the servers"
	}
	_, _ = fmt.Fprintf(t, "Belfry on %s, this machine; %s\n\n", r.Database, sharing)
	if r.CeilingPosts > 0 {
		line("ceiling: POSTs over loopback", perSecond(r.CeilingPosts), "net/http alone, both ends in one process")
	}
	if r.Fanout > 0 {
		line("fan-out to "+strconv.Itoa(r.notes.endpoints)+" endpoints", perSecond(r.Fanout), "deliveries, durable and signed: "+of(r.FanoutRatio))
	}
	if r.Single > 0 {
		line("one event, one webhook", perSecond(r.Single), "each a POST in and a POST out: "+of(r.SingleRatio))
	}
	if r.IngestBatch > 0 {
		line("events in batches of 100", perSecond(r.IngestBatch), "accepted, nobody subscribed")
		line("", perSecond(r.IngestPlanned), "accepted and planned, both at once in a steady state")
	}
	if r.InboxRows > 0 {
		line("inbox rows", perSecond(r.InboxRows), "an event to a group of "+thousands(r.notes.people)+" people")
	}
	if r.Latency != nil {
		line("latency at 100 events/s", r.Latency.String(), "p50 / p99 / max, request sent to webhook received")
	}
	if r.Fsync > 0 {
		line("one fsync", fmt.Sprintf("%.0f us", r.Fsync), "of 4 KiB in the temporary folder")
	}
	for _, n := range numbers(r.MatchNS) {
		line("match among "+thousands(n), fmt.Sprintf("%.1f us", r.MatchNS[strconv.Itoa(n)]/1000), "subscriptions with distinct filters, one hit")
		m := r.Matching[strconv.Itoa(n)]
		if m == nil {
			continue
		}
		for _, set := range []struct {
			name string
			*MatchSet
		}{{"  equalities alone", &m.Liftable}, {"  a condition in each", &m.Residual}} {
			line(set.name, fmt.Sprintf("%.1f / %.1f us", set.Hits1.P50/1000, set.Hits10.P50/1000),
				fmt.Sprintf("p50 with 1 hit / with 10; an edit %.0f us, %.0f bytes each, a collection %.0f ms", set.EditUS.P50, set.Bytes, set.CollectMS))
		}
	}
	if r.BytesPerSub > 0 {
		line("memory of a subscription", fmt.Sprintf("%.0f bytes", r.BytesPerSub), "in the index")
	}
	if l := r.Load; l != nil {
		line("start with "+thousands(l.Subscriptions), fmt.Sprintf("%.1f s", l.Seconds), fmt.Sprintf("subscriptions read and filed, %.1f s of processors; %s at most, %s stay", l.CPUSeconds, megabytes(l.PeakBytes), megabytes(l.Bytes)))
	}
	if r.IdleRSS > 0 {
		line("memory idle", megabytes(r.IdleRSS), "")
	}
	if r.BacklogRSS > 0 {
		small := ""
		if r.notes.quick {
			small = " (quick: a full run takes 1,000,000)"
		}
		line("memory with a backlog", megabytes(r.BacklogRSS), fmt.Sprintf("%+.1f MB for %s due deliveries%s", float64(r.BacklogRSS-r.IdleRSS)/1e6, thousands(r.notes.backlog), small))
	}
	if r.DiskPerMillion > 0 {
		line("disk per million events", megabytes(r.DiskPerMillion), "of about 600 bytes, before retention")
	}
	if r.StartMS > 0 {
		line("start to ready", fmt.Sprintf("%.0f ms", r.StartMS), "empty database")
	}
	if r.CrowdRows > 0 {
		line("inbox rows, "+thousands(r.notes.crowd.Members)+" members", perSecond(r.CrowdRows), fmt.Sprintf("one event, %d rows a member stored before", r.notes.crowd.Stored))
	}
	if h := r.Hanging; h != nil {
		n := r.notes.hanging
		line(fmt.Sprintf("%d endpoints, %d/s", n.Endpoints-n.Hang, n.PerSecond*(n.Endpoints-n.Hang)/n.Endpoints), h.Without.String(), "p50 / p99 / max, event due to webhook received")
		line(fmt.Sprintf("  beside %d that hang", n.Hang), h.With.String(), fmt.Sprintf("%v each request: p99 %.2f times as much", n.Pause, h.Ratio))
	}
	for _, h := range []*HostileReport{r.Announcement, r.Hostile} {
		if h == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(h.Tenants)) {
			line("tenant "+name+" idle", h.Tenants[name].Idle.String(), fmt.Sprintf("p50 / p99 / max, %s small events/s of all tenants", thousands(h.of.PerSecond)))
			line("  beside", h.Tenants[name].Mix.String(), fmt.Sprintf("p99 %.2f times as much", h.Tenants[name].Mix.P99/h.Tenants[name].Idle.P99))
		}
		what := fmt.Sprintf("one event of %s members planned", thousands(h.of.Members))
		if h.of.Endpoints > 0 {
			what += fmt.Sprintf(", %s deliveries/s to %[1]s endpoints", thousands(h.of.Endpoints))
		}
		line("  beside what", fmt.Sprintf("%.1f s", h.Crowd), what)
	}
	for _, p := range r.Growth {
		line("with "+thousands(p.Stored)+" deliveries stored", fmt.Sprintf("%.1f us", p.Delivery), fmt.Sprintf("a delivery of an event to %d endpoints; an event to one takes %.1f us", r.notes.endpoints, p.Event))
	}
	if n := r.Nodes; n != nil {
		line("fan-out with one node", perSecond(n.One), "deliveries, a process of its own")
		line(fmt.Sprintf("  with %d nodes", n.Nodes), perSecond(n.Many), fmt.Sprintf("on one database, rounds in turn: %+.1f %%, %s duplicates", -100*n.Loss, thousands(int(n.Duplicates))))
	}
	if f := r.Failover; f != nil {
		line(fmt.Sprintf("one of %d nodes killed", f.Nodes), fmt.Sprintf("lost = %d", f.Lost), f.account())
		line("  longest delay", fmt.Sprintf("%.1f s", f.Longest), "event due to webhook received")
	}
	if p := r.Planning; p != nil {
		n := r.notes.planning
		note := fmt.Sprintf("of the processor, %s people, %d subscriptions of %d rules, %d of which name each person", thousands(n.People), n.Subscriptions, n.Rules, n.Each)
		line("planning an event, e-mail", fmt.Sprintf("%.0f ms", p.Email.CPU), fmt.Sprintf("%s; %.0f ms on the clock", note, p.Email.Wall))
		line("  e-mail and inbox", fmt.Sprintf("%.0f ms", p.Both.CPU), fmt.Sprintf("of the processor; %.0f ms on the clock", p.Both.Wall))
	}
	if o := r.Roles; o != nil {
		line("roles on "+thousands(o.Objects)+" objects", fmt.Sprintf("%.1f us", o.Cached), fmt.Sprintf("of the processor, an event to %.0f people, cached; %s grants; anywhere %.1f us", o.Told, thousands(o.Grants), o.Any))
		line("  an edit of grants", fmt.Sprintf("%.1f ms", o.Visible), "at most, from the request to an event that is told by it")
	}
	if d := r.Digests; d != nil {
		line("digests", perSecond(d.Shared.Digests), fmt.Sprintf("of %s people with %d items each, of %s events; %.0f us of the processor each", thousands(r.notes.digests.People), r.notes.digests.Items, thousands(d.Shared.Events), d.Shared.CPU))
		line("  every item an event", perSecond(d.Distinct.Digests), fmt.Sprintf("of %s events; %.0f us of the processor each", thousands(d.Distinct.Events), d.Distinct.CPU))
	}
	if r.notes.checked > 0 {
		line("deliveries", "none lost", fmt.Sprintf("%s repeated, %s signatures checked", thousands(int(r.notes.repeated)), thousands(int(r.notes.checked))))
	}
	return t.Flush()
}

func numbers(m map[string]float64) []int {
	var list []int
	for key := range m {
		if n, err := strconv.Atoi(key); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

func perSecond(v float64) string { return thousands(int(v+0.5)) + "/s" }

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// thousands writes a number with commas.
func thousands(n int) string {
	text := strconv.Itoa(n)
	var b strings.Builder
	for i, c := range text {
		if i > 0 && (len(text)-i)%3 == 0 && text[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

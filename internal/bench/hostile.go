package bench

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Hostile says what a server is given at once.
type Hostile struct {
	Members   int // that one event fills the inboxes of
	Endpoints int // that each event of another tenant goes to; 0 = there are no such events
	PerSecond int // small events of all tenants together
	Small     int // of them in all while the others work
	Idle      time.Duration
}

// HostileReport is the latency of every tenant's small events, in milliseconds
// from the time an event was due to be sent.
type HostileReport struct {
	Tenants map[string]Beside `json:"tenants"`
	Ratio   float64           `json:"p99_ratio"`     // of the tenant that suffers most
	Crowd   float64           `json:"crowd_seconds"` // until the event of many members was planned

	of Hostile
}

// Beside are latencies of small events alone, and while one event of many
// members is being planned and others go to many endpoints.
type Beside struct {
	Idle Latency `json:"idle"`
	Mix  Latency `json:"mix"`
}

// The tenants: one has the crowd, one the endpoints, all have small events.
var hostileTenants = []string{"crowd", "wide", "north", "south"}

const (
	smallType = "bench.small"
	wideType  = "bench.wide"
)

func (r *run) hostile(ctx context.Context) (err error) {
	r.report.Hostile, err = r.mix(ctx, "hostile", r.Size.Hostile)
	return err
}

// announcement is the hostile mix without the events to many endpoints: what
// one event of very many members alone does to the others.
func (r *run) announcement(ctx context.Context) (err error) {
	h := r.Size.Hostile
	h.Endpoints = 0
	r.report.Announcement, err = r.mix(ctx, "announcement", h)
	return err
}

func (r *run) mix(ctx context.Context, name string, h Hostile) (report *HostileReport, err error) {
	err = r.serving(ctx, func(ctx context.Context, root *rig) error {
		mix := time.Duration(float64(h.Small) / float64(h.PerSecond) * float64(time.Second))
		rigs := make([]*rig, len(hostileTenants))
		var streams []*stream
		for i, name := range hostileTenants {
			rig, done, err := root.tenant(ctx, name)
			if err != nil {
				return err
			}
			defer done()
			rigs[i] = rig
			id, err := rig.endpoint(ctx, 0)
			if err != nil {
				return err
			}
			if err := rig.subscribe(ctx, smallType, map[string]any{"endpoint": id}); err != nil {
				return err
			}
			per := float64(h.PerSecond) / float64(len(hostileTenants))
			streams = append(streams, &stream{name: name, rig: rig, perSecond: per, events: int64(per * (h.Idle + mix).Seconds()), fan: 1,
				event: func(b []byte, seq int64) []byte { return appendEvent(b, smallType, seq) }})
		}
		small := streams
		if h.Endpoints > 0 {
			wide, done, err := root.tenant(ctx, "wide") // a sink of its own, for its endpoints are counted from 0
			if err != nil {
				return err
			}
			defer done()
			for i := range h.Endpoints {
				r.progress.step("endpoint %d of %d", i, h.Endpoints)
				id, err := wide.endpoint(ctx, i)
				if err != nil {
					return err
				}
				if err := wide.subscribe(ctx, wideType, map[string]any{"endpoint": id}); err != nil {
					return err
				}
			}
			streams = append(streams, &stream{name: "to " + thousands(h.Endpoints) + " endpoints", rig: wide, perSecond: 1, after: h.Idle, fan: h.Endpoints,
				events: max(1, int64(mix/time.Second)), event: func(b []byte, seq int64) []byte { return appendEvent(b, wideType, seq) }})
		}
		err := rigs[0].gather(ctx, h.Members, func(done int) { r.progress.step("%s of %s members", thousands(done), thousands(h.Members)) })
		if err != nil {
			return err
		}
		if err := r.warm(ctx, small); err != nil {
			return err
		}

		r.progress.step("mix")
		start := time.Now().Add(20 * time.Millisecond)
		flowing, stop := context.WithCancel(ctx)
		defer stop()
		var group sync.WaitGroup
		var flowed, told error
		var sent, planned time.Time
		group.Go(func() {
			if flowed = flow(flowing, start, streams); flowed != nil {
				stop()
			}
		})
		group.Go(func() {
			if told = settle(flowing, time.Until(start.Add(h.Idle))); told == nil {
				sent, planned, told = rigs[0].tell(flowing, "hall", 10*time.Minute)
			}
			if told != nil {
				stop()
			}
		})
		group.Wait()
		switch {
		case flowed != nil:
			return flowed
		case told != nil:
			return told
		}
		if err := arrived(ctx, streams, 2*time.Minute); err != nil {
			return err
		}
		if err := rigs[0].crowdHas(ctx, h.Members, 1); err != nil {
			return err
		}
		report = r.hostileReport(name, h, streams, small, sent.Sub(start), planned.Sub(start))
		return nil
	})
	return report, err
}

// warm opens connections and fills caches.
func (r *run) warm(ctx context.Context, streams []*stream) error {
	list := make([]*stream, 0, len(streams))
	for _, s := range streams {
		c := *s
		c.after, c.events = 0, int64(max(1, min(c.perSecond, float64(c.events))))
		list = append(list, &c)
	}
	if err := flow(ctx, time.Now(), list); err != nil {
		return err
	}
	return arrived(ctx, list, time.Minute)
}

func (r *run) hostileReport(name string, h Hostile, streams, small []*stream, sent, planned time.Duration) *HostileReport {
	out := HostileReport{Tenants: map[string]Beside{}, Crowd: rounded((planned - sent).Seconds()), of: h}
	p := plot{
		name: name, title: "Latency of every tenant's events beside one event of " + thousands(h.Members) + " members",
		x: axis{label: "seconds"}, y: axis{label: "milliseconds from event to webhook", log: true},
		bands: []band{{sent.Seconds(), planned.Seconds(), "the event of " + thousands(h.Members) + " is planned"}},
	}
	for i, s := range streams {
		r.count(s.tally())
		list := s.samples()
		p.series = append(p.series, series{name: s.name + ", p99", color: i, points: overTime(list, time.Second, 99)},
			series{name: s.name + ", p50", color: i, dashed: true, points: overTime(list, time.Second, 50)})
		if i >= len(small) {
			continue
		}
		b := Beside{Idle: latencyOf(between(list, 0, h.Idle)), Mix: latencyOf(between(list, sent, planned))}
		out.Tenants[s.name] = b
		out.Ratio = max(out.Ratio, rounded(b.Mix.P99/b.Idle.P99))
	}
	p.about = fmt.Sprintf("While the event is planned, p99 of the tenant that suffers most is %.2f times that of an idle run.", out.Ratio)
	r.plots = append(r.plots, p)
	return &out
}

// tenant makes a tenant, unless it is there, and gives a rig with a key and a
// sink of its own.
func (r *rig) tenant(ctx context.Context, name string) (*rig, func(), error) {
	if err := r.api.Call(ctx, http.MethodPut, "/v1/tenants/"+name, map[string]any{"title": name}, nil); err != nil {
		return nil, nil, err
	}
	as := *r.api
	as.Tenant = name
	var key struct{ Key string }
	if err := as.Call(ctx, http.MethodPost, "/v1/keys", map[string]any{"name": "bench " + strconv.FormatUint(r.turn.Add(1), 10), "permissions": []string{"publish", "read", "admin"}}, &key); err != nil {
		return nil, nil, err
	}
	s, err := startSink()
	if err != nil {
		return nil, nil, err
	}
	rig, err := newRig(r.api.Server, key.Key, s)
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return rig, func() { rig.close(); s.close() }, nil
}

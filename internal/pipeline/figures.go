package pipeline

import (
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Figures say how the Dispatcher is doing, over all tenants.
type Figures struct {
	Destinations int // that are known in memory
	Broken       int // left alone, or being probed
	Slow         int // whose sends take long
	Paused       int
	Sending      int // sends under way
	Queued       int // deliveries that wait in memory
	UsedUp       int // channels' accounts of whose limit of the day nothing is left
	SharesUsedUp int // limits of tenants on channels that all share, of whose day nothing is left
}

// Figures counts; what it costs is bounded by the destinations in memory.
func (d *Dispatcher) Figures() Figures {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := Figures{Destinations: len(d.dests)}
	for _, ds := range d.dests {
		f.Sending += ds.running
		f.Queued += ds.queued
		if ds.health.probing() {
			f.Broken++
		}
		if ds.speed == slow {
			f.Slow++
		}
		if ds.paused {
			f.Paused++
		}
	}
	now := d.o.Now()
	for _, a := range d.accounts {
		switch {
		case !a.usedUp.After(now):
		case a.why == belfry.OverShare:
			f.SharesUsedUp++
		default:
			f.UsedUp++
		}
	}
	return f
}

// DestinationStatus is what this process knows of a destination.
type DestinationStatus struct {
	Breaker      string // closed, open or half_open
	Failures     int    // in a row
	FailingSince time.Time
	NextProbe    time.Time // while the breaker is open, or the destination asked to wait
	Sending      int
	Concurrency  int // sends at once at present
	Queued       int // deliveries in memory
	OnDisk       bool
	Slow         bool
	Paused       bool
}

// Destination is what is known of a destination; false when nothing is.
func (d *Dispatcher) Destination(tenant, channel, name string) (DestinationStatus, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ds := d.dests[destKey{tenant, channel, name}]
	if ds == nil {
		return DestinationStatus{}, false
	}
	until := ds.health.blockedUntil(d.o.Now())
	st := DestinationStatus{
		Breaker: "closed", Failures: ds.health.failures, FailingSince: ds.health.since, NextProbe: until, Sending: ds.running,
		Concurrency: ds.allowed(), Queued: ds.queued, OnDisk: ds.marked(), Slow: ds.speed == slow, Paused: ds.paused,
	}
	switch {
	case ds.health.openUntil.After(d.o.Now()):
		st.Breaker = "open"
	case ds.health.probing():
		st.Breaker = "half_open"
	}
	return st, true
}

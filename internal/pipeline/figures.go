package pipeline

// Figures say how the Dispatcher is doing, over all tenants.
type Figures struct {
	Destinations int // that are known in memory
	Broken       int // left alone, or being probed
	Slow         int // whose sends take long
	Paused       int
	Sending      int // sends under way
	Queued       int // deliveries that wait in memory
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
	return f
}

package belfry

import (
	"sync"
	"time"
)

// zones are those that were asked for: reading one means reading a file, and
// there are some hundreds.
var zones sync.Map // name -> *time.Location

// Zone is a time zone by name; false when there is none of this name. The empty
// name is UTC.
func Zone(name string) (*time.Location, bool) {
	if name == "" {
		return time.UTC, true
	}
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), true
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return time.UTC, false
	}
	zones.Store(name, zone)
	return zone, true
}

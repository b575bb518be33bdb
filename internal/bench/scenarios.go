package bench

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Scenario is something that can be measured by itself.
type Scenario struct {
	Name  string
	About string
	in    set
}

// set says which runs hold a scenario that nobody asked for by name.
type set int

const (
	everyRun set = iota
	fullRun      // not the quick one
	byName       // takes gigabytes, many minutes, or a server of its own
)

// scenarios in the order in which they are measured.
var scenarios = []Scenario{
	{"match", "one event through the index of many subscriptions", everyRun},
	{"load", "a start with 1,000,000 subscriptions: read from the database and filed", fullRun},
	{"disk", "one fsync", everyRun},
	{"ceiling", "POSTs over loopback with net/http alone", everyRun},
	{"fanout", "events to 100 endpoints each", everyRun},
	{"single", "one event, one webhook", everyRun},
	{"latency", "from the request to the webhook, at a low rate", everyRun},
	{"ingest", "batches of events nobody subscribed to, accepted and planned", everyRun},
	{"inbox", "inbox rows of events to a group of 1,000 people", everyRun},
	{"start", "start to ready, memory when idle", everyRun},
	{"backlog", "memory with many deliveries due", everyRun},
	{"million", "an event to the inboxes of a subscription of 1,000,000 members with 10 rows each; takes some GB of disk", byName},
	{"announcement", "one event of 1,000,000 members beside 50,000 small events of several tenants", byName},
	{"hostile", "one event of 1,000,000 members, 1,000 endpoints and 50,000 small events of several tenants", byName},
	{"growth", "cost of new deliveries with 10,000 to 10,000,000 stored; takes some GB of disk and many minutes", byName},
	{"nodes", "fan-out of several servers on one PostgreSQL beside one server (--nodes)", byName},
	{"failover", "one of three servers on one PostgreSQL is killed under load: the account of every event", byName},
	{"plan", "one event that 100 subscriptions of 10 rules want, for 10,000 people: matched, resolved, routed and committed", fullRun},
	{"roles", "role rules on a tree of 100,000 objects with 1,000,000 grants, and how soon an edit of grants counts", fullRun},
	{"digests", "1,000,000 items in the digests of 50,000 people that fall due at once, of shared and of distinct events; takes some GB of disk", byName},
	{"hanging", "50 endpoints of which 5 hang 10 s each request, beside a run without those", fullRun},
}

// Scenarios are all there are, in their order.
func Scenarios() []Scenario { return slices.Clone(scenarios) }

// Check says what is wrong with what a run was asked for.
func (o *Options) Check() error {
	for _, name := range o.Only {
		if !slices.ContainsFunc(scenarios, func(s Scenario) bool { return s.Name == name }) {
			names := make([]string, 0, len(scenarios))
			for _, s := range scenarios {
				names = append(names, s.Name)
			}
			return fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	if o.Nodes < 0 || o.Nodes == 1 || o.Nodes > maxNodes {
		return fmt.Errorf("--nodes is a number from 2 to %d: they are compared to one", maxNodes)
	}
	if o.Database == "" && (o.Nodes > 0 || slices.Contains(o.Only, "nodes") || slices.Contains(o.Only, "failover")) {
		return errors.New("several nodes share a PostgreSQL server: name it in --database, like postgres://user:password@host/name")
	}
	return nil
}

// maxNodes bounds the processes of a run.
const maxNodes = 16

// wants reports whether a run measures one of the scenarios.
func (o *Options) wants(names ...string) bool {
	for _, s := range scenarios {
		if !slices.Contains(names, s.Name) {
			continue
		}
		switch {
		case s.Name == "nodes" && o.Nodes > 0 && len(o.Only) == 0:
			return true
		case len(o.Only) > 0:
			if slices.Contains(o.Only, s.Name) {
				return true
			}
		case s.in == everyRun, s.in == fullRun && !o.Size.Quick:
			return true
		}
	}
	return false
}

package belfry

import "time"

// Kinds of leases: what a node has of them, it alone works on.
const (
	LeasePlan     = "plan"     // events of objects
	LeaseDelivery = "delivery" // deliveries of destinations
	LeaseSource   = "source"   // connectors
)

// Roles of a node: which parts of the work it does.
const (
	RoleAPI     = "api"     // takes in requests
	RolePlan    = "plan"    // plans events
	RoleDeliver = "deliver" // sends
	RoleSource  = "source"  // runs connectors
)

// Roles are all roles, in the order of an event's walk.
var Roles = []string{RoleSource, RoleAPI, RolePlan, RoleDeliver}

// Node is a process that works with a database others may work with, too.
type Node struct {
	ID      string // drawn at each start
	Name    string
	Address string
	Roles   []string
	Version string
	Started time.Time
	Until   time.Time // taken for dead after it; by the database's clock
}

// Lease says which node has a shard; Owner is empty when none has. Epoch
// counts the changes of hand.
type Lease struct {
	Kind  string
	Shard int
	Owner string
	Epoch int64
}

// NodeTable is who is there and who has what, at one moment of the database's
// clock.
type NodeTable struct {
	Clock  time.Time
	Nodes  []Node
	Leases []Lease
}

// WakeInboxes is the size of Wake.Inboxes in bytes.
const WakeInboxes = 32

// WakePlanned is how many events a Wake names; of more it says only from when on
// something is due.
const WakePlanned = 64

// Planned is an event all of whose deliveries were committed together.
type Planned struct {
	Event string
	Rows  int // deliveries that are due and for other nodes
}

// Wake says what other nodes may find in the tables, of one tenant.
type Wake struct {
	Tenant  string
	Event   string            // events to plan, from this id on; empty = none
	Planned []Planned         // events with deliveries that are due, WakePlanned at most
	Due     time.Time         // deliveries due from this time on; zero = none
	Edited  bool              // edits to put in force
	Counted bool              // conditions to be looked at
	Inboxes [WakeInboxes]byte // bits of inboxes that have something new
}

// Join adds what another wake of the same tenant says.
func (w *Wake) Join(o *Wake) {
	if o.Event != "" && (w.Event == "" || o.Event < w.Event) {
		w.Event = o.Event
	}
	w.from(o.Due)
	w.Planned = append(w.Planned, o.Planned...)
	if len(w.Planned) > WakePlanned {
		w.Spread()
	}
	w.Edited = w.Edited || o.Edited
	w.Counted = w.Counted || o.Counted
	for i, b := range o.Inboxes {
		w.Inboxes[i] |= b
	}
}

// Spread says of the events that are Planned no more than from when on what they
// bring is due: not before they were accepted.
func (w *Wake) Spread() {
	for _, p := range w.Planned {
		w.from(p.Since())
	}
	w.Planned = nil
}

func (w *Wake) from(due time.Time) {
	if !due.IsZero() && (w.Due.IsZero() || due.Before(w.Due)) {
		w.Due = due
	}
}

// Since is a time before which no delivery of the event was due as it was
// planned first.
func (p Planned) Since() time.Time {
	at, err := IDTime(p.Event)
	if err != nil {
		return time.UnixMicro(1).UTC() // all there are
	}
	return at
}

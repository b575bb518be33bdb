// Package connector is the contract between Belfry and the platforms it reads:
// a Source watches one platform and hands what it saw to a Sink, batch by
// batch; a Kind describes a sort of source (its settings as data, how to make
// one, how to examine one).
//
// It promises that a batch is one transaction: directory changes first, then
// events, then the cursor. So an event never meets a tree that does not know
// its object yet, and a source that dies anywhere resumes after the last batch
// that was committed: nothing is lost, and a repeat (same source, same event
// id) is recognised by the store.
//
// It refuses to write to a platform, to decide who hears of an event, and to
// keep state of its own anywhere but in the cursor.
//
// Test an adapter with connectortest.Run against the real platform (or its
// database), with connectortest.Recorder as the sink.
package connector

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Source watches one platform. Run reads until ctx ends and then returns nil
// within a second. It survives outages of the platform by waiting and
// reporting; it returns an error only for what waiting cannot mend (settings
// that make no sense). One source is run by exactly one goroutine at a time.
type Source interface {
	Run(ctx context.Context, sink Sink) error
}

// Sink takes what a source found. The pipeline's side implements it.
type Sink interface {
	// Cursor gives the cursor of the last batch that was committed, nil when
	// there was none. The bytes are the source's own; nobody else reads them.
	Cursor(ctx context.Context) ([]byte, error)

	// Hand commits a batch in one transaction: directory changes, then events
	// (repeats are ignored), then the cursor. It returns after the commit. An
	// error means that nothing of the batch was committed; the source hands
	// the same batch again after a while. An event that can never be admitted
	// is the sink's to record and leave out, not a reason to fail the batch.
	Hand(ctx context.Context, b Batch) error

	// Report tells how the source is doing; it never blocks for long.
	Report(s Status)
}

// MaxBatch bounds the events and, counted alone, the directory rows of a batch.
const MaxBatch = 1000

// Batch is what one step of a source found. Changes.Tenant is left empty and
// set by the sink; Origin of everything in Changes and Source of every event
// are set by the source (see Deps.Origin).
type Batch struct {
	Changes belfry.Changes
	Events  []belfry.Event
	// Cursor is where to resume after this batch; nil leaves the cursor as it
	// is.
	Cursor []byte
}

// States of a source.
const (
	StateStarting = "starting"
	StateSyncing  = "syncing" // reading the directory
	StateTailing  = "tailing" // following what happens
	StateFailing  = "failing" // an error stands; see Status.Error
)

// Status is how a source is doing.
type Status struct {
	At       time.Time // of this report
	State    string
	Position string        // where it is, in words for people, e.g. "log id 872"
	Lag      time.Duration // how far what was handed over is behind the platform; 0 = level
	Error    string        // what is wrong and what to do; empty = nothing
	ErrorAt  time.Time     // since when
	// Counters counts what happened since the start, by name, e.g. "events",
	// "restored_rows_dropped".
	Counters map[string]int64
}

// Deps is what every source gets from the house.
type Deps struct {
	Name string       // the source's name in its tenant, e.g. "school"
	Kind string       // the kind's name, e.g. "moodle"
	Log  *slog.Logger // its lines name tenant and source already
	Now  func() time.Time
	// Dial makes every connection of the source; nil = as the system does. It
	// bounds which addresses a tenant's settings may make this machine reach.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Origin is the source attribute of the events and the origin of the directory
// rows: "<kind>/<name>".
func (d Deps) Origin() string { return d.Kind + "/" + d.Name }

// Kind is a sort of source. Kinds are values in one list of package app.
type Kind struct {
	Name     string
	Title    string
	Settings []Setting
	// New makes a source of settings that Values has checked. It connects to
	// nothing; faults are belfry.Invalid errors with pointers.
	New func(d Deps, settings map[string]string) (Source, error)
	// Check examines settings against the real platform: what is wrong and
	// what to do about it, the worst first. It changes nothing.
	Check func(ctx context.Context, d Deps, settings map[string]string) []Finding
}

// Severities of a finding.
const (
	SeverityOK      = "ok"
	SeverityWarning = "warning"
	SeverityError   = "error"
)

// Finding is one result of an examination.
type Finding struct {
	Severity string `json:"severity"`
	What     string `json:"what"`         // what was found, one sentence
	Do       string `json:"do,omitempty"` // what to do about it; empty for ok
}

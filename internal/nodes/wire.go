package nodes

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Line carries words from node to node, or loses them.
type Line interface {
	Tell(ctx context.Context, words string) error
	// Listen calls hear until ctx ends or the line breaks.
	Listen(ctx context.Context, ready func(), hear func(words string)) error
}

// Ear is who hears what others tell.
type Ear interface {
	// Heard is told what others may have committed.
	Heard(ws []belfry.Wake)
	// Unheard says that something may have been missed.
	Unheard()
	// Changed says that nodes came, went, or gave back shards.
	Changed()
}

// Wire tells other nodes what was committed here, and hears what they tell.
// What gathers while a message is under way goes with the next one.
type Wire struct {
	line Line
	self func() string // this node's id
	ear  Ear
	log  *slog.Logger

	mu      sync.Mutex
	wakes   map[string]*belfry.Wake
	changed bool
	wake    chan struct{}
}

// NewWire makes a Wire; what is told before Run waits for it.
func NewWire(line Line, self func() string, ear Ear, log *slog.Logger) *Wire {
	return &Wire{line: line, self: self, ear: ear, log: log, wakes: map[string]*belfry.Wake{}, wake: make(chan struct{}, 1)}
}

// Tell tells the others, soon.
func (w *Wire) Tell(wake belfry.Wake) {
	w.mu.Lock()
	if have := w.wakes[wake.Tenant]; have != nil {
		have.Join(&wake)
	} else {
		w.wakes[wake.Tenant] = &wake
	}
	w.mu.Unlock()
	w.poke()
}

// Changed tells the others to look at the table of nodes.
func (w *Wire) Changed() {
	w.mu.Lock()
	w.changed = true
	w.mu.Unlock()
	w.poke()
}

func (w *Wire) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run tells and hears until ctx ends.
func (w *Wire) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { w.listen(ctx) })
	w.send(ctx)
	wg.Wait()
	return nil
}

// pace is the least time between two messages: under load each says more.
const pace = 2 * time.Millisecond

func (w *Wire) send(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			// The last words: that this node leaves.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = w.flush(last) // others find out by themselves
			return
		case <-w.wake:
		}
		select {
		case <-ctx.Done():
			continue
		case <-pause.C:
		}
		wait := pace
		if err := w.flush(ctx); err != nil && ctx.Err() == nil {
			if !failing {
				w.log.Warn("other nodes cannot be told; they look by themselves, less often", "error", err)
			}
			failing = true
			wait = time.Second
		} else {
			failing = false
		}
		pause.Reset(wait)
	}
}

func (w *Wire) flush(ctx context.Context) error {
	w.mu.Lock()
	wakes, changed := w.wakes, w.changed
	w.wakes, w.changed = map[string]*belfry.Wake{}, false
	w.mu.Unlock()
	if len(wakes) == 0 && !changed {
		return nil
	}
	return w.line.Tell(ctx, encode(message{Node: w.self(), Changed: changed}, wakes))
}

// longest is what a message may have in bytes; PostgreSQL allows 8,000.
const longest = 7900

// message is what one node tells all others.
type message struct {
	Node    string     `json:"n"`
	Changed bool       `json:"c,omitempty"`
	All     bool       `json:"a,omitempty"` // too much to say: look everywhere
	Wakes   []wireWake `json:"w,omitempty"`
}

type wireWake struct {
	Tenant  string        `json:"t"`
	Event   string        `json:"e,omitempty"`
	Planned []wirePlanned `json:"p,omitempty"`
	Due     int64         `json:"d,omitempty"` // microseconds
	Edited  bool          `json:"v,omitempty"`
	Counted bool          `json:"o,omitempty"`
	Inboxes []byte        `json:"i,omitempty"`
}

type wirePlanned struct {
	Event string `json:"e"`
	Rows  int    `json:"n"`
}

// encode puts wakes into a message; what is too long says less.
func encode(m message, wakes map[string]*belfry.Wake) string {
	for _, exact := range []bool{true, false} {
		m.Wakes = m.Wakes[:0]
		for tenant, wake := range wakes {
			if !exact {
				wake.Spread()
			}
			m.Wakes = append(m.Wakes, wireOf(tenant, wake))
		}
		if text, err := json.Marshal(m); err == nil && len(text) <= longest {
			return string(text)
		}
	}
	text, _ := json.Marshal(message{Node: m.Node, Changed: m.Changed, All: true}) // plain values always marshal
	return string(text)
}

func wireOf(tenant string, wake *belfry.Wake) wireWake {
	out := wireWake{Tenant: tenant, Event: wake.Event, Edited: wake.Edited, Counted: wake.Counted}
	for _, p := range wake.Planned {
		out.Planned = append(out.Planned, wirePlanned(p))
	}
	if !wake.Due.IsZero() {
		out.Due = wake.Due.UnixMicro()
	}
	if wake.Inboxes != [belfry.WakeInboxes]byte{} {
		out.Inboxes = wake.Inboxes[:]
	}
	return out
}

// listen hears until ctx ends, taking up the line again when it breaks.
func (w *Wire) listen(ctx context.Context) {
	const first, slowest = 50 * time.Millisecond, 5 * time.Second
	for wait := first; ; {
		err := w.line.Listen(ctx, func() {
			wait = first
			w.ear.Unheard() // whatever was told before
			w.ear.Changed()
		}, w.hear)
		if ctx.Err() != nil {
			return
		}
		w.log.Warn("other nodes cannot be heard; looking without being told", "again_in", wait, "error", err)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		wait = min(2*wait, slowest)
	}
}

// hear takes one message in. One that is not understood comes from a newer
// program: then everything is looked for.
func (w *Wire) hear(words string) {
	var m message
	if err := json.Unmarshal([]byte(words), &m); err != nil {
		w.ear.Unheard()
		return
	}
	if m.Node == w.self() {
		return
	}
	if m.Changed {
		w.ear.Changed()
	}
	if m.All {
		w.ear.Unheard()
		return
	}
	wakes := make([]belfry.Wake, 0, len(m.Wakes))
	for _, x := range m.Wakes {
		wake := belfry.Wake{Tenant: x.Tenant, Event: x.Event, Edited: x.Edited, Counted: x.Counted}
		if x.Due != 0 {
			wake.Due = time.UnixMicro(x.Due).UTC()
		}
		for _, p := range x.Planned {
			wake.Planned = append(wake.Planned, belfry.Planned(p))
		}
		copy(wake.Inboxes[:], x.Inboxes)
		wakes = append(wakes, wake)
	}
	w.ear.Heard(wakes)
}

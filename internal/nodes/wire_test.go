package nodes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testtime"
)

// line is a Line of which a test holds both ends.
type line struct {
	mu    sync.Mutex
	fails error
	words []string
	takes time.Duration // for one message
	tries int
	ears  []func(string)
	broke chan error
}

func newLine() *line { return &line{broke: make(chan error)} }

func (l *line) Tell(ctx context.Context, words string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries++
	if l.fails != nil {
		return l.fails
	}
	l.mu.Unlock()
	select {
	case <-time.After(l.takes):
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.words = append(l.words, words)
	for _, hear := range l.ears {
		hear(words)
	}
	return ctx.Err()
}

func (l *line) Listen(ctx context.Context, ready func(), hear func(string)) error {
	l.mu.Lock()
	err := l.fails
	l.mu.Unlock()
	if err != nil {
		return err
	}
	ready()
	l.mu.Lock()
	l.ears = append(l.ears, hear)
	l.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.broke:
		l.mu.Lock()
		l.ears = nil
		l.mu.Unlock()
		return err
	}
}

func (l *line) set(fails error) { l.mu.Lock(); l.fails = fails; l.mu.Unlock() }

func (l *line) told() []string { l.mu.Lock(); defer l.mu.Unlock(); return slices.Clone(l.words) }

// listener is an Ear that keeps what it heard.
type listener struct {
	mu      sync.Mutex
	heard   []belfry.Wake
	unheard int
	changed int
}

func (e *listener) Heard(ws []belfry.Wake) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, ws...)
}
func (e *listener) Unheard() { e.mu.Lock(); e.unheard++; e.mu.Unlock() }
func (e *listener) Changed() { e.mu.Lock(); e.changed++; e.mu.Unlock() }
func (e *listener) take() (heard []belfry.Wake, unheard, changed int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	heard, unheard, changed = e.heard, e.unheard, e.changed
	e.heard, e.unheard, e.changed = nil, 0, 0
	return heard, unheard, changed
}

// logs counts lines.
type logs struct {
	mu sync.Mutex
	n  int
}

func (l *logs) Write(p []byte) (int, error) { l.mu.Lock(); l.n++; l.mu.Unlock(); return len(p), nil }

func (l *logs) count() int { l.mu.Lock(); defer l.mu.Unlock(); return l.n }

// wired runs the wire of a node on a line.
func wired(t *testing.T, l *line, self string) (w *Wire, ear *listener, said *logs, end func()) {
	t.Helper()
	ear, said = &listener{}, &logs{}
	w = NewWire(l, func() string { return self }, ear, slog.New(slog.NewTextHandler(said, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	synctest.Wait()
	return w, ear, said, func() { cancel(); <-done }
}

// What one node tells arrives whole on another, and not on itself.
// feature: NEW-12
func TestWireCarriesWakes(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		l := newLine()
		a, earA, _, endA := wired(t, l, "node_a")
		_, earB, _, endB := wired(t, l, "node_b")
		defer endB()
		for _, e := range []*listener{earA, earB} {
			if _, unheard, changed := e.take(); unheard != 1 || changed != 1 {
				t.Errorf("once it hears, what was told before is looked for: %d, %d", unheard, changed)
			}
		}
		want := belfry.Wake{Tenant: "t", Event: "evt_1", Planned: []belfry.Planned{{Event: "evt_0", Rows: 7}, {Event: "evt_1", Rows: 1}}, Due: time.UnixMicro(1_700_000_000_123_456).UTC(), Edited: true}
		want.Inboxes[3] = 0x81
		a.Tell(want)
		pass(time.Second)
		a.Changed()
		pass(time.Second)
		heard, unheard, changed := earB.take()
		if len(heard) != 1 || !reflect.DeepEqual(heard[0], want) || unheard != 0 || changed != 1 {
			t.Errorf("heard %+v, %d, %d", heard, unheard, changed)
		}
		if heard, unheard, changed := earA.take(); len(heard)+unheard+changed != 0 {
			t.Errorf("it hears itself: %+v, %d, %d", heard, unheard, changed)
		}
		// The last words are told when it ends.
		a.Changed()
		endA()
		if _, _, changed := earB.take(); changed != 1 {
			t.Error("the last words were not told")
		}
	})
}

// While a message is under way others gather, and go as one.
func TestWireJoinsWhatGathers(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		l := newLine()
		l.takes = 50 * time.Millisecond
		a, _, _, endA := wired(t, l, "node_a")
		defer endA()
		_, ear, _, endB := wired(t, l, "node_b")
		defer endB()
		base := time.UnixMicro(1_700_000_000_000_000).UTC()
		a.Tell(belfry.Wake{Tenant: "t", Event: "evt_5", Due: base.Add(5)})
		pass(10 * time.Millisecond)
		for i := range 1000 {
			w := belfry.Wake{Tenant: []string{"t", "u"}[i%2], Event: fmt.Sprintf("evt_%04d", 1000-i), Due: base.Add(time.Duration(1000-i) * time.Microsecond)}
			w.Inboxes[i%belfry.WakeInboxes] = 1
			a.Tell(w)
		}
		a.Tell(belfry.Wake{Tenant: "u", Edited: true})
		pass(time.Second)
		if n := len(l.told()); n != 2 {
			t.Errorf("1002 wakes were told in %d messages, want 2", n)
		}
		heard, _, _ := ear.take()
		if len(heard) != 3 {
			t.Fatalf("heard %+v", heard)
		}
		for _, w := range heard[1:] {
			first := map[string]int{"t": 2, "u": 1}[w.Tenant]
			if w.Event != fmt.Sprintf("evt_%04d", first) || !w.Due.Equal(base.Add(time.Duration(first)*time.Microsecond)) || w.Edited != (w.Tenant == "u") {
				t.Errorf("joined as %+v", w)
			}
			for i, b := range w.Inboxes {
				if want := byte(1 - (i+first)%2); b != want {
					t.Errorf("%s inbox %d: %d, want %d", w.Tenant, i, b, want)
				}
			}
		}
	})
}

// More than a message may hold is told as: look everywhere.
func TestWireTooMuchToSay(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		l := newLine()
		a, _, _, endA := wired(t, l, "node_a")
		defer endA()
		_, ear, _, endB := wired(t, l, "node_b")
		defer endB()
		ear.take()
		// At most two messages: one that left meanwhile, and all the rest.
		for i := range 1000 {
			a.Tell(belfry.Wake{Tenant: fmt.Sprint("tenant-", i), Edited: true})
		}
		a.Changed()
		pass(time.Second)
		_, unheard, changed := ear.take()
		if unheard < 1 || changed != 1 {
			t.Errorf("look everywhere was heard %d times, look at the nodes %d times", unheard, changed)
		}
		for _, words := range l.told() {
			if len(words) > 7999 {
				t.Errorf("a message has %d bytes, and PostgreSQL takes none of 8000", len(words))
			}
		}
	})
}

// Names of events that do not fit are told as: from then on.
func TestWireTooManyNames(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		l := newLine()
		l.takes = 50 * time.Millisecond
		a, _, _, endA := wired(t, l, "node_a")
		defer endA()
		_, ear, _, endB := wired(t, l, "node_b")
		defer endB()
		a.Tell(belfry.Wake{Tenant: "first", Edited: true}) // while it is under way the others gather
		pass(10 * time.Millisecond)
		at := time.UnixMilli(1_700_000_000_000).UTC()
		for tenant := range 6 {
			for i := range belfry.WakePlanned - tenant%2 {
				a.Tell(belfry.Wake{Tenant: fmt.Sprint("tenant-", tenant), Planned: []belfry.Planned{{Event: belfry.EventID(at.Add(time.Duration(tenant-i)*time.Second), 0, 0), Rows: 3}}})
			}
		}
		pass(time.Second)
		heard, unheard, _ := ear.take()
		if len(heard) != 7 || unheard != 1 { // once it hears
			t.Fatalf("heard %d wakes, and %d times to look everywhere", len(heard), unheard)
		}
		for _, w := range heard[1:] {
			var tenant int
			if _, err := fmt.Sscanf(w.Tenant, "tenant-%d", &tenant); err != nil {
				t.Fatal(err)
			}
			if want := at.Add(time.Duration(tenant-(belfry.WakePlanned-tenant%2-1)) * time.Second); len(w.Planned) != 0 || !w.Due.Equal(want) {
				t.Errorf("%s: %d names, due from %v, want %v", w.Tenant, len(w.Planned), w.Due, want)
			}
		}
	})
}

// Words that are not understood come from another version: everything is
// looked for.
func TestWireUnknownWords(t *testing.T) {
	for words, want := range map[string]struct{ unheard, changed int }{
		"":                                   {1, 0},
		"hello":                              {1, 0},
		`{"n":5}`:                            {1, 0},
		`{"n":"node_b","w":"all"}`:           {1, 0},
		`{"n":"node_b","new":true}`:          {0, 0}, // more than we know: the rest holds
		`{"n":"node_b","c":true}`:            {0, 1},
		`{"n":"node_b","a":true}`:            {1, 0},
		`{"n":"node_a","a":true,"c":true}`:   {0, 0}, // our own
		`{"n":"node_b","w":[{"t":"t"}]}`:     {0, 0},
		`{"n":"x","w":[{"t":"t","i":"////"}`: {1, 0}, // cut short
		`{"n":"x","w":[{"t":"t","i":"` + strings.Repeat("/", 400) + `"}]}`: {0, 0}, // more inboxes than there are
	} {
		ear := &listener{}
		w := NewWire(newLine(), func() string { return "node_a" }, ear, slog.New(slog.DiscardHandler))
		w.hear(words)
		if _, unheard, changed := ear.take(); unheard != want.unheard || changed != want.changed {
			t.Errorf("%q: unheard %d, changed %d, want %+v", words, unheard, changed, want)
		}
	}
}

// A line that fails is said once, does not stop those who tell, and is taken up
// again; what was lost meanwhile is looked for.
func TestWireLineFails(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		l := newLine()
		a, _, said, endA := wired(t, l, "node_a")
		defer endA()
		_, ear, _, endB := wired(t, l, "node_b")
		defer endB()
		ear.take()
		l.set(errors.New("no route to host"))
		for range 2 {
			l.broke <- errors.New("connection reset")
		}
		begun := time.Now()
		for range 30 {
			a.Tell(belfry.Wake{Tenant: "t", Edited: true})
			pass(time.Second)
		}
		if time.Since(begun) != 30*time.Second {
			t.Error("telling waits for the line")
		}
		synctest.Wait()
		l.mu.Lock()
		tries := l.tries
		l.mu.Unlock()
		if tries > 35 {
			t.Errorf("%d tries in 30 s to tell over a line that is down", tries)
		}
		if n := said.count(); n == 0 || n > 20 { // of telling one, of hearing one each 5 s and some at first
			t.Errorf("it was said %d times in 30 s", n)
		}
		if heard, unheard, _ := ear.take(); len(heard)+unheard > 0 {
			t.Errorf("heard %v over a line that is down", heard)
		}
		l.set(nil)
		pass(10 * time.Second)
		if _, unheard, changed := ear.take(); unheard != 1 || changed != 1 {
			t.Errorf("the line is back: everything was looked for %d times, nodes %d times", unheard, changed)
		}
		a.Tell(belfry.Wake{Tenant: "t", Edited: true})
		pass(time.Second)
		if heard, _, _ := ear.take(); len(heard) != 1 || !heard[0].Edited {
			t.Errorf("heard %v", heard)
		}
	})
}

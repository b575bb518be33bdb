package upkeep_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/testtime"
	"github.com/belfryhq/belfry/internal/upkeep"
)

const day = 24 * time.Hour

// memory is a store that remembers what it was asked, and has so many rows too
// old in each table.
type memory struct {
	mu    sync.Mutex
	now   func() time.Time
	asked []string
	rows  map[string]int
	marks map[string]belfry.Mark
	types []belfry.EventType
	took  time.Duration
	fail  map[string]error
	until time.Time // of DropPartitions; zero = what was asked
	sizes []int
}

func (m *memory) note(format string, args ...any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	m.asked = append(m.asked, text)
	name, _, _ := strings.Cut(text, " ")
	return m.fail[name]
}

// take gives what was asked since the last time.
func (m *memory) take(with string) (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.asked {
		if strings.Contains(a, with) {
			out = append(out, a)
		}
	}
	m.asked = nil
	return out
}

func (m *memory) age(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return belfry.FormatSpan(m.now().Sub(at).Round(time.Hour))
}

func (m *memory) Tenants(context.Context) ([]string, error) { return []string{"a"}, m.note("tenants") }

func (m *memory) Version(context.Context, string) (int64, error) { return 7, nil }

func (m *memory) Documents(_ context.Context, _, _, after string, _ int) (out []belfry.Document, err error) {
	for i := range m.types {
		body, _ := json.Marshal(m.types[i])
		out = append(out, belfry.Document{ID: m.types[i].Name, Body: body})
	}
	return out, m.note("documents")
}

func (m *memory) MakePartitions(_ context.Context, part belfry.Part, _ time.Time, span time.Duration) (int, error) {
	return 0, m.note("make %s %s", part, belfry.FormatSpan(span))
}

func (m *memory) DropPartitions(_ context.Context, part belfry.Part, before time.Time, empty bool) (belfry.Pruned, error) {
	until := before
	if !m.until.IsZero() {
		until = m.until
	}
	return belfry.Pruned{Dropped: 1, Held: 2, Until: until}, m.note("drop %s %s %v", part, m.age(before), empty)
}

func (m *memory) chunk(table, after string, n int) (belfry.Cleared, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sizes = append(m.sizes, n)
	gone := min(n, m.rows[table])
	m.rows[table] -= gone
	c := belfry.Cleared{Rows: gone, Took: m.took * time.Duration(gone) / 1000}
	if m.rows[table] > 0 {
		c.Next = "more"
	}
	return c, nil
}

func (m *memory) Clear(_ context.Context, w belfry.Walk, after string, n int) (belfry.Cleared, error) {
	if err := m.note("clear %s %s after=%.4s keep=%d", w.Table, m.age(w.Before), after, len(w.Keep)); err != nil {
		return belfry.Cleared{}, err
	}
	return m.chunk(w.Table, after, n)
}

func (m *memory) ClearTypes(_ context.Context, _ string, types []string, before time.Time, after string, n int) (belfry.Cleared, error) {
	if err := m.note("types %v %s", types, m.age(before)); err != nil {
		return belfry.Cleared{}, err
	}
	return m.chunk("types", after, n)
}

func (m *memory) ClearReasons(_ context.Context, _ string, before time.Time, after string, n int) (belfry.Cleared, error) {
	if err := m.note("reasons %s", m.age(before)); err != nil {
		return belfry.Cleared{}, err
	}
	return m.chunk("reasons", after, n)
}

func (m *memory) ClearDedupe(_ context.Context, _ string, before time.Time, after string, n int) (belfry.Cleared, error) {
	if err := m.note("dedupe %s", m.age(before)); err != nil {
		return belfry.Cleared{}, err
	}
	return m.chunk("dedupe", after, n)
}

func (m *memory) ClearAudit(_ context.Context, _ string, before time.Time, n int) (belfry.Cleared, error) {
	if err := m.note("audit %s", m.age(before)); err != nil {
		return belfry.Cleared{}, err
	}
	return m.chunk("audit", "", n)
}

func (m *memory) ClearChanges(_ context.Context, _ string, version int64, n int) (belfry.Cleared, error) {
	if err := m.note("changes %d", version); err != nil {
		return belfry.Cleared{}, err
	}
	return m.chunk("changes", "", n)
}

func (m *memory) Marks(_ context.Context, tenant string) (map[string]belfry.Mark, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]belfry.Mark{}
	for k, v := range m.marks {
		if task, ok := strings.CutPrefix(k, tenant+" "); ok {
			out[task] = v
		}
	}
	return out, nil
}

func (m *memory) SetMark(_ context.Context, tenant, task string, mark belfry.Mark) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marks[tenant+" "+task] = mark
	return nil
}

var defaults = upkeep.Retention{Events: 90 * day, Deliveries: 90 * day, Inbox: 365 * day, Audit: 730 * day, Changes: 7 * day}

// pass lets time pass in a bubble of synctest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// house is a keeper over a memory, with a clock that can be set.
type house struct {
	*memory
	*upkeep.Keeper
	ahead time.Duration
}

func newHouse(r upkeep.Retention, chores ...upkeep.Chore) *house {
	h := &house{memory: &memory{rows: map[string]int{}, marks: map[string]belfry.Mark{}, fail: map[string]error{}}}
	now := func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return time.Now().Add(h.ahead).UTC()
	}
	h.memory.now = now
	h.Keeper = upkeep.New(upkeep.Options{Store: h.memory, Retention: r, Chores: chores, Log: slog.New(slog.DiscardHandler), Now: now})
	return h
}

func (h *house) keep(t *testing.T) {
	t.Helper()
	if err := h.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestRound(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		chores := 0
		h := newHouse(defaults, upkeep.Chore{Name: "answers", Do: func(context.Context, string, time.Time) (int, error) { chores++; return 3, nil }})
		h.rows["deliveries"], h.rows["dedupe"] = 1000, 10
		h.keep(t)
		h.asked = slices.Compact(h.asked)
		asked := strings.Join(h.take(""), "\n")
		for _, want := range []string{
			"make deliveries 7d\nmake inbox 28d\nmake events 7d\n",
			"drop deliveries 90d false\nclear deliveries 90d after= keep=0\nclear deliveries 90d after=more keep=0\nclear suppressions 90d after= keep=0\nclear plan_matches 90d after= keep=0\n" +
				"drop inbox 365d false\nclear inbox 365d after= keep=0\ndrop events 90d false\nclear events 90d after= keep=0\n",
			"reasons 1d", "dedupe 90d", "audit 730d",
		} {
			if !strings.Contains(asked, want) {
				t.Errorf("not asked: %q\nin %s", want, asked)
			}
		}
		s := h.Stats()
		if s.Rows["deliveries"] != 1000 || s.Rows["answers"] != 3 || chores != 1 || s.Rounds != 1 || s.Failed != 0 || s.Dropped[belfry.PartEvents] != 1 || s.Held[belfry.PartEvents] != 2 {
			t.Errorf("%+v", s)
		}

		// The next round goes on where this one ended; whole tables wait.
		pass(time.Hour)
		h.keep(t)
		expect(t, "the second round", h.take("clear deliveries"), "clear deliveries 90d after=dlv_ keep=0")
		h.keep(t)
		expect(t, "identities within the day", h.take("dedupe"))
		expect(t, "reasons within the day", h.take("reasons"))
		pass(day)
		h.keep(t)
		expect(t, "a day later", h.take("clear deliveries"), "clear deliveries 90d after= keep=0")
	})
}

func TestForEver(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		h := newHouse(upkeep.Retention{})
		h.types = []belfry.EventType{{Name: "login", Retention: "30d"}, {Name: "other"}}
		h.keep(t)
		asked := h.take("")
		for _, a := range asked {
			if name, _, _ := strings.Cut(a, " "); !slices.Contains([]string{"make", "tenants", "documents", "types", "reasons"}, name) {
				t.Errorf("asked to %s", a)
			}
		}
		if !slices.Contains(asked, "types [login] 30d") || !slices.Contains(asked, "make events 28d") {
			t.Errorf("%q", asked)
		}
	})
}

func TestLivesOfTypes(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		h := newHouse(defaults)
		h.types = []belfry.EventType{{Name: "b", Retention: "30d"}, {Name: "a", Retention: "30d"}, {Name: "half", Retention: "180d"}, {Name: "long", Retention: "4000d"}, {Name: "ever", Retention: "0d"}, {Name: "plain"}}
		h.keep(t)
		asked := strings.Join(h.take(""), "\n")
		for _, want := range []string{
			"types [a b] 30d", "types [half] 180d", // no part keeps those longer; half goes before the inbox would
			"drop deliveries 90d true\nclear deliveries 90d after= keep=3", // half, long, ever
			"drop inbox 365d true\nclear inbox 365d after= keep=2",         // long, ever
			"clear events 90d after= keep=3",
		} {
			if !strings.Contains(asked, want) {
				t.Errorf("not asked: %q\nin %s", want, asked)
			}
		}
		if strings.Contains(asked, "types [long]") {
			t.Error("a type that lives longer than all is cleared by itself")
		}
		// A type that joins has a past nobody looked at.
		before := len(h.marks)
		h.types[2].Retention = "30d"
		h.keep(t)
		if got := h.take("types"); !slices.Contains(got, "types [a b half] 30d") || len(h.marks) <= before {
			t.Errorf("%q", got)
		}
	})
}

// Chunks are sized by how long they take, and rest for longer than that.
func TestPace(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		h := newHouse(defaults)
		h.rows["events"], h.took = 50_000, 40*time.Millisecond // a thousand rows
		begun := time.Now()
		h.keep(t)
		worked := 2000 * time.Millisecond
		if took := time.Since(begun); took < 5*worked/2 || took > 4*worked {
			t.Errorf("%s of work was spread over %s", worked, took)
		}
		if last := h.sizes[len(h.sizes)-10]; last < 100 || last > 250 {
			t.Errorf("chunks of %d rows take %s", last, h.took*time.Duration(last)/1000)
		}
		h.rows["events"], h.took, h.sizes = 50_000, 0, nil
		pass(time.Hour)
		h.keep(t)
		for _, n := range h.sizes {
			if n > 2000 {
				t.Fatalf("a chunk of %d rows", n)
			}
		}
	})
}

// The log of changes is cut where it was a week before.
func TestChangesAreCut(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		h := newHouse(defaults)
		h.keep(t)
		pass(6 * day)
		h.keep(t)
		expect(t, "within the week", h.take("changes"))
		pass(day)
		h.keep(t)
		expect(t, "after it", h.take("changes"), "changes 7")
		h.ahead -= 30 * day // set back: the mark is in the future
		h.keep(t)
		expect(t, "set back", h.take("changes"))
		pass(7 * day)
		h.keep(t)
		expect(t, "a week after that", h.take("changes"), "changes 7")
	})
}

// A clock that jumps ahead empties nothing for a day; a clock set back never.
func TestClockJumps(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		h := newHouse(defaults)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		pass(90 * time.Minute)
		if got := h.take("drop events"); len(got) != 2 || h.Stats().Waits {
			t.Errorf("in order: %q", got)
		}
		set := func(by time.Duration) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.ahead += by
		}
		set(400 * day)
		pass(12 * time.Hour)
		if got := h.take("drop"); len(got) != 0 || !h.Stats().Waits {
			t.Errorf("with the clock ahead: %q", got)
		}
		set(-400 * day)
		pass(12 * time.Hour)
		if got := h.take("drop"); len(got) != 0 {
			t.Errorf("just after: %q", got)
		}
		pass(30 * time.Hour)
		if got := h.take("drop events"); len(got) == 0 || h.Stats().Waits {
			t.Errorf("a day later: %q", got)
		}
		set(-5 * day)
		pass(90 * time.Minute)
		for _, got := range h.take("drop events") {
			if got != "drop events 90d false" {
				t.Errorf("set back: %q", got)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// After a long absence the clock may be a wrong one.
func TestLongAbsence(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		h := newHouse(defaults)
		h.marks["* last round"] = belfry.Mark{At: time.Now().Add(-8 * day)}
		h.keep(t)
		if got := h.take("drop"); len(got) != 0 {
			t.Errorf("at once: %q", got)
		}
		pass(25 * time.Hour)
		h.keep(t)
		if got := h.take("drop"); len(got) != 3 {
			t.Errorf("a day later: %q", got)
		}
	})
}

// Of several nodes one does the round; when it is gone another does.
func TestAnotherNode(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		h := newHouse(defaults)
		other := func() { h.SetMark(t.Context(), "*", "last round", belfry.Mark{At: h.memory.now()}) }
		other()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		for range 3 {
			pass(59 * time.Minute)
			other()
			pass(time.Minute)
		}
		if got := h.take("drop"); len(got) != 0 {
			t.Errorf("beside another: %q", got)
		}
		pass(2 * time.Hour)
		if got := h.take("drop"); len(got) == 0 {
			t.Error("nobody does it")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What fails does not keep the rest from being done; what cannot be known
// keeps everything.
func TestFaults(t *testing.T) {
	testtime.Test(t, func(t *testing.T) {
		h := newHouse(defaults)
		broken := errors.New("broken")
		h.fail["clear"], h.fail["make"] = broken, belfry.Errorf(belfry.Conflict, "another node")
		err := h.Keep(t.Context())
		if !errors.Is(err, broken) || strings.Contains(err.Error(), "another node") {
			t.Error(err)
		}
		asked := h.take("")
		for _, want := range []string{"drop inbox 365d false", "drop events 90d false", "audit 730d"} {
			if !slices.Contains(asked, want) {
				t.Errorf("not asked: %s", want)
			}
		}
		if h.Stats().Failed != 1 {
			t.Error("not counted")
		}
		h.fail = map[string]error{"documents": broken}
		if err := h.Keep(t.Context()); !errors.Is(err, broken) {
			t.Error(err)
		}
		if got := h.take("drop"); len(got) != 0 {
			t.Errorf("without the types' word: %q", got)
		}
	})
}

func TestSpan(t *testing.T) {
	for _, c := range []struct{ kept, want time.Duration }{{0, 28 * day}, {time.Hour, day}, {30 * day, day}, {90 * day, 7 * day}, {365 * day, 28 * day}, {3650 * day, 28 * day}} {
		if got := upkeep.Span(c.kept); got != c.want {
			t.Errorf("what is kept for %s is cut into %s", c.kept, got)
		}
	}
}

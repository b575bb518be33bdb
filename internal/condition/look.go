package condition

import (
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// State is where a condition stands in a group.
type State struct {
	Fired int             `json:"fired,omitempty"` // how often it was met
	Met   time.Time       `json:"met,omitzero"`    // when it last was
	Quiet time.Time       `json:"quiet,omitzero"`  // it is not met again before
	Seen  time.Time       `json:"seen,omitzero"`   // the newest observation looked at
	Reset belfry.Observed `json:"reset,omitzero"`  // a count begins anew after it

	Last   belfry.Observed `json:"last,omitzero"`    // the event that an absence is counted from, or when the watch began
	Silent bool            `json:"silent,omitempty"` // an absence was told of and lasts
	Told   string          `json:"told,omitempty"`   // id of the event that told of it

	Of  string `json:"of,omitempty"` // of a change: the Mark of the expression whose values these are
	Is  Value  `json:"is,omitzero"`  // at Last
	Was Value  `json:"was,omitzero"` // at the last event outside of a quiet: who was told knows of this one

	Form   string    `json:"form,omitempty"`  // of the group "": the condition as it was last looked at
	Pruned time.Time `json:"pruned,omitzero"` // observations before it are gone
}

// Value is what the expression of a change was at an event.
type Value struct {
	Text string    `json:"text,omitempty"`
	Side string    `json:"side,omitempty"` // of the limits; empty = between them, from the beginning
	At   time.Time `json:"at,omitzero"`    // zero = there is none
}

// Look is what one look at a group is given.
type Look struct {
	Now time.Time
	// Before are observations before Fresh that a window may reach back to, of
	// those after State.Reset; Fresh are those from the group's Low on, in
	// order. A count needs Before; an absence and a change do not.
	Before, Fresh []belfry.Observed
	More          bool // there are more than Fresh
}

// Firing says that the condition was met, or that an absence is over.
type Firing struct {
	N           int // how often it was met, this time included
	Over        bool
	At          time.Time // by the events' time
	Count       int
	First, Last time.Time
	Events      []string // the newest last, a hundred at most
	Before      *Value   // of a change; nil of a first value
	After       *Value
}

// Found is what a look found.
type Found struct {
	State   State
	Firings []Firing
	Low     time.Time // where the next look goes on; zero = at what comes
	Due     time.Time // of the next look; zero = when something comes
	Forget  bool      // nothing of the group matters any more
}

// maxEvents is how many events a firing names.
const maxEvents = 100

// lasting is how long a group is remembered of which nothing comes any more,
// after its absence was told.
const lasting = 30 * 24 * time.Hour

// Look goes on in a group.
func (s *Spec) Look(st State, l Look) Found {
	f := Found{State: st}
	fresh := s.settled(&f, &l)
	for _, o := range fresh {
		if o.At.After(f.State.Seen) {
			f.State.Seen = o.At
		}
	}
	switch {
	case s.Change():
		s.compare(&f, fresh, l.Now)
	case s.Absence():
		s.watch(&f, fresh, l.Now)
	default:
		s.count(&f, l.Before, fresh, l.Now)
	}
	return f
}

// settled are the fresh observations that are decided about now; the others
// wait, and say where and when the next look is.
func (s *Spec) settled(f *Found, l *Look) []belfry.Observed {
	fresh := l.Fresh
	until := l.Now.Add(-s.Wait)
	for i := range fresh {
		if fresh[i].At.After(until) {
			f.Low, f.Due = fresh[i].At, fresh[i].At.Add(s.Wait)
			return fresh[:i]
		}
	}
	if n := len(fresh); l.More && n > 0 {
		// The next look begins at the last one's time, which others may have.
		f.Low, f.Due = fresh[n-1].At, l.Now
	}
	return fresh
}

// due asks for a look no later than at.
func (f *Found) due(at time.Time) {
	if f.Due.IsZero() || at.Before(f.Due) {
		f.Due = at
	}
}

func (s *Spec) count(f *Found, before, fresh []belfry.Observed, now time.Time) {
	list := make([]belfry.Observed, 0, len(before)+len(fresh))
	list = append(append(list, before...), fresh...)
	first := 0 // of those in the window and after the last reset
	for i, o := range list {
		for first < i && (!list[first].At.After(o.At.Add(-s.Span)) || !f.State.Reset.Before(list[first])) {
			first++
		}
		if i < len(before) || !f.State.Reset.Before(o) || o.At.Before(f.State.Quiet) || i-first+1 < s.Count {
			continue
		}
		f.State.Fired++
		f.State.Met, f.State.Quiet, f.State.Reset = o.At, o.At.Add(s.Cooldown), o
		counted := list[first : i+1]
		firing := Firing{N: f.State.Fired, At: o.At, Count: len(counted), First: counted[0].At, Last: o.At}
		for _, c := range counted[max(0, len(counted)-maxEvents):] {
			firing.Events = append(firing.Events, c.EventID)
		}
		f.Firings = append(f.Firings, firing)
	}
	if f.Due.IsZero() {
		// What is in the group now is out of reach of all that may still come.
		over := f.State.Seen.Add(s.Span)
		if f.State.Quiet.After(over) {
			over = f.State.Quiet
		}
		over = over.Add(s.Late + s.Wait + time.Second)
		f.Forget = !now.Before(over)
		f.Due = over
	}
}

// meets is when an absence is met if nothing comes before.
func (s *Spec) meets(st *State) time.Time {
	at := st.Last.At.Add(s.Span)
	if st.Quiet.After(at) {
		at = st.Quiet
	}
	return at
}

func (s *Spec) watch(f *Found, fresh []belfry.Observed, now time.Time) {
	st := &f.State
	begin := func(o belfry.Observed) {
		st.Last = o
		if st.Seen.IsZero() {
			st.Seen = o.At
		}
	}
	if st.Last.At.IsZero() && !s.First {
		begin(belfry.Observed{At: now})
	}
	for _, o := range fresh {
		if st.Last.At.IsZero() {
			begin(o)
			continue
		}
		if !st.Last.Before(o) {
			continue // it says nothing new
		}
		if at := s.meets(st); !st.Silent && at.Before(o.At) && s.open(at) {
			s.missed(f, at)
		}
		if st.Silent {
			st.Silent = false
			f.Firings = append(f.Firings, Firing{N: st.Fired, Over: true, At: o.At, First: o.At, Last: o.At, Events: []string{o.EventID}})
		}
		st.Last = o
	}
	if st.Last.At.IsZero() || f.Due.Equal(now) && !f.Due.IsZero() {
		return // nothing has come, or more is there to be looked at
	}
	switch at := s.meets(st); {
	case st.Silent:
	case !s.open(at):
		if s.Grouped {
			f.Forget = !now.Before(s.Until)
			f.due(s.Until)
		}
	case !at.After(now.Add(-s.Wait)):
		s.missed(f, at)
	default:
		f.due(at.Add(s.Wait))
	}
	if st.Silent && s.Grouped {
		forget := st.Met.Add(max(lasting, 2*s.Span))
		f.Forget = !now.Before(forget)
		f.due(forget)
	}
}

// open reports whether the condition's time is not over then.
func (s *Spec) open(at time.Time) bool { return s.Until.IsZero() || at.Before(s.Until) }

func (s *Spec) missed(f *Found, at time.Time) {
	st := &f.State
	st.Fired++
	st.Met, st.Quiet, st.Silent = at, at.Add(s.Cooldown), true
	firing := Firing{N: st.Fired, At: at}
	if st.Last.EventID != "" {
		firing.Last, firing.Events = st.Last.At, []string{st.Last.EventID}
	}
	f.Firings = append(f.Firings, firing)
}

// Hold makes the watch of an absence begin anew: nothing can come now. It says
// when to look again.
func (s *Spec) Hold(st State, now time.Time) (State, time.Time) {
	st.Last = belfry.Observed{At: now}
	return st, now.Add(min(max(s.Span/10, time.Second), 10*time.Minute))
}

// Reach is how far back from a moment observations matter to what may still
// come.
func (s *Spec) Reach() time.Duration {
	if s.Count == 0 { // where a group stands is in its State
		return s.Late + s.Wait
	}
	return s.Span + s.Late + s.Wait
}

// Window is from when on observations before one may count with it.
func (s *Spec) Window(st *State, low time.Time) time.Time {
	from := low.Add(-s.Span)
	if st.Reset.At.After(from) {
		return st.Reset.At
	}
	return from
}

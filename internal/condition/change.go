package condition

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// compare finds the changes among fresh observations. What comes after one of
// its group that happened later was looked at says nothing new: the order was
// decided.
//
// Within the quiet after a firing nothing is told, and Was stays what those who
// were told know. The first event after it is compared with both: with the
// event before it, as always, and with what they know, so that what changed
// meanwhile and lasts is told, and what was taken back is not.
func (s *Spec) compare(f *Found, fresh []belfry.Observed, now time.Time) {
	st := &f.State
	if st.Of != s.Mark { // another expression's values, or another kind of condition
		st.Of, st.Is, st.Was, st.Last = s.Mark, Value{}, Value{}, belfry.Observed{}
	}
	for _, o := range fresh {
		text, of := strings.CutPrefix(o.Value, s.Mark)
		if !of || !st.Last.Before(o) {
			continue
		}
		st.Last = belfry.Observed{At: o.At, EventID: o.EventID}
		if o.At.Sub(st.Is.At) > s.Span {
			st.Is, st.Was = Value{}, Value{}
		}
		before := st.Is
		st.Is = Value{Text: text, Side: s.side(text, before.Side), At: o.At}
		if o.At.Before(st.Quiet) {
			if s.none(st.Was) && !s.Opening {
				st.Was = st.Is
			}
			continue
		}
		known := st.Was
		st.Was = st.Is
		switch {
		case s.asks(before, st.Is):
		case s.asks(known, st.Is):
			before = known
		default:
			continue
		}
		st.Fired++
		st.Met, st.Quiet = o.At, o.At.Add(s.Cooldown)
		after := st.Is
		firing := Firing{N: st.Fired, At: o.At, Last: o.At, Events: []string{o.EventID}, After: &after}
		if !s.none(before) {
			firing.Before = &before
		}
		f.Firings = append(f.Firings, firing)
	}
	if f.Due.IsZero() && !st.Seen.IsZero() {
		// Whatever may still come finds nothing that is remembered.
		over := st.Seen.Add(s.Span)
		if st.Quiet.After(over) {
			over = st.Quiet
		}
		over = over.Add(s.Late + s.Wait + time.Second)
		f.Forget = !now.Before(over)
		f.Due = over
	}
}

// none reports whether there is no value to compare with: nothing came yet, or
// it was between the limits from the beginning.
func (s *Spec) none(v Value) bool { return v.At.IsZero() || s.Limits() && v.Side == "" }

// key is what of a value must be another for a change.
func (s *Spec) key(v Value) string {
	if s.Limits() {
		return v.Side
	}
	return v.Text
}

// side is the side of the limits that a number is on, when it was on another
// before. One limit alone has both its sides.
func (s *Spec) side(text, before string) string {
	if !s.Limits() {
		return ""
	}
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil: // of the same expression before it had limits
		return before
	case s.Above != nil && n > *s.Above, s.Above == nil && n >= *s.Below:
		return belfry.SideAbove
	case s.Below != nil && n < *s.Below, s.Below == nil:
		return belfry.SideBelow
	}
	return before
}

// asks reports whether it is told that a value was one and is another now.
func (s *Spec) asks(was, is Value) bool {
	if s.none(is) {
		return false
	}
	first := s.none(was)
	if first && !s.Opening || !first && s.key(was) == s.key(is) {
		return false
	}
	from := ""
	if !first {
		from = s.key(was)
	}
	return s.steps(from, s.key(is))
}

// steps reports whether a transition is asked for; from nothing at all is from
// anything.
func (s *Spec) steps(from, to string) bool {
	return len(s.Steps) == 0 || slices.ContainsFunc(s.Steps, func(step belfry.Step) bool {
		return (Anything(step.From) || from != "" && step.From == from) && (Anything(step.To) || step.To == to)
	})
}

// Crosses reports whether it is told that a value comes to a side of the limits
// from the other.
func (s *Spec) Crosses(to string) bool {
	if to == belfry.SideAbove {
		return s.steps(belfry.SideBelow, to)
	}
	return s.steps(belfry.SideAbove, to)
}

// Limit is the limit that was crossed to a side.
func (s *Spec) Limit(side string) *float64 {
	switch {
	case side == belfry.SideAbove && s.Above != nil, s.Below == nil:
		return s.Above
	}
	return s.Below
}
